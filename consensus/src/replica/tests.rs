use std::{collections::BTreeMap, fs, sync::atomic::Ordering};

use octelium_api::Kind;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    command::{Ask, Command, Expected, Outcome, Write},
    raft::{LogId, SnapshotMeta},
    state::apply,
    testing::{command, create, update, user},
};

fn options(directory: &Path) -> Options {
    Options { snapshot_after: 40, segment_bytes: 4_096, ..Options::new(directory) }
}

async fn open(directory: &Path) -> Replica {
    Replica::open(options(directory)).await.unwrap()
}

async fn put(replica: &Replica, number: u64) -> Result<Outcome, Error> {
    replica.propose(command(vec![create(user(&format!("uid-{number}"), &format!("name-{number}"), "v1"))])).await
}

fn names(state: &State) -> Vec<String> {
    state.list(Kind::User).map(|stored| stored.object.name().to_owned()).collect()
}

#[tokio::test]
async fn what_was_proposed_is_there_at_once_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    let node = replica.node_id();
    let mut watch = replica.watch();
    for number in 0..10 {
        let Outcome::Applied { index } = put(&replica, number).await.unwrap() else { panic!("a conflict") };
        assert_eq!(replica.state().index(), index);
        assert_eq!(watch.borrow_and_update().index(), index);
        assert!(replica.confirm().await.unwrap() >= index);
    }
    assert_eq!(replica.leader_contact(), Some(Duration::ZERO));
    let (hash, index) = (replica.state().hash(), replica.state().index());
    replica.close().await.unwrap();

    let replica = open(directory.path()).await;
    assert_eq!(replica.node_id(), node);
    // A new term begins with a blank entry, which moves the index but nothing else.
    assert_eq!(replica.state().index(), index + 1);
    let mut state = State::clone(&replica.state());
    state.advance(index);
    assert_eq!(state.hash(), hash);
    replica.close().await.unwrap();
}

#[tokio::test]
async fn asks_are_stamped_with_a_time_that_goes_on_over_restarts_and_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let mut log_time = 0;
    for incarnation in 1..4 {
        let replica = open(directory.path()).await;
        let node = replica.node_id();
        for sequence in 1..=50 {
            let want = crate::Want {
                counter: [1; 16],
                limit: 9,
                revision: 0,
                window: 1 << 40,
                want: 1,
                term: crate::state::grants::Term::Short,
            };
            let ask = Ask { node, incarnation, sequence, at: u64::MAX, asks: vec![want], returns: Vec::new() };
            replica.ask(ask).await.unwrap();
            let state = replica.state();
            let now = state.grants().log_time();
            assert!(now > log_time && now < 60_000_000_000, "{now} after {log_time}");
            log_time = now;
            assert_eq!(state.grants().sequence(node, incarnation), sequence);
        }
        assert_eq!(replica.state().grants().held_by(node, 0).count(), 9, "the limit over all starts");
        replica.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_closes() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    let second = Replica::open(options(directory.path())).await;
    assert!(matches!(&second, Err(error @ Error::Locked { .. }) if error.to_string().contains("in use")));
    let other = replica.clone();
    replica.close().await.unwrap();
    assert!(matches!(put(&other, 1).await, Err(Error::Closed)));
    assert!(other.confirm().await.is_err());
    open(directory.path()).await.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_enter_the_log_is_refused_before() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    let index = replica.state().index();
    let cases = [
        Command { version: 2, ..command(Vec::new()) },
        Command { request_id: "x".repeat(257), ..command(Vec::new()) },
        command(vec![Write::PutKey { name: "k".to_owned(), sealed: vec![0; 17 << 20] }]),
    ];
    for command in cases {
        assert!(matches!(replica.propose(command).await, Err(Error::Invalid { .. })));
    }
    assert_eq!(replica.state().index(), index);
    replica.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_updates_of_one_version_exactly_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    replica.propose(command(vec![create(user("u1", "alice", "v0"))])).await.unwrap();
    for round in 0..5 {
        let (old, tasks) = (format!("v{round}"), 0..32);
        let tasks: Vec<_> = tasks
            .map(|task| {
                let (replica, old) = (replica.clone(), old.clone());
                let mut object = user("u1", "alice", &format!("v{}", round + 1));
                object.metadata_mut().description = task.to_string();
                tokio::spawn(async move { replica.propose(command(vec![update(object, &old)])).await.unwrap() })
            })
            .collect();
        let mut winners = Vec::new();
        for (number, task) in tasks.into_iter().enumerate() {
            if matches!(task.await.unwrap(), Outcome::Applied { .. }) {
                winners.push(number.to_string());
            }
        }
        let state = replica.state();
        let stored = state.get(Kind::User, "u1").unwrap();
        assert_eq!(winners, [stored.object.metadata().unwrap().description.clone()]);
    }
    replica.close().await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_id_is_remembered_over_restarts_and_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let request = Command { request_id: "r1".to_owned(), ..command(vec![create(user("u1", "alice", "v1"))]) };
    let replica = open(directory.path()).await;
    let first = replica.propose(request.clone()).await.unwrap();
    replica.close().await.unwrap();
    for _ in 0..3 {
        let replica = open(directory.path()).await;
        assert_eq!(replica.propose(request.clone()).await.unwrap(), first);
        assert_eq!(replica.state().count(Kind::User), 1);
        for number in 0..60 {
            let name = format!("k{number}");
            replica.propose(command(vec![Write::PutKey { name, sealed: vec![1] }])).await.unwrap();
        }
        snapshot_of(&replica, 39).await;
        replica.close().await.unwrap();
    }
}

