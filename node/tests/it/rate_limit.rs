//! Rate limits as callers meet them (spec: data plane §2.3, §12 G4, E7).

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    http::get,
    manifest::{only, rule, service},
    until,
    upstream::Upstream,
};

/// A plugin: its name, and what its limit has beside two requests in two seconds.
fn plugin(name: &str, more: Value) -> Value {
    let mut limit = json!({ "limit": 2, "window": { "seconds": 2 } });
    limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "name": name, "condition": { "matchAny": true }, "rateLimit": limit })
}

fn with(plugins: Value) -> Value {
    json!({ "config": { "http": { "plugins": plugins } } })
}

async fn statuses(cluster: &Cluster, host: &str, path: &str, token: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(cluster.call(&get(host, path).token(token)).await.status);
    }
    statuses
}

/// G4, in both modes: two, then no more; others aren't concerned; after the window two again.
#[tokio::test]
async fn g_04_a_session_has_its_limit_in_each_window() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let services = ["STRICT", "LOCAL"].map(|mode| {
        service(&mode.to_lowercase(), &upstream.url(), with(json!([plugin("two", json!({ "mode": mode }))])))
    });
    cluster.api.apply(&services).await;
    let (alice, bob) = (cluster.api.caller("alice").await, cluster.api.caller("bob").await);
    for host in ["strict", "local"] {
        let began = Instant::now();
        assert_eq!(statuses(&cluster, host, "/", &alice, 4).await, [200, 200, 429, 429], "{host}");
        assert_eq!(statuses(&cluster, host, "/", &bob, 2).await, [200, 200], "{host}: another Session");
        until("the limit to have room again", async || {
            (cluster.call(&get(host, "/").token(&alice)).await.status == 200).then_some(())
        })
        .await;
        assert!(began.elapsed().as_millis() >= 1_900, "{host}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn callers_are_told_what_is_left_and_when_to_come_back() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let own = json!({
        "limit": 1, "statusCode": 418, "body": { "inline": "later" },
        "headers": [{ "key": "Retry-After", "value": "77" }, { "key": "X-Plan", "value": "free" }],
    });
    let anonymous = json!({ "isAnonymous": true, "authorization": null });
    let mut plain = with(json!([plugin("plain", json!({ "window": { "seconds": 60 } }))]));
    let mut custom = with(json!([plugin("own", own)]));
    for spec in [&mut plain, &mut custom] {
        spec.as_object_mut().unwrap().extend(anonymous.as_object().unwrap().clone());
    }
    cluster.api.apply(&[service("plain", &upstream.url(), plain), service("own", &upstream.url(), custom)]).await;
    let first = cluster.call(&get("plain", "/")).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"plain\";q=2;w=60"));
    assert!(first.header("ratelimit").unwrap().starts_with("\"plain\";r="), "{:?}", first.header("ratelimit"));
    cluster.call(&get("plain", "/")).await;
    let refused = cluster.call(&get("plain", "/")).await;
    assert_eq!(refused.short(), (429, "RATE_LIMITED"));
    assert!(refused.header("ratelimit").unwrap().starts_with("\"plain\";r=0;t="));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    let record = cluster.record_of(&refused).await;
    assert_eq!(record["error"]["code"], "RATE_LIMITED");
    assert!(record["error"]["cause"].as_str().unwrap().starts_with("plugin `plain`"), "{record}");

    assert_eq!(cluster.call(&get("own", "/")).await.status, 200);
    let refused = cluster.call(&get("own", "/")).await;
    assert_eq!((refused.short(), &*refused.body), ((418, "RATE_LIMITED"), &b"later"[..]));
    assert_eq!((refused.header("retry-after"), refused.header("x-plan")), (Some("77"), Some("free")));
}

