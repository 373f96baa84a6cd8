//! Sends an allowed request to its upstream: path, headers, credential, connection.

pub mod connect;
pub mod tls;

use std::{pin::pin, sync::Arc};

use http::{HeaderName, HeaderValue, Uri, Version, header, uri::PathAndQuery};
use octelium_actors::router::{EffectiveConfig, Route, Routes, Scheme};
use octelium_http1::{Body, Headers, Interims, Pool, Request, Response, SendError};

use self::connect::Dialer;
use super::{
    exchange::Exchange,
    header_rules, path,
    respond::{Code, Rejection},
    scrub,
    secrets::Secrets,
    under_way,
};

/// What one worker forwards with.
pub struct Forwarder {
    /// Idle connections.
    pub pool: Pool,
    /// Connections to upstreams that speak HTTP/2.
    pub http2: octelium_http2::Pool,
    /// Makes new ones.
    pub dialer: Dialer,
    /// Opened Secrets.
    pub secrets: Secrets,
    /// Whether there is an access log, which shows some of the request's headers.
    pub has_log: bool,
}

impl Forwarder {
    /// Sends the request on and returns the upstream's answer, its body still streaming. `keeps_headers`: a rule reads headers, and
    /// may be asked again while the answer streams.
    ///
    /// # Errors
    /// If there is no upstream, no credential for it, or no answer.
    pub async fn send(
        &self,
        exchange: &mut Exchange,
        route: &Route,
        config: Option<&Arc<EffectiveConfig>>,
        routes: &Routes,
        keeps_headers: bool,
    ) -> Result<Response, Rejection> {
        let config = config.ok_or_else(|| Rejection::new(Code::UpstreamMissing, "no configuration applies"))?;
        let upstream = config.upstream.as_ref().ok_or_else(|| {
            Rejection::new(Code::UpstreamMissing, format!("config `{}` has no upstream", config.name))
        })?;

        let mut headers = std::mem::take(&mut exchange.headers);
        exchange.has_headers = keeps_headers;
        if keeps_headers {
            exchange.headers = headers.clone();
        } else if self.has_log {
            exchange.headers = logged(&headers);
        }
        let rules = config.headers.as_ref();
        // Hop by hop, and yet gRPC servers insist on it.
        let takes_trailers = upstream.is_http2 && headers.get_one("te") == Some(b"trailers");
        scrub::request(&mut headers, header_rules::keep(rules, route.access));
        exchange.trace.tell(exchange.id, &mut headers);
        header_rules::request(rules, exchange, route, &mut headers);
        if let Some(auth) = &config.auth {
            self.secrets.inject(auth, routes, &mut headers)?;
        }
        header_rules::set_host(rules, exchange, route, upstream, &mut headers);
        if !headers.contains_key(header::USER_AGENT) {
            headers.append(&header::USER_AGENT, &HeaderValue::from_static("octelium"));
        }

        if takes_trailers {
            headers.append(&header::TE, &HeaderValue::from_static("trailers"));
        }
        let request = Request {
            method: exchange.method.clone(),
            host: String::new(),
            target: target(exchange, config),
            version: Version::HTTP_11,
            headers,
            body: std::mem::take(&mut exchange.body),
            wants_websocket: exchange.wants_websocket,
            interims: if header_rules::lets_hints_pass(rules) {
                std::mem::take(&mut exchange.interims)
            } else {
                Interims::default()
            },
        };
        let connector = self.dialer.connector(upstream);
        let sent = if upstream.is_http2 {
            let request = as_http2(request, upstream.scheme)?;
            // Boxed: rare, and its room shouldn't be held by every request.
            let mut sending = Box::pin(self.http2.send(&upstream.pool_key, &connector, request));
            under_way::or_ended(exchange, sending.as_mut()).await?.map(Response::from)
        } else {
            let sending = pin!(self.pool.send(&upstream.pool_key, &connector, request));
            under_way::or_ended(exchange, sending).await?
        };
        let mut response = sent.map_err(|error| rejection(&error))?;
        scrub::response(&mut response.headers);
        Ok(response)
    }
}

/// The same request for the HTTP/2 engine. WebSocket isn't offered over it (RFC 8441): such a request stays a plain one.
fn as_http2(request: Request, scheme: Scheme) -> Result<http::Request<Body>, Rejection> {
    let scheme = if scheme == Scheme::Https { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP };
    let invalid = |error: &dyn std::fmt::Display| {
        Rejection::new(Code::PathInvalid, format!("the target can't be sent over HTTP/2: {error}"))
    };
    let target = PathAndQuery::from_maybe_shared(request.target.into_bytes()).map_err(|error| invalid(&error))?;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.path_and_query = Some(target);
    // The engine puts the host there.
    uri.authority = Some(http::uri::Authority::from_static("host"));
    let mut sent = http::Request::new(request.body);
    *sent.method_mut() = request.method;
    *sent.uri_mut() = Uri::from_parts(uri).map_err(|error| invalid(&error))?;
    *sent.headers_mut() = request.headers.to_map();
    Ok(sent)
}

/// The few headers that the access log shows, kept while the others move on to the upstream.
fn logged(headers: &Headers) -> Headers {
    const LOGGED: [HeaderName; 3] = [header::USER_AGENT, header::REFERER, header::ORIGIN];
    let mut kept = Headers::new();
    for name in &LOGGED {
        kept.copy(name, headers);
    }
    kept
}

fn target(exchange: &Exchange, config: &EffectiveConfig) -> String {
    let rewritten = config.path.as_ref().and_then(|rules| path::rewrite(exchange.escaped_path(), rules));
    match (rewritten, exchange.query()) {
        (None, _) => exchange.target.as_str().to_owned(),
        (Some(path), Some(query)) => format!("{path}?{query}"),
        (Some(path), None) => path,
    }
}

fn rejection(error: &SendError) -> Rejection {
    let code = match error {
        SendError::Connect(_) => Code::UpstreamUnreachable,
        SendError::ConnectTimeout | SendError::HeadTimeout => Code::UpstreamTimeout,
        SendError::Closed | SendError::Io(_) => Code::UpstreamClosed,
        SendError::Framing(_) => Code::UpstreamMalformed,
        SendError::RequestBody(_) => Code::BodyBroken,
    };
    Rejection::new(code, error.to_string())
}
