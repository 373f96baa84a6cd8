//! Checks a syntax tree against the schema and turns it into the tree that is evaluated.

mod absent;
mod calls;
mod macros;
mod operators;
mod paths;
mod suggest;

use std::sync::Arc;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr as Ast, LiteralValue},
};

use crate::{
    Budget, Context, Error, Reads, Type, Value,
    access::{Access, Input, Node},
    eval::Machine,
    expr::Expr,
    functions::Fun,
    parse::Parsed,
    schema::Ty,
};

pub(crate) use absent::Fragile;

/// How deep the evaluated tree may be: evaluation recurses on the caller's stack.
const DEPTH_MAX: u32 = 128;
/// Comprehensions within comprehensions.
const COMPREHENSIONS_MAX: u32 = 4;
/// What computing a constant at compile time may cost.
const FOLD_UNITS: u64 = 10_000;

/// More errors than this in one expression help nobody.
const ERRORS_MAX: usize = 20;

/// A checked expression.
pub(crate) struct Lowered {
    pub expr: Expr,
    pub ty: Ty,
    pub reads: Reads,
    /// What it selects though it may not be there.
    pub fragile: Vec<Fragile>,
}

/// Checks and lowers.
///
/// # Errors
/// Everything that is wrong, with positions.
pub(crate) fn lower(parsed: &Parsed<'_>) -> Result<Lowered, Vec<Error>> {
    let mut lowerer = Lowerer {
        parsed,
        errors: Vec::new(),
        scope: Vec::new(),
        locals: 0,
        depth: 0,
        comprehensions: 0,
        negations: 0,
        found: Vec::new(),
        asked: Vec::new(),
    };
    let Typed { expr, ty } = lowerer.expr(&parsed.root);
    if !lowerer.errors.is_empty() {
        lowerer.errors.truncate(ERRORS_MAX);
        return Err(lowerer.errors);
    }
    let reads = paths::reads(&expr);
    let fragile = lowerer.fragile();
    Ok(Lowered { expr, ty, reads, fragile })
}

/// An expression and what is known of its type.
struct Typed {
    expr: Expr,
    ty: Ty,
}

impl Typed {
    fn new(expr: Expr, ty: Ty) -> Self {
        Self { expr, ty }
    }

    /// What stands for an expression that has an error.
    fn wrong() -> Self {
        Self::new(Expr::Access(Access::Absent), Ty::Dyn)
    }

    fn as_const(&self) -> Option<&Value> {
        match &self.expr {
            Expr::Const(value) => Some(value),
            _ => None,
        }
    }

