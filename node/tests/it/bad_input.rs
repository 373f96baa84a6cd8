//! Bad input of every kind: each has its error, and nothing changes (the issue's "bad input" list; spec: data plane §2, P3).

use octelium_api::control::{ApplyRequest, Change, change};
use prost::Message;
use serde_json::json;
use tonic::Code;

use crate::support::{
    api::violations,
    cluster::Cluster,
    http::get,
    manifest::{self, only, resource, rule, service, workload},
    upstream::Upstream,
};

/// Messages that could be read in two ways, or are too long to be read at all.
#[tokio::test]
async fn a_malformed_request_is_refused_and_closes_the_connection() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    let host = "Host: svc.octelium.test\r\n";
    let post = |headers: &str| format!("POST / HTTP/1.1\r\n{host}{headers}\r\n0\r\n\r\n");
    let get = |headers: &str| format!("GET / HTTP/1.1\r\n{host}{headers}\r\n");
    let cases = [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "content-length beside transfer-encoding"),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400, "content-length beside transfer-encoding"),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "several content-length headers"),
        (post("Content-Length: 5, 5\r\n"), 400, "content-length is not one number"),
        (post("Content-Length: +5\r\n"), 400, "content-length is not one number"),
        (post("Content-Length: 99999999999999999999\r\n"), 400, "content-length is not one number"),
        (post("Transfer-Encoding: chunked, chunked\r\n"), 400, "transfer-encoding is not exactly one chunked"),
        (
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            400,
            "several transfer-encoding headers",
        ),
        (post("Transfer-Encoding: xchunked\r\n"), 400, "transfer-encoding is not exactly one chunked"),
        (post("Transfer-Encoding: gzip\r\n"), 501, "transfer coding is not supported"),
        (post("Transfer-Encoding : chunked\r\n"), 400, "header name"),
        (get("Host: other.octelium.test\r\n"), 400, "several host headers"),
        (get(host), 400, "several host headers"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "host is missing"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400, "host is malformed"),
        ("GET / HTTP/1.1\r\nHost: .\r\n\r\n".to_owned(), 400, "host is malformed"),
        ("GET / HTTP/1.1\r\nHost: .:80\r\n\r\n".to_owned(), 400, "host is malformed"),
        ("GET / HTTP/1.1\r\nHost: svc.octelium.test/x\r\n\r\n".to_owned(), 400, "host is malformed"),
        ("GET / HTTP/1.1\r\nHost: user@svc.octelium.test\r\n\r\n".to_owned(), 400, "host is malformed"),
        (
            "GET http://other.test/ HTTP/1.1\r\nHost: svc.octelium.test\r\n\r\n".to_owned(),
            400,
            "host disagrees with the target",
        ),
        ("GET / HTTP/1.1\nHost: svc.octelium.test\n\n".to_owned(), 400, ""),
        (get("X-Folded: a\r\n b\r\n"), 400, ""),
        (get("X-Null: a\0b\r\n"), 400, ""),
        ("GET / HTTP/2.0\r\nHost: svc.octelium.test\r\n\r\n".to_owned(), 505, "version is not supported"),
        (
            "CONNECT svc.octelium.test:443 HTTP/1.1\r\nHost: svc.octelium.test:443\r\n\r\n".to_owned(),
            501,
            "CONNECT is not supported",
        ),
        (
            "GET /a b HTTP/1.1\r\nHost: svc.octelium.test\r\n\r\n".to_owned(),
            400,
            "target has a byte that is not printable ASCII",
        ),
        ("GET /#a HTTP/1.1\r\nHost: svc.octelium.test\r\n\r\n".to_owned(), 400, "target has a fragment"),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(9000)), 414, "request line is too long"),
        (get(&format!("X-Long: {}\r\n", "a".repeat(40_000))), 431, "head is too long"),
        (get(&"X-Many: 1\r\n".repeat(120)), 431, "too many headers"),
        (get("Expect: wonders\r\n"), 417, "expectation other than 100-continue"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\r\n\r\n".to_owned(), 400, ""),
    ];
    for (bytes, status, reason) in &cases {
        let shown: String = bytes.chars().take(120).collect();
        let mut connection = cluster.connect().await;
        connection.send(bytes).await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, *status, "{shown:?}");
        assert_eq!(answer.body, b"", "{shown:?}");
        assert!(connection.closed().await, "{shown:?}: what follows can't be told from this request");
        assert!(upstream.seen().is_empty(), "{shown:?}");
        let of_case =
            |record: &serde_json::Value| record["error"]["cause"].as_str().is_some_and(|cause| cause.contains(reason));
        let record = cluster.record(&shown, of_case).await;
        assert_eq!(record["error"]["code"], "REQUEST_MALFORMED", "{shown:?}");
        assert_eq!(record["clientAddress"], "127.0.0.1", "{shown:?}");
    }
    let records = cluster.stop().await;
    assert_eq!(records.len(), cases.len(), "one record each");
}

