//! The state machine as openraft drives it: applies committed entries, publishes each state, builds snapshots.

use std::{io, sync::Arc};

use futures_util::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftStateMachine},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    command::Outcome,
    figures::Figures,
    log_clock::LogClock,
    log_store,
    machine::{self, boot_time_ns},
    raft::{LogId, SnapshotMeta, StoredMembership, TypeConfig},
    snapshot::Snapshots,
    state::{State, apply},
};

/// After so many entries the state is published and the proposers get their answers.
const PUBLISH_AFTER: usize = 256;

/// A larger snapshot is made only when the log since the last one has become as large: then no more is written for snapshots than
/// for the log, and at a start no more is read than twice the state.
const SNAPSHOT_BYTES_SMALL: u64 = if cfg!(test) { 100 << 10 } else { 4 << 20 };

/// Where each entry of the log is is held in memory: there are no more of them than about this.
const LOG_ENTRIES_MAX: u64 = 50_000;

/// The state with what openraft must know of it.
pub struct StateMachine {
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    published: watch::Sender<Arc<State>>,
    snapshots: Snapshots,
    log: Arc<log_store::Shared>,
    /// Set by the first entry of each reign.
    clock: Arc<Mutex<LogClock>>,
    figures: Figures,
}

impl StateMachine {
    /// Begins with what was loaded of the newest snapshot; openraft replays the log from there.
    pub fn new(
        snapshots: Snapshots,
        (meta, state): (SnapshotMeta, State),
        log: Arc<log_store::Shared>,
        published: watch::Sender<Arc<State>>,
        clock: Arc<Mutex<LogClock>>,
        figures: Figures,
    ) -> Self {
        let (last_applied, membership) = (meta.last_log_id, meta.last_membership);
        let this = Self { state, last_applied, membership, published, snapshots, log, clock, figures };
        this.publish();
        this
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.state.clone()));
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    /// A state costs nothing to copy, so a snapshot is one.
    type SnapshotData = State;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut unpublished = 0;
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            let outcome = match entry.payload {
                EntryPayload::Normal(proposal) => apply(&mut self.state, index, &proposal.command),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    self.state.advance(index);
                    Outcome::Applied { index }
                }
                EntryPayload::Blank => {
                    self.state.advance(index);
                    Outcome::Applied { index }
                }
            };
            let reign = (entry.log_id.leader_id.term, entry.log_id.leader_id.node_id);
            self.clock.lock().applied(reign, boot_time_ns(), self.state.grants().log_time());
            if self.last_applied.is_some_and(|last| last.leader_id != entry.log_id.leader_id) {
                self.figures.leader_changed();
            }
            self.last_applied = Some(entry.log_id);
            answers.extend(responder.map(|responder| (responder, outcome)));
            unpublished += 1;
            if unpublished == PUBLISH_AFTER {
                self.publish();
                unpublished = 0;
                answers.drain(..).for_each(|(responder, outcome)| responder.send(outcome));
            }
        }
        // Who gets an answer finds its write in the published state.
        self.publish();
        answers.into_iter().for_each(|(responder, outcome)| responder.send(outcome));
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let bytes = self.snapshots.bytes();
        let is_worth_it = || {
            let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index);
            let after = index(self.snapshots.newest().and_then(|newest| newest.last_log_id));
            let entries = index(self.last_applied).saturating_sub(after);
            entries >= LOG_ENTRIES_MAX || self.log.bytes_after(after) >= bytes
        };
        match force || bytes <= SNAPSHOT_BYTES_SMALL || is_worth_it() {
            true => Some(self.get_snapshot_builder().await),
            false => None,
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() };
        Builder { meta, state: self.state.clone(), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: State) -> io::Result<()> {
        self.snapshots.save(meta.clone(), snapshot.clone()).await?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.state = snapshot;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, State>>> {
        let snapshots = self.snapshots.clone();
        let loaded = machine::blocking(move || snapshots.load()).await?;
        Ok(loaded.map_err(io::Error::other)?.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes the state of the moment in which it was made, while newer entries are applied.
pub struct Builder {
    meta: SnapshotMeta,
    state: State,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = State;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, State>> {
        self.snapshots.save(self.meta.clone(), self.state.clone()).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: self.state.clone() })
    }
}