/// Waits for a snapshot that includes the entry `index`.
async fn snapshot_of(replica: &Replica, index: u64) {
    let reached = |at: Option<LogId>| at.is_some_and(|log_id| log_id.index >= index);
    let wait = replica.inner.raft.wait(Some(Duration::from_secs(20)));
    wait.metrics(|metrics| reached(metrics.snapshot), "a snapshot").await.unwrap();
}

#[tokio::test]
async fn snapshots_let_the_log_go_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    for number in 0..300 {
        put(&replica, number).await.unwrap();
    }
    snapshot_of(&replica, 200).await;
    let wait = replica.inner.raft.wait(Some(Duration::from_secs(20)));
    wait.metrics(|metrics| metrics.purged.is_some_and(|log_id| log_id.index > 100), "a purge").await.unwrap();
    let expected = names(&replica.state());
    assert_eq!(expected.len(), 300);
    replica.close().await.unwrap();
    assert!(!directory.path().join("log/00000000000000000000.log").exists());

    let replica = open(directory.path()).await;
    assert_eq!(names(&replica.state()), expected);
    replica.close().await.unwrap();

    fs::remove_file(directory.path().join("snapshot")).unwrap();
    let opened = Replica::open(options(directory.path())).await;
    assert!(matches!(opened, Err(Error::Corrupt { reason, .. }) if reason.contains("purged")));
}

#[tokio::test]
async fn a_large_state_is_written_again_only_after_as_much_of_log() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    let large = || command(vec![Write::PutKey { name: "large".to_owned(), sealed: vec![7; 150 << 10] }]);
    replica.propose(large()).await.unwrap();
    for number in 0..60 {
        put(&replica, number).await.unwrap();
    }
    snapshot_of(&replica, 30).await;
    let first = replica.inner.snapshots.newest().unwrap().last_log_id.unwrap().index;
    for number in 60..300 {
        put(&replica, number).await.unwrap();
    }
    assert_eq!(replica.inner.snapshots.newest().unwrap().last_log_id.unwrap().index, first);
    replica.propose(large()).await.unwrap();
    for number in 300..400 {
        put(&replica, number).await.unwrap();
    }
    snapshot_of(&replica, first + 240).await;
    replica.close().await.unwrap();
}

#[tokio::test]
async fn a_lost_log_or_node_is_not_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    put(&replica, 1).await.unwrap();
    replica.close().await.unwrap();
    for name in ["log", "committed"] {
        let path = directory.path().join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    for _ in 0..2 {
        let opened = Replica::open(options(directory.path())).await;
        assert!(matches!(opened, Err(Error::Corrupt { reason, .. }) if reason.contains("gone")));
    }
    fs::remove_file(directory.path().join("vote")).unwrap();
    let opened = Replica::open(options(directory.path())).await;
    assert!(matches!(opened, Err(Error::Corrupt { reason, .. }) if reason.contains("gone")));
}

