//! Every rule of every served field, at its limit and just over it: `tests/cases/limits.txt`.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use octelium_api::{Kind, Object, manifest, validate};
use prost::Message;
use prost_reflect::{Kind as Type, MessageDescriptor};
use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("cases/limits.txt");
const SUPPORTED: &str = include_str!("../src/supported.txt");

/// 2026-01-31T12:00:00Z, which the times in the table are around.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_769_860_800)
}

/// The smallest document of a kind that is fine.
fn smallest(kind: Kind) -> Value {
    let (spec, data) = match kind {
        Kind::Service => (json!({"mode": "HTTP", "config": {"upstream": {"url": "https://host"}}}), Value::Null),
        Kind::User => (json!({"type": "HUMAN"}), Value::Null),
        Kind::Credential => (json!({"type": "AUTH_TOKEN", "user": "u1"}), Value::Null),
        Kind::Session => (json!({"state": "ACTIVE", "expiresAt": "2026-02-01T00:00:00Z"}), Value::Null),
        Kind::Device | Kind::Authenticator => (json!({"state": "ACTIVE"}), Value::Null),
        Kind::Policy => {
            let rule = |effect: &str| json!([{"condition": {"matchAny": true}, "effect": effect}]);
            (json!({"rules": rule("ALLOW"), "enforcementRules": rule("ENFORCE")}), Value::Null)
        }
        Kind::Secret | Kind::Config => (json!({}), json!({"value": "x"})),
        _ => (json!({}), Value::Null),
    };
    let name = if kind == Kind::ClusterConfig { "default" } else { "name" };
    let mut document = json!({"metadata": {"name": name}, "spec": spec});
    if !data.is_null() {
        document["data"] = data;
    }
    document
}

/// Lays `over` over `document`; `null` takes a member away, an item of a list is laid over the item at its place.
fn lay(document: &mut Value, over: &Value) {
    match (document, over) {
        (Value::Object(members), Value::Object(over)) => {
            for (name, over) in over {
                match over {
                    Value::Null => _ = members.remove(name),
                    over => lay(members.entry(name).or_insert(Value::Null), over),
                }
            }
        }
        (Value::Array(items), Value::Array(over)) if items.len() >= over.len() => {
            items.iter_mut().zip(over).for_each(|(item, over)| lay(item, over));
        }
        (document, over) => {
            *document = over.clone();
        }
    }
}

/// A step of a path in the table.
#[derive(Debug, Clone, PartialEq)]
enum Step<'t> {
    Member(&'t str),
    First,
}

fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, is_first) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        steps.push(Step::Member(name));
        if is_first {
            steps.push(Step::First);
        }
    }
    steps
}

/// Sets what `path` names; `None` takes it away.
fn set(document: &mut Value, path: &[Step<'_>], value: Option<Value>) {
    match path {
        [] => *document = value.expect("a list's item isn't taken away"),
        [Step::Member(name)] if value.is_none() => {
            document.as_object_mut().expect("the table lays out what a required field stands in").remove(*name);
        }
        [Step::Member(name), rest @ ..] => {
            if !document.is_object() {
                *document = Value::Object(Map::new());
            }
            let members = document.as_object_mut().expect("it was made one");
            set(members.entry(*name).or_insert(Value::Null), rest, value);
        }
        [Step::First, rest @ ..] => {
            if document.as_array().is_none_or(Vec::is_empty) {
                *document = json!([null]);
            }
            set(&mut document[0], rest, value);
        }
    }
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    kind: Kind,
    /// With `[]`.
    path: &'static str,
    rule: &'static str,
    arguments: &'static str,
    over: Value,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (head, tail) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let (kinds, path) = head.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (rule, over) = tail.split_once(" | ").map_or((tail, "{}"), |(rule, over)| (rule, over));
        let (rule, arguments) = rule.split_once(' ').unwrap_or((rule, ""));
        for kind in kinds.split(',') {
            let kind = kind.parse().unwrap_or_else(|()| panic!("{line}"));
            let over = serde_json::from_str(over).unwrap_or_else(|error| panic!("{line}: {error}"));
            rows.push(Row { kind, path, rule, arguments: arguments.trim(), over });
        }
    }
    rows
}

