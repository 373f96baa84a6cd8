use octelium_api::core;

use super::*;
use crate::{
    command::Requirement,
    state::{Change, requests::REMEMBERED_MAX},
    testing::{command, create, metadata, update, user},
};

/// Two users, one secret with sealed data, one key.
fn state() -> State {
    let mut state = State::default();
    let secret = core::Secret { metadata: Some(metadata("s1", "token", "v1")), ..core::Secret::default() };
    let writes = vec![
        create(user("u1", "alice", "v1")),
        create(user("u2", "bob", "v1")),
        Write::Put { object: secret.into(), expected: Expected::Absent, sealed: Some(vec![7]) },
        Write::PutKey { name: "k".to_owned(), sealed: vec![1] },
    ];
    assert_eq!(apply(&mut state, 1, &command(writes)), Outcome::Applied { index: 1 });
    state
}

fn delete(uid: &str, version: &str) -> Write {
    Write::Delete { kind: Kind::User, uid: uid.to_owned(), expected: Expected::Version(version.to_owned()) }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let secret = |secret: core::Secret| create(secret.into());
    let plain = core::secret::Data { r#type: Some(core::secret::data::Type::Value("x".to_owned())) };
    let cases = [
        ("a taken name", "already exists", create(user("u9", "alice", "v1"))),
        ("a taken uid", "uid is taken", create(user("u1", "carol", "v1"))),
        ("a changed name", "name cannot change", update(user("u1", "carol", "v2"), "v1")),
        ("a changed uid", "does not exist", update(user("u9", "alice", "v2"), "v1")),
        ("an old version", "changed meanwhile", update(user("u1", "alice", "v3"), "v0")),
        ("no uid", "no uid", create(user("", "carol", "v1"))),
        ("no name", "no uid or no name", create(user("u9", "", "v1"))),
        ("a delete of nothing", "does not exist", delete("u9", "v1")),
        ("a delete of an old version", "changed meanwhile", delete("u1", "v0")),
        (
            "a delete of what is absent",
            "cannot be deleted",
            Write::Delete { kind: Kind::User, uid: "u1".to_owned(), expected: Expected::Absent },
        ),
        (
            "secret data in the open",
            "not sealed",
            secret(core::Secret {
                metadata: Some(metadata("s9", "other", "v1")),
                data: Some(plain),
                ..core::Secret::default()
            }),
        ),
    ];
    for (name, expected, write) in cases {
        let (mut state, mut untouched) = (state(), state());
        // A write before it and one after it would work, but none of them may.
        let writes = vec![
            create(user("u7", "dave", "v1")),
            Write::DeleteKey { name: "k".to_owned() },
            write,
            create(user("u8", "erin", "v1")),
        ];
        match apply(&mut state, 2, &command(writes)) {
            Outcome::Conflict { reason, .. } => assert!(reason.contains(expected), "{name}: {reason}"),
            Outcome::Applied { .. } => panic!("{name} was applied"),
        }
        untouched.advance(2);
        assert_eq!(state.hash(), untouched.hash(), "{name}");
    }
}

#[test]
fn a_command_of_another_version_changes_nothing() {
    let (mut state, mut untouched) = (state(), state());
    let newer = Command { version: 2, ..command(vec![create(user("u9", "carol", "v1"))]) };
    assert!(matches!(apply(&mut state, 2, &newer), Outcome::Conflict { reason, .. } if reason.contains("version 2")));
    untouched.advance(2);
    assert_eq!(state.hash(), untouched.hash());
}

#[test]
fn a_requirement_is_checked_after_the_writes() {
    let requires = |uid: &str| vec![Requirement { kind: Kind::User, uid: uid.to_owned() }];
    let mut state = state();
    let own = Command { requires: requires("u9"), ..command(vec![create(user("u9", "carol", "v1"))]) };
    assert_eq!(apply(&mut state, 2, &own), Outcome::Applied { index: 2 });
    let gone = Command { requires: requires("u9"), ..command(vec![delete("u9", "v1")]) };
    assert!(matches!(apply(&mut state, 3, &gone), Outcome::Conflict { name, .. } if name == "u9"));
    assert!(state.get(Kind::User, "u9").is_some());
}

#[test]
fn an_update_without_sealed_data_keeps_it() {
    let mut state = state();
    let secret = |version: &str| -> Object {
        core::Secret { metadata: Some(metadata("s1", "token", version)), ..core::Secret::default() }.into()
    };
    apply(&mut state, 2, &command(vec![update(secret("v2"), "v1")]));
    let stored = state.get(Kind::Secret, "s1").unwrap();
    assert_eq!(
        (stored.object.resource_version(), stored.sealed.as_deref(), stored.created_index),
        ("v2", Some(&[7][..]), 1)
    );
    let expected = Expected::Version("v2".to_owned());
    apply(&mut state, 3, &command(vec![Write::Put { object: secret("v3"), expected, sealed: Some(vec![8]) }]));
    assert_eq!(state.get(Kind::Secret, "s1").unwrap().sealed.as_deref(), Some(&[8][..]));
}

#[test]
fn a_deleted_name_is_free_again() {
    let mut state = state();
    let writes = vec![delete("u1", "v1"), create(user("u9", "alice", "v1"))];
    assert_eq!(apply(&mut state, 2, &command(writes)), Outcome::Applied { index: 2 });
    assert_eq!(state.by_name(Kind::User, "alice").unwrap().object.uid(), "u9");
    assert_eq!(state.get(Kind::User, "u1"), None);
    let names: Vec<_> = state.list(Kind::User).map(|stored| stored.object.name()).collect();
    assert_eq!(names, ["bob", "alice"], "in the order of creation");
    assert_eq!(state.count(Kind::User), 2);
}

#[test]
fn the_same_request_id_gives_the_first_outcome_and_changes_nothing() {
    let mut state = state();
    let request = |id: &str, write: Write| Command { request_id: id.to_owned(), ..command(vec![write]) };
    let first = request("r1", create(user("u9", "carol", "v1")));
    assert_eq!(apply(&mut state, 2, &first), Outcome::Applied { index: 2 });
    assert_eq!(apply(&mut state, 3, &first), Outcome::Applied { index: 2 });
    let other = request("r1", create(user("u10", "dave", "v1")));
    assert_eq!(apply(&mut state, 4, &other), Outcome::Applied { index: 2 });
    assert_eq!(state.count(Kind::User), 3);

    let refused = apply(&mut state, 5, &request("r2", create(user("u11", "carol", "v1"))));
    apply(&mut state, 6, &command(vec![delete("u9", "v1")]));
    let again = apply(&mut state, 7, &request("r2", create(user("u11", "carol", "v1"))));
    assert!(matches!(refused, Outcome::Conflict { .. }));
    assert_eq!(again, refused, "also when it would work by now");
    assert_eq!(state.index(), 7);
}

#[test]
fn the_oldest_request_ids_are_forgotten() {
    let mut state = State::default();
    let put = |id: usize| Command { request_id: format!("r{id}"), ..command(Vec::new()) };
    for id in 0..=REMEMBERED_MAX {
        apply(&mut state, id as u64, &put(id));
    }
    assert_eq!(apply(&mut state, 20_000, &put(1)), Outcome::Applied { index: 1 });
    assert_eq!(apply(&mut state, 20_001, &put(0)), Outcome::Applied { index: 20_001 });
    assert_eq!(state.requests.iter().count(), REMEMBERED_MAX);
}

#[test]
fn changes_tell_the_difference_between_two_states() {
    let old = state();
    let mut new = old.clone();
    let writes = vec![
        delete("u1", "v1"),
        create(user("u9", "alice", "v1")),
        update(user("u2", "bob", "v2"), "v1"),
        Write::PutKey { name: "k".to_owned(), sealed: vec![2] },
        Write::PutKey { name: "l".to_owned(), sealed: vec![3] },
    ];
    apply(&mut new, 2, &command(writes));
    let tell = |change: Change<'_>| match change {
        Change::Created(new) => format!("+{}", new.object.uid()),
        Change::Updated { old, new } => {
            format!("{}:{}>{}", new.object.uid(), old.object.resource_version(), new.object.resource_version())
        }
        Change::Deleted(old) => format!("-{}", old.object.uid()),
        Change::KeyPut { name, sealed } => format!("key {name}={sealed:?}"),
        Change::KeyDeleted { name } => format!("key -{name}"),
    };
    let told: Vec<_> = old.changes(&new).map(tell).collect();
    assert_eq!(told, ["-u1", "u2:v1>v2", "+u9", "key k=[2]", "key l=[3]"]);
    let back: Vec<_> = new.changes(&old).map(tell).collect();
    assert_eq!(back, ["+u1", "u2:v2>v1", "-u9", "key k=[1]", "key -l"]);
    assert_eq!(new.changes(&new.clone()).count(), 0);
}

#[test]
fn the_same_log_gives_the_same_state_and_bytes() {
    let build = || {
        let mut state = state();
        for index in 2..500 {
            let name = format!("n{}", index % 50);
            let write = match state.by_name(Kind::User, &name) {
                Some(stored) => delete(stored.object.uid(), stored.object.resource_version()),
                None => create(user(&format!("x{index}"), &name, &format!("v{index}"))),
            };
            apply(&mut state, index, &Command { request_id: format!("r{index}"), ..command(vec![write]) });
        }
        let bytes: Vec<_> = state.records().map(crate::state::records::encode).collect();
        (state.hash(), bytes)
    };
    assert_eq!(build(), build());
    assert_ne!(build().0, state().hash());
}
