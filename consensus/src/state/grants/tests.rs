use super::*;
use crate::{
    command::{Command, Return, Want},
    form,
    state::{State, apply},
};

const MS: u64 = 1_000_000;
const WINDOW: u64 = 10_000 * MS;

/// A log of asks, with what it led to.
#[derive(Default)]
struct Log {
    state: State,
    commands: Vec<Command>,
    sequence: u64,
}

fn name(number: u8) -> CounterId {
    [number; 16]
}

fn want(counter: u8, limit: u64, want: u64) -> Want {
    Want { counter: name(counter), limit, revision: 1, window: WINDOW, want, term: Term::Short }
}

fn done(lease: &Lease, spent: u64) -> Return {
    Return { counter: name(1), lease: lease.id, spent, done: true }
}

impl Log {
    fn append(&mut self, ask: Ask) {
        let command = Command::of_ask(ask);
        let index = self.state.index() + 1;
        apply(&mut self.state, index, &command);
        self.commands.push(command);
        self.check();
    }

    fn ask(&mut self, node: u64, at_ms: u64, asks: Vec<Want>, returns: Vec<Return>) {
        self.sequence += 1;
        self.append(Ask { node, incarnation: 1, sequence: self.sequence, at: at_ms * MS, asks, returns });
    }

    /// The lease that `node` is granted.
    fn grant(&mut self, node: u64, at_ms: u64, want: Want) -> Option<Lease> {
        let before = self.grants().last_lease;
        self.ask(node, at_ms, vec![want], Vec::new());
        self.grants().held_by(node, before).next().map(|(_, lease)| lease)
    }

    fn grants(&self) -> &Grants {
        self.state.grants()
    }

    fn free(&self, counter: u8) -> Option<u64> {
        self.grants().status(&name(counter), self.grants().log_time).map(|status| status.free)
    }

    /// What must hold in every state.
    fn check(&self) {
        let grants = self.grants();
        let mut held = std::collections::BTreeSet::new();
        for (id, counter) in grants.counters() {
            let spent: u64 = counter.spent.iter().map(|spent| spent.tokens).sum();
            let leased: u64 = counter.leases.iter().map(Lease::left).sum();
            assert_eq!(counter.used, spent + leased);
            assert!(counter.spent.is_sorted_by_key(|spent| spent.back_at) && counter.spent.len() <= 128);
            assert!(!counter.is_idle() && grants.looks.contains(&(counter.look_at, *id)));
            held.extend(counter.leases.iter().map(|lease| (lease.node, lease.id)));
        }
        assert_eq!(grants.looks.len(), grants.counters.len());
        assert!(grants.recalled.keys().all(|key| held.contains(key)));
    }
}

#[test]
fn a_lease_counts_until_no_token_of_it_can_be_in_the_window() {
    let mut log = Log::default();
    let lease = log.grant(1, 100, want(1, 100, 60)).unwrap();
    assert_eq!((lease.granted, log.free(1)), (60, Some(40)));
    let back_ms = 100 + (10_000 + 500) * 1_002 / 1_000;
    log.ask(1, back_ms, Vec::new(), Vec::new());
    assert_eq!(log.free(1), Some(40));
    log.ask(1, back_ms + 1, vec![want(1, 100, 0)], Vec::new());
    assert_eq!(log.free(1), None, "nothing of it is left");
    assert_eq!(log.grants().held_by(1, 0).count(), 0);
}

#[test]
fn what_is_returned_comes_back_at_once_and_what_was_spent_a_window_after_the_report() {
    let mut log = Log::default();
    let lease = log.grant(1, 0, want(1, 100, 60)).unwrap();
    log.ask(1, 200, Vec::new(), vec![Return { counter: name(1), lease: lease.id, spent: 10, done: false }]);
    assert_eq!(log.free(1), Some(40), "the rest may still be spent");
    log.ask(1, 300, Vec::new(), vec![Return { counter: name(1), lease: lease.id, spent: 30, done: true }]);
    assert_eq!(log.free(1), Some(70));
    log.ask(1, 200 + 10_020, vec![], vec![]);
    log.ask(2, 200 + 10_021, vec![want(1, 100, 1)], vec![]);
    assert_eq!(log.free(1), Some(79));
    log.ask(2, 300 + 10_021, vec![want(1, 100, 1)], vec![]);
    assert_eq!(log.free(1), Some(98));
}

