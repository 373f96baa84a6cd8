//! One counter on this node: the tokens that requests take, without a lock.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
};

use arc_swap::ArcSwapOption;

use super::{CounterId, Name, Rule};

/// Tokens that this node may spend until a moment of its own clock.
pub struct Lease {
    /// Its number in the log.
    pub id: u64,
    /// Nanoseconds of the clock that never stops; from then on no token of it admits anybody.
    pub until: u64,
    /// So many tokens it had.
    pub granted: u32,
    left: AtomicU32,
    /// So many of them were reported as spent. Only the holder of leases reads and writes it.
    reported: AtomicU32,
}

impl Lease {
    /// A fresh lease.
    pub fn new(id: u64, until: u64, granted: u32) -> Self {
        Self { id, until, granted, left: AtomicU32::new(granted), reported: AtomicU32::new(0) }
    }

    /// Takes one token. The moment of the taking is that of the admission: before `until`, and before any [`Self::stop`].
    fn take(&self, clock: &impl Fn() -> u64) -> bool {
        let taken = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        // This thread may have slept since it last looked: a token taken too late is spent, and admits nobody.
        taken && clock() < self.until
    }

    /// Ends the lease: whoever comes now finds it empty. Returns how many tokens were spent.
    pub fn stop(&self) -> u32 {
        self.granted - self.left.swap(0, SeqCst)
    }

    /// Tokens that are spent.
    pub fn spent(&self) -> u32 {
        self.granted - self.left.load(SeqCst)
    }

    /// Tokens that are spent, if they are more than at the last call.
    pub(super) fn news(&self) -> Option<u32> {
        let spent = self.spent();
        (self.reported.swap(spent, Relaxed) < spent).then_some(spent)
    }
}

/// Leases, the oldest first. A list that is shared isn't changed: another takes its place.
struct Link {
    lease: Arc<Lease>,
    next: Option<Arc<Link>>,
}

fn listed(first: Option<&Arc<Link>>) -> impl Iterator<Item = &Arc<Lease>> {
    std::iter::successors(first, |link| link.next.as_ref()).map(|link| &link.lease)
}

fn linked(leases: Vec<Arc<Lease>>) -> Option<Arc<Link>> {
    leases.into_iter().rev().fold(None, |next, lease| Some(Arc::new(Link { lease, next })))
}

/// In [`Cell::waiting`] beside the number of those who wait: it lies in the queue of the holder.
const QUEUED: u32 = 1 << 31;

/// What a request finds that took a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Tokens that are left.
    pub left: u64,
    /// It is time to ask for more.
    pub is_low: bool,
}

/// A counter, shared by the request path and the holder of leases. There are many of them, so it is kept small.
pub struct Cell {
    /// Its name.
    pub id: CounterId,
    /// For people; absent if whoever made the counter didn't say.
    pub name: Option<Box<Name>>,
    /// In nanoseconds.
    pub window: u64,
    limit: AtomicU64,
    revision: AtomicU64,
    leases: ArcSwapOption<Link>,
    /// With so many tokens or fewer left, more are asked for.
    low_water: AtomicU32,
    /// Requests that wait for a token, and [`QUEUED`].
    waiting: AtomicU32,
    /// A lease that is over sooner than this counts as empty for the low water, in microseconds.
    renew_us: AtomicU32,
    /// Requests that found no token, and tokens spent of leases that are over; it begins anew after the highest number.
    past_demand: AtomicU32,
    /// Until then nothing can be granted, as far as is known.
    pub(super) empty_until: AtomicU64,
    /// What could be granted when this was last known, or all that fits here.
    free: AtomicU32,
    /// When the log last answered an ask for it, or when it was made.
    pub(super) answered_at: AtomicU64,
    // What follows only the holder of leases writes.
    /// Of the demand: how much was counted, when, and what rate it showed, in tokens a second.
    pub(super) counted: AtomicU32,
    pub(super) counted_at: AtomicU64,
    pub(super) rate: AtomicU32,
    /// The version of the limit that the log was told; of its number the low half.
    told_revision: AtomicU32,
}

