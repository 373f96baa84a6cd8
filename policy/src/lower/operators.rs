//! Operators: types, and the flat forms of `&&` and `||`.

use cel::{
    IdedExpr,
    common::ast::{Expr as Ast, operators},
};

use super::{Lowerer, Typed, fold, paths::reads};
use crate::{
    Value,
    expr::{Arith, Expr, Order},
    schema::Ty,
};

impl Lowerer<'_, '_> {
    /// An operator, or `None` if `name` isn't one.
    pub(super) fn operator(&mut self, id: u64, name: &str, args: &[IdedExpr]) -> Option<Typed> {
        let typed = match (name, args) {
            (operators::LOGICAL_AND, [_, _]) => self.logic(name, args, Expr::And),
            (operators::LOGICAL_OR, [_, _]) => self.logic(name, args, Expr::Or),
            (operators::LOGICAL_NOT, [of]) => {
                let of = self.negated(|lowerer| lowerer.bool(of, "!"));
                fold(Typed::new(Expr::Not(Box::new(of)), Ty::Bool))
            }
            (operators::NEGATE, [of]) => self.negate(id, of),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.bool(condition, "?");
                let (yes, no) = (self.expr(yes), self.expr(no));
                let ty = yes.ty.or(no.ty);
                if let Expr::Const(Value::Bool(value)) = condition {
                    return Some(Typed::new(if value { yes.expr } else { no.expr }, ty));
                }
                Typed::new(Expr::Choice(Box::new([condition, yes.expr, no.expr])), ty)
            }
            (operators::EQUALS, [a, b]) => self.equality(id, a, b, false),
            (operators::NOT_EQUALS, [a, b]) => self.equality(id, a, b, true),
            (operators::LESS, [a, b]) => self.order(id, Order::Less, "<", a, b),
            (operators::LESS_EQUALS, [a, b]) => self.order(id, Order::LessEqual, "<=", a, b),
            (operators::GREATER, [a, b]) => self.order(id, Order::Greater, ">", a, b),
            (operators::GREATER_EQUALS, [a, b]) => self.order(id, Order::GreaterEqual, ">=", a, b),
            (operators::ADD, [a, b]) => self.arithmetic(id, Arith::Add, a, b),
            (operators::SUBSTRACT, [a, b]) => self.arithmetic(id, Arith::Sub, a, b),
            (operators::MULTIPLY, [a, b]) => self.arithmetic(id, Arith::Mul, a, b),
            (operators::DIVIDE, [a, b]) => self.arithmetic(id, Arith::Div, a, b),
            (operators::MODULO, [a, b]) => self.arithmetic(id, Arith::Rem, a, b),
            (operators::INDEX, [of, key]) => self.index(id, of, key),
            (operators::IN, [item, container]) => self.contained(id, item, container),
            _ => return None,
        };
        Some(typed)
    }

    /// What `lower` makes of a part that is turned around.
    fn negated<T>(&mut self, lower: impl FnOnce(&mut Self) -> T) -> T {
        self.negations += 1;
        let lowered = lower(self);
        self.negations -= 1;
        lowered
    }

    /// A part that must be a bool.
    fn bool(&mut self, ast: &IdedExpr, operator: &str) -> Expr {
        let typed = self.expr(ast);
        if !matches!(typed.ty, Ty::Bool | Ty::Dyn) {
            self.fail(ast.id, None, format!("`{operator}` needs a bool, and this is {}", typed.ty), None);
        }
        typed.expr
    }

    /// The parser makes a balanced tree of a chain; evaluation wants its terms in order.
    fn logic(&mut self, name: &str, args: &[IdedExpr], make: fn(Box<[Expr]>) -> Expr) -> Typed {
        let mut terms = Vec::new();
        let mut pending: Vec<&IdedExpr> = args.iter().rev().collect();
        while let Some(next) = pending.pop() {
            match &next.expr {
                Ast::Call(call) if call.func_name == name && call.target.is_none() => {
                    pending.extend(call.args.iter().rev())
                }
                _ => terms.push(self.bool(next, if name == operators::LOGICAL_AND { "&&" } else { "||" })),
            }
        }
        let decisive = name == operators::LOGICAL_OR;
        // Which term comes first has no influence on the value. Those that depend on the caller and the Service alone do, so that
        // they can settle the matter before there is a request.
        terms.sort_by_key(|term| {
            let reads = reads(term);
            reads.request || reads.now
        });
        // A constant term decides, or says nothing.
        if terms.iter().any(|term| matches!(term, Expr::Const(Value::Bool(value)) if *value == decisive)) {
            return Typed::new(Expr::Const(Value::Bool(decisive)), Ty::Bool);
        }
        terms.retain(|term| !matches!(term, Expr::Const(Value::Bool(_))));
        if terms.is_empty() {
            return Typed::new(Expr::Const(Value::Bool(!decisive)), Ty::Bool);
        }
        Typed::new(make(terms.into()), Ty::Bool)
    }

    fn negate(&mut self, id: u64, of: &IdedExpr) -> Typed {
        let of = self.expr(of);
        if !matches!(of.ty, Ty::Int | Ty::Double | Ty::Dyn) {
            return self.fail(id, None, format!("`-` is not defined for {}", of.ty), None);
        }
        fold(Typed::new(Expr::Neg(Box::new(of.expr)), of.ty))
    }

    fn equality(&mut self, id: u64, a: &IdedExpr, b: &IdedExpr, negated: bool) -> Typed {
        let both = |lowerer: &mut Self| (lowerer.expr(a), lowerer.expr(b));
        let (a, b) = if negated { self.negated(both) } else { both(self) };
        if !a.ty.comparable(&b.ty) {
            let sign = if negated { "!=" } else { "==" };
            return self.mismatch(id, sign, &a.ty, &b.ty);
        }
        fold(Typed::new(Expr::Equal(Box::new([a.expr, b.expr]), negated), Ty::Bool))
    }

    fn order(&mut self, id: u64, order: Order, sign: &str, a: &IdedExpr, b: &IdedExpr) -> Typed {
        let (a, b) = (self.expr(a), self.expr(b));
        let ordered = |ty: &Ty| {
            ty.is_number() || matches!(ty, Ty::Dyn | Ty::Bool | Ty::String | Ty::Bytes | Ty::Timestamp | Ty::Duration)
        };
        if !(ordered(&a.ty) && ordered(&b.ty) && a.ty.comparable(&b.ty)) {
            return self.mismatch(id, sign, &a.ty, &b.ty);
        }
        fold(Typed::new(Expr::Compare(order, Box::new([a.expr, b.expr])), Ty::Bool))
    }

    fn arithmetic(&mut self, id: u64, arith: Arith, a: &IdedExpr, b: &IdedExpr) -> Typed {
        let (a, b) = (self.expr(a), self.expr(b));
        match arithmetic_type(arith, &a.ty, &b.ty) {
            Some(ty) => fold(Typed::new(Expr::Arith(arith, Box::new([a.expr, b.expr])), ty)),
            None => self.mismatch(id, arith.name(), &a.ty, &b.ty),
        }
    }

    fn mismatch(&mut self, id: u64, sign: &str, a: &Ty, b: &Ty) -> Typed {
        let hint = match (a, b) {
            (Ty::String, Ty::Timestamp) | (Ty::Timestamp, Ty::String) => {
                Some("wrap the text in `timestamp(…)`".to_owned())
            }
            (Ty::String, Ty::Duration) | (Ty::Duration, Ty::String) => {
                Some("wrap the text in `duration(…)`".to_owned())
            }
            _ if a.is_number() && b.is_number() => {
                Some("convert one with `int(…)`, `uint(…)` or `double(…)`".to_owned())
            }
            _ => None,
        };
        self.fail(id, None, format!("`{sign}` is not defined for {a} and {b}"), hint)
    }
}

