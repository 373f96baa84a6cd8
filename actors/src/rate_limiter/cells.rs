//! All counters of this node, and what tells their holder that one needs tokens.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::{Admission, CounterId, Name, Refused, Rule, cell::Cell};

/// So many counters wait to be asked for; a request that finds the queue full tries again with the next one.
const QUEUE_MAX: usize = 65_536;
/// A counter without a lease is dropped after its window, and this.
const IDLE_NS: u64 = 60_000_000_000;

/// A cell, found by its name, which isn't kept twice.
struct Named(Arc<Cell>);

impl Borrow<CounterId> for Named {
    fn borrow(&self) -> &CounterId {
        &self.0.id
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Named {}

fn place(cell: &Cell) -> usize {
    std::ptr::from_ref(cell).addr()
}

/// Shared by the request path and the holder of leases.
pub struct Cells {
    map: papaya::HashMap<Named, (), DefaultHashBuilder>,
    counters_max: usize,
    waiters_max: usize,
    waiters: AtomicUsize,
    /// What wakes those who wait, by the place of their cell, which they keep alive: nothing as long as nobody waits.
    bells: Mutex<HashMap<usize, Arc<Notify>>>,
    queue: mpsc::Sender<Arc<Cell>>,
    /// Only the holder takes from it.
    queued: Mutex<mpsc::Receiver<Arc<Cell>>>,
    /// There is something in the queue.
    pub(super) wake: Notify,
    /// Requests that were refused as there was no room for their counter, or to wait.
    pub(super) crowded: AtomicU64,
    pub(super) figures: Figures,
}

/// What is counted of the requests that waited, and of the holder of leases.
#[derive(Debug, Default)]
pub struct Figures {
    waits: [AtomicU64; 3],
    waited_ns: AtomicU64,
    /// Leases that are held.
    pub(super) leases: AtomicU64,
    /// Asks that were sent.
    pub(super) asks: AtomicU64,
}

/// How a wait at the edge of a limit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There was a token.
    Admitted,
    /// The limit is reached.
    Exceeded,
    /// Nobody answered in time, or too many requests waited.
    Unavailable,
}

impl Waited {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::Exceeded, Self::Unavailable];
}

impl Figures {
    /// How many waits ended like that.
    pub fn waits(&self, waited: Waited) -> u64 {
        self.waits[waited as usize].load(Relaxed)
    }

    /// All the time that requests waited.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_ns.load(Relaxed))
    }

    /// Leases that this node holds.
    pub fn leases(&self) -> u64 {
        self.leases.load(Relaxed)
    }

    /// Asks that this node sent.
    pub fn asks(&self) -> u64 {
        self.asks.load(Relaxed)
    }

    pub(super) fn wait_ended(&self, waited: Waited, ns: u64) {
        self.waits[waited as usize].fetch_add(1, Relaxed);
        self.waited_ns.fetch_add(ns, Relaxed);
    }
}

/// How many counters and waiting requests a node bears.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Counters that this node knows at once.
    pub counters_max: NonZeroUsize,
    /// Requests that wait for a token at once.
    pub waiters_max: NonZeroUsize,
}

impl Default for Bounds {
    fn default() -> Self {
        let (counters, waiters) = (NonZeroUsize::new(1_000_000), NonZeroUsize::new(10_000));
        Self { counters_max: counters.unwrap_or(NonZeroUsize::MIN), waiters_max: waiters.unwrap_or(NonZeroUsize::MIN) }
    }
}

