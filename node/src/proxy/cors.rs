//! Answers browsers that ask on behalf of pages of other origins (Fetch Standard §3.2; `docs/src/cors.md`).

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use octelium_actors::router::{Route, Routes};
use octelium_api::origin::{self, Origin};
use octelium_http1::{Headers, Response};

use super::{
    decision::{Reason, Verdict},
    exchange::Exchange,
    respond::{Code, Rejection},
};

/// What the answer to a preflight depends on.
const PREFLIGHT_VARY: &[&str] = &["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"];
/// Longer lists of headers are not repeated.
const ASKED_BYTES_MAX: usize = 4096;

/// The page on whose behalf a browser asks, and what it may do.
#[derive(Debug)]
pub struct Page {
    /// Its origin, as the browser wrote it.
    origin: HeaderValue,
    /// Whether it may read the answer.
    is_allowed: bool,
    /// Whether it may do so with the caller's cookies.
    with_credentials: bool,
    /// Whether the browser only asks what it may send.
    is_preflight: bool,
    /// Whether there is a `cors` block.
    is_configured: bool,
}

/// The page that a request comes from, if its browser says so in a way that can be read.
pub fn page(exchange: &Exchange, route: &Arc<Route>, routes: &Routes) -> Option<Box<Page>> {
    let sent = HeaderValue::from_bytes(exchange.headers.get_one("origin")?).ok()?;
    let origin = Origin::parse(sent.to_str().ok()?)?;
    let host_port = own_port(&exchange.headers);
    let is_own = is_own(&origin, host_port, exchange, route, routes);
    let cors = route.cors.as_ref();
    let is_sibling = cors.is_some_and(|cors| cors.cluster_services) && is_sibling(&origin, host_port, &routes.domain);
    let is_listed = cors.is_some_and(|cors| cors.any_origin || cors.origins.contains(&origin));
    let asks = exchange.headers.get_one("access-control-request-method").is_some_and(|method| !method.is_empty());
    Some(Box::new(Page {
        origin: sent,
        is_allowed: is_own || is_sibling || is_listed,
        with_credentials: is_sibling || cors.is_some_and(|cors| cors.credentials),
        // What isn't configured and isn't about the Service's own pages is the upstream's to answer.
        is_preflight: exchange.method == Method::OPTIONS && asks && (cors.is_some() || is_own),
        is_configured: cors.is_some(),
    }))
}

/// The answer to a browser that asks first; it comes before authentication, as such a question never has a credential.
pub fn preflight(exchange: &mut Exchange, route: &Route) -> Option<Result<Response, Rejection>> {
    let page = exchange.page.as_ref().filter(|page| page.is_preflight)?;
    if !page.is_allowed {
        return Some(Err(Rejection::new(Code::OriginDenied, "`cors` doesn't allow the page's origin")));
    }
    let mut response = Response::new(StatusCode::NO_CONTENT);
    let cors = route.cors.as_ref();
    let headers = &mut response.headers;
    let asked = |name: HeaderName| {
        let value = exchange.headers.get_one(name.as_str()).filter(|value| is_list(value))?;
        HeaderValue::from_bytes(value).ok()
    };
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            cors.and_then(|cors| cors.methods.clone()).or_else(|| asked(header::ACCESS_CONTROL_REQUEST_METHOD)),
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            cors.and_then(|cors| cors.headers.clone()).or_else(|| asked(header::ACCESS_CONTROL_REQUEST_HEADERS)),
        ),
        (header::ACCESS_CONTROL_MAX_AGE, cors.and_then(|cors| cors.max_age.clone())),
    ] {
        if let Some(value) = value {
            headers.append(&name, &value);
        }
    }
    exchange.verdict = Some(Verdict { is_allowed: true, reason: Reason::CorsPreflight });
    Some(Ok(response))
}

/// Tells the browser whether the page may read the answer, a refusal too.
pub fn respond(exchange: &Exchange, route: &Route, headers: &mut Headers) {
    let Some(page) = &exchange.page else {
        // A cache must not give this answer to a page, which needs to be told that it may read it.
        if route.cors.is_some() {
            vary(headers, &["Origin"]);
        }
        return;
    };
    vary(headers, if page.is_preflight { PREFLIGHT_VARY } else { &["Origin"] });
    // Without a `cors` block the upstream may have its own say.
    let is_upstreams = !page.is_configured && headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if !page.is_allowed || is_upstreams {
        return;
    }
    headers.insert(&header::ACCESS_CONTROL_ALLOW_ORIGIN, &page.origin);
    if page.with_credentials {
        headers.insert(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS, &HeaderValue::from_static("true"));
    } else {
        headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    }
    if let Some(expose) = route.cors.as_ref().and_then(|cors| cors.expose.as_ref()) {
        headers.insert(&header::ACCESS_CONTROL_EXPOSE_HEADERS, expose);
    }
}

/// Whether the page is one of the Service's own, under any of its names.
fn is_own(origin: &Origin, host_port: Option<u16>, exchange: &Exchange, route: &Arc<Route>, routes: &Routes) -> bool {
    let is_web = matches!(origin.scheme.as_str(), "http" | "https");
    let same_port = match host_port {
        Some(port) => origin.effective_port() == Some(port),
        None => origin.port.is_none(),
    };
    let named = || routes.route(&origin.host).is_some_and(|other| Arc::ptr_eq(other, route));
    is_web && same_port && (origin.host == exchange.host || named())
}

/// Whether the page is one of the cluster's, read securely: over https, and on a port where this cluster answers.
fn is_sibling(origin: &Origin, host_port: Option<u16>, domain: &str) -> bool {
    let labels = origin.host.strip_suffix(domain);
    origin.scheme == "https"
        && (origin.port.is_none() || origin.port == host_port)
        && labels.is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
}

/// The port that the caller wrote into `Host`.
fn own_port(headers: &Headers) -> Option<u16> {
    let host = std::str::from_utf8(headers.get("host")?).ok()?;
    origin::split_port(host)?.1
}

/// Names separated by commas: nothing else is repeated to a browser.
fn is_list(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len() <= ASKED_BYTES_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(byte))
}

/// Says that the answer depends on these headers, unless that is said already.
fn vary(headers: &mut Headers, names: &[&str]) {
    let is_there = |name: &&&str| {
        let values = headers.get_all("vary").filter_map(|value| std::str::from_utf8(value).ok());
        let mut said = values.flat_map(|value| value.split(',')).map(str::trim);
        said.any(|one| one == "*" || one.eq_ignore_ascii_case(name))
    };
    let missing: Vec<&str> = names.iter().filter(|name| !is_there(name)).copied().collect();
    if let Ok(value) = HeaderValue::from_str(&missing.join(", "))
        && !missing.is_empty()
    {
        headers.append(&header::VARY, &value);
    }
}
