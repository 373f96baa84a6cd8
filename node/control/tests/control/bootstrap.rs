//! What a cluster has from its first start, and what outlives a restart.

use std::time::Duration;

use octelium_api::{
    Kind,
    core::{GetClusterConfigRequest, credential::spec::Type, service::spec::Mode},
};
use tonic::Code;

use crate::support::{Cluster, by_name, code, deletion, new_secret, new_service, workload};

#[tokio::test]
async fn the_first_start_makes_the_built_in_resources() {
    let cluster = Cluster::start().await;
    let state = cluster.replica.state();
    let names = |kind| state.list(kind).map(|stored| stored.object.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(Kind::Namespace), ["default", "octelium", "octelium-api"]);
    assert_eq!(names(Kind::Service), ["default.octelium-api", "auth.octelium-api"]);
    assert_eq!(names(Kind::User), ["octelium", "root"]);
    assert_eq!(names(Kind::Region), ["default"]);
    assert_eq!(names(Kind::Credential), ["root-init"]);
    let policies = ["allow-all", "deny-all", "octelium-api-full-access", "octelium-api-read-only", "http-read-only"];
    assert_eq!(names(Kind::Policy), policies);

    let mut core = cluster.core();
    let config = core.get_cluster_config(GetClusterConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(config.status.unwrap().domain, "octelium.localhost");
    let api = core.get_service(by_name("default.octelium-api")).await.unwrap().into_inner();
    assert_eq!(api.spec.unwrap().mode(), Mode::Grpc);
    assert_eq!(api.status.unwrap().primary_hostname, "octelium-api");
    let route = cluster.views.routes.load().api.clone().unwrap();
    assert_eq!(route.broken, None);
    let credential = core.get_credential(by_name("root-init")).await.unwrap().into_inner();
    assert_eq!(credential.status.unwrap().user_ref.unwrap().name, "root");
    assert_eq!(cluster.control.open_key("tls/ca").unwrap().as_slice(), b"a key");
    assert!(cluster.control.open_key("tls/other").is_none());
}

#[tokio::test]
async fn the_first_token_logs_in() {
    let cluster = Cluster::start().await;
    let tokens = cluster.log_in(cluster.root_token.as_deref().unwrap()).await.unwrap();
    let entry = cluster.session_of(&tokens.access_token).unwrap();
    assert_eq!(entry.user.reference.name, "root");
    assert_eq!(entry.policies.len(), 1, "the inline policy of the Credential is copied");
}

#[tokio::test]
async fn system_objects_stay() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    for namespace in ["default", "octelium", "octelium-api"] {
        assert_eq!(code(core.delete_namespace(deletion(namespace)).await), Code::PermissionDenied, "{namespace}");
        let mut object = core.get_namespace(by_name(namespace)).await.unwrap().into_inner();
        object.metadata.as_mut().unwrap().description = "mine".to_owned();
        assert_eq!(code(core.update_namespace(object).await), Code::PermissionDenied, "{namespace}");
    }
    assert_eq!(code(core.delete_service(deletion("default.octelium-api")).await), Code::PermissionDenied);
    // `root` and the built-in Policies are ordinary objects.
    core.delete_policy(deletion("deny-all")).await.unwrap();
    core.delete_user(deletion("root")).await.unwrap();
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let cluster = Cluster::start().await;
    let root_token = cluster.root_token.clone().unwrap();
    let tokens = cluster.log_in(&root_token).await.unwrap();
    let (_, secret) = cluster.credential("svc", Type::Oauth2).await;
    let mut core = cluster.core();
    core.create_secret(new_secret("api-key", "hunter2")).await.unwrap();
    core.create_service(new_service("web", "http://127.0.0.1:8000")).await.unwrap();
    let before: Vec<_> =
        Kind::ALL.iter().flat_map(|kind| cluster.replica.state().list(*kind).cloned().collect::<Vec<_>>()).collect();

    let cluster = cluster.restart().await;
    assert_eq!(cluster.root_token, None, "only the first start has a token");
    let after: Vec<_> =
        Kind::ALL.iter().flat_map(|kind| cluster.replica.state().list(*kind).cloned().collect::<Vec<_>>()).collect();
    assert_eq!(before, after);
    assert!(cluster.session_of(&tokens.access_token).is_some(), "the access token still counts");
    assert_eq!(cluster.control.open_key("tls/ca").unwrap().as_slice(), b"a key");
    let renewed = cluster.refresh(&tokens.refresh_token).await.unwrap();
    assert!(cluster.session_of(&renewed.access_token).is_some());
    cluster.log_in(&root_token).await.unwrap();
    assert_eq!(
        cluster.control.token_keys().verify(&secret, octelium_control::TokenKind::Credential, 1).map(|t| t.kind),
        Ok(octelium_control::TokenKind::Credential)
    );
    assert!(cluster.views.routes.load().route("web.octelium.localhost").is_some());
}

#[tokio::test]
async fn the_sweeper_removes_only_what_has_expired() {
    let cluster = Cluster::start().await;
    cluster.core().create_user(workload("svc")).await.unwrap();
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    cluster.log_in(&token).await.unwrap();
    assert_eq!(cluster.control.sweep().await.unwrap(), 0);
    // The refresh token of a workload lives 14 days, its Session 90.
    cluster.later(Duration::from_secs(15 * 24 * 3600));
    let fresh = cluster.log_in(&token).await.unwrap();
    assert_eq!(cluster.control.sweep().await.unwrap(), 1);
    assert!(cluster.session_of(&fresh.access_token).is_some());
    cluster.later(Duration::from_secs(170 * 24 * 3600));
    assert_eq!(cluster.control.sweep().await.unwrap(), 2, "a Session and root-init");
    let state = cluster.replica.state();
    assert_eq!((state.count(Kind::Session), state.count(Kind::Credential)), (0, 1));
}
