//! The promises hold in many runs, a seed gives the same run each time, and each promise is seen to break.

use octelium_actors::rate_limiter::leases;
use octelium_chaos_tests::sim::{Mistake, STEPS, Scenario, run, run_as};
use octelium_consensus::state::grants;

#[test]
fn fifty_seeds_keep_every_promise() {
    for seed in 0..50 {
        let report = run(seed, STEPS, None);
        assert!(report.broken.is_empty(), "seed {seed}: {report:#?}");
        assert!(report.admitted > 10, "seed {seed} tells nothing: {report:#?}");
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in [1, 8, 9] {
        let (first, second) = (run(seed, STEPS, None), run(seed, STEPS, None));
        assert_eq!((first.trace, first.admitted, first.entries), (second.trace, second.admitted, second.entries));
        assert_ne!(first.trace, run(seed + 10, STEPS, None).trace);
    }
}

/// Runs seeds until one breaks the promise whose sentences begin so.
fn caught(mistake: Mistake, scenario: Scenario, promise: &str) {
    for seed in 0..60 {
        let report = run_as(scenario, seed, STEPS, Some(mistake));
        if report.broken.iter().any(|broken| broken.starts_with(promise)) {
            return;
        }
    }
    panic!("no run with {mistake:?} breaks `{promise}`");
}

#[test]
fn stamps_of_the_wall_clock_break_the_window() {
    caught(Mistake::WallClock, Scenario::Faults, "window");
}

#[test]
fn stamps_of_a_former_reign_break_the_window() {
    caught(Mistake::FormerReign, Scenario::Faults, "window");
}

#[test]
fn validity_from_the_arrival_breaks_the_window() {
    caught(Mistake::Holder(leases::Planted::ValidFromArrival), Scenario::Faults, "window");
}

#[test]
fn capacity_that_is_back_after_one_window_breaks_it() {
    caught(Mistake::Log(grants::Planted::BackAfterWindow), Scenario::Faults, "window");
}

#[test]
fn a_grant_of_more_than_is_free_breaks_the_window() {
    caught(Mistake::Log(grants::Planted::Generous), Scenario::Load, "window");
}

#[test]
fn a_return_that_counts_again_is_noticed() {
    caught(Mistake::Log(grants::Planted::ReturnTwice), Scenario::Faults, "credited once");
}

#[test]
fn a_return_before_the_end_of_spending_is_noticed() {
    caught(Mistake::Holder(leases::Planted::ReturnBeforeStop), Scenario::Faults, "spent of granted");
}

#[test]
fn a_node_that_applies_at_its_own_time_is_noticed() {
    caught(Mistake::OwnTime, Scenario::Faults, "equal states");
}

#[test]
fn a_client_that_hops_notices_that_nothing_is_recalled() {
    caught(Mistake::Log(grants::Planted::NoRecall), Scenario::Hop, "sequential client");
}

#[test]
fn reports_that_are_not_used_cost_more_than_two_percent() {
    caught(Mistake::Log(grants::Planted::LateReports), Scenario::Load, "load admitted");
}
