//! Expressions that stand alone: header values, cache and rate-limit keys, generated configurations.

use crate::{
    Budget, Context, Error, EvalError, Reads, Value, access::Input, compile, eval::Machine, expr::Expr, lower::Lowered,
    parse, schema::Ty, value::Val,
};

/// A compiled expression of any type.
#[derive(Debug)]
pub struct Expression {
    expr: Expr,
    reads: Reads,
}

impl Expression {
    /// Compiles an expression of any type; `path` is where it stands in its resource.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(text: &str, path: &str) -> Result<Self, Vec<Error>> {
        Self::compile_where(text, path, "", |_| true)
    }

    /// The same of one that makes a string.
    ///
    /// # Errors
    /// As there; and if it can never make one.
    pub fn compile_text(text: &str, path: &str) -> Result<Self, Vec<Error>> {
        Self::compile_where(text, path, "a string", |ty| matches!(ty, Ty::String))
    }

    /// The same of one that makes a map.
    ///
    /// # Errors
    /// As there; and if it can never make one.
    pub fn compile_map(text: &str, path: &str) -> Result<Self, Vec<Error>> {
        Self::compile_where(text, path, "a map", Ty::is_map)
    }

    fn compile_where(text: &str, path: &str, wanted: &str, is_it: fn(&Ty) -> bool) -> Result<Self, Vec<Error>> {
        parse::on_deep_stack(path, || {
            let Lowered { expr, ty, reads, .. } = compile::expression(text, path)?;
            if !ty.is_dyn() && !is_it(&ty) {
                let error = Error::at(path, format!("must make {wanted}, and this is {ty}"));
                return Err(vec![Error { line: 1, column: 1, ..error }]);
            }
            Ok(Self { expr, reads })
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
