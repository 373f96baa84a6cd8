//! What a token is worth now (RFC 7662). Whoever may not know learns that it isn't active.

use octelium_actors::sessions::SessionEntry;
use octelium_api::{
    Kind, Object,
    core::{
        self,
        session::{
            spec::State,
            status::{Authentication, AuthenticatorAction},
        },
        user,
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Problem, invalid_client, invalid_request, known_client};
use crate::{
    Inner,
    auth::{scope, session},
    clock::Now,
    token::{Token, TokenKind},
};

/// Answers about the token in the form. `is_authorized`: the caller may ask about every token; otherwise it must be a client,
/// which may ask about its own.
pub fn introspect(inner: &Inner, mut call: Call<'_>, is_authorized: bool) -> Result<Value, Problem> {
    let own = match is_authorized {
        true => None,
        false => {
            let shown = call.client()?.ok_or_else(invalid_client)?;
            Some(known_client(inner, &shown)?.stored.object.uid().to_owned())
        }
    };
    let text = call.form.remove("token").ok_or_else(|| invalid_request("`token` is missing"))?;
    let now = inner.store.now();
    Ok(active(inner, &text, own.as_deref(), now).unwrap_or_else(|| json!({"active": false})))
}

fn active(inner: &Inner, text: &str, own: Option<&str>, now: Now) -> Option<Value> {
    let keys = inner.token_keys();
    let verify = |kind| keys.verify(text, kind, now.unix()).ok();
    let token = verify(TokenKind::Access).or_else(|| verify(TokenKind::Refresh))?;
    let entry = inner.store.views.sessions.get(token.subject)?;
    let Object::Session(session) = &entry.session.stored().object else { return None };
    let status = session.status.as_ref()?;
    let credential = status.credential_ref.as_ref();
    if own.is_some_and(|own| credential.is_none_or(|credential| credential.uid != own)) {
        return None;
    }
    if !is_usable(&entry, now) {
        return None;
    }
    let (expires, r#type) = match token.kind {
        TokenKind::Access => (entry.tokens.iter().find(|live| live.id == token.id)?.until_unix, "Bearer"),
        _ => (refresh_expiry(session, &token, now)?, "refresh_token"),
    };
    let expires = expires.min(token.expires_unix).min(entry.expires_unix);
    if expires <= now.unix() {
        return None;
    }
    let mut document = json!({
        "active": true,
        "token_type": r#type,
        "iss": inner.public_url,
        "sub": entry.user.reference.uid,
        "username": entry.user.reference.name,
        "exp": expires,
        "user_type": if entry.user.kind == user::spec::Type::Human { "HUMAN" } else { "WORKLOAD" },
        "session": entry.reference.name,
    });
    let of_token = |authentication: &&Authentication| authentication.token_id == id_text(&token);
    let issued = status.authentication.iter().chain(&status.last_authentications).find(of_token);
    if let Some(at) = issued.and_then(|authentication| authentication.set_at.as_ref()) {
        document["iat"] = json!(at.seconds);
    }
    let scopes: Vec<_> = status.scopes.iter().filter_map(scope::text).collect();
    if !scopes.is_empty() {
        document["scope"] = json!(scopes.join(" "));
    }
    let stored = credential.and_then(|credential| inner.store.state().get(Kind::Credential, &credential.uid).cloned());
    if let Some(Object::Credential(core::Credential { status: Some(status), .. })) =
        stored.as_ref().map(|of| &of.object)
    {
        document["client_id"] = json!(status.id);
    }
    Some(document)
}

/// The gates that every request of the Session passes.
fn is_usable(entry: &SessionEntry, now: Now) -> bool {
    entry.state == State::Active
        && !entry.is_locked
        && !matches!(
            entry.authenticator_action,
            AuthenticatorAction::AuthenticationRequired | AuthenticatorAction::RegistrationRequired
        )
        && !entry.user.is_locked
        && !entry.user.is_disabled
        && !entry.credential.is_off
        && entry.credential.expires_unix.is_none_or(|expires| now.unix() < expires)
}

fn refresh_expiry(session: &core::Session, token: &Token, now: Now) -> Option<i64> {
    let current = session.status.as_ref()?.authentication.as_ref()?;
    let (_, life) = session::lives(current);
    (current.token_id == id_text(token) && session::is_live(session, now))
        .then(|| current.set_at.as_ref().map_or(0, |at| at.seconds).saturating_add(life))
}

fn id_text(token: &Token) -> String {
    Uuid::from_u128(token.id).to_string()
}
