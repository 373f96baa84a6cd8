//! The paths that the gateway answers itself, on the cluster's own domain. The work is done on the control runtime.

use bytes::Bytes;
use http::{Method, Version};
use octelium_actors::router::{Access, Routes};
use octelium_control::{ClientInfo, Control, oauth2};
use octelium_http1::{Body, CollectError, Response};
use tokio::runtime::Handle;

use crate::proxy::{
    Now, Proxy, authenticate, authorize,
    context::{GrpcName, RequestContext},
    credentials,
    decision::{Reason, Verdict},
    exchange::Exchange,
    respond::{Code, Rejection},
};

/// Form bodies of the token endpoint.
const FORM_BYTES_MAX: usize = 100 << 10;
/// By this name policies decide who may ask about every token.
const INTROSPECT: &str = "/octelium.control.v1.ControlService/IntrospectToken";

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
    pub async fn answer(
        &self,
        proxy: &Proxy,
        exchange: &mut Exchange,
        routes: &Routes,
        now: Now,
    ) -> Option<Result<Response, Rejection>> {
        if is_api_host(&exchange.host, &routes.domain) {
            // Clients may use one HTTP/2 connection for several hosts of a certificate; this tells them to make another.
            return Some(Err(if exchange.version == Version::HTTP_2 {
                Rejection::new(Code::Misdirected, "the control API is on connections whose TLS name is its own")
            } else {
                Rejection::new(Code::Http2Needed, "the control API speaks gRPC, over HTTP/2")
            }));
        }
        if exchange.host != *routes.domain {
            return None;
        }
        let page = Page::at(exchange.path())?;
        if page != Page::Metadata
            && let Err(rejection) = proxy.view_age.check()
        {
            return Some(Err(rejection));
        }
        exchange.verdict = Some(Verdict { is_allowed: true, reason: Reason::Anonymous });
        Some(match (&exchange.method, page) {
            (&Method::GET, Page::Metadata) => Ok(self.control.oauth2_metadata().map(Body::full).into()),
            (&Method::POST, Page::Introspect) => match may_ask_all(proxy, exchange, routes, now) {
                Ok(may_ask_all) => self.form(exchange, page, may_ask_all).await,
                Err(rejection) => Err(rejection),
            },
            (&Method::POST, Page::Token | Page::Revoke) => self.form(exchange, page, false).await,
            _ => Err(Rejection::new(Code::NotFound, "another method is needed")),
        })
    }

    async fn form(&self, exchange: &mut Exchange, page: Page, may_ask_all: bool) -> Result<Response, Rejection> {
        let body = std::mem::take(&mut exchange.body);
        let body: Bytes = body.collect(FORM_BYTES_MAX).await.map_err(|error| match error {
            CollectError::TooLarge => Rejection::new(Code::BodyTooLarge, "the form is too large"),
            CollectError::Body(error) => Rejection::new(Code::BodyBroken, error.to_string()),
        })?;
        let control = self.control.clone();
        let headers = exchange.headers.to_map();
        let query = exchange.query().map(str::to_owned);
        let user_agent =
            headers.get(http::header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let client = ClientInfo { ip: exchange.peer.ip.to_string(), user_agent: user_agent.unwrap_or_default() };
        let answer = self.runtime.spawn(async move {
            let request = oauth2::Request { headers: &headers, query: query.as_deref(), body: &body, client: &client };
            match page {
                Page::Introspect => control.oauth2_introspect(&request, may_ask_all),
                Page::Revoke => control.oauth2_revoke(request).await,
                Page::Token | Page::Metadata => control.oauth2_token(request).await,
            }
        });
        let answer = answer.await.map_err(|error| Rejection::new(Code::ControlUnavailable, error.to_string()))?;
        Ok(answer.map(Body::full).into())
    }
}

/// What the cluster's own domain answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Token,
    Introspect,
    Revoke,
    Metadata,
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/oauth2/token" => Some(Self::Token),
            "/oauth2/introspect" => Some(Self::Introspect),
            "/oauth2/revoke" => Some(Self::Revoke),
            "/.well-known/oauth-authorization-server" => Some(Self::Metadata),
            _ => None,
        }
    }
}

/// Whether the caller may ask about every token: if it shows an access token, and a policy allows it the call
/// `IntrospectToken`. A client that shows its id and secret may ask about its own tokens.
fn may_ask_all(proxy: &Proxy, exchange: &mut Exchange, routes: &Routes, now: Now) -> Result<bool, Rejection> {
    let shows_token = exchange.headers.contains_key("x-octelium-auth")
        || exchange
            .headers
            .get("authorization")
            .is_some_and(|value| value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer ")));
    if !shows_token {
        return Ok(false);
    }
    let missing = || Rejection::new(Code::ControlUnavailable, "Service default.octelium-api is missing");
    let route = routes.api.clone().ok_or_else(missing)?;
    exchange.route = Some(route.clone());
    exchange.verdict = None;
    let Proxy { views, tokens, view_age, .. } = proxy;
    authenticate::identify(exchange, Access::Session, routes, &views.sessions, tokens, view_age, now.unix)?;
    let received = exchange.headers.clone();
    credentials::hide(&mut exchange.headers, &proxy.tokens, routes);
    let verdict = {
        let context = RequestContext::new(exchange, GrpcName::parse(INTROSPECT));
        authorize::decide_request(exchange.session.as_ref(), &route, &context, now.unix_nanos)
    };
    // The call itself reads them again.
    exchange.headers = received;
    let (is_allowed, cause) = (verdict.is_allowed, verdict.reason.name());
    exchange.verdict = Some(verdict);
    if is_allowed { Ok(true) } else { Err(Rejection::new(Code::Denied, cause)) }
}

/// Whether `host` is that of the control API.
pub fn is_api_host(host: &str, domain: &str) -> bool {
    host.strip_prefix("octelium-api.").is_some_and(|rest| rest == domain)
}
