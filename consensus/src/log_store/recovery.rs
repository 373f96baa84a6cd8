//! What a start finds on the disk: the log, or a reason not to start.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;

use super::{
    disk::Disk,
    index::{Place, Slot},
    record,
    segment::{self, Segment},
};
use crate::{
    directory::remove_temporary,
    durable,
    error::Error,
    raft::{LogId, Vote},
    vote::{self, Committed},
};

/// All that the log store knows at its start.
pub struct Recovered {
    pub segments: VecDeque<Segment>,
    pub slots: VecDeque<Slot>,
    pub purged: Option<LogId>,
    pub committed: Committed,
    pub vote: Option<Vote>,
}

/// Reads the log of a data directory. What a crash may have left is repaired, anything else is an error.
pub fn recover(disk: &Disk, directory: &Path) -> Result<Recovered, Error> {
    let vote = vote::read_vote(directory)?;
    let purged = vote::read_purged(directory)?;
    let committed = Committed::open(disk, directory)?;
    let log = directory.join("log");
    fs::create_dir_all(&log).map_err(Error::io("create", &log))?;
    durable::sync_directory(disk, directory).map_err(Error::io("flush", directory))?;
    remove_temporary(disk, &log)?;

    let mut recovery = Recovery {
        disk,
        directory: &log,
        purged,
        committed: committed.last().map(|log_id| log_id.index),
        segments: VecDeque::new(),
        slots: VecDeque::new(),
    };
    let files = recovery.remove_purged(list(&log)?)?;
    let mut expected = purged.map_or(0, |log_id| log_id.index + 1);
    for (position, (first, path)) in files.iter().enumerate() {
        let fits = if position == 0 { *first <= expected } else { *first == expected };
        if !fits {
            let reason = format!("it begins with entry {first}, but entry {expected} is missing");
            return Err(Error::corrupt(path, 0, reason));
        }
        expected = recovery.read(*first, path, position + 1 == files.len())?;
    }
    if let Some(index) = recovery.committed.filter(|index| expected <= *index) {
        let reason = format!("it says that entry {index} is committed, but the log has no entry {expected}");
        return Err(Error::corrupt(committed.path(), 0, reason));
    }
    let Recovery { segments, slots, .. } = recovery;
    Ok(Recovered { segments, slots, purged, committed, vote })
}

/// The segments of a directory, by the index of their first record.
fn list(log: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(log).map_err(Error::io("list", log))? {
        let path = entry.map_err(Error::io("list", log))?.path();
        match segment::first_of(&path) {
            Some(first) => files.push((first, path)),
            None => return Err(Error::corrupt(path, 0, "it does not belong into the log")),
        }
    }
    files.sort();
    Ok(files)
}

struct Recovery<'a> {
    disk: &'a Disk,
    directory: &'a Path,
    purged: Option<LogId>,
    committed: Option<u64>,
    segments: VecDeque<Segment>,
    slots: VecDeque<Slot>,
}

impl Recovery<'_> {
    /// Removes segments that hold only purged entries: a crash came between the note and their removal.
    fn remove_purged(&self, files: Vec<(u64, PathBuf)>) -> Result<Vec<(u64, PathBuf)>, Error> {
        let Some(purged) = self.purged else { return Ok(files) };
        let keep = files.iter().rposition(|(first, _)| *first <= purged.index + 1).unwrap_or(0);
        for (_, path) in &files[..keep] {
            self.disk.remove_file(path).map_err(Error::io("remove", path))?;
        }
        Ok(files[keep..].to_vec())
    }

    /// Takes one segment in; returns the index that must come next.
    fn read(&mut self, first: u64, path: &Path, last: bool) -> Result<u64, Error> {
        let (file, bytes) = segment::read(path, first)?;
        let scan = segment::scan(&bytes, first);
        let next = first + scan.records.len() as u64;
        let torn = scan.damage.as_ref().is_none_or(|damage| damage.torn);
        // All of it is purged, and what follows goes on after a gap.
        if last && torn && self.purged.is_some_and(|purged| next <= purged.index) {
            self.disk.remove_file(path).map_err(Error::io("remove", path))?;
            return Ok(self.purged.map_or(next, |purged| purged.index + 1));
        }
        if let Some(damage) = &scan.damage {
            let committed = self.committed.is_some_and(|committed| next <= committed);
            if !last || committed || !damage.torn {
                return Err(Error::corrupt(path, scan.end, format!("entry {next}: {}", damage.reason)));
            }
            warn!(
                file = %path.display(), offset = scan.end, entry = next, reason = damage.reason,
                "the end of the log was being written when the node stopped; this unacknowledged end is cut off"
            );
        }
        // What isn't known to be committed may never have become durable, though it can be read: a flush may have
        // failed, and the kernel wouldn't say so again. It is written anew.
        let doubtful = last && (scan.damage.is_some() || self.committed.is_none_or(|committed| next > committed + 1));
        let segment = if doubtful {
            let end = usize::try_from(scan.end).expect("an offset in memory");
            Segment::rewrite(self.disk, self.directory, first, &bytes[segment::HEAD_BYTES..end])
                .map_err(Error::io("rewrite", path))?
        } else {
            Segment::existing(first, path, file, scan.end, bytes.len() as u64)
        };
        for (offset, found) in &scan.records {
            let previous = self.slots.back().map(|slot| slot.log_id);
            if previous.is_some_and(|previous| previous.leader_id > found.log_id.leader_id) {
                let reason = format!("entry {} is of an older leader than the one before", found.log_id.index);
                return Err(Error::corrupt(path, *offset, reason));
            }
            if self.purged.is_some_and(|purged| found.log_id.index <= purged.index) {
                continue;
            }
            let entry = record::decode(found.log_id, found.payload)
                .map_err(|reason| Error::corrupt(path, *offset, format!("entry {}: {reason}", found.log_id.index)))?;
            let bytes = record::HEAD_BYTES + found.payload.len();
            let place = Place { file: Arc::clone(&segment.file), offset: *offset };
            self.slots.push_back(Slot { log_id: found.log_id, bytes, place: Some(place), entry: Some(entry) });
        }
        self.segments.push_back(segment);
        Ok(next)
    }
}
