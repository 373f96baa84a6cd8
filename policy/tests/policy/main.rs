//! What policies promise, from outside.

mod cases;
mod errors;
mod examples;
mod expressions;
mod hostile;
mod oracle;
mod reads;
mod support;
mod values;
