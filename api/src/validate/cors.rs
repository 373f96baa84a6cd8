//! CORS: origins that can be compared, and lists that browsers can read.

use std::collections::HashSet;

use super::{Report, headers::is_token};
use crate::{core::service::spec::config::http::Cors, origin::Origin};

const ORIGINS_MAX: usize = 64;
const ORIGIN_BYTES_MAX: usize = 256;
const LIST_BYTES_MAX: usize = 2048;
/// About 31 years; browsers cap it much lower.
const MAX_AGE_DIGITS_MAX: usize = 9;

pub(super) fn check(path: &str, cors: &Cors, report: &mut Report) {
    let list = format!("{path}.allowOriginStringMatch");
    if report.count(&list, cors.allow_origin_string_match.len(), ORIGINS_MAX) {
        let mut seen = HashSet::new();
        for (index, text) in cors.allow_origin_string_match.iter().enumerate() {
            let path = format!("{list}[{index}]");
            if text.len() > ORIGIN_BYTES_MAX {
                report.length(&path, text, ORIGIN_BYTES_MAX);
                continue;
            }
            let origin = Origin::parse(text);
            if origin.is_none() && text != "*" {
                report.add(&path, "not an origin, like `https://app.example.com`, nor `*`");
            } else if !seen.insert(origin) {
                report.add(&path, "is given twice");
            }
        }
    }
    for (member, text) in [
        ("allowMethods", &cors.allow_methods),
        ("allowHeaders", &cors.allow_headers),
        ("exposeHeaders", &cors.expose_headers),
    ] {
        let path = format!("{path}.{member}");
        let is_list = text
            .split(',')
            .map(|item| item.trim_matches(' '))
            .all(|item| !item.is_empty() && item.bytes().all(is_token));
        if !text.is_empty() && !is_list {
            report.add(&path, "not a list of names separated by commas, like `GET, POST`");
        }
        report.length(&path, text, LIST_BYTES_MAX);
    }
    let age = &cors.max_age;
    if !age.is_empty() && (age.len() > MAX_AGE_DIGITS_MAX || !age.bytes().all(|byte| byte.is_ascii_digit())) {
        report.add(&format!("{path}.maxAge"), "not a number of seconds, like \"600\"");
    }
}
