//! Functions on lists.

use std::cmp::Ordering;

use crate::{
    Budget, EvalError, Value,
    functions::Fun,
    value::{Val, View, compare, equal},
};

fn has(items: &[Value], wanted: View<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    for item in items {
        budget.spend(1)?;
        if equal(item.view(), wanted, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `items` has any of `of`.
pub(super) fn has_any<'v>(
    items: &[Value],
    of: impl Iterator<Item = View<'v>>,
    budget: &mut Budget,
) -> Result<bool, EvalError> {
    for wanted in of {
        if has(items, wanted, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `items` has all of `of`.
pub(super) fn has_all<'v>(
    items: &[Value],
    of: impl Iterator<Item = View<'v>>,
    budget: &mut Budget,
) -> Result<bool, EvalError> {
    for wanted in of {
        if !has(items, wanted, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The smallest or the greatest.
pub(super) fn extreme<'v>(
    mut items: impl Iterator<Item = View<'v>>,
    fun: Fun,
    budget: &mut Budget,
) -> Result<Value, EvalError> {
    let wanted = if matches!(fun, Fun::Min | Fun::Least) { Ordering::Less } else { Ordering::Greater };
    let mut best = items.next().ok_or(EvalError::Invalid("an empty list has no smallest or greatest element"))?;
    // A list of one element that has no order is an error too.
    compare(best, best, budget)?;
    for item in items {
        budget.spend(1)?;
        if compare(item, best, budget)? == Some(wanted) {
            best = item;
        }
    }
    Ok(match best {
        View::Str(text) => Val::Str(text).into_value(),
        View::Bytes(bytes) => Value::Bytes(bytes.into()),
        View::Bool(value) => Value::Bool(value),
        View::Int(value) => Value::Int(value),
        View::UInt(value) => Value::UInt(value),
        View::Double(value) => Value::Double(value),
        View::Timestamp(value) => Value::Timestamp(value),
        View::Duration(value) => Value::Duration(value),
        View::Null | View::List(_) | View::Map(_) | View::Type(_) => return Err(EvalError::Overload(fun.name())),
    })
}
