//! From messages and JSON to values, and back to JSON.
//!
//! Every scalar field of a message is present with its default, lists, maps and free objects too; messages and members of a
//! oneof only when set. Integers are `int`, enums their name, bytes base64, timestamps RFC 3339.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::DateTime;
use octelium_api::Object;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage};
use prost_types::value::Kind as StructKind;
use serde_json::{Number, Value as Json};

use super::{Map, Value, View, time};

impl Value {
    /// A whole resource, with `apiVersion` and `kind`.
    pub fn from_object(object: &Object) -> Self {
        Self::from_message(&object.dynamic())
    }

    /// Any message.
    pub fn from_message(message: &DynamicMessage) -> Self {
        match message.descriptor().full_name() {
            "google.protobuf.Timestamp" => return timestamp(message),
            "google.protobuf.Struct" => {
                return message.get_field_by_name("fields").map_or(Self::Null, |map| any(&map, None));
            }
            "google.protobuf.ListValue" => {
                return message.get_field_by_name("values").map_or(Self::Null, |list| any(&list, None));
            }
            "google.protobuf.Value" => {
                return message.fields().next().map_or(Self::Null, |(field, value)| match field.name() {
                    "null_value" => Self::Null,
                    _ => any(value, Some(&field)),
                });
            }
            _ => {}
        }
        let fields = message.descriptor();
        Self::map(
            fields
                .fields()
                .filter(|field| !field.supports_presence() || is_free_object(field) || message.has_field(field))
                .map(|field| (field.name().to_owned(), any(&message.get_field(&field), Some(&field)))),
        )
    }

    /// JSON: whole numbers are `int` if they fit, else `uint`, else `double`.
    pub fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value),
                (None, Some(value)) => Self::UInt(value),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::string(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(entries) => {
                Self::map(entries.iter().map(|(key, value)| (key.as_str(), Self::from_json(value))))
            }
        }
    }

    /// A free object; its numbers are `double`, and so comparable with all others.
    pub fn from_struct(object: &prost_types::Struct) -> Self {
        Self::map(object.fields.iter().map(|(key, value)| (key.as_str(), from_struct_value(value))))
    }

    /// JSON: bytes are base64, timestamps RFC 3339, durations seconds, numbers that JSON can't hold are null.
    pub fn to_json(&self) -> Json {
        match self.view() {
            View::Null => Json::Null,
            View::Bool(value) => Json::Bool(value),
            View::Int(value) => Json::from(value),
            View::UInt(value) => Json::from(value),
            View::Double(value) => double_to_json(value),
            View::Str(text) => Json::from(text),
            View::Bytes(bytes) => Json::from(BASE64_STANDARD.encode(bytes)),
            View::List(items) => items.iter().map(Self::to_json).collect(),
            View::Map(map) => map.iter().map(|(key, value)| (key.to_string(), value.to_json())).collect(),
            View::Timestamp(value) => Json::from(time::format_timestamp(value)),
            View::Duration(value) => Json::from(time::format_duration(value)),
            View::Type(value) => Json::from(value.name()),
        }
    }
}

/// Whole numbers are written without a fraction, as JSON writers commonly do.
fn double_to_json(value: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Json::from(value as i64);
    }
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}

fn from_struct_value(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(StructKind::NullValue(_)) => Value::Null,
        Some(StructKind::BoolValue(value)) => Value::Bool(*value),
        Some(StructKind::NumberValue(value)) => Value::Double(*value),
        Some(StructKind::StringValue(text)) => Value::string(text),
        Some(StructKind::ListValue(list)) => Value::list(list.values.iter().map(from_struct_value).collect()),
        Some(StructKind::StructValue(object)) => Value::from_struct(object),
    }
}

fn any(value: &prost_reflect::Value, field: Option<&FieldDescriptor>) -> Value {
    use prost_reflect::Value as R;
    match value {
        R::Bool(value) => Value::Bool(*value),
        R::I32(value) => Value::Int(i64::from(*value)),
        R::I64(value) => Value::Int(*value),
        R::U32(value) => Value::Int(i64::from(*value)),
        R::U64(value) => i64::try_from(*value).map_or(Value::UInt(*value), Value::Int),
        R::F32(value) => Value::Double(f64::from(*value)),
        R::F64(value) => Value::Double(*value),
        R::String(text) => Value::string(text),
        R::Bytes(bytes) => Value::string(BASE64_STANDARD.encode(bytes)),
        R::EnumNumber(number) => enum_name(*number, field),
        R::Message(message) => Value::from_message(message),
        R::List(items) => Value::list(items.iter().map(|item| any(item, field)).collect()),
        R::Map(entries) => {
            let of = field.and_then(|field| match field.kind() {
                Kind::Message(entry) if field.is_map() => Some(entry.map_entry_value_field()),
                _ => None,
            });
            let entries = entries.iter().map(|(key, value)| (map_key(key), any(value, of.as_ref())));
            Value::Map(Arc::new(entries.collect::<Map>()))
        }
    }
}

/// The symbolic name; a number that has none stays a number.
fn enum_name(number: i32, field: Option<&FieldDescriptor>) -> Value {
    let name = field.and_then(|field| match field.kind() {
        Kind::Enum(of) => of.get_value(number).map(|value| value.name().to_owned()),
        _ => None,
    });
    name.map_or(Value::Int(i64::from(number)), Value::string)
}

/// Whether it is an object of any members, such as `attrs`: one that isn't set is empty.
pub(crate) fn is_free_object(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(of) if of.full_name() == "google.protobuf.Struct")
        && !field.is_list()
        && field.containing_oneof().is_none()
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

fn timestamp(message: &DynamicMessage) -> Value {
    let seconds = message.get_field_by_name("seconds").and_then(|value| value.as_i64()).unwrap_or(0);
    let nanos = message.get_field_by_name("nanos").and_then(|value| value.as_i32()).unwrap_or(0);
    let time = u32::try_from(nanos).ok().and_then(|nanos| DateTime::from_timestamp(seconds, nanos));
    // A time that no calendar has isn't a time: as null it makes comparisons fail instead of succeed.
    time.map_or(Value::Null, |time| Value::string(time::format_timestamp(time)))
}
