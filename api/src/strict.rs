//! A gRPC codec that refuses what this version doesn't know.
//!
//! Protocol Buffers drop unknown fields silently; here a field that is dropped could be the one that denies.

use std::marker::PhantomData;

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, Value};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstCodec;

use crate::descriptor;

/// Encodes as usual; decodes only messages without unknown fields.
#[derive(Debug, Clone)]
pub struct StrictCodec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for StrictCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for StrictCodec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Name + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = <ProstCodec<E, D> as Codec>::Encoder;
    type Decoder = StrictDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<E, D>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// See [`StrictCodec`].
#[derive(Debug, Clone)]
pub struct StrictDecoder<D>(PhantomData<D>);

impl<D: Message + Name + Default> Decoder for StrictDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        use bytes::Buf;
        let bytes = src.copy_to_bytes(src.remaining());
        decode(&bytes).map(Some).map_err(Status::invalid_argument)
    }
}

/// Decodes `bytes`, or says in a sentence what is wrong with them, unknown fields included.
pub fn decode<D: Message + Name + Default>(bytes: &[u8]) -> Result<D, String> {
    let message = D::decode(bytes).map_err(|error| format!("malformed {}: {error}", D::NAME))?;
    let dynamic = DynamicMessage::decode(descriptor::message::<D>(), bytes)
        .map_err(|error| format!("malformed {}: {error}", D::NAME))?;
    match unknown(&dynamic, String::new()) {
        Some(path) => Err(format!("{}: this server does not know {path}; nothing was changed", D::NAME)),
        None => Ok(message),
    }
}

/// The path of the first unknown field, e.g. `spec.config field number 77`.
fn unknown(message: &DynamicMessage, path: String) -> Option<String> {
    if let Some(field) = message.unknown_fields().next() {
        let at = if path.is_empty() { String::new() } else { format!("{path}: ") };
        return Some(format!("{at}field number {}", field.number()));
    }
    message.fields().find_map(|(field, value)| {
        let at = if path.is_empty() { field.name().to_owned() } else { format!("{path}.{}", field.name()) };
        unknown_in(value, at)
    })
}

fn unknown_in(value: &Value, path: String) -> Option<String> {
    match value {
        Value::Message(message) => unknown(message, path),
        Value::List(items) => {
            items.iter().enumerate().find_map(|(index, item)| unknown_in(item, format!("{path}[{index}]")))
        }
        Value::Map(entries) => entries.values().find_map(|item| unknown_in(item, path.clone())),
        _ => None,
    }
}
