//! The functions of the language.

mod convert;
mod format;
mod json;
mod lists;
mod math;
mod net;
pub(crate) mod regexes;
mod strings;
pub(crate) mod times;

use crate::{Budget, EvalError, Value, functions::Fun, value::View};

/// Calls a function (except `now`, which the machine answers); what it costs beyond the call is taken from `budget`.
pub(crate) fn call(fun: Fun, args: &[View<'_>], budget: &mut Budget) -> Result<Value, EvalError> {
    use View::{Bytes, Double, Duration, Int, List, Map, Str, Timestamp};
    Ok(match (fun, args) {
        (Fun::Size, [Str(text)]) => {
            budget.spend_bytes(text.len())?;
            Value::Int(text.chars().count() as i64)
        }
        (Fun::Size, [Bytes(bytes)]) => Value::Int(bytes.len() as i64),
        (Fun::Size, [List(items)]) => Value::Int(items.len() as i64),
        (Fun::Size, [Map(map)]) => Value::Int(map.len() as i64),

        (Fun::Matches, [Str(text), Str(pattern)]) => Value::Bool(regexes::matches(text, pattern, budget)?),

        (
            Fun::CharAt
            | Fun::IndexOf
            | Fun::LastIndexOf
            | Fun::LowerAscii
            | Fun::UpperAscii
            | Fun::ToLower
            | Fun::ToUpper
            | Fun::Replace
            | Fun::Split
            | Fun::Substring
            | Fun::Trim
            | Fun::Reverse,
            [Str(text), rest @ ..],
        ) => strings::call(fun, text, rest, budget)?,
        (Fun::Format, [Str(text), List(items)]) => format::format(text, items, budget)?,
        (Fun::Quote, [Str(text)]) => format::quote(text, budget)?,
        (Fun::Join, [List(items)]) => strings::join(items, "", budget)?,
        (Fun::Join, [List(items), Str(separator)]) => strings::join(items, separator, budget)?,

        (Fun::ToInt, [value]) => Value::Int(convert::int(*value)?),
        (Fun::ToUint, [value]) => Value::UInt(convert::uint(*value)?),
        (Fun::ToDouble, [value]) => Value::Double(convert::double(*value)?),
        (Fun::ToString, [value]) => convert::string(*value, budget)?,
        (Fun::ToBytes, [value]) => convert::bytes(*value, budget)?,
        (Fun::ToBool, [value]) => Value::Bool(convert::bool(*value)?),
        (Fun::ToTimestamp, [value]) => Value::Timestamp(convert::timestamp(*value)?),
        (Fun::ToDuration, [value]) => Value::Duration(convert::duration(*value)?),
        (Fun::TypeOf, [value]) => Value::Type(value.type_of()),

        (_, [Timestamp(time)]) if fun.reads_calendar() => Value::Int(times::field(fun, *time, "UTC")?),
        (_, [Timestamp(time), Str(zone)]) if fun.reads_calendar() => Value::Int(times::field(fun, *time, zone)?),
        (_, [Duration(nanos)]) if fun.reads_calendar() => Value::Int(times::total(fun, *nanos)?),
        (Fun::IsWeekday, [Timestamp(time)]) => Value::Bool(!times::is_weekend(*time, "UTC")?),
        (Fun::IsWeekend, [Timestamp(time)]) => Value::Bool(times::is_weekend(*time, "UTC")?),
        (Fun::IsWeekdayInTz, [Timestamp(time), Str(zone)]) => Value::Bool(!times::is_weekend(*time, zone)?),
        (Fun::IsWeekendInTz, [Timestamp(time), Str(zone)]) => Value::Bool(times::is_weekend(*time, zone)?),

        (Fun::HasAny, [List(items), List(of)]) => {
            Value::Bool(lists::has_any(items, of.iter().map(Value::view), budget)?)
        }
        (Fun::HasAny, [List(items), of @ ..]) => Value::Bool(lists::has_any(items, of.iter().copied(), budget)?),
        (Fun::HasAll, [List(items), List(of)]) => {
            Value::Bool(lists::has_all(items, of.iter().map(Value::view), budget)?)
        }
        (Fun::HasAll, [List(items), of @ ..]) => Value::Bool(lists::has_all(items, of.iter().copied(), budget)?),
        (Fun::Min | Fun::Least, [List(items)]) => lists::extreme(items.iter().map(Value::view), fun, budget)?,
        (Fun::Max | Fun::Greatest, [List(items)]) => lists::extreme(items.iter().map(Value::view), fun, budget)?,

        (Fun::Greatest | Fun::Least, [Int(_) | View::UInt(_) | Double(_), ..]) => {
            lists::extreme(args.iter().copied(), fun, budget)?
        }
        (Fun::Abs | Fun::Sign | Fun::Sqrt, [value]) => math::number(fun, *value)?,
        (
            Fun::Ceil | Fun::Floor | Fun::Round | Fun::Trunc | Fun::IsNan | Fun::IsInf | Fun::IsFinite,
            [Double(value)],
        ) => math::double(fun, *value)?,

        (Fun::BitAnd | Fun::BitOr | Fun::BitXor | Fun::BitShiftLeft | Fun::BitShiftRight, [a, b]) => {
            math::bits(fun, *a, *b)?
        }
        (Fun::BitNot, [Int(value)]) => Value::Int(!value),
        (Fun::BitNot, [View::UInt(value)]) => Value::UInt(!value),

        (Fun::Base64Encode, [Bytes(bytes)]) => convert::base64_encode(bytes, budget)?,
        (Fun::Base64Decode, [Str(text)]) => convert::base64_decode(text, budget)?,

        (Fun::JsonParse, [Str(text)]) => json::parse(text, budget)?,
        (Fun::JsonMarshal, [value]) => json::marshal(*value, budget)?,

        (Fun::IsIp, [Str(text)]) => Value::Bool(net::parse(text).is_some()),
        (Fun::IsIpv4, [Str(text)]) => Value::Bool(net::parse(text).is_some_and(|ip| ip.is_ipv4())),
        (Fun::IsIpv6, [Str(text)]) => Value::Bool(net::parse(text).is_some_and(|ip| ip.is_ipv6())),
        (Fun::IsPrivateIp, [Str(text)]) => Value::Bool(net::is_private(text)?),
        (Fun::IsIpInRange, [Str(ip), Str(range)]) => Value::Bool(net::is_in_range(ip, range)?),

        _ => return Err(EvalError::Overload(fun.name())),
    })
}
