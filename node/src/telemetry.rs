//! What the node says about itself.

pub mod access_log;
pub mod counts;
pub mod metrics;
