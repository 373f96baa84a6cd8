//! Access tokens, refresh tokens and the tokens of Credentials: opaque, signed with a key that the cluster replicates.
//!
//! A token is base64url without padding of
//! `version (1) | kind (1) | subject (16) | id (16) | expiry (8) | key id (8) | HMAC-SHA256 of all before it (32)`.
//! A valid signature alone admits nobody: whether the token's id still counts is in the Session or the Credential.

use std::sync::Arc;

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use octelium_consensus::SealingKey;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Error, clock::Now, seal};

/// Replicated keys with this prefix sign tokens; what follows is the key's id, see [`KeyId`].
pub const KEY_PREFIX: &str = "token-mac/";

const VERSION: u8 = 1;
const SIGNED_BYTES: usize = 1 + 1 + 16 + 16 + 8 + 8;
const MAC_BYTES: usize = 32;
const TOKEN_BYTES: usize = SIGNED_BYTES + MAC_BYTES;
/// Length of every token's text.
pub const TOKEN_CHARS: usize = (TOKEN_BYTES * 4).div_ceil(3);
pub(crate) const KEY_BYTES: usize = 32;

/// What a token is for. One kind is never accepted as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// Shown to Services.
    Access = 1,
    /// Exchanged for new tokens of the same Session.
    Refresh = 2,
    /// Exchanged for a Session.
    Credential = 3,
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is for.
    pub kind: TokenKind,
    /// The Session's uid, or the Credential's.
    pub subject: u128,
    /// Which of the subject's tokens it is.
    pub id: u128,
    /// In seconds of Unix time; 0 for none, which only Credentials' tokens may have.
    pub expires_unix: i64,
}

/// Why a token is refused. For logs: callers learn only that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It isn't one of ours.
    #[error("the token is malformed")]
    Malformed,
    /// Its key isn't known, or not any more.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// It was forged or damaged.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// It is for something else.
    #[error("the token is of another kind")]
    WrongKind,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// A key's id: the milliseconds of Unix time at which it was made in the upper 48 bits, random ones below, so that ids sort
/// by age. Its text has 16 hexadecimal digits.
pub(crate) type KeyId = u64;

/// The keys that sign and verify.
#[derive(Default)]
pub struct TokenKeys {
    /// By id, the newest last.
    keys: Vec<(KeyId, hmac::Key)>,
}

impl TokenKeys {
    /// Opens those of the cluster's `keys` (name, sealed) that sign tokens; the others are left alone.
    ///
    /// # Errors
    /// If a key can't be opened or has another form: without it, its tokens would silently stop working.
    pub fn open(keys: &[(String, Arc<[u8]>)], sealing: &SealingKey) -> Result<Self, Error> {
        let mut opened = Vec::new();
        for (name, sealed) in keys {
            let Some(id) = name.strip_prefix(KEY_PREFIX) else { continue };
            let broken = || Error::Key { name: name.clone() };
            let id = parse_id(id).ok_or_else(broken)?;
            let key = seal::open_key(sealing, name, sealed).filter(|key| key.len() == KEY_BYTES).ok_or_else(broken)?;
            opened.push((id, hmac::Key::new(hmac::HMAC_SHA256, &key)));
        }
        opened.sort_by_key(|(id, _)| *id);
        Ok(Self { keys: opened })
    }

    /// The text of `token`, signed with the newest key. Empty, which no verifier accepts, if there is no key; the first
    /// start makes one.
    pub fn mint(&self, token: &Token) -> String {
        self.sign(token, self.keys.last())
    }

    /// The same with the key that was the newest at a time, so that it is kept as long as what was signed then.
    pub(crate) fn mint_at(&self, token: &Token, unix: i64) -> String {
        self.sign(token, self.keys.iter().rfind(|(id, _)| made_unix(*id) <= unix).or(self.keys.first()))
    }

