//! A response's head as it goes to the client, and how its body ends.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode, Version};
use octelium_http1::Body;
use octelium_http1::shared::{date, decimal};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The head to send, and whether it is all of the response.
pub(crate) fn head(status: StatusCode, mut headers: HeaderMap, body: &Body, is_head: bool) -> (Response<()>, bool) {
    if status.is_informational() {
        // An interim response can't be a final one: a fault of the handler.
        return (answer(StatusCode::INTERNAL_SERVER_ERROR), true);
    }
    scrub(&mut headers);
    let has_no_body = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = match body.length() {
        _ if status == StatusCode::NO_CONTENT => None,
        length if has_no_body => described_length(&headers).or(length.filter(|length| *length > 0)),
        length => length,
    };
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    set_date(&mut headers);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = headers;
    let is_all = has_no_body || body.length() == Some(0);
    (response, is_all)
}

/// A whole answer without a body.
pub(crate) fn answer(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    set_date(response.headers_mut());
    response
}

fn set_date(headers: &mut HeaderMap) {
    if !headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::from_bytes(&date())
    {
        headers.insert(DATE, date);
    }
}

/// Removes what belongs to the connection that the response came over (RFC 9113 §8.2.2).
fn scrub(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<_> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
}

/// The length that a response without a body tells of the body it stands for.
fn described_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(length), None) => decimal(length.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_carries_nothing_of_another_connection() {
        type Fields = &'static [(&'static str, &'static str)];
        type Case = (u16, Fields, &'static str, bool, &'static [&'static str], bool);
        let cases: [Case; 8] = [
            (200, &[("content-length", "9")], "abc", false, &["content-length: 3"], false),
            (200, &[("transfer-encoding", "chunked"), ("a", "b")], "", false, &["a: b", "content-length: 0"], true),
            (200, &[("connection", "close, X-Hop"), ("x-hop", "1")], "a", false, &["content-length: 1"], false),
            (
                200,
                &[("keep-alive", "1"), ("upgrade", "h2c"), ("proxy-connection", "a")],
                "a",
                true,
                &["content-length: 1"],
                true,
            ),
            (200, &[("content-length", "9")], "", true, &["content-length: 9"], true),
            (204, &[("content-length", "9")], "", false, &[], true),
            (304, &[("content-length", "9")], "", false, &["content-length: 9"], true),
            (101, &[("a", "b")], "abc", false, &["content-length: 0"], true),
        ];
        for (status, headers, body, is_head, expected, is_all) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            let lines = headers.iter();
            let lines = lines.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let body = Body::full(body);
            let (found, ends) = head(status, lines.collect(), &body, is_head);
            let found = found.headers().iter().filter(|(name, _)| *name != DATE);
            let found: Vec<_> = found.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            assert_eq!(
                (found, ends),
                (expected.iter().map(ToString::to_string).collect(), is_all),
                "{status} {headers:?}"
            );
        }
    }
}
