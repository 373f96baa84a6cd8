//! Kinds that clients read and that nobody can make yet, and Configs.

use octelium_api::{
    Kind, Object,
    core::{
        Config, IdentityProvider, ListAuthenticatorOptions, ListConfigOptions, ListDeviceOptions, ListGatewayOptions,
        ListIdentityProviderOptions, ListRegionOptions, ListServiceOptions, config,
    },
    meta::ObjectReference,
};
use tonic::Code;

use crate::support::{Cluster, by_name, code, deletion, fields, named, new_service, put, reference};

fn new_config(name: &str, data: Option<config::data::Type>) -> Config {
    Config {
        metadata: named(name),
        spec: Some(config::Spec {}),
        data: data.map(|data| config::Data { r#type: Some(data) }),
        ..Config::default()
    }
}

#[tokio::test]
async fn lists_of_what_nobody_can_make_yet_are_empty() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    assert!(core.list_device(ListDeviceOptions::default()).await.unwrap().into_inner().items.is_empty());
    assert!(core.list_authenticator(ListAuthenticatorOptions::default()).await.unwrap().into_inner().items.is_empty());
    let providers = core.list_identity_provider(ListIdentityProviderOptions::default()).await.unwrap().into_inner();
    assert_eq!((providers.kind.as_str(), providers.items.len()), ("IdentityProviderList", 0));
    assert_eq!(code(core.get_device(by_name("linux-abc12345")).await), Code::NotFound);
    assert_eq!(code(core.delete_authenticator(deletion("totp-abc123")).await), Code::NotFound);
    let provider = IdentityProvider { metadata: named("idp"), spec: Some(Default::default()), ..Default::default() };
    assert_eq!(fields(&core.create_identity_provider(provider).await.unwrap_err()), ["spec"]);
}

#[tokio::test]
async fn region_and_gateway_are_the_clusters_own() {
    let cluster = Cluster::start().await;
    let addresses = ["192.0.2.1".parse().unwrap()];
    for _ in 0..2 {
        cluster.control.announce(cluster.replica.node_id(), &addresses).await.unwrap();
    }
    let mut core = cluster.core();
    let regions = core.list_region(ListRegionOptions::default()).await.unwrap().into_inner().items;
    assert_eq!(regions.len(), 1);
    assert_eq!(regions[0].status.as_ref().unwrap().ingress_addresses, ["192.0.2.1"], "E21");
    let of_region = ListGatewayOptions { region_ref: Some(reference("default")), ..ListGatewayOptions::default() };
    let gateways = core.list_gateway(of_region).await.unwrap().into_inner().items;
    assert_eq!(gateways.len(), 1, "a node announces itself again and again");
    let gateway = &gateways[0];
    assert_eq!(gateway.status.as_ref().unwrap().region_ref.as_ref().unwrap().name, "default");
    let name = gateway.metadata.as_ref().unwrap().name.clone();
    assert!(name.starts_with("default-"), "{name}");
    assert_eq!(core.get_gateway(by_name(&name)).await.unwrap().get_ref(), gateway);
    let version = gateway.metadata.as_ref().unwrap().resource_version.clone();
    cluster.control.announce(cluster.replica.node_id(), &addresses).await.unwrap();
    let again = core.get_gateway(by_name(&name)).await.unwrap().into_inner();
    assert_eq!(again.metadata.unwrap().resource_version, version);

    let document = Object::from(gateway.clone());
    assert_eq!(code(cluster.apply(vec![put(document)]).await), Code::PermissionDenied);
    let other =
        octelium_api::core::Region { metadata: named("other"), spec: Some(Default::default()), ..Default::default() };
    assert_eq!(code(cluster.apply(vec![put(other)]).await), Code::InvalidArgument);
    let services = core.list_service(ListServiceOptions {
        region_ref: Some(ObjectReference { name: "default".to_owned(), ..Default::default() }),
        ..Default::default()
    });
    assert!(!services.await.unwrap().into_inner().items.is_empty());
    core.create_service(new_service("svc", "https://example.com")).await.unwrap();
    let service = core.get_service(by_name("svc")).await.unwrap().into_inner();
    assert_eq!(service.status.unwrap().region_ref.unwrap().name, "default", "B2");
    let unknown = ListServiceOptions { region_ref: Some(reference("mars")), ..ListServiceOptions::default() };
    assert_eq!(code(core.list_service(unknown).await), Code::NotFound);
}

#[tokio::test]
async fn a_configs_data_is_written_and_never_shown() {
    use config::data::Type;
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let secret = "do-not-show-this-anywhere";
    let made = core.create_config(new_config("cfg", Some(Type::Value(secret.to_owned())))).await.unwrap().into_inner();
    assert_eq!(made.data, None);
    assert_eq!(core.get_config(by_name("cfg")).await.unwrap().into_inner().data, None);
    let list = core.list_config(ListConfigOptions::default()).await.unwrap().into_inner();
    assert!(list.items.iter().all(|config| config.data.is_none()));
    let stored = cluster.replica.state().by_name(Kind::Config, "cfg").unwrap().clone();
    assert!(!String::from_utf8_lossy(&stored.object.encode()).contains(secret));
    assert!(!String::from_utf8_lossy(stored.sealed.as_deref().unwrap()).contains(secret));

    let version = made.metadata.unwrap().resource_version;
    let same = core.update_config(new_config("cfg", Some(Type::Value(secret.to_owned())))).await.unwrap().into_inner();
    assert_eq!(same.metadata.unwrap().resource_version, version, "nothing changed");
    let bytes = Type::ValueBytes(secret.as_bytes().to_vec());
    let other = core.update_config(new_config("cfg", Some(bytes))).await.unwrap().into_inner();
    assert_ne!(other.metadata.unwrap().resource_version, version, "another form is another value");
    assert_eq!(fields(&core.update_config(new_config("cfg", None)).await.unwrap_err()), ["data"]);
    assert_eq!(
        fields(&core.create_config(new_config("c2", Some(Type::Value(String::new())))).await.unwrap_err()),
        ["data.value"]
    );
    core.delete_config(deletion("cfg")).await.unwrap();
    assert_eq!(code(core.delete_config(deletion("cfg")).await), Code::NotFound);
}
