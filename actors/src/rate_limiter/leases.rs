//! The holder of this node's leases: what it asks for, what it makes of the log's answers, and what it gives back.
//! Pure: it is told the time, and what it must send and what was applied passes through whoever drives it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use octelium_consensus::{
    Ask, Return, Want,
    state::grants::{ASKS_MAX, Grants, RETURNS_MAX, Term, validity_ns},
};

use super::{
    CounterId,
    cell::{Cell, Lease},
    cells::Cells,
};

/// The sending times of so many asks are kept. A lease that answers an older one is taken for over.
const SENT_MAX: usize = 64;
/// The largest reserve for a counter that is rarely needed, in tokens; and the largest where that is no more than a thousandth of the limit.
const RESERVE_MAX: u64 = 4;
const RESERVE_OF_MANY_MAX: u64 = 64;
/// As long as nobody misses them, all nodes together may hold this part of a limit for longer than they need it at once.
const HELD_FOR_LONG: u64 = 128;
const SECOND: u64 = 1_000_000_000;

/// What one start of a node holds.
pub struct Leases {
    cells: Arc<Cells>,
    node: u64,
    incarnation: u64,
    sequence: u64,
    /// When which ask was sent.
    sent: VecDeque<(u64, u64)>,
    in_flight: Option<u64>,
    /// What the ask in flight was about.
    asked: Vec<Arc<Cell>>,
    /// What asks were about that failed, and the last such ask: it may be applied all the same, until a later one is.
    doubtful: BTreeMap<CounterId, u64>,
    /// The last ask that was seen to be applied.
    applied: u64,
    returned: Vec<u64>,
    /// The highest id of a lease that was seen.
    seen: u64,
    /// How many resets of counters were seen.
    resets: u64,
    /// All leases with their counters, by their ends and ids.
    held: BTreeMap<(u64, u64), Arc<Cell>>,
    /// When which short lease is to be reported, whether or not something else is to be sent; also of some that are over.
    reports: BTreeMap<(u64, u64), Arc<Cell>>,
    closing: BTreeMap<u64, Closing>,
    /// Of those, what no ask in flight carries.
    unsent: BTreeSet<u64>,
    wanted: BTreeMap<CounterId, Arc<Cell>>,
    #[cfg(feature = "planted")]
    planted: Option<Planted>,
}

/// Mistakes that the simulation must catch.
#[cfg(feature = "planted")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A lease is valid from the moment in which it arrives.
    ValidFromArrival,
    /// A lease is returned before its spending stops.
    ReturnBeforeStop,
}

/// A lease that is over here, and may not be so in the log yet.
struct Closing {
    counter: CounterId,
    spent: u32,
    /// After that the log has taken it back by itself.
    until: u64,
}

