//! From host and path to a Service and its upstream, and what crosses the gateway on the way (spec: data plane §0.3, §12.1,
//! §12.3, §12.6).

use serde_json::{Value, json};

use crate::support::{
    api::deletion,
    cluster::Cluster,
    http::{Call, get, post},
    manifest::{only, resource, rule, service},
    upstream::{Reply, Upstream, answer},
};

/// A path prefix marks the Service that a request was led to.
fn marked(name: &str, url: &str, marker: &str) -> Value {
    service(name, url, json!({ "config": { "http": { "path": { "addPrefix": marker } } } }))
}

#[tokio::test]
async fn every_name_of_a_service_leads_to_it() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let url = upstream.url();
    cluster
        .api
        .apply(&[
            resource("Namespace", "ns", json!({})),
            marked("svc", &url, "/one"),
            marked("svc.ns", &url, "/two"),
            marked("default.ns", &url, "/three"),
            marked("default", &url, "/four"),
        ])
        .await;
    let token = cluster.api.caller("alice").await;
    for (host, marker) in [
        ("svc.octelium.test", "/one"),
        ("svc.default.octelium.test", "/one"),
        ("svc.local.octelium.test", "/one"),
        ("svc.default.local.octelium.test", "/one"),
        ("svc.ns.octelium.test", "/two"),
        ("svc.ns.local.octelium.test", "/two"),
        ("default.ns.octelium.test", "/three"),
        ("ns.octelium.test", "/three"),
        ("default.octelium.test", "/four"),
        ("default.default.octelium.test", "/four"),
        ("octelium.test", "/four"),
        ("SVC.Octelium.TEST:8443", "/one"),
        ("svc.octelium.test.", "/one"),
    ] {
        let answer = cluster.call(&Call::new("GET", host, "/x").token(&token)).await;
        assert_eq!(answer.short(), (200, ""), "{host}");
        assert_eq!(upstream.only().target, format!("{marker}/x"), "{host}");
    }
}

#[tokio::test]
async fn an_unknown_host_is_404_for_everybody() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    for host in [
        "nothing.octelium.test",
        "svc.other.octelium.test",
        "x.svc.octelium.test",
        "svc.octelium.test.example.com:80",
        "octelium.test",
        "local.octelium.test",
        "127.0.0.1:80",
        "[::1]:80",
    ] {
        assert_eq!(cluster.call(&get(host, "/")).await.short(), (404, "HOST_UNKNOWN"), "{host}");
    }
    assert_eq!(cluster.call(&get("svc", "/")).await.status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn g_12_a_private_service_answers_client_sessions_alone_and_only_below_local() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isPublic": false }))]).await;
    let clientless = cluster.api.caller("alice").await;
    let client = cluster.api.login("bob", json!({ "sessionType": "CLIENT" }), &[]).await.access;

    assert_eq!(cluster.call(&get("svc", "/").token(&client)).await.short(), (404, "HOST_UNKNOWN"));
    assert_eq!(cluster.call(&get("svc.local", "/")).await.short(), (401, "UNAUTHENTICATED"));
    let refused = cluster.call(&get("svc.local", "/").token(&clientless)).await;
    assert_eq!(refused.short(), (403, "DENIED"));
    assert_eq!(cluster.reason_of(&refused).await, "SESSION_CLIENT_TYPE_INVALID");
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(cluster.call(&get("svc.local", "/").token(&client)).await.short(), (200, ""));

    // Published, it answers both at both names; withdrawn, it is as before (V10).
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    for host in ["svc", "svc.local"] {
        assert_eq!(cluster.call(&get(host, "/").token(&clientless)).await.status, 200, "{host}");
        assert_eq!(cluster.call(&get(host, "/")).await.status, 401, "{host}");
    }
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isPublic": false }))]).await;
    assert_eq!(cluster.call(&get("svc", "/").token(&clientless)).await.short(), (404, "HOST_UNKNOWN"));
}

#[tokio::test]
async fn a_deleted_service_is_gone_at_once() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    assert_eq!(connection.call(&get("svc", "/").token(&token)).await.status, 200);
    cluster.api.core().delete_service(deletion("svc")).await.unwrap();
    assert_eq!(connection.call(&get("svc", "/").token(&token)).await.short(), (404, "HOST_UNKNOWN"));
}