#[test]
fn a_late_report_does_not_keep_tokens_for_longer_than_the_lease() {
    let mut log = Log::default();
    let lease = log.grant(1, 0, want(1, 100, 60)).unwrap();
    log.ask(1, 9_000, Vec::new(), vec![done(&lease, 60)]);
    assert_eq!(log.free(1), Some(40));
    log.ask(1, 10_522, vec![want(1, 100, 1)], Vec::new());
    assert_eq!(log.free(1), Some(99));
}

#[test]
fn a_return_is_credited_once_and_only_to_its_holder() {
    let mut log = Log::default();
    let lease = log.grant(1, 0, want(1, 100, 60)).unwrap();
    log.ask(2, 1, Vec::new(), vec![done(&lease, 0)]);
    assert_eq!(log.free(1), Some(40));
    for at in 2..5 {
        log.ask(
            1,
            at,
            Vec::new(),
            vec![done(&lease, 20), Return { counter: name(1), lease: lease.id, spent: 5, done: false }],
        );
        assert_eq!(log.free(1), Some(80));
    }
    // Long after: the same lease again, and one that never was.
    log.ask(1, 10_010, vec![want(1, 100, 50)], Vec::new());
    log.ask(
        1,
        30_000,
        vec![want(1, 100, 1)],
        vec![done(&lease, 0), Return { counter: name(1), lease: 99, spent: 5, done: true }],
    );
    assert_eq!(log.free(1), Some(99));
}

#[test]
fn an_ask_that_arrives_twice_or_late_changes_nothing() {
    let mut log = Log::default();
    let ask = |sequence, incarnation| Ask {
        node: 1,
        incarnation,
        sequence,
        at: 5 * MS,
        asks: vec![want(1, 100, 10)],
        returns: Vec::new(),
    };
    for (sequence, incarnation, free) in [(1, 7, 90), (1, 7, 90), (3, 7, 80), (2, 7, 80), (1, 8, 70), (1, 8, 70)] {
        log.append(ask(sequence, incarnation));
        assert_eq!(log.free(1), Some(free));
    }
    assert_eq!((log.grants().sequence(1, 7), log.grants().sequence(1, 8)), (0, 1));
}

#[test]
fn a_lease_is_of_the_start_that_asked_for_it() {
    let mut log = Log::default();
    let mut lease_of = |incarnation, sequence| {
        let asks = vec![want(1, 100, 5)];
        log.append(Ask { node: 1, incarnation, sequence, at: 5 * MS, asks, returns: Vec::new() });
        let grants = log.grants().clone();
        let of_now: Vec<u64> =
            grants.held_by(1, 0).filter(|(_, lease)| grants.is_of_now(lease)).map(|(_, lease)| lease.id).collect();
        (grants.last_lease(), of_now)
    };
    assert_eq!(lease_of(7, 1), (1, vec![1]));
    assert_eq!(lease_of(7, 2), (2, vec![1, 2]));
    assert_eq!(lease_of(8, 1), (3, vec![3]));
    // An ask of the start before, which was long under way; then the present one again.
    assert_eq!(lease_of(7, 3), (4, vec![4]));
    assert_eq!(lease_of(8, 2), (5, vec![5]));
    let of_now = |state: &State| {
        let leases = state.grants().held_by(1, 0);
        leases.filter(|(_, lease)| state.grants().is_of_now(lease)).map(|(_, lease)| lease.id).collect::<Vec<_>>()
    };
    assert_eq!(of_now(&restored(&log.state)), [5]);
    // A snapshot of a version that didn't note it: nobody spends what was given so far.
    let mut older = State::default();
    for mut record in log.state.records() {
        if let form::Content::Limits(limits) = &mut record {
            limits.askers.iter_mut().for_each(|asker| asker.former = None);
        }
        older.restore(record).unwrap();
    }
    assert!(of_now(&older).is_empty());
}

#[test]
fn log_time_never_goes_back() {
    let mut log = Log::default();
    log.ask(1, 500, Vec::new(), Vec::new());
    log.ask(2, 100, vec![want(1, 10, 1)], Vec::new());
    assert_eq!(log.grants().log_time(), 500 * MS);
    assert_eq!(log.grants().held_by(2, 0).next().unwrap().1.given_at, 500 * MS);
}

