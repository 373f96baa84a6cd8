//! The services behind a real HTTP/2 connection, and who may call them.

use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use octelium_api::{
    clients::octelium::{
        api::main::{
            auth::v1::main_service_client::MainServiceClient as AuthClient,
            core::v1::main_service_client::MainServiceClient as CoreClient,
        },
        control::v1::control_service_client::ControlServiceClient,
    },
    control::ApplyRequest,
    core::{ListUserOptions, Policy},
    meta::GetOptions,
};
use tonic::{Code, body::Body, transport::Channel};
use tower::{Service, ServiceExt, service_fn};

use crate::support::{Cluster, by_name, code, fields, new_policy, put};

/// Serves until the test ends.
async fn served(cluster: &Cluster) -> Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (grpc, caller) = (cluster.control.grpc(), cluster.admin());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (grpc, caller) = (grpc.clone(), caller.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let mut grpc = grpc.clone();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(caller.clone());
                async move { grpc.call(request).await }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            tokio::spawn(connection);
        }
    });
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn all_services_answer_on_one_connection() {
    let cluster = Cluster::start().await;
    let channel = served(&cluster).await;
    CoreClient::new(channel.clone()).get_user(by_name("root")).await.unwrap();
    let request = octelium_api::auth::AuthenticateWithAuthenticationTokenRequest {
        authentication_token: cluster.root_token.clone().unwrap(),
        ..Default::default()
    };
    AuthClient::new(channel.clone()).authenticate_with_authentication_token(request).await.unwrap();
    ControlServiceClient::new(channel).apply(ApplyRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_thousand_reasons_still_reach_the_client() {
    let cluster = Cluster::start().await;
    let channel = served(&cluster).await;
    let changes = (0..1000).map(|n| put(new_policy(&format!("policy-{n}"), "ctx.nothing == 'ä'"))).collect();
    let request = ApplyRequest { changes, ..ApplyRequest::default() };
    let status = ControlServiceClient::new(channel).apply(request).await.unwrap_err();
    assert!(fields(&status).len() > 10, "{status:?}");
    assert!(status.message().contains("more"));
}

#[tokio::test]
async fn nobody_in_particular_gets_nothing() {
    let cluster = Cluster::start().await;
    let nobody = cluster.nobody();
    let mut core = CoreClient::new(nobody.clone());
    assert_eq!(code(core.get_user(by_name("root")).await), Code::Unauthenticated);
    assert_eq!(code(core.list_user(ListUserOptions::default()).await), Code::Unauthenticated);
    assert_eq!(code(core.create_policy(Policy::default()).await), Code::Unauthenticated);
    assert_eq!(code(core.get_device(GetOptions::default()).await), Code::Unauthenticated);
    assert_eq!(code(ControlServiceClient::new(nobody).apply(ApplyRequest::default()).await), Code::Unauthenticated);
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let cluster = Cluster::start().await;
    for path in ["/octelium.api.main.core.v1.MainService/Nothing", "/nothing.v1.Service/Do", "/", "/x"] {
        let request = Request::builder().method("POST").uri(path).body(Body::empty()).unwrap();
        let response = cluster.nobody().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12", "{path}");
    }
}
