//! Headers that the gateway reads itself: what must not cross it doesn't and everything else does, the caller's address comes from
//! hops that are trusted, and a trace is continued only if there is one. Each against a reading of its own.
//!
//! First byte: bit 0, `Authorization` is kept; bit 1, so is where the request came from; bit 2, the peer may name requests; bit 3, the
//! headers come from a connection. The second says which networks are trusted, the third who the peer is. The rest is headers, one on
//! a line.

#![no_main]

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use http::HeaderName;
use libfuzzer_sys::fuzz_target;
use octelium_http1::{Handler, Headers, Limits, Refusal, Request, Response};

use crate::{client_address::Networks, exchange::Id, random::Random, scrub::Keep, trace::Trace};

#[allow(dead_code, reason = "of the node's file, the listener uses what isn't used here")]
#[path = "../../node/src/client_address.rs"]
mod client_address;
#[path = "shared/connection.rs"]
mod connection;
#[allow(dead_code, reason = "of the node's file, only the names of headers are used here")]
#[path = "../../node/src/proxy/forwarded.rs"]
mod forwarded;
#[path = "../../node/src/proxy/hex.rs"]
mod hex;
#[allow(dead_code, reason = "of the node's file, answers are not scrubbed here")]
#[path = "../../node/src/proxy/scrub.rs"]
mod scrub;
#[allow(dead_code, reason = "of the node's file, answers and records are not made here")]
#[path = "../../node/src/proxy/trace.rs"]
mod trace;

/// As much of the node's module as `trace` needs.
mod exchange {
    #[derive(Clone, Copy)]
    pub struct Id(pub u64, pub u64);
}

/// In place of the node's: numbers that are the same in every run, so that findings are found again, and that are remembered.
mod random {
    use std::cell::RefCell;

    #[derive(Default)]
    pub struct Random(pub RefCell<Vec<u64>>);

    impl Random {
        pub fn next(&self) -> u64 {
            let mut given = self.0.borrow_mut();
            let number = 0x0123_4567_89ab_cdef + given.len() as u64;
            given.push(number);
            number
        }
    }
}

type Lines = Vec<(String, Vec<u8>)>;

fn lines(headers: &Headers) -> Lines {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).expect("names are ASCII");
    headers.iter().map(|(name, value)| (text(name), value.to_vec())).collect()
}

fn values<'l>(lines: &'l Lines, name: &str) -> Vec<&'l [u8]> {
    lines.iter().filter(|line| line.0 == name).map(|line| &*line.1).collect()
}

/// The only value of this name; bytes that aren't text can't be where they matter.
fn only(lines: &Lines, name: &str) -> Option<String> {
    let [value] = values(lines, name)[..] else { return None };
    Some(String::from_utf8_lossy(value).into_owned())
}

/// What a text says that has a header on each line; what isn't one is left out.
fn parse(text: &[u8]) -> Headers {
    let mut headers = Headers::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if let Ok(name) = HeaderName::from_bytes(&line[..colon]) {
            headers.try_append(&name, line[colon + 1..].trim_ascii());
        }
    }
    headers
}

/// Takes the headers of the first request.
#[derive(Default)]
struct First(RefCell<Option<Headers>>);

impl Handler for First {
    async fn handle(&self, request: Request) -> Response {
        self.0.borrow_mut().get_or_insert(request.headers);
        Response::new(http::StatusCode::OK)
    }

    fn refused(&self, _: &Refusal, _: &[u8]) {}
}

/// The same headers as the engine hands them on, unless it doesn't.
fn through_engine(headers: &Headers) -> Option<Headers> {
    let mut input = b"GET / HTTP/1.1\r\n".to_vec();
    for (name, value) in headers.iter() {
        // Many write names so.
        let name = name.split_first().map(|(first, rest)| [&[first.to_ascii_uppercase()], rest].concat());
        input.extend_from_slice(&name.expect("a name isn't empty"));
        input.extend_from_slice(b": ");
        input.extend_from_slice(value);
        input.extend_from_slice(b"\r\n");
    }
    if !headers.contains_key("host") {
        input.extend_from_slice(b"Host: a\r\n");
    }
    input.extend_from_slice(b"\r\n");
    let first = First::default();
    connection::served(&input, &[usize::MAX], &Limits::default(), &first);
    first.0.into_inner()
}

