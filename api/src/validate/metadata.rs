//! Names and the members of `metadata` that callers set.

use std::collections::{BTreeMap, HashSet};

use uuid::{Uuid, Version};

use super::Report;
use crate::{Kind, Object, name};

pub(super) const PLAIN_NAME: &str =
    "not a name: 2 to 40 lower-case letters, digits and single hyphens, a letter first, no hyphen last";

const LOOSE_NAME: &str = "not a name: 2 to 64 lower-case letters, digits and hyphens, no hyphen first or last";

const ENTRIES_MAX: usize = 64;

pub(super) fn check(object: &Object, report: &mut Report) {
    let Some(metadata) = object.metadata() else {
        report.add("metadata", "missing");
        return;
    };
    check_name(object.kind(), &metadata.name, report);
    if !metadata.uid.is_empty() && !is_uid(&metadata.uid) {
        report.add("metadata.uid", "not a UUID of version 4; leave it out, the server sets it");
    }
    report.length("metadata.displayName", &metadata.display_name, 100);
    report.length("metadata.description", &metadata.description, 1024);
    map("metadata.labels", &metadata.labels, report, |value| {
        let form = !value.is_empty()
            && value.len() <= 32
            && !value.starts_with('-')
            && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        (!form).then_some("not a label: 1 to 32 lower-case letters, digits and hyphens, no hyphen first")
    });
    map("metadata.annotations", &metadata.annotations, report, |value| {
        (value.len() > 63).then_some("longer than 63 bytes")
    });
    if report.count("metadata.tags", metadata.tags.len(), ENTRIES_MAX) {
        let mut seen = HashSet::new();
        for (index, tag) in metadata.tags.iter().enumerate() {
            let path = format!("metadata.tags[{index}]");
            report.plain_name(&path, tag);
            if !seen.insert(tag) {
                report.add(&path, format!("`{tag}` is given twice"));
            }
        }
    }
}

/// Whether this is a UUID of version 4 in its usual spelling.
fn is_uid(uid: &str) -> bool {
    uid.len() == 36 && Uuid::try_parse(uid).is_ok_and(|uuid| uuid.get_version() == Some(Version::Random))
}

fn check_name(kind: Kind, name: &str, report: &mut Report) {
    const PATH: &str = "metadata.name";
    let (valid, form) = match kind {
        // The only one goes by one name, which needs not be said.
        Kind::ClusterConfig if name.is_empty() => return,
        _ if name.is_empty() => return report.add(PATH, "missing: every resource has a name"),
        Kind::ClusterConfig => (name == name::CLUSTER_CONFIG, "the only ClusterConfig is called `default`"),
        Kind::Service => (
            name::is_service(name),
            "not a Service's name: `name` or `name.namespace`, each 2 to 40 lower-case letters, digits and single hyphens, a letter first, no hyphen last",
        ),
        Kind::Policy => (
            name::is_policy(name),
            "not a Policy's name: up to six names separated by dots, each 2 to 40 lower-case letters, digits and single hyphens, a letter first, no hyphen last; at most 128 bytes",
        ),
        Kind::Session => (name::is_session(name), PLAIN_NAME),
        Kind::Region | Kind::Gateway => (name::is_loose(name), LOOSE_NAME),
        Kind::Namespace
        | Kind::User
        | Kind::Group
        | Kind::Credential
        | Kind::Secret
        | Kind::Config
        | Kind::IdentityProvider
        | Kind::Device
        | Kind::Authenticator => (name::is_plain(name), PLAIN_NAME),
    };
    if !valid {
        report.add(PATH, form);
    }
}

fn map(path: &str, map: &BTreeMap<String, String>, report: &mut Report, wrong: impl Fn(&str) -> Option<&'static str>) {
    if !report.count(path, map.len(), ENTRIES_MAX) {
        return;
    }
    for (key, value) in map {
        let at = format!("{path}.{key}");
        if !name::is_plain(key) {
            report.add(&at, format!("the key is {PLAIN_NAME}"));
        }
        if let Some(message) = wrong(value) {
            report.add(&at, message);
        }
    }
}
