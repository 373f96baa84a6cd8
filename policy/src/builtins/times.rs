//! Parts of timestamps and durations.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Timelike, Utc, Weekday};
use chrono_tz::Tz;

use crate::{EvalError, functions::Fun};

/// A time zone of policies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Zone {
    Fixed(FixedOffset),
    /// Of the IANA database, which is part of the program.
    Named(Tz),
}

impl Zone {
    /// `UTC`, an offset like `+02:00` or `02:00`, or a name like `Europe/Berlin`.
    pub(crate) fn named(zone: &str) -> Option<Self> {
        if matches!(zone, "" | "UTC" | "Z") {
            return FixedOffset::east_opt(0).map(Self::Fixed);
        }
        offset(zone).map(Self::Fixed).or_else(|| zone.parse().ok().map(Self::Named))
    }

    fn known(zone: &str) -> Result<Self, EvalError> {
        Self::named(zone).ok_or(EvalError::Invalid("there is no such time zone"))
    }

    /// What a clock on a wall there shows.
    fn local(self, time: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Fixed(offset) => time.with_timezone(&offset).naive_local(),
            Self::Named(zone) => time.with_timezone(&zone).naive_local(),
        }
    }
}

/// The names of the IANA database, for suggestions.
pub(crate) fn zone_names() -> impl Iterator<Item = &'static str> {
    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
}

fn offset(zone: &str) -> Option<FixedOffset> {
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let two = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<i32>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}

/// A part of the calendar or of the clock. Month, day of month (except `getDate`), of week and of year count from 0.
pub(super) fn field(fun: Fun, time: DateTime<Utc>, zone: &str) -> Result<i64, EvalError> {
    let millis = i64::from(time.timestamp_subsec_millis());
    let time = Zone::known(zone)?.local(time);
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
        Fun::Milliseconds => millis,
        _ => return Err(EvalError::Overload(fun.name())),
    })
}

/// A whole duration in a unit; milliseconds are those beyond whole seconds.
pub(super) fn total(fun: Fun, nanos: i64) -> Result<i64, EvalError> {
    Ok(match fun {
        Fun::Hours => nanos / 3_600_000_000_000,
        Fun::Minutes => nanos / 60_000_000_000,
        Fun::Seconds => nanos / 1_000_000_000,
        Fun::Milliseconds => nanos / 1_000_000 % 1_000,
        _ => return Err(EvalError::Overload(fun.name())),
    })
}

/// Saturday or Sunday there.
pub(super) fn is_weekend(time: DateTime<Utc>, zone: &str) -> Result<bool, EvalError> {
    Ok(matches!(Zone::known(zone)?.local(time).weekday(), Weekday::Sat | Weekday::Sun))
}
