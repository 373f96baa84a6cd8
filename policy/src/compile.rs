//! From the wire form of conditions to their compiled form.

use octelium_api::core::{self, condition::Type};

use crate::{
    Error, Reads,
    expr::Expr,
    lower::{self, Lowered},
    parse::{self, Source},
    schema::Ty,
};

/// Children of one condition.
const CHILDREN_MAX: usize = 100;
/// Conditions within conditions.
const NESTING_MAX: usize = 16;

/// A compiled condition.
#[derive(Debug)]
pub(crate) enum Node {
    Never,
    Always,
    Match(Expr),
    Not(Expr),
    All(Box<[Node]>),
    Any(Box<[Node]>),
    NoneOf(Box<[Node]>),
}

/// Checks and lowers one expression. Needs a deep stack, see [`parse::on_deep_stack`].
pub(crate) fn expression(text: &str, path: &str) -> Result<Lowered, Vec<Error>> {
    lower::lower(&parse::parse(Source { text, path })?)
}

/// Compiles conditions, and gathers their errors and what they read.
#[derive(Default)]
pub(crate) struct Compiler {
    pub errors: Vec<Error>,
    pub reads: Reads,
}

impl Compiler {
    /// Compiles a condition; with errors the result must not be used. Needs a deep stack.
    pub(crate) fn condition(&mut self, condition: &core::Condition, path: &str) -> Node {
        self.nested(condition, path, 0)
    }

    fn nested(&mut self, condition: &core::Condition, path: &str, depth: usize) -> Node {
        match &condition.r#type {
            None => Node::Never,
            Some(Type::MatchAny(true)) => Node::Always,
            Some(Type::MatchAny(false)) => Node::Never,
            Some(Type::Match(text)) => self.text(text, &format!("{path}.match"), Node::Match),
            Some(Type::Not(text)) => self.text(text, &format!("{path}.not"), Node::Not),
            Some(Type::All(all)) => self.children(&all.of, &format!("{path}.all"), depth, Node::All),
            Some(Type::Any(any)) => self.children(&any.of, &format!("{path}.any"), depth, Node::Any),
            Some(Type::None(none)) => self.children(&none.of, &format!("{path}.none"), depth, Node::NoneOf),
            Some(Type::Opa(_)) => self.fail(&format!("{path}.opa"), "conditions in Rego are not supported yet"),
        }
    }

    fn fail(&mut self, path: &str, message: &str) -> Node {
        self.errors.push(Error::at(path, message));
        Node::Never
    }

    fn text(&mut self, text: &str, path: &str, make: fn(Expr) -> Node) -> Node {
        match expression(text, path) {
            Ok(Lowered { expr, ty: Ty::Bool | Ty::Dyn, reads }) => {
                self.reads |= reads;
                make(expr)
            }
            Ok(Lowered { ty, .. }) => {
                let error = Error::at(path, format!("a condition must be a bool, and this is {ty}"));
                self.errors.push(Error { line: 1, column: 1, ..error });
                Node::Never
            }
            Err(errors) => {
                self.errors.extend(errors);
                Node::Never
            }
        }
    }

    fn children(&mut self, of: &[core::Condition], path: &str, depth: usize, make: fn(Box<[Node]>) -> Node) -> Node {
        if depth >= NESTING_MAX {
            return self.fail(path, "more than 16 conditions within conditions");
        }
        if of.len() > CHILDREN_MAX {
            return self.fail(path, "more than 100 conditions in one list");
        }
        if of.is_empty() {
            return Node::Never;
        }
        make(
            of.iter()
                .enumerate()
                .map(|(index, child)| self.nested(child, &format!("{path}.of[{index}]"), depth + 1))
                .collect(),
        )
    }
}
