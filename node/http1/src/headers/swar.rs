//! Looks at eight bytes at a time.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Whether there is a byte below 0x20, or 0x7f.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    // The high bit of a byte that is less than `bound`, and maybe of those above it; never without one that is.
    let less = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS;
    let special = |word: u64| less(word, b' ') | less(word ^ (ONES * 0x7f), 1) != 0;
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().any(|word| special(u64::from_le_bytes(*word))) || rest.iter().any(|byte| *byte < b' ' || *byte == 0x7f)
}

/// Makes a name of ASCII lower case; whether it has an underscore.
pub(super) fn lower(name: &mut [u8]) -> bool {
    // The last word overlaps the one before, which does no harm: what is lower case stays as it is.
    let last = name.last_chunk::<8>().map(|last| lower_word(u64::from_le_bytes(*last)));
    let mut underscores = 0;
    let (words, rest) = name.as_chunks_mut::<8>();
    for word in words {
        let (lowered, found) = lower_word(u64::from_le_bytes(*word));
        *word = lowered.to_le_bytes();
        underscores |= found;
    }
    match last {
        Some(_) if rest.is_empty() => {}
        Some((lowered, found)) => {
            underscores |= found;
            if let Some(last) = name.last_chunk_mut::<8>() {
                *last = lowered.to_le_bytes();
            }
        }
        None => {
            for byte in rest {
                *byte = byte.to_ascii_lowercase();
                underscores |= u64::from(*byte == b'_');
            }
        }
    }
    underscores != 0
}

/// Whether a name has an underscore.
pub(super) fn has_underscore(name: &[u8]) -> bool {
    let (words, rest) = name.as_chunks::<8>();
    words.iter().any(|word| underscores(u64::from_le_bytes(*word)) != 0) || rest.contains(&b'_')
}

/// The word in lower case, and something else than 0 if it has an underscore.
fn lower_word(word: u64) -> (u64, u64) {
    let low = word & !HIGHS;
    // The high bit of a byte says that it is at least this.
    let at_least = |bound: u8| low + ONES * u64::from(0x80 - bound);
    let upper = (at_least(b'A') ^ at_least(b'Z' + 1)) & !word & HIGHS;
    (word | upper >> 2, underscores(word))
}

fn underscores(word: u64) -> u64 {
    let others = word ^ (ONES * u64::from(b'_'));
    others.wrapping_sub(ONES) & !others & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{has_control, has_underscore, lower};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn names_become_lower_case(name in prop::collection::vec(0u8..0x80, 0..40)) {
            let mut lowered = name.clone();
            prop_assert_eq!(lower(&mut lowered), name.contains(&b'_'));
            prop_assert_eq!(has_underscore(&name), name.contains(&b'_'));
            prop_assert_eq!(lowered, name.to_ascii_lowercase());
        }

        #[test]
        fn it_says_what_a_look_at_each_byte_says(bytes in prop::collection::vec(any::<u8>(), 0..40), plain in "[ -~]{0,40}") {
            for bytes in [&bytes[..], plain.as_bytes()] {
                prop_assert_eq!(has_control(bytes), bytes.iter().any(|byte| *byte < b' ' || *byte == 0x7f));
            }
        }
    }
}
