//! A request is for one host, whether `Host` or an absolute target names it, against a reading of the grammar that shares nothing
//! with the engine's. Two that disagree are for nobody.
//!
//! First byte: bit 0, the target is absolute; bit 1, of https; bit 2, its scheme is written in capitals; bit 3, HTTP/1.0; bit 4, no
//! `Host`; bit 5, two of them. The rest is the authority, a line feed and what `Host` says, or one text for both.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use octelium_http1::{Body, Handler, Limits, Refusal, Request, Response, shared::host};

#[path = "shared/connection.rs"]
mod connection;

const HOST_BYTES_MAX: usize = 255;

/// A host and a port, if it is named.
type Authority<'a> = (&'a str, Option<u16>);

/// Hosts and targets of what was handed on, and how much wasn't.
#[derive(Default)]
struct Seen {
    handed_on: RefCell<Vec<(String, String)>>,
    refused: RefCell<usize>,
}

impl Handler for Seen {
    async fn handle(&self, request: Request) -> Response {
        let mut hosts = request.headers.get_all("host");
        match (hosts.next(), hosts.next()) {
            (Some(value), None) => {
                let (host, _) = authority(value).expect("its host is one");
                assert_eq!(request.host, normal(host));
            }
            (None, None) => assert!(request.version == http::Version::HTTP_10 && request.host.is_empty()),
            _ => panic!("two hosts"),
        }
        assert!(request.target.starts_with('/') || request.target == "*", "{}", request.target);
        self.handed_on.borrow_mut().push((request.host, request.target));
        let mut response = Response::new(http::StatusCode::OK);
        response.body = Body::full("ok");
        response
    }

    fn refused(&self, refusal: &Refusal, _: &[u8]) {
        assert!(refusal.status.is_client_error() || refusal.status.is_server_error());
        *self.refused.borrow_mut() += 1;
    }
}

/// `host[:port]`: a name, or an address of IPv6 in brackets.
fn authority(bytes: &[u8]) -> Option<Authority<'_>> {
    let text = str::from_utf8(bytes).ok()?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(digits) => Some(number(digits, 5).and_then(|port| u16::try_from(port).ok())?),
        None => None,
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => is_ipv6(address),
        None => {
            !matches!(host, "" | ".") && host.chars().all(|sign| sign.is_ascii_alphanumeric() || "-._~".contains(sign))
        }
    };
    (is_host && host.len() <= HOST_BYTES_MAX).then_some((host, port))
}

