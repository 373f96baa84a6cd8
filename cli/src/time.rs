//! Ages, spans and timestamps, as people write and read them.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// As the resource model counts.
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;

/// A span with the two units that matter: `45s`, `5m10s`, `3d4h`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    // Below `limit` seconds: so many of the large unit, and the small one beside it.
    let two = |large: u64, large_name: &str, small: u64, small_name: &str| match seconds % large / small {
        0 => format!("{}{large_name}", seconds / large),
        rest => format!("{}{large_name}{rest}{small_name}", seconds / large),
    };
    match seconds {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, "m", 1, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, "h", MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, "d", HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, "y", DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// The time since `at`; `<invalid>` where that lies in the future, empty where it isn't known.
pub fn age(at: Option<&Timestamp>, now: SystemTime) -> String {
    match at.map(|at| SystemTime::try_from(*at)) {
        None => String::new(),
        Some(Ok(at)) => now.duration_since(at).map_or_else(|_| "<invalid>".to_owned(), span),
        Some(Err(_)) => "<invalid>".to_owned(),
    }
}

/// The time until `at`; `expired` once it passed, empty where there is no end.
pub fn remaining(at: Option<&Timestamp>, now: SystemTime) -> String {
    match at.map(|at| SystemTime::try_from(*at)) {
        None => String::new(),
        Some(Ok(at)) => at.duration_since(now).map_or_else(|_| "expired".to_owned(), span),
        Some(Err(_)) => "<invalid>".to_owned(),
    }
}

/// Reads `15minutes`, `2hours`, `30days`, `1week`, `3months` (of 30 days), or the units' first letters.
///
/// # Errors
/// A sentence, if `text` is no such span, is zero or overflows.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time span such as 15minutes, 2hours, 30days, 1week or 3months");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => MINUTE,
        "h" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => WEEK,
        "mo" | "month" | "months" => MONTH,
        _ => return Err(wrong()),
    };
    match number.checked_mul(seconds) {
        Some(0) => Err(format!("`{text}` is no time at all")),
        // Far beyond what the server accepts, and still safe to add to the present.
        Some(total) if total <= 1_000 * YEAR => Ok(Duration::from_secs(total)),
        _ => Err(format!("`{text}` is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_units_where_both_matter() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (310, "5m10s"),
            (10 * MINUTE, "10m"),
            (179 * MINUTE, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 5 * MINUTE, "3h5m"),
            (30 * HOUR, "30h"),
            (3 * DAY + 4 * HOUR, "3d4h"),
            (8 * DAY + 4 * HOUR, "8d"),
            (700 * DAY, "700d"),
            (2 * YEAR + 3 * DAY, "2y3d"),
            (9 * YEAR, "9y"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn ages_and_ends_are_counted_from_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        assert_eq!(age(Some(&at(999_690)), now), "5m10s");
        assert_eq!(age(Some(&at(1_000_001)), now), "<invalid>");
        assert_eq!(age(None, now), "");
        assert_eq!(remaining(Some(&at(1_000_310)), now), "5m10s");
        assert_eq!(remaining(Some(&at(999_999)), now), "expired");
        assert_eq!(remaining(None, now), "");
    }

    #[test]
    fn spans_are_read_with_any_unit() {
        for (text, seconds) in [
            ("15minutes", 15 * MINUTE),
            ("2hours", 2 * HOUR),
            ("30days", 30 * DAY),
            ("1week", WEEK),
            ("3months", 3 * MONTH),
            ("90s", 90),
            ("1 day", DAY),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "15", "days", "-1day", "1.5hours", "2fortnights", "0days", "99999999999999999999d", "9999999999999w"]
        {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
