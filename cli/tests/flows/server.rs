//! A cluster that is only its API, over real TLS.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use octelium_api::{Kind, Object, auth, control, core, meta, name, user};
use prost::Message;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, transport::server::Connected};

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
    _runtime: Runtime,
}

/// What a run of the binary left.
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
        let server = Self { home, address, cluster, _runtime: runtime };
        server.configure("");
        server.put(core::ClusterConfig { metadata: Some(metadata("default")), ..Default::default() }.into());
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

    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)], stdin: &[u8]) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_octeliumctl"))
            .args(arguments)
            .env_clear()
            .env("OCTELIUM_HOME", self.home())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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

    /// So many calls will find no leader.
    pub fn unavailable(&self, calls: u32) {
        self.inner().unavailable = calls;
    }

    pub fn put(&self, object: Object) {
        let key = (object.kind(), object.name().to_owned());
        self.inner().objects.insert(key, object);
    }

    pub fn object(&self, kind: Kind, name: &str) -> Option<Object> {
        self.inner().objects.get(&(kind, name.to_owned())).cloned()
    }

    /// The stored value of a Secret.
    pub fn secret(&self, name: &str) -> Vec<u8> {
        let Some(Object::Secret(secret)) = self.object(Kind::Secret, name) else { panic!("no Secret {name}") };
        match secret.data.and_then(|data| data.r#type) {
            Some(core::secret::data::Type::Value(value)) => value.into_bytes(),
            Some(core::secret::data::Type::ValueBytes(bytes)) => bytes,
            None => Vec::new(),
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
    tonic::transport::Server::builder()
        .add_service(core::main_service_server::MainServiceServer::from_arc(cluster.clone()))
        .add_service(auth::main_service_server::MainServiceServer::from_arc(cluster.clone()))
        .add_service(user::main_service_server::MainServiceServer::from_arc(cluster.clone()))
        .add_service(control::control_service_server::ControlServiceServer::from_arc(cluster))
        .serve_with_incoming(ReceiverStream::new(receiver))
        .await
        .unwrap();
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
            _ => Err(Status::unauthenticated("no valid access token")),
        }
    }

    fn create(&self, method: &str, request: Request<impl Into<Object>>) -> Result<Object, Status> {
        let mut inner = self.enter(method, &request.map_ref())?;
        let mut object: Object = request.into_inner().into();
        let key = (object.kind(), object.name().to_owned());
        if inner.objects.contains_key(&key) {
            return Err(Status::already_exists(format!("{} {} exists", key.0, key.1)));
        }
        object.metadata_mut().uid = uuid::Uuid::new_v4().to_string();
        inner.objects.insert(key, object.clone());
        Ok(without_data(object))
    }

    fn get(&self, method: &str, request: Request<meta::GetOptions>, kind: Kind) -> Result<Object, Status> {
        let inner = self.enter(method, &request)?;
        let key = (kind, request.into_inner().name);
        inner
            .objects
            .get(&key)
            .cloned()
            .map(without_data)
            .ok_or_else(|| Status::not_found(format!("no {kind} {}", key.1)))
    }

    fn delete(
        &self,
        method: &str,
        request: Request<meta::DeleteOptions>,
        kind: Kind,
    ) -> Result<Response<meta::OperationResult>, Status> {
        let mut inner = self.enter(method, &request)?;
        let name = request.into_inner().name;
        match inner.objects.remove(&(kind, name.clone())) {
            Some(_) => Ok(Response::new(meta::OperationResult {})),
            None => Err(Status::not_found(format!("no {kind} {name}"))),
        }
    }

    fn list<T>(
        &self,
        method: &str,
        request: &Request<T>,
        common: Option<meta::CommonListOptions>,
        kind: Kind,
    ) -> Result<(Vec<Object>, Option<meta::ListResponseMeta>), Status> {
        let inner = self.enter(method, request)?;
        let common = common.unwrap_or_default();
        let mut all: Vec<_> =
            inner.objects.iter().filter(|((found, _), _)| *found == kind).map(|(_, object)| object.clone()).collect();
        if common.order_by.is_some_and(|order| order.mode() == meta::common_list_options::order_by::Mode::Desc) {
            all.reverse();
        }
        let size = if common.items_per_page == 0 { PAGE } else { common.items_per_page as usize };
        let meta = meta::ListResponseMeta {
            page: common.page,
            items_per_page: size as u32,
            total_count: all.len() as u32,
            has_more: all.len() > (common.page as usize + 1) * size,
        };
        Ok((all.into_iter().skip(common.page as usize * size).take(size).map(without_data).collect(), Some(meta)))
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
    if let Object::Secret(secret) = &mut object {
        secret.data = None;
    }
    object
}

