//! What speaks against a change when it is seen with everything else: names, references, uniqueness, self-protection.

use std::collections::{HashMap, HashSet};

use memchr::memmem::Finder;
use octelium_api::{
    Kind, Object,
    core::{credential, session, user},
    name, validate,
};
use octelium_consensus::Requirement;
use tonic::Code;

use super::{Id, Plan, Step, is_system};
use crate::refusal::Violation;

/// Where the control API is.
const API_NAMESPACE: &str = "octelium-api";
/// So many referrers are named.
const REFERRERS_SHOWN: usize = 5;
/// More names than these are not looked for one by one.
const NAMES_SEARCHED_MAX: usize = 16;

impl Plan {
    /// Notes all that is wrong. Returns what must be there for the change to take effect.
    pub(super) fn judge(&mut self) -> Vec<Requirement> {
        let mut found = Vec::new();
        let mut required = HashSet::new();
        for id in &self.order {
            match self.steps.get(id) {
                Some(Step::Put(put)) if put.by_hand => {
                    let before = put.before.as_ref().map(|stored| &stored.object);
                    if before == Some(&put.object) && put.secret.is_none() {
                        continue;
                    }
                    self.references(&put.path, &put.object, &mut required, &mut found);
                    self.judge_put(&put.path, before, &put.object, &mut found);
                }
                Some(Step::Delete(delete)) if !delete.cascaded => {
                    self.judge_delete(&delete.path, &delete.before.object, &mut found);
                }
                _ => {}
            }
        }
        self.judge_emails(&mut found);
        self.judge_referrers(&mut found);
        self.violations.append(&mut found);
        let mut required: Vec<_> = required.into_iter().map(|(kind, uid)| Requirement { kind, uid }).collect();
        required.sort_by(|a, b| (a.kind, &a.uid).cmp(&(b.kind, &b.uid)));
        required
    }

    fn references(&self, path: &str, object: &Object, required: &mut HashSet<Id>, found: &mut Vec<Violation>) {
        for reference in validate::references(object) {
            match self.by_name(reference.kind, &reference.name) {
                Some(target) => drop(required.insert((reference.kind, target.uid().to_owned()))),
                None => {
                    let message = format!("there is no {} `{}`", reference.kind, reference.name);
                    found.push(Violation::at(format!("{path}{}", reference.path), message));
                }
            }
        }
    }

