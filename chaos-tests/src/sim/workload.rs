//! The requests.

use std::time::Duration;

use octelium_actors::rate_limiter::{CounterId, Refused, Rule};

use super::{MS, SECOND, Scenario, World, event::Event, node::Waiter, random::Random};

/// So long a request waits for a token.
const WAIT: u64 = 50 * MS;

/// A limit and how much is asked of it.
#[derive(Debug, Clone)]
pub struct Limit {
    pub id: CounterId,
    pub rule: Rule,
    /// The mean time between two requests at a node.
    every: Vec<u64>,
}

impl Limit {
    pub fn window(&self) -> u64 {
        self.rule.window.as_nanos() as u64
    }
}

pub fn limits(scenario: Scenario, random: &mut Random) -> Vec<Limit> {
    let limit = |name: &str, limit: u64, window_ms: u64, load_percent: u64, random: &mut Random| {
        let rule = Rule { limit, window: Duration::from_millis(window_ms), revision: 1 };
        // In every fourth run one node gets nearly all.
        let hot = random.chance(25).then(|| random.below(3) as usize);
        let share = |node: usize| match hot {
            Some(hot) if hot == node => 90,
            Some(_) => 3,
            None => 25,
        };
        let every = (0..5).map(|node| window_ms * MS * 100 * 100 / (limit * load_percent * share(node))).collect();
        Limit { id: CounterId::new("service", name, "", rule.window), rule, every }
    };
    match scenario {
        Scenario::Faults => {
            let window = 500 + random.below(2_500);
            // Of so large a limit a few tokens are held for two windows.
            let most = if random.chance(25) {
                limit("large", 2_000 + random.below(2_000), window, 20 + random.below(200), random)
            } else {
                let heavy = 20 + random.below(200);
                limit("heavy", heavy, window, 80 + random.below(250), random)
            };
            let few = limit("light", 1 + random.below(6), 400 + random.below(2_000), 50 + random.below(300), random);
            vec![most, few]
        }
        Scenario::Load => vec![limit("heavy", 500, 5_000, 200, random)],
        Scenario::Hop => vec![limit("heavy", 1 + random.below(100), 5_000, 1, random)],
    }
}

impl World {
    pub(super) fn begin_requests(&mut self) {
        if self.scenario == Scenario::Hop {
            return self.later(SECOND / 2, Event::Hop { turn: 0 });
        }
        for node in 0..self.nodes.len() {
            for limit in 0..self.limits.len() {
                // All know the first leader by then.
                self.later(SECOND / 2, Event::Request { node, limit });
            }
        }
    }

    fn next_request(&mut self, node: usize, limit: usize) {
        let mean = self.limits[limit].every[node];
        let after = self.random.exponential(mean);
        self.later(after, Event::Request { node, limit });
    }

    pub(super) fn request(&mut self, id: usize, limit: usize) {
        self.next_request(id, limit);
        if self.nodes[id].up {
            self.decide(id, limit, None);
        }
    }

    /// The hopping client asks the next node, as soon as it has an answer.
    pub(super) fn hop(&mut self, turn: u64) {
        let id = (turn % self.nodes.len() as u64) as usize;
        self.decide(id, 0, Some(turn));
    }

    fn answered(&mut self, turn: Option<u64>) {
        if let Some(turn) = turn {
            let after = MS + self.random.below(5 * MS);
            self.later(after, Event::Hop { turn: turn + 1 });
        }
    }

    /// As the limiter does: what is held, or what is known, or a wait.
    fn decide(&mut self, id: usize, limit: usize, turn: Option<u64>) {
        let Limit { id: counter, rule, .. } = self.limits[limit];
        let node = &mut self.nodes[id];
        let clock = node.clock.monotonic(self.now);
        if node.cells.try_spend(counter, rule, &|| clock).is_some() {
            self.admit(id, limit);
            self.answered(turn);
            return self.arm(id);
        }
        let Some(cell) = node.cells.cell(counter, rule, &|| clock, || None) else { return };
        if let Some(Refused::Exceeded { retry_after }) = node.cells.refused(&cell, rule, clock) {
            self.refuse(id, limit, Some(retry_after.as_nanos() as u64));
            self.answered(turn);
            return self.arm(id);
        }
        if node.cells.begin_wait(&cell) {
            node.cells.want(&cell);
            self.scheduled += 1;
            let waiter = self.scheduled;
            node.waiters.push_back(Waiter { number: waiter, limit, cell, since: clock, turn });
            self.later(WAIT, Event::WaitEnds { node: id, waiter });
        }
        self.arm(id);
    }

    /// Those who wait look whether there is something for them, the first one first.
    pub(super) fn serve_waiters(&mut self, id: usize) {
        let clock = self.nodes[id].clock.monotonic(self.now);
        let waiters = std::mem::take(&mut self.nodes[id].waiters);
        for waiter in waiters {
            let rule = self.limits[waiter.limit].rule;
            let cells = &self.nodes[id].cells;
            let taken = cells.take(&waiter.cell, rule, &|| clock, true).is_some();
            let refused = cells.refused(&waiter.cell, rule, clock);
            if taken {
                cells.end_wait(&waiter.cell);
                self.admit(id, waiter.limit);
                self.answered(waiter.turn);
            } else if refused.is_some() {
                cells.end_wait(&waiter.cell);
                self.refuse(id, waiter.limit, None);
                self.answered(waiter.turn);
            } else {
                cells.want(&waiter.cell);
                self.nodes[id].waiters.push_back(waiter);
            }
        }
    }

    pub(super) fn wait_ends(&mut self, id: usize, number: u64) {
        let Some(place) = self.nodes[id].waiters.iter().position(|waiter| waiter.number == number) else { return };
        let Some(waiter) = self.nodes[id].waiters.remove(place) else { return };
        let node = &self.nodes[id];
        node.cells.end_wait(&waiter.cell);
        let clock = node.clock.monotonic(self.now);
        let retry_after = match node.cells.gave_up(&waiter.cell, waiter.since, clock) {
            Refused::Exceeded { retry_after } => Some(retry_after.as_nanos() as u64),
            Refused::Unavailable => None,
        };
        self.refuse(id, waiter.limit, retry_after);
        self.answered(waiter.turn);
    }
}