/// Whose address counts, read from the right: the first one that isn't trusted, or the last that can be read.
fn caller(peer: IpAddr, received: &Lines, trusted: &[&Network]) -> IpAddr {
    let chain = values(received, "x-forwarded-for").join(&b',');
    let mut caller = peer.to_canonical();
    for entry in chain.rsplit(|byte| *byte == b',') {
        match str::from_utf8(entry).ok().and_then(|entry| address(entry.trim_matches([' ', '\t']))) {
            Some(address) if trusted.iter().any(|network| network.has(caller)) => caller = address.to_canonical(),
            _ => break,
        }
    }
    caller
}

/// An address, an IPv4 address and a port, or either with brackets around the address.
fn address(entry: &str) -> Option<IpAddr> {
    let is_number = |digits: &str| !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit());
    let is_port = |digits: &str| is_number(digits) && digits.parse::<u16>().is_ok();
    if let Some((inside, after)) = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        if after.is_empty() {
            return inside.parse().ok();
        }
        let (address, zone) = inside.split_once('%').unwrap_or((inside, "0"));
        let is_zone = is_number(zone) && zone.parse::<u32>().is_ok();
        let address = address.parse().ok().map(IpAddr::V6);
        return address.filter(|_| is_zone && after.strip_prefix(':').is_some_and(is_port));
    }
    let with_port = || {
        let (address, port) = entry.split_once(':')?;
        address.parse().ok().map(IpAddr::V4).filter(|_| is_port(port))
    };
    entry.parse().ok().or_else(with_port)
}

/// A network as it is configured, and what that means.
struct Network {
    text: &'static str,
    base: IpAddr,
    length: u32,
}

impl Network {
    const fn v4(text: &'static str, base: [u8; 4], length: u32) -> Self {
        let [a, b, c, d] = base;
        Self { text, base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length }
    }

    const fn v6(text: &'static str, first: [u16; 2], length: u32) -> Self {
        Self { text, base: IpAddr::V6(Ipv6Addr::new(first[0], first[1], 0, 0, 0, 0, 0, 0)), length }
    }

    fn has(&self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, bits: u32| (one ^ other).checked_shr(bits - self.length).unwrap_or(0) == 0;
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => same(base.to_bits().into(), address.to_bits().into(), 32),
            (IpAddr::V6(base), IpAddr::V6(address)) => same(base.to_bits(), address.to_bits(), 128),
            _ => false,
        }
    }
}

const NETWORKS: [Network; 8] = [
    Network::v4("10.0.0.0/8", [10, 0, 0, 0], 8),
    Network::v4("192.0.2.1", [192, 0, 2, 1], 32),
    Network::v6("2001:db8::/32", [0x2001, 0xdb8], 32),
    Network::v4("::ffff:203.0.113.128/121", [203, 0, 113, 128], 25),
    Network::v6("fe80::/10", [0xfe80, 0], 10),
    Network::v4("::ffff:127.0.0.1", [127, 0, 0, 1], 32),
    Network::v4("0.0.0.0/0", [0, 0, 0, 0], 0),
    Network::v6("::/0", [0, 0], 0),
];

const PEERS: [&str; 8] = [
    "10.0.0.1",
    "192.0.2.1",
    "192.0.2.2",
    "2001:db8::1",
    "2001:db9::1",
    "::ffff:10.0.0.1",
    "::ffff:203.0.113.200",
    "fe80::1",
];

/// Who called is found from right to left, and what is left of an untrusted hop changes nothing.
fn check_client(headers: &Headers, received: &Lines, networks: u8, peer: u8) {
    let trusted: Vec<_> = (0..8).filter(|bit| networks & 1 << bit != 0).map(|bit| &NETWORKS[bit]).collect();
    let texts: Vec<String> = trusted.iter().map(|network| network.text.to_owned()).collect();
    let parsed = Networks::parse(&texts).expect("these are networks");
    let peer: IpAddr = PEERS[usize::from(peer) % PEERS.len()].parse().expect("an address");
    let found = client_address::client(peer, headers, &parsed);
    assert_eq!(found, caller(peer, received, &trusted));
    if !trusted.iter().any(|network| network.has(found)) {
        let mut forged = parse(b"x-forwarded-for: 198.51.100.66, 10.6.6.6");
        forged.extend(headers);
        assert_eq!(client_address::client(peer, &forged, &parsed), found);
    }
}

const COOKIES: [&str; 2] = ["octelium_auth", "octelium_rt"];
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const FORWARDED: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-real-ip",
];

/// Names in `Connection` whose headers go.
fn named(received: &Lines) -> Vec<String> {
    let said = values(received, "connection").join(&b',');
    let tokens = said
        .split(|byte| *byte == b',')
        .map(|token| String::from_utf8_lossy(token).trim_matches([' ', '\t']).to_ascii_lowercase());
    let stays = |token: &str| ["", "close", "keep-alive", "upgrade", "content-length"].contains(&token);
    tokens.filter(|token| !stays(token)).collect()
}

