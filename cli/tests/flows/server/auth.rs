//! The API of the Session, and that of the caller's own matters.

use octelium_api::{auth, meta, user};
use tonic::{Request, Response, Status};

use super::{Cluster, Inner, TOKEN, metadata};

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

    async fn list_authenticator(
        &self,
        request: Request<auth::ListAuthenticatorOptions>,
    ) -> Result<Response<auth::AuthenticatorList>, Status> {
        let inner = self.own("ListAuthenticator", &request)?;
        let items = inner.authenticators.iter().map(|name| authenticator(name)).collect();
        Ok(Response::new(auth::AuthenticatorList { items, ..Default::default() }))
    }

    async fn create_authenticator(
        &self,
        request: Request<auth::CreateAuthenticatorRequest>,
    ) -> Result<Response<auth::Authenticator>, Status> {
        let mut inner = self.own("CreateAuthenticator", &request)?;
        inner.authenticators.insert("totp-a1b2c3".to_owned());
        Ok(Response::new(authenticator("totp-a1b2c3")))
    }

    async fn delete_authenticator(
        &self,
        request: Request<meta::DeleteOptions>,
    ) -> Result<Response<meta::OperationResult>, Status> {
        let mut inner = self.own("DeleteAuthenticator", &request)?;
        match inner.authenticators.remove(&request.get_ref().name) {
            true => Ok(Response::new(meta::OperationResult {})),
            false => Err(Status::not_found("no such Authenticator")),
        }
    }

    async fn authenticate_authenticator_begin(
        &self,
        request: Request<auth::AuthenticateAuthenticatorBeginRequest>,
    ) -> Result<Response<auth::AuthenticateAuthenticatorBeginResponse>, Status> {
        use auth::authenticate_authenticator_begin_response::{ChallengeRequest, challenge_request};
        drop(self.own("AuthenticateAuthenticatorBegin", &request)?);
        let r#type = Some(challenge_request::Type::Totp(challenge_request::Totp {}));
        let challenge_request = Some(ChallengeRequest { r#type });
        Ok(Response::new(auth::AuthenticateAuthenticatorBeginResponse { challenge_request }))
    }

    async fn authenticate_with_authenticator(
        &self,
        request: Request<auth::AuthenticateWithAuthenticatorRequest>,
    ) -> Result<Response<auth::SessionToken>, Status> {
        let mut inner = self.own("AuthenticateWithAuthenticator", &request)?;
        inner.leave(&request)?;
        let answer = request.into_inner().challenge_response.and_then(|response| response.r#type);
        match answer {
            Some(auth::challenge_response::Type::Totp(totp)) if totp.response == "123456" => {
                Ok(Response::new(inner.session()))
            }
            _ => Err(Status::permission_denied("wrong code")),
        }
    }

    async fn register_device_begin(
        &self,
        request: Request<auth::RegisterDeviceBeginRequest>,
    ) -> Result<Response<auth::RegisterDeviceBeginResponse>, Status> {
        drop(self.own("RegisterDeviceBegin", &request)?);
        Ok(Response::new(auth::RegisterDeviceBeginResponse { uid: "a-uid".to_owned(), requests: Vec::new() }))
    }

    async fn register_device_finish(
        &self,
        request: Request<auth::RegisterDeviceFinishRequest>,
    ) -> Result<Response<auth::RegisterDeviceFinishResponse>, Status> {
        drop(self.own("RegisterDeviceFinish", &request)?);
        assert_eq!(request.get_ref().uid, "a-uid");
        Ok(Response::new(auth::RegisterDeviceFinishResponse {}))
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

fn authenticator(name: &str) -> auth::Authenticator {
    use auth::authenticator::{Spec, Status, status::Type};
    let status = Status { r#type: Type::Totp.into(), ..Default::default() };
    auth::Authenticator {
        metadata: Some(metadata(name)),
        spec: Some(Spec { display_name: "Phone".to_owned() }),
        status: Some(status),
        ..Default::default()
    }
}

impl Cluster {
    /// Notes a call about the caller's own Session, if this cluster serves such calls at all.
    fn own<T>(&self, method: &str, request: &Request<T>) -> Result<std::sync::MutexGuard<'_, Inner>, Status> {
        let inner = self.note(method);
        if !inner.serves_authenticators {
            return Err(Status::unimplemented("not served yet"));
        }
        let token = request.metadata().get("x-octelium-refresh-token").and_then(|token| token.to_str().ok());
        match token {
            Some(token) if inner.refresh.contains(token) => Ok(inner),
            _ => Err(Status::unauthenticated("no valid refresh token")),
        }
    }
}
