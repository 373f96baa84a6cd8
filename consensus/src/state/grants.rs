//! Who may spend how much of which limit: the replicated half of strict rate limits.
//!
//! Nodes ask for leases, a command of the log grants them, and capacity comes back when no token of a lease can have been
//! spent within the last window. All times here are *log time*: it moves only by what leaders stamp on asks, and never
//! faster than real time but for the drift of one clock. The other half is the holder of leases, in the room `actors`.

mod counter;
mod records;
mod rules;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

pub use counter::{Counter, Lease, Spent, Standing};
pub use rules::{ASKING_NS, ASKS_MAX, PATIENCE_NS, RETURNS_MAX, Term, validity_ns};

use crate::command::{Ask, Return};

/// The name of a counter: a digest of all that tells it from others.
pub type CounterId = [u8; 16];

/// Counters that are looked at in one command, beside two for each that it asks for.
const LOOKS: usize = 64;
/// Nodes are remembered for so long after their last ask, if there are many.
const FORGOTTEN_AFTER_NS: u64 = 3_600_000_000_000;
const REMEMBERED_NODES: usize = 256;

/// All grants.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    log_time: u64,
    last_lease: u64,
    /// How often counters were reset.
    resets: u64,
    askers: OrdMap<u64, Asker>,
    counters: OrdMap<CounterId, Arc<Counter>>,
    /// The leases of each node that should come back, and their counters.
    recalled: OrdMap<(u64, u64), CounterId>,
    /// When which counter is to be looked at.
    looks: OrdSet<(u64, CounterId)>,
    #[cfg(feature = "planted")]
    planted: Option<Planted>,
}

/// Mistakes that the simulation must catch.
#[cfg(feature = "planted")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Capacity comes back one window after the grant, as if no token were spent later than that.
    BackAfterWindow,
    /// A return counts again each time that it arrives.
    ReturnTwice,
    /// A grant is larger than what is free.
    Generous,
    /// Nobody is asked to return what he holds.
    NoRecall,
    /// What a return tells of spent tokens is not made use of: they come back as if it had told nothing.
    LateReports,
}

/// What is known of a node that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asker {
    incarnation: u64,
    sequence: u64,
    asked_at: u64,
    /// The leases of this node up to this one are of other starts of it.
    former: u64,
}

/// What a node can tell a caller about a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What can be granted.
    pub free: u64,
    /// The log time at which some capacity comes back; `None` if nothing is used.
    pub back_at: Option<u64>,
    /// Whether a holder may still return something before that.
    pub pending: bool,
}

impl Grants {
    /// The log time of the last ask, in nanoseconds.
    pub fn log_time(&self) -> u64 {
        self.log_time
    }

    /// How many counters are in use.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether no counter is in use.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// All counters, by their names.
    pub fn counters(&self) -> impl Iterator<Item = (&CounterId, &Arc<Counter>)> {
        self.counters.iter()
    }

    /// How many nodes asked lately, at least 1.
    pub fn asking(&self) -> u64 {
        let since = self.log_time.saturating_sub(ASKING_NS);
        (self.askers.values().filter(|asker| asker.asked_at >= since).count() as u64).max(1)
    }

    /// The last ask of this start of a node that was applied; 0 without one.
    pub fn sequence(&self, node: u64, incarnation: u64) -> u64 {
        let asker = self.askers.get(&node).filter(|asker| asker.incarnation == incarnation);
        asker.map_or(0, |asker| asker.sequence)
    }

    /// The highest id of a lease so far.
    pub fn last_lease(&self) -> u64 {
        self.last_lease
    }

    /// The leases of a node whose ids are above `after`, with their counters; in the order of their ids. It looks at all counters.
    pub fn held_by(&self, node: u64, after: u64) -> impl Iterator<Item = (CounterId, Lease)> {
        let leases = |(name, counter): (&CounterId, &Arc<Counter>)| {
            counter.leases.iter().map(|lease| (*name, *lease)).collect::<Vec<_>>()
        };
        let is_wanted = |(_, lease): &(CounterId, Lease)| lease.node == node && lease.id > after;
        let mut held: Vec<_> = self.counters.iter().flat_map(leases).filter(is_wanted).collect();
        held.sort_unstable_by_key(|(_, lease)| lease.id);
        held.into_iter()
    }

    /// The leases of a counter, all nodes'.
    pub fn leases(&self, counter: &CounterId) -> &[Lease] {
        self.counters.get(counter).map_or(&[], |counter| &counter.leases)
    }

