//! Where the nodes live: each in a network namespace of its own, so that the network between them can be cut, or all on loopback.

use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// All that is made is named after this, so that leftovers of a run that was killed can be removed.
const PREFIX: &str = "octchaos";
const NETWORK: [u8; 3] = [10, 231, 77];
/// How much a slow link carries, about as much as a busy leader sends, and how many packets wait before it.
const SLOW: &str = "2mbit";
const SLOW_QUEUE: &str = "50";
/// Of packets on a lossy link, each way.
const LOST: &str = "0.05";

/// In which way two nodes don't hear each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing passes.
    Both,
    /// The node hears nobody, and is heard.
    Deaf,
    /// The node is heard by nobody, and hears.
    Mute,
}

/// The network of a run; what it made is removed when it is dropped.
pub struct Network {
    nodes: usize,
    is_namespaced: bool,
}

impl Network {
    /// Namespaces if they can be had.
    ///
    /// # Errors
    /// If something is half there and can't be removed.
    pub fn make(nodes: usize, wants_namespaces: bool) -> Result<Self> {
        let mut this = Self { nodes, is_namespaced: false };
        if !wants_namespaces {
            return Ok(this);
        }
        this.is_namespaced = true;
        this.remove();
        if let Err(error) = this.make_namespaces() {
            println!("no network namespaces: {error:#}; all nodes are on loopback, and the network is never cut");
            this.remove();
            this.is_namespaced = false;
        }
        Ok(this)
    }

    /// Whether the network between nodes can be cut.
    pub fn can_cut(&self) -> bool {
        self.is_namespaced
    }

    /// Where a node is reached.
    pub fn address(&self, node: usize) -> Ipv4Addr {
        let last = u8::try_from(11 + node).expect("a run has few nodes");
        match self.is_namespaced {
            true => Ipv4Addr::new(NETWORK[0], NETWORK[1], NETWORK[2], last),
            false => Ipv4Addr::new(127, 0, 77, last),
        }
    }

    /// A program that runs where the node lives.
    pub fn command(&self, node: usize, program: &Path) -> tokio::process::Command {
        match self.is_namespaced {
            true => {
                let mut command = tokio::process::Command::new("ip");
                command.args(["netns", "exec", &namespace(node)]).arg(program);
                command
            }
            false => tokio::process::Command::new(program),
        }
    }

    /// Cuts a node off from the other nodes; callers still reach it.
    ///
    /// # Errors
    /// If the rules can't be made.
    pub fn cut(&self, node: usize, cut: Cut) -> Result<()> {
        for address in self.others(node) {
            if cut != Cut::Mute {
                self.rule(node, &["-A", "INPUT", "-s", &address, "-j", "DROP"])?;
            }
            if cut != Cut::Deaf {
                self.rule(node, &["-A", "OUTPUT", "-d", &address, "-j", "DROP"])?;
            }
        }
        Ok(())
    }

    /// Lets a node hear and be heard, but for gossip.
    ///
    /// # Errors
    /// If the rules can't be made.
    pub fn cut_gossip(&self, node: usize) -> Result<()> {
        self.rule(node, &["-A", "INPUT", "-p", "udp", "-j", "DROP"])?;
        self.rule(node, &["-A", "OUTPUT", "-p", "udp", "-j", "DROP"])
    }

    /// What a node sends to other nodes passes a narrow link, behind all that was sent before.
    ///
    /// # Errors
    /// If the link can't be made.
    pub fn slow(&self, node: usize) -> Result<()> {
        self.shape(node, &["qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb", "default", "10"])?;
        self.shape(node, &["class", "add", "dev", "eth0", "parent", "1:", "classid", "1:10", "htb", "rate", "1gbit"])?;
        let narrow =
            ["class", "add", "dev", "eth0", "parent", "1:", "classid", "1:20", "htb", "rate", SLOW, "burst", "4k"];
        self.shape(node, &narrow)?;
        self.shape(node, &["qdisc", "add", "dev", "eth0", "parent", "1:20", "pfifo", "limit", SLOW_QUEUE])?;
        for other in self.others(node) {
            let to = ["u32", "match", "ip", "dst", &other, "flowid", "1:20"];
            self.shape(node, &[&["filter", "add", "dev", "eth0", "parent", "1:", "protocol", "ip"], &to[..]].concat())?;
        }
        Ok(())
    }

