//! Limits of `mode: LOCAL`: this process counts alone, exactly, in every span of one window.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use octelium_actors::rate_limiter::{Admission, CounterId, Refused};
use octelium_consensus::boot_time_ns;
use parking_lot::Mutex;

/// Maps of their own, so that workers seldom meet.
const SHARDS: usize = 64;
/// Counters at most, over all shards.
const COUNTERS_MAX: usize = 262_144;
/// A full shard is cleared of what counts no more at most this often.
const SWEEP_EVERY_NS: u64 = 100_000_000;
/// Admissions that are this part of a window apart, or less, are remembered as one.
const PARTS: u64 = 64;

/// Counters of one process.
pub struct LocalLimits {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    counters: HashMap<CounterId, Ring>,
    swept_ns: u64,
}

impl Default for LocalLimits {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// The admissions of the last window.
#[derive(Default)]
struct Ring {
    parts: VecDeque<Part>,
    admitted: u64,
    window_ns: u64,
}

/// Admissions that are remembered as one: all count until the last of them is a window ago.
struct Part {
    first_ns: u64,
    last_ns: u64,
    count: u64,
}

impl LocalLimits {
    /// Takes one of `limit` admissions in `window`.
    ///
    /// # Errors
    /// If there is none, or no room to count.
    pub fn spend(&self, counter: CounterId, limit: u64, window: Duration) -> Result<Admission, Refused> {
        self.spend_at(counter, limit, window, boot_time_ns())
    }

    fn spend_at(&self, counter: CounterId, limit: u64, window: Duration, now: u64) -> Result<Admission, Refused> {
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        // The ids are digests: any byte will do.
        let shard = usize::from(counter.bytes()[0]) % SHARDS;
        let Some(shard) = self.shards.get(shard) else { return Err(Refused::Unavailable) };
        let mut shard = shard.lock();
        let Shard { counters, swept_ns } = &mut *shard;
        if counters.len() >= COUNTERS_MAX / SHARDS && !counters.contains_key(&counter) {
            // Not for each caller of a flood.
            if swept_ns.saturating_add(SWEEP_EVERY_NS) <= now {
                *swept_ns = now;
                counters.retain(|_, ring| ring.counts(now));
            }
            if counters.len() >= COUNTERS_MAX / SHARDS {
                return Err(Refused::Unavailable);
            }
        }
        counters.entry(counter).or_default().spend(limit, window_ns, now)
    }
}

impl Ring {
    fn spend(&mut self, limit: u64, window: u64, now: u64) -> Result<Admission, Refused> {
        self.window_ns = window;
        while let Some(part) = self.parts.front()
            && part.last_ns.saturating_add(window) <= now
        {
            self.admitted -= part.count;
            self.parts.pop_front();
        }
        let comes_back = |parts: &VecDeque<Part>| {
            let at = parts.front().map_or(now, |part| part.last_ns.saturating_add(window));
            Duration::from_nanos(at.saturating_sub(now))
        };
        if self.admitted >= limit {
            return Err(Refused::Exceeded { retry_after: comes_back(&self.parts) });
        }
        match self.parts.back_mut() {
            Some(part) if now.saturating_sub(part.first_ns) <= window / PARTS => {
                part.last_ns = now;
                part.count += 1;
            }
            _ => self.parts.push_back(Part { first_ns: now, last_ns: now, count: 1 }),
        }
        self.admitted += 1;
        Ok(Admission { remaining: limit - self.admitted, reset: comes_back(&self.parts) })
    }

    /// Whether anything that was admitted still counts.
    fn counts(&self, now: u64) -> bool {
        self.parts.back().is_some_and(|part| part.last_ns.saturating_add(self.window_ns) > now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(3);

    fn counter() -> CounterId {
        CounterId::new("service", "plugin", "key", WINDOW)
    }

    #[test]
    fn two_in_three_seconds() {
        let limits = LocalLimits::default();
        let at = |milliseconds: u64| limits.spend_at(counter(), 2, WINDOW, milliseconds * 1_000_000);
        assert_eq!(at(1_000).unwrap().remaining, 1);
        assert_eq!(at(2_000).unwrap().remaining, 0);
        assert_eq!(at(2_500), Err(Refused::Exceeded { retry_after: Duration::from_millis(1_500) }));
        // Refusals don't count.
        assert!(at(4_000).is_ok());
        assert!(at(4_999).is_err());
        assert!(at(5_000).is_ok());
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_the_limit(
            limit in 1..200_u64, gaps in proptest::collection::vec(0..100_000_000_u64, 1..600)
        ) {
            let limits = LocalLimits::default();
            let window = u64::try_from(WINDOW.as_nanos()).unwrap();
            let mut now = 1;
            let mut admitted = Vec::new();
            for gap in gaps {
                now += gap;
                if limits.spend_at(counter(), limit, WINDOW, now).is_ok() {
                    admitted.push(now);
                }
            }
            for (index, start) in admitted.iter().enumerate() {
                let within = admitted[index..].iter().take_while(|at| **at < start + window).count();
                prop_assert!(within as u64 <= limit);
            }
        }
    }
}
