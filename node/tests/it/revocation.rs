//! What is under way when its caller may not go on: event streams, WebSocket, uploads and requests that wait, over HTTP/1.1 and
//! HTTP/2. Each ends at once, in a way that nobody takes for its end, and its record says why.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest};
use http::Request;
use octelium_api::{control::SetLockRequest, core::ListUserOptions, meta::ObjectReference};
use octelium_node::config::Settings;
use parking_lot::Mutex;
use prost_types::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    api::{Login, deletion},
    cluster::Cluster,
    http::{Call, Connection, full, get, post},
    manifest::{merge, only, resource, rule, service, workload},
    soon, until,
    upstream::Upstream,
};

/// Far more than it takes: the figure itself is printed.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A write that takes longer waits for somebody who doesn't read.
const STALLED_AFTER: Duration = Duration::from_millis(300);

/// By the last part of the path: `events` come without end, `flood` is
/// more than anybody takes, `ws` says everything back, all else is never answered.
struct Slow {
    url: String,
    seen: Arc<Mutex<HashSet<String>>>,
    left: Arc<Mutex<HashSet<String>>>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, left) = (Arc::<Mutex<HashSet<String>>>::default(), Arc::<Mutex<HashSet<String>>>::default());
        let upstream = Self { url, seen: seen.clone(), left: left.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, left) = (seen.clone(), left.clone());
                tokio::spawn(async move {
                    let mut target = String::new();
                    Self::serve(stream, &seen, &mut target).await.ok();
                    left.lock().insert(target);
                });
            }
        });
        upstream
    }

    async fn serve(mut stream: TcpStream, seen: &Mutex<HashSet<String>>, target: &mut String) -> std::io::Result<()> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(stream.read_u8().await?));
        }
        *target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.lock().insert(target.clone());
        match target.rsplit('/').next() {
            Some("events" | "tls" | "h2") => {
                let start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream.write_all(start.as_bytes()).await?;
                loop {
                    stream.write_all(b"9\r\ndata: 1\n\n\r\n").await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Some("flood") => {
                let start = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
                stream.write_all(start.as_bytes()).await?;
                let piece = [b'x'; 64 << 10];
                while let Ok(written) = tokio::time::timeout(STALLED_AFTER, stream.write(&piece)).await {
                    written?;
                }
                seen.lock().insert(format!("{target} is stalled"));
                stream.read(&mut [0]).await.map(drop)
            }
            Some("ws") => {
                let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(switch.as_bytes()).await?;
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.map(drop)
            }
            _ => {
                let mut bytes = [0; 1024];
                while stream.read(&mut bytes).await? > 0 {}
                Ok(())
            }
        }
    }

    async fn has_seen(&self, target: &str) {
        until(target, async || self.seen.lock().contains(target).then_some(())).await;
    }

    /// The upstream isn't left with what nobody waits for.
    async fn is_left(&self, target: &str) {
        until(target, async || self.left.lock().contains(target).then_some(())).await;
    }
}

async fn http2(cluster: &Cluster) -> SendRequest<Bytes> {
    let io = TcpStream::connect(cluster.http).await.unwrap();
    let (client, connection) = soon("the handshake", h2::client::handshake(io)).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    client
}

async fn events_over(client: &SendRequest<Bytes>, host: &str, target: &str, token: &str) -> RecvStream {
    let mut client = client.clone().ready().await.unwrap();
    let request = Request::builder().uri(format!("http://{}{target}", full(host)));
    let bearer = (!token.is_empty()).then(|| format!("Bearer {token}"));
    let request = bearer.into_iter().fold(request, |request, bearer| request.header("authorization", bearer));
    let request = request.body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = soon("an answer", response).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = response.into_body();
    next(&mut stream).await.unwrap();
    stream
}

async fn next(stream: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let piece = soon("an event", stream.data()).await.unwrap()?;
    stream.flow_control().release_capacity(piece.len()).unwrap();
    Ok(piece)
}

