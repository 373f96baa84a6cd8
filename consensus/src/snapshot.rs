//! The snapshot: the whole state in one checksummed file, from which the log before it can be purged.
//!
//! Head: magic, version u32. Then records: length u32, CRC-32 u32, Protocol Buffers; the checksum also covers the length
//! and the number of the record, so that none can be lost, moved or doubled. The last one tells how many there are.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use prost::Message;
use tokio::sync::MutexGuard;

use crate::{
    durable,
    error::Error,
    form,
    log_store::disk::Disk,
    machine,
    raft::{Membership, SnapshotMeta, StoredMembership},
    state::State,
};

const MAGIC: &[u8; 8] = b"octlsnap";
const VERSION: u32 = 1;
/// A longer record can only be damage: an object, its sealed data and a little around them.
const RECORD_BYTES_MAX: usize = 2 * crate::raft::COMMAND_BYTES_MAX;

/// The newest snapshot, which is on the disk.
#[derive(Clone)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Disk,
    path: PathBuf,
    newest: RwLock<Option<Newest>>,
    /// One at a time writes. Nobody else may open the directory as long as one does.
    writing: tokio::sync::Mutex<Arc<File>>,
}

struct Newest {
    meta: SnapshotMeta,
    bytes: u64,
    /// As it was read at the start. Not kept of later ones: it would hold all that has changed since a second time.
    state: Option<State>,
}

impl Snapshots {
    /// Loads the snapshot of a data directory.
    pub fn open(disk: Disk, directory: &Path, lock: Arc<File>) -> Result<Self, Error> {
        let path = directory.join("snapshot");
        let newest = read(&path)?.map(|(meta, state, bytes)| Newest { meta, bytes, state: Some(state) });
        let newest = RwLock::new(newest);
        Ok(Self { inner: Arc::new(Inner { disk, path, newest, writing: tokio::sync::Mutex::new(lock) }) })
    }

    /// What the newest one includes.
    pub fn newest(&self) -> Option<SnapshotMeta> {
        self.inner.newest.read().as_ref().map(|newest| newest.meta.clone())
    }

    /// The size of the newest one; 0 without one.
    pub fn bytes(&self) -> u64 {
        self.inner.newest.read().as_ref().map_or(0, |newest| newest.bytes)
    }

    /// The newest one, read from the disk if it must be.
    ///
    /// # Errors
    /// If it can't be read, or is damaged.
    pub fn load(&self) -> Result<Option<(SnapshotMeta, State)>, Error> {
        match &*self.inner.newest.read() {
            None => return Ok(None),
            Some(Newest { meta, state: Some(state), .. }) => return Ok(Some((meta.clone(), state.clone()))),
            Some(Newest { state: None, .. }) => {}
        }
        Ok(read(&self.inner.path)?.map(|(meta, state, _)| (meta, state)))
    }

    /// Makes a snapshot the newest one: durable on return. An older one than the present is dropped.
    pub async fn save(&self, meta: SnapshotMeta, state: State) -> io::Result<()> {
        let lock = self.inner.writing.lock().await;
        if self.inner.newest.read().as_ref().is_some_and(|newest| newest.meta.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        self.replace(lock, meta, state).await
    }

    /// The same, whatever the present one is.
    pub async fn save_over(&self, meta: SnapshotMeta, state: State) -> io::Result<()> {
        let lock = self.inner.writing.lock().await;
        self.replace(lock, meta, state).await
    }

    async fn replace(&self, lock: MutexGuard<'_, Arc<File>>, meta: SnapshotMeta, state: State) -> io::Result<()> {
        let this = self.clone();
        let work = move || {
            let mut bytes = 0;
            durable::replace_with(&this.inner.disk, &this.inner.path, |file| {
                write(&this.inner.disk, file, &meta, &state)?;
                bytes = file.metadata()?.len();
                Ok(())
            })?;
            *this.inner.newest.write() = Some(Newest { meta, bytes, state: None });
            Ok(())
        };
        let result = machine::blocking(work).await?;
        drop(lock);
        result
    }

    /// Waits for a writer.
    pub async fn settled(&self) {
        drop(self.inner.writing.lock().await);
    }
}

fn write(disk: &Disk, file: &File, meta: &SnapshotMeta, state: &State) -> io::Result<()> {
    write_to(Sink { disk, file, offset: 0 }, meta, state)
}

/// Writes the form of a snapshot, in pieces of up to 1 MiB.
pub fn write_to(sink: impl Write, meta: &SnapshotMeta, state: &State) -> io::Result<()> {
    let mut sink = BufWriter::with_capacity(1 << 20, sink);
    sink.write_all(MAGIC)?;
    sink.write_all(&VERSION.to_le_bytes())?;
    let head = form::Content::Head(form::Head {
        last_log_id: meta.last_log_id.map(Into::into),
        membership_log_id: meta.last_membership.log_id().map(Into::into),
        membership: Some(meta.last_membership.membership().into()),
        index: state.index(),
    });
    let mut records = 0;
    for content in std::iter::once(head).chain(state.records()) {
        write_record(&mut sink, records, content)?;
        records += 1;
    }
    write_record(&mut sink, records, form::Content::End(form::End { records }))?;
    sink.flush()
}

fn write_record(sink: &mut impl Write, number: u64, content: form::Content) -> io::Result<()> {
    let bytes = form::Record { content: Some(content) }.encode_to_vec();
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes();
    sink.write_all(&length)?;
    sink.write_all(&checksum(number, length, &bytes).to_le_bytes())?;
    sink.write_all(&bytes)
}

fn checksum(number: u64, length: [u8; 4], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&length);
    hasher.update(bytes);
    hasher.finalize()
}

