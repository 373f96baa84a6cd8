//! `json.*`

use serde_json::Value as Json;

use crate::{
    Budget, EvalError, Value,
    value::{Val, View},
};

/// A JSON object; anything else is an error.
pub(super) fn parse(text: &str, budget: &mut Budget) -> Result<Value, EvalError> {
    // Every element needs at least two bytes, and a value is made for each.
    budget.spend(text.len() as u64 / 2 + 10)?;
    match serde_json::from_str::<Json>(text) {
        Ok(json @ Json::Object(_)) => Ok(Value::from_json(&json)),
        _ => Err(EvalError::Invalid("json.parse(): the text is not a JSON object")),
    }
}

/// The JSON text of any value.
pub(super) fn marshal(value: View<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
    charge(value, budget)?;
    let json = match value {
        View::List(items) => items.iter().map(Value::to_json).collect(),
        View::Map(map) => map.iter().map(|(key, value)| (key.to_string(), value.to_json())).collect(),
        View::Str(text) => Val::Str(text).into_value().to_json(),
        View::Null => Json::Null,
        View::Bool(value) => Value::Bool(value).to_json(),
        View::Int(value) => Value::Int(value).to_json(),
        View::UInt(value) => Value::UInt(value).to_json(),
        View::Double(value) => Value::Double(value).to_json(),
        View::Bytes(bytes) => Value::Bytes(bytes.into()).to_json(),
        View::Timestamp(value) => Value::Timestamp(value).to_json(),
        View::Duration(value) => Value::Duration(value).to_json(),
        View::Type(value) => Value::Type(value).to_json(),
    };
    Ok(Value::String(json.to_string().into()))
}

fn charge(value: View<'_>, budget: &mut Budget) -> Result<(), EvalError> {
    match value {
        View::List(items) => {
            budget.spend(1)?;
            items.iter().try_for_each(|item| charge(item.view(), budget))
        }
        View::Map(map) => map.iter().try_for_each(|(key, value)| {
            budget.spend_bytes(key.len())?;
            charge(value.view(), budget)
        }),
        View::Str(text) => budget.spend_bytes(text.len()),
        View::Bytes(bytes) => budget.spend_bytes(bytes.len()),
        _ => budget.spend(1),
    }
}
