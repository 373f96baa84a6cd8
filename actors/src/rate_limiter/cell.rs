//! One counter on this node: the tokens that requests take, without a lock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::{CounterId, Name, Rule};

/// Tokens that this node may spend until a moment of its own clock.
pub struct Lease {
    /// Its number in the log.
    pub id: u64,
    /// Nanoseconds of the clock that never stops; from then on no token of it admits anybody.
    pub until: u64,
    /// So many tokens it had.
    pub granted: u64,
    left: AtomicU64,
}

impl Lease {
    /// A fresh lease.
    pub fn new(id: u64, until: u64, granted: u64) -> Self {
        Self { id, until, granted, left: AtomicU64::new(granted) }
    }

    /// Takes one token. The moment of the taking is that of the admission: before `until`, and before any [`Self::stop`].
    fn take(&self, clock: &impl Fn() -> u64) -> bool {
        let taken = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        // This thread may have slept since it last looked: a token taken too late is spent, and admits nobody.
        taken && clock() < self.until
    }

    /// Ends the lease: whoever comes now finds it empty. Returns how many tokens were spent.
    pub fn stop(&self) -> u64 {
        self.granted - self.left.swap(0, SeqCst)
    }

    /// Tokens that are spent.
    pub fn spent(&self) -> u64 {
        self.granted - self.left.load(SeqCst)
    }
}

type Leases = Vec<Arc<Lease>>;

/// What a request finds that took a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Tokens that are left.
    pub left: u64,
    /// It is time to ask for more.
    pub is_low: bool,
}

/// A counter, shared by the request path and the holder of leases.
pub struct Cell {
    /// Its name.
    pub id: CounterId,
    /// For people; absent if whoever made the counter didn't say.
    pub name: Option<Box<Name>>,
    /// In nanoseconds.
    pub window: u64,
    limit: AtomicU64,
    revision: AtomicU64,
    leases: ArcSwapOption<Leases>,
    /// It lies in the queue of the holder.
    pub(super) queued: AtomicBool,
    /// With so many tokens or fewer left, more are asked for.
    pub(super) low_water: AtomicU64,
    /// A lease that is over sooner than this counts as empty there, in nanoseconds.
    pub(super) renew_ns: AtomicU64,
    /// Requests that wait for a token.
    pub(super) waiting: AtomicU64,
    /// Requests that found none.
    pub(super) missed: AtomicU64,
    /// Until then nothing can be granted, as far as is known.
    pub(super) empty_until: AtomicU64,
    /// What could be granted when this was last known.
    pub(super) free: AtomicU64,
    /// When the log last answered an ask for it, or when it was made.
    pub(super) answered_at: AtomicU64,
    /// Wakes those that wait, the first one first.
    pub(super) notify: Notify,
    // What follows only the holder of leases writes.
    /// Tokens spent of leases that are over.
    pub(super) spent_before: AtomicU64,
    /// Of the demand: how much was counted, when, and what rate it showed, in tokens a second.
    pub(super) counted: AtomicU64,
    pub(super) counted_at: AtomicU64,
    pub(super) rate: AtomicU64,
    /// The version of the limit that the log was told.
    pub(super) told_revision: AtomicU64,
}

impl Cell {
    /// A counter of which nothing is known.
    pub fn new(id: CounterId, rule: Rule, now: u64, name: Option<Box<Name>>) -> Self {
        let window = u64::try_from(rule.window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            id,
            name,
            window,
            limit: AtomicU64::new(rule.limit),
            revision: AtomicU64::new(rule.revision),
            leases: ArcSwapOption::empty(),
            queued: AtomicBool::new(false),
            low_water: AtomicU64::new(0),
            renew_ns: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            empty_until: AtomicU64::new(0),
            free: AtomicU64::new(0),
            answered_at: AtomicU64::new(now),
            notify: Notify::new(),
            spent_before: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            counted_at: AtomicU64::new(now),
            rate: AtomicU64::new(0),
            told_revision: AtomicU64::new(rule.revision),
        }
    }

    /// The limit, as the newest rule says that came along.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    /// Notes a newer version of the limit; returns whether it was one. Two that come at once may mix for a moment: then the
    /// next request brings them in order again, and what the log was told counts until then.
    pub(super) fn follow(&self, rule: Rule) -> bool {
        if rule.revision <= self.revision.load(Relaxed) {
            return false;
        }
        self.limit.store(rule.limit, Relaxed);
        self.revision.fetch_max(rule.revision, Relaxed);
        self.empty_until.store(0, Relaxed);
        true
    }

    /// Tokens that can be taken at `now`.
    pub fn left(&self, now: u64) -> u64 {
        let leases = self.leases.load();
        let Some(leases) = leases.as_ref() else { return 0 };
        leases.iter().filter(|lease| now < lease.until).map(|lease| lease.left.load(SeqCst)).sum()
    }

    /// Takes a token. `waited`: the caller is one of those that wait, the others leave them theirs.
    pub(super) fn take(&self, clock: &impl Fn() -> u64, waited: bool) -> Option<Taken> {
        let leases = self.leases.load();
        let leases = leases.as_ref()?;
        let now = clock();
        if !waited {
            let waiting = self.waiting.load(Relaxed);
            if waiting > 0 && self.left(now) <= waiting {
                return None;
            }
        }
        // The oldest is over first.
        if !leases.iter().any(|lease| now < lease.until && lease.take(clock)) {
            return None;
        }
        let soon = now.saturating_add(self.renew_ns.load(Relaxed));
        let (mut left, mut lasting) = (0, 0);
        for lease in leases.iter() {
            let its = lease.left.load(Relaxed);
            left += its;
            lasting += if soon < lease.until { its } else { 0 };
        }
        Some(Taken { left, is_low: lasting <= self.low_water.load(Relaxed) })
    }

