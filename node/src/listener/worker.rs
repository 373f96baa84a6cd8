//! One worker: a thread, its runtime, its listeners, its connections.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use bytes::BytesMut;
use octelium_actors::Views;
use octelium_consensus::SealingKey;
use octelium_control::Control;
use octelium_http1::{Drain, Limits, Pool, PoolLimits};
use octelium_http2::ServeError;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle, LocalOptions},
    sync::{Notify, watch},
};

use super::{
    accept::{Admitted, Connections},
    api,
    cut_off::CutOff,
    opening::Replayed,
    proxy_protocol,
    tls::Tls,
};
use crate::{
    client_address::Networks,
    config::Listen,
    control_door::ControlDoor,
    proxy::{
        Connection, Hop, Now, Proxy,
        authenticate::Tokens,
        configure::Generated,
        exchange::Peer,
        forward::{
            Forwarder,
            connect::{Dialer, Overrides},
        },
        plugins::local::LocalLimits,
        random::Random,
        secrets::Secrets,
        under_way::UnderWay,
        view_age::ViewAge,
    },
    telemetry::access_log::{AccessLog, FLUSH_EVERY, LogQueue},
};

/// Idle upstream connections of a quiet worker are looked through every ten seconds.
const SWEEP_TICKS: u64 = 100;

/// Published views are looked at no more often.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What all workers are made from.
#[derive(Clone)]
pub struct Parts {
    /// Published state.
    pub views: Views,
    /// How old that is.
    pub view_age: ViewAge,
    /// Limits of this process alone.
    pub local_limits: Arc<LocalLimits>,
    /// How long a request waits at the edge of a limit.
    pub rate_limit_wait: Duration,
    /// Opens Secrets and token keys.
    pub sealing: Arc<SealingKey>,
    /// The control plane and where it runs.
    pub control: Control,
    /// See `control`.
    pub control_runtime: Handle,
    /// Where records go.
    pub log: LogQueue,
    /// TLS settings.
    pub tls: Tls,
    /// Limits of callers' connections.
    pub limits: Limits,
    /// The same where they speak HTTP/2.
    pub http2: octelium_http2::Limits,
    /// Limits of upstream connections.
    pub pool: PoolLimits,
    /// Names that DNS isn't asked for.
    pub resolve: Overrides,
    /// Counts all connections.
    pub connections: Arc<Connections>,
    /// For a whole request, if that is limited.
    pub request_timeout: Option<Duration>,
    /// For the TLS handshake, and before that for a PROXY header.
    pub handshake_timeout: Duration,
    /// Who may send a PROXY header.
    pub balancers: Arc<Networks>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub hops: Arc<Networks>,
    /// How long requests under way may take once draining.
    pub drain_timeout: Duration,
}

/// A listening socket.
pub struct Door {
    /// Listening, not blocking.
    pub listener: std::net::TcpListener,
    /// What is spoken there.
    pub listen: Listen,
}

/// Starts a worker. It ends after `draining` turned true and its connections ended or ran out of time; `ended` is told
/// whenever it ends, also by a panic.
///
/// # Errors
/// If the thread can't be made.
pub fn start(
    index: usize,
    parts: Parts,
    doors: Vec<Door>,
    draining: watch::Receiver<bool>,
    ended: Arc<Notify>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let _ended = Ended(ended);
        let mut builder = Builder::new_current_thread();
        // Threads that block read large JSON bodies and names of upstreams.
        builder.enable_all().max_blocking_threads(16).on_thread_unpark(octelium_http1::clock::turn);
        let runtime = builder.build_local(LocalOptions::default())?;
        runtime.block_on(run(parts, doors, draining))
    })
}

