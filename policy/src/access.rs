//! Reading parts of `ctx` and `attrs` directly, without making a map of them.

use std::{borrow::Cow, cell::Cell};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    Budget, Context, EvalError, Grpc, Request, Subject, Value,
    value::{Val, View},
};

/// A part of `ctx` that is no value of its own until somebody asks for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Ctx,
    Request,
    Http(Via),
    Grpc,
}

impl Node {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ctx => "ctx",
            Self::Request => "ctx.request",
            Self::Http(Via::Http) => "ctx.request.http",
            Self::Http(Via::Grpc) => "ctx.request.grpc.http",
            Self::Grpc => "ctx.request.grpc",
        }
    }
}

/// Where `http` was found: `ctx.request.http` or `ctx.request.grpc.http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Http,
    Grpc,
}

/// A resource under `ctx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Session,
    User,
    Groups,
    Device,
    Service,
    Namespace,
}

macro_rules! fields {
    ($name:ident { $($field:ident = $text:literal),* $(,)? }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($field),* }

        impl $name {
            pub(crate) const ALL: &[(&'static str, Self)] = &[$(($text, Self::$field)),*];

            pub(crate) fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|(text, _)| *text == name).map(|(_, field)| *field)
            }
        }
    };
}

fields!(HttpField {
    Method = "method",
    Path = "path",
    Uri = "uri",
    Host = "host",
    Scheme = "scheme",
    Protocol = "protocol",
    Size = "size",
    Headers = "headers",
    HeadersAll = "headersAll",
    QueryParams = "queryParams",
    QueryParamsAll = "queryParamsAll",
    Body = "body",
    BodyMap = "bodyMap",
});

fields!(GrpcField {
    Service = "service",
    ServiceFullName = "serviceFullName",
    Method = "method",
    Package = "package",
});

/// A part of the input that is found without evaluating anything.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    Ip,
    Http(Via, HttpField),
    /// The name is lower-case.
    Header(Via, Box<str>),
    QueryParam(Via, Box<str>),
    Grpc(GrpcField),
    /// Names below the resource.
    Subject(Which, Vec<Box<str>>),
    /// Names below `attrs`.
    Attrs(Vec<Box<str>>),
    /// All of a part, made into a map.
    Whole(Node),
    /// Always a missing key.
    Absent,
}

/// The context, and the attributes of the policy that is evaluated.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub ctx: &'a Context<'a>,
    pub attrs: Option<&'a Value>,
    /// Where evaluation must do without request and time: is set when it asks for one of them.
    pub asked: Option<&'a Cell<bool>>,
}

