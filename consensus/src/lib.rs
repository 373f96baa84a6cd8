//! The replicated state: one Raft log, one deterministic state machine.
//!
//! Others hold a [`Replica`]: they propose a [`Command`] and read the [`State`] that it leads to. A single node is a Raft
//! group of one and runs the very code that a cluster runs.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for their tasks"))]

pub mod command;
pub mod error;
pub mod figures;
pub mod freshness;
pub mod replica;
pub mod seal;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
pub mod state;
pub mod transport;

mod directory;
mod durable;
mod form;
mod forward;
mod group;
mod log_clock;
mod log_store;
mod machine;
mod raft;
mod recover;
mod runtime;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod testing;
mod vote;
mod voters;

pub use command::{Ask, Command, Expected, Outcome, RESETS_MAX, Requirement, Return, Want, Write};
pub use directory::peek;
pub use error::Error;
pub use figures::{Figures, Standing};
pub use freshness::Freshness;
pub use group::{Member, Status, drained_key};
pub use log_clock::{LogClock, Reign};
pub use machine::boot_time_ns;
pub use recover::{Recovered, recover};
pub use replica::{Options, Peers, Replica, Start};
pub use seal::SealingKey;
pub use state::{Change, State, Stored};
