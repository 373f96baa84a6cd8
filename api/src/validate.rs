//! The rules that a resource must keep and that need no other resource: forms, lengths, ranges, and what is served at all.

use std::{fmt, time::SystemTime};

use prost_types::Timestamp;

use crate::{Object, name};

mod access;
mod config;
mod cors;
mod direct;
mod headers;
mod identity;
mod metadata;
mod plugins;
mod references;
mod secret;
mod service;
mod supported;
pub mod url;
mod values;

pub use headers::host;
pub use references::{Reference, references};
pub use supported::unsupported;
#[cfg(feature = "explain")]
pub(crate) use supported::{not_served, value_not_served};

/// More violations than these are not listed.
const VIOLATIONS_MAX: usize = 100;

/// A rule that a resource breaks. Displays as `spec.config.upstream.url: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The member, e.g. `spec.rules[0].condition`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// All rules that `object` breaks at the time `now`, at most a hundred; empty if it is fine.
///
/// `status` and what the server owns in `metadata` don't count. Rules and conditions are not compiled here.
pub fn check(object: &Object, now: SystemTime) -> Vec<Violation> {
    let mut report = Report::default();
    metadata::check(object, &mut report);
    if !object.has_spec() {
        report.add("spec", "missing: write `spec: {}` for an empty one");
    }
    values::check(object, &mut report);
    match object {
        Object::Namespace(namespace) => {
            if name::is_reserved_namespace(object.name()) {
                let prefixes = name::RESERVED_NAMESPACE_PREFIXES.join(", ");
                report.add("metadata.name", format!("names that start with {prefixes} belong to the cluster"));
            }
            if let Some(spec) = &namespace.spec {
                if let Some(list) = &spec.authorization {
                    access::authorization("spec.authorization", &list.policies, &list.inline_policies, &mut report);
                }
                values::attrs("spec.attrs", spec.attrs.as_ref(), &mut report);
            }
        }
        Object::Group(group) => {
            if let Some(spec) = &group.spec {
                if let Some(list) = &spec.authorization {
                    access::authorization("spec.authorization", &list.policies, &list.inline_policies, &mut report);
                }
                values::attrs("spec.attrs", spec.attrs.as_ref(), &mut report);
            }
        }
        Object::Policy(policy) => {
            if let Some(spec) = &policy.spec {
                access::policy("spec", spec, &mut report);
            }
        }
        Object::Service(service) => {
            if let Some(spec) = &service.spec {
                service::check(spec, &mut report);
            }
        }
        Object::User(user) => {
            if let Some(spec) = &user.spec {
                identity::user(spec, &mut report);
            }
        }
        Object::Credential(credential) => {
            if let Some(spec) = &credential.spec {
                identity::credential(spec, now, &mut report);
            }
        }
        Object::Session(session) => {
            if let Some(spec) = &session.spec {
                identity::session(spec, now, &mut report);
            }
        }
        Object::ClusterConfig(config) => {
            if let Some(spec) = &config.spec {
                identity::cluster_config(spec, &mut report);
            }
        }
        Object::Secret(secret) => secret::check(secret, &mut report),
        Object::Config(config) => config::check(config, &mut report),
        Object::Device(device) => {
            if let Some(spec) = &device.spec {
                identity::device(spec, &mut report);
            }
        }
        Object::Authenticator(authenticator) => {
            if let Some(spec) = &authenticator.spec {
                identity::authenticator(spec, &mut report);
            }
        }
        Object::IdentityProvider(provider) => {
            if provider.spec.as_ref().is_some_and(|spec| spec.r#type.is_none()) {
                report.add("spec", "needs one of github, oidc, saml, oidcIdentityToken");
            }
        }
        Object::Region(_) | Object::Gateway(_) => {}
    }
    report.finish()
}

/// Whether a timestamp lies in the years 1 to 9999, as RFC 3339 can write it.
pub fn is_valid_timestamp(time: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos)
}

/// Collects violations.
#[derive(Default)]
struct Report {
    list: Vec<Violation>,
    more: bool,
}

impl Report {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        if self.list.len() < VIOLATIONS_MAX {
            self.list.push(Violation { path: path.to_owned(), message: message.into() });
        } else {
            self.more = true;
        }
    }

    /// The text has at most `bytes_max` bytes.
    fn length(&mut self, path: &str, text: &str, bytes_max: usize) {
        if text.len() > bytes_max {
            self.add(path, format!("has {} bytes; at most {bytes_max}", text.len()));
        }
    }

    /// There are at most `max` of something. Whether there are: if not, they are not looked at.
    fn count(&mut self, path: &str, count: usize, max: usize) -> bool {
        if count > max {
            self.add(path, format!("has {count} entries; at most {max}"));
        }
        count <= max
    }

    /// A plain name that must be there.
    fn plain_name(&mut self, path: &str, name: &str) {
        if name.is_empty() {
            self.add(path, "missing");
        } else if !name::is_plain(name) {
            self.add(path, metadata::PLAIN_NAME);
        }
    }

    fn finish(mut self) -> Vec<Violation> {
        if self.more {
            self.list.push(Violation { path: String::new(), message: "and more violations".to_owned() });
        }
        self.list
    }
}
