//! Failing is throttled, and nothing else.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use octelium_api::core::credential::spec::Type;
use octelium_control::{ClientInfo, oauth2};

use crate::support::Cluster;

async fn post(cluster: &Cluster, ip: &str, body: &str) -> Response<Bytes> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let client = ClientInfo { ip: ip.to_owned(), ..ClientInfo::default() };
    let request = oauth2::Request { headers: &headers, query: None, body: body.as_bytes(), client: &client };
    cluster.control.oauth2_token(request).await
}

#[tokio::test]
async fn guessing_is_slowed_and_the_honest_get_in() {
    let cluster = Cluster::start().await;
    let (credential, secret) = cluster.credential("robot", Type::Oauth2).await;
    let id = credential.status.unwrap().id;
    let bad = format!("grant_type=client_credentials&client_id={id}&client_secret=wrong");
    let good = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(post(&cluster, "192.0.2.7", &bad).await.status().as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 30);
    let refused = post(&cluster, "192.0.2.7", &bad).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "60");
    assert_eq!(post(&cluster, "192.0.2.7", &good).await.status(), 200, "the same address, and who it says");
    assert_eq!(post(&cluster, "192.0.2.8", &bad).await.status(), 401, "another address");
    cluster.later(std::time::Duration::from_secs(180));
    assert_eq!(post(&cluster, "192.0.2.7", &bad).await.status(), 401, "it passes");
}
