//! The `cel` crate's interpreter as oracle, on small random expressions.

use std::sync::Arc;

use octelium_policy::{Budget, Context, Expression, Value};
use proptest::prelude::*;

/// What the two engines may answer: they name errors differently.
#[derive(Debug, PartialEq)]
enum Answer {
    Json(serde_json::Value),
    Error,
}

fn ours(text: &str, attrs: &Value) -> Option<Answer> {
    let expression = Expression::compile(text, "at").ok()?;
    Some(match expression.evaluate(&Context::new(0), Some(attrs), &mut Budget::new()) {
        Ok(value) => Answer::Json(value.to_json()),
        Err(_) => Answer::Error,
    })
}

/// Parses on a deep stack, as debug builds of the parser need one.
fn oracle(text: &str, attrs: &serde_json::Value) -> Answer {
    let run = || {
        let program = cel::Program::compile(text).unwrap();
        let mut context = cel::Context::default();
        context.add_variable_from_value("attrs", cel_value(attrs));
        match program.execute(&context) {
            Ok(value) => Answer::Json(json(&value)),
            Err(_) => Answer::Error,
        }
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

fn cel_value(json: &serde_json::Value) -> cel::Value {
    use serde_json::Value as J;
    match json {
        J::Null => cel::Value::Null,
        J::Bool(value) => (*value).into(),
        J::Number(number) => number.as_i64().map_or_else(|| number.as_f64().unwrap().into(), Into::into),
        J::String(text) => text.clone().into(),
        J::Array(items) => items.iter().map(cel_value).collect::<Vec<_>>().into(),
        J::Object(entries) => {
            let map: std::collections::HashMap<String, cel::Value> =
                entries.iter().map(|(key, value)| (key.clone(), cel_value(value))).collect();
            map.into()
        }
    }
}

fn json(value: &cel::Value) -> serde_json::Value {
    let ours = match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(value) => Value::Bool(*value),
        cel::Value::Int(value) => Value::Int(*value),
        cel::Value::UInt(value) => Value::UInt(*value),
        cel::Value::Float(value) => Value::Double(*value),
        cel::Value::String(text) => Value::String(Arc::from(text.as_str())),
        cel::Value::List(items) => return items.iter().map(json).collect(),
        cel::Value::Map(map) => {
            let mut entries = serde_json::Map::new();
            for (key, value) in map.map.iter() {
                entries.insert(key.to_string(), json(value));
            }
            return entries.into();
        }
        other => panic!("{other:?} is not generated"),
    };
    ours.to_json()
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        (-20_i64..20).prop_map(|n| n.to_string()),
        Just("9223372036854775807".to_owned()),
        (0_u64..5).prop_map(|n| format!("{n}u")),
        prop_oneof![Just("0.0"), Just("1.5"), Just("2.0"), Just("-3.0")].prop_map(str::to_owned),
        prop_oneof![Just("''"), Just("'a'"), Just("'ab'"), Just("'ü'"), Just("'b'")].prop_map(str::to_owned),
        prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned),
        prop_oneof![
            Just("attrs.n"),
            Just("attrs.s"),
            Just("attrs.l"),
            Just("attrs.m"),
            Just("attrs.none"),
            Just("attrs.m.x")
        ]
        .prop_map(str::to_owned),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = prop_oneof![
            Just("+"), Just("-"), Just("*"), Just("/"), Just("%"), Just("=="), Just("!="), Just("<"), Just("<="), Just(">"),
            Just(">="), Just("&&"), Just("||"), Just("in"),
        ];
        let method = prop_oneof![Just("contains"), Just("startsWith"), Just("endsWith")];
        let list_macro = prop_oneof![Just("all"), Just("exists"), Just("exists_one"), Just("filter"), Just("map")];
        prop_oneof![
            4 => (two.clone(), operator).prop_map(|((a, b), op)| {
                // The oracle adds the keys of maps to lists, which CEL doesn't define.
                let maps = [&a, &b].iter().any(|side| side.contains("attrs.m") || side.contains('{'));
                format!("({a} {} {b})", if op == "+" && maps { "-" } else { op })
            }),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => inner.clone().prop_map(|a| format!("size({a})")),
            1 => (two.clone(), method).prop_map(|((a, b), method)| format!("({a}).{method}({b})")),
            1 => (two.clone(), inner.clone()).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            1 => two.clone().prop_map(|(a, b)| format!("{{'x': {a}, 'y': {b}}}")),
            1 => two.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => inner.clone().prop_map(|a| format!("({a}).x")),
            1 => inner.clone().prop_map(|a| format!("has(attrs.m.x) && {a}")),
            2 => (prop::collection::vec(inner.clone(), 0..4), inner, list_macro)
                .prop_map(|(items, body, name)| format!("[{}].{name}(v, {})", items.join(", "), body.replace("attrs.n", "v"))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_answer_the_same(text in expression()) {
        let json = serde_json::json!({"n": 3, "s": "ab", "l": [1, "a", 2.5], "m": {"x": 1, "y": [true]}});
        // What our type check refuses needs no comparison.
        if let Some(ours) = ours(&text, &Value::from_json(&json)) {
            let oracle = oracle(&text, &json);
            prop_assert_eq!(ours, oracle, "{}", text);
        }
    }
}
