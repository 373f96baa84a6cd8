//! The shape of a record: `AccessLog` of the resource model, and beside it what it has no member for.

use http::Version;
use octelium_api::meta::ObjectReference;
use octelium_http1::{Headers, Refusal};
use octelium_policy::{EvalError, Origin, RuleId};

use super::{End, json::Json, timestamp::Timestamp};
use crate::proxy::{
    Now,
    decision::{Reason, Verdict},
    exchange::{Exchange, Id, Peer},
    respond::Code,
    trace::Trace,
};

/// Of a cause, which may repeat what a caller sent.
const CAUSE_BYTES_MAX: usize = 1024;

/// Writes the record of an exchange.
pub fn exchange(buffer: &mut Vec<u8>, exchange: &Exchange, end: &End) {
    let json = &mut Json(buffer);
    let started = Timestamp(exchange.started);
    let route = exchange.route.as_deref();
    let session = exchange.session.as_deref();

    head(json, exchange.id, started);
    optional(json, ",\"actorRef\":", session.map(|session| &session.reference));
    optional(json, ",\"targetRef\":", route.map(|route| &route.reference));
    json.raw("},\"entry\":{\"common\":{\"startedAt\":");
    json.time(started);
    json.raw(",\"endedAt\":");
    json.time(Timestamp(Now::read().time));
    let is_allowed = exchange.verdict.as_ref().is_some_and(|verdict| verdict.is_allowed);
    json.raw(if is_allowed { ",\"status\":\"ALLOWED\"" } else { ",\"status\":\"DENIED\"" });
    if let Some(route) = route {
        json.raw(",\"mode\":");
        json.text(route.mode.as_str_name());
    }
    json.raw(",\"isPublic\":");
    json.boolean(route.is_some_and(|route| route.is_public));
    json.raw(",\"isAnonymous\":");
    json.boolean(route.is_some_and(|route| route.access != octelium_actors::router::Access::Session));
    if let Some(verdict) = &exchange.verdict {
        reason(json, verdict);
    }
    optional(json, ",\"sessionRef\":", session.map(|session| &session.reference));
    optional(json, ",\"userRef\":", session.map(|session| &session.user.reference));
    optional(json, ",\"serviceRef\":", route.map(|route| &route.reference));
    optional(json, ",\"namespaceRef\":", route.map(|route| &route.namespace));
    json.raw("},\"info\":{\"http\":{");
    request(json, exchange);
    if let Some(code) = end.status {
        json.raw(",\"response\":{\"code\":");
        json.number(code.into());
        json.raw(",\"bodyBytes\":");
        json.number(end.body_bytes);
        if let Some(content_type) = &end.content_type {
            json.raw(",\"contentType\":");
            json.bytes(content_type);
        }
        json.raw("}");
    }
    json.raw(",\"httpVersion\":\"");
    json.raw(version(exchange.version));
    json.raw("\"}}}");
    if let Some(rejection) = &exchange.rejection {
        error(json, rejection.code, &rejection.cause);
    }
    if !end.is_complete {
        json.raw(",\"isAborted\":true");
    }
    json.raw(",\"clientAddress\":");
    json.text(&exchange.peer.ip);
    json.raw(",\"requestId\":");
    match exchange.trace.given_request_id() {
        Some(given) => json.text(given),
        None => json.id(exchange.id),
    }
    let (high, low) = exchange.trace.trace_halves();
    let Trace { span_id, parent_id, .. } = &exchange.trace;
    json.raw(",\"traceId\":");
    json.id(Id(high, low));
    json.raw(",\"spanId\":");
    json.hex(*span_id);
    if let Some(parent_id) = parent_id {
        json.raw(",\"parentSpanId\":");
        json.hex(*parent_id);
    }
    json.raw(",\"host\":");
    json.text(&exchange.host);
    if let Some(config) = &exchange.config {
        json.raw(",\"config\":");
        json.text(&config.name);
    }
    json.raw("}");
}

/// Writes the record of a request that never became one: its head broke the rules.
pub fn refused(buffer: &mut Vec<u8>, id: Id, peer: &Peer, refusal: &Refusal) {
    let json = &mut Json(buffer);
    let now = Timestamp(Now::read().time);
    head(json, id, now);
    json.raw("},\"entry\":{\"common\":{\"startedAt\":");
    json.time(now);
    json.raw(",\"endedAt\":");
    json.time(now);
    json.raw(
        ",\"status\":\"DENIED\",\"isPublic\":false,\"isAnonymous\":false},\"info\":{\"http\":{\"request\":{\"scheme\":",
    );
    json.text(scheme(peer));
    json.raw("},\"response\":{\"code\":");
    json.number(refusal.status.as_u16().into());
    json.raw(",\"bodyBytes\":0}}}}");
    error(json, Code::RequestMalformed, refusal.reason);
    json.raw(",\"clientAddress\":");
    json.text(&peer.ip);
    json.raw("}");
}

