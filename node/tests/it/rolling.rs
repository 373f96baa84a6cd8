//! Nodes come, go and are replaced while callers go on: none of their requests fails, if they do as they are told (`Connection: close`, GOAWAY)
//! and go where a load balancer sends them, which asks `/readyz`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use octelium_api::control::{RemoveNodeRequest, SetNodeDrainedRequest};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::{
    nodes::{Member, voters},
    support::{
        PATIENCE,
        http::{Connection, full, get},
        manifest::service,
        soon, until,
    },
};

const SETTINGS: &[&str] = &["--metrics-listen", "127.0.0.1:0", "--drain-delay", "400ms"];
/// So often the balancer looks at the nodes: some times within their `drainDelay`.
const LOOK_EVERY: Duration = Duration::from_millis(40);
const CHUNKS: usize = 6;

/// The nodes that take requests, as a load balancer sees them.
#[derive(Clone, Default)]
struct Balancer {
    /// Metrics and data address of each.
    nodes: Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>,
    ready: Arc<Mutex<Vec<SocketAddr>>>,
    turn: Arc<AtomicUsize>,
}

impl Balancer {
    fn add(&self, member: &Member) {
        let process = member.process();
        self.nodes.lock().push((process.metrics.unwrap(), process.http));
    }

    /// Goes on until it is stopped.
    async fn look(self) {
        loop {
            let nodes = self.nodes.lock().clone();
            let mut ready = Vec::new();
            for (metrics, http) in nodes {
                if is_ready(metrics).await {
                    ready.push(http);
                }
            }
            *self.ready.lock() = ready;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn has(&self, node: SocketAddr) -> bool {
        self.ready.lock().contains(&node)
    }

    fn next(&self) -> Option<SocketAddr> {
        let ready = self.ready.lock();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        ready.get(turn % ready.len().max(1)).copied()
    }
}

async fn is_ready(metrics: SocketAddr) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(metrics).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    };
    timeout(Duration::from_secs(1), asking).await.ok().flatten().is_some()
}

/// What the callers saw.
#[derive(Clone, Default)]
struct Seen {
    answers: Arc<[AtomicU64; 3]>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    fn note(&self, caller: usize, result: Result<(), String>) {
        match result {
            Ok(()) => drop(self.answers[caller].fetch_add(1, Ordering::Relaxed)),
            Err(failure) => self.failures.lock().push(failure),
        }
    }

    fn counts(&self) -> [u64; 3] {
        std::array::from_fn(|caller| self.answers[caller].load(Ordering::Relaxed))
    }

    /// Waits until each sort of caller had some more answers.
    async fn go_on(&self) {
        let before = self.counts();
        until("callers to go on", async || {
            let now = self.counts();
            let has_more = before.iter().zip(now).all(|(before, now)| now >= before + 5);
            (has_more || !self.failures.lock().is_empty()).then_some(())
        })
        .await;
        assert_eq!(*self.failures.lock(), Vec::<String>::new());
    }
}

/// A kept connection, one request after the other.
async fn keep_alive(balancer: Balancer, seen: Seen, token: String) {
    let call = get("closed", "/").token(&token).bytes();
    let mut kept: Option<(SocketAddr, TcpStream)> = None;
    loop {
        let (node, mut stream) = match kept.take().filter(|(node, _)| balancer.has(*node)) {
            Some(kept) => kept,
            None => {
                let Some(node) = balancer.next() else {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                };
                match TcpStream::connect(node).await {
                    Ok(stream) => (node, stream),
                    Err(error) => return seen.note(0, Err(format!("connecting to {node}: {error}"))),
                }
            }
        };
        let asked = timeout(PATIENCE, async {
            stream.write_all(&call).await.map_err(|error| format!("sending: {error}"))?;
            read(&mut stream).await
        });
        match asked.await.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(head) => {
                seen.note(0, Ok(()));
                if !head.to_ascii_lowercase().contains("connection: close") {
                    kept = Some((node, stream));
                }
            }
            Err(failure) => return seen.note(0, Err(format!("keep-alive, {node}: {failure}"))),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads a short answer; its head.
async fn read(stream: &mut TcpStream) -> Result<String, String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= 2
        {
            return if head.starts_with("HTTP/1.1 200 ") { Ok(head.to_owned()) } else { Err(text) };
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => return Err(format!("closed after {text:?}")),
            Ok(_) => {}
            Err(error) => return Err(format!("reading: {error}")),
        }
    }
}