fn number(digits: &str, digits_max: usize) -> Option<u32> {
    let is_number = (1..=digits_max).contains(&digits.len()) && digits.chars().all(|digit| digit.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// RFC 3986 §3.2.2: eight groups, of which `::` stands for one or more, and an IPv4 address for the last two.
fn is_ipv6(text: &str) -> bool {
    match text.split_once("::") {
        None => groups(text, true) == Some(8),
        Some((before, after)) => {
            groups(before, false).zip(groups(after, true)).is_some_and(|(before, after)| before + after <= 7)
        }
    }
}

fn groups(text: &str, may_end_in_ipv4: bool) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let is_group = |part: &str| (1..=4).contains(&part.len()) && part.chars().all(|digit| digit.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split(':').collect();
    let (last, others) = parts.split_last()?;
    match others.iter().all(|part| is_group(part)) {
        true if is_group(last) => Some(parts.len()),
        true if may_end_in_ipv4 && is_ipv4(last) => Some(parts.len() + 1),
        _ => None,
    }
}

fn is_ipv4(text: &str) -> bool {
    let is_octet = |part: &str| {
        let has_zero = part.len() > 1 && part.starts_with('0');
        !has_zero && number(part, 3).is_some_and(|octet| octet <= 255)
    };
    text.split('.').count() == 4 && text.split('.').all(is_octet)
}

fn normal(host: &str) -> String {
    let mut host: String = host.chars().map(|sign| sign.to_ascii_lowercase()).collect();
    if host.ends_with('.') {
        host.pop();
    }
    host
}

fn agree(one: Authority<'_>, other: Authority<'_>, default_port: u16) -> bool {
    let whole = |(host, port): Authority<'_>| (host.to_ascii_lowercase(), port.unwrap_or(default_port));
    whole(one) == whole(other)
}

/// The host and the path of a target `http://{text}/x`, or the path of `/x`.
struct Target<'a> {
    named: Option<Authority<'a>>,
    path: String,
}

impl<'a> Target<'a> {
    fn absolute(text: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let before_query = text.split('?').next().unwrap_or_default();
        let is_printable = text.chars().all(|sign| sign.is_ascii_graphic() && !"#<>".contains(sign));
        if !is_printable || before_query.contains('`') {
            return None;
        }
        let end = text.find(['/', '?']).unwrap_or(text.len());
        let (named, path) = text.split_at(end);
        let path = format!("{}{path}/x", if path.starts_with('?') { "/" } else { "" });
        Some(Self { named: Some(authority(named.as_bytes())?), path })
    }
}

fn without_white_space(bytes: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_white(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_white(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

fuzz_target!(|bytes: &[u8]| {
    let [kind, texts @ ..] = bytes else { return };
    let (named, said) = match texts.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&texts[..at], &texts[at + 1..]),
        None => (texts, texts),
    };
    let has = |bit: u8| kind & 1 << bit != 0;
    let (is_absolute, is_https, is_http_10, has_none, has_two) = (has(0), has(1), has(3), has(4), has(5));
    let default_port = if is_https { 443 } else { 80 };

    // The function that both engines use.
    let both = [named, said].map(authority);
    assert_eq!([named, said].map(host::split), both);
    for (host, _) in both.into_iter().flatten() {
        assert_eq!(host::normal(host), normal(host));
    }
    if let [Some(one), Some(other)] = both {
        assert_eq!(host::same(one, other, default_port), agree(one, other, default_port), "{one:?} {other:?}");
    }

    let scheme = match (is_https, has(2)) {
        (false, false) => "http",
        (false, true) => "HTTP",
        (true, false) => "https",
        (true, true) => "HTTPS",
    };
    let mut input = b"GET ".to_vec();
    if is_absolute {
        input.extend_from_slice(scheme.as_bytes());
        input.extend_from_slice(b"://");
        input.extend_from_slice(named);
    }
    input.extend_from_slice(if is_http_10 { b"/x HTTP/1.0\r\n" } else { b"/x HTTP/1.1\r\n" });
    let hosts: &[&[u8]] = match (has_none, has_two) {
        (true, _) => &[],
        (false, false) => &[said],
        (false, true) => &[said, named],
    };
    for host in hosts {
        input.extend_from_slice(b"Host: ");
        input.extend_from_slice(host);
        input.extend_from_slice(b"\r\n");
    }
    input.extend_from_slice(b"\r\n");
    let seen = Seen::default();
    connection::served(&input, &[usize::MAX], &Limits::default(), &seen);
    if [named, said].concat().iter().any(|byte| b"\r\n".contains(byte)) {
        return; // these are lines of their own, whose requests were looked at as they were handed on
    }

    let expected = || {
        let host = match hosts {
            [] if is_http_10 => None,
            [value] => Some(authority(without_white_space(value))?),
            _ => return None,
        };
        let target = if is_absolute { Target::absolute(named)? } else { Target { named: None, path: "/x".to_owned() } };
        if let Some(named) = target.named
            && !host.is_some_and(|host| agree(host, named, default_port))
        {
            return None;
        }
        Some((host.map(|(host, _)| normal(host)).unwrap_or_default(), target.path))
    };
    let expected = expected();
    assert_eq!(*seen.refused.borrow(), usize::from(expected.is_none()));
    assert_eq!(seen.handed_on.into_inner(), Vec::from_iter(expected));
});
