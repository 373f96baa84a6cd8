//! Removes what must not cross the gateway: hop-by-hop headers, the platform's own credentials, and every spelling under
//! which a caller could pretend to be the gateway (RFC 9110 §7.6.1; `docs/src/life-of-a-request.md`).

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Cookies that belong to the gateway.
const COOKIES: [&str; 2] = ["octelium_auth", "octelium_rt"];

/// Removed from requests, whoever set them; `name` is spelled with hyphens.
fn leaves_request(name: &str) -> bool {
    match name {
        "x-request-id" | "forwarded" | "x-real-ip" => true,
        "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" | "x-forwarded-port" => true,
        "x-forwarded-server" | "x-forwarded-prefix" | "x-forwarded-uri" | "x-forwarded-scheme" => true,
        "x-forwarded-client-cert" => true,
        "connection" | "proxy-connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" => true,
        "proxy-authenticate" | "proxy-authorization" => true,
        // The engine and `forward` set their own.
        "content-length" | "expect" | "host" => true,
        _ => name.starts_with("x-octelium-") || name.starts_with("x-envoy-"),
    }
}

/// Removed from responses; `name` is spelled with hyphens.
fn leaves_response(name: &str) -> bool {
    match name {
        "connection" | "proxy-connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" => true,
        "proxy-authenticate" | "proxy-authorization" | "server" => true,
        _ => name.starts_with("x-octelium-"),
    }
}

/// Edits a request's headers before they go to the upstream. `keep_authorization`: of an anonymous Service.
pub fn request(headers: &mut HeaderMap, keep_authorization: bool) {
    named_by_connection(headers);
    remove(headers, |name| leaves_request(name) || (!keep_authorization && name == "authorization"));
    cookies(headers);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("octelium"));
}

/// Edits a response's headers before they go to the caller. `Content-Length` stays: it is what HEAD asks for.
pub fn response(headers: &mut HeaderMap) {
    named_by_connection(headers);
    remove(headers, leaves_response);
}

/// Removes the headers that `matches`, which is shown names with hyphens: to many upstreams `x_real_ip` is the same header.
fn remove(headers: &mut HeaderMap, matches: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            if name.contains('_') { matches(&name.replace('_', "-")) } else { matches(name) }
        })
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

fn named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = values
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named {
        // The length of a HEAD's answer must not vanish because somebody calls it hop-by-hop.
        if name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
}

/// Cuts the gateway's cookies out; all other bytes of the header stay.
fn cookies(headers: &mut HeaderMap) {
    let is_ours = |pair: &str| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name).trim();
        COOKIES.contains(&name)
    };
    let touched = headers.get_all(header::COOKIE).iter().any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        COOKIES.iter().any(|name| text.contains(name))
    });
    if !touched {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| {
            // A cookie header that isn't text can't be cut safely: it is dropped whole.
            let text = std::str::from_utf8(value.as_bytes()).ok()?;
            let pairs: Vec<&str> = text.split(';').filter(|pair| !is_ours(pair)).collect();
            let joined = pairs.join(";");
            let joined = joined.trim_start();
            if joined.is_empty() { None } else { HeaderValue::from_str(joined).ok() }
        })
        .collect();
    headers.remove(header::COOKIE);
    for value in kept {
        headers.append(header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
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
        request(&mut headers, false);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "user-agent", "x-custom"]);
    }

    #[test]
    fn an_anonymous_service_gets_the_callers_authorization() {
        let mut headers = map(&[("authorization", "Basic x")]);
        request(&mut headers, true);
        assert_eq!(headers["authorization"], "Basic x");
    }

    #[test]
    fn only_the_gateways_cookies_vanish() {
        for (before, after) in [
            ("octelium_auth=t", None),
            ("octelium_auth=t; octelium_rt=r", None),
            ("a=1; octelium_auth=t; b=2", Some("a=1; b=2")),
            ("octelium_auth=t; a=1", Some("a=1")),
            ("a=1;octelium_rt=r", Some("a=1")),
            ("my_octelium_auth=1; x=\"a b\"", Some("my_octelium_auth=1; x=\"a b\"")),
            ("a=octelium_auth", Some("a=octelium_auth")),
        ] {
            let mut headers = map(&[("cookie", before)]);
            request(&mut headers, false);
            assert_eq!(headers.get("cookie").map(|value| value.to_str().expect("text")), after, "{before}");
        }
    }

    #[test]
    fn an_upstream_cannot_speak_for_the_gateway() {
        let mut headers =
            map(&[("x-octelium-decision", "forged"), ("server", "nginx"), ("keep-alive", "1"), ("etag", "e")]);
        response(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["etag"]);
    }
}
