//! Conditions: what must be true for a rule to match.

use std::cell::Cell;

use octelium_api::core::{self, condition::Type};

use crate::{
    Budget, Context, Error, EvalError, Reads, Value,
    access::Input,
    compile::{Compiler, Node},
    eval::Machine,
    expr::Expr,
    parse,
};

/// A compiled condition.
#[derive(Debug)]
pub struct Condition {
    node: Node,
    reads: Reads,
}

impl Condition {
    /// Compiles a condition; `path` is where it stands in its resource, e.g. `spec.rules[0].condition`.
    ///
    /// # Errors
    /// Everything that is wrong with its expressions, and too many or too deeply nested conditions.
    pub fn compile(condition: &core::Condition, path: &str) -> Result<Self, Vec<Error>> {
        match &condition.r#type {
            // What holds no expression needs no parser.
            None | Some(Type::MatchAny(_)) => Self::compile_here(condition, path),
            _ => parse::on_deep_stack(path, || Self::compile_here(condition, path)),
        }
    }

    fn compile_here(condition: &core::Condition, path: &str) -> Result<Self, Vec<Error>> {
        let mut compiler = Compiler::default();
        let node = compiler.condition(condition, path);
        if compiler.errors.is_empty() { Ok(Self { node, reads: compiler.reads }) } else { Err(compiler.errors) }
    }

    pub(crate) fn of(node: Node, reads: Reads) -> Self {
        Self { node, reads }
    }

    /// Whether the condition holds. A missing key makes its expression false, and `not` of that true.
    ///
    /// # Errors
    /// Any other failure of an expression that had to be evaluated.
    pub fn evaluate(&self, ctx: &Context<'_>, attrs: Option<&Value>, budget: &mut Budget) -> Result<bool, EvalError> {
        holds(&self.node, Input { ctx, attrs, asked: None }, budget)
    }

    /// As [`Self::evaluate`], but notes in `asked` whether the request or the time was asked for: then the answer means nothing.
    pub(crate) fn evaluate_ahead(
        &self,
        ctx: &Context<'_>,
        attrs: Option<&Value>,
        budget: &mut Budget,
        asked: &Cell<bool>,
    ) -> Result<bool, EvalError> {
        holds(&self.node, Input { ctx, attrs, asked: Some(asked) }, budget)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// What of `ctx` may be read.
    pub fn reads(&self) -> Reads {
        self.reads
    }
}

fn holds<'a>(node: &'a Node, input: Input<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
    match node {
        Node::Never => Ok(false),
        Node::Always => Ok(true),
        Node::Match(expr) => truth(expr, input, budget),
        Node::Not(expr) => truth(expr, input, budget).map(|truth| !truth),
        Node::All(of) => find(of, false, input, budget).map(|found| !found),
        Node::Any(of) => find(of, true, input, budget),
        Node::NoneOf(of) => find(of, true, input, budget).map(|found| !found),
    }
}

/// Whether some condition is `wanted`. An error ends the search: what comes later must not hide it. What only a request could
/// tell doesn't: another condition may decide without one.
fn find<'a>(of: &'a [Node], wanted: bool, input: Input<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
    let mut unknown = false;
    for node in of {
        budget.spend(1)?;
        match holds(node, input, budget) {
            Ok(holds) if holds == wanted => return Ok(true),
            Ok(_) => {}
            Err(EvalError::Unknown) => unknown = true,
            Err(error) => return Err(error),
        }
    }
    if unknown { Err(EvalError::Unknown) } else { Ok(false) }
}

fn truth<'a>(expr: &'a Expr, input: Input<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
    match Machine::new(input, budget).test(expr) {
        Err(EvalError::Missing) => Ok(false),
        result => result,
    }
}