impl Cells {
    /// No counters yet.
    pub fn new(bounds: Bounds) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        Self {
            map: papaya::HashMap::with_hasher(DefaultHashBuilder::default()),
            counters_max: bounds.counters_max.get(),
            waiters_max: bounds.waiters_max.get(),
            waiters: AtomicUsize::new(0),
            bells: Mutex::default(),
            queue,
            queued: Mutex::new(queued),
            wake: Notify::new(),
            crowded: AtomicU64::new(0),
            figures: Figures::default(),
        }
    }

    /// What was counted.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Requests that were refused as there was no room for their counter, or to wait.
    pub fn crowded(&self) -> u64 {
        self.crowded.load(Relaxed)
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The counter with this name, if it is known.
    pub fn get(&self, id: &CounterId) -> Option<Arc<Cell>> {
        self.map.pin().get_key_value(id).map(|(cell, ())| Arc::clone(&cell.0))
    }

    /// Takes a token that this node holds.
    pub fn try_spend(&self, id: CounterId, rule: Rule, clock: &impl Fn() -> u64) -> Option<Admission> {
        let map = self.map.pin();
        match map.get_key_value(&id) {
            Some((cell, ())) => self.take(&cell.0, rule, clock, false),
            None => {
                drop(map);
                let cell = self.cell(id, rule, clock, || None)?;
                cell.missed();
                self.want(&cell);
                None
            }
        }
    }

    /// Takes a token that this node holds, of a counter that it knows. Whoever gets none is counted when it asks again, to wait.
    pub fn take_known(&self, id: CounterId, rule: Rule, clock: &impl Fn() -> u64) -> Option<Admission> {
        let map = self.map.pin();
        let (cell, ()) = map.get_key_value(&id)?;
        self.take_held(&cell.0, rule, clock, false)
    }

    /// The counter with this id, known from now on; `None` if there is no room. It is named if it is new.
    pub fn cell(
        &self,
        id: CounterId,
        rule: Rule,
        clock: &impl Fn() -> u64,
        name: impl FnOnce() -> Option<Box<Name>>,
    ) -> Option<Arc<Cell>> {
        let map = self.map.pin();
        if let Some((cell, ())) = map.get_key_value(&id) {
            return Some(Arc::clone(&cell.0));
        }
        // Requests at once may pass the bound by their number, no more.
        if self.map.len() >= self.counters_max {
            self.crowded.fetch_add(1, Relaxed);
            return None;
        }
        map.get_or_insert(Named(Arc::new(Cell::new(id, rule, clock(), name()))), ());
        // Another request's may have come first, or it is in use no more.
        map.get_key_value(&id).map(|(cell, ())| Arc::clone(&cell.0))
    }

    /// Takes a token of this counter. `waited`: the caller counts among those that wait.
    pub fn take(&self, cell: &Arc<Cell>, rule: Rule, clock: &impl Fn() -> u64, waited: bool) -> Option<Admission> {
        let admission = self.take_held(cell, rule, clock, waited);
        if admission.is_none() && !waited {
            cell.missed();
            if cell.empty_for(clock()).is_none() {
                self.want(cell);
            }
        }
        admission
    }

    fn take_held(&self, cell: &Arc<Cell>, rule: Rule, clock: &impl Fn() -> u64, waited: bool) -> Option<Admission> {
        if cell.follow(rule) {
            self.want(cell);
        }
        let taken = cell.take(clock, waited)?;
        if taken.is_low {
            self.want(cell);
        }
        let remaining = taken.left.saturating_add(cell.free()).min(cell.limit().saturating_sub(1));
        let empty_for = if remaining == 0 { cell.empty_for(clock()) } else { None };
        Some(Admission { remaining, reset: Duration::from_nanos(empty_for.unwrap_or(cell.window)) })
    }

    /// Why a request that finds no token is refused without a wait, if that is known.
    pub fn refused(&self, cell: &Cell, rule: Rule, now: u64) -> Option<Refused> {
        if rule.limit == 0 {
            return Some(Refused::Exceeded { retry_after: rule.window });
        }
        let retry_after = Duration::from_nanos(cell.empty_for(now)?);
        Some(Refused::Exceeded { retry_after })
    }

    /// Why a request that waited since `since` for nothing is refused.
    pub fn gave_up(&self, cell: &Cell, since: u64, now: u64) -> Refused {
        if cell.answered_at.load(Relaxed) <= since {
            return Refused::Unavailable;
        }
        let soon = (cell.window / 20).min(1_000_000_000);
        Refused::Exceeded { retry_after: Duration::from_nanos(cell.empty_for(now).unwrap_or(soon)) }
    }

    /// Counts one more request that waits; not if too many do. [`Self::end_wait`] takes it out again.
    pub fn begin_wait(&self, cell: &Cell) -> bool {
        if self.waiters.fetch_add(1, Relaxed) >= self.waiters_max {
            self.waiters.fetch_sub(1, Relaxed);
            self.crowded.fetch_add(1, Relaxed);
            return false;
        }
        let _bells = self.bells.lock();
        cell.begin_wait();
        true
    }

    /// A request waits no longer.
    pub fn end_wait(&self, cell: &Cell) {
        let mut bells = self.bells.lock();
        if cell.end_wait() {
            bells.remove(&place(cell));
        }
        self.waiters.fetch_sub(1, Relaxed);
    }

    /// What wakes those who wait for this counter, the first one first. To be asked for by one of them.
    pub(super) fn bell(&self, cell: &Cell) -> Arc<Notify> {
        Arc::clone(self.bells.lock().entry(place(cell)).or_default())
    }

    /// Wakes so many of those who wait.
    pub(super) fn wake_some(&self, cell: &Cell, most: u32) {
        let waiting = cell.waiting();
        if waiting == 0 {
            return;
        }
        let Some(bell) = self.bells.lock().get(&place(cell)).cloned() else { return };
        for _ in 0..waiting.min(most) {
            bell.notify_one();
        }
    }

    /// Wakes all who wait.
    pub(super) fn wake_all(&self, cell: &Cell) {
        if cell.waiting() == 0 {
            return;
        }
        let bell = self.bells.lock().get(&place(cell)).cloned();
        bell.inspect(|bell| bell.notify_waiters());
    }

    /// Lets the holder of leases know that the counter needs tokens.
    pub fn want(&self, cell: &Arc<Cell>) {
        if cell.is_queued() || !cell.enqueue() {
            return;
        }
        if self.queue.try_send(Arc::clone(cell)).is_err() {
            cell.dequeue();
        }
        self.wake.notify_one();
    }

    /// Whether a counter waits for the holder of leases.
    pub fn wants(&self) -> bool {
        self.queue.capacity() < self.queue.max_capacity()
    }

    /// Takes the next counter that needs tokens. Only the holder of leases calls this.
    pub(super) fn next(&self) -> Option<Arc<Cell>> {
        let cell = self.queued.lock().try_recv().ok()?;
        // Before its demand is read: what comes later queues it again.
        cell.dequeue();
        Some(cell)
    }

    /// Ends all leases, which a holder before left behind.
    pub(super) fn end_all(&self) {
        for Named(cell) in self.map.pin().keys() {
            for lease in cell.leases() {
                cell.end(lease.id);
            }
        }
    }

    /// Forgets what was taken for used up, and lets those who wait ask again.
    pub(super) fn ask_anew(&self) {
        for Named(cell) in self.map.pin().keys() {
            if cell.empty_until.swap(0, Relaxed) > 0 {
                self.wake_all(cell);
            }
        }
    }

    /// Drops counters that nobody needs any more.
    pub fn sweep(&self, now: u64) {
        self.map.pin().retain(|Named(cell), ()| {
            let idle_since = cell.answered_at.load(Relaxed).max(cell.counted_at.load(Relaxed));
            let idle = idle_since.saturating_add(cell.window.max(IDLE_NS)) < now;
            let used = cell.is_queued() || cell.waiting() > 0 || cell.is_leased();
            !idle || used
        });
    }
}
