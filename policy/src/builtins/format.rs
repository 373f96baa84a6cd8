//! `format` and `strings.quote`.

use std::fmt::Write;

use super::convert;
use crate::{
    Budget, EvalError, Value,
    value::{View, time},
};

/// Digits after the point that a number may be written with.
const PRECISION_MAX: usize = 100;
const PRECISION: usize = 6;

const CLAUSE: EvalError = EvalError::Invalid("format(): a clause is none of %s %d %f %e %b %o %x %X %%");
const TOO_FEW: EvalError = EvalError::Invalid("format(): there are more clauses than values");
const KIND: EvalError = EvalError::Invalid("format(): a value is of a type that its clause can't write");

/// `text` with each clause replaced by the next value.
pub(super) fn format(text: &str, values: &[Value], budget: &mut Budget) -> Result<Value, EvalError> {
    budget.spend_bytes(text.len())?;
    let mut out = String::with_capacity(text.len());
    let mut values = values.iter();
    let mut rest = text;
    while let Some((before, clause)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = clause.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (precision, clause) = precision(clause)?;
        let verb = clause.chars().next().ok_or(CLAUSE)?;
        rest = &clause[verb.len_utf8()..];
        let length = out.len();
        let value = || values.next().map(Value::view).ok_or(TOO_FEW);
        write(&mut out, verb, precision, value, budget)?;
        budget.spend_bytes(out.len() - length)?;
    }
    out.push_str(rest);
    Ok(Value::String(out.into()))
}

/// `.3` in front of a verb, and what follows.
fn precision(clause: &str) -> Result<(Option<usize>, &str), EvalError> {
    let Some(rest) = clause.strip_prefix('.') else { return Ok((None, clause)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or(CLAUSE)?;
    let (digits, rest) = rest.split_at(end);
    let precision = digits.parse().ok().filter(|precision| *precision <= PRECISION_MAX).ok_or(CLAUSE)?;
    Ok((Some(precision), rest))
}

fn write<'v>(
    out: &mut String,
    verb: char,
    precision: Option<usize>,
    value: impl FnOnce() -> Result<View<'v>, EvalError>,
    budget: &mut Budget,
) -> Result<(), EvalError> {
    let written = match verb {
        's' => return text(out, value()?, budget),
        'd' => match value()? {
            View::Int(value) => write!(out, "{value}"),
            View::UInt(value) => write!(out, "{value}"),
            View::Double(value) if !value.is_finite() => out.write_str(&convert::double_text(value)),
            _ => return Err(KIND),
        },
        'f' | 'e' => {
            let value = number(value()?)?;
            let precision = precision.unwrap_or(PRECISION);
            match verb {
                _ if !value.is_finite() => out.write_str(&convert::double_text(value)),
                'f' => write!(out, "{value:.precision$}"),
                _ => out.write_str(&scientific(value, precision)),
            }
        }
        'b' => match value()? {
            View::Int(value) => write!(out, "{}{:b}", sign(value), value.unsigned_abs()),
            View::UInt(value) => write!(out, "{value:b}"),
            View::Bool(value) => out.write_str(if value { "1" } else { "0" }),
            _ => return Err(KIND),
        },
        'o' => match value()? {
            View::Int(value) => write!(out, "{}{:o}", sign(value), value.unsigned_abs()),
            View::UInt(value) => write!(out, "{value:o}"),
            _ => return Err(KIND),
        },
        'x' | 'X' => {
            let text = match value()? {
                View::Int(value) => format!("{}{:x}", sign(value), value.unsigned_abs()),
                View::UInt(value) => format!("{value:x}"),
                View::Str(text) => hex(text.as_bytes(), budget)?,
                View::Bytes(bytes) => hex(bytes, budget)?,
                _ => return Err(KIND),
            };
            out.write_str(&if verb == 'X' { text.to_ascii_uppercase() } else { text })
        }
        _ => return Err(CLAUSE),
    };
    written.map_err(|_| KIND)
}

/// `%s`, which writes any value.
fn text(out: &mut String, value: View<'_>, budget: &mut Budget) -> Result<(), EvalError> {
    budget.spend(1)?;
    match value {
        View::Null => out.push_str("null"),
        View::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        View::Int(value) => out.push_str(&value.to_string()),
        View::UInt(value) => out.push_str(&value.to_string()),
        View::Double(value) => out.push_str(&convert::double_text(value)),
        View::Str(text) => {
            budget.spend_bytes(text.len())?;
            out.push_str(text);
        }
        View::Bytes(bytes) => {
            budget.spend_bytes(bytes.len())?;
            out.push_str(&String::from_utf8_lossy(bytes));
        }
        View::Timestamp(value) => out.push_str(&time::format_timestamp(value)),
        View::Duration(value) => out.push_str(&time::format_duration(value)),
        View::Type(value) => out.push_str(value.name()),
        View::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                text(out, item.view(), budget)?;
            }
            out.push(']');
        }
        View::Map(map) => {
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                text(out, View::Str(key), budget)?;
                out.push_str(": ");
                text(out, value.view(), budget)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn sign(value: i64) -> &'static str {
    if value < 0 { "-" } else { "" }
}

fn number(value: View<'_>) -> Result<f64, EvalError> {
    match value {
        View::Double(value) => Ok(value),
        View::Int(value) => Ok(value as f64),
        View::UInt(value) => Ok(value as f64),
        _ => Err(KIND),
    }
}

/// As in C: the exponent has a sign and at least two digits.
fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{mantissa}e-{exponent:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        },
        None => text,
    }
}

fn hex(bytes: &[u8], budget: &mut Budget) -> Result<String, EvalError> {
    budget.spend_bytes(bytes.len() * 2)?;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        write!(text, "{byte:02x}").map_err(|_| KIND)?;
    }
    Ok(text)
}

/// The text as a literal of the language.
pub(super) fn quote(text: &str, budget: &mut Budget) -> Result<Value, EvalError> {
    budget.spend_bytes(text.len())?;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            _ => out.push(char),
        }
    }
    out.push('"');
    Ok(Value::String(out.into()))
}