/// Whether an upstream may see a header of this name.
fn may_reach_upstream(name: &str, keep: Keep) -> bool {
    let spelled = name.replace('_', "-");
    let ours = ["host", "content-length", "expect", "x-request-id", "x-forwarded-client-cert"];
    !HOP_BY_HOP.contains(&&*spelled)
        && !ours.contains(&&*spelled)
        && !["x-octelium-", "x-envoy-"].iter().any(|prefix| spelled.starts_with(prefix))
        && (keep.authorization || spelled != "authorization")
        && (!FORWARDED.contains(&&*spelled) || keep.forwarded && name == spelled)
}

fn may_reach_caller(name: &str) -> bool {
    let spelled = name.replace('_', "-");
    !HOP_BY_HOP.contains(&&*spelled) && spelled != "server" && !spelled.starts_with("x-octelium-")
}

/// Cookies without the white space around them, in their order.
fn cookies<'l>(lines: &[&'l [u8]]) -> Vec<&'l [u8]> {
    let pairs = lines.iter().flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect()
}

/// White space around the name is any that Unicode has, as where the gateway reads its cookies.
fn is_ours(cookie: &[u8]) -> bool {
    let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default();
    COOKIES.iter().any(|ours| String::from_utf8_lossy(name).trim() == *ours)
}

/// What stays of the cookies: all but ours. Where one header has a name of ours, those that aren't text go whole.
fn kept_cookies<'l>(lines: &[&'l [u8]]) -> Vec<&'l [u8]> {
    let names_ours =
        |line: &&[u8]| COOKIES.iter().any(|name| line.windows(name.len()).any(|part| part == name.as_bytes()));
    let is_cut = lines.iter().any(names_ours);
    let lines: Vec<_> = lines.iter().copied().filter(|line| !is_cut || str::from_utf8(line).is_ok()).collect();
    cookies(&lines).into_iter().filter(|cookie| !is_ours(cookie)).collect()
}

/// What must not cross the gateway doesn't, all else does, and once is enough.
fn check_scrub(headers: &Headers, received: &Lines, keep: Keep) {
    let named = named(received);
    let is_named = |name: &str| named.iter().any(|named| named == name);
    let mut scrubbed = headers.clone();
    scrub::request(&mut scrubbed, keep);
    let left = lines(&scrubbed);
    let others = |lines: &Lines| -> Lines { lines.iter().filter(|(name, _)| name != "cookie").cloned().collect() };
    let mut expected = others(received);
    expected.retain(|(name, _)| may_reach_upstream(name, keep) && !is_named(name));
    assert_eq!(others(&left), expected);
    let before = if is_named("cookie") { Vec::new() } else { values(received, "cookie") };
    let after = values(&left, "cookie");
    assert_eq!(cookies(&after), kept_cookies(&before));
    assert!(!cookies(&after).into_iter().any(is_ours));
    scrub::request(&mut scrubbed, keep);
    assert_eq!(lines(&scrubbed), left);

    let mut scrubbed = headers.clone();
    scrub::response(&mut scrubbed);
    let left = lines(&scrubbed);
    let mut expected = received.clone();
    expected.retain(|(name, _)| may_reach_caller(name) && !is_named(name));
    assert_eq!(left, expected);
    scrub::response(&mut scrubbed);
    assert_eq!(lines(&scrubbed), left);
}

/// W3C Trace Context §3.2: the trace, the caller's part of it, and the flags.
fn parent(text: &str) -> Option<(&str, &str, &str)> {
    let is_hex =
        |part: &str, length: usize| part.len() == length && part.chars().all(|sign| "0123456789abcdef".contains(sign));
    let is_id = |part: &str, length: usize| is_hex(part, length) && part.chars().any(|digit| digit != '0');
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = version != "00" || parts.next().is_none();
    let is_valid = is_hex(version, 2) && version != "ff" && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2);
    (is_valid && is_whole).then_some((trace, span, flags))
}

