//! The control API's connections: HTTP/2, gRPC. Callers are authenticated and authorized here, by the same means as callers of
//! any Service; the control plane itself runs elsewhere.

use std::{future::Future, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use octelium_actors::router::Access;
use octelium_control::{Caller, ClientInfo};
use octelium_http1::{Body, Drain, Headers, Interims};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::{
    control_door::is_api_host,
    proxy::{
        Connection, Now, Proxy, authenticate, authorize,
        context::{GrpcName, RequestContext},
        credentials,
        exchange::Exchange,
        header_rules::Made,
        respond::{self, Rejection},
        trace::Trace,
    },
    telemetry::access_log::{Observed, Pending},
};

/// Log-in itself needs no Session.
const AUTH_PACKAGE: &str = "octelium.api.main.auth.v1";

/// Serves one connection to its end.
pub async fn serve<IO>(stream: IO, connection: Rc<Connection>, drain: Drain)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let peer = connection.peer.clone();
    let service = service_fn(|request| {
        let connection = connection.clone();
        async move { Ok::<_, std::convert::Infallible>(call(&connection, request).await) }
    });
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(16 << 10)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(1000))
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = drain.fired() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, client = %peer.ip, "a connection of the control API ended early");
    }
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

type Answer = Response<Observed<tonic::body::Body>>;

async fn call(connection: &Connection, request: Request<Incoming>) -> Answer {
    let now = Now::read();
    let proxy = &connection.proxy;
    let (parts, body) = request.into_parts();
    let headers = Headers::from(&parts.headers);
    let peer = connection.peer_of(&headers);
    let host = parts.uri.host().unwrap_or_default().to_ascii_lowercase();
    let path = parts.uri.path().to_owned();
    let user_agent =
        parts.headers.get(http::header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let exchange = Exchange {
        id: proxy.next_id(),
        trace: Trace::of(&headers, connection.hop.is_some(), &proxy.random),
        started: now.time,
        peer: peer.clone(),
        method: parts.method.clone(),
        host,
        decoded_path: None,
        target: path.clone().into(),
        version: parts.version,
        headers,
        has_headers: true,
        request_bytes: 0,
        declared_bytes: Some(0),
        body: Body::empty(),
        wants_websocket: false,
        interims: Interims::default(),
        buffered: None,
        reserved: None,
        body_map: None,
        page: None,
        route: None,
        session: None,
        token: None,
        verdict: None,
        config: None,
        made: Made::default(),
        limits: Vec::new(),
        own_answer: None,
        rejection: None,
        place: None,
        looks: proxy.under_way.looks(),
        watch: None,
    };
    let mut pending = Pending::new(&proxy.access_log, || exchange);
    if let Err(rejection) = connection.take_place(pending.exchange()) {
        let status = Status::resource_exhausted("too many calls are under way; try again");
        return refuse(pending, Refused { status, rejection });
    }
    let caller = match admit(proxy, pending.exchange(), &path, now) {
        Ok(caller) => caller,
        Err(refusal) => return refuse(pending, refusal),
    };
    let mut request = Request::from_parts(parts, tonic::body::Body::new(body));
    scrub(request.headers_mut());
    let client = ClientInfo { ip: peer.ip.to_string(), user_agent: user_agent.unwrap_or_default() };
    request.extensions_mut().insert(client);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let service = proxy.control.control().grpc();
    let answer = proxy.control.runtime().spawn(async move { service.oneshot(request).await }).await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(error) => {
            let rejection = Rejection::new(respond::Code::ControlUnavailable, error.to_string());
            return refuse(
                pending,
                Refused { status: Status::unavailable("the control plane failed; try again"), rejection },
            );
        }
    };
    response.headers_mut().insert(http::header::SERVER, HeaderValue::from_static("octelium"));
    crate::telemetry::access_log::observe_http_body(pending, response)
}

struct Refused {
    status: Status,
    rejection: Rejection,
}

