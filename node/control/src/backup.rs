//! The whole configuration in one file, and back.
//!
//! A backup holds what administrators write, with the data of Secrets and Configs, what makes Credentials' tokens valid, and the
//! cluster's keys: with its passphrase it is as good as the cluster. It holds no Sessions, and nothing that the cluster itself
//! makes.

mod file;
mod restore;

use octelium_api::{Kind, Object};
use octelium_consensus::State;
use prost::Message;
use prost_types::Timestamp;
use tonic::Code;
use zeroize::Zeroizing;

pub use restore::{Upload, restore};

use crate::{
    Inner, apply::ANSWER_PREFIX, auth::credential, clock::Now, nodes, refusal::Refusal, rotation::MIXED_KEY, seal,
};

const PASSPHRASE_BYTES: std::ops::RangeInclusive<usize> = 12..=1024;

/// One after the other in a file; see [`file`].
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(oneof = "Content", tags = "1, 2, 3, 4")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    /// First.
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Resource(Resource),
    #[prost(message, tag = "3")]
    Key(Key),
    /// Last: how many records came before it.
    #[prost(uint64, tag = "4")]
    End(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(message, optional, tag = "1")]
    created_at: Option<Timestamp>,
    #[prost(string, tag = "2")]
    domain: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "vec", tag = "2")]
    object: Vec<u8>,
    /// See [`seal::open_data`].
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Key {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

/// The kinds of a backup; Policies go by their depth among each other.
const KINDS: [Kind; 10] = Kind::WRITTEN;

/// The file. Takes a second or so: the passphrase is stretched.
pub fn create(inner: &Inner, passphrase: &[u8]) -> Result<Vec<u8>, Refusal> {
    check(passphrase)?;
    let records = records(inner, &inner.store.state(), inner.store.now())?;
    file::seal(&records, passphrase).map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))
}

fn check(passphrase: &[u8]) -> Result<(), Refusal> {
    if PASSPHRASE_BYTES.contains(&passphrase.len()) {
        return Ok(());
    }
    let (min, max) = (PASSPHRASE_BYTES.start(), PASSPHRASE_BYTES.end());
    Err(Refusal::at("passphrase", format!("has {} bytes; {min} to {max}", passphrase.len())))
}

/// Records under way into a file.
#[derive(Default)]
struct Records {
    bytes: Zeroizing<Vec<u8>>,
    count: u64,
}

impl Records {
    fn add(&mut self, content: Content) -> Result<(), Refusal> {
        self.count += 1;
        let record = Record { content: Some(content) };
        let encoded = record.encode_length_delimited(&mut *self.bytes);
        encoded.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()))
    }
}

fn records(inner: &Inner, state: &State, now: Now) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let damaged =
        |what: String| Refusal::new(Code::FailedPrecondition, format!("{what} can't be opened: it is damaged"));
    let mut records = Records::default();
    records.add(Content::Head(Head { created_at: Some(now.timestamp()), domain: inner.store.domain.to_string() }))?;
    for kind in KINDS {
        for stored in state.list(kind).filter(|stored| is_kept(&stored.object, now)) {
            let data = match &stored.sealed {
                None => None,
                Some(_) => {
                    let opened = seal::open_data(&inner.store.sealing, stored);
                    let opened = opened.ok_or_else(|| damaged(format!("{kind} `{}`", stored.object.name())))?;
                    Some(opened.to_vec())
                }
            };
            let object = stored.object.encode();
            records.add(Content::Resource(Resource { kind: kind.name().to_owned(), object, data }))?;
        }
    }
    for (name, sealed) in state.keys().filter(|(name, _)| is_kept_key(name)) {
        let key = seal::open_key(&inner.store.sealing, name, sealed).ok_or_else(|| damaged(format!("key `{name}`")))?;
        records.add(Content::Key(Key { name: name.to_owned(), key: key.to_vec() }))?;
    }
    records.add(Content::End(records.count))?;
    Ok(records.bytes)
}

/// Whether a resource belongs into a backup: what nobody may change is made by every cluster, what has expired is of no use.
fn is_kept(object: &Object, now: Now) -> bool {
    let is_system = object.metadata().is_some_and(|metadata| metadata.is_system);
    match object {
        Object::ClusterConfig(_) => true,
        Object::Credential(resource) => {
            !is_system && !resource.spec.as_ref().is_some_and(|spec| credential::is_expired(spec, now))
        }
        _ => !is_system,
    }
}

/// Whether a key belongs into a backup: answers of changes and notes about keys are this cluster's alone.
fn is_kept_key(name: &str) -> bool {
    !name.starts_with(ANSWER_PREFIX) && name != MIXED_KEY && !nodes::is_of_nodes(name)
}
