//! The first start: everything that a cluster has before anybody did anything, as one change.

use std::{net::IpAddr, time::Duration};

use octelium_api::{
    Kind, Object,
    core::{
        ClusterConfig, Condition, Credential, Gateway, InlinePolicy, Namespace, Policy, Region, Service, User,
        cluster_config, condition, credential, gateway, namespace,
        policy::{
            self,
            spec::{EnforcementRule, Rule, enforcement_rule, rule},
        },
        region, service, session, user,
    },
    meta::{Metadata, ObjectReference},
    name,
};
use octelium_consensus::Write;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    Control, Error,
    auth::generate,
    plan::{Actor, MANAGED_PORT, Plan, lasting_reference},
    refusal::Refusal,
    seal, token,
    token::TokenKeys,
};

/// Of the root User, for the first log-in.
const ROOT_CREDENTIAL: &str = "root-init";
/// How long the token lasts with which an administrator first logs in.
const ROOT_LIFE: Duration = Duration::from_secs(180 * 24 * 60 * 60);
const API_NAMESPACE: &str = "octelium-api";
const API_SERVICE: &str = "default.octelium-api";
const OF_API: &str = r#"ctx.namespace.metadata.name == "octelium-api" && ctx.service.spec.mode == "GRPC""#;
const OF_OTHER_APIS: &str = r#"ctx.request.grpc.package == "octelium.api.main.auth.v1" || ctx.request.grpc.package == "octelium.api.main.user.v1""#;
const USER_API: &str = r#"ctx.request.grpc.package == "octelium.api.main.user.v1""#;
/// Reflection and health: they tell what the documentation tells.
const TOOLS: &str =
    r#"ctx.request.grpc.package in ["grpc.reflection.v1", "grpc.reflection.v1alpha", "grpc.health.v1"]"#;
/// `Wait…` tells no more than a list that is asked for again and again.
const READS: &str = r#"["Get", "List", "Wait"].exists(verb, ctx.request.grpc.method.startsWith(verb))"#;
const OF_HTTP: &str = r#"ctx.service.spec.mode == "HTTP" || ctx.service.spec.mode == "WEB""#;
const SAFE_METHODS: &str = r#"ctx.request.http.method in ["GET", "HEAD", "OPTIONS"]"#;

impl Control {
    /// Sets the cluster up if nobody did before: its built-in resources, a key that signs tokens, and `keys`, which are
    /// sealed before they enter the log. Returns the token of the Credential `root-init` on the first start, later `None`.
    ///
    /// # Errors
    /// If the change can't be committed.
    pub async fn bootstrap(&self, keys: Vec<(String, Zeroizing<Vec<u8>>)>) -> Result<Option<String>, Error> {
        let store = &self.inner.store;
        if store.state().by_name(Kind::ClusterConfig, name::CLUSTER_CONFIG).is_some() {
            return Ok(None);
        }
        let (key_name, key) = token::generate_key(store.now())?;
        let sealed = seal::seal_key(&store.sealing, &key_name, &key);
        let signing = TokenKeys::open(&[(key_name.clone(), sealed.clone().into())], &store.sealing)?;
        let actor = Actor { operation: "bootstrap".to_owned(), ..Actor::default() };
        let done = store.change(&actor, |plan| {
            if plan.state().by_name(Kind::ClusterConfig, name::CLUSTER_CONFIG).is_some() {
                return Ok::<_, Refusal>(None);
            }
            let root_init = built_ins(plan, &store.domain)?;
            plan.key(Write::PutKey { name: key_name.clone(), sealed: sealed.clone() });
            for (name, key) in &keys {
                plan.key(Write::PutKey { name: name.clone(), sealed: seal::seal_key(&store.sealing, name, key) });
            }
            Ok(Some(root_init))
        });
        let done = done.await.map_err(|refusal| Error::Refused(refusal.to_string()))?;
        let Some(id) = &done.value else { return Ok(None) };
        match done.object(id) {
            Some(Object::Credential(credential)) => Ok(generate::mint(credential, &signing)),
            _ => Ok(None),
        }
    }

    /// Keeps this node's Gateway and its Region's addresses true; to be called at each start.
    ///
    /// # Errors
    /// If the change can't be committed.
    pub async fn announce(&self, node_id: u64, addresses: &[IpAddr]) -> Result<(), Error> {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let actor = Actor { operation: "announce".to_owned(), ..Actor::default() };
        let done = self.inner.store.change(&actor, |plan| {
            announce(plan, node_id, &addresses);
            Ok::<_, Refusal>(())
        });
        done.await.map(drop).map_err(|refusal| Error::Refused(refusal.to_string()))
    }

