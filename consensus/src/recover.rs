//! What is left when a majority is lost for good: one data directory becomes a group of its own.

use std::path::Path;

use openraft::{BasicNode, EntryPayload, RaftLogReader, storage::RaftLogStorage};

use crate::{
    directory::Directory,
    error::Error,
    log_store::{self, disk::Disk},
    raft::{Membership, SnapshotMeta, StoredMembership},
    replica::Options,
    snapshot::Snapshots,
    state::apply,
};

/// What was found and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The node whose directory it is.
    pub node: u64,
    /// The last log entry, now the last one of the new group.
    pub index: u64,
    /// So many nodes belonged to the old group.
    pub members: usize,
    /// So many of the last entries aren't known to have been decided by the old group. They are kept: what was acknowledged
    /// may be among them.
    pub undecided: u64,
}

/// Makes the node of a data directory the only member of its group, with all that is in its log. Keys of the state whose names
/// `forget` holds for are removed: those by which nodes of the old group know each other.
///
/// # Errors
/// If the directory is in use, empty, damaged, or can't be written. Nothing is changed then.
pub async fn recover(options: &Options, forget: impl Fn(&str) -> bool) -> Result<Recovered, Error> {
    let (path, disk) = (&options.directory, Disk::default());
    if !path.join("node").exists() {
        return Err(nothing(path));
    }
    let directory = Directory::open(&disk, path)?;
    let snapshots = Snapshots::open(disk.clone(), path, directory.lock())?;
    let mut log = log_store::open(disk, path, directory.lock(), options.segment_bytes)?;
    let recovered = rewrite(&directory, &snapshots, &mut log.store, forget).await;
    drop(log.store);
    log.thread.join().map_err(|_| Error::Failed { reason: "the writer of the log panicked".to_owned() })?;
    recovered?.ok_or_else(|| nothing(path))
}

async fn rewrite(
    directory: &Directory,
    snapshots: &Snapshots,
    log: &mut log_store::LogStore,
    forget: impl Fn(&str) -> bool,
) -> Result<Option<Recovered>, Error> {
    let failed = |error: std::io::Error| Error::Failed { reason: error.to_string() };
    let (mut meta, mut state) = snapshots.load()?.unwrap_or_default();
    let mut membership: Membership = meta.last_membership.membership().clone();
    let from = meta.last_log_id.map_or(0, |last| last.index + 1);
    let committed = log.read_committed().await.map_err(failed)?.map_or(0, |log_id| log_id.index);
    for entry in log.get_log_reader().await.try_get_log_entries(from..).await.map_err(failed)? {
        let index = entry.log_id.index;
        meta.last_log_id = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(proposal) => drop(apply(&mut state, index, &proposal.command)),
            EntryPayload::Membership(newer) => {
                membership = newer;
                state.advance(index);
            }
            EntryPayload::Blank => state.advance(index),
        }
    }
    let Some(last) = meta.last_log_id else { return Ok(None) };
    state.forget_keys(forget);
    let node = directory.node_id();
    let address = membership.nodes().find(|(id, _)| **id == node).map_or(String::new(), |(_, of)| of.addr.clone());
    let alone = Membership::new(
        vec![[node].into()],
        [(node, BasicNode::new(address))].into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    );
    let alone = alone.map_err(|error| Error::Failed { reason: error.to_string() })?;
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::new(Some(last), alone) };
    snapshots.save_over(meta, state).await.map_err(failed)?;
    Ok(Some(Recovered {
        node,
        index: last.index,
        members: membership.nodes().count(),
        undecided: last.index.saturating_sub(committed.max(from.saturating_sub(1))),
    }))
}

fn nothing(path: &Path) -> Error {
    Error::Failed { reason: format!("`{}` holds no log to recover from", path.display()) }
}
