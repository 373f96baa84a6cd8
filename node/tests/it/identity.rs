//! Who is asking, and how soon the gateway knows that they may not any more (spec: data plane §12.5; identity §10.7 G, §10.8 A,
//! §10.9 S).

use octelium_api::core::session::spec::State;
use octelium_control::{Token, TokenKind};
use prost_types::Timestamp;
use serde_json::json;
use tonic::Code;

use crate::support::{
    api::{Login, deletion},
    cluster::{Cluster, DOMAIN},
    http::{Answer, Connection, get, post},
    manifest::{merge, resource, service, workload},
    until,
    upstream::Upstream,
};

/// A cluster with a Service `svc` that every Session may call.
async fn open() -> (Cluster, Upstream) {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    (cluster, upstream)
}

///
#[tokio::test]
async fn the_first_carrier_that_is_present_decides() {
    let (cluster, upstream) = open().await;
    let good = cluster.api.caller("alice").await;
    let bad = "x".repeat(good.len());
    let mut connection = cluster.connect().await;
    let cookie = |token: &str| format!("octelium_auth={token}");
    let bearer = |token: &str| format!("Bearer {token}");
    for (what, headers, status) in [
        ("header", vec![("X-Octelium-Auth", good.clone())], 200),
        ("header again", vec![("x-octelium-auth", good.clone())], 200),
        ("cookie", vec![("Cookie", cookie(&good))], 200),
        ("cookie beside others", vec![("Cookie", format!("key=val; {}", cookie(&good)))], 200),
        ("cookie in the second header", vec![("Cookie", "a=1".to_owned()), ("Cookie", cookie(&good))], 200),
        ("bearer", vec![("Authorization", bearer(&good))], 200),
        ("bearer in lower case", vec![("authorization", format!("bearer {good}"))], 200),
        (
            "header before bad ones",
            vec![("X-Octelium-Auth", good.clone()), ("Cookie", cookie(&bad)), ("Authorization", bearer(&bad))],
            200,
        ),
        ("cookie before a bad bearer", vec![("Cookie", cookie(&good)), ("Authorization", bearer(&bad))], 200),
        ("an empty header is absent", vec![("X-Octelium-Auth", String::new()), ("Authorization", bearer(&good))], 200),
        ("bad header, good cookie", vec![("X-Octelium-Auth", bad.clone()), ("Cookie", cookie(&good))], 401),
        ("bad header, good bearer", vec![("X-Octelium-Auth", bad.clone()), ("Authorization", bearer(&good))], 401),
        ("bad cookie, good bearer", vec![("Cookie", cookie(&bad)), ("Authorization", bearer(&good))], 401),
        ("bad cookie, then a good one", vec![("Cookie", format!("{}; {}", cookie(&bad), cookie(&good)))], 401),
        ("two headers", vec![("X-Octelium-Auth", good.clone()), ("X-Octelium-Auth", good.clone())], 401),
        ("two bearers", vec![("Authorization", bearer(&good)), ("Authorization", bearer(&good))], 401),
        ("basic", vec![("Authorization", format!("Basic {good}"))], 401),
        ("another header", vec![("X_Octelium_Auth", good.clone())], 401),
        ("the refresh cookie", vec![("Cookie", format!("octelium_rt={good}"))], 401),
        ("in the query", vec![], 401),
    ] {
        let mut call = get("svc", &format!("/?access_token={good}&octelium_auth={good}"));
        for (name, value) in &headers {
            call = call.header(name, value);
        }
        let before = upstream.seen().len();
        assert_eq!(connection.call(&call).await.status, status, "{what}");
        assert_eq!(upstream.seen().len() - before, usize::from(status == 200), "{what}");
    }
}

