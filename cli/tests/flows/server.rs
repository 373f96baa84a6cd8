//! A cluster that is only its API, over real TLS.

mod auth;
mod control;
mod core;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use octelium_api::{
    Kind, Object,
    auth::main_service_server::MainServiceServer as AuthServer,
    control::control_service_server::ControlServiceServer,
    core::{ClusterConfig, config, main_service_server::MainServiceServer as CoreServer, secret},
    meta,
    user::main_service_server::MainServiceServer as UserServer,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status,
    transport::server::{Connected, Router},
};

pub const DOMAIN: &str = "test.example";
/// The authentication token that this cluster accepts.
pub const TOKEN: &str = "an-authentication-token";
/// Resources on a page where the request doesn't say.
const PAGE: usize = 2;

/// A running cluster and the home directory of a client that knows it.
pub struct Server {
    home: TempDir,
    address: SocketAddr,
    cluster: Arc<Cluster>,
    runtime: Runtime,
}

/// What a run of the binary left.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

#[derive(Default)]
struct Cluster(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<(Kind, String), Object>,
    calls: Vec<String>,
    request_ids: BTreeSet<String>,
    access: BTreeSet<String>,
    refresh: BTreeSet<String>,
    scopes: Vec<String>,
    tokens: u32,
    unavailable: u32,
    authenticators: BTreeSet<String>,
    serves_authenticators: bool,
    locks: BTreeSet<(Kind, String)>,
    nodes: Vec<octelium_api::control::Node>,
    rate_limits: Vec<octelium_api::control::RateLimit>,
    breaks_off: bool,
    /// So many changes will be made without an answer.
    lost: u32,
    /// Whether somebody else is always faster.
    races: bool,
    /// How often a token was replaced together with its Sessions.
    replaced_with_sessions: u32,
    /// Whether callers need no token, since somebody else vouches for them.
    trusts: bool,
    /// The index of the last change, of all and of each kind.
    index: u64,
    changes: BTreeMap<Kind, u64>,
    /// The index that requests are decided by, where that is another.
    in_effect: Option<u64>,
}

impl Server {
    pub fn start() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let home = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed([format!("octelium-api.{DOMAIN}")]).unwrap();
        fs::write(home.path().join("ca.pem"), certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let cluster = Arc::new(Cluster::default());
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), cluster.clone()));
        let server = Self { home, address, cluster, runtime };
        server.configure("");
        server.put(
            ClusterConfig { metadata: Some(metadata("default")), spec: Some(Default::default()), ..Default::default() }
                .into(),
        );
        server
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Writes the client's configuration; `more` goes into the cluster's entry.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "currentDomain: {DOMAIN}\nclusters:\n- domain: {DOMAIN}\n  address: {}\n  caFile: ca.pem\n  {more}\n",
            self.address
        );
        fs::write(self.home().join("config.yaml"), text).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[], b"")
    }

    /// A run that is under way.
    pub fn spawn(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_octeliumctl"))
            .args(arguments)
            .env_clear()
            .env("OCTELIUM_HOME", self.home())
            .env("PATH", "/usr/bin:/bin")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)], stdin: &[u8]) -> Run {
        let mut child = self.spawn(arguments, environment);
        // A command that reads nothing may be gone already.
        child.stdin.take().unwrap().write_all(stdin).ok();
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.cluster.0.lock().unwrap()
    }

    pub fn calls(&self) -> Vec<String> {
        self.inner().calls.clone()
    }

    /// How many calls there were whose method begins so.
    pub fn count(&self, method: &str) -> usize {
        self.inner().calls.iter().filter(|call| call.starts_with(method)).count()
    }

    pub fn sessions(&self) -> usize {
        self.inner().refresh.len()
    }

    pub fn scopes(&self) -> Vec<String> {
        self.inner().scopes.clone()
    }

    pub fn request_ids(&self) -> BTreeSet<String> {
        self.inner().request_ids.clone()
    }

    pub fn end_sessions(&self) {
        let mut inner = self.inner();
        inner.access.clear();
        inner.refresh.clear();
    }

    pub fn end_access_tokens(&self) {
        self.inner().access.clear();
    }

    /// From now on the Session's own calls are served.
    pub fn serve_authenticators(&self) {
        self.inner().serves_authenticators = true;
    }

    /// From now on backups end before they are complete, and so do restores.
    pub fn break_off(&self) {
        self.inner().breaks_off = true;
    }

    /// So many changes of one resource will be made, but the answer is lost.
    pub fn lose_answers(&self, calls: u32) {
        self.inner().lost = calls;
    }

    /// From now on somebody else changes every resource just before it is updated.
    pub fn race(&self) {
        self.inner().races = true;
    }

    pub fn replaced_with_sessions(&self) -> u32 {
        self.inner().replaced_with_sessions
    }

    /// From now on no change takes effect.
    pub fn lag(&self) {
        let mut inner = self.inner();
        inner.in_effect = Some(inner.index);
    }

    /// A socket whose callers are trusted, and its path.
    #[cfg(unix)]
    pub fn socket(&self) -> String {
        let path = self.home().join("proxy.sock");
        let _context = self.runtime.enter();
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        self.inner().trusts = true;
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        self.runtime.spawn(router(self.cluster.clone()).serve_with_incoming(incoming));
        path.display().to_string()
    }

    /// So many calls will find no leader.
    pub fn unavailable(&self, calls: u32) {
        self.inner().unavailable = calls;
    }

    pub fn put_node(&self, node: octelium_api::control::Node) {
        self.inner().nodes.push(node);
    }

    pub fn put_rate_limit(&self, counter: octelium_api::control::RateLimit) {
        self.inner().rate_limits.push(counter);
    }

    pub fn put(&self, object: Object) {
        self.inner().store(object);
    }

    pub fn object(&self, kind: Kind, name: &str) -> Option<Object> {
        self.inner().objects.get(&(kind, name.to_owned())).cloned()
    }

    /// The stored value of a Secret.
    pub fn secret(&self, name: &str) -> Vec<u8> {
        let Some(Object::Secret(secret)) = self.object(Kind::Secret, name) else { panic!("no Secret {name}") };
        match secret.data.and_then(|data| data.r#type) {
            Some(secret::data::Type::Value(value)) => value.into_bytes(),
            Some(secret::data::Type::ValueBytes(bytes)) => bytes,
            None => Vec::new(),
        }
    }

    /// The stored data of a Config.
    pub fn config(&self, name: &str) -> Vec<u8> {
        let Some(Object::Config(stored)) = self.object(Kind::Config, name) else { panic!("no Config {name}") };
        match stored.data.and_then(|data| data.r#type) {
            Some(config::data::Type::ValueBytes(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, cluster: Arc<Cluster>) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<Io>>(8);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            // A client that doesn't trust us goes away here.
            if let Ok(tls) = acceptor.accept(tcp).await {
                sender.send(Ok(Io(tls))).await.unwrap();
            }
        }
    });
    router(cluster).serve_with_incoming(ReceiverStream::new(receiver)).await.unwrap();
}

