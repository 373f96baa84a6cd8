//! Reads a request's body whole, where a rule or the Service asks for it. All else is streamed.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use octelium_actors::router::{self, Route, schema::Schema};
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

    /// Takes more, or gives some of it back; returns whether there is room.
    fn resize(&mut self, bytes: usize) -> bool {
        match bytes.checked_sub(self.0) {
            Some(more) => Self::take(more).is_some_and(|mut share| {
                self.0 += std::mem::take(&mut share.0);
                true
            }),
            None => {
                BUFFERED_BYTES.fetch_sub(self.0 - bytes, Ordering::Relaxed);
                self.0 = bytes;
                true
            }
        }
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
    let factor = if reads.body_map { MAP_FACTOR } else { 1 };
    let most = declared.map_or(limit, |length| usize::try_from(length).unwrap_or(limit));
    let mut share = Reservation::take(most.saturating_mul(factor)).ok_or_else(crowded)?;
    let body = std::mem::take(&mut exchange.body);
    let collected = under_way::or_ended(exchange, pin!(body.collect(limit))).await?;
    let bytes = collected.map_err(|error| match error {
        CollectError::TooLarge => too_large(limit),
        CollectError::Body(error) => Rejection::new(Code::BodyBroken, error.to_string()),
    })?;
    share.resize(bytes.len().saturating_mul(factor));
    if wants_map && !bytes.is_empty() {
        let invalid = |error| Rejection::new(Code::BodyInvalid, error);
        if reads.body_map {
            let (map, kept) = apart(&bytes, share, |bytes, _| json_body::object(bytes)).await?;
            (exchange.body_map, share) = (Some(map.map_err(invalid)?), kept);
        } else {
            let (checked, kept) = apart(&bytes, share, |bytes, _| json_body::check(bytes)).await?;
            (_, share) = (checked.map_err(invalid)?, kept);
        }
    }
    // Held as long as the body is: the exchange ends with its answer.
    exchange.reserved = Some(share);
    exchange.body = if bytes.is_empty() { Body::empty() } else { Body::full(Bytes::clone(&bytes)) };
    exchange.buffered = Some(bytes);
    Ok(())
}

/// Whether the body fits a schema; it is read whole for that, if that wasn't done before. What rules see of it stays the same.
///
/// # Errors
/// Too large, broken or compressed.
pub async fn fits(
    exchange: &mut Exchange,
    route: &Route,
    schema: &Arc<Schema>,
) -> Result<Result<(), String>, Rejection> {
    if !exchange.body.is_end() && is_encoded(exchange) {
        return Err(encoded());
    }
    let was_buffered = exchange.buffered.is_some();
    if !was_buffered {
        buffer(exchange, route, Reads { body: true, ..Reads::default() }).await?;
    }
    let bytes = match was_buffered {
        true => exchange.buffered.clone(),
        false => exchange.buffered.take(),
    };
    let bytes = bytes.unwrap_or_default();
    if bytes.len() > POLICY_BYTES_MAX {
        return Err(too_large(POLICY_BYTES_MAX));
    }
    let share = Reservation::take(bytes.len()).ok_or_else(crowded)?;
    let schema = Arc::clone(schema);
    let check = move |bytes: &[u8], share: &mut Reservation| {
        let shape = match json_body::shape(bytes) {
            Ok(shape) => shape,
            Err(error) => return Ok(Err(error)),
        };
        if !share.resize(bytes.len().saturating_add(shape.bytes())) {
            return Err(crowded());
        }
        let value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(schema.check(&value, shape.depth))
    };
    let (result, _) = apart(&bytes, share, check).await?;
    result
}

/// What `look` makes of a body: a large one on another thread. The share is the body's, also when the caller is gone meanwhile.
async fn apart<T: Send + 'static>(
    bytes: &Bytes,
    mut share: Reservation,
    look: impl FnOnce(&[u8], &mut Reservation) -> T + Send + 'static,
) -> Result<(T, Reservation), Rejection> {
    if bytes.len() <= INLINE_BYTES_MAX {
        return Ok((look(bytes, &mut share), share));
    }
    let bytes = bytes.clone();
    let looking = tokio::task::spawn_blocking(move || (look(&bytes, &mut share), share));
    looking.await.map_err(|error| Rejection::new(Code::Overloaded, error.to_string()))
}

fn crowded() -> Rejection {
    Rejection::new(Code::Overloaded, "the process buffers too many bodies already")
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
