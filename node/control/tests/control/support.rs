//! One cluster of one node in a temporary directory, and clients of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use octelium_actors::{Views, sessions::SessionEntry, supervisor::Supervisor};
use octelium_api::{
    Kind, Object,
    auth::{
        AuthenticateWithAuthenticationTokenRequest, AuthenticateWithRefreshTokenRequest, LogoutRequest, SessionToken,
    },
    clients::octelium::{
        api::main::{
            auth::v1::main_service_client::MainServiceClient as AuthClient,
            core::v1::main_service_client::MainServiceClient as CoreClient,
        },
        control::v1::control_service_client::ControlServiceClient,
    },
    control::{ApplyRequest, ApplyResponse, Change, change},
    core::{
        Condition, Credential, CredentialToken, GenerateCredentialTokenRequest, Namespace, Policy, Secret, Service,
        Session, User, condition, credential, credential_token, namespace,
        policy::{self, spec::rule},
        secret, service, user,
    },
    manifest,
    meta::{GetOptions, Metadata, ObjectReference},
};
use octelium_consensus::{Options, Replica, SealingKey};
use octelium_control::{BadRequest, Caller, ClientInfo, Control, Grpc, RpcStatus, TokenKind};
use prost::Message;
use tempfile::TempDir;
use tonic::{Code, Request, Status, body::Body};
use uuid::Uuid;

pub const DOMAIN: &str = "octelium.localhost";
pub const PUBLIC_URL: &str = "https://octelium.localhost:8443";

