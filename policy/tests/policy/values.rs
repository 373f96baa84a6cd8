//! Messages and JSON as values.

use octelium_api::{Object, core};
use octelium_policy::{Map, Value};
use serde_json::json;

use crate::support::generated;

#[test]
fn a_resource_has_all_scalars_and_only_the_messages_that_are_set() {
    let user: core::User = generated(&json!({
        "metadata": {"name": "john", "createdAt": "2025-06-01T10:00:00.5Z"},
        "spec": {"type": "WORKLOAD", "attrs": {"n": 1, "deep": {"list": [null, "x"]}}},
        "status": {"ext": {"a": {"b": true}}}
    }));
    let value = Value::from_object(&Object::User(user)).to_json();
    assert_eq!(value["metadata"]["name"], "john");
    assert_eq!(value["metadata"]["createdAt"], "2025-06-01T10:00:00.500Z");
    assert_eq!(value["metadata"]["isSystem"], false);
    assert_eq!(value["metadata"]["tags"], json!([]));
    assert_eq!(value["metadata"]["labels"], json!({}));
    assert_eq!(value["metadata"].get("updatedAt"), None);
    assert_eq!(value["spec"]["type"], "WORKLOAD");
    assert_eq!(value["spec"]["attrs"], json!({"n": 1, "deep": {"list": [null, "x"]}}));
    assert_eq!(value["spec"].get("session"), None);
    assert_eq!(value["status"]["ext"]["a"], json!({"b": true}));
}

#[test]
fn members_of_a_oneof_are_there_only_when_set() {
    let service: core::Service = generated(&json!({
        "spec": {"mode": "HTTP", "config": {"upstream": {"url": "http://x"}, "http": {"header": {"host": {"preserve": false}}}}}
    }));
    let value = Value::from_object(&Object::Service(service)).to_json();
    assert_eq!(value["spec"]["config"]["http"]["header"]["host"], json!({"preserve": false}));
    assert_eq!(value["spec"]["config"].get("clientCertificate"), None);
}

#[test]
fn bytes_are_base64_and_enums_their_names() {
    let session: core::Session = generated(&json!({
        "status": {"connection": {"x25519PublicKey": "abc"}, "authenticatorAction": "REGISTRATION_REQUIRED"}
    }));
    let value = Value::from_object(&Object::Session(session)).to_json();
    assert_eq!(value["status"]["connection"]["x25519PublicKey"], "YWJj");
    assert_eq!(value["status"]["connection"]["l3Mode"], "BOTH");
    assert_eq!(value["status"]["authenticatorAction"], "REGISTRATION_REQUIRED");
}

#[test]
fn json_comes_back_as_it_was() {
    let json = json!({"a": [1, -1, 2.5, true, null, "x"], "b": {"c": {}}, "big": u64::MAX});
    assert_eq!(Value::from_json(&json).to_json(), json);
}

#[test]
fn structs_hold_doubles_that_equal_integers() {
    let object = prost_types::Struct {
        fields: [("n".to_owned(), prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(3.0)) })]
            .into(),
    };
    let value = Value::from_struct(&object);
    assert_eq!(value, Value::map([("n", Value::Int(3))]));
    assert_eq!(value.to_json(), json!({"n": 3}));
}

#[test]
fn the_last_of_equal_keys_counts() {
    let map: Map = [("b", Value::Int(1)), ("a", Value::Int(2)), ("b", Value::Int(3))].into_iter().collect();
    assert_eq!((map.len(), map.get("b"), map.get("a")), (2, Some(&Value::Int(3)), Some(&Value::Int(2))));
    assert!(map.get("c").is_none());
    assert_eq!(map.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn numbers_compare_exactly_across_types() {
    let beyond = 9_007_199_254_740_993_i64;
    assert_ne!(Value::Int(beyond), Value::Double(9_007_199_254_740_992.0));
    assert_eq!(Value::Int(beyond - 1), Value::Double(9_007_199_254_740_992.0));
    assert_ne!(Value::Int(-1), Value::UInt(u64::MAX));
    assert_eq!(Value::UInt(7), Value::Int(7));
    assert_ne!(Value::Double(f64::NAN), Value::Double(f64::NAN));
}
