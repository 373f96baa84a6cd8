//! What a logged-in User may ask about itself: `octelium.api.main.user.v1.MainService`.
//!
//! A Service is shown to whom it might serve: where scopes, the kind of Session or the policies refuse every request of
//! that caller, it doesn't exist for it.

use std::{collections::HashSet, sync::Arc};

use octelium_actors::{
    router::{Access, Route, Routes},
    sessions::{SessionEntry, scope},
};
use octelium_api::{
    Kind, Object,
    core::{self, service::spec::Mode, session::status},
    meta::{GetOptions, Metadata},
    name,
    user::{
        DisconnectRequest, DisconnectResponse, GetStatusRequest, GetStatusResponse, ListNamespaceOptions,
        ListServiceOptions, Namespace, NamespaceList, Service, ServiceList, SetServiceConfigsRequest,
        SetServiceConfigsResponse, get_status_response as of_status, main_service_server::MainService, namespace,
        service,
    },
};
use octelium_consensus::{State, Stored};
use octelium_policy::could_allow;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use crate::{Caller, Inner, list, refusal::Refusal};

const API_VERSION: &str = "user/v1";

/// See the module.
pub struct UserApi(pub Arc<Inner>);

/// The caller and what is there for it.
struct Seen {
    session: Arc<SessionEntry>,
    state: Arc<State>,
    routes: Arc<Routes>,
    now_unix_nanos: i64,
}

impl UserApi {
    fn see<T>(&self, request: &Request<T>) -> Result<Seen, Status> {
        let unauthenticated = || Status::unauthenticated("log in first");
        let caller = request.extensions().get::<Caller>().ok_or_else(unauthenticated)?;
        let uid = Uuid::try_parse(&caller.session_uid).map_err(|_| unauthenticated())?.as_u128();
        let session = self.0.store.views.sessions.get(uid).ok_or_else(unauthenticated)?;
        Ok(Seen {
            session,
            state: self.0.store.state(),
            routes: self.0.store.views.routes.load_full(),
            now_unix_nanos: self.0.store.now().unix_nanos(),
        })
    }
}

impl Seen {
    /// Whether some request of the caller to this Service could be answered by it.
    fn may_use(&self, stored: &Stored) -> bool {
        let metadata = stored.object.metadata();
        let is_hidden = metadata.is_some_and(|metadata| metadata.is_user_hidden || metadata.is_system_hidden);
        let Some(route) = self.route(stored.object.name()).filter(|_| !is_hidden) else { return false };
        if route.is_disabled || route.broken.is_some() {
            return false;
        }
        match route.access {
            Access::Anonymous => true,
            Access::AnonymousWithPolicy => self.could_be_allowed(route, None),
            Access::Session => {
                (route.is_public || self.session.kind == status::Type::Client)
                    && scope::reaches(&self.session.scopes, stored.object.name(), None)
                    && self.could_be_allowed(route, Some(&self.session))
            }
        }
    }

    fn could_be_allowed(&self, route: &Route, session: Option<&SessionEntry>) -> bool {
        let context = octelium_actors::context_of(route, session, None, self.now_unix_nanos);
        let of_caller = session.map(|session| session.user.policies.iter().chain(&session.policies));
        could_allow(route.policies.iter().chain(of_caller.into_iter().flatten()).map(AsRef::as_ref), &context)
    }

    fn route(&self, service: &str) -> Option<&Route> {
        let hosts = name::hosts(service, &self.routes.domain);
        let mut all = hosts.public.iter().chain([&hosts.private_fqdn]);
        let found = all.find_map(|host| self.routes.route(host))?;
        // A name may belong to another Service since.
        (found.reference.name == service).then_some(&**found)
    }

    fn services(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.state.list(Kind::Service).filter(|stored| self.may_use(stored))
    }
}

impl Inner {
    /// Lists ask the policies of every Service, and anybody may ask for them: few at a time, beside other calls.
    async fn one_listing<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let _turn = self.listings.acquire().await.map_err(|_| Status::unavailable("the node stops"))?;
        tokio::task::spawn_blocking(work).await.map_err(|_| Status::unavailable("the list was interrupted"))
    }
}

/// What callers see of metadata.
fn metadata(object: &Object) -> Metadata {
    let all = object.metadata().cloned().unwrap_or_default();
    Metadata {
        uid: all.uid,
        name: all.name,
        display_name: all.display_name,
        description: all.description,
        labels: all.labels,
        tags: all.tags,
        annotations: all.annotations,
        pic_url: all.pic_url,
        created_at: all.created_at,
        updated_at: all.updated_at,
        resource_version: all.resource_version,
        ..Metadata::default()
    }
}

fn mode_of(stored: &Stored) -> service::spec::Type {
    let mode = match &stored.object {
        Object::Service(service) => service.spec.as_ref().map_or(Mode::Unset, core::service::Spec::mode),
        _ => Mode::Unset,
    };
    service::spec::Type::from_str_name(mode.as_str_name()).unwrap_or_default()
}

