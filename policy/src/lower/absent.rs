//! Parts of the input that may not be there: where an expression selects them unasked, it may be false for a reason that
//! nobody thought of.

use cel::{
    IdedExpr,
    common::ast::{Expr as Ast, LiteralValue, operators},
};

use super::{Lowerer, Typed};
use crate::{
    Error,
    access::{HttpField, Node},
    schema::{self, Child, Ty},
    value::is_free_object,
};

/// A selection of something that may not be there.
pub(crate) struct Fragile {
    /// Where, with what to write instead as its hint.
    pub place: Error,
    /// As it may be written, e.g. `ctx.device`.
    pub path: String,
    /// Whether it stands under a `!` or in a `!=`.
    pub negated: bool,
}

/// As it is found; whether it is asked for by `has` or `in` is known at the end.
pub(super) struct Found {
    id: u64,
    of: String,
    name: String,
    negated: bool,
}

impl Lowerer<'_, '_> {
    /// Notes `operand.name`, if it may not be there.
    pub(super) fn note_selection(&mut self, id: u64, operand: &IdedExpr, typed: &Typed, name: &str) {
        if may_lack(&typed.ty, name)
            && let Some(of) = path(operand)
        {
            self.found.push(Found { id, of, name: name.to_owned(), negated: self.negations > 0 });
        }
    }

    /// Notes that the expression asks whether `operand` has `name`.
    pub(super) fn note_question(&mut self, operand: &IdedExpr, name: &str) {
        self.asked.extend(path(operand).map(|of| format!("{of}.{name}")));
    }

    /// The selections that the expression makes without asking, each path once.
    pub(super) fn fragile(&mut self) -> Vec<Fragile> {
        let mut seen: Vec<String> = Vec::new();
        let mut fragile = Vec::new();
        for found in std::mem::take(&mut self.found) {
            let path = format!("{}.{}", found.of, found.name);
            let covers =
                |other: &String| *other == path || other.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'));
            // Where a part is known to be missing, the parts below it say nothing new.
            let below = |other: &String| {
                path.strip_prefix(other.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if self.asked.iter().any(covers) || seen.iter().any(below) {
                continue;
            }
            let (shown, question) = match is_name(&found.name) {
                true => (path.clone(), format!("has({path})")),
                false => {
                    let key = format!("{:?}", found.name);
                    (format!("{}[{key}]", found.of), format!("({key} in {})", found.of))
                }
            };
            let place = self.parsed.error(found.id, Some(&found.name), String::new(), Some(question));
            fragile.push(Fragile { place, path: shown, negated: found.negated });
            seen.push(path);
        }
        fragile
    }
}

/// `a.b` for selections and constant keys of names.
fn path(ast: &IdedExpr) -> Option<String> {
    match &ast.expr {
        Ast::Ident(name) => Some(name.clone()),
        Ast::Select(select) => Some(format!("{}.{}", path(&select.operand)?, select.field)),
        Ast::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => match &call.args[..] {
            [of, IdedExpr { expr: Ast::Literal(LiteralValue::String(key)), .. }] => {
                Some(format!("{}.{}", path(of)?, key.inner()))
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether something of this type may have no `name`. What every resource has doesn't count.
fn may_lack(ty: &Ty, name: &str) -> bool {
    match ty {
        Ty::Map(_) | Ty::Dyn => true,
        Ty::Message(message) => {
            let field = message.get_field_by_name(name);
            let optional = field.is_some_and(|field| field.supports_presence() && !is_free_object(&field));
            optional && !matches!(name, "metadata" | "spec" | "status")
        }
        Ty::Node(Node::Ctx) => name == "device",
        Ty::Node(node) => match schema::child(*node, name) {
            Some(Child::Absent(_)) => true,
            Some(Child::Http(_, field, _)) => matches!(field, HttpField::Body | HttpField::BodyMap),
            _ => false,
        },
        _ => false,
    }
}
