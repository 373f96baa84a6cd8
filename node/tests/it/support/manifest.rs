//! Resources as text. JSON is YAML, so what a test computes is written as JSON.

use octelium_api::{
    control::{Change, change},
    manifest,
};
use serde_json::{Value, json};

/// A text's documents as changes.
///
/// # Errors
/// What `octeliumctl` would say, before it sends anything.
pub fn read(text: &str) -> Result<Vec<Change>, Vec<String>> {
    let documents = manifest::parse("test.yaml", text, &manifest::Limits::default());
    let documents = documents.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(documents
        .into_iter()
        .map(|document| Change {
            kind: document.object.kind().name().to_owned(),
            change: Some(change::Change::Put(document.object.encode())),
            ..Change::default()
        })
        .collect())
}

pub fn resource(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// A public HTTP Service that everybody with a Session may call; `more` is laid over its spec.
pub fn service(name: &str, url: &str, more: Value) -> Value {
    let mut spec = json!({
        "mode": "HTTP",
        "isPublic": true,
        "config": { "upstream": { "url": url } },
        "authorization": { "policies": ["allow-all"] },
    });
    merge(&mut spec, more);
    resource("Service", name, spec)
}

/// `null` removes, objects merge, all else replaces (RFC 7386).
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(&key)),
            value => merge(target.entry(key).or_insert(Value::Null), value),
        }
    }
}

pub fn secret(name: &str, value: &str) -> Value {
    json!({ "kind": "Secret", "metadata": { "name": name }, "spec": {}, "data": { "value": value } })
}

pub fn workload(name: &str) -> Value {
    resource("User", name, json!({ "type": "WORKLOAD" }))
}

pub fn rule(effect: &str, expression: &str) -> Value {
    json!({ "effect": effect, "condition": { "match": expression } })
}

pub fn at(priority: i32, mut rule: Value) -> Value {
    rule["priority"] = json!(priority);
    rule
}

/// An `authorization` with one inline policy.
pub fn inline(rules: &[Value]) -> Value {
    json!({ "inlinePolicies": [{ "spec": { "rules": rules } }] })
}

/// For [`service`]: these rules instead of `allow-all`.
pub fn only(rules: &[Value]) -> Value {
    json!({ "authorization": { "policies": null, "inlinePolicies": [{ "spec": { "rules": rules } }] } })
}

/// Documents as one text.
pub fn text(documents: &[Value]) -> String {
    documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}
