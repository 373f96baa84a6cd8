//! Equality and order, exact across the types of numbers.

use std::cmp::Ordering;

use super::View;
use crate::{Budget, EvalError};

/// Whether two values are equal; values of different types aren't, except numbers.
pub(crate) fn equal(a: View<'_>, b: View<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (View::Null, View::Null) => true,
        (View::Bool(a), View::Bool(b)) => a == b,
        (View::Str(a), View::Str(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            budget.spend_bytes(a.len())?;
            a == b
        }
        (View::Bytes(a), View::Bytes(b)) => {
            budget.spend_bytes(a.len().min(b.len()))?;
            a == b
        }
        (View::List(a), View::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b) {
                budget.spend(1)?;
                if !equal(a.view(), b.view(), budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (View::Map(a), View::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key_a, a), (key_b, b)) in a.iter().zip(b.iter()) {
                budget.spend_bytes(key_a.len())?;
                if key_a != key_b || !equal(a.view(), b.view(), budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (View::Timestamp(a), View::Timestamp(b)) => a == b,
        (View::Duration(a), View::Duration(b)) => a == b,
        (View::Type(a), View::Type(b)) => a == b,
        _ => numbers(a, b).flatten() == Some(Ordering::Equal),
    })
}

/// The order of two values; `None` if one is NaN.
pub(crate) fn compare(a: View<'_>, b: View<'_>, budget: &mut Budget) -> Result<Option<Ordering>, EvalError> {
    Ok(match (a, b) {
        (View::Bool(a), View::Bool(b)) => Some(a.cmp(&b)),
        (View::Str(a), View::Str(b)) => {
            budget.spend_bytes(a.len().min(b.len()))?;
            Some(a.cmp(b))
        }
        (View::Bytes(a), View::Bytes(b)) => {
            budget.spend_bytes(a.len().min(b.len()))?;
            Some(a.cmp(b))
        }
        (View::Timestamp(a), View::Timestamp(b)) => Some(a.cmp(&b)),
        (View::Duration(a), View::Duration(b)) => Some(a.cmp(&b)),
        _ => numbers(a, b).ok_or(EvalError::Overload("<"))?,
    })
}

/// The order of two numbers, `Some(None)` if one is NaN; `None` if they aren't both numbers.
fn numbers(a: View<'_>, b: View<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (View::Int(a), View::Int(b)) => Some(a.cmp(&b)),
        (View::UInt(a), View::UInt(b)) => Some(a.cmp(&b)),
        (View::Double(a), View::Double(b)) => a.partial_cmp(&b),
        (View::Int(a), View::UInt(b)) => Some(i128::from(a).cmp(&i128::from(b))),
        (View::UInt(a), View::Int(b)) => Some(i128::from(a).cmp(&i128::from(b))),
        (View::Int(a), View::Double(b)) => integer_with_double(i128::from(a), b),
        (View::UInt(a), View::Double(b)) => integer_with_double(i128::from(a), b),
        (View::Double(a), View::Int(b)) => integer_with_double(i128::from(b), a).map(Ordering::reverse),
        (View::Double(a), View::UInt(b)) => integer_with_double(i128::from(b), a).map(Ordering::reverse),
        _ => return None,
    })
}

/// Compares without rounding the integer: the double's whole part fits into i128 or saturates beyond every i64 and u64.
fn integer_with_double(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    let whole = double.trunc();
    let fraction = double - whole;
    // Where a fraction is left, the whole parts are far below 2^53 or the double is infinite and already decided.
    Some(integer.cmp(&(whole as i128)).then_with(|| 0.0.partial_cmp(&fraction).unwrap_or(Ordering::Equal)))
}
