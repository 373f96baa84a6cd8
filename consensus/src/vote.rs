//! The small files beside the log: the vote, how far the log is purged, how far it is committed.

use std::{
    fs::{self, File},
    io,
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
const SLOT_BYTES: usize = 512;
/// Each slot in a page and sector of its own, so that neither a write nor a torn one can reach the other.
const SLOTS: [u64; 2] = [0, 4_096];
/// Magic, sequence number, term, node, index, checksum.
const SLOT_USED_BYTES: usize = 44;
/// The commit index is made durable each so many times.
const FLUSH_EVERY: u32 = 256;

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
/// Of its two slots one is durable and stays as it is, while the other is written again and again, without waiting for the disk:
/// a crash of the process loses nothing, a loss of power at most what was written since. Recovery commits that again. Now and then
/// the other one is made durable, and they change places.
pub struct Committed {
    path: PathBuf,
    /// Absent as long as nothing is committed.
    file: Option<File>,
    sequence: u64,
    last: Option<LogId>,
    /// Which of the slots is written.
    written: usize,
    /// How often that was since it was durable.
    unflushed: u32,
}

impl Committed {
    /// Opens the file, making it if needed.
    pub fn open(disk: &Disk, directory: &Path) -> Result<Self, Error> {
        let path = directory.join("committed");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        // Older versions had the second one right behind the first.
        let slots = bytes.chunks(SLOT_BYTES).enumerate().filter_map(|(place, bytes)| Some((slot(bytes)?, place)));
        let Some(((sequence, log_id), newest)) = slots.max_by_key(|((sequence, _), _)| *sequence) else {
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(Error::corrupt(path, 0, "neither of its two slots is valid"));
            }
            return Ok(Self { path, file: None, sequence: 0, last: None, written: 1, unflushed: 0 });
        };
        let file = Self::writable(&path).map_err(Error::io("open", &path))?;
        // It can be read, and may not be durable for all that.
        disk.sync(&file).map_err(Error::io("flush", &path))?;
        let written = usize::from(newest == 0);
        Ok(Self { path, file: Some(file), sequence, last: Some(log_id), written, unflushed: 0 })
    }

    fn writable(path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).open(path)
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
        let bytes = slot_of(sequence, log_id);
        match &self.file {
            None => {
                durable::replace(disk, &self.path, &bytes)?;
                self.file = Some(Self::writable(&self.path)?);
            }
            Some(file) => {
                if self.unflushed == FLUSH_EVERY {
                    disk.sync(file)?;
                    (self.written, self.unflushed) = (1 - self.written, 0);
                }
                disk.write_all_at(file, &bytes, SLOTS[self.written])?;
                self.unflushed += 1;
            }
        }
        (self.sequence, self.last) = (sequence, Some(log_id));
        Ok(())
    }
}

/// A slot as it is written.
fn slot_of(sequence: u64, log_id: LogId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(COMMITTED_MAGIC);
    for number in [sequence, log_id.leader_id.term, log_id.leader_id.node_id, log_id.index] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.resize(SLOT_BYTES, 0);
    bytes
}

/// Sequence number and content of a slot; `None` if it isn't valid.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn log_id(index: u64) -> LogId {
        LogId::new(LeaderId::new(3, 7), index)
    }

    /// What a loss of power in the midst of a write leaves: the first bytes of it, and whatever was or wasn't written before.
    #[test]
    fn whenever_the_power_goes_one_commit_index_is_there() {
        let (directory, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = Disk::default();
        let opened = |directory: &Path| Committed::open(&disk, directory).map(|committed| committed.last());
        assert_eq!(opened(directory.path()).unwrap(), None);
        let mut committed = Committed::open(&disk, directory.path()).unwrap();
        committed.save(&disk, log_id(1)).unwrap();
        let mut durable = fs::read(directory.path().join("committed")).unwrap();
        for index in 2..=3 * u64::from(FLUSH_EVERY) {
            if committed.unflushed == FLUSH_EVERY {
                durable = fs::read(directory.path().join("committed")).unwrap();
            }
            committed.save(&disk, log_id(index)).unwrap();
            let written = fs::read(directory.path().join("committed")).unwrap();
            for length in [0, 1, 9, 20, 40, 43, 44, 512] {
                let place = usize::try_from(SLOTS[committed.written]).unwrap();
                let mut bytes = durable.clone();
                bytes.resize(bytes.len().max(place + length), 0);
                bytes[place..place + length].copy_from_slice(&written[place..place + length]);
                fs::write(torn.path().join("committed"), bytes).unwrap();
                let last = opened(torn.path()).unwrap().map_or(0, |log_id| log_id.index);
                assert!(last <= index && last + u64::from(FLUSH_EVERY) >= index, "{last} of {index}, {length} bytes");
                assert!(length < 44 || last == index);
            }
        }
        drop(committed);
        assert_eq!(opened(directory.path()).unwrap(), Some(log_id(3 * u64::from(FLUSH_EVERY))));
    }
}
