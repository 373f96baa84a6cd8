//! RFC 7662 and RFC 7009: what a token is worth, and its end.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use octelium_api::{Kind, Object, core::credential::spec::Type};
use octelium_control::{ClientInfo, oauth2};
use serde_json::{Value, json};

use crate::support::Cluster;

struct Client {
    id: String,
    secret: String,
}

async fn client(cluster: &Cluster, user: &str) -> Client {
    let (credential, secret) = cluster.credential(user, Type::Oauth2).await;
    Client { id: credential.status.unwrap().id, secret }
}

fn request<'a>(headers: &'a HeaderMap, body: &'a str, client: &'a ClientInfo) -> oauth2::Request<'a> {
    oauth2::Request { headers, query: None, body: body.as_bytes(), client }
}

fn form() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers
}

impl Client {
    fn shown(&self) -> String {
        format!("client_id={}&client_secret={}", self.id, self.secret)
    }

    async fn token(&self, cluster: &Cluster, scope: &str) -> String {
        let (headers, from) = (form(), ClientInfo::default());
        let body = format!("grant_type=client_credentials&scope={scope}&{}", self.shown());
        let answer = cluster.control.oauth2_token(request(&headers, &body, &from)).await;
        read(&answer)["access_token"].as_str().unwrap().to_owned()
    }

    fn introspect(&self, cluster: &Cluster, token: &str) -> Value {
        introspect(cluster, &format!("token={token}&{}", self.shown()), false)
    }

    async fn revoke(&self, cluster: &Cluster, token: &str) -> u16 {
        revoke(cluster, &format!("token={token}&{}", self.shown())).await
    }
}

fn read(answer: &Response<Bytes>) -> Value {
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    serde_json::from_slice(answer.body()).unwrap()
}

fn introspect(cluster: &Cluster, body: &str, is_authorized: bool) -> Value {
    let (headers, from) = (form(), ClientInfo::default());
    read(&cluster.control.oauth2_introspect(&request(&headers, body, &from), is_authorized))
}

async fn revoke(cluster: &Cluster, body: &str) -> u16 {
    let (headers, from) = (form(), ClientInfo::default());
    cluster.control.oauth2_revoke(request(&headers, body, &from)).await.status().as_u16()
}

#[tokio::test]
async fn a_client_learns_about_its_own_tokens_alone() {
    let cluster = Cluster::start().await;
    let (robot, other) = (client(&cluster, "robot").await, client(&cluster, "other").await);
    let token = robot.token(&cluster, "service:svc1%20api:core.MainService").await;
    let told = robot.introspect(&cluster, &token);
    assert_eq!(told["active"], true);
    assert_eq!(
        (&told["username"], &told["client_id"], &told["token_type"]),
        (&json!("robot"), &json!(robot.id), &json!("Bearer"))
    );
    assert_eq!(told["scope"], "service:svc1.default api:core.MainService");
    let (expires, issued) = (told["exp"].as_i64().unwrap(), told["iat"].as_i64().unwrap());
    assert_eq!(expires - issued, 4 * 60 * 60);
    let inactive = json!({"active": false});
    assert_eq!(other.introspect(&cluster, &token), inactive, "another client's token");
    assert_eq!(introspect(&cluster, &format!("token={token}"), true)["active"], true, "whom a policy lets ask");
    assert_eq!(robot.introspect(&cluster, "nonsense"), inactive);
    assert_eq!(robot.introspect(&cluster, &robot.secret), inactive, "a secret is no token");
    assert_eq!(introspect(&cluster, &format!("token={token}"), false)["error"], "invalid_client");
    assert_eq!(introspect(&cluster, &robot.shown(), false)["error"], "invalid_request");
    assert_eq!(
        introspect(&cluster, &format!("token={token}&client_id={}&client_secret=x", robot.id), false)["error"],
        "invalid_client"
    );
}

#[tokio::test]
async fn what_requests_refuse_is_not_active() {
    let cluster = Cluster::start().await;
    let robot = client(&cluster, "robot").await;
    let token = robot.token(&cluster, "").await;
    let session = cluster.stored_session(&token).await.metadata.unwrap().name;
    let lock = |object: &mut Object| {
        let Object::Session(session) = object else { panic!() };
        let status = session.status.as_mut().unwrap();
        status.is_locked = !status.is_locked;
    };
    cluster.tamper(Kind::Session, &session, lock).await;
    assert_eq!(robot.introspect(&cluster, &token)["active"], false);
    cluster.tamper(Kind::Session, &session, lock).await;
    assert_eq!(robot.introspect(&cluster, &token)["active"], true);
    cluster.later(std::time::Duration::from_secs(4 * 60 * 60 + 1));
    assert_eq!(robot.introspect(&cluster, &token)["active"], false, "its life is over");
}

#[tokio::test]
async fn an_access_token_is_ended_and_its_siblings_live() {
    let cluster = Cluster::start().await;
    let (robot, other) = (client(&cluster, "robot").await, client(&cluster, "other").await);
    let tokens = [robot.token(&cluster, "").await, robot.token(&cluster, "").await, robot.token(&cluster, "").await];
    assert!(tokens.iter().all(|token| cluster.session_of(token).is_some()), "O-14");
    assert_eq!(other.revoke(&cluster, &tokens[1]).await, 400);
    assert_eq!(revoke(&cluster, &format!("token={}", tokens[1])).await, 401, "a client must say who it is");
    assert!(cluster.session_of(&tokens[1]).is_some());
    for _ in 0..2 {
        assert_eq!(robot.revoke(&cluster, &tokens[1]).await, 200, "also what is ended already");
    }
    assert!(cluster.session_of(&tokens[1]).is_none());
    assert_eq!(robot.revoke(&cluster, &tokens[2]).await, 200, "the newest one");
    assert!(cluster.session_of(&tokens[2]).is_none());
    assert!(cluster.session_of(&tokens[0]).is_some());
    let next = robot.token(&cluster, "").await;
    assert!(cluster.session_of(&next).is_some() && cluster.session_of(&tokens[2]).is_none());
    assert_eq!(robot.revoke(&cluster, "nonsense").await, 200);
    assert_eq!(robot.revoke(&cluster, "").await, 400);
}

#[tokio::test]
async fn whoever_has_a_sessions_token_may_end_the_session() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("alice", Type::AuthToken).await;
    for by_refresh_token in [false, true] {
        let tokens = cluster.log_in(&token).await.unwrap();
        let told = introspect(&cluster, &format!("token={}", tokens.refresh_token), true);
        assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("refresh_token")));
        let shown = if by_refresh_token { &tokens.refresh_token } else { &tokens.access_token };
        assert_eq!(revoke(&cluster, &format!("token={shown}")).await, 200);
        assert!(cluster.session_of(&tokens.access_token).is_none());
        assert!(cluster.refresh(&tokens.refresh_token).await.is_err());
        assert_eq!(introspect(&cluster, &format!("token={}", tokens.refresh_token), true), json!({"active": false}));
    }
}
