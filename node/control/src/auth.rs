//! Log-ins: `octelium.api.main.auth.v1.MainService`.
//!
//! Refusals carry no text: a caller that isn't known yet learns nothing from them.

pub mod credential;
pub mod generate;
mod refresh;
pub mod scope;
pub mod session;
pub mod throttle;

use std::sync::Arc;

use octelium_api::{
    auth::{
        AuthenticateAuthenticatorBeginRequest, AuthenticateAuthenticatorBeginResponse,
        AuthenticateWithAssertionRequest, AuthenticateWithAuthenticationTokenRequest,
        AuthenticateWithAuthenticatorRequest, AuthenticateWithPasskeyBeginRequest,
        AuthenticateWithPasskeyBeginResponse, AuthenticateWithPasskeyRequest, AuthenticateWithRefreshTokenRequest,
        Authenticator, AuthenticatorList, CreateAuthenticatorRequest, GetAvailableAuthenticatorRequest,
        GetAvailableAuthenticatorResponse, ListAuthenticatorOptions, LogoutRequest, LogoutResponse,
        RegisterAuthenticatorBeginRequest, RegisterAuthenticatorBeginResponse, RegisterAuthenticatorFinishRequest,
        RegisterAuthenticatorFinishResponse, RegisterDeviceBeginRequest, RegisterDeviceBeginResponse,
        RegisterDeviceFinishRequest, RegisterDeviceFinishResponse, RunDeviceProbeBeginRequest,
        RunDeviceProbeBeginResponse, RunDeviceProbeFinishRequest, RunDeviceProbeFinishResponse, SessionToken,
        main_service_server::MainService,
    },
    core::credential::spec::Type,
    meta::{DeleteOptions, GetOptions, OperationResult},
};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{ClientInfo, Inner, plan::Actor, refusal::Refusal};

const SERVICE: &str = "octelium.api.main.auth.v1.MainService";
const REFRESH_HEADER: &str = "x-octelium-refresh-token";
const REFRESH_COOKIE: &str = "octelium_rt";

/// Why somebody isn't let in.
#[derive(Debug)]
pub enum Denied {
    /// The token or secret proves nothing, or not any more.
    Unproven,
    /// The User is gone.
    NoUser,
    /// The User is disabled or locked, or of the wrong type.
    UserOff,
    /// The Session is locked or rejected.
    SessionBarred,
    /// The User has as many Sessions as it may have.
    TooManySessions,
    /// This kind of Session goes on in another way.
    WrongWay,
    /// Too many authentications in a short time.
    TooSoon,
    /// Nothing about the caller: it can't be done now.
    Refused(Refusal),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unproven | Denied::NoUser | Denied::SessionBarred => Self::unauthenticated(""),
            Denied::UserOff | Denied::TooManySessions | Denied::WrongWay => Self::permission_denied(""),
            Denied::TooSoon => Self::already_exists(""),
            Denied::Refused(refusal) => refusal.into(),
        }
    }
}

/// See the module.
pub struct Auth(pub Arc<Inner>);

impl Auth {
    /// Holds the answer to a failed log-in back where its address has failed too often.
    async fn throttled<T>(&self, done: Result<T, Denied>, client: &ClientInfo) -> Result<T, Denied> {
        if let Err(Denied::Unproven | Denied::NoUser) = &done
            && self.0.throttle.failed(client, self.0.store.now().unix())
        {
            self.0.throttle.pause().await;
        }
        done
    }
}

fn actor(method: &str) -> Actor {
    Actor { operation: format!("{SERVICE}/{method}"), ..Actor::default() }
}

fn client<T>(request: &Request<T>) -> ClientInfo {
    let mut client = request.extensions().get::<ClientInfo>().cloned().unwrap_or_default();
    if client.user_agent.is_empty()
        && let Some(agent) = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok())
    {
        agent.clone_into(&mut client.user_agent);
    }
    client
}

/// The refresh token of a call: the header, else the cookie.
fn refresh_token(metadata: &MetadataMap) -> Option<&str> {
    if let Some(header) = metadata.get(REFRESH_HEADER) {
        return header.to_str().ok();
    }
    let cookies = metadata.get_all("cookie").into_iter().filter_map(|cookies| cookies.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == REFRESH_COOKIE).then_some(value)
    })
}