    /// Loses packets between a node and other nodes, both ways.
    ///
    /// # Errors
    /// If the rules can't be made.
    pub fn lose(&self, node: usize) -> Result<()> {
        let some = ["-m", "statistic", "--mode", "random", "--probability", LOST, "-j", "DROP"];
        for other in self.others(node) {
            self.rule(node, &[&["-A", "INPUT", "-s", &other], &some[..]].concat())?;
            self.rule(node, &[&["-A", "OUTPUT", "-d", &other], &some[..]].concat())?;
        }
        Ok(())
    }

    /// Whether [`Self::slow`] can be had.
    pub fn can_slow(&self) -> bool {
        let can = self.is_namespaced && self.slow(0).is_ok();
        if self.is_namespaced {
            self.mend(0).ok(); // nothing is there if it can't be had
        }
        can
    }

    /// Whether [`Self::lose`] can be had.
    pub fn can_lose(&self) -> bool {
        self.is_namespaced && self.lose(0).and_then(|()| self.mend(0)).is_ok()
    }

    /// Ends what [`Self::cut`], [`Self::cut_gossip`], [`Self::slow`] and [`Self::lose`] did.
    ///
    /// # Errors
    /// If the rules can't be removed.
    pub fn mend(&self, node: usize) -> Result<()> {
        // Without a narrow link there is none to remove.
        self.shape(node, &["qdisc", "del", "dev", "eth0", "root"]).ok();
        self.rule(node, &["-F"])
    }

    fn others(&self, node: usize) -> impl Iterator<Item = String> {
        (0..self.nodes).filter(move |other| *other != node).map(|other| self.address(other).to_string())
    }

    fn shape(&self, node: usize, arguments: &[&str]) -> Result<()> {
        run("ip", &[&["netns", "exec", &namespace(node), "tc"], arguments].concat())
    }

    fn rule(&self, node: usize, arguments: &[&str]) -> Result<()> {
        let namespace = namespace(node);
        // `-w`: others may hold the lock of the tables.
        run("ip", &[&["netns", "exec", &namespace, "iptables", "-w"], arguments].concat())
    }

    fn make_namespaces(&self) -> Result<()> {
        let bridge = format!("{PREFIX}br");
        run("ip", &["link", "add", "name", &bridge, "type", "bridge"])?;
        let own = format!("{}.{}.{}.1/24", NETWORK[0], NETWORK[1], NETWORK[2]);
        run("ip", &["addr", "add", &own, "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        for node in 0..self.nodes {
            let (namespace, link) = (namespace(node), format!("{PREFIX}{node}"));
            run("ip", &["netns", "add", &namespace])?;
            run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            run("ip", &["link", "set", &link, "master", &bridge, "up"])?;
            let address = format!("{}/24", self.address(node));
            run("ip", &["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
            run("ip", &["-n", &namespace, "link", "set", "eth0", "up"])?;
            run("ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
            self.rule(node, &["-L", "-n"]).context("iptables is needed to cut the network")?;
        }
        Ok(())
    }

    fn remove(&self) {
        if !self.is_namespaced {
            return;
        }
        let known = output("ip", &["netns", "list"]).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for line in known.unwrap_or_default().lines() {
            let name = line.split_whitespace().next().unwrap_or_default();
            if name.starts_with(PREFIX) {
                kill_all_in(name);
                run("ip", &["netns", "del", name]).ok(); // what stays is told by the next run
            }
        }
        // A namespace lives on, and its link with it, until the last of its processes is gone.
        for node in 0..self.nodes {
            run("ip", &["link", "del", &format!("{PREFIX}{node}")]).ok(); // mostly it is gone
        }
        let bridge = format!("{PREFIX}br");
        if output("ip", &["link", "show", &bridge]).is_ok_and(|output| output.status.success()) {
            run("ip", &["link", "del", &bridge]).ok(); // as above
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

fn namespace(node: usize) -> String {
    format!("{PREFIX}{node}")
}

/// Ends the processes that a run left behind that was killed itself.
fn kill_all_in(namespace: &str) {
    let Ok(output) = output("ip", &["netns", "pids", namespace]) else { return };
    for process in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        run("kill", &["-s", "KILL", process]).ok(); // it may have ended
    }
}

fn output(program: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.output().with_context(|| format!("running {program}"))
}

/// Runs a program to its end.
///
/// # Errors
/// If it can't be run or fails, with what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = output(program, arguments)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}`: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
