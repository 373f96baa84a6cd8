//! The real binary.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

use super::{api::Api, cluster::DOMAIN, soon, until};

/// A node that serves, as its own process; killed when dropped.
pub struct Process {
    child: Child,
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// Where metrics and health are told, if they are.
    pub metrics: Option<SocketAddr>,
    pub data_dir: PathBuf,
    errors: PathBuf,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub errors: String,
}

/// The binary, with an environment that is empty but for what tests set.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_octelium-node"));
    command.args(arguments).env_clear().env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn run(arguments: &[&str]) -> Exit {
    let output = soon("the end of the process", command(arguments).output()).await.unwrap();
    Exit {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Process {
    /// Starts a node in `directory` and waits until it serves, or until it ended.
    pub async fn start(directory: &Path, more: &[&str], environment: &[(&str, &str)]) -> Result<Self, Exit> {
        let data_dir = directory.join("data");
        let errors = directory.join("errors");
        let file = fs::File::create(&errors).unwrap();
        let (data, log) = (data_dir.display().to_string(), directory.join("access.log").display().to_string());
        let mut arguments = vec![
            "start",
            "--domain",
            DOMAIN,
            "--data-dir",
            &data,
            "--access-log",
            &log,
            "--workers",
            "1",
            "--drain-timeout",
            "2s",
            "--listen",
            "http://127.0.0.1:0,https://127.0.0.1:0",
        ];
        arguments.extend_from_slice(more);
        let mut command = command(&arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(file);
        let mut child = command.spawn().unwrap();
        let started = until("the node to serve", async || {
            let text = fs::read_to_string(&errors).unwrap();
            if let Some(line) = text.lines().find(|line| line.contains(" ready ")) {
                let metrics = text.lines().find(|line| line.contains("metrics and health are told"));
                let metrics = metrics.map(last_address);
                return Some(Ok((address(line, "is_tls: false"), address(line, "is_tls: true"), metrics)));
            }
            let ended = child.try_wait().unwrap()?;
            let errors = fs::read_to_string(&errors).unwrap();
            Some(Err(Exit { code: ended.code(), out: String::new(), errors }))
        });
        let (http, https, metrics) = started.await?;
        Ok(Self { child, http, https, metrics, data_dir, errors })
    }

    /// As the system numbers it.
    #[allow(dead_code, reason = "the bench `scale` shares this file")]
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn ca_file(&self) -> PathBuf {
        self.data_dir.join("ca.pem")
    }

    /// The root User, by the token that the first start left.
    pub async fn api(&self) -> Api {
        // It is written just after the node serves.
        let file = self.data_dir.join("root.token");
        let token = until("the root User's token", async || fs::read_to_string(&file).ok()).await;
        Api::anonymous(self.https, &self.ca_file(), &format!("octelium-api.{DOMAIN}")).log_in(&token).await
    }

    /// Ends it as a crash does.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end, by a signal's name.
    pub async fn signal(self, name: &str) -> Exit {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> Exit {
        let status = soon("the end of the node", self.child.wait()).await.unwrap();
        Exit { code: status.code(), out: String::new(), errors: fs::read_to_string(&self.errors).unwrap() }
    }
}

/// The address in `Listen { address: 127.0.0.1:1, is_tls: true }`.
fn address(line: &str, after: &str) -> SocketAddr {
    // Colours may stand between the words.
    last_address(&line[..line.find(after).unwrap_or_else(|| panic!("{line}"))])
}

fn last_address(text: &str) -> SocketAddr {
    let start = text.rfind("127.0.0.1:").unwrap_or_else(|| panic!("{text}"));
    let found: String = text[start..].chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
    found.parse().unwrap_or_else(|_| panic!("{text}"))
}
