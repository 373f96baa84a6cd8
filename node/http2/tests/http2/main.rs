//! The engine over byte streams, with peers that follow the rules and peers that don't.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may stop; clippy.toml exempts only the test functions")]
#![allow(clippy::disallowed_methods, clippy::large_futures, reason = "tests are the edge of their program")]

mod exchanges;
mod floods;
mod lifetime;
mod malformed;
mod random;
mod support;
mod upstream;
