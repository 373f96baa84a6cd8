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

/// Operations on the bits of two numbers of one type, or of one number moved by another.
pub(super) fn bits(fun: Fun, a: View<'_>, b: View<'_>) -> Result<Value, EvalError> {
    Ok(match (fun, a, b) {
        (Fun::BitAnd, View::Int(a), View::Int(b)) => Value::Int(a & b),
        (Fun::BitOr, View::Int(a), View::Int(b)) => Value::Int(a | b),
        (Fun::BitXor, View::Int(a), View::Int(b)) => Value::Int(a ^ b),
        (Fun::BitAnd, View::UInt(a), View::UInt(b)) => Value::UInt(a & b),
        (Fun::BitOr, View::UInt(a), View::UInt(b)) => Value::UInt(a | b),
        (Fun::BitXor, View::UInt(a), View::UInt(b)) => Value::UInt(a ^ b),
        // The sign is a bit like the others: it moves, and zeros follow.
        (Fun::BitShiftLeft | Fun::BitShiftRight, View::Int(a), View::Int(by)) => {
            Value::Int(shifted(fun, a.cast_unsigned(), by)?.cast_signed())
        }
        (Fun::BitShiftLeft | Fun::BitShiftRight, View::UInt(a), View::Int(by)) => Value::UInt(shifted(fun, a, by)?),
        _ => return Err(EvalError::Overload(fun.name())),
    })
}

fn shifted(fun: Fun, bits: u64, by: i64) -> Result<u64, EvalError> {
    if by < 0 {
        return Err(EvalError::Invalid("bits can't be moved by a negative number of places"));
    }
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    let moved = if fun == Fun::BitShiftLeft { bits.checked_shl(by) } else { bits.checked_shr(by) };
    Ok(moved.unwrap_or(0))
}
