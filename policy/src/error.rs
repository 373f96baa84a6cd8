//! What is wrong with an expression, when it is compiled and when it is evaluated.

use std::fmt;

/// What is wrong with a policy, found when it is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where in the resource, e.g. `spec.rules[0].condition.match`.
    pub path: String,
    /// Line in the expression, from 1; 0 if the error isn't inside an expression.
    pub line: u32,
    /// Character in the line, from 1; 0 if the error isn't inside an expression.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What could be meant instead, e.g. "did you mean `ctx`?".
    pub hint: Option<String>,
}

impl Error {
    /// An error that isn't inside an expression.
    pub(crate) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), line: 0, column: 0, message: message.into(), hint: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Error {}

/// Why an expression has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A key, field or index that isn't there, or a selection from null: conditions take it as false.
    #[error("no such key, field or index")]
    Missing,
    /// There is no request yet, and the value depends on it.
    #[error("it depends on the request")]
    Unknown,
    /// There is a body, and this part of it wasn't read: a rule must not take that for no body.
    #[error("the body of this request is not shown to rules")]
    Unread,
    /// The operator or function isn't defined for values of these types.
    #[error("`{0}` is not defined for values of these types")]
    Overload(&'static str),
    /// A function refused the value of an argument.
    #[error("{0}")]
    Invalid(&'static str),
    /// The result of arithmetic or of a conversion doesn't fit.
    #[error("a number, timestamp or duration is out of range")]
    Overflow,
    /// Division or remainder by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A condition's expression isn't true or false.
    #[error("the condition is not a bool")]
    NotBool,
    /// The work that a decision may cost is spent. Nothing absorbs this error.
    #[error("the expression costs too much")]
    Budget,
}

impl EvalError {
    /// Which of two errors to report: the budget's before all, then what a request could still change, and last "missing".
    pub(crate) fn worst(self, other: Self) -> Self {
        match (self, other) {
            (Self::Budget, _) | (_, Self::Budget) => Self::Budget,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Missing, other) => other,
            (this, _) => this,
        }
    }
}
