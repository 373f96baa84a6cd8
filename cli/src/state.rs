//! What `octeliumctl` remembers between runs: the tokens of one Session for each domain.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use octelium_api::auth::SessionToken;
use prost::Message;
use prost_types::Timestamp;

use crate::config::{Home, make_private_directory};

/// How long another process may hold the state.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often the lock is tried.
const LOCK_PERIOD: Duration = Duration::from_millis(50);
/// State is never larger, in bytes.
const BYTES_MAX: u64 = 4 << 20;

/// The stored file, `octelium.api.client.config.v1.State`.
#[derive(Clone, PartialEq, Message)]
pub struct State {
    /// What is known of each domain.
    #[prost(btree_map = "string, message", tag = "1")]
    pub domain_map: BTreeMap<String, Domain>,
}

/// The Session at one domain.
#[derive(Clone, PartialEq, Message)]
pub struct Domain {
    /// Its tokens and how long they last from `session_token_set_at`.
    #[prost(message, optional, tag = "1")]
    pub session_token: Option<SessionToken>,
    /// When the tokens were received.
    #[prost(message, optional, tag = "2")]
    pub session_token_set_at: Option<Timestamp>,
}

/// How far into their lives a Session's tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// The access token is in its first half.
    Fresh,
    /// The access token still counts but should be renewed.
    Stale,
    /// Only the refresh token may still count.
    Expired,
    /// Nothing counts.
    Over,
}

impl Domain {
    /// Tokens received at `now`.
    pub fn new(token: SessionToken, now: SystemTime) -> Self {
        Self { session_token: Some(token), session_token_set_at: Some(Timestamp::from(now)) }
    }

    /// The access token; empty if there is none.
    pub fn access_token(&self) -> &str {
        self.session_token.as_ref().map_or("", |token| &token.access_token)
    }

    /// The refresh token; empty if there is none.
    pub fn refresh_token(&self) -> &str {
        self.session_token.as_ref().map_or("", |token| &token.refresh_token)
    }

    /// How far into their lives the tokens are at `now`.
    pub fn age(&self, now: SystemTime) -> Age {
        let (Some(token), Some(at)) = (&self.session_token, self.session_token_set_at) else { return Age::Over };
        let seconds = |value: i64| Duration::from_secs(u64::try_from(value).unwrap_or(0));
        let (life, refresh_life) = (seconds(token.expires_in), seconds(token.refresh_token_expires_in));
        // A clock that was set back says nothing about the access token's age.
        let age = SystemTime::try_from(at).ok().and_then(|at| now.duration_since(at).ok());
        match age {
            Some(age) if !token.access_token.is_empty() && age < life / 2 => Age::Fresh,
            Some(age) if !token.access_token.is_empty() && age < life => Age::Stale,
            None if !token.refresh_token.is_empty() => Age::Expired,
            Some(age) if !token.refresh_token.is_empty() && age < refresh_life => Age::Expired,
            _ => Age::Over,
        }
    }
}

/// The state, held by this process alone until dropped.
#[derive(Debug)]
pub struct Held {
    home: Home,
    state: State,
    /// Locked as long as it is open.
    _lock: Option<File>,
}

/// Waits for the state, and reads it.
///
/// # Errors
/// If another process holds it for too long, or it can't be read.
pub async fn hold(home: &Home) -> anyhow::Result<Held> {
    let Home::Directory(directory) = home else {
        return Ok(Held { home: Home::Memory, state: State::default(), _lock: None });
    };
    make_private_directory(directory)
        .with_context(|| format!("{} (state can be kept in memory by --homedir mem)", directory.display()))?;
    let path = directory.join("octelium.db.lock");
    let lock = private_options().create(true).open(&path).with_context(|| path.display().to_string())?;
    let deadline = tokio::time::Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOCK_PERIOD).await;
            }
            Err(TryLockError::WouldBlock) => bail!("{} is held by another octeliumctl", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).context(path.display().to_string()),
        }
    }
    Ok(Held { home: home.clone(), state: read(directory)?, _lock: Some(lock) })
}

/// The state as it is now, without waiting for anybody who changes it, and without making anything.
///
/// # Errors
/// If it can't be read.
pub fn peek(home: &Home) -> anyhow::Result<State> {
    match home {
        Home::Memory => Ok(State::default()),
        Home::Directory(directory) => read(directory),
    }
}

