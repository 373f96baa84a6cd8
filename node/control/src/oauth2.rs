//! OAuth2: the token endpoint, introspection and revocation, and the metadata document that names them (RFC 8414).

mod introspect;
mod revoke;
mod token;

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use octelium_api::core::credential::spec::Type;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use crate::{
    ClientInfo, Control, Inner,
    auth::{
        Denied,
        credential::{Proven, Shown, prove},
        session,
    },
    plan::Actor,
    token::TokenKind,
};

const BODY_BYTES_MAX: usize = 100 * 1024;
/// Each of these may appear once, and never in the address, which ends up in logs.
const PARAMETERS: [&str; 8] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "token",
    "token_type_hint",
];

/// What a caller of one of the endpoints sent.
pub struct Request<'a> {
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The query of the address, if there is one.
    pub query: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
    /// Where it comes from.
    pub client: &'a ClientInfo,
}

impl Control {
    /// `POST /oauth2/token`.
    pub async fn oauth2_token(&self, request: Request<'_>) -> Response<Bytes> {
        let tokens = match Call::read(&request) {
            Ok(call) => token::token(&self.inner, call).await,
            Err(problem) => Err(problem),
        };
        let document = tokens.map(
            |tokens| json!({"access_token": tokens.access, "token_type": "Bearer", "expires_in": tokens.access_life}),
        );
        self.finish(&request, document)
    }

    /// `POST /oauth2/introspect` (RFC 7662). `is_authorized`: a policy lets the caller ask about every token.
    pub fn oauth2_introspect(&self, request: &Request<'_>, is_authorized: bool) -> Response<Bytes> {
        let document = Call::read(request).and_then(|call| introspect::introspect(&self.inner, call, is_authorized));
        self.finish(request, document)
    }

    /// `POST /oauth2/revoke` (RFC 7009).
    pub async fn oauth2_revoke(&self, request: Request<'_>) -> Response<Bytes> {
        let done = match Call::read(&request) {
            Ok(call) => revoke::revoke(&self.inner, call).await,
            Err(problem) => Err(problem),
        };
        self.finish(&request, done.map(|()| json!({})))
    }

    fn finish(&self, request: &Request<'_>, document: Result<Value, Problem>) -> Response<Bytes> {
        let problem = match document {
            Ok(document) => return answer(StatusCode::OK, &document, false),
            Err(problem) => problem,
        };
        // Only who shows nothing valid gets here, so that nobody else is held up.
        let is_guess = problem.error == "invalid_client" && problem.status == StatusCode::UNAUTHORIZED;
        if is_guess && self.inner.throttle.failed(request.client, self.inner.store.now().unix()) {
            let document = json!({"error": "invalid_client", "error_description": "too many failures; try later"});
            let mut response = answer(StatusCode::TOO_MANY_REQUESTS, &document, false);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            return response;
        }
        let mut document = json!({"error": problem.error});
        if let Some(text) = problem.text {
            document["error_description"] = Value::String(text);
        }
        let with_basic = request.headers.contains_key(header::AUTHORIZATION);
        answer(problem.status, &document, with_basic && problem.status == StatusCode::UNAUTHORIZED)
    }

    /// `GET /.well-known/oauth-authorization-server`.
    pub fn oauth2_metadata(&self) -> Response<Bytes> {
        let issuer = &self.inner.public_url;
        let methods = ["client_secret_post", "client_secret_basic"];
        let document = json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/oauth2/token"),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": methods,
            "introspection_endpoint": format!("{issuer}/oauth2/introspect"),
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint": format!("{issuer}/oauth2/revoke"),
            "revocation_endpoint_auth_methods_supported": methods,
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
                    tonic::Code::Unavailable | tonic::Code::OutOfRange => {
                        problem(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
                    }
                    _ => problem(StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
                }
            }
        }
    }
}

/// A call whose form could be read.
struct Call<'a> {
    form: HashMap<String, String>,
    headers: &'a HeaderMap,
    from: &'a ClientInfo,
}

impl<'a> Call<'a> {
    fn read(request: &Request<'a>) -> Result<Self, Problem> {
        let in_query = form_urlencoded::parse(request.query.unwrap_or_default().as_bytes());
        if in_query.into_iter().any(|(name, _)| PARAMETERS.contains(&&*name)) {
            return Err(invalid_request("parameters belong into the body, never into the address"));
        }
        if request.body.len() > BODY_BYTES_MAX {
            return Err(invalid_request("the body is too large"));
        }
        let form = read_form(request.headers, request.body)?;
        Ok(Self { form, headers: request.headers, from: request.client })
    }

    /// The client's id and secret, from the form or from HTTP Basic; `None` if it shows neither.
    fn client(&mut self) -> Result<Option<(String, String)>, Problem> {
        let basic = basic(self.headers)?;
        let in_body = self.form.contains_key("client_secret") || self.form.contains_key("client_assertion");
        if basic.is_some() && in_body {
            return Err(invalid_request("the client authenticates in two ways"));
        }
        match basic {
            Some((id, _)) if self.form.get("client_id").is_some_and(|other| *other != id) => Err(invalid_client()),
            Some(pair) => Ok(Some(pair)),
            // Assertions need IdentityProviders, which aren't served yet: nobody vouches for this client.
            None if self.form.contains_key("client_assertion") || self.form.contains_key("client_assertion_type") => {
                Err(invalid_client())
            }
            None => match (self.form.remove("client_id"), self.form.remove("client_secret")) {
                (Some(id), Some(secret)) => Ok(Some((id, secret))),
                (None, None) => Ok(None),
                _ => Err(invalid_client()),
            },
        }
    }
}

/// The client with this id and secret, which may be used now. That is no use of it.
fn known_client(inner: &Inner, (id, secret): &(String, String)) -> Result<Proven, Problem> {
    let token = inner.token_keys().verify(secret, TokenKind::Credential, inner.store.now().unix());
    let token = token.map_err(|_| invalid_client())?;
    let plan = inner.store.plan(&Actor::default());
    let proven = prove(&plan, &token, &Shown { token: secret, wanted: Type::Oauth2, verifier: &[], is_use: false })?;
    let known_id = proven.credential.status.as_ref().map_or("", |status| &status.id);
    match bool::from(known_id.as_bytes().ct_eq(id.as_bytes())) && !session::is_off(&proven.user) {
        true => Ok(proven),
        false => Err(invalid_client()),
    }
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
