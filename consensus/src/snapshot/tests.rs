use std::{fs, os::unix::fs::FileExt};

use openraft::vote::RaftLeaderId;

use super::*;
use crate::{
    command::{Command, Outcome, Write},
    raft::{LeaderId, LogId},
    state::apply,
    testing::{command, create, update, user},
};

/// A state with something of everything.
fn state() -> State {
    let mut state = State::default();
    let secret = octelium_api::core::Secret {
        metadata: Some(crate::testing::metadata("s1", "token", "v1")),
        ..octelium_api::core::Secret::default()
    };
    let sealed = Write::Put { object: secret.into(), expected: crate::Expected::Absent, sealed: Some(vec![1, 2, 3]) };
    let commands = [
        command(vec![create(user("u2", "zoe", "v1")), create(user("u1", "alice", "v1")), sealed]),
        command(vec![Write::PutKey { name: "token".to_owned(), sealed: vec![9; 40] }]),
        Command { request_id: "first".to_owned(), ..command(vec![update(user("u1", "alice", "v2"), "v1")]) },
        Command { request_id: "again".to_owned(), ..command(vec![create(user("u1", "alice", "v1"))]) },
    ];
    for (index, command) in (10..).zip(&commands) {
        apply(&mut state, index, command);
    }
    state
}

fn meta(index: u64) -> SnapshotMeta {
    let log_id = |index| LogId::new(LeaderId::new(3, 7), index);
    let nodes = std::collections::BTreeMap::from([(7, openraft::BasicNode::new("a:1"))]);
    let membership = Membership::new(vec![[7].into()], nodes).unwrap();
    SnapshotMeta {
        last_log_id: Some(log_id(index)),
        last_membership: StoredMembership::new(Some(log_id(0)), membership),
    }
}

fn open(directory: &Path) -> Result<Snapshots, Error> {
    Snapshots::open(Disk::default(), directory, Arc::new(File::create(directory.join("lock")).unwrap()))
}

#[tokio::test]
async fn a_snapshot_keeps_all_of_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = open(directory.path()).unwrap();
    assert!(snapshots.newest().is_none());
    snapshots.save(meta(13), state()).await.unwrap();

    let (meta_read, mut read) = open(directory.path()).unwrap().load().unwrap().unwrap();
    assert_eq!(meta_read, meta(13));
    assert_eq!(read.hash(), state().hash());
    let (_, written) = snapshots.load().unwrap().unwrap();
    assert_eq!(written.hash(), state().hash());
    assert_eq!(snapshots.bytes(), fs::metadata(directory.path().join("snapshot")).unwrap().len());
    assert_eq!(read.index(), 13);
    let names: Vec<_> = read.list(octelium_api::Kind::User).map(|stored| stored.object.name()).collect();
    assert_eq!(names, ["zoe", "alice"], "the order of creation");
    assert_eq!(read.list(octelium_api::Kind::User).map(|stored| stored.created_index).max(), Some(10));
    let again = Command { request_id: "first".to_owned(), ..command(Vec::new()) };
    assert_eq!(apply(&mut read, 20, &again), Outcome::Applied { index: 12 });
    let again = Command { request_id: "again".to_owned(), ..command(Vec::new()) };
    assert!(matches!(apply(&mut read, 21, &again), Outcome::Conflict { name, .. } if name == "alice"));
}

#[tokio::test]
async fn an_older_snapshot_does_not_replace_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let snapshots = open(directory.path()).unwrap();
    snapshots.save(meta(13), state()).await.unwrap();
    snapshots.save(meta(5), State::default()).await.unwrap();
    assert_eq!(snapshots.newest().unwrap(), meta(13));
    assert_eq!(open(directory.path()).unwrap().newest().unwrap(), meta(13));
}

#[tokio::test]
async fn any_damage_to_a_snapshot_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap().save(meta(13), state()).await.unwrap();
    let path = directory.path().join("snapshot");
    let bytes = fs::read(&path).unwrap();
    let refused = || matches!(open(directory.path()), Err(Error::Corrupt { .. }));
    let file = File::options().write(true).open(&path).unwrap();
    for (offset, byte) in (0..).zip(&bytes) {
        file.write_all_at(&[byte ^ 4], offset).unwrap();
        assert!(refused(), "byte {offset}");
        file.write_all_at(&[*byte], offset).unwrap();
    }
    file.write_all_at(&[0], bytes.len() as u64).unwrap();
    assert!(refused(), "a byte too much");
    for length in (0..bytes.len() as u64).rev() {
        file.set_len(length).unwrap();
        assert!(refused(), "cut to {length}");
    }
}

#[tokio::test]
async fn a_failed_snapshot_leaves_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let lock = Arc::new(File::create(directory.path().join("lock")).unwrap());
    let snapshots = Snapshots::open(disk.clone(), directory.path(), lock).unwrap();
    snapshots.save(meta(5), State::default()).await.unwrap();
    *disk.faults.bytes_left.lock() = Some(20);
    assert!(snapshots.save(meta(13), state()).await.is_err());
    assert_eq!(snapshots.newest().unwrap(), meta(5));
    assert_eq!(open(directory.path()).unwrap().newest().unwrap(), meta(5));
}
