//! The number of this start of the node. Two processes with one node's data would vote twice and overwrite each other: whoever hears both
//! lets only that speak which it heard first, and the other ends.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use octelium_consensus::Replica;
use parking_lot::Mutex;

use crate::node::write;

/// A start that wasn't heard for so long is over. A node that is killed and started at once waits for that.
const SILENT: Duration = Duration::from_secs(2);
/// Each node speaks to all that vote at least this often.
const GREET_EVERY: Duration = Duration::from_millis(500);
/// Nodes whose starts are remembered; a cluster has far fewer.
const REMEMBERED: usize = 1_024;

/// In the data directory: the number of the last start, and of the last one that other nodes refused.
const STARTS: &str = "starts";
const REFUSED: &str = "starts.refused";

/// One start of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Higher than that of each start before.
    pub number: u64,
    /// Tells two starts with one number apart, which copies of a data directory make.
    pub random: u64,
}

impl Start {
    /// Counts one more start of the node whose data directory this is.
    ///
    /// # Errors
    /// If the number can't be read or kept.
    pub fn next(data_dir: &Path) -> Result<Self> {
        let file = data_dir.join(STARTS);
        let last = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().with_context(|| format!("{} is damaged: remove it", file.display()))?,
            // Others may know the node by a number that was lost: the clock is above it, as a node isn't started once a second.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => seconds_now(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        let number: u64 = last + 1;
        write(&file, number.to_string().as_bytes(), 0o600)?;
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        Ok(Self { number, random })
    }

    /// Notes that other nodes refused this start. A copy of a data directory that is started again and again would be taken for the successor
    /// of the node that it was made from, once that stops.
    pub fn mark_refused(&self, data_dir: &Path) {
        if let Err(error) = write(&data_dir.join(REFUSED), self.number.to_string().as_bytes(), 0o600) {
            tracing::error!(%error, "it can't be noted that this data directory was refused");
        }
    }

    /// Where it stands that the last start of this data directory was refused, if it was.
    pub fn refused(data_dir: &Path) -> Option<PathBuf> {
        let number = |name: &str| fs::read_to_string(data_dir.join(name)).ok()?.trim().parse::<u64>().ok();
        let last_was_refused = number(REFUSED).is_some_and(|refused| number(STARTS) == Some(refused));
        last_was_refused.then(|| data_dir.join(REFUSED))
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.number, self.random)
    }
}

impl FromStr for Start {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, random) = text.split_at_checked(16).filter(|_| text.len() == 32).ok_or(())?;
        let hex = |part: &str| u64::from_str_radix(part, 16).map_err(|_| ());
        Ok(Self { number: hex(number)?, random: hex(random)? })
    }
}

#[allow(clippy::disallowed_methods, reason = "a number to begin with, from which on the clock doesn't count")]
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Which start of each node is heard.
#[derive(Debug, Default)]
pub struct Starts(Mutex<HashMap<u64, (Start, Instant)>>);

impl Starts {
    /// Whether this start of a node may speak for it: the one that is known, or a later one once that was silent for [`SILENT`].
    pub fn may_speak(&self, node: u64, start: Start, now: Instant) -> bool {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED && !known.contains_key(&node) {
            return true;
        }
        let (latest, heard) = known.entry(node).or_insert((start, now));
        let is_successor = start.number >= latest.number && now.duration_since(*heard) >= SILENT;
        if start != *latest && !is_successor {
            return false;
        }
        (*latest, *heard) = (start, now);
        true
    }
}

/// Lets the others hear this node, so that none takes a copy of it for its successor. Goes on until it is stopped.
pub async fn keep_heard(replica: Replica) {
    let mut tick = tokio::time::interval(GREET_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        replica.greet().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_higher_number_than_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let first = Start::next(directory.path()).unwrap();
        let second = Start::next(directory.path()).unwrap();
        assert_eq!(second.number, first.number + 1);
        assert_eq!(second.to_string().parse(), Ok(second));
        assert!("x".repeat(32).parse::<Start>().is_err() && "0".repeat(31).parse::<Start>().is_err());
        let file = directory.path().join("starts");
        fs::write(&file, "99999999999\n").unwrap();
        assert_eq!(Start::next(directory.path()).unwrap().number, 100_000_000_000, "whatever the clock says");
        assert_eq!(Start::refused(directory.path()), None);
        Start { number: 7, random: 1 }.mark_refused(directory.path());
        assert_eq!(Start::refused(directory.path()), None, "there was a later one");
        Start { number: 100_000_000_000, random: 1 }.mark_refused(directory.path());
        assert!(Start::refused(directory.path()).is_some());
        fs::write(&file, "x").unwrap();
        assert!(Start::next(directory.path()).unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn of_two_processes_the_one_that_is_heard_speaks() {
        let (starts, began) = (Starts::default(), Instant::now());
        let may = |node, number, random, at: u64| {
            starts.may_speak(node, Start { number, random }, began + Duration::from_millis(at))
        };
        assert!(may(1, 5, 1, 0) && may(1, 5, 1, 1_000));
        assert!(!may(1, 5, 2, 1_500) && !may(1, 6, 2, 1_500), "a copy, while the other one is heard");
        assert!(may(2, 1, 1, 1_500));
        assert!(!may(1, 4, 1, 9_000), "older than what is known, and so put back from a backup");
        assert!(may(1, 6, 3, 9_000), "a successor, once the one before is silent");
        assert!(!may(1, 5, 1, 60_000), "it was put to sleep, and comes too late");
    }
}
