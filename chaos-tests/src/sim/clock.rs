//! A node's clocks: one that only goes forward, a little too fast or too slow, and one that anybody sets.

use super::random::Random;

/// How far a monotonic clock may drift, in millionths.
const DRIFT_PPM: i128 = 1_000;

pub struct Clock {
    /// At this real time …
    since: u64,
    /// … it showed this, …
    shown: u64,
    /// … and from then on it drifts so much.
    drift_ppm: i128,
    /// What the wall clock shows beyond real time, in nanoseconds.
    wall_offset: i128,
}

impl Clock {
    pub fn new(random: &mut Random) -> Self {
        let mut clock = Self { since: 0, shown: random.below(1 << 50), drift_ppm: 0, wall_offset: 0 };
        clock.drift(0, random);
        clock.set_wall(random);
        clock
    }

    /// Changes the drift: to either bound in every second case.
    pub fn drift(&mut self, now: u64, random: &mut Random) {
        self.shown = self.monotonic(now);
        self.since = now;
        let drift = i128::from(random.below(2_001)) - DRIFT_PPM;
        self.drift_ppm = match random.below(4) {
            0 => DRIFT_PPM,
            1 => -DRIFT_PPM,
            _ => drift,
        };
    }

    /// Sets the wall clock, to an hour around the right time.
    pub fn set_wall(&mut self, random: &mut Random) {
        self.wall_offset = i128::from(random.below(7_200_000)) * 1_000_000 - 3_600_000_000_000;
    }

    pub fn monotonic(&self, now: u64) -> u64 {
        let passed = i128::from(now - self.since);
        self.shown + (passed + passed * self.drift_ppm / 1_000_000) as u64
    }

    /// The real time at which the monotonic clock shows `shown` or a little more, if that is to come.
    pub fn when(&self, shown: u64, now: u64) -> u64 {
        let left = i128::from(shown.saturating_sub(self.monotonic(now)));
        now + (left * 1_000_000 / (1_000_000 + self.drift_ppm)) as u64 + 1
    }

    pub fn wall(&self, now: u64) -> u64 {
        (i128::from(now) + 10_000_000_000_000 + self.wall_offset) as u64
    }
}
