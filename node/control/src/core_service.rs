//! The official API for administrators: `octelium.api.main.core.v1.MainService`.

use std::sync::Arc;

use octelium_api::{
    Kind, Object,
    core::{self, *},
    meta::{DeleteOptions, GetOptions, OperationResult},
    name,
};
use octelium_consensus::State;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use crate::{
    Inner,
    auth::generate,
    draft::Draft,
    grpc::actor,
    list,
    plan::{Actor, Mode, Precondition},
    refusal::Refusal,
};

const SERVICE: &str = "octelium.api.main.core.v1.MainService";

/// See the module.
pub struct Core(pub Arc<Inner>);

/// The uids of what the wanted resources belong to.
type Owners = Vec<String>;

/// What a kind's list can be narrowed to.
trait Narrow {
    /// Whose resources are wanted; of everybody, where there is nothing.
    ///
    /// # Errors
    /// If what it is narrowed by isn't there.
    fn narrow(&self, _: &State) -> Result<Owners, Refusal> {
        Ok(Owners::default())
    }
}

impl Narrow for ListNamespaceOptions {}
impl Narrow for ListUserOptions {}
impl Narrow for ListGroupOptions {}
impl Narrow for ListPolicyOptions {}
impl Narrow for ListSecretOptions {}

impl Narrow for ListConfigOptions {}
impl Narrow for ListIdentityProviderOptions {}
impl Narrow for ListRegionOptions {}

/// Lists that can be narrowed to what belongs to one resource.
macro_rules! narrow {
    ($($options:ident by $($reference:ident ($kind:ident, $path:literal)),*;)*) => {
        $(impl Narrow for $options {
            fn narrow(&self, state: &State) -> Result<Owners, Refusal> {
                let mut owners = Owners::default();
                $(owners.extend(list::filter(state, Kind::$kind, self.$reference.as_ref(), $path)?);)*
                Ok(owners)
            }
        })*
    };
}

narrow! {
    ListServiceOptions by namespace_ref (Namespace, "namespaceRef"), region_ref (Region, "regionRef");
    ListCredentialOptions by user_ref (User, "userRef");
    ListSessionOptions by user_ref (User, "userRef");
    ListDeviceOptions by user_ref (User, "userRef");
    ListAuthenticatorOptions by user_ref (User, "userRef");
    ListGatewayOptions by region_ref (Region, "regionRef");
}

impl Core {
    async fn put<K>(&self, request: Request<K>, mode: Mode, actor: Actor) -> Result<Response<K>, Status>
    where
        K: Into<Object> + TryFrom<Object>,
    {
        let store = &self.0.store;
        let precondition = precondition(request.metadata(), mode)?;
        let mut object: Object = request.into_inner().into();
        self.name_by_uid(&mut object, mode);
        let now = store.now().system_time();
        // Compiling expressions takes its time; other calls go on meanwhile.
        let draft = tokio::task::spawn_blocking(move || Draft::new("", object, now))
            .await
            .map_err(|_| Status::unavailable("the check was interrupted"))?;
        let done = store.change(&actor, |plan| {
            let id = plan.put(&draft, mode, &precondition);
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
        request: Request<DeleteOptions>,
        actor: Actor,
    ) -> Result<Response<OperationResult>, Status> {
        let precondition = precondition(request.metadata(), Mode::Update)?;
        let options = request.into_inner();
        let done = self.0.store.change(&actor, |plan| {
            let stored = list::find(plan.state(), kind, &options.uid, &options.name, "")?.clone();
            plan.delete(stored, "", &precondition);
            Ok::<_, Refusal>(())
        });
        done.await?;
        Ok(Response::new(OperationResult {}))
    }
}

/// What the metadata `if-match` (RFC 9110 §13.1.1, with a `resourceVersion` as the tag) asks for. The resource's own
/// `resourceVersion` is not looked at: clients send back what they read without meaning anything by it.
fn precondition(metadata: &MetadataMap, mode: Mode) -> Result<Precondition, Refusal> {
    let mut values = metadata.get_all("if-match").iter();
    let Some(value) = values.next() else { return Ok(Precondition::Any) };
    if values.next().is_some() {
        return Err(Refusal::at("if-match", "is given twice"));
    }
    let version = value.to_str().map(|text| text.trim().trim_matches('"')).unwrap_or_default();
    if mode == Mode::Create {
        return Err(Refusal::at("if-match", "goes with updates and deletions: what is created has no version yet"));
    }
    match version {
        "*" => Ok(Precondition::Any),
        version if Uuid::try_parse(version).is_ok() => Ok(Precondition::Version(version.to_owned())),
        _ => Err(Refusal::at("if-match", "must be one resourceVersion, or `*`")),
    }
}

/// Whether the metadata `end-sessions: true` asks for the end of what an old token made.
fn end_sessions(metadata: &MetadataMap) -> Result<bool, Refusal> {
    match metadata.get("end-sessions").map(|value| value.to_str()) {
        None | Some(Ok("false")) => Ok(false),
        Some(Ok("true")) => Ok(true),
        Some(_) => Err(Refusal::at("end-sessions", "must be `true` or `false`")),
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
    ) => {
        #[tonic::async_trait]
        impl core::main_service_server::MainService for Core {
            $(async fn $create(&self, request: Request<$created>) -> Result<Response<$created>, Status> {
                let actor = actor(&request, SERVICE, &method(stringify!($create)))?;
                self.put(request, Mode::Create, actor).await
            })*

            $(async fn $update(&self, request: Request<$updated>) -> Result<Response<$updated>, Status> {
                let actor = actor(&request, SERVICE, &method(stringify!($update)))?;
                self.put(request, Mode::Update, actor).await
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
                let owners = options.narrow(&state)?;
                let (items, meta) = list::page(&state, Kind::$listed, options.common.as_ref(), &owners)?;
                Ok(Response::new($page {
                    api_version: octelium_api::API_VERSION.to_owned(),
                    kind: stringify!($page).to_owned(),
                    items: items.into_iter().filter_map(|object| $listed::try_from(object).ok()).collect(),
                    list_response_meta: Some(meta),
                }))
            })*

            $(async fn $delete(&self, request: Request<DeleteOptions>) -> Result<Response<OperationResult>, Status> {
                let actor = actor(&request, SERVICE, &method(stringify!($delete)))?;
                self.delete(Kind::$deleted, request, actor).await
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
                let end_sessions = end_sessions(request.metadata())?;
                let reference = request.into_inner().credential_ref.unwrap_or_default();
                Ok(Response::new(generate::credential_token(&self.0, &reference, end_sessions, &actor).await?))
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
        create_config: Config,
        create_identity_provider: IdentityProvider,
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
        update_config: Config,
        update_identity_provider: IdentityProvider,
        update_device: Device,
        update_authenticator: Authenticator,
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
        get_config: Config,
        get_identity_provider: IdentityProvider,
        get_device: Device,
        get_authenticator: Authenticator,
        get_region: Region,
        get_gateway: Gateway,
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
        list_config: Config(ListConfigOptions) -> ConfigList,
        list_identity_provider: IdentityProvider(ListIdentityProviderOptions) -> IdentityProviderList,
        list_device: Device(ListDeviceOptions) -> DeviceList,
        list_authenticator: Authenticator(ListAuthenticatorOptions) -> AuthenticatorList,
        list_region: Region(ListRegionOptions) -> RegionList,
        list_gateway: Gateway(ListGatewayOptions) -> GatewayList,
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
        delete_config: Config,
        delete_identity_provider: IdentityProvider,
        delete_device: Device,
        delete_authenticator: Authenticator,
    }
}
