//! The thirteen examples of the project, unchanged, on the real binary: what is served behaves as it reads, the rest is refused
//! by name. A process, because the examples' https upstreams are trusted by the system's authorities, which the environment
//! names.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    api::{Api, violations},
    http::{Call, Connection, get, post},
    manifest::{resource, secret, workload},
    process::Process,
    upstream::{Authority, Upstream, answer},
};

macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../../../api/tests/examples/", $name, ".yaml"))
    };
}

/// A node behind which stand all upstreams that the examples name.
struct Stage {
    node: Process,
    api: Api,
    my_api: Upstream,
    google: Upstream,
    v1: Upstream,
    v2: Upstream,
    upstream: Upstream,
    _directory: TempDir,
}

impl Stage {
    async fn new() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ca = directory.path().join("system-ca.pem");
        fs::write(&ca, &authority.pem).unwrap();
        let https = async |name: &str| Upstream::tls(&authority, &[name], |_| answer("200 OK", &[], "ok")).await;
        let google = https("generativelanguage.googleapis.com").await;
        let (v1, v2) = (https("apiv1.example.com").await, https("apiv2.example.com").await);
        let upstream = https("api.example.com").await;
        let my_api = Upstream::ok().await;
        let resolve = [
            format!("my-api.default.svc:8080={}", my_api.address),
            format!("generativelanguage.googleapis.com={}", google.address),
            format!("apiv1.example.com={}", v1.address),
            format!("apiv2.example.com={}", v2.address),
            format!("api.example.com={}", upstream.address),
        ];
        let environment = [("SSL_CERT_FILE", ca.to_str().unwrap())];
        let node = Process::start(directory.path(), &["--resolve", &resolve.join(",")], &environment).await.unwrap();
        let api = node.api().await;
        Self { node, api, my_api, google, v1, v2, upstream, _directory: directory }
    }

    async fn status(&self, call: Call) -> u16 {
        Connection::plain(self.node.http).await.call(&call).await.status
    }

    /// A caller whom everything allows.
    async fn trusted(&self, groups: &[&str]) -> String {
        let documents: Vec<Value> = groups.iter().map(|group| resource("Group", group, json!({}))).collect();
        if !documents.is_empty() {
            self.api.apply(&documents).await;
        }
        let name = format!("trusted-{}", groups.join("-")).trim_end_matches('-').to_owned();
        self.api.caller_of(&name, json!({ "groups": groups, "authorization": { "policies": ["allow-all"] } })).await
    }
}

#[tokio::test]
async fn the_served_examples_behave_as_they_read() {
    let stage = Stage::new().await;
    let api = &stage.api;
    let token = stage.trusted(&[]).await;

    // 01
    api.apply_text(example!("01-simple")).await;
    assert_eq!(stage.status(get("my-api", "/hello").token(&token)).await, 200);
    let seen = stage.my_api.only();
    assert_eq!((seen.target.as_str(), seen.header("host")), ("/hello", Some("my-api.default.svc:8080")));
    assert_eq!(stage.status(get("my-api", "/hello")).await, 401);

    // 03, 03b: the same in two spellings.
    api.apply(&[secret("gemini-api-key", "g3mini")]).await;
    for text in [example!("03-secretless-saas"), example!("03b-secretless-saas-short")] {
        api.apply_text(text).await;
        assert_eq!(stage.status(post("my-gemini", "/v1/models", "{}").token(&token)).await, 200);
        let seen = stage.google.only();
        assert_eq!(seen.header("authorization"), Some("Bearer g3mini"));
        assert_eq!(seen.header("host"), Some("generativelanguage.googleapis.com"));
        assert!(!seen.text().contains(&token));
    }
    let unchanged = api.apply_text(example!("03-secretless-saas")).await;
    assert_eq!(unchanged.index, 0, "the two spellings mean the same");

    // 05
    api.apply_text(example!("05-dynamic-path")).await;
    assert_eq!(stage.status(get("my-api", "/v1/users?x=1").token(&token)).await, 200);
    assert_eq!(stage.v1.only().target, "/users?x=1");
    assert_eq!(stage.status(get("my-api", "/v2/users").token(&token)).await, 200);
    assert_eq!(stage.v2.only().target, "/users");
    assert_eq!(stage.status(get("my-api", "/v3/users").token(&token)).await, 502);

    // 06
    api.apply_text(example!("06-dynamic-identity")).await;
    let (prod, dev) = (stage.trusted(&["prod"]).await, stage.trusted(&["dev"]).await);
    assert_eq!(stage.status(get("my-api", "/v1/users").token(&prod)).await, 200);
    assert_eq!(stage.v1.only().target, "/users");
    assert_eq!(stage.status(get("my-api", "/v2/users").token(&dev)).await, 200);
    assert_eq!(stage.v2.only().target, "/users");
    assert_eq!(stage.status(get("my-api", "/v1/users").token(&token)).await, 502, "in neither group");

    // 07
    api.apply(&[secret("access-token-1", "t0ken-1"), secret("access-token-2", "t0ken-2")]).await;
    api.apply_text(example!("07-dynamic-secretless")).await;
    for (path, server, expected) in [("/v1/x", &stage.v1, "Bearer t0ken-1"), ("/v2/x", &stage.v2, "Bearer t0ken-2")] {
        assert_eq!(stage.status(get("my-api", path).token(&token)).await, 200);
        let seen = server.only();
        assert_eq!((seen.target.as_str(), seen.header("authorization")), (path, Some(expected)));
    }
    for server in [&stage.my_api, &stage.google, &stage.v1, &stage.v2, &stage.upstream] {
        assert!(server.seen().is_empty());
    }
}

