use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    sync::atomic::Ordering,
};

use openraft::{
    EntryPayload,
    alias::StoredMembershipOf,
    entry::RaftEntry,
    storage::RaftLogStorageExt,
    testing::log::{StoreBuilder, Suite},
    vote::RaftLeaderId,
};
use tempfile::TempDir;

use super::*;
use crate::{
    directory::Directory,
    figures::Figures,
    raft::{LeaderId, Proposal},
    snapshot::Snapshots,
    state_machine::StateMachine,
    testing::{command, create, user},
};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let guard = tempfile::tempdir().unwrap();
        let directory = Directory::open(&Disk::default(), guard.path()).unwrap();
        let snapshots = Snapshots::open(Disk::default(), guard.path(), directory.lock()).unwrap();
        let log = open(Disk::default(), guard.path(), directory.lock(), 1 << 10).unwrap();
        Ok((
            guard,
            log.store,
            StateMachine::new(
                snapshots,
                Default::default(),
                log.shared.clone(),
                watch::Sender::default(),
                Arc::default(),
                Figures::default(),
            ),
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
    assert_eq!(StoredMembershipOf::<TypeConfig>::default().log_id(), &None);
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 7), index)
}

/// An entry with a command of about 100 bytes.
fn entry(term: u64, index: u64) -> Entry {
    let user = user(&format!("uid-{index}"), &format!("name-{index}"), &"v".repeat(40));
    let proposal = Proposal::new(command(vec![create(user)])).unwrap();
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(proposal) }
}

struct Log {
    opened: Opened,
    disk: Disk,
}

impl Log {
    /// Opens the log with segments that hold about ten entries.
    fn open(directory: &Path) -> Result<Self, Error> {
        let disk = Disk::default();
        let lock = Arc::new(File::create(directory.join("lock")).unwrap());
        Ok(Self { opened: open(disk.clone(), directory, lock, 1_500)?, disk })
    }

    /// A log with the entries `0..count`, all of term 1, each written by itself, `committed` said to be committed.
    async fn with(directory: &Path, count: u64, committed: Option<u64>) -> Self {
        let mut log = Self::open(directory).unwrap();
        for index in 0..count {
            log.append(1, index).await.unwrap();
        }
        if let Some(index) = committed {
            log.opened.store.save_committed(Some(log_id(1, index))).await.unwrap();
        }
        // Nobody waits for the commit index: cutting nothing off waits for all jobs before.
        log.opened.store.truncate_after(Some(log_id(1, count))).await.unwrap();
        log
    }

    async fn append(&mut self, term: u64, index: u64) -> Result<(), String> {
        self.opened.store.blocking_append([entry(term, index)]).await.map_err(|error| error.to_string())
    }

    /// All entries by term and index, after a check that their content is what was written.
    async fn entries(&mut self) -> Vec<(u64, u64)> {
        let entries = self.opened.store.get_log_reader().await.try_get_log_entries(..).await.unwrap();
        for found in &entries {
            let written = entry(found.log_id.leader_id.term, found.log_id.index);
            assert_eq!(found.payload.to_string(), written.payload.to_string());
            assert_eq!(record::encode(found), record::encode(&written));
        }
        entries.iter().map(|entry| (entry.log_id().leader_id.term, entry.index())).collect()
    }

    fn close(self) {
        drop(self.opened.store);
        self.opened.thread.join().unwrap();
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The offset of the last record of a segment and of its end.
fn last_record(path: &Path) -> (u64, u64) {
    let bytes = fs::read(path).unwrap();
    let scan = segment::scan(&bytes, segment::first_of(path).unwrap());
    (scan.records.last().unwrap().0, scan.end)
}

fn copy_directory(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("log")).unwrap();
    for name in ["vote", "purged", "committed"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.path().join(name)).unwrap();
        }
    }
    for path in segments(from) {
        fs::copy(&path, to.path().join("log").join(path.file_name().unwrap())).unwrap();
    }
    to
}

