//! The handle that others hold: propose, read, watch, close.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use openraft::{
    BasicNode, Config, Instant, ReadPolicy, ServerState, SnapshotPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError},
    impls::ProgressResponder,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::{
    command::{Ask, Command, Outcome},
    directory::Directory,
    error::Error,
    log_clock::{LogClock, boot_time_ns},
    log_store::{self, disk::Disk},
    network::Network,
    raft::{Proposal, Raft, TypeConfig},
    snapshot::Snapshots,
    state::State,
    state_machine::StateMachine,
};

/// So many proposals are under way at once; further ones wait.
const IN_FLIGHT_MAX: usize = 256;
/// So long a start waits for its first leader.
const LEADER_WITHIN: Duration = Duration::from_secs(30);
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
}

impl Options {
    /// The defaults: a snapshot each 5 000 entries, log files of 16 MiB.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), snapshot_after: 5_000, segment_bytes: 16 << 20 }
    }
}

/// This node's copy of the replicated state. Clones are handles to the same one.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    node_id: u64,
    state: watch::Sender<Arc<State>>,
    storage: Arc<log_store::Shared>,
    snapshots: Snapshots,
    clock: Arc<Mutex<LogClock>>,
    permits: Semaphore,
    closed: AtomicBool,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Arc<File>,
}

/// What is on the disk, opened.
struct Opened {
    directory: Directory,
    log: log_store::Opened,
    snapshots: Snapshots,
}

impl Replica {
    /// Locks the data directory, recovers what is in it and waits until this node leads and has applied all of it.
    ///
    /// # Errors
    /// If the directory is in use, holds damaged data, or can't be written.
    pub async fn open(options: Options) -> Result<Self, Error> {
        Self::open_on(options, Disk::default()).await
    }

    pub(crate) async fn open_on(options: Options, disk: Disk) -> Result<Self, Error> {
        let (path, segment_bytes, for_disk) = (options.directory.clone(), options.segment_bytes, disk.clone());
        let Opened { mut directory, log, snapshots } =
            tokio::task::spawn_blocking(move || Opened::at(&for_disk, &path, segment_bytes))
                .await
                .map_err(|error| Error::Failed { reason: error.to_string() })??;

        let (node_id, lock) = (directory.node_id(), directory.lock());
        let state = watch::Sender::new(Arc::new(State::default()));
        let clock = Arc::new(Mutex::new(LogClock::default()));
        let machine = StateMachine::new(snapshots.clone(), state.clone(), Arc::clone(&clock));
        let raft = match Raft::new(node_id, Arc::new(config(&options)), Network, log.store, machine).await {
            Ok(raft) => raft,
            Err(error) => {
                join(log.thread).await?;
                return Err(fatal(error));
            }
        };
        let replica = Self {
            inner: Arc::new(Inner {
                raft,
                node_id,
                state,
                storage: log.shared,
                snapshots,
                clock,
                permits: Semaphore::new(IN_FLIGHT_MAX),
                closed: AtomicBool::new(false),
                writer: Mutex::new(Some(log.thread)),
                lock,
            }),
        };
        let started = replica.start(&mut directory, disk).await;
        if let Err(error) = started {
            replica.close().await?;
            return Err(error);
        }
        Ok(replica)
    }

