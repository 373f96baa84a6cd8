//! A tree, walked along the descriptor of its kind, becomes a resource; everything that doesn't fit is an error with its position.

use std::{collections::HashMap, sync::Arc};

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind as Type, MapKey, MessageDescriptor, Value};
use prost_types::{ListValue, Struct, value::Kind as Free};

use super::{
    Document, ERRORS_MAX, Note, Position, alias,
    places::{Mark, Places},
    scalar::{self, Scalar, found, quote, shorten},
    strays,
    suggest::{did_you_mean, nearest},
    tree::{Content, Entry, Fault, Node},
};
use crate::{API_VERSION, Kind, name};

/// Nesting of free-form objects: each level costs three of the hundred that Protocol Buffers are read with.
pub(crate) const FREE_FORM_DEPTH_MAX: usize = 20;
/// The largest integer up to which a free-form number is exact.
const EXACT_INTEGER_MAX: i128 = 1 << 53;

/// Reads one document; `None` if it is empty.
pub(super) fn document(root: &Node<'_>, source: &Arc<str>) -> Result<Option<Document>, Vec<Fault>> {
    if root.is_null() {
        return Ok(None);
    }
    let kind = kind(root).map_err(|fault| vec![fault])?;
    let mut document = object(kind, root, source)?;
    if document.object.name().is_empty() {
        if kind == Kind::ClusterConfig {
            // There is only one, so that its name needs not be written.
            document.object.metadata_mut().name = name::CLUSTER_CONFIG.to_owned();
        } else {
            let at = document.places.find("metadata");
            return Err(vec![fault(at, "metadata.name", "missing: every resource has a name")]);
        }
    }
    Ok(Some(document))
}

/// Reads a resource whose kind is known.
pub(super) fn object(kind: Kind, root: &Node<'_>, source: &Arc<str>) -> Result<Document, Vec<Fault>> {
    let Content::Mapping(entries) = &root.content else {
        return Err(vec![fault(root.at, "", format!("expected a resource, found {}", found(root, true)))]);
    };
    let mut reader = Reader {
        source,
        kind,
        path: String::new(),
        faults: Vec::new(),
        notes: Vec::new(),
        http_mode: http_mode(entries),
    };
    reader.envelope(entries);
    let mut places = Places::new(root.at);
    let message = reader.message(&kind.descriptor(), root, &mut places);
    if !reader.faults.is_empty() {
        return Err(reader.faults);
    }
    // Fails only for what is nested deeper than Protocol Buffers are read.
    let object = message
        .ok_or_else(|| "could not be read".to_owned())
        .and_then(|message| kind.decode(&message.encode_to_vec()).map_err(|error| error.to_string()))
        .map_err(|message| vec![fault(root.at, "", message)])?;
    let at = reader.position(root.at);
    Ok(Document { object, at, notes: reader.notes, places })
}

fn fault(at: Mark, path: &str, message: impl Into<String>) -> Fault {
    Fault { at, path: path.to_owned(), message: message.into() }
}

/// The kind that a document says it has.
fn kind(root: &Node<'_>) -> Result<Kind, Fault> {
    let Content::Mapping(entries) = &root.content else {
        return Err(fault(
            root.at,
            "",
            format!("expected a resource (a mapping with `kind`), found {}", found(root, false)),
        ));
    };
    let names = || Kind::ALL.iter().map(|kind| kind.name());
    let Some(entry) = member(entries, "kind") else {
        let near = nearest("kind", entries.iter().map(|entry| &*entry.key))
            .and_then(|key| member(entries, key))
            .map(|entry| (entry.at, format!("; is {} meant to be it?", quote(&entry.key))));
        let (at, hint) = near.unwrap_or((root.at, String::new()));
        let message = format!("missing: expected one of {}{hint}", names().collect::<Vec<_>>().join(", "));
        return Err(fault(at, "kind", message));
    };
    let at = place(entry);
    match scalar::scalar(&entry.value) {
        Some(Scalar::Text(text)) => text.parse().map_err(|()| {
            let message = format!("unknown kind {}{}", quote(text), did_you_mean(text, names()));
            fault(at, "kind", message)
        }),
        _ => Err(fault(at, "kind", format!("expected the name of a kind, found {}", found(&entry.value, false)))),
    }
}

