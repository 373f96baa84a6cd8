//! What is proposed and replicated: a list of writes that take effect together or not at all.

use octelium_api::{Kind, Object};
use prost::Message;

use crate::form;

/// One entry of the replicated log. Time, ids and versions are stamped by who proposes: applying reads no clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The version of this form; see [`Command::VERSION`].
    pub version: u32,
    /// Chosen by the caller, so that a retry gets the first outcome; empty if not wanted.
    pub request_id: String,
    /// When it was proposed, in nanoseconds since 1970.
    pub at_unix_nanos: i64,
    /// Applied in this order, all or none.
    pub writes: Vec<Write>,
    /// What must exist after the writes.
    pub requires: Vec<Requirement>,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all writes are puts; a box would only cost its callers")]
pub enum Write {
    /// Creates or replaces a resource.
    Put {
        /// With uid, name, version and times set, without secret data.
        object: Object,
        /// What must be there before.
        expected: Expected,
        /// Sealed secret data; `None` keeps what is there.
        sealed: Option<Vec<u8>>,
    },
    /// Removes a resource.
    Delete {
        /// The kind of the resource.
        kind: Kind,
        /// The uid of the resource.
        uid: String,
        /// The version that must be there.
        expected: Expected,
    },
    /// Sets a key of the cluster.
    PutKey {
        /// Its name.
        name: String,
        /// The sealed key.
        sealed: Vec<u8>,
    },
    /// Removes a key of the cluster, if there.
    DeleteKey {
        /// Its name.
        name: String,
    },
    /// Removes a key of the cluster that must be there: of two who try, one fails.
    TakeKey {
        /// Its name.
        name: String,
    },
}

/// What a write expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Neither the uid nor the name is taken.
    Absent,
    /// The resource is there with this `resourceVersion`.
    Version(String),
}

/// A resource that must exist once the writes are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Its kind.
    pub kind: Kind,
    /// Its uid.
    pub uid: String,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of it took effect.
    Applied {
        /// The index of its log entry.
        index: u64,
    },
    /// Nothing was changed.
    Conflict {
        /// The kind of the first resource in the way.
        kind: Kind,
        /// The name of it; its uid where the name isn't known.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Command {
    /// The version written by this program.
    pub const VERSION: u32 = 1;

    /// A command of the present version.
    pub fn new(at_unix_nanos: i64, writes: Vec<Write>) -> Self {
        Self { version: Self::VERSION, request_id: String::new(), at_unix_nanos, writes, requires: Vec::new() }
    }

    /// The stored form; equal commands have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        form::Command {
            version: self.version,
            request_id: self.request_id.clone(),
            at_unix_nanos: self.at_unix_nanos,
            writes: self.writes.iter().map(form::Write::from).collect(),
            requires: self
                .requires
                .iter()
                .map(|required| form::Requirement { kind: number(required.kind), uid: required.uid.clone() })
                .collect(),
        }
        .encode_to_vec()
    }

    /// The command with this stored form.
    ///
    /// # Errors
    /// A sentence, if the bytes aren't a command or a newer program wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let stored = form::Command::decode(bytes).map_err(|error| format!("the command can't be read: {error}"))?;
        if stored.version != Self::VERSION {
            return Err(format!("the command has version {}, this program knows {}", stored.version, Self::VERSION));
        }
        Ok(Self {
            version: stored.version,
            request_id: stored.request_id,
            at_unix_nanos: stored.at_unix_nanos,
            writes: stored.writes.into_iter().map(write).collect::<Result<_, _>>()?,
            requires: stored
                .requires
                .into_iter()
                .map(|required| Ok(Requirement { kind: kind(required.kind)?, uid: required.uid }))
                .collect::<Result<_, String>>()?,
        })
    }
}

/// The stored number of a kind.
pub(crate) fn number(kind: Kind) -> u32 {
    u32::from(kind as u8)
}

/// The kind with this stored number.
pub(crate) fn kind(number: u32) -> Result<Kind, String> {
    Kind::from_number(number).ok_or_else(|| format!("the kind {number} is unknown to this program"))
}