/// P6, P7.
#[tokio::test]
async fn no_spelling_of_a_path_gets_past_a_policy() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let starts = |path: &str| format!(r#"ctx.request.http.path.startsWith("{path}")"#);
    let only_public = only(&[rule("ALLOW", &starts("/public/"))]);
    let no_admin = only(&[rule("ALLOW", "true"), rule("DENY", &starts("/admin"))]);
    cluster
        .api
        .apply(&[service("public", &upstream.url(), only_public), service("admin", &upstream.url(), no_admin)])
        .await;
    let token = cluster.api.caller("alice").await;
    assert_eq!(cluster.call(&get("public", "/public/page").token(&token)).await.status, 200);
    assert_eq!(upstream.only().target, "/public/page");

    for path in [
        "/public/../secret",
        "/public/%2e%2e/secret",
        "/public/.%2E/secret",
        "/public/x/../../secret",
        "/public/./../secret",
        "/public/..%2fsecret",
        "/public%2f..%2fsecret",
        "/public/%2e%2e%2fsecret",
        r"/public/..\secret",
        "/public/%5c..%5c../secret",
        "/public/..;/secret",
        "/public/..;x=1/secret",
        "/public/%2e%2e%3b/secret",
        "/public/.;/../../secret",
    ] {
        let status = cluster.call(&get("public", path).token(&token)).await.status;
        assert!(matches!(status, 400 | 403), "{path}: {status}");
        assert_eq!(upstream.seen().len(), 0, "{path}");
    }
    for path in ["/./admin", "/x/../admin", "/%61dmin/x", "/x/%2e%2e/admin", "/.//../admin", "/%2e/admin", "/../admin"]
    {
        assert_eq!(cluster.call(&get("admin", path).token(&token)).await.short(), (403, "DENIED"), "{path}");
        assert_eq!(upstream.seen().len(), 0, "{path}");
    }
    // What passes arrives as the policy saw it.
    for (path, arrives) in
        [("/x/../public/y", "/public/y"), ("/public/./y", "/public/y"), ("/public/a/%2e%2e/y", "/public/y")]
    {
        assert_eq!(cluster.call(&get("public", path).token(&token)).await.status, 200, "{path}");
        assert_eq!(upstream.only().target, arrives, "{path}");
    }
}

/// P4.
#[tokio::test]
async fn a_canonical_target_arrives_bit_for_bit() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    for target in [
        "/projects/g%2Fp?x=%20&y=a+b&&z",
        "/a//b",
        "/proxy/http://x/y",
        "/v1.2.3/r",
        "/a/...",
        "/.well-known/..name",
        "/a%20b",
        "/octelium.api.Service/Method",
        "/?",
        "/x?a=/../b",
    ] {
        assert_eq!(connection.call(&get("svc", target).token(&token)).await.status, 200, "{target}");
        assert_eq!(upstream.only().target, target);
    }
    // Some upstreams split at `;` too: they see the parameters that policies saw.
    assert_eq!(connection.call(&get("svc", "/x?a=1;b=2").token(&token)).await.status, 200);
    assert_eq!(upstream.only().target, "/x?a=1&b=2");
}

/// H3, H5, H9 and the caller's own credential.
#[tokio::test]
async fn what_could_be_taken_for_the_gateways_word_does_not_reach_the_upstream() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let call = get("svc", "/")
        .header("X-Octelium-Auth", &token)
        .header("Authorization", "Basic Zm9yZ2VkOmZvcmdlZA==")
        .header("X-OCTELIUM-Session-Uid", "forged")
        .header("x_octelium_user", "forged")
        .header("X-Octelium-Origin", "forged")
        .header("X-Forwarded-For", "forged")
        .header("X_Forwarded_For", "forged")
        .header("X-Forwarded-Host", "forged")
        .header("X-Forwarded-Proto", "forged")
        .header("X-Forwarded-Port", "forged")
        .header("X-Forwarded-Client-Cert", "forged")
        .header("X-Real-IP", "forged")
        .header("Forwarded", "for=forged")
        .header("X-Envoy-Internal", "forged")
        .header("X-Request-Id", "forged")
        .header("Connection", "keep-alive, X-Named")
        .header("Keep-Alive", "timeout=forged")
        .header("X-Named", "forged")
        .header("Proxy-Authorization", "forged")
        .header("TE", "trailers")
        .header("Upgrade", "forged/1")
        .header("Cookie", "a=1; octelium_auth=forged; b=2")
        .header("Cookie", "octelium_rt=forged; c=3")
        .header("X-Custom", "kept")
        .header("Accept", "text/html");
    assert_eq!(cluster.call(&call).await.status, 200);
    let seen = upstream.only();
    assert!(!seen.text().contains("forged") && !seen.text().contains(&token), "{seen:?}");
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["accept", "cookie", "cookie", "host", "traceparent", "user-agent", "x-custom", "x-request-id"]);
    let cookies: Vec<_> = seen
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(cookies, ["a=1; b=2", "c=3"]);
    assert_eq!(seen.header("x-custom"), Some("kept"));
}

