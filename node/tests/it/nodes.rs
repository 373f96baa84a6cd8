//! Several nodes as processes: they find each other by tokens, agree, lose one, and take in nobody else.

use std::{fs, path::PathBuf, sync::Arc};

use octelium_api::control::{
    Cluster as Nodes, GetClusterRequest, RemoveNodeRequest, SetNodeDrainedRequest, WaitForIndexRequest, node::Role,
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    api::Api,
    cluster::DOMAIN,
    http::{Connection, get},
    manifest::{resource, service, workload},
    process::{Process, run},
    soon, until,
};

const ALONE: &[&str] = &["--cluster-listen", "127.0.0.1:0", "--voter-grace", "3s"];

/// A node and what outlives it.
pub struct Member {
    directory: TempDir,
    pub process: Option<Process>,
}

impl Member {
    pub async fn start(more: &[&str]) -> Self {
        let mut this = Self { directory: tempfile::tempdir().unwrap(), process: None };
        this.restart(more).await;
        this
    }

    pub async fn restart(&mut self, more: &[&str]) {
        let arguments = [ALONE, more].concat();
        let process = Process::start(self.directory.path(), &arguments, &[]).await;
        self.process = Some(process.unwrap_or_else(|exit| panic!("{exit:?}")));
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub async fn invitation(&self, ttl: &str) -> String {
        let exit = run(&["token", "create", "--data-dir", self.data().to_str().unwrap(), "--ttl", ttl]).await;
        assert_eq!(exit.code, Some(0), "{exit:?}");
        exit.out.trim().to_owned()
    }

    /// Its node id.
    pub fn id(&self) -> String {
        let text = fs::read(self.data().join("cluster/membership.json")).unwrap();
        let membership: serde_json::Value = serde_json::from_slice(&text).unwrap();
        membership["nodeId"].as_str().unwrap().to_owned()
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// The root User at this node, by the founder's token.
    pub async fn api(&self, founder: &Self) -> Api {
        let token = fs::read_to_string(founder.data().join("root.token")).unwrap();
        let anonymous =
            Api::anonymous(self.process().https, &self.process().ca_file(), &format!("octelium-api.{DOMAIN}"));
        soon("a log-in", anonymous.log_in(&token)).await
    }
}

/// Three nodes that are one cluster.
pub async fn three(settings: &[&str]) -> Vec<Member> {
    let mut members = vec![Member::start(settings).await];
    for _ in 0..2 {
        let invitation = members[0].invitation("10m").await;
        members.push(Member::start(&[settings, &["--join", &invitation]].concat()).await);
    }
    members
}

/// Waits until all of them go by what was applied.
async fn everywhere(api: &Api, applied: &octelium_api::control::ApplyResponse) {
    let wait = WaitForIndexRequest { index: applied.index, timeout_milliseconds: 20_000 };
    assert!(api.control().wait_for_index(wait).await.unwrap().into_inner().reached);
}

async fn nodes(api: &Api) -> Nodes {
    // While a new leader is looked for, there is nobody to ask.
    until("the nodes", async || api.control().get_cluster(GetClusterRequest {}).await.ok()).await.into_inner()
}

/// Waits until so many vote, this node says.
pub async fn voters(api: &Api, wanted: usize) -> Nodes {
    until("the voters", async || {
        let nodes = nodes(api).await;
        let voters = nodes.nodes.iter().filter(|node| node.role() != Role::Learner && node.is_reachable).count();
        (voters == wanted).then_some(nodes)
    })
    .await
}

async fn has(api: &Api, name: &str) -> bool {
    let list = api.core().list_user(octelium_api::core::ListUserOptions::default()).await.unwrap().into_inner();
    list.items.iter().any(|user| user.metadata.as_ref().is_some_and(|metadata| metadata.name == name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_one_cluster_and_survive_the_loss_of_any() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let mut members = three(&[]).await;
    assert!(!members[1].data().join("root.token").exists(), "the administrator's token stays where it was made");
    let mut apis = Vec::new();
    for member in &members {
        apis.push(member.api(&members[0]).await);
    }
    let all = voters(&apis[2], 3).await;
    assert_eq!(all.nodes.iter().filter(|node| node.role() == Role::Leader).count(), 1, "{all:?}");
    assert!(all.nodes.iter().all(|node| node.version == env!("CARGO_PKG_VERSION")), "{all:?}");

    // A Session of one node is one of the cluster.
    let token = fs::read_to_string(members[0].data().join("root.token")).unwrap();
    let at = |member: &Member| {
        Api::anonymous(member.process().https, &member.process().ca_file(), &format!("octelium-api.{DOMAIN}"))
    };
    let session = at(&members[0]).try_log_in(&token, &[]).await.unwrap();
    let elsewhere = at(&members[2]).with(&session.access_token);
    until("the Session at another node", async || {
        elsewhere.core().list_user(octelium_api::core::ListUserOptions::default()).await.ok()
    })
    .await;

    // What one took, all have once it is acknowledged and waited for.
    let applied = apis[1].apply(&[workload("by-1")]).await;
    everywhere(&apis[1], &applied).await;
    for api in &apis {
        assert!(has(api, "by-1").await);
    }

    // Each in turn is killed, the others go on, and it comes back at another address.
    for index in 0..3 {
        members[index].process.take().unwrap().kill().await;
        let other = apis[(index + 1) % 3].clone();
        let name = format!("without-{index}");
        until("a change without it", async || other.try_apply(&workload(&name).to_string()).await.ok()).await;
        members[index].restart(&[]).await;
        apis[index] = members[index].api(&members[0]).await;
        assert!(has(&apis[index], &name).await, "who comes back has what it missed before it serves");
        voters(&other, 3).await;
    }

    // An orderly stop hands over first; one that left for good is forgotten.
    let leader = |nodes: &Nodes| nodes.nodes.iter().find(|node| node.role() == Role::Leader).cloned();
    let first = until("a leader", async || leader(&nodes(&apis[0]).await)).await;
    let stays = members.iter().position(|member| member.id() != first.id).unwrap();
    let api = &apis[stays];
    api.control().set_node_drained(SetNodeDrainedRequest { id: first.id.clone(), is_drained: true }).await.unwrap();
    until("another leader", async || leader(&nodes(api).await).filter(|leader| leader.id != first.id)).await;
    api.control().remove_node(RemoveNodeRequest { id: first.id.clone() }).await.unwrap();
    let rest = voters(api, 1).await;
    assert_eq!(rest.nodes.len(), 2, "{rest:?}");
    let gateways = api.core().list_gateway(octelium_api::core::ListGatewayOptions::default()).await.unwrap();
    assert_eq!(gateways.into_inner().items.len(), 2, "its Gateway went with it");
    let unknown = api.control().remove_node(RemoveNodeRequest { id: first.id }).await.unwrap_err();
    assert!(unknown.message().contains("there is no node"), "{unknown:?}");
}

/// A node that waits for the others is alive, so that nobody kills it for that, and isn't ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_for_the_others_says_so() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let mut members = three(&[]).await;
    let api = members[0].api(&members[0]).await;
    voters(&api, 3).await;
    for member in &mut members[..2] {
        member.process.take().unwrap().kill().await;
    }
    // The third is there, and asleep.
    let third = members[2].process().id().to_string();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args(["-s", name, &third]).status().unwrap().success());
    };
    signal("STOP");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let health = async |path: &str| Connection::plain(free).await.call(&get("node", path)).await;
    let others = async {
        until("the port", async || tokio::net::TcpStream::connect(free).await.ok()).await;
        let ready = health("/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready.text().starts_with("starting"), "{}", ready.text());
        assert_eq!((health("/livez").await.status, health("/metrics").await.status), (200, 503));
        signal("CONT");
    };
    let address = free.to_string();
    let settings = ["--metrics-listen", address.as_str()];
    tokio::join!(members[0].restart(&settings), others);
    until("the node to be ready", async || (health("/readyz").await.status == 200).then_some(())).await;
}

/// Who hops between the nodes gets what the limit says, in all; a node that is left alone refuses whoever needs a Session, and
/// recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_over_all_nodes_and_a_minority_trusts_no_session() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    // Longer than by default: on a machine that does much at once an answer may take its time.
    let soon_old = ["--view-age-max", "2s", "--rate-limit-wait", "5s"];
    let mut members = three(&soon_old).await;
    let api = members[0].api(&members[0]).await;
    voters(&api, 3).await;
    let fixed = |more: serde_json::Value| {
        let mut spec =
            json!({ "config": { "upstream": null, "http": { "response": { "direct": { "inline": "ok" } } } } });
        // Not merged as yet: `null` takes a member of the Service's away.
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let limit = json!({ "name": "five", "condition": { "matchAny": true }, "rateLimit": { "limit": 5, "window": { "seconds": 60 } } });
    let open = json!({ "isAnonymous": true, "authorization": null });
    let mut limited = fixed(open.clone());
    limited["config"]["http"]["plugins"] = json!([limit]);
    let applied = api
        .apply(&[
            service("limited", "", limited),
            service("open", "", fixed(open)),
            service("closed", "", fixed(json!({}))),
        ])
        .await;
    everywhere(&api, &applied).await;
    let mut admitted = 0;
    for round in 0..15 {
        let node = members[round % 3].process().http;
        let answer = Connection::plain(node).await.call(&get("limited", "/")).await;
        assert!([200, 429].contains(&answer.status), "{:?}", answer.short());
        admitted += usize::from(answer.status == 200);
    }
    assert_eq!(admitted, 5, "over three nodes");

    let token = api.caller("alice").await;
    let last = members[2].process().http;
    let closed = get("closed", "/").token(&token);
    until("the Session at the last node", async || {
        (Connection::plain(last).await.call(&closed).await.status == 200).then_some(())
    })
    .await;
    for member in &mut members[..2] {
        member.process.take().unwrap().kill().await;
    }
    until("Sessions to be refused", async || {
        (Connection::plain(last).await.call(&closed).await.short() == (503, "VIEW_TOO_OLD")).then_some(())
    })
    .await;
    assert_eq!(
        Connection::plain(last).await.call(&get("open", "/")).await.status,
        200,
        "who needs none isn't concerned"
    );
    members[1].restart(&soon_old).await;
    until("Sessions to be known again", async || {
        (Connection::plain(last).await.call(&closed).await.status == 200).then_some(())
    })
    .await;
}

/// The three limits of the example with plugins, for a caller that hops between three nodes. The plugins stand as they are written; an
/// upstream and who the callers are is not what this is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_the_example_hold_over_three_nodes() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let patient = ["--rate-limit-wait", "5s"];
    let members = three(&patient).await;
    let api = members[0].api(&members[0]).await;
    voters(&api, 3).await;
    let text = include_str!("../../../api/tests/examples/11-plugins.yaml");
    let mut example: serde_json::Value = serde_saphyr::from_str(text).unwrap();
    let spec = json!({ "isAnonymous": true, "config": { "upstream": null, "http": { "response": { "direct": { "inline": "ok" } } } } });
    crate::support::manifest::merge(&mut example["spec"], spec);
    let applied = api.apply(&[example]).await;
    everywhere(&api, &applied).await;

    let mut connections = Vec::new();
    for member in &members {
        connections.push(Connection::plain(member.process().http).await);
    }
    let mut admitted = [0; 2];
    for (part, path, count) in [(0, "/sensitive/1", 30), (1, "/", 100)] {
        for turn in 0..count {
            let answer = connections[turn % 3].call(&get("my-api", path)).await;
            assert!([200, 429].contains(&answer.status), "{:?}", answer.short());
            admitted[part] += usize::from(answer.status == 200);
        }
    }
    // What the third limit refused, the first had counted: it stands before it.
    assert_eq!(admitted, [10, 70], "10 in a minute, and 100 in two");
}

/// What a node held when it was stopped in order, others have at once, and not after the half minute that it could have been spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_gives_its_share_of_limits_back() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let patient = ["--rate-limit-wait", "5s"];
    let mut members = three(&patient).await;
    let api = members[0].api(&members[0]).await;
    voters(&api, 3).await;
    let limit = json!({ "name": "ten", "condition": { "matchAny": true }, "rateLimit": { "limit": 10, "window": { "seconds": 60 } } });
    let spec = json!({
        "isAnonymous": true, "authorization": null,
        "config": { "upstream": null, "http": { "plugins": [limit], "response": { "direct": { "inline": "ok" } } } },
    });
    let applied = api.apply(&[service("limited", "", spec)]).await;
    everywhere(&api, &applied).await;
    let ask =
        async |member: &Member| Connection::plain(member.process().http).await.call(&get("limited", "/")).await.status;
    assert_eq!(ask(&members[2]).await, 200);
    let held = async || {
        let request = octelium_api::control::ListRateLimitsRequest::default();
        let listed = api.control().list_rate_limits(request).await.unwrap().into_inner().rate_limits;
        listed.first().map_or((0, 0), |counter| (counter.used, counter.held))
    };
    let (used, reserved) = held().await;
    assert!(used + reserved > 1, "the node has a reserve: {used} used, {reserved} held");
    let exit = members.pop().unwrap().process.take().unwrap().signal("TERM").await;
    assert_eq!(exit.code, Some(0), "{}", exit.errors);
    assert_eq!(held().await, (1, 0), "what was spent is told, the rest is back");
    let mut admitted = 1;
    for round in 0..20 {
        admitted += usize::from(ask(&members[round % 2]).await == 200);
    }
    assert_eq!(admitted, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_taken_in_without_a_good_token() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let founder = Member::start(&[]).await;
    let other = Member::start(&[]).await;
    let invitation = founder.invitation("10m").await;
    let (token, address) = invitation.split_once('@').unwrap();
    let foreign = other.invitation("10m").await;
    let wrong_place = format!("{}@{address}", foreign.split_once('@').unwrap().0);
    let short = founder.invitation("1s").await;
    let made = std::time::Instant::now();
    let refused = async |more: &[&str], expected: &str| {
        let directory = tempfile::tempdir().unwrap();
        let exit = Process::start(directory.path(), &[ALONE, more].concat(), &[]).await;
        let Err(exit) = exit.map(|_| ()) else { panic!("{more:?} joined") };
        assert!(exit.code == Some(1) && exit.errors.contains(expected), "{more:?}: {}", exit.errors);
        assert!(!exit.errors.contains(" { "), "for people: {}", exit.errors);
    };
    refused(&["--join", &wrong_place], "shaking hands").await;
    refused(&["--join", &format!("{token}@127.0.0.1:1")], "connecting").await;
    refused(&["--join", token], "must be TOKEN@HOST:PORT").await;
    let mut forged = token.to_owned();
    let last = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.replace_range(forged.len() - 2..forged.len() - 1, &last.to_string());
    refused(&["--join", &format!("{forged}@{address}")], "is not the one that was made").await;
    until("the end of the short token", async || (made.elapsed().as_secs() >= 2).then_some(())).await;
    refused(&["--join", &short], "has expired").await;

    // Good once.
    let joined = Member::start(&["--join", &invitation]).await;
    refused(&["--join", &invitation], "was used before").await;
    // A cluster of its own isn't thrown away.
    let process = Process::start(founder.directory.path(), &[], &[]).await;
    assert!(process.is_err_and(|exit| exit.errors.contains("in use by another process")));
    let another = founder.invitation("10m").await;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data").display().to_string();
    let start = ["start", "--domain", "other.test", "--data-dir", &data, "--listen", "http://127.0.0.1:0"];
    let exit = run(&[&start[..], ALONE, &["--join", &another]].concat()).await;
    assert!(exit.errors.contains("serves the domain `octelium.test`, the node `other.test`"), "{}", exit.errors);

    let api = founder.api(&founder).await;
    let all = nodes(&api).await;
    assert_eq!(all.nodes.len(), 2, "{all:?}");
    drop(joined);
}

/// The founder is lost, and the one who only followed has all that is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_node_begins_anew_when_told_so() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let mut founder = Member::start(&[]).await;
    let invitation = founder.invitation("10m").await;
    let mut other = Member::start(&["--join", &invitation]).await;
    let api = founder.api(&founder).await;
    api.apply(&[workload("kept")]).await;
    assert!(has(&other.api(&founder).await, "kept").await);
    founder.process.take().unwrap().kill().await;
    other.process.take().unwrap().kill().await;

