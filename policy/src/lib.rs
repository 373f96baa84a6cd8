//! Decides requests by policy: conditions written in CEL are checked and compiled once, then evaluated often.
//!
//! Everything here is a pure function of its arguments: no clock, no I/O, no state between calls. See [`Policy`], [`decide`] and,
//! where one caller asks often, [`Plan`].
//!
//! An expression's way: `scan` bounds it, `parse` reads it (with the `cel` crate's parser), `lower` checks it against
//! `schema` and turns it into the tree of `expr`, `eval` computes that over borrowed values with `builtins`.

mod access;
mod budget;
mod builtins;
mod compile;
mod condition;
mod context;
mod error;
mod eval;
mod evaluate;
mod expr;
mod expression;
mod functions;
mod index;
mod lower;
mod parse;
mod plan;
mod policy;
mod possible;
mod reads;
mod scan;
mod schema;
mod value;

pub use budget::Budget;
pub use condition::Condition;
pub use context::{Context, Grpc, Request, Subject};
pub use error::{Error, EvalError};
pub use evaluate::{Decision, Effect, Failure, Reason, decide};
pub use expression::Expression;
pub use index::PathIndex;
pub use plan::Plan;
pub use policy::{Origin, Policy, RuleId};
pub use possible::could_allow;
pub use reads::Reads;
pub use value::{Map, Type, Value};
