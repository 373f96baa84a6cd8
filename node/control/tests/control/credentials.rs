//! Credentials, their tokens, and what they admit.

use std::time::Duration;

use octelium_api::{
    Kind, Object,
    core::{
        Credential, InlinePolicy, ListCredentialOptions,
        credential::{self, spec::Type},
        session::status::Type as SessionType,
    },
    meta::ObjectReference,
};
use octelium_control::TokenKind;
use prost_types::Timestamp;
use tonic::Code;
use uuid::Uuid;

use crate::support::{
    Cluster, by_name, code, deletion, fields, human, new_credential, policy_spec, reference, token_text,
    user_credential, workload,
};

fn spec(credential: &mut Credential) -> &mut credential::Spec {
    credential.spec.as_mut().unwrap()
}

fn days_ahead(cluster: &Cluster, days: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: cluster.now_unix() + days * 86_400, nanos: 0 })
}

type Case = (&'static str, fn(&mut Credential), &'static str);

#[tokio::test]
async fn bad_credentials_are_refused() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(human("alice")).await.unwrap();
    let cases: &[Case] = &[
        ("U-18 no type", |c| spec(c).r#type = 0, "spec.type"),
        ("U-18 unknown type", |c| spec(c).r#type = 9, "spec.type"),
        ("U-18 session type", |c| spec(c).session_type = 9, "spec.sessionType"),
        ("U-18 no user", |c| spec(c).user.clear(), "spec.user"),
        ("U-18 unknown user", |c| spec(c).user = "nobody".to_owned(), "spec.user"),
        ("U-19 OAUTH2", |c| spec(c).r#type = Type::Oauth2.into(), "spec.type"),
        ("U-19 ACCESS_TOKEN", |c| spec(c).r#type = Type::AccessToken.into(), "spec.type"),
        ("U-20 past", |c| spec(c).expires_at = Some(Timestamp { seconds: 1, nanos: 0 }), "spec.expiresAt"),
        ("U-21 uses", |c| spec(c).max_authentications = 1_000_001, "spec.maxAuthentications"),
        ("U-21 auto-delete", |c| spec(c).auto_delete = true, "spec.autoDelete"),
        (
            "U-21 policy",
            |c| spec(c).authorization.get_or_insert_default().policies = vec!["nothing".to_owned()],
            "spec.authorization.policies[0]",
        ),
    ];
    for (id, spoil, field) in cases {
        let mut credential = new_credential("cred", "alice", Type::AuthToken);
        spoil(&mut credential);
        let status = core.create_credential(credential).await.expect_err(id);
        assert!(fields(&status).iter().any(|named| named == field), "{id}: {status:?}");
    }
    let mut credential = new_credential("cred", "alice", Type::AuthToken);
    spec(&mut credential).expires_at = days_ahead(&cluster, 731);
    assert_eq!(fields(&core.create_credential(credential.clone()).await.unwrap_err()), ["spec.expiresAt"], "U-20");
    spec(&mut credential).expires_at = days_ahead(&cluster, 729);
    core.create_credential(credential).await.unwrap();
}

#[tokio::test]
async fn u_22_u_23_type_and_user_stay() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(workload("svc")).await.unwrap();
    core.create_user(workload("other")).await.unwrap();
    let made = core.create_credential(new_credential("cred", "svc", Type::AuthToken)).await.unwrap().into_inner();
    let status = made.status.unwrap();
    assert_eq!(status.user_ref.unwrap().name, "svc");
    let (first, second) = status.id.split_once('-').unwrap();
    assert!(
        first.len() == 4 && second.len() == 4 && first.starts_with(|c: char| c.is_ascii_lowercase()),
        "{}",
        status.id
    );

    for (credential, field) in [
        (new_credential("cred", "svc", Type::Oauth2), "spec.type"),
        (new_credential("cred", "other", Type::AuthToken), "spec.user"),
        (new_credential("cred", "svc", Type::Unknown), "spec.type"),
    ] {
        let status = core.update_credential(credential).await.unwrap_err();
        assert!(fields(&status).iter().any(|named| named == field), "{status:?}");
    }
    assert_eq!(code(core.update_credential(new_credential("none", "svc", Type::AuthToken)).await), Code::NotFound);
    let mut disabled = new_credential("cred", "svc", Type::AuthToken);
    spec(&mut disabled).is_disabled = true;
    let updated = core.update_credential(disabled).await.unwrap().into_inner();
    assert_eq!(updated.status.unwrap().id, status.id, "status stays");
}

#[tokio::test]
async fn u_24_u_25_a_new_token_replaces_the_old_one() {
    let cluster = Cluster::start().await;
    let (made, first) = cluster.credential("svc", Type::AuthToken).await;
    let uid = made.metadata.unwrap().uid;
    let keys = cluster.control.token_keys();
    let token = keys.verify(&first, TokenKind::Credential, cluster.now_unix()).unwrap();
    assert_eq!(Uuid::from_u128(token.subject).to_string(), uid);
    let stored = cluster.core().get_credential(by_name("svc-cred")).await.unwrap().into_inner().status.unwrap();
    assert_eq!((stored.total_rotations, stored.token_id), (1, Uuid::from_u128(token.id).to_string()));
    assert!(stored.last_rotation_at.is_some());

    let second = token_text(&cluster.generate(user_credential("svc")).await.unwrap());
    assert_ne!(keys.verify(&second, TokenKind::Credential, cluster.now_unix()).unwrap().id, token.id);
    assert_eq!(code(cluster.log_in(&first).await), Code::Unauthenticated);
    cluster.log_in(&second).await.unwrap();

    let (made, secret) = cluster.credential("robot", Type::Oauth2).await;
    let generated = cluster.generate(user_credential("robot")).await.unwrap();
    match generated.r#type.unwrap() {
        octelium_api::core::credential_token::Type::Oauth2Credentials(pair) => {
            assert_eq!(pair.client_id, made.status.unwrap().id);
            assert_ne!(pair.client_secret, secret);
            assert!(keys.verify(&pair.client_secret, TokenKind::Credential, cluster.now_unix()).is_ok());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn u_26_an_access_token_is_one_session() {
    let cluster = Cluster::start().await;
    let (_, first) = cluster.credential("svc", Type::AccessToken).await;
    let session = cluster.stored_session(&first).await;
    let status = session.status.unwrap();
    assert_eq!((status.total_authentications, status.r#type()), (1, SessionType::Clientless));
    let second = token_text(&cluster.generate(user_credential("svc")).await.unwrap());
    let again = cluster.stored_session(&second).await;
    assert_eq!(again.metadata.unwrap().uid, session.metadata.unwrap().uid);
    assert_eq!(again.status.unwrap().total_authentications, 2);
    assert!(cluster.session_of(&first).is_none(), "the first token is dead");
}

#[tokio::test]
async fn u_27_no_token_for_what_is_off() {
    let cluster = Cluster::start().await;
    cluster.credential("svc", Type::AuthToken).await;
    assert_eq!(code(cluster.generate(ObjectReference::default()).await), Code::InvalidArgument);
    assert_eq!(code(cluster.generate(reference("nothing")).await), Code::NotFound);
    let mut disabled = new_credential("svc-cred", "svc", Type::AuthToken);
    spec(&mut disabled).is_disabled = true;
    cluster.core().update_credential(disabled).await.unwrap();
    assert_eq!(code(cluster.generate(user_credential("svc")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn the_session_cap_is_permission_denied_for_generated_tokens_too() {
    let cluster = Cluster::start().await;
    let mut user = workload("svc");
    user.spec.as_mut().unwrap().session.get_or_insert_default().max_per_user = 1;
    cluster.core().create_user(user).await.unwrap();
    cluster.credential("svc", Type::AccessToken).await;
    cluster.core().create_credential(new_credential("second", "svc", Type::AccessToken)).await.unwrap();
    assert_eq!(code(cluster.generate(reference("second")).await), Code::PermissionDenied);
}

#[tokio::test]
async fn u_28_credentials_by_user() {
    let cluster = Cluster::start().await;
    cluster.credential("alice", Type::AuthToken).await;
    cluster.credential("bob", Type::AuthToken).await;
    let options = |user: ObjectReference| ListCredentialOptions { user_ref: Some(user), ..Default::default() };
    let list = cluster.core().list_credential(options(reference("alice"))).await.unwrap().into_inner();
    let names: Vec<_> = list.items.into_iter().map(|item| item.metadata.unwrap().name).collect();
    assert_eq!(names, ["alice-cred"]);
    assert_eq!(code(cluster.core().list_credential(options(reference("nobody"))).await), Code::NotFound);
    assert_eq!(code(cluster.core().list_credential(options(ObjectReference::default())).await), Code::InvalidArgument);
}

#[tokio::test]
async fn u_29_deleting_a_credential_ends_its_sessions() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let tokens = cluster.log_in(&token).await.unwrap();
    let other = cluster.log_in(cluster.root_token.as_deref().unwrap()).await.unwrap();
    cluster.core().delete_credential(deletion("svc-cred")).await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).is_none());
    assert!(cluster.session_of(&other.access_token).is_some());
}

#[tokio::test]
async fn rotating_keeps_the_sessions() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let tokens = cluster.log_in(&token).await.unwrap();
    cluster.generate(user_credential("svc")).await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).is_some());
}

#[tokio::test]
async fn log_ins_are_refused_without_a_word() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let (_, oauth2) = cluster.credential("robot", Type::Oauth2).await;
    let session = cluster.log_in(&token).await.unwrap();
    for (what, wrong) in [
        ("nothing", String::new()),
        ("garbage", "x".repeat(110)),
        ("an access token", session.access_token.clone()),
        ("a refresh token", session.refresh_token.clone()),
        ("another type", oauth2),
    ] {
        let status = cluster.log_in(&wrong).await.expect_err(what);
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, ""), "{what}");
    }
    let status = cluster.log_in_with(&token, &[], b"verifier").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "a verifier where none is expected");
    assert_eq!(code(cluster.log_in_with(&token, &["service:*/*"], b"").await), Code::InvalidArgument);

    let lock = |locked: bool| {
        move |object: &mut Object| {
            let Object::Credential(credential) = object else { return };
            credential.status.as_mut().unwrap().is_locked = locked;
        }
    };
    cluster.tamper(Kind::Credential, "svc-cred", lock(true)).await;
    assert_eq!(code(cluster.log_in(&token).await), Code::Unauthenticated);
    cluster.tamper(Kind::Credential, "svc-cred", lock(false)).await;
    cluster.log_in(&token).await.unwrap();

    let mut disabled = workload("svc");
    disabled.spec.as_mut().unwrap().is_disabled = true;
    cluster.core().update_user(disabled).await.unwrap();
    let status = cluster.log_in(&token).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, ""), "a disabled User");
}

