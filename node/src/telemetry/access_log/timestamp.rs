//! Times as RFC 3339 with microseconds. The date and time of day are made once for each second.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

/// A time that is written as text.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp(pub SystemTime);

thread_local! {
    /// The last second, and its text up to the seconds.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

impl Timestamp {
    /// Appends the text.
    pub fn write(self, out: &mut Vec<u8>) {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        SECOND.with_borrow_mut(|(second, text)| {
            if *second != since.as_secs() {
                *text = chrono::DateTime::<chrono::Utc>::from(self.0).format("%Y-%m-%dT%H:%M:%S").to_string();
                *second = since.as_secs();
            }
            out.extend_from_slice(text.as_bytes());
        });
        let mut fraction = *b".000000Z";
        let mut micros = since.subsec_micros();
        for digit in fraction[1..7].iter_mut().rev() {
            *digit = b'0' + (micros % 10) as u8;
            micros /= 10;
        }
        out.extend_from_slice(&fraction);
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
            let mut written = Vec::new();
            Timestamp(UNIX_EPOCH + since).write(&mut written);
            assert_eq!(written, text.as_bytes());
        }
    }
}
