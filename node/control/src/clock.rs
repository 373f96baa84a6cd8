//! The time of a call: read once, so that everything a call writes agrees.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost_types::Timestamp;

/// Where the time comes from; tests bring their own.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The system's clock.
#[allow(clippy::disallowed_methods, reason = "this is the edge: all else is told the time")]
pub fn system() -> Clock {
    Arc::new(SystemTime::now)
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(Duration);

impl Now {
    /// What `clock` says; a clock before 1970 counts as 1970.
    pub fn read(clock: &Clock) -> Self {
        Self(clock().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// In seconds of Unix time.
    pub fn unix(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }

    /// In nanoseconds of Unix time.
    pub fn unix_nanos(self) -> i64 {
        i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX)
    }

    /// As resources hold it.
    pub fn timestamp(self) -> Timestamp {
        let nanos = i32::try_from(self.0.subsec_nanos()).unwrap_or_default();
        Timestamp { seconds: self.unix(), nanos }
    }

    /// As resources hold it, later by `by`.
    pub fn later(self, by: Duration) -> Timestamp {
        Self(self.0.saturating_add(by)).timestamp()
    }

    /// As the system has it.
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + self.0
    }
}
