//! Sessions: how they begin, go on and end.

use std::time::Duration;

use octelium_api::{
    Kind, Object,
    core::{
        ClusterConfig, InlinePolicy, ListSessionOptions, Session, cluster_config,
        credential::spec::Type,
        session::{self, spec::State, status::authentication::info},
        user,
    },
    meta::{self, ObjectReference},
};
use prost_types::Timestamp;
use tonic::Code;

use crate::support::{
    Cluster, by_name, code, deletion, fields, human, named, new_credential, policy_spec, reference, token_text,
    user_credential, workload,
};

async fn session(cluster: &Cluster) -> (Session, octelium_api::auth::SessionToken) {
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let tokens = cluster.log_in(&token).await.unwrap();
    (cluster.stored_session(&tokens.access_token).await, tokens)
}

fn update(session: &Session, change: impl FnOnce(&mut session::Spec)) -> Session {
    let mut session = session.clone();
    change(session.spec.as_mut().unwrap());
    session
}

#[tokio::test]
async fn a_new_session_has_the_defaults() {
    let cluster = Cluster::start().await;
    let (session, tokens) = session(&cluster).await;
    let (metadata, spec, status) = (session.metadata.unwrap(), session.spec.unwrap(), session.status.unwrap());
    let suffix = metadata.name.strip_prefix("svc-").unwrap();
    assert!(
        suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
        "{}",
        metadata.name
    );
    assert_eq!(spec.state(), State::Active);
    let life = spec.expires_at.unwrap().seconds - cluster.now_unix();
    assert!((life - 90 * 86_400).abs() <= 2, "{life}");
    assert_eq!((tokens.expires_in, tokens.refresh_token_expires_in), (4 * 3600, 14 * 86_400));
    assert_eq!(status.r#type(), session::status::Type::Client, "the CLI asked");
    assert_eq!((status.user_ref.unwrap().name, status.credential_ref.unwrap().name), ("svc".into(), "svc-cred".into()));
    assert_eq!(status.authentication, status.initial_authentication);
    let info = status.authentication.unwrap().info.unwrap();
    assert_eq!(info.r#type(), info::Type::Credential);
    assert_eq!(info.downstream.unwrap().client_version, "1.2.3");
    let Some(info::Details::Credential(details)) = info.details else { panic!() };
    assert_eq!(details.r#type(), Type::AuthToken);
    assert_eq!(details.credential_ref.unwrap().name, "svc-cred");
}

#[tokio::test]
async fn settings_of_user_then_cluster_then_built_in() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let hours = |count| Some(meta::Duration { r#type: Some(meta::duration::Type::Hours(count)) });
    let minutes = |count| Some(meta::Duration { r#type: Some(meta::duration::Type::Minutes(count)) });
    let workload_settings = cluster_config::spec::session::Workload {
        client_duration: hours(10),
        access_token_duration: hours(2),
        refresh_token_duration: minutes(31),
        default_state: State::Pending.into(),
        ..Default::default()
    };
    let session = cluster_config::spec::Session { workload: Some(workload_settings), ..Default::default() };
    let spec = cluster_config::Spec { session: Some(session), ..Default::default() };
    let config = ClusterConfig { metadata: named(""), spec: Some(spec), ..Default::default() };
    let config = core.update_cluster_config(config).await.unwrap().into_inner();
    assert_eq!(config.status.unwrap().domain, "octelium.localhost", "status stays");

    let mut own = workload("svc");
    own.spec.as_mut().unwrap().session = Some(user::spec::Session {
        access_token_duration: minutes(29),
        client_duration: hours(5),
        ..user::spec::Session::default()
    });
    core.create_user(own).await.unwrap();
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let tokens = cluster.log_in(&token).await.unwrap();
    // 29 minutes are too short and skipped; a refresh token never dies before its access token.
    assert_eq!((tokens.expires_in, tokens.refresh_token_expires_in), (2 * 3600, 2 * 3600));
    let stored = cluster.stored_session(&tokens.access_token).await.spec.unwrap();
    assert_eq!(stored.state(), State::Pending);
    assert!((stored.expires_at.unwrap().seconds - cluster.now_unix() - 5 * 3600).abs() <= 2);
}

#[tokio::test]
async fn n_01_n_04_administrators_change_state_and_end() {
    let cluster = Cluster::start().await;
    let (session, tokens) = session(&cluster).await;
    let mut core = cluster.core();
    for state in [State::Pending, State::Rejected, State::Active] {
        let updated =
            core.update_session(update(&session, |spec| spec.state = state.into())).await.unwrap().into_inner();
        assert_eq!(updated.spec.unwrap().state(), state, "N-01");
        assert_eq!(cluster.session_of(&tokens.access_token).unwrap().state, state);
    }
    let end = Timestamp { seconds: cluster.now_unix() + 48 * 3600, nanos: 0 };
    let updated = core.update_session(update(&session, |spec| spec.expires_at = Some(end))).await.unwrap().into_inner();
    assert_eq!(updated.spec.unwrap().expires_at, Some(end), "N-04");

    // An update by uid alone; metadata is the server's.
    let mut by_uid = update(&session, |spec| spec.state = State::Pending.into());
    let metadata = by_uid.metadata.as_mut().unwrap();
    metadata.name.clear();
    metadata.description = "mine".to_owned();
    let updated = core.update_session(by_uid).await.unwrap().into_inner();
    assert_eq!(updated.metadata.unwrap().description, "");
}

#[tokio::test]
async fn n_02_n_03_bad_updates() {
    let cluster = Cluster::start().await;
    let (session, _) = session(&cluster).await;
    let mut core = cluster.core();
    let past = Timestamp { seconds: cluster.now_unix() - 1, nanos: 0 };
    let with_policy =
        |name: &str| session::spec::Authorization { policies: vec![name.to_owned()], ..Default::default() };
    let inline = InlinePolicy { name: String::new(), spec: Some(policy_spec("!!!!")) };
    let with_inline = session::spec::Authorization { inline_policies: vec![inline], ..Default::default() };
    for (what, bad, field) in [
        ("unknown state", update(&session, |spec| spec.state = 9), "spec.state"),
        ("no state", update(&session, |spec| spec.state = 0), "spec.state"),
        ("no spec", Session { spec: None, ..session.clone() }, "spec"),
        ("past", update(&session, |spec| spec.expires_at = Some(past)), "spec.expiresAt"),
        ("no end", update(&session, |spec| spec.expires_at = None), "spec.expiresAt"),
        (
            "unknown policy",
            update(&session, |spec| spec.authorization = Some(with_policy("nothing"))),
            "spec.authorization.policies[0]",
        ),
        (
            "bad expression",
            update(&session, |spec| spec.authorization = Some(with_inline)),
            "spec.authorization.inlinePolicies[0].spec.rules[0].condition.match",
        ),
    ] {
        let status = core.update_session(bad).await.expect_err(what);
        assert!(fields(&status).iter().any(|named| named == field), "{what}: {status:?}");
    }
    let unknown = Session { metadata: named("nobody-abc123"), ..session };
    assert_eq!(code(core.update_session(unknown).await), Code::NotFound);
}

#[tokio::test]
async fn n_05_own_sessions_are_safe_from_their_callers() {
    let cluster = Cluster::start().await;
    let (session, tokens) = session(&cluster).await;
    let uid = session.metadata.clone().unwrap().uid;
    let session_ref = ObjectReference { uid: uid.clone(), ..ObjectReference::default() };
    let mut own = cluster.core_as(octelium_control::Caller { session_uid: uid, session_ref, ..cluster.admin() });
    let name = session.metadata.clone().unwrap().name;
    assert_eq!(code(own.delete_session(deletion(&name)).await), Code::PermissionDenied);
    let pending = update(&session, |spec| spec.state = State::Pending.into());
    assert_eq!(code(own.update_session(pending).await), Code::PermissionDenied);
    cluster.core().delete_session(deletion(&name)).await.expect("others may");
    assert!(cluster.session_of(&tokens.access_token).is_none(), "at once");
}

#[tokio::test]
async fn n_06_sessions_by_user() {
    let cluster = Cluster::start().await;
    session(&cluster).await;
    cluster.log_in(cluster.root_token.as_deref().unwrap()).await.unwrap();
    let options = |user: ObjectReference| ListSessionOptions { user_ref: Some(user), ..Default::default() };
    let list = cluster.core().list_session(options(reference("svc"))).await.unwrap().into_inner();
    assert_eq!((list.items.len(), list.kind.as_str()), (1, "SessionList"));
    assert_eq!(code(cluster.core().list_session(options(ObjectReference::default())).await), Code::InvalidArgument);
    assert_eq!(code(cluster.core().list_session(options(reference("nobody"))).await), Code::NotFound);
}

#[tokio::test]
async fn n_08_n_15_only_live_sessions_count() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let mut user = workload("svc");
    user.spec.as_mut().unwrap().session.get_or_insert_default().max_per_user = 1;
    core.create_user(user).await.unwrap();
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let first = cluster.log_in(&token).await.unwrap();
    assert_eq!(code(cluster.log_in(&token).await), Code::PermissionDenied);
    let session = cluster.stored_session(&first.access_token).await;
    let end = Timestamp { seconds: cluster.now_unix() + 60, nanos: 0 };
    core.update_session(update(&session, |spec| spec.expires_at = Some(end))).await.unwrap();
    cluster.later(Duration::from_secs(61));
    cluster.log_in(&token).await.expect("the expired one doesn't count");
    assert_eq!(code(cluster.log_in(&token).await), Code::PermissionDenied);
    core.update_user(workload("svc")).await.unwrap();
    cluster.log_in(&token).await.expect("the limit is 128 again");
}

#[tokio::test]
async fn n_09_n_10_refreshing() {
    let cluster = Cluster::start().await;
    let (session, tokens) = session(&cluster).await;
    let mut core = cluster.core();
    let mut set = async |state: State| {
        core.update_session(update(&session, |spec| spec.state = state.into())).await.unwrap();
    };
    set(State::Pending).await;
    let tokens_pending = cluster.refresh(&tokens.refresh_token).await.expect("N-10");
    set(State::Rejected).await;
    assert_eq!(code(cluster.refresh(&tokens_pending.refresh_token).await), Code::Unauthenticated);
    set(State::Active).await;

    let name = session.metadata.unwrap().name;
    let lock = |locked: bool| {
        move |object: &mut Object| {
            let Object::Session(session) = object else { return };
            session.status.as_mut().unwrap().is_locked = locked;
        }
    };
    cluster.tamper(Kind::Session, &name, lock(true)).await;
    assert_eq!(code(cluster.refresh(&tokens_pending.refresh_token).await), Code::Unauthenticated);
    cluster.tamper(Kind::Session, &name, lock(false)).await;
    for (what, wrong) in
        [("garbage", "x".repeat(110)), ("empty", String::new()), ("access", tokens_pending.access_token.clone())]
    {
        let status = cluster.refresh(&wrong).await.expect_err(what);
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, ""), "{what}");
    }
    let none = octelium_api::auth::AuthenticateWithRefreshTokenRequest {};
    assert_eq!(code(cluster.auth("").authenticate_with_refresh_token(none).await), Code::Unauthenticated);

    cluster.later(Duration::from_secs(15 * 86_400));
    assert_eq!(code(cluster.refresh(&tokens_pending.refresh_token).await), Code::Unauthenticated, "its life is over");
    assert!(core.get_session(by_name(&name)).await.is_ok(), "which doesn't revoke the Session");
}

#[tokio::test]
async fn a_deleted_or_expired_session_is_not_refreshed() {
    let cluster = Cluster::start().await;
    let (session, tokens) = session(&cluster).await;
    let end = Timestamp { seconds: cluster.now_unix() + 60, nanos: 0 };
    cluster.core().update_session(update(&session, |spec| spec.expires_at = Some(end))).await.unwrap();
    cluster.later(Duration::from_secs(61));
    assert_eq!(code(cluster.refresh(&tokens.refresh_token).await), Code::Unauthenticated);
    cluster.core().delete_session(deletion(&session.metadata.unwrap().name)).await.unwrap();
    assert_eq!(code(cluster.refresh(&tokens.refresh_token).await), Code::Unauthenticated);
}

#[tokio::test]
async fn n_11_a_chain_of_refreshes() {
    let cluster = Cluster::start().await;
    let (session, first) = session(&cluster).await;
    let mut tokens = vec![first];
    for _ in 0..3 {
        cluster.later(Duration::from_secs(2 * 3600 + 1));
        let next = cluster.refresh(&tokens.last().unwrap().refresh_token).await.unwrap();
        assert!(cluster.session_of(&next.access_token).is_some());
        tokens.push(next);
    }
    // Those replaced a moment ago still count for a few seconds, older ones don't.
    assert!(cluster.session_of(&tokens[0].access_token).is_none());
    assert!(cluster.session_of(&tokens[1].access_token).is_none());
    let status = cluster.stored_session(&tokens[3].access_token).await.status.unwrap();
    assert_eq!((status.total_authentications, status.last_authentications.len()), (4, 3));
    let at = |authentication: &session::status::Authentication| authentication.set_at.unwrap().seconds;
    assert!(status.last_authentications.windows(2).all(|pair| at(&pair[0]) > at(&pair[1])), "newest first");
    assert_eq!(status.last_authentications[2], session.status.unwrap().initial_authentication.unwrap());
    assert_eq!(status.authentication.unwrap().info.unwrap().r#type(), info::Type::RefreshToken);
}

#[tokio::test]
async fn reuse_of_an_old_refresh_token_ends_the_session() {
    let cluster = Cluster::start().await;
    let (_, first) = session(&cluster).await;
    let second = cluster.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(code(cluster.refresh(&first.refresh_token).await), Code::Unauthenticated);
    assert!(cluster.session_of(&second.access_token).is_some(), "so soon it may be a retry");
    cluster.later(Duration::from_secs(31));
    assert_eq!(code(cluster.refresh(&first.refresh_token).await), Code::Unauthenticated);
    assert!(cluster.session_of(&second.access_token).is_none(), "now somebody stole it");
    assert_eq!(code(cluster.refresh(&second.refresh_token).await), Code::Unauthenticated);
}

#[tokio::test]
async fn n_12_some_sessions_go_on_in_another_way() {
    let cluster = Cluster::start().await;
    let (session, tokens) = session(&cluster).await;
    let name = session.metadata.unwrap().name;
    let set = |browser: bool, authenticator: Option<ObjectReference>| {
        move |object: &mut Object| {
            let Object::Session(session) = object else { return };
            let status = session.status.as_mut().unwrap();
            status.is_browser = browser;
            status.required_authenticator_ref = authenticator;
        }
    };
    cluster.tamper(Kind::Session, &name, set(true, None)).await;
    assert_eq!(code(cluster.refresh(&tokens.refresh_token).await), Code::PermissionDenied);
    cluster.tamper(Kind::Session, &name, set(false, Some(reference("totp-abc123")))).await;
    assert_eq!(code(cluster.refresh(&tokens.refresh_token).await), Code::PermissionDenied);
    cluster.tamper(Kind::Session, &name, set(false, None)).await;
    cluster.refresh(&tokens.refresh_token).await.unwrap();
}

#[tokio::test]
async fn n_13_early_refreshes_are_few() {
    let cluster = Cluster::start().await;
    let (_, mut tokens) = session(&cluster).await;
    for _ in 0..5 {
        cluster.later(Duration::from_secs(1));
        tokens = cluster.refresh(&tokens.refresh_token).await.unwrap();
    }
    assert_eq!(code(cluster.refresh(&tokens.refresh_token).await), Code::AlreadyExists);
    cluster.later(Duration::from_secs(2 * 3600));
    cluster.refresh(&tokens.refresh_token).await.expect("past half of its life");
}

#[tokio::test]
async fn n_14_logging_out() {
    let cluster = Cluster::start().await;
    let (_, tokens) = session(&cluster).await;
    assert_eq!(code(cluster.auth("").logout(octelium_api::auth::LogoutRequest {}).await), Code::Unauthenticated);
    cluster.log_out(&tokens.refresh_token).await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).is_none());
    assert_eq!(code(cluster.log_out(&tokens.refresh_token).await), Code::Unauthenticated);
}

#[tokio::test]
async fn the_cookie_carries_the_refresh_token_too() {
    let cluster = Cluster::start().await;
    let (_, tokens) = session(&cluster).await;
    let mut request = tonic::Request::new(octelium_api::auth::LogoutRequest {});
    let cookie = format!("a=b; octelium_rt={}; c=d", tokens.refresh_token);
    request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    cluster.auth("").logout(request).await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).is_none());
}

