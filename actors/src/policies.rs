//! Compiled policies, shared by the actors: each named Policy is compiled once for each of its versions.

use std::{collections::HashMap, sync::Arc};

use octelium_api::{
    Kind, Object,
    core::{self, InlinePolicy},
    meta::ObjectReference,
};
use octelium_consensus::{State, Stored};
use octelium_policy::{Origin, Policy};
use parking_lot::Mutex;

/// Policies by uid, each with the version that it was compiled from.
#[derive(Default)]
pub struct Library {
    compiled: Mutex<HashMap<String, (String, Arc<Policy>)>>,
}

/// What an `authorization` block contributes.
#[derive(Default)]
pub struct Collected {
    /// Named policies with their parents, then inline ones.
    pub policies: Vec<Arc<Policy>>,
    /// Whether any was named, so that a changed Policy concerns the owner.
    pub names_policies: bool,
}

impl Collected {
    /// Adds another block's.
    pub fn extend(&mut self, other: Self) {
        self.policies.extend(other.policies);
        self.names_policies |= other.names_policies;
    }
}

impl Library {
    /// Collects what `names` and `inline` contribute, parents included. A Policy that is missing or does not compile
    /// contributes a denial: it could have denied, so leaving it out would widen access.
    pub fn collect(
        &self,
        state: &State,
        names: &[String],
        inline: &[InlinePolicy],
        owner: &ObjectReference,
    ) -> Collected {
        let mut policies = Vec::new();
        for name in names {
            let mut next = Some(name.as_str());
            while let Some(name) = next {
                policies.push(self.named(state, name));
                next = name.split_once('.').map(|(_, parent)| parent);
            }
        }
        for policy in inline {
            let spec = policy.spec.clone().unwrap_or_default();
            let origin = Origin::Inline { owner: owner.clone(), name: policy.name.clone() };
            policies.push(match Policy::compile(&spec, origin, "spec") {
                Ok(policy) => Arc::new(policy),
                Err(errors) => {
                    tracing::error!(policy = policy.name, errors = ?errors, "an inline policy does not compile: its owner is denied");
                    Self::deny("an inline policy does not compile")
                }
            });
        }
        Collected { policies, names_policies: !names.is_empty() }
    }

    /// A policy that denies all, whatever allows: stands in for one that can't be known.
    pub fn deny(reason: &str) -> Arc<Policy> {
        use core::{
            Condition, condition,
            policy::spec::{Rule, rule},
        };
        let rule = Rule {
            name: "unavailable".to_owned(),
            priority: -4,
            condition: Some(Condition { r#type: Some(condition::Type::MatchAny(true)) }),
            effect: rule::Effect::Deny.into(),
        };
        let spec = core::policy::Spec { rules: vec![rule], ..Default::default() };
        Arc::new(
            Policy::compile(&spec, Origin::BuiltIn(reason.to_owned()), "spec").expect("`matchAny` always compiles"),
        )
    }

    /// Forgets Policies that are gone.
    pub fn retain(&self, state: &State) {
        self.compiled.lock().retain(|uid, _| state.get(Kind::Policy, uid).is_some());
    }

    fn named(&self, state: &State, name: &str) -> Arc<Policy> {
        let Some(stored) = state.by_name(Kind::Policy, name) else {
            tracing::error!(policy = name, "a Policy that is attached does not exist: access is denied");
            return Self::deny("an attached Policy is missing");
        };
        let mut compiled = self.compiled.lock();
        if let Some((version, policy)) = compiled.get(stored.object.uid())
            && version == stored.object.resource_version()
        {
            return policy.clone();
        }
        let policy = Self::compile(stored);
        compiled.insert(stored.object.uid().to_owned(), (stored.object.resource_version().to_owned(), policy.clone()));
        policy
    }

    fn compile(stored: &Stored) -> Arc<Policy> {
        let Object::Policy(resource) = &stored.object else { return Self::deny("not a Policy") };
        let spec = resource.spec.clone().unwrap_or_default();
        match Policy::compile(&spec, Origin::Named(stored.object.reference()), "spec") {
            Ok(policy) => Arc::new(policy),
            Err(errors) => {
                tracing::error!(
                    policy = stored.object.name(),
                    ?errors,
                    "a Policy does not compile here: access is denied"
                );
                Self::deny("an attached Policy does not compile")
            }
        }
    }
}