/// D1, A-01.
#[tokio::test]
async fn what_is_no_access_token_of_this_cluster_is_401() {
    let (cluster, upstream) = open().await;
    let (other, _) = open().await;
    let foreign = other.api.caller("alice").await;
    let login = cluster.api.login("alice", json!({}), &[]).await;
    let good = login.access.clone();
    assert_eq!(cluster.call(&get("svc", "/").token(&good)).await.status, 200);

    let keys = cluster.node.control.token_keys();
    let said = keys.verify(&good, TokenKind::Access, 1).unwrap();
    let flip = |at: usize| {
        let mut text = good.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).unwrap()
    };
    let now = said.expires_unix;
    for (what, token, reason) in [
        ("nothing", String::new(), "no credential"),
        ("garbage", "garbage".to_owned(), "the token is malformed"),
        ("garbage of the right length", "!".repeat(good.len()), "the token is malformed"),
        ("a long one", "A".repeat(4000), "the token is too long"),
        ("a truncated one", good[..good.len() - 1].to_owned(), "the token is malformed"),
        ("one with padding", format!("{good}="), "the token is malformed"),
        ("another subject", flip(20), "the token's signature is wrong"),
        ("another signature", flip(good.len() - 10), "the token's signature is wrong"),
        ("another cluster's", foreign, "the token is signed with an unknown key"),
        ("a refresh token", login.refresh.clone(), "the token is of another kind"),
        ("a Credential's token", login.shown.clone(), "the token is of another kind"),
        ("the root's own token", cluster.node.root_token.clone().unwrap(), "the token is of another kind"),
        ("an expired one", keys.mint(&Token { expires_unix: 1_000_000_000, ..said }), "the token has expired"),
        ("one that never expires", keys.mint(&Token { expires_unix: 0, ..said }), "the token is malformed"),
        (
            "one of a Session that never was",
            keys.mint(&Token { subject: said.subject ^ 1, ..said }),
            "the token's Session is gone",
        ),
        (
            "one that was never issued",
            keys.mint(&Token { id: said.id ^ 1, ..said }),
            "the token was replaced or its life is over",
        ),
    ] {
        let mut call = get("svc", "/");
        if !token.is_empty() {
            call = call.token(&token);
        }
        let answer = cluster.call(&call).await;
        assert_eq!(answer.short(), (401, "UNAUTHENTICATED"), "{what}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        assert_eq!(answer.header("x-octelium-unauthorized"), Some("true"), "{what}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(answer.body, b"", "{what}");
        let record = cluster.record_of(&answer).await;
        assert_eq!(record["error"]["cause"], reason, "{what}");
        assert_eq!(record["entry"]["common"]["status"], "DENIED", "{what}");
    }
    // A token that outlives what its Session allows is refused by the Session, whatever it says itself.
    let late = keys.mint(&Token { expires_unix: now + 1_000_000, ..said });
    assert_eq!(cluster.call(&get("svc", "/").token(&late)).await.status, 200, "the id is that of a token that counts");
    assert_eq!(upstream.seen().len(), 2);
}

/// Everything of one caller whose access is about to end.
struct Caller<'a> {
    cluster: &'a Cluster,
    login: Login,
    connection: Connection,
}

impl Caller<'_> {
    async fn call(&mut self) -> Answer {
        self.connection.call(&get("svc", "/").token(&self.login.access)).await
    }

    async fn set_session(&self, change: impl FnOnce(&mut octelium_api::core::session::Spec)) {
        let mut session = self.cluster.api.session_of(self.cluster, &self.login.access).await;
        change(session.spec.as_mut().unwrap());
        self.cluster.api.core().update_session(session).await.unwrap();
    }

    async fn set_user(&self, spec: serde_json::Value) {
        let mut user = workload("alice");
        merge(&mut user["spec"], spec);
        self.cluster.api.apply(&[user]).await;
    }

    async fn set_credential(&self, more: serde_json::Value) {
        let mut spec = json!({ "type": "AUTH_TOKEN", "user": "alice" });
        merge(&mut spec, more);
        self.cluster.api.apply(&[resource("Credential", &self.login.credential, spec)]).await;
    }
}

async fn caller(cluster: &Cluster) -> Caller<'_> {
    let login = cluster.api.login("alice", json!({}), &[]).await;
    let mut caller = Caller { cluster, login, connection: cluster.connect().await };
    assert_eq!(caller.call().await.status, 200);
    caller
}

fn seconds_ahead(seconds: i64) -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Timestamp { seconds: i64::try_from(now).unwrap() + seconds, nanos: 0 }
}

/// D9, G-01, G-06, K: the same connection, the very next request.
#[tokio::test]
async fn a_withdrawn_session_is_refused_on_the_next_request() {
    let (cluster, _upstream) = open().await;

    let mut who = caller(&cluster).await;
    for (state, reason) in [(State::Pending, "PENDING"), (State::Rejected, "REJECTED")] {
        who.set_session(|spec| spec.state = state.into()).await;
        let answer = who.call().await;
        assert_eq!(answer.short(), (403, "DENIED"), "{state:?}");
        let record = cluster.record_of(&answer).await;
        let found = &record["entry"]["common"]["reason"];
        assert_eq!(found["type"], "SESSION_NOT_ACTIVE");
        assert_eq!(found["details"]["sessionNotActive"]["state"], reason);
        who.set_session(|spec| spec.state = State::Active.into()).await;
        assert_eq!(who.call().await.status, 200);
    }
    let name = cluster.api.session_of(&cluster, &who.login.access).await.metadata.unwrap().name;
    cluster.api.core().delete_session(deletion(&name)).await.unwrap();
    assert_eq!(who.call().await.short(), (401, "UNAUTHENTICATED"), "deleted");

    let mut who = caller(&cluster).await;
    cluster.api.log_out(&who.login.refresh).await.unwrap();
    assert_eq!(who.call().await.short(), (401, "UNAUTHENTICATED"), "logged out");
}

