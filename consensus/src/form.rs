//! The stored forms: Protocol Buffers with stable tags. Never change or reuse a tag; a change of meaning is a new version.

#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub request_id: String,
    #[prost(int64, tag = "3")]
    pub at_unix_nanos: i64,
    #[prost(message, repeated, tag = "4")]
    pub writes: Vec<Write>,
    #[prost(message, repeated, tag = "5")]
    pub requires: Vec<Requirement>,
    /// Only since version 2.
    #[prost(message, optional, tag = "6")]
    pub ask: Option<Ask>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Ask {
    // Node ids and incarnations are random: as varints they would be longer.
    #[prost(fixed64, tag = "1")]
    pub node: u64,
    #[prost(fixed64, tag = "2")]
    pub incarnation: u64,
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    #[prost(uint64, tag = "4")]
    pub at: u64,
    #[prost(message, repeated, tag = "5")]
    pub asks: Vec<Want>,
    #[prost(message, repeated, tag = "6")]
    pub returns: Vec<Return>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Want {
    #[prost(bytes = "vec", tag = "1")]
    pub counter: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub limit: u64,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    #[prost(uint64, tag = "4")]
    pub window: u64,
    #[prost(uint64, tag = "5")]
    pub want: u64,
    #[prost(uint32, tag = "6")]
    pub term: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Return {
    #[prost(uint64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub spent: u64,
    #[prost(bool, tag = "3")]
    pub done: bool,
    #[prost(bytes = "vec", tag = "4")]
    pub counter: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Write {
    #[prost(oneof = "Operation", tags = "1, 2, 3, 4, 5, 6")]
    pub operation: Option<Operation>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Operation {
    #[prost(message, tag = "1")]
    Put(Put),
    #[prost(message, tag = "2")]
    Delete(Delete),
    #[prost(message, tag = "3")]
    PutKey(Key),
    #[prost(message, tag = "4")]
    DeleteKey(Key),
    #[prost(message, tag = "5")]
    TakeKey(Key),
    #[prost(message, tag = "6")]
    ResetCounters(Counters),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Counters {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub counters: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Put {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub object: Vec<u8>,
    /// The version that must be present; absent: the resource must be.
    #[prost(string, optional, tag = "3")]
    pub expected: Option<String>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub sealed: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Delete {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, optional, tag = "3")]
    pub expected: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Key {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Requirement {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub uid: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct LogId {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub node: u64,
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Vote {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub node: u64,
    #[prost(bool, tag = "3")]
    pub committed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Membership {
    /// One set of voters; two during a change.
    #[prost(message, repeated, tag = "1")]
    pub configs: Vec<Voters>,
    #[prost(message, repeated, tag = "2")]
    pub nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Voters {
    #[prost(uint64, repeated, tag = "1")]
    pub ids: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub address: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct NodeId {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The first log entry was written: from then on an empty log is a lost log.
    #[prost(bool, tag = "2")]
    pub initialized: bool,
}

/// One record of a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    #[prost(oneof = "Content", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Resource(Resource),
    #[prost(message, tag = "3")]
    Key(Key),
    #[prost(message, tag = "4")]
    Request(Request),
    #[prost(message, tag = "5")]
    End(End),
    #[prost(message, tag = "6")]
    Limits(Limits),
    #[prost(message, tag = "7")]
    Counter(Counter),
}

/// Opens a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Head {
    #[prost(message, optional, tag = "1")]
    pub last_log_id: Option<LogId>,
    #[prost(message, optional, tag = "2")]
    pub membership_log_id: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub membership: Option<Membership>,
    #[prost(uint64, tag = "4")]
    pub index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub object: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub sealed: Option<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    pub created_index: u64,
    #[prost(uint32, tag = "5")]
    pub created_position: u32,
}

/// A remembered request id with its outcome.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Absent: the command was applied.
    #[prost(message, optional, tag = "3")]
    pub conflict: Option<Conflict>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Conflict {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// What all counters of rate limits have in common; before the first of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Limits {
    #[prost(uint64, tag = "1")]
    pub log_time: u64,
    #[prost(uint64, tag = "2")]
    pub last_lease: u64,
    #[prost(message, repeated, tag = "3")]
    pub askers: Vec<Asker>,
    #[prost(uint64, tag = "4")]
    pub resets: u64,
}

/// A node that asked.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Asker {
    #[prost(fixed64, tag = "1")]
    pub node: u64,
    #[prost(fixed64, tag = "2")]
    pub incarnation: u64,
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    #[prost(uint64, tag = "4")]
    pub asked_at: u64,
    /// Absent in snapshots of versions before it.
    #[prost(uint64, optional, tag = "5")]
    pub former: Option<u64>,
}

/// A counter of a rate limit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Counter {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub window: u64,
    #[prost(uint64, tag = "3")]
    pub limit: u64,
    #[prost(uint64, tag = "4")]
    pub revision: u64,
    #[prost(uint64, tag = "5")]
    pub used: u64,
    #[prost(uint64, tag = "6")]
    pub look_at: u64,
    #[prost(message, repeated, tag = "7")]
    pub spent: Vec<Spent>,
    #[prost(message, repeated, tag = "8")]
    pub leases: Vec<Lease>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Spent {
    #[prost(uint64, tag = "1")]
    pub back_at: u64,
    #[prost(uint64, tag = "2")]
    pub from: u64,
    #[prost(uint64, tag = "3")]
    pub tokens: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Lease {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(fixed64, tag = "2")]
    pub node: u64,
    #[prost(uint32, tag = "4")]
    pub sequence: u32,
    #[prost(uint64, tag = "5")]
    pub granted: u64,
    #[prost(uint64, tag = "6")]
    pub reported: u64,
    #[prost(uint64, tag = "7")]
    pub given_at: u64,
    #[prost(uint32, tag = "8")]
    pub term: u32,
    #[prost(bool, tag = "10")]
    pub is_forgiven: bool,
    #[prost(uint32, optional, tag = "11")]
    pub recalled_after: Option<u32>,
}

/// Closes a snapshot.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct End {
    /// The records before this one.
    #[prost(uint64, tag = "1")]
    pub records: u64,
}
