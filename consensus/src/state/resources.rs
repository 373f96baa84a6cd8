//! The resources of one kind: by uid, by name and in the order of creation.

use std::sync::Arc;

use imbl::OrdMap;

use super::Stored;

/// When a resource was created: the log index, then the place of the write in its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub index: u64,
    pub position: u32,
}

/// Compares by address first, so that unchanged resources cost nothing when two states are compared.
#[derive(Debug, Clone)]
pub struct Held(pub Arc<Stored>);

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// All resources of one kind.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub(super) by_order: OrdMap<Order, Held>,
    by_uid: OrdMap<Arc<str>, Order>,
    by_name: OrdMap<Arc<str>, Order>,
}

impl Table {
    pub fn get(&self, uid: &str) -> Option<&Arc<Stored>> {
        self.at(*self.by_uid.get(uid)?)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Stored>> {
        self.at(*self.by_name.get(name)?)
    }

    pub fn list(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.by_order.values().map(|held| &held.0)
    }

    pub fn ordered(&self) -> impl Iterator<Item = (Order, &Arc<Stored>)> {
        self.by_order.iter().map(|(order, held)| (*order, &held.0))
    }

    pub fn len(&self) -> usize {
        self.by_order.len()
    }

    /// Adds a resource whose uid and name are free.
    pub fn insert(&mut self, order: Order, stored: Stored) {
        self.by_uid.insert(stored.object.uid().into(), order);
        self.by_name.insert(stored.object.name().into(), order);
        self.by_order.insert(order, Held(Arc::new(stored)));
    }

    /// Replaces the resource that has the same uid; its name must be the same too.
    pub fn replace(&mut self, stored: Stored) {
        if let Some(order) = self.by_uid.get(stored.object.uid()) {
            self.by_order.insert(*order, Held(Arc::new(stored)));
        }
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(order) = self.by_uid.remove(uid)
            && let Some(Held(stored)) = self.by_order.remove(&order)
        {
            self.by_name.remove(stored.object.name());
        }
    }

    fn at(&self, order: Order) -> Option<&Arc<Stored>> {
        self.by_order.get(&order).map(|held| &held.0)
    }
}
