//! `Forwarded` and its relatives for upstreams that want them and needn't know who calls (RFC 7239 §6.3).

use std::{
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use http::{HeaderName, HeaderValue};
use octelium_actors::router::Route;
use octelium_http1::Headers;

use super::hex;

/// Stands for every caller.
const NOBODY: &str = "10.0.0.1";

const FORWARDED: HeaderName = http::header::FORWARDED;
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Whether a header of this name (lower case, with hyphens) tells where a request came from.
pub fn is_forwarded(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'x' | b'f'))
        && matches!(
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
    let is_https = route.is_public || is_tls;
    headers.append_with(&FORWARDED, |value| {
        value.extend_from_slice(b"for=_octelium-");
        value.extend_from_slice(&hex::digits(number)[..8]);
        value.extend_from_slice(by(is_https).as_bytes());
        value.extend_from_slice(route.fqdn.as_bytes());
    });
    headers.append_with(&X_FORWARDED_HOST, |value| value.extend_from_slice(route.fqdn.as_bytes()));
    headers.extend(if is_https { &SAME.https } else { &SAME.http });
}

/// What is the same for all callers.
struct Same {
    http: Headers,
    https: Headers,
}

static SAME: LazyLock<Same> = LazyLock::new(|| {
    let lines = |proto: &'static str| {
        let nobody = HeaderValue::from_static(NOBODY);
        let proto = HeaderValue::from_static(proto);
        [(&X_FORWARDED_PROTO, &proto), (&X_FORWARDED_FOR, &nobody), (&X_REAL_IP, &nobody)].into_iter().collect()
    };
    Same { http: lines("http"), https: lines("https") }
});

/// This process, as upstreams know it, and what follows in the header up to the host.
fn by(is_https: bool) -> &'static str {
    static BY: LazyLock<[String; 2]> = LazyLock::new(|| {
        let id = RandomState::new().hash_one("by") & 0xff_ffff;
        ["http", "https"].map(|proto| format!(";by=_octelium-{id:06x};proto={proto};host="))
    });
    &BY[usize::from(is_https)]
}