async fn run(parts: Parts, doors: Vec<Door>, mut draining: watch::Receiver<bool>) -> io::Result<()> {
    let access_log = AccessLog::new(parts.log.clone());
    let under_way = Rc::new(UnderWay::new(parts.views.clone(), parts.view_age.clone()));
    let proxy = Rc::new(Proxy {
        views: parts.views.clone(),
        view_age: parts.view_age.clone(),
        local_limits: parts.local_limits.clone(),
        rate_limit_wait: parts.rate_limit_wait,
        under_way: under_way.clone(),
        tokens: Tokens::new(parts.sealing.clone()),
        generated: Generated::default(),
        forwarder: Forwarder {
            pool: Pool::new(parts.pool.clone()),
            http2: octelium_http2::Pool::new(parts.pool.clone()),
            dialer: Dialer::new(parts.resolve.clone()),
            secrets: Secrets::new(parts.sealing.clone()),
            has_log: access_log.is_on(),
        },
        access_log: access_log.clone(),
        request_timeout: parts.request_timeout,
        control: ControlDoor::new(parts.control.clone(), parts.control_runtime.clone()),
        random: Random::default(),
        id_high: uuid::Uuid::new_v4().as_u64_pair().0,
        id_low: Cell::new(0),
    });
    let server =
        Rc::new(Server { proxy, parts, drain: Drain::default(), busy: Busy::default(), cut_off: CutOff::default() });

    let flusher = tokio::task::spawn_local({
        let access_log = access_log.clone();
        let pool = server.proxy.forwarder.pool.clone();
        let http2 = server.proxy.forwarder.http2.clone();
        let server = server.clone();
        let under_way = under_way.clone();
        async move {
            let mut tick = tokio::time::interval(FLUSH_EVERY);
            for ticks in 0_u64.. {
                tick.tick().await;
                access_log.flush();
                under_way.tick(Now::read().unix);
                if ticks % SWEEP_TICKS == 0 {
                    pool.sweep();
                    http2.sweep();
                    server.cut_off.tell();
                }
            }
        }
    });
    let looker = tokio::task::spawn_local(look(server.parts.views.clone(), under_way));
    let pump = tokio::task::spawn_local(octelium_http1::turn::pump());
    let departures = tokio::task::spawn_local(octelium_http1::departures::run());
    let mut acceptors = Vec::new();
    for door in doors {
        let listener = TcpListener::from_std(door.listener)?;
        acceptors.push(tokio::task::spawn_local(accept(server.clone(), listener, door.listen)));
    }
    // An error means that the sender is gone, and with it the node: stop as well.
    draining.wait_for(|draining| *draining).await.ok();
    for acceptor in acceptors {
        acceptor.abort();
    }
    server.drain.fire();
    if tokio::time::timeout(server.parts.drain_timeout, server.busy.none()).await.is_err() {
        tracing::warn!(
            connections = server.busy.count.get(),
            "connections were cut: they took longer than drainTimeout"
        );
    }
    flusher.abort();
    looker.abort();
    pump.abort();
    departures.abort();
    server.proxy.forwarder.pool.clear();
    server.proxy.forwarder.http2.clear();
    access_log.flush();
    Ok(())
}

