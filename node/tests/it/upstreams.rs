//! Upstreams that fail in every way, and callers that leave (spec: data plane §12.1, §12.13 V11).

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use octelium_node::config::Settings;

use crate::support::{
    cluster::Cluster,
    http::{get, post},
    manifest::service,
    soon, until,
    upstream::{Authority, Reply, Upstream, answer},
};

async fn impatient(resolve: Vec<String>) -> Cluster {
    let (head, connect) = (Some("300ms".to_owned()), Some("1s".to_owned()));
    Cluster::with(Settings {
        upstream_head_timeout: head,
        upstream_connect_timeout: connect,
        resolve: Some(resolve),
        ..Settings::default()
    })
    .await
}

fn path_of(record: &Value) -> &str {
    record["entry"]["info"]["http"]["request"]["path"].as_str().unwrap_or_default()
}

/// One row each: what the upstream does, what the caller is told. Each leaves one record with code and cause.
#[tokio::test]
async fn every_failure_of_an_upstream_has_its_code() {
    let cluster = impatient(Vec::new()).await;
    let last = |text: &str| Reply::Last(text.as_bytes().to_vec());
    let upstream = Upstream::start(move |seen| match seen.target.as_str() {
        "/hangs" => Reply::Hang,
        "/resets" => Reply::Reset,
        "/closes" => last(""),
        "/half-a-head" => last("HTTP/1.1 200 OK\r\nContent-"),
        "/garbage" => last("\x01\x02\x03 not HTTP\r\n\r\n"),
        "/ssh" => last("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        "/two-lengths" => last("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        "/length-and-chunked" => {
            last("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        }
        "/bad-length" => last("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        "/switches" => last("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
        "/long-head" => last(&format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "a".repeat(100_000))),
        "/obs-fold" => last("HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        "/interim" => last("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        other => answer("200 OK", &[], other),
    })
    .await;
    let greets = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://{}", greets.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = greets.accept().await {
            stream.write_all(b"220 ready\r\n").await.unwrap();
        }
    });
    let refuses = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    cluster
        .api
        .apply(&[
            service("svc", &upstream.url(), json!({})),
            service("refuses", &format!("http://{refuses}"), json!({})),
            service("unknown", "http://does-not-exist.invalid", json!({})),
            service("plain", &plain, json!({})),
            // It waits for the end of a head that a TLS client never sends.
            service("mute", &upstream.url().replace("http:", "https:"), json!({})),
        ])
        .await;
    let token = cluster.api.caller("alice").await;
    let rows = [
        ("refuses", "/refuses", (502, "UPSTREAM_UNREACHABLE")),
        ("unknown", "/unknown", (502, "UPSTREAM_UNREACHABLE")),
        ("plain", "/no-tls", (502, "UPSTREAM_UNREACHABLE")),
        ("mute", "/no-handshake", (504, "UPSTREAM_TIMEOUT")),
        ("svc", "/hangs", (504, "UPSTREAM_TIMEOUT")),
        ("svc", "/resets", (502, "UPSTREAM_CLOSED")),
        ("svc", "/closes", (502, "UPSTREAM_CLOSED")),
        ("svc", "/half-a-head", (502, "UPSTREAM_CLOSED")),
        ("svc", "/garbage", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/ssh", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/two-lengths", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/length-and-chunked", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/bad-length", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/switches", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/long-head", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/obs-fold", (502, "UPSTREAM_MALFORMED")),
        ("svc", "/interim", (200, "")),
        ("svc", "/fine", (200, "")),
    ];
    let mut connection = cluster.connect().await;
    for (host, path, expected) in rows {
        let answer = connection.call(&get(host, path).token(&token)).await;
        assert_eq!(answer.short(), expected, "{path}: the caller's connection lives on");
    }
    let records = cluster.stop().await;
    for (_, path, (status, code)) in rows {
        let found: Vec<_> = records.iter().filter(|record| path_of(record) == path).collect();
        assert_eq!(found.len(), 1, "{path}");
        assert_eq!(found[0]["error"]["code"].as_str().unwrap_or_default(), code, "{path}");
        assert_eq!(found[0]["entry"]["info"]["http"]["response"]["code"], status, "{path}");
        assert_eq!(found[0]["entry"]["common"]["userRef"]["name"], "alice", "{path}");
        assert_eq!(found[0]["isAborted"], Value::Null, "{path}");
        if !code.is_empty() {
            assert!(found[0]["error"]["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{path}");
        }
    }
}

/// An answer that breaks off must not look whole: the caller's connection breaks off too, and the record says so.
#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    let cluster = impatient(Vec::new()).await;
    let upstream = Upstream::start(|seen| {
        let text: &[u8] = match seen.target.as_str() {
            "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
            "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nno chunk\r\n",
        };
        Reply::Last(text.to_vec())
    })
    .await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    for path in ["/length", "/chunked", "/broken"] {
        let mut connection = cluster.connect().await;
        connection.send(get("svc", path).token(&token).bytes()).await;
        while connection.more().await > 0 {}
        let received = connection.received();
        assert!(received.starts_with("HTTP/1.1 200") && received.contains("part"), "{received}");
        assert!(!received.ends_with("0\r\n\r\n"), "{received}");
        let record = cluster.record(path, |record| path_of(record) == path).await;
        assert_eq!(record["isAborted"], true, "{path}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_is_recorded_as_aborted_and_the_upstream_is_let_go() {
    let (cluster, upstream) = (Cluster::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}", upstream.local_addr().unwrap());
    cluster.api.apply(&[service("svc", &url, json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    // Before the answer, and in the middle of it.
    for (path, answer) in [("/before", ""), ("/within", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")] {
        let mut connection = cluster.connect().await;
        connection.send(get("svc", path).token(&token).bytes()).await;
        let (mut stream, _) = soon("the request", upstream.accept()).await.unwrap();
        let mut head = vec![0; 4096];
        assert!(soon("the head", stream.read(&mut head)).await.unwrap() > 0);
        if !answer.is_empty() {
            stream.write_all(answer.as_bytes()).await.unwrap();
            while !connection.received().ends_with("part") {
                assert!(connection.more().await > 0);
            }
        }
        drop(connection);
        assert_eq!(
            soon("the end of the upstream's connection", stream.read(&mut head)).await.unwrap_or(0),
            0,
            "{path}"
        );
        let record = cluster.record(path, |record| path_of(record) == path).await;
        assert_eq!(record["isAborted"], true, "{path}");
        assert_eq!(record["entry"]["common"]["status"], "ALLOWED", "{path}");
        let bytes = &record["entry"]["info"]["http"]["response"]["bodyBytes"];
        assert_eq!(*bytes, if answer.is_empty() { Value::Null } else { json!(4) }, "{path}");
    }
}

/// A kept connection that the upstream has closed is replaced, and a request that may not be sent twice isn't.
#[tokio::test]
async fn a_stale_connection_is_replaced() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        // Says that it stays, and doesn't.
        "/stale" => Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        _ => answer("200 OK", &[], "fresh"),
    })
    .await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    for (number, call) in [get("svc", "/next"), post("svc", "/next", "body")].into_iter().enumerate() {
        assert_eq!(connection.call(&get("svc", "/stale").token(&token)).await.status, 200);
        assert_eq!(connection.call(&call.token(&token)).await.text(), "fresh");
        assert_eq!(upstream.seen().iter().filter(|seen| seen.target == "/next").count(), number + 1);
    }
}

/// TLS upstreams prove themselves, by the CAs that the Service names, for the name in its URL.
#[tokio::test]
async fn an_https_upstream_must_prove_itself() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = Upstream::tls(&authority, &["api.example.com"], |_| answer("200 OK", &[], "proven")).await;
    let names = ["api.example.com", "wrong.example.com"];
    let cluster = impatient(names.iter().map(|name| format!("{name}={}", upstream.address)).collect()).await;
    let token = cluster.api.caller("alice").await;
    for (what, host, tls, expected) in [
        ("its own CA", "api.example.com", json!({ "trustedCAs": [authority.pem] }), (200, "")),
        ("several CAs", "api.example.com", json!({ "trustedCAs": [other.pem, authority.pem] }), (200, "")),
        ("another CA", "api.example.com", json!({ "trustedCAs": [other.pem] }), (502, "UPSTREAM_UNREACHABLE")),
        ("the system's", "api.example.com", json!({}), (502, "UPSTREAM_UNREACHABLE")),
        ("another name", "wrong.example.com", json!({ "trustedCAs": [authority.pem] }), (502, "UPSTREAM_UNREACHABLE")),
        ("no proof", "wrong.example.com", json!({ "insecureSkipVerify": true }), (200, "")),
        // A connection that was made without proof isn't used for those who want one.
        (
            "its own CA again",
            "wrong.example.com",
            json!({ "trustedCAs": [authority.pem] }),
            (502, "UPSTREAM_UNREACHABLE"),
        ),
    ] {
        cluster.api.apply(&[service("svc", &format!("https://{host}"), json!({ "config": { "tls": tls } }))]).await;
        let answer = cluster.call(&get("svc", "/").token(&token)).await;
        assert_eq!(answer.short(), expected, "{what}");
    }
    assert_eq!(upstream.seen().len(), 3);
}

/// A node that is told to stop finishes what it has begun, and takes nothing new.
#[tokio::test]
async fn a_stopping_node_finishes_requests_under_way() {
    let (cluster, upstream) = (Cluster::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}", upstream.local_addr().unwrap());
    cluster.api.apply(&[service("svc", &url, json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let (mut idle, mut busy) = (cluster.connect().await, cluster.connect().await);
    assert_eq!(idle.call(&get("nothing", "/")).await.status, 404);
    busy.send(get("svc", "/slow").token(&token).bytes()).await;
    let (mut stream, _) = soon("the request", upstream.accept()).await.unwrap();
    let mut head = vec![0; 4096];
    assert!(stream.read(&mut head).await.unwrap() > 0);

    let address = cluster.http;
    let stopping = tokio::spawn(cluster.stop());
    assert!(idle.closed().await, "nothing is under way there");
    until("the door to close", async || tokio::net::TcpStream::connect(address).await.err()).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await.unwrap();
    let answer = busy.answer().await;
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("late", Some("close")));
    let records = soon("the node's end", stopping).await.unwrap();
    assert_eq!(records.len(), 2);
}
