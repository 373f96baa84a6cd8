//! The handle that others hold: open, read, watch, close. Proposing is in `forward.rs`, the members are in `group.rs`.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use openraft::{
    BasicNode, Config, Instant, ServerState, SnapshotPolicy,
    async_runtime::WatchReceiver,
    errors::{Fatal, RaftError},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::{
    directory::Directory,
    error::Error,
    figures::Figures,
    log_clock::LogClock,
    log_store::{self, disk::Disk},
    machine,
    raft::{Raft, SnapshotMeta, TypeConfig},
    snapshot::Snapshots,
    state::State,
    state_machine::StateMachine,
    transport::{Link, Network},
};

/// So many proposals are under way at once; further ones wait.
const IN_FLIGHT_MAX: usize = 256;
/// So long the start of a node that is alone may take to lead itself.
const LEADER_WITHIN: Duration = Duration::from_secs(30);
/// A start that waits for others says so this often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// So many log entries stay behind a snapshot, for nodes that are a little late.
const KEEP_ENTRIES: u64 = 1_000;

/// How a replica keeps its data.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; made if absent.
    pub directory: PathBuf,
    /// Log entries between two snapshots.
    pub snapshot_after: u64,
    /// The size at which a new log file begins, in bytes.
    pub segment_bytes: u64,
    /// The way to other nodes; without it this node stays alone.
    pub peers: Option<Peers>,
    /// What a new data directory begins with.
    pub start: Start,
}

/// The way to other nodes, and the way back.
#[derive(Clone)]
pub struct Peers {
    /// Carries requests.
    pub link: Arc<dyn Link>,
    /// Where others reach this node.
    pub address: String,
    /// So many nodes vote at most.
    pub seats: usize,
    /// After so long a silence a voter's seat is given to another node.
    pub voter_grace: Duration,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What a new data directory begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A group of its own.
    Found,
    /// Nothing: the node waits until a group takes it in.
    Join,
}

impl Options {
    /// The defaults: a snapshot each 5 000 entries (of a large state less often), log files of 16 MiB.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self { directory, snapshot_after: 5_000, segment_bytes: 16 << 20, peers: None, start: Start::Found }
    }
}

/// This node's copy of the replicated state. Clones are handles to the same one.
#[derive(Clone)]
pub struct Replica {
    pub(crate) inner: Arc<Inner>,
}

/// Answers a question.
pub(crate) type Inspected = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

pub(crate) struct Inner {
    pub raft: Raft,
    pub node_id: u64,
    pub peers: Option<Peers>,
    pub permits: Semaphore,
    /// Stamps asks for leases while this node leads.
    pub clock: Arc<Mutex<LogClock>>,
    /// The members change one step after the other.
    pub changing: tokio::sync::Mutex<()>,
    /// One snapshot is received at a time.
    pub receiving: tokio::sync::Mutex<()>,
    /// The log index by which requests are decided; see [`Replica::decides_by`].
    pub decided: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
    /// What other nodes may ask of this one; see [`Replica::inspected_by`].
    pub inspected: OnceLock<Inspected>,
    pub started: tokio::time::Instant,
    pub figures: Figures,
    start: Start,
    state: watch::Sender<Arc<State>>,
    storage: Arc<log_store::Shared>,
    snapshots: Snapshots,
    closed: AtomicBool,
    keeper: Mutex<Option<tokio::task::JoinHandle<()>>>,
    directory: Mutex<Directory>,
    disk: Disk,
    writer: Mutex<Option<log_store::Running>>,
    lock: Arc<File>,
}

/// What is on the disk, opened.
struct Opened {
    directory: Directory,
    log: log_store::Opened,
    snapshots: Snapshots,
    loaded: (SnapshotMeta, State),
}

impl Replica {
    /// [`Self::create`] and [`Self::ready`] in one.
    ///
    /// # Errors
    /// As theirs.
    pub async fn open(options: Options) -> Result<Self, Error> {
        Self::open_on(options, Disk::default()).await
    }

