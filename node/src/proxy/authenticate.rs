//! Credential → Session. A token is verified once for each worker, then found in a bounded cache; whether it still counts is
//! asked of the Session view on every request.

use std::{cell::RefCell, sync::Arc};

use hashbrown::HashMap;

use octelium_actors::{
    router::{Access, Routes},
    sessions::{SessionEntry, Sessions, entry::LiveToken},
};
use octelium_consensus::SealingKey;
use octelium_control::token::{Token, TokenError, TokenKeys, TokenKind};
use octelium_http1::Headers;

use super::{
    exchange::Exchange,
    respond::{Code, Rejection},
    view_age::ViewAge,
};

/// The header that carries an access token, before cookie and `Authorization`.
const HEADER: &str = "x-octelium-auth";
const COOKIE: &str = "octelium_auth";

/// Tokens of one generation of the cache; there are two.
const GENERATION_TOKENS: usize = 8192;
/// No token of ours is longer; longer ones are refused unread.
const TOKEN_BYTES_MAX: usize = 512;

/// Verified tokens of one worker.
pub struct Tokens {
    sealing: Arc<SealingKey>,
    inner: RefCell<Inner>,
}

/// As the view of routes has them.
type SealedKeys = Arc<[(String, Arc<[u8]>)]>;

#[derive(Default)]
struct Inner {
    sealed: Option<SealedKeys>,
    keys: Option<TokenKeys>,
    young: HashMap<Box<str>, Token>,
    old: HashMap<Box<str>, Token>,
}

impl Tokens {
    /// Nothing verified yet.
    pub fn new(sealing: Arc<SealingKey>) -> Self {
        Self { sealing, inner: RefCell::default() }
    }

    /// Whether `text` is a token of this cluster, of whatever kind, and whether or not it still counts.
    pub fn is_ours(&self, text: &str, routes: &Routes) -> bool {
        let mut inner = self.inner.borrow_mut();
        if self.refresh(&mut inner, routes).is_err() || inner.young.contains_key(text) || inner.old.contains_key(text) {
            return true;
        }
        let Some(keys) = &inner.keys else { return true };
        let verified = keys.verify(text, TokenKind::Access, 0);
        // Forged ones too: nothing that names a key of ours is meant for anybody else.
        !matches!(verified, Err(TokenError::Malformed | TokenError::UnknownKey))
    }

    fn refresh(&self, inner: &mut Inner, routes: &Routes) -> Result<(), String> {
        if !inner.sealed.as_ref().is_some_and(|sealed| Arc::ptr_eq(sealed, &routes.keys)) {
            // A key that was taken away must not live on in verified tokens.
            *inner = Inner::default();
            let keys = TokenKeys::open(&routes.keys, &self.sealing).map_err(|error| error.to_string())?;
            inner.keys = Some(keys);
            inner.sealed = Some(routes.keys.clone());
        }
        Ok(())
    }

    /// The token in `text`, if its signature is ours; its expiry is checked each time.
    fn verify(&self, text: &str, routes: &Routes, now_unix: i64) -> Result<Token, String> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        self.refresh(inner, routes)?;
        let known = inner.young.get(text).or_else(|| inner.old.get(text)).copied();
        if let Some(token) = known {
            return if now_unix < token.expires_unix { Ok(token) } else { Err("the token is expired".into()) };
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err("the token is too long".into());
        }
        let keys = inner.keys.as_ref().ok_or("no token key is known yet")?;
        let token = keys.verify(text, TokenKind::Access, now_unix).map_err(|error| error.to_string())?;
        if inner.young.len() >= GENERATION_TOKENS {
            inner.old = std::mem::take(&mut inner.young);
        }
        inner.young.insert(text.into(), token);
        Ok(token)
    }

    fn forget(&self, text: &str) {
        let mut inner = self.inner.borrow_mut();
        inner.young.remove(text);
        inner.old.remove(text);
    }
}