/// One HTTP/2 connection, several requests at a time.
async fn http2(balancer: Balancer, seen: Seen, token: String) {
    loop {
        let Some(node) = balancer.next() else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let connecting = async {
            let stream = TcpStream::connect(node).await.map_err(|error| error.to_string())?;
            h2::client::handshake(stream).await.map_err(|error| error.to_string())
        };
        let (mut client, connection) = match timeout(PATIENCE, connecting).await.unwrap_or(Err("no answer".to_owned()))
        {
            Ok(connected) => connected,
            Err(failure) => return seen.note(1, Err(format!("HTTP/2 to {node}: {failure}"))),
        };
        let connection = tokio::spawn(connection);
        while balancer.has(node) {
            // After GOAWAY no request can be begun: that is being told, not a failure.
            if std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_err() {
                break;
            }
            let mut under_way = Vec::new();
            for _ in 0..3 {
                let request = http::Request::get(format!("https://{}/", full("closed")));
                let request = request.header("authorization", format!("Bearer {token}")).body(()).unwrap();
                under_way.extend(client.send_request(request, true).ok().map(|(answer, _)| answer));
            }
            for answer in under_way {
                let result = match timeout(PATIENCE, answer).await {
                    Ok(Ok(answer)) if answer.status() == 200 => whole(answer.into_body()).await,
                    Ok(Ok(answer)) => Err(format!("HTTP/2: {}", answer.status())),
                    // It was told that this one was never looked at.
                    Ok(Err(error)) if error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                        continue;
                    }
                    Ok(Err(error)) => Err(format!("HTTP/2, {node}: {error}")),
                    Err(_) => Err("HTTP/2: no answer".to_owned()),
                };
                seen.note(1, result);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(client);
        soon("the end of the connection", connection).await.unwrap().ok();
    }
}

async fn whole(mut body: h2::RecvStream) -> Result<(), String> {
    while let Some(data) = body.data().await {
        data.map_err(|error| format!("HTTP/2, the body: {error}"))?;
    }
    Ok(())
}

/// Answers that take their time.
async fn streaming(balancer: Balancer, seen: Seen, token: String) {
    let call = get("slow", "/").token(&token).bytes();
    loop {
        let Some(node) = balancer.next() else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let asked = timeout(PATIENCE, async {
            let mut stream = TcpStream::connect(node).await.map_err(|error| format!("connecting: {error}"))?;
            stream.write_all(&call).await.map_err(|error| format!("sending: {error}"))?;
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n0\r\n\r\n") {
                match stream.read_buf(&mut bytes).await {
                    Ok(0) => return Err(format!("closed after {:?}", String::from_utf8_lossy(&bytes))),
                    Ok(_) => {}
                    Err(error) => return Err(format!("reading: {error}")),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            match text.matches("tick").count() {
                CHUNKS => Ok(()),
                count => Err(format!("{count} parts: {text}")),
            }
        });
        let result = asked.await.unwrap_or_else(|_| Err("no answer".to_owned()));
        seen.note(2, result.map_err(|failure| format!("streaming, {node}: {failure}")));
    }
}

/// An upstream that answers in parts, over about half a second.
async fn slow_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
                let mut sent = stream.write_all(head).await;
                for _ in 0..CHUNKS {
                    tokio::time::sleep(Duration::from_millis(80)).await;
                    if sent.is_ok() {
                        sent = stream.write_all(b"4\r\ntick\r\n").await;
                    }
                }
                if sent.is_ok() {
                    stream.write_all(b"0\r\n\r\n").await.ok(); // the caller may have gone
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_nodes_come_go_and_restart() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let mut members = vec![Member::start(SETTINGS).await];
    let api = members[0].api(&members[0]).await;
    let slow = slow_upstream().await;
    let fixed = json!({ "config": { "upstream": null, "http": { "response": { "direct": { "inline": "ok" } } } } });
    api.apply(&[service("closed", "", fixed), service("slow", &format!("http://{slow}"), json!({}))]).await;
    let token = api.caller("alice").await;
    until("the Session", async || {
        let answer = Connection::plain(members[0].process().http).await.call(&get("closed", "/").token(&token)).await;
        (answer.status == 200).then_some(())
    })
    .await;

    let (balancer, seen) = (Balancer::default(), Seen::default());
    balancer.add(&members[0]);
    let mut tasks = JoinSet::new();
    tasks.spawn(balancer.clone().look());
    for _ in 0..2 {
        tasks.spawn(keep_alive(balancer.clone(), seen.clone(), token.clone()));
        tasks.spawn(http2(balancer.clone(), seen.clone(), token.clone()));
        tasks.spawn(streaming(balancer.clone(), seen.clone(), token.clone()));
    }
    seen.go_on().await;

    // From one to three.
    for _ in 0..2 {
        let invitation = members[0].invitation("10m").await;
        members.push(Member::start(&[SETTINGS, &["--join", &invitation]].concat()).await);
        balancer.add(members.last().unwrap());
    }
    let api = members[1].api(&members[0]).await;
    voters(&api, 3).await;
    seen.go_on().await;

    // Each is restarted, the leader too.
    for index in 0..3 {
        let process = members[index].process.take().unwrap();
        let gone = process.http;
        let exit = process.signal("TERM").await;
        assert_eq!(exit.code, Some(0), "{}", exit.errors);
        balancer.nodes.lock().retain(|(_, http)| *http != gone);
        members[index].restart(SETTINGS).await;
        balancer.add(&members[index]);
        let api = members[index].api(&members[0]).await;
        voters(&api, 3).await;
        seen.go_on().await;
    }

    // To five, and back to three.
    for _ in 0..2 {
        let invitation = members[0].invitation("10m").await;
        members.push(Member::start(&[SETTINGS, &["--join", &invitation]].concat()).await);
        balancer.add(members.last().unwrap());
    }
    let api = members[0].api(&members[0]).await;
    voters(&api, 5).await;
    seen.go_on().await;
    for _ in 0..2 {
        let mut member = members.pop().unwrap();
        let (id, http) = (member.id(), member.process().http);
        api.control().set_node_drained(SetNodeDrainedRequest { id: id.clone(), is_drained: true }).await.unwrap();
        until("callers to be sent elsewhere", async || (!balancer.has(http)).then_some(())).await;
        let exit = member.process.take().unwrap().signal("TERM").await;
        assert_eq!(exit.code, Some(0), "{}", exit.errors);
        api.control().remove_node(RemoveNodeRequest { id }).await.unwrap();
        balancer.nodes.lock().retain(|(_, known)| *known != http);
        seen.go_on().await;
    }
    let rest = voters(&api, 3).await;
    assert_eq!(rest.nodes.len(), 3, "{rest:?}");
    tasks.shutdown().await;
    assert_eq!(*seen.failures.lock(), Vec::<String>::new());
    let counts = seen.counts();
    assert!(counts[0] > 200 && counts[1] > 200 && counts[2] > 20, "{counts:?}");
}
