//! Small resources for tests.

use octelium_api::{Object, core, meta::Metadata};

use crate::{Command, Expected, Write};

pub fn metadata(uid: &str, name: &str, version: &str) -> Metadata {
    Metadata { uid: uid.to_owned(), name: name.to_owned(), resource_version: version.to_owned(), ..Metadata::default() }
}

pub fn user(uid: &str, name: &str, version: &str) -> Object {
    core::User { metadata: Some(metadata(uid, name, version)), ..core::User::default() }.into()
}

pub fn create(object: Object) -> Write {
    Write::Put { object, expected: Expected::Absent, sealed: None }
}

pub fn update(object: Object, version: &str) -> Write {
    Write::Put { object, expected: Expected::Version(version.to_owned()), sealed: None }
}

pub fn command(writes: Vec<Write>) -> Command {
    Command::new(1_700_000_000_000_000_000, writes)
}
