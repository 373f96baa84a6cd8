//! One stream: a request, its handler, and the response as fast as the client gives window for it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode, Version};
use octelium_http1::shared::host;
use octelium_http1::{Body, Handler, Headers, InterimSink, Interims};

use crate::Limits;
use crate::incoming::Incoming;
use crate::request::{self, Told};
use crate::response;
use crate::sending::{Sending, Stop};

/// More hints at once than these are dropped.
const HINTS_MAX: usize = 8;

/// Answers a stream. Dropped, it gives the stream up.
pub(crate) async fn answer<H: Handler>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    handler: &H,
    limits: &Limits,
) -> Result<(), Stop> {
    let is_head = request.method() == Method::HEAD;
    let (request, told) = match request::check(request, limits) {
        Ok(checked) => checked,
        Err(refusal) => {
            handler.refused(&refusal, b"");
            // What `h2` reset meanwhile needs no answer.
            return respond.send_response(response::answer(refusal.status), true).map(drop).map_err(|_| Stop::Gone);
        }
    };
    let wanted = told.expects_continue.then(|| Rc::new(Cell::new(false)));
    let (parts, stream) = request.into_parts();
    let hints = Rc::new(Hints::default());
    let host = parts.headers.get(HOST).and_then(|value| host::split(value.as_bytes()));
    let request = octelium_http1::Request {
        host: host.map(|(host, _)| host::normal(host)).unwrap_or_default(),
        target: parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string),
        method: parts.method,
        version: Version::HTTP_2,
        headers: Headers::from(&parts.headers),
        body: body(stream, told, wanted.clone(), limits),
        wants_websocket: false,
        interims: Interims::new(hints.clone(), 0),
    };
    // Work for those who don't wait for it is what a flood of resets is after.
    if poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await {
        handler.given_up(request);
        return Err(Stop::Gone);
    }
    let octelium_http1::Response { status, headers, body, .. } =
        handle(handler.handle(request), &mut respond, wanted, &hints).await?;
    let (head, is_all) = response::head(status, headers.to_map(), &body, is_head);
    let stream = respond.send_response(head, is_all).map_err(|_| Stop::Gone)?;
    if is_all {
        return Ok(());
    }
    Sending::new(stream, body, limits.write_timeout).run().await
}

/// Interim responses that wait for the next turn of their stream.
#[derive(Default)]
struct Hints(RefCell<Vec<Response<()>>>);

impl InterimSink for Hints {
    fn push(&self, _: u64, status: StatusCode, headers: &Headers) {
        let waiting = &mut *self.0.borrow_mut();
        if waiting.len() < HINTS_MAX {
            let mut hint = Response::new(());
            *hint.status_mut() = status;
            *hint.version_mut() = Version::HTTP_2;
            *hint.headers_mut() = headers.to_map();
            waiting.push(hint);
        }
    }
}

fn body(stream: RecvStream, told: Told, wanted: Option<Rc<Cell<bool>>>, limits: &Limits) -> Body {
    if stream.is_end_stream() {
        return Body::empty();
    }
    let mut incoming = Incoming::new(stream, told.length, limits.trailers_max, limits.body_idle_timeout);
    incoming.wanted = wanted;
    Body::from_source(incoming)
}

async fn handle(
    handling: impl Future<Output = octelium_http1::Response>,
    respond: &mut SendResponse<Bytes>,
    mut wanted: Option<Rc<Cell<bool>>>,
    hints: &Hints,
) -> Result<octelium_http1::Response, Stop> {
    let mut handling = std::pin::pin!(handling);
    poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Ok(response));
        }
        if wanted.as_ref().is_some_and(|wanted| wanted.get()) {
            wanted = None;
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::CONTINUE;
            if respond.send_informational(interim).is_err() {
                return Poll::Ready(Err(Stop::Gone));
            }
        }
        for hint in hints.0.take() {
            if respond.send_informational(hint).is_err() {
                return Poll::Ready(Err(Stop::Gone));
            }
        }
        respond.poll_reset(cx).map(|_| Err(Stop::Gone))
    })
    .await
}