/// Finds the caller's Session, where the Service asks for one.
///
/// # Errors
/// `UNAUTHENTICATED`, with the reason for the log only; `VIEW_TOO_OLD` where that can't be said any more.
pub fn identify(
    exchange: &mut Exchange,
    access: Access,
    routes: &Routes,
    sessions: &Sessions,
    tokens: &Tokens,
    view_age: &ViewAge,
    now_unix: i64,
) -> Result<(), Rejection> {
    if access != Access::Session {
        return Ok(());
    }
    view_age.check()?;
    let (session, token) = session(&exchange.headers, routes, sessions, tokens, now_unix)
        .map_err(|cause| Rejection::new(Code::Unauthenticated, cause))?;
    exchange.session = Some(session);
    exchange.token = Some(token);
    Ok(())
}

/// The Session of the access token in `headers`, and that token.
///
/// # Errors
/// Why there is none, for the log.
pub fn session(
    headers: &Headers,
    routes: &Routes,
    sessions: &Sessions,
    tokens: &Tokens,
    now_unix: i64,
) -> Result<(Arc<SessionEntry>, LiveToken), String> {
    let text = token(headers)?;
    let token = tokens.verify(text, routes, now_unix)?;
    let entry = sessions.get(token.subject);
    let checked = entry.ok_or("the token's Session is gone").and_then(|entry| check(entry, token.id, now_unix));
    if checked.is_err() {
        tokens.forget(text);
    }
    checked.map_err(str::to_owned)
}

fn check(entry: Arc<SessionEntry>, token: u128, now_unix: i64) -> Result<(Arc<SessionEntry>, LiveToken), &'static str> {
    if now_unix >= entry.expires_unix {
        return Err("the Session is expired");
    }
    let Some(token) = entry.live(token, now_unix) else {
        return Err("the token was replaced or its life is over");
    };
    if entry.credential.is_off {
        return Err("the Credential that made the Session is disabled or locked");
    }
    if entry.credential.expires_unix.is_some_and(|expires| now_unix >= expires) {
        return Err("the Credential that made the Session is expired");
    }
    Ok((entry, token))
}

/// The first source that is present decides: a bad one doesn't fall through to the next.
fn token(headers: &Headers) -> Result<&str, String> {
    let text = |value| std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
    let mut ours = headers.get_all(HEADER);
    if let Some(value) = ours.next().filter(|value| !value.is_empty()) {
        return match ours.next() {
            None => text(value).ok_or_else(|| "the token is not text".to_owned()),
            Some(_) => Err("several X-Octelium-Auth headers".to_owned()),
        };
    }
    if let Some(value) = cookie(headers) {
        return Ok(value);
    }
    let mut authorizations = headers.get_all("authorization");
    let Some(value) = authorizations.next() else { return Err("no credential".to_owned()) };
    if authorizations.next().is_some() {
        return Err("several Authorization headers".to_owned());
    }
    let text = text(value).ok_or_else(|| "the Authorization header is not text".to_owned())?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => Ok(token),
        _ => Err("the Authorization header has no bearer token".to_owned()),
    }
}

fn cookie(headers: &Headers) -> Option<&str> {
    let values = headers.get_all("cookie").filter_map(|value| std::str::from_utf8(value).ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, value)| *name == COOKIE && !value.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_first_source_that_is_present_decides() {
        for (lines, expected) in [
            (vec![], Err("no credential")),
            (vec![("x-octelium-auth", "a"), ("cookie", "octelium_auth=b"), ("authorization", "Bearer c")], Ok("a")),
            (vec![("x-octelium-auth", ""), ("cookie", "k=v; octelium_auth=b"), ("authorization", "Bearer c")], Ok("b")),
            (vec![("cookie", "k=v"), ("authorization", "Bearer c")], Ok("c")),
            (vec![("authorization", "bearer c")], Ok("c")),
            (vec![("authorization", "Basic c")], Err("the Authorization header has no bearer token")),
            (vec![("authorization", "Bearer ")], Err("the Authorization header has no bearer token")),
            (vec![("x-octelium-auth", "a"), ("x-octelium-auth", "b")], Err("several X-Octelium-Auth headers")),
            (vec![("authorization", "Bearer a"), ("authorization", "Bearer b")], Err("several Authorization headers")),
        ] {
            let mut headers = Headers::new();
            for (name, value) in &lines {
                headers.append(HeaderName::from_static(name), &HeaderValue::from_static(value));
            }
            assert_eq!(token(&headers).map_err(|error| error.leak() as &str), expected, "{lines:?}");
        }
    }
}