fn corruption(directory: &Path) -> String {
    match Log::open(directory) {
        Err(error @ Error::Corrupt { .. }) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("the damaged log was opened"),
    }
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[tokio::test]
async fn entries_the_vote_and_the_commit_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::with(directory.path(), 100, Some(98)).await;
    let vote = Vote { leader_id: LeaderId::new(4, 2), committed: true };
    log.opened.store.save_vote(&vote).await.unwrap();
    log.close();
    assert!(segments(directory.path()).len() > 5);

    let mut log = Log::open(directory.path()).unwrap();
    assert_eq!(log.entries().await, (0..100).map(|index| (1, index)).collect::<Vec<_>>());
    assert_eq!(log.opened.store.get_log_reader().await.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.opened.store.read_committed().await.unwrap(), Some(log_id(1, 98)));
    log.append(2, 100).await.unwrap();
    assert_eq!(log.entries().await.last(), Some(&(2, 100)));
    log.close();
}

#[tokio::test]
async fn more_entries_than_memory_holds_are_read_from_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::with(directory.path(), 300, None).await;
    let stored = log.opened.shared.index.lock().find(0..300).iter().filter(|found| found.is_stored()).count();
    assert!((50..300).contains(&stored), "{stored} of 300 only on the disk");
    assert_eq!(log.entries().await.len(), 300);
    let path = &segments(directory.path())[0];
    flip(path, 100);
    let read = log.opened.store.get_log_reader().await.try_get_log_entries(0..5).await;
    assert!(read.is_err_and(|error| error.to_string().contains("checksum")));
    log.close();
}

#[tokio::test]
async fn a_truncated_log_stays_truncated() {
    for keep in [None, Some(0), Some(9), Some(10), Some(11), Some(25), Some(29), Some(60)] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::with(directory.path(), 30, None).await;
        log.opened.store.truncate_after(keep.map(|index| log_id(1, index))).await.unwrap();
        let next = keep.map_or(0, |index| (index + 1).min(30));
        log.append(2, next).await.unwrap();
        let expected: Vec<_> = (0..next).map(|index| (1, index)).chain([(2, next)]).collect();
        assert_eq!(log.entries().await, expected, "{keep:?}");
        log.close();
        let mut log = Log::open(directory.path()).unwrap();
        assert_eq!(log.entries().await, expected, "{keep:?} after a restart");
        log.close();
    }
}

#[tokio::test]
async fn a_purged_log_stays_purged() {
    for upto in [0, 9, 10, 25, 28, 29, 40] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::with(directory.path(), 30, Some(29)).await;
        let before = segments(directory.path()).len();
        log.opened.store.purge(log_id(1, upto)).await.unwrap();
        if upto > 12 {
            assert!(segments(directory.path()).len() < before, "whole segments go");
        }
        let next = 30.max(upto + 1);
        log.append(2, next).await.unwrap();
        let expected: Vec<_> = (upto + 1..30).map(|index| (1, index)).chain([(2, next)]).collect();
        assert_eq!(log.entries().await, expected, "{upto}");
        log.close();
        let mut log = Log::open(directory.path()).unwrap();
        assert_eq!(log.entries().await, expected, "{upto} after a restart");
        assert_eq!(log.opened.shared.purged(), Some(log_id(1, upto)));
        log.close();
    }
}

#[tokio::test]
async fn segments_that_a_crash_left_after_a_purge_are_removed() {
    for upto in [15, 29, 35] {
        let directory = tempfile::tempdir().unwrap();
        Log::with(directory.path(), 30, Some(29)).await.close();
        crate::vote::save_purged(&Disk::default(), directory.path(), log_id(1, upto)).unwrap();
        let mut log = Log::open(directory.path()).unwrap();
        assert_eq!(log.entries().await, (upto + 1..30).map(|index| (1, index)).collect::<Vec<_>>());
        log.append(2, 30.max(upto + 1)).await.unwrap();
        log.close();
        Log::open(directory.path()).unwrap().close();
    }
}

