//! A request's head: from scanned bytes to method, target and headers, or to the status that refuses it.

use http::{Method, StatusCode, Version};
use memchr::{memchr, memrchr};

use super::facts::Facts;
use super::framing::{self, Declared, FramingFault};
use super::{Fault, HEADERS_CAP, host, is_strict, room};
use crate::headers::Headers;
use crate::limits::Limits;
use crate::server::Refusal;

/// A request as far as its head tells.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// Normal; empty if there is none (HTTP/1.0).
    pub(crate) host: String,
    /// Path and query, or `*`.
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: Headers,
    pub(crate) declared: Declared,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) wants_websocket: bool,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::FirstLineTooLong => refusal(StatusCode::URI_TOO_LONG, "request line is too long"),
            Fault::TooLong => refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head is too long"),
            Fault::Malformed(reason) => bad(reason),
        }
    }
}

fn refusal(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

fn bad(reason: &'static str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, reason)
}

/// The head at the beginning of `bytes` and its length, if all of it is there and nothing about it is unusual; everything else,
/// the faulty too, is for the scan.
pub(crate) fn parse_plain(bytes: &[u8], limits: &Limits) -> Option<(usize, Result<RequestHead, Refusal>)> {
    const VERSION: &[u8] = b" HTTP/1.1\r\n";
    let mut room = room();
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(bytes, &mut room[..limits.headers_max.min(HEADERS_CAP)]);
    let Ok(httparse::Status::Complete(length)) = status else { return None };
    let (head, method, target) = (&bytes[..length], parsed.method?.as_bytes(), parsed.path?);
    let target_end = method.len() + 1 + target.len();
    let lines_at = target_end + VERSION.len();
    let is_plain = head.get(method.len()) == Some(&b' ')
        && head.get(method.len() + 1..target_end) == Some(target.as_bytes())
        && head.get(target_end..lines_at) == Some(VERSION)
        && lines_at - 2 <= limits.request_line_bytes_max
        && length <= limits.head_bytes_max
        && is_strict(head, lines_at, parsed.headers);
    if !is_plain {
        return None;
    }
    let line = RequestLine::new(method, target, Version::HTTP_11);
    Some((length, line.and_then(|line| line.with_headers(Headers::of_head(head, parsed.headers)))))
}

/// Parses a head that the scan has accepted, final empty line included.
pub(crate) fn parse(head: &[u8], headers_max: usize) -> Result<RequestHead, Refusal> {
    let line = RequestLine::split(head)?;
    let mut room = room();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut room[..headers_max.min(HEADERS_CAP)]) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(bad("head ends elsewhere")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers"));
        }
        Err(httparse::Error::HeaderName) => return Err(bad("header name")),
        Err(httparse::Error::HeaderValue) => return Err(bad("header value")),
        Err(_) => return Err(bad("head is malformed")),
    }
    line.with_headers(Headers::of_head(head, parsed.headers))
}

struct RequestLine<'a> {
    method: Method,
    target: &'a str,
    version: Version,
}

