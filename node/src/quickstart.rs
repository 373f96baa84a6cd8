//! A first look: a node or a small cluster, a demo upstream, the files of `docs/quickstart/`, and what to type next.

mod upstream;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use octelium_api::{
    clients::octelium::{
        api::main::core::v1::main_service_client::MainServiceClient,
        control::v1::control_service_client::ControlServiceClient,
    },
    control::{ApplyRequest, Change, change},
    core::{GenerateCredentialTokenRequest, credential_token},
    manifest,
    meta::{GetOptions, ObjectReference},
};
use octelium_control::Caller;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    cluster::door::{self, Token},
    config::{Config, Settings},
    node::{Node, ROOT_TOKEN, write},
};

/// Names below `localhost` are this machine, everywhere (RFC 6761 §6.3).
const DOMAIN: &str = "octelium.localhost";
const CREDENTIAL: &str = "build-bot-oauth2";
/// Where nodes meet: so many ports above those for callers.
const CLUSTER_PORTS: u16 = 100;
const JOIN_WITHIN: Duration = Duration::from_secs(60);
const UPSTREAM_HOST: &str = "demo-upstream.internal";

const FILES: [(&str, &str); 3] = [
    ("docs/quickstart/1-people.yaml", include_str!("../../docs/quickstart/1-people.yaml")),
    ("docs/quickstart/2-policy.yaml", include_str!("../../docs/quickstart/2-policy.yaml")),
    ("docs/quickstart/3-service.yaml", include_str!("../../docs/quickstart/3-service.yaml")),
];

/// What can be set.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Port on 127.0.0.1
    #[arg(long, env = "OCTELIUM_NODE_QUICKSTART_PORT", default_value_t = 8443)]
    pub port: u16,
    /// Nodes of the cluster, all in this process; the others listen on the ports after the first one's
    #[arg(long, env = "OCTELIUM_NODE_QUICKSTART_NODES", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5))]
    pub nodes: u16,
    /// Directory for everything that is kept
    #[arg(long, env = "OCTELIUM_NODE_DATA_DIR", default_value = "octelium-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// What the node says about itself: `error`, `warn`, `info`, `debug` or a filter
    #[arg(long, env = "OCTELIUM_NODE_LOG", default_value = "warn", value_name = "FILTER")]
    pub log: String,
}

/// What a client needs, kept beside the data so that a second start can show it again.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    client_id: String,
    client_secret: String,
}

/// Starts, prepares, explains, and waits in `until_stopped`.
///
/// # Errors
/// What can't be started or applied.
pub async fn run<F: Future<Output = Result<()>>>(
    options: Options,
    until_stopped: impl FnOnce(Vec<Node>) -> F,
) -> Result<()> {
    let upstream = upstream::start(&token()?).context("starting the demo upstream")?;
    let config = config(&options, upstream, 0)?;
    let nodes = start(&options, &config, upstream).await?;
    let node = nodes.first().context("the quickstart has a node")?;
    let port = node.addresses.first().context("the quickstart listens somewhere")?.address.port();
    let home = config.data_dir.join("client");
    make_home(&home, &config.data_dir, node, port)?;
    let changed = apply(node).await?;
    let client = client(node, &home).await?;
    explain(&config, &home, port, &client, changed);
    explain_nodes(&nodes);
    until_stopped(nodes).await
}

/// The nodes, the first one first. Who is a member starts beside it, since a cluster needs most of its nodes; who isn't joins.
async fn start(options: &Options, first: &Config, upstream: SocketAddr) -> Result<Vec<Node>> {
    let mut members = vec![first.clone()];
    let mut new = Vec::new();
    for number in 1..options.nodes {
        let config = config(options, upstream, number)?;
        let is_member = config.data_dir.join("cluster/membership.json").exists();
        if is_member { &mut members } else { &mut new }.push(config);
    }
    let mut nodes =
        futures_util::future::try_join_all(members.iter().map(|config| Box::pin(Node::start(config)))).await?;
    for mut config in new {
        let Token { token, address } = door::create_token(&first.data_dir, JOIN_WITHIN).await?;
        if let Some(cluster) = &mut config.cluster {
            cluster.join = Some(Arc::new(format!("{}@{address}", *token).parse()?));
        }
        nodes.push(Box::pin(Node::start(&config)).await?);
    }
    Ok(nodes)
}

