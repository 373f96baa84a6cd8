//! The names of kinds on the command line, and the calls that each kind has.

use std::time::SystemTime;

use clap_complete::CompletionCandidate;
use octelium_api::{
    Kind, Object, core, meta,
    meta::{CommonListOptions, DeleteOptions, GetOptions, ListResponseMeta, ObjectReference},
    name,
};
use tonic::{Response, Status};

use crate::{
    session::Core,
    suggest::did_you_mean,
    time::{age, remaining},
};

/// The names by which each served kind is called.
const NAMES: &[(Kind, &[&str])] = &[
    (Kind::Service, &["service", "svc", "services"]),
    (Kind::User, &["user", "usr", "users"]),
    (Kind::Namespace, &["namespace", "ns", "namespaces"]),
    (Kind::Group, &["group", "grp", "groups"]),
    (Kind::Session, &["session", "sess", "sessions"]),
    (Kind::Credential, &["credential", "cred", "creds", "credentials"]),
    (Kind::Policy, &["policy", "pol", "policies"]),
    (Kind::Secret, &["secret", "sec", "secrets"]),
    (Kind::ClusterConfig, &["clusterconfig", "cc", "clustercfg", "cluster-config"]),
    (Kind::Device, &["device", "dev", "devices"]),
    (Kind::Authenticator, &["authenticator", "authn", "authen", "authenticators"]),
    (Kind::IdentityProvider, &["identityprovider", "idp", "identityproviders"]),
    (Kind::Config, &["config", "cfg", "conf", "configs"]),
    (Kind::Region, &["region", "rgn", "regions"]),
    (Kind::Gateway, &["gateway", "gw", "gws", "gateways"]),
];

/// The kind that is called `text`, in any case.
///
/// # Errors
/// A sentence, if there is none.
pub fn parse(text: &str) -> Result<Kind, String> {
    let lower = text.to_ascii_lowercase();
    if let Some((kind, _)) = NAMES.iter().find(|(_, names)| names.contains(&lower.as_str())) {
        return Ok(*kind);
    }
    let known: Vec<_> = NAMES.iter().map(|(_, names)| names[0]).collect();
    let hint = did_you_mean(&lower, NAMES.iter().flat_map(|(_, names)| *names).copied());
    Err(format!("no such kind; there are {}{hint}", known.join(", ")))
}

/// The names of all kinds, for shells that complete.
pub fn candidates() -> Vec<CompletionCandidate> {
    NAMES.iter().map(|(_, names)| CompletionCandidate::new(names[0])).collect()
}

/// The name that the server stores for `name`: a Service without a Namespace lies in `default`.
pub fn full_name(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Service => name::canonical_service(name),
        _ => name.to_owned(),
    }
}

/// One page of a list.
pub struct Page {
    /// The resources, in the server's order.
    pub items: Vec<Object>,
    /// Which page this is and whether more follow.
    pub meta: ListResponseMeta,
}

