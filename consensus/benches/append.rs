//! How long a durable proposal takes: one at a time, and with 64 in flight. Run on the disk that counts:
//! `cargo bench -p octelium-consensus --bench append -- /path/on/that/disk`.

#![allow(clippy::disallowed_methods, reason = "a measurement waits for its tasks")]

use std::{path::PathBuf, time::Instant};

use octelium_api::{core, meta::Metadata};
use octelium_consensus::{Command, Expected, Options, Replica, Write};

const SEQUENTIAL: u64 = 3_000;
const IN_FLIGHT: u64 = 64;
const EACH: u64 = 600;

/// A User of about 500 bytes.
fn command(number: u64) -> Command {
    let metadata = Metadata {
        uid: format!("00000000-0000-7000-8000-{number:012}"),
        name: format!("user-{number}"),
        resource_version: format!("{number}"),
        description: "d".repeat(380),
        ..Metadata::default()
    };
    let object = core::User { metadata: Some(metadata), ..core::User::default() }.into();
    Command::new(0, vec![Write::Put { object, expected: Expected::Absent, sealed: None }])
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let root = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let directory = tempfile::tempdir_in(root.unwrap_or_else(std::env::temp_dir)).expect("a temporary directory");
    let options = || Options::new(directory.path());
    let start = Instant::now();
    let replica = Replica::open(options()).await.expect("a first start");
    println!("first start            {:>10.1} ms", start.elapsed().as_secs_f64() * 1e3);
    replica.close().await.expect("a clean end");
    let start = Instant::now();
    let replica = Replica::open(options()).await.expect("a restart");
    println!("restart, empty         {:>10.1} ms", start.elapsed().as_secs_f64() * 1e3);

    let mut micros = Vec::new();
    let start = Instant::now();
    for number in 0..SEQUENTIAL {
        let begun = Instant::now();
        replica.propose(command(number)).await.expect("a write");
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let rate = SEQUENTIAL as f64 / start.elapsed().as_secs_f64();
    micros.sort_by(f64::total_cmp);
    println!("one at a time          {rate:>10.0} proposals/s");
    println!("  median               {:>10.0} µs", micros[micros.len() / 2]);
    println!("  99 %                 {:>10.0} µs", micros[micros.len() * 99 / 100]);

    let start = Instant::now();
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|task| {
            let replica = replica.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    replica.propose(command(SEQUENTIAL + task * EACH + number)).await.expect("a write");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task");
    }
    println!("64 in flight           {:>10.0} proposals/s", (IN_FLIGHT * EACH) as f64 / start.elapsed().as_secs_f64());

    let start = Instant::now();
    let hash = replica.state().hash();
    println!("digest of the state    {:>10.1} ms, begins with {:02x}", start.elapsed().as_secs_f64() * 1e3, hash[0]);
    replica.close().await.expect("a clean end");
    let start = Instant::now();
    let replica = Replica::open(options()).await.expect("a restart");
    println!("restart, with all this {:>10.1} ms", start.elapsed().as_secs_f64() * 1e3);
    replica.close().await.expect("a clean end");
}
