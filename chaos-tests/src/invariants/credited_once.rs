//! What a lease brings back is booked once: what the state takes for used is never less than a plain account of the same log.

use std::collections::BTreeMap;

use octelium_consensus::{
    Ask, State,
    state::grants::{CounterId, Lease, validity_ns},
};

use super::Broken;

/// An account without any of the shortcuts of the real one: each report is a line, and nothing is put together.
#[derive(Default)]
pub struct CreditedOnce {
    log_time: u64,
    /// Leases with their counters and windows.
    open: BTreeMap<u64, (CounterId, u64, Lease)>,
    /// Spent tokens of a counter, with the log time at which they leave the window.
    spent: BTreeMap<CounterId, Vec<(u64, u64)>>,
    sequences: BTreeMap<u64, (u64, u64)>,
    seen: BTreeMap<u64, u64>,
    pub broken: Broken,
}

impl CreditedOnce {
    pub fn applied(&mut self, ask: &Ask, state: &State) {
        self.log_time = self.log_time.max(ask.at);
        let now = self.log_time;
        // The same ask again, or an older one, brings nothing.
        let last = self.sequences.entry(ask.node).or_default();
        if *last >= (ask.incarnation, ask.sequence) && last.0 == ask.incarnation {
            return;
        }
        *last = (ask.incarnation, ask.sequence);
        for returned in &ask.returns {
            let Some((counter, window, lease)) = self.open.get_mut(&returned.lease) else { continue };
            let window = *window;
            let news = returned.spent.saturating_sub(lease.reported.into()).min(lease.left());
            lease.reported += u32::try_from(news).expect("no more than is left");
            // Without the allowance for drift: earlier than the real account may.
            let back_at = (lease.given_at + window + validity_ns(window, lease.term)).min(now + window);
            self.spent.entry(*counter).or_default().push((back_at, news));
            if returned.done || lease.left() == 0 {
                self.open.remove(&returned.lease);
            }
        }
        let seen = self.seen.entry(ask.node).or_default();
        for (counter, lease) in state.grants().held_by(ask.node, *seen) {
            *seen = lease.id;
            let window = state.grants().counters().find(|(id, _)| **id == counter).map(|(_, counter)| counter.window);
            self.open.insert(lease.id, (counter, window.unwrap_or_default(), lease));
        }
        for (id, counter) in state.grants().counters() {
            let window = counter.window;
            let held = |lease: &Lease| lease.given_at + window + validity_ns(window, lease.term) > now;
            let open = self.open.values().filter(|(of, _, lease)| of == id && held(lease));
            let open: u64 = open.map(|(_, _, lease)| lease.left()).sum();
            let spent = self.spent.entry(*id).or_default();
            spent.retain(|(back_at, _)| *back_at > now);
            let spent: u64 = spent.iter().map(|(_, tokens)| tokens).sum();
            if counter.used < open + spent {
                let used = counter.used;
                self.broken.add(|| {
                    format!("credited once: at {now} the state takes {used} for used, of {open} held and {spent} spent")
                });
            }
        }
        let horizon = now.saturating_sub(60_000_000_000);
        self.open.retain(|_, (_, _, lease)| lease.given_at > horizon);
    }
}
