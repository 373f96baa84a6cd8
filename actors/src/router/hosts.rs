//! Host names and their Services, made to be looked up: every request asks, few changes come.

use std::{hash::BuildHasher, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Route;

/// A change copies one shard, and the list of them.
const SHARDS: usize = 1 << u8::BITS;

type Shard = HashTable<(Arc<str>, Arc<Route>)>;

/// By host; hashed anew in each process. Clones share what neither has changed.
///
/// In a tree every level is a wait for memory, on every request. Here it is one for the entry and one for its name, however many
/// hosts there are.
#[derive(Clone)]
pub struct Hosts {
    shards: Arc<[Arc<Shard>]>,
    hasher: DefaultHashBuilder,
    length: usize,
}

impl Default for Hosts {
    fn default() -> Self {
        let empty = Arc::<Shard>::default();
        Self { shards: (0..SHARDS).map(|_| empty.clone()).collect(), hasher: DefaultHashBuilder::default(), length: 0 }
    }
}

impl Hosts {
    /// The Service at `host`, which is lower case and has no port.
    #[inline]
    pub fn get(&self, host: &str) -> Option<&Arc<Route>> {
        let hash = self.hasher.hash_one(host);
        let found = self.shards[shard(hash)].find(hash, |(known, _)| **known == *host);
        found.map(|(_, route)| route)
    }

    /// Puts a Service at `host`, in place of another one.
    pub fn insert(&mut self, host: Arc<str>, route: Arc<Route>) {
        self.remove(&host);
        let hash = self.hasher.hash_one(&*host);
        let hasher = &self.hasher;
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard(hash)]);
        shard.insert_unique(hash, (host, route), |(known, _)| hasher.hash_one(&**known));
        self.length += 1;
    }

    /// Takes the Service at `host` away.
    pub fn remove(&mut self, host: &str) {
        if self.get(host).is_none() {
            return;
        }
        let hash = self.hasher.hash_one(host);
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard(hash)]);
        if let Ok(entry) = shard.find_entry(hash, |(known, _)| **known == *host) {
            entry.remove();
            self.length -= 1;
        }
    }

    /// The Services, one for each of their hosts.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(_, route)| route)
    }

    /// Whether both are one and the same, which costs nothing to find out.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shards, &other.shards)
    }

    /// Whether there is no host.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// By bits that the tables don't look at: those take the highest ones, and the lowest.
fn shard(hash: u64) -> usize {
    let [_, _, byte, ..] = hash.to_be_bytes();
    usize::from(byte)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a plain map does; what was published stays what it was.
        #[test]
        fn hosts_are_put_found_and_taken_away(steps in prop::collection::vec((0..40_u8, any::<bool>()), 0..200)) {
            let (mut hosts, mut model) = (Hosts::default(), HashMap::new());
            let mut published = Vec::new();
            for (number, is_there) in steps {
                let host: Arc<str> = format!("h{number}.example.com").into();
                published.push((hosts.clone(), model.clone()));
                if is_there {
                    let route = Arc::new(crate::tests::route());
                    hosts.insert(host.clone(), route.clone());
                    model.insert(host, route);
                } else {
                    hosts.remove(&host);
                    model.remove(&host);
                }
            }
            published.push((hosts, model));
            for (hosts, model) in &published {
                prop_assert_eq!(hosts.is_empty(), model.is_empty());
                prop_assert_eq!(hosts.values().count(), model.len());
                for number in 0..40 {
                    let host = format!("h{number}.example.com");
                    let (found, expected) = (hosts.get(&host), model.get(&*host));
                    prop_assert!(found.map(Arc::as_ptr) == expected.map(Arc::as_ptr), "{}", host);
                }
            }
        }
    }

    #[test]
    fn what_is_not_changed_is_shared() {
        let mut hosts = Hosts::default();
        hosts.insert("a.example.com".into(), Arc::new(crate::tests::route()));
        let before = hosts.clone();
        hosts.remove("b.example.com");
        assert!(before.ptr_eq(&hosts), "nothing was taken away");
        hosts.insert("b.example.com".into(), Arc::new(crate::tests::route()));
        assert!(!before.ptr_eq(&hosts));
        let copied = before.shards.iter().zip(&*hosts.shards).filter(|(before, after)| !Arc::ptr_eq(before, after));
        assert_eq!(copied.count(), 1);
    }
}
