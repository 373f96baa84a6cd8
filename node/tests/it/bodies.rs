//! Bodies: streamed unless somebody must read them, and then read within limits (spec: data plane §6, §12.2).

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{
    cluster::Cluster,
    http::{get, post},
    manifest::{only, rule, service},
    soon,
    upstream::Upstream,
};

/// The head of an upload.
fn head(host: &str, path: &str, token: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {host}.octelium.test\r\nX-Octelium-Auth: {token}\r\n{framing}\r\n\r\n")
}

const CHUNKED: &str = "Transfer-Encoding: chunked";

const ADULT: &str = "ctx.request.http.bodyMap.age > 18";

/// B1, B4: the rule sees the object, the upstream gets the bytes.
#[tokio::test]
async fn a_rule_reads_the_json_body_and_the_upstream_gets_the_same_bytes() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    cluster.api.apply(&[service("svc", &upstream.url(), only(&[rule("ALLOW", ADULT)]))]).await;
    let token = cluster.api.caller("alice").await;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    // Above what a worker parses itself.
    let large = |rest: &str| format!(r#"{{"x": "{}", "age": 19{rest}}}"#, "x".repeat(200 << 10)).into_bytes();
    let utf16: Vec<u8> = r#"{"age":19}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (what, body, expected) in [
        ("enough", br#"{"age": 19,  "name":"\u00e9" }"#.to_vec(), (200, "")),
        ("as a fraction", br#"{"age": 18.5}"#.to_vec(), (200, "")),
        ("too little", br#"{"age": 18}"#.to_vec(), (403, "DENIED")),
        ("missing", br#"{"name": "x"}"#.to_vec(), (403, "DENIED")),
        ("of another type", br#"{"age": "19"}"#.to_vec(), (403, "DENIED")),
        ("no body", Vec::new(), (403, "DENIED")),
        ("twice", br#"{"age": 1, "age": 19}"#.to_vec(), (400, "BODY_INVALID")),
        ("twice by an escape", br#"{"age": 1, "\u0061ge": 19}"#.to_vec(), (400, "BODY_INVALID")),
        ("twice deeper", br#"{"age": 19, "o": {"x": 1, "x": 2}}"#.to_vec(), (400, "BODY_INVALID")),
        ("a list", b"[19]".to_vec(), (400, "BODY_INVALID")),
        ("a number", b"19".to_vec(), (400, "BODY_INVALID")),
        ("broken", br#"{"age": 19"#.to_vec(), (400, "BODY_INVALID")),
        ("with more behind", br#"{"age": 19}{"age": 1}"#.to_vec(), (400, "BODY_INVALID")),
        ("deep", deep.into_bytes(), (400, "BODY_INVALID")),
        ("large", large(""), (200, "")),
        ("large, and twice", large(r#", "age": 1"#), (400, "BODY_INVALID")),
        ("not UTF-8", b"{\"age\": 19, \"x\": \"\xff\"}".to_vec(), (400, "BODY_INVALID")),
        ("UTF-16", utf16, (400, "BODY_INVALID")),
    ] {
        let answer = cluster.call(&post("svc", "/", &body).token(&token)).await;
        assert_eq!(answer.short(), expected, "{what}");
        if answer.status == 200 {
            assert_eq!((upstream.only().body, answer.body), (body.clone(), body), "{what}");
        }
        assert!(upstream.seen().is_empty(), "{what}");
    }
    // Sent in chunks, it is read just so, and no other framing reaches the upstream.
    let mut connection = cluster.connect().await;
    let chunked = head("svc", "/", &token, CHUNKED);
    connection.send(format!("{chunked}4\r\n{{\"ag\r\n7;x=y\r\ne\": 19}}\r\n0\r\n\r\n")).await;
    assert_eq!(connection.answer().await.short(), (200, ""));
    assert_eq!(upstream.only().body, br#"{"age": 19}"#);
}

/// 415: what can't be read isn't shown as if it weren't there.
#[tokio::test]
async fn an_encoded_body_is_refused_where_a_rule_reads_it() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    let negative = only(&[rule("ALLOW", "true"), rule("DENY", r#"ctx.request.http.bodyMap.role == "admin""#)]);
    cluster.api.apply(&[service("svc", &upstream.url(), negative), service("blind", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let body = br#"{"role": "admin"}"#;
    for encoding in ["gzip", "br", "identity, gzip", "x-unknown"] {
        let call = |host: &str| post(host, "/", body).header("Content-Encoding", encoding).token(&token);
        assert_eq!(cluster.call(&call("svc")).await.short(), (415, "BODY_ENCODED"), "{encoding}");
        assert_eq!(cluster.call(&call("blind")).await.short(), (200, ""), "{encoding}");
        upstream.only();
    }
    let call = post("svc", "/", body).header("Content-Encoding", "identity").token(&token);
    assert_eq!(cluster.call(&call).await.short(), (403, "DENIED"));
    // Whatever its Content-Type says.
    let call = post("svc", "/", body).header("Content-Type", "text/plain").token(&token);
    assert_eq!(cluster.call(&call).await.short(), (403, "DENIED"));
    assert_eq!(cluster.call(&get("svc", "/").header("Content-Encoding", "gzip").token(&token)).await.status, 200);
}

/// 413, by the declared length before a byte is read, and by count where none is declared.
#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    let limited = |limit: u32| json!({ "config": { "http": { "enableRequestBuffering": true, "body": { "maxRequestSize": limit } } } });
    cluster
        .api
        .apply(&[
            service("rule", &upstream.url(), only(&[rule("ALLOW", "ctx.request.http.bodyMap.x != null")])),
            service("small", &upstream.url(), limited(10)),
        ])
        .await;
    let token = cluster.api.caller("alice").await;
    for (host, length) in [("rule", (2 << 20) + 1), ("small", 11), ("rule", usize::MAX >> 1)] {
        let mut connection = cluster.connect().await;
        connection.send(head(host, "/", &token, &format!("Content-Length: {length}"))).await;
        assert_eq!(connection.answer().await.short(), (413, "BODY_TOO_LARGE"), "{host}: before any of it");
    }
    for (host, chunk, count) in [("rule", 64 << 10, 33), ("small", 6, 2)] {
        let mut connection = cluster.connect().await;
        connection.send(head(host, "/", &token, CHUNKED)).await;
        for _ in 0..count {
            connection.send(format!("{chunk:x}\r\n{}\r\n", "a".repeat(chunk))).await;
        }
        assert_eq!(connection.answer().await.short(), (413, "BODY_TOO_LARGE"), "{host}: while it comes");
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(cluster.call(&post("small", "/", "0123456789").token(&token)).await.text(), "0123456789");
}

/// B2: to a Service whose body nobody reads, the first part arrives before the last is sent.
#[tokio::test]
async fn an_upload_is_streamed_where_no_rule_reads_it() {
    let cluster = Cluster::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    cluster.api.apply(&[service("svc", &url, only(&[rule("ALLOW", r#"ctx.request.http.path == "/up""#)]))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    connection.send(head("svc", "/up", &token, "Content-Length: 10") + "first").await;

    let (mut stream, _) = soon("the upload", upstream.accept()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nfirst") {
        let mut chunk = [0; 4096];
        let read = soon("the first part", stream.read(&mut chunk)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..read]);
    }
    connection.send("-last").await;
    let mut last = [0; 5];
    soon("the last part", stream.read_exact(&mut last)).await.unwrap();
    assert_eq!(&last, b"-last");

    // And the answer, too, comes as it is sent.
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
    while !connection.received().contains("first") {
        assert!(connection.more().await > 0);
    }
    stream.write_all(b"5\r\n-last\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(connection.answer().await.text(), "first-last");
}

/// Where a rule reads it, the upstream hears nothing before all of it was there and the rule said yes.
#[tokio::test]
async fn nothing_is_sent_on_before_a_body_that_a_rule_reads_is_whole() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    cluster.api.apply(&[service("svc", &upstream.url(), only(&[rule("ALLOW", ADULT)]))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    connection.send(head("svc", "/cut", &token, "Content-Length: 100") + r#"{"age": 19, "#).await;
    drop(connection);
    let record =
        cluster.record("the cut upload", |record| record["entry"]["info"]["http"]["request"]["path"] == "/cut").await;
    assert_eq!(record["entry"]["common"]["status"], "DENIED");
    assert_eq!(upstream.connections(), 0);

    let mut connection = cluster.connect().await;
    connection.send(head("svc", "/cut", &token, CHUNKED) + "b\r\n{\"age\": 19}\r\nno chunk\r\n").await;
    assert_eq!(connection.answer().await.short(), (400, "BODY_BROKEN"));
    assert_eq!(upstream.connections(), 0);
}

/// Who isn't let in can't make the node read or hold a body.
#[tokio::test]
async fn a_refused_caller_is_not_asked_for_the_body() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    cluster.api.apply(&[service("svc", &upstream.url(), only(&[rule("ALLOW", ADULT)]))]).await;
    let token = cluster.api.caller("alice").await;
    let head = "POST / HTTP/1.1\r\nHost: svc.octelium.test\r\nExpect: 100-continue\r\nContent-Length: 11\r\n";
    let mut connection = cluster.connect().await;
    connection.send(format!("{head}\r\n")).await;
    assert_eq!(connection.answer().await.short(), (401, "UNAUTHENTICATED"));

    let mut connection = cluster.connect().await;
    connection.send(format!("{head}X-Octelium-Auth: {token}\r\n\r\n")).await;
    assert_eq!(connection.answer().await.status, 100);
    connection.send(r#"{"age": 19}"#).await;
    assert_eq!(connection.answer().await.short(), (200, ""));
    assert_eq!(upstream.only().header("expect"), None);
}

/// A16, T: 8 MiB there and back, with a declared length and without, through TLS too.
#[tokio::test]
async fn large_bodies_pass_intact_both_ways() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    let buffered = json!({ "config": { "http": { "enableRequestBuffering": true } } });
    cluster.api.apply(&[service("svc", &upstream.url(), json!({})), service("held", &upstream.url(), buffered)]).await;
    let token = cluster.api.caller("alice").await;
    let body: Vec<u8> = (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for host in ["svc", "held"] {
        for is_tls in [false, true] {
            let mut connection = if is_tls { cluster.connect_tls(host).await } else { cluster.connect().await };
            let answer = connection.call(&post(host, "/", &body).token(&token)).await;
            assert!(
                answer.status == 200 && answer.body == body,
                "{host} {is_tls}: {} {}",
                answer.status,
                answer.body.len()
            );
            assert!(upstream.only().body == body);
        }
    }
    let mut connection = cluster.connect().await;
    connection.send(head("svc", "/", &token, CHUNKED)).await;
    for chunk in body.chunks(100_000) {
        connection.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
    }
    connection.send("0\r\n\r\n").await;
    assert!(connection.answer().await.body == body);
}

/// B3: byte for byte (in base64, as JSON has it), however it was framed.
#[tokio::test]
async fn rules_see_the_bytes_of_a_buffered_body() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    let expression = r#"ctx.request.http.body == "AP97ImEiOjF9" && string(ctx.request.http.size) == "9""#;
    let mut spec = only(&[rule("ALLOW", expression)]);
    spec["config"] = json!({ "http": { "enableRequestBuffering": true } });
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    let body = b"\x00\xff{\"a\":1}";
    assert_eq!(cluster.call(&post("svc", "/", body).token(&token)).await.body, body);
    let mut connection = cluster.connect().await;
    connection.send(head("svc", "/", &token, CHUNKED)).await;
    for part in [&body[..4], &body[4..]] {
        connection.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()).await;
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.answer().await.body, body);
    assert_eq!(upstream.seen().iter().filter(|seen| seen.body == body).count(), 2);
    assert_eq!(cluster.call(&post("svc", "/", &body[1..]).token(&token)).await.short(), (403, "DENIED"));
}

/// B7.
#[tokio::test]
async fn an_empty_body_is_no_mistake() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    for body in [json!({}), json!({ "mode": "JSON" }), json!({ "mode": "JSON", "maxRequestSize": 1 })] {
        let spec = json!({ "config": { "http": { "enableRequestBuffering": true, "body": body } } });
        cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
        let token = cluster.api.caller("alice").await;
        for call in [get("svc", "/"), post("svc", "/", ""), get("svc", "/").header("Content-Type", "application/json")]
        {
            assert_eq!(cluster.call(&call.token(&token)).await.short(), (200, ""), "{body}");
            assert!(upstream.only().body.is_empty(), "{body}");
        }
    }
}

/// B3: the mode JSON refuses all else, whether or not a rule looks.
#[tokio::test]
async fn the_json_mode_wants_an_object() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    let spec = json!({ "config": { "http": { "enableRequestBuffering": true, "body": { "mode": "JSON" } } } });
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    for (body, expected) in
        [(r#"{"a":1}"#, (200, "")), ("[1]", (400, "BODY_INVALID")), ("text", (400, "BODY_INVALID")), ("", (200, ""))]
    {
        assert_eq!(cluster.call(&post("svc", "/", body).token(&token)).await.short(), expected, "{body}");
    }
    assert_eq!(upstream.seen().len(), 2);
}