/// Who may call what: any caller may log in, all else is decided by the policies of the API's Service.
fn admit(proxy: &Proxy, exchange: &mut Exchange, path: &str, now: Now) -> Result<Option<Caller>, Refused> {
    let refused =
        |code: Code, message: &str, rejection: Rejection| Refused { status: Status::new(code, message), rejection };
    let routes = proxy.routes();
    if !is_api_host(&exchange.host, &routes.domain) {
        let rejection = Rejection::new(respond::Code::HostUnknown, "not the host of this connection");
        return Err(refused(Code::NotFound, "no such host here", rejection));
    }
    // Log-in too: what it would go by may have been withdrawn.
    let too_old = "this node has not heard from the cluster's leader for too long; try again, or another node";
    proxy.view_age.check().map_err(|rejection| refused(Code::Unavailable, too_old, rejection))?;
    let Some(name) = GrpcName::parse(path) else {
        let rejection = Rejection::new(respond::Code::NotFound, "not the path of a gRPC method");
        return Err(refused(Code::Unimplemented, "the path is not /package.Service/Method", rejection));
    };
    let Some(route) = routes.api.clone() else {
        let rejection = Rejection::new(respond::Code::ControlUnavailable, "Service default.octelium-api is missing");
        return Err(refused(Code::Unavailable, "the control API is not ready", rejection));
    };
    exchange.route = Some(route.clone());
    if name.parts().package == AUTH_PACKAGE {
        let reason = crate::proxy::decision::Reason::Anonymous;
        exchange.verdict = Some(crate::proxy::decision::Verdict { is_allowed: true, reason });
        return Ok(None);
    }
    let unauthenticated = |rejection| {
        refused(Code::Unauthenticated, "a valid access token is needed: log in with `octeliumctl login`", rejection)
    };
    let Proxy { views, tokens, view_age, .. } = proxy;
    authenticate::identify(exchange, Access::Session, &routes, &views.sessions, tokens, view_age, now.unix)
        .map_err(unauthenticated)?;
    credentials::hide(&mut exchange.headers, &proxy.tokens, &routes);
    let verdict = {
        let context = RequestContext::new(exchange, Some(name));
        authorize::decide_request(exchange.session.as_ref(), &route, &context, now.unix_nanos)
    };
    let is_allowed = verdict.is_allowed;
    let cause = verdict.reason.name();
    exchange.verdict = Some(verdict);
    if !is_allowed {
        let message = format!("a policy does not allow this (decision {})", exchange.id);
        return Err(refused(Code::PermissionDenied, &message, Rejection::new(respond::Code::Denied, cause)));
    }
    let session = exchange.session.as_ref().map(|session| Caller {
        session_uid: session.reference.uid.clone(),
        session_ref: session.reference.clone(),
        user_uid: session.user.reference.uid.clone(),
        user_name: session.user.reference.name.clone(),
    });
    Ok(session)
}

/// A gRPC answer of headers alone.
fn refuse(mut pending: Pending, refused: Refused) -> Answer {
    let mut response = refused.status.into_http::<tonic::body::Body>();
    let exchange = pending.exchange();
    let headers: &mut HeaderMap = response.headers_mut();
    let id = HeaderValue::try_from(exchange.id.to_string()).expect("hexadecimal digits are a header value");
    headers.insert(respond::DECISION, id);
    headers.insert(respond::ERROR, HeaderValue::from_static(refused.rejection.code.text()));
    headers.insert(HeaderName::from_static("x-octelium-unauthorized"), HeaderValue::from_static("true"));
    exchange.rejection = Some(refused.rejection);
    crate::telemetry::access_log::observe_http_body(pending, response)
}

/// Callers can't speak for the gateway; what the authentication service itself reads stays.
fn scrub(headers: &mut HeaderMap) {
    let ours = headers.keys().filter(|name| {
        let name = name.as_str().replace('_', "-");
        name.starts_with("x-octelium-") && name != "x-octelium-refresh-token"
    });
    for name in ours.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}
