//! Trailers: parsed as strictly as headers, and never allowed to carry what must be known before the body.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::HEADERS_CAP;

/// Names that a trailer must not have (RFC 9110 §6.5.1): framing, routing, authentication, and whatever else a
/// recipient would act on before the body. Compared with `_` read as `-`.
pub(super) const FORBIDDEN: [&str; 43] = [
    "accept-encoding",
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "x-real-ip",
];
const FORBIDDEN_PREFIXES: [&str; 2] = ["x-octelium-", "x-forwarded-"];

/// Whether a trailer of this name may be passed on.
pub fn is_allowed(name: &str) -> bool {
    let name = name.replace('_', "-");
    FORBIDDEN.binary_search(&name.as_str()).is_err()
        && !FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Parses a scanned trailer section (final empty line included); forbidden trailers are left out.
pub(crate) fn parse(section: &[u8], trailers_max: usize) -> Result<HeaderMap, &'static str> {
    let mut room = [httparse::EMPTY_HEADER; HEADERS_CAP];
    let room = &mut room[..trailers_max.min(HEADERS_CAP)];
    let parsed = match httparse::parse_headers(section, room) {
        Ok(httparse::Status::Complete((length, parsed))) if length == section.len() => parsed,
        Ok(_) => return Err("trailers end elsewhere"),
        Err(httparse::Error::TooManyHeaders) => return Err("too many trailers"),
        Err(_) => return Err("trailers are malformed"),
    };
    let mut trailers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| "trailer name")?;
        if is_allowed(name.as_str()) {
            let value = HeaderValue::from_bytes(header.value).map_err(|_| "trailer value")?;
            trailers.try_append(name, value).map_err(|_| "too many trailers")?;
        }
    }
    Ok(trailers)
}
