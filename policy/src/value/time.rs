//! Texts of timestamps (RFC 3339) and durations (`1h30m`, `-1.5s`).

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

use crate::EvalError;

/// Refuses years outside of 1–9999.
pub(crate) fn checked(time: DateTime<Utc>) -> Result<DateTime<Utc>, EvalError> {
    if (1..=9999).contains(&time.year()) { Ok(time) } else { Err(EvalError::Overflow) }
}

pub(crate) fn parse_timestamp(text: &str) -> Result<DateTime<Utc>, EvalError> {
    DateTime::parse_from_rfc3339(text)
        .map_err(|_| EvalError::Invalid("timestamp(): the text is not RFC 3339"))
        .and_then(|time| checked(time.to_utc()))
}

pub(crate) fn format_timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Parses a signed sequence of decimal numbers with units `h`, `m`, `s`, `ms`, `us`, `µs`, `ns`; the result is in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, EvalError> {
    const BAD: EvalError = EvalError::Invalid("duration(): the text is not like 1h30m or 1.5s");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() || rest.len() > 128 {
        return Err(BAD);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(BAD)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale: i128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return Err(BAD),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(BAD);
        }
        if whole.len() > 19 {
            return Err(EvalError::Overflow);
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| BAD)? };
        // Digits beyond the 18th can't make a nanosecond.
        let digits = &fraction[..fraction.len().min(18)];
        let part: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| BAD)? };
        nanos += whole * scale + part * scale / 10_i128.pow(digits.len() as u32);
        rest = tail;
    }
    i64::try_from(if negative { -nanos } else { nanos }).map_err(|_| EvalError::Overflow)
}

/// Seconds with as many decimals as needed, e.g. `5400s` or `0.5s`.
pub(crate) fn format_duration(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let rest = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", rest.trim_end_matches('0'))
}