fn member<'e, 't>(entries: &'e [Entry<'t>], key: &str) -> Option<&'e Entry<'t>> {
    entries.iter().find(|entry| entry.key == key)
}

/// Where to point for a value: at its key if nothing stands there or it begins on a later line.
fn place(entry: &Entry<'_>) -> Mark {
    if entry.value.is_null() || entry.value.at.0 != entry.at.0 { entry.at } else { entry.value.at }
}

/// Whether `spec.mode` is one whose short spellings mean `config.http`.
fn http_mode(entries: &[Entry<'_>]) -> bool {
    let mode = member(entries, "spec").and_then(|spec| match &spec.value.content {
        Content::Mapping(entries) => member(entries, "mode"),
        _ => None,
    });
    match mode.and_then(|mode| scalar::scalar(&mode.value)) {
        Some(Scalar::Text(mode)) => matches!(mode, "HTTP" | "WEB" | "GRPC"),
        Some(Scalar::Integer(number)) => matches!(number, 3 | 8 | 9),
        _ => false,
    }
}

struct Reader<'s> {
    source: &'s Arc<str>,
    kind: Kind,
    path: String,
    faults: Vec<Fault>,
    notes: Vec<Note>,
    http_mode: bool,
}

impl Reader<'_> {
    fn position(&self, at: Mark) -> Position {
        Position { source: self.source.clone(), line: at.0, column: at.1 }
    }

    /// A fault at the current path.
    fn refuse(&mut self, at: Mark, message: impl Into<String>) {
        if self.faults.len() <= ERRORS_MAX {
            self.faults.push(Fault { at, path: self.path.clone(), message: message.into() });
        }
    }

    fn note(&mut self, notes: impl IntoIterator<Item = (Mark, String)>) {
        let source = self.source;
        // Nobody reads more, and a hostile text could have millions.
        let room = ERRORS_MAX.saturating_sub(self.notes.len());
        let notes = notes
            .into_iter()
            .take(room)
            .map(|(at, text)| Note { at: Position { source: source.clone(), line: at.0, column: at.1 }, text });
        self.notes.extend(notes);
    }

    /// Runs `read` one step further down.
    fn within<T>(&mut self, step: std::fmt::Arguments<'_>, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        let step = step.to_string();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(&step);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    /// Whether the values here must not be shown.
    fn secret(&self) -> bool {
        self.kind.has_data() && self.path.starts_with("data")
    }

    fn envelope(&mut self, entries: &[Entry<'_>]) {
        for (key, expected) in [("apiVersion", API_VERSION), ("kind", self.kind.name())] {
            if let Some(entry) = member(entries, key)
                && let Some(Scalar::Text(text)) = scalar::scalar(&entry.value)
                && text != expected
            {
                let message = format!("expected `{expected}`, found {}", quote(text));
                self.within(format_args!("{key}"), |reader| reader.refuse(place(entry), message));
            }
        }
    }

    fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node<'_>,
        places: &mut Places,
    ) -> Option<DynamicMessage> {
        let Content::Mapping(entries) = &node.content else {
            let hint = if node.is_null() { "; write `{}` for an empty one or leave the key out" } else { "" };
            self.refuse(node.at, format!("expected a mapping, found {}{hint}", found(node, self.secret())));
            return None;
        };
        let normalised = match descriptor.full_name() {
            "octelium.api.main.core.v1.Service.Spec.Config" if self.http_mode => Some(alias::config(node.at, entries)),
            "octelium.api.main.core.v1.Service.Spec.Config.HTTP.Plugin" => Some(alias::plugin(entries)),
            _ => None,
        };
        let entries = match normalised {
            Some(normalised) => {
                self.note(normalised.notes);
                for fault in normalised.faults {
                    self.within(format_args!("{}", fault.path), |reader| reader.refuse(fault.at, fault.message));
                }
                std::borrow::Cow::Owned(normalised.entries)
            }
            None => std::borrow::Cow::Borrowed(entries),
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut members: HashMap<String, (String, Mark)> = HashMap::new();
        for entry in entries.iter() {
            let Some(field) = descriptor.get_field_by_name(&entry.key) else {
                self.unknown(descriptor, entry);
                continue;
            };
            self.within(format_args!("{}", field.name()), |reader| {
                if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                    let first =
                        members.entry(oneof.full_name().to_owned()).or_insert((field.name().to_owned(), entry.at));
                    if first.0 != field.name() {
                        let message = format!(
                            "only one of `{}` (at {}:{}) and `{}` can be given",
                            first.0,
                            first.1.0,
                            first.1.1,
                            field.name()
                        );
                        reader.refuse(entry.at, message);
                    }
                }
                if is_free_form(&field) {
                    reader.note(strays::in_free_form(descriptor, &entries, &entry.value));
                }
                let mut place = Places::new(place(entry));
                if let Some(value) = reader.field(&field, entry, &mut place)
                    && let Err(error) = message.try_set_field(&field, value)
                {
                    reader.refuse(entry.at, error.to_string());
                }
                places.add(field.name(), place);
            });
        }
        Some(message)
    }

    fn unknown(&mut self, descriptor: &MessageDescriptor, entry: &Entry<'_>) {
        let names: Vec<_> = descriptor.fields().collect();
        let hint = if descriptor.full_name().ends_with(".Service.Spec.Config") && alias::is_http_member(&entry.key) {
            format!("; it belongs to the part for the Service's mode, e.g. `http.{}`", entry.key)
        } else {
            did_you_mean(&entry.key, names.iter().map(|field| field.name()))
        };
        self.within(format_args!("{}", shorten(&entry.key)), |reader| {
            reader.refuse(entry.at, format!("unknown key{hint}"));
        });
    }

    fn field(&mut self, field: &FieldDescriptor, entry: &Entry<'_>, places: &mut Places) -> Option<Value> {
        let node = &*entry.value;
        if node.is_null() {
            let empty = match field.kind() {
                _ if field.is_list() => "; write `[]` for an empty list or leave the key out",
                Type::Message(_) => "; write `{}` for an empty one or leave the key out",
                _ => "; leave the key out",
            };
            self.refuse(entry.at, format!("has no value{empty}"));
            return None;
        }
        if field.is_list() {
            let Content::List(items) = &node.content else {
                self.refuse(node.at, format!("expected a list, found {}", found(node, self.secret())));
                return None;
            };
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let mut place = Places::new(item.at);
                let value =
                    self.within(format_args!("[{index}]"), |reader| reader.single(&field.kind(), item, &mut place));
                values.extend(value);
                places.add(&index.to_string(), place);
            }
            return Some(Value::List(values));
        }
        if field.is_map() {
            return self.map(field, node, places);
        }
        self.single(&field.kind(), node, places)
    }

    fn map(&mut self, field: &FieldDescriptor, node: &Node<'_>, places: &mut Places) -> Option<Value> {
        let Type::Message(pair) = field.kind() else { return None };
        let Content::Mapping(entries) = &node.content else {
            self.refuse(node.at, format!("expected a mapping, found {}", found(node, self.secret())));
            return None;
        };
        let of = pair.map_entry_value_field().kind();
        let mut values = HashMap::with_capacity(entries.len());
        for entry in entries {
            let mut place = Places::new(entry.at);
            let value = self
                .within(format_args!("{}", shorten(&entry.key)), |reader| reader.single(&of, &entry.value, &mut place));
            // Every map of the model has text as key.
            if let Some(value) = value {
                values.insert(MapKey::String(entry.key.to_string()), value);
            }
            places.add(&entry.key, place);
        }
        Some(Value::Map(values))
    }

    fn single(&mut self, of: &Type, node: &Node<'_>, places: &mut Places) -> Option<Value> {
        let Type::Message(descriptor) = of else {
            if !self.secret() {
                self.note(strays::in_text(node));
            }
            return match scalar::value(of, node, self.secret()) {
                Ok(value) => Some(value),
                Err(message) => {
                    self.refuse(node.at, message);
                    None
                }
            };
        };
        match descriptor.full_name() {
            "google.protobuf.Timestamp" => match timestamp(node) {
                Ok(timestamp) => self.transcoded(descriptor, node, &timestamp),
                Err(message) => {
                    self.refuse(node.at, message);
                    None
                }
            },
            "google.protobuf.Struct" => {
                let value = self.free_struct(node, 1)?;
                self.transcoded(descriptor, node, &value)
            }
            _ => self.message(descriptor, node, places).map(Value::Message),
        }
    }

    fn transcoded<M: Message>(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node<'_>,
        message: &M,
    ) -> Option<Value> {
        let mut dynamic = DynamicMessage::new(descriptor.clone());
        match dynamic.transcode_from(message) {
            Ok(()) => Some(Value::Message(dynamic)),
            Err(error) => {
                self.refuse(node.at, error.to_string());
                None
            }
        }
    }

    fn free_struct(&mut self, node: &Node<'_>, level: usize) -> Option<Struct> {
        let Content::Mapping(entries) = &node.content else {
            self.refuse(node.at, format!("expected a mapping, found {}", found(node, self.secret())));
            return None;
        };
        let mut fields = std::collections::BTreeMap::new();
        for entry in entries {
            let value =
                self.within(format_args!("{}", shorten(&entry.key)), |reader| reader.free(&entry.value, level + 1));
            if let Some(value) = value {
                fields.insert(entry.key.to_string(), value);
            }
        }
        Some(Struct { fields })
    }

    fn free(&mut self, node: &Node<'_>, level: usize) -> Option<prost_types::Value> {
        if level > FREE_FORM_DEPTH_MAX && scalar::scalar(node).is_none() {
            self.refuse(node.at, format!("nested deeper than {FREE_FORM_DEPTH_MAX} levels"));
            return None;
        }
        let kind = match (scalar::scalar(node), &node.content) {
            (Some(Scalar::Null), _) => Free::NullValue(0),
            (Some(Scalar::Bool(value)), _) => Free::BoolValue(value),
            (Some(Scalar::Text(text)), _) => Free::StringValue(text.to_owned()),
            #[allow(clippy::cast_precision_loss, reason = "checked to be exact")]
            (Some(Scalar::Integer(value)), _) if value.abs() <= EXACT_INTEGER_MAX => Free::NumberValue(value as f64),
            (Some(Scalar::Integer(_)), _) => {
                self.refuse(node.at, format!("{} can't be kept exactly; put it in quotes", found(node, self.secret())));
                return None;
            }
            (Some(Scalar::Float(value)), _) if value.is_finite() => Free::NumberValue(value),
            (Some(Scalar::Float(_)), _) => {
                self.refuse(node.at, "expected a finite number");
                return None;
            }
            (Some(Scalar::Ambiguous(_)), _) => {
                self.refuse(
                    node.at,
                    format!(
                        "{} is ambiguous; put it in quotes or write it without leading zeros",
                        found(node, self.secret())
                    ),
                );
                return None;
            }
            (None, Content::List(items)) => {
                let values = items
                    .iter()
                    .enumerate()
                    .filter_map(|(index, item)| {
                        self.within(format_args!("[{index}]"), |reader| reader.free(item, level + 1))
                    })
                    .collect();
                Free::ListValue(ListValue { values })
            }
            (None, _) => Free::StructValue(self.free_struct(node, level)?),
        };
        Some(prost_types::Value { kind: Some(kind) })
    }
}

fn is_free_form(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Type::Message(message) if message.full_name() == "google.protobuf.Struct")
}

/// RFC 3339, from year 1 to 9999.
fn timestamp(node: &Node<'_>) -> Result<prost_types::Timestamp, String> {
    const EXPECTED: &str = "expected a time like `2026-01-31T12:00:00Z`";
    let Some(Scalar::Text(text)) = scalar::scalar(node) else {
        return Err(format!("{EXPECTED}, found {}", found(node, false)));
    };
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| format!("{EXPECTED}, found {}", quote(text)))?;
    let timestamp = prost_types::Timestamp {
        seconds: time.timestamp(),
        // A leap second is the next second's beginning here.
        nanos: i32::try_from(time.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default(),
    };
    if crate::validate::is_valid_timestamp(&timestamp) {
        Ok(timestamp)
    } else {
        Err(format!("{} is out of range; expected the years 1 to 9999", quote(text)))
    }
}
