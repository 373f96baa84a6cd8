//! A response's head as bytes, and how its body will end.

use http::{StatusCode, Version};

use crate::body::Body;
use crate::date;
use crate::head::framing::decimal;
use crate::headers::Headers;
use crate::message::Response;
use crate::outbox::Outbox;
use crate::sending::{Framing, push_header};

/// Writes the head. `keep` says whether the connection may go on, and is cleared if the body's end forbids it.
pub(super) fn write_head(
    out: &mut Outbox,
    response: &Response,
    is_head: bool,
    version: Version,
    keep: &mut bool,
) -> Framing {
    let Response { status, headers, body, .. } = response;
    let mut status = *status;
    let replaced = status.is_informational();
    if replaced {
        // An interim response can't be a final one, and nobody asked to switch protocols: a fault of the handler.
        status = StatusCode::INTERNAL_SERVER_ERROR;
        *keep = false;
    }
    let without_body = replaced || is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);

    let (framing, length) = if replaced {
        (Framing::None, Some(0))
    } else if without_body {
        (Framing::None, described_length(headers, body, status))
    } else if let Some(length) = body.length() {
        (Framing::Length(length), Some(length))
    } else if version == Version::HTTP_11 {
        (Framing::Chunked, None)
    } else {
        *keep = false;
        (Framing::UntilClose, None)
    };

    push_status_line(out, status);
    if !replaced {
        push_headers(out, headers);
    }
    if replaced || !headers.contains_key("date") {
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

/// Writes the head after which the connection speaks WebSocket.
pub(super) fn write_switch(out: &mut Outbox, headers: &Headers) {
    write_interim_head(out, StatusCode::SWITCHING_PROTOCOLS, headers);
    out.push(b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n");
}

/// Writes an interim response.
pub(super) fn write_interim(out: &mut Outbox, status: StatusCode, headers: &Headers) {
    write_interim_head(out, status, headers);
    out.push(b"\r\n");
}

fn write_interim_head(out: &mut Outbox, status: StatusCode, headers: &Headers) {
    push_status_line(out, status);
    push_headers(out, headers);
}

fn push_headers(out: &mut Outbox, headers: &Headers) {
    out.push_with(|out| headers.write(out, |kind| !kind.is_ours()));
}

/// The length that a response without a body tells of the body it stands for.
fn described_length(headers: &Headers, body: &Body, status: StatusCode) -> Option<u64> {
    if status == StatusCode::NO_CONTENT {
        return None;
    }
    if headers.contains_key("content-length") {
        return headers.get_one("content-length").and_then(decimal);
    }
    body.length().filter(|length| *length > 0)
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
