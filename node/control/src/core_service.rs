//! The official API for administrators: `octelium.api.main.core.v1.MainService`.

use std::sync::Arc;

use octelium_api::{
    Kind, Object,
    core::{self, *},
    meta::{DeleteOptions, GetOptions, ObjectReference, OperationResult},
    name,
};
use octelium_consensus::State;
use tonic::{Code, Request, Response, Status};

use crate::{
    Inner,
    auth::generate,
    draft::Draft,
    grpc::actor,
    list,
    plan::{Actor, Mode},
    refusal::Refusal,
};

const SERVICE: &str = "octelium.api.main.core.v1.MainService";

/// See the module.
pub struct Core(pub Arc<Inner>);

/// Whether a resource is wanted.
type Keep = Box<dyn Fn(&Object) -> bool>;

/// What a kind's list can be narrowed to.
trait Narrow {
    /// Which resources are wanted.
    ///
    /// # Errors
    /// If what it is narrowed by isn't there.
    fn narrow(&self, _: &State) -> Result<Keep, Refusal> {
        Ok(Box::new(|_| true))
    }
}

impl Narrow for ListNamespaceOptions {}
impl Narrow for ListUserOptions {}
impl Narrow for ListGroupOptions {}
impl Narrow for ListPolicyOptions {}
impl Narrow for ListSecretOptions {}

impl Narrow for ListServiceOptions {
    fn narrow(&self, state: &State) -> Result<Keep, Refusal> {
        if let Some(region) = &self.region_ref
            && region.name != "default"
        {
            return Err(Refusal::new(Code::NotFound, "there is one Region, `default`"));
        }
        let namespace = list::filter(state, Kind::Namespace, self.namespace_ref.as_ref(), "namespaceRef")?;
        Ok(Box::new(move |object| match object {
            Object::Service(service) => {
                is_for(namespace.as_deref(), service.status.as_ref().and_then(|status| status.namespace_ref.as_ref()))
            }
            _ => false,
        }))
    }
}

impl Narrow for ListCredentialOptions {
    fn narrow(&self, state: &State) -> Result<Keep, Refusal> {
        let user = list::filter(state, Kind::User, self.user_ref.as_ref(), "userRef")?;
        Ok(Box::new(move |object| match object {
            Object::Credential(credential) => {
                is_for(user.as_deref(), credential.status.as_ref().and_then(|status| status.user_ref.as_ref()))
            }
            _ => false,
        }))
    }
}

impl Narrow for ListSessionOptions {
    fn narrow(&self, state: &State) -> Result<Keep, Refusal> {
        let user = list::filter(state, Kind::User, self.user_ref.as_ref(), "userRef")?;
        Ok(Box::new(move |object| match object {
            Object::Session(session) => {
                is_for(user.as_deref(), session.status.as_ref().and_then(|status| status.user_ref.as_ref()))
            }
            _ => false,
        }))
    }
}

fn is_for(wanted: Option<&str>, owner: Option<&ObjectReference>) -> bool {
    wanted.is_none_or(|uid| owner.is_some_and(|owner| owner.uid == uid))
}

impl Core {
    async fn put<K>(&self, resource: K, mode: Mode, actor: Actor) -> Result<Response<K>, Status>
    where
        K: Into<Object> + TryFrom<Object>,
    {
        let store = &self.0.store;
        let mut object: Object = resource.into();
        self.name_by_uid(&mut object, mode);
        let now = store.now().system_time();
        // Compiling expressions takes its time; other calls go on meanwhile.
        let draft = tokio::task::spawn_blocking(move || Draft::new("", object, now))
            .await
            .map_err(|_| Status::unavailable("the check was interrupted"))?;
        let done = store.change(&actor, |plan| {
            let id = plan.put(&draft, mode);
            match id {
                Some(id) => Ok(id),
                None => Err(plan.checked().err().unwrap_or_else(|| Refusal::new(Code::Unavailable, "try again"))),
            }
        });
        let done = done.await?;
        let object = done.object(&done.value).cloned();
        answer(object.ok_or_else(|| Status::unavailable("the resource was deleted meanwhile"))?)
    }

