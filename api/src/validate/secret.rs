//! Secrets: both halves hold something, and not too much.

use super::Report;
use crate::core::{Secret, secret};

const BYTES_MAX: usize = 512 * 1024;

pub(super) fn check(secret: &Secret, report: &mut Report) {
    use secret::{data, spec};
    match secret.data.as_ref().map(|data| &data.r#type) {
        Some(Some(data::Type::Value(text))) => size("data.value", text.len(), report),
        Some(Some(data::Type::ValueBytes(bytes))) => size("data.valueBytes", bytes.len(), report),
        Some(None) | None => report.add("data", "missing: write the value as `data.value` or `data.valueBytes`"),
    }
    let public = secret.spec.as_ref().and_then(|spec| spec.data.as_ref());
    match public.map(|data| &data.r#type) {
        Some(Some(spec::data::Type::Value(text))) => size("spec.data.value", text.len(), report),
        Some(Some(spec::data::Type::ValueBytes(bytes))) => size("spec.data.valueBytes", bytes.len(), report),
        Some(None) => report.add("spec.data", "needs one of value, valueBytes"),
        None => {}
    }
}

fn size(path: &str, bytes: usize, report: &mut Report) {
    match bytes {
        0 => report.add(path, "is empty"),
        1..=BYTES_MAX => {}
        _ => report.add(path, format!("has {bytes} bytes; at most {BYTES_MAX}")),
    }
}
