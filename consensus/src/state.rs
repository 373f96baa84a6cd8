//! What the log led to: resources, keys, grants of rate limits and the memory of requests, in persistent maps, so that a clone costs nothing.

mod apply;
mod changes;
pub mod grants;
mod records;
mod requests;
mod resources;

use std::sync::Arc;

use aws_lc_rs::digest;
use imbl::OrdMap;
use octelium_api::{Kind, Object};

pub use apply::apply;
pub use changes::Change;

use grants::Grants;
use requests::Requests;
use resources::Table;

/// The state after one log entry. A clone shares all its structure and costs a few counters.
#[derive(Debug, Clone)]
pub struct State {
    index: u64,
    tables: OrdMap<Kind, Table>,
    keys: OrdMap<Arc<str>, Arc<[u8]>>,
    requests: Requests,
    grants: Grants,
}

/// One resource as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The resource, without secret data.
    pub object: Object,
    /// Its secret data, sealed.
    pub sealed: Option<Arc<[u8]>>,
    /// The log index that created it.
    pub created_index: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            index: 0,
            tables: Kind::ALL.iter().map(|kind| (*kind, Table::default())).collect(),
            keys: OrdMap::new(),
            requests: Requests::default(),
            grants: Grants::default(),
        }
    }
}

impl State {
    /// The index of the last log entry that this state includes.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The resource with this uid.
    pub fn get(&self, kind: Kind, uid: &str) -> Option<&Arc<Stored>> {
        self.table(kind).get(uid)
    }

    /// The resource with this name.
    pub fn by_name(&self, kind: Kind, name: &str) -> Option<&Arc<Stored>> {
        self.table(kind).by_name(name)
    }

    /// All resources of a kind, in the order of their creation.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Arc<Stored>> {
        self.table(kind).list()
    }

    /// All resources of a kind that belong to the resource with this uid (see [`Object::owners`]), in the order of their
    /// creation.
    pub fn owned_by<'a>(&'a self, kind: Kind, uid: &'a str) -> impl Iterator<Item = &'a Arc<Stored>> {
        self.table(kind).owned_by(uid)
    }

    /// The log index of the last change of a resource of this kind. After a restart it may be that of the snapshot.
    pub fn changed_index(&self, kind: Kind) -> u64 {
        self.table(kind).changed_index
    }

    /// How many resources of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.table(kind).len()
    }

    /// The sealed key with this name.
    pub fn key(&self, name: &str) -> Option<&Arc<[u8]>> {
        self.keys.get(name)
    }

    /// All keys with their names, in the order of the names.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        self.keys.iter().map(|(name, sealed)| (&**name, sealed))
    }

    /// What is granted of rate limits.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Makes a mistake from now on, which a test must notice.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, planted: grants::Planted) {
        self.grants.plant(planted);
    }

    /// A digest of everything, the same on every node that applied the same log. It reads the whole state.
    pub fn hash(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.index.to_be_bytes());
        for record in self.records() {
            let bytes = records::encode(record);
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(&bytes);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// Removes keys by their names.
    pub(crate) fn forget_keys(&mut self, forget: impl Fn(&str) -> bool) {
        self.keys =
            self.keys.iter().filter(|(name, _)| !forget(name)).map(|(name, key)| (name.clone(), key.clone())).collect();
    }

    /// Notes an entry that changes nothing here.
    pub(crate) fn advance(&mut self, index: u64) {
        self.index = index;
    }

    /// Notes that everything may have changed: what a snapshot replaced.
    pub(crate) fn replaced(&mut self) {
        for kind in Kind::ALL {
            self.table_mut(*kind).changed_index = self.index;
        }
    }

    fn table(&self, kind: Kind) -> &Table {
        self.tables.get(&kind).expect("there is a table for every kind from the start")
    }

    fn table_mut(&mut self, kind: Kind) -> &mut Table {
        self.tables.get_mut(&kind).expect("there is a table for every kind from the start")
    }
}
