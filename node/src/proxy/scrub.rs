//! Removes what must not cross the gateway: hop-by-hop headers, the platform's own credentials, and every spelling under
//! which a caller could pretend to be the gateway (RFC 9110 §7.6.1; `docs/src/life-of-a-request.md`).

use std::collections::HashSet;

use http::{HeaderValue, header};
use octelium_http1::Headers;

use super::forwarded::is_forwarded;

/// Cookies that belong to the gateway.
pub(super) const COOKIES: [&str; 2] = ["octelium_auth", "octelium_rt"];
/// No name that is removed is longer; of longer ones only the beginning matters.
const NAME_BYTES: usize = 32;

/// What of a request depends on the Service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keep {
    /// The caller's `Authorization`.
    pub authorization: bool,
    /// What says where the request came from, as far as it is spelled with hyphens.
    pub forwarded: bool,
}

/// Removed from requests, whoever set them; `name` is spelled with hyphens.
fn leaves_request(name: &[u8]) -> bool {
    // `Host`, `Content-Length` and `Expect`: the engine and `forward` set their own.
    match name.first() {
        Some(b'x') => {
            matches!(name, b"x-request-id" | b"x-forwarded-client-cert")
                || name.starts_with(b"x-octelium-")
                || name.starts_with(b"x-envoy-")
        }
        Some(b'c') => matches!(name, b"content-length" | b"connection"),
        Some(b'e' | b'h') => matches!(name, b"expect" | b"host"),
        _ => is_hop_by_hop(name),
    }
}

/// Apart from `Connection` itself.
fn is_hop_by_hop(name: &[u8]) -> bool {
    match name.first() {
        Some(b'p') => matches!(name, b"proxy-connection" | b"proxy-authenticate" | b"proxy-authorization"),
        Some(b't') => matches!(name, b"te" | b"trailer" | b"transfer-encoding"),
        Some(b'k' | b'u') => matches!(name, b"keep-alive" | b"upgrade"),
        _ => false,
    }
}

/// Removed from responses; `name` is spelled with hyphens.
fn leaves_response(name: &[u8]) -> bool {
    match name.first() {
        Some(b'x') => name.starts_with(b"x-octelium-"),
        Some(b'c' | b's') => matches!(name, b"connection" | b"server"),
        _ => is_hop_by_hop(name),
    }
}

/// Edits a request's headers before they go to the upstream.
pub fn request(headers: &mut Headers, keep: Keep) {
    named_by_connection(headers);
    cookies(headers);
    remove(headers, |name, is_exact| {
        leaves_request(name)
            || !keep.authorization && name == b"authorization"
            || !(keep.forwarded && is_exact) && is_forwarded(name)
    });
}

/// Edits a response's headers before they go to the caller. `Content-Length` stays: it is what HEAD asks for.
pub fn response(headers: &mut Headers) {
    named_by_connection(headers);
    remove(headers, |name, _| leaves_response(name));
}

/// Removes the headers that `leaves`, which is shown names with hyphens and whether they were spelled so: to many upstreams
/// `x_real_ip` is the same header.
fn remove(headers: &mut Headers, leaves: impl Fn(&[u8], bool) -> bool) {
    if headers.has_underscores() {
        headers.retain(|name, _| {
            let is_exact = !name.contains(&b'_');
            !hyphened(name, |name| leaves(name, is_exact))
        });
    } else {
        headers.retain(|name, _| !leaves(name, true));
    }
}

fn hyphened(name: &[u8], matches: impl FnOnce(&[u8]) -> bool) -> bool {
    let mut spelled = [0; NAME_BYTES];
    let length = name.len().min(NAME_BYTES);
    for (to, from) in spelled.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    matches(&spelled[..length])
}

/// Removes what `Connection` names (RFC 9110 §7.6.1), before anything decides by it.
pub(super) fn named_by_connection(headers: &mut Headers) {
    // What most say names no header.
    let is_plain = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
    if headers.get_all("connection").all(is_plain) {
        return;
    }
    let tokens = headers.get_all("connection").flat_map(|value| value.split(|byte| *byte == b','));
    let tokens = tokens.map(|name| name.trim_ascii().to_ascii_lowercase());
    // The length of a HEAD's answer must not vanish because somebody calls it hop-by-hop.
    let named =
        tokens.filter(|name| !matches!(&**name, b"close" | b"keep-alive" | b"upgrade" | b"content-length" | b""));
    let named: HashSet<Vec<u8>> = named.collect();
    headers.retain(|name, _| !named.contains(name));
}

