//! `user.v1`: what a caller may use.

use octelium_api::{
    clients::octelium::api::main::user::v1::main_service_client::MainServiceClient as UserClient,
    core::credential::spec::Type,
    user::{DisconnectRequest, GetStatusRequest, ListNamespaceOptions, ListServiceOptions, service},
};
use tonic::Code;

use crate::support::{As, Cluster, by_name, code};

const SERVICES: &str = r#"
kind: Namespace
metadata: {name: prod}
spec: {}
---
kind: Namespace
metadata: {name: empty}
spec: {}
---
kind: Service
metadata: {name: open}
spec: {mode: HTTP, isPublic: true, isAnonymous: true, config: {upstream: {url: 'http://127.0.0.1:1'}}}
---
kind: Service
metadata: {name: for-alice.prod, displayName: Hers}
spec:
  mode: WEB
  isPublic: true
  config: {upstream: {url: 'http://127.0.0.1:1'}}
  authorization: {inlinePolicies: [{spec: {rules: [{effect: ALLOW, condition: {match: "ctx.user.metadata.name == 'alice'"}}]}}]}
---
kind: Service
metadata: {name: some-paths.prod}
spec:
  mode: HTTP
  isPublic: true
  config: {upstream: {url: 'http://127.0.0.1:1'}}
  authorization: {inlinePolicies: [{spec: {rules: [{effect: ALLOW, condition: {match: "ctx.request.http.path.startsWith('/x')"}}]}}]}
---
kind: Service
metadata: {name: some-paths-for-alice.prod}
spec:
  mode: HTTP
  isPublic: true
  config: {upstream: {url: 'http://127.0.0.1:1'}}
  authorization: {inlinePolicies: [{spec: {rules: [{effect: ALLOW, condition: {all: {of: [{match: "ctx.request.http.path.startsWith('/x')"}, {match: "ctx.user.metadata.name == 'alice' && ctx.request.http.method == 'GET'"}]}}}]}}]}
---
kind: Service
metadata: {name: never.prod}
spec:
  mode: HTTP
  isPublic: true
  config: {upstream: {url: 'http://127.0.0.1:1'}}
  authorization: {inlinePolicies: [{spec: {rules: [{effect: ALLOW, condition: {matchAny: true}}, {effect: DENY, condition: {match: "ctx.user.spec.type == 'WORKLOAD'"}}]}}]}
---
kind: Service
metadata: {name: off}
spec: {mode: HTTP, isPublic: true, isAnonymous: true, isDisabled: true, config: {upstream: {url: 'http://127.0.0.1:1'}}}
---
kind: Service
metadata: {name: private}
spec:
  mode: HTTP
  config: {upstream: {url: 'http://127.0.0.1:1'}}
  authorization: {inlinePolicies: [{spec: {rules: [{effect: ALLOW, condition: {matchAny: true}}]}}]}
"#;

async fn as_user(cluster: &Cluster, user: &str, scopes: &[&str]) -> UserClient<As> {
    let (_, token) = cluster.credential(user, Type::AuthToken).await;
    let tokens = cluster.log_in_with(&token, scopes, &[]).await.unwrap();
    UserClient::new(cluster.as_caller(cluster.caller_of(&tokens.access_token)))
}

async fn names(client: &mut UserClient<As>, options: ListServiceOptions) -> Vec<String> {
    let list = client.list_service(options).await.unwrap().into_inner();
    assert_eq!((list.kind.as_str(), list.api_version.as_str()), ("ServiceList", "user/v1"));
    list.items.into_iter().map(|service| service.metadata.unwrap().name).collect()
}

#[tokio::test]
async fn only_what_the_caller_may_use_is_listed() {
    let cluster = Cluster::start().await;
    cluster.apply_yaml(SERVICES).await.unwrap();
    let mut alice = as_user(&cluster, "alice", &[]).await;
    let mut bob = as_user(&cluster, "bob", &[]).await;
    assert_eq!(
        names(&mut alice, ListServiceOptions::default()).await,
        ["open.default", "for-alice.prod", "some-paths.prod", "some-paths-for-alice.prod", "private.default"]
    );
    assert_eq!(
        names(&mut bob, ListServiceOptions::default()).await,
        ["open.default", "some-paths.prod", "private.default"],
        "not Alice's, and never what every request is denied"
    );
    let in_prod = ListServiceOptions { namespace: "prod".to_owned(), ..ListServiceOptions::default() };
    assert_eq!(names(&mut alice, in_prod).await, ["for-alice.prod", "some-paths.prod", "some-paths-for-alice.prod"]);
    let web = ListServiceOptions { r#type: service::spec::Type::Web.into(), ..ListServiceOptions::default() };
    assert_eq!(names(&mut alice, web).await, ["for-alice.prod"]);
    let namespaces = bob.list_namespace(ListNamespaceOptions::default()).await.unwrap().into_inner();
    let namespaces: Vec<_> = namespaces.items.into_iter().map(|namespace| namespace.metadata.unwrap().name).collect();
    assert_eq!(namespaces, ["default", "prod"], "none without a Service");

    let hers = alice.get_service(by_name("for-alice.prod")).await.unwrap().into_inner();
    assert_eq!(hers.status.unwrap().namespace, "prod");
    assert_eq!(hers.spec.unwrap().r#type(), service::spec::Type::Web);
    let metadata = hers.metadata.unwrap();
    assert_eq!(metadata.display_name, "Hers");
    assert_eq!(
        (metadata.actor_operation.as_str(), metadata.actor_ref),
        ("", None),
        "who wrote it is not theirs to know"
    );
    assert_eq!(code(bob.get_service(by_name("for-alice.prod")).await), Code::NotFound);
    assert_eq!(code(bob.get_service(by_name("default.octelium-api")).await), Code::NotFound);
    assert_eq!(code(bob.get_service(by_name("")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn scopes_narrow_the_list() {
    let cluster = Cluster::start().await;
    cluster.apply_yaml(SERVICES).await.unwrap();
    let mut alice = as_user(&cluster, "alice", &["service:prod/*", "api:user"]).await;
    let listed = names(&mut alice, ListServiceOptions::default()).await;
    assert_eq!(listed, ["open.default", "for-alice.prod", "some-paths.prod", "some-paths-for-alice.prod"]);
}

#[tokio::test]
async fn a_caller_learns_who_it_is() {
    let cluster = Cluster::start().await;
    let mut alice = as_user(&cluster, "alice", &[]).await;
    let status = alice.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.domain, crate::support::DOMAIN);
    assert_eq!(status.cluster.unwrap().metadata.unwrap().name, "default");
    let user = status.user.unwrap();
    assert_eq!(user.metadata.unwrap().name, "alice");
    assert_eq!(user.spec.unwrap().r#type().as_str_name(), "WORKLOAD");
    let session = status.session.unwrap();
    assert!(session.metadata.unwrap().name.starts_with("alice-"));
    assert_eq!(session.status.unwrap().r#type().as_str_name(), "CLIENT");
    for _ in 0..2 {
        alice.disconnect(DisconnectRequest {}).await.unwrap();
    }
    let mut nobody = UserClient::new(cluster.nobody());
    assert_eq!(code(nobody.get_status(GetStatusRequest {}).await), Code::Unauthenticated);
    assert_eq!(code(nobody.list_service(ListServiceOptions::default()).await), Code::Unauthenticated);
}
