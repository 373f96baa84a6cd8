//! `math.*`

use crate::{EvalError, Value, functions::Fun, value::View};

/// Functions on any number.
pub(super) fn number(fun: Fun, value: View<'_>) -> Result<Value, EvalError> {
    Ok(match (fun, value) {
        (Fun::Abs, View::Int(value)) => Value::Int(value.checked_abs().ok_or(EvalError::Overflow)?),
        (Fun::Abs | Fun::Sign, View::UInt(value)) => Value::UInt(if fun == Fun::Abs { value } else { value.min(1) }),
        (Fun::Abs, View::Double(value)) => Value::Double(value.abs()),
        (Fun::Sign, View::Int(value)) => Value::Int(value.signum()),
        (Fun::Sign, View::Double(value)) => {
            Value::Double(if value == 0.0 || value.is_nan() { value } else { value.signum() })
        }
        (Fun::Sqrt, View::Int(value)) => Value::Double((value as f64).sqrt()),
        (Fun::Sqrt, View::UInt(value)) => Value::Double((value as f64).sqrt()),
        (Fun::Sqrt, View::Double(value)) => Value::Double(value.sqrt()),
        _ => return Err(EvalError::Overload(fun.name())),
    })
}

/// Functions on doubles.
pub(super) fn double(fun: Fun, value: f64) -> Result<Value, EvalError> {
    Ok(match fun {
        Fun::Ceil => Value::Double(value.ceil()),
        Fun::Floor => Value::Double(value.floor()),
        Fun::Round => Value::Double(value.round()),
        Fun::Trunc => Value::Double(value.trunc()),
        Fun::IsNan => Value::Bool(value.is_nan()),
        Fun::IsInf => Value::Bool(value.is_infinite()),
        Fun::IsFinite => Value::Bool(value.is_finite()),
        _ => return Err(EvalError::Overload(fun.name())),
    })
}
