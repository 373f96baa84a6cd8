//! One node: its clocks, its copy of the state, its leases, and what the actor between them does.

use std::{collections::VecDeque, sync::Arc};

use octelium_actors::rate_limiter::{
    cell::Cell,
    cells::{Bounds, Cells},
    leases::Leases,
};
use octelium_consensus::{Ask, LogClock, Reign, State};

use super::{Entry, MS, Mistake, SECOND, World, clock::Clock, event::Event, random::Random};

/// As in the actor: asks are gathered for so long, a failed one is followed by the next after a while, and none is waited for
/// longer than this.
const TICK: u64 = 5 * MS;
const AGAIN_AFTER: u64 = 50 * MS;
const ANSWER_WITHIN: u64 = 2 * SECOND;

pub struct Node {
    pub id: usize,
    pub up: bool,
    pub paused_until: u64,
    /// Nodes of different groups don't reach each other.
    pub group: u8,
    pub clock: Clock,
    pub incarnation: u64,
    pub state: State,
    /// So many entries of the log are applied.
    pub applied: usize,
    pub log_clock: LogClock,
    /// What the planted mistake of that name uses.
    pub first_clock: Option<(u64, u64)>,
    pub cells: Arc<Cells>,
    pub leases: Leases,
    /// Whom it takes for the leader.
    pub follows: Option<usize>,
    /// The reign in which it takes itself for the leader.
    pub leads: Option<Reign>,
    /// What it appended as such, and whether another node may have it.
    pub pending: VecDeque<(Entry, bool)>,
    pub commit_due: bool,
    pub waiters: VecDeque<Waiter>,
    pub alarm: Option<u64>,
    not_before: u64,
}

/// A request that waits.
pub struct Waiter {
    pub number: u64,
    pub limit: usize,
    pub cell: Arc<Cell>,
    /// The node's clock when it began.
    pub since: u64,
    /// The turn of the hopping client.
    pub turn: Option<u64>,
}

impl Node {
    pub fn new(id: usize, random: &mut Random, mistake: Option<Mistake>) -> Self {
        let mut state = State::default();
        if let Some(Mistake::Log(planted)) = mistake {
            state.plant(planted);
        }
        let incarnation = random.next();
        let (cells, leases) = holder(id, incarnation, mistake);
        Self {
            id,
            up: true,
            paused_until: 0,
            group: 0,
            clock: Clock::new(random),
            incarnation,
            state,
            applied: 0,
            log_clock: LogClock::default(),
            first_clock: None,
            cells,
            leases,
            follows: None,
            leads: None,
            pending: VecDeque::new(),
            commit_due: false,
            waiters: VecDeque::new(),
            alarm: None,
            not_before: 0,
        }
    }

    /// Forgets all that isn't on the disk.
    pub fn start_anew(&mut self, random: &mut Random, mistake: Option<Mistake>) {
        self.incarnation = random.next();
        (self.cells, self.leases) = holder(self.id, self.incarnation, mistake);
        self.up = true;
        self.log_clock = LogClock::default();
        (self.follows, self.leads) = (None, None);
        self.pending.clear();
        self.commit_due = false;
        self.waiters.clear();
        self.alarm = None;
        self.not_before = 0;
    }
}

fn holder(id: usize, incarnation: u64, mistake: Option<Mistake>) -> (Arc<Cells>, Leases) {
    let cells = Arc::new(Cells::new(Bounds::default()));
    let mut leases = Leases::new(Arc::clone(&cells), id as u64, incarnation);
    if let Some(Mistake::Holder(planted)) = mistake {
        leases.plant(planted);
    }
    (cells, leases)
}

impl World {
    /// Sets a node's alarm for when there is something to do.
    pub(super) fn arm(&mut self, id: usize) {
        let now = self.now;
        let node = &mut self.nodes[id];
        if node.leases.in_flight().is_some() {
            return;
        }
        let due = if node.leases.is_busy() || node.cells.wants() {
            Some(node.not_before)
        } else {
            node.leases.next_deadline().map(|at| node.clock.when(at, now).max(node.not_before))
        };
        let Some(due) = due.map(|due| due.max(now)) else { return };
        if node.alarm.is_none_or(|alarm| due < alarm || alarm < now) {
            node.alarm = Some(due);
            self.at(due, Event::Tick { node: id, at: due });
        }
    }

    pub(super) fn tick(&mut self, id: usize, at: u64) {
        let now = self.now;
        let node = &mut self.nodes[id];
        if !node.up || node.alarm != Some(at) {
            return;
        }
        node.alarm = None;
        let clock = node.clock.monotonic(now);
        let asked = node.leases.ask(node.state.grants(), clock);
        if let Some(ask) = asked {
            node.not_before = now + TICK;
            let timeout =
                Event::AskTimesOut { node: id, incarnation: ask.incarnation, sequence: ask.sequence };
            self.later(ANSWER_WITHIN, timeout);
            self.send_ask(id, ask);
        }
        self.arm(id);
    }

    fn send_ask(&mut self, from: usize, ask: Ask) {
        let Some(to) = self.nodes[from].follows else {
            let (incarnation, sequence) = (ask.incarnation, ask.sequence);
            return self.later(MS, Event::Answer { node: from, incarnation, sequence, applied: false });
        };
        if from == to {
            return self.later(1, Event::AskArrives { node: to, ask, hops: 0 });
        }
        if !self.connected(from, to) {
            return;
        }
        let faulty = self.scenario == super::Scenario::Faults;
        let copies = if faulty && self.random.chance(3) { 2 } else { 1 };
        for _ in 0..copies {
            if faulty && self.random.chance(2) {
                continue; // lost
            }
            let mut after = self.travel();
            if faulty && self.random.chance(2) {
                after += self.random.below(3 * SECOND); // some packets take their time
            }
            self.later(after, Event::AskArrives { node: to, ask: ask.clone(), hops: 0 });
        }
    }

    pub(super) fn answer(&mut self, id: usize, incarnation: u64, sequence: u64, applied: bool) {
        let now = self.now;
        let node = &mut self.nodes[id];
        if !node.up || node.incarnation != incarnation {
            return;
        }
        if !applied && node.leases.in_flight() == Some(sequence) {
            node.leases.failed(sequence);
            node.not_before = now + AGAIN_AFTER;
        }
        self.absorb(id);
    }

    /// Lets a node see its newest state.
    pub(super) fn absorb(&mut self, id: usize) {
        let now = self.now;
        let node = &mut self.nodes[id];
        node.leases.absorb(node.state.grants(), node.clock.monotonic(now));
        self.serve_waiters(id);
        self.arm(id);
    }
}
