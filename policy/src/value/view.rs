//! Values while an expression is computed: borrowed where possible.

use chrono::{DateTime, Utc};

use super::{Map, Type, Value};

/// A borrowed look at any value.
#[derive(Clone, Copy)]
pub(crate) enum View<'v> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Str(&'v str),
    Bytes(&'v [u8]),
    List(&'v [Value]),
    Map(&'v Map),
    Timestamp(DateTime<Utc>),
    Duration(i64),
    Type(Type),
}

impl View<'_> {
    pub(crate) fn type_of(self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::UInt(_) => Type::UInt,
            Self::Double(_) => Type::Double,
            Self::Str(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::List(_) => Type::List,
            Self::Map(_) => Type::Map,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::Type(_) => Type::Type,
        }
    }
}

/// A value that may be borrowed from the context or from the expression.
#[derive(Clone)]
pub(crate) enum Val<'a> {
    Ref(&'a Value),
    Str(&'a str),
    Own(Value),
}

impl Val<'_> {
    pub(crate) const fn bool(value: bool) -> Self {
        Self::Own(Value::Bool(value))
    }

    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Self::Ref(value) => value.view(),
            Self::Str(text) => View::Str(text),
            Self::Own(value) => value.view(),
        }
    }

    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Ref(value) => value.clone(),
            Self::Str(text) => Value::string(text),
            Self::Own(value) => value,
        }
    }
}
