//! A document as a caller sent it, checked as far as that needs no other document.

use std::{collections::HashSet, time::SystemTime};

use octelium_actors::router;
use octelium_api::{
    Kind, Object,
    core::{Secret, policy, secret},
    meta::Metadata,
    name, validate,
};
use octelium_policy::{Origin, Policy};
use prost::Message;
use zeroize::Zeroizing;

use crate::refusal::Violation;

/// More warnings about one document help nobody.
const WARNINGS_MAX: usize = 20;

/// See the module.
pub struct Draft {
    /// In front of the paths of its fields, e.g. `changes[3].`.
    pub path: String,
    /// Without secret data, without what only the server sets, with its name in the stored form.
    pub object: Object,
    /// The data of a Secret or Config, see [`crate::seal::open_data`].
    pub secret: Option<Zeroizing<Vec<u8>>>,
    violations: Vec<Violation>,
    lacks_data: Vec<Violation>,
    warnings: Vec<String>,
}

impl Draft {
    /// Checks `object`. This may take milliseconds: its expressions are compiled.
    pub fn new(path: impl Into<String>, mut object: Object, now: SystemTime) -> Self {
        let path = path.into();
        let mut list = validate::check(&object, now);
        list.extend(validate::unsupported(&object));
        let mut warnings = Vec::new();
        // What the server can't serve is told once, not also as what it can't compile.
        if list.is_empty() {
            list = compile(&object, &mut warnings);
        }
        let mut seen = HashSet::new();
        let told =
            list.into_iter().filter(|violation| seen.insert((violation.path.clone(), violation.message.clone())));
        let all = told.map(|violation| Violation::at(format!("{path}{}", violation.path), violation.message));
        let has_data = object.kind().has_data();
        let data_path = format!("{path}data");
        let (lacks_data, violations) = all.partition(|violation| has_data && violation.path == data_path);
        let secret = match &mut object {
            Object::Secret(secret) => take_data(secret),
            // Its form is data too.
            Object::Config(config) => config.data.take().map(|data| Zeroizing::new(data.encode_to_vec())),
            _ => None,
        };
        clean(&mut object);
        Self { path, object, secret, violations, lacks_data, warnings }
    }

    /// Gives it the data that it was stored with, see [`crate::seal::open_data`].
    pub fn set_data(&mut self, data: Vec<u8>) {
        self.secret = Some(Zeroizing::new(data));
        self.lacks_data.clear();
    }

    /// What is fine and may not mean what it seems to.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The path of a field of this document.
    pub fn path_of(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// What is wrong with it; a Secret without data is fine where that `keeps_data` of a stored one.
    pub fn violations(&self, keeps_data: bool) -> Vec<Violation> {
        let lacks_data = self.lacks_data.iter().filter(|_| !(keeps_data && self.secret.is_none()));
        self.violations.iter().chain(lacks_data).cloned().collect()
    }
}

/// Removes what callers can't set, and writes the name as it is stored.
fn clean(object: &mut Object) {
    object.set_envelope();
    object.clear_status();
    let kind = object.kind();
    let metadata = object.metadata_mut();
    let given = std::mem::take(metadata);
    *metadata = Metadata {
        name: match kind {
            Kind::Service => name::canonical_service(&given.name),
            Kind::ClusterConfig => name::CLUSTER_CONFIG.to_owned(),
            _ => given.name,
        },
        display_name: given.display_name,
        description: given.description,
        labels: given.labels,
        tags: given.tags,
        annotations: given.annotations,
        pic_url: given.pic_url,
        ..Metadata::default()
    };
}

fn take_data(secret: &mut Secret) -> Option<Zeroizing<Vec<u8>>> {
    match secret.data.take()?.r#type? {
        secret::data::Type::Value(text) => Some(Zeroizing::new(text.into_bytes())),
        secret::data::Type::ValueBytes(bytes) => Some(Zeroizing::new(bytes)),
    }
}

/// Compiles every expression of the document, as those who will evaluate it do.
fn compile(object: &Object, warnings: &mut Vec<String>) -> Vec<validate::Violation> {
    let mut found = Vec::new();
    if let Object::Policy(policy) = object {
        found.extend(policy_errors(policy.spec.as_ref(), "spec", warnings));
    }
    for (index, inline) in object.inline_policies().iter().enumerate() {
        let path = format!("spec.authorization.inlinePolicies[{index}].spec");
        found.extend(policy_errors(inline.spec.as_ref(), &path, warnings));
    }
    if let Object::Service(service) = object
        && let Err(problems) = router::compile::check(service)
    {
        found.extend(
            problems.into_iter().map(|problem| validate::Violation { path: problem.path, message: problem.message }),
        );
    }
    found
}

fn policy_errors(spec: Option<&policy::Spec>, path: &str, warnings: &mut Vec<String>) -> Vec<validate::Violation> {
    let spec = spec.cloned().unwrap_or_default();
    let origin = Origin::BuiltIn("a draft".to_owned());
    let errors = match Policy::compile(&spec, origin, path) {
        Ok(policy) => {
            let told = policy.warnings().iter().take(WARNINGS_MAX.saturating_sub(warnings.len()));
            warnings.extend(told.map(|warning| format!("{}: {}", warning.path, sentence(warning))));
            Vec::new()
        }
        Err(errors) => errors,
    };
    errors
        .into_iter()
        .map(|error| validate::Violation { path: error.path.clone(), message: sentence(&error) })
        .collect()
}

/// The error without its path.
fn sentence(error: &octelium_policy::Error) -> String {
    let place = match error.line {
        0 => String::new(),
        line => format!("line {line}, column {}: ", error.column),
    };
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{place}{}{hint}", error.message)
}
