//! One request, one straight line: the only place that knows the order of the stages.

use std::{borrow::Cow, sync::Arc};

use octelium_actors::router::{Access, Route, Routes};
use octelium_http1::{Handler, Refusal, Request, Response};
use tokio::time::{Instant, timeout_at};

use super::{
    Connection, Now, Proxy, authenticate, authorize, body, canonicalize, configure,
    context::RequestContext,
    cors, credentials, direct,
    exchange::Exchange,
    header_rules, plugins,
    respond::{self, Code, Rejection},
    scrub,
    trace::Trace,
};
use crate::telemetry::access_log::{self, Pending};

/// Decides and forwards one request. Every stage is the file of that name.
async fn run(proxy: &Proxy, exchange: &mut Exchange, routes: &Arc<Routes>, now: Now) -> Result<Response, Rejection> {
    // Before anything reads it: policy and upstream see one path.
    canonical(exchange)?;
    // The gateway's own pages; a Service can't take their place.
    if let Some(answer) = proxy.control.answer(proxy, exchange, routes, now).await {
        return answer;
    }
    let route =
        routes.route(&exchange.host).ok_or_else(|| Rejection::new(Code::HostUnknown, "no Service has this host"))?;
    exchange.route = Some(route.clone());
    if route.is_disabled {
        return Err(Rejection::new(Code::ServiceDisabled, "spec.isDisabled"));
    }
    if let Some(reason) = &route.broken {
        return Err(Rejection::new(Code::ServiceInvalid, &**reason));
    }
    // A browser that asks for a page of another origin asks without a credential.
    exchange.page = cors::page(exchange, route, routes);
    if let Some(answer) = cors::preflight(exchange, route) {
        return answer;
    }
    // What holds for everybody, before anybody costs a look at a credential.
    if !route.pre_auth.is_empty() {
        let due = {
            let context = RequestContext::new(exchange, None);
            let seen = octelium_actors::context_of(route, None, Some(&context), now.unix_nanos);
            plugins::due(&route.pre_auth, route, exchange, &seen)?
        };
        if let Some(answer) = plugins::run(proxy, exchange, route, &route.pre_auth, due).await? {
            // For everybody: nobody was asked who he is.
            exchange.verdict = Some(authorize::ANONYMOUS);
            return Ok(answer);
        }
    }
    // Credential → Session, asked of the view on every request. Nobody after this sees the credential.
    let Proxy { views, tokens, view_age, .. } = proxy;
    authenticate::identify(exchange, route.access, routes, &views.sessions, tokens, view_age, now.unix)?;
    // From here on it ends when its caller may not go on.
    exchange.watch = Some(proxy.under_way.enter(exchange, route));
    credentials::hide(&mut exchange.headers, &proxy.tokens, routes);
    // What the upstream won't get, no rule may go by.
    scrub::named_by_connection(&mut exchange.headers);
    // Only now: an unauthenticated caller can't make us buffer.
    let reads = exchange.session.as_ref().map_or(route.reads, |session| route.reads | session.reads);
    body::buffer(exchange, route, reads).await?;
    // Gates, then policies, then which configuration: all on the same request.
    let (verdict, config, made, due) = if is_settled(route) {
        (authorize::ANONYMOUS, Ok(route.config.clone()), Ok(header_rules::Made::default()), Ok(Vec::new()))
    } else {
        let context = RequestContext::new(exchange, None);
        let verdict = authorize::decide_request(exchange.session.as_ref(), route, &context, now.unix_nanos);
        let seen = octelium_actors::context_of(route, exchange.session.as_deref(), Some(&context), now.unix_nanos);
        let config = if verdict.is_allowed { configure::choose(route, &seen, &proxy.generated) } else { Ok(None) };
        let (made, due) = match &config {
            Ok(Some(config)) => {
                (header_rules::make(config, &seen), plugins::due(&config.plugins, route, exchange, &seen))
            }
            _ => (Ok(header_rules::Made::default()), Ok(Vec::new())),
        };
        (verdict, config, made, due)
    };
    let is_allowed = verdict.is_allowed;
    let cause = verdict.reason.name();
    exchange.verdict = Some(verdict);
    if !is_allowed {
        return Err(Rejection::new(Code::Denied, cause));
    }
    let config = config?;
    exchange.config = config.clone();
    exchange.made = made?;
    if let (Some(config), due) = (&config, due?)
        && let Some(answer) = plugins::run(proxy, exchange, route, &config.plugins, due).await?
    {
        return Ok(answer);
    }
    if let Some(direct) = config.as_ref().and_then(|config| config.direct.as_ref()) {
        return Ok(direct::answer(direct));
    }
    // Path, headers, the upstream's credential, connection.
    proxy.forwarder.send(exchange, route, config.as_ref(), routes, reads.headers).await
}