#[tokio::test]
async fn a_torn_last_record_is_cut_off_at_every_byte() {
    let directory = tempfile::tempdir().unwrap();
    Log::with(directory.path(), 15, Some(13)).await.close();
    let (start, end) = last_record(segments(directory.path()).last().unwrap());
    for offset in start..end {
        for zeros in [false, true] {
            let copy = copy_directory(directory.path());
            let file = File::options().write(true).open(segments(copy.path()).last().unwrap()).unwrap();
            file.set_len(offset).unwrap();
            if zeros {
                file.set_len(end + 4_096).unwrap();
            }
            let mut log = Log::open(copy.path()).unwrap();
            assert_eq!(log.entries().await, (0..14).map(|index| (1, index)).collect::<Vec<_>>(), "{offset}");
            log.append(2, 14).await.unwrap();
            log.close();
            let mut log = Log::open(copy.path()).unwrap();
            assert_eq!(log.entries().await.last(), Some(&(2, 14)));
            log.close();
        }
    }
}

#[tokio::test]
async fn a_committed_record_is_never_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    Log::with(directory.path(), 15, Some(14)).await.close();
    let (start, end) = last_record(segments(directory.path()).last().unwrap());
    for offset in [start, start + 1, end - 1] {
        let copy = copy_directory(directory.path());
        let file = File::options().write(true).open(segments(copy.path()).last().unwrap()).unwrap();
        file.set_len(offset).unwrap();
        assert!(corruption(copy.path()).contains("14"), "{offset}");
        file.set_len(end).unwrap();
        assert!(corruption(copy.path()).contains("14"), "{offset} and zeros");
    }
}

#[tokio::test]
async fn a_flipped_bit_before_the_last_write_refuses_to_start() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing is known to be committed: only the records themselves tell torn from damaged.
    Log::with(directory.path(), 15, None).await.close();
    let paths = segments(directory.path());
    assert_eq!(paths.len(), 2);
    for (number, path) in paths.iter().enumerate() {
        let (last, end) = last_record(path);
        let damaged = if number == 0 { end } else { last };
        for offset in 0..damaged {
            let copy = copy_directory(directory.path());
            flip(&segments(copy.path())[number], offset);
            let reason = corruption(copy.path());
            assert!(reason.contains("restore the data directory"), "{offset}: {reason}");
        }
    }
}

#[tokio::test]
async fn a_write_of_several_records_is_torn_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::with(directory.path(), 3, Some(2)).await;
    log.opened.store.blocking_append([entry(1, 3), entry(1, 4), entry(1, 5)]).await.unwrap();
    log.close();
    // The middle of the last write never reached the disk, its end did: nobody was told that it was written.
    let path = &segments(directory.path())[0];
    let bytes = fs::read(path).unwrap();
    let middle = segment::scan(&bytes, 0).records[4].0;
    flip(path, middle + 50);
    let mut log = Log::open(directory.path()).unwrap();
    assert_eq!(log.entries().await, [(1, 0), (1, 1), (1, 2), (1, 3)]);
    log.close();
}

#[tokio::test]
async fn an_end_that_may_not_be_durable_is_written_anew() {
    for (committed, anew) in [(Some(14), false), (Some(13), true), (None, true)] {
        let directory = tempfile::tempdir().unwrap();
        Log::with(directory.path(), 15, committed).await.close();
        let last = segments(directory.path()).pop().unwrap();
        // The open file keeps its number from being given to another one.
        let before = File::open(&last).unwrap();
        Log::open(directory.path()).unwrap().close();
        let after = fs::metadata(&last).unwrap();
        assert_eq!(before.metadata().unwrap().ino() != after.ino(), anew, "{committed:?}");
    }
}

#[tokio::test]
async fn missing_foreign_and_unreadable_files_refuse_to_start() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 9] = [
        ("a missing first segment", |path| fs::remove_file(&segments(path)[0]).unwrap()),
        ("a missing middle segment", |path| fs::remove_file(&segments(path)[1]).unwrap()),
        ("a missing last segment", |path| fs::remove_file(segments(path).last().unwrap()).unwrap()),
        ("a foreign file", |path| fs::write(path.join("log/notes.txt"), "hello").unwrap()),
        ("a newer segment", |path| flip(&segments(path)[0], 8)),
        ("an emptied segment", |path| fs::write(segments(path).last().unwrap(), "").unwrap()),
        ("a damaged vote", |path| flip(&path.join("vote"), 17)),
        ("a cut vote", |path| fs::write(path.join("vote"), "octlvote").unwrap()),
        ("a damaged commit index", |path| fs::write(path.join("committed"), [1; 1024]).unwrap()),
    ];
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::with(directory.path(), 30, Some(29)).await;
    log.opened.store.save_vote(&Vote { leader_id: LeaderId::new(1, 7), committed: true }).await.unwrap();
    log.close();
    for (name, damage) in cases {
        let copy = copy_directory(directory.path());
        damage(copy.path());
        assert!(corruption(copy.path()).contains("restore"), "{name}");
    }
    Log::open(copy_directory(directory.path()).path()).unwrap().close();
}

