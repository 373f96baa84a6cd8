//! Rules for values wherever they stand: enums, times and free-form objects.

use prost::Message;
use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};
use prost_types::{Struct, Timestamp, value::Kind as Free};

use super::{Report, is_valid_timestamp};
use crate::{Object, duration, manifest::FREE_FORM_DEPTH_MAX, meta::Duration};

const ATTRS_BYTES_MAX: usize = 20_000;
const ATTRS_KEY_BYTES_MAX: usize = 100;

/// Numbers that no enum has, times that can't be written, numbers that aren't: what Protocol Buffers let through.
pub(super) fn check(object: &Object, report: &mut Report) {
    let message = object.dynamic();
    for (field, value) in message.fields() {
        if matches!(field.name(), "spec" | "data") {
            walk(field.name(), value, &field.kind(), report);
        }
    }
}

fn walk(path: &str, value: &Value, kind: &Kind, report: &mut Report) {
    match (value, kind) {
        (Value::EnumNumber(number), Kind::Enum(choices)) if choices.get_value(*number).is_none() => {
            report.add(path, format!("{number} is no {}", choices.name()));
        }
        (Value::Message(message), _) => walk_message(path, message, report),
        (Value::List(items), _) => {
            for (index, item) in items.iter().enumerate() {
                walk(&format!("{path}[{index}]"), item, kind, report);
            }
        }
        _ => {}
    }
}

fn walk_message(path: &str, message: &DynamicMessage, report: &mut Report) {
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => {
            if !message.transcode_to::<Timestamp>().is_ok_and(|time| is_valid_timestamp(&time)) {
                report.add(path, "out of range; expected the years 1 to 9999");
            }
        }
        "google.protobuf.Struct" => {
            if let Err(message) =
                message.transcode_to::<Struct>().map_err(|_| "can't be read").and_then(|value| free(&value, 1))
            {
                report.add(path, message);
            }
        }
        _ => {
            for (field, value) in message.fields() {
                walk(&format!("{path}.{}", field.name()), value, &field.kind(), report);
            }
        }
    }
}

fn free(value: &Struct, level: usize) -> Result<(), &'static str> {
    value.fields.values().try_for_each(|value| free_value(value, level + 1))
}

fn free_value(value: &prost_types::Value, level: usize) -> Result<(), &'static str> {
    match &value.kind {
        Some(Free::NumberValue(number)) if !number.is_finite() => Err("holds a number that is not finite"),
        Some(Free::StructValue(_) | Free::ListValue(_)) if level > FREE_FORM_DEPTH_MAX => {
            Err("nested deeper than 20 levels")
        }
        Some(Free::StructValue(value)) => free(value, level),
        Some(Free::ListValue(list)) => list.values.iter().try_for_each(|value| free_value(value, level + 1)),
        None => Err("holds an empty value"),
        _ => Ok(()),
    }
}

/// A free-form object for rules: small, with keys in camelCase.
pub(super) fn attrs(path: &str, attrs: Option<&Struct>, report: &mut Report) {
    let Some(attrs) = attrs else { return };
    let bytes = attrs.encoded_len();
    if bytes > ATTRS_BYTES_MAX {
        report.add(path, format!("takes {bytes} bytes; at most {ATTRS_BYTES_MAX}"));
        return;
    }
    keys(path, attrs, report);
}

/// Keys inside of lists are free. Recursion is bounded by what Protocol Buffers are read with.
fn keys(path: &str, attrs: &Struct, report: &mut Report) {
    for (key, value) in &attrs.fields {
        let at = format!("{path}.{key}");
        let mut chars = key.chars();
        let camel = chars.next().is_some_and(char::is_lowercase) && chars.all(char::is_alphanumeric);
        if !camel {
            report.add(&at, "the key must be camelCase: a lower-case letter, then letters and digits");
        }
        if key.len() > ATTRS_KEY_BYTES_MAX {
            report.add(path, format!("a key has {} bytes; at most {ATTRS_KEY_BYTES_MAX}", key.len()));
        }
        if let Some(Free::StructValue(inner)) = &value.kind {
            keys(&at, inner, report);
        }
    }
}

/// A duration in range, if there is one.
pub(super) fn check_duration(path: &str, duration: Option<&Duration>, report: &mut Report) {
    if let Some(Err(error)) = duration.map(duration::checked) {
        report.add(path, error.to_string());
    }
}
