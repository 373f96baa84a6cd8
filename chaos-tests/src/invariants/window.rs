//! In every span of real time that is as long as the window, at most `limit` requests are admitted, over all nodes.

use std::collections::VecDeque;

use super::{Admitted, Broken};
use crate::sim::Limit;

pub struct Window {
    limits: Vec<Recent>,
    pub broken: Broken,
}

struct Recent {
    limit: u64,
    window: u64,
    /// The times of the last `limit` admissions.
    times: VecDeque<u64>,
}

impl Window {
    pub fn new(limits: &[Limit]) -> Self {
        let recent = |limit: &Limit| Recent {
            limit: limit.rule.limit,
            window: limit.window(),
            times: VecDeque::new(),
        };
        Self { limits: limits.iter().map(recent).collect(), broken: Broken::default() }
    }

    pub fn admitted(&mut self, admitted: Admitted) {
        let Recent { limit, window, times } = &mut self.limits[admitted.limit];
        times.push_back(admitted.at);
        if times.len() as u64 <= *limit {
            return;
        }
        let first = times.pop_front().unwrap_or_default();
        if admitted.at - first < *window {
            let (at, limit) = (admitted.at, *limit);
            let span = (at - first) / 1_000_000;
            self.broken.add(|| format!("window: {} admissions within {span} ms, until {at}, of limit {limit}", limit + 1));
        }
    }
}
