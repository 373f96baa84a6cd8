//! What policies promise, from outside.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod cases;
mod conformance;
mod errors;
mod examples;
mod expressions;
mod hostile;
mod oracle;
mod plans;
mod reads;
mod support;
mod textproto;
mod values;
