//! The generated messages and servers, under the names of their packages.
#![allow(missing_docs, clippy::all, clippy::unwrap_used, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/pb.rs"));