/// §3.3.1, keys as in level 2.
fn is_state(text: &str) -> bool {
    let members: Vec<_> =
        text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty()).collect();
    let is_first = |sign: char| sign.is_ascii_lowercase() || sign.is_ascii_digit();
    let is_key = |key: &str| {
        key.starts_with(is_first)
            && key.len() <= 256
            && key.chars().all(|sign| is_first(sign) || "_-*/@".contains(sign))
    };
    let is_value = |value: &str| {
        let has_sign = |sign: char| matches!(sign, ' '..='~') && sign != ',' && sign != '=';
        (1..=256).contains(&value.len()) && value.chars().all(has_sign) && !value.ends_with(' ')
    };
    let keys: Option<Vec<_>> = members
        .iter()
        .map(|member| {
            let (key, value) = member.split_once('=')?;
            (is_key(key) && is_value(value)).then_some(key)
        })
        .collect();
    let is_first_of_its_key = |(at, key): (usize, &&str), keys: &[&str]| !keys[..at].contains(key);
    keys.is_some_and(|keys| {
        (1..=32).contains(&keys.len()) && keys.iter().enumerate().all(|key| is_first_of_its_key(key, &keys))
    })
}

fn is_request_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.:/+=@~".contains(sign))
}

/// The upstream is told of the caller's trace if there is one, and of a new one otherwise.
fn check_trace(headers: &Headers, received: &Lines, is_trusted: bool) {
    let random = Random::default();
    let trace = Trace::of(headers, is_trusted, &random);
    let given: Vec<String> = random.0.borrow().iter().map(|number| format!("{number:016x}")).collect();
    let mut told = headers.clone();
    trace.tell(Id(1, 2), &mut told);
    let sent = lines(&told);

    let told_parent = only(&sent, "traceparent").expect("one traceparent");
    assert!(told_parent.len() == 55 && told_parent.starts_with("00-"), "{told_parent}");
    let (trace_id, span_id, flags) = parent(&told_parent).expect("what is told is valid");
    assert!(given.iter().any(|number| number == span_id), "the span is our own");
    assert!(u8::from_str_radix(flags, 16).expect("hexadecimal") <= 3);
    let callers = only(received, "traceparent");
    let callers = callers.as_deref().and_then(parent);
    match callers {
        Some((callers_trace, callers_span, callers_flags)) => {
            assert_eq!(trace_id, callers_trace);
            assert_eq!(trace.parent_id.map(|id| format!("{id:016x}")).as_deref(), Some(callers_span));
            let [flags, callers_flags] =
                [flags, callers_flags].map(|flags| u8::from_str_radix(flags, 16).expect("hexadecimal"));
            assert_eq!(flags, callers_flags & 3);
        }
        None => {
            let (high, low) = trace_id.split_at(16);
            assert!(
                given.iter().any(|number| number == high) && given.iter().any(|number| number == low) && high != low
            );
            assert!(trace.parent_id.is_none() && flags == "03");
        }
    }
    // Lines before the first one that says something aren't told.
    let said = values(received, "tracestate").into_iter().skip_while(|value| value.is_empty());
    let state = String::from_utf8(said.collect::<Vec<_>>().join(&b',')).ok();
    let state = state.filter(|state| callers.is_some() && is_state(state));
    assert_eq!(values(&sent, "tracestate"), Vec::from_iter(state.as_deref().map(str::as_bytes)));
    let named = only(received, "x-request-id").filter(|id| is_trusted && is_request_id(id));
    assert_eq!(
        only(&sent, "x-request-id").expect("one id"),
        named.as_deref().unwrap_or("00000000000000010000000000000002")
    );
    // All else stays, and what was told is read as it was meant.
    let ours = ["traceparent", "tracestate", "x-request-id"];
    let others =
        |lines: &Lines| -> Lines { lines.iter().filter(|(name, _)| !ours.contains(&&**name)).cloned().collect() };
    assert_eq!(others(&sent), others(received));
    let again = Trace::of(&told, is_trusted, &random);
    assert_eq!((again.trace_id, again.parent_id), (trace.trace_id, Some(trace.span_id)));
}

fuzz_target!(|bytes: &[u8]| {
    let [kind, networks, peer, text @ ..] = bytes else { return };
    let has = |bit: u8| kind & 1 << bit != 0;
    let mut headers = parse(text);
    if has(3)
        && let Some(handed_on) = through_engine(&headers)
    {
        let mut same = lines(&headers);
        if !headers.contains_key("host") {
            same.push(("host".to_owned(), b"a".to_vec()));
        }
        assert_eq!(lines(&handed_on), same);
        headers = handed_on;
    }
    let received = lines(&headers);
    assert_eq!(headers.to_map().len(), received.len(), "a map has the same lines");
    check_client(&headers, &received, *networks, *peer);
    check_scrub(&headers, &received, Keep { authorization: has(0), forwarded: has(1) });
    check_trace(&headers, &received, has(2));
});