/// 11: limits, schemas and fixed answers, in this order.
#[tokio::test]
async fn the_example_of_plugins_limits_checks_and_answers() {
    let stage = Stage::new().await;
    stage.api.apply_text(example!("11-plugins")).await;
    let token = stage.trusted(&[]).await;
    let call = async |call: Call| Connection::plain(stage.node.http).await.call(&call.token(&token)).await;

    let group = r#"{"members": ["ann"]}"#;
    for (fits, target, body) in [("a user", "/users", r#"{"name": "ann"}"#), ("a group", "/groups", group)] {
        assert_eq!(call(post("my-api", target, body)).await.status, 200, "{fits}");
        let seen = stage.upstream.only();
        assert_eq!((seen.target.as_str(), seen.body.as_slice()), (target, body.as_bytes()));
    }
    let no_json = "name=ann";
    let not_one = r#"{"name": "ann"} {"name": "ann"}"#;
    for (what, target, body, status) in [
        ("without a name", "/users", "{}", 400),
        ("an empty name", "/users", r#"{"name": ""}"#, 400),
        ("a list", "/users", "[]", 400),
        ("no JSON", "/users", no_json, 400),
        ("more than one value", "/users", not_one, 400),
        ("nothing", "/users", "", 400),
        ("a name that stands twice", "/users", r#"{"name": "ann", "name": ""}"#, 400),
        ("a schema of another path", "/groups", r#"{"name": "ann"}"#, 400),
    ] {
        let answer = call(post("my-api", target, body)).await;
        assert_eq!((answer.status, answer.header("x-octelium-error")), (status, Some("BODY_MISMATCH")), "{what}");
    }
    let packed = call(post("my-api", "/users", group).header("Content-Encoding", "gzip")).await;
    assert_eq!((packed.status, packed.header("x-octelium-error")), (415, Some("BODY_ENCODED")));
    let large = format!(r#"{{"name": "{}"}}"#, "n".repeat(2 << 20));
    assert_eq!(call(post("my-api", "/users", large.clone())).await.status, 413);

    let answer = call(get("my-api", "/x/INDEX.PHP")).await;
    assert_eq!((answer.status, answer.text()), (400, r#"{"error": "invalid path"}"#.to_owned()));
    assert_eq!(answer.header("x-octelium-error"), None, "it is an answer, not a refusal");
    assert!(answer.headers.iter().any(|(name, _)| name == "ratelimit"), "the limits come first");
    assert!(stage.upstream.seen().is_empty(), "the upstream saw none of all that");
    assert_eq!(call(post("my-api", "/files", large)).await.status, 200, "what has no schema isn't read whole");
    stage.upstream.only();

    let admitted = async |path: &str, tries: usize| {
        let mut admitted = 0;
        for _ in 0..tries {
            admitted += usize::from(call(get("my-api", path)).await.status == 200);
        }
        admitted
    };
    assert_eq!(admitted("/sensitive", 12).await, 10);
}

/// 09: every one of its five conditions is needed.
#[tokio::test]
async fn the_example_of_attributes_wants_all_of_them() {
    let stage = Stage::new().await;
    stage.api.apply(&["dev", "ops"].map(|group| resource("Group", group, json!({})))).await;
    stage.api.apply_text(example!("09-abac")).await;
    let client = json!({ "sessionType": "CLIENT" });
    let token = stage.api.login("alice", client, &[]).await.access;
    let in_groups = async |groups: &[&str]| {
        let mut user = workload("alice");
        user["spec"]["groups"] = json!(groups);
        stage.api.apply(&[user]).await;
    };
    let host = "my-api.local";
    let body = r#"{"age": 19, "email": "linus@example.com"}"#;
    let call = |call: Call| call.header("X-Custom-Header", "this-value").token(&token);

    in_groups(&["dev", "ops"]).await;
    assert_eq!(stage.status(call(post(host, "/users/1", body))).await, 200);
    let seen = stage.upstream.only();
    assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/users/1", body.as_bytes()));
    for (what, refused, status) in [
        ("another method", call(get(host, "/users/1")), 403),
        ("another path", call(post(host, "/groups", body)), 403),
        ("another path, as one spelled otherwise", call(post(host, "/users/../groups", body)), 403),
        ("another header", post(host, "/users", body).header("X-Custom-Header", "other").token(&token), 403),
        ("no header", post(host, "/users", body).token(&token), 403),
        ("too young", call(post(host, "/users", body.replace("19", "18"))), 403),
        ("another address", call(post(host, "/users", body.replace("example.com", "example.org"))), 403),
        ("no JSON", call(post(host, "/users", "age=19")), 400),
        ("compressed", call(post(host, "/users", body).header("Content-Encoding", "gzip")), 415),
        ("nobody", post(host, "/users", body), 401),
        ("the public name", call(post("my-api", "/users", body)), 404),
    ] {
        assert_eq!(stage.status(refused).await, status, "{what}");
    }
    for groups in [&["dev"][..], &["ops"], &[]] {
        in_groups(groups).await;
        assert_eq!(stage.status(call(post(host, "/users", body))).await, 403, "{groups:?}");
    }
    let clientless = stage.trusted(&["dev", "ops"]).await;
    assert_eq!(stage.status(post(host, "/users", body).token(&clientless)).await, 403, "not a CLIENT Session");
    assert!(stage.upstream.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_served_yet_is_refused_by_name() {
    let stage = Stage::new().await;
    // So that nothing but the feature speaks against them.
    stage.api.apply(&[workload("eu-central-2"), secret("reg-password", "x"), secret("ghcr-token", "x")]).await;
    for (text, expected) in [
        (example!("02-connected-session"), &[("spec.config.upstream.user", "tunnels")][..]),
        (example!("04-managed-container"), &[("spec.config.upstream.container", "managed containers")]),
        (
            example!("08-dynamic-containers"),
            &[
                ("spec.dynamicConfig.configs[0].upstream.container", "managed containers"),
                ("spec.dynamicConfig.configs[1].upstream.container", "managed containers"),
            ],
        ),
        (example!("10-lua"), &[("spec.config.http.plugins[0].lua", "Lua")]),
        (example!("10b-lua-short"), &[("spec.config.http.plugins[0].lua", "Lua")]),
    ] {
        let status = stage.api.try_apply(text).await.unwrap_err();
        let found = violations(&status);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((field, message), (path, feature)) in found.iter().zip(expected) {
            assert_eq!(*field, format!("changes[0].{path}"));
            assert!(message.contains(feature) && message.contains("not supported yet"), "{message}");
        }
        assert_eq!(stage.status(get("my-api", "/")).await, 404);
    }
}