fn upgrade(host: &str, target: &str) -> Call {
    get(host, target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// All that can be under way.
const KINDS: [&str; 6] = ["events", "tls", "h2", "ws", "upload", "wait"];

struct Open<'a> {
    upstream: &'a Slow,
    way: String,
    events: Connection,
    tls: Connection,
    h2: RecvStream,
    ws: Connection,
    upload: Connection,
    wait: Connection,
}

impl<'a> Open<'a> {
    async fn all(
        cluster: &Cluster,
        upstream: &'a Slow,
        shared: &SendRequest<Bytes>,
        host: &str,
        way: &str,
        token: &str,
    ) -> Self {
        let target = |kind: &str| format!("/{way}/{kind}");
        let (mut events, mut tls) = (cluster.connect().await, cluster.connect_tls(host).await);
        for (connection, kind) in [(&mut events, "events"), (&mut tls, "tls")] {
            connection.send(get(host, &target(kind)).token(token).bytes()).await;
            until_received(connection, "data: 1").await;
        }
        let h2 = events_over(shared, host, &target("h2"), token).await;
        let mut ws = cluster.connect().await;
        ws.send(upgrade(host, &target("ws")).token(token).bytes()).await;
        until_received(&mut ws, "\r\n\r\n").await;
        ws.send("hello").await;
        until_received(&mut ws, "hello").await;
        let mut upload = cluster.connect().await;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer {token}\r\n\r\n",
            target("upload"),
            full(host)
        );
        upload.send(format!("{head}5\r\nhello\r\n")).await;
        upstream.has_seen(&target("upload")).await;
        let mut wait = cluster.connect().await;
        wait.send(get(host, &target("wait")).token(token).bytes()).await;
        upstream.has_seen(&target("wait")).await;
        Self { upstream, way: way.to_owned(), events, tls, h2, ws, upload, wait }
    }

    /// All of it ends, what has begun without a clean end, what hasn't with this refusal.
    async fn ended(mut self, status: u16, code: &str) {
        // The stream is read meanwhile: a client of `h2` gives a connection up whose small frames it doesn't read.
        let ended = async {
            loop {
                if let Err(error) = next(&mut self.h2).await {
                    break error;
                }
            }
        };
        let (error, events, tls) = tokio::join!(ended, self.events.rest(), self.tls.rest());
        for rest in [events, tls] {
            assert!(!rest.contains("\r\n0\r\n"), "{}: a clean end: {rest:?}", self.way);
        }
        assert_eq!((error.is_reset(), error.reason()), (true, Some(Reason::CANCEL)), "{}", self.way);
        assert!(self.ws.rest().await.ends_with("hello"), "{}", self.way);
        for connection in [&mut self.upload, &mut self.wait] {
            assert_eq!(connection.answer().await.short(), (status, code), "{}", self.way);
        }
        for kind in KINDS {
            self.upstream.is_left(&format!("/{}/{kind}", self.way)).await;
        }
    }
}

async fn until_received(connection: &mut Connection, text: &str) {
    while !connection.received().contains(text) {
        assert!(connection.more().await > 0, "the connection ended: {:?}", connection.received());
    }
}

/// Exactly one record for each thing that was under way, with this code.
fn check_records(records: &[Value], way: &str, code: &str, cause: &str) {
    for kind in KINDS {
        let path = format!("/{way}/{kind}");
        let of_it: Vec<_> = records
            .iter()
            .filter(|record| record["entry"]["info"]["http"]["request"]["path"] == path.as_str())
            .collect();
        assert_eq!(of_it.len(), 1, "{path}: {of_it:#?}");
        let record = of_it[0];
        assert_eq!(record["error"]["code"], code, "{record}");
        assert!(record["error"]["cause"].as_str().unwrap().contains(cause), "{record}");
        let has_begun = !matches!(kind, "upload" | "wait");
        assert_eq!(record["isAborted"].as_bool(), has_begun.then_some(true), "{record}");
    }
}