    /// The token that [`Self::bootstrap`] gave, as long as nobody has used it: for a start that was cut off before it could
    /// be kept.
    pub fn unused_root_token(&self) -> Option<String> {
        let state = self.inner.store.state();
        let Object::Credential(credential) = &state.by_name(Kind::Credential, ROOT_CREDENTIAL)?.object else {
            return None;
        };
        let is_unused = credential.status.as_ref().is_some_and(|status| status.total_authentications == 0);
        is_unused.then(|| generate::mint(credential, &self.token_keys()))?
    }
}

fn announce(plan: &mut Plan, node_id: u64, addresses: &[String]) {
    let Some(region) = plan.state().by_name(Kind::Region, name::DEFAULT_REGION).cloned() else { return };
    if let Object::Region(mut changed) = region.object.clone() {
        let known = &mut changed.status.get_or_insert_default().ingress_addresses;
        let new: Vec<_> = addresses.iter().filter(|address| !known.contains(address)).cloned().collect();
        if !new.is_empty() {
            known.extend(new);
            plan.edit(&region, changed);
        }
    }
    let id = format!("{node_id:016x}");
    let name = format!("{}-{}", name::DEFAULT_REGION, &id[..8]);
    let status = gateway::Status {
        region_ref: Some(lasting_reference(&region.object)),
        node_ref: Some(ObjectReference { kind: "Node".to_owned(), name: id.clone(), ..ObjectReference::default() }),
        id,
        public_i_ps: addresses.to_vec(),
        ..gateway::Status::default()
    };
    let new = |metadata, status| Gateway {
        metadata: Some(metadata),
        spec: Some(gateway::Spec {}),
        status: Some(status),
        ..Gateway::default()
    };
    match plan.state().by_name(Kind::Gateway, &name).cloned() {
        None => drop(plan.make(new(system(&name), status))),
        Some(stored) => {
            let metadata = stored.object.metadata().cloned().unwrap_or_default();
            let mut changed = Object::from(new(metadata, status));
            changed.set_envelope();
            if changed != stored.object {
                plan.edit(&stored, changed);
            }
        }
    }
}

