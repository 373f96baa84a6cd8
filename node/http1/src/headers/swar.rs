//! Looks at eight bytes at a time.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Whether there is a byte below 0x20, or 0x7f.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    // The high bit of a byte that is less than `bound`, and maybe of those above it; never without one that is.
    let less = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS;
    let special = |word: u64| less(word, b' ') | less(word ^ (ONES * 0x7f), 1) != 0;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain(std::iter::once(&last)).any(|word| special(u64::from_le_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::has_control;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_says_what_a_look_at_each_byte_says(bytes in prop::collection::vec(any::<u8>(), 0..40), plain in "[ -~]{0,40}") {
            for bytes in [&bytes[..], plain.as_bytes()] {
                prop_assert_eq!(has_control(bytes), bytes.iter().any(|byte| *byte < b' ' || *byte == 0x7f));
            }
        }
    }
}
