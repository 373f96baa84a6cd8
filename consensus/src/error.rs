//! What can go wrong in this room.

use std::{io, path::PathBuf, time::Duration};

/// Why a replica can't start, or can't do what was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are explained by the message of their variant")]
pub enum Error {
    /// Two processes on one log would destroy it.
    #[error("the data directory `{}` is in use by another process", directory.display())]
    Locked { directory: PathBuf },
    /// The node can't trust what it stored, and doesn't start: the help says what to do.
    #[error("`{}` is damaged at byte {offset}: {reason}; {help}", file.display())]
    Corrupt { file: PathBuf, offset: u64, reason: String, help: &'static str },
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Nothing was written: no leader is known, or none that a quorum stands behind.
    #[error("the cluster has no leader at the moment: try again in a few seconds")]
    NotLeader,
    /// The command may be applied or not: retry with the same request id.
    #[error("the leader changed while the command was in flight, its outcome is unknown")]
    Unknown,
    /// The node is cut off from what it should show; nothing was changed.
    #[error("this node has not caught up with the cluster (at {at}, wanted {wanted}): try again, or ask another node")]
    Behind { at: u64, wanted: u64 },
    /// The members can't be changed like that; nothing was changed.
    #[error("{reason}")]
    Members { reason: String },
    /// The replica can't work any more; the outcome of commands in flight is unknown.
    #[error("the replica stopped working: {reason}")]
    Failed { reason: String },
    /// [`crate::Replica::close`] was called; the outcome of commands in flight is unknown.
    #[error("the replica is closed")]
    Closed,
    /// The command can't enter the log; nothing was written.
    #[error("the command cannot be proposed: {reason}")]
    Invalid { reason: String },
    /// No leader was found in time.
    #[error("no leader within {0:?}")]
    NoLeader(Duration),
    /// The key file can't be used.
    #[error("the sealing key `{}` cannot be used: {reason}", path.display())]
    Key { path: PathBuf, reason: String },
    /// Sealed data was changed, belongs elsewhere or was sealed with another key.
    #[error("sealed data cannot be opened: {reason}")]
    Unsealable { reason: &'static str },
}

/// What an operator can do about damaged files.
pub(crate) const RESTORE: &str = "the node does not start from data it cannot trust: restore the data directory from a \
     backup, or empty it and let this node join another node as a new one";

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn corrupt(file: impl Into<PathBuf>, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.into(), offset, reason: reason.into(), help: RESTORE }
    }
}
