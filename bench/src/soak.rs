//! Mixed load for a long time, and what must hold of the node that carries it: memory stays flat, nothing that was opened stays
//! open, and each request leaves one record.
//!
//! The callers: keep-alive, a connection for each request, HTTP/2, WebSocket, slow ones, ones that leave, ones whose upstream
//! fails, and an administrator who changes a Service each second.

use std::{
    cell::{Cell, RefCell},
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
    time::{sleep, timeout},
};

use crate::{
    gateways::{DOMAIN, Node},
    varied,
};

/// Time for the node to see that its callers are gone.
pub const SETTLE: Duration = Duration::from_secs(10);
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files that stay open beyond those of a quiet node: connections kept to upstreams.
const SPARE_FILES: usize = 40;
/// Growth of memory, from the end of the first tenth to the end, that counts as flat.
const GROWTH_MIB: f64 = 16.0;

/// What the callers did.
#[derive(Default)]
struct Counts {
    /// Requests whose head was begun; each owes a record.
    owed: Cell<u64>,
    /// By what came of them.
    outcomes: RefCell<std::collections::BTreeMap<String, u64>>,
    changes: Cell<u64>,
}

impl Counts {
    fn owe(&self) {
        self.owed.set(self.owed.get() + 1);
    }

    fn note(&self, caller: &str, outcome: &str) {
        *self.outcomes.borrow_mut().entry(format!("{caller}: {outcome}")).or_default() += 1;
    }
}

struct Load {
    node: Node,
    counts: Counts,
    until: Instant,
}

/// Runs for `length` and checks what must hold.
pub async fn run(length: Duration) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let upstream = varied::start(0)?;
    let node = Node::start(&directory.path().join("node"), upstream, true).await?;
    node.ctl(&["apply", &resources(directory.path(), upstream)?])?;
    let quiet = Sample::take(&node)?;
    println!("quiet: {quiet}");
    let load = Rc::new(Load { node, counts: Counts::default(), until: Instant::now() + length });
    let samples = LocalSet::new().run_until(drive(load.clone(), length)).await?;

    sleep(SETTLE).await;
    let after = Sample::take(&load.node)?;
    println!("after: {after}");
    for (outcome, count) in load.counts.outcomes.borrow().iter() {
        println!("  {outcome}: {count}");
    }
    println!("  changes of configuration: {}", load.counts.changes.get());
    let load = Rc::into_inner(load).context("a caller still runs")?;
    let owed = load.counts.owed.get();
    drop(load.node);
    let records = records(&directory.path().join("node/access.log"))?;
    println!("requests {owed}, records {records}");

    let warm = samples.get(samples.len() / 10).copied().unwrap_or(quiet);
    let grown = samples.last().copied().unwrap_or(after).rss_mib - warm.rss_mib;
    println!("memory grew by {grown:.1} MiB after the first tenth");
    let mut faults = Vec::new();
    if records != owed {
        faults.push(format!("{owed} requests left {records} records"));
    }
    if after.files > quiet.files + SPARE_FILES {
        faults.push(format!("{} files are still open, {} were at the start", after.files, quiet.files));
    }
    if grown > GROWTH_MIB {
        faults.push(format!("memory grew by {grown:.1} MiB"));
    }
    if faults.is_empty() { Ok(()) } else { bail!(faults.join("; ")) }
}

async fn drive(load: Rc<Load>, length: Duration) -> Result<Vec<Sample>> {
    let mut tasks = Vec::new();
    for _ in 0..8 {
        tasks.push(tokio::task::spawn_local(keep_alive(load.clone())));
    }
    for _ in 0..4 {
        tasks.push(tokio::task::spawn_local(one_each(load.clone())));
        tasks.push(tokio::task::spawn_local(websocket(load.clone())));
        tasks.push(tokio::task::spawn_local(slow(load.clone())));
        tasks.push(tokio::task::spawn_local(leaving(load.clone())));
        tasks.push(tokio::task::spawn_local(failing(load.clone())));
    }
    for _ in 0..2 {
        tasks.push(tokio::task::spawn_local(http2(load.clone())));
    }
    tasks.push(tokio::task::spawn_local(administrator(load.clone())));
    let every = (length / 60).max(Duration::from_secs(1));
    let mut samples = Vec::new();
    while Instant::now() < load.until {
        sleep(every).await;
        let sample = Sample::take(&load.node)?;
        println!("{sample}");
        samples.push(sample);
    }
    for task in tasks {
        task.await??;
    }
    Ok(samples)
}

fn resources(directory: &Path, upstream: SocketAddr) -> Result<String> {
    let file = directory.join("soak.yaml");
    fs::write(&file, include_str!("soak.yaml").replace("UPSTREAM", &upstream.to_string()))?;
    Ok(file.display().to_string())
}

/// Records of what the callers sent; the administrator's own calls are left out.
fn records(log: &Path) -> Result<u64> {
    let own = format!("octelium-api.{DOMAIN}");
    let mut count = 0;
    for line in BufReader::new(fs::File::open(log)?).lines() {
        let record: serde_json::Value = serde_json::from_str(&line?).context("a record isn't JSON")?;
        let path = record["entry"]["info"]["http"]["request"]["path"].as_str().unwrap_or_default();
        if record["host"] != own.as_str() && path != "/oauth2/token" {
            count += 1;
        }
    }
    Ok(count)
}

/// What the node holds at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Resident memory.
    pub rss_mib: f64,
    /// Open files.
    pub files: usize,
    threads: usize,
}

