//! Sends an allowed request to its upstream: path, headers, credential, connection.

pub mod connect;
pub mod tls;

use std::sync::Arc;

use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use octelium_actors::router::{Access, EffectiveConfig, Route, Routes};
use octelium_http1::{Body, Pool, SendError};

use self::connect::Dialer;
use super::{
    exchange::Exchange,
    path,
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
    ) -> Result<Response<Body>, Rejection> {
        let config = config.ok_or_else(|| Rejection::new(Code::UpstreamMissing, "no configuration applies"))?;
        let upstream = config.upstream.as_ref().ok_or_else(|| {
            Rejection::new(Code::UpstreamMissing, format!("config `{}` has no upstream", config.name))
        })?;

        let mut headers = std::mem::take(&mut exchange.headers);
        let log = LoggedHeaders::take(&headers);
        scrub::request(&mut headers, route.access != Access::Session);
        let injected = self.secrets.inject(&config.auth, routes, &mut headers);
        headers.insert(header::HOST, upstream.authority.clone());
        exchange.headers = log.restore();
        injected?;

        let mut request = Request::new(std::mem::take(&mut exchange.body));
        *request.method_mut() = exchange.method.clone();
        *request.uri_mut() = target(exchange, config)?;
        *request.headers_mut() = headers;
        let connector = self.dialer.connector(upstream)?;
        let mut response =
            self.pool.send(&upstream.pool_key, &connector, request).await.map_err(|error| rejection(&error))?;
        scrub::response(response.headers_mut());
        Ok(response)
    }
}

/// The few headers that the access log shows, kept while the others move on to the upstream.
struct LoggedHeaders(http::HeaderMap);

impl LoggedHeaders {
    fn take(headers: &http::HeaderMap) -> Self {
        let logged = [header::USER_AGENT, header::REFERER, header::ORIGIN];
        let pairs = logged.into_iter().filter_map(|name| headers.get(&name).map(|value| (name, value.clone())));
        Self(pairs.collect::<http::HeaderMap<HeaderValue>>())
    }

    fn restore(self) -> http::HeaderMap {
        self.0
    }
}

fn target(exchange: &Exchange, config: &EffectiveConfig) -> Result<Uri, Rejection> {
    let rewritten = path::rewrite(exchange.escaped_path(), &config.path);
    let target = match (&rewritten, exchange.query()) {
        (None, _) => exchange.target.clone(),
        (Some(path), Some(query)) => format!("{path}?{query}"),
        (Some(path), None) => path.clone(),
    };
    let target = PathAndQuery::from_maybe_shared(target.into_bytes())
        .map_err(|error| Rejection::new(Code::PathInvalid, format!("the target can't be sent on: {error}")))?;
    Ok(Uri::from(target))
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