/// P3: refused whatever the Service and whoever asks, before anybody is looked up.
#[tokio::test]
async fn a_path_with_two_readings_is_refused() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    let mut connection = cluster.connect().await;
    for path in [
        "/public/..%2fsecret",
        "/public%2F..%2Fsecret",
        "/public/%2e%2e%2fsecret",
        "/api/users/a%2Fb/../c",
        r"/a\..\b",
        "/a%5c..%5cb",
        "/a%00b",
        "/a%1fb",
        "/a%7fb",
        "/a%zz",
        "/a%2",
        "/a%ff",
    ] {
        for host in ["svc", "nothing"] {
            let answer = connection.call(&get(host, path)).await;
            assert_eq!(answer.short(), (400, "PATH_INVALID"), "{host}{path}");
        }
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(connection.call(&get("svc", "/fine")).await.status, 200, "the connection lives on");
}

/// A text that can't be read is told before anything is sent, with its place.
#[tokio::test]
async fn a_text_that_is_no_manifest_is_told_by_line_and_column() {
    let fine = "kind: Service\nmetadata:\n  name: svc\nspec:\n  mode: HTTP\n  config:\n    upstream:\n      url: http://a.example\n";
    assert_eq!(manifest::read(fine).unwrap().len(), 1);
    for (from, to, expected) in [
        ("kind: Service", "kind: Servise", "test.yaml:1:7: kind: unknown kind `Servise`; did you mean `Service`?"),
        (
            "  mode: HTTP",
            "  mode: HTTP\n  isPublc: true",
            "test.yaml:6:3: spec.isPublc: unknown key; did you mean `isPublic`?",
        ),
        ("  mode: HTTP", "  mode: HTTP\n  port: eighty", "test.yaml:6:9: spec.port: "),
        ("  mode: HTTP", "  mode: HTTP\n  isPublic: 'yes'", "test.yaml:6:13: spec.isPublic: "),
        ("  mode: HTTP", "  mode: HTPP", "test.yaml:5:9: spec.mode: "),
        ("metadata:", "metadata: [", "test.yaml:"),
        ("  name: svc", "  name: svc\n  name: other", "test.yaml:4:3: "),
    ] {
        let text = fine.replacen(from, to, 1);
        let errors = manifest::read(&text).unwrap_err();
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{errors:?}\n{text}");
    }
}

