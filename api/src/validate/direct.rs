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
    check_status(path, direct.status_code, report);
    if !direct.content_type.is_empty() {
        let path = format!("{path}.contentType");
        if !is_media_type(&direct.content_type) {
            report.add(&path, "not a media type, like `text/plain; charset=utf-8`");
        }
        report.length(&path, &direct.content_type, MEDIA_TYPE_BYTES_MAX);
    }
    let body = match &direct.r#type {
        None => return report.add(path, "needs `inline` or `inlineBytes`; write `inline: \"\"` for an empty body"),
        Some(direct::Type::Inline(text)) => Body::Inline(text),
        Some(direct::Type::InlineBytes(bytes)) => Body::InlineBytes(bytes),
    };
    check_body(path, direct.status_code, &body, report);
}

/// A body as it is written.
pub(super) enum Body<'b> {
    Inline(&'b str),
    InlineBytes(&'b [u8]),
}

/// The status of an answer; 0 if it has its default.
pub(super) fn check_status(path: &str, status: i32, report: &mut Report) {
    if status != 0 && !STATUS.contains(&status) {
        report.add(&format!("{path}.statusCode"), format!("{status} is out of range; 200 to 599"));
    }
}

/// The body of an answer with this status, under `inline` or `inlineBytes` of `path`.
pub(super) fn check_body(path: &str, status: i32, body: &Body<'_>, report: &mut Report) {
    let (member, bytes, bytes_max) = match body {
        Body::Inline(text) => ("inline", text.len(), TEXT_BYTES_MAX),
        Body::InlineBytes(bytes) => ("inlineBytes", bytes.len(), BYTES_MAX),
    };
    let path = format!("{path}.{member}");
    if bytes > bytes_max {
        report.add(&path, format!("has {bytes} bytes; at most {bytes_max}"));
    }
    if bytes > 0 && WITHOUT_BODY.contains(&status) {
        report.add(&path, format!("an answer with status {status} can't have a body"));
    }
}

fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').map_or((text, ""), |(essence, rest)| (essence.trim_end(), rest));
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
    let is_essence = essence.split_once('/').is_some_and(|(kind, subkind)| is_token(kind) && is_token(subkind));
    is_essence && parameters.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
