//! What a decision of a strict rate limit costs: `cargo bench -p octelium-actors --bench spend`.

#![allow(missing_docs, reason = "a program, not a library")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use octelium_actors::rate_limiter::{CounterId, Limiter, Rule, cell::Lease};

const ROUNDS: u64 = 1_000_000;

fn main() {
    let rule = Rule { limit: u64::MAX, window: Duration::from_secs(60), revision: 1 };
    for counters in [1, 1_000, 100_000] {
        let limiter = Limiter::default();
        let ids: Vec<CounterId> =
            (0..counters).map(|key| CounterId::new("uid", "limit", &key.to_string(), rule.window)).collect();
        for id in &ids {
            let cell = limiter.cells().cell(*id, rule, &|| 0, || None).expect("there is room");
            cell.add(Arc::new(Lease::new(1, u64::MAX, u32::MAX)));
        }
        for threads in [1, 2] {
            let began = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (limiter, ids) = (limiter.clone(), &ids);
                    scope.spawn(move || {
                        let mut at = thread * 7_919;
                        for _ in 0..ROUNDS {
                            at = (at + 104_729) % ids.len();
                            black_box(limiter.try_spend(ids[at], rule)).expect("there are tokens");
                        }
                    });
                }
            });
            let each = began.elapsed().as_nanos() / u128::from(ROUNDS);
            println!("{counters} counters, {threads} threads: {each} ns a decision on each thread");
        }
    }
    let began = Instant::now();
    for key in 0..ROUNDS {
        black_box(CounterId::new("0194-uid-of-a-service", "limit", &key.to_string(), rule.window));
    }
    println!("naming a counter: {} ns", began.elapsed().as_nanos() / u128::from(ROUNDS));
}
