//! What generic gRPC clients ask for.

use http::Request;
use http_body_util::BodyExt;
use tonic::body::Body;
use tower::ServiceExt;

use crate::support::{As, Cluster};

/// Calls a method with one message, raw.
async fn call(to: As, path: &str, message: &[u8]) -> (String, Vec<u8>) {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    let request = Request::builder().method("POST").uri(path).header("content-type", "application/grpc");
    let request = request.body(Body::new(http_body_util::Full::from(frame))).unwrap();
    let response = to.oneshot(request).await.unwrap();
    let early = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.unwrap();
    let late = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    let status = early.or(late).map(|status| status.to_str().unwrap().to_owned()).unwrap();
    (status, body.to_bytes().to_vec())
}

#[tokio::test]
async fn reflection_lists_the_services_to_who_is_authenticated() {
    let cluster = Cluster::start().await;
    // ServerReflectionRequest{list_services: ""}
    let list = [0x3a, 0x00];
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let (status, answer) = call(cluster.as_caller(cluster.admin()), &path, &list).await;
        assert_eq!(status, "0", "{version}");
        let text = String::from_utf8_lossy(&answer);
        for service in ["octelium.api.main.core.v1.MainService", "octelium.control.v1.ControlService"] {
            assert!(text.contains(service), "{version}: {text}");
        }
        let (status, answer) = call(cluster.nobody(), &path, &list).await;
        assert_eq!((status.as_str(), answer.len()), ("16", 0));
    }
}

#[tokio::test]
async fn health_is_told_to_who_is_authenticated() {
    let cluster = Cluster::start().await;
    let path = "/grpc.health.v1.Health/Check";
    let (status, answer) = call(cluster.as_caller(cluster.admin()), path, &[]).await;
    assert_eq!((status.as_str(), &answer[5..]), ("0", &[0x08, 0x01][..]), "SERVING");
    assert_eq!(call(cluster.nobody(), path, &[]).await.0, "16");
    assert_eq!(call(cluster.as_caller(cluster.admin()), "/grpc.other.v1.Thing/Do", &[]).await.0, "12");
}
