//! What a strict limit costs: the same load without one, with one for all callers, and with one for each of many keys.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Cluster, PATIENT, answers, cpu};
use crate::real::nodes::{DOMAIN, HTTP};

/// Connections to each node; many more at first, as each key waits once for its first tokens.
const CONNECTIONS: usize = 8;
const CONNECTIONS_TO_WARM_UP: usize = 256;
const WINDOW: Duration = Duration::from_secs(4);
/// Each node has seen each key about so often before it is measured.
const SEEN: u64 = 3;
const WARM_WITHIN: Duration = Duration::from_secs(180);

pub async fn measure(cluster: &Cluster) -> Result<()> {
    let api = cluster.api(0).await?;
    api.apply(MANIFEST).await?;
    cluster.settled().await?;
    let nodes: Vec<SocketAddr> =
        (0..cluster.nodes.len()).map(|node| (cluster.nodes.network.address(node), HTTP).into()).collect();
    for node in &nodes {
        let deadline = Instant::now() + PATIENT;
        while !answers(*node, &format!("free.{DOMAIN}")).await {
            if Instant::now() >= deadline {
                bail!("{node} doesn't serve the limited Service");
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
    // Where the callers of each node are: they go through all keys, over and over.
    let turns: Turns = nodes.iter().map(|_| AtomicU64::new(0)).collect();
    let mut without = 0.0;
    for (name, host, keys) in [
        ("no limit", "free", 1),
        ("one key", "keyed", 1),
        ("100 keys", "keyed", 100),
        ("1 000 keys", "keyed", 1_000),
        ("100 000 keys", "keyed", 100_000),
    ] {
        // To warm up: each node has seen each key a few times, so that it knows its rate and holds tokens.
        let mut seen = 0;
        let warm_up = Instant::now();
        while seen < SEEN * keys * nodes.len() as u64 || warm_up.elapsed() < WINDOW {
            if warm_up.elapsed() > WARM_WITHIN {
                bail!("the nodes don't get warm: {seen} requests with {keys} keys");
            }
            seen +=
                load(cluster, &nodes, &turns, host, keys, CONNECTIONS_TO_WARM_UP / nodes.len(), WINDOW).await?.requests;
        }
        load(cluster, &nodes, &turns, host, keys, CONNECTIONS, WINDOW).await?;
        let memory = resident(cluster)?;
        let Load { requests, other, cpu, took } =
            load(cluster, &nodes, &turns, host, keys, CONNECTIONS, WINDOW).await?;
        let micros = cpu.as_secs_f64() * 1e6 / requests as f64;
        if keys == 1 && host == "free" {
            without = micros;
        }
        println!(
            "  {name:>12}: {micros:>5.1} µs of CPU a request ({:+.1}), {:.0} a second, {other} not admitted; {memory} MiB a node",
            micros - without,
            requests as f64 / took.as_secs_f64(),
        );
    }
    Ok(())
}

/// Resident memory of the largest node, in MiB.
fn resident(cluster: &Cluster) -> Result<u64> {
    let mut most = 0;
    for node in 0..cluster.nodes.len() {
        let id = cluster.nodes.process_id(node).context("a node ended")?;
        let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        most = most.max(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024);
    }
    Ok(most)
}

type Turns = Arc<[AtomicU64]>;

struct Load {
    requests: u64,
    other: u64,
    cpu: Duration,
    took: Duration,
}

async fn load(
    cluster: &Cluster,
    nodes: &[SocketAddr],
    turns: &Turns,
    host: &'static str,
    keys: u64,
    connections: usize,
    window: Duration,
) -> Result<Load> {
    let (count, other) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for (node, address) in nodes.iter().enumerate().flat_map(|node| std::iter::repeat_n(node, connections)) {
        let (count, other, is_over, turns) = (count.clone(), other.clone(), is_over.clone(), turns.clone());
        let address = *address;
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; 16 << 10];
            while !is_over.load(Ordering::Relaxed) {
                let key = turns[node].fetch_add(1, Ordering::Relaxed) % keys;
                let request = format!("GET / HTTP/1.1\r\nHost: {host}.{DOMAIN}\r\nX-Key: k{key}\r\n\r\n");
                stream.write_all(request.as_bytes()).await?;
                // The answer is short: it comes in one piece, and ends with its body.
                let mut length = 0;
                while length < 4 || !buffer[..length].windows(4).any(|window| window == b"\r\n\r\n") {
                    let more = stream.read(&mut buffer[length..]).await?;
                    if more == 0 {
                        bail!("the connection was closed");
                    }
                    length += more;
                }
                count.fetch_add(1, Ordering::Relaxed);
                if !buffer.starts_with(b"HTTP/1.1 200") {
                    other.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let processes: Vec<u32> = (0..nodes.len()).filter_map(|node| cluster.nodes.process_id(node)).collect();
    let used = || processes.iter().map(|process| cpu(*process)).sum::<Result<Duration>>();
    let (began, before, cpu_before) = (Instant::now(), count.load(Ordering::Relaxed), used()?);
    sleep(window).await;
    let (requests, cpu) = (count.load(Ordering::Relaxed) - before, used()? - cpu_before);
    let took = began.elapsed();
    is_over.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(Load { requests: requests.max(1), other: other.load(Ordering::Relaxed), cpu, took })
}

/// The limit is out of reach: what is measured is the admission.
const MANIFEST: &str = "
kind: Service
metadata: {name: free}
spec:
  mode: HTTP
  isPublic: true
  isAnonymous: true
  config: {http: {response: {direct: {inline: ok}}}}
---
kind: Service
metadata: {name: keyed}
spec:
  mode: HTTP
  isPublic: true
  isAnonymous: true
  config:
    http:
      response: {direct: {inline: ok}}
      plugins:
      - name: limit
        condition: {matchAny: true}
        rateLimit: {limit: 100000000, window: {seconds: 60}, key: {eval: 'ctx.request.http.headers[\"x-key\"]'}}
";