#[tokio::test]
async fn a_torn_commit_index_falls_back_to_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    Log::with(directory.path(), 10, Some(5)).await.close();
    let mut log = Log::open(directory.path()).unwrap();
    log.opened.store.save_committed(Some(log_id(1, 8))).await.unwrap();
    log.close();
    flip(&directory.path().join("committed"), 4_096 + 32);
    let mut log = Log::open(directory.path()).unwrap();
    assert_eq!(log.opened.store.read_committed().await.unwrap(), Some(log_id(1, 5)));
    log.close();
}

#[tokio::test]
async fn a_hole_in_the_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::with(directory.path(), 3, None).await;
    assert!(log.append(1, 4).await.unwrap_err().contains("does not follow"));
    assert!(log.append(1, 2).await.unwrap_err().contains("does not follow"));
    log.append(1, 3).await.unwrap();
    log.close();
}

#[tokio::test]
async fn appends_that_wait_are_flushed_together() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::with(directory.path(), 1, None).await;
    let before = log.disk.faults.syncs.load(Ordering::Relaxed);
    // The thread can't finish its first write before it gets the index back.
    let shared = Arc::clone(&log.opened.shared);
    let (reply, mut answers) = mpsc::channel(64);
    for index in 1..=40 {
        let (done, answer) = oneshot_of();
        log.opened.store.append([entry(1, index)], IOFlushed::signal(done)).await.unwrap();
        let reply = reply.clone();
        tokio::spawn(async move { reply.send(answer.await.unwrap().is_ok()).await });
    }
    drop(reply);
    while let Some(flushed) = answers.recv().await {
        assert!(flushed);
    }
    let syncs = log.disk.faults.syncs.load(Ordering::Relaxed) - before;
    assert!(syncs < 40, "{syncs} flushes for 40 appends");
    assert_eq!(shared.last(), Some(log_id(1, 40)));
    log.close();
}

type Done = openraft::alias::OneshotSenderOf<TypeConfig, io::Result<()>>;
type Answer = openraft::alias::OneshotReceiverOf<TypeConfig, io::Result<()>>;

fn oneshot_of() -> (Done, Answer) {
    use openraft::type_config::TypeConfigExt;
    TypeConfig::oneshot()
}

#[tokio::test]
async fn after_a_full_disk_or_a_failed_flush_nothing_is_written_any_more() {
    for full in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::with(directory.path(), 3, Some(2)).await;
        if full {
            *log.disk.faults.bytes_left.lock() = Some(70);
        } else {
            log.disk.faults.sync_fails.store(true, Ordering::Relaxed);
        }
        assert!(log.append(1, 3).await.is_err());
        *log.disk.faults.bytes_left.lock() = None;
        log.disk.faults.sync_fails.store(false, Ordering::Relaxed);

        let syncs = log.disk.faults.syncs.load(Ordering::Relaxed);
        assert!(log.append(1, 4).await.is_err());
        assert!(log.opened.store.save_vote(&Vote::new(1, 7)).await.is_err());
        assert!(log.opened.store.purge(log_id(1, 1)).await.is_err());
        assert_eq!(log.disk.faults.syncs.load(Ordering::Relaxed), syncs, "a failed flush is not tried again");
        assert!(log.opened.shared.failed.borrow().as_ref().is_some_and(|reason| reason.contains("append to the log")));
        log.close();

        let mut log = Log::open(directory.path()).unwrap();
        let entries = log.entries().await;
        assert_eq!(entries[..3], [(1, 0), (1, 1), (1, 2)], "what was acknowledged is there");
        assert!(entries.len() <= 4);
        let next = entries.len() as u64;
        log.append(2, next).await.unwrap();
        log.close();
    }
}
