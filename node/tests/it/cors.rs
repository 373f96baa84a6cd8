//! Pages of other origins (spec: data plane §8.5, §12.4, §12.13 V11).

use serde_json::{Value, json};

use crate::support::{
    api::violations,
    cluster::Cluster,
    http::{Answer, Call, get},
    manifest::{only, rule, service},
    upstream::{Upstream, answer},
};

const APP: &str = "https://app.example.com";
const PREFLIGHT_VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

fn with_cors(name: &str, url: &str, cors: Value) -> Value {
    service(name, url, json!({ "config": { "http": { "cors": cors } } }))
}

fn preflight(host: &str, origin: &str) -> Call {
    Call::new("OPTIONS", host, "/pre")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "PUT")
        .header("Access-Control-Request-Headers", "x-a, content-type")
}

/// Allowed origin and whether credentials may be sent.
fn allowed(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.header("access-control-allow-origin"), answer.header("access-control-allow-credentials"))
}

/// C1, C2, C4.
#[tokio::test]
async fn a_preflight_is_answered_before_anybody_is_asked_who_he_is() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let origins = json!([APP, "http://localhost:3000", "capacitor://localhost"]);
    let set = json!({
        "allowOriginStringMatch": [APP],
        "allowMethods": "GET, PUT",
        "allowHeaders": "X-B",
        "exposeHeaders": "X-C",
        "maxAge": "600",
    });
    cluster
        .api
        .apply(&[
            with_cors(
                "listed",
                &upstream.url(),
                json!({ "allowOriginStringMatch": origins, "allowCredentials": true }),
            ),
            with_cors("any", &upstream.url(), json!({ "allowOriginStringMatch": ["*"], "allowCredentials": true })),
            with_cors("set", &upstream.url(), set),
            with_cors("none", &upstream.url(), json!({})),
        ])
        .await;
    let echo = (Some("PUT"), Some("x-a, content-type"), None);
    for (host, origin, expected) in [
        ("listed", APP, Some((Some("true"), echo))),
        ("listed", "HTTPS://App.Example.com:443", Some((Some("true"), echo))),
        ("listed", "http://localhost:3000", Some((Some("true"), echo))),
        ("listed", "capacitor://localhost", Some((Some("true"), echo))),
        ("listed", "http://app.example.com", None),
        ("listed", "https://app.example.com:8443", None),
        ("listed", "https://app.example.com.evil.com", None),
        ("listed", "https://evil.com", None),
        ("listed", "http://localhost", None),
        ("any", "https://evil.com", Some((Some("true"), echo))),
        ("set", APP, Some((None, (Some("GET, PUT"), Some("X-B"), Some("600"))))),
        ("set", "https://evil.com", None),
        ("none", APP, None),
        ("none", "https://none.octelium.test", Some((None, echo))),
    ] {
        let answer = cluster.call(&preflight(host, origin)).await;
        let what = format!("{host} {origin}");
        assert_eq!(answer.header("vary"), Some(PREFLIGHT_VARY), "{what}");
        assert_eq!(answer.header("server"), Some("octelium"), "{what}");
        let Some((credentials, (methods, headers, age))) = expected else {
            assert_eq!((answer.short(), allowed(&answer)), ((403, "ORIGIN_DENIED"), (None, None)), "{what}");
            continue;
        };
        assert_eq!((answer.short(), allowed(&answer)), ((204, ""), (Some(origin), credentials)), "{what}");
        assert_eq!(answer.header("access-control-allow-methods"), methods, "{what}");
        assert_eq!(answer.header("access-control-allow-headers"), headers, "{what}");
        assert_eq!(answer.header("access-control-max-age"), age, "{what}");
    }
    assert!(upstream.seen().is_empty(), "nothing goes further");
}

