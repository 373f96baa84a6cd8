//! What outlives one request and its answer: WebSocket, event streams, interim answers, and the time that a whole request may
//! take (spec: data plane §5.12, rows A7 and V3).

use octelium_node::config::Settings;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    cluster::Cluster,
    http::{Call, Connection, get},
    manifest::{only, rule, service},
    upstream::{Reply, Upstream},
};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Octelium-Session: forged\r\n\r\n";

fn upgrade(host: &str, target: &str) -> Call {
    get(host, target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(stream.read_u8().await.unwrap()));
    }
    head
}

/// Answers every upgrade, then sends back what it gets.
async fn websocket_echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = head(&mut stream).await.to_ascii_lowercase();
                assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
                assert!(head.contains("sec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n"), "{head}");
                assert!(!head.contains("authorization"), "{head}");
                stream.write_all(SWITCH.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    url
}

async fn until_received(connection: &mut Connection, text: &str) {
    while !connection.received().ends_with(text) {
        assert!(connection.more().await > 0, "the connection ended: {:?}", connection.received());
    }
}

#[tokio::test]
async fn h_a7_websocket_frames_come_back_as_they_were_sent_and_leave_one_record() {
    let cluster = Cluster::start().await;
    let rules = only(&[rule("ALLOW", r#"ctx.request.http.path == "/chat""#)]);
    cluster.api.apply(&[service("svc", &websocket_echo().await, rules)]).await;
    let token = cluster.api.caller("alice").await;

    // Policies decide about the handshake as about any request.
    assert_eq!(cluster.call(&upgrade("svc", "/chat")).await.short(), (401, "UNAUTHENTICATED"));
    assert_eq!(cluster.call(&upgrade("svc", "/other").token(&token)).await.short(), (403, "DENIED"));

    for mut connection in [cluster.connect().await, cluster.connect_tls("svc").await] {
        connection.send(upgrade("svc", "/chat").token(&token).bytes()).await;
        until_received(&mut connection, "\r\n\r\n").await;
        let head = connection.received().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
        assert!(!head.contains("x-octelium-session"), "an upstream can't speak for the gateway: {head}");
        for number in 0..10 {
            let frame = format!("{number}{}", "f".repeat(31));
            connection.send(&frame).await;
            until_received(&mut connection, &frame).await;
        }
        drop(connection);
    }

    let records = cluster.stop().await;
    let switched: Vec<_> =
        records.iter().filter(|record| record["entry"]["info"]["http"]["response"]["code"] == 101).collect();
    assert_eq!((records.len(), switched.len()), (4, 2), "{records:#?}");
    for record in switched {
        let http = &record["entry"]["info"]["http"];
        assert_eq!(http["response"]["bodyBytes"], 320, "{record}");
        assert_eq!(http["request"]["bodyBytes"], 320, "{record}");
        assert_eq!(record["entry"]["common"]["userRef"]["name"], "alice", "{record}");
    }
}

#[tokio::test]
async fn an_upgrade_to_anything_else_is_served_as_plain_http() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    for protocol in ["h2c", "SPDY/3.1", "websocket, h2c"] {
        let call = get("svc", "/").header("Connection", "Upgrade").header("Upgrade", protocol).token(&token);
        assert_eq!(cluster.call(&call).await.status, 200, "{protocol}");
        assert_eq!(upstream.only().header("upgrade"), None, "{protocol}");
    }
}

#[tokio::test]
async fn events_arrive_when_they_are_sent_not_when_the_stream_ends() {
    let cluster = Cluster::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    cluster.api.apply(&[service("svc", &url, json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    connection.send(get("svc", "/events").token(&token).bytes()).await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    head(&mut upstream).await;
    let start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    upstream.write_all(start.as_bytes()).await.unwrap();
    for event in ["data: one\n\n", "data: two\n\n"] {
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        upstream.write_all(chunk.as_bytes()).await.unwrap();
        until_received(&mut connection, &chunk).await;
    }
    // The caller leaves: the upstream learns of it.
    drop(connection);
    assert_eq!(upstream.read(&mut [0]).await.unwrap_or(0), 0);
    let records = cluster.stop().await;
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["isAborted"], true);
    assert_eq!(records[0]["entry"]["info"]["http"]["response"]["bodyBytes"], 22);
}

#[tokio::test]
async fn early_hints_reach_the_caller_before_the_answer() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|_| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        Reply::Bytes(hints.into())
    });
    cluster.api.apply(&[service("svc", &upstream.await.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    connection.send(get("svc", "/").token(&token).bytes()).await;
    until_received(&mut connection, "\r\n\r\nok").await;
    let received = connection.received();
    assert!(
        received.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{received}"
    );
}

#[tokio::test]
async fn a_request_takes_no_longer_than_its_total_timeout() {
    let settings = Settings { request_timeout: Some("200ms".to_owned()), ..Settings::default() };
    let cluster = Cluster::with(settings).await;
    let slow = Upstream::start(|_| Reply::Hang).await;
    let endless =
        Upstream::start(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin".to_vec())).await;
    cluster.api.apply(&[service("slow", &slow.url(), json!({})), service("endless", &endless.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    assert_eq!(cluster.call(&get("slow", "/").token(&token)).await.short(), (504, "REQUEST_TIMEOUT"));
    let mut connection = cluster.connect().await;
    connection.send(get("endless", "/").token(&token).bytes()).await;
    until_received(&mut connection, "begin").await;
    assert_eq!(connection.more().await, 0, "an answer that has begun is cut off");
    let records = cluster.stop().await;
    assert_eq!(records.len(), 2, "{records:#?}");
    assert_eq!(records[1]["isAborted"], true);
}