    /// The leases that a node should return, and their counters.
    pub fn recalled_from(&self, node: u64) -> impl Iterator<Item = (u64, CounterId)> {
        self.recalled.range((node, 0)..=(node, u64::MAX)).map(|((_, id), counter)| (*id, *counter))
    }

    /// Whether a lease was given to that start of its node which asked last. No other start spends it.
    pub fn is_of_now(&self, lease: &Lease) -> bool {
        self.askers.get(&lease.node).is_some_and(|asker| lease.id > asker.former)
    }

    /// A lease of a node, as long as it counts.
    pub fn lease(&self, counter: &CounterId, node: u64, id: u64) -> Option<Lease> {
        self.leases(counter).iter().find(|lease| lease.id == id && lease.node == node).copied()
    }

    /// How a counter stands at a log time; `None`: nothing of it is used.
    pub fn status(&self, counter: &CounterId, at: u64) -> Option<Status> {
        let counter = self.counters.get(counter)?;
        let pending = |lease: &Lease| {
            let until = lease.recalled_at().map_or(u64::MAX, |at| at.saturating_add(PATIENCE_NS));
            let over = lease.over_at(counter.window).saturating_add(PATIENCE_NS);
            self.is_of_now(lease) && lease.left() > 0 && at < until.min(over)
        };
        let pending = counter.leases.iter().any(pending);
        Some(Status { free: counter.free(), back_at: counter.next_back_at(), pending })
    }

    /// Applies what a node asked and returned.
    pub(super) fn apply(&mut self, ask: &Ask) {
        let now = self.log_time.max(ask.at);
        self.log_time = now;
        let asks = &ask.asks[..ask.asks.len().min(ASKS_MAX)];
        let returns = &ask.returns[..ask.returns.len().min(RETURNS_MAX)];
        self.look(now, LOOKS + 2 * asks.len());
        if !self.note_asker(ask, now) {
            return; // it was applied before, or a newer one was
        }
        for returned in returns {
            self.settle(ask.node, returned, now);
        }
        let asking = self.asking();
        for wanted in asks {
            self.grant(ask, wanted, asking, now);
        }
    }

    /// Whether the ask is a new one.
    fn note_asker(&mut self, ask: &Ask, now: u64) -> bool {
        if self.sequence(ask.node, ask.incarnation) >= ask.sequence {
            return false;
        }
        // If an ask of a former start comes late, what the present one was given before isn't its own any more: it comes back by time.
        let known = self.askers.get(&ask.node).filter(|asker| asker.incarnation == ask.incarnation);
        let former = known.map_or(self.last_lease, |asker| asker.former);
        let asker = Asker { incarnation: ask.incarnation, sequence: ask.sequence, asked_at: now, former };
        self.askers.insert(ask.node, asker);
        if self.askers.len() > REMEMBERED_NODES {
            let since = now.saturating_sub(FORGOTTEN_AFTER_NS);
            let old = self.askers.iter().find(|(_, asker)| asker.asked_at < since).map(|(node, _)| *node);
            old.map(|node| self.askers.remove(&node));
        }
        true
    }

    fn settle(&mut self, node: u64, returned: &Return, now: u64) {
        let Return { counter: name, lease: id, spent, done } = *returned;
        if self.lease(&name, node, id).is_none() {
            return;
        }
        #[cfg(feature = "planted")]
        let (twice, late) = (self.planted == Some(Planted::ReturnTwice), self.planted == Some(Planted::LateReports));
        self.edit(name, now, |counter| {
            #[cfg(feature = "planted")]
            let now = if late { u64::MAX } else { now };
            let over = counter.settle(id, spent, done, now);
            #[cfg(feature = "planted")]
            if let (true, Some(lease)) = (twice, over) {
                counter.used = counter.used.saturating_sub(lease.left());
            }
            over
        });
    }

