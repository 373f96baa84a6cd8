//! Selections, indexes, `has` and `in`: paths into the input become direct accesses.

use std::sync::Arc;

use cel::{IdedExpr, common::ast::Expr as Ast};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{Lowerer, Typed, fold, suggest};
use crate::{
    Reads, Value,
    access::{Access, HttpField, Node, Via, Which},
    expr::{Expr, HasField},
    functions::Fun,
    schema::{self, Child, Ty},
    value::is_free_object,
};

/// Lists of constant strings longer than this are sorted and searched by halves.
const LINEAR_MAX: usize = 8;

impl Lowerer<'_, '_> {
    pub(super) fn select(&mut self, id: u64, operand: &IdedExpr, name: &str) -> Typed {
        if let Some(ty) = type_name(operand, name) {
            return Typed::new(Expr::Const(Value::Type(ty)), Ty::Type);
        }
        let typed = self.expr(operand);
        self.note_selection(id, operand, &typed, name);
        self.member(id, typed, name)
    }

    /// `operand.name`, also written `operand["name"]`.
    fn member(&mut self, id: u64, operand: Typed, name: &str) -> Typed {
        match (operand.ty, operand.expr) {
            (Ty::Node(node), _) => match schema::child(node, name) {
                Some(child) => child_access(child),
                None => self.unknown(id, name, node.name(), schema::children(node)),
            },
            (Ty::Message(message), expr) => match message.get_field_by_name(name) {
                Some(field) => Typed::new(descend(expr, name), Ty::of_field(&field)),
                None => self.unknown_field(id, name, &message),
            },
            (Ty::Map(of), expr) => Typed::new(descend(expr, name), *of),
            (Ty::Dyn, expr) => Typed::new(descend(expr, name), Ty::Dyn),
            (ty, _) => self.fail(id, Some(name), format!("{ty} has no field `{name}`"), None),
        }
    }

    fn unknown_field(&mut self, id: u64, name: &str, message: &MessageDescriptor) -> Typed {
        let known = message.fields().map(|field| field.name().to_owned()).collect();
        self.unknown(id, name, message.name(), known)
    }

    fn unknown(&mut self, id: u64, name: &str, of: &str, known: Vec<String>) -> Typed {
        let hint = suggest::nearest(name, known.iter().map(String::as_str));
        self.fail(id, Some(name), format!("`{of}` has no field `{name}`"), hint)
    }

    pub(super) fn index(&mut self, id: u64, operand: &IdedExpr, key: &IdedExpr) -> Typed {
        let of = operand;
        let operand = self.expr(operand);
        let key_id = key.id;
        let key = self.expr(key);
        if let Some(name) = key.as_const_str()
            && (operand.ty.is_map() || operand.ty.is_dyn())
        {
            self.note_selection(key_id, of, &operand, name);
            // The error belongs to the key, not to the bracket.
            return self.member(key_id, operand, name);
        }
        let ty = match (&operand.ty, &key.ty) {
            (Ty::Dyn, _) => Ty::Dyn,
            (Ty::List(of), Ty::Int | Ty::UInt | Ty::Double | Ty::Dyn) | (Ty::Map(of), Ty::String | Ty::Dyn) => {
                (**of).clone()
            }
            (Ty::Message(_) | Ty::Node(_), Ty::String | Ty::Dyn) => Ty::Dyn,
            (of, by) => return self.fail(id, None, format!("{of} can't be indexed by {by}"), None),
        };
        let key = header_name(&operand.expr, key.expr);
        fold(Typed::new(Expr::Index(Box::new(operand.expr), Box::new(key)), ty))
    }

    pub(super) fn has(&mut self, id: u64, args: &[IdedExpr]) -> Typed {
        let [IdedExpr { id: select_id, expr: Ast::Select(select) }] = args else {
            return self.fail(id, None, "`has` takes one selection, as in `has(a.b)`", None);
        };
        self.note_question(&select.operand, &select.field);
        let operand = self.expr(&select.operand);
        Typed::new(self.presence(*select_id, operand, &select.field, true), Ty::Bool)
    }