    pub(crate) async fn open_on(options: Options, disk: Disk) -> Result<Self, Error> {
        let replica = Self::create_on(options, disk).await?;
        if let Err(error) = replica.ready().await {
            replica.close().await?;
            return Err(error);
        }
        Ok(replica)
    }

    /// Locks the data directory and recovers what is in it. From now on it can answer other nodes.
    ///
    /// # Errors
    /// If the directory is in use, holds damaged data, or can't be written.
    pub async fn create(options: Options) -> Result<Self, Error> {
        Self::create_on(options, Disk::default()).await
    }

    async fn create_on(options: Options, disk: Disk) -> Result<Self, Error> {
        let (path, segment_bytes, for_disk) = (options.directory.clone(), options.segment_bytes, disk.clone());
        let is_joining = options.start == Start::Join;
        let Opened { directory, log, snapshots, loaded } =
            machine::blocking(move || Opened::at(&for_disk, &path, segment_bytes, is_joining))
                .await
                .map_err(|error| Error::Failed { reason: error.to_string() })??;

        let (node_id, lock) = (directory.node_id(), directory.lock());
        let state = watch::Sender::new(Arc::new(State::default()));
        let clock = Arc::new(Mutex::new(LogClock::default()));
        let figures = Figures::default();
        let machine = StateMachine::new(
            snapshots.clone(),
            loaded,
            log.shared.clone(),
            state.clone(),
            Arc::clone(&clock),
            figures.clone(),
        );
        let known = Arc::new(OnceLock::new());
        let link = options.peers.as_ref().map(|peers| peers.link.clone());
        let network = Network { link, raft: known.clone() };
        let raft = match Raft::new(node_id, Arc::new(config(&options)), network, log.store, machine).await {
            Ok(raft) => raft,
            Err(error) => {
                log.thread.ended().await?;
                return Err(fatal(error));
            }
        };
        known.set(raft.clone()).ok(); // nobody else sets it
        Ok(Self {
            inner: Arc::new(Inner {
                raft,
                node_id,
                peers: options.peers,
                permits: Semaphore::new(IN_FLIGHT_MAX),
                clock,
                changing: tokio::sync::Mutex::new(()),
                receiving: tokio::sync::Mutex::new(()),
                decided: OnceLock::new(),
                inspected: OnceLock::new(),
                started: tokio::time::Instant::now(),
                figures,
                start: options.start,
                state,
                storage: log.shared,
                snapshots,
                closed: AtomicBool::new(false),
                keeper: Mutex::new(None),
                directory: Mutex::new(directory),
                disk,
                writer: Mutex::new(Some(log.thread)),
                lock,
            }),
        })
    }

    /// Waits until [`Self::state`] includes all that was acknowledged before the call. A node that is alone leads itself; one
    /// of a group waits for a quorum, as long as it takes, and says so.
    ///
    /// # Errors
    /// If the replica stops, or a node that is alone doesn't get to lead.
    pub async fn ready(&self) -> Result<(), Error> {
        let raft = &self.inner.raft;
        if self.inner.start == Start::Found && !raft.is_initialized().await.map_err(fatal)? {
            let address = self.inner.peers.as_ref().map_or("", |peers| &peers.address);
            let members = BTreeMap::from([(self.inner.node_id, BasicNode::new(address))]);
            raft.initialize(members).await.map_err(|error| match error {
                RaftError::Fatal(error) => fatal(error),
                RaftError::APIError(error) => Error::Failed { reason: error.to_string() },
            })?;
            self.note_first_entry()?;
        }
        if self.is_alone().await? {
            // Nobody else can lead: there is nothing to wait for.
            raft.trigger().elect(false).await.map_err(fatal)?;
            tokio::time::timeout(LEADER_WITHIN, self.lead()).await.map_err(|_| Error::NoLeader(LEADER_WITHIN))??;
        } else if self.inner.peers.is_none() {
            let reason = "this node belongs to a cluster of several: set clusterListen, where they connect".to_owned();
            return Err(Error::Members { reason });
        } else {
            self.catch_up().await?;
        }
        self.note_first_entry()?;
        if self.inner.peers.is_some() {
            let keeper = crate::group::keep(Arc::downgrade(&self.inner));
            // Ended by `close`, or when the last handle is gone.
            let keeper = machine::spawn(keeper);
            *self.inner.keeper.lock() = Some(keeper);
        }
        Ok(())
    }

