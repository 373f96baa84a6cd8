//! Listeners behind load balancers and proxies, and how many requests there may be.

use std::{fmt::Write, net::SocketAddr};

use octelium_node::config::Settings;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{
    cluster::Cluster,
    http::{Connection, get, tls_client},
    manifest::service,
    until,
    upstream::{Reply, Upstream, answer},
};

fn anonymous() -> Value {
    json!({ "isAnonymous": true, "authorization": null })
}

/// The usual listeners, and one more for each scheme that wants PROXY headers from `balancers`.
async fn proxied(balancers: &[&str]) -> (Cluster, [SocketAddr; 2]) {
    let listen = ["http://127.0.0.1:0", "https://127.0.0.1:0"];
    let listen = listen.into_iter().flat_map(|url| [url.to_owned(), format!("{url}?proxyProtocol=true")]);
    let cluster = Cluster::with(Settings {
        listen: Some(listen.collect()),
        proxy_protocol_from: Some(balancers.iter().map(ToString::to_string).collect()),
        connections_per_address_max: Some(3),
        ..Settings::default()
    })
    .await;
    let addresses = [false, true].map(|is_tls| {
        let mut listens = cluster.node.addresses.iter();
        listens.find(|listen| listen.is_tls == is_tls && listen.is_proxied).unwrap().address
    });
    (cluster, addresses)
}

fn v2(source: [u8; 4], command: u8) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, 12][..], &source, &[127, 0, 0, 1, 1, 2, 3, 4]].concat()
}

#[tokio::test]
async fn a_balancer_says_who_the_caller_is() {
    let (cluster, [http, https]) = proxied(&["127.0.0.0/8"]).await;
    let upstream = Upstream::ok().await;
    cluster.api.apply(&[service("svc", &upstream.url(), anonymous())]).await;
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("/v1", b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n".to_vec(), "203.0.113.9"),
        ("/v1-6", b"PROXY TCP6 2001:db8::9 ::1 4711 80\r\n".to_vec(), "2001:db8::9"),
        ("/v2", v2([203, 0, 113, 7], 0x21), "203.0.113.7"),
        ("/local", v2([203, 0, 113, 7], 0x20), "127.0.0.1"),
    ];
    for (path, header, expected) in cases {
        // In one piece with the request, which must not be lost, and byte by byte.
        let mut whole = Connection::plain(http).await;
        whole.send([&header[..], &get("svc", path).bytes()].concat()).await;
        assert_eq!(whole.answer().await.status, 200, "{path}");
        let mut pieces = Connection::plain(http).await;
        for byte in &header {
            pieces.send([*byte]).await;
        }
        let again = format!("{path}-again");
        assert_eq!(pieces.call(&get("svc", &again)).await.status, 200, "{path}");
        for path in [path, &again] {
            let record =
                cluster.record(path, |record| record["entry"]["info"]["http"]["request"]["path"] == *path).await;
            assert_eq!(record["clientAddress"], expected, "{record}");
        }
    }
    let mut secure = Connection::plain(https).await;
    secure.send(v2([203, 0, 113, 7], 0x21)).await;
    let mut secure = secure.secure("svc", &cluster.node.ca_file).await;
    assert_eq!(secure.call(&get("svc", "/tls")).await.status, 200);
    let record = cluster.record("/tls", |record| record["entry"]["info"]["http"]["request"]["path"] == "/tls").await;
    assert_eq!(record["clientAddress"], "203.0.113.7", "{record}");
}