    /// Whether `operand` has `name`; with `set`, a field of a message that holds its default counts as missing.
    fn presence(&mut self, id: u64, operand: Typed, name: &str, set: bool) -> Expr {
        let Typed { expr, ty } = operand;
        if let Ty::Node(_) = ty {
            return match self.member(id, Typed::new(expr, ty), name).expr {
                Expr::Access(access) => Expr::Has(access),
                other => other,
            };
        }
        if let Expr::Access(Access::Http(via, field)) = &expr {
            match field {
                HttpField::Headers | HttpField::HeadersAll => {
                    return Expr::Has(Access::Header(*via, name.to_ascii_lowercase().into()));
                }
                HttpField::QueryParams | HttpField::QueryParamsAll => {
                    return Expr::Has(Access::QueryParam(*via, name.into()));
                }
                _ => {}
            }
        }
        let unset = match ty {
            Ty::Message(message) => match message.get_field_by_name(name) {
                Some(field) => default(&field).filter(|_| set),
                None => return self.unknown_field(id, name, &message).expr,
            },
            Ty::Map(_) | Ty::Dyn => None,
            ty => return self.fail(id, Some(name), format!("{ty} has no field `{name}`"), None).expr,
        };
        Expr::HasField(Box::new(HasField { operand: expr, name: name.into(), unset }))
    }

    pub(super) fn contained(&mut self, id: u64, item: &IdedExpr, container: &IdedExpr) -> Typed {
        let (item_id, of) = (item.id, container);
        let item = self.expr(item);
        let container = self.expr(container);
        if let Some(name) = item.as_const_str() {
            self.note_question(of, name);
        }
        let fits = match &container.ty {
            Ty::Dyn => true,
            Ty::List(of) => of.comparable(&item.ty),
            ty => ty.is_map() && matches!(item.ty, Ty::String | Ty::Dyn),
        };
        if !fits {
            return self.fail(id, None, format!("{} can't be `in` {}", item.ty, container.ty), None);
        }
        if let (true, Some(name)) = (container.ty.is_map(), item.as_const_str()) {
            // Unlike in `has`, a name that the schema doesn't know may be asked for in maps only.
            return Typed::new(self.presence(item_id, container, name, false), Ty::Bool);
        }
        if let Some(Value::List(items)) = container.as_const()
            && items.len() > LINEAR_MAX
        {
            let strings: Option<Vec<Arc<str>>> = items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Some(Arc::clone(text)),
                    _ => None,
                })
                .collect();
            if let Some(mut strings) = strings {
                strings.sort();
                return fold(Typed::new(Expr::InStrings(Box::new(item.expr), strings.into()), Ty::Bool));
            }
        }
        let item = header_name(&container.expr, item.expr);
        fold(Typed::new(Expr::In(Box::new([item, container.expr])), Ty::Bool))
    }
}

/// A computed name of a header is made lower-case when it is looked up, as constant ones are when compiled.
fn header_name(container: &Expr, key: Expr) -> Expr {
    match container {
        Expr::Access(Access::Http(_, HttpField::Headers | HttpField::HeadersAll)) => {
            Expr::Call(Fun::LowerAscii, Box::new([key]))
        }
        _ => key,
    }
}

/// `google.protobuf.Timestamp` and `google.protobuf.Duration`, as in `type(x) == google.protobuf.Duration`.
fn type_name(operand: &IdedExpr, name: &str) -> Option<crate::Type> {
    let Ast::Select(package) = &operand.expr else { return None };
    let Ast::Ident(root) = &package.operand.expr else { return None };
    match (root.as_str(), package.field.as_str(), name) {
        ("google", "protobuf", "Timestamp") => Some(crate::Type::Timestamp),
        ("google", "protobuf", "Duration") => Some(crate::Type::Duration),
        _ => None,
    }
}

fn child_access(child: Child) -> Typed {
    let (access, ty) = match child {
        Child::Node(node) => (Access::Whole(node), Ty::Node(node)),
        Child::Subject(which, ty) => (Access::Subject(which, Vec::new()), ty),
        Child::Ip => (Access::Ip, Ty::String),
        Child::Http(via, field, ty) => (Access::Http(via, field), ty),
        Child::Grpc(field) => (Access::Grpc(field), Ty::String),
        Child::Absent(ty) => (Access::Absent, ty),
    };
    Typed::new(Expr::Access(access), ty)
}