#[tokio::test]
async fn an_upstream_cannot_speak_for_the_gateway() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|_| {
        let headers = [
            ("X-Octelium-Decision", "forged"),
            ("X-Octelium-Unauthorized", "true"),
            ("Server", "forged"),
            ("Connection", "X-Named"),
            ("X-Named", "forged"),
            ("Keep-Alive", "forged"),
            ("Proxy-Authenticate", "forged"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("ETag", "\"e\""),
        ];
        answer("200 OK", &headers, "body")
    })
    .await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let answer = cluster.call(&get("svc", "/").token(&token)).await;
    assert!(!format!("{answer:?}").contains("forged"), "{answer:?}");
    assert_eq!(answer.header("server"), Some("octelium"));
    assert_eq!(answer.header("etag"), Some("\"e\""));
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
    assert_eq!(answer.text(), "body");
}

/// A1, A12: over TLS, with the certificate of the cluster's own authority, byte for byte.
#[tokio::test]
async fn an_https_caller_gets_the_upstreams_answer() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[resource("Namespace", "ns", json!({})), service("svc.ns", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    for host in ["svc.ns", "svc.ns.local"] {
        let mut connection = cluster.connect_tls(host).await;
        for _ in 0..2 {
            let answer = connection.call(&get(host, "/").token(&token)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"upstream":"ok"}"#), "{host}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("strict-transport-security"), Some("max-age=2592000"));
        }
    }
}

/// A14, H6: what the upstream says is what the caller hears.
#[tokio::test]
async fn the_upstreams_status_is_relayed() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|seen| answer(&format!("{} Text", &seen.target[1..]), &[], "said")).await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    for status in [200, 201, 206, 301, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504, 599] {
        let answer = connection.call(&get("svc", &format!("/{status}")).token(&token)).await;
        assert_eq!((answer.short(), answer.text().as_str()), ((status, ""), "said"));
        assert_eq!(answer.header("x-octelium-unauthorized"), None, "{status} is the upstream's");
    }
}

/// H10: host and port of the upstream, as its URL has them.
#[tokio::test]
async fn the_upstream_is_asked_by_its_own_name() {
    let upstream = Upstream::ok().await;
    let cluster = Cluster::with(octelium_node::config::Settings {
        resolve: Some(vec![
            format!("api.example.com={}", upstream.address),
            format!("other.example.com:8080={}", upstream.address),
        ]),
        ..Default::default()
    })
    .await;
    let token_of = cluster.api.caller("alice").await;
    for (url, host) in [
        ("http://api.example.com", "api.example.com"),
        ("http://api.example.com:80/", "api.example.com"),
        ("http://api.example.com:81", "api.example.com:81"),
        ("http://other.example.com:8080", "other.example.com:8080"),
    ] {
        cluster.api.apply(&[service("svc", url, json!({}))]).await;
        assert_eq!(cluster.call(&get("svc", "/").token(&token_of)).await.status, 200, "{url}");
        assert_eq!(upstream.only().header("host"), Some(host), "{url}");
    }
}

/// H11.
#[tokio::test]
async fn path_prefixes_are_removed_and_added() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let token = cluster.api.caller("alice").await;
    for (remove, add, path, arrives) in [
        ("/prefix", "", "/prefix/v1", "/v1"),
        ("/prefix", "", "/prefix/v1?q=/prefix", "/v1?q=/prefix"),
        ("/prefix", "", "/prefix", "/"),
        ("/prefix", "", "/prefix2/v1", "/prefix2/v1"),
        ("", "/add01", "/prefix/v1", "/add01/prefix/v1"),
        ("/v1", "/v2", "/v1/path", "/v2/path"),
        ("/v1", "", "/v1/a%2Fb", "/a%2Fb"),
        ("/v1", "", "/%76%31/x", "/x"),
        ("/v1", "", "/v1//x", "//x"),
    ] {
        let rules = json!({ "config": { "http": { "path": { "removePrefix": remove, "addPrefix": add } } } });
        cluster.api.apply(&[service("svc", &upstream.url(), rules)]).await;
        assert_eq!(cluster.call(&get("svc", path).token(&token)).await.status, 200, "{path}");
        assert_eq!(upstream.only().target, arrives, "{path} -{remove} +{add}");
    }
}

#[tokio::test]
async fn head_options_and_other_methods_pass() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|seen| match seen.method.as_str() {
        "HEAD" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec()),
        _ => answer("200 OK", &[], &seen.method),
    })
    .await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    let head = connection.call(&Call::new("HEAD", "svc", "/").token(&token)).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1234")));
    for method in ["OPTIONS", "PUT", "PATCH", "DELETE", "REPORT"] {
        let answer = connection.call(&Call::new(method, "svc", "/").token(&token)).await;
        assert_eq!(answer.text(), method);
    }
    assert_eq!(connection.call(&post("svc", "/", "").token(&token)).await.text(), "POST");
    assert_eq!(upstream.connections(), 1, "its connection was kept");
}
