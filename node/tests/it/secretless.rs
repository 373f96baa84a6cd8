//! The upstream is shown a credential that callers never see (spec: data plane §12.1 A3, §12.6 H2, H8).

use serde_json::{Value, json};

use crate::support::{
    api::deletion,
    cluster::Cluster,
    http::get,
    manifest::{secret, service},
    upstream::Upstream,
};

fn with_auth(url: &str, auth: Value) -> Value {
    service("svc", url, json!({ "config": { "http": { "auth": auth } } }))
}

/// H2.
#[tokio::test]
async fn bearer_basic_and_custom_show_the_secret_and_never_the_callers_token() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[secret("key", "s3cret")]).await;
    let token = cluster.api.caller("alice").await;
    for (auth, header, value) in [
        (json!({ "bearer": { "fromSecret": "key" } }), "authorization", "Bearer s3cret"),
        (
            json!({ "basic": { "username": "octo", "password": { "fromSecret": "key" } } }),
            "authorization",
            "Basic b2N0bzpzM2NyZXQ=",
        ),
        (json!({ "custom": { "header": "X-Api-Key", "value": { "fromSecret": "key" } } }), "x-api-key", "s3cret"),
    ] {
        cluster.api.apply(&[with_auth(&upstream.url(), auth.clone())]).await;
        for carrier in ["Authorization", "X-Octelium-Auth", "Cookie"] {
            let shown = match carrier {
                "Authorization" => format!("Bearer {token}"),
                "Cookie" => format!("octelium_auth={token}"),
                _ => token.clone(),
            };
            // What a caller sets under the same name is replaced, not added to.
            let call = get("svc", "/").header("X-Api-Key", "callers").header(carrier, &shown);
            assert_eq!(cluster.call(&call).await.status, 200, "{auth} {carrier}");
            let seen = upstream.only();
            assert_eq!(seen.header(header), Some(value), "{auth} {carrier}");
            assert!(!seen.text().contains(&token), "{auth} {carrier}: {seen:?}");
        }
    }
}

/// H8: nothing is ever sent without the credential.
#[tokio::test]
async fn without_the_secret_nothing_is_sent() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let bearer = json!({ "bearer": { "fromSecret": "key" } });
    let status = cluster.api.try_apply(&with_auth(&upstream.url(), bearer.clone()).to_string()).await.unwrap_err();
    assert!(status.message().contains("there is no Secret `key`"), "{status:?}");

    cluster.api.apply(&[secret("key", "s3cret"), with_auth(&upstream.url(), bearer)]).await;
    let token = cluster.api.caller("alice").await;
    // One in use stays.
    let status = cluster.api.core().delete_secret(deletion("key")).await.unwrap_err();
    assert!(status.message().contains("still used by Service `svc.default`"), "{status:?}");
    assert_eq!(cluster.call(&get("svc", "/").token(&token)).await.status, 200);
    upstream.only();

    // What can't stand in a header isn't sent either, nor is anything else.
    cluster.api.apply(&[secret("key", "two\nlines")]).await;
    let answer = cluster.call(&get("svc", "/").token(&token)).await;
    assert_eq!(answer.short(), (502, "SECRET_UNAVAILABLE"));
    let record = cluster.record_of(&answer).await;
    assert_eq!(record["error"]["cause"], "Secret `key` can't stand in a header");
    assert_eq!(record["entry"]["common"]["status"], "ALLOWED", "the caller did nothing wrong");
    assert!(upstream.seen().is_empty());
}

/// A3, and the very next request has the new one.
#[tokio::test]
async fn a_changed_secret_is_used_by_the_next_request() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster
        .api
        .apply(&[secret("key", "first"), with_auth(&upstream.url(), json!({ "bearer": { "fromSecret": "key" } }))])
        .await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    for value in ["first", "second", "third", "first"] {
        cluster.api.apply(&[secret("key", value)]).await;
        assert_eq!(connection.call(&get("svc", "/").token(&token)).await.status, 200);
        assert_eq!(upstream.only().header("authorization"), Some(format!("Bearer {value}").as_str()));
    }
    assert_eq!(upstream.connections(), 1);
    // A line feed at the end came with a file.
    cluster.api.apply(&[secret("key", "filed\n")]).await;
    assert_eq!(connection.call(&get("svc", "/").token(&token)).await.status, 200);
    assert_eq!(upstream.only().header("authorization"), Some("Bearer filed"));
}

#[tokio::test]
async fn nobody_can_read_a_secret_back() {
    let cluster = Cluster::start().await;
    let applied = cluster.api.apply(&[secret("key", "s3cret")]).await;
    let changed = cluster.api.apply(&[secret("key", "an0ther")]).await;
    let mut core = cluster.api.core();
    let got = core.get_secret(crate::support::api::by_name("key")).await.unwrap().into_inner();
    let listed = core.list_secret(octelium_api::core::ListSecretOptions::default()).await.unwrap().into_inner();
    for shown in [format!("{applied:?}"), format!("{changed:?}"), format!("{got:?}"), format!("{listed:?}")] {
        let bytes = |text: &str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        for value in ["s3cret", "an0ther"] {
            assert!(!shown.contains(value) && !shown.contains(&bytes(value)), "{shown}");
        }
    }
    assert!(changed.results[0].operation() == octelium_api::control::result::Operation::Updated);
}