impl<'a> Input<'a> {
    fn subject(self, which: Which) -> Option<&'a dyn Subject> {
        match which {
            Which::Session => self.ctx.session,
            Which::User => self.ctx.user,
            Which::Groups => self.ctx.groups,
            Which::Device => self.ctx.device,
            Which::Service => self.ctx.service,
            Which::Namespace => self.ctx.namespace,
        }
    }

    /// What `now()` answers.
    pub(crate) fn now_unix_nanos(self) -> i64 {
        if let Some(asked) = self.asked {
            asked.set(true);
        }
        self.ctx.now_unix_nanos
    }

    fn request(self) -> Result<&'a dyn Request, EvalError> {
        if let Some(asked) = self.asked {
            asked.set(true);
            return Err(EvalError::Unknown);
        }
        self.ctx.request.ok_or(EvalError::Unknown)
    }

    /// The request, if `http` stands where the expression looks for it.
    fn http(self, via: Via) -> Result<&'a dyn Request, EvalError> {
        let request = self.request()?;
        if request.grpc().is_some() == (via == Via::Grpc) { Ok(request) } else { Err(EvalError::Missing) }
    }

    fn grpc(self) -> Result<Grpc<'a>, EvalError> {
        self.request()?.grpc().ok_or(EvalError::Missing)
    }

    /// The text of this part, if it is there, is a text and nothing must be made for it: the fast way of [`Self::read`].
    pub(crate) fn text(self, access: &Access) -> Option<&'a str> {
        match access {
            Access::Http(via, field) => {
                let request = self.http(*via).ok()?;
                match field {
                    HttpField::Method => Some(request.method()),
                    HttpField::Path => Some(request.path()),
                    HttpField::Uri => Some(request.uri()),
                    HttpField::Host => Some(request.host()),
                    HttpField::Scheme => Some(request.scheme()),
                    HttpField::Protocol => Some(request.protocol()),
                    _ => None,
                }
            }
            Access::Header(via, name) => match self.http(*via).ok()?.header(name)? {
                Cow::Borrowed(text) => Some(text),
                Cow::Owned(_) => None,
            },
            Access::Subject(..) => match self.value(access)? {
                Value::String(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of a resource's part, if it is there: the fast way of [`Self::read`].
    pub(crate) fn value(self, access: &Access) -> Option<&'a Value> {
        let Access::Subject(which, path) = access else { return None };
        let mut value = self.subject(*which)?.value();
        for name in path {
            let Value::Map(map) = value else { return None };
            value = map.get(name)?;
        }
        Some(value)
    }

    /// The value of this part.
    pub(crate) fn read(self, access: &Access, budget: &mut Budget) -> Result<Val<'a>, EvalError> {
        Ok(match access {
            Access::Ip => Val::Str(self.request()?.ip()),
            Access::Http(via, field) => return http_field(self.http(*via)?, *field, budget),
            Access::Header(via, name) => text(self.http(*via)?.header(name).ok_or(EvalError::Missing)?),
            Access::QueryParam(via, name) => text(self.http(*via)?.query_param(name).ok_or(EvalError::Missing)?),
            Access::Grpc(field) => Val::Str(grpc_field(self.grpc()?, *field)),
            Access::Subject(which, path) => {
                let subject = self.subject(*which).ok_or(EvalError::Missing)?;
                Val::Ref(descend(subject.value(), path, budget)?)
            }
            Access::Attrs(path) => Val::Ref(descend(self.attrs.ok_or(EvalError::Missing)?, path, budget)?),
            Access::Whole(node) => Val::Own(self.whole(*node, budget)?),
            Access::Absent => return Err(EvalError::Missing),
        })
    }

    /// What `has()` says about this part: whether it is there and, for texts and lengths, isn't empty.
    pub(crate) fn has(self, access: &Access, budget: &mut Budget) -> Result<bool, EvalError> {
        Ok(match access {
            Access::Header(via, name) => self.http(*via)?.header(name).is_some(),
            Access::QueryParam(via, name) => self.http(*via)?.query_param(name).is_some(),
            Access::Http(via, field) => {
                let request = self.http(*via)?;
                match field {
                    HttpField::Body | HttpField::BodyMap if !request.shows_body() => return Err(EvalError::Unread),
                    HttpField::Body => request.body().is_some(),
                    HttpField::BodyMap => request.body_map().is_some(),
                    HttpField::Size => length(request)? > 0,
                    _ => !is_empty(&http_field(request, *field, budget)?),
                }
            }
            Access::Ip => !self.request()?.ip().is_empty(),
            Access::Grpc(field) => !grpc_field(self.grpc()?, *field).is_empty(),
            Access::Subject(which, path) if path.is_empty() => self.subject(*which).is_some(),
            Access::Whole(Node::Ctx) => true,
            Access::Whole(Node::Request) => self.request().map(|_| true)?,
            Access::Whole(Node::Http(via)) => {
                self.request()?;
                self.http(*via).is_ok()
            }
            Access::Whole(Node::Grpc) => self.request()?.grpc().is_some(),
            Access::Absent => false,
            Access::Subject(..) | Access::Attrs(_) => match self.read(access, budget) {
                Ok(_) => true,
                Err(EvalError::Missing) => false,
                Err(error) => return Err(error),
            },
        })
    }

    /// A map of all of a part. Nothing but a rule that asks for it pays for it.
    fn whole(self, node: Node, budget: &mut Budget) -> Result<Value, EvalError> {
        budget.spend(100)?;
        let mut entries: Vec<(&str, Value)> = Vec::new();
        match node {
            Node::Ctx => {
                entries.push(("request", self.whole(Node::Request, budget)?));
                for (name, which) in [
                    ("session", Which::Session),
                    ("user", Which::User),
                    ("groups", Which::Groups),
                    ("device", Which::Device),
                    ("service", Which::Service),
                    ("namespace", Which::Namespace),
                ] {
                    if let Some(subject) = self.subject(which) {
                        entries.push((name, subject.value().clone()));
                    }
                }
            }
            Node::Request => {
                entries.push(("ip", Value::string(self.request()?.ip())));
                if self.request()?.grpc().is_some() {
                    entries.push(("grpc", self.whole(Node::Grpc, budget)?));
                } else {
                    entries.push(("http", self.whole(Node::Http(Via::Http), budget)?));
                }
            }
            Node::Grpc => {
                entries.push(("http", self.whole(Node::Http(Via::Grpc), budget)?));
                let grpc = self.grpc()?;
                entries.extend(
                    GrpcField::ALL.iter().map(|(name, field)| (*name, Value::string(grpc_field(grpc, *field)))),
                );
            }
            Node::Http(via) => {
                let request = self.http(via)?;
                for (name, field) in HttpField::ALL {
                    match http_field(request, *field, budget) {
                        Ok(value) => entries.push((name, value.into_value())),
                        Err(EvalError::Missing) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(Value::map(entries))
    }
}

fn text(text: Cow<'_, str>) -> Val<'_> {
    match text {
        Cow::Borrowed(text) => Val::Str(text),
        Cow::Owned(text) => Val::Own(Value::String(text.into())),
    }
}

fn is_empty(value: &Val<'_>) -> bool {
    match value.view() {
        View::Str(text) => text.is_empty(),
        View::Map(map) => map.is_empty(),
        _ => false,
    }
}

fn http_field<'a>(request: &'a dyn Request, field: HttpField, budget: &mut Budget) -> Result<Val<'a>, EvalError> {
    Ok(match field {
        HttpField::Method => Val::Str(request.method()),
        HttpField::Path => Val::Str(request.path()),
        HttpField::Uri => Val::Str(request.uri()),
        HttpField::Host => Val::Str(request.host()),
        HttpField::Scheme => Val::Str(request.scheme()),
        HttpField::Protocol => Val::Str(request.protocol()),
        HttpField::Size => Val::Own(Value::Int(length(request)?)),
        HttpField::Headers => Val::Ref(request.headers()),
        HttpField::HeadersAll => Val::Ref(request.headers_all()),
        HttpField::QueryParams => Val::Ref(request.query_params()),
        HttpField::QueryParamsAll => Val::Ref(request.query_params_all()),
        HttpField::Body | HttpField::BodyMap if !request.shows_body() => return Err(EvalError::Unread),
        HttpField::Body => {
            let body = request.body().ok_or(EvalError::Missing)?;
            budget.spend_bytes(body.len())?;
            Val::Own(Value::string(BASE64_STANDARD.encode(body)))
        }
        HttpField::BodyMap => Val::Ref(request.body_map().ok_or(EvalError::Missing)?),
    })
}

/// An unknown length must not pass for a small one, nor for none.
fn length(request: &dyn Request) -> Result<i64, EvalError> {
    match request.size() {
        ..0 => Err(EvalError::Unread),
        size => Ok(size),
    }
}

fn grpc_field(grpc: Grpc<'_>, field: GrpcField) -> &str {
    match field {
        GrpcField::Service => grpc.service,
        GrpcField::ServiceFullName => grpc.service_full_name,
        GrpcField::Method => grpc.method,
        GrpcField::Package => grpc.package,
    }
}

fn descend<'a>(mut value: &'a Value, path: &[Box<str>], budget: &mut Budget) -> Result<&'a Value, EvalError> {
    budget.spend(path.len() as u64)?;
    for name in path {
        value = match value {
            Value::Map(map) => map.get(name).ok_or(EvalError::Missing)?,
            Value::Null => return Err(EvalError::Missing),
            _ => return Err(EvalError::Overload("field selection")),
        };
    }
    Ok(value)
}