impl<'a> RequestLine<'a> {
    fn split(head: &'a [u8]) -> Result<Self, Refusal> {
        let line = &head[..memchr(b'\r', head).unwrap_or(head.len())];
        let (Some(first), Some(last)) = (memchr(b' ', line), memrchr(b' ', line)) else {
            return Err(bad("request line has no spaces"));
        };
        if first == last {
            return Err(bad("request line without version"));
        }
        let (method, target, version) = (&line[..first], &line[first + 1..last], &line[last + 1..]);
        let version = match version {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version is not supported"));
            }
            _ => return Err(bad("version is malformed")),
        };
        let target = std::str::from_utf8(target).map_err(|_| bad(INVISIBLE_BYTE))?;
        Self::new(method, target, version)
    }

    fn new(method: &[u8], target: &'a str, version: Version) -> Result<Self, Refusal> {
        let method = Method::from_bytes(method).map_err(|_| bad("method is not a token"))?;
        if method == Method::CONNECT {
            return Err(refusal(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
        }
        let classes = target.bytes().fold(0, |classes, byte| classes | CLASSES[usize::from(byte)]);
        if target.is_empty() || classes & INVISIBLE != 0 {
            return Err(bad(INVISIBLE_BYTE));
        }
        if classes & FRAGMENT != 0 {
            return Err(bad("target has a fragment"));
        }
        if classes & UNESCAPED != 0 && has_unescaped(target.as_bytes()) {
            return Err(bad("target has a byte that must be escaped"));
        }
        Ok(Self { method, target, version })
    }

    fn with_headers(self, headers: Headers) -> Result<RequestHead, Refusal> {
        let Self { method, target, version } = self;
        let facts = Facts::of(&headers);
        let host = host_header(&facts, version)?;
        let declared = framing::declared(&facts, version).map_err(|fault| match fault {
            FramingFault::Ambiguous(reason) => bad(reason),
            FramingFault::Coding(reason) => refusal(StatusCode::NOT_IMPLEMENTED, reason),
        })?;
        let target = path_and_query(target, &method, host)?;
        let host = host.map(|(host, _)| host::normal(host)).unwrap_or_default();
        let keep_alive = facts.keeps_alive(version);
        let expects_continue = expects_continue(&facts, version)?;
        let wants_websocket = wants_websocket(&facts, &method, version, declared);
        Ok(RequestHead {
            method,
            host,
            target,
            version,
            headers,
            declared,
            keep_alive,
            expects_continue,
            wants_websocket,
        })
    }
}

fn host_header<'a>(facts: &Facts<'a>, version: Version) -> Result<Option<(&'a str, Option<u16>)>, Refusal> {
    match facts.host.value {
        None if version == Version::HTTP_10 => Ok(None),
        None => Err(bad("host is missing")),
        Some(_) if facts.host.again => Err(bad("several host headers")),
        Some(value) => host::split(value).map(Some).ok_or(bad("host is malformed")),
    }
}

fn expects_continue(facts: &Facts<'_>, version: Version) -> Result<bool, Refusal> {
    match facts.expect.value {
        // HTTP/1.0 has no expectations (RFC 9110 §10.1.1).
        Some(value) if version == Version::HTTP_11 => {
            if facts.expect.again || !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(refusal(StatusCode::EXPECTATION_FAILED, "expectation other than 100-continue"));
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Any other protocol in `Upgrade` is an offer that needn't be taken (RFC 9110 §7.8): such a request is served as HTTP.
fn wants_websocket(facts: &Facts<'_>, method: &Method, version: Version, declared: Declared) -> bool {
    facts.names_upgrade
        && facts.upgrade.value.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
        && !facts.upgrade.again
        && method == Method::GET
        && version == Version::HTTP_11
        && matches!(declared, Declared::Nothing | Declared::Length(0))
}

fn path_and_query(target: &str, method: &Method, host: Option<(&str, Option<u16>)>) -> Result<String, Refusal> {
    if target.starts_with('/') || target == "*" && method == Method::OPTIONS {
        return Ok(target.to_owned());
    }
    absolute(target, host)
}

const NOT_ABSOLUTE: &str = "target is neither a path nor an http URI";
const INVISIBLE_BYTE: &str = "target has a byte that is not printable ASCII";

/// What is looked for in each byte of a target.
const INVISIBLE: u8 = 1;
const FRAGMENT: u8 = 2;
const UNESCAPED: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [INVISIBLE; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        classes[byte as usize] = match byte {
            b'#' => FRAGMENT,
            b'<' | b'>' | b'`' => UNESCAPED,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// The bytes of a target that no URI has (RFC 3986 §2) and no browser sends unescaped; a query may have backticks.
fn has_unescaped(target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    target.iter().any(|byte| matches!(byte, b'<' | b'>')) || path.contains(&b'`')
}

fn absolute(target: &str, host: Option<(&str, Option<u16>)>) -> Result<String, Refusal> {
    let (scheme, rest) = target.split_once("://").ok_or(bad(NOT_ABSOLUTE))?;
    let default_port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => 80,
        _ if scheme.eq_ignore_ascii_case("https") => 443,
        _ => return Err(bad(NOT_ABSOLUTE)),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let named = host::split(authority.as_bytes()).ok_or(bad("target's host is malformed"))?;
    // Without a host to compare with (HTTP/1.0), nothing says which Service is meant but this.
    let Some(host) = host else { return Err(bad("host is missing")) };
    if !host::same(host, named, default_port) {
        return Err(bad("host disagrees with the target"));
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}