macro_rules! calls {
    (
        $($kind:ident $get:ident $delete:ident $list:ident $options:ident $($reference:ident)?;)*
        ; fixed $($fixed:ident $get_fixed:ident $list_fixed:ident $fixed_options:ident $($of:ident)?;)*
    ) => {
        /// Gets one resource; `name` is ignored for the ClusterConfig, of which there is one.
        pub async fn get(core: &mut Core, kind: Kind, name: &str) -> Result<Response<Object>, Status> {
            let options = GetOptions { name: name.to_owned(), ..Default::default() };
            match kind {
                $(Kind::$kind => Ok(core.$get(options).await?.map(Object::from)),)*
                $(Kind::$fixed => Ok(core.$get_fixed(options).await?.map(Object::from)),)*
                Kind::ClusterConfig => {
                    Ok(core.get_cluster_config(core::GetClusterConfigRequest {}).await?.map(Object::from))
                }
            }
        }

        /// Deletes one resource.
        pub async fn delete(core: &mut Core, kind: Kind, name: &str) -> Result<Response<()>, Status> {
            let options = DeleteOptions { name: name.to_owned(), ..Default::default() };
            match kind {
                $(Kind::$kind => Ok(core.$delete(options).await?.map(|_| ())),)*
                $(Kind::$fixed => Err(Status::unimplemented(concat!("a ", stringify!($fixed), " cannot be deleted"))),)*
                Kind::ClusterConfig => Err(Status::unimplemented("the ClusterConfig cannot be deleted")),
            }
        }

        /// Lists one page; `reference` is the Namespace of Services, the Region of Gateways, the User of what Users own.
        pub async fn list(
            core: &mut Core,
            kind: Kind,
            common: CommonListOptions,
            reference: Option<ObjectReference>,
        ) -> Result<Response<Page>, Status> {
            let common = Some(common);
            match kind {
                $(Kind::$kind => {
                    #[allow(clippy::needless_update, reason = "some kinds have more options than others")]
                    let options = core::$options { common, $($reference: reference,)? ..Default::default() };
                    Ok(core.$list(options).await?.map(|list| Page {
                        items: list.items.into_iter().map(Object::from).collect(),
                        meta: list.list_response_meta.unwrap_or_default(),
                    }))
                })*
                $(Kind::$fixed => {
                    #[allow(clippy::needless_update, reason = "some kinds have more options than others")]
                    let options = core::$fixed_options { common, $($of: reference,)? ..Default::default() };
                    Ok(core.$list_fixed(options).await?.map(|list| Page {
                        items: list.items.into_iter().map(Object::from).collect(),
                        meta: list.list_response_meta.unwrap_or_default(),
                    }))
                })*
                Kind::ClusterConfig => Err(Status::unimplemented("there is one ClusterConfig only")),
            }
        }
    };
}

calls! {
    Namespace get_namespace delete_namespace list_namespace ListNamespaceOptions;
    Service get_service delete_service list_service ListServiceOptions namespace_ref;
    User get_user delete_user list_user ListUserOptions;
    Group get_group delete_group list_group ListGroupOptions;
    Policy get_policy delete_policy list_policy ListPolicyOptions;
    Credential get_credential delete_credential list_credential ListCredentialOptions user_ref;
    Session get_session delete_session list_session ListSessionOptions user_ref;
    Secret get_secret delete_secret list_secret ListSecretOptions;
    Config get_config delete_config list_config ListConfigOptions;
    IdentityProvider get_identity_provider delete_identity_provider list_identity_provider ListIdentityProviderOptions;
    Device get_device delete_device list_device ListDeviceOptions user_ref;
    Authenticator get_authenticator delete_authenticator list_authenticator ListAuthenticatorOptions user_ref;

    ; fixed
    Region get_region list_region ListRegionOptions;
    Gateway get_gateway list_gateway ListGatewayOptions region_ref;
}

/// The columns of a kind's table.
pub fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Service => &["Name", "Namespace", "Mode", "Port", "Age", "Public", "Anonymous", "Addresses", "TLS"],
        Kind::User => &["Name", "Groups", "Type", "Age", "Email", "Disabled"],
        Kind::Session => &["Name", "User", "Type", "Expires In", "Age", "State", "Connected"],
        Kind::Credential => &["Name", "User", "Age", "Type", "Expires In"],
        Kind::Policy => &["Name", "Rules", "Age", "Disabled"],
        Kind::Device => &["Name", "User", "State", "Age", "OS Type"],
        Kind::Authenticator => &["Name", "User", "Type", "Age", "Registered", "State", "Authentications"],
        Kind::IdentityProvider => &["Name", "Type", "Age", "Disabled"],
        Kind::Region => &["Name", "Ingress Addresses", "Age"],
        Kind::Gateway => &["Name", "Region", "Node", "Age"],
        Kind::Namespace | Kind::Group | Kind::Secret | Kind::Config | Kind::ClusterConfig => &["Name", "Age"],
    }
}

/// More columns, for `-o wide`.
pub const WIDE_COLUMNS: &[&str] = &["Display Name", "Labels", "UID"];