    fn note_first_entry(&self) -> Result<(), Error> {
        let mut directory = self.inner.directory.lock();
        if directory.initialized() { Ok(()) } else { directory.set_initialized(&self.inner.disk) }
    }

    /// Whether this node is the only voter. Raft's own state is asked: what it publishes may be late.
    async fn is_alone(&self) -> Result<bool, Error> {
        let voters =
            self.inner.raft.with_raft_state(|state| state.membership_state.effective().voter_ids().collect::<Vec<_>>());
        let voters = voters.await.map_err(fatal)?;
        Ok(voters == [self.inner.node_id])
    }

    /// Waits until this node leads and has applied all that was committed before.
    async fn lead(&self) -> Result<(), Error> {
        loop {
            self.inner
                .raft
                .wait(None)
                .metrics(|metrics| metrics.state == ServerState::Leader, "this node leads")
                .await
                .map_err(|error| self.stopped(error.to_string()))?;
            // A new leader isn't confirmed at once, and may have lost again.
            match self.confirm_here().await {
                Err(Error::NotLeader) => tokio::time::sleep(Duration::from_millis(2)).await,
                other => return other.map(drop),
            }
        }
    }

    async fn catch_up(&self) -> Result<(), Error> {
        let mut said = tokio::time::Instant::now();
        loop {
            match self.confirm_now().await {
                Ok(_) => return Ok(()),
                Err(Error::NotLeader | Error::Behind { .. } | Error::Unknown) => {}
                Err(error) => return Err(error),
            }
            self.announce_address().await;
            if said.elapsed() >= SAY_EVERY {
                said = tokio::time::Instant::now();
                let voters = self.inner.raft.voter_ids().count();
                tracing::warn!(
                    voters,
                    "this node waits for a quorum of its cluster: start the other nodes, or see `octelium-node recover --help`"
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest applied state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.inner.state.borrow())
    }

    /// The newest applied state, and each newer one. A slow reader sees the newest, not all.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.inner.state.subscribe()
    }

    /// How long ago a quorum was known to stand behind the leader that this node hears; `None` if it hears none.
    ///
    /// A group of one is its own quorum. Only a leader knows; others ask it with [`Self::confirm`].
    pub fn leader_contact(&self) -> Option<Duration> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.running_state.is_err() || metrics.state != ServerState::Leader {
            return None;
        }
        let mut voters = metrics.membership_config.voter_ids();
        match (voters.next(), voters.next()) {
            (Some(_), None) => Some(Duration::ZERO),
            _ => metrics.last_quorum_acked.map(|acked| acked.elapsed()),
        }
    }

