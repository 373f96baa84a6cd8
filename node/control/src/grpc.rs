//! All gRPC services behind one [`tower::Service`], chosen by the request's path.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use octelium_api::{
    auth::main_service_server::MainServiceServer as AuthServer, control::control_service_server::ControlServiceServer,
    core::main_service_server::MainServiceServer as CoreServer,
};
use tonic::{Status, body::Body};
use tower::Service;

use crate::{Caller, Inner, apply::Apply, auth::Auth, core_service::Core, plan::Actor};

/// The largest change that is read, with some room for what wraps it.
const APPLY_BYTES_MAX: usize = 16 * 1024 * 1024 + 64 * 1024;
/// A Secret with both halves fits.
const CORE_BYTES_MAX: usize = 4 * 1024 * 1024;
const AUTH_BYTES_MAX: usize = 64 * 1024;

/// See [`crate::Control::grpc`].
#[derive(Clone)]
pub struct Grpc {
    core: CoreServer<Core>,
    auth: AuthServer<Auth>,
    control: ControlServiceServer<Apply>,
}

impl Grpc {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self {
            core: CoreServer::new(Core(inner.clone())).max_decoding_message_size(CORE_BYTES_MAX),
            auth: AuthServer::new(Auth(inner.clone())).max_decoding_message_size(AUTH_BYTES_MAX),
            control: ControlServiceServer::new(Apply(inner)).max_decoding_message_size(APPLY_BYTES_MAX),
        }
    }
}

impl Service<Request<Body>> for Grpc {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service =
            request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/')).map(|(service, _)| service);
        match service {
            Some("octelium.api.main.core.v1.MainService") => self.core.call(request),
            Some("octelium.api.main.auth.v1.MainService") => self.auth.call(request),
            Some("octelium.control.v1.ControlService") => self.control.call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("this server has no such service").into_http()) }),
        }
    }
}

/// Who makes a call that only authorized callers make.
///
/// # Errors
/// UNAUTHENTICATED, if whoever handed the call over named nobody.
pub fn actor<T>(request: &tonic::Request<T>, service: &str, method: &str) -> Result<Actor, Status> {
    let caller = request.extensions().get::<Caller>().ok_or_else(|| Status::unauthenticated("log in first"))?;
    Ok(Actor {
        session: Some(caller.session_ref.clone()),
        user_uid: caller.user_uid.clone(),
        operation: format!("{service}/{method}"),
    })
}