    async fn start(&self, directory: &mut Directory, disk: Disk) -> Result<(), Error> {
        let raft = &self.inner.raft;
        if !raft.is_initialized().await.map_err(fatal)? {
            let members = BTreeMap::from([(self.inner.node_id, BasicNode::new(""))]);
            raft.initialize(members).await.map_err(|error| match error {
                RaftError::Fatal(error) => fatal(error),
                RaftError::APIError(error) => Error::Failed { reason: error.to_string() },
            })?;
        }
        if !directory.initialized() {
            directory.set_initialized(&disk)?;
        }
        // Alone, nobody else can lead: there is nothing to wait for.
        if raft.voter_ids().all(|id| id == self.inner.node_id) {
            raft.trigger().elect(false).await.map_err(fatal)?;
        }
        tokio::time::timeout(LEADER_WITHIN, self.lead()).await.map_err(|_| Error::NoLeader(LEADER_WITHIN))?
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
            match self.confirm().await {
                Err(Error::NotLeader) => tokio::time::sleep(Duration::from_millis(2)).await,
                other => return other.map(drop),
            }
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

    /// Appends a command to the log: on return it is durable and applied, and [`Self::state`] shows it.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::NotLeader`] changed nothing. After the others the outcome is unknown.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let proposal = Proposal::new(command)?;
        let _permit = self.inner.permits.acquire().await.map_err(|_| Error::Closed)?;
        match self.inner.raft.client_write(proposal).await {
            Ok(response) => Ok(response.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(Error::NotLeader),
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(Error::Unknown),
            Err(error) => Err(self.stopped(error.to_string())),
        }
    }

    /// Stamps an ask for leases with log time and appends it, as [`Self::propose`] does with a command. `ask.at` is ignored.
    ///
    /// # Errors
    /// As [`Self::propose`]. [`Error::NotLeader`] also as long as this leader hasn't applied an entry of its own.
    pub async fn ask(&self, ask: Ask) -> Result<Outcome, Error> {
        let _permit = self.inner.permits.acquire().await.map_err(|_| Error::Closed)?;
        let raft = &self.inner.raft;
        let leader = raft.as_leader().map_err(|_| Error::NotLeader)?.to_committed_leader_id();
        let stamp = self.inner.clock.lock().stamp((leader.term, leader.node_id), boot_time_ns());
        let at = stamp.ok_or(Error::NotLeader)?;
        let proposal = Proposal::new(Command::of_ask(Ask { at, ..ask }))?;
        let (responder, answer) = ProgressResponder::complete_only();
        // In another reign than that of the stamp the log would take a time that may run ahead.
        let write = raft.write(proposal).with_leader(leader).responder(responder);
        write.await.map_err(|error| self.stopped(error.to_string()))?;
        match answer.await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Error::NotLeader),
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(Error::Unknown),
            Ok(Err(error)) => Err(self.stopped(error.to_string())),
            Err(_) => Err(self.stopped("the consensus task ended".to_owned())),
        }
    }

    /// Makes sure that no other node can have led meanwhile. Returns the index of [`Self::state`], which then includes
    /// all that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::NotLeader`], also when no quorum answers; or the replica stopped.
    pub async fn confirm(&self) -> Result<u64, Error> {
        match self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(self.state().index()),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
            )) => Err(Error::NotLeader),
            Err(error) => Err(self.stopped(error.to_string())),
        }
    }

    /// How long ago a quorum was known to stand behind the leader that this node hears; `None` if it hears none.
    ///
    /// A group of one is its own quorum. A follower hears nothing until nodes have a network.
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
        self.inner.raft.shutdown().await.map_err(|error| Error::Failed { reason: error.to_string() })?;
        self.inner.snapshots.settled().await;
        let writer = self.inner.writer.lock().take();
        if let Some(writer) = writer {
            join(writer).await?;
        }
        self.inner.lock.unlock().map_err(Error::io("unlock", "the data directory"))
    }

    /// Why an answer of the stopped consensus is what it is.
    fn stopped(&self, reason: String) -> Error {
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
    fn at(disk: &Disk, path: &Path, segment_bytes: u64) -> Result<Self, Error> {
        let directory = Directory::open(disk, path)?;
        let snapshots = Snapshots::open(disk.clone(), path, directory.lock())?;
        let log = log_store::open(disk.clone(), path, directory.lock(), segment_bytes)?;
        if let Err(error) = check(path, &directory, &snapshots, &log.shared) {
            // The thread holds the lock: it must be gone before another try.
            drop(log.store);
            log.thread.join().ok();
            return Err(error);
        }
        Ok(Self { directory, log, snapshots })
    }
}

/// Whether the parts of a data directory fit together.
fn check(path: &Path, directory: &Directory, snapshots: &Snapshots, log: &log_store::Shared) -> Result<(), Error> {
    let gone = |reason: &str| Err(Error::corrupt(path.join("log"), 0, reason));
    if log.last().is_none() && directory.initialized() {
        return gone("the log of this node is gone");
    }
    if log.last().is_none() && log.has_voted() {
        return gone("there is a vote, but no log");
    }
    if log.purged() > snapshots.newest().and_then(|(meta, _)| meta.last_log_id) {
        let reason = "it is missing or older than the log that was purged for it";
        return Err(Error::corrupt(path.join("snapshot"), 0, reason));
    }
    Ok(())
}

async fn join(writer: JoinHandle<()>) -> Result<(), Error> {
    tokio::task::spawn_blocking(|| writer.join())
        .await
        .map_err(|error| Error::Failed { reason: error.to_string() })?
        .map_err(|_| Error::Failed { reason: "the writer of the log panicked".to_owned() })
}

fn config(options: &Options) -> Config {
    let snapshot_after = options.snapshot_after.max(1);
    Config {
        cluster_name: "octelium".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 300,
        election_timeout_max: 600,
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
