//! Secrets in JSON, wiped from memory once dropped: for `#[serde(with = "…")]`.

use serde::{Deserialize, Deserializer, Serializer};
use zeroize::Zeroizing;

/// As a string.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(secret: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret)
}

/// From a string.
///
/// # Errors
/// The deserializer's.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}
