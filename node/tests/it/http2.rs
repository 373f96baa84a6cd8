//! Callers that speak HTTP/2, by negotiation or by prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response};
use octelium_node::config::Settings;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    cluster::Cluster,
    http::{Io, full, get, post, tls_client},
    manifest::service,
    soon, until,
    upstream::{Reply, Upstream, answer},
};

/// An answer, whole.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn code(&self) -> &str {
        self.headers.get("x-octelium-error").map(|code| code.to_str().unwrap()).unwrap_or_default()
    }
}

async fn client(io: Box<dyn Io>) -> SendRequest<Bytes> {
    let (client, connection) = soon("the handshake", h2::client::handshake(io)).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    client
}

async fn plain(address: SocketAddr) -> SendRequest<Bytes> {
    client(Box::new(TcpStream::connect(address).await.unwrap())).await
}

/// What is chosen of `alpn`.
async fn tls(cluster: &Cluster, host: &str, alpn: &[u8]) -> (Option<Vec<u8>>, Box<dyn Io>) {
    let stream = TcpStream::connect(cluster.https).await.unwrap();
    let name = ServerName::try_from(full(host)).unwrap();
    let stream = tls_client(&cluster.node.ca_file, alpn).connect(name, stream).await.unwrap();
    (stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec), Box::new(stream))
}

fn request(method: &str, host: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://{}{path}", full(host))).body(()).unwrap()
}

async fn whole(response: Response<h2::RecvStream>) -> Answer {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        body.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await.unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers }
}

async fn call(client: &SendRequest<Bytes>, request: Request<()>, body: &[u8]) -> Answer {
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut stream) = client.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
    }
    soon("an answer", async { whole(response.await.unwrap()).await }).await
}

#[tokio::test]
async fn a_service_is_reached_over_http2_with_and_without_tls() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let (chosen, io) = tls(&cluster, "svc", b"h2").await;
    assert_eq!(chosen.as_deref(), Some(&b"h2"[..]));
    for client in [client(io).await, plain(cluster.http).await] {
        let mut asked = request("POST", "svc", "/a/../b?c=d;e");
        let headers = asked.headers_mut();
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        headers.append("cookie", HeaderValue::from_static("a=1"));
        headers.append("cookie", HeaderValue::from_static("b=2"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        let answer = call(&client, asked, &[b'x'; 200_000]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body, [b'x'; 200_000]);
        assert_eq!(answer.headers["content-length"], "200000");
        assert_eq!(answer.headers["server"], "octelium");
        let seen = upstream.only();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/b?c=d&e"));
        assert_eq!(seen.header("host"), Some(upstream.address.to_string().as_str()));
        assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
        assert_eq!(seen.header("authorization"), None);
        let refused = call(&client, request("GET", "svc", "/"), b"").await;
        assert_eq!((refused.status, refused.code()), (401, "UNAUTHENTICATED"));
    }
    let record =
        cluster.record("the request", |record| record["entry"]["info"]["http"]["httpVersion"] == "HTTP2").await;
    assert_eq!(record["entry"]["info"]["http"]["response"]["code"], 200, "{record}");
}

#[tokio::test]
async fn http1_is_served_at_the_same_ports() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    for mut connection in [cluster.connect().await, cluster.connect_tls("svc").await] {
        // The first letter of the preface, and the rest of something else.
        connection.send("P").await;
        connection.send(&post("svc", "/", "hello").bytes()[1..]).await;
        assert_eq!(connection.answer().await.text(), "hello");
        assert_eq!(connection.call(&get("svc", "/")).await.status, 200);
    }
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|seen| match seen.target.as_str() {
        "/hang" => Reply::Hang,
        _ => answer("200 OK", &[], "ok"),
    })
    .await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    let mut client = plain(cluster.http).await;
    let (hanging, _stream) = client.send_request(request("GET", "svc", "/hang"), true).unwrap();
    for _ in 0..50 {
        assert_eq!(call(&client, request("GET", "svc", "/"), b"").await.body, b"ok");
    }
    drop(hanging);
}

#[tokio::test]
async fn trailers_of_the_upstream_reach_the_caller() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|_| {
        let head =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
        Reply::Bytes(format!("{head}2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n").into_bytes())
    })
    .await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    let answer = call(&plain(cluster.http).await, request("GET", "svc", "/"), b"").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    for name in ["connection", "transfer-encoding", "x-hop", "content-length"] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    assert_eq!(answer.trailers.unwrap()["x-sum"], "7");
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_leaves_a_record() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    let client = plain(cluster.http).await;
    let mut two_hosts = request("GET", "svc", "/");
    two_hosts.headers_mut().insert("host", HeaderValue::from_static("other.octelium.test"));
    let answer = call(&client, two_hosts, b"").await;
    assert_eq!((answer.status, answer.body.len()), (400, 0));
    assert_eq!(call(&client, request("GET", "svc", "/"), b"").await.status, 200, "other streams go on");
    let record = cluster.record("it", |record| record["error"]["cause"] == "host disagrees with the authority").await;
    assert_eq!(record["error"]["code"], "REQUEST_MALFORMED", "{record}");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_request_given_up_at_once_leaves_its_record_and_no_work() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "isAnonymous": true, "authorization": null }))]).await;
    let client = plain(cluster.http).await;
    let mut ready = client.clone().ready().await.unwrap();
    // Nothing is sent before the task of the connection has its turn: the request and its reset go together.
    drop(ready.send_request(request("GET", "svc", "/given-up"), true).unwrap());
    let record = cluster.record("it", |record| record["entry"]["info"]["http"]["request"]["path"] == "/given-up").await;
    assert_eq!(record["isAborted"], true, "{record}");
    assert_eq!(call(&client, request("GET", "svc", "/"), b"").await.status, 200, "other streams go on");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn the_control_api_is_not_on_connections_of_services() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let (_, io) = tls(&cluster, "svc", b"h2").await;
    let answer = call(&client(io).await, request("POST", "octelium-api", "/a.B/C"), b"").await;
    assert_eq!((answer.status, answer.code()), (421, "MISDIRECTED"));
}