/// The first node has the directory itself, the others have one each below it.
fn config(options: &Options, upstream: SocketAddr, number: u16) -> Result<Config> {
    let port = |of_first: u16| {
        let port = of_first.checked_add(number);
        port.with_context(|| format!("port: {} leaves no room for {} nodes", options.port, options.nodes))
    };
    let own = |port: u16| if options.port == 0 { 0 } else { port };
    let data_dir = std::path::absolute(&options.data_dir)?;
    let data_dir = if number == 0 { data_dir } else { data_dir.join(format!("node-{}", number + 1)) };
    let https = own(port(options.port)?);
    let cluster = own(port(options.port.saturating_add(CLUSTER_PORTS))?);
    let settings = Settings {
        domain: Some(DOMAIN.to_owned()),
        access_log: Some(data_dir.join("access.log").display().to_string()),
        data_dir: Some(data_dir),
        listen: Some(vec![format!("https://127.0.0.1:{https}")]),
        public_url: Some(format!("https://{DOMAIN}:{}", options.port)),
        workers: (options.nodes > 1).then_some(1),
        cluster_listen: (options.nodes > 1).then(|| format!("127.0.0.1:{cluster}")),
        drain_timeout: Some("5s".to_owned()),
        resolve: Some(vec![format!("{UPSTREAM_HOST}={upstream}")]),
        log: Some(options.log.clone()),
        ..Settings::default()
    };
    settings.check()
}

/// What to do with more nodes than one.
fn explain_nodes(nodes: &[Node]) {
    if nodes.len() < 2 {
        return;
    }
    let addresses: Vec<_> =
        nodes.iter().flat_map(|node| &node.addresses).map(|listen| listen.address.to_string()).collect();
    println!(
        r"
The cluster has {} nodes, which listen on {}; any of them serves all of this.

  octeliumctl cluster status
  octeliumctl --address {} get service",
        nodes.len(),
        addresses.join(", "),
        addresses.last().map_or("", String::as_str),
    );
}

/// The demo upstream's own token, as the file gives it to the gateway.
fn token() -> Result<String> {
    for (name, text) in FILES {
        for document in parse(name, text)? {
            if let octelium_api::Object::Secret(secret) = document.object
                && let Some(octelium_api::core::secret::Data {
                    r#type: Some(octelium_api::core::secret::data::Type::Value(value)),
                }) = secret.data
            {
                return Ok(value);
            }
        }
    }
    bail!("docs/quickstart has no Secret")
}

