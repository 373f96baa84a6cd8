//! One record for each request, whatever became of it, and never a credential in any (spec: data plane §10.2, V8, V11).

use octelium_api::core::ListUserOptions;
use serde_json::{Value, json};

use crate::support::{
    api::Api,
    cluster::Cluster,
    http::{get, post},
    manifest::{only, rule, secret, service},
    upstream::Upstream,
};

fn path_of(record: &Value) -> &str {
    record["entry"]["info"]["http"]["request"]["path"].as_str().unwrap_or_default()
}

/// Allowed, refused, malformed, unknown and aborted; the numbers are exact, as the node was stopped before they are counted.
#[tokio::test]
async fn there_is_exactly_one_record_for_each_request() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    let reading = only(&[rule("ALLOW", r#"ctx.request.http.bodyMap.ok == true"#)]);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({})), service("reads", &upstream.url(), reading)]).await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    let calls = [
        (get("svc", "/allowed").token(&token), 200, "ALLOWED", Some("POLICY_MATCH"), None),
        (post("svc", "/posted", "hello").token(&token), 200, "ALLOWED", Some("POLICY_MATCH"), None),
        (get("svc", "/nobody"), 401, "DENIED", None, Some("UNAUTHENTICATED")),
        (get("reads", "/denied").token(&token), 403, "DENIED", Some("NO_POLICY_MATCH"), Some("DENIED")),
        (post("reads", "/invalid", "[]").token(&token), 400, "DENIED", None, Some("BODY_INVALID")),
        (get("nothing", "/unknown").token(&token), 404, "DENIED", None, Some("HOST_UNKNOWN")),
        (get("svc", "/%zz").token(&token), 400, "DENIED", None, Some("PATH_INVALID")),
    ];
    for (call, status, ..) in &calls {
        assert_eq!(connection.call(call).await.status, *status);
    }
    connection.send("GET / HTTP/9\r\n\r\n").await;
    assert_eq!(connection.answer().await.status, 400);
    assert!(connection.closed().await);
    // Connections without a request leave nothing.
    drop(connection);
    drop(cluster.connect().await);
    drop(cluster.connect_tls("svc").await);

    let records = cluster.stop().await;
    assert_eq!(records.len(), calls.len() + 1, "{records:#?}");
    for ((_, status, decision, reason, code), record) in calls.iter().zip(&records) {
        let common = &record["entry"]["common"];
        assert_eq!(record["entry"]["info"]["http"]["response"]["code"], *status, "{record}");
        assert_eq!(common["status"], *decision, "{record}");
        assert_eq!(common["reason"]["type"].as_str(), *reason, "{record}");
        assert_eq!(record["error"]["code"].as_str(), *code, "{record}");
        assert_eq!(record["isAborted"], Value::Null, "{record}");
        for time in ["startedAt", "endedAt"] {
            assert!(chrono::DateTime::parse_from_rfc3339(common[time].as_str().unwrap()).is_ok(), "{record}");
        }
        let is_known = !matches!(status, 401 | 404) && *code != Some("PATH_INVALID");
        assert_eq!(common["userRef"]["name"].as_str(), is_known.then_some("alice"), "{record}");
        assert_eq!(common["sessionRef"]["kind"].as_str(), is_known.then_some("Session"), "{record}");
    }
    let mut ids: Vec<_> = records.iter().map(|record| record["metadata"]["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), records.len());
}

/// Who, what, where to: all that an investigation needs.
#[tokio::test]
async fn a_record_tells_who_asked_for_what_and_what_came_of_it() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::echo().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let call = post("svc", "/a%20b/../c%20d?secret=in-query", "hello")
        .token(&token)
        .header("User-Agent", "tester/1")
        .header("Referer", "https://user:pw@origin.example/page?token=in-referer#fragment")
        .header("Origin", "https://origin.example");
    assert_eq!(cluster.connect_tls("svc").await.call(&call).await.status, 200);
    let user = cluster.api.core().get_user(crate::support::api::by_name("alice")).await.unwrap().into_inner();
    let uid = user.metadata.unwrap().uid;
    let records = cluster.stop().await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    let common = &record["entry"]["common"];
    assert_eq!((&record["apiVersion"], &record["kind"]), (&json!("core/v1"), &json!("AccessLog")));
    assert_eq!(common["userRef"]["uid"], uid.as_str());
    assert_eq!(common["serviceRef"]["name"], "svc.default");
    assert_eq!(common["namespaceRef"]["name"], "default");
    assert_eq!(
        (&common["mode"], &common["isPublic"], &common["isAnonymous"]),
        (&json!("HTTP"), &json!(true), &json!(false))
    );
    assert_eq!(common["reason"]["details"]["policyMatch"]["policy"]["policyRef"]["name"], "allow-all");
    assert_eq!(record["metadata"]["actorRef"], common["sessionRef"]);
    assert_eq!(record["metadata"]["targetRef"], common["serviceRef"]);
    assert_eq!(
        (&record["host"], &record["clientAddress"], &record["config"]),
        (&json!("svc.octelium.test"), &json!("127.0.0.1"), &json!("default"))
    );
    let http = &record["entry"]["info"]["http"];
    let expected = json!({
        "path": "/c d",
        "uri": "/c%20d",
        "method": "POST",
        "scheme": "https",
        "userAgent": "tester/1",
        "referer": "https://origin.example/page",
        "origin": "https://origin.example",
        "bodyBytes": 5,
    });
    assert_eq!(http["request"], expected);
    assert_eq!(http["response"], json!({ "code": 200, "bodyBytes": 5 }));
    assert_eq!(http["httpVersion"], "HTTP11");
}

/// The whole file is searched for everything that is secret here, in the forms in which it travels.
#[tokio::test]
async fn no_credential_ever_enters_the_log() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let auth = |auth: Value| json!({ "config": { "http": { "auth": auth } } });
    cluster
        .api
        .apply(&[
            secret("key", "upstream-s3cret"),
            service("bearer", &upstream.url(), auth(json!({ "bearer": { "fromSecret": "key" } }))),
            service(
                "basic",
                &upstream.url(),
                auth(json!({ "basic": { "username": "u1", "password": { "fromSecret": "key" } } })),
            ),
            service("broken", "http://127.0.0.1:1", auth(json!({ "bearer": { "fromSecret": "key" } }))),
        ])
        .await;
    let access = cluster.api.caller("alice").await;
    let login = cluster.api.login("bob", json!({}), &[]).await;
    let (id, client_secret) = cluster.api.oauth2_client("robot").await;
    let root = cluster.node.root_token.clone().unwrap();
    let wrong = format!("{}AAAA", &access[..access.len() - 4]);
    for host in ["bearer", "basic", "broken", "nothing"] {
        for token in [&access, &login.access, &login.refresh, &login.shown, &wrong, &root] {
            let target = format!("/?access_token={token}");
            for call in [
                get(host, &target).token(token),
                get(host, &target).header("X-Octelium-Auth", token),
                get(host, &target).header("Cookie", &format!("octelium_auth={token}; sid=my-cookie")),
                get(host, &target).header("Referer", &format!("https://x.example/?t={token}")),
            ] {
                cluster.call(&call).await;
            }
        }
    }
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={client_secret}");
    let granted = cluster
        .call(
            &post("octelium.test", "/oauth2/token", &form).header("Content-Type", "application/x-www-form-urlencoded"),
        )
        .await;
    let granted = granted.json()["access_token"].as_str().unwrap().to_owned();
    cluster.call(&post("octelium.test", &format!("/oauth2/token?client_secret={client_secret}"), "")).await;
    cluster.api.try_log_in(&wrong, &[]).await.unwrap_err();
    let stranger: Api = cluster.api.with(&wrong);
    stranger.core().list_user(ListUserOptions::default()).await.unwrap_err();
    let refreshed = cluster.api.refresh(&login.refresh).await.unwrap();

    let (records, text) = cluster.stop_with_text().await;
    assert!(records.len() > 90, "{}", records.len());
    for (what, value) in [
        ("an access token", &access),
        ("a Session's access token", &login.access),
        ("a refresh token", &login.refresh),
        ("a Credential's token", &login.shown),
        ("a wrong token", &wrong),
        ("the root's token", &root),
        ("an OAuth2 secret", &client_secret),
        ("a granted token", &granted),
        ("a refreshed token", &refreshed.access_token),
        ("a Secret", &"upstream-s3cret".to_owned()),
        ("a Secret as basic", &"dTE6dXBzdHJlYW0t".to_owned()),
        ("a cookie", &"my-cookie".to_owned()),
    ] {
        assert!(!text.contains(value.as_str()), "{what}");
        // Nor the part of a token that differs from others.
        assert!(value.len() < 60 || !text.contains(&value[30..60]), "a part of {what}");
    }
}

/// The control API's calls are recorded like any other request.
#[tokio::test]
async fn calls_of_the_control_api_are_recorded() {
    let cluster = Cluster::start().await;
    cluster.api.core().list_user(ListUserOptions::default()).await.unwrap();
    let nobody = cluster.api.with("nobody");
    nobody.core().list_user(ListUserOptions::default()).await.unwrap_err();
    let token = cluster.api.caller("alice").await;
    cluster.api.with(&token).core().list_user(ListUserOptions::default()).await.unwrap_err();
    let (records, _) = cluster.stop_with_text().await;
    let listed: Vec<_> = records.iter().filter(|record| path_of(record).ends_with("/ListUser")).collect();
    let short: Vec<_> = listed
        .iter()
        .map(|record| {
            let common = &record["entry"]["common"];
            (common["status"].as_str().unwrap(), common["userRef"]["name"].as_str(), record["error"]["code"].as_str())
        })
        .collect();
    assert_eq!(
        short,
        [
            ("ALLOWED", Some("root"), None),
            ("DENIED", None, Some("UNAUTHENTICATED")),
            ("DENIED", Some("alice"), Some("DENIED"))
        ]
    );
    let logins =
        records.iter().filter(|record| path_of(record).ends_with("/AuthenticateWithAuthenticationToken")).count();
    assert_eq!(logins, 1);
    assert!(listed.iter().all(|record| record["entry"]["common"]["serviceRef"]["name"] == "default.octelium-api"));
}