    let data = other.data().display().to_string();
    let asked = run(&["recover", "--data-dir", &data]).await;
    assert!(asked.code == Some(1) && asked.errors.contains("--others-are-gone"), "{asked:?}");
    let done = run(&["recover", "--data-dir", &data, "--others-are-gone"]).await;
    assert!(done.code == Some(0) && done.out.contains("its cluster had 2 nodes"), "{done:?}");
    other.restart(&[]).await;
    let api = other.api(&founder).await;
    assert!(has(&api, "kept").await);
    assert_eq!(nodes(&api).await.nodes.len(), 1);
    let again = other.invitation("10m").await;
    let third = Member::start(&["--join", &again]).await;
    assert!(has(&third.api(&founder).await, "kept").await);
}

/// A copy of a data directory is no second node, whichever of the others it meets first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_node_ends_and_harms_nobody() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let mut members = three(&[]).await;
    let api = members[0].api(&members[0]).await;
    voters(&api, 3).await;
    api.apply(&[workload("before")]).await;
    // Taken while the node is stopped, as a careful administrator would.
    let copy = tempfile::tempdir().unwrap();
    let exit = members[2].process.take().unwrap().signal("TERM").await;
    assert_eq!(exit.code, Some(0), "{}", exit.errors);
    let status = std::process::Command::new("cp").arg("-a").arg(members[2].data()).arg(copy.path()).status();
    assert!(status.unwrap().success());
    members[2].restart(&[]).await;
    voters(&api, 3).await;
    let exit = Process::start(copy.path(), ALONE, &[]).await.map(|_| ()).unwrap_err();
    assert!(exit.code == Some(1) && exit.errors.contains("another process with this node's id"), "{}", exit.errors);
    // It isn't taken for the node's successor either, once that stops.
    let again = Process::start(copy.path(), ALONE, &[]).await.map(|_| ()).unwrap_err();
    assert!(again.code == Some(1) && again.errors.contains("starts.refused"), "{}", again.errors);
    // The node itself goes on, and so does the cluster.
    voters(&members[2].api(&members[0]).await, 3).await;
    api.apply(&[workload("after")]).await;
    until("the node to follow", async || has(&members[2].api(&members[0]).await, "after").await.then_some(())).await;
}

