//! A message as a tree of JSON values in declared order, from which both JSON and YAML are written.

use base64::{Engine, prelude::BASE64_STANDARD};
use prost_reflect::{DynamicMessage, Kind, MapKey, Value};
use prost_types::{Struct, Timestamp, value::Kind as Free};

/// A JSON value whose members keep their order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Mapping(Vec<(String, Tree)>),
}

impl Tree {
    pub fn into_json(self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Integer(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Text(text) => text.into(),
            Self::List(items) => items.into_iter().map(Self::into_json).collect(),
            Self::Mapping(members) => members.into_iter().map(|(key, value)| (key, value.into_json())).collect(),
        }
    }
}

/// What `message` holds; members with default values are left out.
pub(super) fn tree(message: &DynamicMessage) -> Tree {
    match prost_reflect::ReflectMessage::descriptor(message).full_name() {
        "google.protobuf.Timestamp" => message.transcode_to::<Timestamp>().map_or(Tree::Null, |time| timestamp(&time)),
        "google.protobuf.Struct" => message.transcode_to::<Struct>().map_or(Tree::Null, free_struct),
        _ => Tree::Mapping(
            message.fields().map(|(field, member)| (field.name().to_owned(), value(member, &field.kind()))).collect(),
        ),
    }
}

fn value(value: &Value, kind: &Kind) -> Tree {
    match value {
        Value::Bool(value) => Tree::Bool(*value),
        Value::I32(value) => Tree::Integer((*value).into()),
        Value::U32(value) => Tree::Integer((*value).into()),
        Value::I64(value) => Tree::Text(value.to_string()),
        Value::U64(value) => Tree::Text(value.to_string()),
        // By way of its shortest text, so that 1.1 doesn't become 1.100000023841858.
        Value::F32(value) => value.to_string().parse().map_or(Tree::Null, float),
        Value::F64(value) => float(*value),
        Value::String(text) => Tree::Text(text.clone()),
        Value::Bytes(bytes) => Tree::Text(BASE64_STANDARD.encode(bytes)),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(choices) => choices
                .get_value(*number)
                .map_or(Tree::Integer((*number).into()), |choice| Tree::Text(choice.name().to_owned())),
            _ => Tree::Integer((*number).into()),
        },
        Value::Message(message) => tree(message),
        Value::List(items) => Tree::List(items.iter().map(|item| self::value(item, kind)).collect()),
        Value::Map(entries) => {
            let of = match kind {
                Kind::Message(pair) if pair.is_map_entry() => pair.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let mut members: Vec<_> =
                entries.iter().map(|(key, item)| (map_key(key), self::value(item, &of))).collect();
            // The map itself has no order; the text must not differ from one time to the next.
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Tree::Mapping(members)
        }
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn float(value: f64) -> Tree {
    if value.is_nan() {
        Tree::Text("NaN".to_owned())
    } else if value.is_infinite() {
        Tree::Text(if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned())
    } else {
        number(value)
    }
}

/// Whole numbers without a fraction, where that loses nothing.
fn number(value: f64) -> Tree {
    #[allow(clippy::cast_possible_truncation, reason = "checked to be exact")]
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        Tree::Integer(value as i64)
    } else {
        Tree::Float(value)
    }
}

fn timestamp(time: &Timestamp) -> Tree {
    if crate::validate::is_valid_timestamp(time) {
        Tree::Text(time.to_string())
    } else {
        // No resource that was checked has one; show what is there.
        Tree::Mapping(vec![
            ("seconds".to_owned(), Tree::Text(time.seconds.to_string())),
            ("nanos".to_owned(), Tree::Integer(time.nanos.into())),
        ])
    }
}

fn free_struct(value: Struct) -> Tree {
    Tree::Mapping(value.fields.into_iter().map(|(key, value)| (key, free(value))).collect())
}

fn free(value: prost_types::Value) -> Tree {
    match value.kind {
        None | Some(Free::NullValue(_)) => Tree::Null,
        Some(Free::BoolValue(value)) => Tree::Bool(value),
        Some(Free::NumberValue(value)) if value.is_finite() => number(value),
        Some(Free::NumberValue(_)) => Tree::Null,
        Some(Free::StringValue(text)) => Tree::Text(text),
        Some(Free::ListValue(list)) => Tree::List(list.values.into_iter().map(free).collect()),
        Some(Free::StructValue(value)) => free_struct(value),
    }
}
