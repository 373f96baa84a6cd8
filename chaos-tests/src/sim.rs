//! Strict rate limits in a simulation of discrete events.
//!
//! Real are: what the log makes of asks (`consensus`), its clock, and the holders of leases (`actors`). Simulated are time,
//! clocks, the network, the requests, and Raft: one order of entries, whose leader can lose what it appended.

mod clock;
mod event;
mod faults;
mod leader;
mod node;
mod random;
mod workload;

pub(crate) use workload::Limit;

use std::{collections::BinaryHeap, fmt::Debug};

use octelium_actors::rate_limiter::leases;
use octelium_consensus::{Ask, Reign, state::grants};

use crate::{
    digest::Digest,
    invariants::{Admitted, Invariants},
};
use event::{Event, Scheduled};
use node::Node;
pub(crate) use random::Random;

/// The events of a run, if nothing else is said.
pub const STEPS: u64 = 20_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Everything fails now and then.
    Faults,
    /// Nothing fails, and more is asked for than there is.
    Load,
    /// Nothing fails; one client asks one node after the other, each time when it has its answer.
    Hop,
}

/// A mistake that is put in on purpose, so that a test sees it caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Leaders stamp their wall clock's time.
    WallClock,
    /// A leader goes on with the clock of its first reign.
    FormerReign,
    /// One node applies asks at its own time.
    OwnTime,
    /// In what the log makes of asks.
    Log(grants::Planted),
    /// In the holder of leases.
    Holder(leases::Planted),
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What it was about.
    pub scenario: Scenario,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Simulated seconds.
    pub seconds: f64,
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Leaders, one after the other.
    pub leaders: u64,
    /// Faults that happened.
    pub faults: u64,
    /// A digest of all that happened, in its order.
    pub trace: u64,
    /// Promises that were broken, as sentences.
    pub broken: Vec<String>,
}

/// An entry of the log; without an ask it only says that a leader began.
#[derive(Debug, Clone)]
struct Entry {
    reign: Reign,
    ask: Option<Ask>,
}

struct World {
    random: Random,
    scenario: Scenario,
    mistake: Option<Mistake>,
    /// Real time, in nanoseconds.
    now: u64,
    events: BinaryHeap<Scheduled>,
    scheduled: u64,
    nodes: Vec<Node>,
    limits: Vec<Limit>,
    /// What is committed.
    log: Vec<Entry>,
    leader: Option<usize>,
    reign: u64,
    /// How long messages take, on average.
    delay: u64,
    invariants: Invariants,
    trace: Digest,
    admitted: u64,
    refused: u64,
    faults: u64,
}

/// Runs a seed for so many events.
pub fn run(seed: u64, steps: u64, mistake: Option<Mistake>) -> Report {
    let scenario = match seed % 10 {
        8 => Scenario::Load,
        9 => Scenario::Hop,
        _ => Scenario::Faults,
    };
    run_as(scenario, seed, steps, mistake)
}

/// Runs a seed as another scenario than its own.
pub fn run_as(scenario: Scenario, seed: u64, steps: u64, mistake: Option<Mistake>) -> Report {
    let mut world = World::new(scenario, seed, mistake);
    for _ in 0..steps {
        let Some(next) = world.events.pop() else { break };
        world.now = next.at;
        world.handle(next.event);
    }
    world.report()
}

impl World {
    fn new(scenario: Scenario, seed: u64, mistake: Option<Mistake>) -> Self {
        let mut random = Random::new(seed);
        let count = 3 + random.below(3) as usize;
        let nodes: Vec<Node> = (0..count).map(|id| Node::new(id, &mut random, mistake)).collect();
        let limits = workload::limits(scenario, &mut random);
        let invariants = Invariants::new(scenario, &limits, count);
        let delay = MS / 2 + random.below(3 * MS);
        let mut world = Self {
            random,
            scenario,
            mistake,
            now: SECOND,
            events: BinaryHeap::new(),
            scheduled: 0,
            nodes,
            limits,
            log: Vec::new(),
            leader: None,
            reign: 0,
            delay: if scenario == Scenario::Faults { delay } else { MS },
            invariants,
            trace: Digest::default(),
            admitted: 0,
            refused: 0,
            faults: 0,
        };
        world.elect();
        world.begin_requests();
        if scenario == Scenario::Faults {
            world.later(SECOND / 2, Event::Fault);
        }
        world
    }

    fn at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Scheduled { at, number: self.scheduled, event });
    }

    fn later(&mut self, after: u64, event: Event) {
        self.at(self.now + after, event);
    }

    /// How long a message takes.
    fn travel(&mut self) -> u64 {
        MS / 10 + self.random.exponential(self.delay)
    }

    /// Whether messages get from one node to the other.
    fn connected(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.nodes[one], &self.nodes[other]);
        one.up && other.up && one.group == other.group
    }

    fn note(&mut self, what: &impl Debug) {
        self.trace.add(format!("{} {what:?}", self.now).as_bytes());
    }

    fn handle(&mut self, event: Event) {
        if let Some(node) = event.node() {
            // A paused node finds later what came meanwhile.
            let resumes = self.nodes[node].paused_until;
            if resumes > self.now {
                return self.at(resumes, event);
            }
        }
        self.note(&event);
        match event {
            Event::Request { node, limit } => self.request(node, limit),
            Event::Hop { turn } => self.hop(turn),
            Event::WaitEnds { node, waiter } => self.wait_ends(node, waiter),
            Event::Tick { node, at } => self.tick(node, at),
            Event::AskArrives { node, ask, hops } => self.ask_arrives(node, ask, hops),
            Event::Answer { node, incarnation, sequence, applied } => {
                self.answer(node, incarnation, sequence, applied);
            }
            Event::AskTimesOut { node, incarnation, sequence } => self.answer(node, incarnation, sequence, false),
            Event::Commit { node, reign } => self.commit(node, reign),
            Event::Deliver { node } => self.deliver(node),
            Event::Heartbeat => self.heartbeat(),
            Event::Elect => self.election_due(),
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
            Event::Restart { node } => self.restart(node),
        }
    }

    fn admit(&mut self, node: usize, limit: usize) {
        self.admitted += 1;
        let admitted = Admitted { at: self.now, node, incarnation: self.nodes[node].incarnation, limit };
        self.note(&admitted);
        self.invariants.admitted(admitted);
    }

    fn refuse(&mut self, node: usize, limit: usize, retry_after: Option<u64>) {
        self.refused += 1;
        self.note(&(node, limit, retry_after));
        self.invariants.refused(self.now, limit);
    }

    fn report(self) -> Report {
        Report {
            scenario: self.scenario,
            nodes: self.nodes.len(),
            seconds: (self.now - SECOND) as f64 / SECOND as f64,
            admitted: self.admitted,
            refused: self.refused,
            entries: self.log.len() as u64,
            leaders: self.reign,
            faults: self.faults,
            trace: self.trace.value(),
            broken: self.invariants.broken(),
        }
    }
}
