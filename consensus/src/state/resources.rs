//! The resources of one kind: by uid, by name and in the order of creation.

use std::sync::Arc;

use aws_lc_rs::digest;
use imbl::{OrdMap, OrdSet};
use octelium_api::Object;
use uuid::Uuid;

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
    /// What belongs to an owner, see [`Object::owners`].
    by_owner: OrdSet<(Owner, Order)>,
    /// The log index of the last change.
    pub(super) changed_index: u64,
}

/// An owner's uid as a number.
type Owner = u128;

/// Uids are UUIDs; whatever else stands there gets a number that no UUID is likely to have.
fn owner(uid: &str) -> Owner {
    Uuid::try_parse(uid).map_or_else(
        |_| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest::digest(&digest::SHA256, uid.as_bytes()).as_ref()[..16]);
            Owner::from_be_bytes(bytes)
        },
        |uuid| uuid.as_u128(),
    )
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

    /// What belongs to the owner with this uid, in the order of creation.
    pub fn owned_by<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Arc<Stored>> {
        const FIRST: Order = Order { index: 0, position: 0 };
        const LAST: Order = Order { index: u64::MAX, position: u32::MAX };
        let owner = owner(uid);
        let orders = self.by_owner.range((owner, FIRST)..=(owner, LAST));
        let owned = orders.filter_map(|(_, order)| self.at(*order));
        owned.filter(move |stored| stored.object.owners().any(|of| of == uid))
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
        self.note_owners(&stored.object, order);
        self.by_order.insert(order, Held(Arc::new(stored)));
    }

    /// Replaces the resource that has the same uid; its name must be the same too.
    pub fn replace(&mut self, stored: Stored) {
        let Some(order) = self.by_uid.get(stored.object.uid()).copied() else { return };
        if let Some(before) = self.at(order).cloned()
            && !before.object.owners().eq(stored.object.owners())
        {
            self.forget_owners(&before.object, order);
            self.note_owners(&stored.object, order);
        }
        self.by_order.insert(order, Held(Arc::new(stored)));
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(order) = self.by_uid.remove(uid)
            && let Some(Held(stored)) = self.by_order.remove(&order)
        {
            self.by_name.remove(stored.object.name());
            self.forget_owners(&stored.object, order);
        }
    }

    fn note_owners(&mut self, object: &Object, order: Order) {
        for uid in object.owners() {
            self.by_owner.insert((owner(uid), order));
        }
    }

    fn forget_owners(&mut self, object: &Object, order: Order) {
        for uid in object.owners() {
            self.by_owner.remove(&(owner(uid), order));
        }
    }

    fn at(&self, order: Order) -> Option<&Arc<Stored>> {
        self.by_order.get(&order).map(|held| &held.0)
    }
}