/// E7, and what is counted together.
#[tokio::test]
async fn keys_conditions_and_phases_say_who_is_counted() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let minute = |more: Value| {
        let mut all = json!({ "window": { "seconds": 60 }, "mode": "LOCAL" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let mut on_path = plugin("path", minute(json!({})));
    on_path["condition"] = json!({ "match": r#"ctx.request.http.path == "/limited""# });
    let mut fails = plugin("fails", minute(json!({})));
    fails["condition"] = json!({ "match": r#"int(ctx.request.http.path) == 1"# });
    let mut off = plugin("off", minute(json!({ "limit": 1 })));
    off["isDisabled"] = json!(true);
    let mut before = plugin("before", minute(json!({ "limit": 3 })));
    before["phase"] = json!("PRE_AUTH");
    let eval = |text: &str| minute(json!({ "key": { "eval": text } }));
    let services = [
        service("path", &upstream.url(), with(json!([on_path, off]))),
        service("fails", &upstream.url(), with(json!([fails]))),
        service("before", &upstream.url(), with(json!([before]))),
        service("user", &upstream.url(), with(json!([plugin("user", minute(json!({ "key": { "perUser": true } })))]))),
        service("eval", &upstream.url(), with(json!([plugin("eval", eval("ctx.request.http.path"))]))),
        service(
            "broken",
            &upstream.url(),
            with(json!([plugin("eval", eval(r#"string(int(ctx.request.http.path))"#))])),
        ),
        service(
            "both",
            &upstream.url(),
            with(json!([
                plugin("wide", minute(json!({ "limit": 3 }))),
                plugin("narrow", minute(json!({ "limit": 1 })))
            ])),
        ),
        service("denied", &upstream.url(), {
            let mut spec = only(&[rule("ALLOW", r#"ctx.request.http.path == "/ok""#)]);
            spec.as_object_mut()
                .unwrap()
                .extend(with(json!([plugin("two", minute(json!({})))])).as_object().unwrap().clone());
            spec
        }),
    ];
    cluster.api.apply(&services).await;
    let (alice, bob) = (cluster.api.caller("alice").await, cluster.api.caller("bob").await);
    assert_eq!(statuses(&cluster, "path", "/limited", &alice, 3).await, [200, 200, 429]);
    assert_eq!(statuses(&cluster, "path", "/other", &alice, 3).await, [200, 200, 200]);
    assert_eq!(statuses(&cluster, "fails", "/", &alice, 3).await, [200, 200, 429], "a condition that fails holds");
    assert_eq!(
        statuses(&cluster, "before", "/", "nothing", 4).await,
        [401, 401, 401, 429],
        "before the credential is read"
    );
    assert_eq!(statuses(&cluster, "user", "/", &alice, 3).await, [200, 200, 429]);
    assert_eq!(statuses(&cluster, "user", "/", &bob, 1).await, [200]);
    assert_eq!(statuses(&cluster, "eval", "/a", &alice, 2).await, [200, 200]);
    assert_eq!(statuses(&cluster, "eval", "/a", &bob, 1).await, [429], "the text alone counts");
    assert_eq!(statuses(&cluster, "eval", "/b", &bob, 1).await, [200]);
    let broken = cluster.call(&get("broken", "/x").token(&alice)).await;
    assert_eq!(broken.short(), (503, "RATE_LIMIT_UNAVAILABLE"));
    assert_eq!(statuses(&cluster, "both", "/", &alice, 2).await, [200, 429]);
    let told = cluster.call(&get("both", "/").token(&alice)).await;
    let policies: Vec<_> =
        told.headers.iter().filter(|(name, _)| name == "ratelimit-policy").map(|(_, policy)| policy).collect();
    assert_eq!(policies, ["\"wide\";q=3;w=60", "\"narrow\";q=1;w=60"], "in their order");
    assert_eq!(statuses(&cluster, "denied", "/no", &alice, 3).await, [403, 403, 403], "who may not pass isn't counted");
    assert_eq!(statuses(&cluster, "denied", "/ok", &alice, 3).await, [200, 200, 429]);
}

/// Who stands where is told with names, and a counter that is reset begins afresh, although nodes took it for used up.
#[tokio::test]
async fn counters_are_listed_by_name_and_reset() {
    use octelium_api::control::{ListRateLimitsRequest, RateLimitSelector, ResetRateLimitsRequest};

    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let long = plugin("per-minute", json!({ "limit": 4, "window": { "seconds": 60 }, "key": { "perUser": true } }));
    cluster.api.apply(&[service("limited", &upstream.url(), with(json!([long])))]).await;
    let (alice, bob) = (cluster.api.caller("alice").await, cluster.api.caller("bob").await);
    assert_eq!(statuses(&cluster, "limited", "/", &alice, 5).await, [200, 200, 200, 200, 429]);
    assert_eq!(statuses(&cluster, "limited", "/", &bob, 1).await, [200]);

    let list = async |selector: RateLimitSelector| {
        let request = ListRateLimitsRequest { selector: Some(selector), limit: 0 };
        cluster.api.control().list_rate_limits(request).await.map(tonic::Response::into_inner)
    };
    let all = list(RateLimitSelector::default()).await.unwrap();
    assert_eq!((all.total, all.rate_limits.len()), (2, 2), "{all:?}");
    let first = &all.rate_limits[0];
    assert_eq!((first.service.as_str(), first.plugin.as_str()), ("limited.default", "per-minute"));
    assert_eq!((first.key.as_str(), first.limit, first.window_milliseconds), ("user:alice", 4, 60_000));
    assert_eq!(first.used + first.held, 4, "{first:?}");
    assert!(first.back_in_milliseconds.is_some_and(|back| (1..=61_000).contains(&back)), "{first:?}");
    let key = |key: &str| RateLimitSelector { key: key.to_owned(), ..RateLimitSelector::default() };
    assert_eq!(list(key("user:bob")).await.unwrap().total, 1);
    assert_eq!(list(key("user:nobody")).await.unwrap().total, 0);
    let other = RateLimitSelector { service: "absent".to_owned(), ..RateLimitSelector::default() };
    assert_eq!(list(other).await.unwrap_err().code(), tonic::Code::NotFound);

    let reset = async |selector: RateLimitSelector, all: bool| {
        let request = ResetRateLimitsRequest { selector: Some(selector), all };
        cluster.api.control().reset_rate_limits(request).await.map(|done| done.into_inner().count)
    };
    assert_eq!(reset(RateLimitSelector::default(), false).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert_eq!(reset(key("user:alice"), true).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert_eq!(statuses(&cluster, "limited", "/", &alice, 1).await, [429]);
    assert_eq!(reset(key("user:alice"), false).await.unwrap(), 1);
    assert_eq!(statuses(&cluster, "limited", "/", &alice, 5).await, [200, 200, 200, 200, 429], "as at first");
    assert_eq!(reset(RateLimitSelector::default(), true).await.unwrap(), 2);
    assert_eq!(statuses(&cluster, "limited", "/", &alice, 5).await, [200, 200, 200, 200, 429]);
}
