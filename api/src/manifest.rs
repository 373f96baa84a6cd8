//! YAML and JSON text to resources, and back.
//!
//! The text is parsed into a tree whose nodes know their positions (`tree`), which is then read along the kind's descriptor
//! (`read`), so that every complaint names a line, a column and a path. Nothing is dropped: what isn't known is an error.

use std::{collections::HashMap, fmt, sync::Arc};

use prost_reflect::DynamicMessage;

use crate::{Kind, Object, descriptor};

mod alias;
mod places;
mod read;
mod scalar;
mod strays;
mod suggest;
mod tree;
mod write;
mod yaml;

pub(crate) use read::FREE_FORM_DEPTH_MAX;
#[cfg(feature = "explain")]
pub(crate) use suggest::did_you_mean;

use places::Places;
use tree::{Fault, Trees};

/// More errors than these are not shown.
const ERRORS_MAX: usize = 100;

/// What one text may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Length of the text; twice this is the most that aliases may expand it to.
    pub bytes_max: usize,
    /// Documents in the text, empty ones included.
    pub documents_max: usize,
    /// Nesting of lists and mappings.
    pub depth_max: usize,
    /// Scalars, lists and mappings of all documents together, aliases expanded.
    pub nodes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 16 * 1024 * 1024, documents_max: 10_000, depth_max: 64, nodes_max: 2_000_000 }
    }
}

/// A place in a text: 1-based line and column (in characters). Line 0 is the text as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file's name, as the caller gave it.
    pub source: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.source),
            line => write!(f, "{}:{line}:{}", self.source, self.column),
        }
    }
}

/// One resource of a text.
#[derive(Debug, Clone)]
pub struct Document {
    /// The resource.
    pub object: Object,
    /// Where it begins.
    pub at: Position,
    /// What was understood although it is spelled otherwise, or may be meant otherwise.
    pub notes: Vec<Note>,
    places: Places,
}

impl Document {
    /// The position of what `path` (e.g. `spec.rules[0].condition.match`) names, or of its closest known ancestor.
    pub fn locate(&self, path: &str) -> Position {
        let (line, column) = self.places.find(path);
        Position { source: self.at.source.clone(), line, column }
    }
}

/// An alias was normalised, or something is read as it stands that may be meant otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it stands.
    pub at: Position,
    /// What it means, in a sentence.
    pub text: String,
}

/// Why a text or a part of it is refused. Displays as `users.yaml:3:7: spec.isPublc: unknown key; did you mean …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where it stands.
    pub at: Position,
    /// What it is, e.g. `spec.port`; empty for the document as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.at, self.message),
            path => write!(f, "{}: {path}: {}", self.at, self.message),
        }
    }
}

impl std::error::Error for Error {}

/// Reads all documents of `text`; `source` names it in positions.
///
/// # Errors
/// Everything that is wrong with any of the documents, in order: syntax, limits, kinds, keys, types, and two documents with the
/// same kind and name. A syntax error ends the reading.
pub fn parse(source: &str, text: &str, limits: &Limits) -> Result<Vec<Document>, Vec<Error>> {
    let source: Arc<str> = source.into();
    let mut errors = Errors { source: source.clone(), list: Vec::new(), more: false };
    // Before anything looks at the text.
    if text.len() > limits.bytes_max {
        let message = format!("the text has {} bytes; at most {} are read at once", text.len(), limits.bytes_max);
        errors.push(Fault { at: (0, 0), path: String::new(), message });
        return Err(errors.finish());
    }
    let mut documents = Vec::new();
    let mut names: HashMap<(Kind, String), Position> = HashMap::new();
    for tree in Trees::new(text, limits) {
        let tree = match tree {
            Ok(tree) => tree,
            Err(fault) => {
                errors.push(fault);
                break;
            }
        };
        let broken = !tree.faults.is_empty();
        tree.faults.into_iter().for_each(|fault| errors.push(fault));
        let read = match read::document(&tree.root, &source) {
            Ok(None) => continue,
            Ok(Some(document)) => document,
            Err(faults) => {
                faults.into_iter().for_each(|fault| errors.push(fault));
                continue;
            }
        };
        let at = read.locate("metadata.name");
        match names.entry((read.object.kind(), canonical_name(&read.object))) {
            std::collections::hash_map::Entry::Occupied(first) => errors.push(Fault {
                at: (at.line, at.column),
                path: "metadata.name".to_owned(),
                message: format!("{} `{}` is already given at {}", first.key().0, first.key().1, first.get()),
            }),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(at);
            }
        }
        if !broken {
            documents.push(read);
        }
    }
    if errors.list.is_empty() { Ok(documents) } else { Err(errors.finish()) }
}

