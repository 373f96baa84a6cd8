//! Which streams became requests, so that what `h2` answers by itself can be told from what handlers answer.
//!
//! Streams come in the order of their ids, and a client that skips none leaves no gap but for what `h2` found malformed. So the
//! gaps are remembered, and nothing is for the usual request.

use std::collections::VecDeque;

/// Gaps, and streams that were told of; a client that makes more is told of less.
const REMEMBERED_MAX: usize = 64;
/// Clients' streams have odd ids.
const STEP: u32 = 2;

/// The streams of one connection.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    last: u32,
    /// Between streams that became requests: the ids around it.
    gaps: VecDeque<(u32, u32)>,
    told: VecDeque<u32>,
}

impl Begun {
    /// A stream became a request.
    pub(crate) fn begin(&mut self, id: u32) {
        if id > self.last.saturating_add(STEP) {
            push(&mut self.gaps, (self.last, id));
        }
        self.last = self.last.max(id);
    }

    /// Whether this stream never became a request; said once.
    pub(crate) fn is_news(&mut self, id: u32) -> bool {
        let is_between = self.gaps.iter().any(|(before, after)| *before < id && id < *after);
        if (id <= self.last && !is_between) || self.told.contains(&id) {
            return false;
        }
        push(&mut self.told, id);
        true
    }
}

fn push<T>(remembered: &mut VecDeque<T>, item: T) {
    if remembered.len() >= REMEMBERED_MAX {
        remembered.pop_front();
    }
    remembered.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_begun_is_told_of_once() {
        let mut begun = Begun::default();
        for id in [1, 3, 9, 11] {
            begun.begin(id);
        }
        let news: Vec<u32> = [1, 3, 5, 7, 9, 11, 13, 5, 13].into_iter().filter(|id| begun.is_news(*id)).collect();
        assert_eq!(news, [5, 7, 13]);
        // One that was told of before a later one began stays told of.
        begun.begin(15);
        assert!(!begun.is_news(13) && !begun.is_news(15));
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut begun = Begun::default();
        for id in (1..100_000).step_by(10) {
            begun.begin(id);
            begun.is_news(id + 4);
        }
        assert!(begun.gaps.len() <= REMEMBERED_MAX && begun.told.len() <= REMEMBERED_MAX);
    }
}
