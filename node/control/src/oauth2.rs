//! The OAuth2 token endpoint: client credentials (RFC 6749 §4.4), and its metadata document (RFC 8414).

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use octelium_api::{
    Kind, Object,
    core::{Session, credential::spec::Type, session::status, user},
};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use crate::{
    ClientInfo, Control, Inner,
    auth::{
        Denied,
        credential::{Shown, made, prove, use_up},
        scope, session,
    },
    plan::{Actor, Id, Plan},
    refusal::Refusal,
    token::{Token, TokenKind},
};

const BODY_BYTES_MAX: usize = 100 * 1024;
const SCOPE_BYTES_MAX: usize = 2048;
/// Each of these may appear once, and never in the address, which ends up in logs.
const PARAMETERS: [&str; 6] =
    ["grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope"];

impl Control {
    /// `POST /oauth2/token`.
    pub async fn oauth2_token(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        body: &[u8],
        client: ClientInfo,
    ) -> Response<Bytes> {
        let with_basic = headers.contains_key(header::AUTHORIZATION);
        match token(&self.inner, headers, query, body, &client).await {
            Ok(tokens) => answer(
                StatusCode::OK,
                &json!({"access_token": tokens.access, "token_type": "Bearer", "expires_in": tokens.access_life}),
                false,
            ),
            Err(problem) => {
                let mut document = json!({"error": problem.error});
                if let Some(text) = problem.text {
                    document["error_description"] = Value::String(text);
                }
                answer(problem.status, &document, with_basic && problem.status == StatusCode::UNAUTHORIZED)
            }
        }
    }

    /// `GET /.well-known/oauth-authorization-server`.
    pub fn oauth2_metadata(&self) -> Response<Bytes> {
        let issuer = &self.inner.public_url;
        let document = json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/oauth2/token"),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "response_types_supported": ["code"],
        });
        let mut response = Response::new(Bytes::from(document.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

fn answer(status: StatusCode, document: &Value, challenge: bool) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(document.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    if challenge {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"octelium\""));
    }
    response
}

/// An error of RFC 6749 §5.2.
struct Problem {
    status: StatusCode,
    error: &'static str,
    text: Option<String>,
}

fn problem(status: StatusCode, error: &'static str) -> Problem {
    Problem { status, error, text: None }
}

fn invalid_request(text: &str) -> Problem {
    Problem { text: Some(text.to_owned()), ..problem(StatusCode::BAD_REQUEST, "invalid_request") }
}

fn invalid_client() -> Problem {
    problem(StatusCode::UNAUTHORIZED, "invalid_client")
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unproven => invalid_client(),
            Denied::NoUser | Denied::SessionBarred => problem(StatusCode::BAD_REQUEST, "invalid_client"),
            Denied::UserOff | Denied::TooManySessions | Denied::WrongWay | Denied::TooSoon => {
                problem(StatusCode::BAD_REQUEST, "invalid_request")
            }
            Denied::Refused(refusal) => {
                tracing::warn!(?refusal, "an OAuth2 client can't be served");
                match refusal.code() {
                    tonic::Code::Unavailable => problem(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
                    _ => problem(StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
                }
            }
        }
    }
}

async fn token(
    inner: &Inner,
    headers: &HeaderMap,
    query: Option<&str>,
    body: &[u8],
    client: &ClientInfo,
) -> Result<session::Tokens, Problem> {
    let in_query = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    if in_query.into_iter().any(|(name, _)| PARAMETERS.contains(&&*name)) {
        return Err(invalid_request("parameters belong into the body, never into the address"));
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(invalid_request("the body is too large"));
    }
    let mut form = read_form(headers, body)?;
    if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
        return Err(problem(StatusCode::BAD_REQUEST, "unsupported_grant_type"));
    }
    let basic = basic(headers)?;
    let in_body = form.contains_key("client_secret") || form.contains_key("client_assertion");
    if basic.is_some() && in_body {
        return Err(invalid_request("the client authenticates in two ways"));
    }
    let (id, secret) = match basic {
        Some((id, _)) if form.get("client_id").is_some_and(|other| *other != id) => return Err(invalid_client()),
        Some(pair) => pair,
        // Assertions need IdentityProviders, which aren't served yet: nobody vouches for this client.
        None if form.contains_key("client_assertion") || form.contains_key("client_assertion_type") => {
            return Err(invalid_client());
        }
        None => match (form.remove("client_id"), form.remove("client_secret")) {
            (Some(id), Some(secret)) => (id, secret),
            _ => return Err(invalid_client()),
        },
    };
    let keys = inner.token_keys();
    let token = keys
        .verify(&secret, TokenKind::Credential, inner.store.now().unix())
        .inspect_err(|error| tracing::info!(%error, "an OAuth2 client is refused"))
        .map_err(|_| invalid_client())?;

    let scope = form.remove("scope").unwrap_or_default();
    let actor = Actor { operation: "oauth2/token".to_owned(), ..Actor::default() };
    let done = inner.store.change(&actor, |plan| -> Result<Id, Refused> {
        let id = re_key(plan, &token, &id, &secret, &scope, client)?;
        Ok(id)
    });
    let done = done.await.map_err(|refused| match refused {
        Refused::Denied(denied) => denied.into(),
        Refused::Scope(text) => Problem { text: Some(text), ..problem(StatusCode::BAD_REQUEST, "invalid_scope") },
    })?;
    made(done.object(&done.value))
        .and_then(|session| session::tokens(session, &keys))
        .ok_or_else(|| problem(StatusCode::INTERNAL_SERVER_ERROR, "server_error"))
}

