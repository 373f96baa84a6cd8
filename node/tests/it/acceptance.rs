//! Rows of `docs/src/acceptance.md` that no other test holds, over the real API; and that the table itself holds.

use std::{collections::BTreeSet, fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use octelium_api::{
    control::SetLockRequest,
    core::{IdentityProvider, ListUserOptions, User, identity_provider, session::spec::State, user},
    meta::{Duration, Metadata, ObjectReference, duration},
};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{
    api::{Api, Login, deletion, violations},
    cluster::{Cluster, DOMAIN},
    http::{Answer, Call, get, post},
    manifest::{merge, resource, service, workload},
    soon, until,
    upstream::Upstream,
};

const TABLE: &str = include_str!("../../../docs/src/acceptance.md");

fn code<T>(result: Result<T, Status>) -> Code {
    result.map_or_else(|status| status.code(), |_| Code::Ok)
}

fn fields(status: &Status) -> Vec<String> {
    violations(status).into_iter().map(|(field, _)| field).collect()
}

fn human(name: &str, change: impl FnOnce(&mut user::Spec)) -> User {
    let mut spec = user::Spec { r#type: user::spec::Type::Human.into(), ..user::Spec::default() };
    change(&mut spec);
    let metadata = Metadata { name: name.to_owned(), ..Metadata::default() };
    User { metadata: Some(metadata), spec: Some(spec), ..User::default() }
}

#[tokio::test]
async fn u_06_every_line_about_a_user_is_bounded() {
    let cluster = Cluster::start().await;
    for field in ["locale", "phone", "firstName", "middleName", "lastName", "website", "country"] {
        let with = |length: usize| {
            let info = json!({ field: "a".repeat(length) });
            resource("User", "alice", json!({ "type": "HUMAN", "info": info })).to_string()
        };
        cluster.api.apply_text(&with(256)).await;
        let status = cluster.api.try_apply(&with(257)).await.unwrap_err();
        assert!(fields(&status)[0].ends_with(&format!("spec.info.{field}")), "{status:?}");
    }
}

#[tokio::test]
async fn u_07_settings_of_sessions_have_bounds() {
    let cluster = Cluster::start().await;
    let mut core = cluster.api.core();
    type Case = (&'static str, fn(&mut user::spec::Session));
    const ZERO: Option<Duration> = Some(Duration { r#type: Some(duration::Type::Seconds(0)) });
    const UNSET: Option<Duration> = Some(Duration { r#type: None });
    let bad: &[Case] = &[
        ("clientDuration", |session| session.client_duration = ZERO),
        ("clientlessDuration", |session| session.clientless_duration = ZERO),
        ("accessTokenDuration", |session| session.access_token_duration = ZERO),
        ("refreshTokenDuration", |session| session.refresh_token_duration = ZERO),
        ("clientDuration", |session| session.client_duration = UNSET),
        ("maxPerUser", |session| session.max_per_user = 10_001),
        ("defaultState", |session| session.default_state = State::Rejected.into()),
        ("defaultState", |session| session.default_state = 9),
    ];
    for (field, spoil) in bad {
        let user = human("alice", |spec| spoil(spec.session.get_or_insert_default()));
        let status = core.create_user(user).await.expect_err(field);
        assert_eq!(fields(&status), [format!("spec.session.{field}")], "{status:?}");
    }
}

/// U-09, U-12: Users have no identities at IdentityProviders, and no Authenticators, as long as there are none; what is asked for
/// is refused, not ignored.
#[tokio::test]
async fn u_09_u_12_identities_and_authenticators_are_refused_while_there_are_none() {
    let cluster = Cluster::start().await;
    let mut core = cluster.api.core();
    let identity = |provider: &str, identifier: &str| user::spec::authentication::Identity {
        identity_provider: provider.to_owned(),
        identifier: identifier.to_owned(),
    };
    for identities in [
        vec![identity("github", "alice")],
        vec![identity("", "alice")],
        vec![identity("github", "")],
        vec![identity("github", &"a".repeat(257))],
        (0..101).map(|n| identity("github", &n.to_string())).collect(),
    ] {
        let user = human("alice", |spec| spec.authentication.get_or_insert_default().identities = identities);
        let status = core.create_user(user).await.unwrap_err();
        assert!(fields(&status)[0].starts_with("spec.authentication"), "{status:?}");
    }
    for state in [1, 2, 3, 9] {
        let user =
            human("alice", |spec| spec.authentication.get_or_insert_default().authenticator_default_state = state);
        let status = core.create_user(user).await.unwrap_err();
        assert!(fields(&status)[0].starts_with("spec.authentication"), "{state}: {status:?}");
    }
    let metadata = Some(Metadata { name: "github".to_owned(), ..Metadata::default() });
    let github = identity_provider::spec::Github { client_id: "client".to_owned(), client_secret: None };
    let github = Some(identity_provider::spec::Type::Github(github));
    let spec = Some(identity_provider::Spec { r#type: github, ..identity_provider::Spec::default() });
    let provider = IdentityProvider { metadata, spec, ..IdentityProvider::default() };
    let status = core.create_identity_provider(provider).await.unwrap_err();
    assert_eq!(fields(&status), ["spec.github"], "{status:?}");
}

/// The caller whom the API's door names is the one whose Session is safe from himself.
#[tokio::test]
async fn n_05_nobody_ends_the_session_that_he_calls_by() {
    let cluster = Cluster::start().await;
    let may = json!({ "authorization": { "policies": ["octelium-api-full-access"] } });
    let login = cluster.api.login("admin", may, &[]).await;
    let session = cluster.api.session_of(&cluster, &login.access).await;
    let name = session.metadata.as_ref().unwrap().name.clone();
    let own = cluster.api.with(&login.access);
    assert_eq!(code(own.core().delete_session(deletion(&name)).await), Code::PermissionDenied);
    let mut rejected = session;
    rejected.spec.as_mut().unwrap().state = State::Rejected.into();
    assert_eq!(code(own.core().update_session(rejected).await), Code::PermissionDenied);
    assert_eq!(code(own.core().list_user(ListUserOptions::default()).await), Code::Ok, "still there");
    cluster.api.core().delete_session(deletion(&name)).await.unwrap();
    assert_eq!(code(own.core().list_user(ListUserOptions::default()).await), Code::Unauthenticated);
}

/// A User's own number wins over that of the cluster.
#[tokio::test]
async fn n_08_the_cluster_limits_sessions_where_the_user_does_not() {
    let cluster = Cluster::start().await;
    let of_cluster = async |count: u32| {
        let session = json!({ "workload": { "maxPerUser": count } });
        cluster.api.apply(&[json!({ "kind": "ClusterConfig", "spec": { "session": session } })]).await;
    };
    let own = async |spec: Value| {
        let mut user = workload("alice");
        merge(&mut user["spec"], spec);
        cluster.api.apply(&[user]).await;
    };
    of_cluster(1).await;
    let shown = cluster.api.login("alice", json!({}), &[]).await.shown;
    assert_eq!(code(cluster.api.try_log_in(&shown, &[]).await), Code::PermissionDenied);
    own(json!({ "session": { "maxPerUser": 2 } })).await;
    assert_eq!(code(cluster.api.try_log_in(&shown, &[]).await), Code::Ok);
    assert_eq!(code(cluster.api.try_log_in(&shown, &[]).await), Code::PermissionDenied);
    own(json!({})).await;
    assert_eq!(code(cluster.api.try_log_in(&shown, &[]).await), Code::PermissionDenied);
    of_cluster(500).await;
    assert_eq!(code(cluster.api.try_log_in(&shown, &[]).await), Code::Ok);
}

/// S-11 to S-13: which calls of the API a scope covers; a method that isn't there shows whether it was reached.
#[tokio::test]
async fn s_11_to_s_13_scopes_of_the_api_name_package_service_and_method() {
    let cluster = Cluster::start().await;
    const CORE: &str = "octelium.api.main.core.v1";
    for (scope, path, is_reached) in [
        ("api:core", format!("{CORE}.MainService/CreateUser"), true),
        ("api:core", "octelium.api.main.cluster.v1.MainService/CreateUser".to_owned(), false),
        ("api:core", "octelium.control.v1.ControlService/Apply".to_owned(), false),
        ("api:core", "octelium.api.main.core.v1.x.MainService/CreateUser".to_owned(), false),
        ("api:core.MainService/CreateUser", format!("{CORE}.MainService/CreateUser"), true),
        ("api:core.MainService/CreateUser", format!("{CORE}.MainService/DeleteUser"), false),
        ("api:core.MainService/CreateUser", format!("{CORE}.OtherService/CreateUser"), false),
        ("api:core.MainService", format!("{CORE}.MainService/DeleteUser"), true),
        ("api:core.MainService", format!("{CORE}.OtherService/DeleteUser"), false),
        ("api:core.MainService", "octelium.api.main.user.v1.MainService/DeleteUser".to_owned(), false),
        ("api:*", "octelium.control.v1.ControlService/Apply".to_owned(), true),
    ] {
        let may = json!({ "authorization": { "policies": ["allow-all"] } });
        let login = cluster.api.login("admin", may, &[scope]).await;
        let answered = code(cluster.api.with(&login.access).knock(format!("/{path}")).await);
        assert_eq!(answered != Code::PermissionDenied, is_reached, "{scope} {path}: {answered:?}");
    }
}

/// S-14: `api:` scopes say nothing about other Services, and nobody else's is in the Namespace of the API.
#[tokio::test]
async fn s_14_scopes_of_the_api_open_no_other_service() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let login = cluster.api.login("alice", json!({}), &["api:*"]).await;
    let call = get("svc", "/octelium.api.main.core.v1.MainService/ListUser").token(&login.access);
    let refused = cluster.call(&call).await;
    assert_eq!(refused.short(), (403, "DENIED"));
    assert_eq!(cluster.reason_of(&refused).await, "SCOPE_UNAUTHORIZED");
    for name in ["svc.octelium-api", "default.octelium-api"] {
        let theirs = service(name, &upstream.url(), json!({})).to_string();
        assert_eq!(code(cluster.api.try_apply(&theirs).await), Code::PermissionDenied, "{name}");
    }
}

/// S-04, S-09: a scope may name what isn't there, and is refused where it can't be read.
#[tokio::test]
async fn s_04_s_09_lists_of_scopes() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let login = cluster.api.login("alice", json!({}), &["service:svc2.ns3", "service:*"]).await;
    assert_eq!(cluster.call(&get("svc", "/").token(&login.access)).await.status, 200);

    let many: Vec<_> = (0..129).map(|n| format!("service:svc{n}")).collect();
    let long = format!("api:core.{}", "A".repeat(248));
    for bad in [
        many.iter().map(String::as_str).collect::<Vec<_>>(),
        vec![long.as_str()],
        vec!["api:core", "api:core"],
        vec![" api:core"],
        vec!["api:core "],
        vec![""],
        vec!["service:*/*"],
    ] {
        assert_eq!(code(cluster.api.try_log_in(&login.shown, &bad).await), Code::InvalidArgument, "{:.60?}", bad);
    }
    let most: Vec<_> = many[..128].iter().map(String::as_str).collect();
    assert_eq!(code(cluster.api.try_log_in(&login.shown, &most).await), Code::Ok);
}

/// Asks for a token as clients do, over TLS.
async fn ask(cluster: &Cluster, form: &str, headers: &[(&str, &str)]) -> Answer {
    let mut call = post(DOMAIN, "/oauth2/token", form).header("Content-Type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        call = call.header(name, value);
    }
    cluster.connect_tls(DOMAIN).await.call(&call).await
}

/// O-01 to O-05, O-09, O-15, O-16 as they are on the wire: the door passes everything on that the endpoint decides by.
#[tokio::test]
async fn o_01_to_o_16_the_token_endpoint_on_the_wire() {
    let cluster = Cluster::start().await;
    let (id, secret) = cluster.api.oauth2_client("robot").await;
    let login = cluster.api.login("alice", json!({}), &[]).await;
    let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let grant = "grant_type=client_credentials";
    let good = format!("{grant}&client_id={id}&client_secret={secret}");
    for (row, form, authorization, status, error) in [
        ("O-01", String::new(), None, 400, "unsupported_grant_type"),
        ("O-01", "grant_type=refresh_token".to_owned(), None, 400, "unsupported_grant_type"),
        ("O-02", format!("{grant}&client_id={id}"), None, 401, "invalid_client"),
        ("O-02", format!("{grant}&client_id={id}&client_secret={}", login.shown), None, 401, "invalid_client"),
        ("O-02", format!("{grant}&client_id={id}&client_secret={}", login.access), None, 401, "invalid_client"),
        ("O-03", format!("{good}&scope=nonsense"), None, 400, "invalid_scope"),
        ("O-05", good.clone(), None, 200, ""),
        ("O-09", format!("{grant}&client_assertion=garbage"), None, 401, "invalid_client"),
        ("O-15", grant.to_owned(), Some(basic(&id, &secret)), 200, ""),
        ("O-15", grant.to_owned(), Some(basic(&id, "wrong")), 401, "invalid_client"),
        ("O-15", good.clone(), Some(basic(&id, &secret)), 400, "invalid_request"),
    ] {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        let answer = ask(&cluster, &form, &headers).await;
        let document = answer.json();
        assert_eq!((answer.status, document["error"].as_str().unwrap_or_default()), (status, error), "{row} {form}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "O-16, {row}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{row}");
        assert_eq!(document["access_token"].is_string(), status == 200, "{row}");
        assert!(document.get("refresh_token").is_none(), "{row}");
        assert!(!answer.text().contains(&secret), "{row}");
    }

    // O-04: one who was a client and isn't any more.
    for spec in [json!({ "type": "WORKLOAD", "isDisabled": true }), json!({ "type": "HUMAN" })] {
        cluster.api.apply(&[resource("User", "robot", spec)]).await;
        let answer = ask(&cluster, &good, &[]).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("invalid_request")));
    }
}

/// G-04, G-05, G-19, N-09, O-07: a lock holds against everything that its subject may do, from the next request on, and ends as
/// it began.
#[tokio::test]
async fn n_09_o_07_who_is_locked_does_nothing_until_the_lock_ends() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let set_lock = async |kind: &str, name: &str, is_locked: bool| {
        let reference = ObjectReference { name: name.to_owned(), ..ObjectReference::default() };
        let request = SetLockRequest { kind: kind.to_owned(), r#ref: Some(reference), is_locked };
        cluster.api.control().set_lock(request).await.unwrap();
    };
    let reason = async |token: &str| {
        let answer = cluster.call(&get("svc", "/").token(token)).await;
        if answer.status == 200 { String::new() } else { cluster.reason_of(&answer).await }
    };

    let login = cluster.api.login("alice", json!({}), &[]).await;
    let name = cluster.api.session_of(&cluster, &login.access).await.metadata.unwrap().name;
    set_lock("Session", &name, true).await;
    assert_eq!(reason(&login.access).await, "SESSION_LOCKED");
    assert_eq!(code(cluster.api.refresh(&login.refresh).await), Code::Unauthenticated);
    let disabled = resource("User", "alice", json!({ "type": "WORKLOAD", "isDisabled": true }));
    cluster.api.apply(&[disabled]).await;
    assert_eq!(reason(&login.access).await, "SESSION_LOCKED", "the first gate answers");
    cluster.api.apply(&[workload("alice")]).await;
    set_lock("Session", &name, false).await;
    assert_eq!(reason(&login.access).await, "");
    let login = Login { access: cluster.api.refresh(&login.refresh).await.unwrap().access_token, ..login };

    set_lock("User", "alice", true).await;
    assert_eq!(reason(&login.access).await, "USER_LOCKED");
    assert_eq!(code(cluster.api.try_log_in(&login.shown, &[]).await), Code::PermissionDenied);
    set_lock("User", "alice", false).await;
    assert_eq!(reason(&login.access).await, "");

    let (id, secret) = cluster.api.oauth2_client("robot").await;
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let token = ask(&cluster, &form, &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let name = cluster.api.session_of(&cluster, &token).await.metadata.unwrap().name;
    set_lock("Session", &name, true).await;
    let refused = ask(&cluster, &form, &[]).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_client")));
    set_lock("Session", &name, false).await;
    assert_eq!(ask(&cluster, &form, &[]).await.status, 200);
}

/// what isn't published has no name that a browser or an SDK could reach, whoever asks.
#[tokio::test]
async fn a_06_a_token_does_not_open_what_is_not_public() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isPublic": false }))]).await;
    let token = cluster.api.caller("alice").await;
    for call in [get("svc", "/").header("X-Octelium-Auth", &token), get("svc.default", "/").token(&token)] {
        assert_eq!(cluster.call(&call).await.short(), (404, "HOST_UNKNOWN"));
    }
    assert_eq!(cluster.call(&get("svc.local", "/").token(&token)).await.short(), (403, "DENIED"));
    assert_eq!(upstream.seen().len(), 0);
}

/// a Session is there for the first request after its log-in, also on a connection that was open before.
#[tokio::test]
async fn a_13_a_new_session_is_known_at_once() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let shown = cluster.api.login("alice", json!({}), &[]).await.shown;
    let mut connection = cluster.connect().await;
    for _ in 0..50 {
        let token = cluster.api.try_log_in(&shown, &[]).await.unwrap().access_token;
        assert_eq!(connection.call(&get("svc", "/").token(&token)).await.short(), (200, ""));
    }
}

fn seconds_ahead(seconds: i64) -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Timestamp { seconds: i64::try_from(now).unwrap() + seconds, nanos: 0 }
}

/// W-06: what has expired is over at once, before anybody sweeps it up: it isn't counted, and no new token revives it.
#[tokio::test]
async fn w_06_an_expired_session_is_neither_counted_nor_revived() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let one = json!({ "session": { "maxPerUser": 1 } });
    let old = cluster.api.caller_of("alice", one.clone()).await;
    let mut session = cluster.api.session_of(&cluster, &old).await;
    session.spec.as_mut().unwrap().expires_at = Some(seconds_ahead(2));
    cluster.api.core().update_session(session.clone()).await.unwrap();
    let call = |token: &str| -> Call { get("svc", "/").token(token) };
    until("the Session to expire", async || (cluster.call(&call(&old)).await.status == 401).then_some(())).await;

    let new = cluster.api.caller_of("alice", one).await;
    let made = cluster.api.session_of(&cluster, &new).await;
    assert_ne!(made.metadata.unwrap().uid, session.metadata.unwrap().uid);
    assert_eq!(cluster.call(&call(&new)).await.status, 200);
    assert_eq!(cluster.call(&call(&old)).await.status, 401);
}

/// W-13: of those who show a token that may be used once, one gets in, over as many connections as they like.
#[tokio::test]
async fn w_13_a_token_for_one_use_is_used_once() {
    let cluster = Cluster::start().await;
    let once = resource(
        "Credential",
        "once",
        json!({ "type": "AUTH_TOKEN", "user": "alice", "maxAuthentications": 1, "autoDelete": true }),
    );
    cluster.api.apply(&[workload("alice"), once]).await;
    let octelium_api::core::credential_token::Type::AuthenticationToken(token) = cluster.api.generate("once").await
    else {
        panic!("another kind of token")
    };
    let racing: Vec<_> = (0..20)
        .map(|_| {
            let api = Api::anonymous(cluster.https, &cluster.node.ca_file, "octelium-api.octelium.test");
            let token = token.authentication_token.clone();
            tokio::spawn(async move { api.try_log_in(&token, &[]).await })
        })
        .collect();
    let mut admitted = 0;
    for one in racing {
        match soon("a log-in", one).await.unwrap() {
            Ok(_) => admitted += 1,
            Err(status) => assert_eq!(status.code(), Code::Unauthenticated, "{status:?}"),
        }
    }
    assert_eq!(admitted, 1);
}

/// W-20: a Policy that anything refers to can't be taken away, so that no rule of it is skipped in silence.
#[tokio::test]
async fn w_20_a_policy_in_use_stays() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let authorization = json!({ "policies": ["barrier"] });
    let policy =
        resource("Policy", "barrier", json!({ "rules": [{ "effect": "DENY", "condition": { "matchAny": true } }] }));
    cluster.api.apply(&[policy, workload("bob")]).await;
    let child = json!({ "rules": [{ "effect": "ALLOW", "condition": { "match": "1 == 2" } }] });
    for (kind, name, spec) in [
        ("Namespace", "ns", json!({ "authorization": authorization })),
        ("Service", "svc", json!({ "mode": "HTTP", "config": { "upstream": { "url": upstream.url() } } })),
        ("Group", "staff", json!({ "authorization": authorization })),
        ("User", "carol", json!({ "type": "WORKLOAD", "authorization": authorization })),
        ("Credential", "key", json!({ "type": "AUTH_TOKEN", "user": "bob", "authorization": authorization })),
        ("Policy", "child.barrier", child),
    ] {
        let mut spec = spec;
        if kind == "Service" {
            merge(&mut spec, json!({ "isPublic": true, "authorization": authorization }));
        }
        cluster.api.apply(&[resource(kind, name, spec)]).await;
        let status = cluster.api.core().delete_policy(deletion("barrier")).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{kind}: {status:?}");
        assert!(status.message().contains(kind), "{kind}: {status:?}");
        let mut core = cluster.api.core();
        match kind {
            "Namespace" => drop(core.delete_namespace(deletion(name)).await.unwrap()),
            "Service" => drop(core.delete_service(deletion(name)).await.unwrap()),
            "Group" => drop(core.delete_group(deletion(name)).await.unwrap()),
            "User" => drop(core.delete_user(deletion(name)).await.unwrap()),
            "Credential" => drop(core.delete_credential(deletion(name)).await.unwrap()),
            _ => drop(core.delete_policy(deletion(name)).await.unwrap()),
        }
    }
    cluster.api.core().delete_policy(deletion("barrier")).await.expect("nothing refers to it any more");
}

/// One row of the table: its id, whether it is marked as held by tests, and the tests.
struct Row<'a> {
    id: &'a str,
    holds: &'a str,
    tests: Vec<(&'a str, &'a str)>,
}

/// Tests that run the cases of a file.
const CASES: &[(&str, &str)] = &[
    ("decisions_are_as_specified", "policy/tests/cases/decisions.yaml"),
    ("expressions_are_as_specified", "policy/tests/cases/expressions.yaml"),
];

fn rows() -> Vec<Row<'static>> {
    let lines = TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ID"));
    lines
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [id, _, holds] = cells[..] else { panic!("not three cells: {line}") };
            let tests = holds.split('`').skip(1).step_by(2).filter_map(|text| text.split_once("::"));
            Row { id, holds, tests: tests.collect() }
        })
        .collect()
}