fn router(cluster: Arc<Cluster>) -> Router {
    tonic::transport::Server::builder()
        .add_service(CoreServer::from_arc(cluster.clone()))
        .add_service(AuthServer::from_arc(cluster.clone()))
        .add_service(UserServer::from_arc(cluster.clone()))
        .add_service(ControlServiceServer::from_arc(cluster))
}

impl Inner {
    /// Stores it as the next change.
    fn store(&mut self, mut object: Object) -> Object {
        object.set_envelope();
        object.metadata_mut().resource_version = uuid::Uuid::now_v7().to_string();
        self.changed(object.kind());
        self.objects.insert((object.kind(), object.name().to_owned()), object.clone());
        object
    }

    /// The answer to a change that was made, unless it gets lost.
    fn answer<T>(&mut self, answer: T) -> Result<T, Status> {
        if self.lost == 0 {
            return Ok(answer);
        }
        self.lost -= 1;
        Err(Status::unavailable("the answer was lost"))
    }

    fn changed(&mut self, kind: Kind) {
        self.index += 1;
        self.changes.insert(kind, self.index);
    }
}

impl Cluster {
    /// Notes a call that needs no Session.
    fn note(&self, method: &str) -> MutexGuard<'_, Inner> {
        let mut inner = self.0.lock().unwrap();
        inner.calls.push(method.to_owned());
        inner
    }

    /// Notes a call by somebody.
    fn enter<T>(&self, method: &str, request: &Request<T>) -> Result<MutexGuard<'_, Inner>, Status> {
        let agent = request.metadata().get("user-agent").unwrap().to_str().unwrap();
        assert!(agent.starts_with("octelium-cli/"), "{agent}");
        let mut inner = self.note(method);
        if inner.unavailable > 0 {
            inner.unavailable -= 1;
            return Err(Status::unavailable("no leader"));
        }
        match request.metadata().get("x-octelium-auth").and_then(|token| token.to_str().ok()) {
            Some(token) if inner.access.contains(token) => Ok(inner),
            None if inner.trusts => Ok(inner),
            _ => Err(Status::unauthenticated("no valid access token")),
        }
    }
}

/// A request's metadata without its message.
trait MapRef {
    fn map_ref(&self) -> Request<()>;
}

impl<T> MapRef for Request<T> {
    fn map_ref(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.metadata_mut() = self.metadata().clone();
        request
    }
}

fn metadata(name: &str) -> meta::Metadata {
    meta::Metadata { name: name.into(), uid: uuid::Uuid::new_v4().to_string(), ..Default::default() }
}

fn without_data(mut object: Object) -> Object {
    match &mut object {
        Object::Secret(secret) => secret.data = None,
        Object::Config(config) => config.data = None,
        _ => {}
    }
    object
}

/// The data of `new`, where it has any.
fn take_data(object: &mut Object, new: &Object) {
    match (object, new) {
        (Object::Secret(object), Object::Secret(new)) if new.data.is_some() => object.data = new.data.clone(),
        (Object::Config(object), Object::Config(new)) if new.data.is_some() => object.data = new.data.clone(),
        _ => {}
    }
}

/// The resource of a kind that the caller knows.
fn typed<T: TryFrom<Object>>(object: Object) -> T {
    T::try_from(object).ok().unwrap()
}

/// A TLS stream as tonic takes it.
struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
