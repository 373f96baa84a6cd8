//! Values that rules see.

mod compare;
mod convert;
pub(crate) mod time;
mod view;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};

pub(crate) use compare::{compare, equal};
pub(crate) use convert::is_free_object;
pub(crate) use view::{Val, View};

/// A CEL value. Cloning is cheap.
#[derive(Clone)]
pub enum Value {
    /// `null`
    Null,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    UInt(u64),
    /// `double`
    Double(f64),
    /// `string`
    String(Arc<str>),
    /// `bytes`
    Bytes(Arc<[u8]>),
    /// `list`
    List(Arc<[Value]>),
    /// `map`, keys are strings
    Map(Arc<Map>),
    /// `timestamp`, from year 1 to 9999
    Timestamp(DateTime<Utc>),
    /// `duration` in nanoseconds
    Duration(i64),
    /// `type`
    Type(Type),
}

/// The type of a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of CEL")]
pub enum Type {
    Null,
    Bool,
    Int,
    UInt,
    Double,
    String,
    Bytes,
    List,
    Map,
    Timestamp,
    Duration,
    Type,
}

impl Type {
    /// As CEL writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::UInt => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Map => "map",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::Type => "type",
        }
    }

    /// The type of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        use Type::{Bool, Bytes, Double, Duration, Int, List, Map, Null, String, Timestamp, Type as Ty, UInt};
        [Null, Bool, Int, UInt, Double, String, Bytes, List, Map, Timestamp, Duration, Ty]
            .into_iter()
            .find(|ty| ty.name() == name)
    }
}

/// A map from strings to values, ordered by key.
#[derive(Clone, Default)]
pub struct Map(Box<[(Arc<str>, Value)]>);

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let index = self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(&self.0[index].1)
    }

    /// Keys and values, ordered by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The entry at this place in the order of keys.
    pub(crate) fn at(&self, index: usize) -> Option<(&Arc<str>, &Value)> {
        self.0.get(index).map(|(key, value)| (key, value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Arc<str>>> FromIterator<(K, Value)> for Map {
    /// Of entries with the same key the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(entries: I) -> Self {
        let mut entries: Vec<(Arc<str>, Value)> = entries.into_iter().map(|(key, value)| (key.into(), value)).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.reverse();
        entries.dedup_by(|a, b| a.0 == b.0);
        entries.reverse();
        Self(entries.into())
    }
}

impl Value {
    /// A list.
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(items.into())
    }

    /// A map; of entries with the same key the last one counts.
    pub fn map<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().collect()))
    }

    /// A string.
    pub fn string(text: impl AsRef<str>) -> Self {
        Self::String(text.as_ref().into())
    }

    /// The type.
    pub fn type_of(&self) -> Type {
        self.view().type_of()
    }

    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Self::Null => View::Null,
            Self::Bool(value) => View::Bool(*value),
            Self::Int(value) => View::Int(*value),
            Self::UInt(value) => View::UInt(*value),
            Self::Double(value) => View::Double(*value),
            Self::String(value) => View::Str(value),
            Self::Bytes(value) => View::Bytes(value),
            Self::List(value) => View::List(value),
            Self::Map(value) => View::Map(value),
            Self::Timestamp(value) => View::Timestamp(*value),
            Self::Duration(value) => View::Duration(*value),
            Self::Type(value) => View::Type(*value),
        }
    }
}

/// Equality as in CEL: numbers are equal across their types, NaN equals nothing.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        equal(self.view(), other.view(), &mut crate::Budget::of(u64::MAX)).unwrap_or(false)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.view() {
            View::Null => f.write_str("null"),
            View::Bool(value) => write!(f, "{value}"),
            View::Int(value) => write!(f, "{value}"),
            View::UInt(value) => write!(f, "{value}u"),
            View::Double(value) => write!(f, "{value:?}"),
            View::Str(value) => write!(f, "{value:?}"),
            View::Bytes(value) => write!(f, "b\"{}\"", value.escape_ascii()),
            View::List(value) => f.debug_list().entries(value).finish(),
            View::Map(value) => f.debug_map().entries(value.iter()).finish(),
            View::Timestamp(value) => write!(f, "timestamp({:?})", time::format_timestamp(value)),
            View::Duration(value) => write!(f, "duration({:?})", time::format_duration(value)),
            View::Type(value) => f.write_str(value.name()),
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
