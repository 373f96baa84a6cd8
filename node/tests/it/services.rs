//! Anonymous Services, disabled ones, and the choice among configurations (spec: data plane §12.1 A13, §12.5 D4, D7, D8,
//! §12.12 T8, T9).

use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    http::get,
    manifest::{inline, merge, resource, rule, secret, service, workload},
    upstream::Upstream,
};

/// A13.
#[tokio::test]
async fn a_disabled_service_is_503_until_it_is_enabled() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    for disabled in [false, true, false] {
        cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isDisabled": disabled }))]).await;
        let answer = connection.call(&get("svc", "/").token(&token)).await;
        assert_eq!(answer.short(), if disabled { (503, "SERVICE_DISABLED") } else { (200, "") });
        // Whoever asks.
        let answer = connection.call(&get("svc", "/")).await;
        assert_eq!(answer.short(), if disabled { (503, "SERVICE_DISABLED") } else { (401, "UNAUTHENTICATED") });
    }
    assert_eq!(upstream.seen().len(), 2);
}

fn anonymous(url: &str, authorization: Value) -> Value {
    let mut document = service("svc", url, json!({ "isAnonymous": true, "authorization": null }));
    merge(&mut document["spec"], json!({ "authorization": authorization }));
    document
}

/// D7, A-15.
#[tokio::test]
async fn an_anonymous_service_asks_for_nothing_and_keeps_the_callers_authorization() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let token = cluster.api.caller("alice").await;
    cluster.api.apply(&[anonymous(&upstream.url(), Value::Null)]).await;
    assert_eq!(cluster.call(&get("svc", "/anybody")).await.status, 200);
    upstream.only();
    let record =
        cluster.record("anybody", |record| record["entry"]["info"]["http"]["request"]["path"] == "/anybody").await;
    let common = &record["entry"]["common"];
    assert_eq!(
        (&common["status"], &common["isAnonymous"], &common["userRef"]),
        (&json!("ALLOWED"), &json!(true), &Value::Null)
    );

    let call = get("svc", "/")
        .header("Authorization", "Basic b2N0bzpjYXQ=")
        .header("X-Octelium-Auth", &token)
        .header("Cookie", &format!("octelium_auth={token}; a=1"));
    assert_eq!(cluster.call(&call).await.status, 200);
    let seen = upstream.only();
    assert_eq!(seen.header("authorization"), Some("Basic b2N0bzpjYXQ="));
    assert!(!seen.text().contains(&token), "{seen:?}");

    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    assert_eq!(cluster.call(&get("svc", "/")).await.short(), (401, "UNAUTHENTICATED"));
}