/// Enters everything into the plan; the id is that of the Credential `root-init`.
fn built_ins(plan: &mut Plan, domain: &str) -> Result<crate::plan::Id, Refusal> {
    for (name, is_user_hidden) in [("default", false), ("octelium", true), (API_NAMESPACE, true)] {
        plan.make(Namespace {
            metadata: Some(Metadata { is_user_hidden, ..system(name) }),
            spec: Some(namespace::Spec::default()),
            ..Namespace::default()
        });
    }
    for policy in policies() {
        plan.make(policy);
    }
    plan.make(Region {
        metadata: Some(system(name::DEFAULT_REGION)),
        spec: Some(region::Spec {}),
        status: Some(region::Status {
            public_hostname: format!("_r-{}", name::DEFAULT_REGION),
            ..region::Status::default()
        }),
        ..Region::default()
    });
    for mut service in [api_service(), auth_service()] {
        plan.derive_service(&mut service).map_err(|message| Refusal::at("spec.port", message))?;
        plan.make(service);
    }
    plan.make(User {
        metadata: Some(system("octelium")),
        spec: Some(user::Spec { r#type: user::spec::Type::Workload.into(), ..user::Spec::default() }),
        ..User::default()
    });

    plan.make(User {
        metadata: Some(named("root")),
        spec: Some(user::Spec { r#type: user::spec::Type::Workload.into(), ..user::Spec::default() }),
        ..User::default()
    });
    plan.make(ClusterConfig {
        metadata: Some(system(name::CLUSTER_CONFIG)),
        spec: Some(cluster_config::Spec::default()),
        status: Some(cluster_config::Status { domain: domain.to_owned(), ..cluster_config::Status::default() }),
        ..ClusterConfig::default()
    });

    let mut root_init = Credential {
        metadata: Some(named(ROOT_CREDENTIAL)),
        spec: Some(credential::Spec {
            r#type: credential::spec::Type::AuthToken.into(),
            user: "root".to_owned(),
            session_type: session::status::Type::Client.into(),
            expires_at: Some(plan.now().later(ROOT_LIFE)),
            authorization: Some(credential::spec::Authorization {
                inline_policies: vec![inline("allow-all", always(rule::Effect::Allow))],
                ..credential::spec::Authorization::default()
            }),
            ..credential::Spec::default()
        }),
        status: Some(credential::Status {
            token_id: Uuid::new_v4().to_string(),
            last_rotation_at: Some(plan.now().timestamp()),
            total_rotations: 1,
            ..credential::Status::default()
        }),
        ..Credential::default()
    };
    plan.derive_credential(&mut root_init);
    Ok(plan.make(root_init))
}

/// The Service that stands for the control API. Its policies decide who may call it, beside the caller's own.
fn api_service() -> Service {
    let for_all = |expression| policy::Spec {
        rules: vec![rule("main", matching(expression), rule::Effect::Allow, 0)],
        ..policy::Spec::default()
    };
    Service {
        metadata: Some(Metadata { is_user_hidden: true, ..system(API_SERVICE) }),
        spec: Some(service::Spec {
            mode: service::spec::Mode::Grpc.into(),
            port: MANAGED_PORT,
            is_public: true,
            authorization: Some(service::spec::Authorization {
                inline_policies: vec![inline("user-api", for_all(USER_API)), inline("tools", for_all(TOOLS))],
                ..service::spec::Authorization::default()
            }),
            ..service::Spec::default()
        }),
        status: Some(managed("apiserver")),
        ..Service::default()
    }
}

/// The Service that stands for log-ins. It asks for no Session: it makes them.
fn auth_service() -> Service {
    Service {
        metadata: Some(Metadata { is_user_hidden: true, ..system("auth.octelium-api") }),
        spec: Some(service::Spec {
            mode: service::spec::Mode::Grpc.into(),
            port: MANAGED_PORT,
            is_public: true,
            is_anonymous: true,
            ..service::Spec::default()
        }),
        status: Some(managed("authserver")),
        ..Service::default()
    }
}

fn managed(r#type: &str) -> service::Status {
    service::Status {
        managed_service: Some(service::status::ManagedService {
            r#type: r#type.to_owned(),
            ..service::status::ManagedService::default()
        }),
        ..service::Status::default()
    }
}

fn policies() -> Vec<Policy> {
    let ignore =
        |condition| EnforcementRule { condition: Some(condition), effect: enforcement_rule::Effect::Ignore.into() };
    // What may be read is allowed, all else denied.
    let only = |expression: &str| {
        vec![
            rule("main", matching(expression), rule::Effect::Allow, -1),
            rule("others", any_request(), rule::Effect::Deny, 0),
        ]
    };
    vec![
        policy("allow-all", always(rule::Effect::Allow)),
        policy("deny-all", always(rule::Effect::Deny)),
        policy(
            "octelium-api-full-access",
            policy::Spec {
                rules: vec![rule("main", matching(OF_API), rule::Effect::Allow, -1)],
                ..policy::Spec::default()
            },
        ),
        policy(
            "octelium-api-read-only",
            policy::Spec {
                rules: only(READS),
                enforcement_rules: vec![ignore(not(OF_API)), ignore(matching(OF_OTHER_APIS)), ignore(matching(TOOLS))],
                ..policy::Spec::default()
            },
        ),
        policy(
            "http-read-only",
            policy::Spec {
                rules: only(SAFE_METHODS),
                enforcement_rules: vec![ignore(not(OF_HTTP))],
                ..policy::Spec::default()
            },
        ),
    ]
}

fn policy(name: &str, spec: policy::Spec) -> Policy {
    Policy {
        metadata: Some(named(name)),
        spec: Some(spec),
        status: Some(policy::Status::default()),
        ..Policy::default()
    }
}

fn always(effect: rule::Effect) -> policy::Spec {
    policy::Spec { rules: vec![rule("main", any_request(), effect, 0)], ..policy::Spec::default() }
}

fn inline(name: &str, spec: policy::Spec) -> InlinePolicy {
    InlinePolicy { name: name.to_owned(), spec: Some(spec) }
}

fn rule(name: &str, condition: Condition, effect: rule::Effect, priority: i32) -> Rule {
    Rule { name: name.to_owned(), condition: Some(condition), effect: effect.into(), priority }
}

fn any_request() -> Condition {
    Condition { r#type: Some(condition::Type::MatchAny(true)) }
}

fn matching(expression: &str) -> Condition {
    Condition { r#type: Some(condition::Type::Match(expression.to_owned())) }
}

fn not(expression: &str) -> Condition {
    Condition { r#type: Some(condition::Type::Not(expression.to_owned())) }
}

fn named(name: &str) -> Metadata {
    Metadata { name: name.to_owned(), ..Metadata::default() }
}

fn system(name: &str) -> Metadata {
    Metadata { is_system: true, ..named(name) }
}

#[cfg(test)]
mod tests {
    use octelium_policy::Origin;

    use super::*;

    #[test]
    fn every_built_in_policy_compiles() {
        let inline = api_service().spec.unwrap().authorization.unwrap().inline_policies;
        let specs = policies().into_iter().map(|policy| policy.spec.unwrap());
        for spec in specs.chain(inline.into_iter().map(|inline| inline.spec.unwrap())) {
            if let Err(errors) = octelium_policy::Policy::compile(&spec, Origin::BuiltIn("built-in".to_owned()), "spec")
            {
                panic!("{errors:?}");
            }
        }
    }
}
