//! Where a message's body ends (RFC 9112 §6.3).
//!
//! Both sides of the gateway refuse every message whose length could be read in two ways.

use http::Version;

use super::facts::Facts;

/// What the headers say of the body's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FramingFault {
    Ambiguous(&'static str),
    /// A transfer coding that is well-formed and not supported.
    Coding(&'static str),
}

pub(crate) fn declared(facts: &Facts<'_>, version: Version) -> Result<Declared, FramingFault> {
    use FramingFault::Ambiguous;
    match (facts.transfer_encoding.value, facts.content_length.value) {
        (None, None) => Ok(Declared::Nothing),
        (Some(_), Some(_)) => Err(Ambiguous("content-length beside transfer-encoding")),
        (None, Some(_)) if facts.content_length.again => Err(Ambiguous("several content-length headers")),
        (None, Some(length)) => {
            decimal(length).map(Declared::Length).ok_or(Ambiguous("content-length is not one number"))
        }
        (Some(_), None) if facts.transfer_encoding.again => Err(Ambiguous("several transfer-encoding headers")),
        (Some(_), None) if version != Version::HTTP_11 => Err(Ambiguous("transfer-encoding in HTTP/1.0")),
        (Some(encoding), None) => coding(encoding),
    }
}

fn coding(value: &[u8]) -> Result<Declared, FramingFault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Declared::Chunked);
    }
    // Only a plain other coding is "not supported"; what mentions chunked in any other way is an attempt at confusion.
    let plain = !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    if plain && !value.to_ascii_lowercase().windows(5).any(|part| part == b"chunk") {
        return Err(FramingFault::Coding("transfer coding is not supported"));
    }
    Err(FramingFault::Ambiguous("transfer-encoding is not exactly one chunked"))
}

/// A number of ASCII digits only.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}