/// Lets requests under way feel what is published. The first change of many is looked at at once, the others together.
async fn look(views: Views, under_way: Rc<UnderWay>) {
    let mut published = views.follow();
    loop {
        published.changed().await;
        under_way.look();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

struct Ended(Arc<Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

struct Server {
    proxy: Rc<Proxy>,
    parts: Parts,
    drain: Drain,
    busy: Busy,
    cut_off: CutOff,
}

/// Counts this worker's connections, so that draining can wait for them.
#[derive(Default)]
struct Busy {
    count: Cell<usize>,
    ended: Notify,
}

impl Busy {
    async fn none(&self) {
        while self.count.get() > 0 {
            self.ended.notified().await;
        }
    }
}

struct BusyGuard(Rc<Server>);

impl BusyGuard {
    fn new(server: &Rc<Server>) -> Self {
        server.busy.count.set(server.busy.count.get() + 1);
        Self(server.clone())
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.busy.count.set(self.0.busy.count.get() - 1);
        self.0.busy.ended.notify_one();
    }
}

async fn accept(server: Rc<Server>, listener: TcpListener, listen: Listen) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Whom we don't know can't speak for others; over the limit: closed at once, before it costs anything.
                if listen.is_proxied && !server.parts.balancers.contains(address.ip()) {
                    tracing::debug!(client = %address, "not a source of PROXY headers");
                    continue;
                }
                let Some(mut admitted) = server.parts.connections.admit() else { continue };
                if !listen.is_proxied && !admitted.is_of(address.ip(), server.parts.hops.contains(address.ip())) {
                    continue;
                }
                tokio::task::spawn_local(connection(server.clone(), stream, address, listen, admitted));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// What only some connections do is boxed: a waiting HTTP/1.1 connection shouldn't hold the room of all of it.
async fn connection(server: Rc<Server>, stream: TcpStream, address: SocketAddr, listen: Listen, admitted: Admitted) {
    let _busy = BusyGuard::new(&server);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let (mut io, mut ip, mut admitted) = (Replayed::new(stream), address.ip(), admitted);
    if listen.is_proxied {
        let reading = Box::pin(proxy_protocol::read(&mut io));
        let header = tokio::time::timeout(server.parts.handshake_timeout, reading).await;
        match header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(source) => ip = source.map_or(ip, |source| source.ip()),
            Err(error) => {
                tracing::debug!(%error, client = %address, "a PROXY header was refused");
                return;
            }
        }
        if !admitted.is_of(ip, server.parts.hops.contains(ip)) {
            return;
        }
    }
    let ip = ip.to_canonical();
    let handler = Rc::new(Connection {
        proxy: server.proxy.clone(),
        peer: Rc::new(Peer { ip: ip.to_string().into(), is_tls: listen.is_tls }),
        admitted: Rc::new(admitted),
        hop: hop(&server, ip),
    });
    if !listen.is_tls {
        let begins = begins_http2(&server, &mut io);
        // Nothing was promised to whom nothing was asked by.
        let begins = tokio::select! { begins = begins => begins, () = server.drain.fired() => None };
        let Some(is_http2) = begins else { return };
        return serve(&server, io, &handler, is_http2).await;
    }
    match Box::pin(server.parts.tls.accept(io)).await {
        Ok(accepted) if accepted.is_api => Box::pin(api::serve(accepted.stream, handler, server.drain.clone())).await,
        Ok(accepted) => serve(&server, accepted.stream, &handler, accepted.is_http2).await,
        Err(error) => tracing::debug!(%error, client = %handler.peer.ip, "a TLS handshake failed"),
    }
}

fn hop(server: &Server, address: IpAddr) -> Option<Hop> {
    let trusted = &server.parts.hops;
    trusted.contains(address).then(|| Hop { address, trusted: trusted.clone() })
}

/// Waits for the caller's first bytes, and says whether they are HTTP/2; `None`: they don't come.
async fn begins_http2(server: &Server, io: &mut Replayed<TcpStream>) -> Option<bool> {
    let Limits { idle_timeout, head_timeout, .. } = server.parts.limits;
    let mut seen = BytesMut::new();
    if tokio::time::timeout(idle_timeout, io.look(&mut seen)).await.ok()?.ok()? == 0 {
        return None;
    }
    // Half a preface that isn't completed in time is a bad request to the HTTP/1.1 engine.
    let begins = tokio::time::timeout(head_timeout, io.begins_http2(&mut seen)).await.unwrap_or(Ok(false)).ok()?;
    io.put_back(seen);
    Some(begins)
}

async fn serve<IO>(server: &Server, io: IO, handler: &Connection, is_http2: bool)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let client = &handler.peer.ip;
    if is_http2 {
        match Box::pin(octelium_http2::serve(io, &server.parts.http2, handler, &server.drain)).await {
            Ok(()) => {}
            Err(error @ ServeError::Flood(_)) => server.cut_off.note(client, &error),
            Err(error) => tracing::debug!(%error, %client, "a connection ended early"),
        }
    } else if let Err(error) = octelium_http1::serve(io, &server.parts.limits, handler, &server.drain).await {
        tracing::debug!(%error, %client, "a connection ended early");
    }
}
