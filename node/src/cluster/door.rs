//! The local door: a socket in the data directory, for whoever may read that. It makes join tokens.

use std::{
    fs::{File, Permissions},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::timeout,
};
use zeroize::Zeroizing;

use super::{authority::Identity, join::Joins};

const NAME: &str = "node.sock";
const LINE_BYTES_MAX: u64 = 64 << 10;
const CALL_WITHIN: Duration = Duration::from_secs(20);
const CALLS_MAX: usize = 16;

/// What can be asked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Ask {
    /// A token with which one node may join.
    CreateToken {
        /// How long it is good, in seconds.
        ttl_seconds: u64,
    },
}

/// What is answered.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Told {
    Token {
        #[serde(with = "super::wiped")]
        token: Zeroizing<String>,
        address: String,
    },
    Refused(String),
}

/// An invitation to hand over.
pub struct Token {
    /// A secret, good once.
    pub token: Zeroizing<String>,
    /// Where this node takes others in.
    pub address: String,
}

/// An open door; dropping it closes it.
pub struct Door {
    path: PathBuf,
    _serving: JoinSet<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok(); // a leftover is replaced by the next start
    }
}

/// A path to the socket that is short, however long that of the directory is: the system allows 107 bytes.
fn short(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))
}

/// Opens the door.
///
/// # Errors
/// If the socket can't be made.
pub fn open(data_dir: &Path, joins: Joins, identity: Arc<Identity>, address: String) -> Result<Door> {
    let path = data_dir.join(NAME);
    let making = || -> std::io::Result<UnixListener> {
        let directory = File::open(data_dir)?;
        std::fs::remove_file(&path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let listener = UnixListener::bind(short(&directory))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = making().with_context(|| format!("making {}", path.display()))?;
    let mut serving = JoinSet::new();
    let shared = Arc::new((joins, identity, address));
    serving.spawn(async move {
        let mut calls = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            while calls.try_join_next().is_some() {}
            if calls.len() >= CALLS_MAX {
                continue; // its caller sees a closed connection
            }
            let shared = shared.clone();
            calls.spawn(async move {
                let (joins, identity, address) = &*shared;
                timeout(CALL_WITHIN, serve(stream, joins, identity, address)).await.ok(); // a slow caller is cut off
            });
        }
    });
    Ok(Door { path, _serving: serving })
}

async fn serve(stream: UnixStream, joins: &Joins, identity: &Identity, address: &str) -> Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reading.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let told = match serde_json::from_str(&line) {
        Err(error) => Told::Refused(format!("the request can't be read: {error}")),
        Ok(Ask::CreateToken { ttl_seconds }) => match joins.create(identity, Duration::from_secs(ttl_seconds)).await {
            Ok(token) => Told::Token { token, address: address.to_owned() },
            Err(error) => Told::Refused(format!("{error:#}")),
        },
    };
    let mut answer = Zeroizing::new(serde_json::to_vec(&told)?);
    answer.push(b'\n');
    writing.write_all(&answer).await?;
    Ok(())
}

/// Asks the node whose data directory this is for a join token.
///
/// # Errors
/// If no node runs there, or it refuses.
pub async fn create_token(data_dir: &Path, ttl: Duration) -> Result<Token> {
    let ask = Ask::CreateToken { ttl_seconds: ttl.as_secs() };
    let call = async {
        let directory = File::open(data_dir)?;
        let stream = UnixStream::connect(short(&directory)).await?;
        let (reading, mut writing) = stream.into_split();
        let mut line = serde_json::to_vec(&ask)?;
        line.push(b'\n');
        writing.write_all(&line).await?;
        let mut answer = Zeroizing::new(String::new());
        BufReader::new(reading.take(LINE_BYTES_MAX)).read_line(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(CALL_WITHIN, call)
        .await
        .map_err(|_| anyhow!("the node at {} doesn't answer", data_dir.display()))?
        .with_context(|| {
            format!(
                "no node with a cluster address runs with the data directory {}: start it, with clusterListen set",
                data_dir.display()
            )
        })?;
    match serde_json::from_str(&answer).context("reading the node's answer")? {
        Told::Token { token, address } => Ok(Token { token, address }),
        Told::Refused(reason) => Err(anyhow!("{reason}")),
    }
}