/// What a row's field may be, and what it may not.
#[derive(Debug, Default)]
struct Cases {
    accepted: Vec<Option<Value>>,
    refused: Vec<Option<Value>>,
    /// Laid over everything else, for the refused alone.
    refused_over: Vec<Value>,
}

impl Cases {
    fn of(accepted: impl IntoIterator<Item = Value>, refused: impl IntoIterator<Item = Value>) -> Self {
        let accepted = accepted.into_iter().map(Some).collect();
        Self { accepted, refused: refused.into_iter().map(Some).collect(), refused_over: Vec::new() }
    }

    fn texts(accepted: &[&str], refused: &[&str]) -> Self {
        Self::of(accepted.iter().map(|&text| json!(text)), refused.iter().map(|&text| json!(text)))
    }
}

fn cases(row: &Row) -> Cases {
    let number = || -> i64 { first(row.arguments).parse().unwrap_or_else(|_| panic!("{row:?}")) };
    let rest = row.arguments.split_once(' ').map_or("", |(_, rest)| rest);
    let read = |text: &str| -> Value { serde_json::from_str(text).unwrap_or_else(|error| panic!("{row:?}: {error}")) };
    match row.rule {
        // Any document with this value, or these, is fine.
        "free" => Cases::of([read(row.arguments)], []),
        // Taken away, the rest is refused.
        "required" => Cases { refused: vec![None], ..Cases::default() },
        // `[accepted…] [refused…]`
        "values" => {
            let mut lists = serde_json::Deserializer::from_str(row.arguments).into_iter::<Vec<Value>>();
            let mut next =
                || lists.next().unwrap_or_else(|| panic!("{row:?}")).unwrap_or_else(|error| panic!("{row:?}: {error}"));
            Cases::of(next(), next())
        }
        // Text of at most so many bytes: the template's `{}` is filled up.
        "length" => {
            let template =
                if rest.is_empty() { "{}".to_owned() } else { read(rest).as_str().expect("text").to_owned() };
            let of = |bytes: i64| json!(fill(&template, bytes.unsigned_abs() as usize, row.path));
            Cases::of([of(number())], [of(number() + 1)])
        }
        // So many bytes in base64; empty ones are refused, unless `or-empty` follows.
        "base64" => {
            let of = |bytes: i64| json!(base64(bytes.unsigned_abs() as usize));
            match rest {
                "or-empty" => Cases::of([of(number()), of(0)], [of(number() + 1)]),
                _ => Cases::of([of(number()), of(1)], [of(number() + 1), of(0)]),
            }
        }
        "max" => Cases::of([json!(number())], [json!(number() + 1)]),
        "range" => {
            let (from, to) = row.arguments.split_once("..").unwrap_or_else(|| panic!("{row:?}"));
            let (from, to): (i64, i64) = (from.parse().expect("a number"), to.parse().expect("a number"));
            Cases::of([json!(from), json!(to)], [json!(from - 1), json!(to + 1)])
        }
        // So many items or entries of this form, `#` being their number.
        "count" => {
            let of = |count: i64| many(row, count.unsigned_abs() as usize, rest);
            Cases::of([of(number())], [of(number() + 1)])
        }
        // The item can't be there twice.
        "unique" => {
            let item = read(row.arguments);
            Cases::of([json!([item])], [json!([item, item])])
        }
        "name" => Cases::texts(
            &["ab", "a1", "a-b", &"a".repeat(40)],
            &["a", "1a", "-ab", "ab-", "a--b", "Ab", "a_b", "ä1", "a b", &"a".repeat(41)],
        ),
        // Names with so many dots between them.
        "dotted" => {
            let dotted = |dots: i64| vec!["ab"; dots.unsigned_abs() as usize + 1].join(".");
            let long = "a".repeat(41);
            Cases::texts(&["ab", &dotted(number())], &[&dotted(number() + 1), "a", "ab.", ".ab", "ab..ab", "Ab", &long])
        }
        // A key of so many bytes.
        "key-length" => {
            let of = |bytes: i64| json!({"a".repeat(bytes.unsigned_abs() as usize): read(rest)});
            Cases::of([of(number())], [of(number() + 1)])
        }
        // A map of so many bytes, keys included.
        "map-bytes" => {
            let of = |bytes: i64| json!({"k": base64(bytes.unsigned_abs() as usize - 1)});
            Cases::of([of(number())], [of(number() + 1)])
        }
        // Rules of so many bytes as Protocol Buffers.
        "policy-bytes" => {
            let of = |bytes: i64| {
                let rule = |letters: usize| json!({"effect": "DENY", "condition": {"match": "a".repeat(letters)}});
                let spec = |last: usize| {
                    let rules = [vec![rule(9000); 10], vec![rule(last)]].concat();
                    json!({"rules": rules})
                };
                let missing = bytes.unsigned_abs() as usize - encoded(&spec(1000));
                spec(1000 + missing)
            };
            Cases::of([of(number())], [of(number() + 1)])
        }
        "duration" => Cases::of(
            [
                json!({"seconds": 1}),
                json!({"milliseconds": 1000}),
                json!({"months": 1200}),
                json!({"seconds": 3_110_400_000_u32}),
            ],
            [
                json!({}),
                json!({"seconds": 0}),
                json!({"milliseconds": 999}),
                json!({"days": 36_001}),
                json!({"seconds": 3_110_400_001_u32}),
            ],
        ),
        // 20 000 bytes as Protocol Buffers, keys in camelCase of at most 100 bytes.
        "attrs" => {
            let sized = |bytes: usize| json!({"a": "x".repeat(bytes)});
            let key = |bytes: usize| json!({"a".repeat(bytes): 1});
            Cases::of(
                [json!({"a": 1, "aB2": {"c": [{"Any key": 1}]}}), sized(19_985), key(100)],
                [
                    json!({"A": 1}),
                    json!({"a-b": 1}),
                    json!({"a": {"b_c": 1}}),
                    json!({"1a": 1}),
                    sized(19_986),
                    key(101),
                ],
            )
        }
        "condition" => {
            let nested =
                |levels: usize| (1..levels).fold(json!({"matchAny": true}), |inner, _| json!({"all": {"of": [inner]}}));
            Cases::of([nested(1), nested(16), json!({"matchAny": false})], [nested(17), json!({})])
        }
        // Refused in these modes; what the field is then doesn't matter.
        "refused" => {
            let modes = read(row.arguments);
            let modes: Vec<_> = modes.as_array().expect("a list").clone();
            let value = if row.path.contains("spec.is") { json!(true) } else { json!({"path": {"addPrefix": "/a"}}) };
            let refused_over =
                modes.iter().map(|mode| json!({"spec": {"mode": mode, "isPublic": true}})).collect::<Vec<_>>();
            Cases { refused: vec![Some(value); refused_over.len()], refused_over, ..Cases::default() }
        }
        rule => panic!("there is no rule `{rule}`"),
    }
}

