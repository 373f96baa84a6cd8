//! Raft keeps its promises in many runs, a seed gives the same run each time, and mistakes are seen.

use octelium_chaos_tests::raft::run;
use octelium_consensus::simulation::Mistake;

#[test]
fn some_seeds_keep_every_promise() {
    for seed in 1..5 {
        let report = run(seed, 5, None).unwrap();
        assert!(report.broken.is_empty(), "seed {seed}: {:#?}", report.broken);
        assert!(report.writes > 0, "seed {seed} tells nothing");
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in [1, 2] {
        let (first, second) = (run(seed, 5, None).unwrap(), run(seed, 5, None).unwrap());
        assert_eq!(first.lines, second.lines);
        assert_eq!(first.trace, second.trace);
        assert_ne!(first.trace, run(seed + 10, 5, None).unwrap().trace);
    }
}

/// Runs seeds until one breaks this promise.
fn caught(mistake: Mistake, promise: &str) {
    let breaks = |seed| {
        let report = run(seed, 20, Some(mistake)).expect("there is room for the disks");
        report.broken.iter().any(|sentence| sentence.starts_with(promise))
    };
    assert!((0..60).any(breaks), "no run with {mistake:?} breaks `{promise}`");
}

#[test]
fn a_flush_that_lies_is_noticed() {
    caught(Mistake::LyingSync, "starts again");
}

#[test]
fn a_vote_that_is_not_saved_is_noticed() {
    caught(Mistake::ForgottenVote, "one reign");
}

#[test]
fn a_request_that_is_obeyed_again_is_noticed() {
    caught(Mistake::ForgottenRequests, "one effect");
}
