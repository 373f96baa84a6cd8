//! Where a message's body ends (RFC 9112 §6.3), and whether the connection goes on after it (§9.3).
//!
//! Both sides of the gateway refuse every message whose length could be read in two ways.

use http::Version;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};

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

pub(crate) fn declared(headers: &HeaderMap, version: Version) -> Result<Declared, FramingFault> {
    use FramingFault::Ambiguous;
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(Declared::Nothing),
        (Some(_), Some(_)) => Err(Ambiguous("content-length beside transfer-encoding")),
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(Ambiguous("several content-length headers"));
            }
            decimal(length.as_bytes()).map(Declared::Length).ok_or(Ambiguous("content-length is not one number"))
        }
        (Some(encoding), None) => {
            if encodings.next().is_some() {
                return Err(Ambiguous("several transfer-encoding headers"));
            }
            if version != Version::HTTP_11 {
                return Err(Ambiguous("transfer-encoding in HTTP/1.0"));
            }
            coding(encoding.as_bytes())
        }
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
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Whether the connection stays open after this message, as far as its sender is concerned.
pub(crate) fn keep_alive(headers: &HeaderMap, version: Version) -> bool {
    let (mut close, mut keep) = (false, false);
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            close |= token.eq_ignore_ascii_case(b"close");
            keep |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    !close && (keep || version == Version::HTTP_11)
}
