//! The published conformance cases of CEL, as they are published: `tests/data/cel-spec`.
//!
//! Each case passes, or is in `exceptions.txt` with a reason. A case that is there and passes is an error too, so the list says
//! exactly where we differ.

use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf};

use octelium_policy::{Budget, Context, Expression, Type, Value};

use crate::textproto::{self, Message};

/// Refusals of what isn't offered here.
const FOREIGN: &[&str] = &["messages can't be made", "keys of type", "unknown function", "unsupported syntax"];
/// How many cases there are, as `docs/src/policies.md` says.
const CASES: usize = 2456;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cel-spec"))
}

/// What a case expects.
enum Expected {
    Value(Value),
    Error,
    /// Only that it compiles.
    Compiles,
    /// Something that no value here can be.
    Foreign(&'static str),
}

struct Case {
    id: String,
    expr: String,
    /// Variables, with values.
    bindings: Vec<(String, Result<Value, &'static str>)>,
    expected: Expected,
}

impl Case {
    /// Whether it was refused for something that isn't offered here, and not for what the case is about.
    fn is_foreign(&self, refusal: &str) -> bool {
        // The basic cases are about what is unknown everywhere.
        !self.id.starts_with("basic/") && FOREIGN.iter().any(|part| refusal.contains(part))
    }
}

fn cases() -> Vec<Case> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "textproto")) {
        let file = textproto::parse(&fs::read_to_string(path).unwrap());
        for section in file.messages("section") {
            for test in section.messages("test") {
                let id = format!("{}/{}/{}", file.text("name"), section.text("name"), test.text("name"));
                let count = seen.entry(id.clone()).or_default();
                *count += 1;
                // Names aren't unique.
                let id = if *count > 1 { format!("{id}#{count}") } else { id };
                cases.push(case(id, test));
            }
        }
    }
    cases
}

fn case(id: String, test: &Message) -> Case {
    let bindings = test.messages("bindings").map(|binding| {
        let value = binding.message("value").and_then(|value| value.message("value")).ok_or("an unknown value");
        (binding.text("key"), value.and_then(value_of))
    });
    let value =
        test.message("value").or_else(|| test.message("typed_result").and_then(|typed| typed.message("result")));
    let expected = match value {
        _ if test.has("check_only") => Expected::Compiles,
        Some(value) => value_of(value).map_or_else(Expected::Foreign, Expected::Value),
        None if test.has("eval_error") || test.has("any_eval_errors") => Expected::Error,
        None if test.has("unknown") => Expected::Foreign("an unknown value"),
        None if test.has("typed_result") => Expected::Compiles,
        None => Expected::Value(Value::Bool(true)),
    };
    Case { id, expr: test.text("expr"), bindings: bindings.collect(), expected }
}

/// A `cel.expr.Value`.
fn value_of(message: &Message) -> Result<Value, &'static str> {
    let (name, field) = message.first().ok_or("an empty value")?;
    let scalar = || field.scalar();
    Ok(match name {
        "null_value" => Value::Null,
        "bool_value" => Value::Bool(scalar() == "true"),
        "int64_value" => Value::Int(scalar().parse().unwrap()),
        "uint64_value" => Value::UInt(scalar().parse().unwrap()),
        "double_value" => Value::Double(match scalar().as_str() {
            "nan" => f64::NAN,
            "inf" | "infinity" => f64::INFINITY,
            "-inf" | "-infinity" => f64::NEG_INFINITY,
            number => number.parse().unwrap(),
        }),
        "string_value" => Value::string(field.string()),
        "bytes_value" => Value::Bytes(field.bytes().into()),
        "list_value" => {
            let values = field.message().messages("values").map(value_of);
            Value::list(values.collect::<Result<_, _>>()?)
        }
        "map_value" => {
            let mut entries = Vec::new();
            for entry in field.message().messages("entries") {
                let Value::String(key) = value_of(entry.message("key").unwrap())? else {
                    return Err("a map with keys that aren't strings");
                };
                entries.push((key, value_of(entry.message("value").unwrap())?));
            }
            Value::map(entries)
        }
        "type_value" => Value::Type(type_named(&field.string()).ok_or("a type that isn't of the language")?),
        "object_value" => {
            let (name, any) = field.message().first().unwrap();
            let number = |field: &str| any.message().scalar_of(field).map_or(0, |text| text.parse::<i64>().unwrap());
            match name.rsplit('/').next().unwrap() {
                "google.protobuf.Timestamp" => Value::Timestamp(
                    chrono::DateTime::from_timestamp(number("seconds"), number("nanos") as u32).unwrap(),
                ),
                "google.protobuf.Duration" => Value::Duration(number("seconds") * 1_000_000_000 + number("nanos")),
                _ => return Err("a message"),
            }
        }
        _ => return Err("an enum"),
    })
}

