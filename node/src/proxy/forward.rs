//! Sends an allowed request to its upstream: path, headers, credential, connection.

pub mod connect;
pub mod tls;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Version, header};
use octelium_actors::router::{EffectiveConfig, Route, Routes};
use octelium_http1::{Headers, Pool, Request, Response, SendError};

use self::connect::Dialer;
use super::{
    credentials,
    exchange::Exchange,
    header_rules, path,
    respond::{Code, Rejection},
    scrub,
    secrets::Secrets,
};

/// What one worker forwards with.
pub struct Forwarder {
    /// Idle connections.
    pub pool: Pool,
    /// Makes new ones.
    pub dialer: Dialer,
    /// Opened Secrets.
    pub secrets: Secrets,
    /// Whether there is an access log, which shows some of the request's headers.
    pub has_log: bool,
}

impl Forwarder {
    /// Sends the request on and returns the upstream's answer, its body still streaming.
    ///
    /// # Errors
    /// If there is no upstream, no credential for it, or no answer.
    pub async fn send(
        &self,
        exchange: &mut Exchange,
        route: &Route,
        config: Option<&Arc<EffectiveConfig>>,
        routes: &Routes,
    ) -> Result<Response, Rejection> {
        let config = config.ok_or_else(|| Rejection::new(Code::UpstreamMissing, "no configuration applies"))?;
        let upstream = config.upstream.as_ref().ok_or_else(|| {
            Rejection::new(Code::UpstreamMissing, format!("config `{}` has no upstream", config.name))
        })?;

        let mut headers = std::mem::take(&mut exchange.headers);
        if self.has_log {
            exchange.headers = logged(&headers);
        }
        let rules = config.headers.as_deref();
        scrub::request(&mut headers, header_rules::keep(rules, route.access));
        exchange.trace.tell(exchange.id, &mut headers);
        header_rules::request(rules, exchange, route, &mut headers);
        self.secrets.inject(&config.auth, routes, &mut headers)?;
        headers.insert(&header::HOST, &header_rules::host(rules, exchange, route, upstream));
        if !headers.contains_key(header::USER_AGENT) {
            headers.append(&header::USER_AGENT, &HeaderValue::from_static("octelium"));
        }

        let request = Request {
            method: exchange.method.clone(),
            target: target(exchange, config),
            version: Version::HTTP_11,
            headers,
            body: std::mem::take(&mut exchange.body),
            wants_websocket: exchange.wants_websocket,
            interims: std::mem::take(&mut exchange.interims),
        };
        let connector = self.dialer.connector(upstream);
        let mut response =
            self.pool.send(&upstream.pool_key, &connector, request).await.map_err(|error| rejection(&error))?;
        scrub::response(&mut response.headers);
        credentials::keep_own_cookies(&mut response.headers);
        Ok(response)
    }
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
    let rewritten = path::rewrite(exchange.escaped_path(), &config.path);
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