#[tokio::test]
async fn a_withdrawn_user_is_refused_on_the_next_request() {
    let (cluster, _upstream) = open().await;
    let mut who = caller(&cluster).await;
    who.set_user(json!({ "isDisabled": true })).await;
    let answer = who.call().await;
    assert_eq!(answer.short(), (403, "DENIED"));
    assert_eq!(cluster.reason_of(&answer).await, "USER_DEACTIVATED");
    let refused = cluster.api.try_log_in(&who.login.shown, &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    who.set_user(json!({})).await;
    assert_eq!(who.call().await.status, 200);

    cluster.api.core().delete_user(deletion("alice")).await.unwrap();
    assert_eq!(who.call().await.short(), (401, "UNAUTHENTICATED"));
    // A namesake is somebody else.
    cluster.api.apply(&[workload("alice")]).await;
    assert_eq!(who.call().await.short(), (401, "UNAUTHENTICATED"));
}

#[tokio::test]
async fn a_withdrawn_credential_is_refused_on_the_next_request() {
    let (cluster, _upstream) = open().await;
    let mut who = caller(&cluster).await;
    who.set_credential(json!({ "isDisabled": true })).await;
    assert_eq!(who.call().await.short(), (401, "UNAUTHENTICATED"), "disabled");
    who.set_credential(json!({})).await;
    assert_eq!(who.call().await.status, 200);
    cluster.api.core().delete_credential(deletion(&who.login.credential)).await.unwrap();
    assert_eq!(who.call().await.short(), (401, "UNAUTHENTICATED"), "deleted");
}

/// G-02: what ends by the clock ends for connections that are open.
#[tokio::test]
async fn what_expires_is_refused_from_then_on() {
    let (cluster, _upstream) = open().await;
    let mut who = caller(&cluster).await;
    who.set_session(|spec| spec.expires_at = Some(seconds_ahead(2))).await;
    let answer =
        until("the Session to expire", async || Some(who.call().await).filter(|answer| answer.status != 200)).await;
    assert_eq!(answer.short(), (401, "UNAUTHENTICATED"));

    let mut who = caller(&cluster).await;
    let mut credential = cluster.api.get_credential(&who.login.credential).await;
    credential.spec.as_mut().unwrap().expires_at = Some(seconds_ahead(2));
    cluster.api.core().update_credential(credential).await.unwrap();
    let answer =
        until("the Credential to expire", async || Some(who.call().await).filter(|answer| answer.status != 200)).await;
    assert_eq!(answer.short(), (401, "UNAUTHENTICATED"));
    assert_eq!(cluster.api.try_log_in(&who.login.shown, &[]).await.unwrap_err().code(), Code::Unauthenticated);
}

/// a refresh leaves the old token a short time, so that requests under way survive; a new token of an ACCESS_TOKEN
/// Credential ends the old one at once (U-26).
#[tokio::test]
async fn a_refreshed_token_overlaps_and_a_rotated_one_does_not() {
    let (cluster, _upstream) = open().await;
    let mut who = caller(&cluster).await;
    let fresh = cluster.api.refresh(&who.login.refresh).await.unwrap();
    assert_eq!(who.call().await.status, 200, "within the overlap");
    who.login.access = fresh.access_token;
    assert_eq!(who.call().await.status, 200);

    let old = cluster.api.caller("bob").await;
    let new = cluster.api.caller("bob").await;
    assert_eq!(cluster.call(&get("svc", "/").token(&old)).await.short(), (401, "UNAUTHENTICATED"));
    assert_eq!(cluster.call(&get("svc", "/").token(&new)).await.status, 200);
}

#[tokio::test]
async fn a_new_session_waits_for_approval_where_its_user_says_so() {
    let (cluster, _upstream) = open().await;
    let token = cluster.api.caller_of("alice", json!({ "session": { "defaultState": "PENDING" } })).await;
    let answer = cluster.call(&get("svc", "/").token(&token)).await;
    assert_eq!(answer.short(), (403, "DENIED"));
    assert_eq!(cluster.reason_of(&answer).await, "SESSION_NOT_ACTIVE");
    let mut session = cluster.api.session_of(&cluster, &token).await;
    session.spec.as_mut().unwrap().state = State::Active.into();
    cluster.api.core().update_session(session).await.unwrap();
    assert_eq!(cluster.call(&get("svc", "/").token(&token)).await.status, 200);
}

/// D10, S-06 to S-10, S-14.
#[tokio::test]
async fn scopes_narrow_what_a_session_reaches() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let url = upstream.url();
    cluster
        .api
        .apply(&[
            resource("Namespace", "ns1", json!({})),
            service("svc1", &url, json!({})),
            service("svc2", &url, json!({})),
            service("svc1.ns1", &url, json!({})),
        ])
        .await;
    for (scopes, reached) in [
        (&[][..], &["svc1", "svc2", "svc1.ns1"][..]),
        (&["service:svc1"], &["svc1"]),
        (&["service:svc1.ns1"], &["svc1.ns1"]),
        (&["service:ns1/*"], &["svc1.ns1"]),
        (&["service:*"], &["svc1", "svc2", "svc1.ns1"]),
        (&["service:nothing.ns1", "service:svc2"], &["svc2"]),
        (&["api:*"], &[]),
        (&["api:*", "service:*"], &["svc1", "svc2", "svc1.ns1"]),
    ] {
        let token = cluster.api.login("alice", json!({}), scopes).await.access;
        for host in ["svc1", "svc2", "svc1.ns1"] {
            let answer = cluster.call(&get(host, "/").token(&token)).await;
            if reached.contains(&host) {
                assert_eq!(answer.status, 200, "{scopes:?} {host}");
            } else {
                assert_eq!(answer.short(), (403, "DENIED"), "{scopes:?} {host}");
                assert_eq!(cluster.reason_of(&answer).await, "SCOPE_UNAUTHORIZED");
            }
        }
    }
    // Scopes hold for the control API too (S-11, S-12).
    let full = json!({ "authorization": { "policies": ["allow-all"] } });
    for (scopes, code) in [
        (&["service:svc1"][..], Code::PermissionDenied),
        // The API is a Service too, and this scope says any.
        (&["service:*"], Code::Ok),
        (&["api:cluster"], Code::PermissionDenied),
        (&["api:core.MainService/GetUser"], Code::PermissionDenied),
        (&["api:core.MainService/ListUser"], Code::Ok),
        (&["api:core"], Code::Ok),
        (&["api:*"], Code::Ok),
    ] {
        let token = cluster.api.login("admin", full.clone(), scopes).await.access;
        let listed = cluster.api.with(&token).core().list_user(octelium_api::core::ListUserOptions::default()).await;
        assert_eq!(listed.map_or_else(|status| status.code(), |_| Code::Ok), code, "{scopes:?}");
    }
}

