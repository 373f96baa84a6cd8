//! All gRPC services behind one [`tower::Service`], chosen by the request's path.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http::{Request, Response};
use octelium_api::{
    auth::main_service_server::MainServiceServer as AuthServer, control::control_service_server::ControlServiceServer,
    core::main_service_server::MainServiceServer as CoreServer,
    user::main_service_server::MainServiceServer as UserServer,
};
use octelium_consensus::Replica;
use tonic::{Status, body::Body};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::{Service, util::BoxCloneSyncService};

use crate::{
    Caller, Inner, auth::Auth, control_service::Extra, core_service::Core, plan::Actor, user_service::UserApi,
};

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
    user: UserServer<UserApi>,
    control: ControlServiceServer<Extra>,
    tools: Tools,
    replica: Replica,
}

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// What generic clients ask for: which methods there are, and whether they are served.
#[derive(Clone)]
struct Tools {
    reflection: Boxed,
    /// Of the older protocol.
    reflection_alpha: Boxed,
    health: Boxed,
}

impl Tools {
    fn new() -> Result<Self, tonic_reflection::server::Error> {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(octelium_api::descriptor::BYTES)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // Who is answered at all is answered by a node that serves.
        let health = HealthService::from_health_reporter(HealthReporter::new());
        Ok(Self {
            reflection: Boxed::new(builder().build_v1()?),
            reflection_alpha: Boxed::new(builder().build_v1alpha()?),
            health: Boxed::new(HealthServer::new(health)),
        })
    }
}

impl Grpc {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        static TOOLS: OnceLock<Tools> = OnceLock::new();
        let tools = TOOLS.get_or_init(|| Tools::new().expect("the build script wrote these descriptors")).clone();
        Self {
            tools,
            replica: inner.store.replica.clone(),
            core: CoreServer::new(Core(inner.clone())).max_decoding_message_size(CORE_BYTES_MAX),
            auth: AuthServer::new(Auth(inner.clone())).max_decoding_message_size(AUTH_BYTES_MAX),
            user: UserServer::new(UserApi(inner.clone())).max_decoding_message_size(AUTH_BYTES_MAX),
            control: ControlServiceServer::new(Extra(inner)).max_decoding_message_size(APPLY_BYTES_MAX),
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
        let path = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let is_read = path.is_some_and(|(_, method)| method.starts_with("Get") || method.starts_with("List"));
        match path.map(|(service, _)| service) {
            Some("octelium.api.main.core.v1.MainService") if is_read => self.newest(self.core.clone().call(request)),
            Some("octelium.api.main.user.v1.MainService") if is_read => self.newest(self.user.clone().call(request)),
            Some("octelium.api.main.core.v1.MainService") => self.core.call(request),
            Some("octelium.api.main.auth.v1.MainService") => self.auth.call(request),
            Some("octelium.api.main.user.v1.MainService") => self.user.call(request),
            Some("octelium.control.v1.ControlService") => self.control.call(request),
            Some(tool) if tool.starts_with("grpc.") => {
                if request.extensions().get::<Caller>().is_none() {
                    return Box::pin(async { Ok(Status::unauthenticated("log in first").into_http()) });
                }
                match tool {
                    "grpc.reflection.v1.ServerReflection" => self.tools.reflection.call(request),
                    "grpc.reflection.v1alpha.ServerReflection" => self.tools.reflection_alpha.call(request),
                    "grpc.health.v1.Health" => self.tools.health.call(request),
                    _ => unknown(),
                }
            }
            _ => unknown(),
        }
    }
}

type Answer = <Grpc as Service<Request<Body>>>::Future;

impl Grpc {
    /// A read, which begins once this node knows all that was acknowledged anywhere before it was asked for.
    fn newest(&self, reading: Answer) -> Answer {
        let replica = self.replica.clone();
        Box::pin(async move {
            if replica.known_members().len() > 1
                && let Err(error) = replica.confirm().await
            {
                return Ok(Status::unavailable(error.to_string()).into_http());
            }
            reading.await
        })
    }
}

fn unknown() -> <Grpc as Service<Request<Body>>>::Future {
    Box::pin(async { Ok(Status::unimplemented("this server has no such service").into_http()) })
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