/// The resource of a kind that the caller knows.
fn typed<T: TryFrom<Object>>(object: Object) -> T {
    T::try_from(object).ok().unwrap()
}

#[tonic::async_trait]
impl core::main_service_server::MainService for Cluster {
    async fn create_namespace(&self, request: Request<core::Namespace>) -> Result<Response<core::Namespace>, Status> {
        Ok(Response::new(typed(self.create("CreateNamespace", request)?)))
    }

    async fn create_secret(&self, request: Request<core::Secret>) -> Result<Response<core::Secret>, Status> {
        Ok(Response::new(typed(self.create("CreateSecret", request)?)))
    }

    async fn create_credential(
        &self,
        request: Request<core::Credential>,
    ) -> Result<Response<core::Credential>, Status> {
        Ok(Response::new(typed(self.create("CreateCredential", request)?)))
    }

    async fn generate_credential_token(
        &self,
        request: Request<core::GenerateCredentialTokenRequest>,
    ) -> Result<Response<core::CredentialToken>, Status> {
        let mut inner = self.enter("GenerateCredentialToken", &request)?;
        let name = request.into_inner().credential_ref.unwrap().name;
        inner.tokens += 1;
        let token = core::credential_token::AuthenticationToken {
            authentication_token: format!(
                "token-of-{name}-{}",
                inner.calls.iter().filter(|call| *call == "GenerateCredentialToken").count()
            ),
        };
        Ok(Response::new(core::CredentialToken {
            r#type: Some(core::credential_token::Type::AuthenticationToken(token)),
        }))
    }

    async fn get_service(&self, request: Request<meta::GetOptions>) -> Result<Response<core::Service>, Status> {
        Ok(Response::new(typed(self.get("GetService", request, Kind::Service)?)))
    }

    async fn get_user(&self, request: Request<meta::GetOptions>) -> Result<Response<core::User>, Status> {
        Ok(Response::new(typed(self.get("GetUser", request, Kind::User)?)))
    }

    async fn get_cluster_config(
        &self,
        request: Request<core::GetClusterConfigRequest>,
    ) -> Result<Response<core::ClusterConfig>, Status> {
        let inner = self.enter("GetClusterConfig", &request)?;
        let mut object = inner.objects[&(Kind::ClusterConfig, "default".to_owned())].clone();
        object.set_envelope();
        Ok(Response::new(typed(object)))
    }

    async fn delete_service(
        &self,
        request: Request<meta::DeleteOptions>,
    ) -> Result<Response<meta::OperationResult>, Status> {
        self.delete("DeleteService", request, Kind::Service)
    }

    async fn list_service(
        &self,
        request: Request<core::ListServiceOptions>,
    ) -> Result<Response<core::ServiceList>, Status> {
        let (items, list_response_meta) =
            self.list("ListService", &request, request.get_ref().common, Kind::Service)?;
        let items = items.into_iter().map(typed).collect();
        Ok(Response::new(core::ServiceList { items, list_response_meta, ..Default::default() }))
    }

    async fn list_user(&self, request: Request<core::ListUserOptions>) -> Result<Response<core::UserList>, Status> {
        let (items, list_response_meta) = self.list("ListUser", &request, request.get_ref().common, Kind::User)?;
        let items = items.into_iter().map(typed).collect();
        Ok(Response::new(core::UserList { items, list_response_meta, ..Default::default() }))
    }

    async fn list_group(&self, request: Request<core::ListGroupOptions>) -> Result<Response<core::GroupList>, Status> {
        let (items, list_response_meta) = self.list("ListGroup", &request, request.get_ref().common, Kind::Group)?;
        let items = items.into_iter().map(typed).collect();
        Ok(Response::new(core::GroupList { items, list_response_meta, ..Default::default() }))
    }
}

impl Inner {
    fn session(&mut self) -> auth::SessionToken {
        self.tokens += 1;
        let token = auth::SessionToken {
            access_token: format!("access-{}", self.tokens),
            refresh_token: format!("refresh-{}", self.tokens),
            expires_in: 3_600,
            refresh_token_expires_in: 36_000,
        };
        self.access.insert(token.access_token.clone());
        self.refresh.insert(token.refresh_token.clone());
        token
    }