/// The resource of a kind with this stored form.
pub(crate) fn object(number: u32, bytes: &[u8]) -> Result<Object, String> {
    let kind = kind(number)?;
    kind.decode(bytes).map_err(|error| format!("a {kind} can't be read: {error}"))
}

impl Expected {
    fn version(&self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Version(version) => Some(version.clone()),
        }
    }
}

impl From<Option<String>> for Expected {
    fn from(version: Option<String>) -> Self {
        version.map_or(Self::Absent, Self::Version)
    }
}

impl From<&Write> for form::Write {
    fn from(write: &Write) -> Self {
        let operation = match write {
            Write::Put { object, expected, sealed } => form::Operation::Put(form::Put {
                kind: number(object.kind()),
                object: object.encode(),
                expected: expected.version(),
                sealed: sealed.clone(),
            }),
            Write::Delete { kind, uid, expected } => form::Operation::Delete(form::Delete {
                kind: number(*kind),
                uid: uid.clone(),
                expected: expected.version(),
            }),
            Write::PutKey { name, sealed } => {
                form::Operation::PutKey(form::Key { name: name.clone(), sealed: sealed.clone() })
            }
            Write::DeleteKey { name } => {
                form::Operation::DeleteKey(form::Key { name: name.clone(), sealed: Vec::new() })
            }
            Write::TakeKey { name } => form::Operation::TakeKey(form::Key { name: name.clone(), sealed: Vec::new() }),
        };
        Self { operation: Some(operation) }
    }
}

fn write(stored: form::Write) -> Result<Write, String> {
    Ok(match stored.operation.ok_or("the command has a write that this program doesn't know")? {
        form::Operation::Put(put) => {
            Write::Put { object: object(put.kind, &put.object)?, expected: put.expected.into(), sealed: put.sealed }
        }
        form::Operation::Delete(delete) => {
            Write::Delete { kind: kind(delete.kind)?, uid: delete.uid, expected: delete.expected.into() }
        }
        form::Operation::PutKey(key) => Write::PutKey { name: key.name, sealed: key.sealed },
        form::Operation::DeleteKey(key) => Write::DeleteKey { name: key.name },
        form::Operation::TakeKey(key) => Write::TakeKey { name: key.name },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::user;

    #[test]
    fn every_write_survives_its_stored_form() {
        let command = Command {
            version: Command::VERSION,
            request_id: "request".to_owned(),
            at_unix_nanos: -5,
            writes: vec![
                Write::Put { object: user("u1", "alice", "v1"), expected: Expected::Absent, sealed: None },
                Write::Put {
                    object: user("u2", "bob", "v2"),
                    expected: Expected::Version("v1".to_owned()),
                    sealed: Some(Vec::new()),
                },
                Write::Delete { kind: Kind::User, uid: "u3".to_owned(), expected: Expected::Version(String::new()) },
                Write::PutKey { name: "k".to_owned(), sealed: vec![1, 2] },
                Write::DeleteKey { name: "l".to_owned() },
                Write::TakeKey { name: "m".to_owned() },
            ],
            requires: vec![Requirement { kind: Kind::Group, uid: "g".to_owned() }],
        };
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
    }

    #[test]
    fn a_newer_version_an_unknown_write_and_an_unknown_kind_are_refused() {
        let newer = Command { version: 2, ..Command::new(0, Vec::new()) };
        assert!(Command::decode(&newer.encode()).is_err_and(|reason| reason.contains("version 2")));
        let unknown =
            form::Command { version: 1, writes: vec![form::Write { operation: None }], ..form::Command::default() };
        assert!(Command::decode(&unknown.encode_to_vec()).is_err_and(|reason| reason.contains("doesn't know")));
        let kind = form::Command {
            version: 1,
            requires: vec![form::Requirement { kind: 200, uid: String::new() }],
            ..form::Command::default()
        };
        assert!(Command::decode(&kind.encode_to_vec()).is_err_and(|reason| reason.contains("200")));
    }
}