enum Refused {
    Denied(Denied),
    Scope(String),
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Denied(refusal.into())
    }
}

/// Gives the client a token: of the Session that it already has with these scopes, else of a new one.
fn re_key(
    plan: &mut Plan,
    token: &Token,
    client_id: &str,
    secret: &str,
    scope: &str,
    client: &ClientInfo,
) -> Result<Id, Refused> {
    let proven = prove(plan, token, &Shown { token: secret, wanted: Type::Oauth2, verifier: &[] })?;
    let known_id = proven.credential.status.as_ref().map_or("", |status| &status.id);
    if !bool::from(known_id.as_bytes().ct_eq(client_id.as_bytes())) {
        return Err(Denied::Unproven.into());
    }
    let is_workload = proven.user.spec.as_ref().is_some_and(|spec| spec.r#type() == user::spec::Type::Workload);
    if session::is_off(&proven.user) || !is_workload {
        return Err(Denied::UserOff.into());
    }
    if scope.len() > SCOPE_BYTES_MAX {
        return Err(Refused::Scope(format!("longer than {SCOPE_BYTES_MAX} bytes")));
    }
    let texts: Vec<String> = scope.split(' ').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let scopes = scope::parse_all(&texts).map_err(Refused::Scope)?;

    let credential_uid = proven.stored.object.uid();
    let sessions = plan.state().owned_by(Kind::Session, credential_uid).filter_map(|stored| match &stored.object {
        Object::Session(session) if is_of(session, credential_uid) && session::is_unexpired(session, plan.now()) => {
            Some((stored, session))
        }
        _ => None,
    });
    let mut same = None;
    for (stored, session) in sessions {
        // Who was locked out doesn't come back by asking for other scopes.
        if session::is_barred(session) {
            return Err(Denied::SessionBarred.into());
        }
        if session.status.as_ref().is_some_and(|status| status.scopes == scopes) {
            same = Some((stored.clone(), session.clone()));
        }
    }
    use_up(plan, &proven);
    let Some((stored, mut session)) = same else {
        let kind = status::Type::Clientless;
        let new = session::New { user: &proven.user, credential: &proven.credential, kind, scopes, client };
        let session = session::make(plan, new)?;
        return Ok(plan.make(session));
    };
    let info = session::info_of_credential(plan.state(), &proven.credential, client);
    session::reauthenticate(&mut session, info, plan.now());
    plan.edit(&stored, session).ok_or_else(|| Denied::Unproven.into())
}

fn is_of(session: &Session, credential_uid: &str) -> bool {
    let by = session.status.as_ref().and_then(|status| status.credential_ref.as_ref());
    by.is_some_and(|by| by.uid == credential_uid)
}

/// The parameters of the body that are known here; others are ignored (RFC 6749 §3.2).
fn read_form(headers: &HeaderMap, body: &[u8]) -> Result<HashMap<String, String>, Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(invalid_request("the body must be application/x-www-form-urlencoded"));
    }
    let mut form = HashMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        // A parameter without a value counts as left out.
        if !PARAMETERS.contains(&&*name) || value.is_empty() {
            continue;
        }
        if form.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(invalid_request("a parameter is given twice"));
        }
    }
    Ok(form)
}

/// Id and secret of HTTP Basic, both form-encoded before they were joined (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Problem> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let pair = value.to_str().ok().and_then(|text| {
        let (scheme, encoded) = text.split_once(' ')?;
        let bytes = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok()).flatten()?;
        let text = String::from_utf8(bytes).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((decoded(id)?, decoded(secret)?))
    });
    match (pair, all.next()) {
        (Some(pair), None) => Ok(Some(pair)),
        _ => Err(invalid_client()),
    }
}

/// One form-encoded text.
fn decoded(text: &str) -> Option<String> {
    if text.contains(['&', '=']) {
        return None;
    }
    let pair = form_urlencoded::parse(text.as_bytes()).next();
    Some(pair.map(|(text, _)| text.into_owned()).unwrap_or_default())
}
