//! One entry in a segment: a head of 40 bytes, then the payload.
//!
//! Head: length of the payload u32, CRC-32 u32, batch u64, index u64, term u64, node u64, all little-endian. The checksum
//! covers all but itself. `batch` is the offset of the first record that was written by the same write: a flush covers whole
//! batches, so a damaged record before the start of a later batch can't be a torn write.

use bytes::Bytes;
use openraft::{EntryPayload, vote::RaftLeaderId};
use prost::Message;

use crate::{
    durable::{u32_at, u64_at},
    form,
    raft::{COMMAND_BYTES_MAX, Entry, LeaderId, LogId, Membership, Proposal},
};

/// The bytes before the payload.
pub const HEAD_BYTES: usize = 40;
/// No payload is longer: a command and its tag, or a membership.
pub const PAYLOAD_BYTES_MAX: usize = COMMAND_BYTES_MAX + 1;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A record that was read, its checksum found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub log_id: LogId,
    /// The offset of the first record of its batch.
    pub batch: u64,
    pub payload: &'a [u8],
}

/// Appends one record to `into`.
pub fn write(into: &mut Vec<u8>, batch: u64, log_id: LogId, payload: &[u8]) {
    let start = into.len();
    let length = u32::try_from(payload.len()).expect("payloads are limited before they get here");
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    for number in [batch, log_id.index, log_id.leader_id.term, log_id.leader_id.node_id] {
        into.extend_from_slice(&number.to_le_bytes());
    }
    into.extend_from_slice(payload);
    let crc = checksum(&into[start..]);
    into[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The record at the start of `bytes`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(bytes: &[u8]) -> Result<Record<'_>, &'static str> {
    if bytes.len() < HEAD_BYTES {
        return Err("the record's head is cut off");
    }
    let length = u32_at(bytes, 0) as usize;
    if length == 0 || length > PAYLOAD_BYTES_MAX {
        return Err("the record's length is impossible");
    }
    let Some(record) = bytes.get(..HEAD_BYTES + length) else {
        return Err("the record is cut off");
    };
    if checksum(record) != u32_at(record, 4) {
        return Err("the record's checksum is wrong");
    }
    let leader_id = LeaderId::new(u64_at(record, 24), u64_at(record, 32));
    Ok(Record {
        log_id: LogId::new(leader_id, u64_at(record, 16)),
        batch: u64_at(record, 8),
        payload: &record[HEAD_BYTES..],
    })
}

/// The index that a record at the start of `bytes` claims, before its checksum is looked at.
pub fn claimed_index(bytes: &[u8]) -> Option<u64> {
    (bytes.len() >= HEAD_BYTES).then(|| u64_at(bytes, 16))
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// The payload of an entry: a tag, then its stored form.
pub fn encode(entry: &Entry) -> Vec<u8> {
    match &entry.payload {
        EntryPayload::Blank => vec![BLANK],
        EntryPayload::Normal(proposal) => tagged(COMMAND, &proposal.bytes),
        EntryPayload::Membership(membership) => tagged(MEMBERSHIP, &form::Membership::from(membership).encode_to_vec()),
    }
}

/// The entry with this payload.
///
/// # Errors
/// A sentence, if this program can't read it.
pub fn decode(log_id: LogId, payload: &[u8]) -> Result<Entry, String> {
    let payload = match payload.split_first() {
        Some((&BLANK, [])) => EntryPayload::Blank,
        Some((&COMMAND, bytes)) => EntryPayload::Normal(Proposal::decode(Bytes::copy_from_slice(bytes))?),
        Some((&MEMBERSHIP, bytes)) => {
            let stored = form::Membership::decode(bytes).map_err(|error| error.to_string())?;
            EntryPayload::Membership(stored.try_into()?)
        }
        _ => return Err("the entry is of a kind that this program doesn't know".to_owned()),
    };
    Ok(Entry { log_id, payload })
}

fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + bytes.len());
    payload.push(tag);
    payload.extend_from_slice(bytes);
    payload
}

impl From<&Membership> for form::Membership {
    fn from(membership: &Membership) -> Self {
        Self {
            configs: membership
                .get_joint_config()
                .iter()
                .map(|voters| form::Voters { ids: voters.iter().copied().collect() })
                .collect(),
            nodes: membership.nodes().map(|(id, node)| form::Node { id: *id, address: node.addr.clone() }).collect(),
        }
    }
}

impl TryFrom<form::Membership> for Membership {
    type Error = String;

    fn try_from(stored: form::Membership) -> Result<Self, String> {
        let configs = stored.configs.into_iter().map(|voters| voters.ids.into_iter().collect()).collect();
        let nodes = stored.nodes.into_iter().map(|node| (node.id, openraft::BasicNode::new(node.address)));
        let nodes: std::collections::BTreeMap<_, _> = nodes.collect();
        Self::new(configs, nodes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        let log_id = LogId::new(LeaderId::new(3, 4), 5);
        write(&mut bytes, 24, log_id, b"payload");
        assert_eq!(read(&bytes), Ok(Record { log_id, batch: 24, payload: b"payload" }));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_membership_survives_its_stored_form() {
        let nodes = [(1, openraft::BasicNode::new("a:1")), (2, openraft::BasicNode::new("")), (3, Default::default())];
        let configs = vec![[1].into(), [1, 2].into()];
        let membership = Membership::new(configs, std::collections::BTreeMap::from(nodes)).unwrap();
        let log_id = LogId::new(LeaderId::new(1, 1), 9);
        let entry = Entry { log_id, payload: EntryPayload::Membership(membership) };
        assert_eq!(decode(log_id, &encode(&entry)).unwrap(), entry);
    }
}