#[test]
fn nodes_that_ask_share_what_is_free() {
    let mut log = Log::default();
    assert_eq!(log.grant(1, 0, want(1, 100, 80)).unwrap().granted, 80, "alone it may have all");
    assert_eq!(log.grant(2, 1, want(2, 100, 80)).unwrap().granted, 25);
    assert_eq!(log.grant(3, 2, want(2, 100, 80)).unwrap().granted, 12);
    assert_eq!(log.grant(3, 3, want(2, 1_000, 5)).unwrap().granted, 5);
    // The others haven't asked for more than ten seconds.
    assert_eq!(log.grant(3, 10_100, want(3, 100, 80)).unwrap().granted, 80);
}

#[test]
fn an_empty_counter_recalls_what_others_hold() {
    let mut log = Log::default();
    let lease = log.grant(1, 0, want(1, 10, 10)).unwrap();
    assert_eq!(log.grants().recalled_from(1).count(), 0);
    assert!(log.grant(2, 1, want(1, 10, 1)).is_none());
    assert!(log.grants().recalled_from(1).eq([(lease.id, name(1))]));
    let status = log.grants().status(&name(1), MS).unwrap();
    assert!(status.pending && status.free == 0);
    assert!(!log.grants().status(&name(1), 5 * MS + PATIENCE_NS).unwrap().pending, "it never came");
    log.ask(1, 2, Vec::new(), vec![done(&lease, 3)]);
    assert_eq!(log.grants().recalled_from(1).count(), 0);
    let status = log.grants().status(&name(1), 2 * MS).unwrap();
    assert_eq!(status, Status { free: 7, back_at: Some(2 * MS + 10_020 * MS + 1), pending: false });
    assert!(log.grant(2, 3, want(1, 10, 1)).is_some());
}

#[test]
fn a_lowered_limit_recalls_and_an_older_one_is_passed_over() {
    let mut log = Log::default();
    let lease = log.grant(1, 0, want(1, 100, 50)).unwrap();
    let lowered = Want { limit: 20, revision: 2, ..want(1, 0, 5) };
    assert!(log.grant(2, 1, lowered.clone()).is_none());
    assert!(log.grants().recalled_from(1).eq([(lease.id, name(1))]));
    assert!(log.grant(2, 2, want(1, 100, 5)).is_none(), "the limit of an older version");
    log.ask(1, 3, Vec::new(), vec![done(&lease, 10)]);
    assert_eq!(log.free(1), Some(10));
    let raised = Want { limit: 1_000, revision: 3, ..lowered };
    assert_eq!(log.grant(2, 4, raised).unwrap().granted, 5);
    assert_eq!(log.free(1), Some(985));
    let none = Want { limit: 0, revision: 4, ..want(1, 0, 5) };
    assert!(log.grant(2, 5, none.clone()).is_none());
    assert!(log.grant(2, 5, Want { counter: name(9), ..none }).is_none());
}

#[test]
fn many_moments_of_spending_take_bounded_room_and_cost_little() {
    let mut log = Log::default();
    let (mut at, mut granted_first_round) = (0, 0);
    for round in 0..4 {
        let mut granted = 0;
        for _ in 0..2_000 {
            at += 5;
            if let Some(lease) = log.grant(1, at, want(1, 1_000, 1)) {
                granted += 1;
                log.ask(1, at + 1, Vec::new(), vec![done(&lease, 1)]);
            }
        }
        assert!((980..=1_000).contains(&granted), "{granted} in round {round}");
        granted_first_round = granted_first_round.max(granted);
    }
    assert_eq!(granted_first_round, 1_000);
    let (_, counter) = log.grants().counters().next().unwrap();
    assert!(counter.spent.len() > 10);
}

#[test]
fn what_is_out_of_use_goes_a_bounded_number_at_a_time() {
    let mut log = Log::default();
    let wants = |from: u32| -> Vec<Want> {
        let counter = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            id
        };
        (from..from + 500).map(|number| Want { counter: counter(number), ..want(0, 10, 1) }).collect()
    };
    for batch in 0..4 {
        log.ask(1, 0, wants(batch * 500), Vec::new());
    }
    assert_eq!(log.grants().len(), 2_000);
    log.ask(1, 60_000, Vec::new(), Vec::new());
    assert_eq!(log.grants().len(), 2_000 - LOOKS);
    log.ask(1, 60_001, wants(1_500), Vec::new());
    assert!(log.grants().len() <= 2_000 - LOOKS - 1_000 + 500);
    for at in 60_002..60_030 {
        log.ask(1, at, Vec::new(), Vec::new());
    }
    assert_eq!(log.grants().len(), 500);
}

