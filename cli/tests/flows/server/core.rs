//! The resource API.

use octelium_api::{Kind, Object, core, meta};
use tonic::{Request, Response, Status};

use super::{Cluster, MapRef, PAGE, take_data, typed, without_data};

/// The calls of each kind, where the kind has them.
macro_rules! service {
    ($($kind:ident $list_type:ident $options:ident: $get:ident $list:ident $($update:ident $delete:ident)? $(, $create:ident)?;)*) => {
        #[tonic::async_trait]
        impl core::main_service_server::MainService for Cluster {
            $(
                async fn $get(&self, request: Request<meta::GetOptions>) -> Result<Response<core::$kind>, Status> {
                    Ok(Response::new(typed(self.get(concat!("Get", stringify!($kind)), request, Kind::$kind)?)))
                }

                async fn $list(&self, request: Request<core::$options>) -> Result<Response<core::$list_type>, Status> {
                    let common = request.get_ref().common;
                    let (items, list_response_meta) =
                        self.list(concat!("List", stringify!($kind)), &request, common, Kind::$kind)?;
                    let items = items.into_iter().map(typed).collect();
                    Ok(Response::new(core::$list_type { items, list_response_meta, ..Default::default() }))
                }

                $(
                    async fn $update(&self, request: Request<core::$kind>) -> Result<Response<core::$kind>, Status> {
                        Ok(Response::new(typed(self.update(concat!("Update", stringify!($kind)), request)?)))
                    }

                    async fn $delete(
                        &self,
                        request: Request<meta::DeleteOptions>,
                    ) -> Result<Response<meta::OperationResult>, Status> {
                        self.delete(concat!("Delete", stringify!($kind)), request, Kind::$kind)
                    }
                )?

                $(
                    async fn $create(&self, request: Request<core::$kind>) -> Result<Response<core::$kind>, Status> {
                        Ok(Response::new(typed(self.create(concat!("Create", stringify!($kind)), request)?)))
                    }
                )?
            )*

            async fn generate_credential_token(
                &self,
                request: Request<core::GenerateCredentialTokenRequest>,
            ) -> Result<Response<core::CredentialToken>, Status> {
                let mut inner = self.enter("GenerateCredentialToken", &request)?;
                if request.metadata().get("end-sessions").is_some_and(|value| value == "true") {
                    inner.replaced_with_sessions += 1;
                }
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

            async fn get_cluster_config(
                &self,
                request: Request<core::GetClusterConfigRequest>,
            ) -> Result<Response<core::ClusterConfig>, Status> {
                let inner = self.enter("GetClusterConfig", &request)?;
                let mut object = inner.objects[&(Kind::ClusterConfig, "default".to_owned())].clone();
                object.set_envelope();
                Ok(Response::new(typed(object)))
            }
        }
    };
}

service! {
    Namespace NamespaceList ListNamespaceOptions: get_namespace list_namespace update_namespace delete_namespace, create_namespace;
    Service ServiceList ListServiceOptions: get_service list_service update_service delete_service;
    User UserList ListUserOptions: get_user list_user update_user delete_user;
    Group GroupList ListGroupOptions: get_group list_group update_group delete_group;
    Policy PolicyList ListPolicyOptions: get_policy list_policy update_policy delete_policy;
    Credential CredentialList ListCredentialOptions: get_credential list_credential update_credential delete_credential, create_credential;
    Session SessionList ListSessionOptions: get_session list_session update_session delete_session;
    Secret SecretList ListSecretOptions: get_secret list_secret update_secret delete_secret, create_secret;
    Config ConfigList ListConfigOptions: get_config list_config update_config delete_config, create_config;
    IdentityProvider IdentityProviderList ListIdentityProviderOptions: get_identity_provider list_identity_provider update_identity_provider delete_identity_provider;
    Device DeviceList ListDeviceOptions: get_device list_device update_device delete_device;
    Authenticator AuthenticatorList ListAuthenticatorOptions: get_authenticator list_authenticator update_authenticator delete_authenticator;
    Region RegionList ListRegionOptions: get_region list_region;
    Gateway GatewayList ListGatewayOptions: get_gateway list_gateway;
}

impl Cluster {
    fn create(&self, method: &str, request: Request<impl Into<Object>>) -> Result<Object, Status> {
        let mut inner = self.enter(method, &request.map_ref())?;
        let mut object: Object = request.into_inner().into();
        let key = (object.kind(), object.name().to_owned());
        if inner.objects.contains_key(&key) {
            return Err(Status::already_exists(format!("{} {} exists", key.0, key.1)));
        }
        object.metadata_mut().uid = uuid::Uuid::new_v4().to_string();
        let stored = inner.store(object);
        inner.answer(without_data(stored))
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
            Some(_) => {
                inner.changed(kind);
                inner.answer(Response::new(meta::OperationResult {}))
            }
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

    fn update(&self, method: &str, request: Request<impl Into<Object>>) -> Result<Object, Status> {
        let mut inner = self.enter(method, &request.map_ref())?;
        let version = request.metadata().get("if-match").unwrap().to_str().unwrap().to_owned();
        let new: Object = request.into_inner().into();
        let key = (new.kind(), new.name().to_owned());
        let mut before = inner.objects.get(&key).cloned();
        if inner.races {
            before = before.map(|before| inner.store(before));
        }
        if before.as_ref().is_some_and(|before| before.resource_version() != version) {
            return Err(Status::out_of_range("another version is stored"));
        }
        let mut after = before.ok_or_else(|| Status::not_found(format!("no {} {}", key.0, key.1)))?;
        after.overlay(&new);
        take_data(&mut after, &new);
        let stored = inner.store(after);
        inner.answer(without_data(stored))
    }
}
