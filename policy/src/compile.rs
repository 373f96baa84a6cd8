//! From the wire form of conditions to their compiled form.

use octelium_api::core::{self, condition::Type};

use crate::{
    Error, Reads,
    expr::Expr,
    lower::{self, Fragile, Lowered},
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
    /// What compiles and may not mean what it seems to.
    pub warnings: Vec<Error>,
    pub reads: Reads,
    /// What the rule is for to which the condition belongs, if it is known.
    pub purpose: Option<Purpose>,
}

/// What a rule does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It lets pass: ALLOW, or IGNORE.
    Opens,
    /// It holds back: DENY, or ENFORCE.
    Closes,
}

/// Where a condition stands within others.
#[derive(Clone, Copy)]
struct Level {
    depth: usize,
    /// Whether those around it turn it around.
    negated: bool,
}

impl Compiler {
    /// Compiles a condition; with errors the result must not be used. Needs a deep stack.
    pub(crate) fn condition(&mut self, condition: &core::Condition, path: &str) -> Node {
        self.nested(condition, path, Level { depth: 0, negated: false })
    }

    fn nested(&mut self, condition: &core::Condition, path: &str, level: Level) -> Node {
        match &condition.r#type {
            None => Node::Never,
            Some(Type::MatchAny(true)) => Node::Always,
            Some(Type::MatchAny(false)) => Node::Never,
            Some(Type::Match(text)) => self.text(text, &format!("{path}.match"), level.negated, Node::Match),
            Some(Type::Not(text)) => self.text(text, &format!("{path}.not"), !level.negated, Node::Not),
            Some(Type::All(all)) => self.children(&all.of, &format!("{path}.all"), level, Node::All),
            Some(Type::Any(any)) => self.children(&any.of, &format!("{path}.any"), level, Node::Any),
            Some(Type::None(none)) => {
                let level = Level { negated: !level.negated, ..level };
                self.children(&none.of, &format!("{path}.none"), level, Node::NoneOf)
            }
            Some(Type::Opa(_)) => self.fail(&format!("{path}.opa"), "conditions in Rego are not supported yet"),
        }
    }

    fn fail(&mut self, path: &str, message: &str) -> Node {
        self.errors.push(Error::at(path, message));
        Node::Never
    }

    /// `negated`: whether the condition turns the expression around.
    fn text(&mut self, text: &str, path: &str, negated: bool, make: fn(Expr) -> Node) -> Node {
        match expression(text, path) {
            Ok(Lowered { expr, ty: Ty::Bool | Ty::Dyn, reads, fragile }) => {
                self.reads |= reads;
                self.warn(fragile, negated);
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

    /// An expression is false where something that it selects isn't there. That is safe for a rule that opens, unless the condition
    /// turns it around; and for one that closes, unless the expression itself asks for what should *not* be.
    fn warn(&mut self, fragile: Vec<Fragile>, negated: bool) {
        for Fragile { place, path, negated: within } in fragile {
            let question = place.hint.as_deref().unwrap_or_default();
            let (message, hint) = match self.purpose {
                Some(Purpose::Opens) if negated => (
                    format!("`{path}` may be absent: the expression is false then, and so the rule matches"),
                    format!("did you mean `match` with `{question} && !(…)`?"),
                ),
                Some(Purpose::Closes) if !negated && within => (
                    format!("`{path}` may be absent: the expression is false then, and the rule does not match"),
                    format!("did you mean `!{question} || …`?"),
                ),
                _ => continue,
            };
            self.warnings.push(Error { message, hint: Some(hint), ..place });
        }
    }

    fn children(&mut self, of: &[core::Condition], path: &str, level: Level, make: fn(Box<[Node]>) -> Node) -> Node {
        if level.depth >= NESTING_MAX {
            return self.fail(path, "more than 16 conditions within conditions");
        }
        if of.len() > CHILDREN_MAX {
            return self.fail(path, "more than 100 conditions in one list");
        }
        if of.is_empty() {
            return Node::Never;
        }
        let level = Level { depth: level.depth + 1, ..level };
        make(
            of.iter()
                .enumerate()
                .map(|(index, child)| self.nested(child, &format!("{path}.of[{index}]"), level))
                .collect(),
        )
    }
}