    fn sign(&self, token: &Token, key: Option<&(KeyId, hmac::Key)>) -> String {
        let Some((id, key)) = key else { return String::new() };
        let mut bytes = [0; TOKEN_BYTES];
        bytes[0] = VERSION;
        bytes[1] = token.kind as u8;
        bytes[2..18].copy_from_slice(&token.subject.to_be_bytes());
        bytes[18..34].copy_from_slice(&token.id.to_be_bytes());
        bytes[34..42].copy_from_slice(&token.expires_unix.to_be_bytes());
        bytes[42..50].copy_from_slice(&id.to_be_bytes());
        let mac = hmac::sign(key, &bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(mac.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What `text` says, if it is a `kind` token of this cluster that hasn't expired at `now_unix` (seconds).
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, text: &str, kind: TokenKind, now_unix: i64) -> Result<Token, TokenError> {
        if text.len() != TOKEN_CHARS {
            return Err(TokenError::Malformed);
        }
        // The engine accepts neither padding nor other spellings of the same bytes.
        let mut bytes = [0; TOKEN_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(TOKEN_BYTES) => {}
            _ => return Err(TokenError::Malformed),
        }
        let said = match (bytes[0], bytes[1]) {
            (VERSION, 1) => TokenKind::Access,
            (VERSION, 2) => TokenKind::Refresh,
            (VERSION, 3) => TokenKind::Credential,
            _ => return Err(TokenError::Malformed),
        };
        let id = u64::from_be_bytes(part(&bytes, 42));
        let (_, key) = self.keys.iter().rfind(|(known, _)| *known == id).ok_or(TokenError::UnknownKey)?;
        hmac::verify(key, &bytes[..SIGNED_BYTES], &bytes[SIGNED_BYTES..]).map_err(|_| TokenError::BadSignature)?;
        if said != kind {
            return Err(TokenError::WrongKind);
        }
        let token = Token {
            kind,
            subject: u128::from_be_bytes(part(&bytes, 2)),
            id: u128::from_be_bytes(part(&bytes, 18)),
            expires_unix: i64::from_be_bytes(part(&bytes, 34)),
        };
        let endless = token.expires_unix == 0 && kind == TokenKind::Credential;
        if !is_v4(token.subject) || !is_v4(token.id) || token.expires_unix <= 0 && !endless {
            return Err(TokenError::Malformed);
        }
        if !endless && token.expires_unix <= now_unix {
            return Err(TokenError::Expired);
        }
        Ok(token)
    }

    /// Whether there is a key to sign with.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A new key, made `now`: its name among the cluster's keys, and the key.
pub(crate) fn generate_key(now: Now) -> Result<(String, Zeroizing<Vec<u8>>), Error> {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    let mut low = [0; 2];
    SystemRandom::new().fill(&mut key).and_then(|()| SystemRandom::new().fill(&mut low)).map_err(|_| Error::Random)?;
    let milliseconds = u64::try_from(now.unix_nanos() / 1_000_000).unwrap_or_default();
    Ok((key_name(milliseconds << 16 | u64::from(u16::from_be_bytes(low))), key))
}

/// The name of a key among the cluster's keys.
pub(crate) fn key_name(id: KeyId) -> String {
    format!("{KEY_PREFIX}{id:016x}")
}

/// The id of the key with this name among the cluster's keys, if it signs tokens.
pub(crate) fn key_id(name: &str) -> Option<KeyId> {
    parse_id(name.strip_prefix(KEY_PREFIX)?)
}

/// When a key was made, in seconds of Unix time.
pub(crate) fn made_unix(id: KeyId) -> i64 {
    i64::try_from((id >> 16) / 1_000).unwrap_or(i64::MAX)
}

fn parse_id(text: &str) -> Option<KeyId> {
    let canonical = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    bytes[from..from + N].try_into().expect("the slice has the array's length")
}

fn is_v4(uid: u128) -> bool {
    let uid = Uuid::from_u128(uid);
    uid.get_version_num() == 4 && uid.get_variant() == uuid::Variant::RFC4122
}
