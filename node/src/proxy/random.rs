//! Numbers that nobody can guess from others, without a system call for each.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

/// A counter behind a keyed hash; the key is from the operating system. For identifiers, not for secrets.
#[derive(Debug, Default)]
pub struct Random {
    key: RandomState,
    count: Cell<u64>,
}

impl Random {
    /// The next one, never 0.
    pub fn next(&self) -> u64 {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        self.key.hash_one(count).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_differ_within_a_sequence_and_between_sequences() {
        let (one, other) = (Random::default(), Random::default());
        let numbers: HashSet<u64> = (0..1000).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(numbers.len(), 2000);
    }
}
