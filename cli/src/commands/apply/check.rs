//! What is wrong with manifests as far as that can be told without a server.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::SystemTime,
};

use octelium_api::{Object, manifest::Document, validate};

use crate::kinds::full_name;

/// What the documents' own rules, and they together, forbid.
pub fn judge(documents: &[Document], now: SystemTime) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut known = BTreeMap::new();
    for document in documents {
        complaints.extend(
            violations(&document.object, now).map(|violation| complaint(document, &violation.path, &violation.message)),
        );
        let kind = document.object.kind();
        match known.entry((kind, full_name(kind, document.object.name()))) {
            Entry::Vacant(free) => {
                free.insert(document);
            }
            Entry::Occupied(taken) => {
                let text = format!("{kind} `{}` is already described at {}", taken.key().1, taken.get().at);
                complaints.push(complaint(document, "metadata.name", &text));
            }
        }
    }
    complaints
}

/// `file:line:column: path: what`
pub fn complaint(document: &Document, path: &str, what: &str) -> String {
    match path {
        "" => format!("{}: {what}", document.at),
        path => format!("{}: {path}: {what}", document.locate(path)),
    }
}

/// The rules that a resource breaks by itself.
///
/// A Secret or Config without data keeps that which is stored, and only the server knows whether there is any.
pub fn violations(object: &Object, now: SystemTime) -> impl Iterator<Item = validate::Violation> {
    let keeps_data = match object {
        Object::Secret(secret) => secret.data.is_none(),
        Object::Config(config) => config.data.is_none(),
        _ => false,
    };
    let found = validate::check(object, now).into_iter().chain(validate::unsupported(object));
    found.filter(move |violation| !(keeps_data && violation.path == "data"))
}

#[cfg(test)]
mod tests {
    use octelium_api::manifest::{Limits, parse};

    use super::*;

    fn documents(source: &str, text: &str) -> Vec<Document> {
        parse(source, text, &Limits::default()).unwrap()
    }

    #[test]
    fn one_resource_is_described_once() {
        let mut all = documents("a.yaml", "kind: Namespace\nmetadata: {name: prod}\nspec: {}\n");
        assert_eq!(judge(&all, SystemTime::now()), Vec::<String>::new());
        all.extend(documents("b.yaml", "kind: Namespace\nmetadata: {name: prod}\nspec: {}\n"));
        let complaints = judge(&all, SystemTime::now());
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("b.yaml:2:"), "{complaints:?}");
        assert!(complaints[0].contains("already described at a.yaml:1:1"), "{complaints:?}");
    }

    #[test]
    fn stored_data_may_be_kept() {
        let secret =
            |data: &str| documents("a.yaml", &format!("kind: Secret\nmetadata: {{name: key}}\nspec: {{}}\n{data}"));
        assert_eq!(judge(&secret(""), SystemTime::now()), Vec::<String>::new());
        assert_eq!(judge(&secret("data: {value: x}\n"), SystemTime::now()), Vec::<String>::new());
        assert_eq!(judge(&secret("data: {value: ''}\n"), SystemTime::now()).len(), 1);
    }
}