/// Up to the metadata's references.
fn head(json: &mut Json<'_>, id: Id, created: Timestamp) {
    json.raw("{\"apiVersion\":");
    json.text(octelium_api::API_VERSION);
    json.raw(",\"kind\":\"AccessLog\",\"metadata\":{\"id\":");
    json.id(id);
    json.raw(",\"createdAt\":");
    json.time(created);
}

fn optional(json: &mut Json<'_>, name: &str, reference: Option<&ObjectReference>) {
    if let Some(reference) = reference {
        json.raw(name);
        json.reference(reference);
    }
}

fn request(json: &mut Json<'_>, exchange: &Exchange) {
    json.raw("\"request\":{\"path\":");
    json.text(exchange.path());
    json.raw(",\"uri\":");
    json.text(exchange.escaped_path());
    json.raw(",\"method\":");
    json.text(exchange.method.as_str());
    json.raw(",\"scheme\":");
    json.text(scheme(&exchange.peer));
    if let Some(agent) = exchange.headers.get("user-agent") {
        json.raw(",\"userAgent\":");
        json.bytes(agent);
    }
    if let Some(referer) = referer(&exchange.headers) {
        json.raw(",\"referer\":");
        json.text(&referer);
    }
    if let Some(origin) = exchange.headers.get("origin") {
        json.raw(",\"origin\":");
        json.bytes(origin);
    }
    json.raw(",\"bodyBytes\":");
    json.number(exchange.request_bytes);
    json.raw("}");
}

/// Why.
fn reason(json: &mut Json<'_>, verdict: &Verdict) {
    json.raw(",\"reason\":{\"type\":");
    json.text(verdict.reason.name());
    match &verdict.reason {
        Reason::PolicyMatch { rule, error } => {
            json.raw(",\"details\":{\"policyMatch\":");
            matched(json, &rule.origin, Some(rule), *error);
            json.raw("}");
        }
        // A rule that failed where no other decided, or at which the work that a decision may cost was spent.
        Reason::NoPolicyMatch { failure: Some((rule, error)) } => {
            json.raw(",\"details\":{\"policyFailure\":");
            matched(json, &rule.origin, Some(rule), Some(*error));
            json.raw("}");
        }
        Reason::PolicyBudget { origin, rule } => {
            json.raw(",\"details\":{\"policyFailure\":");
            matched(json, origin, rule.as_deref(), Some(EvalError::Budget));
            json.raw("}");
        }
        Reason::SessionNotActive(state) => {
            json.raw(",\"details\":{\"sessionNotActive\":{\"state\":");
            json.text(state.as_str_name());
            json.raw("}}");
        }
        _ => {}
    }
    json.raw("}");
}

/// A rule: a Policy's, of a policy written inside a resource, or of the gateway itself.
fn matched(json: &mut Json<'_>, origin: &Origin, rule: Option<&RuleId>, error: Option<EvalError>) {
    match origin {
        Origin::Named(reference) => {
            json.raw("{\"policy\":{\"policyRef\":");
            json.reference(reference);
            json.raw("}");
        }
        Origin::Inline { owner, name } => {
            json.raw("{\"inlinePolicy\":{\"resourceRef\":");
            json.reference(owner);
            json.raw(",\"name\":");
            json.text(name);
            json.raw("}");
        }
        Origin::BuiltIn(name) => {
            json.raw("{\"builtIn\":");
            json.text(name);
        }
    }
    json.raw(",\"ruleName\":");
    json.text(rule.map_or("", |rule| &rule.name));
    json.raw(",\"priority\":");
    let priority = rule.map_or(0, |rule| rule.priority);
    if priority < 0 {
        json.raw("-");
    }
    json.number(priority.unsigned_abs().into());
    if let Some(error) = error {
        json.raw(",\"error\":");
        json.text(&error.to_string());
    }
    json.raw("}");
}

fn error(json: &mut Json<'_>, code: Code, cause: &str) {
    json.raw(",\"error\":{\"code\":");
    json.text(code.text());
    json.raw(",\"cause\":");
    json.text(&cause[..cause.floor_char_boundary(CAUSE_BYTES_MAX)]);
    json.raw("}");
}

fn scheme(peer: &Peer) -> &'static str {
    if peer.is_tls { "https" } else { "http" }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP10",
        Version::HTTP_11 => "HTTP11",
        Version::HTTP_2 => "HTTP2",
        _ => "HTTP_VERSION_UNKNOWN",
    }
}

/// Without user information, query and fragment: they may hold credentials.
fn referer(headers: &Headers) -> Option<String> {
    let mut url = url::Url::parse(std::str::from_utf8(headers.get("referer")?).ok()?).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.into())
}
