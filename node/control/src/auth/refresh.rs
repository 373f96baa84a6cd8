//! How a Session goes on with its refresh token, and how it ends.

use std::sync::Arc;

use octelium_api::{
    Kind, Object,
    core::{Session, session::status::Authentication},
};
use octelium_consensus::Stored;
use uuid::Uuid;

use super::{
    Denied,
    credential::{self, made},
    session,
};
use crate::{
    ClientInfo, Inner,
    clock::Now,
    plan::{Actor, Id, Plan},
    token::{Token, TokenKind},
};

/// A refresh token that was replaced so recently may come from a retry or a second process; later ones were stolen.
const OVERLAP_SECONDS: i64 = 30;
/// Early authentications within an hour, beside the first.
const EARLY_MAX: usize = 5;
const HOUR_SECONDS: i64 = 60 * 60;

/// What became of a refresh token.
enum Used {
    Renewed(Id),
    /// It was replaced long ago: whoever holds the Session's tokens may not be who logged in.
    Revoked,
    LoggedOut,
}

/// Gives the Session new tokens.
pub async fn refresh(
    inner: &Inner,
    actor: &Actor,
    text: &str,
    client: &ClientInfo,
) -> Result<Option<session::Tokens>, Denied> {
    let keys = inner.token_keys();
    let token = verify(inner, text)?;
    let done = inner.store.change(actor, |plan| {
        let Some((stored, mut session)) = owner(plan, &token)? else { return Ok(Used::Revoked) };
        let now = plan.now();
        let status = session.status.clone().unwrap_or_default();
        if !session::is_live(&session, now) {
            return Err(Denied::Unproven);
        }
        if session::is_barred(&session) {
            return Err(Denied::SessionBarred);
        }
        let made_by = status.credential_ref.as_ref().and_then(|by| plan.state().get(Kind::Credential, &by.uid));
        if made_by.is_some_and(|by| credential::is_withdrawn(&by.object, now)) {
            return Err(Denied::Unproven);
        }
        if status.is_browser || status.required_authenticator_ref.is_some() {
            return Err(Denied::WrongWay);
        }
        let user = status.user_ref.as_ref().and_then(|user| plan.get(Kind::User, &user.uid));
        match user {
            Some(Object::User(user)) if session::is_off(user) => return Err(Denied::UserOff),
            Some(Object::User(_)) => {}
            _ => return Err(Denied::NoUser),
        }
        if is_too_soon(&session, now) {
            return Err(Denied::TooSoon);
        }
        let info = session::info_of_refresh(plan.state(), client);
        session::reauthenticate(&mut session, info, now);
        plan.edit(&stored, session).map(Used::Renewed).ok_or(Denied::Unproven)
    });
    let done = done.await?;
    match &done.value {
        Used::Renewed(id) => Ok(made(done.object(id)).and_then(|session| session::tokens(session, &keys))),
        Used::Revoked | Used::LoggedOut => Err(Denied::Unproven),
    }
}

/// Ends the Session.
pub async fn log_out(inner: &Inner, actor: &Actor, text: &str) -> Result<(), Denied> {
    let token = verify(inner, text)?;
    let done = inner.store.change(actor, |plan| {
        let Some((stored, session)) = owner(plan, &token)? else { return Ok(Used::Revoked) };
        if !session::is_unexpired(&session, plan.now()) {
            return Err(Denied::Unproven);
        }
        plan.drop(&stored);
        Ok(Used::LoggedOut)
    });
    match done.await?.value {
        Used::LoggedOut => Ok(()),
        Used::Renewed(_) | Used::Revoked => Err(Denied::Unproven),
    }
}

fn verify(inner: &Inner, text: &str) -> Result<Token, Denied> {
    inner.token_keys().verify(text, TokenKind::Refresh, inner.store.now().unix()).map_err(|error| {
        tracing::info!(%error, "a refresh token is refused");
        Denied::Unproven
    })
}

/// The Session that the token belongs to. `None` if its use revoked the Session, which is then in the plan.
fn owner(plan: &mut Plan, token: &Token) -> Result<Option<(Arc<Stored>, Session)>, Denied> {
    let uid = Uuid::from_u128(token.subject).to_string();
    let stored = plan.state().get(Kind::Session, &uid).cloned().ok_or(Denied::Unproven)?;
    let Object::Session(session) = &stored.object else { return Err(Denied::Unproven) };
    let status = session.status.clone().unwrap_or_default();
    let id = Uuid::from_u128(token.id).to_string();
    let Some(current) = &status.authentication else { return Err(Denied::Unproven) };
    if current.token_id == id {
        let session = session.clone();
        return Ok(Some((stored, session)));
    }
    // Our signature is on it, so it was this Session's once.
    let replaced = replaced_at(current, &status.last_authentications, &id);
    if replaced.is_some_and(|at| plan.now().unix() < at.saturating_add(OVERLAP_SECONDS)) {
        return Err(Denied::Unproven);
    }
    tracing::warn!(session = stored.object.name(), "a replaced refresh token is used again: the Session is ended");
    plan.drop(&stored);
    Ok(None)
}

/// When the authentication with this token id made room for the next one, in seconds of Unix time.
fn replaced_at(current: &Authentication, earlier: &[Authentication], id: &str) -> Option<i64> {
    let position = earlier.iter().position(|authentication| authentication.token_id == id)?;
    let next = if position == 0 { current } else { &earlier[position - 1] };
    next.set_at.as_ref().map(|at| at.seconds)
}

/// Before half of the access token's life has passed, only few authentications are allowed in an hour.
fn is_too_soon(session: &Session, now: Now) -> bool {
    let Some(status) = &session.status else { return true };
    let Some(current) = &status.authentication else { return false };
    let set_at = |authentication: &Authentication| authentication.set_at.as_ref().map_or(0, |at| at.seconds);
    let (access_life, _) = session::lives(current);
    if now.unix() >= set_at(current).saturating_add(access_life / 2) {
        return false;
    }
    let all = std::iter::once(current).chain(&status.last_authentications);
    let recent = all.filter(|authentication| set_at(authentication) > now.unix() - HOUR_SECONDS).count();
    // The first one was a log-in.
    let first = status.initial_authentication.as_ref().is_some_and(|first| set_at(first) > now.unix() - HOUR_SECONDS);
    recent.saturating_sub(usize::from(first)) >= EARLY_MAX
}
