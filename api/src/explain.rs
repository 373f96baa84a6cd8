//! What a member of a resource means: its type, its comment in the `.proto` files, and whether this version serves it.

use std::{collections::HashMap, sync::OnceLock};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as Type, MessageDescriptor};

use crate::{
    Kind,
    manifest::did_you_mean,
    validate::{not_served, value_not_served},
};

/// `full.name<tab>comment`, written by the build script.
static DOCS: &str = include_str!(concat!(env!("OUT_DIR"), "/docs.txt"));

/// A member of a resource, or a kind as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The kind that it belongs to.
    pub kind: Kind,
    /// From the kind on, e.g. `Service.spec.config.http`.
    pub path: String,
    /// As in [`Member::type`]; a kind is an `object`.
    pub r#type: String,
    /// What it means; empty if nothing is written about it.
    pub text: String,
    /// Its name and those of its rivals, if only one of them can be set.
    pub one_of: Vec<String>,
    /// Why this version refuses it, if it does.
    pub unsupported: Option<String>,
    /// What an enum can be.
    pub values: Vec<Choice>,
    /// What stands in it, in declared order.
    pub members: Vec<Member>,
}

/// A member of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As written in a manifest.
    pub name: String,
    /// For example `string`, `list of object`, `map of string`, `Duration`.
    pub r#type: String,
    /// What it means, in its first sentence.
    pub text: String,
    /// Its name and those of its rivals, if only one of them can be set.
    pub one_of: Vec<String>,
    /// Why this version refuses it, if it does.
    pub unsupported: Option<String>,
    /// It has members itself, which are not those of something that it is part of.
    pub opens: bool,
}

/// A value of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// As written in a manifest.
    pub name: String,
    /// What it means.
    pub text: String,
    /// Why this version refuses it, if it does.
    pub unsupported: Option<String>,
}

/// Explains `path`: a kind, and members after it, e.g. `Service.spec.config`. Lists are passed through; `rules[0]` is `rules`.
///
/// # Errors
/// A sentence, if there is no such kind or member.
pub fn explain(path: &str) -> Result<Explained, String> {
    let mut steps = path.split('.');
    let name = steps.next().unwrap_or_default();
    let kind: Kind = name.parse().map_err(|()| {
        let hint = did_you_mean(name, Kind::ALL.iter().map(|kind| kind.name()));
        format!("there is no kind `{}`{hint}", name.escape_debug())
    })?;
    let mut walk = Walk::new(kind);
    steps.try_for_each(|step| walk.enter(step))?;
    Ok(walk.explained())
}

/// Where a walk along a path has come to.
struct Walk {
    kind: Kind,
    path: String,
    /// The last member; none at the kind itself.
    field: Option<FieldDescriptor>,
    /// What stands in the last member, and in all that it is part of.
    within: Vec<MessageDescriptor>,
    /// Whether the last member has members.
    open: bool,
    /// Why this version refuses the last member or what it is part of.
    unsupported: Option<String>,
}

impl Walk {
    fn new(kind: Kind) -> Self {
        let (path, within) = (kind.name().to_owned(), vec![kind.descriptor()]);
        Self { kind, path, field: None, within, open: true, unsupported: None }
    }

    fn enter(&mut self, step: &str) -> Result<(), String> {
        // Paths in messages about lists have numbers, which make no difference here.
        let name = step.split('[').next().unwrap_or_default();
        let Some(message) = self.within.last().filter(|_| self.open) else {
            return Err(format!("{} has no members", self.path));
        };
        let Some(field) = message.get_field_by_name(name) else {
            let known: Vec<_> = message.fields().collect();
            let hint = did_you_mean(name, known.iter().map(FieldDescriptor::name));
            return Err(format!("{} has no member `{}`{hint}", self.path, name.escape_debug()));
        };
        self.path = format!("{}.{name}", self.path);
        if self.is_written() && self.unsupported.is_none() {
            self.unsupported = not_served(&field);
        }
        let inside = opened(&field);
        self.open = inside.is_some();
        self.within.extend(inside);
        self.field = Some(field);
        Ok(())
    }

    /// Whether callers write what stands here; the rest is the server's, and always served.
    fn is_written(&self) -> bool {
        matches!(self.path.split('.').nth(1), Some("spec" | "data")) && self.path.matches('.').count() > 1
    }

