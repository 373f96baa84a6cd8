//! Requests and answers between nodes: Protocol Buffers with stable tags. Nodes of neighbouring releases read each other's.

use bytes::Bytes;
use openraft::{
    raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse},
    vote::RaftLeaderId,
};
use prost::Message;

use crate::{
    command::{Outcome, kind, number},
    form,
    log_store::record,
    raft::{LeaderId, LogId, TypeConfig, Vote},
};

/// The longest request with entries that is read, in bytes: what is sent, and room for one more command of full length.
pub const APPEND_BYTES_MAX: usize = APPEND_BYTES + crate::raft::COMMAND_BYTES_MAX + (1 << 20);
/// A request takes no more entries once it has so many bytes.
const APPEND_BYTES: usize = 4 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    log_id: Option<form::LogId>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Append {
    #[prost(message, optional, tag = "1")]
    vote: Option<form::Vote>,
    #[prost(message, optional, tag = "2")]
    previous: Option<form::LogId>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<Entry>,
    #[prost(message, optional, tag = "4")]
    committed: Option<form::LogId>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Appended {
    /// 1: all; 2: up to `last`; 3: the log differs before the entries; 4: `higher` is a newer vote.
    #[prost(uint32, tag = "1")]
    result: u32,
    #[prost(message, optional, tag = "2")]
    last: Option<form::LogId>,
    #[prost(message, optional, tag = "3")]
    higher: Option<form::Vote>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AskVote {
    #[prost(message, optional, tag = "1")]
    vote: Option<form::Vote>,
    #[prost(message, optional, tag = "2")]
    last: Option<form::LogId>,
    #[prost(bool, tag = "3")]
    leadership_transfer: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Voted {
    #[prost(message, optional, tag = "1")]
    vote: Option<form::Vote>,
    #[prost(bool, tag = "2")]
    granted: bool,
    #[prost(message, optional, tag = "3")]
    last: Option<form::LogId>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Transfer {
    #[prost(message, optional, tag = "1")]
    from: Option<form::Vote>,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<form::LogId>,
}

/// A vote alone: before a snapshot, and as the answer to one.
#[derive(Clone, PartialEq, prost::Message)]
struct OnlyVote {
    #[prost(message, optional, tag = "1")]
    vote: Option<form::Vote>,
}

/// What became of a proposal, told by the leader.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Proposed {
    #[prost(oneof = "Told", tags = "1, 2, 3, 4, 5")]
    pub told: Option<Told>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Told {
    /// Applied at this index.
    #[prost(uint64, tag = "1")]
    Applied(u64),
    #[prost(message, tag = "2")]
    Conflict(form::Conflict),
    /// Nothing was written: the node doesn't lead.
    #[prost(bool, tag = "3")]
    NotLeader(bool),
    /// It may be applied or not.
    #[prost(bool, tag = "4")]
    Unknown(bool),
    /// It can't be proposed; nothing was written.
    #[prost(string, tag = "5")]
    Invalid(String),
}

/// How far a reader must have read to see all that was acknowledged; `None`: the node doesn't lead.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Confirmed {
    #[prost(uint64, optional, tag = "1")]
    pub index: Option<u64>,
}

/// A change of the members.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Change {
    #[prost(oneof = "Wanted", tags = "1, 2, 3")]
    pub wanted: Option<Wanted>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Wanted {
    /// Follow the log from now on, or have another address.
    #[prost(message, tag = "1")]
    Add(form::Node),
    /// Belong to the group no more.
    #[prost(uint64, tag = "2")]
    Remove(u64),
    /// Lead no more.
    #[prost(uint64, tag = "3")]
    StepDown(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Changed {
    /// Why it can't be done; nothing was changed.
    #[prost(string, optional, tag = "1")]
    pub refused: Option<String>,
    /// Nothing was written: the node doesn't lead.
    #[prost(bool, tag = "2")]
    pub not_leader: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Members {
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<Member>,
    #[prost(bool, tag = "2")]
    pub not_leader: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Member {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(bool, tag = "3")]
    pub is_voter: bool,
    #[prost(bool, tag = "4")]
    pub is_leader: bool,
    /// The last entry that it is known to have.
    #[prost(uint64, tag = "5")]
    pub matched: u64,
    /// How long ago it answered, in milliseconds; absent: never.
    #[prost(uint64, optional, tag = "6")]
    pub silent_millis: Option<u64>,
    #[prost(uint64, tag = "7")]
    pub leader_last: u64,
    #[prost(bool, tag = "8")]
    pub is_drained: bool,
}

/// How a node is, in its own words.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(string, tag = "1")]
    pub version: String,
    /// The last log entry that it applied.
    #[prost(uint64, tag = "2")]
    pub applied: u64,
    /// The log entry whose state its requests are decided by.
    #[prost(uint64, tag = "3")]
    pub decided: u64,
    /// How long it has been running, in seconds.
    #[prost(uint64, tag = "4")]
    pub up_seconds: u64,
}

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| format!("the message can't be read: {error}"))
}

fn vote_of(vote: &Vote) -> form::Vote {
    form::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

fn vote(stored: Option<form::Vote>) -> Result<Vote, String> {
    let stored = stored.ok_or("the message has no vote")?;
    Ok(Vote { leader_id: LeaderId::new(stored.term, stored.node), committed: stored.committed })
}

/// The request, and the last entry that it holds if that isn't the last one that it should.
pub fn append(request: &AppendEntriesRequest<TypeConfig>) -> (Vec<u8>, Option<LogId>) {
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut bytes = 0;
    for entry in &request.entries {
        let payload = record::encode(entry);
        bytes += payload.len();
        entries.push(Entry { log_id: Some(entry.log_id.into()), payload });
        if bytes >= APPEND_BYTES {
            break;
        }
    }
    let cut = (entries.len() < request.entries.len()).then(|| request.entries[entries.len() - 1].log_id);
    let message = Append {
        vote: Some(vote_of(&request.vote)),
        previous: request.prev_log_id.map(Into::into),
        entries,
        committed: request.leader_commit.map(Into::into),
    };
    (message.encode_to_vec(), cut)
}

pub fn read_append(bytes: &[u8]) -> Result<AppendEntriesRequest<TypeConfig>, String> {
    let message: Append = read(bytes)?;
    let entries = message.entries.into_iter().map(|entry| {
        let log_id = entry.log_id.ok_or("an entry has no log id")?.into();
        record::decode(log_id, &entry.payload)
    });
    Ok(AppendEntriesRequest {
        vote: vote(message.vote)?,
        prev_log_id: message.previous.map(Into::into),
        entries: entries.collect::<Result<_, String>>()?,
        leader_commit: message.committed.map(Into::into),
    })
}

pub fn appended(response: &AppendEntriesResponse<TypeConfig>) -> Vec<u8> {
    let plain = |result| Appended { result, last: None, higher: None };
    match response {
        AppendEntriesResponse::Success => plain(1),
        AppendEntriesResponse::PartialSuccess(last) => Appended { last: last.map(Into::into), ..plain(2) },
        AppendEntriesResponse::Conflict => plain(3),
        AppendEntriesResponse::HigherVote(vote) => Appended { higher: Some(vote_of(vote)), ..plain(4) },
    }
    .encode_to_vec()
}

pub fn read_appended(bytes: &[u8]) -> Result<AppendEntriesResponse<TypeConfig>, String> {
    let message: Appended = read(bytes)?;
    Ok(match message.result {
        1 => AppendEntriesResponse::Success,
        2 => AppendEntriesResponse::PartialSuccess(message.last.map(Into::into)),
        3 => AppendEntriesResponse::Conflict,
        4 => AppendEntriesResponse::HigherVote(vote(message.higher)?),
        other => return Err(format!("the answer {other} is unknown to this program")),
    })
}

pub fn ask_vote(request: &VoteRequest<TypeConfig>) -> Vec<u8> {
    AskVote {
        vote: Some(vote_of(&request.vote)),
        last: request.last_log_id.map(Into::into),
        leadership_transfer: request.leadership_transfer,
    }
    .encode_to_vec()
}

pub fn read_ask_vote(bytes: &[u8]) -> Result<VoteRequest<TypeConfig>, String> {
    let message: AskVote = read(bytes)?;
    let mut request = VoteRequest::new(vote(message.vote)?, message.last.map(Into::into));
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub fn voted(response: &VoteResponse<TypeConfig>) -> Vec<u8> {
    Voted {
        vote: Some(vote_of(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(Into::into),
    }
    .encode_to_vec()
}

pub fn read_voted(bytes: &[u8]) -> Result<VoteResponse<TypeConfig>, String> {
    let message: Voted = read(bytes)?;
    Ok(VoteResponse::new(vote(message.vote)?, message.last.map(Into::into), message.granted))
}

pub fn transfer(request: &TransferLeaderRequest<TypeConfig>) -> Vec<u8> {
    Transfer {
        from: Some(vote_of(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().copied().map(Into::into),
    }
    .encode_to_vec()
}

pub fn read_transfer(bytes: &[u8]) -> Result<TransferLeaderRequest<TypeConfig>, String> {
    let message: Transfer = read(bytes)?;
    Ok(TransferLeaderRequest::new(vote(message.from)?, message.to, message.last.map(Into::into)))
}

pub fn only_vote(vote: &Vote) -> Vec<u8> {
    OnlyVote { vote: Some(vote_of(vote)) }.encode_to_vec()
}

pub fn read_only_vote(bytes: &[u8]) -> Result<Vote, String> {
    vote(read::<OnlyVote>(bytes)?.vote)
}

impl Proposed {
    pub fn of(result: &Result<Outcome, crate::Error>) -> Self {
        let told = match result {
            Ok(Outcome::Applied { index }) => Told::Applied(*index),
            Ok(Outcome::Conflict { kind, name, reason }) => {
                Told::Conflict(form::Conflict { kind: number(*kind), name: name.clone(), reason: reason.clone() })
            }
            Err(crate::Error::NotLeader) => Told::NotLeader(true),
            Err(crate::Error::Invalid { reason }) => Told::Invalid(reason.clone()),
            Err(_) => Told::Unknown(true),
        };
        Self { told: Some(told) }
    }

    pub fn result(self) -> Result<Outcome, crate::Error> {
        match self.told {
            Some(Told::Applied(index)) => Ok(Outcome::Applied { index }),
            Some(Told::Conflict(conflict)) => match kind(conflict.kind) {
                Ok(kind) => Ok(Outcome::Conflict { kind, name: conflict.name, reason: conflict.reason }),
                Err(reason) => Err(crate::Error::Failed { reason }),
            },
            Some(Told::NotLeader(_)) => Err(crate::Error::NotLeader),
            Some(Told::Invalid(reason)) => Err(crate::Error::Invalid { reason }),
            Some(Told::Unknown(_)) | None => Err(crate::Error::Unknown),
        }
    }
}

/// The message with these bytes.
pub fn message<M: Message + Default>(bytes: &Bytes) -> Result<M, String> {
    read(bytes)
}