impl Leases {
    /// Nothing held. `incarnation`: a number that no other start of this node has had.
    pub fn new(cells: Arc<Cells>, node: u64, incarnation: u64) -> Self {
        // A holder before this one can't return them any more: they come back by themselves.
        cells.end_all();
        Self {
            cells,
            node,
            incarnation,
            sequence: 0,
            sent: VecDeque::new(),
            in_flight: None,
            asked: Vec::new(),
            doubtful: BTreeMap::new(),
            applied: 0,
            returned: Vec::new(),
            seen: 0,
            resets: 0,
            held: BTreeMap::new(),
            reports: BTreeMap::new(),
            closing: BTreeMap::new(),
            unsent: BTreeSet::new(),
            wanted: BTreeMap::new(),
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// Makes a mistake from now on.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, planted: Planted) {
        self.planted = Some(planted);
    }

    /// The ask whose answer is awaited.
    pub fn in_flight(&self) -> Option<u64> {
        self.in_flight
    }

    /// How many leases are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// When there will be something to send even if no request comes; `None`: never, or at once.
    pub fn next_deadline(&self) -> Option<u64> {
        let first = |of: &BTreeMap<(u64, u64), _>| of.first_key_value().map(|((at, _), _)| *at);
        [first(&self.held), first(&self.reports)].into_iter().flatten().min()
    }

    /// Whether there is something to send now.
    pub fn is_busy(&self) -> bool {
        !self.wanted.is_empty() || !self.unsent.is_empty()
    }

    /// What to send now, if anything. At most one ask is in flight: until [`Self::absorb`] or [`Self::failed`] ends it, the
    /// next one gathers.
    pub fn ask(&mut self, grants: &Grants, now: u64) -> Option<Ask> {
        self.expire(now);
        while let Some(cell) = self.cells.next() {
            self.wanted.insert(cell.id, cell);
        }
        if self.in_flight.is_some() {
            return None;
        }
        let mut returns = self.due_reports(grants.asking(), now);
        let mut asks = Vec::new();
        while asks.len() < ASKS_MAX
            && let Some((_, cell)) = self.wanted.pop_first()
        {
            self.settle(&cell, &mut returns);
            if let Some(want) = want(&cell, grants, now) {
                asks.push(want);
                self.asked.push(cell);
            }
        }
        returns.truncate(RETURNS_MAX);
        self.close_into(&mut returns, now);
        if asks.is_empty() && returns.is_empty() {
            return None;
        }
        self.sequence += 1;
        self.in_flight = Some(self.sequence);
        self.sent.push_back((self.sequence, now));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        Some(Ask { node: self.node, incarnation: self.incarnation, sequence: self.sequence, at: 0, asks, returns })
    }

    /// Ends what is over by now.
    fn expire(&mut self, now: u64) {
        while let Some(first) = self.held.first_entry()
            && first.key().0 <= now
        {
            let ((_, id), cell) = first.remove_entry();
            self.close(&cell, id);
        }
    }

    /// Reports of short leases whose turn it is, if there is news, and somebody could need the tokens that come back by it.
    fn due_reports(&mut self, nodes: u64, now: u64) -> Vec<Return> {
        let mut returns = Vec::new();
        while let Some(first) = self.reports.first_entry()
            && first.key().0 <= now
        {
            let ((_, id), cell) = first.remove_entry();
            let Some(lease) = cell.lease(id) else { continue };
            if !is_ample(&cell, nodes) {
                returns.extend(report(&cell, &lease));
            }
            self.reports.insert((now + report_every(cell.window), id), cell);
        }
        returns
    }

    /// What is to be said of a counter's leases when it is asked for anyway: the empty ones are over.
    fn settle(&mut self, cell: &Cell, returns: &mut Vec<Return>) {
        for lease in cell.leases() {
            if lease.spent() == lease.granted {
                self.close(cell, lease.id);
            } else {
                returns.extend(report(cell, &lease));
            }
        }
    }

    /// Ends a lease: first its spending, then it may be returned.
    fn close(&mut self, cell: &Cell, id: u64) {
        #[cfg(feature = "planted")]
        if self.planted == Some(Planted::ReturnBeforeStop) {
            let Some(lease) = cell.lease(id).filter(|_| !self.closing.contains_key(&id)) else { return };
            return self.closed(cell, &lease, lease.spent());
        }
        if let Some((lease, spent)) = cell.end(id) {
            self.closed(cell, &lease, spent);
        }
    }

    fn closed(&mut self, cell: &Cell, lease: &Lease, spent: u32) {
        let id = lease.id;
        self.held.remove(&(lease.until, id));
        let until = lease.until.saturating_add(cell.window).saturating_add(cell.window / 100);
        self.closing.insert(id, Closing { counter: cell.id, spent, until });
        self.unsent.insert(id);
    }

    /// Ends all leases, to be returned: this start of the node admits nobody any more.
    pub fn give_back(&mut self) {
        while let Some(((_, id), cell)) = self.held.pop_first() {
            self.close(&cell, id);
        }
        self.wanted.clear();
    }

    /// Whether nothing is held that the log doesn't know to be over.
    pub fn has_given_back(&self) -> bool {
        self.held.is_empty() && self.unsent.is_empty() && self.in_flight.is_none()
    }

    /// Adds the leases that are over.
    fn close_into(&mut self, returns: &mut Vec<Return>, now: u64) {
        while returns.len() < RETURNS_MAX
            && let Some(id) = self.unsent.pop_first()
        {
            let Some(closing) = self.closing.get(&id) else { continue };
            if closing.until <= now {
                self.closing.remove(&id);
                continue;
            }
            returns.push(Return { counter: closing.counter.0, lease: id, spent: closing.spent.into(), done: true });
            self.returned.push(id);
        }
    }

    /// The ask `sequence` was not applied, or that isn't known. What it was about is sent again, in another ask: if the first
    /// one does arrive, its grants count from when it was sent.
    pub fn failed(&mut self, sequence: u64) {
        if self.in_flight != Some(sequence) {
            return;
        }
        self.in_flight = None;
        self.unsent.extend(self.returned.drain(..));
        for cell in std::mem::take(&mut self.asked) {
            self.doubtful.insert(cell.id, sequence);
            if cell.waiting() > 0 || !cell.is_told() {
                self.wanted.insert(cell.id, cell);
            }
        }
    }

    /// Takes in what the log led to.
    pub fn absorb(&mut self, grants: &Grants, now: u64) {
        let applied = grants.sequence(self.node, self.incarnation);
        let is_answered = self.in_flight.is_some_and(|sequence| applied >= sequence);
        if applied > self.applied {
            self.applied = applied;
            let asked = self.asked.iter().filter(|_| is_answered).map(|cell| cell.id);
            let asked: Vec<CounterId> = self.doubtful.keys().copied().chain(asked).collect();
            for id in asked {
                self.take_in_all(id, grants, now);
            }
            self.seen = grants.last_lease();
            // No earlier ask is applied after that one.
            self.doubtful.retain(|_, sequence| *sequence > applied);
        }
        if self.resets != grants.resets() {
            self.resets = grants.resets();
            self.cells.ask_anew();
        }
        for (id, counter) in grants.recalled_from(self.node) {
            if let Some(cell) = self.cells.get(&CounterId::from_bytes(counter)) {
                self.close(&cell, id);
            }
        }
        if is_answered {
            self.answered(grants, now);
        }
    }

    /// Takes in the leases of a counter that are new.
    fn take_in_all(&mut self, id: CounterId, grants: &Grants, now: u64) {
        for lease in grants.leases(&id.0) {
            // What a former start of this node was granted stays with it.
            let is_ours = lease.node == self.node && grants.is_of_now(lease);
            if is_ours && lease.id > self.seen {
                self.take_in(id, lease, now);
            }
        }
    }

    fn take_in(&mut self, id: CounterId, granted: &octelium_consensus::state::grants::Lease, now: u64) {
        let sent = self.sent.iter().find(|(sequence, _)| *sequence as u32 == granted.sequence).map(|(_, at)| *at);
        let cell = self.cells.get(&id);
        let (Some(sent), Some(cell)) = (sent, cell) else {
            let until = now.saturating_add(60 * SECOND);
            self.closing.insert(granted.id, Closing { counter: id, spent: 0, until });
            self.unsent.insert(granted.id);
            return;
        };
        #[cfg(feature = "planted")]
        let sent = if self.planted == Some(Planted::ValidFromArrival) { now } else { sent };
        let until = sent.saturating_add(validity_ns(cell.window, granted.term));
        if self.held.contains_key(&(until, granted.id)) {
            return; // its counter was asked for twice
        }
        cell.add(Arc::new(Lease::new(granted.id, until, granted.granted)));
        self.cells.wake_some(&cell, granted.granted);
        if granted.term == Term::Short {
            self.reports.insert((now + report_every(cell.window), granted.id), Arc::clone(&cell));
        }
        self.held.insert((until, granted.id), cell);
    }

    /// The ask in flight is in the log.
    fn answered(&mut self, grants: &Grants, now: u64) {
        self.in_flight = None;
        for id in std::mem::take(&mut self.returned) {
            let Some(closing) = self.closing.get(&id) else { continue };
            if grants.lease(&closing.counter.0, self.node, id).is_none() {
                self.closing.remove(&id);
            } else {
                self.unsent.insert(id);
            }
        }
        let log_time = grants.log_time();
        for cell in std::mem::take(&mut self.asked) {
            cell.answered_at.store(now, Relaxed);
            let status = grants.status(&cell.id.0, log_time);
            cell.set_free(status.map_or(cell.limit(), |status| status.free));
            let left = cell.left(now);
            let empty = status.filter(|status| status.free == 0 && !status.pending && left == 0);
            match empty.and_then(|status| status.back_at) {
                Some(back_at) => {
                    cell.empty_until.store(now.saturating_add(back_at.saturating_sub(log_time).max(1)), Relaxed);
                    self.cells.wake_all(&cell);
                }
                None => {
                    cell.empty_until.store(0, Relaxed);
                    if u64::from(cell.waiting()) > left {
                        self.wanted.insert(cell.id, cell);
                    }
                }
            }
        }
    }
}

/// What was spent since the last report.
fn report(cell: &Cell, lease: &Lease) -> Option<Return> {
    let spent = lease.news()?;
    Some(Return { counter: cell.id.0, lease: lease.id, spent: spent.into(), done: false })
}

/// Whether so much of a limit is free that a whole window of what is asked for doesn't use up a half of it, if all nodes are asked as
/// this one is. As long as the demand isn't measured, nobody knows.
fn is_ample(cell: &Cell, nodes: u64) -> bool {
    let rate = u64::from(cell.rate.load(Relaxed));
    let in_a_window = u128::from(rate) * u128::from(cell.window) / u128::from(SECOND);
    let limit = cell.limit();
    rate > 0 && cell.free() > limit / 2 && in_a_window.saturating_mul(u128::from(nodes)) < u128::from(limit / 4)
}

/// How often what is spent of a short lease is reported: the later, the longer its tokens are away.
fn report_every(window: u64) -> u64 {
    (validity_ns(window, Term::Short) / 8).max(5_000_000)
}

/// What to ask for a counter; `None` if it has enough, or there is nothing to get.
fn want(cell: &Cell, grants: &Grants, now: u64) -> Option<Want> {
    let (limit, revision) = (cell.limit(), cell.revision());
    let news = cell.tell(revision);
    let waiting = u64::from(cell.waiting());
    let rate = measure(cell, now);
    // Near the limit what is held for long would only be recalled.
    let free = grants.status(&cell.id.0, grants.log_time()).map_or(limit, |status| status.free);
    let Supply { term, tokens } = supply(rate, cell.window, limit, free, grants.asking());
    let target = waiting.saturating_add(tokens).min(limit.max(1));
    let renew_ns = validity_ns(cell.window, term) / 4;
    let left = cell.left(now.saturating_add(renew_ns));
    let low = if term == Term::Short { target / 2 } else { target / 4 };
    cell.set_low_water(low, renew_ns);
    if !news && (left >= target || cell.empty_for(now).is_some()) {
        return None;
    }
    let want = target.saturating_sub(left).max(1);
    Some(Want { counter: cell.id.0, limit, revision, window: cell.window, want, term })
}

/// What a node holds of a counter, beside what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Supply {
    term: Term,
    tokens: u64,
}

