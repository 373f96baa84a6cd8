//! Expressions that stand alone: header values, cache and rate-limit keys, generated configurations.

use crate::{
    Budget, Context, Error, EvalError, Reads, Value, access::Input, compile, eval::Machine, expr::Expr, parse,
    value::Val,
};

/// A compiled expression of any type.
#[derive(Debug)]
pub struct Expression {
    expr: Expr,
    reads: Reads,
}

impl Expression {
    /// Compiles an expression; `path` is where it stands in its resource.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(text: &str, path: &str) -> Result<Self, Vec<Error>> {
        parse::on_deep_stack(path, || {
            let lowered = compile::expression(text, path)?;
            Ok(Self { expr: lowered.expr, reads: lowered.reads })
        })
    }

    /// The value.
    ///
    /// # Errors
    /// If there is none; [`EvalError::Missing`] if it selects something that isn't there.
    pub fn evaluate(&self, ctx: &Context<'_>, attrs: Option<&Value>, budget: &mut Budget) -> Result<Value, EvalError> {
        Machine::new(Input { ctx, attrs, asked: None }, budget).eval(&self.expr).map(Val::into_value)
    }

    /// What of `ctx` may be read.
    pub fn reads(&self) -> Reads {
        self.reads
    }
}
