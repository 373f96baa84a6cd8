//! The time in the log: it has nothing to do with any wall clock.

/// A leader's reign: its term, then the id of its node. Later reigns are greater.
pub type Reign = (u64, u64);

/// Stamps asks with log time: that of the applied state when this node saw the first entry of its own reign, and the
/// monotonic time since. Pure: it is told the time.
///
/// Why it never runs fast: whatever earlier leaders stamped was stamped before this reign began, so before the clock is
/// set; and from then on it moves as this node's clock does. An entry must therefore enter the log in the very reign for
/// which it was stamped. The whole argument stands in `docs/src/rate-limiting.md`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogClock {
    reign: Reign,
    log_time: u64,
    since: u64,
    /// The newest log time that was applied, and when.
    seen: (u64, u64),
}

impl LogClock {
    /// Notes that an entry of `reign` was applied at `now` (nanoseconds of a clock that only goes forward, over sleep too) and
    /// that the state then had `log_time`. Only the first entry of a reign sets the clock.
    pub fn applied(&mut self, reign: Reign, now: u64, log_time: u64) {
        if reign > self.reign {
            *self = Self { reign, log_time, since: now, ..*self };
        }
        if log_time > self.seen.0 {
            self.seen = (log_time, now);
        }
    }

    /// About what log time is at `now`, for showing it: nothing may be granted by it.
    pub fn about(&self, now: u64) -> u64 {
        self.seen.0.saturating_add(now.saturating_sub(self.seen.1))
    }

    /// Log time at `now` for the leader of `reign`; `None` until an entry of that reign was applied.
    pub fn stamp(&self, reign: Reign, now: u64) -> Option<u64> {
        (self.reign == reign && reign > (0, 0)).then(|| self.log_time.saturating_add(now.saturating_sub(self.since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_the_applied_state_with_the_own_clock() {
        let mut clock = LogClock::default();
        assert_eq!(clock.stamp((0, 0), 5), None);
        clock.applied((3, 1), 1_000, 70);
        clock.applied((3, 1), 9_000, 800);
        assert_eq!(clock.stamp((3, 1), 1_250), Some(320));
        assert_eq!(clock.stamp((3, 1), 900), Some(70), "a clock that went back changes nothing");
        assert_eq!((clock.stamp((2, 1), 1_250), clock.stamp((4, 1), 1_250)), (None, None));
        clock.applied((4, 1), 10_000, 810);
        assert_eq!((clock.about(10_500), clock.about(9_000)), (1_310, 810));
        assert_eq!((clock.stamp((3, 1), 10_001), clock.stamp((4, 1), 10_001)), (None, Some(811)));
    }
}
