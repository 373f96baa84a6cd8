//! What is measured: nginx, and the node without and with identity, policy and access log.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::process::Process;

/// Of the nodes.
pub const DOMAIN: &str = "bench.localhost";

/// A gateway and the request that it is sent.
pub struct Gateway {
    /// For the report.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The request that counts.
    pub request: Rc<str>,
    /// One that must be refused, where the scenario has one.
    pub refused: Option<Rc<str>>,
    /// Its process; two scenarios may share one.
    pub process: Rc<Process>,
}

/// Starts all, the one that others are compared with first.
pub async fn start(directory: &Path, upstream: SocketAddr) -> Result<Vec<Gateway>> {
    let nginx = nginx(directory, upstream).await?;
    let quiet = Node::start(&directory.join("quiet"), upstream, false).await?;
    let logging = Node::start(&directory.join("logging"), upstream, true).await?;
    Ok(vec![
        nginx,
        quiet.gateway("octelium, anonymous", "open", false),
        quiet.gateway("octelium, token + gates + 3 CEL rules", "guarded", true),
        logging.gateway("octelium, anonymous, JSON access log", "open", false),
        logging.gateway("octelium, token + gates + 3 CEL rules, JSON access log", "guarded", true),
    ])
}

async fn nginx(directory: &Path, upstream: SocketAddr) -> Result<Gateway> {
    let address = free()?;
    let file = directory.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 1; error_log stderr crit; pid {pid};
         events {{ worker_connections 1024; }}
         http {{
           access_log off; keepalive_requests 1000000000; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
           fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
           upstream up {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
           server {{ listen {address}; location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}
         }}",
        pid = directory.join("nginx.pid").display(),
        directory = directory.display(),
    );
    fs::write(&file, text)?;
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
    let program = program.context("nginx is not installed (Debian package nginx-light)")?;
    let process = Process::start(program, &["-c", &file.display().to_string()])?;
    reachable(address).await?;
    let request = format!("GET /api/users HTTP/1.1\r\nHost: {DOMAIN}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
    Ok(Gateway { name: "nginx", address, request: request.into(), refused: None, process: Rc::new(process) })
}

/// A node with the bench's resources.
pub struct Node {
    /// Where it speaks plain HTTP.
    pub address: SocketAddr,
    /// An access token.
    pub token: String,
    process: Rc<Process>,
    administrator: Administrator,
}

/// Runs octeliumctl against a node, as root.
#[derive(Clone)]
pub struct Administrator {
    home: String,
    tls_address: SocketAddr,
    data: PathBuf,
}

impl Administrator {
    /// What it prints.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(beside("octeliumctl")?)
            .args(["--homedir", &self.home, "--domain", DOMAIN, "--address", &self.tls_address.to_string()])
            .args(["--ca-file", &self.data.join("ca.pem").display().to_string()])
            .args(arguments)
            .env("OCTELIUM_AUTH_TOKEN", fs::read_to_string(self.data.join("root.token"))?.trim())
            .output()?;
        if !output.status.success() {
            bail!("octeliumctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Node {
    /// Starts it on core 0 and applies the resources.
    pub async fn start(directory: &Path, upstream: SocketAddr, has_log: bool) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (address, tls_address) = (free()?, free()?);
        let log = if has_log { directory.join("access.log").display().to_string() } else { "off".into() };
        let data = directory.join("data");
        let process = Process::start(
            &beside("octelium-node")?,
            &[
                "start",
                "--domain",
                DOMAIN,
                "--data-dir",
                &data.display().to_string(),
                "--listen",
                &format!("http://{address},https://{tls_address}"),
                "--workers",
                "1",
                "--access-log",
                &log,
                "--log",
                "warn",
            ],
        )?;
        reachable(address).await?;
        let home = directory.join("home");
        fs::create_dir_all(&home)?;
        let administrator = Administrator { home: home.display().to_string(), tls_address, data };
        let file = directory.join("resources.yaml");
        fs::write(&file, include_str!("resources.yaml").replace("UPSTREAM", &upstream.to_string()))?;
        administrator.ctl(&["apply", &file.display().to_string()])?;
        let credential = administrator.ctl(&["create", "credential", "--rotate", "caller-oauth2", "-o", "json"])?;
        let credential: serde_json::Value = serde_json::from_str(&credential)?;
        let member = |name: &str| {
            credential["oauth2Credentials"][name].as_str().map(str::to_owned).context("no OAuth2 credential")
        };
        let token = token(address, &member("clientID")?, &member("clientSecret")?).await?;
        Ok(Self { address, token, process: Rc::new(process), administrator })
    }

    /// Its administrator.
    pub fn administrator(&self) -> Administrator {
        self.administrator.clone()
    }

    /// What octeliumctl prints.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        self.administrator.ctl(arguments)
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn gateway(&self, name: &'static str, service: &str, has_token: bool) -> Gateway {
        let head =
            format!("GET /api/users HTTP/1.1\r\nHost: {service}.{DOMAIN}\r\nUser-Agent: bench\r\nAccept: */*\r\n");
        let request = if has_token {
            format!("{head}Authorization: Bearer {}\r\n\r\n", self.token)
        } else {
            format!("{head}\r\n")
        };
        let refused = has_token.then(|| format!("{head}\r\n").into());
        Gateway { name, address: self.address, request: request.into(), refused, process: self.process.clone() }
    }
}

async fn token(address: SocketAddr, id: &str, secret: &str) -> Result<String> {
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer to the token request")?;
    let body: serde_json::Value = serde_json::from_str(body)?;
    Ok(body["access_token"].as_str().context("no access token")?.to_owned())
}

/// A program built beside this one.
fn beside(name: &str) -> Result<String> {
    let path: PathBuf = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!(
            "{} does not exist: cargo build --release -p octelium-node -p octelium-cli -p octelium-bench",
            path.display()
        );
    }
    Ok(path.display().to_string())
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn reachable(address: SocketAddr) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() > until {
            bail!("nothing listens on {address}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
