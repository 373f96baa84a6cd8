//! No start of a node admits more than it was granted and hasn't returned.

use std::collections::BTreeMap;

use octelium_consensus::{Ask, State};

use super::{Admitted, Broken};
use crate::sim::Limit;

#[derive(Default)]
pub struct SpentOfGranted {
    counters: Vec<[u8; 16]>,
    /// By the number of the limit, node and incarnation.
    accounts: BTreeMap<(usize, u64, u64), Account>,
    leases: BTreeMap<u64, (usize, u64)>,
    seen: BTreeMap<u64, u64>,
    pub broken: Broken,
}

#[derive(Default)]
struct Account {
    admitted: u64,
    /// Tokens that it got and did not return unspent.
    granted: u64,
}

impl SpentOfGranted {
    pub fn new(limits: &[Limit]) -> Self {
        let names = limits.iter().map(|limit| limit.id.bytes());
        Self { counters: names.collect(), ..Self::default() }
    }

    pub fn admitted(&mut self, admitted: Admitted) {
        let key = (admitted.limit, admitted.node as u64, admitted.incarnation);
        let account = self.accounts.entry(key).or_default();
        account.admitted += 1;
        self.check(key);
    }

    pub fn applied(&mut self, ask: &Ask, state: &State) {
        for returned in &ask.returns {
            let Some((limit, granted)) = self.leases.get(&returned.lease).copied() else { continue };
            if returned.spent > granted {
                self.broken.add(|| format!("spent of granted: {returned:?} of {granted} tokens"));
            }
            if returned.done {
                self.leases.remove(&returned.lease);
                let key = (limit, ask.node, ask.incarnation);
                let account = self.accounts.entry(key).or_default();
                account.granted -= granted.saturating_sub(returned.spent).min(account.granted);
                self.check(key);
            }
        }
        let seen = self.seen.entry(ask.node).or_default();
        for (counter, lease) in state.grants().held_by(ask.node, *seen) {
            *seen = lease.id;
            let Some(limit) = self.counters.iter().position(|known| *known == counter) else { continue };
            self.leases.insert(lease.id, (limit, u64::from(lease.granted)));
            let account = self.accounts.entry((limit, ask.node, ask.incarnation)).or_default();
            account.granted += u64::from(lease.granted);
        }
    }

    fn check(&mut self, key: (usize, u64, u64)) {
        let Some(Account { admitted, granted }) = self.accounts.get(&key) else { return };
        if admitted > granted {
            let (limit, node, _) = key;
            self.broken.add(|| {
                format!("spent of granted: node {node} admitted {admitted} of {granted} tokens of limit {limit}")
            });
        }
    }
}