/// One wrong document of many refuses all, and everything that is wrong is told at once.
#[tokio::test]
async fn a_wrong_change_is_refused_as_a_whole_and_says_where() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let url = upstream.url();
    cluster.api.apply(&[service("there", &url, json!({}))]).await;
    let before = cluster.api.versions().await;
    let svc = |more: serde_json::Value| service("svc", &url, more);
    let http = |http: serde_json::Value| svc(json!({ "config": { "http": http } }));
    let bearer = json!({ "bearer": { "fromSecret": "no-such" } });
    for (what, document, field, message) in [
        (
            "a missing Secret",
            http(json!({ "auth": bearer })),
            "spec.config.http.auth.bearer.fromSecret",
            "there is no Secret `no-such`",
        ),
        (
            "a missing Policy",
            svc(json!({ "authorization": { "policies": ["no-such"] } })),
            "spec.authorization.policies[0]",
            "there is no Policy `no-such`",
        ),
        (
            "a missing User",
            resource("Credential", "key", json!({ "type": "AUTH_TOKEN", "user": "no-such" })),
            "spec.user",
            "there is no User `no-such`",
        ),
        (
            "a missing Group",
            resource("User", "bob", json!({ "type": "WORKLOAD", "groups": ["no-such"] })),
            "spec.groups[0]",
            "there is no Group `no-such`",
        ),
        ("a missing Namespace", service("svc.no-such", &url, json!({})), "metadata.name", "no-such"),
        (
            "a typo in an expression",
            svc(only(&[rule("ALLOW", "ctx.user.metadata.name == \"a\" &&\n  ctx.usr.metadata.name == \"b\"")])),
            "spec.authorization.inlinePolicies[0].spec.rules[0].condition.match",
            "line 2, column 7: `ctx` has no field `usr`; did you mean `user`?",
        ),
        (
            "an expression that isn't one",
            svc(only(&[rule("ALLOW", "ctx.user ==")])),
            "spec.authorization.inlinePolicies[0].spec.rules[0].condition.match",
            "line 1, column ",
        ),
        ("a bad scheme", service("svc", "ftp://a.example", json!({})), "spec.config.upstream.url", "scheme `ftp`"),
        ("no URL", service("svc", "a.example", json!({})), "spec.config.upstream.url", "needs a scheme"),
        (
            "a password in the URL",
            service("svc", "http://u:p@a.example", json!({})),
            "spec.config.upstream.url",
            "user or password",
        ),
        ("a path in the URL", service("svc", "http://a.example/x", json!({})), "spec.config.upstream.url", "addPrefix"),
        ("a bad name", service("Svc_1", &url, json!({})), "metadata.name", ""),
        ("a port out of range", svc(json!({ "port": 70_000 })), "spec.port", "out of range"),
        (
            "anonymous and private",
            svc(json!({ "isAnonymous": true, "isPublic": false, "authorization": null })),
            "spec.isAnonymous",
            "needs `isPublic: true`",
        ),
        (
            "policies that nobody evaluates",
            svc(json!({ "isAnonymous": true })),
            "spec.authorization",
            "enableAnonymous",
        ),
        (
            "a header that frames",
            http(json!({ "auth": { "custom": { "header": "Host", "value": { "fromSecret": "x" } } } })),
            "spec.config.http.auth.custom.header",
            "",
        ),
        ("a feature of later", http(json!({ "retry": {} })), "spec.config.http.retry", "not supported yet"),
        (
            "a configuration that isn't there",
            svc(
                json!({ "dynamicConfig": { "configs": [{ "name": "one" }], "rules": [{ "condition": { "matchAny": true }, "configName": "two" }] } }),
            ),
            "spec.dynamicConfig.rules[0].configName",
            "two",
        ),
        (
            "an expression that makes no configuration",
            svc(json!({ "dynamicConfig": { "rules": [{ "condition": { "matchAny": true }, "eval": "'two'" }] } })),
            "spec.dynamicConfig.rules[0].eval",
            "must make a map, and this is string",
        ),
    ] {
        let text =
            manifest::text(&[workload("alice"), document, service("there", "http://changed.example", json!({}))]);
        let status = cluster.api.try_apply(&text).await.expect_err(what);
        let found = violations(&status);
        let expected = format!("changes[1].{field}");
        assert!(found.iter().any(|(path, text)| *path == expected && text.contains(message)), "{what}: {found:?}");
        assert!(status.message().contains(&expected), "{what}: {status:?}");
        assert_eq!(cluster.api.versions().await, before, "{what}");
    }
    // Two of one name, and two mistakes in one change.
    let twice = manifest::text(&[svc(json!({})), svc(json!({ "port": 81 }))]);
    let errors = manifest::read(&twice).unwrap_err();
    assert_eq!(errors, ["test.yaml:3:38: metadata.name: Service `svc.default` is already given at test.yaml:1:38"]);
    // The server says so too, to clients that don't.
    let mut changes = manifest::read(&svc(json!({})).to_string()).unwrap();
    changes.extend(manifest::read(&svc(json!({ "port": 81 })).to_string()).unwrap());
    let status = cluster.api.control().apply(ApplyRequest { changes, ..ApplyRequest::default() }).await.unwrap_err();
    assert_eq!(
        violations(&status),
        [("changes[1].metadata.name".to_owned(), "Service `svc.default` is changed twice".to_owned())]
    );
    let two = manifest::text(&[
        service("one", "ftp://x", json!({})),
        svc(json!({ "authorization": { "policies": ["no-such"] } })),
    ]);
    let found = violations(&cluster.api.try_apply(&two).await.unwrap_err());
    let fields: Vec<_> = found.iter().map(|(field, _)| field.split('.').next().unwrap()).collect();
    assert!(fields.contains(&"changes[0]"), "{found:?}");
    assert_eq!(cluster.api.versions().await, before);
}

/// What a client sends that isn't ours, or newer than this server.
#[tokio::test]
async fn unknown_kinds_and_fields_are_refused() {
    let cluster = Cluster::start().await;
    let before = cluster.api.versions().await;
    let user = &manifest::read(&workload("alice").to_string()).unwrap()[0];
    let Some(change::Change::Put(bytes)) = user.change.clone() else { panic!("a put") };
    // Field 99, a varint.
    let unknown = [bytes.as_slice(), &[0x98, 0x06, 0x01]].concat();
    let change = |kind: &str, change| Change { kind: kind.to_owned(), change, ..Change::default() };
    for (what, change, field) in [
        ("an unknown kind", change("Gadget", Some(change::Change::Put(bytes.clone()))), "changes[0].kind"),
        ("an internal kind", change("PolicyTrigger", Some(change::Change::Put(bytes.clone()))), "changes[0].kind"),
        ("nothing", change("User", None), "changes[0]"),
        ("an unknown field", change("User", Some(change::Change::Put(unknown.clone()))), "changes[0].put"),
        ("no message", change("User", Some(change::Change::Put(vec![0xff; 9]))), "changes[0].put"),
    ] {
        let request = ApplyRequest { changes: vec![change], ..ApplyRequest::default() };
        let status = cluster.api.control().apply(request).await.expect_err(what);
        let found = violations(&status);
        assert_eq!(found.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [field], "{what}: {found:?}");
    }
    // An unknown field of the call itself: the message is made by hand.
    let mut bytes = ApplyRequest::default().encode_to_vec();
    bytes.extend([0x98, 0x06, 0x01]);
    let status = cluster.api.raw("/octelium.control.v1.ControlService/Apply", bytes).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("99"), "{status:?}");
    assert_eq!(cluster.api.versions().await, before);
}
