use std::collections::BTreeSet;

use prost::Message;
use prost_reflect::{FieldDescriptor, Kind as Type, MessageDescriptor};

use super::*;
use crate::{Kind, descriptor};

/// A message in which only the last field of `steps` is set, to a value that is not its default.
fn with(descriptor: &MessageDescriptor, steps: &[FieldDescriptor]) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let Some((field, rest)) = steps.split_first() else { return message };
    let single = match field.kind() {
        Type::Message(inner) => Value::Message(with(&inner, rest)),
        Type::Enum(choices) => Value::EnumNumber(choices.values().last().expect("every enum has a value").number()),
        Type::String => Value::String("x".into()),
        Type::Bytes => Value::Bytes("x".into()),
        Type::Bool => Value::Bool(true),
        Type::Int32 => Value::I32(1),
        Type::Int64 => Value::I64(1),
        Type::Uint32 => Value::U32(1),
        Type::Uint64 => Value::U64(1),
        Type::Float => Value::F32(1.0),
        other => panic!("no value of {other:?}"),
    };
    let value = if field.is_map() {
        Value::Map(Default::default())
    } else if field.is_list() {
        Value::List(vec![single])
    } else {
        single
    };
    message.set_field(field, value);
    message
}

fn visit(kind: Kind, steps: &[FieldDescriptor], message: &MessageDescriptor, seen: &mut BTreeSet<String>) -> usize {
    let Some(name) = message.full_name().strip_prefix(PACKAGE) else { return 0 };
    if !seen.insert(name.to_owned()) {
        return 0;
    }
    let mut visited = 0;
    for field in message.fields() {
        let steps: Vec<_> = steps.iter().cloned().chain([field.clone()]).collect();
        let path = steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let dot = if index == 0 { "" } else { "." };
                let item = if step.is_list() && index + 1 < steps.len() { "[0]" } else { "" };
                format!("{dot}{}{item}", step.name())
            })
            .collect::<String>();
        let object = kind.decode(&with(&kind.descriptor(), &steps).encode_to_vec()).expect("a message of this kind");
        let refused = unsupported(&object);
        visited += 1;
        if is_listed(name, field.name()) {
            let others: Vec<_> = refused.iter().filter(|violation| violation.path != "spec.mode").collect();
            assert!(others.is_empty(), "{path} is listed: {others:?}");
            if let Type::Message(inner) = field.kind()
                && !field.is_map()
            {
                visited += visit(kind, &steps, &inner, seen);
            }
        } else if !field.is_map() {
            assert_eq!(refused.len(), 1, "{path} is not listed");
            assert_eq!(refused[0].path, path);
            assert!(refused[0].message.contains("not supported yet"), "{}", refused[0]);
        }
    }
    visited
}

#[test]
fn every_field_is_served_or_refused() {
    let mut visited = 0;
    for kind in Kind::ALL {
        for member in ["spec", "data"] {
            let Some(field) = kind.descriptor().get_field_by_name(member) else { continue };
            let Type::Message(message) = field.kind() else { panic!("{member} is a message") };
            visited += visit(*kind, &[field], &message, &mut BTreeSet::new());
        }
    }
    assert!(visited > 150, "{visited}");
}

#[test]
fn every_listed_field_exists() {
    let mut listed = 0;
    for line in SUPPORTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, fields) = line.split_once(": ").expect("`Message: field field`");
        let message = descriptor::pool().get_message_by_name(&format!("{PACKAGE}{name}")).expect(name);
        for field in fields.split(' ') {
            assert!(message.get_field_by_name(field).is_some(), "{name}.{field}");
            listed += 1;
        }
    }
    assert!(listed > 100, "{listed}");
}

#[test]
fn every_feature_is_a_field_that_is_not_served() {
    for (path, feature) in FEATURES {
        let (name, field) = path.rsplit_once('.').expect("`Message.field`");
        let message = descriptor::pool().get_message_by_name(&format!("{PACKAGE}{name}")).expect(name);
        assert!(message.get_field_by_name(field).is_some(), "{path}");
        assert!(!is_listed(name, field), "{path}: {feature}");
    }
}

#[test]
fn modes_and_schemes_are_named() {
    let service = |mode: Mode, url: &str| {
        let value = serde_json::json!({
            "metadata": {"name": "svc"},
            "spec": {"mode": mode.as_str_name(), "config": {"upstream": {"url": url}}},
        });
        crate::manifest::from_json(Kind::Service, &value).expect("a Service")
    };
    assert_eq!(unsupported(&service(Mode::Http, "https://host")), []);
    for url in ["http://host", "ws://host", "wss://host", "h2c://host", "grpc://host:50051"] {
        assert_eq!(unsupported(&service(Mode::Web, url)), [], "{url}");
    }
    let shown = |mode, url| unsupported(&service(mode, url)).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(Mode::Grpc, "http://host"), ["spec.mode: mode GRPC is not supported yet; HTTP and WEB are"]);
    assert_eq!(
        shown(Mode::Http, "ftp://host"),
        [
            "spec.config.upstream.url: upstreams of scheme `ftp` are not supported yet; http, https, ws, wss, h2c and grpc are"
        ]
    );
}