fn answer(tokens: Option<session::Tokens>) -> Result<Response<SessionToken>, Status> {
    let tokens = tokens.ok_or_else(|| Status::unavailable("the tokens can't be made now"))?;
    Ok(Response::new(SessionToken {
        access_token: tokens.access,
        refresh_token: tokens.refresh,
        expires_in: tokens.access_life,
        refresh_token_expires_in: tokens.refresh_life,
    }))
}

macro_rules! service {
    ($($unserved:ident($input:ty) -> $output:ty: $what:literal,)*) => {
        #[tonic::async_trait]
        impl MainService for Auth {
            async fn authenticate_with_authentication_token(
                &self,
                request: Request<AuthenticateWithAuthenticationTokenRequest>,
            ) -> Result<Response<SessionToken>, Status> {
                let client = client(&request);
                let request = request.into_inner();
                let scopes = scope::parse_all(&request.scopes).map_err(|error| Status::from(Refusal::at("scopes", error)))?;
                let shown = credential::Shown {
                    token: &request.authentication_token,
                    wanted: Type::AuthToken,
                    verifier: &request.code_verifier,
                    is_use: true,
                };
                let actor = actor("AuthenticateWithAuthenticationToken");
                let done = credential::log_in(&self.0, &actor, &shown, scopes, &client).await;
                answer(self.throttled(done, &client).await?)
            }

            async fn authenticate_with_refresh_token(
                &self,
                request: Request<AuthenticateWithRefreshTokenRequest>,
            ) -> Result<Response<SessionToken>, Status> {
                let client = client(&request);
                let token = refresh_token(request.metadata()).ok_or(Denied::Unproven)?;
                let done = refresh::refresh(&self.0, &actor("AuthenticateWithRefreshToken"), token, &client).await;
                answer(self.throttled(done, &client).await?)
            }

            async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
                let token = refresh_token(request.metadata()).ok_or(Denied::Unproven)?;
                refresh::log_out(&self.0, &actor("Logout"), token).await?;
                Ok(Response::new(LogoutResponse {}))
            }

            $(async fn $unserved(&self, _: Request<$input>) -> Result<Response<$output>, Status> {
                Err(Status::unimplemented(concat!("this server has no ", $what, " yet")))
            })*
        }
    };
}

service! {
    authenticate_with_assertion(AuthenticateWithAssertionRequest) -> SessionToken: "IdentityProviders",
    authenticate_with_authenticator(AuthenticateWithAuthenticatorRequest) -> SessionToken: "Authenticators",
    register_device_begin(RegisterDeviceBeginRequest) -> RegisterDeviceBeginResponse: "Devices",
    register_device_finish(RegisterDeviceFinishRequest) -> RegisterDeviceFinishResponse: "Devices",
    get_authenticator(GetOptions) -> Authenticator: "Authenticators",
    create_authenticator(CreateAuthenticatorRequest) -> Authenticator: "Authenticators",
    update_authenticator(Authenticator) -> Authenticator: "Authenticators",
    list_authenticator(ListAuthenticatorOptions) -> AuthenticatorList: "Authenticators",
    delete_authenticator(DeleteOptions) -> OperationResult: "Authenticators",
    register_authenticator_begin(RegisterAuthenticatorBeginRequest) -> RegisterAuthenticatorBeginResponse: "Authenticators",
    register_authenticator_finish(RegisterAuthenticatorFinishRequest) -> RegisterAuthenticatorFinishResponse: "Authenticators",
    authenticate_authenticator_begin(AuthenticateAuthenticatorBeginRequest) -> AuthenticateAuthenticatorBeginResponse: "Authenticators",
    get_available_authenticator(GetAvailableAuthenticatorRequest) -> GetAvailableAuthenticatorResponse: "Authenticators",
    authenticate_with_passkey_begin(AuthenticateWithPasskeyBeginRequest) -> AuthenticateWithPasskeyBeginResponse: "passkeys",
    authenticate_with_passkey(AuthenticateWithPasskeyRequest) -> SessionToken: "passkeys",
    run_device_probe_begin(RunDeviceProbeBeginRequest) -> RunDeviceProbeBeginResponse: "Devices",
    run_device_probe_finish(RunDeviceProbeFinishRequest) -> RunDeviceProbeFinishResponse: "Devices",
}
