//! Log time never goes back: a later state has no earlier one.

use std::collections::BTreeMap;

use super::Broken;

#[derive(Default)]
pub struct LogTime {
    times: BTreeMap<u64, u64>,
    pub broken: Broken,
}

impl LogTime {
    /// A state at `index` had this log time.
    pub fn seen(&mut self, index: u64, time: u64) {
        let before = self.times.range(..=index).next_back().is_some_and(|(_, before)| *before > time);
        let after = self.times.range(index..).next().is_some_and(|(_, after)| *after < time);
        if before || after {
            self.broken
                .add(|| format!("log time: it is {time} after entry {index}, which isn't between its neighbours"));
        }
        self.times.insert(index, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_seen() {
        let mut times = LogTime::default();
        for (index, time) in [(5, 50), (3, 30), (9, 50), (5, 50)] {
            times.seen(index, time);
        }
        assert!(times.broken.0.is_empty());
        times.seen(6, 40);
        assert_eq!(times.broken.0.len(), 1);
    }
}