    fn grant(&mut self, ask: &Ask, wanted: &crate::command::Want, asking: u64, now: u64) {
        if wanted.window == 0 || wanted.want == 0 {
            return;
        }
        let mut counter = match self.counters.get(&wanted.counter) {
            Some(counter) => Counter::clone(counter),
            None if wanted.limit == 0 => return,
            None => Counter::new(wanted.window, wanted.limit, wanted.revision),
        };
        self.forget(counter.refresh(now));
        let lowered = wanted.limit < counter.limit;
        // Of two limits of one version, which shouldn't be, the lower counts.
        if wanted.revision > counter.revision || (wanted.revision == counter.revision && lowered) {
            counter.limit = wanted.limit;
            counter.revision = wanted.revision;
            if lowered {
                self.recall(wanted.counter, &mut counter, None, now);
            }
        }
        let free = counter.free();
        // Something is left for the others; of the last few tokens only half, as one that nobody holds admits nobody.
        let last = (free / 2).min(counter.limit / 64);
        let share = if asking == 1 { free } else { (free / (2 * asking)).max(last).max(1) };
        let tokens = wanted.want.min(share).min(free);
        #[cfg(feature = "planted")]
        let tokens = if self.planted == Some(Planted::Generous) { wanted.want.min(share) } else { tokens };
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        if tokens == 0 {
            self.recall(wanted.counter, &mut counter, Some(ask.node), now);
        } else {
            self.last_lease += 1;
            let (node, id) = (ask.node, self.last_lease);
            #[cfg(feature = "planted")]
            let now = match self.planted {
                Some(Planted::BackAfterWindow) => now.saturating_sub(validity_ns(counter.window, wanted.term)),
                _ => now,
            };
            counter.lend(Lease {
                id,
                node,
                given_at: now,
                sequence: ask.sequence as u32,
                granted: tokens,
                reported: 0,
                recalled_after: None,
                term: wanted.term,
                is_forgiven: false,
            });
        }
        self.put(wanted.counter, counter);
    }

    /// How often counters were reset. Nodes that see it grow ask again for what they took for used up.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Forgets what was admitted so far of some counters; what nodes hold of them they are asked to return.
    pub(super) fn reset(&mut self, counters: &[CounterId]) {
        self.resets += 1;
        let now = self.log_time;
        for name in counters {
            let Some(counter) = self.counters.get(name) else { continue };
            let mut counter = Counter::clone(counter);
            self.forget(counter.refresh(now));
            counter.reset();
            self.recall(*name, &mut counter, None, now);
            self.put(*name, counter);
        }
    }

    /// Asks for all that is held of a counter, except by `asker`.
    fn recall(&mut self, name: CounterId, counter: &mut Counter, asker: Option<u64>, now: u64) {
        #[cfg(feature = "planted")]
        if self.planted == Some(Planted::NoRecall) {
            return;
        }
        for lease in &mut counter.leases {
            if Some(lease.node) != asker && lease.recalled_after.is_none() && lease.left() > 0 {
                lease.recall(now);
                self.recalled.insert((lease.node, lease.id), name);
            }
        }
    }

    /// Looks at the counters whose time has come, at most `most` of them: what is out of use goes.
    fn look(&mut self, now: u64, most: usize) {
        for _ in 0..most {
            let Some((at, name)) = self.looks.get_min().copied() else { return };
            if at > now {
                return;
            }
            self.looks.remove(&(at, name));
            let Some(counter) = self.counters.get(&name) else { continue };
            let mut counter = Counter::clone(counter);
            counter.look_at = 0;
            self.forget(counter.refresh(now));
            self.put(name, counter);
        }
    }

    /// Changes a counter; a lease that `change` returns is over.
    fn edit(&mut self, name: CounterId, now: u64, change: impl FnOnce(&mut Counter) -> Option<Lease>) {
        let Some(counter) = self.counters.get(&name) else { return };
        let mut counter = Counter::clone(counter);
        let mut gone = counter.refresh(now);
        gone.extend(change(&mut counter));
        self.forget(gone);
        self.put(name, counter);
    }

    /// Stores a counter, or lets it go if nothing of it is used.
    fn put(&mut self, name: CounterId, mut counter: Counter) {
        if counter.is_idle() {
            self.looks.remove(&(counter.look_at, name));
            self.counters.remove(&name);
            return;
        }
        if counter.look_at == 0 {
            counter.look_at = counter.last_back_at();
            self.looks.insert((counter.look_at, name));
        }
        counter.spent.shrink_to_fit();
        counter.leases.shrink_to_fit();
        self.counters.insert(name, Arc::new(counter));
    }

    fn forget(&mut self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            self.recalled.remove(&(lease.node, lease.id));
        }
    }
}

#[cfg(feature = "planted")]
impl Grants {
    /// Makes a mistake from now on.
    pub fn plant(&mut self, planted: Planted) {
        self.planted = Some(planted);
    }
}

#[cfg(test)]
mod tests;
