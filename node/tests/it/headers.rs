//! What configurations do to headers (spec: data plane §2.9, §5.6, §5.8, §5.9, §12.6 H1, H5, H6, H9, H10).

use base64::{Engine, engine::general_purpose::STANDARD};
use octelium_node::config::Settings;
use serde_json::{Value, json};

use crate::support::{
    api::violations,
    cluster::Cluster,
    http::{Answer, Call, get, post},
    manifest::{only, rule, secret, service},
    upstream::{Reply, Seen, Upstream, answer},
};

fn with_header(url: &str, header: Value) -> Value {
    service("svc", url, json!({ "config": { "http": { "header": header } } }))
}

/// All values of a header, in their order.
fn sent<'s>(seen: &'s Seen, name: &str) -> Vec<&'s str> {
    let found = seen.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str()).collect()
}

fn answered<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
}

/// H1: written values and expressions, on both sides; additions first, then removals.
#[tokio::test]
async fn rules_add_and_remove_headers_on_both_sides() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|_| {
        answer("200 OK", &[("X-Powered-By", "old"), ("X-Listed", "theirs"), ("X-Set", "theirs"), ("X-Kept", "k")], "ok")
    })
    .await;
    let additions = |prefix: &str| {
        json!([
            { "key": "X-Set", "value": format!("{prefix}-set") },
            { "key": "X-Listed", "value": "ours", "append": true },
            { "key": "X-Listed", "eval": r#""by-" + ctx.user.metadata.name"#, "append": true },
            { "key": "X-Service", "eval": "ctx.service.metadata.name" },
            { "key": "X-Path", "eval": r#"ctx.request.http.method + " " + ctx.request.http.path"# },
            { "key": "X-Set-Then-Removed", "value": "v" },
        ])
    };
    let header = json!({
        "addRequestHeaders": additions("request"),
        "removeRequestHeaders": ["x-set-then-removed", "X-Internal", "Accept"],
        "addResponseHeaders": additions("response"),
        "removeResponseHeaders": ["X-SET-THEN-REMOVED", "X-Powered-By"],
    });
    cluster.api.apply(&[with_header(&upstream.url(), header)]).await;
    let token = cluster.api.caller("alice").await;
    let call = get("svc", "/a?b=c")
        .token(&token)
        .header("X-Set", "callers")
        .header("x_set", "another header")
        .header("X-Listed", "callers")
        .header("X-Internal", "secret")
        .header("X-Kept", "k")
        .header("Accept", "*/*");
    let answer = cluster.call(&call).await;
    let seen = upstream.only();
    let request = |name: &str| sent(&seen, name);
    let response = |name: &str| answered(&answer, name);
    for (name, in_request, in_response) in [
        ("x-set", &["request-set"][..], &["response-set"][..]),
        ("x-listed", &["callers", "ours", "by-alice"], &["theirs", "ours", "by-alice"]),
        ("x-service", &["svc.default"], &["svc.default"]),
        ("x-path", &["GET /a"], &["GET /a"]),
        ("x-set-then-removed", &[], &[]),
        ("x-internal", &[], &[]),
        ("x-powered-by", &[], &[]),
        ("accept", &[], &[]),
        ("x-kept", &["k"], &["k"]),
        ("server", &[], &["octelium"]),
    ] {
        assert_eq!(request(name), in_request, "{name} of the request");
        assert_eq!(response(name), in_response, "{name} of the response");
    }
    assert_eq!(request("x_set"), Vec::<&str>::new(), "to many upstreams this is another spelling of x-set");
}

/// The credential of `auth` is set last: no rule replaces or removes it.
#[tokio::test]
async fn no_rule_touches_the_upstreams_credential() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let spec = json!({ "config": { "http": {
        "auth": { "bearer": { "fromSecret": "key" } },
        "header": {
            "addRequestHeaders": [{ "key": "Authorization", "value": "Bearer rule" }],
            "removeRequestHeaders": ["Authorization", "User-Agent"],
        },
    }}});
    cluster.api.apply(&[secret("key", "s3cret"), service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    assert_eq!(cluster.call(&get("svc", "/").token(&token).header("User-Agent", "tester/1")).await.status, 200);
    let seen = upstream.only();
    assert_eq!(sent(&seen, "authorization"), ["Bearer s3cret"]);
    assert_eq!(sent(&seen, "user-agent"), ["octelium"]);

    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    for (call, agent) in [(get("svc", "/"), "octelium"), (get("svc", "/").header("User-Agent", "tester/1"), "tester/1")]
    {
        assert_eq!(cluster.call(&call.token(&token)).await.status, 200);
        assert_eq!(sent(&upstream.only(), "user-agent"), [agent]);
    }
}

/// What can't be made isn't left out: nothing is sent.
#[tokio::test]
async fn an_expression_that_makes_no_value_stops_the_request() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let token = cluster.api.caller("alice").await;
    let add = |member: &str, eval: &str| json!({ member: [{ "key": "X-Made", "eval": eval }] });
    let host = |eval: &str| json!({ "host": { "eval": eval } });
    for (header, cause) in [
        (add("addRequestHeaders", r#"ctx.request.http.headers["x-absent"]"#), "no such key"),
        (add("addResponseHeaders", r#"ctx.request.http.headers["x-absent"]"#), "no such key"),
        (add("addRequestHeaders", "ctx.user.spec.attrs.team"), "no such key"),
        (add("addRequestHeaders", "dyn(1 + 1)"), "makes int, not a string"),
        (add("addRequestHeaders", "dyn(ctx.user.metadata.name == 'alice')"), "makes bool, not a string"),
        (add("addRequestHeaders", "dyn(ctx.user)"), "makes map, not a string"),
        (add("addRequestHeaders", "dyn([ctx.user.metadata.name])"), "makes list, not a string"),
        (add("addRequestHeaders", "string(1 / (size(ctx.user.metadata.name) - 5))"), "division by zero"),
        (add("addRequestHeaders", r#""a\r\nX-Octelium-Auth: b""#), "printable ASCII"),
        (add("addResponseHeaders", r#""a\nb""#), "printable ASCII"),
        (add("addResponseHeaders", "'b '"), "printable ASCII"),
        (
            add("addRequestHeaders", &format!("'{}' + '{}'", "a".repeat(4500), "b".repeat(4500))),
            "9000 bytes; at most 8192",
        ),
        (host(r#"ctx.request.http.headers["x-absent"]"#), "no such key"),
        (host(r#""""#), "not a host"),
        (host(r#""a b""#), "not a host"),
        (host(r#""user@host""#), "not a host"),
        (host(r#""host/path""#), "not a host"),
        (host("dyn(7)"), "makes int, not a string"),
    ] {
        cluster.api.apply(&[with_header(&upstream.url(), header.clone())]).await;
        let refused = cluster.call(&get("svc", "/").token(&token)).await;
        assert_eq!(refused.short(), (502, "HEADER_INVALID"), "{header}");
        let record = cluster.record_of(&refused).await;
        let found = record["error"]["cause"].as_str().unwrap();
        assert!(found.contains(cause), "{header}: {found}");
        assert_eq!(record["entry"]["common"]["status"], "ALLOWED", "the caller did nothing wrong");
    }
    assert!(upstream.seen().is_empty());
}

/// What an expression reads is there to be read, in every configuration that could be chosen.
#[tokio::test]
async fn an_expression_can_read_the_body() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    let by_tenant = json!({ "addRequestHeaders": [{ "key": "X-Tenant", "eval": "ctx.request.http.bodyMap.tenant" }] });
    let chosen = service(
        "chosen",
        &upstream.url(),
        json!({ "dynamicConfig": {
            "configs": [{ "name": "v2", "upstream": { "url": upstream.url() }, "http": { "header": by_tenant } }],
            "rules": [{ "condition": { "match": r#"ctx.request.http.path == "/v2""# }, "configName": "v2" }],
        }}),
    );
    cluster.api.apply(&[with_header(&upstream.url(), by_tenant), chosen]).await;
    let token = cluster.api.caller("alice").await;
    for host in ["svc", "chosen"] {
        for (body, expected, tenant) in [
            (r#"{"tenant":"acme"}"#, (200, ""), Some("acme")),
            (r#"{"tenant":7}"#, (502, "HEADER_INVALID"), None),
            ("{}", (502, "HEADER_INVALID"), None),
            ("", (502, "HEADER_INVALID"), None),
            ("[]", (400, "BODY_INVALID"), None),
        ] {
            let answer = cluster.call(&post(host, "/v2", body).token(&token)).await;
            assert_eq!(answer.short(), expected, "{host} {body}");
            if let Some(tenant) = tenant {
                let seen = upstream.only();
                assert_eq!((sent(&seen, "x-tenant"), seen.body.as_slice()), (vec![tenant], body.as_bytes()));
            }
        }
    }
    assert!(upstream.seen().is_empty());
}

/// What is wrong is said before anything is stored: where, and why.
#[tokio::test]
async fn rules_that_can_not_work_are_refused() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let add = |key: &str| json!({ "addRequestHeaders": [{ "key": key, "value": "v" }] });
    for (header, field, reason) in [
        (add("Content-Length"), "addRequestHeaders[0].key", "the framing of a message"),
        (add("transfer_encoding"), "addRequestHeaders[0].key", "the framing of a message"),
        (add("Host"), "addRequestHeaders[0].key", "set by `header.host`"),
        (add("X-Octelium-Session-Uid"), "addRequestHeaders[0].key", "belong to the gateway"),
        (add("X-Forwarded-For"), "addRequestHeaders[0].key", "decided by `header.forwardedMode`"),
        (json!({ "addRequestHeaders": [{ "key": "X-A" }] }), "addRequestHeaders[0]", "needs `value` or `eval`"),
        (
            json!({ "addRequestHeaders": [{ "key": "X-A", "value": "a\r\nb" }] }),
            "addRequestHeaders[0].value",
            "printable",
        ),
        (
            json!({ "addRequestHeaders": [{ "key": "X-A", "eval": "ctx.usr.name" }] }),
            "addRequestHeaders[0].eval",
            "1:5",
        ),
        (json!({ "addResponseHeaders": [{ "key": "X-A", "eval": "1 +" }] }), "addResponseHeaders[0].eval", ""),
        (
            json!({ "addRequestHeaders": [{ "key": "X-A", "eval": "size(ctx.user.metadata.name)" }] }),
            "addRequestHeaders[0].eval",
            "must make a string, and this is int",
        ),
        (json!({ "host": { "eval": "7" } }), "host.eval", "must make a string, and this is int"),
        (json!({ "host": { "eval": "nothing.known" } }), "host.eval", ""),
        (json!({ "host": { "value": "a/b" } }), "host.value", "not a host"),
        (json!({ "removeResponseHeaders": ["Server"] }), "removeResponseHeaders[0]", "the gateway itself"),
    ] {
        let status =
            cluster.api.try_apply(&with_header(&upstream.url(), header.clone()).to_string()).await.unwrap_err();
        let found = violations(&status);
        assert_eq!(found[0].0, format!("changes[0].spec.config.http.header.{field}"), "{header}");
        assert!(found[0].1.contains(reason), "{header}: {found:?}");
    }
}

/// H6: rules for responses hold however the answer is made, once, and leave its status alone.
#[tokio::test]
async fn rules_for_responses_hold_for_every_answer_of_the_configuration() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/teapot" => answer("418 I'm a teapot", &[], "short and stout"),
        "/empty" => answer("200 OK", &[], ""),
        "/none" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/unchanged" => Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n".to_vec()),
        "/chunked" => {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec())
        }
        "/error" => answer("502 Bad Gateway", &[], "its own"),
        "/closes" => Reply::Last(Vec::new()),
        _ => answer("200 OK", &[("X-Once", "theirs"), ("Server", "nginx")], "ok"),
    })
    .await;
    let header = json!({ "addResponseHeaders": [
        { "key": "X-Once", "value": "ours", "append": true },
        { "key": "Cache-Control", "value": "public, max-age=60" },
    ] });
    let with = with_header(&upstream.url(), header);
    cluster.api.apply(&[with]).await;
    let token = cluster.api.caller("alice").await;
    for (path, status, once) in [
        ("/teapot", 418, &["ours"][..]),
        ("/empty", 200, &["ours"]),
        ("/none", 204, &["ours"]),
        ("/unchanged", 304, &["ours"]),
        ("/chunked", 200, &["ours"]),
        ("/error", 502, &["ours"]),
        ("/closes", 502, &["ours"]),
        ("/", 200, &["theirs", "ours"]),
    ] {
        let answer = cluster.call(&get("svc", path).token(&token)).await;
        assert_eq!((answer.status, answered(&answer, "x-once")), (status, once.to_vec()), "{path}");
        assert_eq!(answer.header("server"), Some("octelium"), "{path}");
        let kept = if path == "/closes" { "no-store" } else { "public, max-age=60" };
        assert_eq!(answer.header("cache-control"), Some(kept), "{path}: nobody keeps a refusal of the gateway");
    }
    let head = cluster.connect().await.call(&Call::new("HEAD", "svc", "/").token(&token)).await;
    assert_eq!(answered(&head, "x-once"), ["theirs", "ours"]);
    // Before a configuration is chosen there are no rules.
    assert!(answered(&cluster.call(&get("svc", "/")).await, "x-once").is_empty());
}

const FORWARDED: [&str; 10] = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "X-Forwarded-Scheme",
    "X-Real-IP",
];

/// H9.
#[tokio::test]
async fn the_mode_decides_what_the_upstream_learns_about_where_a_request_came_from() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let token = cluster.api.caller("alice").await;
    let mut call = get("svc", "/").token(&token);
    for name in FORWARDED {
        call = call.header(name, "192.0.2.7");
        if name.contains('-') {
            call = call.header(&name.replace('-', "_"), "forged");
        }
    }
    let call = call
        .header("X-Forwarded-For", "192.0.2.8")
        .header("X-Forwarded-Client-Cert", "forged")
        .header("x_forwarded_client_cert", "forged")
        .header("X-Envoy-External-Address", "forged")
        .header("X_ENVOY_Peer", "forged");
    for mode in [Value::Null, json!("UNSET"), json!("DROP"), json!("OBFUSCATE"), json!("TRANSPARENT")] {
        cluster.api.apply(&[with_header(&upstream.url(), json!({ "forwardedMode": mode }))]).await;
        assert_eq!(cluster.call(&call).await.status, 200, "{mode}");
        let seen = upstream.only();
        assert!(!seen.text().contains("forged"), "{mode}: {seen:?}");
        match mode.as_str() {
            Some("TRANSPARENT") => {
                for name in FORWARDED {
                    let expected: &[_] =
                        if name == "X-Forwarded-For" { &["192.0.2.7", "192.0.2.8"] } else { &["192.0.2.7"] };
                    assert_eq!(sent(&seen, name), expected, "{name}");
                }
            }
            Some("OBFUSCATE") => {
                assert!(!seen.text().contains("192.0.2."), "{seen:?}");
                assert_eq!(sent(&seen, "x-forwarded-for"), ["10.0.0.1"]);
                assert_eq!(sent(&seen, "x-real-ip"), ["10.0.0.1"]);
                assert_eq!(sent(&seen, "x-forwarded-proto"), ["https"], "a public Service is reached over https");
                assert_eq!(sent(&seen, "x-forwarded-host"), ["svc.octelium.test"]);
                let parts: Vec<_> = sent(&seen, "forwarded")[0].split(';').collect();
                let [of, by, "proto=https", "host=svc.octelium.test"] = parts[..] else { panic!("{parts:?}") };
                let made_up = |text: &str, name: &str, digits: usize| {
                    let text = text.strip_prefix(&format!("{name}=_octelium-")).unwrap_or_else(|| panic!("{text}"));
                    assert!(text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
                };
                made_up(of, "for", 8);
                made_up(by, "by", 6);
                for name in ["X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix"] {
                    assert_eq!(sent(&seen, name), [""; 0], "{name}");
                }
                assert_eq!(cluster.call(&call).await.status, 200);
                let again = upstream.only();
                let other: Vec<_> = sent(&again, "forwarded")[0].split(';').collect();
                assert!(other[0] != of && other[1] == by, "{parts:?} {other:?}");
            }
            _ => {
                for name in FORWARDED {
                    assert_eq!(sent(&seen, name), [""; 0], "{mode} {name}");
                }
            }
        }
    }
}

/// H10.
#[tokio::test]
async fn the_host_is_the_upstreams_unless_another_is_chosen() {
    let upstream = Upstream::ok().await;
    let resolve = Some(vec![format!("api.example.com={}", upstream.address)]);
    let cluster = Cluster::with(Settings { resolve, ..Settings::default() }).await;
    let token = cluster.api.caller("alice").await;
    for (url, host, expected) in [
        ("http://api.example.com", Value::Null, "api.example.com"),
        ("http://api.example.com:8080", Value::Null, "api.example.com:8080"),
        ("http://api.example.com", json!({ "preserve": false }), "api.example.com"),
        ("http://api.example.com", json!({ "preserve": true }), "svc.octelium.test"),
        ("http://api.example.com", json!({ "value": "tenant.example.com:81" }), "tenant.example.com:81"),
        (
            "http://api.example.com",
            json!({ "eval": r#"ctx.user.metadata.name + ".example.com""# }),
            "alice.example.com",
        ),
    ] {
        cluster.api.apply(&[with_header(url, json!({ "host": host }))]).await;
        // What the caller wrote doesn't count, as long as it leads to the Service.
        for written in ["svc.octelium.test", "svc.default.octelium.test:1234"] {
            let call = get(written, "/").token(&token).header("X-Forwarded-Host", "forged");
            assert_eq!(cluster.call(&call).await.status, 200, "{host}");
            assert_eq!(sent(&upstream.only(), "host"), [expected], "{host}");
        }
    }
}

/// §5.6 row 5, with the repair: a token of the gateway is no upstream's, however it is carried.
#[tokio::test]
async fn the_callers_authorization_is_passed_on_only_where_asked_and_never_with_a_token_of_ours() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let alice = cluster.api.login("alice", json!({}), &[]).await;
    let (access, refresh, shown) = (&alice.access, &alice.refresh, &alice.shown);
    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let by_header = |value: &str| get("svc", "/").header("X-Octelium-Auth", access).header("Authorization", value);
    let theirs = "Bearer theirs";
    let apply = async |mode: Value, is_anonymous: bool| {
        let mut service = with_header(&upstream.url(), json!({ "authorizationMode": mode }));
        if is_anonymous {
            service["spec"]["isAnonymous"] = json!(true);
            service["spec"].as_object_mut().unwrap().remove("authorization");
        }
        cluster.api.apply(&[service]).await;
    };
    for (mode, is_anonymous, is_passed) in [
        (Value::Null, false, false),
        (json!("AUTHORIZATION_MODE_UNSET"), false, false),
        (json!("DELETE"), false, false),
        (json!("PASS"), false, true),
        (Value::Null, true, true),
        (json!("PASS"), true, true),
        (json!("DELETE"), true, false),
    ] {
        apply(mode.clone(), is_anonymous).await;
        for value in [theirs, "Basic dXNlcjpwdw==", "Digest username=\"u\"", "opaque"] {
            assert_eq!(cluster.call(&by_header(value)).await.status, 200, "{mode} {value}");
            let expected: &[_] = if is_passed { &[value] } else { &[] };
            assert_eq!(sent(&upstream.only(), "authorization"), expected, "{mode} {is_anonymous} {value}");
        }
        for value in [
            &format!("Bearer {access}"),
            &format!("bearer  {access}"),
            &format!("Bearer {refresh}"),
            &format!("Bearer {shown}"),
            &format!("token {access}"),
            &basic("user", access),
            &basic(shown, ""),
            // Forged, but nobody else's.
            &format!("Bearer {}A", &access[..access.len() - 1]),
        ] {
            assert_eq!(cluster.call(&by_header(value)).await.status, 200, "{mode} {value}");
            let seen = upstream.only();
            assert_eq!(sent(&seen, "authorization"), [""; 0], "{mode} {is_anonymous} {value}");
            assert!(![access, refresh, shown].iter().any(|token| seen.text().contains(token.as_str())), "{seen:?}");
        }
    }
    apply(json!("PASS"), false).await;
    assert_eq!(cluster.call(&get("svc", "/").token(access)).await.status, 200);
    assert_eq!(sent(&upstream.only(), "authorization"), [""; 0], "what logged the caller in");
}

/// What logs a caller in is not there for rules and expressions either: they could carry it on.
#[tokio::test]
async fn no_expression_sees_a_credential_of_the_gateway() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let rules = [rule(
        "ALLOW",
        r#"ctx.request.http.headersAll.all(name, ctx.request.http.headersAll[name].all(value, !value.contains("octelium_auth"))) && !("x-octelium-auth" in ctx.request.http.headers) && !("authorization" in ctx.request.http.headers)"#,
    )];
    cluster.api.apply(&[service("svc", &upstream.url(), only(&rules))]).await;
    let token = cluster.api.caller("alice").await;
    for call in [
        get("svc", "/").token(&token),
        get("svc", "/").header("X-Octelium-Auth", &token).header("Authorization", &format!("Bearer {token}")),
        get("svc", "/").header("Cookie", &format!("a=1; octelium_auth={token}")),
    ] {
        assert_eq!(cluster.call(&call).await.short(), (200, ""), "{call:?}");
    }
    let theirs = get("svc", "/").header("X-Octelium-Auth", &token).header("Authorization", "Bearer theirs");
    assert_eq!(cluster.call(&theirs).await.short(), (403, "DENIED"), "another's is there to be judged");
}

/// An upstream that could set the gateway's cookies could log callers in as somebody else.
#[tokio::test]
async fn an_upstream_sets_no_cookie_of_the_gateway() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|_| {
        let cookie = "Set-Cookie";
        answer(
            "200 OK",
            &[(cookie, "octelium_auth=forged; Path=/"), (cookie, "a=1"), (cookie, "octelium_rt=forged")],
            "",
        )
    })
    .await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let answer = cluster.call(&get("svc", "/").token(&token)).await;
    assert_eq!(answered(&answer, "set-cookie"), ["a=1"]);
}

/// D7: a rule that sees only the first value could be passed by a second one.
#[tokio::test]
async fn rules_see_every_value_of_headers_and_parameters() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let rules = [
        rule("ALLOW", "true"),
        rule(
            "DENY",
            r#""x-role" in ctx.request.http.headersAll && ctx.request.http.headersAll["x-role"].exists(value, value == "admin")"#,
        ),
        rule(
            "DENY",
            r#""role" in ctx.request.http.queryParamsAll && "admin" in ctx.request.http.queryParamsAll["role"]"#,
        ),
    ];
    cluster.api.apply(&[service("svc", &upstream.url(), only(&rules))]).await;
    let token = cluster.api.caller("alice").await;
    for (call, status) in [
        (get("svc", "/"), 200),
        (get("svc", "/?role=user").header("X-Role", "user"), 200),
        (get("svc", "/").header("X-Role", "user").header("X-Role", "admin"), 403),
        (get("svc", "/").header("X-Role", "user").header("x-ROLE", "admin"), 403),
        (get("svc", "/?role=user&role=admin"), 403),
        (get("svc", "/?role=user;role=admin"), 403),
        (get("svc", "/?role=user&r%6Fle=adm%69n"), 403),
    ] {
        assert_eq!(cluster.call(&call.clone().token(&token)).await.status, status, "{call:?}");
    }
}
