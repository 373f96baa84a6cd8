//! The control API over its real listener: who may call it, and what a change is (spec: identity §10.9; api-wire §Apply).

use octelium_api::{
    control::{ApplyRequest, Change, change, result::Operation},
    core::ListUserOptions,
    meta::ObjectReference,
};
use serde_json::json;
use tonic::Code;

use crate::support::{
    api::{Api, by_name},
    cluster::Cluster,
    http::{Connection, get},
    manifest::{self, resource, service, workload},
};

fn code<T>(result: Result<T, tonic::Status>) -> Code {
    result.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn only_whom_a_policy_allows_may_call() {
    let cluster = Cluster::start().await;
    let anonymous = Api::anonymous(cluster.https, &cluster.node.ca_file, "octelium-api.octelium.test");
    let list = async |api: &Api| code(api.core().list_user(ListUserOptions::default()).await);
    let apply = async |api: &Api| code(api.control().apply(ApplyRequest::default()).await);

    assert_eq!((list(&anonymous).await, apply(&anonymous).await), (Code::Unauthenticated, Code::Unauthenticated));
    let forged = anonymous.with("forged");
    assert_eq!((list(&forged).await, apply(&forged).await), (Code::Unauthenticated, Code::Unauthenticated));
    let nobody = anonymous.with(&cluster.api.caller("nobody").await);
    assert_eq!((list(&nobody).await, apply(&nobody).await), (Code::PermissionDenied, Code::PermissionDenied));
    // `allow-all` of a Service says nothing about the API's own Service.
    let reader = json!({ "authorization": { "policies": ["octelium-api-read-only"] } });
    let reader = anonymous.with(&cluster.api.caller_of("reader", reader).await);
    assert_eq!((list(&reader).await, apply(&reader).await), (Code::Ok, Code::PermissionDenied));
    let admin = json!({ "authorization": { "policies": ["octelium-api-full-access"] } });
    let admin = anonymous.with(&cluster.api.caller_of("admin", admin).await);
    assert_eq!((list(&admin).await, apply(&admin).await), (Code::Ok, Code::Ok));

    // At the next call over the same connection.
    cluster.api.apply(&[workload("admin")]).await;
    assert_eq!(list(&admin).await, Code::PermissionDenied);
    cluster.api.apply(&[resource("User", "reader", json!({ "type": "WORKLOAD", "isDisabled": true }))]).await;
    assert_eq!(list(&reader).await, Code::PermissionDenied);
}

#[tokio::test]
async fn nobody_pulls_the_ladder_up_behind_himself() {
    let cluster = Cluster::start().await;
    let disabled = resource("User", "root", json!({ "type": "WORKLOAD", "isDisabled": true }));
    assert_eq!(code(cluster.api.try_apply(&disabled.to_string()).await), Code::PermissionDenied);
    assert_eq!(
        code(cluster.api.core().delete_user(crate::support::api::deletion("root")).await),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_change_is_told_by_what_it_did_and_repeated_without_effect() {
    let cluster = Cluster::start().await;
    let text = manifest::text(&[workload("alice"), service("svc", "http://a.example", json!({}))]);
    let changes = manifest::read(&text).unwrap();
    let mut control = cluster.api.control();

    let dry = ApplyRequest { dry_run: true, changes: changes.clone(), ..ApplyRequest::default() };
    let planned = control.apply(dry).await.unwrap().into_inner();
    assert_eq!((planned.index, planned.results.len()), (0, 2));
    assert_eq!(code(cluster.api.core().get_user(by_name("alice")).await), Code::NotFound, "a dry run makes nothing");

    let request = ApplyRequest { request_id: "once".to_owned(), changes: changes.clone(), ..ApplyRequest::default() };
    let first = control.apply(request.clone()).await.unwrap().into_inner();
    let operations = |response: &octelium_api::control::ApplyResponse| {
        response.results.iter().map(|result| (result.name.clone(), result.operation())).collect::<Vec<_>>()
    };
    let created = [("alice".to_owned(), Operation::Created), ("svc.default".to_owned(), Operation::Created)];
    assert_eq!(operations(&first), created);
    let again = control.apply(request).await.unwrap().into_inner();
    assert_eq!((operations(&again), again.index), (operations(&first), first.index), "the same answer");
    let other = ApplyRequest { request_id: "once".to_owned(), changes: Vec::new(), ..ApplyRequest::default() };
    assert_eq!(code(control.apply(other).await), Code::InvalidArgument, "the id of another change");

    let unchanged = cluster.api.apply_text(&text).await;
    assert!(unchanged.results.iter().all(|result| result.operation() == Operation::Unchanged));
    assert_eq!(unchanged.index, 0);
    let delete = |kind: &str, name: &str| Change {
        kind: kind.to_owned(),
        change: Some(change::Change::Delete(ObjectReference { name: name.to_owned(), ..ObjectReference::default() })),
        ..Change::default()
    };
    let request =
        ApplyRequest { changes: vec![delete("Service", "svc"), delete("User", "alice")], ..ApplyRequest::default() };
    let deleted = control.apply(request.clone()).await.unwrap().into_inner();
    assert!(deleted.results.iter().all(|result| result.operation() == Operation::Deleted));
    assert_eq!(code(control.apply(request).await), Code::NotFound, "there is nothing left to delete");
}

/// A caller of a Service's connection can't reach the API on it, nor the other way round.
#[tokio::test]
async fn the_api_is_reached_by_its_own_name_over_http2_alone() {
    let cluster = Cluster::start().await;
    let mut plain = cluster.connect().await;
    let answer = plain.call(&get("octelium-api", "/octelium.api.main.core.v1.MainService/ListUser")).await;
    assert_eq!(answer.short(), (426, "HTTP2_NEEDED"));

    // TLS for the API's name speaks h2 alone: there is no protocol in common with an HTTP/1.1 client.
    let stream = tokio::net::TcpStream::connect(cluster.https).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("octelium-api.octelium.test").unwrap();
    let tls = crate::support::http::tls_client(&cluster.node.ca_file, b"http/1.1").connect(name, stream).await;
    assert!(tls.is_err());

    // HTTP/2 under the API's TLS name with another authority.
    cluster.api.apply(&[service("svc", "http://a.example", json!({}))]).await;
    let mixed =
        Api::anonymous_as(cluster.https, &cluster.node.ca_file, "octelium-api.octelium.test", "svc.octelium.test");
    let status = mixed.core().list_user(ListUserOptions::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");

    // Names that lead nowhere have no certificate: strangers can't make the node sign.
    let stream = tokio::net::TcpStream::connect(cluster.https).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("nothing.octelium.test").unwrap();
    assert!(crate::support::http::tls_client(&cluster.node.ca_file, b"http/1.1").connect(name, stream).await.is_err());
    Connection::tls(cluster.https, "svc", &cluster.node.ca_file).await;
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let cluster = Cluster::start().await;
    let register = "/octelium.api.main.auth.v1.MainService/RegisterDeviceBegin";
    assert_eq!(code(cluster.api.raw(register, Vec::new()).await), Code::Unimplemented);
    assert_eq!(
        code(cluster.api.raw("/octelium.api.main.core.v1.MainService/NoSuch", Vec::new()).await),
        Code::Unimplemented
    );
    assert_eq!(code(cluster.api.raw("/no.such.Service/Method", Vec::new()).await), Code::Unimplemented);
    assert_eq!(code(cluster.api.raw("/not-grpc", Vec::new()).await), Code::Unimplemented);
}