    /// Ends the Session whose refresh token the request carries.
    fn leave<T>(&mut self, request: &Request<T>) -> Result<(), Status> {
        let token = request.metadata().get("x-octelium-refresh-token").and_then(|token| token.to_str().ok());
        let token = token.filter(|token| self.refresh.contains(*token)).ok_or_else(|| Status::unauthenticated("no"))?;
        self.refresh.remove(token);
        self.access.remove(&token.replace("refresh", "access"));
        Ok(())
    }
}

#[tonic::async_trait]
impl auth::main_service_server::MainService for Cluster {
    async fn authenticate_with_authentication_token(
        &self,
        request: Request<auth::AuthenticateWithAuthenticationTokenRequest>,
    ) -> Result<Response<auth::SessionToken>, Status> {
        let mut inner = self.note("AuthenticateWithAuthenticationToken");
        let request = request.into_inner();
        if request.authentication_token != TOKEN {
            return Err(Status::unauthenticated("wrong token"));
        }
        inner.scopes = request.scopes;
        Ok(Response::new(inner.session()))
    }

    async fn authenticate_with_refresh_token(
        &self,
        request: Request<auth::AuthenticateWithRefreshTokenRequest>,
    ) -> Result<Response<auth::SessionToken>, Status> {
        let mut inner = self.note("AuthenticateWithRefreshToken");
        inner.leave(&request)?;
        Ok(Response::new(inner.session()))
    }

    async fn logout(&self, request: Request<auth::LogoutRequest>) -> Result<Response<auth::LogoutResponse>, Status> {
        self.note("Logout").leave(&request)?;
        Ok(Response::new(auth::LogoutResponse {}))
    }
}

#[tonic::async_trait]
impl user::main_service_server::MainService for Cluster {
    async fn get_status(
        &self,
        request: Request<user::GetStatusRequest>,
    ) -> Result<Response<user::GetStatusResponse>, Status> {
        drop(self.enter("GetStatus", &request)?);
        let user = user::get_status_response::User { metadata: Some(metadata("root")), ..Default::default() };
        Ok(Response::new(user::GetStatusResponse { user: Some(user), ..Default::default() }))
    }
}

#[tonic::async_trait]
impl control::control_service_server::ControlService for Cluster {
    async fn apply(&self, request: Request<control::ApplyRequest>) -> Result<Response<control::ApplyResponse>, Status> {
        let mut inner = self.note("Apply");
        inner.request_ids.insert(request.get_ref().request_id.clone());
        inner.calls.pop();
        drop(inner);
        let mut inner = self.enter("Apply", &request)?;
        let request = request.into_inner();
        let mut objects = inner.objects.clone();
        let mut results = Vec::new();
        for (index, change) in request.changes.into_iter().enumerate() {
            let kind: Kind = change.kind.parse().unwrap();
            let Some(control::change::Change::Put(bytes)) = change.change else { panic!("only puts are sent") };
            let new = kind.decode_strictly(&bytes).map_err(Status::invalid_argument)?;
            if bytes.windows(14).any(|window| window == b"forbidden.test") {
                return Err(refuse(&format!("changes[{index}].spec.config.upstream.url"), "may not be used"));
            }
            let name = match kind {
                Kind::Service => name::canonical_service(new.name()),
                _ => new.name().to_owned(),
            };
            let before = objects.get(&(kind, name.clone())).cloned();
            let mut after = before.clone().unwrap_or_else(|| new.clone());
            after.overlay(&new);
            after.metadata_mut().name.clone_from(&name);
            if let (Object::Secret(after), Object::Secret(new)) = (&mut after, &new) {
                after.data = new.data.clone();
            }
            let operation = match &before {
                None => control::result::Operation::Created,
                Some(before) if *before == after => control::result::Operation::Unchanged,
                Some(_) => control::result::Operation::Updated,
            };
            objects.insert((kind, name.clone()), after.clone());
            results.push(control::Result {
                kind: kind.name().into(),
                name,
                operation: operation.into(),
                before: before.map(|before| without_data(before).encode()).unwrap_or_default(),
                after: without_data(after).encode(),
            });
        }
        if !request.dry_run {
            inner.objects = objects;
        }
        Ok(Response::new(control::ApplyResponse { results, index: 1 }))
    }
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    violations: Vec<Violation>,
}

#[derive(Clone, PartialEq, Message)]
struct Violation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

fn refuse(field: &str, description: &str) -> Status {
    let request = BadRequest { violations: vec![Violation { field: field.into(), description: description.into() }] };
    let details = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.BadRequest".into(),
        value: request.encode_to_vec(),
    };
    let status = RpcStatus { code: 3, details: vec![details] };
    Status::with_details(tonic::Code::InvalidArgument, "1 violation", status.encode_to_vec().into())
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