    /// Waits until the replica can't work any more, and tells why. Never returns after [`Self::close`].
    pub async fn failed(&self) -> String {
        let mut storage = self.inner.storage.failed.subscribe();
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Some(reason) = storage.borrow_and_update().clone() {
                return reason;
            }
            let stopped = match &metrics.borrow_watched().running_state {
                Ok(()) => None,
                Err(error) => Some(error.to_string()),
            };
            if let Some(reason) = stopped
                && !self.inner.closed.load(Ordering::Acquire)
            {
                return reason;
            }
            tokio::select! {
                // The sender lives as long as this handle.
                _ = storage.changed() => {}
                changed = metrics.changed() => if changed.is_err() {
                    if self.inner.closed.load(Ordering::Acquire) {
                        return std::future::pending().await;
                    }
                    return "the consensus task ended".to_owned();
                }
            }
        }
    }

    /// The id of this node, which is as old as its data directory.
    pub fn node_id(&self) -> u64 {
        self.inner.node_id
    }

    /// Stops, waits until all is written, and gives the data directory free. Other handles get [`Error::Closed`].
    ///
    /// # Errors
    /// If a part of the replica panicked.
    pub async fn close(self) -> Result<(), Error> {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.permits.close();
        if let Some(keeper) = self.inner.keeper.lock().take() {
            keeper.abort();
        }
        self.inner.raft.shutdown().await.map_err(|error| Error::Failed { reason: error.to_string() })?;
        self.inner.snapshots.settled().await;
        let writer = self.inner.writer.lock().take();
        if let Some(writer) = writer {
            writer.ended().await?;
        }
        self.inner.lock.unlock().map_err(Error::io("unlock", "the data directory"))
    }

    /// Why an answer of the stopped consensus is what it is.
    pub(crate) fn stopped(&self, reason: String) -> Error {
        if let Some(reason) = self.inner.storage.failed.borrow().clone() {
            return Error::Failed { reason };
        }
        if self.inner.closed.load(Ordering::Acquire) { Error::Closed } else { Error::Failed { reason } }
    }
}

// The consensus tasks hold each other alive: without this a replica that is dropped unclosed would work on.
impl Drop for Inner {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let raft = self.raft.clone();
            runtime.spawn(async move { raft.shutdown().await });
        }
    }
}

impl Opened {
    fn at(disk: &Disk, path: &Path, segment_bytes: u64, is_joining: bool) -> Result<Self, Error> {
        let directory = Directory::open(disk, path)?;
        let snapshots = Snapshots::open(disk.clone(), path, directory.lock())?;
        let loaded = snapshots.load()?.unwrap_or_default();
        let log = log_store::open(disk.clone(), path, directory.lock(), segment_bytes)?;
        if let Err(error) = check(path, &directory, &snapshots, &log.shared, is_joining) {
            // The thread holds the lock: it must be gone before another try.
            drop(log.store);
            log.thread.join().ok();
            return Err(error);
        }
        Ok(Self { directory, log, snapshots, loaded })
    }
}

/// Whether the parts of a data directory fit together.
fn check(
    path: &Path,
    directory: &Directory,
    snapshots: &Snapshots,
    log: &log_store::Shared,
    is_joining: bool,
) -> Result<(), Error> {
    let gone = |reason: &str| Err(Error::corrupt(path.join("log"), 0, reason));
    if log.last().is_none() && directory.initialized() {
        return gone("the log of this node is gone");
    }
    // A leader is known before its first entry comes; who has none yet has acknowledged nothing.
    if log.last().is_none() && log.has_voted() && !is_joining {
        return gone("there is a vote, but no log");
    }
    if log.purged() > snapshots.newest().and_then(|meta| meta.last_log_id) {
        let reason = "it is missing or older than the log that was purged for it";
        return Err(Error::corrupt(path.join("snapshot"), 0, reason));
    }
    Ok(())
}

fn config(options: &Options) -> Config {
    let snapshot_after = options.snapshot_after.max(1);
    Config {
        cluster_name: "octelium".to_owned(),
        heartbeat_interval: 100,
        // A node that gets little time for a moment is no reason to look for another leader.
        election_timeout_min: 750,
        election_timeout_max: 1_250,
        install_snapshot_timeout: 10_000,
        enable_pre_vote: Some(true),
        // A restarted node wins a new term, which commits all that is in its log.
        enable_leader_restore: Some(false),
        max_payload_entries: 256,
        max_append_entries: Some(1_024),
        api_channel_size: Some(1_024),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_after),
        max_in_snapshot_log_to_keep: KEEP_ENTRIES.min(snapshot_after),
        replication_lag_threshold: snapshot_after.saturating_mul(2),
        ..Config::default()
    }
}

fn fatal(error: Fatal<TypeConfig>) -> Error {
    Error::Failed { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