fn encoded(policy: &Value) -> usize {
    match manifest::from_json(Kind::Policy, &json!({"spec": policy})) {
        Ok(Object::Policy(policy)) => policy.spec.map_or(0, |spec| spec.encoded_len()),
        other => panic!("{other:?}"),
    }
}

fn first(arguments: &str) -> &str {
    arguments.split(' ').next().unwrap_or_default()
}

/// `template` with as many letters for `{}` as make it `bytes` long.
fn fill(template: &str, bytes: usize, path: &str) -> String {
    let letters = bytes - (template.len() - 2);
    // Labels of a host name have at most 63.
    let filling: String = match path.ends_with("email") {
        true => (0..letters).map(|index| if index % 50 == 49 && index + 1 < letters { '.' } else { 'a' }).collect(),
        false => "a".repeat(letters),
    };
    template.replace("{}", &filling)
}

/// Base64 of so many zeros.
fn base64(bytes: usize) -> String {
    let mut text = "AAAA".repeat(bytes / 3);
    text.push_str(["", "AA==", "AAA="][bytes % 3]);
    text
}

/// A list or a map, as the field is one.
fn many(row: &Row, count: usize, item: &str) -> Value {
    let items = (0..count).map(|index| {
        let item = item.replace('#', &index.to_string());
        serde_json::from_str::<Value>(&item).unwrap_or_else(|error| panic!("{row:?}: {error}"))
    });
    let is_map = walk(row.kind, row.path)
        .last()
        .is_some_and(|(message, name)| message.get_field_by_name(name).is_some_and(|field| field.is_map()));
    match is_map {
        true => Value::Object(items.enumerate().map(|(index, item)| (format!("key{index}"), item)).collect()),
        false => items.collect(),
    }
}

