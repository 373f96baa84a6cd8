//! While nothing fails, a client that asks one node after the other is admitted exactly `limit` times before it is refused.

use std::collections::VecDeque;

use super::Broken;

pub struct SequentialClient {
    limit: u64,
    window: u64,
    times: VecDeque<u64>,
    pub broken: Broken,
}

impl SequentialClient {
    pub fn new(limit: u64, window: u64) -> Self {
        Self { limit, window, times: VecDeque::new(), broken: Broken::default() }
    }

    pub fn admitted(&mut self, at: u64) {
        self.times.push_back(at);
    }

    pub fn refused(&mut self, at: u64) {
        // What comes back does so a little later than a window: that is what keeps the promise when clocks drift.
        let late = self.window / 50 + 50_000_000;
        while self.times.front().is_some_and(|first| first + self.window + late <= at) {
            self.times.pop_front();
        }
        let (admitted, limit) = (self.times.len() as u64, self.limit);
        if admitted < limit {
            self.broken.add(|| format!("sequential client: refused at {at}, though only {admitted} of {limit} were admitted"));
        }
    }
}
