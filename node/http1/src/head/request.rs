//! A request's head: from scanned bytes to method, target and headers, or to the status that refuses it.

use bytes::Bytes;
use http::header::{EXPECT, HOST, HeaderMap};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode, Uri, Version};
use memchr::{memchr, memrchr};

use super::framing::{self, Declared, FramingFault};
use super::{Fault, HEADERS_CAP, header_map, host, room};
use crate::server::Refusal;

/// A request as far as its head tells.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) declared: Declared,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
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

/// Parses a head that the scan has accepted, final empty line included.
pub(crate) fn parse(head: Bytes, headers_max: usize) -> Result<RequestHead, Refusal> {
    let line = RequestLine::split(&head)?;
    let mut room = room();
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&head, &mut room[..headers_max.min(HEADERS_CAP)]) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(bad("head ends elsewhere")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers"));
        }
        Err(httparse::Error::HeaderName) => return Err(bad("header name")),
        Err(httparse::Error::HeaderValue) => return Err(bad("header value")),
        Err(_) => return Err(bad("head is malformed")),
    }
    let headers = header_map(&head, parsed.headers).map_err(bad)?;

    let host = host_header(&headers, line.version)?;
    let declared = framing::declared(&headers, line.version).map_err(|fault| match fault {
        FramingFault::Ambiguous(reason) => bad(reason),
        FramingFault::Coding(reason) => refusal(StatusCode::NOT_IMPLEMENTED, reason),
    })?;
    let expects_continue = expects_continue(&headers, line.version)?;
    let uri = target(&head, line.target, &line.method, host)?;
    let keep_alive = framing::keep_alive(&headers, line.version);
    let RequestLine { method, version, .. } = line;
    Ok(RequestHead { method, uri, version, headers, declared, keep_alive, expects_continue })
}

struct RequestLine<'a> {
    method: Method,
    target: &'a [u8],
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
        let method = Method::from_bytes(method).map_err(|_| bad("method is not a token"))?;
        let version = match version {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version is not supported"));
            }
            _ => return Err(bad("version is malformed")),
        };
        if method == Method::CONNECT {
            return Err(refusal(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
        }
        if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("target has a byte that is not printable ASCII"));
        }
        if target.contains(&b'#') {
            return Err(bad("target has a fragment"));
        }
        Ok(Self { method, target, version })
    }
}

fn host_header(headers: &HeaderMap, version: Version) -> Result<Option<(&str, Option<u16>)>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(value) = hosts.next() else {
        return if version == Version::HTTP_10 { Ok(None) } else { Err(bad("host is missing")) };
    };
    if hosts.next().is_some() {
        return Err(bad("several host headers"));
    }
    host::split(value.as_bytes()).map(Some).ok_or(bad("host is malformed"))
}

fn expects_continue(headers: &HeaderMap, version: Version) -> Result<bool, Refusal> {
    let mut expectations = headers.get_all(EXPECT).iter();
    // HTTP/1.0 has no expectations (RFC 9110 §10.1.1).
    let Some(value) = expectations.next().filter(|_| version == Version::HTTP_11) else {
        return Ok(false);
    };
    if expectations.next().is_some() || !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(refusal(StatusCode::EXPECTATION_FAILED, "expectation other than 100-continue"));
    }
    Ok(true)
}

fn target(head: &Bytes, target: &[u8], method: &Method, host: Option<(&str, Option<u16>)>) -> Result<Uri, Refusal> {
    match target {
        [b'/', ..] => {
            let path = PathAndQuery::from_maybe_shared(head.slice_ref(target)).map_err(|_| bad("target"))?;
            Ok(Uri::from(path))
        }
        b"*" if method == Method::OPTIONS => Ok(Uri::from(PathAndQuery::from_static("*"))),
        _ => absolute(head, target, host),
    }
}

fn absolute(head: &Bytes, target: &[u8], host: Option<(&str, Option<u16>)>) -> Result<Uri, Refusal> {
    const NOT_ABSOLUTE: &str = "target is neither a path nor an http URI";
    let colon = memchr(b':', target).ok_or(bad(NOT_ABSOLUTE))?;
    let (scheme, default_port) = match &target[..colon] {
        scheme if scheme.eq_ignore_ascii_case(b"http") => (Scheme::HTTP, 80),
        scheme if scheme.eq_ignore_ascii_case(b"https") => (Scheme::HTTPS, 443),
        _ => return Err(bad(NOT_ABSOLUTE)),
    };
    let rest = target[colon..].strip_prefix(b"://").ok_or(bad(NOT_ABSOLUTE))?;
    let (authority, path) = rest.split_at(rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len()));
    let named = host::split(authority).ok_or(bad("target's host is malformed"))?;
    if host.is_some_and(|host| !host::same(host, named, default_port)) {
        return Err(bad("host disagrees with the target"));
    }
    let path = match path.first() {
        Some(b'/') => PathAndQuery::from_maybe_shared(head.slice_ref(path)),
        _ => PathAndQuery::try_from([b"/", path].concat()),
    };
    Uri::builder()
        .scheme(scheme)
        .authority(Authority::from_maybe_shared(head.slice_ref(authority)).map_err(|_| bad("target"))?)
        .path_and_query(path.map_err(|_| bad("target"))?)
        .build()
        .map_err(|_| bad("target"))
}
