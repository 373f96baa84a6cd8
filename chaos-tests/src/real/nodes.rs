//! The processes: started, killed, put to sleep, looked at.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{process::Child, time::Instant};

use super::{
    client,
    network::{Network, run},
};

/// Of the cluster.
pub const DOMAIN: &str = "octelium.test";
pub const HTTP: u16 = 8080;
pub const HTTPS: u16 = 8443;
const CLUSTER: u16 = 7443;
const METRICS: u16 = 9464;
/// What nodes are told; short, so that much happens in a short run.
pub const VIEW_AGE_MAX: Duration = Duration::from_secs(3);
const START_WITHIN: Duration = Duration::from_secs(60);
/// Room on the disk that one node can run out of.
const DISK_BYTES: &str = "size=64m";
/// What its mount is called.
const DISK: &str = "octelium-chaos";

/// The nodes of a run; they are killed when this is dropped.
pub struct Nodes {
    pub network: Network,
    /// A node takes turns between them, with each start.
    programs: Vec<PathBuf>,
    directory: PathBuf,
    processes: Vec<Option<Child>>,
    starts: Vec<usize>,
    mounted: Vec<PathBuf>,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default)]
pub struct Said(HashMap<String, f64>);

impl Said {
    pub fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(f64::NAN)
    }
}

impl Nodes {
    /// `programs`: at least one.
    pub fn new(network: Network, programs: Vec<PathBuf>, directory: PathBuf, nodes: usize) -> Self {
        let processes = (0..nodes).map(|_| None).collect();
        Self { network, programs, directory, processes, starts: vec![0; nodes], mounted: Vec::new() }
    }

    /// The program of a node's last start.
    fn program(&self, node: usize) -> &Path {
        &self.programs[self.starts[node].saturating_sub(1) % self.programs.len()]
    }

    pub fn len(&self) -> usize {
        self.processes.len()
    }

