//! `Forwarded` and its relatives for upstreams that want them and needn't know who calls (RFC 7239 §6.3).

use std::{
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

use http::{HeaderName, HeaderValue};
use octelium_actors::router::Route;
use octelium_http1::Headers;

/// Stands for every caller.
const NOBODY: HeaderValue = HeaderValue::from_static("10.0.0.1");

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

/// Sets them: protocol and host are true, addresses are not. `number` differs for each request.
pub fn obfuscate(headers: &mut Headers, route: &Route, is_tls: bool, number: u64) {
    let proto = if route.is_public || is_tls { "https" } else { "http" };
    let text = format!("for=_octelium-{:08x};by=_octelium-{};proto={proto};host={}", number >> 32, by(), route.fqdn);
    for (name, value) in [
        ("forwarded", HeaderValue::from_str(&text).ok()),
        ("x-forwarded-proto", Some(HeaderValue::from_static(proto))),
        ("x-forwarded-host", HeaderValue::from_str(&route.fqdn).ok()),
        ("x-forwarded-for", Some(NOBODY)),
        ("x-real-ip", Some(NOBODY)),
    ] {
        if let Some(value) = value {
            headers.insert(&HeaderName::from_static(name), &value);
        }
    }
}

/// This process, as upstreams know it.
fn by() -> &'static str {
    static BY: OnceLock<String> = OnceLock::new();
    BY.get_or_init(|| format!("{:06x}", RandomState::new().hash_one("by") & 0xff_ffff))
}