/// C3, and §11.2 row 25: the Service's own pages, under whichever of its names.
#[tokio::test]
async fn the_services_own_pages_are_allowed_without_any_configuration() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster
        .api
        .apply(&[service("svc", &upstream.url(), json!({})), service("other", &upstream.url(), json!({}))])
        .await;
    for (host, origin, expected) in [
        ("svc", "https://svc.octelium.test", (204, "")),
        ("svc", "http://svc.octelium.test", (204, "")),
        ("svc", "https://svc.default.octelium.test", (204, "")),
        ("svc.default", "https://svc.octelium.test", (204, "")),
        ("svc.octelium.test:8443", "https://svc.octelium.test:8443", (204, "")),
        ("svc.octelium.test:443", "https://svc.octelium.test", (204, "")),
        // Others' questions are for whoever may pass: this Service asks for a Session.
        ("svc", "https://svc.octelium.test:8443", (401, "UNAUTHENTICATED")),
        ("svc.octelium.test:8443", "https://svc.octelium.test", (401, "UNAUTHENTICATED")),
        ("svc", "https://other.octelium.test", (401, "UNAUTHENTICATED")),
        ("svc", "https://octelium.test", (401, "UNAUTHENTICATED")),
        ("svc", "ftp://svc.octelium.test", (401, "UNAUTHENTICATED")),
        ("svc", APP, (401, "UNAUTHENTICATED")),
    ] {
        let answer = cluster.call(&preflight(host, origin)).await;
        assert_eq!(answer.short(), expected, "{host} {origin}");
        let is_allowed = expected.0 == 204;
        assert_eq!(allowed(&answer), (is_allowed.then_some(origin), None), "{host} {origin}");
    }
    assert!(upstream.seen().is_empty());
}

/// §8.5, the repair: an upstream that answers preflights itself is asked, where nobody must log in first.
#[tokio::test]
async fn without_cors_the_upstream_of_an_anonymous_service_answers_preflights() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|seen| match seen.method.as_str() {
        "OPTIONS" => answer(
            "204 No Content",
            &[("Access-Control-Allow-Origin", "https://theirs.example"), ("Access-Control-Allow-Credentials", "true")],
            "",
        ),
        _ => answer("200 OK", &[("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "X-T")], "ok"),
    })
    .await;
    let anonymous = json!({ "isAnonymous": true, "authorization": null });
    cluster.api.apply(&[service("svc", &upstream.url(), anonymous)]).await;
    let answer = cluster.call(&preflight("svc", APP)).await;
    assert_eq!((answer.status, allowed(&answer)), (204, (Some("https://theirs.example"), Some("true"))));
    let seen = upstream.only();
    assert_eq!(seen.header("access-control-request-method"), Some("PUT"));
    assert_eq!((seen.header("origin"), seen.method.as_str()), (Some(APP), "OPTIONS"));
    let answer = cluster.call(&get("svc", "/").header("Origin", APP)).await;
    assert_eq!(allowed(&answer), (Some("*"), None));
    assert_eq!(answer.header("vary"), Some("Origin"));
    upstream.only();

    // Once there is a `cors` block, it has the say.
    let spec = json!({ "isAnonymous": true, "authorization": null, "config": { "http": { "cors": {} } } });
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    assert_eq!(cluster.call(&preflight("svc", APP)).await.short(), (403, "ORIGIN_DENIED"));
    assert!(upstream.seen().is_empty());
}

/// What only looks like a preflight is a request like any other.
#[tokio::test]
async fn what_is_no_preflight_goes_the_usual_way() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[with_cors("svc", &upstream.url(), json!({ "allowOriginStringMatch": ["*"] }))]).await;
    let token = cluster.api.caller("alice").await;
    let options = || Call::new("OPTIONS", "svc", "/");
    let asks = |call: Call| call.header("Access-Control-Request-Method", "PUT");
    for call in [
        options(),
        options().header("Origin", APP),
        asks(options()),
        asks(options().header("Origin", "null")),
        asks(options().header("Origin", "https://app.example.com/path")),
        asks(options().header("Origin", APP).header("Origin", APP)),
        options().header("Origin", APP).header("Access-Control-Request-Method", ""),
        asks(get("svc", "/").header("Origin", APP)),
    ] {
        assert_eq!(cluster.call(&call).await.short(), (401, "UNAUTHENTICATED"), "{call:?}");
        assert_eq!(cluster.call(&call.clone().token(&token)).await.short(), (200, ""), "{call:?}");
    }
    assert_eq!(upstream.seen().len(), 8);
}

