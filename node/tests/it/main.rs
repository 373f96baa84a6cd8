//! A node as its callers see it: real sockets, real TLS, real upstreams. One binary, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may stop; clippy.toml exempts only the test functions")]
#![allow(clippy::disallowed_methods, clippy::large_futures, reason = "tests are the edge of their program")]

mod acceptance;
mod access_log;
mod access_matrix;
mod bad_input;
mod bodies;
mod cluster;
mod control_api;
mod cors;
mod direct;
mod documents;
mod examples;
mod gossip;
mod headers;
mod http2;
mod identity;
mod listeners;
mod metrics;
mod nodes;
mod oauth2;
mod octeliumctl;
mod plugins;
mod policy;
mod process;
mod rate_limit;
mod revocation;
mod rolling;
mod routing;
mod sdk;
mod secretless;
mod services;
mod streams;
mod support;
mod tracing;
mod upstreams;