    fn explained(self) -> Explained {
        let message = self.within.last().filter(|_| self.open);
        let members = message.iter().flat_map(|message| message.fields()).map(|field| self.member(&field)).collect();
        let values = match self.field.as_ref().map(value_type) {
            Some(Type::Enum(choices)) => choices_of(&choices),
            _ => Vec::new(),
        };
        Explained {
            kind: self.kind,
            r#type: self.field.as_ref().map_or_else(|| "object".to_owned(), type_of),
            text: self.field.as_ref().map_or_else(|| text(self.kind.descriptor().full_name()), text_of).to_owned(),
            one_of: self.field.as_ref().map(rivals).unwrap_or_default(),
            unsupported: self.unsupported,
            values,
            members,
            path: self.path,
        }
    }

    fn member(&self, field: &FieldDescriptor) -> Member {
        let is_written = matches!(self.path.split('.').nth(1), Some("spec" | "data"));
        let own = || is_written.then(|| not_served(field)).flatten();
        Member {
            name: field.name().to_owned(),
            r#type: type_of(field),
            text: first_sentence(text_of(field)).to_owned(),
            one_of: rivals(field),
            unsupported: self.unsupported.clone().or_else(own),
            opens: opened(field).is_some_and(|inside| !self.within.contains(&inside)),
        }
    }
}

/// The comment above what has this name.
fn text(full_name: &str) -> &'static str {
    static TABLE: OnceLock<HashMap<&str, &str>> = OnceLock::new();
    let table = TABLE.get_or_init(|| DOCS.lines().filter_map(|line| line.split_once('\t')).collect());
    table.get(full_name).copied().unwrap_or_default()
}

/// The comment above a field, or above what it holds.
fn text_of(field: &FieldDescriptor) -> &'static str {
    match (text(field.full_name()), value_type(field)) {
        ("", Type::Message(message)) => text(message.full_name()),
        ("", Type::Enum(choices)) => text(choices.full_name()),
        (text, _) => text,
    }
}

/// Up to the first full stop that ends a sentence.
fn first_sentence(text: &str) -> &str {
    let mut ends = text.match_indices(". ").map(|(index, _)| index + 1);
    // Not one of `e.g.`.
    let end = ends.find(|end| !text[..*end].ends_with("e.g.") && !text[..*end].ends_with("i.e."));
    &text[..end.unwrap_or(text.len())]
}

/// What a list or a map holds, or the field itself.
fn value_type(field: &FieldDescriptor) -> Type {
    match field.kind() {
        Type::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

/// The message whose members are written inside of a field.
fn opened(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match value_type(field) {
        Type::Message(message) if message.full_name().starts_with("octelium.") => Some(message),
        _ => None,
    }
}

fn type_of(field: &FieldDescriptor) -> String {
    let value = match value_type(field) {
        Type::Bool => "boolean",
        Type::String => "string",
        Type::Bytes => "bytes (base64)",
        Type::Double | Type::Float => "number",
        Type::Enum(_) => "enum",
        Type::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "time (RFC 3339)",
            "google.protobuf.Struct" => "object (free-form)",
            // What stands in one place only has no name of its own.
            _ if message.parent_message().is_some() => "object",
            _ => return of(field, message.name()),
        },
        _ => "integer",
    };
    of(field, value)
}

fn of(field: &FieldDescriptor, value: &str) -> String {
    match (field.is_list(), field.is_map()) {
        (true, _) => format!("list of {value}"),
        (_, true) => format!("map of {value}"),
        _ => value.to_owned(),
    }
}

/// The members of which only one can be set, the field among them; none if it can be set with any other.
fn rivals(field: &FieldDescriptor) -> Vec<String> {
    let Some(one_of) = field.containing_oneof() else { return Vec::new() };
    // One that is alone has no rivals; so is one that only knows whether it is set.
    let names: Vec<_> = one_of.fields().map(|field| field.name().to_owned()).collect();
    if names.len() > 1 { names } else { Vec::new() }
}

/// All values but the first, which says that none is chosen, unless it means something.
fn choices_of(choices: &EnumDescriptor) -> Vec<Choice> {
    let values = choices.values().map(|value| Choice {
        name: value.name().to_owned(),
        text: text(&format!("{}.{}", choices.full_name(), value.name())).to_owned(),
        unsupported: value_not_served(choices, value.number()),
    });
    values.filter(|value| !value.name.ends_with("UNSET") && !value.name.contains("UNKNOWN")).collect()
}

#[cfg(test)]
mod tests;
