//! Raft itself in a simulation: nodes with their real log, snapshots, forwarding and membership, in one thread.
//!
//! Real are `consensus` and openraft. Simulated are time, the scheduler's idle moments, the network (`network.rs`), disks that lose
//! what wasn't flushed (`consensus/src/simulation/`), random numbers, and the callers (`clients.rs`). A seed decides all of it.

mod clients;
mod faults;
mod network;
mod node;
mod settle;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use octelium_consensus::simulation::Mistake;
use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant, sleep},
};

use crate::{
    digest::Digest,
    invariants::{
        equal_states::EqualStates,
        log_time::LogTime,
        one_effect::OneEffect,
        one_reign::OneReign,
        register::{self, Operation},
    },
    sim::Random,
};
use node::Node;

/// The simulated seconds of a run, if nothing else is said.
pub const SECONDS: u64 = 20;
/// How often it is looked at what the nodes show.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A digest of the state reads all of it: only each so many entries.
const DIGEST_EVERY: usize = 8;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Nodes that were ever there.
    pub nodes: usize,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Messages that were sent.
    pub messages: u64,
    /// The last entry of the log.
    pub entries: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Changes of disks that were lost when the power failed.
    pub lost: u64,
    /// A digest of all that happened, in its order.
    pub trace: u64,
    /// Promises that were broken, as sentences.
    pub broken: Vec<String>,
    /// The last of what happened, as lines.
    pub lines: Vec<String>,
}

/// All of a run that its tasks share.
struct World {
    random: Random,
    mistake: Option<Mistake>,
    began: Instant,
    directory: PathBuf,
    nodes: Vec<Node>,
    /// Ways on which nothing passes, from and to.
    cut: BTreeSet<(usize, usize)>,
    /// In microseconds, on average.
    delay: u64,
    /// Of a hundred messages.
    lost: u64,
    is_over: bool,
    operations: BTreeMap<u64, Vec<Operation>>,
    equal_states: EqualStates,
    log_time: LogTime,
    one_effect: OneEffect,
    one_reign: OneReign,
    trace: Digest,
    report: Report,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn new(seed: u64, mistake: Option<Mistake>, directory: PathBuf) -> Self {
        Self {
            random: Random::new(seed),
            mistake,
            began: Instant::now(),
            directory,
            nodes: Vec::new(),
            cut: BTreeSet::new(),
            delay: 500,
            lost: 0,
            is_over: false,
            operations: BTreeMap::new(),
            equal_states: EqualStates::with_every(usize::MAX, DIGEST_EVERY),
            log_time: LogTime::default(),
            one_effect: OneEffect::default(),
            one_reign: OneReign::default(),
            trace: Digest::default(),
            report: Report {
                nodes: 0,
                writes: 0,
                reads: 0,
                messages: 0,
                entries: 0,
                faults: 0,
                lost: 0,
                trace: 0,
                broken: Vec::new(),
                lines: Vec::new(),
            },
        }
    }

    /// Nanoseconds since the run began, and one.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1) + 1
    }

    fn any_node(&mut self) -> usize {
        let count = self.nodes.len() as u64;
        self.random.below(count) as usize
    }

    fn note(&mut self, what: &str) {
        let line = format!("{:.6} {what}", self.began.elapsed().as_secs_f64());
        self.trace.add(line.as_bytes());
        self.report.lines.push(line);
    }

    fn breaks(&mut self, sentence: String) {
        self.note(&sentence);
        self.report.broken.push(sentence);
    }

    /// Looks at what all nodes show.
    fn look(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            let Some(replica) = node.replica.clone().filter(|_| node.is_running()) else { continue };
            let (start, standing, state) = (node.starts, replica.standing(), replica.state());
            let is_new = std::mem::replace(&mut node.seen, state.index()) != state.index();
            if standing.is_leader {
                self.one_reign.leads(standing.term, replica.node_id(), start);
            }
            if is_new {
                self.report.entries = self.report.entries.max(state.index());
                self.log_time.seen(state.index(), state.grants().log_time());
                let index = usize::try_from(state.index()).unwrap_or_default();
                self.equal_states.applied(number, index, &state);
                self.note(&format!("n{number} is at {} in term {}", state.index(), standing.term));
            }
        }
    }

    fn report(&mut self) -> Report {
        for sentence in self.operations.values().filter_map(|operations| register::broken(operations)) {
            self.report.broken.push(sentence);
        }
        let judges =
            [&self.equal_states.broken, &self.log_time.broken, &self.one_effect.broken, &self.one_reign.broken];
        self.report.broken.extend(judges.into_iter().flat_map(|broken| broken.0.iter().cloned()));
        let panics: u64 = self.nodes.iter().map(|node| node.panics).sum();
        if panics > 0 {
            self.report.broken.push(format!("no panics: {panics} tasks panicked"));
        }
        self.report.nodes = self.nodes.len();
        self.report.trace = self.trace.value();
        let empty = Report { broken: Vec::new(), lines: Vec::new(), ..self.report };
        std::mem::replace(&mut self.report, empty)
    }
}

/// Runs a seed for so many simulated seconds, then heals everything and waits until all is well.
///
/// # Errors
/// If there is no room for the disks.
pub fn run(seed: u64, seconds: u64, mistake: Option<Mistake>) -> anyhow::Result<Report> {
    let memory = std::path::Path::new("/dev/shm");
    let directory = match memory.is_dir() {
        true => tempfile::tempdir_in(memory)?,
        false => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let world: Shared = Arc::new(Mutex::new(World::new(seed, mistake, directory.path().to_owned())));
        node::found(&world).await?;
        let callers = clients::begin(&world);
        let looking = begin_looking(&world);
        let ends = Instant::now() + Duration::from_secs(seconds);
        faults::until(&world, ends).await?;
        settle::settle(&world).await?;
        callers.into_iter().chain([looking]).for_each(|task| task.abort());
        let report = {
            let mut world = world.lock();
            world.look();
            world.nodes.iter_mut().for_each(Node::switch_off);
            world.report()
        };
        Ok(report)
    })
}

/// Starts a task of the simulation itself, outside of all machines. It ends with the run, if not before.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    #[allow(clippy::disallowed_methods, reason = "the runtime is dropped at the end of the run, and all tasks with it")]
    tokio::spawn(task)
}

fn begin_looking(world: &Shared) -> JoinHandle<()> {
    let world = Arc::clone(world);
    spawn(async move {
        loop {
            world.lock().look();
            sleep(LOOK_EVERY).await;
        }
    })
}
