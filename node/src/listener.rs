//! The doors of the data plane: one single-threaded runtime for each core, each with accept queues of its own.

pub mod accept;
pub mod api;
pub mod cut_off;
pub mod opening;
pub mod proxy_protocol;
pub mod tls;
pub mod worker;