const _: () = assert!(size_of::<Cell>() == 112);

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
            low_water: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            renew_us: AtomicU32::new(0),
            past_demand: AtomicU32::new(0),
            empty_until: AtomicU64::new(0),
            free: AtomicU32::new(0),
            answered_at: AtomicU64::new(now),
            counted: AtomicU32::new(0),
            counted_at: AtomicU64::new(now),
            rate: AtomicU32::new(0),
            told_revision: AtomicU32::new(rule.revision as u32),
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
        let valid = listed(leases.as_ref()).filter(|lease| now < lease.until);
        valid.map(|lease| u64::from(lease.left.load(SeqCst))).sum()
    }

    /// Takes a token. `waited`: the caller is one of those that wait, the others leave them theirs.
    pub(super) fn take(&self, clock: &impl Fn() -> u64, waited: bool) -> Option<Taken> {
        let leases = self.leases.load();
        let leases = Some(leases.as_ref()?);
        let now = clock();
        if !waited {
            let waiting = u64::from(self.waiting());
            if waiting > 0 && self.left(now) <= waiting {
                return None;
            }
        }
        // The oldest is over first.
        if !listed(leases).any(|lease| now < lease.until && lease.take(clock)) {
            return None;
        }
        let soon = now.saturating_add(u64::from(self.renew_us.load(Relaxed)) * 1_000);
        let (mut left, mut lasting) = (0, 0);
        for lease in listed(leases) {
            let its = u64::from(lease.left.load(Relaxed));
            left += its;
            lasting += if soon < lease.until { its } else { 0 };
        }
        Some(Taken { left, is_low: lasting <= self.low_water.load(Relaxed).into() })
    }

    /// How long nothing can be granted yet, if that is known.
    pub(super) fn empty_for(&self, now: u64) -> Option<u64> {
        self.empty_until.load(Relaxed).checked_sub(now).filter(|left| *left > 0)
    }

    /// All that requests asked for, admitted or not; it begins anew after the highest number.
    pub(super) fn demand(&self) -> u32 {
        let leases = self.leases.load();
        let spent = listed(leases.as_ref()).map(|lease| lease.spent());
        spent.fold(self.past_demand.load(Relaxed), u32::wrapping_add)
    }

    /// Requests that wait for a token.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst) & !QUEUED
    }

    /// One more waits.
    pub(super) fn begin_wait(&self) {
        self.waiting.fetch_add(1, SeqCst);
    }

    /// One of them waits no longer; returns whether it was the last.
    pub(super) fn end_wait(&self) -> bool {
        self.waiting.fetch_sub(1, SeqCst) & !QUEUED == 1
    }

    /// Whether it lies in the queue of the holder.
    pub(super) fn is_queued(&self) -> bool {
        self.waiting.load(SeqCst) & QUEUED != 0
    }

    /// It goes there; returns whether it wasn't there before.
    pub(super) fn enqueue(&self) -> bool {
        self.waiting.fetch_or(QUEUED, SeqCst) & QUEUED == 0
    }

    /// It is taken out.
    pub(super) fn dequeue(&self) {
        self.waiting.fetch_and(!QUEUED, SeqCst);
    }

    /// What could be granted when this was last known.
    pub(super) fn free(&self) -> u64 {
        self.free.load(Relaxed).into()
    }

    /// Notes what can be granted.
    pub(super) fn set_free(&self, tokens: u64) {
        self.free.store(u32::try_from(tokens).unwrap_or(u32::MAX), Relaxed);
    }

    /// When more is asked for: with so many tokens left, of leases that are not over sooner than `renew_ns`.
    pub(super) fn set_low_water(&self, tokens: u64, renew_ns: u64) {
        self.low_water.store(u32::try_from(tokens).unwrap_or(u32::MAX), Relaxed);
        self.renew_us.store(u32::try_from(renew_ns / 1_000).unwrap_or(u32::MAX), Relaxed);
    }

    /// Whether the log was told the limit of this version.
    pub(super) fn is_told(&self) -> bool {
        self.told_revision.load(Relaxed) == self.revision() as u32
    }

    /// The log is told the limit of this version; returns whether that is news.
    pub(super) fn tell(&self, revision: u64) -> bool {
        self.told_revision.swap(revision as u32, Relaxed) != revision as u32
    }

    /// Counts a request that found no token.
    pub(super) fn missed(&self) {
        self.past_demand.fetch_add(1, Relaxed);
    }

    /// Whether it holds any lease.
    pub(super) fn is_leased(&self) -> bool {
        self.leases.load().is_some()
    }

    /// The leases. Only their holder calls this and the next two.
    pub(super) fn leases(&self) -> Vec<Arc<Lease>> {
        listed(self.leases.load().as_ref()).cloned().collect()
    }

    /// The lease `id`, if it is held.
    pub(super) fn lease(&self, id: u64) -> Option<Arc<Lease>> {
        listed(self.leases.load().as_ref()).find(|lease| lease.id == id).cloned()
    }

    /// Adds a lease.
    pub fn add(&self, lease: Arc<Lease>) {
        let mut leases = self.leases();
        leases.push(lease);
        self.leases.store(linked(leases));
    }

    /// Ends the lease `id`; returns it, and how many of its tokens were spent.
    pub(super) fn end(&self, id: u64) -> Option<(Arc<Lease>, u32)> {
        let mut leases = self.leases();
        let place = leases.iter().position(|lease| lease.id == id)?;
        let lease = leases.remove(place);
        let spent = lease.stop();
        self.leases.store(linked(leases));
        self.past_demand.fetch_add(spent, Relaxed);
        Some((lease, spent))
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
        cell.set_low_water(1, 20_000);
        cell.add(Arc::new(Lease::new(1, 100_000, 4)));
        let taken = |left, is_low| Some(Taken { left, is_low });
        assert_eq!(cell.take(&|| 79_999, false), taken(3, false));
        assert_eq!(cell.take(&|| 80_000, false), taken(2, true));
        cell.add(Arc::new(Lease::new(2, 200_000, 3)));
        assert_eq!(cell.take(&|| 81_000, false), taken(4, false));
        assert_eq!(cell.take(&|| 100_000, false), taken(3, false), "of the second lease");
        assert_eq!(cell.take(&|| 101_000, false), taken(2, true));
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
        let end = |id| cell.end(id).map(|(_, spent)| spent);
        assert_eq!((end(1), end(1), end(2)), (Some(1), None, Some(1)));
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
        assert_eq!(cell.end(1).map(|(_, spent)| spent), Some(1));
    }

    #[test]
    fn those_who_wait_come_first() {
        let cell = cell();
        cell.begin_wait();
        cell.begin_wait();
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
                let ended = cell.end(1).map(|(_, spent)| u64::from(spent));
                (threads.into_iter().map(|thread| thread.join().unwrap() as u64).sum::<u64>(), ended)
            });
            assert_eq!(ended, Some(admitted));
        }
    }
}
