//! The thread that owns the log's files: it takes whatever waits, writes it at once and flushes once.

use std::{collections::VecDeque, fs::File, io, path::PathBuf, sync::Arc};

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{
    Shared,
    disk::Disk,
    index::Place,
    record,
    segment::{self, Segment},
};
use crate::{
    durable,
    raft::{LogId, TypeConfig, Vote},
    vote::{self, Committed},
};

/// A batch takes no more appends once it has this many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;

pub type Reply = oneshot::Sender<io::Result<()>>;
/// Entries with their payloads.
pub type Records = Vec<(LogId, Vec<u8>)>;

/// What the thread is told, in the order in which it must happen.
pub enum Job {
    Append {
        records: Records,
        done: IOFlushed<TypeConfig>,
    },
    /// Entries after this index go; all, without one.
    Truncate {
        after: Option<u64>,
        reply: Reply,
    },
    Purge {
        upto: LogId,
        reply: Reply,
    },
    Vote {
        vote: Vote,
        reply: Reply,
    },
    /// Written when the appends before it are durable; nobody waits.
    Committed(LogId),
}

pub struct Writer {
    pub disk: Disk,
    pub directory: PathBuf,
    pub segments: VecDeque<Segment>,
    pub segment_bytes: u64,
    pub committed: Committed,
    pub shared: Arc<Shared>,
    /// Nobody else may open the directory as long as this thread may write to it.
    pub lock: Arc<File>,
}

