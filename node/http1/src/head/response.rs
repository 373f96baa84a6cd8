//! An upstream's response head: read as strictly as a request where its length is concerned.

use http::{StatusCode, Version};
use memchr::memchr;

use super::facts::Facts;
use super::framing::{self, Declared, FramingFault};
use super::{HEADERS_CAP, is_strict, room};
use crate::headers::Headers;

#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: Headers,
    pub(crate) declared: Declared,
    pub(crate) keep_alive: bool,
    /// Whether it says that the connection speaks WebSocket from here on.
    pub(crate) is_websocket: bool,
}

/// The head at the beginning of `bytes` and its length, if all of it is there and nothing about it is unusual; everything else,
/// the faulty too, is for the scan.
pub(crate) fn parse_plain(
    bytes: &[u8],
    head_bytes_max: usize,
    headers_max: usize,
) -> Option<(usize, Result<ResponseHead, &'static str>)> {
    let mut room = room();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let room = &mut room[..headers_max.min(HEADERS_CAP)];
    let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, room);
    let Ok(httparse::Status::Complete(length)) = status else { return None };
    let head = &bytes[..length];
    let line_end = memchr(b'\n', head)?;
    let is_plain = head.starts_with(b"HTTP/1.1 ")
        && head[..line_end].last() == Some(&b'\r')
        && length <= head_bytes_max
        && is_strict(head, line_end + 1, parsed.headers);
    is_plain.then(|| (length, finish(head, &parsed, Version::HTTP_11)))
}

/// Parses a head that the scan has accepted, final empty line included.
pub(crate) fn parse(head: &[u8], headers_max: usize) -> Result<ResponseHead, &'static str> {
    let version = match head.get(..9) {
        Some(b"HTTP/1.1 ") => Version::HTTP_11,
        Some(b"HTTP/1.0 ") => Version::HTTP_10,
        _ => return Err("not an HTTP/1 response"),
    };
    let mut room = room();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let room = &mut room[..headers_max.min(HEADERS_CAP)];
    match config.parse_response_with_uninit_headers(&mut parsed, head, room) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err("response head ends elsewhere"),
        Err(httparse::Error::TooManyHeaders) => return Err("too many response headers"),
        Err(_) => return Err("response head is malformed"),
    }
    finish(head, &parsed, version)
}

fn finish(head: &[u8], parsed: &httparse::Response<'_, '_>, version: Version) -> Result<ResponseHead, &'static str> {
    let status = match parsed.code {
        Some(code @ 100..=599) => StatusCode::from_u16(code).map_err(|_| "response status")?,
        _ => return Err("response status"),
    };
    let headers = Headers::of_head(head, parsed.headers);
    let facts = Facts::of(&headers);
    let declared = framing::declared(&facts, version).map_err(|fault| match fault {
        FramingFault::Ambiguous(reason) | FramingFault::Coding(reason) => reason,
    })?;
    let upgraded = facts.upgrade.value.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    let keep_alive = facts.keeps_alive(version);
    let is_websocket = facts.names_upgrade && upgraded && !facts.upgrade.again;
    Ok(ResponseHead { status, headers, declared, keep_alive, is_websocket })
}
