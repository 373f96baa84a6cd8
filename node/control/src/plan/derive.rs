//! What the server works out itself: status, and labels that index.

use octelium_api::{
    Kind, Object,
    core::{self, service},
    meta::ObjectReference,
    name,
};
use url::Url;

use super::{Plan, Step};
use crate::{random, refusal::Violation};

/// Reserved for health checks.
const PORTS_RESERVED: [u32; 2] = [49094, 49095];
/// Where a Service of the cluster itself listens.
pub const MANAGED_PORT: u32 = 8080;

impl Plan {
    /// Sets the derived parts of everything that an administrator wrote.
    pub(super) fn derive(&mut self) {
        for id in self.order.clone() {
            let Some(Step::Put(put)) = self.steps.get(&id) else { continue };
            if !put.by_hand {
                continue;
            }
            let mut object = put.object.clone();
            let path = put.path.clone();
            match &mut object {
                Object::Service(service) => {
                    if let Err(message) = self.derive_service(service) {
                        self.violations.push(Violation::at(format!("{path}spec.port"), message));
                    }
                }
                Object::User(user) => derive_user(user),
                Object::Policy(policy) => self.derive_policy(policy),
                Object::Credential(credential) => self.derive_credential(credential),
                Object::ClusterConfig(config) => {
                    config.status.get_or_insert_default().domain = self.domain.to_string();
                }
                _ => {}
            }
            if let Some(Step::Put(put)) = self.steps.get_mut(&id) {
                put.object = object;
            }
        }
    }

    pub(crate) fn derive_service(&self, service: &mut core::Service) -> Result<(), String> {
        let full = service.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let (_, namespace) = name::split_service(&full);
        let hosts = name::hosts(&full, &self.domain);
        let spec = service.spec.clone().unwrap_or_default();
        let status = service.status.get_or_insert_default();
        status.namespace_ref = self.by_name(Kind::Namespace, namespace).map(lasting_reference);
        status.region_ref = self.by_name(Kind::Region, name::DEFAULT_REGION).map(lasting_reference);
        status.primary_hostname = hosts.primary;
        status.additional_hostnames = hosts.additional;
        status.port = port(&spec, status.managed_service.is_some())?;
        Ok(())
    }

    fn derive_policy(&self, policy: &mut core::Policy) {
        let own = policy.metadata.as_ref().map_or("", |metadata| &metadata.name);
        let parent = name::parent_policy(own).and_then(|parent| self.by_name(Kind::Policy, parent));
        policy.status.get_or_insert_default().parent_policy_ref = parent.map(lasting_reference);
    }

    pub(crate) fn derive_credential(&self, credential: &mut core::Credential) {
        let user =
            credential.spec.as_ref().and_then(|spec| self.by_name(Kind::User, &spec.user)).map(lasting_reference);
        let status = credential.status.get_or_insert_default();
        status.user_ref = user;
        if status.id.is_empty() {
            status.id = format!("{}{}-{}", random::letter(), random::alphanumeric(3), random::alphanumeric(4));
        }
    }
}

/// A reference that stays true when its target changes: without the version.
pub fn lasting_reference(object: &Object) -> ObjectReference {
    ObjectReference { resource_version: String::new(), ..object.reference() }
}

/// `specLabels.email` helps to look a User up; uniqueness is decided on the address itself.
fn derive_user(user: &mut core::User) {
    let email = user.spec.as_ref().map_or("", |spec| &spec.email);
    let slug: String = email
        .chars()
        .map(|character| match character {
            '@' => "at".to_owned(),
            other if other.is_ascii_alphanumeric() => other.to_string(),
            _ => "-".to_owned(),
        })
        .collect();
    let labels = &mut user.metadata.get_or_insert_default().spec_labels;
    if slug.is_empty() {
        labels.remove("email");
    } else {
        labels.insert("email".to_owned(), slug);
    }
}

/// The port that a Service listens on.
fn port(spec: &service::Spec, is_managed: bool) -> Result<u32, String> {
    use service::spec::Mode;
    let is_e_ssh = match spec.config.as_ref().and_then(|config| config.r#type.as_ref()) {
        Some(service::spec::config::Type::Ssh(ssh)) => ssh.e_ssh_mode,
        _ => false,
    };
    if spec.port != 0 {
        return Ok(spec.port);
    }
    let port = match spec.mode() {
        _ if is_e_ssh => 22,
        _ if is_managed => MANAGED_PORT,
        mode => match (upstream_port(spec), mode) {
            (Some(443), _) if !spec.is_tls && is_http_family(mode) => 80,
            (Some(port), _) => port,
            (None, Mode::Http | Mode::Web | Mode::Mcp | Mode::Llm) if spec.is_tls => 443,
            (None, Mode::Http | Mode::Web | Mode::Mcp | Mode::Llm) => 80,
            (None, Mode::Ssh) => 22,
            (None, Mode::Dns) => 53,
            (None, Mode::Postgres) => 5432,
            (None, Mode::Mysql) => 3306,
            (None, Mode::Socks5) => 1080,
            _ => return Err("must be given: neither the mode nor an upstream says which port".to_owned()),
        },
    };
    if PORTS_RESERVED.contains(&port) {
        return Err(format!("the upstream's port {port} is reserved for health checks: give another one"));
    }
    Ok(port)
}

fn is_http_family(mode: service::spec::Mode) -> bool {
    use service::spec::Mode::{Grpc, Http, Kubernetes, Llm, Mcp, RdpWeb, Web};
    matches!(mode, Http | Web | Grpc | Kubernetes | RdpWeb | Mcp | Llm)
}

/// The port of the first upstream that any configuration names.
fn upstream_port(spec: &service::Spec) -> Option<u32> {
    use service::spec::config::upstream::Type;
    let named = spec.dynamic_config.iter().flat_map(|dynamic| &dynamic.configs);
    let upstream = spec.config.iter().chain(named).find_map(|config| config.upstream.as_ref()?.r#type.as_ref())?;
    match upstream {
        Type::Url(url) => url_port(url),
        Type::Loadbalance(balance) => balance.endpoints.first().and_then(|endpoint| url_port(&endpoint.url)),
        Type::Container(container) => Some(container.port).filter(|port| *port != 0),
    }
}

fn url_port(url: &str) -> Option<u32> {
    let url = Url::parse(url).ok()?;
    url.port().map(u32::from).or(match url.scheme() {
        "http" | "ws" | "h2c" => Some(80),
        "https" | "wss" => Some(443),
        "ssh" => Some(22),
        "dns" => Some(53),
        "postgres" | "postgresql" => Some(5432),
        "redis" => Some(6379),
        "mysql" => Some(3306),
        "mongodb" => Some(27017),
        "rdp" => Some(3389),
        "amqp" => Some(5672),
        "ftp" => Some(21),
        "dot" => Some(853),
        "socks5" => Some(1080),
        _ => None,
    })
}
