//! The node: listeners, the request path and the wiring between the rooms.

pub mod client_address;
pub mod cluster;
pub mod config;
pub mod control_door;
pub mod identity;
pub mod listener;
pub mod node;
pub mod proxy;
pub mod quickstart;
pub mod telemetry;