fn read(directory: &Path) -> anyhow::Result<State> {
    let path = directory.join("octelium.db");
    let mut bytes = Vec::new();
    match File::open(&path) {
        Ok(file) => {
            file.take(BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(path.display().to_string()),
    }
    if bytes.len() as u64 > BYTES_MAX {
        bail!("{} is not a state file of octeliumctl", path.display());
    }
    State::decode(bytes.as_slice())
        .with_context(|| format!("{} is damaged; remove it and log in again", path.display()))
}

impl Held {
    /// What is known of `domain`.
    pub fn get(&self, domain: &str) -> Option<&Domain> {
        self.state.domain_map.get(domain)
    }

    /// Remembers `entry`, or forgets the domain.
    ///
    /// # Errors
    /// If the state can't be written; it then stays as it was.
    pub fn set(&mut self, domain: &str, entry: Option<Domain>) -> anyhow::Result<()> {
        match entry {
            Some(entry) => self.state.domain_map.insert(domain.to_owned(), entry),
            None => self.state.domain_map.remove(domain),
        };
        let Home::Directory(directory) = &self.home else { return Ok(()) };
        let path = directory.join("octelium.db");
        // Replaced as a whole: a reader or a crash meets the old state or the new one. Such files are made with mode 0600.
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".octelium.db.").tempfile_in(directory)?;
            file.write_all(&self.state.encode_to_vec())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| path.display().to_string())
    }
}

#[cfg(unix)]
fn private_options() -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).truncate(false).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private_options() -> fs::OpenOptions {
    let mut options = File::options();
    options.write(true).truncate(false);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> SessionToken {
        SessionToken {
            access_token: "access".into(),
            refresh_token: "refresh".into(),
            expires_in: 3_600,
            refresh_token_expires_in: 7_200,
        }
    }

    #[tokio::test]
    async fn what_was_set_is_there_in_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::Directory(directory.path().join("a/b"));
        let entry = Domain::new(token(), SystemTime::now());
        assert!(peek(&home).unwrap().domain_map.is_empty() && !directory.path().join("a").exists());
        hold(&home).await.unwrap().set("example.com", Some(entry.clone())).unwrap();
        assert_eq!(peek(&home).unwrap().domain_map.get("example.com"), Some(&entry));
        let mut held = hold(&home).await.unwrap();
        assert_eq!(held.get("example.com"), Some(&entry));
        assert_eq!(held.get("example.org"), None);
        held.set("example.com", None).unwrap();
        drop(held);
        assert_eq!(hold(&home).await.unwrap().get("example.com"), None);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("octelium");
        let home = Home::Directory(path.clone());
        hold(&home).await.unwrap().set("example.com", Some(Domain::new(token(), SystemTime::now()))).unwrap();
        let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.clone()), 0o700);
        assert_eq!(mode(path.join("octelium.db")), 0o600);
        assert_eq!(mode(path.join("octelium.db.lock")), 0o600);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "no temporary file is left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_state_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::Directory(directory.path().to_owned());
        let held = hold(&home).await.unwrap();
        assert!(hold(&home).await.unwrap_err().to_string().contains("held by another"));
        drop(held);
        hold(&home).await.unwrap();
    }

    #[tokio::test]
    async fn a_damaged_file_is_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("octelium.db"), b"\xff\xff\xff").unwrap();
        let home = Home::Directory(directory.path().to_owned());
        assert!(hold(&home).await.unwrap_err().to_string().contains("damaged"));
    }

    #[tokio::test]
    async fn memory_leaves_nothing_behind() {
        let mut held = hold(&Home::Memory).await.unwrap();
        held.set("example.com", Some(Domain::new(token(), SystemTime::now()))).unwrap();
        assert!(held.get("example.com").is_some());
        assert!(hold(&Home::Memory).await.unwrap().get("example.com").is_none());
    }

    #[test]
    fn the_wire_form_is_the_documented_one() {
        let entry =
            Domain { session_token: Some(token()), session_token_set_at: Some(Timestamp { seconds: 1, nanos: 0 }) };
        let state = State { domain_map: BTreeMap::from([("d".to_owned(), entry)]) };
        let token = token().encode_to_vec();
        let mut domain = vec![0x0a, token.len() as u8];
        domain.extend(&token);
        domain.extend([0x12, 2, 0x08, 1]);
        let mut expected = vec![0x0a, domain.len() as u8 + 5, 0x0a, 1, b'd', 0x12, domain.len() as u8];
        expected.extend(&domain);
        assert_eq!(state.encode_to_vec(), expected);
    }

    #[test]
    fn tokens_are_renewed_in_their_second_half() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let entry = Domain::new(token(), start);
        for (seconds, age) in [
            (0, Age::Fresh),
            (1_799, Age::Fresh),
            (1_800, Age::Stale),
            (3_599, Age::Stale),
            (3_600, Age::Expired),
            (7_199, Age::Expired),
            (7_200, Age::Over),
        ] {
            assert_eq!(entry.age(start + Duration::from_secs(seconds)), age, "{seconds}");
        }
        assert_eq!(entry.age(start - Duration::from_secs(60)), Age::Expired, "the clock was set back");
        assert_eq!(Domain::default().age(start), Age::Over);
        let alone = SessionToken { refresh_token: String::new(), ..token() };
        assert_eq!(Domain::new(alone, start).age(start + Duration::from_secs(3_600)), Age::Over);
    }
}
