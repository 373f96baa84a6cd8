//! Arithmetic: checked, never rounding integers, never mixing types of numbers.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    Budget, EvalError, Value,
    expr::Arith,
    value::{View, time},
};

pub(super) fn negate(of: View<'_>) -> Result<Value, EvalError> {
    match of {
        View::Int(value) => value.checked_neg().map(Value::Int).ok_or(EvalError::Overflow),
        View::Double(value) => Ok(Value::Double(-value)),
        _ => Err(EvalError::Overload("-")),
    }
}

pub(super) fn binary(arith: Arith, a: View<'_>, b: View<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
    match (arith, a, b) {
        (_, View::Int(a), View::Int(b)) => ints(arith, a, b).map(Value::Int),
        (_, View::UInt(a), View::UInt(b)) => uints(arith, a, b).map(Value::UInt),
        (_, View::Double(a), View::Double(b)) => doubles(arith, a, b).map(Value::Double),
        (Arith::Add, View::Str(a), View::Str(b)) => {
            budget.spend_bytes(a.len() + b.len())?;
            Ok(Value::String([a, b].concat().into()))
        }
        (Arith::Add, View::Bytes(a), View::Bytes(b)) => {
            budget.spend_bytes(a.len() + b.len())?;
            Ok(Value::Bytes([a, b].concat().into()))
        }
        (Arith::Add, View::List(a), View::List(b)) => {
            budget.spend((a.len() + b.len()) as u64)?;
            Ok(Value::list(a.iter().chain(b).cloned().collect()))
        }
        (Arith::Add, View::Timestamp(at), View::Duration(by))
        | (Arith::Add, View::Duration(by), View::Timestamp(at)) => shift(at, TimeDelta::nanoseconds(by)),
        (Arith::Sub, View::Timestamp(at), View::Duration(by)) => shift(at, -TimeDelta::nanoseconds(by)),
        (Arith::Sub, View::Timestamp(a), View::Timestamp(b)) => {
            (a - b).num_nanoseconds().map(Value::Duration).ok_or(EvalError::Overflow)
        }
        (Arith::Add, View::Duration(a), View::Duration(b)) => {
            a.checked_add(b).map(Value::Duration).ok_or(EvalError::Overflow)
        }
        (Arith::Sub, View::Duration(a), View::Duration(b)) => {
            a.checked_sub(b).map(Value::Duration).ok_or(EvalError::Overflow)
        }
        _ => Err(EvalError::Overload(arith.name())),
    }
}

fn shift(at: DateTime<Utc>, by: TimeDelta) -> Result<Value, EvalError> {
    at.checked_add_signed(by).ok_or(EvalError::Overflow).and_then(time::checked).map(Value::Timestamp)
}

fn ints(arith: Arith, a: i64, b: i64) -> Result<i64, EvalError> {
    let result = match arith {
        Arith::Add => a.checked_add(b),
        Arith::Sub => a.checked_sub(b),
        Arith::Mul => a.checked_mul(b),
        Arith::Div | Arith::Rem if b == 0 => return Err(EvalError::DivisionByZero),
        Arith::Div => a.checked_div(b),
        Arith::Rem => a.checked_rem(b),
    };
    result.ok_or(EvalError::Overflow)
}

fn uints(arith: Arith, a: u64, b: u64) -> Result<u64, EvalError> {
    let result = match arith {
        Arith::Add => a.checked_add(b),
        Arith::Sub => a.checked_sub(b),
        Arith::Mul => a.checked_mul(b),
        Arith::Div | Arith::Rem if b == 0 => return Err(EvalError::DivisionByZero),
        Arith::Div => a.checked_div(b),
        Arith::Rem => a.checked_rem(b),
    };
    result.ok_or(EvalError::Overflow)
}

fn doubles(arith: Arith, a: f64, b: f64) -> Result<f64, EvalError> {
    match arith {
        Arith::Add => Ok(a + b),
        Arith::Sub => Ok(a - b),
        Arith::Mul => Ok(a * b),
        Arith::Div => Ok(a / b),
        Arith::Rem => Err(EvalError::Overload("%")),
    }
}
