//! Names in a resource that others must have.

use prost_reflect::{DynamicMessage, Value};

use crate::{Kind, Object, name};

/// A name that must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where it stands, e.g. `spec.authorization.policies[0]`.
    pub path: String,
    /// What it names.
    pub kind: Kind,
    /// The name, for a Service in its stored form.
    pub name: String,
}

/// The names in `object` that must exist: Policies, Groups, Users, Secrets, and what its own name says it is part of.
///
/// Empty names are left to [`super::check`].
pub fn references(object: &Object) -> Vec<Reference> {
    let mut list = Vec::new();
    match object {
        Object::Service(_) if !object.name().is_empty() => {
            add(&mut list, "metadata.name", Kind::Namespace, name::split_service(object.name()).1);
        }
        Object::Policy(_) => {
            if let Some(parent) = name::parent_policy(object.name()) {
                add(&mut list, "metadata.name", Kind::Policy, parent);
            }
        }
        _ => {}
    }
    let message = object.dynamic();
    if let Some(spec) = message.get_field_by_name("spec").as_deref().and_then(Value::as_message) {
        walk("spec", spec, &mut list);
    }
    // The names of these fields mean references only here.
    match object {
        Object::User(user) => {
            for (index, group) in user.spec.iter().flat_map(|spec| &spec.groups).enumerate() {
                add(&mut list, &format!("spec.groups[{index}]"), Kind::Group, group);
            }
        }
        Object::Credential(credential) => {
            if let Some(spec) = &credential.spec {
                add(&mut list, "spec.user", Kind::User, &spec.user);
            }
        }
        _ => {}
    }
    list
}

fn add(list: &mut Vec<Reference>, path: &str, kind: Kind, name: &str) {
    if !name.is_empty() {
        list.push(Reference { path: path.to_owned(), kind, name: name.to_owned() });
    }
}

/// Fields whose names mean a reference everywhere.
fn walk(path: &str, message: &DynamicMessage, list: &mut Vec<Reference>) {
    let in_upstream =
        prost_reflect::ReflectMessage::descriptor(message).full_name().contains(".Service.Spec.Config.Upstream");
    for (field, value) in message.fields() {
        let path = format!("{path}.{}", field.name());
        match (field.name(), value) {
            ("fromSecret", Value::String(name)) => add(list, &path, Kind::Secret, name),
            ("user", Value::String(name)) if in_upstream => add(list, &path, Kind::User, name),
            ("policies", Value::List(names)) => {
                for (index, name) in names.iter().filter_map(Value::as_str).enumerate() {
                    add(list, &format!("{path}[{index}]"), Kind::Policy, name);
                }
            }
            (_, Value::Message(message)) => walk(&path, message, list),
            (_, Value::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Message(message) = item {
                        walk(&format!("{path}[{index}]"), message, list);
                    }
                }
            }
            _ => {}
        }
    }
}
