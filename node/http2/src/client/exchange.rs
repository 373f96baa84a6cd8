//! One request and its response. The request's body goes out while the response is awaited and, if that comes early,
//! while its body is read.

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use octelium_http1::shared::{Timer, decimal, host};
use octelium_http1::{Body, BodyError, PoolLimits, SendError, Source};

use super::connection::Lease;
use super::{is_untouched, send_error};
use crate::incoming::Incoming;
use crate::sending::{Sending, Stop};

/// Headers that belong to a connection, or that the engine sets.
const OURS: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request that failed.
pub(super) struct Failed {
    pub(super) error: SendError,
    /// Whether the upstream did nothing with it.
    pub(super) is_untouched: bool,
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Self { error, is_untouched: false }
    }
}

/// The head as it is sent, and the body.
pub(super) fn head(request: Request<Body>) -> Result<(Request<()>, Body), SendError> {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err(SendError::Framing("CONNECT is not supported"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (Some(authority), None) = (hosts.next(), hosts.next()) else {
        return Err(SendError::Framing("not exactly one host header"));
    };
    host::split(authority.as_bytes()).ok_or(SendError::Framing("host"))?;
    let authority = Authority::try_from(authority.as_bytes()).map_err(|_| SendError::Framing("host"))?;
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    let path = uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    if !path.as_str().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SendError::Framing("request target"));
    }
    uri.scheme.get_or_insert(Scheme::HTTP);
    uri.authority = Some(authority);
    parts.uri = Uri::from_parts(uri).map_err(|_| SendError::Framing("request target"))?;
    parts.version = Version::HTTP_2;
    let wants_trailers = parts.headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for name in OURS {
        parts.headers.remove(name);
    }
    if wants_trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let is_usual = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = body.length().filter(|length| *length > 0 || is_usual) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok((Request::from_parts(parts, ()), body))
}

/// Sends a request and waits for the response's head.
pub(super) async fn send(
    lease: Lease,
    head: Request<()>,
    body: Body,
    limits: &PoolLimits,
) -> Result<Response<Body>, Failed> {
    let mut send = lease.send();
    let has_no_body = body.length() == Some(0);
    // Nothing left this node if the connection had ended before.
    let untouched = |error| Failed { error: send_error(error), is_untouched: true };
    let ready = tokio::time::timeout(limits.write_timeout, poll_fn(|cx| send.poll_ready(cx)));
    match ready.await {
        Ok(ready) => ready.map_err(untouched)?,
        Err(_) => return Err(SendError::Io(io::ErrorKind::TimedOut.into()).into()),
    }
    let (response, stream) = send.send_request(head, has_no_body).map_err(untouched)?;
    drop(send);
    let upload = (!has_no_body).then(|| Sending::new(stream, body, limits.write_timeout));
    let mut awaiting = Awaiting { response, upload, interims: 0, waiting: Timer::default(), limits };
    let response = match poll_fn(|cx| awaiting.poll(cx)).await {
        Ok(response) => response,
        Err(failed) => {
            if matches!(failed.error, SendError::HeadTimeout | SendError::Io(_)) {
                lease.retire();
            }
            return Err(failed);
        }
    };
    let (parts, stream) = response.into_parts();
    let length = check(&parts.headers, limits)?;
    let body = if stream.is_end_stream() {
        Body::empty()
    } else {
        let incoming = incoming(stream, length, limits);
        Body::from_source(ResponseBody { incoming, upload: awaiting.upload, _lease: lease })
    };
    Ok(Response::from_parts(parts, body))
}

fn incoming(stream: RecvStream, length: Option<u64>, limits: &PoolLimits) -> Incoming {
    Incoming::new(stream, length, limits.trailers_max, limits.body_idle_timeout)
}

/// What `h2` doesn't check. Gives the body's length.
fn check(headers: &HeaderMap, limits: &PoolLimits) -> Result<Option<u64>, SendError> {
    if headers.len() > limits.headers_max {
        return Err(SendError::Framing("too many headers"));
    }
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    if headers.values().any(|value| blank(value.as_bytes().first()) || blank(value.as_bytes().last())) {
        return Err(SendError::Framing("header value begins or ends with a space"));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(SendError::Framing("several content-length headers"));
    }
    decimal(length.as_bytes()).map(Some).ok_or(SendError::Framing("content-length is not one number"))
}

/// A response whose head hasn't come.
struct Awaiting<'a> {
    response: ResponseFuture,
    upload: Option<Sending>,
    interims: usize,
    waiting: Timer,
    limits: &'a PoolLimits,
}

impl Awaiting<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Failed>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            self.upload = None;
            match sent {
                // An upstream that wants no more of the body may have an answer all the same.
                Ok(()) | Err(Stop::Gone) => {}
                Err(Stop::Slow) => return Poll::Ready(Err(SendError::Io(io::ErrorKind::TimedOut.into()).into())),
                Err(Stop::Body(error)) => return Poll::Ready(Err(SendError::RequestBody(error).into())),
            }
        }
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            self.interims += 1;
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(SendError::Framing("101 within HTTP/2").into()));
            }
            if self.interims > self.limits.interim_responses_max {
                return Poll::Ready(Err(SendError::Framing("too many interim responses").into()));
            }
        }
        match std::pin::Pin::new(&mut self.response).poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => {
                let is_untouched = is_untouched(&error);
                Poll::Ready(Err(Failed { error: send_error(error), is_untouched }))
            }
            // While the request is being sent, the timeouts of its body and of window watch over it.
            Poll::Pending if self.upload.is_some() => Poll::Pending,
            Poll::Pending => {
                ready!(self.waiting.poll_after(self.limits.response_head_timeout, cx));
                Poll::Ready(Err(SendError::HeadTimeout.into()))
            }
        }
    }
}

/// A response's body, the rest of the request's, and their place on the connection.
struct ResponseBody {
    incoming: Incoming,
    upload: Option<Sending>,
    _lease: Lease,
}

impl ResponseBody {
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            self.upload = None;
            match sent {
                Ok(()) | Err(Stop::Gone) => {}
                Err(Stop::Slow) => return Err(BodyError::Timeout),
                Err(Stop::Body(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Source for ResponseBody {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Err(error) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        self.incoming.poll_next(cx)
    }

    fn length(&self) -> Option<u64> {
        self.incoming.length()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.incoming.take_trailers()
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        // An error ends the stream, which the response's body shows.
        self.poll_upload(cx).ok();
        Ok(())
    }
}