#[tokio::test]
async fn a_node_that_stops_finishes_its_streams() {
    let cluster = Cluster::with(Settings { drain_timeout: Some("20s".into()), ..Settings::default() }).await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    cluster.api.apply(&[service("svc", &url, json!({ "isAnonymous": true, "authorization": null }))]).await;
    let mut client = plain(cluster.http).await;
    let (response, _) = client.send_request(request("GET", "svc", "/"), true).unwrap();
    let (mut stream, _) = soon("the request at the upstream", upstream.accept()).await.unwrap();
    let stopped = tokio::spawn(cluster.stop());
    until("the word to open no more streams", async || client.clone().ready().await.is_err().then_some(())).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfinished").await.unwrap();
    let answer = soon("the answer", async { whole(response.await.unwrap()).await }).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"finished"[..]));
    let records = soon("the node's end", stopped).await.unwrap();
    assert_eq!(records.last().unwrap()["entry"]["info"]["http"]["response"]["code"], 200);
}

#[tokio::test]
async fn a_flood_of_settings_is_cut_off() {
    let cluster = Cluster::start().await;
    let mut stream = TcpStream::connect(cluster.http).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[&octelium_http2::PREFACE[..], &settings.repeat(300)].concat()).await.unwrap();
    let mut all = Vec::new();
    soon("the connection's end", stream.read_to_end(&mut all)).await.unwrap();
    let goaway = &all[all.len() - 17..];
    assert_eq!((goaway[3], &goaway[13..17]), (7, &[0, 0, 0, 11][..]), "ENHANCE_YOUR_CALM is the last thing said");
}

/// Serves HTTP/2 alone and echoes; `None`: in the clear.
async fn http2_upstream(tls: Option<tokio_rustls::TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let io: Box<dyn Io> = match tls {
                    None => Box::new(stream),
                    // A caller that wants something else ends here.
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                let Ok(mut connection) = h2::server::handshake(io).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let (head, mut body) = request.into_parts();
                        let mut sent = Vec::new();
                        while let Some(Ok(data)) = body.data().await {
                            body.flow_control().release_capacity(data.len()).unwrap();
                            sent.extend_from_slice(&data);
                        }
                        let te = head.headers.get("te").map_or("", |te| te.to_str().unwrap());
                        let seen = format!("{} {} {te} {}", head.method, head.uri, String::from_utf8_lossy(&sent));
                        let mut out = respond.send_response(Response::new(()), false).unwrap();
                        out.send_data(seen.into(), false).unwrap();
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static("0"));
                        out.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn h_a6_an_upstream_may_speak_http2() {
    let cluster = Cluster::start().await;
    let clear = http2_upstream(None).await;
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let config = |alpn: &[u8]| {
        let builder = rustls::ServerConfig::builder().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![key.cert.der().clone()], private.clone_key().into()).unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config))
    };
    let secure = http2_upstream(Some(config(b"h2"))).await;
    let with_tls = |port: u16| {
        json!({ "config": {
            "upstream": { "url": format!("https://localhost:{port}") },
            "tls": { "trustedCAs": [key.cert.pem()] },
            "http": { "isUpstreamHTTP2": true },
        } })
    };
    cluster
        .api
        .apply(&[
            service("clear", &format!("h2c://{clear}"), json!({})),
            service("grpc", &format!("grpc://{clear}"), json!({})),
            service("secure", "", with_tls(secure.port())),
        ])
        .await;
    let token = cluster.api.caller("alice").await;
    for (host, scheme) in [("clear", "http"), ("grpc", "http"), ("secure", "https")] {
        let answer = cluster.call(&post(host, "/a?b=c", "hello").token(&token)).await;
        assert_eq!(answer.status, 200, "{host} {}", answer.text());
        let port = if host == "secure" { secure.port() } else { clear.port() };
        let name = if host == "secure" { "localhost" } else { "127.0.0.1" };
        assert_eq!(answer.text(), format!("POST {scheme}://{name}:{port}/a?b=c  hello"), "{host}");
    }
    // From one end to the other over HTTP/2: trailers pass, and the caller may ask for them.
    let mut client = plain(cluster.http).await;
    let mut request = request("POST", "clear", "/pkg.Service/Method");
    request.headers_mut().insert("authorization", HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let (response, _) = client.send_request(request, true).unwrap();
    let mut response = soon("an answer", response).await.unwrap();
    let mut body = Vec::new();
    while let Some(data) = response.body_mut().data().await {
        body.extend_from_slice(&data.unwrap());
    }
    assert!(String::from_utf8(body).unwrap().contains("/pkg.Service/Method trailers "), "te passes");
    let trailers = response.body_mut().trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");

    // Whoever says HTTP/2 and can't is named.
    let old = http2_upstream(Some(config(b"http/1.1"))).await;
    cluster.api.apply(&[service("secure", "", with_tls(old.port()))]).await;
    assert_eq!(cluster.call(&get("secure", "/").token(&token)).await.short(), (502, "UPSTREAM_UNREACHABLE"));
}