/// A running node.
pub struct Cluster {
    pub control: Control,
    pub replica: Replica,
    pub views: Views,
    /// Of `root-init`, on the first start.
    pub root_token: Option<String>,
    supervisor: Supervisor,
    sealing: Arc<SealingKey>,
    ahead: Arc<AtomicU64>,
    directory: TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::open(directory, Arc::new(SealingKey::generate()), Arc::default()).await
    }

    async fn open(directory: TempDir, sealing: Arc<SealingKey>, ahead: Arc<AtomicU64>) -> Self {
        let replica = Replica::open(Options::new(directory.path().join("data"))).await.unwrap();
        let views = Views::new(DOMAIN);
        let supervisor = Supervisor::start(views.clone(), &replica).await.unwrap();
        let offset = ahead.clone();
        let clock = Arc::new(move || SystemTime::now() + Duration::from_secs(offset.load(Ordering::Relaxed)));
        let control = Control::with_clock(replica.clone(), views.clone(), sealing.clone(), DOMAIN, PUBLIC_URL, clock);
        let root_token = control.bootstrap(vec![("tls/ca".to_owned(), b"a key".to_vec().into())]).await.unwrap();
        Self { control, replica, views, root_token, supervisor, sealing, ahead, directory }
    }

    pub fn sealing(&self) -> &SealingKey {
        &self.sealing
    }

    /// Stops the node and starts it from what it stored.
    pub async fn restart(self) -> Self {
        self.supervisor.stop().await;
        drop(self.control);
        self.replica.close().await.unwrap();
        Self::open(self.directory, self.sealing, self.ahead).await
    }

    /// Lets time pass.
    pub fn later(&self, by: Duration) {
        self.ahead.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    pub fn now_unix(&self) -> i64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        i64::try_from(now + self.ahead.load(Ordering::Relaxed)).unwrap()
    }

    /// A caller that isn't bound to a stored User.
    pub fn admin(&self) -> Caller {
        let session_uid = Uuid::from_u128(0x1111_4111_8111).to_string();
        Caller {
            session_ref: ObjectReference {
                kind: "Session".to_owned(),
                uid: session_uid.clone(),
                name: "admin-abc123".to_owned(),
                ..ObjectReference::default()
            },
            session_uid,
            user_uid: "admin".to_owned(),
            user_name: "admin".to_owned(),
        }
    }

    pub fn extra(&self) -> ControlServiceClient<As> {
        ControlServiceClient::new(self.as_caller(self.admin()))
    }

    pub fn as_caller(&self, caller: Caller) -> As {
        As { grpc: self.control.grpc(), caller: Some(caller), client: ClientInfo::default() }
    }

    /// Who shows this access token.
    pub fn caller_of(&self, access_token: &str) -> Caller {
        let entry = self.session_of(access_token).unwrap();
        Caller {
            session_uid: entry.reference.uid.clone(),
            session_ref: entry.reference.clone(),
            user_uid: entry.user.reference.uid.clone(),
            user_name: entry.user.reference.name.clone(),
        }
    }

    pub fn core(&self) -> CoreClient<As> {
        self.core_as(self.admin())
    }

    pub fn core_as(&self, caller: Caller) -> CoreClient<As> {
        CoreClient::new(As { grpc: self.control.grpc(), caller: Some(caller), client: ClientInfo::default() })
    }

    pub fn nobody(&self) -> As {
        As { grpc: self.control.grpc(), caller: None, client: ClientInfo::default() }
    }

    pub fn auth(&self, user_agent: &str) -> AuthClient<As> {
        let client = ClientInfo { user_agent: user_agent.to_owned(), ..ClientInfo::default() };
        AuthClient::new(As { grpc: self.control.grpc(), caller: None, client })
    }

    pub async fn apply(&self, changes: Vec<Change>) -> Result<ApplyResponse, Status> {
        self.apply_request(ApplyRequest { changes, ..ApplyRequest::default() }).await
    }

    pub async fn apply_request(&self, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        let service = As { grpc: self.control.grpc(), caller: Some(self.admin()), client: ClientInfo::default() };
        Ok(ControlServiceClient::new(service).apply(request).await?.into_inner())
    }

    /// Applies a YAML text.
    pub async fn apply_yaml(&self, text: &str) -> Result<ApplyResponse, Status> {
        let documents = manifest::parse("test", text, &manifest::Limits::default()).unwrap();
        self.apply(documents.into_iter().map(|document| put(document.object)).collect()).await
    }

    pub async fn log_in(&self, token: &str) -> Result<SessionToken, Status> {
        self.log_in_with(token, &[], &[]).await
    }

    pub async fn log_in_with(&self, token: &str, scopes: &[&str], verifier: &[u8]) -> Result<SessionToken, Status> {
        let request = AuthenticateWithAuthenticationTokenRequest {
            authentication_token: token.to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            code_verifier: verifier.to_vec(),
        };
        Ok(self.auth("octelium-cli/1.2.3").authenticate_with_authentication_token(request).await?.into_inner())
    }

    pub async fn refresh(&self, token: &str) -> Result<SessionToken, Status> {
        let request = with_refresh_token(AuthenticateWithRefreshTokenRequest {}, token);
        Ok(self.auth("octelium-cli/1.2.3").authenticate_with_refresh_token(request).await?.into_inner())
    }

    pub async fn log_out(&self, token: &str) -> Result<(), Status> {
        self.auth("").logout(with_refresh_token(LogoutRequest {}, token)).await.map(drop)
    }

    /// A Credential of a new WORKLOAD User, and its token (the secret for OAUTH2).
    pub async fn credential(&self, user: &str, r#type: credential::spec::Type) -> (Credential, String) {
        let mut core = self.core();
        if core.get_user(by_name(user)).await.is_err() {
            core.create_user(workload(user)).await.unwrap();
        }
        let made = core.create_credential(new_credential(&format!("{user}-cred"), user, r#type)).await.unwrap();
        let token = self.generate(user_credential(user)).await.unwrap();
        (made.into_inner(), token_text(&token))
    }

    pub async fn generate(&self, credential_ref: ObjectReference) -> Result<CredentialToken, Status> {
        let request = GenerateCredentialTokenRequest { credential_ref: Some(credential_ref) };
        Ok(self.core().generate_credential_token(request).await?.into_inner())
    }

    /// The Session of an access token, as requests see it.
    pub fn session_of(&self, access_token: &str) -> Option<Arc<SessionEntry>> {
        let token = self.control.token_keys().verify(access_token, TokenKind::Access, self.now_unix()).ok()?;
        self.views.sessions.get(token.subject).filter(|entry| entry.accepts(token.id, self.now_unix()))
    }

    pub async fn stored_session(&self, access_token: &str) -> Session {
        let uid = self.session_of(access_token).unwrap().uid;
        let options = GetOptions { uid: Uuid::from_u128(uid).to_string(), name: String::new() };
        self.core().get_session(options).await.unwrap().into_inner()
    }

    /// Writes what no call can write, e.g. a lock.
    pub async fn tamper(&self, kind: Kind, name: &str, change: impl FnOnce(&mut Object)) {
        use octelium_consensus::{Command, Expected, Write};
        let stored = self.replica.state().by_name(kind, name).unwrap().clone();
        let mut object = stored.object.clone();
        change(&mut object);
        let expected = Expected::Version(object.resource_version().to_owned());
        object.metadata_mut().resource_version = Uuid::now_v7().to_string();
        let write = Write::Put { object, expected, sealed: None };
        let outcome = self.replica.propose(Command::new(0, vec![write])).await.unwrap();
        let octelium_consensus::Outcome::Applied { index } = outcome else { panic!("{outcome:?}") };
        self.views.reached(index).await;
    }
}

/// Calls the services in process, as a caller.
#[derive(Clone)]
pub struct As {
    grpc: Grpc,
    caller: Option<Caller>,
    client: ClientInfo,
}

impl tower::Service<http::Request<Body>> for As {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = <Grpc as tower::Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.grpc.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.client.clone());
        if let Some(caller) = &self.caller {
            request.extensions_mut().insert(caller.clone());
        }
        self.grpc.call(request)
    }
}

