//! A request's head as bytes for the upstream, and how its body will end.

use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;

use crate::body::Body;
use crate::outbox::Outbox;
use crate::sending::{Framing, Sending, push_header};

/// Writes the head and takes the body; an error if the request can't be written as one HTTP/1 message.
pub(super) fn write(head: &Parts, body: Body) -> Result<Sending, &'static str> {
    if head.method == Method::CONNECT {
        return Err("CONNECT is not supported");
    }
    let target = head.uri.path_and_query().map_or("/", |path| path.as_str());
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err("request target");
    }
    if head.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err("several host headers");
    }

    let mut out = Outbox::with_capacity(2 * 1024);
    out.push(head.method.as_str().as_bytes());
    out.push(b" ");
    if !target.starts_with('/') && target != "*" {
        out.push(b"/");
    }
    out.push(target.as_bytes());
    out.push(b" HTTP/1.1\r\n");
    if let Some(host) = head.headers.get(HOST) {
        push_header(&mut out, "host", host.as_bytes());
    }
    for (name, value) in &head.headers {
        if name != HOST && !is_ours(name) {
            push_header(&mut out, name.as_str(), value.as_bytes());
        }
    }
    let framing = match body.length() {
        Some(0) if !matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => Framing::None,
        Some(length) => {
            out.push(b"content-length: ");
            out.push_decimal(length);
            out.push(b"\r\n");
            Framing::Length(length)
        }
        None => {
            out.push(b"transfer-encoding: chunked\r\n");
            Framing::Chunked
        }
    };
    out.push(b"\r\n");
    Ok(Sending::new(out, body, framing))
}

/// Headers that say how this connection works, or ask the upstream for what this engine doesn't do.
fn is_ours(name: &HeaderName) -> bool {
    matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE | EXPECT)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
