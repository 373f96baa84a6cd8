//! The small files beside the log: the vote, how far the log is purged, how far it is committed.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use openraft::vote::RaftLeaderId;
use prost::Message;

use crate::{
    durable::{self, u32_at, u64_at},
    error::Error,
    form,
    log_store::disk::Disk,
    raft::{LeaderId, LogId, Vote},
};

const VOTE_MAGIC: &[u8; 8] = b"octlvote";
const PURGED_MAGIC: &[u8; 8] = b"octlpurg";
const COMMITTED_MAGIC: &[u8; 8] = b"octlcom1";
/// Each slot in a sector of its own, so that a torn write can't reach the other.
const SLOT_BYTES: usize = 512;
/// Magic, sequence number, term, node, index, checksum.
const SLOT_USED_BYTES: usize = 44;

impl From<LogId> for form::LogId {
    fn from(log_id: LogId) -> Self {
        Self { term: log_id.leader_id.term, node: log_id.leader_id.node_id, index: log_id.index }
    }
}

impl From<form::LogId> for LogId {
    fn from(stored: form::LogId) -> Self {
        Self::new(LeaderId::new(stored.term, stored.node), stored.index)
    }
}

/// Saves the vote; it is durable on return.
pub fn save_vote(disk: &Disk, directory: &Path, vote: &Vote) -> io::Result<()> {
    let stored = form::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed };
    durable::replace_checked(disk, &directory.join("vote"), VOTE_MAGIC, &stored.encode_to_vec())
}

/// The saved vote.
pub fn read_vote(directory: &Path) -> Result<Option<Vote>, Error> {
    let path = directory.join("vote");
    let Some(payload) = durable::read_checked(&path, VOTE_MAGIC)? else { return Ok(None) };
    let stored = form::Vote::decode(payload.as_slice()).map_err(|error| Error::corrupt(&path, 0, error.to_string()))?;
    Ok(Some(Vote { leader_id: LeaderId::new(stored.term, stored.node), committed: stored.committed }))
}

/// Saves how far the log is purged; it is durable on return.
pub fn save_purged(disk: &Disk, directory: &Path, upto: LogId) -> io::Result<()> {
    let payload = form::LogId::from(upto).encode_to_vec();
    durable::replace_checked(disk, &directory.join("purged"), PURGED_MAGIC, &payload)
}

/// How far the log is purged.
pub fn read_purged(directory: &Path) -> Result<Option<LogId>, Error> {
    let path = directory.join("purged");
    let Some(payload) = durable::read_checked(&path, PURGED_MAGIC)? else { return Ok(None) };
    let stored =
        form::LogId::decode(payload.as_slice()).map_err(|error| Error::corrupt(&path, 0, error.to_string()))?;
    Ok(Some(stored.into()))
}

/// How far the log is committed: a lower bound that is never ahead of the durable log, since it is written after it.
///
/// Two slots are written in turn and without waiting for the disk: a crash of the process loses nothing, a loss of power
/// at most the last ones, which recovery commits again.
pub struct Committed {
    path: PathBuf,
    file: File,
    sequence: u64,
    last: Option<LogId>,
}

impl Committed {
    /// Opens the file, making it if needed.
    pub fn open(disk: &Disk, directory: &Path) -> Result<Self, Error> {
        let path = directory.join("committed");
        let mut file = disk.open_or_create(&path).map_err(Error::io("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let newest = bytes.chunks(SLOT_BYTES).filter_map(slot).max_by_key(|(sequence, _)| *sequence);
        if newest.is_none() && bytes.iter().any(|byte| *byte != 0) {
            return Err(Error::corrupt(path, 0, "neither of its two slots is valid"));
        }
        let (sequence, last) = newest.map_or((0, None), |(sequence, log_id)| (sequence, Some(log_id)));
        Ok(Self { path, file, sequence, last })
    }

    pub fn last(&self) -> Option<LogId> {
        self.last
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes a newer commit; an older one changes nothing.
    pub fn save(&mut self, disk: &Disk, log_id: LogId) -> io::Result<()> {
        if self.last >= Some(log_id) {
            return Ok(());
        }
        let sequence = self.sequence + 1;
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend_from_slice(COMMITTED_MAGIC);
        for number in [sequence, log_id.leader_id.term, log_id.leader_id.node_id, log_id.index] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(SLOT_BYTES, 0);
        disk.write_all_at(&self.file, &bytes, sequence % 2 * SLOT_BYTES as u64)?;
        (self.sequence, self.last) = (sequence, Some(log_id));
        Ok(())
    }
}

fn slot(bytes: &[u8]) -> Option<(u64, LogId)> {
    let end = SLOT_USED_BYTES - 4;
    if bytes.len() < SLOT_USED_BYTES || bytes[..8] != *COMMITTED_MAGIC {
        return None;
    }
    if crc32fast::hash(&bytes[..end]) != u32_at(bytes, end) {
        return None;
    }
    let leader_id = LeaderId::new(u64_at(bytes, 16), u64_at(bytes, 24));
    Some((u64_at(bytes, 8), LogId::new(leader_id, u64_at(bytes, 32))))
}