fn parse(name: &str, text: &str) -> Result<Vec<manifest::Document>> {
    manifest::parse(name, text, &manifest::Limits::default())
        .map_err(|errors| anyhow::anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// The quickstart is the administrator of what it has just made.
fn caller() -> Caller {
    Caller {
        session_uid: String::new(),
        session_ref: ObjectReference::default(),
        user_uid: String::new(),
        user_name: "root".to_owned(),
    }
}

/// Applies the files as one change; returns how many resources changed.
async fn apply(node: &Node) -> Result<usize> {
    let mut changes = Vec::new();
    for (name, text) in FILES {
        changes.extend(parse(name, text)?.into_iter().map(|document| Change {
            kind: document.object.kind().name().to_owned(),
            change: Some(change::Change::Put(document.object.encode())),
            ..Change::default()
        }));
    }
    let mut request = tonic::Request::new(ApplyRequest { changes, ..ApplyRequest::default() });
    request.extensions_mut().insert(caller());
    let answer =
        ControlServiceClient::new(node.control.grpc()).apply(request).await.context("applying docs/quickstart")?;
    let unchanged = octelium_api::control::result::Operation::Unchanged;
    Ok(answer.into_inner().results.iter().filter(|result| result.operation() != unchanged).count())
}

/// The OAuth2 client of the demo's program: made once, then read.
async fn client(node: &Node, home: &Path) -> Result<Client> {
    let file = home.join("build-bot.json");
    if let Ok(text) = fs::read_to_string(&file) {
        return serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()));
    }
    let mut core = MainServiceClient::new(node.control.grpc());
    let mut get = tonic::Request::new(GetOptions { name: CREDENTIAL.to_owned(), ..GetOptions::default() });
    get.extensions_mut().insert(caller());
    let credential = core.get_credential(get).await?.into_inner();
    let reference = octelium_api::Object::from(credential).reference();
    let mut generate = tonic::Request::new(GenerateCredentialTokenRequest { credential_ref: Some(reference) });
    generate.extensions_mut().insert(caller());
    let token = core.generate_credential_token(generate).await?.into_inner();
    let Some(credential_token::Type::Oauth2Credentials(made)) = token.r#type else {
        bail!("the demo's Credential is not OAUTH2")
    };
    let client = Client { client_id: made.client_id, client_secret: made.client_secret };
    write_private(&file, &serde_json::to_string_pretty(&client)?)?;
    Ok(client)
}

/// A home for `octeliumctl`: it finds domain, address, CA and token there.
fn make_home(home: &Path, data_dir: &Path, node: &Node, port: u16) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .with_context(|| format!("making {}", home.display()))?;
    let config = json!({
        "currentDomain": DOMAIN,
        "clusters": [{
            "domain": DOMAIN,
            "address": format!("127.0.0.1:{port}"),
            "caFile": node.ca_file,
            "authTokenFile": data_dir.join(ROOT_TOKEN),
        }],
    });
    // JSON is YAML.
    write(&home.join("config.yaml"), serde_json::to_string_pretty(&config)?.as_bytes(), 0o600)?;
    Ok(())
}

/// Writes a secret that only the owner may read.
///
/// # Errors
/// If the file can't be written.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    write(path, text.as_bytes(), 0o600)
}

fn explain(config: &Config, home: &Path, port: u16, client: &Client, changed: usize) {
    let made = match changed {
        0 => "Found what an earlier start made; nothing changed.".to_owned(),
        n => format!("Made a cluster in {} and applied docs/quickstart ({n} resources).", config.data_dir.display()),
    };
    let base = format!("https://{DOMAIN}:{port}");
    let service = format!("https://demo.{DOMAIN}:{port}");
    let ca = config.data_dir.join("ca.pem");
    let ca = ca.display();
    println!(
        r#"{made}
One node listens on 127.0.0.1:{port}. Access log: {log}

Paste in another terminal, in this directory:

  # octeliumctl finds domain, CA and credential in its home
  export OCTELIUM_HOME={home}
  alias octeliumctl='cargo run -q -p octelium-cli --'
  octeliumctl get service
  octeliumctl apply docs/quickstart --dry-run

  # without a credential: 401
  curl -i --cacert {ca} {service}/

  # a token, by OAuth2 client credentials
  TOKEN=$(curl -s --cacert {ca} {base}/oauth2/token -d grant_type=client_credentials \
    -d client_id={id} -d client_secret={secret} | sed 's/.*"access_token":"\([^"]*\)".*/\1/')

  # with it: 200; the upstream was shown its own credential, not this token
  curl -i --cacert {ca} -H "Authorization: Bearer $TOKEN" {service}/hello

  # a policy says no: 403; X-Octelium-Decision names the decision, the access log explains it
  curl -i --cacert {ca} -H "Authorization: Bearer $TOKEN" -X DELETE {service}/hello
  sleep 1; grep nobody-deletes {log} | tail -1

Ctrl-C stops the node; a second start finds everything as it was."#,
        log = match &config.access_log {
            crate::telemetry::access_log::Output::File(path) => path.display().to_string(),
            _ => String::new(),
        },
        home = home.display(),
        id = client.client_id,
        secret = client.client_secret,
    );
}