/// What a stranger says to the door of a node changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_no_further_than_the_door() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let founder = Member::start(&[]).await;
    let api = founder.api(&founder).await;
    let address = nodes(&api).await.nodes[0].address.clone();
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], b"\x16\x03\x01\xff\xff", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        soon("the end of the connection", stream.read_to_end(&mut answer)).await.ok();
        assert!(answer.len() < 100, "{answer:?}");
    }
    // A TLS client without a certificate may ask to join, and nothing else.
    let ca = CertificateDer::from_pem_file(founder.data().join("cluster/ca.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let cluster: serde_json::Value =
        serde_json::from_slice(&fs::read(founder.data().join("cluster/membership.json")).unwrap()).unwrap();
    let name = format!("any.{}.nodes.octelium.internal", cluster["clusterId"].as_str().unwrap());
    let stream = TcpStream::connect(&address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (path, body, expected) in [
        ("/append", "x", 403),
        ("/change", "", 403),
        ("/propose", "", 403),
        ("/nothing", "", 403),
        ("/join", "", 403),
        ("/join", "{}", 403),
        ("/join", &"x".repeat(5000), 400),
    ] {
        let request = http::Request::post(format!("https://node{path}")).header("octelium-node", "1").body(()).unwrap();
        client = client.ready().await.unwrap();
        let (response, mut sending) = client.send_request(request, false).unwrap();
        sending.send_data(bytes::Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        let response = soon("an answer", response).await.unwrap();
        assert_eq!(response.status(), expected, "{path} {body:?}");
    }
    api.apply(&[resource("Group", "still-there", json!({}))]).await;
}