/// Reads one resource from JSON; `kind` and `apiVersion` may be absent, `metadata.name` too.
///
/// # Errors
/// Everything that is wrong with it, without positions.
pub fn from_json(kind: Kind, value: &serde_json::Value) -> Result<Object, Vec<Error>> {
    let source: Arc<str> = "json".into();
    let mut errors = Errors { source: source.clone(), list: Vec::new(), more: false };
    let read = tree::from_json(value, &Limits::default())
        .map_err(|fault| vec![fault])
        .and_then(|root| read::object(kind, &root, &source));
    match read {
        Ok(document) => Ok(document.object),
        Err(faults) => {
            faults.into_iter().for_each(|fault| errors.push(fault));
            Err(errors.finish())
        }
    }
}

/// Proto JSON with the names as declared (`isTLS`, `clientID`), enums as names, 64-bit integers as strings, bytes as base64,
/// timestamps as RFC 3339. Default values are left out.
pub fn to_json(object: &Object) -> serde_json::Value {
    write::tree(&object.dynamic()).into_json()
}

/// The same as YAML, members in declared order.
pub fn to_yaml(object: &Object) -> String {
    yaml::document(&write::tree(&object.dynamic()))
}

/// Any generated message (lists, tokens, …) as [`to_json`] shows resources.
pub fn message_to_json<M: prost::Message + prost::Name>(message: &M) -> serde_json::Value {
    match dynamic(message) {
        Ok(message) => write::tree(&message).into_json(),
        Err(error) => serde_json::Value::String(format!("{} can't be shown: {error}", M::NAME)),
    }
}

/// Any generated message as [`to_yaml`] shows resources.
pub fn message_to_yaml<M: prost::Message + prost::Name>(message: &M) -> String {
    match dynamic(message) {
        Ok(message) => yaml::document(&write::tree(&message)),
        Err(error) => format!("# {} can't be shown: {error}\n", M::NAME),
    }
}

/// Fails only for messages nested deeper than Protocol Buffers are read.
fn dynamic<M: prost::Message + prost::Name>(message: &M) -> Result<DynamicMessage, prost::DecodeError> {
    DynamicMessage::decode(descriptor::message::<M>(), message.encode_to_vec().as_slice())
}

fn canonical_name(object: &Object) -> String {
    match object.kind() {
        Kind::Service => crate::name::canonical_service(object.name()),
        _ => object.name().to_owned(),
    }
}

/// Collects errors up to a number worth reading.
struct Errors {
    source: Arc<str>,
    list: Vec<Error>,
    more: bool,
}

impl Errors {
    fn push(&mut self, fault: Fault) {
        if self.list.len() >= ERRORS_MAX {
            self.more = true;
            return;
        }
        let at = Position { source: self.source.clone(), line: fault.at.0, column: fault.at.1 };
        self.list.push(Error { at, path: fault.path, message: fault.message });
    }

    fn finish(mut self) -> Vec<Error> {
        if self.more {
            let at = Position { source: self.source, line: 0, column: 0 };
            self.list.push(Error { at, path: String::new(), message: "and more errors".to_owned() });
        }
        self.list
    }
}
