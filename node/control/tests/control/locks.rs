//! Locks: suspensions beside `spec`.

use octelium_api::{
    Kind,
    control::{SetLockRequest, SetLockResponse},
    core::credential::spec::Type,
};
use tonic::{Code, Status};

use crate::support::{Cluster, code, human, reference};

async fn set(cluster: &Cluster, kind: Kind, name: &str, is_locked: bool) -> Result<SetLockResponse, Status> {
    let request = SetLockRequest { kind: kind.name().to_owned(), r#ref: Some(reference(name)), is_locked };
    cluster.extra().set_lock(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_locked_user_session_or_credential_admits_nobody() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("alice", Type::AuthToken).await;
    let tokens = cluster.log_in(&token).await.unwrap();
    let session = cluster.stored_session(&tokens.access_token).await.metadata.unwrap().name;

    set(&cluster, Kind::Session, &session, true).await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).unwrap().is_locked);
    assert_eq!(code(cluster.refresh(&tokens.refresh_token).await), Code::Unauthenticated, "N-09");
    set(&cluster, Kind::Session, &session, false).await.unwrap();
    let tokens = cluster.refresh(&tokens.refresh_token).await.unwrap();

    set(&cluster, Kind::User, "alice", true).await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).unwrap().user.is_locked);
    assert_eq!(code(cluster.log_in(&token).await), Code::PermissionDenied);
    set(&cluster, Kind::User, "alice", false).await.unwrap();

    set(&cluster, Kind::Credential, "alice-cred", true).await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).unwrap().credential.is_off);
    assert_eq!(code(cluster.log_in(&token).await), Code::Unauthenticated, "F-02");
    set(&cluster, Kind::Credential, "alice-cred", false).await.unwrap();
    cluster.log_in(&token).await.unwrap();
}

#[tokio::test]
async fn a_lock_survives_what_is_applied_and_a_restart() {
    let cluster = Cluster::start().await;
    cluster.core().create_user(human("alice")).await.unwrap();
    let first = set(&cluster, Kind::User, "alice", true).await.unwrap();
    assert!(first.index > 0);
    assert_eq!(set(&cluster, Kind::User, "alice", true).await.unwrap().index, 0, "it was so already");
    cluster.apply_yaml("kind: User\nmetadata: {name: alice, displayName: A}\nspec: {type: HUMAN}").await.unwrap();
    let cluster = cluster.restart().await;
    let user = cluster.core().get_user(crate::support::by_name("alice")).await.unwrap().into_inner();
    assert!(user.status.unwrap().is_locked);
    assert_eq!(user.metadata.unwrap().display_name, "A");
}

#[tokio::test]
async fn what_cant_be_locked_is_told() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("alice", Type::AuthToken).await;
    let tokens = cluster.log_in(&token).await.unwrap();
    for (kind, name, expected) in [
        (Kind::Service, "default.octelium-api", Code::InvalidArgument),
        (Kind::User, "octelium", Code::PermissionDenied),
        (Kind::User, "nobody", Code::NotFound),
        (Kind::User, "", Code::InvalidArgument),
    ] {
        assert_eq!(code(set(&cluster, kind, name, true).await), expected, "{kind} {name}");
    }
    let caller = cluster.caller_of(&tokens.access_token);
    let session = caller.session_ref.name.clone();
    let mut own = octelium_api::clients::octelium::control::v1::control_service_client::ControlServiceClient::new(
        cluster.as_caller(caller),
    );
    for (kind, name) in [("User", "alice"), ("Session", session.as_str())] {
        let request = SetLockRequest { kind: kind.to_owned(), r#ref: Some(reference(name)), is_locked: true };
        assert_eq!(code(own.set_lock(request).await), Code::PermissionDenied, "one's own {kind}");
    }
}