    fn as_const_str(&self) -> Option<&str> {
        match &self.expr {
            Expr::Const(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// A name that a macro declares.
struct Binding {
    name: String,
    what: Bound,
}

enum Bound {
    /// A variable, and its type.
    Local(u16, Ty),
    /// Another name for a part of the input.
    Alias(Access, Ty),
}

struct Lowerer<'p, 't> {
    parsed: &'p Parsed<'t>,
    errors: Vec<Error>,
    scope: Vec<Binding>,
    /// Variables in scope.
    locals: u16,
    depth: u32,
    comprehensions: u32,
    /// `!` and `!=` around the current place.
    negations: u32,
    /// Selections of what may not be there.
    found: Vec<absent::Found>,
    /// What `has` and `in` ask for.
    asked: Vec<String>,
}

impl Lowerer<'_, '_> {
    fn fail(&mut self, id: u64, name: Option<&str>, message: impl Into<String>, hint: Option<String>) -> Typed {
        self.errors.push(self.parsed.error(id, name, message.into(), hint));
        Typed::wrong()
    }

    /// The value of an expression, also where only a part of the input is named.
    fn expr(&mut self, ast: &IdedExpr) -> Typed {
        self.depth += 1;
        let typed = if self.depth > DEPTH_MAX {
            self.fail(ast.id, None, "the expression is nested too deeply", None)
        } else {
            self.node(ast)
        };
        self.depth -= 1;
        typed
    }

    fn node(&mut self, ast: &IdedExpr) -> Typed {
        match &ast.expr {
            Ast::Literal(literal) => literal_value(literal),
            Ast::Ident(name) => self.ident(ast.id, name),
            Ast::Select(select) => self.select(ast.id, &select.operand, &select.field),
            Ast::Call(call) => self.call(ast.id, call),
            Ast::List(list) => self.list(&list.elements),
            Ast::Map(map) => self.map(&map.entries),
            Ast::Struct(_) => self.fail(ast.id, None, "messages can't be made here", None),
            Ast::Comprehension(_) | Ast::Unspecified => self.fail(ast.id, None, "the expression can't be parsed", None),
        }
    }

    fn ident(&mut self, id: u64, written: &str) -> Typed {
        let name = written.strip_prefix('.').unwrap_or(written);
        let bound = self.scope.iter().rev().find(|binding| binding.name == name);
        if let Some(binding) = bound.filter(|_| name == written) {
            return match &binding.what {
                Bound::Local(slot, ty) => Typed::new(Expr::Local(*slot), ty.clone()),
                Bound::Alias(access, ty) => Typed::new(Expr::Access(access.clone()), ty.clone()),
            };
        }
        match name {
            "ctx" => Typed::new(Expr::Access(Access::Whole(Node::Ctx)), Ty::Node(Node::Ctx)),
            "attrs" => Typed::new(Expr::Access(Access::Attrs(Vec::new())), Ty::map(Ty::Dyn)),
            _ => match Type::named(name) {
                Some(ty) => Typed::new(Expr::Const(Value::Type(ty)), Ty::Type),
                None => {
                    let known = self.scope.iter().map(|binding| binding.name.as_str()).chain(["ctx", "attrs"]);
                    let hint = suggest::nearest(name, known);
                    self.fail(id, None, format!("undeclared reference to `{name}`"), hint)
                }
            },
        }
    }

    fn list(&mut self, elements: &[IdedExpr]) -> Typed {
        let elements: Vec<Typed> = elements.iter().map(|element| self.expr(element)).collect();
        let ty = elements.iter().map(|element| element.ty.clone()).reduce(Ty::or).unwrap_or(Ty::Dyn);
        let list = elements.into_iter().map(|element| element.expr).collect();
        fold(Typed::new(Expr::List(list), Ty::list(ty)))
    }

    fn map(&mut self, entries: &[cel::common::ast::IdedEntryExpr]) -> Typed {
        let mut lowered = Vec::with_capacity(entries.len());
        let mut of: Option<Ty> = None;
        for entry in entries {
            let EntryExpr::MapEntry(pair) = &entry.expr else {
                return self.fail(entry.id, None, "messages can't be made here", None);
            };
            let key = self.expr(&pair.key);
            if !matches!(key.ty, Ty::String | Ty::Dyn) {
                let message = format!("keys of type {} are not supported yet", key.ty);
                self.fail(pair.key.id, None, message, Some("use strings as keys".into()));
            }
            if let Some(key) = key.as_const_str()
                && lowered.iter().any(
                    |(other, _): &(Expr, Expr)| matches!(other, Expr::Const(Value::String(other)) if **other == *key),
                )
            {
                self.fail(pair.key.id, None, format!("key `{key}` is there twice"), None);
            }
            let value = self.expr(&pair.value);
            of = Some(match of {
                None => value.ty,
                Some(ty) => ty.or(value.ty),
            });
            lowered.push((key.expr, value.expr));
        }
        fold(Typed::new(Expr::Map(lowered.into()), Ty::map(of.unwrap_or(Ty::Dyn))))
    }
}

fn literal_value(literal: &LiteralValue) -> Typed {
    let (value, ty) = match literal {
        LiteralValue::Null => (Value::Null, Ty::Null),
        LiteralValue::Boolean(value) => (Value::Bool(*value.inner()), Ty::Bool),
        LiteralValue::Int(value) => (Value::Int(*value.inner()), Ty::Int),
        LiteralValue::UInt(value) => (Value::UInt(*value.inner()), Ty::UInt),
        LiteralValue::Double(value) => (Value::Double(*value.inner()), Ty::Double),
        LiteralValue::String(text) => (Value::string(text.inner()), Ty::String),
        LiteralValue::Bytes(bytes) => (Value::Bytes(Arc::from(bytes.inner())), Ty::Bytes),
    };
    Typed::new(Expr::Const(value), ty)
}

/// Computes what depends on nothing. What fails is left to fail when evaluated, where an operator may absorb it.
fn fold(typed: Typed) -> Typed {
    let constant = |expr: &Expr| matches!(expr, Expr::Const(_));
    let foldable = match &typed.expr {
        Expr::List(items) => items.iter().all(constant),
        Expr::Map(entries) => entries.iter().all(|(key, value)| constant(key) && constant(value)),
        Expr::Call(fun, args) => *fun != Fun::Now && args.iter().all(constant),
        Expr::Not(of) | Expr::Neg(of) | Expr::Matches(of, _) | Expr::InStrings(of, _) => constant(of),
        Expr::Index(of, key) => constant(of) && constant(key),
        Expr::Equal(sides, _) | Expr::Compare(_, sides) | Expr::Arith(_, sides) | Expr::In(sides) => {
            sides.iter().all(constant)
        }
        _ => false,
    };
    if !foldable {
        return typed;
    }
    let ctx = Context::new(0);
    let mut budget = Budget::of(FOLD_UNITS);
    let folded = Machine::new(Input { ctx: &ctx, attrs: None, asked: None }, &mut budget)
        .eval(&typed.expr)
        .map(crate::value::Val::into_value);
    match folded {
        Ok(value) => Typed::new(Expr::Const(value), typed.ty),
        Err(_) => typed,
    }
}
