//! Sealing of what must not be read by who only has the log: bound to its place, so that it can't be moved to another.

use octelium_api::Kind;
use octelium_consensus::{SealingKey, Stored};
use zeroize::Zeroizing;

/// The data of a Secret, opened: the bytes of `data.value` or `data.valueBytes`.
pub fn open_secret(sealing: &SealingKey, stored: &Stored) -> Option<Zeroizing<Vec<u8>>> {
    let aad = secret_aad(stored.object.uid());
    let opened = sealing.open(aad.as_bytes(), stored.sealed.as_deref()?);
    opened.inspect_err(|error| tracing::error!(secret = stored.object.name(), %error, "a Secret can't be opened")).ok()
}

/// Seals the data of the Secret with this uid.
pub fn seal_secret(sealing: &SealingKey, uid: &str, data: &[u8]) -> Vec<u8> {
    sealing.seal(secret_aad(uid).as_bytes(), data)
}

/// One of the cluster's keys, opened.
pub fn open_key(sealing: &SealingKey, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let opened = sealing.open(key_aad(name).as_bytes(), sealed);
    opened.inspect_err(|error| tracing::error!(key = name, %error, "a key of the cluster can't be opened")).ok()
}

/// Seals one of the cluster's keys.
pub fn seal_key(sealing: &SealingKey, name: &str, key: &[u8]) -> Vec<u8> {
    sealing.seal(key_aad(name).as_bytes(), key)
}

fn secret_aad(uid: &str) -> String {
    format!("{}/{uid}", Kind::Secret)
}

fn key_aad(name: &str) -> String {
    format!("key/{name}")
}
