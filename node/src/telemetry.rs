//! What the node says about itself.

pub mod access_log;
