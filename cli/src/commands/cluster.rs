//! `cluster`: the nodes, how they are, and how they leave.

use std::time::Duration;

use clap::Subcommand;
use octelium_api::control::{
    Cluster as Nodes, GetClusterRequest, Node, RemoveNodeRequest, SetNodeDrainedRequest, node::Role,
};
use serde_json::{Value, json};

use crate::{
    Usage,
    output::{self, Format, plain},
    session::Cluster,
    time,
};

/// `--watch` asks this often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const COLUMNS: [&str; 10] = ["Node", "Address", "Role", "Health", "Gossip", "Log", "Lag", "Applied", "Version", "Up"];

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the nodes: who leads, votes and follows, how far each is, and how it is
    Status {
        /// A form for programs
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        out: Option<Format>,
        /// Show them again whenever something changes
        #[arg(short, long)]
        watch: bool,
    },
    /// Have other nodes lead and vote in a node's place, before it is stopped or removed
    Drain(Which),
    /// End what `drain` began
    Undrain(Which),
    /// Take a node out of the cluster for good: it can come back only as a new one
    Remove(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The node's id, or the beginning of it if no other node's begins like that
    node: String,
}

/// Does it.
///
/// # Errors
/// If there is no such node, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Status { out, watch: true } => tokio::select! {
            ended = follow(cluster, *out) => ended,
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        },
        Command::Status { out, watch: false } => {
            let nodes = nodes(cluster).await?;
            Ok(output::result(&shown(&nodes, *out)?)?)
        }
        Command::Drain(which) => drain(cluster, which, true).await,
        Command::Undrain(which) => drain(cluster, which, false).await,
        Command::Remove(which) => {
            let id = find(cluster, which).await?;
            let request = RemoveNodeRequest { id: id.clone() };
            cluster.control(async |control| control.remove_node(request.clone()).await).await?;
            Ok(output::result(&format!(
                "Node {id} removed; stop it, and empty its data directory before it joins again\n"
            ))?)
        }
    }
}

async fn drain(cluster: &mut Cluster, which: &Which, is_drained: bool) -> anyhow::Result<()> {
    let id = find(cluster, which).await?;
    let request = SetNodeDrainedRequest { id: id.clone(), is_drained };
    cluster.control(async |control| control.set_node_drained(request.clone()).await).await?;
    let text = match is_drained {
        true => format!(
            "Node {id} drained: others lead and vote in its place where they can; it serves until it is stopped\n"
        ),
        false => format!("Node {id} is drained no more\n"),
    };
    Ok(output::result(&text)?)
}

async fn nodes(cluster: &mut Cluster) -> anyhow::Result<Nodes> {
    cluster.control(async |control| control.get_cluster(GetClusterRequest {}).await).await
}

/// The whole id of a node.
async fn find(cluster: &mut Cluster, which: &Which) -> anyhow::Result<String> {
    let nodes = nodes(cluster).await?.nodes;
    let prefix = which.node.to_ascii_lowercase();
    let found: Vec<_> = nodes.iter().filter(|node| !prefix.is_empty() && node.id.starts_with(&prefix)).collect();
    match found.as_slice() {
        [node] => Ok(node.id.clone()),
        [] => {
            let ids: Vec<_> = nodes.iter().map(|node| node.id.as_str()).collect();
            Err(Usage(format!("there is no node `{}`; the nodes are {}", plain(&which.node), ids.join(", "))).into())
        }
        _ => Err(Usage(format!("`{}` begins the ids of {} nodes", plain(&which.node), found.len())).into()),
    }
}

async fn follow(cluster: &mut Cluster, out: Option<Format>) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        let nodes = nodes(cluster).await?;
        let (now, text) = (essence(&nodes), shown(&nodes, out)?);
        if now != last && !output::part(&text)? {
            return Ok(());
        }
        last = now;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// What is worth telling again when it changes: not the time, and not each log entry.
fn essence(nodes: &Nodes) -> String {
    let parts = nodes
        .nodes
        .iter()
        .map(|node| format!("{} {} {} {} {}\n", node.id, node.address, role(node), health(node), gossip(node)));
    parts.collect()
}

fn shown(nodes: &Nodes, out: Option<Format>) -> anyhow::Result<String> {
    match out {
        Some(format) => output::document(&document(nodes), format),
        None => Ok(output::table(&COLUMNS, nodes.nodes.iter().map(cells).collect())),
    }
}

fn cells(node: &Node) -> Vec<String> {
    let of_reachable = |text: String| if node.is_reachable { text } else { String::new() };
    vec![
        node.id.clone(),
        node.address.clone(),
        role(node).to_owned(),
        health(node),
        gossip(node).to_owned(),
        node.log_index.to_string(),
        node.lag.to_string(),
        of_reachable(node.applied_index.to_string()),
        node.version.clone(),
        of_reachable(time::span(Duration::from_secs(node.up_seconds))),
    ]
}

fn role(node: &Node) -> &'static str {
    match node.role() {
        Role::Leader => "leader",
        Role::Voter => "voter",
        Role::Learner => "learner",
        Role::Unset => "unknown",
    }
}

/// In a word; more only where something is amiss.
fn health(node: &Node) -> String {
    let silent = || node.silent_milliseconds.map(|milliseconds| time::span(Duration::from_millis(milliseconds)));
    match (node.is_reachable, node.is_drained) {
        (true, false) => "ok".to_owned(),
        (true, true) => "drained".to_owned(),
        (false, _) => silent().map_or_else(|| "unreachable".to_owned(), |silent| format!("silent for {silent}")),
    }
}

/// What gossip says; nothing of the node that was asked.
fn gossip(node: &Node) -> &'static str {
    match (node.is_heard, node.is_ready) {
        (None, _) => "",
        (Some(false), _) => "silent",
        (Some(true), false) => "not ready",
        (Some(true), true) => "ready",
    }
}

fn document(nodes: &Nodes) -> Value {
    let nodes = nodes.nodes.iter().map(|node| {
        json!({
            "id": node.id,
            "address": node.address,
            "role": role(node).to_ascii_uppercase(),
            "isReachable": node.is_reachable,
            "isDrained": node.is_drained,
            "logIndex": node.log_index,
            "lag": node.lag,
            "silentMilliseconds": node.silent_milliseconds,
            "appliedIndex": node.applied_index,
            "version": node.version,
            "upSeconds": node.up_seconds,
            "isHeard": node.is_heard,
            "isReady": node.is_ready,
            "load": node.load,
        })
    });
    json!({ "nodes": nodes.collect::<Vec<_>>() })
}
