//! The OAuth2 token endpoint.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use octelium_api::{
    Kind, Object,
    core::{Session, credential::spec::Type, session::spec::State},
};
use octelium_control::{ClientInfo, oauth2};
use serde_json::Value;

use crate::support::{Cluster, human, workload};

const FORM: &str = "application/x-www-form-urlencoded";

struct Client {
    cluster: Cluster,
    id: String,
    secret: String,
}

impl Client {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let (credential, secret) = cluster.credential("robot", Type::Oauth2).await;
        Self { id: credential.status.unwrap().id, secret, cluster }
    }

    async fn post(&self, body: &str) -> (u16, Value) {
        let response = self.send(&[], None, body).await;
        let document = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), document)
    }

    async fn send(&self, extra: &[(header::HeaderName, String)], query: Option<&str>, body: &str) -> Response<Bytes> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
        for (name, value) in extra {
            headers.insert(name, value.parse().unwrap());
        }
        let client = ClientInfo::default();
        let request = oauth2::Request { headers: &headers, query, body: body.as_bytes(), client: &client };
        let response = self.cluster.control.oauth2_token(request).await;
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store", "O-16");
        assert_eq!(response.headers()[header::PRAGMA], "no-cache");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        response
    }

    fn good(&self) -> String {
        format!("grant_type=client_credentials&client_id={}&client_secret={}", self.id, self.secret)
    }

    async fn token(&self) -> String {
        let (status, answer) = self.post(&self.good()).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn o_01_to_o_03_what_is_refused() {
    let client = Client::new().await;
    let (_, auth_token) = client.cluster.credential("svc", Type::AuthToken).await;
    let (id, secret) = (&client.id, &client.secret);
    let grant = "grant_type=client_credentials";
    let cases = [
        ("O-01", format!("client_id={id}&client_secret={secret}"), 400, "unsupported_grant_type"),
        ("O-01", format!("grant_type=password&client_id={id}&client_secret={secret}"), 400, "unsupported_grant_type"),
        ("O-01", "grant_type=authorization_code".to_owned(), 400, "unsupported_grant_type"),
        ("O-01", "grant_type=refresh_token".to_owned(), 400, "unsupported_grant_type"),
        ("O-02", format!("{grant}&client_id={id}"), 401, "invalid_client"),
        ("O-02", format!("{grant}&client_secret={secret}"), 401, "invalid_client"),
        ("O-02", format!("{grant}&client_id={id}&client_secret=wrong"), 401, "invalid_client"),
        ("O-02", format!("{grant}&client_id={id}&client_secret={auth_token}"), 401, "invalid_client"),
        ("O-02", format!("{grant}&client_id=aaaa-bbbb&client_secret={secret}"), 401, "invalid_client"),
        ("O-03", format!("{}&scope=nonsense", client.good()), 400, "invalid_scope"),
        ("O-03", format!("{}&scope={}", client.good(), "a".repeat(2049)), 400, "invalid_scope"),
        ("O-03", format!("{}&scope=api:core%20api:core", client.good()), 400, "invalid_scope"),
        ("O-09", format!("{grant}&client_assertion=garbage"), 401, "invalid_client"),
        ("twice", format!("{}&client_id={id}", client.good()), 400, "invalid_request"),
        ("large", format!("{}&x={}", client.good(), "a".repeat(100 * 1024)), 400, "invalid_request"),
    ];
    for (id, body, expected, error) in cases {
        let (status, answer) = client.post(&body).await;
        assert_eq!((status, answer["error"].as_str()), (expected, Some(error)), "{id} {body:.100}");
    }
    assert_eq!(client.cluster.replica.state().count(Kind::Session), 0);
}

#[tokio::test]
async fn o_04_only_workloads_that_are_on() {
    let client = Client::new().await;
    let mut core = client.cluster.core();
    let mut disabled = workload("robot");
    disabled.spec.as_mut().unwrap().is_disabled = true;
    for user in [human("robot"), disabled] {
        core.update_user(user).await.unwrap();
        let (status, answer) = client.post(&client.good()).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")));
    }
    core.update_user(workload("robot")).await.unwrap();
    client.token().await;
    let lock = |object: &mut Object| {
        if let Object::User(user) = object {
            user.status.get_or_insert_default().is_locked = true;
        }
    };
    client.cluster.tamper(Kind::User, "robot", lock).await;
    let (status, answer) = client.post(&client.good()).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")));
}

#[tokio::test]
async fn o_05_a_token() {
    let client = Client::new().await;
    let (status, answer) = client.post(&client.good()).await;
    assert_eq!(status, 200);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 4 * 3600);
    assert_eq!(answer.as_object().unwrap().len(), 3, "no refresh token");
    let entry = client.cluster.session_of(answer["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(entry.kind, octelium_api::core::session::status::Type::Clientless);
    let credential = client.cluster.core().get_credential(crate::support::by_name("robot-cred")).await.unwrap();
    assert_eq!(credential.into_inner().status.unwrap().total_authentications, 1);
}

#[tokio::test]
async fn o_06_o_14_one_session_and_every_token_counts() {
    let client = Client::new().await;
    let mut tokens = Vec::new();
    for earlier in 0..3 {
        tokens.push(client.token().await);
        let status = client.cluster.stored_session(&tokens[earlier]).await.status.unwrap();
        assert_eq!(status.last_authentications.len(), earlier);
    }
    assert_eq!(client.cluster.replica.state().count(Kind::Session), 1);
    for token in &tokens {
        assert!(client.cluster.session_of(token).is_some(), "several programs share one secret");
    }
}

#[tokio::test]
async fn other_scopes_are_another_session() {
    let client = Client::new().await;
    let narrow = format!("{}&scope=service:web%20api:core", client.good());
    client.token().await;
    let (_, answer) = client.post(&narrow).await;
    let entry = client.cluster.session_of(answer["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(entry.scopes.len(), 2, "never wider than asked for");
    client.post(&narrow).await;
    client.token().await;
    assert_eq!(client.cluster.replica.state().count(Kind::Session), 2);
}

#[tokio::test]
async fn o_07_locked_and_rejected_sessions() {
    let client = Client::new().await;
    let token = client.token().await;
    let session = client.cluster.stored_session(&token).await;
    let name = session.metadata.clone().unwrap().name;
    let lock = |locked: bool| {
        move |object: &mut Object| {
            let Object::Session(session) = object else { return };
            session.status.as_mut().unwrap().is_locked = locked;
        }
    };
    let refused = async || {
        for body in [client.good(), format!("{}&scope=api:core", client.good())] {
            let (status, answer) = client.post(&body).await;
            assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_client")), "{body}");
        }
    };
    client.cluster.tamper(Kind::Session, &name, lock(true)).await;
    refused().await;
    client.cluster.tamper(Kind::Session, &name, lock(false)).await;
    client.token().await;
    let mut rejected: Session = session;
    rejected.spec.as_mut().unwrap().state = State::Rejected.into();
    client.cluster.core().update_session(rejected).await.unwrap();
    refused().await;
}

#[tokio::test]
async fn an_expired_session_is_not_used_again() {
    let client = Client::new().await;
    let first = client.cluster.stored_session(&client.token().await).await.metadata.unwrap().uid;
    client.cluster.later(std::time::Duration::from_secs(91 * 86_400));
    let second = client.cluster.stored_session(&client.token().await).await.metadata.unwrap().uid;
    assert_ne!(first, second);
}

#[tokio::test]
async fn o_08_the_metadata_document() {
    let client = Client::new().await;
    let response = client.cluster.control.oauth2_metadata();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let document: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(document["issuer"], "https://octelium.localhost:8443");
    assert_eq!(document["token_endpoint"], "https://octelium.localhost:8443/oauth2/token");
    assert_eq!(document["grant_types_supported"], serde_json::json!(["client_credentials"]));
    assert_eq!(document["response_types_supported"], serde_json::json!(["code"]));
    let methods = document["token_endpoint_auth_methods_supported"].as_array().unwrap();
    assert!(methods.contains(&"client_secret_post".into()) && methods.contains(&"client_secret_basic".into()));
}

#[tokio::test]
async fn o_13_secrets_do_not_belong_into_the_address() {
    let client = Client::new().await;
    let response = client.send(&[], Some(&client.good()), "grant_type=client_credentials").await;
    assert_eq!(response.status(), 400);
    let response = client.send(&[], Some(&format!("client_secret={}", client.secret)), &client.good()).await;
    assert_eq!(response.status(), 400);
    let response = client.send(&[], Some("trace=1"), &client.good()).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn o_15_http_basic() {
    let client = Client::new().await;
    let basic = |pair: String| vec![(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)))];
    let good = basic(format!("{}:{}", client.id, client.secret));
    let grant = "grant_type=client_credentials";
    assert_eq!(client.send(&good, None, grant).await.status(), 200);
    let encoded = basic(format!("{}:{}", client.id.replace('-', "%2D"), client.secret.replace('-', "%2D")));
    assert_eq!(client.send(&encoded, None, grant).await.status(), 200, "both are form-encoded");
    for wrong in [
        basic(format!("{}:wrong", client.id)),
        basic("nothing".to_owned()),
        vec![(header::AUTHORIZATION, "Bearer x".to_owned())],
    ] {
        let response = client.send(&wrong, None, grant).await;
        assert_eq!(response.status(), 401);
        assert!(response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic "));
    }
    let response = client.send(&good, None, &client.good()).await;
    assert_eq!(response.status(), 400, "one way to authenticate, not two");
    let response = client.send(&[], None, grant).await;
    assert!(response.status() == 401 && !response.headers().contains_key(header::WWW_AUTHENTICATE));
}

#[tokio::test]
async fn another_media_type_is_refused() {
    let client = Client::new().await;
    for media in ["application/json", "text/plain", ""] {
        let response = client.send(&[(header::CONTENT_TYPE, media.to_owned())], None, &client.good()).await;
        assert_eq!(response.status(), 400, "{media}");
    }
    let with_charset = [(header::CONTENT_TYPE, format!("{FORM}; charset=utf-8"))];
    assert_eq!(client.send(&with_charset, None, &client.good()).await.status(), 200);
}
