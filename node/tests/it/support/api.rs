//! An administrator: the control API over its real listener.

use std::{net::SocketAddr, path::Path};

use bytes::{Buf, BufMut};
use hyper_util::rt::TokioIo;
use octelium_api::{
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
    control::{ApplyRequest, ApplyResponse},
    core::{self, Credential, GenerateCredentialTokenRequest, Session, credential_token},
    meta::{GetOptions, ObjectReference},
};
use octelium_control::{BadRequest, RpcStatus, TokenKind};
use prost::Message;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::{http, manifest};

/// Puts the caller's token into each request.
#[derive(Clone)]
pub struct Shows(Option<MetadataValue<Ascii>>);

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("x-octelium-auth", token.clone());
        }
        Ok(request)
    }
}

pub type Authenticated = InterceptedService<Channel, Shows>;

/// A caller of the control API.
#[derive(Clone)]
pub struct Api {
    channel: Channel,
    shows: Shows,
}

/// A log-in and the Credential that it was made from.
#[derive(Clone)]
pub struct Login {
    pub access: String,
    pub refresh: String,
    pub credential: String,
    /// The Credential's own token.
    pub shown: String,
}

impl Api {
    /// Nobody yet. TLS and HTTP ask for `host`.
    pub fn anonymous(address: SocketAddr, ca: &Path, host: &str) -> Self {
        Self::anonymous_as(address, ca, host, host)
    }

