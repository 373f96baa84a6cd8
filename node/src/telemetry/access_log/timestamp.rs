//! Times as RFC 3339 with microseconds. The date and time of day are made once for each second.

use std::{
    cell::RefCell,
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

/// A time that is serialized as text.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp(pub SystemTime);

thread_local! {
    /// The last second, and its text up to the seconds.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != since.as_secs() {
                text.clear();
                let time = chrono::DateTime::<chrono::Utc>::from(self.0);
                write!(text, "{}", time.format("%Y-%m-%dT%H:%M:%S"))?;
                *second = since.as_secs();
            }
            write!(f, "{text}.{:06}Z", since.subsec_micros())
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (since, text) in [
            (Duration::ZERO, "1970-01-01T00:00:00.000000Z"),
            (Duration::new(951_782_400, 1_999), "2000-02-29T00:00:00.000001Z"),
            (Duration::new(951_782_400, 999_999_999), "2000-02-29T00:00:00.999999Z"),
            (Duration::new(951_782_401, 0), "2000-02-29T00:00:01.000000Z"),
        ] {
            assert_eq!(Timestamp(UNIX_EPOCH + since).to_string(), text);
        }
    }
}