/// C5, C6, C7.
#[tokio::test]
async fn every_answer_says_whether_the_page_may_read_it() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|seen| {
        let theirs = [
            ("Access-Control-Allow-Origin", "https://theirs.example"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Vary", "Accept-Encoding, Origin"),
        ];
        if seen.target == "/theirs" { answer("200 OK", &theirs, "ok") } else { answer("200 OK", &[], "ok") }
    })
    .await;
    let mut spec = only(&[rule("ALLOW", r#"ctx.request.http.path != "/denied""#)]);
    spec["config"] = json!({ "http": { "cors": { "allowOriginStringMatch": [APP], "exposeHeaders": "X-C, X-D" } } });
    let mut broken = spec.clone();
    broken["config"]["upstream"] = json!({ "url": "http://127.0.0.1:1" });
    cluster.api.apply(&[service("svc", &upstream.url(), spec), service("broken", "", broken)]).await;
    let token = cluster.api.caller("alice").await;
    for (host, path, with_token, status) in [
        ("svc", "/", true, 200),
        ("svc", "/theirs", true, 200),
        ("svc", "/denied", true, 403),
        ("svc", "/", false, 401),
        ("broken", "/", true, 502),
    ] {
        let call = |origin: &str| {
            let call = get(host, path).header("Origin", origin);
            if with_token { call.token(&token) } else { call }
        };
        let answer = cluster.call(&call(APP)).await;
        assert_eq!((answer.status, allowed(&answer)), (status, (Some(APP), None)), "{host} {path}");
        assert_eq!(answer.header("access-control-expose-headers"), Some("X-C, X-D"), "{host} {path}");
        let vary = if path == "/theirs" { "Accept-Encoding, Origin" } else { "Origin" };
        assert_eq!(answer.header("vary"), Some(vary), "{host} {path}");

        let answer = cluster.call(&call("https://evil.com")).await;
        assert_eq!(answer.status, status, "{host} {path}: the browser hides it, nobody else does");
        let theirs = (path == "/theirs").then_some(("https://theirs.example", "true"));
        assert_eq!(allowed(&answer), (theirs.map(|(origin, _)| origin), theirs.map(|(_, yes)| yes)), "{host} {path}");
        assert_eq!(answer.header("vary"), Some(vary), "{host} {path}");

        let answer = cluster.call(&call("null")).await;
        assert_eq!((answer.status, answer.header("access-control-expose-headers")), (status, None), "{host} {path}");
    }
}

/// C8, C9.
#[tokio::test]
async fn pages_of_the_cluster_are_trusted_where_asked() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let trusting = json!({ "allowClusterServices": true, "allowOriginStringMatch": [APP] });
    cluster
        .api
        .apply(&[with_cors("svc", &upstream.url(), trusting), with_cors("strict", &upstream.url(), json!({}))])
        .await;
    for (origin, expected) in [
        ("https://octelium.test", Some(Some("true"))),
        ("https://portal.octelium.test", Some(Some("true"))),
        ("https://a.b.c.octelium.test", Some(Some("true"))),
        ("https://PORTAL.octelium.TEST:443", Some(Some("true"))),
        (APP, Some(None)),
        ("http://portal.octelium.test", None),
        ("https://portal.octelium.test:8443", None),
        ("https://notoctelium.test", None),
        ("https://evil-octelium.test", None),
        ("https://octelium.test.evil.com", None),
        ("https://test", None),
    ] {
        let answer = cluster.call(&preflight("svc", origin)).await;
        match expected {
            Some(credentials) => {
                assert_eq!((answer.status, allowed(&answer)), (204, (Some(origin), credentials)), "{origin}");
            }
            None => assert_eq!((answer.short(), allowed(&answer)), ((403, "ORIGIN_DENIED"), (None, None)), "{origin}"),
        }
        let answer = cluster.call(&preflight("strict", origin)).await;
        assert_eq!(answer.short(), (403, "ORIGIN_DENIED"), "{origin}");
    }
    let ported = cluster.call(&preflight("svc.octelium.test:8443", "https://portal.octelium.test:8443")).await;
    assert_eq!(ported.status, 204, "a cluster that answers on this port");
}

/// Only names are repeated to the browser.
#[tokio::test]
async fn a_preflight_repeats_nothing_but_names() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[with_cors("svc", &upstream.url(), json!({ "allowOriginStringMatch": ["*"] }))]).await;
    for (asked, repeated) in [
        ("x-a", Some("x-a")),
        ("x-a,x-b , x-c", Some("x-a,x-b , x-c")),
        ("x-a; b", None),
        ("x-a\"", None),
        ("<script>", None),
        (&"a".repeat(4097), None),
    ] {
        let call = Call::new("OPTIONS", "svc", "/")
            .header("Origin", APP)
            .header("Access-Control-Request-Method", "PUT")
            .header("Access-Control-Request-Headers", asked);
        let answer = cluster.call(&call).await;
        assert_eq!((answer.status, answer.header("access-control-allow-headers")), (204, repeated), "{asked:.40}");
    }
}