    /// TLS asks for `host`, HTTP for `authority`.
    pub fn anonymous_as(address: SocketAddr, ca: &Path, host: &str, authority: &str) -> Self {
        let connector = http::tls_client(ca, b"h2");
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let endpoint = Endpoint::from_shared(format!("https://{authority}")).unwrap().timeout(super::PATIENCE);
        let endpoint = endpoint.user_agent("octelium-cli/0.0.0").unwrap();
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let (connector, name) = (connector.clone(), name.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        }));
        Self { channel, shows: Shows(None) }
    }

    /// As somebody else.
    pub fn with(&self, access_token: &str) -> Self {
        Self { channel: self.channel.clone(), shows: Shows(Some(access_token.parse().unwrap())) }
    }

    /// As the User of an authentication token.
    pub async fn log_in(&self, token: &str) -> Self {
        let session = self.try_log_in(token, &[]).await.unwrap();
        self.with(&session.access_token)
    }

    pub async fn try_log_in(&self, token: &str, scopes: &[&str]) -> Result<SessionToken, Status> {
        let request = AuthenticateWithAuthenticationTokenRequest {
            authentication_token: token.to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            ..AuthenticateWithAuthenticationTokenRequest::default()
        };
        Ok(self.auth().authenticate_with_authentication_token(request).await?.into_inner())
    }

    pub async fn refresh(&self, token: &str) -> Result<SessionToken, Status> {
        let request = with_refresh_token(AuthenticateWithRefreshTokenRequest {}, token);
        Ok(self.auth().authenticate_with_refresh_token(request).await?.into_inner())
    }

    pub async fn log_out(&self, refresh_token: &str) -> Result<(), Status> {
        self.auth().logout(with_refresh_token(LogoutRequest {}, refresh_token)).await.map(drop)
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub fn core(&self) -> CoreClient<Authenticated> {
        CoreClient::with_interceptor(self.channel.clone(), self.shows.clone())
    }

    pub fn control(&self) -> ControlServiceClient<Authenticated> {
        ControlServiceClient::with_interceptor(self.channel.clone(), self.shows.clone())
    }

    /// Calls a method with a message that no client of ours would send.
    pub async fn raw(&self, path: &'static str, message: Vec<u8>) -> Result<(), Status> {
        let mut client = tonic::client::Grpc::new(InterceptedService::new(self.channel.clone(), self.shows.clone()));
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = ::http::uri::PathAndQuery::from_static(path);
        client.unary(Request::new(message), path, Bytes).await.map(drop)
    }

    /// Calls any method, of whatever shape, with one empty message. What comes after the answer's head isn't awaited.
    pub async fn knock(&self, path: String) -> Result<(), Status> {
        let mut client = tonic::client::Grpc::new(InterceptedService::new(self.channel.clone(), self.shows.clone()));
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        client.server_streaming(Request::new(Vec::new()), path.try_into().unwrap(), Bytes).await.map(drop)
    }

    /// Applies documents that must be fine.
    pub async fn apply(&self, documents: &[Value]) -> ApplyResponse {
        self.apply_text(&manifest::text(documents)).await
    }

    pub async fn apply_text(&self, text: &str) -> ApplyResponse {
        self.try_apply(text).await.unwrap_or_else(|status| panic!("{status:?}\n{text}"))
    }

    /// Applies a text that can be read.
    pub async fn try_apply(&self, text: &str) -> Result<ApplyResponse, Status> {
        let changes = manifest::read(text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        let request = ApplyRequest { changes, ..ApplyRequest::default() };
        Ok(self.control().apply(request).await?.into_inner())
    }

    /// Kind, name and version of everything that callers change: equal if nothing was.
    pub async fn versions(&self) -> Vec<(&'static str, String, String)> {
        let mut core = self.core();
        let mut all = Vec::new();
        macro_rules! add {
            ($kind:literal, $list:ident($options:ident)) => {
                let page = core.$list(core::$options::default()).await.unwrap().into_inner();
                assert!(!page.list_response_meta.unwrap().has_more, "one page holds all");
                all.extend(page.items.into_iter().map(|item| {
                    let metadata = item.metadata.unwrap();
                    ($kind, metadata.name, metadata.resource_version)
                }));
            };
        }
        add!("Namespace", list_namespace(ListNamespaceOptions));
        add!("Service", list_service(ListServiceOptions));
        add!("User", list_user(ListUserOptions));
        add!("Group", list_group(ListGroupOptions));
        add!("Policy", list_policy(ListPolicyOptions));
        add!("Credential", list_credential(ListCredentialOptions));
        add!("Secret", list_secret(ListSecretOptions));
        all
    }

    /// The token of a Credential, new with each call.
    pub async fn generate(&self, credential: &str) -> credential_token::Type {
        let credential_ref = Some(ObjectReference { name: credential.to_owned(), ..ObjectReference::default() });
        let request = GenerateCredentialTokenRequest { credential_ref };
        self.core().generate_credential_token(request).await.unwrap().into_inner().r#type.unwrap()
    }

    /// An access token of a CLIENTLESS Session of the WORKLOAD User `name`, who is made if need be.
    pub async fn caller(&self, name: &str) -> String {
        self.caller_of(name, json!({})).await
    }

    /// The same; `more` is laid over the User's spec.
    pub async fn caller_of(&self, name: &str, more: Value) -> String {
        let mut user = manifest::workload(name);
        manifest::merge(&mut user["spec"], more);
        let credential =
            manifest::resource("Credential", &format!("{name}-key"), json!({ "type": "ACCESS_TOKEN", "user": name }));
        self.apply(&[user, credential]).await;
        match self.generate(&format!("{name}-key")).await {
            credential_token::Type::AccessToken(token) => token.access_token,
            other => panic!("{other:?}"),
        }
    }

    /// A Session of the WORKLOAD User `name`, by an authentication token; `more` is laid over the Credential's spec.
    pub async fn login(&self, name: &str, more: Value, scopes: &[&str]) -> Login {
        let credential = format!("{name}-login");
        let mut spec = json!({ "type": "AUTH_TOKEN", "user": name });
        manifest::merge(&mut spec, more);
        self.apply(&[manifest::workload(name), manifest::resource("Credential", &credential, spec)]).await;
        let shown = match self.generate(&credential).await {
            credential_token::Type::AuthenticationToken(token) => token.authentication_token,
            other => panic!("{other:?}"),
        };
        let SessionToken { access_token: access, refresh_token: refresh, .. } =
            self.try_log_in(&shown, scopes).await.unwrap();
        Login { access, refresh, credential, shown }
    }

    /// An OAUTH2 Credential of the User `name`: client id and secret.
    pub async fn oauth2_client(&self, name: &str) -> (String, String) {
        let credential = format!("{name}-oauth2");
        let spec = json!({ "type": "OAUTH2", "user": name });
        self.apply(&[manifest::workload(name), manifest::resource("Credential", &credential, spec)]).await;
        match self.generate(&credential).await {
            credential_token::Type::Oauth2Credentials(pair) => (pair.client_id, pair.client_secret),
            other => panic!("{other:?}"),
        }
    }

    pub async fn get_credential(&self, name: &str) -> Credential {
        self.core().get_credential(by_name(name)).await.unwrap().into_inner()
    }

    /// The Session of an access token.
    pub async fn session_of(&self, cluster: &super::cluster::Cluster, access_token: &str) -> Session {
        let token = cluster.node.control.token_keys().verify(access_token, TokenKind::Access, 1).unwrap();
        let uid = uuid::Uuid::from_u128(token.subject).to_string();
        self.core().get_session(GetOptions { uid, name: String::new() }).await.unwrap().into_inner()
    }
}

pub fn by_name(name: &str) -> GetOptions {
    GetOptions { name: name.to_owned(), uid: String::new() }
}

pub fn deletion(name: &str) -> octelium_api::meta::DeleteOptions {
    octelium_api::meta::DeleteOptions { name: name.to_owned(), uid: String::new() }
}

fn with_refresh_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-octelium-refresh-token", token.parse().unwrap());
    request
}

/// Field and message of each thing that a refusal names.
pub fn violations(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = RpcStatus::decode(status.details()).unwrap();
    let bad = BadRequest::decode(details.details[0].value.as_slice()).unwrap();
    bad.field_violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