async fn set_lock(cluster: &Cluster, kind: &str, name: &str, is_locked: bool) {
    let reference = ObjectReference { name: name.to_owned(), ..ObjectReference::default() };
    let request = SetLockRequest { kind: kind.to_owned(), r#ref: Some(reference), is_locked };
    cluster.api.control().set_lock(request).await.unwrap();
}

fn seconds_ahead(seconds: i64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Timestamp { seconds: i64::try_from(now).unwrap() + seconds, nanos: 0 }
}

/// What happens to alice's Session: the way, then status, code and cause of what it does.
const WAYS: [(&str, u16, &str, &str); 11] = [
    ("session-deleted", 401, "SESSION_REVOKED", "the Session is gone"),
    ("logged-out", 401, "SESSION_REVOKED", "the Session is gone"),
    ("session-locked", 403, "ACCESS_WITHDRAWN", "SESSION_LOCKED"),
    ("session-rejected", 403, "ACCESS_WITHDRAWN", "SESSION_NOT_ACTIVE"),
    ("session-expired", 401, "SESSION_EXPIRED", "the Session is expired"),
    ("user-locked", 403, "ACCESS_WITHDRAWN", "USER_LOCKED"),
    ("user-disabled", 403, "ACCESS_WITHDRAWN", "USER_DEACTIVATED"),
    ("credential-disabled", 401, "SESSION_REVOKED", "Credential"),
    ("credential-expired", 401, "SESSION_EXPIRED", "Credential"),
    ("credential-deleted", 401, "SESSION_REVOKED", "the Session is gone"),
    ("user-deleted", 401, "SESSION_REVOKED", "the Session is gone"),
];

async fn withdraw(cluster: &Cluster, way: &str, login: &Login, session: &str) {
    let mut core = cluster.api.core();
    let session_spec = async |change: fn(&mut octelium_api::core::session::Spec)| {
        let mut session = cluster.api.session_of(cluster, &login.access).await;
        change(session.spec.as_mut().unwrap());
        cluster.api.core().update_session(session).await.unwrap();
    };
    match way {
        "session-deleted" => drop(core.delete_session(deletion(session)).await.unwrap()),
        "logged-out" => cluster.api.log_out(&login.refresh).await.unwrap(),
        "session-locked" => set_lock(cluster, "Session", session, true).await,
        "session-rejected" => {
            session_spec(|spec| spec.state = octelium_api::core::session::spec::State::Rejected.into()).await;
        }
        "session-expired" => session_spec(|spec| spec.expires_at = Some(seconds_ahead(1))).await,
        "user-locked" => set_lock(cluster, "User", "alice", true).await,
        "user-disabled" => {
            let mut user = workload("alice");
            merge(&mut user["spec"], json!({ "isDisabled": true }));
            drop(cluster.api.apply(&[user]).await);
        }
        "credential-disabled" => {
            let spec = json!({ "type": "AUTH_TOKEN", "user": "alice", "isDisabled": true });
            drop(cluster.api.apply(&[resource("Credential", &login.credential, spec)]).await);
        }
        "credential-expired" => {
            let mut credential = cluster.api.get_credential(&login.credential).await;
            credential.spec.as_mut().unwrap().expires_at = Some(seconds_ahead(1));
            drop(core.update_credential(credential).await.unwrap());
        }
        "credential-deleted" => drop(core.delete_credential(deletion(&login.credential)).await.unwrap()),
        "user-deleted" => drop(core.delete_user(deletion("alice")).await.unwrap()),
        other => panic!("{other}"),
    }
}

/// D9, and what ends by the clock. Bob's stream on the very same connection sees nothing of it.
#[tokio::test]
async fn what_is_under_way_ends_with_its_session() {
    let (cluster, upstream) = (Cluster::start().await, Slow::start().await);
    cluster.api.apply(&[service("svc", &upstream.url, json!({}))]).await;
    let bob = cluster.api.login("bob", json!({}), &[]).await;
    let shared = http2(&cluster).await;
    let mut of_bob = events_over(&shared, "svc", "/bob/h2", &bob.access).await;
    for (way, status, code, _) in WAYS {
        let login = cluster.api.login("alice", json!({}), &[]).await;
        let session = cluster.api.session_of(&cluster, &login.access).await.metadata.unwrap().name;
        let open = Open::all(&cluster, &upstream, &shared, "svc", way, &login.access).await;
        withdraw(&cluster, way, &login, &session).await;
        let answered = Instant::now();
        open.ended(status, code).await;
        println!("{way}: everything has ended {:?} after the API's answer", answered.elapsed());
        assert!(answered.elapsed() < AT_ONCE, "{way}: {:?}", answered.elapsed());
        if way == "user-locked" {
            set_lock(&cluster, "User", "alice", false).await;
        }
        // What waits in the window came before.
        for _ in 0..3 {
            next(&mut of_bob).await.unwrap();
        }
    }
    drop((of_bob, shared));
    let records = cluster.stop().await;
    for (way, _, code, cause) in WAYS {
        check_records(&records, way, code, cause);
    }
    let of_bob = records.iter().filter(|record| record["entry"]["common"]["userRef"]["name"] == "bob");
    assert!(of_bob.clone().all(|record| record["error"] == Value::Null), "{:#?}", of_bob.collect::<Vec<_>>());
}

/// A caller who doesn't read isn't forgotten, and neither is one whose request is still being read for a rule.
#[tokio::test]
async fn what_is_held_up_ends_too() {
    let (cluster, upstream) = (Cluster::start().await, Slow::start().await);
    let reading = only(&[rule("ALLOW", "size(ctx.request.http.body) > 0")]);
    cluster.api.apply(&[service("svc", &upstream.url, json!({})), service("reads", &upstream.url, reading)]).await;
    let login = cluster.api.login("alice", json!({}), &[]).await;
    let session = cluster.api.session_of(&cluster, &login.access).await.metadata.unwrap().name;
    let mut flood = cluster.connect().await;
    flood.send(get("svc", "/1/flood").token(&login.access).bytes()).await;
    let shared = http2(&cluster).await;
    let flood2 = events_over(&shared, "svc", "/2/flood", &login.access).await;
    for number in 1..=2 {
        upstream.has_seen(&format!("/{number}/flood is stalled")).await;
    }
    let mut buffered = cluster.connect().await;
    let head = format!("POST /buffered HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n", full("reads"));
    let head = format!("{head}Expect: 100-continue\r\nAuthorization: Bearer {}\r\n\r\n", login.access);
    buffered.send(head).await;
    assert_eq!(buffered.answer().await.status, 100);
    buffered.send("hello").await;
    cluster.api.core().delete_session(deletion(&session)).await.unwrap();
    for number in 1..=2 {
        upstream.is_left(&format!("/{number}/flood")).await;
    }
    assert_eq!(buffered.answer().await.short(), (401, "SESSION_REVOKED"));
    drop((flood, flood2, shared));
    let records = cluster.stop().await;
    assert_eq!(records.len(), 3, "{records:#?}");
    assert!(records.iter().all(|record| record["error"]["code"] == "SESSION_REVOKED"), "{records:#?}");
}

/// The stream is the Session's: it outlives the access token that it began with, but not the token's revocation.
#[tokio::test]
async fn a_refresh_cuts_nothing_and_a_rotated_token_does() {
    let (cluster, upstream) = (Cluster::start().await, Slow::start().await);
    cluster.api.apply(&[service("svc", &upstream.url, json!({}))]).await;
    let shared = http2(&cluster).await;
    let login = cluster.api.login("alice", json!({}), &[]).await;
    let mut refreshed = events_over(&shared, "svc", "/refreshed/h2", &login.access).await;
    let rotated = cluster.api.caller("bob").await;
    let mut rotated = events_over(&shared, "svc", "/rotated/h2", &rotated).await;
    cluster.api.refresh(&login.refresh).await.unwrap();
    cluster.api.caller("bob").await;
    while next(&mut rotated).await.is_ok() {}
    for _ in 0..3 {
        next(&mut refreshed).await.unwrap();
    }
    drop((refreshed, shared));
    let records = cluster.stop().await;
    let rotated = records.iter().find(|record| record["entry"]["info"]["http"]["request"]["path"] == "/rotated/h2");
    assert_eq!(rotated.unwrap()["error"]["code"], "SESSION_REVOKED");
}

/// Policies are asked again about what goes on, with all that they were asked at its start.
#[tokio::test]
async fn what_is_under_way_ends_with_the_policy_that_allowed_it() {
    let (cluster, upstream) = (Cluster::start().await, Slow::start().await);
    let policy = |rules: &[Value]| resource("Policy", "gate", json!({ "rules": rules }));
    let everybody = rule("ALLOW", "ctx.user.metadata.name != \"\"");
    let gated = json!({ "authorization": { "policies": ["gate"] } });
    let by_header = only(&[rule("ALLOW", r#"ctx.request.http.headers["x-team"] == "red""#)]);
    cluster
        .api
        .apply(&[
            policy(std::slice::from_ref(&everybody)),
            service("svc", &upstream.url, gated),
            service("by-header", &upstream.url, by_header.clone()),
        ])
        .await;
    let alice = cluster.api.login("alice", json!({}), &[]).await;
    let bob = cluster.api.login("bob", json!({}), &[]).await;
    let shared = http2(&cluster).await;
    let mut of_bob = events_over(&shared, "svc", "/bob/h2", &bob.access).await;
    let mut red = cluster.connect().await;
    red.send(get("by-header", "/red/events").token(&alice.access).header("X-Team", "red").bytes()).await;
    until_received(&mut red, "data: 1").await;

    let open = Open::all(&cluster, &upstream, &shared, "svc", "denied", &alice.access).await;
    let not_alice =
        rule("DENY", r#"ctx.user.metadata.name == "alice" && ctx.request.http.path.startsWith("/denied/")"#);
    cluster.api.apply(&[policy(&[everybody.clone(), not_alice])]).await;
    let answered = Instant::now();
    open.ended(403, "ACCESS_WITHDRAWN").await;
    println!("policy: everything has ended {:?} after the API's answer", answered.elapsed());
    assert!(answered.elapsed() < AT_ONCE);

    // A rule that reads what isn't there any more can't be asked: nothing goes on by that.
    let open = Open::all(&cluster, &upstream, &shared, "svc", "unknown", &alice.access).await;
    let by_agent = rule("DENY", r#"ctx.user.metadata.name == "alice" && ctx.request.http.headers["x-a"] == "no""#);
    cluster.api.apply(&[policy(&[everybody, by_agent])]).await;
    open.ended(403, "ACCESS_WITHDRAWN").await;
    while next(&mut of_bob).await.is_ok() {}

    // Headers that were read at the start are kept for that.
    let mut changed = service("by-header", &upstream.url, by_header);
    changed["metadata"]["displayName"] = json!("Changed");
    cluster.api.apply(&[changed]).await;
    let before = red.received().len();
    while red.received().len() < before + 100 {
        assert!(red.more().await > 0);
    }
    drop((red, shared));
    let records = cluster.stop().await;
    check_records(&records, "denied", "ACCESS_WITHDRAWN", "POLICY_MATCH");
    check_records(&records, "unknown", "ACCESS_WITHDRAWN", "headers");
}

#[tokio::test]
async fn what_is_under_way_ends_with_its_service() {
    let (cluster, upstream) = (Cluster::start().await, Slow::start().await);
    let alice = cluster.api.login("alice", json!({}), &[]).await;
    let shared = http2(&cluster).await;
    let ways = [("disabled", 503, "SERVICE_DISABLED", ""), ("deleted", 404, "HOST_UNKNOWN", "the Service is gone")];
    cluster.api.apply(&[service("other", &upstream.url, json!({}))]).await;
    let mut of_other = events_over(&shared, "other", "/other/h2", &alice.access).await;
    for (way, status, code, _) in ways {
        cluster.api.apply(&[service("svc", &upstream.url, json!({}))]).await;
        let open = Open::all(&cluster, &upstream, &shared, "svc", way, &alice.access).await;
        match way {
            "disabled" => {
                drop(cluster.api.apply(&[service("svc", &upstream.url, json!({ "isDisabled": true }))]).await)
            }
            _ => drop(cluster.api.core().delete_service(deletion("svc.default")).await.unwrap()),
        }
        let answered = Instant::now();
        open.ended(status, code).await;
        println!("{way}: everything has ended {:?} after the API's answer", answered.elapsed());
        assert!(answered.elapsed() < AT_ONCE);
    }
    for _ in 0..3 {
        next(&mut of_other).await.unwrap();
    }
    // Nobody is asked who they are, and yet a Service that is switched off answers nobody.
    let open = json!({ "isAnonymous": true, "authorization": null });
    cluster.api.apply(&[service("svc", &upstream.url, open.clone())]).await;
    let mut anonymous = cluster.connect().await;
    anonymous.send(get("svc", "/anonymous/events").bytes()).await;
    until_received(&mut anonymous, "data: 1").await;
    let mut off = open;
    merge(&mut off, json!({ "isDisabled": true }));
    cluster.api.apply(&[service("svc", &upstream.url, off)]).await;
    assert!(!anonymous.rest().await.contains("\r\n0\r\n"));
    drop((of_other, shared));
    let records = cluster.stop().await;
    for (way, _, code, cause) in ways {
        check_records(&records, way, code, cause);
    }
}

/// A node that hears no leader can't know who was withdrawn; whoever needs no Session isn't concerned.
#[tokio::test]
async fn a_node_whose_view_is_too_old_refuses_sessions_until_it_is_fresh_again() {
    let settings = Settings { view_age_max: Some("2s".to_owned()), ..Settings::default() };
    let (cluster, upstream) = (Cluster::with(settings).await, Slow::start().await);
    let answers = Upstream::ok().await;
    cluster
        .api
        .apply(&[
            service("svc", &upstream.url, json!({})),
            service("quick", &answers.url(), json!({})),
            service("open", &answers.url(), json!({ "isAnonymous": true, "authorization": null })),
            service("stream", &upstream.url, json!({ "isAnonymous": true, "authorization": null })),
        ])
        .await;
    let alice = cluster.api.login("alice", json!({}), &[]).await;
    let shared = http2(&cluster).await;
    let open = Open::all(&cluster, &upstream, &shared, "svc", "old", &alice.access).await;
    let mut anonymous = events_over(&shared, "stream", "/anonymous/h2", "").await;
    let seen = Arc::new(AtomicUsize::new(0));
    let reading = tokio::spawn({
        let seen = seen.clone();
        async move {
            while next(&mut anonymous).await.is_ok() {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let quick = get("quick", "/").token(&alice.access);
    assert_eq!(cluster.call(&quick).await.status, 200);

    cluster.node.freshness.freeze(true);
    let frozen = Instant::now();
    open.ended(503, "VIEW_TOO_OLD").await;
    println!("view: everything has ended {:?} after the last answer of a leader", frozen.elapsed());
    let answer = cluster.call(&quick).await;
    assert_eq!(answer.short(), (503, "VIEW_TOO_OLD"));
    assert_eq!(cluster.record_of(&answer).await["error"]["cause"], "no leader was heard within viewAgeMax");
    assert_eq!(cluster.call(&get("open", "/")).await.status, 200);
    let before = seen.load(Ordering::Relaxed);
    until("more events for whoever needs no Session", async || {
        (seen.load(Ordering::Relaxed) >= before + 3).then_some(())
    })
    .await;
    for refused in [
        cluster.api.core().list_user(ListUserOptions::default()).await.map(drop),
        cluster.api.try_log_in(&alice.shown, &[]).await.map(drop),
    ] {
        let status = refused.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
        assert!(status.message().contains("leader"), "{status}");
    }
    let introspect = post("octelium.test", "/oauth2/introspect", "token=x");
    assert_eq!(cluster.call(&introspect).await.short(), (503, "VIEW_TOO_OLD"));

    cluster.node.freshness.freeze(false);
    until("a leader to be heard again", async || (cluster.call(&quick).await.status == 200).then_some(())).await;
    cluster.api.core().list_user(ListUserOptions::default()).await.unwrap();
    reading.abort();
    drop(shared);
    check_records(&cluster.stop().await, "old", "VIEW_TOO_OLD", "no leader was heard");
}