    /// How long nothing can be granted yet, if that is known.
    pub(super) fn empty_for(&self, now: u64) -> Option<u64> {
        self.empty_until.load(Relaxed).checked_sub(now).filter(|left| *left > 0)
    }

    /// All that requests asked for, admitted or not.
    pub(super) fn demand(&self) -> u64 {
        let leases = self.leases.load();
        let spent: u64 = leases.iter().flat_map(|leases| leases.iter()).map(|lease| lease.spent()).sum();
        self.spent_before.load(Relaxed) + spent + self.missed.load(Relaxed)
    }

    /// The leases. Only their holder calls this and the next two.
    pub(super) fn leases(&self) -> Leases {
        self.leases.load().as_ref().map(|leases| Leases::clone(leases)).unwrap_or_default()
    }

    /// Adds a lease.
    pub fn add(&self, lease: Arc<Lease>) {
        // No larger than it must be: there are many counters.
        let leases: Leases = self.leases().into_iter().chain([lease]).collect();
        self.leases.store(Some(Arc::new(leases)));
    }

    /// Ends the lease `id`; returns how many of its tokens were spent.
    pub(super) fn end(&self, id: u64) -> Option<u64> {
        let mut leases = self.leases();
        let place = leases.iter().position(|lease| lease.id == id)?;
        let spent = leases.remove(place).stop();
        self.leases.store((!leases.is_empty()).then(|| Arc::new(leases)));
        self.spent_before.fetch_add(spent, Relaxed);
        Some(spent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cell() -> Cell {
        Cell::new(CounterId([0; 16]), Rule { limit: 10, window: Duration::from_secs(1), revision: 1 }, 0, None)
    }

    fn take(cell: &Cell, now: u64) -> Option<u64> {
        cell.take(&|| now, false).map(|taken| taken.left)
    }

    #[test]
    fn more_is_asked_for_before_the_last_token_and_before_the_end() {
        let cell = cell();
        cell.low_water.store(1, Relaxed);
        cell.renew_ns.store(20, Relaxed);
        cell.add(Arc::new(Lease::new(1, 100, 4)));
        let taken = |left, is_low| Some(Taken { left, is_low });
        assert_eq!(cell.take(&|| 79, false), taken(3, false));
        assert_eq!(cell.take(&|| 80, false), taken(2, true));
        cell.add(Arc::new(Lease::new(2, 200, 3)));
        assert_eq!(cell.take(&|| 81, false), taken(4, false));
        assert_eq!(cell.take(&|| 100, false), taken(3, false), "of the second lease");
        assert_eq!(cell.take(&|| 101, false), taken(2, true));
    }

    #[test]
    fn tokens_are_taken_until_the_lease_is_over() {
        let cell = cell();
        assert_eq!(cell.take(&|| 0, false), None);
        cell.add(Arc::new(Lease::new(1, 100, 2)));
        cell.add(Arc::new(Lease::new(2, 200, 1)));
        assert_eq!((cell.left(0), take(&cell, 99)), (3, Some(2)));
        assert_eq!((cell.left(100), take(&cell, 100)), (1, Some(1)), "of the second lease");
        assert_eq!((cell.left(100), take(&cell, 199)), (0, None));
        assert_eq!((cell.end(1), cell.end(1), cell.end(2)), (Some(1), None, Some(1)));
        assert_eq!(cell.demand(), 2);
    }

    #[test]
    fn a_token_that_was_taken_too_late_admits_nobody_and_is_spent() {
        let cell = cell();
        cell.add(Arc::new(Lease::new(1, 100, 2)));
        let clock = std::cell::Cell::new(0);
        // The first look is in time; then the thread is put aside.
        let late = || clock.replace(150);
        assert_eq!(cell.take(&late, false), None);
        assert_eq!(cell.end(1), Some(1));
    }

    #[test]
    fn those_who_wait_come_first() {
        let cell = cell();
        cell.waiting.store(2, Relaxed);
        cell.add(Arc::new(Lease::new(1, 100, 3)));
        assert_eq!(take(&cell, 0), Some(2));
        assert_eq!(take(&cell, 0), None);
        assert_eq!(cell.take(&|| 0, true).map(|taken| taken.left), Some(1));
    }

    #[test]
    fn of_many_threads_each_token_admits_one_and_a_stop_counts_them_all() {
        for round in 0..50 {
            let cell = cell();
            cell.add(Arc::new(Lease::new(1, 100, 5_000)));
            let (admitted, ended) = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|_| scope.spawn(|| (0..2_000).filter(|_| cell.take(&|| 1, false).is_some()).count()))
                    .collect();
                while cell.left(1) > 4_900 - round * 90 {
                    std::hint::spin_loop();
                }
                let ended = cell.end(1);
                (threads.into_iter().map(|thread| thread.join().unwrap() as u64).sum::<u64>(), ended)
            });
            assert_eq!(ended, Some(admitted));
        }
    }
}
