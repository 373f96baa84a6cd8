//! A request's head, read as strictly as over HTTP/1.1 and handed on as it would look there.
//!
//! `h2` has refused before: pseudo-header fields that are unknown, double, missing or out of place, field names in upper
//! case, control bytes in values, connection-specific fields, `te` other than `trailers`, and bodies that aren't as long
//! as `content-length` says.

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use octelium_http1::Refusal;
use octelium_http1::shared::{decimal, host};

use crate::Limits;

/// Says nothing once a connection is HTTP/2, and isn't for anybody behind it.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What the head tells beside the request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// Bytes of the body.
    pub(crate) length: Option<u64>,
    pub(crate) expects_continue: bool,
}

fn refusal(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

fn bad(reason: &'static str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, reason)
}

/// Checks the head and rewrites it: path and query alone as target, one `Host`, one `Cookie`.
pub(crate) fn check<B>(request: Request<B>, limits: &Limits) -> Result<(Request<B>, Told), Refusal> {
    let (mut parts, body) = request.into_parts();
    if parts.headers.len() > limits.headers_max {
        return Err(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers"));
    }
    if list_bytes(&parts) > limits.header_list_bytes_max as usize {
        return Err(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header list is too long"));
    }
    if parts.method == Method::CONNECT {
        return Err(refusal(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
    }
    values(&parts.headers)?;
    set_host(&mut parts)?;
    set_target(&mut parts, limits)?;
    join_cookies(&mut parts.headers)?;
    let told = Told { length: length(&parts.headers)?, expects_continue: expects_continue(&parts.headers)? };
    Ok((Request::from_parts(parts, body), told))
}

/// The header list's size as the protocol counts it (RFC 9113 §6.5.2).
fn list_bytes(parts: &Parts) -> usize {
    const FIELD: usize = 32;
    const PSEUDO: usize = ":method".len() + ":scheme".len() + ":authority".len() + ":path".len() + 4 * FIELD;
    let uri = &parts.uri;
    let pseudo = [
        parts.method.as_str(),
        uri.scheme_str().unwrap_or_default(),
        uri.authority().map_or("", |authority| authority.as_str()),
        uri.path_and_query().map_or("", |path| path.as_str()),
    ];
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    PSEUDO + pseudo.into_iter().map(str::len).sum::<usize>() + fields.sum::<usize>()
}

fn values(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(HTTP2_SETTINGS) {
        return Err(bad("http2-settings within HTTP/2"));
    }
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    let padded = |value: &HeaderValue| blank(value.as_bytes().first()) || blank(value.as_bytes().last());
    if headers.values().any(padded) {
        return Err(bad("header value begins or ends with a space"));
    }
    Ok(())
}

/// `:authority` and `Host` are one host, if both are there.
fn set_host(parts: &mut Parts) -> Result<(), Refusal> {
    let default_port = match parts.uri.scheme_str() {
        Some("https") => 443,
        Some("http") | None => 80,
        Some(_) => return Err(bad("scheme is neither http nor https")),
    };
    let mut hosts = parts.headers.get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("several host headers"));
    }
    let header = match header {
        Some(value) => Some(host::split(value.as_bytes()).ok_or(bad("host is malformed"))?),
        None => None,
    };
    let Some(authority) = parts.uri.authority() else {
        return if header.is_some() { Ok(()) } else { Err(bad("host is missing")) };
    };
    let named = host::split(authority.as_str().as_bytes()).ok_or(bad("authority is malformed"))?;
    match header {
        Some(header) if !host::same(header, named, default_port) => Err(bad("host disagrees with the authority")),
        Some(_) => Ok(()),
        None => {
            let value = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("authority is malformed"))?;
            parts.headers.insert(HOST, value);
            Ok(())
        }
    }
}

fn set_target(parts: &mut Parts, limits: &Limits) -> Result<(), Refusal> {
    let uri = std::mem::take(&mut parts.uri).into_parts();
    let path = uri.path_and_query.ok_or(bad("path is missing"))?;
    let text = path.as_str();
    if text.len() > limits.target_bytes_max {
        return Err(refusal(StatusCode::URI_TOO_LONG, "path is too long"));
    }
    let names_the_server = text == "*" && parts.method == Method::OPTIONS;
    if !text.starts_with('/') && !names_the_server {
        return Err(bad("path does not begin with a slash"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("path has a byte that is not printable ASCII"));
    }
    parts.uri = Uri::from(path);
    Ok(())
}

/// Clients send each cookie as a field of its own, for compression (RFC 9113 §8.2.3); a list over HTTP/1.1 is one field.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return Ok(());
    }
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| bad("cookie"))?;
    headers.insert(COOKIE, joined);
    Ok(())
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(bad("several content-length headers"));
    }
    decimal(length.as_bytes()).map(Some).ok_or(bad("content-length is not one number"))
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut expectations = headers.get_all(EXPECT).iter();
    let Some(value) = expectations.next() else { return Ok(false) };
    if expectations.next().is_some() || !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(refusal(StatusCode::EXPECTATION_FAILED, "expectation other than 100-continue"));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn a_request_looks_as_over_http1() {
        let cases: [(&str, &str, Fields, &str, &[&str]); 6] = [
            ("GET", "https://a.test/x?y=1", &[], "/x?y=1", &["host: a.test"]),
            ("GET", "https://a.test/", &[("host", "A.test:443")], "/", &["host: A.test:443"]),
            ("GET", "/x", &[("host", "a.test:80")], "/x", &["host: a.test:80"]),
            ("GET", "http://[::1]:80/x", &[("host", "[::1]")], "/x", &["host: [::1]"]),
            ("OPTIONS", "*", &[("host", "a.test")], "*", &["host: a.test"]),
            (
                "POST",
                "https://a.test/",
                &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")],
                "/",
                &["cookie: a=1; b=2; c=3", "x: y", "host: a.test"],
            ),
        ];
        for (method, uri, headers, target, expected) in cases {
            let (request, _) = check(request(method, uri, headers), &Limits::default()).unwrap();
            assert_eq!(request.uri().to_string(), target, "{uri}");
            let found = request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{uri}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        let long = format!("https://a.test/{}", "a".repeat(9000));
        const MANY: Fields = &[("x", "y"); 120];
        let cases: [(&str, &str, Fields, u16, &str); 21] = [
            ("GET", "/x", &[], 400, "host is missing"),
            ("GET", "https://user@a.test/x", &[], 400, "authority is malformed"),
            ("GET", "https://a.test:/x", &[], 400, "authority is malformed"),
            ("GET", "https://a.test/x", &[("host", "b.test")], 400, "host disagrees with the authority"),
            ("GET", "https://a.test/x", &[("host", "a.test:80")], 400, "host disagrees with the authority"),
            ("GET", "https://a.test/x", &[("host", "a.test"), ("host", "a.test")], 400, "several host headers"),
            ("GET", "https://a.test/x", &[("host", "a b")], 400, "host is malformed"),
            ("GET", "ftp://a.test/x", &[], 400, "scheme is neither http nor https"),
            ("GET", "*", &[("host", "a.test")], 400, "path does not begin with a slash"),
            ("GET", &long, &[], 414, "path is too long"),
            ("CONNECT", "a.test:443", &[], 501, "CONNECT is not supported"),
            ("GET", "https://a.test/", MANY, 431, "too many headers"),
            ("GET", "https://a.test/", &[("x", " y")], 400, "header value begins or ends with a space"),
            ("GET", "https://a.test/", &[("x", "y\t")], 400, "header value begins or ends with a space"),
            ("GET", "https://a.test/", &[("http2-settings", "AAMAAABk")], 400, "http2-settings within HTTP/2"),
            ("POST", "https://a.test/", &[("content-length", "+1")], 400, "content-length is not one number"),
            ("POST", "https://a.test/", &[("content-length", "1, 1")], 400, "content-length is not one number"),
            (
                "POST",
                "https://a.test/",
                &[("content-length", "1"), ("content-length", "1")],
                400,
                "several content-length headers",
            ),
            ("POST", "https://a.test/", &[("expect", "wonders")], 417, "expectation other than 100-continue"),
            (
                "POST",
                "https://a.test/",
                &[("expect", "100-continue"), ("expect", "100-continue")],
                417,
                "expectation other than 100-continue",
            ),
            ("GET", "https://a.test/\u{e9}", &[], 400, "path has a byte that is not printable ASCII"),
        ];
        for (method, uri, headers, status, reason) in cases {
            let refused = check(request(method, uri, headers), &Limits::default()).unwrap_err();
            assert_eq!((refused.status.as_u16(), refused.reason), (status, reason), "{method} {uri} {headers:?}");
        }
    }
}
