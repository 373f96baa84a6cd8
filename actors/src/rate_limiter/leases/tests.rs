use std::time::Duration;

use octelium_consensus::{Command, State, state::apply};

use super::*;
use crate::rate_limiter::{Admission, Refused, Rule, cells::Bounds};

const MS: u64 = 1_000_000;

/// A log and the nodes that it has; each ask is applied and seen at once, unless a test does so by hand.
struct Cluster {
    state: State,
    now: u64,
    nodes: Vec<Node>,
}

struct Node {
    cells: Arc<Cells>,
    leases: Leases,
}

fn rule(limit: u64) -> Rule {
    Rule { limit, window: Duration::from_secs(10), revision: 1 }
}

fn counter(key: &str) -> CounterId {
    CounterId::new("uid", "plugin", key, Duration::from_secs(10))
}

impl Cluster {
    fn of(nodes: u64) -> Self {
        let node = |node| {
            let cells = Arc::new(Cells::new(Bounds::default()));
            Node { leases: Leases::new(cells.clone(), node, 1), cells }
        };
        Self { state: State::default(), now: 1_000 * MS, nodes: (0..nodes).map(node).collect() }
    }

    fn spend(&mut self, node: usize, key: &str, rule: Rule) -> Option<Admission> {
        self.nodes[node].cells.try_spend(counter(key), rule, &|| self.now)
    }

    fn refused(&self, node: usize, key: &str, rule: Rule) -> Option<Refused> {
        let cells = &self.nodes[node].cells;
        cells.refused(&cells.get(&counter(key)).unwrap(), rule, self.now)
    }

    fn ask(&mut self, node: usize) -> Option<Ask> {
        self.nodes[node].leases.ask(self.state.grants(), self.now)
    }

    fn apply(&mut self, ask: Ask) {
        let index = self.state.index() + 1;
        apply(&mut self.state, index, &Command::of_ask(Ask { at: self.now, ..ask }));
    }

    fn absorb(&mut self) {
        for node in &mut self.nodes {
            node.leases.absorb(self.state.grants(), self.now);
        }
    }

    /// Lets some ticks pass.
    fn turn(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.now += 5 * MS;
            for node in 0..self.nodes.len() {
                if let Some(ask) = self.ask(node) {
                    self.apply(ask);
                    self.absorb();
                }
            }
        }
    }

    /// Whether a request at a node is admitted within 50 ms, as one that waits.
    fn admits(&mut self, node: usize, key: &str, rule: Rule) -> bool {
        if self.spend(node, key, rule).is_some() {
            return true;
        }
        let cells = self.nodes[node].cells.clone();
        let cell = cells.get(&counter(key)).unwrap();
        if cells.refused(&cell, rule, self.now).is_some() || !cells.begin_wait(&cell) {
            return false;
        }
        let mut admitted = false;
        for _ in 0..10 {
            cells.want(&cell);
            self.turn(1);
            admitted = cells.take(&cell, rule, &|| self.now, true).is_some();
            if admitted || cells.refused(&cell, rule, self.now).is_some() {
                break;
            }
        }
        cells.end_wait(&cell);
        admitted
    }
}

#[test]
fn a_cold_counter_gets_tokens_with_the_next_tick_and_serves_the_next_requests_at_once() {
    let mut cluster = Cluster::of(1);
    assert_eq!(cluster.spend(0, "a", rule(100)), None);
    cluster.turn(1);
    let admission = cluster.spend(0, "a", rule(100)).unwrap();
    assert_eq!((admission.remaining, admission.reset), (99, Duration::from_secs(10)));
    assert!(cluster.spend(0, "a", rule(100)).is_some());
    assert!(cluster.ask(0).is_none(), "there is a reserve");
}

#[test]
fn exactly_the_limit_is_admitted_to_one_who_hops_and_then_a_flood_is_refused_without_asking() {
    for limit in [1, 2, 3, 10, 57] {
        let mut cluster = Cluster::of(3);
        let admitted = (0..limit + 20).filter(|turn| cluster.admits(*turn as usize % 3, "a", rule(limit))).count();
        assert_eq!(admitted as u64, limit);
        cluster.turn(3);
        let index = cluster.state.index();
        for request in 0..1_000 {
            assert!(!cluster.admits(request % 3, "a", rule(limit)));
        }
        assert_eq!(cluster.state.index(), index, "nobody asks while it is known to be of no use");
        let Some(Refused::Exceeded { retry_after }) = cluster.refused(0, "a", rule(limit)) else { panic!() };
        assert!(retry_after <= Duration::from_millis(10_600), "{retry_after:?}");
        cluster.now += u64::try_from(retry_after.as_nanos()).unwrap() + MS;
        assert!(cluster.admits(0, "a", rule(limit)), "{limit}");
    }
}

