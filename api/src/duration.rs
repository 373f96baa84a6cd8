//! `meta.Duration` as time, and the range that the model accepts.

use std::time::Duration as Time;

use crate::meta::{Duration, duration::Type};

/// The shortest duration that the model accepts where it validates one.
pub const MIN: Time = Time::from_secs(1);
/// The longest: 100 years of 360 days.
pub const MAX: Time = Time::from_secs(100 * 360 * DAY_SECONDS);

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Why a duration is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `{}`.
    #[error("needs one of milliseconds, seconds, minutes, hours, days, weeks, months")]
    Empty,
    /// Less than [`MIN`].
    #[error("is shorter than one second")]
    Short,
    /// More than [`MAX`].
    #[error("is longer than 36000 days")]
    Long,
}

/// The length of `duration`; a month is 30 days. `None` if no member is set.
pub fn to_std(duration: &Duration) -> Option<Time> {
    let days = |count: u32, days: u64| Time::from_secs(u64::from(count) * days * DAY_SECONDS);
    Some(match duration.r#type? {
        Type::Milliseconds(count) => Time::from_millis(u64::from(count)),
        Type::Seconds(count) => Time::from_secs(u64::from(count)),
        Type::Minutes(count) => Time::from_secs(u64::from(count) * 60),
        Type::Hours(count) => Time::from_secs(u64::from(count) * 3600),
        Type::Days(count) => days(count, 1),
        Type::Weeks(count) => days(count, 7),
        Type::Months(count) => days(count, 30),
    })
}

/// The length of `duration` if it lies within [`MIN`] and [`MAX`].
///
/// # Errors
/// If no member is set or the length is out of range.
pub fn checked(duration: &Duration) -> Result<Time, Error> {
    match to_std(duration) {
        None => Err(Error::Empty),
        Some(time) if time < MIN => Err(Error::Short),
        // Fractions of a second don't count, so that the limit itself is accepted in every unit.
        Some(time) if time.as_secs() > MAX.as_secs() => Err(Error::Long),
        Some(time) => Ok(time),
    }
}

/// The shortest form of `time` in whole units, rounded down to milliseconds. Saturates at `u32::MAX` days.
pub fn from_std(time: Time) -> Duration {
    let fits = |count: u128| u32::try_from(count).ok();
    let millis = time.as_millis();
    let exact = |unit: u128| millis.is_multiple_of(unit).then(|| fits(millis / unit)).flatten();
    let day = u128::from(DAY_SECONDS) * 1000;
    let r#type = exact(day)
        .filter(|count| *count > 0)
        .map(Type::Days)
        .or_else(|| exact(3_600_000).filter(|count| *count > 0).map(Type::Hours))
        .or_else(|| exact(60_000).filter(|count| *count > 0).map(Type::Minutes))
        .or_else(|| exact(1000).filter(|count| *count > 0).map(Type::Seconds))
        .or_else(|| fits(millis).map(Type::Milliseconds))
        .or_else(|| fits(millis / 1000).map(Type::Seconds))
        .unwrap_or_else(|| Type::Days(fits(millis / day).unwrap_or(u32::MAX)));
    Duration { r#type: Some(r#type) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(r#type: Type) -> Duration {
        Duration { r#type: Some(r#type) }
    }

    #[test]
    fn units_have_their_length() {
        for (unit, seconds) in [
            (Type::Seconds(90), 90),
            (Type::Minutes(2), 120),
            (Type::Hours(4), 14_400),
            (Type::Days(1), 86_400),
            (Type::Weeks(1), 604_800),
            (Type::Months(1), 2_592_000),
            (Type::Months(u32::MAX), 2_592_000 * u64::from(u32::MAX)),
        ] {
            assert_eq!(to_std(&of(unit)), Some(Time::from_secs(seconds)), "{unit:?}");
        }
        assert_eq!(to_std(&of(Type::Milliseconds(1500))), Some(Time::from_millis(1500)));
        assert_eq!(to_std(&Duration::default()), None);
    }

    #[test]
    fn range_is_one_second_to_36000_days() {
        for (duration, expected) in [
            (Duration::default(), Err(Error::Empty)),
            (of(Type::Milliseconds(500)), Err(Error::Short)),
            (of(Type::Milliseconds(999)), Err(Error::Short)),
            (of(Type::Seconds(0)), Err(Error::Short)),
            (of(Type::Milliseconds(1000)), Ok(MIN)),
            (of(Type::Days(36_000)), Ok(MAX)),
            (of(Type::Seconds(3_110_400_000)), Ok(MAX)),
            (of(Type::Seconds(3_110_400_001)), Err(Error::Long)),
            (of(Type::Months(1201)), Err(Error::Long)),
        ] {
            assert_eq!(checked(&duration), expected, "{duration:?}");
        }
    }

    #[test]
    fn shortest_form_keeps_the_length() {
        for (time, expected) in [
            (Time::from_secs(86_400 * 90), Type::Days(90)),
            (Time::from_secs(75_600), Type::Hours(21)),
            (Time::from_secs(90), Type::Seconds(90)),
            (Time::from_millis(1500), Type::Milliseconds(1500)),
            (Time::ZERO, Type::Milliseconds(0)),
        ] {
            assert_eq!(from_std(time), of(expected));
        }
    }
}