/// The cells of [`WIDE_COLUMNS`].
pub fn wide_cells(object: &Object) -> Vec<String> {
    let metadata = object.metadata().cloned().unwrap_or_default();
    let labels: Vec<_> = metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![metadata.display_name, labels.join("\n"), metadata.uid]
}

/// One line of a kind's table, one cell for each of [`columns`].
pub fn row(object: &Object, now: SystemTime) -> Vec<String> {
    let name = object.name().to_owned();
    let metadata = object.metadata().cloned().unwrap_or_default();
    let age = age(metadata.created_at.as_ref(), now);
    match object {
        Object::Service(service) => {
            let spec = service.spec.clone().unwrap_or_default();
            let status = service.status.clone().unwrap_or_default();
            let shown = if status.primary_hostname.is_empty() { name.clone() } else { status.primary_hostname };
            let namespace = reference_name(status.namespace_ref.as_ref());
            let namespace = if namespace.is_empty() {
                name.split_once('.').map_or("default", |(_, namespace)| namespace).to_owned()
            } else {
                namespace
            };
            let port = if status.port == 0 { spec.port } else { status.port };
            let port = if port == 0 { String::new() } else { port.to_string() };
            let addresses: Vec<_> = status
                .addresses
                .into_iter()
                .filter_map(|address| address.dual_stack_ip)
                .flat_map(|ip| [ip.ipv4, ip.ipv6])
                .filter(|ip| !ip.is_empty())
                .collect();
            vec![
                shown,
                namespace,
                word(spec.mode().as_str_name(), "MODE_UNSET"),
                port,
                age,
                yes(spec.is_public),
                yes(spec.is_anonymous),
                addresses.join("\n"),
                yes(spec.is_tls),
            ]
        }
        Object::User(user) => {
            let spec = user.spec.clone().unwrap_or_default();
            let r#type = word(spec.r#type().as_str_name(), "TYPE_UNKNOWN");
            vec![name, spec.groups.join("\n"), r#type, age, spec.email, yes(spec.is_disabled)]
        }
        Object::Session(session) => {
            let spec = session.spec.clone().unwrap_or_default();
            let status = session.status.clone().unwrap_or_default();
            let mut r#type = word(status.r#type().as_str_name(), "TYPE_UNKNOWN");
            if status.is_browser {
                r#type.push_str(" (Browser)");
            }
            vec![
                name,
                reference_name(status.user_ref.as_ref()),
                r#type,
                remaining(spec.expires_at.as_ref(), now),
                age,
                word(spec.state().as_str_name(), "STATE_UNKNOWN"),
                yes(status.is_connected),
            ]
        }
        Object::Credential(credential) => {
            let spec = credential.spec.clone().unwrap_or_default();
            let r#type = word(spec.r#type().as_str_name(), "TYPE_UNKNOWN");
            let expires = remaining(spec.expires_at.as_ref(), now);
            vec![name, spec.user, age, r#type, expires]
        }
        Object::Policy(policy) => {
            let spec = policy.spec.clone().unwrap_or_default();
            vec![name, spec.rules.len().to_string(), age, yes(spec.is_disabled)]
        }
        Object::Device(device) => {
            let spec = device.spec.clone().unwrap_or_default();
            let status = device.status.clone().unwrap_or_default();
            let os = word(status.os_type().as_str_name(), "OS_TYPE_UNKNOWN");
            let state = word(spec.state().as_str_name(), "STATE_UNKNOWN");
            vec![name, reference_name(status.user_ref.as_ref()), state, age, os]
        }
        Object::Authenticator(authenticator) => {
            let spec = authenticator.spec.clone().unwrap_or_default();
            let status = authenticator.status.clone().unwrap_or_default();
            let attempts = format!("{}/{}", status.successful_authentications, status.total_authentication_attempts);
            vec![
                name,
                reference_name(status.user_ref.as_ref()),
                word(status.r#type().as_str_name(), "TYPE_UNKNOWN"),
                age,
                yes(status.is_registered),
                word(spec.state().as_str_name(), "STATE_UNKNOWN"),
                attempts,
            ]
        }
        Object::IdentityProvider(provider) => {
            let r#type = provider.status.unwrap_or_default();
            let r#type = word(r#type.r#type().as_str_name(), "TYPE_UNKNOWN");
            vec![name, r#type, age, yes(provider.spec.as_ref().is_some_and(|spec| spec.is_disabled))]
        }
        Object::Region(region) => {
            let addresses = region.status.as_ref().map(|status| status.ingress_addresses.join("\n"));
            vec![name, addresses.unwrap_or_default(), age]
        }
        Object::Gateway(gateway) => {
            let status = gateway.status.clone().unwrap_or_default();
            let (region, node) = (reference_name(status.region_ref.as_ref()), reference_name(status.node_ref.as_ref()));
            vec![name, region, node, age]
        }
        Object::Namespace(_) | Object::Group(_) | Object::Secret(_) | Object::Config(_) | Object::ClusterConfig(_) => {
            vec![name, age]
        }
    }
}

fn reference_name(reference: Option<&meta::ObjectReference>) -> String {
    reference.map(|reference| reference.name.clone()).unwrap_or_default()
}

/// An enumeration's value, or nothing where it is `unset`.
fn word(value: &str, unset: &str) -> String {
    if value == unset { String::new() } else { value.to_owned() }
}

fn yes(value: bool) -> String {
    if value { "True".to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn every_alias_names_its_kind() {
        for (kind, names) in NAMES {
            for name in *names {
                assert_eq!(parse(name), Ok(*kind));
                assert_eq!(parse(&name.to_uppercase()), Ok(*kind));
            }
            assert_eq!(parse(kind.name()), Ok(*kind));
        }
        assert_eq!(NAMES.len(), Kind::ALL.len(), "every served kind has names");
    }

    #[test]
    fn unknown_kinds_are_told() {
        assert!(parse("pod").unwrap_err().contains("no such kind"));
        assert!(parse("servcie").unwrap_err().ends_with("did you mean `service`?"));
    }

    #[test]
    fn a_service_without_namespace_is_in_default() {
        assert_eq!(full_name(Kind::Service, "api"), "api.default");
        assert_eq!(full_name(Kind::Service, "api.prod"), "api.prod");
        assert_eq!(full_name(Kind::User, "api"), "api");
    }

    #[test]
    fn rows_have_a_cell_for_each_column() {
        for kind in Kind::ALL {
            let object = kind.decode(&[]).unwrap();
            assert_eq!(row(&object, SystemTime::now()).len(), columns(*kind).len(), "{kind}");
        }
    }

    #[test]
    fn a_service_is_shown_by_its_host_name() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let address = core::service::status::Address {
            dual_stack_ip: Some(meta::DualStackIp { ipv4: "10.0.0.1".into(), ipv6: "fd00::1".into() }),
            ..Default::default()
        };
        let service = core::Service {
            metadata: Some(meta::Metadata {
                name: "api.prod".into(),
                created_at: Some(Timestamp { seconds: 690, nanos: 0 }),
                ..Default::default()
            }),
            spec: Some(core::service::Spec {
                port: 8080,
                mode: core::service::spec::Mode::Web.into(),
                is_public: true,
                is_tls: true,
                ..Default::default()
            }),
            status: Some(core::service::Status {
                primary_hostname: "api.prod.local".into(),
                addresses: vec![address],
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            row(&service.into(), now),
            ["api.prod.local", "prod", "WEB", "8080", "5m10s", "True", "", "10.0.0.1\nfd00::1", "True"]
        );
    }

    #[test]
    fn a_browser_session_is_marked() {
        let session = core::Session {
            spec: Some(core::session::Spec {
                state: core::session::spec::State::Active.into(),
                expires_at: Some(Timestamp { seconds: 2_000, nanos: 0 }),
                ..Default::default()
            }),
            status: Some(core::session::Status {
                r#type: core::session::status::Type::Clientless.into(),
                is_browser: true,
                user_ref: Some(ObjectReference { name: "ann".into(), ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900);
        assert_eq!(row(&session.into(), now), ["", "ann", "CLIENTLESS (Browser)", "100s", "", "ACTIVE", ""]);
    }
}
