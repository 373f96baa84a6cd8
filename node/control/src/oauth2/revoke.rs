//! Ends a token (RFC 7009): a refresh token with its whole Session, an access token of a shared client alone.
//!
//! A Session that a person or program began with an authentication token has no client that could show a secret: whoever has
//! one of its tokens may end it, as with a log-out. Tokens of an OAuth2 client are ended by that client only.

use http::StatusCode;
use octelium_api::{
    Kind, Object,
    core::{Session, credential::spec::Type, session::status::authentication::info::Details},
};
use uuid::Uuid;

use super::{Call, Problem, invalid_client, invalid_request, known_client};
use crate::{
    Inner,
    auth::Denied,
    plan::Actor,
    token::{Token, TokenKind},
};

/// Ends the token in the form. One that isn't worth anything is ended already.
pub async fn revoke(inner: &Inner, mut call: Call<'_>) -> Result<(), Problem> {
    let client = match call.client()? {
        Some(shown) => Some(known_client(inner, &shown)?.stored.object.uid().to_owned()),
        None => None,
    };
    let text = call.form.remove("token").ok_or_else(|| invalid_request("`token` is missing"))?;
    let keys = inner.token_keys();
    let now = inner.store.now().unix();
    let verify = |kind| keys.verify(&text, kind, now).ok();
    let Some(token) = verify(TokenKind::Access).or_else(|| verify(TokenKind::Refresh)) else { return Ok(()) };

    let actor = Actor { operation: "oauth2/revoke".to_owned(), ..Actor::default() };
    let done = inner.store.change(&actor, |plan| -> Result<Option<Problem>, Denied> {
        let uid = Uuid::from_u128(token.subject).to_string();
        let Some(stored) = plan.state().get(Kind::Session, &uid).cloned() else { return Ok(None) };
        let Object::Session(session) = &stored.object else { return Ok(None) };
        let owner = session.status.as_ref().and_then(|status| status.credential_ref.as_ref());
        // Of a client that is used up and gone, nobody could show the secret.
        let has_client = owner.is_some_and(|by| plan.state().get(Kind::Credential, &by.uid).is_some());
        if let Some(problem) = not_theirs(session, client.as_deref(), has_client) {
            return Ok(Some(problem));
        }
        match without(session, &token) {
            Rest::Same => {}
            Rest::Nothing => plan.drop(&stored),
            Rest::Others(session) => drop(plan.edit(&stored, *session)),
        }
        Ok(None)
    });
    match done.await?.value {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

fn not_theirs(session: &Session, client: Option<&str>, has_client: bool) -> Option<Problem> {
    let owner = session.status.as_ref().and_then(|status| status.credential_ref.as_ref()).map(|by| by.uid.as_str());
    match client {
        None if is_of_oauth2(session) && has_client => Some(invalid_client()),
        None => None,
        Some(client) if owner == Some(client) => None,
        Some(_) => Some(Problem {
            status: StatusCode::BAD_REQUEST,
            error: "unauthorized_client",
            text: Some("the token was issued to another client".to_owned()),
        }),
    }
}

fn is_of_oauth2(session: &Session) -> bool {
    let first = session.status.as_ref().and_then(|status| status.initial_authentication.as_ref());
    match first.and_then(|first| first.info.as_ref()).and_then(|info| info.details.as_ref()) {
        Some(Details::Credential(details)) => details.r#type() == Type::Oauth2,
        _ => false,
    }
}

/// What is left of a Session without a token.
enum Rest {
    /// The token was ended before.
    Same,
    /// Nothing that could be used.
    Nothing,
    /// The tokens that the client's other instances hold.
    Others(Box<Session>),
}

fn without(session: &Session, token: &Token) -> Rest {
    let id = Uuid::from_u128(token.id).to_string();
    let mut session = session.clone();
    let shared = is_of_oauth2(&session) && token.kind == TokenKind::Access;
    let Some(status) = &mut session.status else { return Rest::Same };
    let mut all: Vec<_> = status.authentication.iter_mut().chain(&mut status.last_authentications).collect();
    let Some(position) = all.iter().position(|authentication| authentication.token_id == id) else { return Rest::Same };
    if !shared {
        // The refresh token goes with its access token, and nothing else keeps such a Session.
        return Rest::Nothing;
    }
    all[position].token_id.clear();
    Rest::Others(Box::new(session))
}
