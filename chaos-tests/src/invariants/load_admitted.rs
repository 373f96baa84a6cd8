//! While nothing fails, nobody is refused unless 98 % of the limit were admitted just before: in one window and its fiftieth
//! part. (So under a steady load above the limit each window admits at least 98 % of it, give or take that part.)

use std::collections::VecDeque;

use super::Broken;

pub struct LoadAdmitted {
    limit: u64,
    window: u64,
    times: VecDeque<u64>,
    pub broken: Broken,
}

impl LoadAdmitted {
    pub fn new(limit: u64, window: u64) -> Self {
        Self { limit, window, times: VecDeque::new(), broken: Broken::default() }
    }

    pub fn admitted(&mut self, at: u64) {
        self.times.push_back(at);
    }

    pub fn refused(&mut self, at: u64) {
        let span = self.window + self.window / 50;
        while self.times.front().is_some_and(|first| first + span <= at) {
            self.times.pop_front();
        }
        let (count, limit) = (self.times.len() as u64, self.limit);
        if count * 100 < limit * 98 {
            self.broken.add(|| format!("load admitted: refused at {at}, though only {count} of {limit} were admitted"));
        }
    }
}