impl Writer {
    /// Works until nobody can send any more.
    pub fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            self.work(job, &mut jobs);
        }
        drop(self.lock);
    }

    /// The same as a task of a simulated machine, whose disk takes its time.
    #[cfg(feature = "simulation")]
    pub async fn run_on(mut self, machine: crate::simulation::Machine, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            machine.flush_time().await;
            self.work(job, &mut jobs);
        }
    }

    /// Does a job, and with an append all others that wait.
    fn work(&mut self, job: Job, jobs: &mut mpsc::Receiver<Job>) {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                Job::Append { records, done } => {
                    let mut bytes = size(&records);
                    let mut batch = vec![(records, done)];
                    // A commit index may be late, so it doesn't divide a batch.
                    let mut committed = None;
                    while bytes < BATCH_BYTES_MAX {
                        match jobs.try_recv() {
                            Ok(Job::Append { records, done }) => {
                                bytes += size(&records);
                                batch.push((records, done));
                            }
                            Ok(Job::Committed(log_id)) => committed = Some(log_id),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.append(batch);
                    committed.into_iter().for_each(|log_id| self.commit(log_id));
                }
                Job::Truncate { after, reply } => self.answer("truncate the log", reply, |this| this.truncate(after)),
                Job::Purge { upto, reply } => self.answer("purge the log", reply, |this| this.purge(upto)),
                Job::Vote { vote, reply } => self.answer("save the vote", reply, |this| this.vote(vote)),
                Job::Committed(log_id) => self.commit(log_id),
            }
        }
    }

    fn append(&mut self, batch: Vec<(Records, IOFlushed<TypeConfig>)>) {
        let records = batch.iter().flat_map(|(records, _)| records);
        let result = self.usable().and_then(|()| self.write(records));
        if let Err(error) = &result {
            self.fail("append to the log", error);
        }
        for (_, done) in batch {
            done.io_completed(result.as_ref().copied().map_err(copy));
        }
    }

    /// Writes records behind each other, with one write and one flush.
    fn write<'a>(&mut self, records: impl Iterator<Item = &'a (LogId, Vec<u8>)> + Clone) -> io::Result<()> {
        let Some((first, _)) = records.clone().next() else { return Ok(()) };
        let bytes: u64 = records.clone().map(|(_, payload)| (record::HEAD_BYTES + payload.len()) as u64).sum();
        let full = self
            .segments
            .back()
            .is_none_or(|segment| segment.end > segment::HEAD_BYTES as u64 && segment.end + bytes > self.segment_bytes);
        if full {
            if let Some(segment) = self.segments.back() {
                segment.finish(&self.disk)?;
            }
            self.segments.push_back(Segment::create(&self.disk, &self.directory.join("log"), first.index)?);
        }
        let segment = self.segments.back_mut().expect("one was just made if there was none");
        let start = segment.end;
        let mut buffer = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        let mut places = Vec::new();
        for (log_id, payload) in records {
            let offset = start + buffer.len() as u64;
            places.push((*log_id, Place { file: Arc::clone(&segment.file), offset }));
            record::write(&mut buffer, start, *log_id, payload);
        }
        segment.append(&self.disk, &mut buffer)?;
        let mut index = self.shared.index.lock();
        for (log_id, place) in places {
            index.written(log_id, place);
        }
        index.evict();
        Ok(())
    }

    fn truncate(&mut self, after: Option<u64>) -> io::Result<()> {
        let keep = after.map_or(0, |index| index + 1);
        let log = self.directory.join("log");
        // From the end backwards, each step durable before the next, so that a crash leaves no hole.
        while let Some(segment) = self.segments.pop_back_if(|segment| segment.first >= keep) {
            self.disk.remove_file(&segment.path)?;
            durable::sync_directory(&self.disk, &log)?;
        }
        let cut = self.shared.index.lock().place(keep).cloned();
        if let (Some(segment), Some(place)) = (self.segments.back_mut(), cut)
            && Arc::ptr_eq(&segment.file, &place.file)
        {
            segment.cut(&self.disk, place.offset)?;
        }
        self.shared.index.lock().truncate(after);
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> io::Result<()> {
        if self.shared.index.lock().purged >= Some(upto) {
            return Ok(());
        }
        // First the note, then the files: a start removes what a crash leaves.
        vote::save_purged(&self.disk, &self.directory, upto)?;
        let nothing_left = {
            let mut index = self.shared.index.lock();
            index.purge(upto);
            index.is_empty()
        };
        while let Some(segment) = self.segments.front() {
            let purged = match self.segments.get(1) {
                Some(next) => next.first <= upto.index + 1,
                None => nothing_left,
            };
            if !purged {
                break;
            }
            self.disk.remove_file(&segment.path)?;
            self.segments.pop_front();
        }
        Ok(())
    }

    fn vote(&mut self, vote: Vote) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if crate::simulation::is_made(crate::simulation::Mistake::ForgottenVote) {
            self.shared.index.lock().vote = Some(vote);
            return Ok(());
        }
        vote::save_vote(&self.disk, &self.directory, &vote)?;
        self.shared.index.lock().vote = Some(vote);
        Ok(())
    }

    fn commit(&mut self, log_id: LogId) {
        let saved = self.usable().and_then(|()| self.committed.save(&self.disk, log_id));
        if let Err(error) = saved {
            self.fail("save the commit index", &error);
        }
    }

    fn answer(&mut self, what: &str, reply: Reply, work: impl FnOnce(&mut Self) -> io::Result<()>) {
        let result = self.usable().and_then(|()| work(self));
        if let Err(error) = &result {
            self.fail(what, error);
        }
        // Who asked may be gone; what was asked is done all the same.
        reply.send(result).ok();
    }

    fn usable(&self) -> io::Result<()> {
        match &*self.shared.failed.borrow() {
            Some(reason) => Err(io::Error::other(reason.clone())),
            None => Ok(()),
        }
    }

    /// Writes nothing any more: after a failed write or flush nobody knows what the disk holds.
    fn fail(&self, what: &str, error: &io::Error) {
        if self.usable().is_ok() {
            error!(what, %error, "the log can't be written any more");
            self.shared.failed.send_replace(Some(format!("cannot {what}: {error}")));
        }
    }
}

fn size(records: &[(LogId, Vec<u8>)]) -> usize {
    records.iter().map(|(_, payload)| record::HEAD_BYTES + payload.len()).sum()
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
