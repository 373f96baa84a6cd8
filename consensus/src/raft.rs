//! The types that openraft is used with.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use openraft::alias;

use crate::{
    command::{Command, Outcome},
    error::Error,
    runtime::Runtime,
    state_machine::StateMachine,
};

openraft::declare_raft_types!(
    /// Node ids are random numbers that live and die with a data directory.
    pub TypeConfig: D = Proposal, R = Outcome, AsyncRuntime = Runtime
);

pub type LogId = alias::LogIdOf<TypeConfig>;
pub type LeaderId = alias::LeaderIdOf<TypeConfig>;
pub type Vote = alias::VoteOf<TypeConfig>;
pub type Entry = alias::EntryOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// The longest encoded command, in bytes.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;
/// The longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 256;

/// A command with its stored form, which is made once.
#[derive(Clone, PartialEq)]
pub struct Proposal {
    pub command: Arc<Command>,
    pub bytes: Bytes,
}

impl Proposal {
    /// Checks and encodes a command before it enters the log.
    pub fn new(command: Command) -> Result<Self, Error> {
        let invalid = |reason: String| Err(Error::Invalid { reason });
        if let Err(reason) = command.check() {
            return invalid(reason);
        }
        if command.request_id.len() > REQUEST_ID_BYTES_MAX {
            return invalid(format!("its request id is longer than {REQUEST_ID_BYTES_MAX} bytes"));
        }
        let bytes = Bytes::from(command.encode());
        if bytes.len() > COMMAND_BYTES_MAX {
            return invalid(format!("it has {} bytes, at most {COMMAND_BYTES_MAX} are allowed", bytes.len()));
        }
        Ok(Self { command: Arc::new(command), bytes })
    }

    /// The proposal with this stored form.
    pub fn decode(bytes: Bytes) -> Result<Self, String> {
        Ok(Self { command: Arc::new(Command::decode(&bytes)?), bytes })
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} writes", self.command.writes.len())
    }
}

// The content stays out of openraft's debug output.
impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
