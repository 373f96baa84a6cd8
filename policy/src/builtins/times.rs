//! Parts of timestamps and durations.

use chrono::{DateTime, Datelike, FixedOffset, Timelike, Utc, Weekday};

use crate::{EvalError, functions::Fun};

/// `UTC` or an offset like `+02:00`; names of zones need a database that isn't here.
pub(crate) fn offset(zone: &str) -> Option<FixedOffset> {
    if matches!(zone, "" | "UTC" | "Z") {
        return FixedOffset::east_opt(0);
    }
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<i32>().ok()).flatten();
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}

/// A part of the calendar or of the clock. Month, day of month (except `getDate`), of week and of year count from 0.
pub(super) fn field(fun: Fun, time: DateTime<Utc>, zone: &str) -> Result<i64, EvalError> {
    let offset =
        offset(zone).ok_or(EvalError::Invalid("the time zone is not supported: use UTC or an offset like +02:00"))?;
    let time = time.with_timezone(&offset);
    Ok(match fun {
        Fun::FullYear => i64::from(time.year()),
        Fun::Month => i64::from(time.month0()),
        Fun::DayOfMonth => i64::from(time.day0()),
        Fun::Date => i64::from(time.day()),
        Fun::DayOfWeek => i64::from(time.weekday().num_days_from_sunday()),
        Fun::DayOfYear => i64::from(time.ordinal0()),
        Fun::Hours => i64::from(time.hour()),
        Fun::Minutes => i64::from(time.minute()),
        Fun::Seconds => i64::from(time.second()),
        Fun::Milliseconds => i64::from(time.timestamp_subsec_millis()),
        _ => return Err(EvalError::Overload(fun.name())),
    })
}

/// A whole duration in a unit.
pub(super) fn total(fun: Fun, nanos: i64) -> Result<i64, EvalError> {
    Ok(match fun {
        Fun::Hours => nanos / 3_600_000_000_000,
        Fun::Minutes => nanos / 60_000_000_000,
        Fun::Seconds => nanos / 1_000_000_000,
        Fun::Milliseconds => nanos / 1_000_000,
        _ => return Err(EvalError::Overload(fun.name())),
    })
}

/// Saturday or Sunday, in UTC.
pub(super) fn is_weekend(time: DateTime<Utc>) -> bool {
    matches!(time.weekday(), Weekday::Sat | Weekday::Sun)
}
