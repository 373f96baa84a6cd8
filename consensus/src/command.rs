//! What is proposed and replicated: a list of writes that take effect together or not at all.

use octelium_api::{Kind, Object};
use prost::Message;

use crate::{
    form,
    state::grants::{ASKS_MAX, CounterId, RETURNS_MAX, Term},
};

/// So many counters are reset by one write.
pub const RESETS_MAX: usize = 4_096;

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
    /// What a node asks of rate limits; only alone, in a command of version [`Command::VERSION_OF_ASKS`].
    pub ask: Option<Ask>,
}

/// What one node asks of all its rate limits at once, and what it gives back. The returns are booked first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ask {
    /// Who asks.
    pub node: u64,
    /// A random number for each start of that node.
    pub incarnation: u64,
    /// Counts the asks of this start, from 1. One that isn't above the last applied changes nothing.
    pub sequence: u64,
    /// Log time in nanoseconds, stamped by the leader; see [`crate::LogClock`].
    pub at: u64,
    /// At most [`ASKS_MAX`].
    pub asks: Vec<Want>,
    /// At most [`RETURNS_MAX`].
    pub returns: Vec<Return>,
}

/// Tokens that are wanted of one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Which counter.
    pub counter: CounterId,
    /// The limit as the asker knows it: tokens in each window.
    pub limit: u64,
    /// The version of the limit; the highest counts.
    pub revision: u64,
    /// In nanoseconds; a part of the counter's name.
    pub window: u64,
    /// How many tokens would be useful.
    pub want: u64,
    /// How long they are to be valid; see [`crate::state::grants::validity_ns`].
    pub term: Term,
}

/// What became of a lease so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    /// Whose lease it is.
    pub counter: CounterId,
    /// Which lease of the asker's.
    pub lease: u64,
    /// Tokens of it that are spent by now, in all.
    pub spent: u64,
    /// The rest won't be spent.
    pub done: bool,
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
    /// Takes all that was admitted so far out of counters of rate limits, where they are in use.
    ResetCounters {
        /// At most [`RESETS_MAX`].
        counters: Vec<CounterId>,
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

    /// The version of commands that ask for leases. Programs that don't know asks must stop at one, not pass it over.
    pub const VERSION_OF_ASKS: u32 = 2;

    /// A command of the present version.
    pub fn new(at_unix_nanos: i64, writes: Vec<Write>) -> Self {
        Self {
            version: Self::VERSION,
            request_id: String::new(),
            at_unix_nanos,
            writes,
            requires: Vec::new(),
            ask: None,
        }
    }

    /// A command that asks for leases.
    pub fn of_ask(ask: Ask) -> Self {
        Self { version: Self::VERSION_OF_ASKS, ask: Some(ask), ..Self::new(0, Vec::new()) }
    }

    /// Whether the content is of a form that this program knows.
    ///
    /// # Errors
    /// A sentence, if it isn't.
    pub(crate) fn check(&self) -> Result<(), String> {
        let plain = self.request_id.is_empty() && self.writes.is_empty() && self.requires.is_empty();
        let is_long = |write: &Write| matches!(write, Write::ResetCounters { counters } if counters.len() > RESETS_MAX);
        match (self.version, &self.ask) {
            (Self::VERSION, None) if self.writes.iter().any(is_long) => {
                Err(format!("the command resets more than {RESETS_MAX} counters at once"))
            }
            (Self::VERSION, None) => Ok(()),
            (Self::VERSION_OF_ASKS, Some(_)) if !plain => Err("the command asks for leases and writes".to_owned()),
            (Self::VERSION_OF_ASKS, Some(ask)) if ask.asks.len() > ASKS_MAX || ask.returns.len() > RETURNS_MAX => {
                Err(format!("the command has more than {ASKS_MAX} asks or {RETURNS_MAX} returns"))
            }
            (Self::VERSION_OF_ASKS, Some(_)) => Ok(()),
            (version, _) => Err(format!(
                "the command has version {version}, this program knows {}, and {} for asks",
                Self::VERSION,
                Self::VERSION_OF_ASKS
            )),
        }
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
            ask: self.ask.as_ref().map(Into::into),
        }
        .encode_to_vec()
    }

    /// The command with this stored form.
    ///
    /// # Errors
    /// A sentence, if the bytes aren't a command or a newer program wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let stored = form::Command::decode(bytes).map_err(|error| format!("the command can't be read: {error}"))?;
        let command = Self {
            version: stored.version,
            request_id: stored.request_id,
            at_unix_nanos: stored.at_unix_nanos,
            writes: stored.writes.into_iter().map(write).collect::<Result<_, _>>()?,
            requires: stored
                .requires
                .into_iter()
                .map(|required| Ok(Requirement { kind: kind(required.kind)?, uid: required.uid }))
                .collect::<Result<_, String>>()?,
            ask: stored.ask.map(ask).transpose()?,
        };
        command.check()?;
        Ok(command)
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
            Write::ResetCounters { counters } => {
                let counters = counters.iter().map(|counter| counter.to_vec()).collect();
                form::Operation::ResetCounters(form::Counters { counters })
            }
        };
        Self { operation: Some(operation) }
    }
}

