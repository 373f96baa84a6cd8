//! A response's head as bytes, and how its body will end.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING};
use http::response::Parts;
use http::{StatusCode, Version};

use crate::body::Body;
use crate::date;
use crate::head::framing::decimal;
use crate::outbox::Outbox;
use crate::sending::{Framing, push_header};

/// Writes the head. `keep` says whether the connection may go on, and is cleared if the body's end forbids it.
pub(super) fn write_head(
    out: &mut Outbox,
    head: Parts,
    body: &Body,
    is_head: bool,
    version: Version,
    keep: &mut bool,
) -> Framing {
    let mut status = head.status;
    let mut headers = head.headers;
    if status.is_informational() {
        // An interim response can't be a final one, and switching protocols isn't offered: a fault of the handler.
        status = StatusCode::INTERNAL_SERVER_ERROR;
        headers = HeaderMap::new();
        *keep = false;
    }
    let replaced = status != head.status;
    let without_body = replaced || is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);

    let (framing, length) = if replaced {
        (Framing::None, Some(0))
    } else if without_body {
        (Framing::None, described_length(&headers, body, status))
    } else if let Some(length) = body.length() {
        (Framing::Length(length), Some(length))
    } else if version == Version::HTTP_11 {
        (Framing::Chunked, None)
    } else {
        *keep = false;
        (Framing::UntilClose, None)
    };

    push_status_line(out, status);
    for (name, value) in &headers {
        if !matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION) && name.as_str() != "keep-alive" {
            push_header(out, name.as_str(), value.as_bytes());
        }
    }
    if !headers.contains_key(DATE) {
        push_header(out, "date", &date::now());
    }
    if let Some(length) = length {
        out.push(b"content-length: ");
        out.push_decimal(length);
        out.push(b"\r\n");
    }
    if framing == Framing::Chunked {
        out.push(b"transfer-encoding: chunked\r\n");
    }
    if !*keep {
        out.push(b"connection: close\r\n");
    } else if version == Version::HTTP_10 {
        out.push(b"connection: keep-alive\r\n");
    }
    out.push(b"\r\n");
    framing
}

/// The length that a response without a body tells of the body it stands for.
fn described_length(headers: &HeaderMap, body: &Body, status: StatusCode) -> Option<u64> {
    if status == StatusCode::NO_CONTENT {
        return None;
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(length), None) => decimal(length.as_bytes()),
        _ => body.length().filter(|length| *length > 0),
    }
}

/// The whole answer to what never became a request.
pub(super) fn write_refusal(out: &mut Outbox, status: StatusCode) {
    push_status_line(out, status);
    push_header(out, "date", &date::now());
    out.push(b"content-length: 0\r\nconnection: close\r\n\r\n");
}

fn push_status_line(out: &mut Outbox, status: StatusCode) {
    if status == StatusCode::OK {
        return out.push(b"HTTP/1.1 200 OK\r\n");
    }
    out.push(b"HTTP/1.1 ");
    out.push(status.as_str().as_bytes());
    out.push(b" ");
    out.push(status.canonical_reason().unwrap_or_default().as_bytes());
    out.push(b"\r\n");
}