    pub fn data(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node-{node}"))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node-{node}.log"))
    }

    /// Gives a node that has none yet a small disk of its own.
    ///
    /// # Errors
    /// If there is no right to mount one.
    pub fn mount(&mut self, node: usize) -> Result<()> {
        let data = self.data(node);
        fs::create_dir_all(&data)?;
        let at = data.to_string_lossy().into_owned();
        run("mount", &["-t", "tmpfs", "-o", DISK_BYTES, DISK, &at])?;
        self.mounted.push(data);
        Ok(())
    }

    /// Copies what is on disks of their own to where it stays.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn keep_disks(&self) -> Result<()> {
        for disk in &self.mounted {
            let kept = disk.with_extension("kept");
            run("cp", &["-a", &disk.to_string_lossy(), &kept.to_string_lossy()])?;
        }
        Ok(())
    }

    /// Whether a node has a disk of its own.
    pub fn has_disk(&self, node: usize) -> bool {
        self.mounted.contains(&self.data(node))
    }

    /// Takes all the room on a node's disk, or gives it back.
    ///
    /// # Errors
    /// If the file can't be removed.
    pub fn fill(&self, node: usize, is_full: bool) -> Result<()> {
        let filler = self.data(node).join("filler");
        if !is_full {
            return fs::remove_file(filler).context("emptying the disk");
        }
        // It ends with an error, when there is no more room.
        let (input, output) = (PathBuf::from("/dev/zero"), filler);
        let mut from = fs::File::open(input)?;
        let mut to = fs::File::create(output)?;
        match std::io::copy(&mut from, &mut to) {
            Ok(_) => bail!("a disk without an end"),
            Err(_) => Ok(()),
        }
    }

    /// Starts a node; `wrap`: a program with arguments that runs it, `environment`: what it sees.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(&mut self, node: usize, join: Option<&str>, environment: &[(&str, &str)]) -> Result<()> {
        let address = self.network.address(node);
        self.starts[node] += 1;
        let mut command = self.network.command(node, self.program(node));
        command
            .args(["start", "--domain", DOMAIN, "--workers", "1", "--drain-timeout", "2s", "--access-log", "off"])
            .args(["--data-dir", &self.data(node).to_string_lossy()])
            .args(["--listen", &format!("http://{address}:{HTTP},https://{address}:{HTTPS}")])
            .args(["--cluster-listen", &format!("{address}:{CLUSTER}")])
            .args(["--metrics-listen", &format!("{address}:{METRICS}")])
            .args(["--voter-grace", "20s", "--view-age-max", &format!("{}s", VIEW_AGE_MAX.as_secs())]);
        if let Some(invitation) = join {
            command.args(["--join", invitation]);
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log(node))?;
        command
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        self.processes[node] = Some(command.spawn().context("starting a node")?);
        Ok(())
    }

    /// Starts all nodes as one cluster.
    ///
    /// # Errors
    /// If one doesn't start.
    pub async fn found(&mut self) -> Result<()> {
        self.start(0, None, &[])?;
        self.ready(0).await?;
        for node in 1..self.len() {
            let invitation = self.invitation().await?;
            self.start(node, Some(&invitation), &[])?;
            self.ready(node).await?;
        }
        Ok(())
    }

    /// A token that lets one more node join.
    ///
    /// # Errors
    /// If the first node makes none.
    pub async fn invitation(&self) -> Result<String> {
        let mut command = self.network.command(0, self.program(0));
        command.args(["token", "create", "--ttl", "10m", "--data-dir", &self.data(0).to_string_lossy()]);
        let output = command.output().await?;
        if !output.status.success() {
            bail!("token create: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Waits until a node serves.
    ///
    /// # Errors
    /// If it doesn't, with the end of its log.
    pub async fn ready(&mut self, node: usize) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if self.said(node).await.is_some_and(|said| said.value("octelium_ready") == 1.0) {
                return Ok(());
            }
            if self.has_ended(node)? || Instant::now() >= deadline {
                let text = fs::read_to_string(self.log(node)).unwrap_or_default();
                let from = text.len().saturating_sub(2_000);
                bail!("node {node} doesn't serve: …{}", text.get(from..).unwrap_or(&text));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether a node isn't running.
    ///
    /// # Errors
    /// If that can't be known.
    pub fn has_ended(&mut self, node: usize) -> Result<bool> {
        match &mut self.processes[node] {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// Ends a node as a crash does.
    ///
    /// # Errors
    /// If it can't be killed.
    pub async fn kill(&mut self, node: usize) -> Result<()> {
        match self.processes[node].take() {
            // `ip netns exec` becomes the program that it runs.
            Some(mut child) => child.kill().await.context("killing a node"),
            None => Ok(()),
        }
    }

    /// Ends all nodes.
    ///
    /// # Errors
    /// If one can't be killed.
    pub async fn kill_all(&mut self) -> Result<()> {
        for node in 0..self.len() {
            self.kill(node).await?;
        }
        Ok(())
    }

    /// Sends a signal by its name.
    ///
    /// # Errors
    /// If it can't be sent.
    pub fn signal(&self, node: usize, name: &str) -> Result<()> {
        let id = self.process_id(node).context("the node has ended")?;
        run("kill", &["-s", name, &id.to_string()])
    }

    /// As the system numbers it.
    pub fn process_id(&self, node: usize) -> Option<u32> {
        self.processes[node].as_ref().and_then(Child::id)
    }

    /// Its metrics; `None`: it doesn't answer.
    pub async fn said(&self, node: usize) -> Option<Said> {
        let address = (self.network.address(node), METRICS).into();
        let answer = client::get_once(address, "metrics", "/metrics", Duration::from_millis(500)).await.ok()?;
        let figures = answer.body.lines().filter(|line| !line.starts_with('#'));
        let figures = figures.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Some(Said(figures.collect()))
    }

    /// The node that leads, if they agree.
    pub async fn leader(&self) -> Option<usize> {
        let mut found = None;
        for node in 0..self.len() {
            let Some(said) = self.said(node).await else { continue };
            if said.value("octelium_raft_is_leader") == 1.0 {
                match found {
                    None => found = Some(node),
                    Some(_) => return None,
                }
            }
        }
        found
    }

    /// How long it takes until all nodes serve, one leads, and all have about the same state; `None`: it doesn't come to that.
    pub async fn healed(&self, within: Duration, lag_max: f64) -> Option<Duration> {
        let began = Instant::now();
        while began.elapsed() < within {
            if self.is_healthy(lag_max).await {
                return Some(began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    async fn is_healthy(&self, lag_max: f64) -> bool {
        let mut applied = Vec::new();
        let mut leaders = 0;
        for node in 0..self.len() {
            let Some(said) = self.said(node).await else { return false };
            let serves = said.value("octelium_ready") == 1.0 && said.value("octelium_raft_has_leader") == 1.0;
            if !serves || said.value("octelium_raft_members{role=\"voter\"}") as usize != self.len() {
                return false;
            }
            leaders += usize::from(said.value("octelium_raft_is_leader") == 1.0);
            applied.push(said.value("octelium_view_index"));
        }
        let (least, most) =
            (applied.iter().copied().fold(f64::MAX, f64::min), applied.iter().copied().fold(0.0, f64::max));
        leaders == 1 && most - least <= lag_max
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().flatten() {
            child.start_kill().ok(); // it may have ended by itself
        }
        for path in &self.mounted {
            unmount(path);
        }
    }
}

/// Takes away disks that a run left behind that was killed.
pub fn unmount_left_behind() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        if let [DISK, path, ..] = line.split(' ').collect::<Vec<_>>()[..] {
            unmount(Path::new(path));
        }
    }
}

fn unmount(path: &Path) {
    // Lazily: a process that was killed just now may not be gone yet.
    if let Err(error) = run("umount", &["-l", &path.to_string_lossy()]) {
        println!("a disk of this run stays: {error:#}");
    }
}