fn type_named(name: &str) -> Option<Type> {
    use Type::{Bool, Bytes, Double, Duration, Int, List, Map, Null, String, Timestamp, Type as Ty, UInt};
    [Null, Bool, Int, UInt, Double, String, Bytes, List, Map, Timestamp, Duration, Ty]
        .into_iter()
        .find(|ty| ty.name() == name)
}

/// Equal, of the same types all the way down, and NaN equal to itself.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a == b || a.is_nan() && b.is_nan(),
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|((a, x), (b, y))| a == b && same(x, y))
        }
        (a, b) => a.type_of() == b.type_of() && a == b,
    }
}

fn check(case: &Case) -> Result<(), String> {
    let mut entries = Vec::new();
    let mut expr = case.expr.clone();
    for (name, value) in &case.bindings {
        let Ok(value) = value else { return Err("a variable is no value of ours".into()) };
        entries.push((name.as_str(), value.clone()));
        expr = format!("cel.bind({name}, attrs.{name}, {expr})");
    }
    let attrs = Value::map(entries);
    let compiled = Expression::compile(&expr, "at");
    let result = match (&case.expected, compiled) {
        (Expected::Foreign(what), _) => return Err((*what).into()),
        (Expected::Compiles, Ok(_)) => return Ok(()),
        // Refused when applied is an error too, but not if we only don't know what the case is about.
        (Expected::Error, Err(errors)) if !case.is_foreign(&errors[0].message) => return Ok(()),
        (_, Err(errors)) => return Err(format!("refused: {}", errors[0])),
        (_, Ok(expression)) => expression.evaluate(&Context::new(0), Some(&attrs), &mut Budget::new()),
    };
    match (&case.expected, result) {
        (Expected::Error, Err(_)) => Ok(()),
        (Expected::Value(expected), Ok(value)) if same(&value, expected) => Ok(()),
        (Expected::Value(expected), result) => Err(format!("{result:?} instead of {expected:?}")),
        (_, result) => Err(format!("{result:?} instead of an error")),
    }
}

/// Case → reason.
fn exceptions() -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join("exceptions.txt")).unwrap_or_default();
    let mut reason = String::new();
    let mut exceptions = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(id) => {
                assert!(exceptions.insert(id.to_owned(), reason.clone()).is_none(), "{id} is there twice");
            }
            None => line.clone_into(&mut reason),
        }
    }
    exceptions
}

#[test]
fn every_published_case_passes_or_is_a_known_exception() {
    let exceptions = exceptions();
    let cases = cases();
    assert_eq!(cases.len(), CASES, "no case may get lost");
    let mut wrong = String::new();
    for case in &cases {
        match (check(case), exceptions.get(&case.id)) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(reason)) => writeln!(wrong, "{}\tpasses, though listed: {reason}", case.id).unwrap(),
            (Err(why), None) => {
                let expr = case.expr.replace('\n', " ");
                writeln!(wrong, "{}\t{why}\t{expr}", case.id).unwrap();
            }
        }
    }
    for id in exceptions.keys().filter(|id| !cases.iter().any(|case| case.id == **id)) {
        writeln!(wrong, "{id}\tis listed, but there is no such case").unwrap();
    }
    let count = wrong.lines().count();
    assert!(wrong.is_empty(), "{count} of {} cases:\n{wrong}", cases.len());
}
