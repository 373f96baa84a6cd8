//! An upstream's response head: read as strictly as a request where its length is concerned.

use http::{StatusCode, Version};

use super::facts::Facts;
use super::framing::{self, Declared, FramingFault};
use super::{HEADERS_CAP, room};
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
    let status = match parsed.code {
        Some(code @ 100..=599) => StatusCode::from_u16(code).map_err(|_| "response status")?,
        _ => return Err("response status"),
    };
    let facts = Facts::of(parsed.headers);
    let declared = framing::declared(&facts, version).map_err(|fault| match fault {
        FramingFault::Ambiguous(reason) | FramingFault::Coding(reason) => reason,
    })?;
    let upgraded = facts.upgrade.value.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    Ok(ResponseHead {
        status,
        headers: Headers::of_head(head, parsed.headers),
        declared,
        keep_alive: facts.keeps_alive(version),
        is_websocket: facts.names_upgrade && upgraded && !facts.upgrade.again,
    })
}
