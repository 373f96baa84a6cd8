//! How requests ended. Each worker counts its own without a lock; they are added up when somebody asks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::proxy::respond::Code;

/// The classes of statuses; the first one is for requests that got no answer.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// One worker's counts. Only that worker adds to them.
#[derive(Debug)]
pub struct Counts {
    by_class: [AtomicU64; CLASSES.len()],
    by_code: [AtomicU64; Code::ALL.len()],
}

impl Default for Counts {
    fn default() -> Self {
        Self { by_class: Default::default(), by_code: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Counts {
    /// A request ended with this status, and was refused for this reason.
    pub fn ended(&self, status: Option<u16>, refused: Option<Code>) {
        let class = status.map_or(0, |status| usize::from(status / 100).min(CLASSES.len() - 1));
        add_one(&self.by_class[class]);
        if let Some(code) = refused {
            add_one(&self.by_code[code as usize]);
        }
    }
}

/// Cheaper than an addition that others may race with: there is one writer.
fn add_one(count: &AtomicU64) {
    count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
}

/// The counts of all workers.
#[derive(Debug, Clone, Default)]
pub struct Totals(Arc<Mutex<Vec<Arc<Counts>>>>);

impl Totals {
    /// Counts for one more worker.
    pub fn worker(&self) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        self.0.lock().push(counts.clone());
        counts
    }

    /// Requests by the class of their status, in the order of [`CLASSES`].
    pub fn by_class(&self) -> [u64; CLASSES.len()] {
        let workers = self.0.lock();
        std::array::from_fn(|class| workers.iter().map(|counts| counts.by_class[class].load(Relaxed)).sum())
    }

    /// Refused requests by their code, in the order of [`Code::ALL`].
    pub fn by_code(&self) -> [u64; Code::ALL.len()] {
        let workers = self.0.lock();
        std::array::from_fn(|code| workers.iter().map(|counts| counts.by_code[code].load(Relaxed)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_workers_are_added_up() {
        let totals = Totals::default();
        let (one, other) = (totals.worker(), totals.worker());
        one.ended(Some(200), None);
        other.ended(Some(204), None);
        other.ended(Some(429), Some(Code::RateLimited));
        other.ended(None, None);
        other.ended(Some(999), None);
        assert_eq!(totals.by_class(), [1, 0, 2, 0, 1, 1]);
        let refused: Vec<_> = Code::ALL.iter().zip(totals.by_code()).filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(&Code::RateLimited, 1)]);
    }
}