/// V11.
#[tokio::test]
async fn preflights_are_recorded_like_any_request() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[with_cors("svc", &upstream.url(), json!({ "allowOriginStringMatch": [APP] }))]).await;
    assert_eq!(cluster.call(&preflight("svc", APP)).await.status, 204);
    assert_eq!(cluster.call(&preflight("svc", "https://evil.com")).await.status, 403);
    let records = cluster.stop().await;
    let short: Vec<_> = records
        .iter()
        .map(|record| {
            let (entry, request) = (&record["entry"], &record["entry"]["info"]["http"]["request"]);
            (
                entry["common"]["status"].as_str().unwrap(),
                entry["common"]["reason"]["type"].as_str(),
                entry["info"]["http"]["response"]["code"].as_u64().unwrap(),
                record["error"]["code"].as_str(),
                request["origin"].as_str().unwrap(),
                entry["common"]["serviceRef"]["name"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            ("ALLOWED", Some("CORS_PREFLIGHT"), 204, None, APP, "svc.default"),
            ("DENIED", None, 403, Some("ORIGIN_DENIED"), "https://evil.com", "svc.default"),
        ]
    );
}

/// A browser asks before a configuration is chosen: none but the default one can answer.
#[tokio::test]
async fn only_the_default_configuration_has_cors() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let named = json!({ "name": "v2", "upstream": { "url": upstream.url() }, "http": { "cors": {} } });
    let spec = json!({ "dynamicConfig": { "configs": [named] } });
    let status = cluster.api.try_apply(&service("svc", &upstream.url(), spec).to_string()).await.unwrap_err();
    let found = violations(&status);
    assert_eq!(found[0].0, "changes[0].spec.dynamicConfig.configs[0].http.cors");
    assert!(found[0].1.contains("only `spec.config`"), "{found:?}");

    let eval = format!(r#"{{"upstream": {{"url": "{}"}}, "http": {{"cors": {{}}}}}}"#, upstream.url());
    let rules = json!([{ "condition": { "matchAny": true }, "eval": eval }]);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "dynamicConfig": { "rules": rules } }))]).await;
    let token = cluster.api.caller("alice").await;
    let answer = cluster.call(&get("svc", "/").token(&token)).await;
    assert_eq!(answer.short(), (502, "CONFIG_INVALID"));
}
