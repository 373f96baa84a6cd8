//! Plugins that check bodies and answer by themselves (spec: data plane §2.4, §2.5, §12 G2, G3, E6).

use serde_json::{Value, json};

use crate::support::{
    api::violations,
    cluster::Cluster,
    http::{get, post},
    manifest::{merge, only, rule, service},
    upstream::Upstream,
};

fn anonymous(plugins: Value) -> Value {
    json!({ "isAnonymous": true, "authorization": null, "config": { "http": { "plugins": plugins } } })
}

/// A plugin named after its body, which it answers to paths that begin with `path`.
fn direct(name: &str, path: &str, more: Value) -> Value {
    let mut plugin = json!({
        "name": name,
        "condition": { "match": format!("ctx.request.http.path.startsWith('{path}')") },
        "direct": { "body": { "inline": name } },
    });
    merge(&mut plugin, more);
    plugin
}

#[tokio::test]
async fn g_02_the_first_fixed_answer_that_holds_is_given_and_the_upstream_is_not_asked() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let headers = json!([
        { "key": "X-Plan", "value": "free" }, { "key": "Content-Type", "value": "text/plain" },
        { "key": "RateLimit", "value": "mine" },
    ]);
    let limit = json!({ "limit": 1_000, "window": { "seconds": 60 } });
    let plugins = json!([
        direct("off", "/", json!({ "isDisabled": true })),
        { "name": "limit", "condition": { "matchAny": true }, "rateLimit": limit },
        direct("one", "/a", json!({ "direct": { "statusCode": 407, "headers": headers } })),
        direct("two", "/", json!({ "condition": { "match": "ctx.request.http.path != '/c'" } })),
    ]);
    cluster.api.apply(&[service("svc", &upstream.url(), anonymous(plugins))]).await;
    let one = cluster.call(&post("svc", "/a/x", "unread")).await;
    assert_eq!((one.status, one.text().as_str()), (407, "one"));
    assert_eq!((one.header("x-plan"), one.header("content-type")), (Some("free"), Some("text/plain")));
    assert_eq!(one.header("ratelimit"), Some("mine"), "its own headers win");
    assert_eq!((one.header("server"), one.header("x-octelium-error")), (Some("octelium"), None));
    let two = cluster.call(&get("svc", "/b")).await;
    assert_eq!((two.status, two.text().as_str()), (200, "two"));
    assert!(upstream.seen().is_empty());
    assert_eq!(cluster.call(&get("svc", "/c")).await.json()["upstream"], "ok");
}

#[tokio::test]
async fn before_a_caller_is_known_only_what_is_pre_auth_answers() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let plugins = json!([
        direct("health", "/healthz", json!({ "phase": "PRE_AUTH" })),
        direct("later", "/", json!({ "phase": "POST_AUTH" })),
    ]);
    let spec = json!({ "config": { "http": { "plugins": plugins } } });
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    let health = cluster.call(&get("svc", "/healthz")).await;
    assert_eq!(health.text(), "health");
    let record =
        cluster.record("the answer", |record| record["entry"]["info"]["http"]["request"]["path"] == "/healthz");
    assert_eq!(record.await["entry"]["common"]["status"], "ALLOWED");
    assert_eq!(cluster.call(&get("svc", "/")).await.status, 401);
    let token = cluster.api.caller("alice").await;
    assert_eq!(cluster.call(&get("svc", "/").token(&token)).await.text(), "later");
    // Denied: a plugin doesn't answer those who may not ask.
    let mut denied = only(&[rule("DENY", "true")]);
    merge(&mut denied, json!({ "config": { "http": { "plugins": [direct("later", "/", json!({}))] } } }));
    cluster.api.apply(&[service("svc", &upstream.url(), denied)]).await;
    assert_eq!(cluster.call(&get("svc", "/").token(&token)).await.status, 403);
}