#[tokio::test]
async fn without_a_good_header_there_is_no_connection() {
    let (cluster, [http, https]) = proxied(&["127.0.0.1"]).await;
    for bytes in [
        get("svc", "/").bytes(),
        b"PROXY TCP4 203.0.113.9 127.0.0.1 4711\r\n".to_vec(),
        b"PROXY UDP4 203.0.113.9 127.0.0.1 1 2\r\n".to_vec(),
        v2([1, 2, 3, 4], 0x2f),
    ] {
        for address in [http, https] {
            let mut connection = Connection::plain(address).await;
            connection.send(&bytes).await;
            assert!(connection.closed().await, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
    drop(cluster);
    let (_cluster, [http, _]) = proxied(&["192.0.2.1"]).await;
    let mut stranger = Connection::plain(http).await;
    assert!(stranger.closed().await, "not one of proxyProtocolFrom");
}

#[tokio::test]
async fn connections_are_counted_by_the_address_that_the_balancer_says() {
    let (cluster, [http, _]) = proxied(&["127.0.0.1"]).await;
    let upstream = Upstream::ok().await;
    cluster.api.apply(&[service("svc", &upstream.url(), anonymous())]).await;
    let from = |last: u8| {
        let mut header = String::new();
        write!(header, "PROXY TCP4 203.0.113.{last} 127.0.0.1 4711 80\r\n").unwrap();
        [header.as_bytes(), &get("svc", "/").bytes()].concat()
    };
    let mut kept = Vec::new();
    for last in [1, 1, 1, 2, 2, 2, 3] {
        let mut connection = Connection::plain(http).await;
        connection.send(from(last)).await;
        assert_eq!(connection.answer().await.status, 200);
        kept.push(connection);
    }
    let mut fourth = Connection::plain(http).await;
    fourth.send(from(1)).await;
    assert!(fourth.closed().await, "three for each address");
}

#[tokio::test]
async fn trusted_hops_say_who_the_caller_is_and_nobody_else_does() {
    let hops = vec!["127.0.0.0/8".to_owned(), "10.0.0.0/8".to_owned()];
    let trusting = Cluster::with(Settings { trusted_hops: Some(hops), ..Settings::default() }).await;
    let upstream = Upstream::ok().await;
    for (cluster, expected) in [(trusting, "203.0.113.9"), (Cluster::start().await, "127.0.0.1")] {
        cluster.api.apply(&[service("svc", &upstream.url(), anonymous())]).await;
        let call =
            get("svc", "/hops").header("X-Forwarded-For", "1.1.1.1, 203.0.113.9").header("X-Forwarded-For", "10.1.2.3");
        assert_eq!(cluster.call(&call).await.status, 200);
        let record = cluster.record("it", |record| record["entry"]["info"]["http"]["request"]["path"] == "/hops").await;
        assert_eq!(record["clientAddress"], expected, "{record}");
    }
    for seen in upstream.seen() {
        assert!(!seen.text().contains("1.1.1.1"), "{seen:?}");
    }
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let hanging = || {
        Upstream::start(|seen| match seen.target.as_str() {
            "/hang" => Reply::Hang,
            _ => answer("200 OK", &[], "ok"),
        })
    };
    let per_address = Settings { requests_per_address_max: Some(2), ..Settings::default() };
    let in_all = Settings { requests_max: Some(2), ..Settings::default() };
    for (settings, setting) in [(per_address, "requestsPerAddressMax"), (in_all, "requestsMax")] {
        let (cluster, upstream) = (Cluster::with(settings).await, hanging().await);
        cluster.api.apply(&[service("svc", &upstream.url(), anonymous())]).await;
        let mut waiting = [cluster.connect().await, cluster.connect().await];
        for connection in &mut waiting {
            connection.send(get("svc", "/hang").bytes()).await;
        }
        until("both requests at the upstream", async || (upstream.seen().len() == 2).then_some(())).await;
        let refused = cluster.call(&get("svc", "/")).await;
        assert_eq!(refused.short(), (503, "OVERLOADED"));
        assert_eq!(cluster.record_of(&refused).await["error"]["cause"], setting);
        drop(waiting);
        until("places to be given back", async || (cluster.call(&get("svc", "/")).await.status == 200).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn who_names_nobody_is_shown_the_given_certificate_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let given = Settings { tls_certificate: Some(certificate.clone()), tls_key: Some(key), ..Settings::default() };
    for (settings, is_shown) in [(given, true), (Settings::default(), false)] {
        let cluster = Cluster::with(settings).await;
        let stream = TcpStream::connect(cluster.https).await.unwrap();
        // An address is never sent as a name.
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let shaken = tls_client(&certificate, b"http/1.1").connect(name, stream).await;
        assert_eq!(shaken.is_ok(), is_shown);
    }
}
