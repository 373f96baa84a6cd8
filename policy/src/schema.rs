//! The types of expressions, and of what `ctx` holds.

use std::fmt;

use octelium_api::{core, descriptor};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::access::{GrpcField, HttpField, Node, Via, Which};

/// What is known about the type of an expression when it is compiled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ty {
    /// Anything; found out when evaluated.
    Dyn,
    Null,
    Bool,
    Int,
    UInt,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    Type,
    List(Box<Ty>),
    /// Keys are strings.
    Map(Box<Ty>),
    Message(MessageDescriptor),
    /// A part of `ctx` that isn't a message.
    Node(Node),
}

impl Ty {
    pub(crate) fn list(of: Ty) -> Self {
        Self::List(Box::new(of))
    }

    pub(crate) fn map(of: Ty) -> Self {
        Self::Map(Box::new(of))
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Double)
    }

    /// Whether it is a map when evaluated.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self, Self::Map(_) | Self::Message(_) | Self::Node(_))
    }

    /// Whether values of the two types could ever be equal.
    pub(crate) fn comparable(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn | Self::Null, _) | (_, Self::Dyn | Self::Null) => true,
            (Self::List(a), Self::List(b)) | (Self::Map(a), Self::Map(b)) => a.comparable(b),
            _ => self == other || self.is_number() && other.is_number() || self.is_map() && other.is_map(),
        }
    }

    /// The type of a value that has one of the two types.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Dyn }
    }

    /// The type of a field's value.
    pub(crate) fn of_field(field: &FieldDescriptor) -> Self {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => Self::map(Self::of_kind(entry.map_entry_value_field().kind())),
            kind if field.is_list() => Self::list(Self::of_kind(kind)),
            kind => Self::of_kind(kind),
        }
    }

    fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool,
            Kind::Double | Kind::Float => Self::Double,
            Kind::String | Kind::Bytes | Kind::Enum(_) => Self::String,
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Self::String,
                "google.protobuf.Struct" => Self::map(Self::Dyn),
                "google.protobuf.ListValue" => Self::list(Self::Dyn),
                "google.protobuf.Value" => Self::Dyn,
                _ => Self::Message(message),
            },
            _ => Self::Int,
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::UInt => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::Type => f.write_str("type"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(of) => write!(f, "map(string, {of})"),
            Self::Message(message) => f.write_str(message.name()),
            Self::Node(node) => f.write_str(node.name()),
        }
    }
}

/// What a name under a part of `ctx` leads to.
pub(crate) enum Child {
    Node(Node),
    Subject(Which, Ty),
    Ip,
    Http(Via, HttpField, Ty),
    Grpc(GrpcField),
    /// Part of the API, but no request that is served here has it.
    Absent(Ty),
}

/// What `name` under `node` is; `None` if there is no such name.
pub(crate) fn child(node: Node, name: &str) -> Option<Child> {
    match node {
        Node::Ctx => Some(match name {
            "request" => Child::Node(Node::Request),
            "session" => Child::Subject(Which::Session, message::<core::Session>()),
            "user" => Child::Subject(Which::User, message::<core::User>()),
            "groups" => Child::Subject(Which::Groups, Ty::list(message::<core::Group>())),
            "device" => Child::Subject(Which::Device, message::<core::Device>()),
            "service" => Child::Subject(Which::Service, message::<core::Service>()),
            "namespace" => Child::Subject(Which::Namespace, message::<core::Namespace>()),
            _ => return None,
        }),
        Node::Request => match name {
            "ip" => Some(Child::Ip),
            "http" => Some(Child::Node(Node::Http(Via::Http))),
            "grpc" => Some(Child::Node(Node::Grpc)),
            _ => request_message().get_field_by_name(name).map(|field| Child::Absent(Ty::of_field(&field))),
        },
        Node::Http(via) => HttpField::named(name).map(|field| Child::Http(via, field, http_type(field))),
        Node::Grpc => match name {
            "http" => Some(Child::Node(Node::Http(Via::Grpc))),
            _ => GrpcField::named(name).map(Child::Grpc),
        },
    }
}

/// The names under `node`.
pub(crate) fn children(node: Node) -> Vec<String> {
    let names: &[&str] = match node {
        Node::Ctx => &["request", "session", "user", "groups", "device", "service", "namespace"],
        Node::Request => return request_message().fields().map(|field| field.name().to_owned()).collect(),
        Node::Http(_) => return HttpField::ALL.iter().map(|(name, _)| (*name).to_owned()).collect(),
        Node::Grpc => &["http", "method", "service", "serviceFullName", "package"],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn http_type(field: HttpField) -> Ty {
    match field {
        HttpField::Size => Ty::Int,
        HttpField::Headers | HttpField::QueryParams => Ty::map(Ty::String),
        HttpField::HeadersAll | HttpField::QueryParamsAll => Ty::map(Ty::list(Ty::String)),
        HttpField::BodyMap => Ty::map(Ty::Dyn),
        _ => Ty::String,
    }
}

fn message<M: prost_reflect::prost::Name>() -> Ty {
    Ty::Message(descriptor::message::<M>())
}

fn request_message() -> MessageDescriptor {
    descriptor::message::<core::request_context::Request>()
}