/// Cuts the gateway's cookies out; all other bytes of the header stay.
pub(super) fn cookies(headers: &mut Headers) {
    let is_ours = |pair: &str| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name).trim();
        COOKIES.contains(&name)
    };
    let touched = headers.get_all("cookie").any(|value| {
        let text = String::from_utf8_lossy(value);
        COOKIES.iter().any(|name| text.contains(name))
    });
    if !touched {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all("cookie")
        .filter_map(|value| {
            // A cookie header that isn't text can't be cut safely: it is dropped whole.
            let text = std::str::from_utf8(value).ok()?;
            let pairs: Vec<&str> = text.split(';').filter(|pair| !is_ours(pair)).collect();
            let joined = pairs.join(";");
            let joined = joined.trim_start_matches([' ', '\t']);
            if joined.is_empty() { None } else { HeaderValue::from_bytes(joined.as_bytes()).ok() }
        })
        .collect();
    headers.remove("cookie");
    for value in &kept {
        headers.append(&header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), &HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        headers
    }

    fn names(headers: &Headers) -> Vec<&str> {
        let mut names: Vec<_> = headers.iter().map(|(name, _)| std::str::from_utf8(name).expect("ASCII")).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn identity_and_hop_by_hop_headers_do_not_reach_the_upstream() {
        let mut headers = map(&[
            ("x-octelium-auth", "t"),
            ("x_octelium_session_uid", "forged"),
            ("x-octelium-anything", "forged"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-envoy-internal", "true"),
            ("x-forwarded-client-cert", "c"),
            ("x-request-id", "r"),
            ("connection", "close, x-secret-hop"),
            ("x-secret-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("authorization", "Bearer t"),
            ("accept", "*/*"),
            ("x-custom", "kept"),
        ]);
        request(&mut headers, Keep::default());
        assert_eq!(names(&headers), ["accept", "x-custom"]);
    }

    #[test]
    fn an_anonymous_service_gets_the_callers_authorization() {
        let mut headers = map(&[("authorization", "Basic x")]);
        request(&mut headers, Keep { authorization: true, forwarded: false });
        assert_eq!(headers.get("authorization"), Some(&b"Basic x"[..]));
    }

    /// H9: another spelling of what is kept would be a second voice.
    #[test]
    fn what_is_kept_of_where_a_request_came_from_is_spelled_with_hyphens() {
        let mut headers = map(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x_forwarded_for", "forged"),
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-client-cert", "c"),
            ("x-envoy-peer", "p"),
        ]);
        request(&mut headers, Keep { authorization: false, forwarded: true });
        assert_eq!(names(&headers), ["forwarded", "x-forwarded-for"]);
    }

    #[test]
    fn only_the_gateways_cookies_vanish() {
        for (before, after) in [
            ("octelium_auth=t", None),
            ("octelium_auth=t; octelium_rt=r", None),
            ("a=1; octelium_auth=t; b=2", Some("a=1; b=2")),
            ("octelium_auth=t; a=1", Some("a=1")),
            ("octelium_auth=t;\t a=1", Some("a=1")),
            ("octelium_auth=t; ä=ö;\u{a0}b=1", Some("ä=ö;\u{a0}b=1")),
            ("a=1;octelium_rt=r", Some("a=1")),
            ("my_octelium_auth=1; x=\"a b\"", Some("my_octelium_auth=1; x=\"a b\"")),
            ("a=octelium_auth", Some("a=octelium_auth")),
        ] {
            let mut headers = map(&[("cookie", before)]);
            request(&mut headers, Keep::default());
            assert_eq!(headers.get("cookie"), after.map(str::as_bytes), "{before}");
        }
    }

    #[test]
    fn an_upstream_cannot_speak_for_the_gateway() {
        let mut headers =
            map(&[("x-octelium-decision", "forged"), ("server", "nginx"), ("keep-alive", "1"), ("etag", "e")]);
        response(&mut headers);
        assert_eq!(names(&headers), ["etag"]);
    }
}