impl From<&Ask> for form::Ask {
    fn from(ask: &Ask) -> Self {
        let want = |want: &Want| form::Want {
            counter: want.counter.to_vec(),
            limit: want.limit,
            revision: want.revision,
            window: want.window,
            want: want.want,
            term: want.term.number(),
        };
        let returned = |returned: &Return| form::Return {
            lease: returned.lease,
            spent: returned.spent,
            done: returned.done,
            counter: returned.counter.to_vec(),
        };
        Self {
            node: ask.node,
            incarnation: ask.incarnation,
            sequence: ask.sequence,
            at: ask.at,
            asks: ask.asks.iter().map(want).collect(),
            returns: ask.returns.iter().map(returned).collect(),
        }
    }
}

fn ask(stored: form::Ask) -> Result<Ask, String> {
    let want = |want: form::Want| {
        Ok(Want {
            counter: counter(&want.counter)?,
            limit: want.limit,
            revision: want.revision,
            window: want.window,
            want: want.want,
            term: term(want.term)?,
        })
    };
    let returned = |returned: form::Return| {
        Ok(Return {
            counter: counter(&returned.counter)?,
            lease: returned.lease,
            spent: returned.spent,
            done: returned.done,
        })
    };
    Ok(Ask {
        node: stored.node,
        incarnation: stored.incarnation,
        sequence: stored.sequence,
        at: stored.at,
        asks: stored.asks.into_iter().map(want).collect::<Result<_, String>>()?,
        returns: stored.returns.into_iter().map(returned).collect::<Result<_, String>>()?,
    })
}

/// How long a lease is to be valid, of this stored form.
pub(crate) fn term(number: u32) -> Result<Term, String> {
    Term::of(number).ok_or_else(|| format!("a lease is of the unknown term {number}"))
}

/// The name of a counter with this stored form.
pub(crate) fn counter(bytes: &[u8]) -> Result<CounterId, String> {
    bytes.try_into().map_err(|_| format!("a counter's name has {} bytes", bytes.len()))
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
        form::Operation::ResetCounters(reset) => Write::ResetCounters {
            counters: reset.counters.iter().map(|bytes| counter(bytes)).collect::<Result<_, _>>()?,
        },
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
                Write::ResetCounters { counters: vec![[1; 16], [2; 16]] },
            ],
            requires: vec![Requirement { kind: Kind::Group, uid: "g".to_owned() }],
            ask: None,
        };
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
    }

    fn asking() -> Ask {
        let want = Want {
            counter: [7; 16],
            limit: 100,
            revision: 3,
            window: 60_000_000_000,
            want: u64::MAX,
            term: Term::Longest,
        };
        let returned = Return { counter: [7; 16], lease: 9, spent: 4, done: true };
        Ask { node: u64::MAX, incarnation: 1, sequence: 2, at: 3, asks: vec![want], returns: vec![returned] }
    }

    #[test]
    fn an_ask_survives_its_stored_form_which_is_small() {
        let command = Command::of_ask(asking());
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
        let many = Ask { asks: vec![Want { want: 50, ..asking().asks[0].clone() }; 100], ..asking() };
        assert!(Command::of_ask(many).encode().len() < 100 * 40);
    }

    #[test]
    fn an_ask_that_is_too_large_or_of_an_older_form_or_writes_is_refused() {
        let cases = [
            Command { version: Command::VERSION, ..Command::of_ask(asking()) },
            Command { writes: vec![Write::DeleteKey { name: "k".to_owned() }], ..Command::of_ask(asking()) },
            Command::of_ask(Ask { asks: vec![asking().asks[0].clone(); ASKS_MAX + 1], ..asking() }),
            Command::of_ask(Ask { returns: vec![asking().returns[0]; RETURNS_MAX + 1], ..asking() }),
            Command::new(0, vec![Write::ResetCounters { counters: vec![[0; 16]; RESETS_MAX + 1] }]),
        ];
        for command in cases {
            assert!(Command::decode(&command.encode()).is_err());
        }
        let mut stored: form::Ask = (&asking()).into();
        stored.asks[0].counter.pop();
        let short = form::Command { version: 2, ask: Some(stored), ..form::Command::default() };
        assert!(Command::decode(&short.encode_to_vec()).is_err_and(|reason| reason.contains("15 bytes")));
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
