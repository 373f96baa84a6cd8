//! The paths that the gateway answers itself, on the cluster's own domain. The work is done on the control runtime.

use bytes::Bytes;
use http::{Method, Response};
use octelium_actors::router::Routes;
use octelium_control::{ClientInfo, Control};
use octelium_http1::{Body, CollectError};
use tokio::runtime::Handle;

use crate::proxy::{
    decision::{Reason, Verdict},
    exchange::Exchange,
    respond::{Code, Rejection},
};

/// Form bodies of the token endpoint.
const FORM_BYTES_MAX: usize = 100 << 10;

/// A worker's way to the control plane.
#[derive(Clone)]
pub struct ControlDoor {
    control: Control,
    runtime: Handle,
}

impl ControlDoor {
    /// `runtime`: where the control plane runs.
    pub fn new(control: Control, runtime: Handle) -> Self {
        Self { control, runtime }
    }

    /// The control plane itself.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Its runtime.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Answers if the request is for the gateway itself; `None`: it is for a Service.
    pub async fn answer(&self, exchange: &mut Exchange, routes: &Routes) -> Option<Result<Response<Body>, Rejection>> {
        if is_api_host(&exchange.host, &routes.domain) {
            return Some(Err(Rejection::new(Code::Http2Needed, "the control API speaks gRPC, over HTTP/2")));
        }
        if exchange.host != *routes.domain {
            return None;
        }
        let is_page = matches!(exchange.path.as_str(), "/oauth2/token" | "/.well-known/oauth-authorization-server");
        if is_page {
            exchange.verdict = Some(Verdict { is_allowed: true, reason: Reason::Anonymous });
        }
        match (&exchange.method, exchange.path.as_str()) {
            (&Method::POST, "/oauth2/token") => Some(self.token(exchange).await),
            (&Method::GET, "/.well-known/oauth-authorization-server") => {
                Some(Ok(self.control.oauth2_metadata().map(Body::full)))
            }
            _ if is_page => Some(Err(Rejection::new(Code::NotFound, "another method is needed"))),
            _ => None,
        }
    }

    async fn token(&self, exchange: &mut Exchange) -> Result<Response<Body>, Rejection> {
        let body = std::mem::take(&mut exchange.body);
        let body: Bytes = body.collect(FORM_BYTES_MAX).await.map_err(|error| match error {
            CollectError::TooLarge => Rejection::new(Code::BodyTooLarge, "the form is too large"),
            CollectError::Body(error) => Rejection::new(Code::BodyBroken, error.to_string()),
        })?;
        let control = self.control.clone();
        let headers = exchange.headers.clone();
        let query = exchange.query().map(str::to_owned);
        let user_agent =
            headers.get(http::header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let client = ClientInfo { ip: exchange.peer.ip.to_string(), user_agent: user_agent.unwrap_or_default() };
        let answer =
            self.runtime.spawn(async move { control.oauth2_token(&headers, query.as_deref(), &body, client).await });
        let answer = answer.await.map_err(|error| Rejection::new(Code::ControlUnavailable, error.to_string()))?;
        Ok(answer.map(Body::full))
    }
}

/// Whether `host` is that of the control API.
pub fn is_api_host(host: &str, domain: &str) -> bool {
    host.strip_prefix("octelium-api.").is_some_and(|rest| rest == domain)
}
