//! Sealing of what must not be read by who only has the log: bound to its place, so that it can't be moved to another.

use octelium_api::Kind;
use octelium_consensus::{SealingKey, Stored};
use zeroize::Zeroizing;

/// The data of a Secret or Config, opened: the bytes of a Secret's `data.value` or `data.valueBytes`, a Config's whole
/// `data` in protobuf form.
pub fn open_data(sealing: &SealingKey, stored: &Stored) -> Option<Zeroizing<Vec<u8>>> {
    let aad = data_aad(stored.object.kind(), stored.object.uid());
    let opened = sealing.open(aad.as_bytes(), stored.sealed.as_deref()?);
    let told = |error: &_| {
        let (kind, name) = (stored.object.kind(), stored.object.name());
        tracing::error!(%kind, name, %error, "the data of a resource can't be opened");
    };
    opened.inspect_err(told).ok()
}

/// Seals the data of the resource of this kind and uid.
pub fn seal_data(sealing: &SealingKey, kind: Kind, uid: &str, data: &[u8]) -> Vec<u8> {
    sealing.seal(data_aad(kind, uid).as_bytes(), data)
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

fn data_aad(kind: Kind, uid: &str) -> String {
    format!("{kind}/{uid}")
}

fn key_aad(name: &str) -> String {
    format!("key/{name}")
}
