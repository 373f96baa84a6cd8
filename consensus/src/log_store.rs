//! The durable log: segments, the vote, how far it is committed and purged.

pub mod disk;
mod index;
pub(crate) mod record;
mod recovery;
mod running;
mod segment;
mod writer;

use std::{
    fmt::Debug,
    fs::File,
    io,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
    sync::Arc,
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    error::Error,
    machine,
    raft::{Entry, LogId, TypeConfig, Vote},
};
use disk::Disk;
use index::Index;
pub use running::Running;
use writer::{Job, Writer};

/// So many jobs wait for the writing thread before the senders wait too.
const JOBS_MAX: usize = 1_024;

/// What the writing thread and the readers share.
#[derive(Debug)]
pub struct Shared {
    index: Mutex<Index>,
    /// Why the log can't be written any more.
    pub failed: watch::Sender<Option<String>>,
}

/// The log as openraft writes it. The thread behind it ends when this is dropped.
pub struct LogStore {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// The log as openraft reads it.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// An opened log.
pub struct Opened {
    pub store: LogStore,
    pub shared: Arc<Shared>,
    pub thread: Running,
}

/// Recovers the log of a data directory and starts the thread that writes it.
pub fn open(disk: Disk, directory: &Path, lock: Arc<File>, segment_bytes: u64) -> Result<Opened, Error> {
    let recovered = recovery::recover(&disk, directory)?;
    let index = Index::new(recovered.vote, recovered.committed.last(), recovered.purged, recovered.slots);
    let shared = Arc::new(Shared { index: Mutex::new(index), failed: watch::Sender::new(None) });
    let (sender, jobs) = mpsc::channel(JOBS_MAX);
    let writer = Writer {
        disk,
        directory: PathBuf::from(directory),
        segments: recovered.segments,
        segment_bytes,
        committed: recovered.committed,
        shared: Arc::clone(&shared),
        lock,
    };
    let thread = Running::start(writer, jobs).map_err(Error::io("start the writer of", directory))?;
    let store = LogStore { shared: Arc::clone(&shared), jobs: sender };
    Ok(Opened { store, shared, thread })
}

impl Shared {
    pub fn has_voted(&self) -> bool {
        self.index.lock().vote.is_some()
    }

    #[cfg(test)]
    pub fn entries(&self, range: std::ops::Range<u64>) -> Vec<Entry> {
        self.index.lock().find(range).into_iter().map(|found| found.load().unwrap()).collect()
    }

    pub fn last(&self) -> Option<LogId> {
        self.index.lock().last()
    }

    /// The bytes of all entries after this index.
    pub fn bytes_after(&self, index: u64) -> u64 {
        self.index.lock().bytes_after(index)
    }

    pub fn purged(&self) -> Option<LogId> {
        self.index.lock().purged
    }
}

impl LogStore {
    /// Hands a job to the thread and waits for its end.
    async fn ask(&self, job: impl FnOnce(writer::Reply) -> Job) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        self.tell(job(reply)).await?;
        answer.await.map_err(|_| stopped())?
    }

    async fn tell(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the writer of the log has stopped")
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let found = self.shared.index.lock().find(start..end);
        let stored = found.iter().any(index::Found::is_stored);
        let load = move || found.into_iter().map(index::Found::load).collect();
        if stored { machine::blocking(load).await? } else { load() }
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.index.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let index = self.shared.index.lock();
        Ok(LogState { last_purged_log_id: index.purged, last_log_id: index.last() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.ask(|reply| Job::Vote { vote, reply }).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(log_id) = committed else { return Ok(()) };
        self.shared.index.lock().committed = Some(log_id);
        self.tell(Job::Committed(log_id)).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.index.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut index = self.shared.index.lock();
            for entry in entries {
                let payload = record::encode(&entry);
                if payload.len() > record::PAYLOAD_BYTES_MAX {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "the entry is too long"));
                }
                let log_id = entry.log_id;
                index.push(entry, record::HEAD_BYTES + payload.len())?;
                records.push((log_id, payload));
            }
        }
        self.tell(Job::Append { records, done: callback }).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let after = last_log_id.map(|log_id| log_id.index);
        self.ask(|reply| Job::Truncate { after, reply }).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.ask(|reply| Job::Purge { upto: log_id, reply }).await
    }
}

#[cfg(test)]
mod tests;
