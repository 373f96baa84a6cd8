//! One file of the log: a head, records, perhaps zeros that are filled in later.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk::Disk,
    record::{self, Record},
};
use crate::{
    durable::{self, u32_at, u64_at},
    error::Error,
};

const MAGIC: &[u8; 8] = b"octl-log";
const VERSION: u32 = 1;
/// Magic, version, index of the first record, checksum.
pub const HEAD_BYTES: usize = 24;
/// Zeros are written ahead in steps of this many bytes: a flush that needn't grow the file is a third faster.
const AHEAD_BYTES: u64 = 256 << 10;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    /// The index of its first record.
    pub first: u64,
    pub path: PathBuf,
    pub file: Arc<File>,
    /// Where the next record goes.
    pub end: u64,
    /// The bytes of the file that exist, zeros included.
    allocated: u64,
}

/// The path of the segment whose first record has this index.
pub fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

/// The first index that a segment's name tells.
pub fn first_of(path: &Path) -> Option<u64> {
    (path.extension()? == "log").then(|| path.file_stem()?.to_str()?.parse().ok())?
}

impl Segment {
    /// Makes an empty segment. Its head and its name are durable on return, so that only records can be torn.
    pub fn create(disk: &Disk, directory: &Path, first: u64) -> io::Result<Self> {
        Self::rewrite(disk, directory, first, &[])
    }

    /// Makes a segment, or replaces one, with these records.
    pub fn rewrite(disk: &Disk, directory: &Path, first: u64, records: &[u8]) -> io::Result<Self> {
        let path = path(directory, first);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + records.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(records);
        durable::replace(disk, &path, &bytes)?;
        let file = Arc::new(File::options().read(true).write(true).open(&path)?);
        let end = bytes.len() as u64;
        Ok(Self { first, path, file, end, allocated: end })
    }

    /// A segment that was read from the disk.
    pub fn existing(first: u64, path: &Path, file: File, end: u64, allocated: u64) -> Self {
        Self { first, path: path.to_owned(), file: Arc::new(file), end, allocated }
    }

    /// Writes one batch at the end and waits until it is durable.
    pub fn append(&mut self, disk: &Disk, batch: &mut Vec<u8>) -> io::Result<()> {
        let end = self.end + batch.len() as u64;
        if end > self.allocated {
            self.allocated = end.next_multiple_of(AHEAD_BYTES);
            let zeros = usize::try_from(self.allocated - end).expect("less than a step");
            batch.resize(batch.len() + zeros, 0);
        }
        disk.write_all_at(&self.file, batch, self.end)?;
        disk.sync(&self.file)?;
        self.end = end;
        Ok(())
    }

    /// Cuts all from `end` on, durably.
    pub fn cut(&mut self, disk: &Disk, end: u64) -> io::Result<()> {
        disk.set_len(&self.file, end)?;
        disk.sync(&self.file)?;
        (self.end, self.allocated) = (end, end);
        Ok(())
    }

    /// Gives the zeros back, once the segment is full. They do no harm, so nobody waits for it.
    pub fn finish(&self, disk: &Disk) -> io::Result<()> {
        disk.set_len(&self.file, self.end)
    }
}

/// What was found in a segment.
#[derive(Debug)]
pub struct Scan<'a> {
    /// The records with their offsets.
    pub records: Vec<(u64, Record<'a>)>,
    /// The offset after the last good record.
    pub end: u64,
    /// What is wrong there, if more than zeros follows.
    pub damage: Option<Damage>,
}

/// Bytes that aren't a record.
#[derive(Debug)]
pub struct Damage {
    pub reason: &'static str,
    /// They may be the rest of a write that never became durable: no later write follows.
    pub torn: bool,
}

/// Reads a whole segment file and checks its head.
pub fn read(path: &Path, first: u64) -> Result<(File, Vec<u8>), Error> {
    let mut file = File::options().read(true).write(true).open(path).map_err(Error::io("open", path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let corrupt = |offset, reason: &str| Err(Error::corrupt(path, offset, reason));
    if bytes.len() < HEAD_BYTES {
        return corrupt(bytes.len() as u64, "its head is cut off");
    }
    if bytes[..8] != *MAGIC {
        return corrupt(0, "it is not a segment of the log");
    }
    if crc32fast::hash(&bytes[..20]) != u32_at(&bytes, 20) {
        return corrupt(20, "the checksum of its head is wrong");
    }
    let version = u32_at(&bytes, 8);
    if version != VERSION {
        return corrupt(8, &format!("it has version {version}, this program knows {VERSION}"));
    }
    if u64_at(&bytes, 12) != first {
        return corrupt(12, "its name and its head differ");
    }
    Ok((file, bytes))
}

/// Finds the records of a segment whose first has the index `first`.
pub fn scan(bytes: &[u8], first: u64) -> Scan<'_> {
    let mut scan = Scan { records: Vec::new(), end: HEAD_BYTES as u64, damage: None };
    let mut next = first;
    let mut offset = HEAD_BYTES;
    while offset < bytes.len() {
        let (reason, readable) = match record::read(&bytes[offset..]) {
            Ok(found) if found.log_id.index == next => {
                scan.records.push((offset as u64, found));
                offset += record::HEAD_BYTES + found.payload.len();
                scan.end = offset as u64;
                next += 1;
                continue;
            }
            Ok(_) => ("the record has another index than expected", true),
            Err(reason) => (reason, false),
        };
        if bytes[offset..].iter().any(|byte| *byte != 0) {
            let torn = !readable && !later_batch_follows(bytes, offset, next);
            scan.damage = Some(Damage { reason, torn });
        }
        break;
    }
    scan
}

/// Whether a good record of a later write follows the damage at `start`: then the damaged one had become durable.
fn later_batch_follows(bytes: &[u8], start: usize, next: u64) -> bool {
    let most = next + ((bytes.len() - start) / record::HEAD_BYTES) as u64;
    (start..bytes.len()).any(|offset| {
        let rest = &bytes[offset..];
        // The claimed index is looked at first: it spares a checksum at nearly every offset.
        record::claimed_index(rest).is_some_and(|index| (next..=most).contains(&index))
            && record::read(rest).is_ok_and(|found| found.batch > start as u64)
    })
}
