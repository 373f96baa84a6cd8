//! Configs: data of bounded size, in one of four forms.

use super::{Report, values};
use crate::core::{Config, config::data::Type};

const BYTES_MAX: usize = 3 * 1024 * 1024;
const KEYS_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 256;

pub(super) fn check(config: &Config, report: &mut Report) {
    match config.data.as_ref().map(|data| &data.r#type) {
        Some(Some(Type::Value(text))) => size("data.value", text.len(), report),
        Some(Some(Type::ValueBytes(bytes))) => size("data.valueBytes", bytes.len(), report),
        Some(Some(Type::DataMap(data))) => {
            const PATH: &str = "data.dataMap.map";
            if data.map.is_empty() {
                return report.add(PATH, "is empty");
            }
            if !report.count(PATH, data.map.len(), KEYS_MAX) {
                return;
            }
            for (key, value) in &data.map {
                if key.is_empty() || key.len() > KEY_BYTES_MAX {
                    report.add(PATH, format!("a key has {} bytes; 1 to {KEY_BYTES_MAX}", key.len()));
                }
                if value.is_empty() {
                    report.add(&format!("{PATH}.{key}"), "is empty");
                }
            }
            let bytes: usize = data.map.iter().map(|(key, value)| key.len() + value.len()).sum();
            if bytes > BYTES_MAX {
                report.add(PATH, format!("has {bytes} bytes; at most {BYTES_MAX}"));
            }
        }
        Some(Some(Type::Attrs(attrs))) => match attrs.fields.is_empty() {
            true => report.add("data.attrs", "is empty"),
            false => values::attrs("data.attrs", Some(attrs), report),
        },
        Some(None) | None => {
            report.add("data", "missing: write it as `data.value`, `data.valueBytes`, `data.dataMap` or `data.attrs`")
        }
    }
}

fn size(path: &str, bytes: usize, report: &mut Report) {
    match bytes {
        0 => report.add(path, "is empty"),
        1..=BYTES_MAX => {}
        _ => report.add(path, format!("has {bytes} bytes; at most {BYTES_MAX}")),
    }
}
