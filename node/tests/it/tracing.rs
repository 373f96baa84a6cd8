//! What a request is called on its way through several systems (spec: data plane §5.6 row 1, §11.2 row 27).

use octelium_node::config::Settings;
use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    http::get,
    manifest::service,
    upstream::{Upstream, answer},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// The record of the request with this path.
async fn record(cluster: &Cluster, path: &str) -> Value {
    cluster.record(path, |record| record["entry"]["info"]["http"]["request"]["path"] == path).await
}

#[tokio::test]
async fn a_request_is_named_by_trusted_hops_only() {
    for (trusted, is_trusted) in [
        (&[][..], false),
        (&["192.0.2.0/24", "::/64"], false),
        (&["127.0.0.0/8"], true),
        (&["192.0.2.1", "127.0.0.1"], true),
    ] {
        let trusted_hops = Some(trusted.iter().map(|&network| network.to_owned()).collect());
        let cluster = Cluster::with(Settings { trusted_hops, ..Settings::default() }).await;
        let upstream = Upstream::ok().await;
        cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
        let token = cluster.api.caller("alice").await;
        for (index, (given, is_good)) in
            [("edge-7/42", true), ("", false), ("two words", false), ("<script>", false)].into_iter().enumerate()
        {
            let path = format!("/{index}");
            let call = get("svc", &path).token(&token).header("X-Request-Id", given).header("x_request_id", "forged");
            let answer = cluster.call(&call).await;
            let seen = upstream.only();
            let record = record(&cluster, &path).await;
            let expected = match is_trusted && is_good {
                true => given,
                false => record["metadata"]["id"].as_str().unwrap(),
            };
            assert_eq!(seen.header("x-request-id"), Some(expected), "{trusted:?} {given}");
            assert_eq!(answer.header("x-request-id"), Some(expected), "{trusted:?} {given}");
            assert_eq!(record["requestId"], expected, "{trusted:?} {given}");
            assert!(!seen.text().contains("forged"), "{seen:?}");
        }
        // Of two names, neither.
        let twice = get("svc", "/twice").token(&token).header("X-Request-Id", "one").header("X-Request-Id", "two");
        cluster.call(&twice).await;
        let id = record(&cluster, "/twice").await["metadata"]["id"].clone();
        assert_eq!(upstream.only().header("x-request-id"), id.as_str());
        // A refusal has its name too.
        let refused = cluster.call(&get("svc", "/").header("X-Request-Id", "mine")).await;
        let own = refused.decision().to_owned();
        assert_eq!(refused.header("x-request-id"), Some(if is_trusted { "mine" } else { &own }));
    }
}

#[tokio::test]
async fn an_upstream_may_name_its_answer() {
    let cluster = Cluster::start().await;
    let upstream = Upstream::start(|_| answer("200 OK", &[("X-Request-Id", "theirs")], "")).await;
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let answer = cluster.call(&get("svc", "/").token(&token)).await;
    assert_eq!(answer.header("x-request-id"), Some("theirs"));
}

/// W3C Trace Context: continued where it is whole, begun where it isn't, with a span of our own in any case.
#[tokio::test]
async fn a_trace_is_continued_or_begun() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let parent = |version: &str, flags: &str| format!("{version}-{TRACE}-{SPAN}-{flags}");
    let good = parent("00", "01");
    let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    let mut spans = Vec::new();
    for (index, (parents, states, flags, state)) in [
        (vec![good.clone()], vec!["a=1,b=2"], Some("01"), Some("a=1,b=2")),
        (vec![good.clone()], vec!["a=1", "b=2"], Some("01"), Some("a=1,b=2")),
        (vec![parent("00", "00")], vec![], Some("00"), None),
        (vec![parent("00", "ff")], vec![], Some("03"), None),
        (vec![format!("{}-later", parent("42", "01"))], vec!["a=1"], Some("01"), Some("a=1")),
        (vec![good.clone()], vec!["a=1,a=2"], Some("01"), None),
        (vec![good.clone()], vec!["A=1"], Some("01"), None),
        (vec![good.clone()], vec![many.as_str()], Some("01"), None),
        (vec![], vec!["a=1"], None, None),
        (vec![good.clone(), good.clone()], vec!["a=1"], None, None),
        (vec![parent("ff", "01")], vec!["a=1"], None, None),
        (vec![good.to_uppercase()], vec![], None, None),
        (vec![format!("{good}-more")], vec![], None, None),
        (vec![good.replace(TRACE, &"0".repeat(32))], vec![], None, None),
        (vec![good.replace(SPAN, &"0".repeat(16))], vec![], None, None),
        (vec!["garbage".to_owned()], vec![], None, None),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{index}");
        let mut call = get("svc", &path).token(&token);
        for parent in &parents {
            call = call.header("Traceparent", parent);
        }
        for state in states {
            call = call.header("TraceState", state);
        }
        assert_eq!(cluster.call(&call).await.status, 200);
        let (seen, record) = (upstream.only(), record(&cluster, &path).await);
        let sent: Vec<_> = seen.header("traceparent").unwrap().split('-').collect();
        let ["00", trace, span, sent_flags] = sent[..] else { panic!("{sent:?}") };
        assert_eq!((record["traceId"].as_str(), record["spanId"].as_str()), (Some(trace), Some(span)), "{parents:?}");
        assert_eq!(record["parentSpanId"].as_str(), flags.map(|_| SPAN), "{parents:?}");
        assert_eq!(trace == TRACE, flags.is_some(), "{parents:?}");
        // What we begin is sampled: otherwise tracers behind us would record nothing.
        assert_eq!(sent_flags, flags.unwrap_or("03"), "{parents:?}");
        assert_eq!(seen.header("tracestate"), state, "{parents:?}");
        spans.push(span.to_owned());
    }
    let all = spans.len();
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), all, "each request has a span of its own");
    assert!(!spans.iter().any(|span| span == SPAN));
}

/// To an upstream that shouldn't know, nothing is told.
#[tokio::test]
async fn a_configuration_can_keep_the_names_to_itself() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let header = json!({ "removeRequestHeaders": ["traceparent", "tracestate", "X-Request-Id"] });
    let spec = json!({ "config": { "http": { "header": header } } });
    cluster.api.apply(&[service("svc", &upstream.url(), spec)]).await;
    let token = cluster.api.caller("alice").await;
    let call = get("svc", "/quiet").token(&token).header("Traceparent", &format!("00-{TRACE}-{SPAN}-01"));
    assert_eq!(cluster.call(&call).await.status, 200);
    let seen = upstream.only();
    for name in ["traceparent", "tracestate", "x-request-id"] {
        assert_eq!(seen.header(name), None);
    }
    assert_eq!(record(&cluster, "/quiet").await["traceId"], TRACE);
}
