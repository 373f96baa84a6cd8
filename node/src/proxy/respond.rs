//! The only place where a refusal becomes an answer: a status, a stable code, and nothing that helps an attacker.

use http::{HeaderName, HeaderValue, StatusCode, header};
use octelium_http1::Response;

use super::{exchange::Exchange, plugins};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident),* $(,)?) => {
        /// Why a request was refused. The texts are stable; each has a paragraph in `docs/src/errors.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name),* }

        impl Code {
            /// As the caller and the access log see it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The status of the answer.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

codes! {
    /// The message breaks HTTP's rules or has two readings; decided by the engine.
    RequestMalformed = "REQUEST_MALFORMED", BAD_REQUEST,
    /// The path has two readings.
    PathInvalid = "PATH_INVALID", BAD_REQUEST,
    /// No Service has this host.
    HostUnknown = "HOST_UNKNOWN", NOT_FOUND,
    /// No page here.
    NotFound = "NOT_FOUND", NOT_FOUND,
    /// gRPC needs HTTP/2.
    Http2Needed = "HTTP2_NEEDED", UPGRADE_REQUIRED,
    /// The Service is switched off.
    ServiceDisabled = "SERVICE_DISABLED", SERVICE_UNAVAILABLE,
    /// The Service can't be served as it is.
    ServiceInvalid = "SERVICE_INVALID", SERVICE_UNAVAILABLE,
    /// No credential, or one that doesn't count.
    Unauthenticated = "UNAUTHENTICATED", UNAUTHORIZED,
    /// The Session, its User or the access token was taken away while the request was under way.
    SessionRevoked = "SESSION_REVOKED", UNAUTHORIZED,
    /// The Session or its Credential expired while the request was under way.
    SessionExpired = "SESSION_EXPIRED", UNAUTHORIZED,
    /// A gate was shut or a policy changed while the request was under way.
    AccessWithdrawn = "ACCESS_WITHDRAWN", FORBIDDEN,
    /// A gate or a policy says no.
    Denied = "DENIED", FORBIDDEN,
    /// A page of another origin asks, and `cors` doesn't allow it.
    OriginDenied = "ORIGIN_DENIED", FORBIDDEN,
    /// A rate limit is reached.
    RateLimited = "RATE_LIMITED", TOO_MANY_REQUESTS,
    /// It isn't known whether a rate limit is reached.
    RateLimitUnavailable = "RATE_LIMIT_UNAVAILABLE", SERVICE_UNAVAILABLE,
    /// Above the Service's limit, or above what rules can read.
    BodyTooLarge = "BODY_TOO_LARGE", PAYLOAD_TOO_LARGE,
    /// Not a JSON object where one is needed, or with a key twice.
    BodyInvalid = "BODY_INVALID", BAD_REQUEST,
    /// Not the JSON that a plugin's schema asks for.
    BodyMismatch = "BODY_MISMATCH", BAD_REQUEST,
    /// Compressed, so that rules can't read it.
    BodyEncoded = "BODY_ENCODED", UNSUPPORTED_MEDIA_TYPE,
    /// The caller stopped sending or broke the framing.
    BodyBroken = "BODY_BROKEN", BAD_REQUEST,
    /// Another host than this connection is for.
    Misdirected = "MISDIRECTED", MISDIRECTED_REQUEST,
    /// Too many requests are under way, or too many bodies are buffered at once.
    Overloaded = "OVERLOADED", SERVICE_UNAVAILABLE,
    /// The upstream's credential isn't there: nothing is sent without it.
    SecretUnavailable = "SECRET_UNAVAILABLE", BAD_GATEWAY,
    /// The chosen expression of dynamicConfig makes no valid configuration.
    ConfigInvalid = "CONFIG_INVALID", BAD_GATEWAY,
    /// An expression of the configuration's `header` makes no value.
    HeaderInvalid = "HEADER_INVALID", BAD_GATEWAY,
    /// The chosen configuration has no upstream.
    UpstreamMissing = "UPSTREAM_MISSING", BAD_GATEWAY,
    /// Refused, unknown name, failed TLS.
    UpstreamUnreachable = "UPSTREAM_UNREACHABLE", BAD_GATEWAY,
    /// Closed before it answered.
    UpstreamClosed = "UPSTREAM_CLOSED", BAD_GATEWAY,
    /// Answered with something that isn't HTTP.
    UpstreamMalformed = "UPSTREAM_MALFORMED", BAD_GATEWAY,
    /// Did not answer in time.
    UpstreamTimeout = "UPSTREAM_TIMEOUT", GATEWAY_TIMEOUT,
    /// The whole request took too long.
    RequestTimeout = "REQUEST_TIMEOUT", GATEWAY_TIMEOUT,
    /// This node heard no leader for too long: it can't know which Sessions still count.
    ViewTooOld = "VIEW_TOO_OLD", SERVICE_UNAVAILABLE,
    /// The control plane can't answer now.
    ControlUnavailable = "CONTROL_UNAVAILABLE", SERVICE_UNAVAILABLE,
}

/// A refusal: what the caller is told, and what only the log says.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// What the caller is told.
    pub code: Code,
    /// What only the log says.
    pub cause: String,
}

impl Rejection {
    /// A refusal with its private cause.
    pub fn new(code: Code, cause: impl Into<String>) -> Self {
        Self { code, cause: cause.into() }
    }
}

/// Identifies the decision; also in the access log.
pub const DECISION: HeaderName = HeaderName::from_static("x-octelium-decision");
/// The code of a refusal.
pub const ERROR: HeaderName = HeaderName::from_static("x-octelium-error");
/// Set on what the gateway refused, so that it isn't taken for the upstream's answer.
const UNAUTHORIZED: HeaderName = HeaderName::from_static("x-octelium-unauthorized");
const SERVER: HeaderValue = HeaderValue::from_static("octelium");
const HSTS: HeaderValue = HeaderValue::from_static("max-age=2592000");

/// The answer to a refused request; its body is empty, but for what a plugin has configured.
pub fn rejected(exchange: &Exchange, rejection: &Rejection) -> Response {
    let mut response = Response::new(rejection.code.status());
    let headers = &mut response.headers;
    headers.append(&ERROR, &HeaderValue::from_static(rejection.code.text()));
    let id = HeaderValue::try_from(exchange.id.to_string()).expect("hexadecimal digits are a header value");
    headers.append(&DECISION, &id);
    if matches!(rejection.code.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && rejection.code != Code::OriginDenied
    {
        headers.append(&UNAUTHORIZED, &HeaderValue::from_static("true"));
    }
    if rejection.code.status() == StatusCode::UNAUTHORIZED {
        headers.append(&header::WWW_AUTHENTICATE, &HeaderValue::from_static("Bearer"));
    }
    headers.append(&header::CACHE_CONTROL, &HeaderValue::from_static("no-store"));
    if matches!(rejection.code, Code::RateLimited | Code::BodyMismatch) {
        plugins::refusal(exchange, &mut response);
    }
    response
}

/// What every answer carries, the upstream's too.
pub fn finish(response: &mut Response, is_tls: bool) {
    let headers = &mut response.headers;
    headers.insert(&header::SERVER, &SERVER);
    if is_tls && !headers.contains_key(header::STRICT_TRANSPORT_SECURITY) {
        headers.append(&header::STRICT_TRANSPORT_SECURITY, &HSTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_paragraph_in_the_docs() {
        let docs = include_str!("../../../docs/src/errors.md");
        for code in Code::ALL {
            assert!(docs.contains(&format!("## {}", code.text())), "{} is not explained", code.text());
        }
    }
}
