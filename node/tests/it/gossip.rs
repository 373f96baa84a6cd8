//! Gossip between real nodes: what `cluster status` shows of it, and that it decides nothing.

use std::net::UdpSocket;

use octelium_api::control::{GetClusterRequest, Node};

use crate::{
    nodes::{three, voters},
    support::{
        http::{Connection, get},
        until,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_hear_each_other_and_who_is_gone_is_silent() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let with_metrics = ["--metrics-listen", "127.0.0.1:0"];
    let mut members = three(&with_metrics).await;
    let api = members[0].api(&members[0]).await;
    let own = members[0].id();
    let addresses: Vec<_> = voters(&api, 3).await.nodes.iter().map(|node| node.address.clone()).collect();
    let others = async || {
        let nodes = api.control().get_cluster(GetClusterRequest {}).await.ok()?.into_inner().nodes;
        let (here, others): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(|node| node.id == own);
        assert_eq!(here[0].is_heard, None, "of itself a node hears nothing");
        Some(others)
    };
    until("the others to be heard and ready", async || {
        others().await.filter(|others| others.iter().all(|node| node.is_heard == Some(true) && node.is_ready))
    })
    .await;

    // What strangers send to the port changes nothing, and is counted.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for address in &addresses {
        for length in [0, 1, 28, 45, 1_400] {
            stranger.send_to(&vec![1; length], address).unwrap();
        }
    }
    let metrics = members[0].process().metrics.unwrap();
    until("the datagrams of strangers to be counted", async || {
        let text = Connection::plain(metrics).await.call(&get("metrics", "/metrics")).await.text();
        let counts = |result: &str| {
            let series = format!("octelium_gossip_datagrams_total{{result=\"{result}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok()).unwrap_or_default()
        };
        let is_counted = counts("malformed") >= 3 && counts("unknown_key") >= 1 && counts("accepted") > 5;
        (is_counted && text.contains("octelium_gossip_members{state=\"live\"} 2")).then_some(())
    })
    .await;

    let gone = members[2].id();
    members[2].process.take().unwrap().kill().await;
    until("the one that is gone to be silent", async || {
        others().await.filter(|others| {
            others.iter().all(|node| node.is_heard == Some(node.id != gone) && node.is_ready == (node.id != gone))
        })
    })
    .await;
    members[2].restart(&[]).await;
    until("it to be heard again", async || {
        others().await.filter(|others| others.iter().all(|node| node.is_heard == Some(true) && node.is_ready))
    })
    .await;
}