fn service(stored: &Stored) -> Service {
    let (spec, status) = match &stored.object {
        Object::Service(service) => (service.spec.clone().unwrap_or_default(), service.status.clone()),
        _ => Default::default(),
    };
    let status = status.unwrap_or_default();
    let addresses = status.addresses.into_iter().filter_map(|address| address.dual_stack_ip);
    Service {
        api_version: API_VERSION.to_owned(),
        kind: "Service".to_owned(),
        metadata: Some(metadata(&stored.object)),
        spec: Some(service::Spec {
            port: status.port,
            r#type: mode_of(stored).into(),
            is_tls: spec.is_tls,
            is_public: spec.is_public,
        }),
        status: Some(service::Status {
            namespace: status.namespace_ref.map(|namespace| namespace.name).unwrap_or_default(),
            addresses: addresses.flat_map(|ip| [ip.ipv4, ip.ipv6]).filter(|ip| !ip.is_empty()).collect(),
            primary_hostname: status.primary_hostname,
        }),
    }
}

#[tonic::async_trait]
impl MainService for UserApi {
    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let seen = self.see(&request)?;
        let (user, session) = (seen.session.user.user.stored(), seen.session.session.stored());
        let Object::User(of_user) = &user.object else { return Err(Status::unauthenticated("log in first")) };
        let spec = of_user.spec.clone().unwrap_or_default();
        let cluster = seen.state.by_name(Kind::ClusterConfig, name::CLUSTER_CONFIG);
        Ok(Response::new(GetStatusResponse {
            domain: self.0.store.domain.to_string(),
            cluster: Some(of_status::Cluster { metadata: cluster.map(|cluster| metadata(&cluster.object)) }),
            user: Some(of_status::User {
                metadata: Some(metadata(&user.object)),
                spec: Some(of_status::user::Spec { email: spec.email, r#type: spec.r#type }),
                status: Some(of_status::user::Status {}),
            }),
            session: Some(of_status::Session {
                metadata: Some(metadata(&session.object)),
                spec: Some(of_status::session::Spec {}),
                status: Some(of_status::session::Status { r#type: seen.session.kind.into(), is_connected: false }),
            }),
        }))
    }

    async fn list_service(&self, request: Request<ListServiceOptions>) -> Result<Response<ServiceList>, Status> {
        let seen = self.see(&request)?;
        let options = request.into_inner();
        let wanted = options.r#type();
        if !options.namespace.is_empty() && !name::is_plain(&options.namespace) {
            return Err(Refusal::at("namespace", "isn't the name of a Namespace").into());
        }
        let list = self.0.one_listing(move || {
            let shown = seen.services().filter(|stored| {
                let (_, namespace) = name::split_service(stored.object.name());
                (options.namespace.is_empty() || namespace == options.namespace)
                    && (wanted == service::spec::Type::Unset || mode_of(stored) == wanted)
            });
            let (items, meta) = list::paginate(shown.collect(), options.common.as_ref())?;
            Ok::<_, Refusal>(ServiceList {
                api_version: API_VERSION.to_owned(),
                kind: "ServiceList".to_owned(),
                items: items.into_iter().map(|stored| service(stored)).collect(),
                list_response_meta: Some(meta),
            })
        });
        Ok(Response::new(list.await??))
    }

    async fn get_service(&self, request: Request<GetOptions>) -> Result<Response<Service>, Status> {
        let seen = self.see(&request)?;
        let GetOptions { uid, name } = request.into_inner();
        let stored = list::find(&seen.state, Kind::Service, &uid, &name, "")?;
        if !seen.may_use(stored) {
            // As if it weren't there, so that nobody learns by asking.
            let which = if name.is_empty() { &uid } else { &name };
            return Err(Refusal::not_found(Kind::Service, which).into());
        }
        Ok(Response::new(service(stored)))
    }

    async fn list_namespace(&self, request: Request<ListNamespaceOptions>) -> Result<Response<NamespaceList>, Status> {
        let seen = self.see(&request)?;
        let used = |seen: &Seen| -> HashSet<String> {
            seen.services().map(|stored| name::split_service(stored.object.name()).1.to_owned()).collect()
        };
        let (seen, used) = self
            .0
            .one_listing(move || {
                let used = used(&seen);
                (seen, used)
            })
            .await?;
        let shown = seen.state.list(Kind::Namespace).filter(|stored| used.contains(stored.object.name()));
        let (items, meta) = list::paginate(shown.collect(), request.get_ref().common.as_ref())?;
        let items = items.into_iter().map(|stored| Namespace {
            api_version: API_VERSION.to_owned(),
            kind: "Namespace".to_owned(),
            metadata: Some(metadata(&stored.object)),
            spec: Some(namespace::Spec {}),
            status: Some(namespace::Status {}),
        });
        Ok(Response::new(NamespaceList {
            api_version: API_VERSION.to_owned(),
            kind: "NamespaceList".to_owned(),
            items: items.collect(),
            list_response_meta: Some(meta),
        }))
    }

    async fn disconnect(&self, request: Request<DisconnectRequest>) -> Result<Response<DisconnectResponse>, Status> {
        // Nothing is connected, so there is nothing to end.
        self.see(&request)?;
        Ok(Response::new(DisconnectResponse {}))
    }

    async fn set_service_configs(
        &self,
        request: Request<SetServiceConfigsRequest>,
    ) -> Result<Response<SetServiceConfigsResponse>, Status> {
        self.see(&request)?;
        Err(Refusal::new(Code::InvalidArgument, "the Session isn't connected").into())
    }
}