#[test]
fn a_lease_counts_from_the_sending_of_its_ask_and_is_returned_after_its_end() {
    let mut cluster = Cluster::of(1);
    cluster.spend(0, "a", rule(100));
    let ask = cluster.ask(0).unwrap();
    assert_eq!(ask.asks[0].term, Term::Long);
    cluster.now += 4_999 * MS;
    cluster.apply(ask);
    cluster.absorb();
    assert!(cluster.spend(0, "a", rule(100)).is_some());
    cluster.now += MS;
    assert_eq!(cluster.spend(0, "a", rule(100)), None);
    let ask = cluster.ask(0).unwrap();
    assert_eq!((ask.returns[0].spent, ask.returns[0].done), (1, true));
    cluster.apply(ask);
    cluster.absorb();
    assert_eq!(cluster.nodes[0].leases.closing.len(), 0);
}

#[test]
fn what_another_start_was_granted_is_not_spent() {
    let mut cluster = Cluster::of(1);
    cluster.spend(0, "a", rule(10));
    let late = cluster.ask(0).unwrap();
    let cells = cluster.nodes[0].cells.clone();
    cluster.nodes[0].leases = Leases::new(cells, 0, 2);
    cluster.apply(late);
    cluster.absorb();
    assert_eq!(cluster.state.grants().held_by(0, 0).count(), 1);
    assert_eq!((cluster.spend(0, "a", rule(10)), cluster.nodes[0].leases.held()), (None, 0));
}

#[test]
fn a_new_holder_ends_what_the_one_before_left() {
    let mut cluster = Cluster::of(1);
    cluster.spend(0, "a", rule(10));
    cluster.turn(1);
    let cells = cluster.nodes[0].cells.clone();
    cluster.nodes[0].leases = Leases::new(cells, 0, 2);
    assert_eq!(cluster.spend(0, "a", rule(10)), None);
}

#[test]
fn an_ask_that_failed_and_is_applied_after_all_does_no_harm() {
    let mut cluster = Cluster::of(1);
    cluster.spend(0, "a", rule(10));
    let cell = cluster.nodes[0].cells.get(&counter("a")).unwrap();
    assert!(cluster.nodes[0].cells.begin_wait(&cell));
    let first = cluster.ask(0).unwrap();
    cluster.now += 5 * MS;
    cluster.nodes[0].leases.failed(first.sequence);
    let second = cluster.ask(0).unwrap();
    assert_eq!((second.sequence, second.asks.len()), (2, 1));
    cluster.apply(first.clone());
    cluster.apply(second.clone());
    cluster.apply(first);
    cluster.apply(second);
    cluster.absorb();
    assert!(cluster.nodes[0].leases.in_flight().is_none());
    let mut admitted = 0;
    while cluster.spend(0, "a", rule(10)).is_some() {
        admitted += 1;
    }
    assert!((1..=10).contains(&admitted));
}

#[test]
fn a_return_is_repeated_until_the_log_has_it() {
    let mut cluster = Cluster::of(1);
    cluster.spend(0, "a", rule(10));
    cluster.turn(1);
    cluster.spend(0, "a", rule(10));
    cluster.now += 6_000 * MS;
    for _ in 0..3 {
        let lost = cluster.ask(0).unwrap();
        assert_eq!((lost.returns.len(), lost.returns[0].spent), (1, 1));
        cluster.nodes[0].leases.failed(lost.sequence);
    }
    cluster.turn(1);
    assert!(!cluster.nodes[0].leases.is_busy());
    assert_eq!(cluster.state.grants().held_by(0, 0).count(), 0);
}

