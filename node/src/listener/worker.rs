//! One worker: a thread, its runtime, its listeners, its connections.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};

use octelium_actors::Views;
use octelium_consensus::SealingKey;
use octelium_control::Control;
use octelium_http1::{Drain, Limits, Pool, PoolLimits, serve};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    sync::{Notify, watch},
    task::LocalSet,
};

use super::{
    accept::{Admitted, Connections},
    api,
    tls::Tls,
};
use crate::{
    control_door::ControlDoor,
    proxy::{
        Connection, Proxy,
        authenticate::Tokens,
        configure::Generated,
        exchange::Peer,
        forward::{
            Forwarder,
            connect::{Dialer, Overrides},
        },
        secrets::Secrets,
    },
    telemetry::access_log::{AccessLog, FLUSH_EVERY, LogQueue},
};

/// Idle upstream connections of a quiet worker are looked through every ten seconds.
const SWEEP_TICKS: u64 = 100;

/// What all workers are made from.
#[derive(Clone)]
pub struct Parts {
    /// Published state.
    pub views: Views,
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
    /// Limits of upstream connections.
    pub pool: PoolLimits,
    /// Names that DNS isn't asked for.
    pub resolve: Overrides,
    /// Counts all connections.
    pub connections: Arc<Connections>,
    /// For a whole request, if that is limited.
    pub request_timeout: Option<Duration>,
    /// How long requests under way may take once draining.
    pub drain_timeout: Duration,
}

/// A listening socket, and whether callers speak TLS on it.
pub struct Door {
    /// Listening, not blocking.
    pub listener: std::net::TcpListener,
    /// Whether callers speak TLS.
    pub is_tls: bool,
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
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        local.block_on(&runtime, run(parts, doors, draining))
    })
}

async fn run(parts: Parts, doors: Vec<Door>, mut draining: watch::Receiver<bool>) -> io::Result<()> {
    let access_log = AccessLog::new(parts.log.clone());
    let proxy = Rc::new(Proxy {
        views: parts.views.clone(),
        tokens: Tokens::new(parts.sealing.clone()),
        generated: Generated::default(),
        forwarder: Forwarder {
            pool: Pool::new(parts.pool.clone()),
            dialer: Dialer::new(parts.resolve.clone()),
            secrets: Secrets::new(parts.sealing.clone()),
            has_log: access_log.is_on(),
        },
        access_log: access_log.clone(),
        request_timeout: parts.request_timeout,
        control: ControlDoor::new(parts.control.clone(), parts.control_runtime.clone()),
        id_high: uuid::Uuid::new_v4().as_u64_pair().0,
        id_low: Cell::new(0),
    });
    let server = Rc::new(Server { proxy, parts, drain: Drain::default(), busy: Busy::default() });

    let flusher = tokio::task::spawn_local({
        let access_log = access_log.clone();
        let pool = server.proxy.forwarder.pool.clone();
        async move {
            let mut tick = tokio::time::interval(FLUSH_EVERY);
            for ticks in 0_u64.. {
                tick.tick().await;
                access_log.flush();
                if ticks % SWEEP_TICKS == 0 {
                    pool.sweep();
                }
            }
        }
    });
    let mut acceptors = Vec::new();
    for door in doors {
        let listener = TcpListener::from_std(door.listener)?;
        acceptors.push(tokio::task::spawn_local(accept(server.clone(), listener, door.is_tls)));
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
    server.proxy.forwarder.pool.clear();
    access_log.flush();
    Ok(())
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

async fn accept(server: Rc<Server>, listener: TcpListener, is_tls: bool) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Over the limit: closed at once, before it costs anything.
                let Some(admitted) = server.parts.connections.admit(address.ip()) else { continue };
                tokio::task::spawn_local(connection(server.clone(), stream, address, is_tls, admitted));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(server: Rc<Server>, stream: TcpStream, address: SocketAddr, is_tls: bool, admitted: Admitted) {
    let _busy = BusyGuard::new(&server);
    let _admitted = admitted;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let peer = Rc::new(Peer { ip: address.ip().to_canonical().to_string().into(), is_tls });
    let handler = Connection { proxy: server.proxy.clone(), peer };
    let result = if is_tls {
        match server.parts.tls.accept(stream).await {
            Ok(accepted) if accepted.is_api => {
                return api::serve(accepted.stream, handler.proxy, handler.peer, server.drain.clone()).await;
            }
            Ok(accepted) => serve(accepted.stream, &server.parts.limits, &handler, &server.drain).await,
            Err(error) => {
                tracing::debug!(%error, client = %handler.peer.ip, "a TLS handshake failed");
                return;
            }
        }
    } else {
        serve(stream, &server.parts.limits, &handler, &server.drain).await
    };
    if let Err(error) = result {
        tracing::debug!(%error, client = %handler.peer.ip, "a connection ended early");
    }
}
