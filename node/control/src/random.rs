//! Random characters for names and ids.

use uuid::Uuid;

const ALPHANUMERIC: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Lower-case letters and digits, at most 15.
pub fn alphanumeric(count: usize) -> String {
    characters(count, 36)
}

/// One lower-case letter.
pub fn letter() -> String {
    characters(1, 26)
}

/// A UUIDv4 has 122 random bits; those of its fixed fields are skipped by taking the remainder of the lower 62 and upper 48.
fn characters(count: usize, of: u128) -> String {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    let mut bits = u128::from(high >> 16) << 62 | u128::from(low & (u64::MAX >> 2));
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        let index = usize::try_from(bits % of).unwrap_or_default();
        text.push(char::from(ALPHANUMERIC[index]));
        bits /= of;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn characters_are_as_asked_for_and_differ() {
        let all: HashSet<_> = (0..1000).map(|_| alphanumeric(15)).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|text| text.len() == 15 && text.bytes().all(|byte| ALPHANUMERIC.contains(&byte))));
        assert!((0..1000).all(|_| letter().chars().all(|letter| letter.is_ascii_lowercase())));
    }
}