    /// An update may name a resource by its uid alone.
    fn name_by_uid(&self, object: &mut Object, mode: Mode) {
        let nameless = mode == Mode::Update && object.metadata().is_some_and(|given| given.name.is_empty());
        if nameless && let Some(stored) = self.0.store.state().get(object.kind(), object.uid()) {
            stored.object.name().clone_into(&mut object.metadata_mut().name);
        }
    }

    fn get<K: TryFrom<Object>>(&self, kind: Kind, uid: &str, name: &str) -> Result<Response<K>, Status> {
        let state = self.0.store.state();
        let stored = list::find(&state, kind, uid, name, "")?;
        if list::is_hidden(&stored.object) {
            return Err(Status::permission_denied("this resource is hidden"));
        }
        answer(stored.object.clone())
    }

    async fn delete(
        &self,
        kind: Kind,
        options: DeleteOptions,
        actor: Actor,
    ) -> Result<Response<OperationResult>, Status> {
        let done = self.0.store.change(&actor, |plan| {
            let stored = list::find(plan.state(), kind, &options.uid, &options.name, "")?.clone();
            plan.delete(stored, "");
            Ok::<_, Refusal>(())
        });
        done.await?;
        Ok(Response::new(OperationResult {}))
    }
}

fn answer<K: TryFrom<Object>>(object: Object) -> Result<Response<K>, Status> {
    K::try_from(object).map(Response::new).map_err(|_| Status::unavailable("the resource has another kind"))
}

/// `create_user` is the method `CreateUser`.
fn method(function: &str) -> String {
    let words = function.split('_');
    words
        .flat_map(|word| word.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }))
        .collect()
}

macro_rules! service {
    (
        create { $($create:ident: $created:ident,)* }
        update { $($update:ident: $updated:ident,)* }
        get { $($get:ident: $got:ident,)* }
        list { $($list:ident: $listed:ident($options:ident) -> $page:ident,)* }
        delete { $($delete:ident: $deleted:ident,)* }
        unserved { $($unserved:ident($input:ty) -> $output:ty: $what:literal,)* }
    ) => {
        #[tonic::async_trait]
        impl core::main_service_server::MainService for Core {
            $(async fn $create(&self, request: Request<$created>) -> Result<Response<$created>, Status> {
                let actor = actor(&request, SERVICE, &method(stringify!($create)))?;
                self.put(request.into_inner(), Mode::Create, actor).await
            })*

            $(async fn $update(&self, request: Request<$updated>) -> Result<Response<$updated>, Status> {
                let actor = actor(&request, SERVICE, &method(stringify!($update)))?;
                self.put(request.into_inner(), Mode::Update, actor).await
            })*

            $(async fn $get(&self, request: Request<GetOptions>) -> Result<Response<$got>, Status> {
                actor(&request, SERVICE, "")?;
                let GetOptions { uid, name } = request.into_inner();
                self.get(Kind::$got, &uid, &name)
            })*

            $(async fn $list(&self, request: Request<$options>) -> Result<Response<$page>, Status> {
                actor(&request, SERVICE, "")?;
                let state = self.0.store.state();
                let options = request.into_inner();
                let keep = options.narrow(&state)?;
                let (items, meta) = list::page(&state, Kind::$listed, options.common.as_ref(), keep)?;
                Ok(Response::new($page {
                    api_version: octelium_api::API_VERSION.to_owned(),
                    kind: stringify!($page).to_owned(),
                    items: items.into_iter().filter_map(|object| $listed::try_from(object).ok()).collect(),
                    list_response_meta: Some(meta),
                }))
            })*

            $(async fn $delete(&self, request: Request<DeleteOptions>) -> Result<Response<OperationResult>, Status> {
                let actor = actor(&request, SERVICE, &method(stringify!($delete)))?;
                self.delete(Kind::$deleted, request.into_inner(), actor).await
            })*

            $(async fn $unserved(&self, request: Request<$input>) -> Result<Response<$output>, Status> {
                actor(&request, SERVICE, "")?;
                Err(Status::unimplemented(concat!("this server has no ", $what, " yet")))
            })*

            async fn get_cluster_config(
                &self,
                request: Request<GetClusterConfigRequest>,
            ) -> Result<Response<ClusterConfig>, Status> {
                actor(&request, SERVICE, "")?;
                self.get(Kind::ClusterConfig, "", name::CLUSTER_CONFIG)
            }

            async fn generate_credential_token(
                &self,
                request: Request<GenerateCredentialTokenRequest>,
            ) -> Result<Response<CredentialToken>, Status> {
                let actor = actor(&request, SERVICE, "GenerateCredentialToken")?;
                let reference = request.into_inner().credential_ref.unwrap_or_default();
                Ok(Response::new(generate::credential_token(&self.0, &reference, &actor).await?))
            }
        }
    };
}