#[test]
fn a_hot_counter_asks_ahead_and_seldom() {
    let mut cluster = Cluster::of(1);
    let (mut admitted, mut missed) = (0, 0);
    let limit = rule(1_000_000);
    for _ in 0..400 {
        for _ in 0..10 {
            if cluster.spend(0, "a", limit).is_some() { admitted += 1 } else { missed += 1 }
        }
        cluster.turn(1);
    }
    assert!(missed < 100 && admitted > 3_900, "{admitted} {missed}");
    assert!(cluster.state.index() < 120, "{} asks in 2 s", cluster.state.index());
}

#[test]
fn a_lowered_limit_takes_effect_with_the_next_request() {
    let mut cluster = Cluster::of(2);
    let raised = Rule { limit: 1_000, ..rule(0) };
    assert!((0..300).filter(|_| cluster.admits(0, "a", raised)).count() == 300);
    let lowered = Rule { limit: 10, revision: 2, ..raised };
    cluster.spend(0, "a", lowered);
    cluster.turn(4);
    assert_eq!(cluster.spend(0, "a", lowered), None);
    assert_eq!(cluster.spend(0, "a", raised), None, "a request that still has the older rule");
    let none = Rule { limit: 0, revision: 3, ..raised };
    assert_eq!(cluster.refused(0, "a", none), Some(Refused::Exceeded { retry_after: none.window }));
}

#[test]
fn there_is_a_bound_to_counters_and_to_those_who_wait() {
    use std::num::NonZeroUsize;
    let two = NonZeroUsize::new(2).unwrap();
    let cells = Cells::new(Bounds { counters_max: two, waiters_max: two });
    for key in ["a", "b"] {
        assert!(cells.cell(counter(key), rule(1), &|| 0, || None).is_some());
    }
    assert!(cells.cell(counter("c"), rule(1), &|| 0, || None).is_none());
    let cell = cells.get(&counter("a")).unwrap();
    assert!(cells.begin_wait(&cell) && cells.begin_wait(&cell) && !cells.begin_wait(&cell));
    cells.end_wait(&cell);
    assert!(cells.begin_wait(&cell));
    // What is out of use makes room, but not what somebody waits for.
    cells.sweep(50_000 * MS);
    assert_eq!(cells.len(), 2);
    cells.sweep(70_000 * MS);
    assert_eq!(cells.len(), 1);
}

#[test]
fn names_of_counters_differ_in_every_part() {
    let second = Duration::from_secs(1);
    let ids = [
        CounterId::new("ab", "c", "d", second),
        CounterId::new("a", "bc", "d", second),
        CounterId::new("ab", "c", "e", second),
        CounterId::new("ab", "c", "d", second * 2),
    ];
    assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)));
}

#[test]
fn the_less_of_a_limit_is_needed_the_longer_it_is_held() {
    let minute = 60 * SECOND;
    // rate, limit, free, nodes
    let cases = [
        ("unknown, a small limit", (0, 100, 100, 1), (Term::Long, 4)),
        ("unknown, little is free", (0, 100, 20, 1), (Term::Long, 0)),
        ("unknown, one of five nodes", (0, 100, 100, 5), (Term::Long, 2)),
        ("a limit of thousands", (0, 10_000, 10_000, 1), (Term::Longest, 10)),
        ("which is used up by half", (0, 10_000, 4_999, 1), (Term::Long, 10)),
        ("seldom", (2, 100_000, 100_000, 1), (Term::Longest, 240)),
        ("more often", (10, 100_000, 100_000, 1), (Term::Long, 300)),
        ("often", (100, 100_000, 100_000, 1), (Term::Short, 100)),
        ("often, of a huge limit", (100, 100_000_000, 100_000_000, 5), (Term::Longest, 12_000)),
    ];
    for (name, (rate, limit, free, nodes), (term, tokens)) in cases {
        assert_eq!(supply(rate, minute, limit, free, nodes), Supply { term, tokens }, "{name}");
    }
}

#[test]
fn a_counter_that_is_in_use_is_asked_for_before_its_lease_is_over() {
    let mut cluster = Cluster::of(1);
    assert!(cluster.admits(0, "a", rule(100)));
    // Half a window is 5 s, a quarter of that is left after 3.75 s.
    cluster.now += 3_800 * MS;
    assert!(cluster.spend(0, "a", rule(100)).is_some());
    cluster.turn(1);
    cluster.now += 2_000 * MS;
    assert!(cluster.spend(0, "a", rule(100)).is_some(), "of the second lease, without a wait");
}