/// Writes through [`Disk`], one piece after the other.
struct Sink<'a> {
    disk: &'a Disk,
    file: &'a File,
    offset: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write_all_at(self.file, bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The snapshot in a file, and its size; `None` without one.
fn read(path: &Path) -> Result<Option<(SnapshotMeta, State, u64)>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    read_from(path, file).map(|(meta, state)| Some((meta, state, bytes)))
}

/// Reads the form of a snapshot to its end; `path` names it in errors.
pub fn read_from(path: &Path, reader: impl Read) -> Result<(SnapshotMeta, State), Error> {
    let mut source = Source { path, reader: BufReader::with_capacity(1 << 20, reader), offset: 0 };
    let mut head = [0; 12];
    source.fill(&mut head)?;
    if head[..8] != *MAGIC {
        return Err(Error::corrupt(path, 0, "it is another kind of file"));
    }
    let version = durable::u32_at(&head, 8);
    if version != VERSION {
        return Err(Error::corrupt(path, 8, format!("it has version {version}, this program knows {VERSION}")));
    }
    let mut state = State::default();
    let mut meta = None;
    for number in 0.. {
        let at = source.offset;
        let corrupt = |reason: String| Error::corrupt(path, at, reason);
        match (source.record(number)?, &meta) {
            (form::Content::Head(head), None) => {
                state.advance(head.index);
                state.replaced();
                meta = Some(snapshot_meta(head).map_err(corrupt)?);
            }
            (form::Content::End(end), Some(_)) if end.records == number => break,
            (content, Some(_)) => state.restore(content).map_err(corrupt)?,
            (_, None) => return Err(corrupt("its first record is missing".to_owned())),
        }
    }
    if !source.at_end()? {
        return Err(Error::corrupt(path, source.offset, "something follows its end"));
    }
    meta.map(|meta| (meta, state)).ok_or_else(|| Error::corrupt(path, 0, "it is empty"))
}

fn snapshot_meta(head: form::Head) -> Result<SnapshotMeta, String> {
    let membership: Membership = head.membership.ok_or("it has no membership")?.try_into()?;
    Ok(SnapshotMeta {
        last_log_id: head.last_log_id.map(Into::into),
        last_membership: StoredMembership::new(head.membership_log_id.map(Into::into), membership),
    })
}

struct Source<'a, R> {
    path: &'a Path,
    reader: BufReader<R>,
    offset: u64,
}

impl<R: Read> Source<'_, R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.reader.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupt(self.path, self.offset, "it is cut off"),
            _ => Error::io("read", self.path)(error),
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn record(&mut self, number: u64) -> Result<form::Content, Error> {
        let start = self.offset;
        let path = self.path;
        let corrupt = |reason: &str| Error::corrupt(path, start, reason);
        let mut head = [0; 8];
        self.fill(&mut head)?;
        let length = durable::u32_at(&head, 0);
        if length as usize > RECORD_BYTES_MAX {
            return Err(corrupt("the record's length is impossible"));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        if checksum(number, length.to_le_bytes(), &bytes) != durable::u32_at(&head, 4) {
            return Err(corrupt("the record's checksum is wrong"));
        }
        let record = form::Record::decode(bytes.as_slice()).map_err(|error| corrupt(&error.to_string()))?;
        record.content.ok_or_else(|| corrupt("the record is of a kind that this program doesn't know"))
    }

    fn at_end(&mut self) -> Result<bool, Error> {
        let mut byte = [0];
        Ok(self.reader.read(&mut byte).map_err(Error::io("read", self.path))? == 0)
    }
}

#[cfg(test)]
mod tests;