#[tokio::test]
async fn a_start_that_never_got_its_first_entry_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    drop(Directory::open(&Disk::default(), directory.path()).unwrap());
    open(directory.path()).await.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_or_a_failed_flush_stops_the_replica() {
    for full in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let replica = Replica::open_on(options(directory.path()), disk.clone()).await.unwrap();
        for number in 0..5 {
            put(&replica, number).await.unwrap();
        }
        let failed = tokio::spawn({
            let replica = replica.clone();
            async move { replica.failed().await }
        });
        if full {
            *disk.faults.bytes_left.lock() = Some(30);
        } else {
            disk.faults.sync_fails.store(true, Ordering::Relaxed);
        }
        let mut errors = 0;
        for number in 5..10 {
            match put(&replica, number).await {
                Err(Error::Failed { .. }) => errors += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(errors, 5);
        let reason = failed.await.unwrap();
        // The commit index of the last good write may be saved just as late.
        let expected = ["append to the log", "save the commit index"];
        assert!(expected.iter().any(|what| reason.contains(what)), "{reason}");
        assert_eq!(replica.leader_contact(), None);
        assert_eq!(names(&replica.state()).len(), 5, "what was refused is not shown");
        replica.close().await.unwrap();

        let replica = open(directory.path()).await;
        assert_eq!(names(&replica.state())[..5], (0..5).map(|n| format!("name-{n}")).collect::<Vec<_>>());
        put(&replica, 20).await.unwrap();
        replica.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_stops_the_replica() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path()).await;
    // A directory in the way of the file.
    fs::create_dir(directory.path().join("snapshot.tmp")).unwrap();
    let failed = tokio::spawn({
        let replica = replica.clone();
        async move { replica.failed().await }
    });
    let mut number = 0;
    while put(&replica, number).await.is_ok() {
        number += 1;
        assert!(number < 10_000, "the replica works on without snapshots");
    }
    assert!(failed.await.unwrap().to_lowercase().contains("snapshot"));
    replica.close().await.unwrap();
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Write { user: u8, request: Option<u8>, kind: u8 },
    Key { name: u8, present: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..12_u8, proptest::option::weighted(0.3, 0..20_u8), 0..4_u8)
            .prop_map(|(user, request, kind)| Step::Write { user, request, kind }),
        3 => (0..4_u8, any::<bool>()).prop_map(|(name, present)| Step::Key { name, present }),
        1 => Just(Step::Restart),
    ]
}

/// The command of a step; some conflict on purpose.
fn step_command(state: &State, step: &Step, number: usize) -> Command {
    let (write, request) = match step {
        Step::Write { user: who, request, kind } => {
            let name = format!("user-{who}");
            let fresh = user(&format!("uid-{number}"), &name, &format!("v{number}"));
            let write = match (kind, state.by_name(Kind::User, &name)) {
                (0 | 1, Some(stored)) => {
                    let object = user(stored.object.uid(), &name, &format!("v{number}"));
                    update(object, stored.object.resource_version())
                }
                (2, Some(stored)) => Write::Delete {
                    kind: Kind::User,
                    uid: stored.object.uid().to_owned(),
                    expected: Expected::Version(stored.object.resource_version().to_owned()),
                },
                _ => create(fresh),
            };
            (write, request.map(|request| format!("request-{request}")))
        }
        Step::Key { name, present: true } => {
            (Write::PutKey { name: format!("key-{name}"), sealed: number.to_le_bytes().to_vec() }, None)
        }
        Step::Key { name, .. } => (Write::DeleteKey { name: format!("key-{name}") }, None),
        Step::Restart => unreachable!("a restart is no command"),
    };
    Command { request_id: request.unwrap_or_default(), ..command(vec![write]) }
}

/// The state that snapshot and log on the disk lead to, without Raft.
fn rebuild(directory: &Path, upto: u64) -> State {
    let copy = copy(directory);
    let opened = Opened::at(&Disk::default(), copy.path(), 4_096, false).unwrap();
    let (meta, mut state): (SnapshotMeta, State) = opened.snapshots.load().unwrap().unwrap_or_default();
    let after = meta.last_log_id.map_or(0, |log_id| log_id.index + 1);
    for entry in opened.log.shared.entries(after..upto + 1) {
        match &entry.payload {
            openraft::EntryPayload::Normal(proposal) => {
                apply(&mut state, entry.log_id.index, &proposal.command);
            }
            _ => state.advance(entry.log_id.index),
        }
    }
    drop(opened.log.store);
    opened.log.thread.join().unwrap();
    state
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("log")).unwrap();
    for directory in ["", "log"] {
        for entry in fs::read_dir(from.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, to.path().join(directory).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    to
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_random_history_survives_restarts_and_can_be_rebuilt(steps in proptest::collection::vec(step(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut replica = open(directory.path()).await;
            // What the same commands lead to when nothing is ever stored.
            let mut model = State::clone(&replica.state());
            let mut requests = BTreeMap::new();
            for (number, step) in steps.iter().enumerate() {
                if let Step::Restart = step {
                    replica.close().await.unwrap();
                    replica = open(directory.path()).await;
                    model.advance(replica.state().index());
                } else {
                    let command = step_command(&model, step, number);
                    let outcome = replica.propose(command.clone()).await.unwrap();
                    assert_eq!(outcome, apply(&mut model, replica.state().index(), &command));
                    if !command.request_id.is_empty() {
                        assert_eq!(requests.entry(command.request_id).or_insert(outcome.clone()), &outcome);
                    }
                }
                assert_eq!(replica.state().hash(), model.hash());
            }
            let index = replica.state().index();
            replica.close().await.unwrap();
            assert_eq!(rebuild(directory.path(), index).hash(), model.hash());
        });
    }
}