pub fn with_refresh_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-octelium-refresh-token", token.parse().unwrap());
    request
}

pub fn named(name: &str) -> Option<Metadata> {
    Some(Metadata { name: name.to_owned(), ..Metadata::default() })
}

pub fn by_name(name: &str) -> GetOptions {
    GetOptions { name: name.to_owned(), uid: String::new() }
}

pub fn deletion(name: &str) -> octelium_api::meta::DeleteOptions {
    octelium_api::meta::DeleteOptions { name: name.to_owned(), uid: String::new() }
}

pub fn reference(name: &str) -> ObjectReference {
    ObjectReference { name: name.to_owned(), ..ObjectReference::default() }
}

pub fn user_credential(user: &str) -> ObjectReference {
    reference(&format!("{user}-cred"))
}

pub fn put(object: impl Into<Object>) -> Change {
    let object = object.into();
    Change {
        kind: object.kind().name().to_owned(),
        change: Some(change::Change::Put(object.encode())),
        ..Change::default()
    }
}

pub fn delete(kind: Kind, name: &str) -> Change {
    Change { kind: kind.name().to_owned(), change: Some(change::Change::Delete(reference(name))), ..Change::default() }
}

pub fn workload(name: &str) -> User {
    user_of(name, user::spec::Type::Workload)
}

pub fn human(name: &str) -> User {
    user_of(name, user::spec::Type::Human)
}

fn user_of(name: &str, r#type: user::spec::Type) -> User {
    let spec = user::Spec { r#type: r#type.into(), ..user::Spec::default() };
    User { metadata: named(name), spec: Some(spec), ..User::default() }
}

pub fn new_namespace(name: &str) -> Namespace {
    Namespace { metadata: named(name), spec: Some(namespace::Spec::default()), ..Namespace::default() }
}

pub fn new_credential(name: &str, user: &str, r#type: credential::spec::Type) -> Credential {
    let spec = credential::Spec { r#type: r#type.into(), user: user.to_owned(), ..credential::Spec::default() };
    Credential { metadata: named(name), spec: Some(spec), ..Credential::default() }
}

pub fn new_secret(name: &str, value: &str) -> Secret {
    Secret {
        metadata: named(name),
        spec: Some(secret::Spec::default()),
        data: Some(secret::Data { r#type: Some(secret::data::Type::Value(value.to_owned())) }),
        ..Secret::default()
    }
}

pub fn new_policy(name: &str, expression: &str) -> Policy {
    Policy { metadata: named(name), spec: Some(policy_spec(expression)), ..Policy::default() }
}

pub fn policy_spec(expression: &str) -> policy::Spec {
    let rule = policy::spec::Rule {
        condition: Some(Condition { r#type: Some(condition::Type::Match(expression.to_owned())) }),
        effect: rule::Effect::Allow.into(),
        ..policy::spec::Rule::default()
    };
    policy::Spec { rules: vec![rule], ..policy::Spec::default() }
}

/// A public HTTP Service with an upstream.
pub fn new_service(name: &str, url: &str) -> Service {
    use service::spec::{
        Config,
        config::{Upstream, upstream},
    };
    let upstream = Upstream { r#type: Some(upstream::Type::Url(url.to_owned())), ..Upstream::default() };
    let spec = service::Spec {
        mode: service::spec::Mode::Http.into(),
        is_public: true,
        config: Some(Config { upstream: Some(upstream), ..Config::default() }),
        ..service::Spec::default()
    };
    Service { metadata: named(name), spec: Some(spec), ..Service::default() }
}

pub fn token_text(token: &CredentialToken) -> String {
    match token.r#type.clone().unwrap() {
        credential_token::Type::AuthenticationToken(token) => token.authentication_token,
        credential_token::Type::Oauth2Credentials(pair) => pair.client_secret,
        credential_token::Type::AccessToken(token) => token.access_token,
    }
}

/// The fields that a refusal names.
pub fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = RpcStatus::decode(status.details()).unwrap();
    let bad = BadRequest::decode(details.details[0].value.as_slice()).unwrap();
    bad.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// The code of a refused call.
pub fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.map_or_else(|status| status.code(), |_| Code::Ok)
}