#[test]
fn the_table_has_every_row_and_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wanted = BTreeSet::new();
    for (letter, numbers) in
        [('U', 1..=29), ('N', 1..=15), ('K', 1..=15), ('S', 1..=15), ('O', 1..=16), ('A', 1..=16), ('W', 5..=14)]
            .into_iter()
            .chain([('P', 1..=27), ('E', 1..=12), ('C', 1..=17), ('L', 1..=25), ('G', 1..=19)])
    {
        wanted.extend(numbers.map(|number| format!("{letter}-{number:02}")));
    }
    wanted.insert("W-20".to_owned());
    // The data plane's.
    for (letter, count) in [('A', 16), ('B', 7), ('P', 7), ('C', 9), ('D', 10), ('H', 11), ('T', 11), ('V', 11)] {
        wanted.extend((1..=count).map(|number| format!("H-{letter}{number:02}")));
    }
    let rows = rows();
    let found: BTreeSet<_> = rows.iter().map(|row| row.id.to_owned()).collect();
    assert_eq!((&found, found.len()), (&wanted, rows.len()), "each id once");
    for Row { id, holds, tests } in rows {
        let reason = ["pending", "not tested", "does not apply"].iter().any(|word| holds.contains(word));
        assert!(!tests.is_empty() || reason, "{id}: neither a test nor a reason");
        for (file, name) in tests {
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
            assert!(text.contains(&format!("fn {name}(")), "{id}: there is no {name} in {file}");
            // A table of cases has the row as a case.
            if let Some((_, table)) = CASES.iter().find(|(test, _)| *test == name) {
                let text = fs::read_to_string(root.join(table)).unwrap();
                let mut ids = text.lines().filter_map(|line| line.split_once("id: ")).map(|(_, case)| case);
                assert!(ids.any(|case| case.contains(id)), "{id}: there is no such case in {table}");
            }
        }
    }
}
