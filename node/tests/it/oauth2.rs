//! The OAuth2 endpoints on the cluster's own domain, over TLS (RFC 7662, RFC 7009), and generic gRPC tools.

use octelium_api::core::ListUserOptions;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{
    cluster::{Cluster, DOMAIN},
    http::{Answer, get, post},
    manifest::{inline, rule, service},
    upstream::Upstream,
};

const FORM: &str = "application/x-www-form-urlencoded";

fn code<T>(result: Result<T, tonic::Status>) -> Code {
    result.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn send(cluster: &Cluster, path: &str, body: &str, bearer: Option<&str>) -> Answer {
    let mut call = post(DOMAIN, path, body).header("Content-Type", FORM);
    if let Some(token) = bearer {
        call = call.header("Authorization", &format!("Bearer {token}"));
    }
    cluster.connect_tls(DOMAIN).await.call(&call).await
}

fn read(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[tokio::test]
async fn a_policy_decides_who_may_ask_about_every_token() {
    let cluster = Cluster::start().await;
    let subject = cluster.api.caller("alice").await;
    let method = "ctx.request.grpc.serviceFullName == 'octelium.control.v1.ControlService' && ctx.request.grpc.method == 'IntrospectToken'";
    let may = cluster.api.caller_of("may", json!({ "authorization": inline(&[rule("ALLOW", method)]) })).await;
    let may_not = cluster.api.caller("may-not").await;
    let body = format!("token={subject}");

    let told = send(&cluster, "/oauth2/introspect", &body, Some(&may)).await;
    assert_eq!((told.status, &read(&told)["username"]), (200, &json!("alice")));
    assert_eq!(told.header("cache-control"), Some("no-store"));
    assert_eq!(send(&cluster, "/oauth2/introspect", &body, Some(&may_not)).await.status, 403);
    assert_eq!(send(&cluster, "/oauth2/introspect", &body, Some("nonsense")).await.status, 401);
    let nobody = send(&cluster, "/oauth2/introspect", &body, None).await;
    assert_eq!((nobody.status, &read(&nobody)["error"]), (401, &json!("invalid_client")));
    // The permission is for this alone.
    let status = cluster.api.with(&may).core().list_user(ListUserOptions::default()).await;
    assert_eq!(code(status), Code::PermissionDenied);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_the_next_request() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let asked = get("svc", "/").header("Authorization", &format!("Bearer {token}"));
    let mut connection = cluster.connect().await;
    assert_eq!(connection.call(&asked).await.status, 200);
    assert_eq!(send(&cluster, "/oauth2/revoke", &format!("token={token}"), None).await.status, 200);
    assert_eq!(connection.call(&asked).await.status, 401, "at once, on the same connection");
    assert_eq!(send(&cluster, "/oauth2/revoke", "", None).await.status, 400);
    assert_eq!(send(&cluster, "/oauth2/revoke?token=x", "token=x", None).await.status, 400, "not in the address");
}

#[tokio::test]
async fn the_metadata_document_names_what_is_there() {
    let cluster = Cluster::start().await;
    let answer = cluster.connect_tls(DOMAIN).await.call(&get(DOMAIN, "/.well-known/oauth-authorization-server")).await;
    let document = read(&answer);
    for (endpoint, path) in
        [("token_endpoint", "token"), ("introspection_endpoint", "introspect"), ("revocation_endpoint", "revoke")]
    {
        let named = document[endpoint].as_str().unwrap();
        assert!(named.ends_with(&format!("/oauth2/{path}")), "{named}");
        let wrong_method = cluster.connect_tls(DOMAIN).await.call(&get(DOMAIN, &format!("/oauth2/{path}"))).await;
        assert_eq!(wrong_method.status, 404);
    }
}

#[tokio::test]
async fn tools_may_reflect_once_they_are_authenticated() {
    let cluster = Cluster::start().await;
    let plain = cluster.api.with(&cluster.api.caller("alice").await);
    let health = "/grpc.health.v1.Health/Check";
    assert_eq!(code(plain.raw(health, Vec::new()).await), Code::Ok);
    assert_eq!(
        code(plain.raw("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", vec![0x3a, 0]).await),
        Code::Ok
    );
    let nobody = cluster.api.with("nonsense");
    assert_eq!(code(nobody.raw(health, Vec::new()).await), Code::Unauthenticated);
}
