//! Numbers as hexadecimal digits in lower case, eight at a time.

const ONES: u64 = 0x0101_0101_0101_0101;

/// The sixteen digits of a number.
pub fn digits(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    let (halves, _) = text.as_chunks_mut::<8>();
    for (half, number) in halves.iter_mut().zip([number >> 32, number & 0xffff_ffff]) {
        *half = eight(number);
    }
    text
}

/// The digits of a number below 2³².
fn eight(number: u64) -> [u8; 8] {
    // Each digit in a byte of its own.
    let pairs = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = ((digits + 6 * ONES) >> 4) & ONES;
    let text = digits + u64::from(b'0') * ONES + u64::from(b'a' - b'9' - 1) * is_letter;
    text.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn digits_are_those_of_the_standard_library(number: u64) {
            prop_assert_eq!(super::digits(number).to_vec(), format!("{number:016x}").into_bytes());
        }
    }
}