#[tokio::test]
async fn scopes_are_stored_with_the_session() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("svc", Type::AuthToken).await;
    let tokens = cluster.log_in_with(&token, &["service:web", "api:core"], b"").await.unwrap();
    assert_eq!(cluster.session_of(&tokens.access_token).unwrap().scopes.len(), 2);
    for scopes in [&["api:core", "api:core"][..], &[""][..], &[" api:core"][..]] {
        assert_eq!(code(cluster.log_in_with(&token, scopes, b"").await), Code::InvalidArgument, "{scopes:?}");
    }
}

#[tokio::test]
async fn the_kind_of_session_follows_credential_then_client() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(human("alice")).await.unwrap();
    let (client, clientless) = (session::status::Type::Client, session::status::Type::Clientless);
    for (wanted, agent, expected) in [
        (session::status::Type::Unknown, "octelium-cli/1.0", client),
        (session::status::Type::Unknown, "octelium-go", clientless),
        (session::status::Type::Unknown, "", clientless),
        (clientless, "octelium-cli/1.0", clientless),
        (client, "curl", client),
    ] {
        let mut credential = new_credential("alice-cred", "alice", Type::AuthToken);
        credential.spec.as_mut().unwrap().session_type = wanted.into();
        match core.create_credential(credential.clone()).await {
            Ok(_) => {}
            Err(_) => drop(core.update_credential(credential).await.unwrap()),
        }
        let token = token_text(&cluster.generate(user_credential("alice")).await.unwrap());
        let request = octelium_api::auth::AuthenticateWithAuthenticationTokenRequest {
            authentication_token: token,
            ..Default::default()
        };
        let tokens = cluster.auth(agent).authenticate_with_authentication_token(request).await.unwrap().into_inner();
        assert_eq!(cluster.session_of(&tokens.access_token).unwrap().kind, expected, "{wanted:?} {agent}");
        assert_eq!((tokens.expires_in, tokens.refresh_token_expires_in), (4 * 3600, 21 * 3600), "a HUMAN's");
    }
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let cluster = Cluster::start().await;
    let status = cluster
        .auth("")
        .get_available_authenticator(octelium_api::auth::GetAvailableAuthenticatorRequest {})
        .await
        .unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "this server has no Authenticators yet"));
}

/// What an expired Credential made is over with it, before and after the sweeper came by.
#[tokio::test]
async fn sessions_of_an_expired_credential_dont_come_back() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(crate::support::workload("alice")).await.unwrap();
    let mut credential =
        crate::support::new_credential("alice-cred", "alice", octelium_api::core::credential::spec::Type::AuthToken);
    let ends = cluster.now_unix() + 3_600;
    credential.spec.as_mut().unwrap().expires_at = Some(prost_types::Timestamp { seconds: ends, nanos: 0 });
    core.create_credential(credential).await.unwrap();
    let token = crate::support::token_text(&cluster.generate(crate::support::user_credential("alice")).await.unwrap());
    let tokens = cluster.log_in(&token).await.unwrap();
    cluster.later(std::time::Duration::from_secs(3_601));
    assert!(cluster.refresh(&tokens.refresh_token).await.is_err());
    cluster.control.sweep().await.unwrap();
    assert!(cluster.session_of(&tokens.access_token).is_none());
    assert!(cluster.refresh(&tokens.refresh_token).await.is_err());
}