impl Sample {
    /// Now.
    pub fn take(node: &Node) -> Result<Self> {
        let process = format!("/proc/{}", node.pid());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let rss: f64 = rss.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(Self {
            rss_mib: rss / 1024.0,
            files: fs::read_dir(format!("{process}/fd"))?.count(),
            threads: fs::read_dir(format!("{process}/task"))?.count(),
        })
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB, {} open files, {} threads", self.rss_mib, self.files, self.threads)
    }
}

impl Load {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    async fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.node.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn get(&self, service: &str, more: &str) -> String {
        let token = &self.node.token;
        format!("GET /api/users HTTP/1.1\r\nHost: {service}.{DOMAIN}\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    }
}

/// The status of one answer, its body read away.
pub async fn answer(stream: &mut TcpStream) -> Result<u16> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if timeout(PATIENCE, stream.read_buf(&mut bytes)).await?? == 0 {
            bail!("closed within a head");
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let status = text.split(' ').nth(1).context("no status")?.parse()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
    let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
    while bytes.len() < head + length {
        if timeout(PATIENCE, stream.read_buf(&mut bytes)).await?? == 0 {
            bail!("closed within a body");
        }
    }
    Ok(status)
}

async fn keep_alive(load: Rc<Load>) -> Result<()> {
    let mut stream = load.connect().await?;
    while !load.is_over() {
        load.counts.owe();
        stream.write_all(load.get("guarded", "").as_bytes()).await?;
        let status = answer(&mut stream).await?;
        load.counts.note("keep-alive", &status.to_string());
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn one_each(load: Rc<Load>) -> Result<()> {
    while !load.is_over() {
        let mut stream = load.connect().await?;
        load.counts.owe();
        stream.write_all(load.get("open", "Connection: close\r\n").as_bytes()).await?;
        let status = answer(&mut stream).await?;
        load.counts.note("a connection each", &status.to_string());
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn http2(load: Rc<Load>) -> Result<()> {
    while !load.is_over() {
        let (client, connection) = h2::client::handshake(load.connect().await?).await?;
        let connection = tokio::task::spawn_local(connection);
        let mut streams = Vec::new();
        for _ in 0..200 {
            let mut client = client.clone().ready().await?;
            let request = http::Request::get(format!("http://guarded.{DOMAIN}/api/users"))
                .header("authorization", format!("Bearer {}", load.node.token))
                .body(())?;
            load.counts.owe();
            let (response, _) = client.send_request(request, true)?;
            streams.push(response);
            if streams.len() == 8 {
                for response in streams.drain(..) {
                    let mut response = timeout(PATIENCE, response).await??;
                    while let Some(data) = response.body_mut().data().await {
                        let data: Bytes = data?;
                        response.body_mut().flow_control().release_capacity(data.len())?;
                    }
                    load.counts.note("HTTP/2", response.status().as_str());
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        drop(client);
        connection.await??;
    }
    Ok(())
}

async fn websocket(load: Rc<Load>) -> Result<()> {
    while !load.is_over() {
        let mut stream = load.connect().await?;
        load.counts.owe();
        let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        stream.write_all(load.get("socket", more).as_bytes()).await?;
        let status = answer(&mut stream).await?;
        for _ in 0..50 {
            stream.write_all(&[b'f'; 64]).await?;
            let mut back = [0; 64];
            timeout(PATIENCE, stream.read_exact(&mut back)).await??;
        }
        load.counts.note("WebSocket", &status.to_string());
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A head that takes a second; every other one is given up halfway.
async fn slow(load: Rc<Load>) -> Result<()> {
    let mut number = 0;
    while !load.is_over() {
        number += 1;
        let mut stream = load.connect().await?;
        let request = load.get("open", "Connection: close\r\n");
        let (first, rest) = request.split_at(request.len() / 2);
        load.counts.owe();
        stream.write_all(first.as_bytes()).await?;
        sleep(Duration::from_secs(1)).await;
        if number % 2 == 0 {
            load.counts.note("slow", "given up");
            continue;
        }
        stream.write_all(rest.as_bytes()).await?;
        let status = answer(&mut stream).await?;
        load.counts.note("slow", &status.to_string());
    }
    Ok(())
}

/// Leaves before the answer of an upstream that takes its time.
async fn leaving(load: Rc<Load>) -> Result<()> {
    while !load.is_over() {
        let mut stream = load.connect().await?;
        load.counts.owe();
        stream.write_all(load.get("sluggish", "").as_bytes()).await?;
        sleep(Duration::from_millis(20)).await;
        load.counts.note("leaving", "left");
    }
    Ok(())
}

/// Its upstream closes without an answer.
async fn failing(load: Rc<Load>) -> Result<()> {
    let mut stream = load.connect().await?;
    while !load.is_over() {
        load.counts.owe();
        stream.write_all(load.get("broken", "").as_bytes()).await?;
        let status = answer(&mut stream).await?;
        load.counts.note("failing upstream", &status.to_string());
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn administrator(load: Rc<Load>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    while !load.is_over() {
        let number = load.counts.changes.get() + 1;
        let file = directory.path().join("change.yaml");
        let text = include_str!("change.yaml").replace("NUMBER", &number.to_string());
        fs::write(&file, text)?;
        let node = load.node.administrator();
        // A process of its own, waited for elsewhere: the callers go on.
        let path = file.display().to_string();
        tokio::task::spawn_blocking(move || node.ctl(&["apply", &path])).await??;
        load.counts.changes.set(number);
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
