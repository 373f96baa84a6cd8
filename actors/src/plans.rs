//! Plans of callers that came lately: what of their policies is left to decide for each request.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Weak},
};

use octelium_policy::{Context, Decision, Plan};

use crate::{router::Route, sessions::SessionEntry};

/// Callers at Services in each half of the cache.
const HALF: usize = 1024;

/// The plans of one worker: nothing is shared, so nothing is locked.
///
/// A plan is that of one [`SessionEntry`] at one [`Route`]. Both are made anew by whatever changes them or what they depend on, so a plan
/// never outlives what it was made of: an entry keeps both addresses from being used again.
pub struct Plans {
    /// Used since the halves were last changed.
    young: Half,
    /// Not used since then; forgotten when `young` is full.
    old: Half,
    half: usize,
}

type Half = HashMap<Key, Entry, BuildHasherDefault<AddressHasher>>;

/// The addresses of Session (0: none) and Route.
type Key = (usize, usize);

struct Entry {
    plan: Plan,
    _session: Option<Weak<SessionEntry>>,
    _route: Weak<Route>,
}

impl Default for Plans {
    fn default() -> Self {
        Self::of(HALF)
    }
}

impl Plans {
    fn of(half: usize) -> Self {
        Self { young: Half::default(), old: Half::default(), half }
    }

    /// Decides by the policies of Service, User and Session. `ctx` is what [`crate::context_of`] makes of them.
    pub fn decide(&mut self, route: &Arc<Route>, session: Option<&Arc<SessionEntry>>, ctx: &Context<'_>) -> Decision {
        let key = (session.map_or(0, |session| Arc::as_ptr(session).addr()), Arc::as_ptr(route).addr());
        if let Some(entry) = self.young.get(&key) {
            return entry.plan.decide(ctx);
        }
        let entry = self.old.remove(&key).unwrap_or_else(|| entry(route, session, ctx));
        let decision = entry.plan.decide(ctx);
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
        decision
    }
}

fn entry(route: &Arc<Route>, session: Option<&Arc<SessionEntry>>, ctx: &Context<'_>) -> Entry {
    let of_caller = session.map(|session| session.user.policies.iter().chain(&session.policies)).into_iter().flatten();
    Entry {
        plan: Plan::new(route.policies.iter().chain(of_caller), ctx),
        _session: session.map(Arc::downgrade),
        _route: Arc::downgrade(route),
    }
}

/// Addresses need no more than a good mix: nobody outside chooses them.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // Fibonacci hashing; the rotation brings the upper bits, which are the good ones, to where the table looks.
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use octelium_policy::Effect;

    use super::*;
    use crate::tests::{deny_all, route};

    fn is_allowed(plans: &mut Plans, route: &Arc<Route>) -> bool {
        plans.decide(route, None, &crate::context_of(route, None, None, 0)).effect == Effect::Allow
    }

    #[test]
    fn no_plan_is_used_for_another_route() {
        let mut plans = Plans::of(4);
        for round in 0..200 {
            // Dropped at once: its address is free for the next one, were it not for the cache.
            let mut route = route();
            if round % 2 == 0 {
                route.policies.push(deny_all());
            }
            let route = Arc::new(route);
            for _ in 0..2 {
                assert_eq!(is_allowed(&mut plans, &route), round % 2 == 1, "round {round}");
            }
        }
    }

    #[test]
    fn there_are_never_more_plans_than_two_halves() {
        let mut plans = Plans::of(4);
        let routes: Vec<_> = (0..100).map(|_| Arc::new(route())).collect();
        for route in &routes {
            assert!(is_allowed(&mut plans, route));
            // The one that is used all the time stays.
            assert!(is_allowed(&mut plans, &routes[0]));
            assert!(plans.young.len() <= 4 && plans.old.len() <= 4);
            let key = (0, Arc::as_ptr(&routes[0]).addr());
            assert!(plans.young.contains_key(&key));
        }
    }
}
