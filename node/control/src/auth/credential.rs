//! From a Credential's token to a Session.

use std::sync::Arc;

use aws_lc_rs::digest;
use octelium_api::{
    Kind, Object,
    core::{self, Credential, Session, User, credential::spec::Type},
};
use octelium_consensus::Stored;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{Denied, session};
use crate::{
    ClientInfo, Inner,
    clock::Now,
    plan::{Actor, Plan},
    token::{Token, TokenKind},
};

/// What a caller shows.
pub struct Shown<'a> {
    pub token: &'a str,
    /// The type of Credential that may be shown here.
    pub wanted: Type,
    /// Empty if there is none.
    pub verifier: &'a [u8],
    /// Whether this is a use of it, of which there may be no more.
    pub is_use: bool,
}

/// A Credential that may be used now.
pub struct Proven {
    pub stored: Arc<Stored>,
    pub credential: Credential,
    pub user: User,
}

/// Makes a Session from an AUTH_TOKEN Credential.
pub async fn log_in(
    inner: &Inner,
    actor: &Actor,
    shown: &Shown<'_>,
    scopes: Vec<core::Scope>,
    client: &ClientInfo,
) -> Result<Option<session::Tokens>, Denied> {
    let keys = inner.token_keys();
    let token = keys
        .verify(shown.token, TokenKind::Credential, inner.store.now().unix())
        .inspect_err(|error| tracing::info!(%error, "a log-in is refused"))
        .map_err(|_| Denied::Unproven)?;
    let done = inner.store.change(actor, |plan| {
        let proven = prove(plan, &token, shown)?;
        if session::is_off(&proven.user) {
            return Err(Denied::UserOff);
        }
        let kind = match proven.credential.spec.clone().unwrap_or_default().session_type() {
            core::session::status::Type::Unknown => session::kind_for(client),
            chosen => chosen,
        };
        let new =
            session::New { user: &proven.user, credential: &proven.credential, kind, scopes: scopes.clone(), client };
        let session = session::make(plan, new)?;
        use_up(plan, &proven);
        Ok(plan.make(session))
    });
    let done = done.await?;
    Ok(made(done.object(&done.value)).and_then(|session| session::tokens(session, &keys)))
}

/// Checks a token whose signature and time are good against its Credential, in the order that the specification gives.
pub fn prove(plan: &Plan, token: &Token, shown: &Shown) -> Result<Proven, Denied> {
    let stored = plan.state().get(Kind::Credential, &Uuid::from_u128(token.subject).to_string());
    let stored = stored.ok_or(Denied::Unproven)?;
    let Object::Credential(credential) = &stored.object else { return Err(Denied::Unproven) };
    let spec = credential.spec.clone().unwrap_or_default();
    let status = credential.status.clone().unwrap_or_default();
    let refuse = |reason: &str| {
        tracing::info!(credential = stored.object.name(), reason, "a log-in is refused");
        Err(Denied::Unproven)
    };
    if spec.is_disabled || status.is_locked {
        return refuse("the Credential is disabled or locked");
    }
    let current = Uuid::parse_str(&status.token_id).map(Uuid::into_bytes).unwrap_or_default();
    if !bool::from(current.ct_eq(&token.id.to_be_bytes())) {
        return refuse("the token was replaced");
    }
    if is_expired(&spec, plan.now()) {
        return refuse("the Credential has expired");
    }
    if shown.is_use && spec.max_authentications > 0 && status.total_authentications >= spec.max_authentications {
        return refuse("the Credential is used up");
    }
    if spec.r#type() != shown.wanted {
        return refuse("the Credential is of another type");
    }
    let challenge = status.pkce.as_ref().map(|pkce| pkce.code_challenge.as_slice());
    let matches = match challenge {
        None => shown.verifier.is_empty(),
        Some(challenge) => {
            bool::from(digest::digest(&digest::SHA256, shown.verifier).as_ref().ct_eq(challenge))
                && !shown.verifier.is_empty()
        }
    };
    if !matches {
        return refuse("the code verifier doesn't match");
    }
    let owner = status.user_ref.as_ref().map_or("", |owner| &owner.uid);
    match plan.get(Kind::User, owner) {
        Some(Object::User(user)) => {
            Ok(Proven { stored: stored.clone(), credential: credential.clone(), user: user.clone() })
        }
        _ => Err(Denied::NoUser),
    }
}

/// Whether the Credential's time is over.
pub fn is_expired(spec: &core::credential::Spec, now: Now) -> bool {
    spec.expires_at.as_ref().is_some_and(|at| at.seconds <= now.unix())
}

/// Whether a Credential that is there admits nobody: its Sessions don't go on either.
pub fn is_withdrawn(object: &Object, now: Now) -> bool {
    let Object::Credential(credential) = object else { return false };
    let is_locked = credential.status.as_ref().is_some_and(|status| status.is_locked);
    credential.spec.as_ref().is_none_or(|spec| spec.is_disabled || is_expired(spec, now)) || is_locked
}

/// Counts one use. The write is conditional, so that of two racing uses one is planned anew and sees the other's count.
pub fn use_up(plan: &mut Plan, proven: &Proven) {
    let mut credential = proven.credential.clone();
    let spec = credential.spec.clone().unwrap_or_default();
    let status = credential.status.get_or_insert_default();
    status.total_authentications = status.total_authentications.saturating_add(1);
    if spec.auto_delete && spec.max_authentications > 0 && status.total_authentications >= spec.max_authentications {
        // Its Sessions live on: it wasn't withdrawn, it is used up.
        plan.drop(&proven.stored);
    } else {
        plan.edit(&proven.stored, credential);
    }
}

/// The Session that a change made.
pub fn made(object: Option<&Object>) -> Option<&Session> {
    match object {
        Some(Object::Session(session)) => Some(session),
        _ => None,
    }
}