#[tokio::test]
async fn g_03_a_body_that_does_not_fit_is_refused_as_the_plugin_says() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let schema = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "properties": {"n": {"type": "integer"}}, "required": ["n"]}"#;
    let refusal = json!({
        "inline": schema, "statusCode": 417, "body": { "inline": "n, please" },
        "headers": [{ "key": "X-Schema", "value": "n" }],
    });
    let plugins = json!([
        // Written first, and yet it comes last: types take turns.
        direct("checked", "/checked", json!({})),
        { "name": "schema", "condition": { "match": "ctx.request.http.method == 'POST'" }, "jsonSchema": refusal },
    ]);
    cluster.api.apply(&[service("svc", &upstream.url(), anonymous(plugins))]).await;
    assert_eq!(cluster.call(&post("svc", "/", r#"{"n": 1}"#)).await.status, 200);
    assert_eq!(upstream.only().body, br#"{"n": 1}"#);
    assert_eq!(cluster.call(&get("svc", "/")).await.status, 200, "it runs for POST only");
    upstream.only();
    assert_eq!(cluster.call(&post("svc", "/checked", r#"{"n": 1}"#)).await.text(), "checked");
    for target in ["/", "/checked"] {
        let answer = cluster.call(&post("svc", target, r#"{"n": "s3cret"}"#)).await;
        assert_eq!((answer.status, answer.text().as_str()), (417, "n, please"), "{target}");
        assert_eq!((answer.code(), answer.header("x-schema")), ("BODY_MISMATCH", Some("n")));
        assert_eq!(answer.header("retry-after"), None, "another try is worth nothing");
        let record = cluster.record_of(&answer).await;
        let cause = record["error"]["cause"].as_str().unwrap();
        assert_eq!(cause, "plugin `schema`: the body doesn't fit its schema", "nothing of the body");
    }
    // On another thread, as it is large.
    let large = |n: &str| format!(r#"{{"pad": "{}", "n": {n}}}"#, "x".repeat(300 << 10));
    assert_eq!(cluster.call(&post("svc", "/", large("1"))).await.status, 200);
    assert_eq!(cluster.call(&post("svc", "/", large("1.5"))).await.status, 417);
    upstream.only();
}

#[tokio::test]
async fn e_06_buffered_bodies_are_checked_too_and_large_ones_never_pass_unread() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let plugin = json!({
        "name": "schema", "condition": { "matchAny": true },
        "jsonSchema": { "inline": r#"{"type": "array", "items": {"type": "integer"}}"#, "statusCode": 422 },
    });
    let (small, large) = (format!("[{}1]", "1,".repeat(500_000)), format!("[{}1]", "1,".repeat(1 << 20)));
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    for buffering in [false, true] {
        let mut spec = anonymous(json!([plugin]));
        merge(&mut spec, json!({ "config": { "http": { "enableRequestBuffering": buffering } } }));
        cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
        assert_eq!(cluster.call(&post("svc", "/", &small)).await.status, 200);
        assert_eq!(upstream.only().body.len(), small.len());
        assert_eq!(cluster.call(&post("svc", "/", &large)).await.short(), (413, "BODY_TOO_LARGE"));
        for wrong in ["{}", &small.replace("1]", "1.5]"), &deep] {
            assert_eq!(cluster.call(&post("svc", "/", wrong)).await.short(), (422, "BODY_MISMATCH"));
        }
        assert!(upstream.seen().is_empty());
    }
}

#[tokio::test]
async fn what_can_not_work_is_refused_when_it_is_applied() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    for (what, schema, phase, expected) in [
        ("no JSON", "{", "POST_AUTH", "not JSON"),
        ("no schema", r#"{"type": "strin"}"#, "POST_AUTH", "/type"),
        ("a reference to elsewhere", r#"{"$ref": "http://127.0.0.1/x.json"}"#, "POST_AUTH", "127.0.0.1"),
        ("a body of nobody known", "{}", "PRE_AUTH", "POST_AUTH"),
    ] {
        let plugin = json!({
            "name": "schema", "phase": phase, "condition": { "matchAny": true }, "jsonSchema": { "inline": schema },
        });
        let text = service("svc", &upstream.url(), anonymous(json!([plugin]))).to_string();
        let status = cluster.api.try_apply(&text).await.expect_err(what);
        let found = violations(&status);
        let [(field, message)] = &found[..] else { panic!("{what}: {found:?}") };
        assert!(field.starts_with("changes[0].spec.config.http.plugins[0]"), "{what}: {field}");
        assert!(message.contains(expected), "{what}: {message}");
    }
    assert_eq!(cluster.call(&get("svc", "/")).await.status, 404);
}
