//! How nodes reach each other: one request, one answer. What carries them (TLS, addresses, deadlines) is the node's.

mod client;
#[cfg(test)]
pub(crate) mod memory;
mod server;
pub(crate) mod wire;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};

pub use client::Network;

/// A request's body, in parts. Only a snapshot has many.
pub type Parts = BoxStream<'static, Bytes>;
/// A request's body as it arrives; an error says why there is no more of it.
pub type Arriving = BoxStream<'static, Result<Bytes, String>>;

/// What one node asks of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The leader sends entries, or shows that it is there.
    Append,
    /// A candidate asks for a vote.
    Vote,
    /// A node asks whether it would get votes.
    PreVote,
    /// The leader sends its whole state.
    Snapshot,
    /// The leader names its successor.
    TransferLeader,
    /// A node hands a command to the leader.
    Propose,
    /// A node asks the leader how far it must read.
    Confirm,
    /// A node asks the leader to change the members.
    Change,
    /// A node asks the leader how the members are.
    Members,
    /// A node asks another how it is.
    Status,
    /// A node asks another for what stands in no log; see [`crate::Replica::inspected_by`].
    Inspect,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Append,
        Self::Vote,
        Self::PreVote,
        Self::Snapshot,
        Self::TransferLeader,
        Self::Propose,
        Self::Confirm,
        Self::Change,
        Self::Members,
        Self::Status,
        Self::Inspect,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Vote => "vote",
            Self::PreVote => "pre-vote",
            Self::Snapshot => "snapshot",
            Self::TransferLeader => "transfer-leader",
            Self::Propose => "propose",
            Self::Confirm => "confirm",
            Self::Change => "change",
            Self::Members => "members",
            Self::Status => "status",
            Self::Inspect => "inspect",
        }
    }

    /// The longest body, in bytes. A snapshot is read as it comes.
    pub(crate) fn bytes_max(self) -> usize {
        match self {
            Self::Append => wire::APPEND_BYTES_MAX,
            Self::Propose => crate::raft::COMMAND_BYTES_MAX,
            Self::Snapshot => usize::MAX,
            _ => 64 << 10,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The request didn't leave.
    #[error("node {node:016x} at `{address}` can't be reached: {reason}")]
    Unreachable {
        /// Whom it was for.
        node: u64,
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// It left; whether it was obeyed isn't known.
    #[error("node {node:016x} at `{address}` gave no answer: {reason}")]
    NoAnswer {
        /// Whom it was for.
        node: u64,
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

/// The way to other nodes, which knows that whoever answers is the node that was asked.
pub trait Link: Send + Sync + 'static {
    /// Sends a request to the node at the address and waits for its answer, at most so long.
    fn call(
        &self,
        node: u64,
        address: &str,
        method: Method,
        request: Parts,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>>;
}

/// A request in one part.
pub(crate) fn whole(bytes: Vec<u8>) -> Parts {
    Box::pin(futures_util::stream::once(std::future::ready(Bytes::from(bytes))))
}