#[tokio::test]
async fn a_code_verifier_must_match_its_challenge() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let challenge = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[7; 32]).as_ref().to_vec();
    let pkce = move |object: &mut Object| {
        let Object::Credential(credential) = object else { return };
        credential.status.as_mut().unwrap().pkce = Some(credential::status::Pkce { code_challenge: challenge });
    };
    cluster.tamper(Kind::Credential, "svc-cred", pkce).await;
    assert_eq!(code(cluster.log_in(&token).await), Code::Unauthenticated);
    assert_eq!(code(cluster.log_in_with(&token, &[], &[8; 32]).await), Code::Unauthenticated);
    cluster.log_in_with(&token, &[], &[7; 32]).await.unwrap();
}

#[tokio::test]
async fn an_expired_credential_admits_nobody() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(workload("svc")).await.unwrap();
    let mut credential = new_credential("svc-cred", "svc", Type::AuthToken);
    spec(&mut credential).expires_at = days_ahead(&cluster, 1);
    core.create_credential(credential).await.unwrap();
    let token = token_text(&cluster.generate(user_credential("svc")).await.unwrap());
    cluster.log_in(&token).await.unwrap();
    cluster.later(Duration::from_secs(86_401));
    assert_eq!(code(cluster.log_in(&token).await), Code::Unauthenticated);
    assert_eq!(code(cluster.generate(user_credential("svc")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn of_twenty_racing_log_ins_a_one_time_credential_admits_one() {
    for auto_delete in [false, true] {
        let cluster = Cluster::start().await;
        let mut core = cluster.core();
        core.create_user(workload("svc")).await.unwrap();
        let mut credential = new_credential("svc-cred", "svc", Type::AuthToken);
        spec(&mut credential).max_authentications = 1;
        spec(&mut credential).auto_delete = auto_delete;
        core.create_credential(credential).await.unwrap();
        let token = token_text(&cluster.generate(user_credential("svc")).await.unwrap());

        let racing = (0..20).map(|_| {
            let (mut auth, token) = (cluster.auth("octelium-cli/1"), token.clone());
            tokio::spawn(async move {
                let request = octelium_api::auth::AuthenticateWithAuthenticationTokenRequest {
                    authentication_token: token,
                    ..Default::default()
                };
                auth.authenticate_with_authentication_token(request).await.map(tonic::Response::into_inner)
            })
        });
        let mut admitted = Vec::new();
        for task in racing.collect::<Vec<_>>() {
            match task.await.unwrap() {
                Ok(tokens) => admitted.push(tokens),
                Err(status) => assert_eq!(status.code(), Code::Unauthenticated, "{status:?}"),
            }
        }
        assert_eq!(admitted.len(), 1);
        assert!(cluster.session_of(&admitted[0].access_token).is_some(), "the Session outlives its Credential");
        let there = core.get_credential(by_name("svc-cred")).await;
        assert_eq!(code(there), if auto_delete { Code::NotFound } else { Code::Ok });
        cluster.refresh(&admitted[0].refresh_token).await.unwrap();
    }
}

#[tokio::test]
async fn policies_are_copied_and_later_edits_do_not_follow() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(workload("svc")).await.unwrap();
    let mut credential = new_credential("svc-cred", "svc", Type::AuthToken);
    let authorization = spec(&mut credential).authorization.get_or_insert_default();
    authorization.policies = vec!["allow-all".to_owned()];
    authorization.inline_policies = vec![InlinePolicy { name: "mine".to_owned(), spec: Some(policy_spec("true")) }];
    core.create_credential(credential).await.unwrap();
    let token = token_text(&cluster.generate(user_credential("svc")).await.unwrap());
    let tokens = cluster.log_in(&token).await.unwrap();
    core.update_credential(new_credential("svc-cred", "svc", Type::AuthToken)).await.unwrap();
    let copied = cluster.stored_session(&tokens.access_token).await.spec.unwrap().authorization.unwrap();
    assert_eq!((copied.policies, copied.inline_policies.len()), (vec!["allow-all".to_owned()], 1));
    let status = core.delete_policy(deletion("allow-all")).await.unwrap_err();
    assert!(status.message().contains("Session `svc-"), "{status:?}");
}

/// U-29: deleting a Credential ends its Sessions; rotating it does so if asked.
#[tokio::test]
async fn u_29_rotation_ends_sessions_if_asked() {
    let cluster = Cluster::start().await;
    for r#type in [Type::AuthToken, Type::AccessToken] {
        let user = if r#type == Type::AuthToken { "alice" } else { "robot" };
        let (_, token) = cluster.credential(user, r#type).await;
        let access = match r#type {
            Type::AuthToken => cluster.log_in(&token).await.unwrap().access_token,
            _ => token,
        };
        if r#type == Type::AuthToken {
            cluster.generate(user_credential(user)).await.unwrap();
            assert!(cluster.session_of(&access).is_some(), "a rotation as such ends only log-ins");
        }
        let session = cluster.session_of(&access).unwrap().uid;
        let request =
            octelium_api::core::GenerateCredentialTokenRequest { credential_ref: Some(user_credential(user)) };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("end-sessions", "maybe".parse().unwrap());
        assert_eq!(code(cluster.core().generate_credential_token(request).await), Code::InvalidArgument);
        let request =
            octelium_api::core::GenerateCredentialTokenRequest { credential_ref: Some(user_credential(user)) };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("end-sessions", "true".parse().unwrap());
        cluster.core().generate_credential_token(request).await.unwrap();
        assert!(cluster.session_of(&access).is_none());
        assert!(cluster.views.sessions.get(session).is_none(), "{user}: the Session is gone");
    }
}
