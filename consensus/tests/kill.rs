//! A process that is killed loses nothing that it acknowledged.

#![allow(clippy::disallowed_methods, reason = "tests wait for their tasks and read the clock")]

use std::{
    env,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command as Process, Stdio},
    time::{Duration, SystemTime},
};

use octelium_api::{Kind, core, meta::Metadata};
use octelium_consensus::{Command, Expected, Options, Outcome, Replica, State, Write};

const DIRECTORY: &str = "OCTELIUM_KILL_DIRECTORY";
const ROUNDS: u64 = 10;

fn options(directory: &Path) -> Options {
    // Small, so that kills also meet new segments, snapshots and purges.
    Options { snapshot_after: 100, segment_bytes: 16 << 10, ..Options::new(directory) }
}

fn create(name: &str) -> Command {
    let metadata = Metadata {
        uid: format!("uid-{name}"),
        name: name.to_owned(),
        resource_version: "v1".to_owned(),
        ..Metadata::default()
    };
    let object = core::User { metadata: Some(metadata), ..core::User::default() }.into();
    Command::new(0, vec![Write::Put { object, expected: Expected::Absent, sealed: None }])
}

/// Not a test: the process that is killed. It writes until then, and prints each name once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let replica = Replica::open(options(Path::new(&directory))).await.unwrap();
    let first = replica.state().index();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let replica = replica.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let name = format!("n-{first}-{writer}-{number}");
                    let outcome = replica.propose(create(&name)).await.unwrap();
                    assert!(matches!(outcome, Outcome::Applied { .. }));
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {name}").unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

fn has(state: &State, name: &str) -> bool {
    state.by_name(Kind::User, name).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    // A xorshift from the clock: each run kills at other moments, and tells which.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut random = now.as_nanos() as u64 | 1;
    for round in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let patience = Duration::from_micros(random % 250_000);
        let mut child = Process::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // The moment counts from the first acknowledged write; some kills come in the middle of the start instead.
        let before = acknowledged.len();
        if round % 3 != 2 {
            acknowledged.extend(lines.by_ref().find_map(name));
        }
        std::thread::sleep(patience);
        child.kill().unwrap();
        acknowledged.extend(lines.filter_map(name));
        child.wait().unwrap();
        assert!(round % 3 == 2 || acknowledged.len() > before, "round {round}: the child wrote nothing");

        let replica = Replica::open(options(directory.path())).await.unwrap();
        let state = replica.state();
        let lost: Vec<_> = acknowledged.iter().filter(|name| !has(&state, name)).collect();
        assert!(lost.is_empty(), "round {round}, killed after {patience:?}: lost {lost:?}");
        replica.close().await.unwrap();
    }
    assert!(acknowledged.len() > 100, "only {} writes", acknowledged.len());
}

fn name(line: String) -> Option<String> {
    // The test runner's own words may stand before the first one.
    line.split_once("acknowledged ").map(|(_, name)| name.to_owned())
}