/// The longest term whose tokens are next to nothing of the limit; else few tokens for long, if few are needed at all, or what is
/// needed at once. `rate`: tokens a second that are wanted here. `free`: of the limit, as far as is known.
fn supply(rate: u64, window: u64, limit: u64, free: u64, nodes: u64) -> Supply {
    let needed = |term| {
        let tokens = u128::from(rate) * u128::from(validity_ns(window, term)) / u128::from(SECOND);
        u64::try_from(tokens).unwrap_or(u64::MAX)
    };
    let reserve = reserve(limit, nodes);
    if free >= limit / 2 {
        for term in [Term::Longest, Term::Long] {
            let tokens = needed(term).max(reserve);
            if tokens <= limit / (HELD_FOR_LONG * nodes) {
                return Supply { term, tokens };
            }
        }
    }
    match needed(Term::Short) {
        0..=2 => Supply { term: Term::Long, tokens: if free >= limit / 4 { reserve } else { 0 } },
        tokens => Supply { term: Term::Short, tokens },
    }
}

/// What each of so many nodes may hold of a counter that it rarely needs.
fn reserve(limit: u64, nodes: u64) -> u64 {
    let of_many = (limit / (1_000 * nodes)).min(RESERVE_OF_MANY_MAX);
    (limit / (8 * nodes)).clamp(1, RESERVE_MAX).max(of_many)
}

/// How many tokens a second are wanted of a counter, measured over at least the validity of a lease.
fn measure(cell: &Cell, now: u64) -> u64 {
    let demand = cell.demand();
    let news = demand.wrapping_sub(cell.counted.load(Relaxed));
    let span = now.saturating_sub(cell.counted_at.load(Relaxed));
    let span_min = validity_ns(cell.window, Term::Short).max(5_000_000);
    let rate = u128::from(news) * u128::from(SECOND) / u128::from(span.max(span_min));
    let rate = u32::try_from(rate).unwrap_or(u32::MAX);
    if span < span_min {
        return rate.max(cell.rate.load(Relaxed)).into();
    }
    cell.counted.store(demand, Relaxed);
    cell.counted_at.store(now, Relaxed);
    cell.rate.store(rate, Relaxed);
    rate.into()
}

#[cfg(test)]
mod tests;
