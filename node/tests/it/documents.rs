//! What the pages of `docs/src` show is accepted as it stands.

use serde_json::json;

use crate::support::{
    cluster::Cluster,
    http::{Call, get},
};

const PAGES: [(&str, &str); 3] = [
    ("headers.md", include_str!("../../../docs/src/headers.md")),
    ("cors.md", include_str!("../../../docs/src/cors.md")),
    ("direct.md", include_str!("../../../docs/src/direct.md")),
];

/// The blocks of YAML on a page.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[tokio::test]
async fn every_manifest_on_a_page_is_accepted() {
    let cluster = Cluster::start().await;
    for (name, page) in PAGES {
        let blocks = blocks(page);
        assert!(!blocks.is_empty(), "{name}");
        for block in blocks {
            cluster.api.apply_text(block).await;
        }
    }
    // The last one stands: it answers without its upstream.
    let may = json!({ "authorization": { "policies": ["allow-all"] } });
    let token = cluster.api.caller_of("alice", may).await;
    let answer = cluster.call(&get("my-api", "/billing/1").token(&token)).await;
    assert_eq!((answer.status, answer.text().as_str()), (503, r#"{"error": "back at noon"}"#));
    assert_eq!(answer.header("retry-after"), Some("3600"));

    cluster.api.apply_text(blocks(PAGES[1].1)[0]).await;
    let asks = Call::new("OPTIONS", "my-api", "/")
        .header("Origin", "http://localhost:3000")
        .header("Access-Control-Request-Method", "POST");
    assert_eq!(cluster.call(&asks).await.header("access-control-allow-methods"), Some("GET, POST"));
}
