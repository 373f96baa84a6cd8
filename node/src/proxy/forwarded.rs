//! `Forwarded` and its relatives for upstreams that want them and needn't know who calls (RFC 7239 §6.3).

use std::{
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

use http::HeaderName;
use octelium_actors::router::Route;
use octelium_http1::Headers;

/// Stands for every caller.
const NOBODY: &[u8] = b"10.0.0.1";
const DIGITS: &[u8; 16] = b"0123456789abcdef";

const FORWARDED: HeaderName = http::header::FORWARDED;
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Whether a header of this name (lower case, with hyphens) tells where a request came from.
pub fn is_forwarded(name: &[u8]) -> bool {
    matches!(
        name,
        b"forwarded"
            | b"x-real-ip"
            | b"x-forwarded-for"
            | b"x-forwarded-host"
            | b"x-forwarded-proto"
            | b"x-forwarded-port"
            | b"x-forwarded-server"
            | b"x-forwarded-prefix"
            | b"x-forwarded-uri"
            | b"x-forwarded-scheme"
    )
}

/// Sets them: protocol and host are those that callers use, addresses are nobody's. `number` differs for each request. What the
/// caller said was removed before.
pub fn obfuscate(headers: &mut Headers, route: &Route, is_tls: bool, number: u64) {
    let proto: &[u8] = if route.is_public || is_tls { b"https" } else { b"http" };
    let host = route.fqdn.as_bytes();
    let caller = number.to_be_bytes();
    let mut text = Vec::with_capacity(64 + host.len());
    text.extend_from_slice(b"for=_octelium-");
    for byte in &caller[..4] {
        text.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
    let rest: [&[u8]; 6] = [b";by=_octelium-", by().as_bytes(), b";proto=", proto, b";host=", host];
    for part in rest {
        text.extend_from_slice(part);
    }
    headers.try_append(&FORWARDED, &text);
    headers.try_append(&X_FORWARDED_PROTO, proto);
    headers.try_append(&X_FORWARDED_HOST, host);
    headers.try_append(&X_FORWARDED_FOR, NOBODY);
    headers.try_append(&X_REAL_IP, NOBODY);
}

/// This process, as upstreams know it.
fn by() -> &'static str {
    static BY: OnceLock<String> = OnceLock::new();
    BY.get_or_init(|| format!("{:06x}", RandomState::new().hash_one("by") & 0xff_ffff))
}