#[test]
fn absurd_numbers_do_no_harm() {
    let mut log = Log::default();
    let most = Want {
        counter: name(1),
        limit: u64::MAX,
        revision: u64::MAX,
        window: u64::MAX,
        want: u64::MAX,
        term: Term::Longest,
    };
    for (node, at) in [(1, 0), (u64::MAX, 1), (1, u64::MAX / MS)] {
        log.ask(
            node,
            at,
            vec![most.clone(), most.clone()],
            vec![Return { counter: name(1), lease: u64::MAX, spent: u64::MAX, done: true }],
        );
    }
    log.ask(
        1,
        0,
        vec![Want { window: 0, ..want(2, 1, 1) }, Want { window: 1, ..want(3, u64::MAX, u64::MAX) }],
        Vec::new(),
    );
    let leases: Vec<Lease> = log.grants().held_by(1, 0).map(|(_, lease)| lease).collect();
    for lease in leases {
        log.ask(1, 0, Vec::new(), vec![Return { counter: name(1), lease: lease.id, spent: u64::MAX, done: true }]);
    }
}

/// A small generator, so that a failure names its seed.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn restored(state: &State) -> State {
    let mut copy = State::default();
    copy.advance(state.index());
    for record in state.records() {
        copy.restore(record).unwrap();
    }
    copy
}

#[test]
fn random_logs_never_grant_more_than_the_limit_and_restore_to_the_same() {
    for first in 0..40 {
        let mut seed = first;
        let mut log = Log::default();
        let mut at = 0;
        for step in 0..200 {
            at += random(&mut seed) % 400;
            let node = random(&mut seed) % 3;
            let held: Vec<_> = log.grants().held_by(node, 0).collect();
            let returns = held.iter().filter_map(|(counter, lease)| {
                let spent = random(&mut seed) % (u64::from(lease.granted) + 1);
                random(&mut seed).is_multiple_of(4).then_some(Return {
                    counter: *counter,
                    lease: lease.id,
                    spent,
                    done: spent.is_multiple_of(2),
                })
            });
            let returns = returns.collect();
            let asks = (0..random(&mut seed) % 3).map(|_| {
                let counter = (random(&mut seed) % 3) as u8;
                let limit = [1, 20, 300][usize::from(counter)];
                Want {
                    term: Term::of((random(&mut seed) % 3) as u32).unwrap(),
                    ..want(counter, limit, random(&mut seed) % 40)
                }
            });
            let asks = asks.collect();
            log.ask(node, at, asks, returns);
            for (_, counter) in log.grants().counters() {
                assert!(counter.used <= counter.limit, "seed {first}, step {step}");
            }
            if step % 50 == 0 {
                let copy = restored(&log.state);
                assert_eq!(copy.hash(), log.state.hash());
                // From here on the restored state goes on.
                log.state = copy;
            }
        }
        let mut again = State::default();
        for (index, command) in (1..).zip(&log.commands) {
            apply(&mut again, index, &Command::decode(&command.encode()).unwrap());
        }
        assert_eq!(again.hash(), log.state.hash(), "seed {first}");
    }
}

/// Bytes that this process holds, from the kernel.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[test]
#[ignore = "measures the memory of the process: run it alone"]
fn a_hundred_thousand_counters_take_less_than_a_hundred_mebibytes() {
    let before = resident();
    let mut log = Log::default();
    for batch in 0..100_u32 {
        let counter = |number: u32| {
            let mut seed = u64::from(batch * 1_000 + number);
            std::array::from_fn(|_| random(&mut seed) as u8)
        };
        let asks = (0..1_000).map(|number| Want { counter: counter(number), ..want(0, 100, 1) }).collect();
        log.sequence += 1;
        let at = u64::from(batch) * 5 * MS;
        let ask = Ask { node: 1, incarnation: 1, sequence: log.sequence, at, asks, returns: Vec::new() };
        let index = log.state.index() + 1;
        apply(&mut log.state, index, &Command::of_ask(ask));
    }
    let taken = resident() - before;
    println!("{} counters: {} MiB", log.grants().len(), taken >> 20);
    assert!(log.grants().len() > 99_000 && taken < 100 << 20);
}
