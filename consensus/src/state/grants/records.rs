//! Grants as stored records.

use std::{num::NonZeroU16, sync::Arc};

use super::{Asker, Counter, CounterId, Grants, Lease, Spent};
use crate::{command, form};

impl Grants {
    /// All of it; nothing as long as nobody ever asked.
    pub(in crate::state) fn records(&self) -> impl Iterator<Item = form::Content> {
        let asker = |(node, asker): (&u64, &Asker)| form::Asker {
            node: *node,
            incarnation: asker.incarnation,
            sequence: asker.sequence,
            asked_at: asker.asked_at,
            former: Some(asker.former),
        };
        let limits = (!self.askers.is_empty()).then(|| {
            form::Content::Limits(form::Limits {
                log_time: self.log_time,
                last_lease: self.last_lease,
                askers: self.askers.iter().map(asker).collect(),
                resets: self.resets,
            })
        });
        limits.into_iter().chain(self.counters.iter().map(|(id, counter)| form::Content::Counter(stored(id, counter))))
    }

    pub(in crate::state) fn restore_limits(&mut self, limits: form::Limits) {
        self.log_time = limits.log_time;
        self.last_lease = limits.last_lease;
        self.resets = limits.resets;
        let asker = |asker: form::Asker| {
            let form::Asker { node, incarnation, sequence, asked_at, former } = asker;
            // Where it isn't known, nobody spends what was given so far.
            let former = former.unwrap_or(limits.last_lease);
            (node, Asker { incarnation, sequence, asked_at, former })
        };
        self.askers = limits.askers.into_iter().map(asker).collect();
    }

    pub(in crate::state) fn restore_counter(&mut self, counter: form::Counter) -> Result<(), String> {
        let id = command::counter(&counter.id)?;
        let counter = restored(counter)?;
        for lease in &counter.leases {
            if lease.recalled_after.is_some() {
                self.recalled.insert((lease.node, lease.id), id);
            }
        }
        self.looks.insert((counter.look_at, id));
        match self.counters.insert(id, Arc::new(counter)) {
            None => Ok(()),
            Some(_) => Err("a counter of a rate limit is there twice".to_owned()),
        }
    }
}

fn stored(id: &CounterId, counter: &Counter) -> form::Counter {
    let spent = |spent: &Spent| form::Spent { back_at: spent.back_at, from: spent.from, tokens: spent.tokens };
    let lease = |lease: &Lease| form::Lease {
        id: lease.id,
        node: lease.node,
        sequence: lease.sequence,
        granted: u64::from(lease.granted),
        reported: u64::from(lease.reported),
        given_at: lease.given_at,
        term: lease.term.number(),
        recalled_after: lease.recalled_after.map(|after| after.get().into()),
        is_forgiven: lease.is_forgiven,
    };
    form::Counter {
        id: id.to_vec(),
        window: counter.window,
        limit: counter.limit,
        revision: counter.revision,
        used: counter.used,
        look_at: counter.look_at,
        spent: counter.spent.iter().map(spent).collect(),
        leases: counter.leases.iter().map(lease).collect(),
    }
}

fn recalled_after(units: u32) -> Result<NonZeroU16, String> {
    let units = u16::try_from(units).ok().and_then(NonZeroU16::new);
    units.ok_or_else(|| "a lease was asked back at a time that can't be".to_owned())
}

fn restored(counter: form::Counter) -> Result<Counter, String> {
    let spent = |spent: form::Spent| Spent { back_at: spent.back_at, from: spent.from, tokens: spent.tokens };
    let tokens = |tokens: u64| u32::try_from(tokens).map_err(|_| format!("a lease has {tokens} tokens"));
    let lease = |lease: form::Lease| {
        Ok::<_, String>(Lease {
            id: lease.id,
            node: lease.node,
            sequence: lease.sequence,
            granted: tokens(lease.granted)?,
            reported: tokens(lease.reported)?,
            given_at: lease.given_at,
            term: command::term(lease.term)?,
            recalled_after: lease.recalled_after.map(recalled_after).transpose()?,
            is_forgiven: lease.is_forgiven,
        })
    };
    Ok(Counter {
        window: counter.window,
        limit: counter.limit,
        revision: counter.revision,
        used: counter.used,
        look_at: counter.look_at,
        spent: counter.spent.into_iter().map(spent).collect(),
        leases: counter.leases.into_iter().map(lease).collect::<Result<_, _>>()?,
    })
}