    fn judge_put(&self, path: &str, before: Option<&Object>, object: &Object, found: &mut Vec<Violation>) {
        let mut bad = |field: &str, message: String| found.push(Violation::at(format!("{path}{field}"), message));
        match object {
            // Both would be `<name>.<domain>`.
            Object::Namespace(_) if before.is_none() => {
                let service = format!("{}.default", object.name());
                if self.by_name(Kind::Service, &service).is_some() {
                    bad("metadata.name", format!("Service `{service}` already has this host name"));
                }
            }
            Object::Service(_) if before.is_none() => {
                let (service, namespace) = name::split_service(object.name());
                // Policies and scopes tell the API by its Namespace.
                if namespace == API_NAMESPACE {
                    let message = format!("Namespace `{API_NAMESPACE}` has the cluster's own Services alone");
                    let path = format!("{path}metadata.name");
                    return found.push(Violation::coded(Code::PermissionDenied, path, message));
                }
                if namespace == name::DEFAULT_NAMESPACE
                    && self.by_name(Kind::Namespace, service).is_some()
                    && service != namespace
                {
                    bad("metadata.name", format!("Namespace `{service}` already has this host name"));
                }
            }
            Object::Credential(resource) => {
                let Some(spec) = &resource.spec else { return };
                if let Some(Object::Credential(old)) = before {
                    let old = old.spec.clone().unwrap_or_default();
                    if old.r#type != spec.r#type {
                        bad("spec.type", "can't be changed".to_owned());
                    }
                    if old.user != spec.user {
                        bad("spec.user", "can't be changed".to_owned());
                    }
                }
                let needs_workload =
                    matches!(spec.r#type(), credential::spec::Type::Oauth2 | credential::spec::Type::AccessToken);
                if let Some(Object::User(owner)) = self.by_name(Kind::User, &spec.user)
                    && needs_workload
                    && owner.spec.as_ref().is_none_or(|spec| spec.r#type() != user::spec::Type::Workload)
                {
                    let message = format!("{} needs a WORKLOAD User", spec.r#type().as_str_name());
                    bad("spec.type", message);
                }
            }
            Object::User(resource) => {
                let disabled = resource.spec.as_ref().is_some_and(|spec| spec.is_disabled);
                if disabled && object.uid() == self.actor.user_uid {
                    let message = "you can't disable your own User";
                    found.push(Violation::coded(Code::PermissionDenied, format!("{path}spec.isDisabled"), message));
                }
            }
            Object::Session(resource) => {
                let active = resource.spec.as_ref().is_some_and(|spec| spec.state() == session::spec::State::Active);
                if !active && self.actor.session_uid() == Some(object.uid()) {
                    let message = "you can't deactivate your own Session: log out instead";
                    found.push(Violation::coded(Code::PermissionDenied, format!("{path}spec.state"), message));
                }
            }
            _ => {}
        }
    }

    fn judge_delete(&self, path: &str, object: &Object, found: &mut Vec<Violation>) {
        let kind = object.kind();
        let mut deny = |message: String| found.push(Violation::coded(Code::PermissionDenied, path, message));
        if kind == Kind::ClusterConfig {
            found.push(Violation::at(path, "the ClusterConfig can't be deleted"));
        } else if kind.is_read_only() {
            deny(format!("a {kind} is deleted by the cluster alone"));
        } else if is_system(object) {
            deny(format!("{kind} `{}` is part of the system and can't be deleted", object.name()));
        } else if kind == Kind::User && object.uid() == self.actor.user_uid {
            deny("you can't delete your own User".to_owned());
        } else if kind == Kind::Session && self.actor.session_uid() == Some(object.uid()) {
            deny("you can't delete your own Session: log out instead".to_owned());
        }
    }

    /// No two Users share an address.
    fn judge_emails(&self, found: &mut Vec<Violation>) {
        let mut changed = Vec::new();
        for id in &self.order {
            let Some(Step::Put(put)) = self.steps.get(id) else { continue };
            let before = put.before.as_ref().map_or("", |stored| email(&stored.object));
            let now = email(&put.object);
            if !now.is_empty() && now != before {
                changed.push((put.path.as_str(), now, id.1.as_str()));
            }
        }
        if changed.is_empty() {
            return;
        }
        let mut owners: HashMap<&str, Vec<&Object>> = HashMap::new();
        for user in self.list(Kind::User) {
            owners.entry(email(user)).or_default().push(user);
        }
        for (path, email, uid) in changed {
            let other = owners.get(email).into_iter().flatten().find(|user| user.uid() != uid);
            if let Some(other) = other {
                let message = format!("User `{}` already has this address", other.name());
                found.push(Violation::at(format!("{path}spec.email"), message));
            }
        }
    }

    /// What is still referred to stays.
    fn judge_referrers(&self, found: &mut Vec<Violation>) {
        let mut gone: HashMap<Id, Vec<String>> = HashMap::new();
        for (kind, uid) in &self.order {
            if let Some(Step::Delete(delete)) = self.steps.get(&(*kind, uid.clone()))
                && !delete.cascaded
                && !is_system(&delete.before.object)
                && matches!(kind, Kind::Namespace | Kind::Policy | Kind::Group | Kind::Secret | Kind::User)
            {
                gone.insert((*kind, delete.before.object.name().to_owned()), Vec::new());
            }
        }
        if gone.is_empty() {
            return;
        }
        let now = self.now.unix();
        let searched = Searched::new(gone.keys());
        let kinds = Kind::ALL.iter().filter(|kind| searched.is_among_referrers(**kind));
        for object in kinds.flat_map(|kind| self.list(*kind)) {
            if !searched.may_refer(object) || expired(object, now) {
                continue;
            }
            for reference in validate::references(object) {
                // A document of this change that refers to what goes is told so itself.
                if let Some(referrers) = gone.get_mut(&(reference.kind, reference.name)) {
                    referrers.push(format!("{} `{}`", object.kind(), object.name()));
                }
            }
        }
        for (kind, uid) in &self.order {
            let Some(Step::Delete(delete)) = self.steps.get(&(*kind, uid.clone())) else { continue };
            let name = delete.before.object.name();
            let Some(referrers) = gone.get_mut(&(*kind, name.to_owned())) else { continue };
            referrers.dedup();
            if referrers.is_empty() {
                continue;
            }
            let more = referrers.len().saturating_sub(REFERRERS_SHOWN);
            let mut list = referrers[..referrers.len().min(REFERRERS_SHOWN)].join(", ");
            if more > 0 {
                list.push_str(&format!(" and {more} more"));
            }
            found.push(Violation::at(&delete.path, format!("{kind} `{name}` is still used by {list}")));
        }
    }
}

/// What is looked for among all resources: few of a hundred thousand can refer to it, and looking closely is dear.
struct Searched {
    kinds: HashSet<Kind>,
    /// `None`: too many to look for one by one.
    names: Option<Vec<Finder<'static>>>,
}

impl Searched {
    fn new<'a>(ids: impl ExactSizeIterator<Item = &'a Id> + Clone) -> Self {
        let names = ids.clone().map(|(_, name)| Finder::new(name).into_owned());
        let names = (ids.len() <= NAMES_SEARCHED_MAX).then(|| names.collect());
        Self { kinds: ids.map(|(kind, _)| *kind).collect(), names }
    }

    /// Whether resources of this kind can refer to what is looked for.
    fn is_among_referrers(&self, kind: Kind) -> bool {
        let wants = |kind: Kind| self.kinds.contains(&kind);
        match kind {
            Kind::Service | Kind::IdentityProvider | Kind::ClusterConfig => true,
            Kind::User => wants(Kind::Group) || wants(Kind::Policy),
            Kind::Credential => wants(Kind::User) || wants(Kind::Policy),
            _ => wants(Kind::Policy),
        }
    }

    /// `false` is certain.
    fn may_refer(&self, object: &Object) -> bool {
        let by_policy_alone = matches!(object.kind(), Kind::Session | Kind::Device | Kind::Namespace | Kind::Group);
        if by_policy_alone && object.attached_policies().is_empty() {
            return false;
        }
        self.names.as_ref().is_none_or(|names| {
            let bytes = object.encode();
            names.iter().any(|name| name.find(&bytes).is_some())
        })
    }
}

fn email(object: &Object) -> &str {
    match object {
        Object::User(user) => user.spec.as_ref().map_or("", |spec| &spec.email),
        _ => "",
    }
}

/// A Session that only waits for being swept refers to nothing any more.
fn expired(object: &Object, now_unix: i64) -> bool {
    match object {
        Object::Session(session) => {
            session.spec.as_ref().and_then(|spec| spec.expires_at.as_ref()).is_none_or(|at| at.seconds <= now_unix)
        }
        _ => false,
    }
}
