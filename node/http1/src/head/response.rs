//! An upstream's response head: read as strictly as a request where its length is concerned.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};

use super::framing::{self, Declared, FramingFault};
use super::{HEADERS_CAP, header_map, room};

#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) declared: Declared,
    pub(crate) keep_alive: bool,
}

/// Parses a head that the scan has accepted, final empty line included.
pub(crate) fn parse(head: Bytes, headers_max: usize) -> Result<ResponseHead, &'static str> {
    let version = match head.get(..9) {
        Some(b"HTTP/1.1 ") => Version::HTTP_11,
        Some(b"HTTP/1.0 ") => Version::HTTP_10,
        _ => return Err("not an HTTP/1 response"),
    };
    let mut room = room();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let room = &mut room[..headers_max.min(HEADERS_CAP)];
    match config.parse_response_with_uninit_headers(&mut parsed, &head, room) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err("response head ends elsewhere"),
        Err(httparse::Error::TooManyHeaders) => return Err("too many response headers"),
        Err(_) => return Err("response head is malformed"),
    }
    let status = match parsed.code {
        Some(code @ 100..=599) => StatusCode::from_u16(code).map_err(|_| "response status")?,
        _ => return Err("response status"),
    };
    let headers = header_map(&head, parsed.headers)?;
    let declared = framing::declared(&headers, version).map_err(|fault| match fault {
        FramingFault::Ambiguous(reason) | FramingFault::Coding(reason) => reason,
    })?;
    let keep_alive = framing::keep_alive(&headers, version);
    Ok(ResponseHead { status, version, headers, declared, keep_alive })
}
