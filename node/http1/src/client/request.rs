//! A request's head as bytes for the upstream, and how its body will end.

use http::Method;

use crate::body::Body;
use crate::headers::Kind;
use crate::message::Request;
use crate::outbox::Outbox;
use crate::sending::{Framing, Sending, push_header};

/// Writes the head and takes the body; an error if the request can't be written as one HTTP/1 message.
pub(super) fn write(request: &Request, body: Body) -> Result<Sending, &'static str> {
    let Request { method, target, headers, wants_websocket, .. } = request;
    if method == Method::CONNECT {
        return Err("CONNECT is not supported");
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err("request target");
    }

    let mut out = Outbox::new();
    out.push(method.as_str().as_bytes());
    out.push(b" ");
    if !target.starts_with('/') && target != "*" {
        out.push(b"/");
    }
    out.push(target.as_bytes());
    out.push(b" HTTP/1.1\r\n");
    let mut hosts = headers.get_all("host");
    if let Some(host) = hosts.next() {
        push_header(&mut out, "host", host);
        if hosts.next().is_some() {
            return Err("several host headers");
        }
    }
    out.push_with(|out| headers.write(out, |kind| kind == Kind::Other));
    if *wants_websocket {
        out.push(b"connection: Upgrade\r\nupgrade: websocket\r\n");
    }
    let framing = match body.length() {
        Some(0) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => Framing::None,
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