/// Whether nothing has to be evaluated: nobody is asked for anything, and there is one configuration without expressions.
fn is_settled(route: &Route) -> bool {
    let headers = route.config.as_ref().and_then(|config| config.headers.as_ref());
    if route.config.as_ref().is_some_and(|config| !config.plugins.is_empty()) {
        return false;
    }
    route.access == Access::Anonymous && route.rules.is_empty() && headers.is_none_or(|rules| !rules.has_evals)
}

fn canonical(exchange: &mut Exchange) -> Result<(), Rejection> {
    let is_options = exchange.method == http::Method::OPTIONS;
    let canonical = canonicalize::path(exchange.escaped_path(), is_options)
        .map_err(|error| Rejection::new(Code::PathInvalid, error.to_string()))?;
    let query = exchange.query();
    // Some upstreams split a query at `;` too: policy and upstream must see the same parameters.
    let splits_twice = query.is_some_and(|query| query.as_bytes().contains(&b';'));
    let target = (splits_twice || matches!(canonical.escaped, Cow::Owned(_))).then(|| match query {
        Some(query) => format!("{}?{}", canonical.escaped, query.replace(';', "&")),
        None => canonical.escaped.clone().into_owned(),
    });
    exchange.decoded_path = (canonical.path != canonical.escaped).then(|| canonical.path.into_owned());
    if let Some(target) = target {
        exchange.target = target.into();
    }
    Ok(())
}

impl Connection {
    #[inline]
    fn exchange(&self, request: Request, now: &Now) -> Exchange {
        Exchange {
            id: self.proxy.next_id(),
            trace: Trace::of(&request.headers, self.hop.is_some(), &self.proxy.random),
            started: now.time,
            peer: self.peer_of(&request.headers),
            host: request.host,
            method: request.method,
            decoded_path: None,
            target: request.target.into(),
            version: request.version,
            headers: request.headers,
            has_headers: true,
            request_bytes: request.body.length().unwrap_or_default(),
            declared_bytes: request.body.length(),
            body: request.body,
            wants_websocket: request.wants_websocket,
            interims: request.interims,
            buffered: None,
            reserved: None,
            body_map: None,
            page: None,
            route: None,
            session: None,
            token: None,
            verdict: None,
            config: None,
            made: header_rules::Made::default(),
            limits: Vec::new(),
            own_answer: None,
            rejection: None,
            place: None,
            looks: self.proxy.under_way.looks(),
            watch: None,
        }
    }
}

impl Handler for Connection {
    async fn handle(&self, request: Request) -> Response {
        let now = Now::read();
        // From here on there is a record, even if the caller goes away while we wait.
        let mut pending = Pending::new(&self.proxy.access_log, || self.exchange(request, &now));
        let routes = self.proxy.routes();
        let deadline = self.proxy.request_timeout.map(|timeout| Instant::now() + timeout);
        let result = match (self.take_place(pending.exchange()), deadline) {
            (Err(rejection), _) => Err(rejection),
            (Ok(()), None) => run(&self.proxy, pending.exchange(), &routes, now).await,
            // Boxed, so that the usual request doesn't hold the room of both.
            (Ok(()), Some(deadline)) => {
                Box::pin(timeout_at(deadline, run(&self.proxy, pending.exchange(), &routes, now)))
                    .await
                    .unwrap_or_else(|_| Err(Rejection::new(Code::RequestTimeout, "no answer within requestTimeout")))
            }
        };
        let mut response = match result {
            Ok(response) => response,
            Err(rejection) => {
                let response = respond::rejected(pending.exchange(), &rejection);
                pending.exchange().rejection = Some(rejection);
                response
            }
        };
        let exchange = pending.exchange();
        header_rules::response(exchange, &mut response.headers);
        plugins::answer(exchange, &mut response.headers);
        credentials::keep_own_cookies(&mut response.headers);
        respond::finish(&mut response, self.peer.is_tls);
        if let Some(route) = &exchange.route {
            cors::respond(exchange, route, &mut response.headers);
        }
        exchange.trace.answer(exchange.id, &mut response.headers);
        access_log::observe(pending, response, deadline)
    }

    fn given_up(&self, request: Request) {
        // Its record is written as it is dropped.
        drop(Pending::new(&self.proxy.access_log, || self.exchange(request, &Now::read())));
    }

    fn refused(&self, refusal: &Refusal, _head: &[u8]) {
        self.proxy.access_log.refused(self.proxy.next_id(), &self.peer, refusal);
    }
}
