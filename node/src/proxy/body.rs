//! Reads a request's body whole, where a rule or the Service asks for it. All else is streamed.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use octelium_actors::router::{self, Route};
use octelium_http1::{Body, CollectError};
use octelium_policy::Reads;

use super::{
    exchange::Exchange,
    json_body,
    respond::{Code, Rejection},
    under_way,
};

/// Rules are shown no larger bodies: a larger one is refused, never hidden from them.
const POLICY_BYTES_MAX: usize = 2 << 20;
/// What a JSON document takes once it can be looked into, as a multiple of its text.
const MAP_FACTOR: usize = 16;
/// A larger document is read on another thread: the worker has other requests to see to.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// All buffered bodies of the process together.
const PROCESS_BYTES_MAX: usize = 256 << 20;

static BUFFERED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A share of the process's memory for bodies, given back when dropped.
pub struct Reservation(usize);

impl Reservation {
    fn take(bytes: usize) -> Option<Self> {
        let taken = BUFFERED_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|total| *total <= PROCESS_BYTES_MAX)
        });
        taken.ok().map(|_| Self(bytes))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        BUFFERED_BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Buffers the body if `reads` or the Service's settings ask for it.
///
/// # Errors
/// Too large, broken, compressed, or not the JSON that is needed.
pub async fn buffer(exchange: &mut Exchange, route: &Route, reads: Reads) -> Result<(), Rejection> {
    let settings: router::Body = route.body;
    let wants_map = reads.body_map || settings.json;
    if !(settings.buffer || settings.json || reads.body || reads.body_map) {
        return Ok(());
    }
    let by_rules = reads.body || reads.body_map;
    let limit = if by_rules { settings.bytes_max.min(POLICY_BYTES_MAX) } else { settings.bytes_max };
    let declared = exchange.body.length();
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    if wants_map && !exchange.body.is_end() && is_encoded(exchange) {
        return Err(encoded());
    }
    let reserved = declared.map_or(limit, |length| usize::try_from(length).unwrap_or(limit));
    let reserved = if reads.body_map { reserved.saturating_mul(MAP_FACTOR) } else { reserved };
    // Held as long as the body is: the exchange ends with its answer.
    exchange.reserved = Some(reserve(reserved)?);
    let body = std::mem::take(&mut exchange.body);
    let collected = under_way::or_ended(exchange, pin!(body.collect(limit))).await?;
    let bytes = collected.map_err(|error| match error {
        CollectError::TooLarge => too_large(limit),
        CollectError::Body(error) => Rejection::new(Code::BodyBroken, error.to_string()),
    })?;
    if wants_map && !bytes.is_empty() {
        let invalid = |error| Rejection::new(Code::BodyInvalid, error);
        if reads.body_map {
            exchange.body_map = Some(read(&bytes, json_body::object).await?.map_err(invalid)?);
        } else {
            read(&bytes, json_body::check).await?.map_err(invalid)?;
        }
    }
    exchange.body = if bytes.is_empty() { Body::empty() } else { Body::full(Bytes::clone(&bytes)) };
    exchange.buffered = Some(bytes);
    Ok(())
}

/// What `look` makes of the body, which is read whole for it if that wasn't done before.
///
/// # Errors
/// Too large, broken or compressed.
pub async fn looked_into<T: Send + 'static>(
    exchange: &mut Exchange,
    route: &Route,
    look: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Rejection> {
    if !exchange.body.is_end() && is_encoded(exchange) {
        return Err(encoded());
    }
    if exchange.buffered.is_none() {
        buffer(exchange, route, Reads { body: true, ..Reads::default() }).await?;
    }
    let bytes = exchange.buffered.clone().unwrap_or_default();
    let _parsed = reserve(bytes.len().saturating_mul(MAP_FACTOR))?;
    read(&bytes, look).await
}

fn reserve(bytes: usize) -> Result<Reservation, Rejection> {
    Reservation::take(bytes)
        .ok_or_else(|| Rejection::new(Code::Overloaded, "the process buffers too many bodies already"))
}

/// What `parse` makes of a body.
async fn read<T: Send + 'static>(
    bytes: &Bytes,
    parse: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Rejection> {
    if bytes.len() <= INLINE_BYTES_MAX {
        return Ok(parse(bytes));
    }
    let bytes = bytes.clone();
    let parsing = tokio::task::spawn_blocking(move || parse(&bytes));
    parsing.await.map_err(|error| Rejection::new(Code::Overloaded, error.to_string()))
}

fn encoded() -> Rejection {
    Rejection::new(Code::BodyEncoded, "a rule reads the body, which has a Content-Encoding")
}

fn is_encoded(exchange: &Exchange) -> bool {
    exchange.headers.get_all("content-encoding").any(|encoding| !encoding.eq_ignore_ascii_case(b"identity"))
}

fn too_large(limit: usize) -> Rejection {
    Rejection::new(Code::BodyTooLarge, format!("the body has more than {limit} bytes"))
}