/// A2, A4: the token endpoint on the cluster's own domain, then a Service.
#[tokio::test]
async fn oauth2_client_credentials_lead_to_a_service() {
    let (cluster, upstream) = open().await;
    let (id, secret) = cluster.api.oauth2_client("robot").await;
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let ask = |target: &str, form: &str| {
        post(DOMAIN, target, form).header("Content-Type", "application/x-www-form-urlencoded")
    };
    let mut connection = cluster.connect_tls("svc").await;
    let answer = connection.call(&ask("/oauth2/token", &form)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let document = answer.json();
    assert_eq!((&document["token_type"], &document["expires_in"]), (&json!("Bearer"), &json!(4 * 60 * 60)));
    let token = document["access_token"].as_str().unwrap();
    assert_eq!(connection.call(&get("svc", "/").token(token)).await.status, 200);
    assert!(!upstream.only().text().contains(token));

    let wrong = form.replace(&secret[..10], "AAAAAAAAAA");
    for (call, status, error) in [
        (ask("/oauth2/token", &wrong), 401, "invalid_client"),
        (ask("/oauth2/token", "grant_type=password&username=a&password=b"), 400, "unsupported_grant_type"),
        (ask(&format!("/oauth2/token?client_secret={secret}"), &form), 400, "invalid_request"),
        (ask("/oauth2/token", &format!("{form}&client_id={id}")), 400, "invalid_request"),
    ] {
        let answer = connection.call(&call).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)));
        assert!(!answer.text().contains(&secret));
    }
    let large = ask("/oauth2/token", &format!("{form}&x={}", "a".repeat(110 << 10)));
    assert_eq!(cluster.call(&large).await.short(), (413, "BODY_TOO_LARGE"));
    assert_eq!(cluster.call(&get(DOMAIN, "/oauth2/token")).await.short(), (404, "NOT_FOUND"));
    let metadata = cluster.call(&get(DOMAIN, "/.well-known/oauth-authorization-server")).await;
    assert_eq!(metadata.json()["token_endpoint"], "https://octelium.test/oauth2/token");
}