/// D4, D8, A-16.
#[tokio::test]
async fn an_anonymous_service_with_policies_is_decided_by_them_alone() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let token = cluster.api.caller_of("alice", json!({ "authorization": { "policies": ["allow-all"] } })).await;
    let path = |effect: &str, path: &str| rule(effect, &format!(r#"ctx.request.http.path == "{path}""#));
    let with = |rules: &[Value]| {
        let mut authorization = inline(rules);
        merge(&mut authorization, json!({ "enableAnonymous": true }));
        authorization
    };
    for (authorization, root, about) in [
        (json!({ "enableAnonymous": true }), 403, 403),
        (with(&[path("ALLOW", "/about")]), 403, 200),
        (with(&[rule("ALLOW", "true"), path("DENY", "/about")]), 200, 403),
        (with(&[rule("ALLOW", r#"ctx.user.metadata.name == "alice""#)]), 403, 403),
        (Value::Null, 200, 200),
    ] {
        cluster.api.apply(&[anonymous(&upstream.url(), authorization.clone())]).await;
        for (target, status) in [("/", root), ("/about", about)] {
            for call in
                [get("svc", target), get("svc", target).token(&token), get("svc", target).header("Accept", "text/html")]
            {
                let answer = cluster.call(&call).await;
                assert_eq!(answer.status, status, "{authorization} {target}");
            }
        }
    }
}

fn config(name: &str, url: &str, prefix: &str) -> Value {
    json!({ "name": name, "upstream": { "url": url }, "http": { "path": { "addPrefix": prefix } } })
}

fn choice(expression: &str, name: &str) -> Value {
    json!({ "condition": { "match": expression }, "configName": name })
}

/// T8: by path, by header, by who asks; the default one where no rule holds.
#[tokio::test]
async fn the_first_rule_that_holds_chooses_the_configuration() {
    let (cluster, upstream, other) = (Cluster::start().await, Upstream::ok().await, Upstream::ok().await);
    let dynamic = json!({ "dynamicConfig": {
        "configs": [config("beta", &other.url(), "/beta"), config("staff", &upstream.url(), "/staff")],
        "rules": [
            choice(r#"ctx.request.http.headers["x-version"] == "beta""#, "beta"),
            choice("1 / 0 == 1", "beta"),
            choice(r#"ctx.user.metadata.name == "bob""#, "staff"),
            choice(r#"ctx.request.http.path.startsWith("/default")"#, "default"),
            choice(r#"ctx.request.http.path.startsWith("/d")"#, "beta"),
        ],
    }});
    cluster.api.apply(&[service("svc", &upstream.url(), dynamic)]).await;
    let (alice, bob) = (cluster.api.caller("alice").await, cluster.api.caller("bob").await);
    for (call, server, target) in [
        (get("svc", "/x").token(&alice), &upstream, "/x"),
        (get("svc", "/x").token(&bob), &upstream, "/staff/x"),
        (get("svc", "/x").token(&bob).header("X-Version", "beta"), &other, "/beta/x"),
        (get("svc", "/default").token(&alice), &upstream, "/default"),
        (get("svc", "/d").token(&alice), &other, "/beta/d"),
    ] {
        assert_eq!(cluster.call(&call).await.status, 200, "{target}");
        assert_eq!(server.only().target, target);
    }
    assert!(upstream.seen().is_empty() && other.seen().is_empty());
    let record = cluster.record("bob's", |record| record["config"] == "staff").await;
    assert_eq!(record["entry"]["common"]["userRef"]["name"], "bob");
}

#[tokio::test]
async fn without_a_default_nothing_is_chosen_for_what_no_rule_matches() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let spec = json!({
        "config": null,
        "dynamicConfig": { "configs": [config("only", &upstream.url(), "/only")], "rules": [choice(r#"ctx.request.http.path == "/yes""#, "only")] },
    });
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    assert_eq!(cluster.call(&get("svc", "/no").token(&token)).await.short(), (502, "UPSTREAM_MISSING"));
    assert_eq!(cluster.call(&get("svc", "/yes").token(&token)).await.status, 200);
    assert_eq!(upstream.only().target, "/only/yes");
}

/// A configuration that an expression makes is held to the rules for written ones, and never replaced by another when it fails.
#[tokio::test]
async fn an_expression_makes_the_configuration() {
    let (cluster, upstream, other) = (Cluster::start().await, Upstream::ok().await, Upstream::ok().await);
    let eval = format!(
        r#"{{"parent": ctx.request.http.headers["x-parent"], "upstream": {{"url": ctx.user.metadata.name == "alice" ? "{}" : ctx.request.http.headers["x-url"]}}}}"#,
        other.url()
    );
    let spec = json!({
        "config": { "http": { "auth": { "bearer": { "fromSecret": "one" } } } },
        "dynamicConfig": { "rules": [
            { "condition": { "match": r#"ctx.request.http.path == "/made""# }, "eval": eval },
            choice(r#"ctx.request.http.path == "/made""#, "default"),
        ] },
    });
    cluster.api.apply(&[secret("one", "1st"), service("svc", &upstream.url(), spec)]).await;
    let (alice, bob) = (cluster.api.caller("alice").await, cluster.api.caller("bob").await);
    let made = || get("svc", "/made").header("X-Parent", "default");
    for _ in 0..2 {
        assert_eq!(cluster.call(&made().token(&alice)).await.status, 200);
        assert_eq!(other.only().header("authorization"), Some("Bearer 1st"), "the parent's credential");
    }
    let scheme = made().token(&bob).header("X-Url", "ftp://127.0.0.1");
    let parent = get("svc", "/made").token(&alice).header("X-Parent", "nobody");
    let missing = get("svc", "/made").token(&alice);
    for call in [scheme, parent, missing] {
        assert_eq!(cluster.call(&call).await.short(), (502, "CONFIG_INVALID"));
    }
    assert_eq!(cluster.call(&get("svc", "/else").token(&alice)).await.status, 200);
    assert_eq!(upstream.only().target, "/else");
    assert!(other.seen().is_empty());
}

/// T9.
#[tokio::test]
async fn a_configuration_is_laid_over_its_parent() {
    let (cluster, upstream, other) = (Cluster::start().await, Upstream::ok().await, Upstream::ok().await);
    let by_header = |name: &str| choice(&format!(r#"ctx.request.http.headers["x-config"] == "{name}""#), name);
    let rules = ["alone", "child", "keyed", "grown"].map(by_header);
    let spec = json!({
        "config": { "http": { "auth": { "bearer": { "fromSecret": "one" } }, "path": { "removePrefix": "/api" } } },
        "dynamicConfig": {
            "configs": [
                { "name": "alone", "upstream": { "url": other.url() } },
                { "name": "child", "parent": "default", "http": { "path": { "addPrefix": "/child" } } },
                { "name": "keyed", "parent": "default", "upstream": { "url": other.url() }, "http": { "auth": { "bearer": { "fromSecret": "two" } } } },
                { "name": "grown", "parent": "alone", "http": { "path": { "addPrefix": "/grown" } } },
            ],
            "rules": rules,
        },
    });
    cluster.api.apply(&[secret("one", "1st"), secret("two", "2nd"), service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    for (name, server, target, authorization) in [
        ("none", &upstream, "/x", Some("Bearer 1st")),
        ("alone", &other, "/api/x", None),
        ("child", &upstream, "/child/x", Some("Bearer 1st")),
        ("keyed", &other, "/x", Some("Bearer 2nd")),
        ("grown", &other, "/grown/api/x", None),
    ] {
        assert_eq!(
            cluster.call(&get("svc", "/api/x").header("X-Config", name).token(&token)).await.status,
            200,
            "{name}"
        );
        let seen = server.only();
        assert_eq!((seen.target.as_str(), seen.header("authorization")), (target, authorization), "{name}");
    }
}

/// The upstreams of two configurations have each their own Secret; neither sees the other's.
#[tokio::test]
async fn configurations_by_group_have_secrets_of_their_own() {
    let (cluster, prod, dev) = (Cluster::start().await, Upstream::ok().await, Upstream::ok().await);
    let keyed = |name: &str, url: &str| json!({ "name": name, "upstream": { "url": url }, "http": { "auth": { "bearer": { "fromSecret": name } } } });
    let member = |group: &str| choice(&format!(r#""{group}" in ctx.user.spec.groups"#), group);
    let spec = json!({
        "config": null,
        "dynamicConfig": { "configs": [keyed("prod", &prod.url()), keyed("dev", &dev.url())], "rules": [member("prod"), member("dev")] },
    });
    cluster
        .api
        .apply(&[
            secret("prod", "for-prod"),
            secret("dev", "for-dev"),
            resource("Group", "prod", json!({})),
            resource("Group", "dev", json!({})),
            service("svc", "", spec),
        ])
        .await;
    let token = cluster.api.caller("alice").await;
    for (groups, server, value) in
        [(json!(["dev"]), &dev, "Bearer for-dev"), (json!(["dev", "prod"]), &prod, "Bearer for-prod")]
    {
        let mut user = workload("alice");
        merge(&mut user["spec"], json!({ "groups": groups }));
        cluster.api.apply(&[user]).await;
        assert_eq!(cluster.call(&get("svc", "/").token(&token)).await.status, 200);
        assert_eq!(server.only().header("authorization"), Some(value));
    }
    assert!(prod.seen().is_empty() && dev.seen().is_empty());
}
