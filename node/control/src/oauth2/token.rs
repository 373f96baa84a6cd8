//! The token endpoint: client credentials (RFC 6749 §4.4).

use http::StatusCode;
use octelium_api::{
    Kind, Object,
    core::{Session, credential::spec::Type, session::status, user},
};
use subtle::ConstantTimeEq;

use super::{Call, Problem, invalid_client, problem};
use crate::{
    ClientInfo, Inner,
    auth::{
        Denied,
        credential::{Shown, made, prove, use_up},
        scope, session,
    },
    plan::{Actor, Id, Plan},
    refusal::Refusal,
    token::{Token, TokenKind},
};

const SCOPE_BYTES_MAX: usize = 2048;

/// Gives the client a token.
pub async fn token(inner: &Inner, mut call: Call<'_>) -> Result<session::Tokens, Problem> {
    if call.form.get("grant_type").map(String::as_str) != Some("client_credentials") {
        return Err(problem(StatusCode::BAD_REQUEST, "unsupported_grant_type"));
    }
    let (id, secret) = call.client()?.ok_or_else(invalid_client)?;
    let client = call.from;
    let keys = inner.token_keys();
    let token = keys
        .verify(&secret, TokenKind::Credential, inner.store.now().unix())
        .inspect_err(|error| tracing::info!(%error, "an OAuth2 client is refused"))
        .map_err(|_| invalid_client())?;

    let scope = call.form.remove("scope").unwrap_or_default();
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
    let proven = prove(plan, token, &Shown { token: secret, wanted: Type::Oauth2, verifier: &[], is_use: true })?;
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
