//! What differs between two states, at the cost of the difference and not of the state.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use octelium_api::Kind;

use super::{State, Stored};

/// One difference between an older and a newer state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change<'a> {
    /// A resource that is new.
    Created(&'a Arc<Stored>),
    /// A resource that both have.
    Updated {
        /// As it was.
        old: &'a Arc<Stored>,
        /// As it is.
        new: &'a Arc<Stored>,
    },
    /// A resource that is gone. One that was deleted and created again (a new uid) is both, this one first.
    Deleted(&'a Arc<Stored>),
    /// A key that is new or has another value.
    KeyPut {
        /// Its name.
        name: &'a str,
        /// The sealed key as it is.
        sealed: &'a Arc<[u8]>,
    },
    /// A key that is gone.
    KeyDeleted {
        /// Its name.
        name: &'a str,
    },
}

impl State {
    /// What changed from this state to a newer one: kind by kind, each in the order of creation, then the keys.
    pub fn changes<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = Change<'a>> {
        let resources = Kind::ALL.iter().flat_map(move |kind| {
            self.table(*kind).by_order.diff(&newer.table(*kind).by_order).map(|item| match item {
                DiffItem::Add(_, new) => Change::Created(&new.0),
                DiffItem::Update { old: (_, old), new: (_, new) } => Change::Updated { old: &old.0, new: &new.0 },
                DiffItem::Remove(_, old) => Change::Deleted(&old.0),
            })
        });
        let keys = self.keys.diff(&newer.keys).map(|item| match item {
            DiffItem::Add(name, sealed) | DiffItem::Update { new: (name, sealed), .. } => {
                Change::KeyPut { name, sealed }
            }
            DiffItem::Remove(name, _) => Change::KeyDeleted { name },
        });
        resources.chain(keys)
    }
}
