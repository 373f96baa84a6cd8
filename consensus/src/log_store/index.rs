//! What is in the log and where: the newest entries in memory, all of them on the disk.

use std::{collections::VecDeque, fs::File, io, ops::Range, os::unix::fs::FileExt, sync::Arc};

use super::record;
use crate::raft::{Entry, LogId, Vote};

/// Entries of so many stored bytes are also held in memory. There they are decoded and take some six times as much.
const CACHED_BYTES_MAX: usize = if cfg!(test) { 16 << 10 } else { 512 << 10 };

/// Where a record is.
#[derive(Debug, Clone)]
pub struct Place {
    pub file: Arc<File>,
    pub offset: u64,
}

/// One entry of the log.
#[derive(Debug)]
pub struct Slot {
    pub log_id: LogId,
    /// The bytes of its record.
    pub bytes: usize,
    /// `None` until it is durable.
    pub place: Option<Place>,
    /// `None` once only the disk has it.
    pub entry: Option<Entry>,
}

/// An entry that was asked for.
pub enum Found {
    Cached(Entry),
    Stored { log_id: LogId, place: Place, bytes: usize },
}

/// The log as its readers see it: with entries that aren't durable yet.
#[derive(Debug, Default)]
pub struct Index {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    slots: VecDeque<Slot>,
    cached_bytes: usize,
    /// Before this index no entry is in memory.
    cached_from: u64,
}

impl Index {
    pub fn new(vote: Option<Vote>, committed: Option<LogId>, purged: Option<LogId>, slots: VecDeque<Slot>) -> Self {
        let cached_bytes = slots.iter().map(|slot| slot.bytes).sum();
        let cached_from = slots.front().map_or(0, |slot| slot.log_id.index);
        let mut index = Self { vote, committed, purged, slots, cached_bytes, cached_from };
        index.evict();
        index
    }

    /// The bytes of all entries after this index.
    pub fn bytes_after(&self, index: u64) -> u64 {
        let after = self.slots.iter().rev().take_while(|slot| slot.log_id.index > index);
        after.map(|slot| slot.bytes as u64).sum()
    }

    /// The last entry, or the last purged one if the log is empty.
    pub fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds an entry that isn't durable yet.
    ///
    /// # Errors
    /// If it would leave a hole.
    pub fn push(&mut self, entry: Entry, bytes: usize) -> io::Result<()> {
        let log_id = entry.log_id;
        if let Some(last) = self.last()
            && last.index + 1 != log_id.index
        {
            let reason = format!("entry {} does not follow entry {}", log_id.index, last.index);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        if self.slots.is_empty() || log_id.index < self.cached_from {
            self.cached_from = log_id.index;
        }
        self.slots.push_back(Slot { log_id, bytes, place: None, entry: Some(entry) });
        self.cached_bytes += bytes;
        Ok(())
    }

    /// Notes that an entry is durable.
    pub fn written(&mut self, log_id: LogId, place: Place) {
        if let Some(slot) = self.position(log_id.index).and_then(|position| self.slots.get_mut(position)) {
            slot.place = Some(place);
        }
    }

    /// Forgets the oldest entries in memory, as long as there are too many bytes of them.
    pub fn evict(&mut self) {
        while self.cached_bytes > CACHED_BYTES_MAX {
            let Some(position) = self.position(self.cached_from) else { return };
            let Some(slot) = self.slots.get_mut(position).filter(|slot| slot.place.is_some()) else { return };
            slot.entry = None;
            self.cached_bytes -= slot.bytes;
            self.cached_from += 1;
        }
    }

    /// Where an entry is stored.
    pub fn place(&self, index: u64) -> Option<&Place> {
        self.slots.get(self.position(index)?)?.place.as_ref()
    }

    /// The entries of a range that the log contains.
    pub fn find(&self, range: Range<u64>) -> Vec<Found> {
        let Some(first) = self.slots.front().map(|slot| slot.log_id.index) else { return Vec::new() };
        let start = usize::try_from(range.start.saturating_sub(first)).unwrap_or(usize::MAX);
        let end = usize::try_from(range.end.saturating_sub(first)).unwrap_or(usize::MAX).min(self.slots.len());
        if start >= end {
            return Vec::new();
        }
        self.slots.range(start..end).filter_map(found).collect()
    }

    /// Forgets all entries after `index`; all, without one.
    pub fn truncate(&mut self, index: Option<u64>) {
        while self.slots.back().is_some_and(|slot| index.is_none_or(|index| slot.log_id.index > index)) {
            let slot = self.slots.pop_back();
            self.forget(slot);
        }
    }

    /// Forgets all entries up to `upto`.
    pub fn purge(&mut self, upto: LogId) {
        self.purged = self.purged.max(Some(upto));
        while self.slots.front().is_some_and(|slot| slot.log_id.index <= upto.index) {
            let slot = self.slots.pop_front();
            self.forget(slot);
        }
        self.cached_from = self.cached_from.max(upto.index + 1);
    }

    fn forget(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot.filter(|slot| slot.entry.is_some()) {
            self.cached_bytes -= slot.bytes;
        }
    }

    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.slots.front()?.log_id.index)?).ok()
    }
}

fn found(slot: &Slot) -> Option<Found> {
    if let Some(entry) = &slot.entry {
        return Some(Found::Cached(entry.clone()));
    }
    let place = slot.place.clone()?;
    Some(Found::Stored { log_id: slot.log_id, place, bytes: slot.bytes })
}

impl Found {
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }

    /// The entry, read from the disk if it must be.
    ///
    /// # Errors
    /// If the disk gives another record than was written.
    pub fn load(self) -> io::Result<Entry> {
        let (log_id, place, bytes) = match self {
            Self::Cached(entry) => return Ok(entry),
            Self::Stored { log_id, place, bytes } => (log_id, place, bytes),
        };
        let mut buffer = vec![0; bytes];
        place.file.read_exact_at(&mut buffer, place.offset)?;
        let invalid = |reason: &str| {
            let reason = format!("entry {} at byte {}: {reason}", log_id.index, place.offset);
            io::Error::new(io::ErrorKind::InvalidData, reason)
        };
        let record = record::read(&buffer).map_err(invalid)?;
        if record.log_id != log_id {
            return Err(invalid("another entry is stored there"));
        }
        record::decode(log_id, record.payload).map_err(|reason| invalid(&reason))
    }
}