/// Selects from a map or a message: within the input by a longer path, elsewhere by a step.
fn descend(operand: Expr, name: &str) -> Expr {
    match operand {
        Expr::Access(Access::Absent) => Expr::Access(Access::Absent),
        Expr::Access(Access::Subject(which, mut path)) => {
            path.push(name.into());
            Expr::Access(Access::Subject(which, path))
        }
        Expr::Access(Access::Attrs(mut path)) => {
            path.push(name.into());
            Expr::Access(Access::Attrs(path))
        }
        Expr::Access(Access::Http(via, HttpField::Headers)) => {
            Expr::Access(Access::Header(via, name.to_ascii_lowercase().into()))
        }
        Expr::Access(Access::Http(via, HttpField::QueryParams)) => Expr::Access(Access::QueryParam(via, name.into())),
        Expr::Access(Access::Http(via, HttpField::HeadersAll)) => {
            let all = Expr::Access(Access::Http(via, HttpField::HeadersAll));
            Expr::Select(Box::new(all), name.to_ascii_lowercase().into())
        }
        other => Expr::Select(Box::new(other), name.into()),
    }
}

/// What a field holds that isn't set; `None` for fields that are absent then.
fn default(field: &FieldDescriptor) -> Option<Value> {
    if field.is_map() || is_free_object(field) {
        return Some(Value::map::<&str>([]));
    }
    if field.is_list() {
        return Some(Value::list(Vec::new()));
    }
    if field.supports_presence() {
        return None;
    }
    Some(match field.kind() {
        Kind::Bool => Value::Bool(false),
        Kind::String | Kind::Bytes => Value::string(""),
        Kind::Enum(of) => Value::string(of.default_value().name()),
        _ => Value::Int(0),
    })
}

/// What of the input a tree may read.
pub(super) fn reads(expr: &Expr) -> Reads {
    let any = |of: &[Expr]| of.iter().map(reads).fold(Reads::default(), |a, b| a | b);
    match expr {
        Expr::Const(_) | Expr::Local(_) => Reads::default(),
        Expr::Access(access) | Expr::Has(access) => access_reads(access),
        Expr::Select(of, _) | Expr::Not(of) | Expr::Neg(of) | Expr::InStrings(of, _) | Expr::Matches(of, _) => {
            reads(of)
        }
        Expr::HasField(has) => reads(&has.operand),
        Expr::Index(of, key) => reads(of) | reads(key),
        Expr::And(of) | Expr::Or(of) | Expr::List(of) => any(of),
        Expr::Choice(of) => any(&**of),
        Expr::Equal(of, _) | Expr::Compare(_, of) | Expr::Arith(_, of) | Expr::In(of) => any(&**of),
        Expr::Quantify(_, of) | Expr::Bind(of) => any(&**of),
        Expr::Call(fun, args) => Reads { now: *fun == Fun::Now, ..Reads::default() } | any(args),
        Expr::Map(entries) => {
            entries.iter().map(|(key, value)| reads(key) | reads(value)).fold(Reads::default(), |a, b| a | b)
        }
        Expr::Collect(collect) => {
            reads(&collect.range) | reads(&collect.body) | collect.filter.as_ref().map(reads).unwrap_or_default()
        }
    }
}

fn access_reads(access: &Access) -> Reads {
    let request = Reads { request: true, ..Reads::default() };
    let http = Reads { headers: true, body: true, body_map: true, ..request };
    match access {
        Access::Ip | Access::Grpc(_) | Access::QueryParam(..) => request,
        Access::Header(..) => Reads { headers: true, ..request },
        Access::Http(Via::Http | Via::Grpc, field) => match field {
            HttpField::Headers | HttpField::HeadersAll => Reads { headers: true, ..request },
            HttpField::Body => Reads { body: true, ..request },
            HttpField::BodyMap => Reads { body_map: true, ..request },
            _ => request,
        },
        Access::Subject(which, _) => {
            let none = Reads::default();
            match which {
                Which::Session => Reads { session: true, ..none },
                Which::User => Reads { user: true, ..none },
                Which::Groups => Reads { groups: true, ..none },
                Which::Device => Reads { device: true, ..none },
                Which::Service => Reads { service: true, ..none },
                Which::Namespace => Reads { namespace: true, ..none },
            }
        }
        Access::Whole(Node::Ctx) => Reads { now: false, ..Reads::ALL },
        Access::Whole(_) => http,
        Access::Attrs(_) | Access::Absent => Reads::default(),
    }
}
