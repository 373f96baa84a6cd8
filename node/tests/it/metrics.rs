//! What a collector and an orchestrator read of a node, beside the request path.

use octelium_node::config::Settings;
use serde_json::json;

use crate::support::{
    cluster::Cluster,
    http::{Answer, Call, Connection, get},
    manifest::service,
};

async fn with_metrics() -> Cluster {
    Cluster::with(Settings { metrics_listen: Some("127.0.0.1:0".to_owned()), ..Settings::default() }).await
}

async fn ask(cluster: &Cluster, path: &str) -> Answer {
    let address = cluster.node.metrics.as_ref().unwrap().address;
    Connection::plain(address).await.call(&get("metrics", path)).await
}

/// The value of the one line that begins with this name and these labels.
fn value(text: &str, series: &str) -> f64 {
    let found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).collect();
    match found.as_slice() {
        [value] => value.parse().unwrap(),
        found => panic!("{series}: {found:?} in\n{text}"),
    }
}

#[tokio::test]
async fn what_happens_is_counted_and_shown() {
    let cluster = with_metrics().await;
    let limit = json!({ "limit": 2, "window": { "seconds": 60 } });
    let limit = json!({ "name": "two", "condition": { "matchAny": true }, "rateLimit": limit });
    let spec = json!({
        "isAnonymous": true, "authorization": null,
        "config": { "upstream": null, "http": { "plugins": [limit], "response": { "direct": { "inline": "ok" } } } },
    });
    cluster.api.apply(&[service("limited", "", spec)]).await;
    let mut connection = cluster.connect().await;
    for expected in [200, 200, 429] {
        assert_eq!(connection.call(&get("limited", "/")).await.status, expected);
    }
    assert_eq!(cluster.call(&get("nowhere", "/")).await.status, 404);
    let mut garbage = cluster.connect().await;
    garbage.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_eq!(garbage.answer().await.status, 400);

    let answer = ask(&cluster, "/metrics").await;
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(value(&text, "octelium_requests_total{class=\"2xx\"}") >= 2.0);
    assert_eq!(value(&text, "octelium_refusals_total{code=\"RATE_LIMITED\"}"), 1.0);
    assert_eq!(value(&text, "octelium_refusals_total{code=\"HOST_UNKNOWN\"}"), 1.0);
    assert_eq!(value(&text, "octelium_refusals_total{code=\"REQUEST_MALFORMED\"}"), 1.0);
    assert_eq!(value(&text, "octelium_ready"), 1.0);
    assert_eq!(value(&text, "octelium_raft_is_leader"), 1.0);
    assert_eq!(value(&text, "octelium_raft_members{role=\"voter\"}"), 1.0);
    assert!(value(&text, "octelium_raft_commit_seconds_count") >= 1.0, "the apply above");
    assert!(value(&text, "octelium_rate_limit_asks_total") >= 1.0);
    assert_eq!(value(&text, "octelium_rate_limit_counters"), 1.0);
    assert!(value(&text, "octelium_view_age_seconds") < 60.0);
    assert!(value(&text, "octelium_connections") >= 1.0, "one is kept alive");
    let applied = value(&text, "octelium_raft_applied_index");
    assert!(applied > 1.0 && value(&text, "octelium_raft_log_index") >= applied);
    drop(connection);
}

/// Each line is a comment, or a name with labels and a number; each name is explained once, in the docs too.
#[tokio::test]
async fn every_figure_is_explained() {
    let cluster = with_metrics().await;
    let text = ask(&cluster, "/metrics").await.text();
    let docs = include_str!("../../../docs/src/metrics.md");
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let family = rest.split(' ').next().unwrap();
            assert!(docs.contains(&format!("`{family}`")), "docs/src/metrics.md says nothing of {family}");
            families.push(family);
        } else if !line.starts_with('#') {
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    let mut once = families.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), families.len(), "{families:?}");
    assert!(families.len() > 20, "{families:?}");
}

#[tokio::test]
async fn health_says_whether_callers_should_come_here() {
    let cluster = with_metrics().await;
    assert_eq!((ask(&cluster, "/livez").await.status, ask(&cluster, "/readyz").await.status), (200, 200));
    assert_eq!(ask(&cluster, "/").await.status, 404);
    let address = cluster.node.metrics.as_ref().unwrap().address;
    let post = Connection::plain(address).await.call(&Call::new("POST", "metrics", "/metrics")).await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    // The port is for those who ask properly.
    let mut garbage = Connection::plain(address).await;
    garbage.send([0_u8; 100]).await;
    assert!(garbage.rest().await.len() < 200);
    assert_eq!(ask(&cluster, "/readyz").await.status, 200);
}

/// Load balancers learn that a node stops while it still serves.
#[tokio::test]
async fn a_node_that_stops_says_so_before_it_closes_its_doors() {
    let settings = Settings {
        metrics_listen: Some("127.0.0.1:0".to_owned()),
        drain_delay: Some("1s".to_owned()),
        ..Settings::default()
    };
    let cluster = Cluster::with(settings).await;
    let (metrics, http) = (cluster.node.metrics.as_ref().unwrap().address, cluster.http);
    let stopping = tokio::spawn(cluster.stop());
    let unready = crate::support::until("the node to say that it stops", async || {
        let answer = Connection::plain(metrics).await.call(&get("metrics", "/readyz")).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(unready.text(), "stopping\n");
    assert_eq!(Connection::plain(http).await.call(&get("nowhere", "/")).await.status, 404, "it still answers");
    stopping.await.unwrap();
}
