//! Numbers that nobody can guess from others, without a system call for each.

use std::cell::RefCell;

/// Fetched from the operating system at once.
const NUMBERS: usize = 256;

/// A stock of random numbers. For identifiers, not for secrets: those in stock lie in memory.
#[derive(Debug, Default)]
pub struct Random(RefCell<Vec<u64>>);

impl Random {
    /// The next one, never 0.
    ///
    /// # Panics
    /// If the operating system has no random numbers: nothing that is secret could be made then either.
    pub fn next(&self) -> u64 {
        let mut stock = self.0.borrow_mut();
        loop {
            match stock.pop() {
                None => refill(&mut stock),
                Some(0) => {}
                Some(number) => return number,
            }
        }
    }
}

#[cold]
fn refill(stock: &mut Vec<u64>) {
    let mut bytes = [0; NUMBERS * 8];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    stock.extend(bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)));
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