/// The violations of a document, or why it can't be read, by path.
fn refusals(kind: Kind, document: &Value) -> Vec<(String, String)> {
    match manifest::from_json(kind, document) {
        Ok(object) => {
            let violations = validate::check(&object, now()).into_iter().chain(validate::unsupported(&object));
            violations.map(|violation| (violation.path, violation.message)).collect()
        }
        Err(errors) => errors.into_iter().map(|error| (error.path, error.message)).collect(),
    }
}

fn document(row: &Row, over: Option<&Value>, value: Option<Value>) -> Value {
    let mut document = smallest(row.kind);
    lay(&mut document, &row.over);
    over.iter().for_each(|over| lay(&mut document, over));
    match row.path.strip_suffix("{}") {
        // The value is a key, or a whole map with one.
        Some(path) => {
            let map = match value {
                Some(Value::String(key)) => json!({key: "v"}),
                map => map.expect("a key isn't taken away"),
            };
            set(&mut document, &steps(path), Some(map));
        }
        None => set(&mut document, &steps(row.path), value),
    }
    document
}

fn shown(document: &Value) -> String {
    document.to_string().chars().take(400).collect()
}

#[test]
fn limits_are_where_they_are_said_to_be() {
    let (mut accepted, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for row in rows() {
        let cases = cases(&row);
        let name = format!("{} {}: {} {}", row.kind, row.path, row.rule, shown(&json!(row.arguments)));
        for value in cases.accepted {
            let document = document(&row, None, value);
            let found = refusals(row.kind, &document);
            if !found.is_empty() {
                wrong.push(format!("{name}\n  at the limit: {}\n  {}", shown(&json!(found)), shown(&document)));
            }
            accepted += 1;
        }
        let expected = row.path.trim_end_matches("{}").replace("[]", "[0]");
        for (index, value) in cases.refused.into_iter().enumerate() {
            let document = document(&row, cases.refused_over.get(index), value);
            let found = refusals(row.kind, &document);
            // What stands inside of the field, or (of a pair that must differ) beside it.
            let mut at_path = found.iter().filter(|(path, _)| path.starts_with(&expected));
            if at_path.next().is_none() {
                wrong.push(format!("{name}\n  over the limit: {}\n  {}", shown(&json!(found)), shown(&document)));
            }
            refused += 1;
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(accepted > 300 && refused > 400, "{accepted} accepted, {refused} refused");
}

/// The fields on the way of a path, each with the message that declares it.
fn walk(kind: Kind, path: &'static str) -> Vec<(MessageDescriptor, &'static str)> {
    let mut message = Some(kind.descriptor());
    let mut fields = Vec::new();
    for name in path.trim_end_matches("{}").split('.').map(|part| part.trim_end_matches("[]")) {
        let Some(owner) = message.take() else { break };
        let field = owner.get_field_by_name(name).unwrap_or_else(|| panic!("{kind} {path}: there is no `{name}`"));
        if let Type::Message(inner) = field.kind()
            && !field.is_map()
            && inner.full_name().starts_with("octelium.")
        {
            message = Some(inner);
        }
        fields.push((owner, name));
    }
    fields
}

#[test]
fn every_served_field_has_a_row() {
    let mut known = BTreeSet::new();
    for row in rows() {
        for (message, field) in walk(row.kind, row.path) {
            known.insert(format!("{}.{field}", message.full_name()));
        }
    }
    let mut missing = Vec::new();
    for line in SUPPORTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (message, fields) = line.split_once(": ").expect("`Message: field field`");
        for field in fields.split(' ') {
            if !known.contains(&format!("octelium.api.main.core.v1.{message}.{field}")) {
                missing.push(format!("{message}.{field}"));
            }
        }
    }
    assert!(missing.is_empty(), "tests/cases/limits.txt has no row for {}", missing.join(", "));
}
