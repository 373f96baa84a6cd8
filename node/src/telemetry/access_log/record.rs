//! The shape of a record: `AccessLog` of the resource model, and beside it what it has no member for.

use http::{HeaderMap, Version, header};
use octelium_api::meta::ObjectReference;
use octelium_http1::Refusal;
use octelium_policy::Origin;
use serde::Serialize;
use serde_json::json;

use super::{End, timestamp::Timestamp};
use crate::proxy::{
    Now,
    decision::{Reason, Verdict},
    exchange::{Exchange, Id, Peer},
    respond::Code,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    entry: Entry<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_aborted: bool,
    client_address: &'a str,
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    id: Id,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_ref: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_ref: Option<Reference<'a>>,
}

#[derive(Serialize)]
struct ReasonRecord<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_match: Option<PolicyMatch<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_not_active: Option<SessionNotActive>,
}

/// The rule that decided, and where it stands: a Policy, a policy written inside a resource, or the gateway itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyMatch<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_policy: Option<Inline<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    built_in: Option<&'a str>,
    rule_name: &'a str,
    priority: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    policy_ref: Reference<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inline<'a> {
    resource_ref: Reference<'a>,
    name: &'a str,
}

#[derive(Serialize)]
struct SessionNotActive {
    state: &'static str,
}

#[derive(Serialize)]
struct Entry<'a> {
    common: Common<'a>,
    info: Info<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Common<'a> {
    started_at: Timestamp,
    ended_at: Timestamp,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    is_public: bool,
    is_anonymous: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ReasonRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_ref: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_ref: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_ref: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace_ref: Option<Reference<'a>>,
}

#[derive(Serialize)]
struct Info<'a> {
    http: Http<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    request: Request<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Response<'a>>,
    http_version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    path: &'a str,
    uri: &'a str,
    method: &'a str,
    scheme: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    referer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    origin: String,
    body_bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    code: u16,
    body_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'static str,
    cause: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'a> {
    api_version: &'a str,
    kind: &'a str,
    uid: &'a str,
    name: &'a str,
}

impl<'a> Reference<'a> {
    fn of(reference: &'a ObjectReference) -> Self {
        Self { api_version: &reference.api_version, kind: &reference.kind, uid: &reference.uid, name: &reference.name }
    }
}

/// Writes the record of an exchange.
pub fn exchange(buffer: &mut Vec<u8>, exchange: &Exchange, end: &End) -> serde_json::Result<()> {
    let route = exchange.route.as_deref();
    let session = exchange.session.as_deref();
    let started = Timestamp(exchange.started);
    let is_allowed = exchange.verdict.as_ref().is_some_and(|verdict| verdict.is_allowed);
    let record = Record {
        api_version: octelium_api::API_VERSION,
        kind: "AccessLog",
        metadata: Metadata {
            id: exchange.id,
            created_at: started,
            actor_ref: session.map(|session| Reference::of(&session.reference)),
            target_ref: route.map(|route| Reference::of(&route.reference)),
        },
        entry: Entry {
            common: Common {
                started_at: started,
                ended_at: Timestamp(Now::read().time),
                status: if is_allowed { "ALLOWED" } else { "DENIED" },
                mode: route.map(|route| route.mode.as_str_name()),
                is_public: route.is_some_and(|route| route.is_public),
                is_anonymous: route.is_some_and(|route| route.access != octelium_actors::router::Access::Session),
                reason: exchange.verdict.as_ref().map(reason),
                session_ref: session.map(|session| Reference::of(&session.reference)),
                user_ref: session.map(|session| Reference::of(&session.user.reference)),
                service_ref: route.map(|route| Reference::of(&route.reference)),
                namespace_ref: route.map(|route| Reference::of(&route.namespace)),
            },
            info: Info {
                http: Http {
                    request: Request {
                        path: &exchange.path,
                        uri: exchange.escaped_path(),
                        method: exchange.method.as_str(),
                        scheme: if exchange.peer.is_tls { "https" } else { "http" },
                        user_agent: text(&exchange.headers, &header::USER_AGENT),
                        referer: referer(&exchange.headers),
                        origin: text(&exchange.headers, &header::ORIGIN),
                        body_bytes: exchange.request_bytes,
                    },
                    response: end.status.map(|code| Response {
                        code,
                        body_bytes: end.body_bytes,
                        content_type: end.content_type.as_deref(),
                    }),
                    http_version: version(exchange.version),
                },
            },
        },
        error: exchange
            .rejection
            .as_ref()
            .map(|rejection| Error { code: rejection.code.text(), cause: &rejection.cause }),
        is_aborted: !end.is_complete,
        client_address: &exchange.peer.ip,
        host: &exchange.host,
        config: exchange.config.as_ref().map(|config| &*config.name),
    };
    serde_json::to_writer(buffer, &record)
}

/// Writes the record of a request that never became one: its head broke the rules.
pub fn refused(buffer: &mut Vec<u8>, id: Id, peer: &Peer, refusal: &Refusal) -> serde_json::Result<()> {
    let now = Timestamp(Now::read().time);
    let record = json!({
        "apiVersion": octelium_api::API_VERSION,
        "kind": "AccessLog",
        "metadata": { "id": id, "createdAt": now },
        "entry": {
            "common": { "startedAt": now, "endedAt": now, "status": "DENIED", "isPublic": false, "isAnonymous": false },
            "info": { "http": {
                "request": { "scheme": if peer.is_tls { "https" } else { "http" } },
                "response": { "code": refusal.status.as_u16(), "bodyBytes": 0 },
            } },
        },
        "error": { "code": Code::RequestMalformed.text(), "cause": refusal.reason },
        "clientAddress": peer.ip,
    });
    serde_json::to_writer(buffer, &record)
}

fn reason(verdict: &Verdict) -> ReasonRecord<'_> {
    let details = match &verdict.reason {
        Reason::PolicyMatch { origin, rule, priority, error } => {
            let (policy, inline_policy, built_in) = match origin {
                Origin::Named(reference) => (Some(Named { policy_ref: Reference::of(reference) }), None, None),
                Origin::Inline { owner, name } => {
                    (None, Some(Inline { resource_ref: Reference::of(owner), name }), None)
                }
                Origin::BuiltIn(name) => (None, None, Some(name.as_str())),
            };
            let matched = PolicyMatch {
                policy,
                inline_policy,
                built_in,
                rule_name: rule,
                priority: *priority,
                error: error.as_deref(),
            };
            Some(Details { policy_match: Some(matched), session_not_active: None })
        }
        Reason::SessionNotActive(state) => {
            let session_not_active = Some(SessionNotActive { state: state.as_str_name() });
            Some(Details { policy_match: None, session_not_active })
        }
        _ => None,
    };
    ReasonRecord { r#type: verdict.reason.name(), details }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP10",
        Version::HTTP_11 => "HTTP11",
        Version::HTTP_2 => "HTTP2",
        _ => "HTTP_VERSION_UNKNOWN",
    }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// Without user information, query and fragment: they may hold credentials.
fn referer(headers: &HeaderMap) -> String {
    let text = text(headers, &header::REFERER);
    let Ok(mut url) = url::Url::parse(&text) else { return String::new() };
    url.set_query(None);
    url.set_fragment(None);
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return String::new();
    }
    url.into()
}
