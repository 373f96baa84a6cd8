//! Fixed answers.

use super::{Report, headers::is_token};
use crate::core::service::spec::config::http::response::{Direct, direct};

const STATUS: std::ops::RangeInclusive<i32> = 200..=599;
const MEDIA_TYPE_BYTES_MAX: usize = 128;
const TEXT_BYTES_MAX: usize = 50_000;
const BYTES_MAX: usize = 35_000;
/// RFC 9110 §15.3.5, §15.3.6, §15.4.5.
const WITHOUT_BODY: [i32; 3] = [204, 205, 304];

pub(super) fn check(path: &str, direct: &Direct, report: &mut Report) {
    let status = direct.status_code;
    if status != 0 && !STATUS.contains(&status) {
        report.add(&format!("{path}.statusCode"), format!("{status} is out of range; 200 to 599"));
    }
    if !direct.content_type.is_empty() {
        let path = format!("{path}.contentType");
        if !is_media_type(&direct.content_type) {
            report.add(&path, "not a media type, like `text/plain; charset=utf-8`");
        }
        report.length(&path, &direct.content_type, MEDIA_TYPE_BYTES_MAX);
    }
    let (member, bytes) = match &direct.r#type {
        None => return report.add(path, "needs `inline` or `inlineBytes`; write `inline: \"\"` for an empty body"),
        Some(direct::Type::Inline(text)) => {
            report.length(&format!("{path}.inline"), text, TEXT_BYTES_MAX);
            ("inline", text.len())
        }
        Some(direct::Type::InlineBytes(bytes)) => {
            if bytes.len() > BYTES_MAX {
                report.add(&format!("{path}.inlineBytes"), format!("has {} bytes; at most {BYTES_MAX}", bytes.len()));
            }
            ("inlineBytes", bytes.len())
        }
    };
    if bytes > 0 && WITHOUT_BODY.contains(&status) {
        report.add(&format!("{path}.{member}"), format!("an answer with status {status} can't have a body"));
    }
}

fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').map_or((text, ""), |(essence, rest)| (essence.trim_end(), rest));
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
    let is_essence = essence.split_once('/').is_some_and(|(kind, subkind)| is_token(kind) && is_token(subkind));
    is_essence && parameters.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
