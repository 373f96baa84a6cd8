//! The keys that sign tokens: a new one every 30 days, and each is kept until no token that it signed can be shown any more.
//!
//! Which key signed a token isn't stored. It was the newest at that moment, so a key can go once every token that was made
//! in its time, with a margin, is over. A restored backup brings keys that were the newest elsewhere: of keys that are older than
//! that, nobody knows when they signed, and they stay until all that was signed before is over.

use octelium_api::{
    Kind, Object,
    core::{Credential, Session, credential::spec::Type, session::status::Authentication},
};
use octelium_consensus::{State, Write};

use crate::{
    Error,
    auth::{credential, session},
    clock::Now,
    plan::Plan,
    token::{self, KeyId},
};

const DAY_SECONDS: i64 = 24 * 60 * 60;
const ROTATE_AFTER_SECONDS: i64 = 30 * DAY_SECONDS;
/// The key that says when keys were last mixed, in seconds of Unix time.
pub const MIXED_KEY: &str = "token-mixed-at";
/// Clocks of nodes differ, and a token may be signed a moment after its time was noted.
const MARGIN_SECONDS: i64 = DAY_SECONDS;

/// What is to be done about the keys.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The newest is old.
    rotate: bool,
    /// Nothing that these signed can be shown any more.
    obsolete: Vec<KeyId>,
}

/// Enters into the plan what is due. Returns whether anything was.
///
/// # Errors
/// If a new key can't be made.
pub fn rotate(plan: &mut Plan, sealing: &octelium_consensus::SealingKey) -> Result<bool, Error> {
    let mixed_unix = plan.state().key(MIXED_KEY).and_then(|sealed| read_mixed(sealing, sealed));
    let Due { rotate, obsolete } = due(plan.state(), plan.now(), mixed_unix);
    for id in &obsolete {
        plan.key(Write::DeleteKey { name: token::key_name(*id) });
    }
    if rotate {
        let (name, key) = token::generate_key(plan.now())?;
        let sealed = crate::seal::seal_key(sealing, &name, &key);
        plan.key(Write::PutKey { name, sealed });
    }
    Ok(rotate || !obsolete.is_empty())
}

/// Notes that keys of another time or cluster came in.
pub fn mix(plan: &mut Plan, sealing: &octelium_consensus::SealingKey) {
    let now = plan.now().unix().to_be_bytes();
    plan.key(Write::PutKey { name: MIXED_KEY.to_owned(), sealed: crate::seal::seal_key(sealing, MIXED_KEY, &now) });
}

fn read_mixed(sealing: &octelium_consensus::SealingKey, sealed: &[u8]) -> Option<i64> {
    let opened = crate::seal::open_key(sealing, MIXED_KEY, sealed)?;
    opened.as_slice().try_into().ok().map(i64::from_be_bytes)
}

/// `mixed_unix`: when keys were last mixed.
fn due(state: &State, now: Now, mixed_unix: Option<i64>) -> Due {
    let keys: Vec<KeyId> = state.keys().filter_map(|(name, _)| token::key_id(name)).collect();
    let Some(newest) = keys.last() else { return Due { rotate: false, obsolete: Vec::new() } };
    let rotate = now.unix() - token::made_unix(*newest) > ROTATE_AFTER_SECONDS;
    let mut obsolete = Vec::new();
    if keys.len() > 1 {
        let made = times_of_live_tokens(state, now);
        for pair in keys.windows(2) {
            let (made_this, made_next) = (token::made_unix(pair[0]), token::made_unix(pair[1]));
            let (from, to) = match mixed_unix {
                Some(mixed) if made_this <= mixed => (i64::MIN, made_next.max(mixed) + MARGIN_SECONDS),
                _ => (made_this - MARGIN_SECONDS, made_next + MARGIN_SECONDS),
            };
            let is_needed = now.unix() <= to || made.iter().any(|at| (from..=to).contains(at));
            if !is_needed {
                obsolete.push(pair[0]);
            }
        }
    }
    Due { rotate, obsolete }
}

/// When each token was made that could still be shown, in seconds of Unix time.
fn times_of_live_tokens(state: &State, now: Now) -> Vec<i64> {
    let mut times = Vec::new();
    for stored in state.list(Kind::Session) {
        let Object::Session(session) = &stored.object else { continue };
        times_of_session(session, now, &mut times);
    }
    for stored in state.list(Kind::Credential) {
        let Object::Credential(credential) = &stored.object else { continue };
        times.extend(time_of_credential(credential, now));
    }
    times.sort_unstable();
    times.dedup();
    times
}

fn times_of_session(session: &Session, now: Now, times: &mut Vec<i64>) {
    let Some(status) = session.status.as_ref().filter(|_| session::is_unexpired(session, now)) else { return };
    let ends_later = |authentication: &Authentication, set_at: i64| {
        let (access, refresh) = session::lives(authentication);
        set_at.saturating_add(access.max(refresh)) > now.unix()
    };
    for authentication in status.authentication.iter().chain(&status.last_authentications) {
        if let Some(set_at) = authentication.set_at.as_ref().map(|at| at.seconds)
            && ends_later(authentication, set_at)
        {
            times.push(set_at);
        }
    }
}

/// A Credential's token has no end where the Credential has none. ACCESS_TOKEN Credentials have the token of their Session.
fn time_of_credential(resource: &Credential, now: Now) -> Option<i64> {
    let spec = resource.spec.as_ref().filter(|spec| spec.r#type() != Type::AccessToken)?;
    let made = resource.status.as_ref()?.last_rotation_at.as_ref()?.seconds;
    (!credential::is_expired(spec, now)).then_some(made)
}