/// The type of the result; `None` if the operator isn't defined for these types.
fn arithmetic_type(arith: Arith, a: &Ty, b: &Ty) -> Option<Ty> {
    match (arith, a, b) {
        (_, Ty::Int, Ty::Int) => Some(Ty::Int),
        (_, Ty::UInt, Ty::UInt) => Some(Ty::UInt),
        (Arith::Rem, _, _) if *a == Ty::Double || *b == Ty::Double => None,
        (_, Ty::Double, Ty::Double) => Some(Ty::Double),
        (Arith::Add, Ty::String, Ty::String) => Some(Ty::String),
        (Arith::Add, Ty::Bytes, Ty::Bytes) => Some(Ty::Bytes),
        (Arith::Add, Ty::List(a), Ty::List(b)) => Some(Ty::list((**a).clone().or((**b).clone()))),
        (Arith::Add, Ty::Timestamp, Ty::Duration) | (Arith::Add, Ty::Duration, Ty::Timestamp) => Some(Ty::Timestamp),
        (Arith::Add | Arith::Sub, Ty::Duration, Ty::Duration) => Some(Ty::Duration),
        (Arith::Sub, Ty::Timestamp, Ty::Timestamp) => Some(Ty::Duration),
        (Arith::Sub, Ty::Timestamp, Ty::Duration) => Some(Ty::Timestamp),
        (_, Ty::Dyn, Ty::Dyn) => Some(Ty::Dyn),
        (_, Ty::Dyn, known) | (_, known, Ty::Dyn) => one_known(arith, known),
        _ => None,
    }
}

fn one_known(arith: Arith, known: &Ty) -> Option<Ty> {
    match (arith, known) {
        (_, Ty::Int | Ty::UInt) => Some(known.clone()),
        (Arith::Rem, _) => None,
        (_, Ty::Double) => Some(Ty::Double),
        (Arith::Add, Ty::String | Ty::Bytes) => Some(known.clone()),
        (Arith::Add, Ty::List(_)) => Some(Ty::list(Ty::Dyn)),
        (Arith::Add | Arith::Sub, Ty::Timestamp | Ty::Duration) => Some(Ty::Dyn),
        _ => None,
    }
}
