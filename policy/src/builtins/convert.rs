//! Conversions between types.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use chrono::{DateTime, Utc};

use crate::{
    Budget, EvalError, Value,
    value::{View, time},
};

const NOT_A_NUMBER: EvalError = EvalError::Invalid("the text is not a number");

/// 2^63 and 2^64: the first doubles beyond `int` and `uint`.
const INT_END: f64 = 9_223_372_036_854_775_808.0;
const UINT_END: f64 = 18_446_744_073_709_551_616.0;

pub(super) fn int(value: View<'_>) -> Result<i64, EvalError> {
    match value {
        View::Int(value) => Ok(value),
        View::UInt(value) => i64::try_from(value).map_err(|_| EvalError::Overflow),
        // Cut towards zero; the comparison is also false for NaN.
        View::Double(value) if value > -INT_END && value < INT_END => Ok(value as i64),
        View::Double(_) => Err(EvalError::Overflow),
        View::Str(text) => text.parse().map_err(|_| NOT_A_NUMBER),
        View::Timestamp(value) => Ok(value.timestamp()),
        _ => Err(EvalError::Overload("int")),
    }
}

pub(super) fn uint(value: View<'_>) -> Result<u64, EvalError> {
    match value {
        View::UInt(value) => Ok(value),
        View::Int(value) => u64::try_from(value).map_err(|_| EvalError::Overflow),
        View::Double(value) if (0.0..UINT_END).contains(&value) => Ok(value as u64),
        View::Double(_) => Err(EvalError::Overflow),
        View::Str(text) => text.parse().map_err(|_| NOT_A_NUMBER),
        _ => Err(EvalError::Overload("uint")),
    }
}

pub(super) fn double(value: View<'_>) -> Result<f64, EvalError> {
    match value {
        View::Double(value) => Ok(value),
        View::Int(value) => Ok(value as f64),
        View::UInt(value) => Ok(value as f64),
        View::Str(text) => text.parse().map_err(|_| NOT_A_NUMBER),
        _ => Err(EvalError::Overload("double")),
    }
}

pub(super) fn string(value: View<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
    Ok(match value {
        View::Str(text) => {
            budget.spend_bytes(text.len())?;
            Value::string(text)
        }
        View::Bytes(bytes) => {
            budget.spend_bytes(bytes.len())?;
            let text =
                std::str::from_utf8(bytes).map_err(|_| EvalError::Invalid("string(): the bytes are not UTF-8"))?;
            Value::string(text)
        }
        View::Bool(value) => Value::string(if value { "true" } else { "false" }),
        View::Int(value) => Value::string(value.to_string()),
        View::UInt(value) => Value::string(value.to_string()),
        View::Double(value) => Value::string(double_text(value)),
        View::Timestamp(value) => Value::string(time::format_timestamp(value)),
        View::Duration(value) => Value::string(time::format_duration(value)),
        _ => return Err(EvalError::Overload("string")),
    })
}

/// The shortest text that is read as this number again.
pub(super) fn double_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    // Very large and very small numbers would be hundreds of digits.
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-5..1e21).contains(&magnitude) && !value.is_nan() {
        return format!("{value:e}");
    }
    value.to_string()
}

pub(super) fn bytes(value: View<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
    let bytes = match value {
        View::Str(text) => text.as_bytes(),
        View::Bytes(bytes) => bytes,
        _ => return Err(EvalError::Overload("bytes")),
    };
    budget.spend_bytes(bytes.len())?;
    Ok(Value::Bytes(bytes.into()))
}

pub(super) fn bool(value: View<'_>) -> Result<bool, EvalError> {
    match value {
        View::Bool(value) => Ok(value),
        View::Str("true" | "True" | "TRUE" | "t" | "1") => Ok(true),
        View::Str("false" | "False" | "FALSE" | "f" | "0") => Ok(false),
        View::Str(_) => Err(EvalError::Invalid("bool(): the text is neither true nor false")),
        _ => Err(EvalError::Overload("bool")),
    }
}

pub(super) fn timestamp(value: View<'_>) -> Result<DateTime<Utc>, EvalError> {
    match value {
        View::Timestamp(value) => Ok(value),
        View::Str(text) => time::parse_timestamp(text),
        View::Int(seconds) => DateTime::from_timestamp(seconds, 0).ok_or(EvalError::Overflow).and_then(time::checked),
        _ => Err(EvalError::Overload("timestamp")),
    }
}

pub(super) fn duration(value: View<'_>) -> Result<i64, EvalError> {
    match value {
        View::Duration(value) => Ok(value),
        View::Str(text) => time::parse_duration(text),
        _ => Err(EvalError::Overload("duration")),
    }
}

pub(super) fn base64_encode(bytes: &[u8], budget: &mut Budget) -> Result<Value, EvalError> {
    budget.spend_bytes(bytes.len())?;
    Ok(Value::String(BASE64_STANDARD.encode(bytes).into()))
}

/// With or without padding.
pub(super) fn base64_decode(text: &str, budget: &mut Budget) -> Result<Value, EvalError> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    budget.spend_bytes(text.len())?;
    let bytes = LENIENT.decode(text).map_err(|_| EvalError::Invalid("base64.decode(): the text is not base64"))?;
    Ok(Value::Bytes(bytes.into()))
}
