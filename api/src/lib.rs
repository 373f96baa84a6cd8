//! The words that every room shares: resources, their wire, JSON and YAML forms, and the rules that need no other state.

pub mod config;
pub mod descriptor;
pub mod duration;
#[cfg(feature = "explain")]
pub mod explain;
pub mod kind;
pub mod manifest;
pub mod name;
pub mod origin;
#[allow(clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod pb;
pub mod redacted;
pub mod strict;
pub mod validate;

pub use kind::{Kind, Object};
pub use pb::octelium::{
    api::main::{auth::v1 as auth, core::v1 as core, meta::v1 as meta, user::v1 as user},
    control::v1 as control,
};

/// What every resource says in `apiVersion`.
pub const API_VERSION: &str = "core/v1";

/// Clients of the control API.
#[cfg(feature = "client")]
pub mod clients {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::unwrap_used,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/clients/clients.rs"));
}
