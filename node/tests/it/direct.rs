//! Answers without an upstream (spec: data plane §2.13, §12.2 B5).

use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    http::{Call, get, post},
    manifest::{only, rule, service},
    upstream::Upstream,
};

fn fixed(direct: Value) -> Value {
    json!({ "config": { "upstream": null, "http": { "response": { "direct": direct } } } })
}

/// B5: exactly that status, type and body.
#[tokio::test]
async fn a_fixed_answer_needs_no_upstream() {
    let cluster = Cluster::start().await;
    let token = cluster.api.caller("alice").await;
    let (long, largest) = ("x".repeat(400), "é".repeat(25_000));
    for (direct, status, content_type, body) in [
        (
            json!({ "statusCode": 209, "contentType": "application/vnd.custom+json", "inline": long }),
            209,
            Some("application/vnd.custom+json"),
            long.as_bytes(),
        ),
        (json!({ "inline": "ok" }), 200, None, b"ok"),
        (json!({ "inline": "" }), 200, None, b""),
        (json!({ "statusCode": 204, "inline": "" }), 204, None, b""),
        (
            json!({ "statusCode": 599, "contentType": "text/plain; charset=utf-8", "inline": "é" }),
            599,
            Some("text/plain; charset=utf-8"),
            "é".as_bytes(),
        ),
        (json!({ "contentType": "image/png", "inlineBytes": "AAH/" }), 200, Some("image/png"), &[0, 1, 255]),
        (json!({ "inline": largest }), 200, None, largest.as_bytes()),
    ] {
        cluster.api.apply(&[service("svc", "", fixed(direct.clone()))]).await;
        let mut connection = cluster.connect().await;
        for call in [get("svc", "/any/path?x=1"), post("svc", "/", "ignored"), Call::new("DELETE", "svc", "/")] {
            let answer = connection.call(&call.token(&token)).await;
            assert_eq!((answer.status, answer.header("content-type")), (status, content_type), "{direct:.80}");
            assert!(answer.body == body, "{direct:.80}");
            assert_eq!(answer.header("server"), Some("octelium"));
        }
        let head = connection.call(&Call::new("HEAD", "svc", "/").token(&token)).await;
        assert_eq!((head.status, head.body.len()), (status, 0));
        let length = (!body.is_empty()).then(|| body.len().to_string());
        assert_eq!(head.header("content-length"), length.as_deref(), "{direct:.80}");
    }
}

/// It stands where the upstream would: whoever may not pass doesn't see it, and the rules for headers hold.
#[tokio::test]
async fn a_fixed_answer_is_given_to_those_who_may_pass() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let mut spec = only(&[rule("ALLOW", r#"ctx.request.http.path != "/denied""#)]);
    spec["config"] = json!({ "http": {
        "response": { "direct": { "statusCode": 503, "inline": "closed" } },
        "header": {
            "addResponseHeaders": [{ "key": "X-For", "eval": "ctx.user.metadata.name" }, { "key": "Retry-After", "value": "60" }],
        },
        "path": { "addPrefix": "/v1" },
    }});
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    assert_eq!(cluster.call(&get("svc", "/")).await.short(), (401, "UNAUTHENTICATED"));
    assert_eq!(cluster.call(&get("svc", "/denied").token(&token)).await.short(), (403, "DENIED"));
    let answer = cluster.call(&get("svc", "/open").token(&token)).await;
    assert_eq!((answer.short(), answer.text().as_str()), ((503, ""), "closed"));
    assert_eq!((answer.header("x-for"), answer.header("retry-after")), (Some("alice"), Some("60")));
    assert!(upstream.seen().is_empty(), "even where there is one");
    let record = cluster.record("open", |record| record["entry"]["info"]["http"]["request"]["path"] == "/open").await;
    assert_eq!(record["entry"]["common"]["status"], "ALLOWED");
    assert_eq!(record["entry"]["info"]["http"]["response"], json!({ "code": 503, "bodyBytes": 6 }));
}

/// For some requests only, by `dynamicConfig`.
#[tokio::test]
async fn a_rule_can_choose_a_fixed_answer() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let direct = json!({ "statusCode": 404, "contentType": "application/json", "inline": "{}" });
    let eval =
        r#"{"http": {"response": {"direct": {"statusCode": 200, "inline": "hello " + ctx.user.metadata.name}}}}"#;
    let spec = json!({ "dynamicConfig": {
        "configs": [{ "name": "gone", "http": { "response": { "direct": direct } } }],
        "rules": [
            { "condition": { "match": r#"ctx.request.http.path.endsWith(".php")"# }, "configName": "gone" },
            { "condition": { "match": r#"ctx.request.http.path == "/hello""# }, "eval": eval },
        ],
    }});
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    for (path, status, body) in
        [("/index.php", 404, "{}"), ("/hello", 200, "hello alice"), ("/", 200, r#"{"upstream":"ok"}"#)]
    {
        let answer = cluster.call(&get("svc", path).token(&token)).await;
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{path}");
    }
    assert_eq!(upstream.seen().len(), 1);
}
