//! The tree that is evaluated.

use std::sync::Arc;

use crate::{Value, access::Access, functions::Fun};

/// One step of an expression. Its depth is bounded when it is made, see `lower`.
#[derive(Debug)]
pub(crate) enum Expr {
    Const(Value),
    /// A variable of a macro: its place among those in scope.
    Local(u16),
    Access(Access),
    /// `has()` of a part of the input.
    Has(Access),
    Select(Box<Expr>, Box<str>),
    HasField(Box<HasField>),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    And(Box<[Expr]>),
    Or(Box<[Expr]>),
    Choice(Box<[Expr; 3]>),
    /// Whether they are equal; the flag turns it around.
    Equal(Box<[Expr; 2]>, bool),
    Compare(Order, Box<[Expr; 2]>),
    Arith(Arith, Box<[Expr; 2]>),
    In(Box<[Expr; 2]>),
    /// A long list of constant strings, sorted.
    InStrings(Box<Expr>, Box<[Arc<str>]>),
    Matches(Box<Expr>, Box<crate::builtins::regexes::Pattern>),
    Call(Fun, Box<[Expr]>),
    List(Box<[Expr]>),
    Map(Box<[(Expr, Expr)]>),
    /// `all`, `exists`, `exists_one`: range, condition.
    Quantify(Quantifier, Box<[Expr; 2]>),
    Collect(Box<Collect>),
    /// `cel.bind`: value, body.
    Bind(Box<[Expr; 2]>),
}

/// `has(operand.name)`
#[derive(Debug)]
pub(crate) struct HasField {
    pub operand: Expr,
    pub name: Box<str>,
    /// A field that is always there counts as unset with this value, as Protocol Buffers do.
    pub unset: Option<Value>,
}

/// `map` and `filter`
#[derive(Debug)]
pub(crate) struct Collect {
    pub range: Expr,
    pub filter: Option<Expr>,
    pub body: Expr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl Arith {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Rem => "%",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    All,
    Exists,
    ExistsOne,
}