service! {
    create {
        create_namespace: Namespace,
        create_service: Service,
        create_user: User,
        create_group: Group,
        create_policy: Policy,
        create_credential: Credential,
        create_secret: Secret,
    }
    update {
        update_namespace: Namespace,
        update_service: Service,
        update_user: User,
        update_group: Group,
        update_policy: Policy,
        update_credential: Credential,
        update_secret: Secret,
        update_session: Session,
        update_cluster_config: ClusterConfig,
    }
    get {
        get_namespace: Namespace,
        get_service: Service,
        get_user: User,
        get_group: Group,
        get_policy: Policy,
        get_credential: Credential,
        get_secret: Secret,
        get_session: Session,
    }
    list {
        list_namespace: Namespace(ListNamespaceOptions) -> NamespaceList,
        list_service: Service(ListServiceOptions) -> ServiceList,
        list_user: User(ListUserOptions) -> UserList,
        list_group: Group(ListGroupOptions) -> GroupList,
        list_policy: Policy(ListPolicyOptions) -> PolicyList,
        list_credential: Credential(ListCredentialOptions) -> CredentialList,
        list_secret: Secret(ListSecretOptions) -> SecretList,
        list_session: Session(ListSessionOptions) -> SessionList,
    }
    delete {
        delete_namespace: Namespace,
        delete_service: Service,
        delete_user: User,
        delete_group: Group,
        delete_policy: Policy,
        delete_credential: Credential,
        delete_secret: Secret,
        delete_session: Session,
    }
    unserved {
        list_device(ListDeviceOptions) -> DeviceList: "Devices",
        delete_device(DeleteOptions) -> OperationResult: "Devices",
        get_device(GetOptions) -> Device: "Devices",
        update_device(Device) -> Device: "Devices",
        create_identity_provider(IdentityProvider) -> IdentityProvider: "IdentityProviders",
        get_identity_provider(GetOptions) -> IdentityProvider: "IdentityProviders",
        list_identity_provider(ListIdentityProviderOptions) -> IdentityProviderList: "IdentityProviders",
        update_identity_provider(IdentityProvider) -> IdentityProvider: "IdentityProviders",
        delete_identity_provider(DeleteOptions) -> OperationResult: "IdentityProviders",
        get_region(GetOptions) -> Region: "Regions",
        list_region(ListRegionOptions) -> RegionList: "Regions",
        list_gateway(ListGatewayOptions) -> GatewayList: "Gateways",
        get_gateway(GetOptions) -> Gateway: "Gateways",
        list_authenticator(ListAuthenticatorOptions) -> AuthenticatorList: "Authenticators",
        delete_authenticator(DeleteOptions) -> OperationResult: "Authenticators",
        get_authenticator(GetOptions) -> Authenticator: "Authenticators",
        update_authenticator(Authenticator) -> Authenticator: "Authenticators",
        create_config(Config) -> Config: "Configs",
        list_config(ListConfigOptions) -> ConfigList: "Configs",
        update_config(Config) -> Config: "Configs",
        delete_config(DeleteOptions) -> OperationResult: "Configs",
        get_config(GetOptions) -> Config: "Configs",
    }
}
