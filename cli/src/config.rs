//! Which cluster is meant and how it is reached: flags, then environment, then `<home>/config.yaml`.

use std::{
    env,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::Usage;

/// A configuration or token file is never larger, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What `<home>/config.yaml` may say.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Document {
    /// The cluster that is meant where nothing else says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_domain: Option<String>,
    /// Those that are known.
    pub clusters: Vec<ClusterEntry>,
}

/// One known cluster.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterEntry {
    /// What people call it; absent: its domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its domain.
    pub domain: String,
    /// Where to connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// PEM certificates of the authorities to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A file with an authentication token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token_file: Option<PathBuf>,
}

impl ClusterEntry {
    /// What it is called.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.domain)
    }
}

/// Where state is kept between runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Home {
    /// Nowhere: it ends with the process.
    Memory,
    /// In this directory.
    Directory(PathBuf),
}

/// The flags that choose a cluster, each also settable by environment.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// `--homedir`
    pub home: Option<String>,
    /// `--domain`
    pub domain: Option<String>,
    /// `--address`
    pub address: Option<String>,
    /// `--ca-file`
    pub ca_file: Option<PathBuf>,
}

/// How one cluster is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The cluster's domain, lower case.
    pub domain: String,
    /// Where to connect, `(host, port)`.
    pub address: (String, u16),
    /// PEM certificates of the only accepted authorities; absent: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether the server's certificate goes unchecked.
    pub insecure: bool,
    /// A Unix socket whose owner adds who calls, instead of a connection and a Session of our own.
    pub proxy_socket: Option<PathBuf>,
    /// Where state is kept.
    pub home: Home,
    /// A file with an authentication token, for when there is no stored Session.
    pub auth_token_file: Option<PathBuf>,
}

impl Settings {
    /// The name of the cluster's API host, which its certificate must carry.
    pub fn host(&self) -> String {
        format!("octelium-api.{}", self.domain)
    }

    /// Settles all questions from flags, environment and file.
    ///
    /// # Errors
    /// If the file can't be read or says what isn't known, or there is no domain.
    pub fn resolve(choice: &Choice) -> anyhow::Result<Self> {
        let home = home(choice.home.as_deref())?;
        let file = match &home {
            Home::Memory => Document::default(),
            Home::Directory(path) => read(&path.join("config.yaml"))?,
        };
        let domain = choice.domain.clone().filter(|domain| !domain.is_empty()).or(file.current_domain);
        let Some(domain) = domain else {
            return Err(Usage(
                "no cluster is chosen: give --domain, set OCTELIUM_DOMAIN, or run `octeliumctl config use-cluster`"
                    .into(),
            )
            .into());
        };
        let domain = check_domain(&domain)?;
        let mut entry = ClusterEntry::default();
        for cluster in file.clusters {
            if check_domain(&cluster.domain)? == domain {
                if !entry.domain.is_empty() {
                    return Err(Usage(format!("config.yaml: the cluster `{domain}` is there twice")).into());
                }
                entry = cluster;
            }
        }
        // Paths in the file are relative to it, those of flags to the working directory.
        let beside = |path: PathBuf| match &home {
            Home::Directory(home) => home.join(path),
            Home::Memory => path,
        };
        let address = match choice.address.clone().filter(|address| !address.is_empty()).or(entry.address) {
            Some(address) => parse_address(&address)?,
            None => (format!("octelium-api.{domain}"), 443),
        };
        let ca_file = choice.ca_file.clone().filter(|path| !path.as_os_str().is_empty());
        Ok(Self {
            address,
            ca_file: ca_file.or_else(|| entry.ca_file.map(beside)),
            insecure: flag("OCTELIUM_INSECURE_TLS")?,
            proxy_socket: variable("OCTELIUM_AUTH_PROXY_SOCKET").map(PathBuf::from),
            auth_token_file: entry.auth_token_file.map(beside),
            domain,
            home,
        })
    }
}

/// A variable of the environment that has a value.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable of the environment that is true or false; absent is false.
///
/// # Errors
/// If it is neither: a guess could switch a check off.
pub fn flag(name: &str) -> anyhow::Result<bool> {
    match variable(name).as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(Usage(format!("{name} is `{other}`; it can be true or false")).into()),
    }
}

/// Reads a token that nobody else on this machine may read.
///
/// # Errors
/// If the file can't be read, is readable by group or others, or is empty.
pub fn read_token(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let text = read_private(path).with_context(|| format!("authentication token {shown}"))?;
    match text.trim() {
        "" => bail!("authentication token {shown}: the file is empty"),
        token => Ok(token.to_owned()),
    }
}

/// Reads a file that nobody else on this machine may read.
///
/// # Errors
/// If it can't be read, or is readable by group or others.
pub fn read_private(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path)?;
    check_private(&file)?;
    read_bounded(file)
}

#[cfg(unix)]
fn check_private(file: &File) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("the file has mode {mode:04o}: others may read it; run `chmod 600` on it");
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &File) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(unix)]
/// Makes a directory that only its owner may enter; one that is there stays as it is.
///
/// # Errors
/// If the disk says no.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
/// Makes a directory that only its owner may enter; one that is there stays as it is.
///
/// # Errors
/// If the disk says no.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).create(path)
}

fn read_bounded(file: File) -> anyhow::Result<String> {
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("the file is larger than {FILE_BYTES_MAX} bytes");
    }
    Ok(text)
}

/// Where configuration and state are; `chosen` is what `--homedir` says.
///
/// # Errors
/// If nothing says so.
pub fn home(chosen: Option<&str>) -> anyhow::Result<Home> {
    let chosen = chosen.filter(|home| !home.is_empty());
    if matches!(chosen, Some("mem" | "memory")) {
        return Ok(Home::Memory);
    }
    let path = match chosen {
        Some(path) => PathBuf::from(path),
        // The specification of these directories has relative paths ignored.
        None => match variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
            Some(path) => path.join("octelium"),
            None => match variable("HOME") {
                Some(path) => Path::new(&path).join(".config/octelium"),
                None => return Err(Usage("there is no home directory: give --homedir or OCTELIUM_HOME".into()).into()),
            },
        },
    };
    Ok(Home::Directory(path))
}

/// Reads a configuration; one that isn't there says nothing.
///
/// # Errors
/// If it can't be read or says what isn't known.
pub fn read(path: &Path) -> anyhow::Result<Document> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
        other => other.with_context(|| path.display().to_string())?,
    };
    let text = read_bounded(file).with_context(|| path.display().to_string())?;
    parse(&text).map_err(|error| Usage(format!("{}: {error}", path.display())).into())
}

fn parse(text: &str) -> Result<Document, serde_saphyr::Error> {
    // An empty document is no mapping, and yet a file that says nothing is fine.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Document::default());
    }
    serde_saphyr::from_str(text)
}

/// The domain in lower case, if it can be one.
///
/// # Errors
/// If it can't.
pub fn check_domain(text: &str) -> anyhow::Result<String> {
    let domain = text.to_ascii_lowercase();
    let wrong = || Usage(format!("`{text}` is not a domain"));
    if domain.ends_with('.') || domain.starts_with('.') {
        return Err(wrong().into());
    }
    match ServerName::try_from(format!("octelium-api.{domain}")) {
        Ok(ServerName::DnsName(_)) => Ok(domain),
        _ => Err(wrong().into()),
    }
}

/// `host`, `host:port`, an IPv4 address with or without port, or an IPv6 address, in brackets if it has a port.
///
/// # Errors
/// If it is none of these.
pub fn parse_address(text: &str) -> anyhow::Result<(String, u16)> {
    let wrong = || Usage(format!("`{text}` is not an address such as 10.0.0.1:8443"));
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Ok((ip.to_string(), 443));
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Ok((address.ip().to_string(), address.port()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (text, 443),
    };
    match ServerName::try_from(host) {
        Ok(ServerName::DnsName(_)) if port != 0 => Ok((host.to_owned(), port)),
        _ => Err(wrong().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FULL: &str = "\
currentDomain: octelium.localhost
clusters:
- domain: octelium.localhost
  address: 127.0.0.1:8443
  caFile: ca.pem
  authTokenFile: root.token
- domain: example.com
";

    fn settings(config: &str, choice: Choice) -> anyhow::Result<(tempfile::TempDir, Settings)> {
        let home = tempfile::tempdir()?;
        fs::write(home.path().join("config.yaml"), config)?;
        let choice = Choice { home: Some(home.path().display().to_string()), ..choice };
        let settings = Settings::resolve(&choice)?;
        Ok((home, settings))
    }

    #[test]
    fn the_file_names_the_cluster_and_its_files() {
        let (home, settings) = settings(FULL, Choice::default()).unwrap();
        assert_eq!(
            settings,
            Settings {
                domain: "octelium.localhost".into(),
                address: ("127.0.0.1".into(), 8443),
                ca_file: Some(home.path().join("ca.pem")),
                insecure: false,
                proxy_socket: None,
                auth_token_file: Some(home.path().join("root.token")),
                home: Home::Directory(home.path().to_owned()),
            }
        );
        assert_eq!(settings.host(), "octelium-api.octelium.localhost");
    }

    #[test]
    fn flags_come_before_the_file() {
        let choice = Choice {
            domain: Some("Example.COM".into()),
            address: Some("[::1]:9443".into()),
            ca_file: Some("here.pem".into()),
            home: None,
        };
        let (_home, settings) = settings(FULL, choice).unwrap();
        assert_eq!(settings.domain, "example.com");
        assert_eq!(settings.address, ("::1".into(), 9443));
        assert_eq!(settings.ca_file, Some("here.pem".into()));
        assert_eq!(settings.auth_token_file, None, "a token belongs to its own cluster");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for config in [
            "currentDomian: x.org\n",
            "currentDomain: x.org\nclusters:\n- domain: x.org\n  insecure: true\n",
            "currentDomain: x.org\nclusters:\n- address: 127.0.0.1:1\n",
            "currentDomain: x.org\ncurrentDomain: y.org\n",
            "currentDomain: x.org\nclusters:\n- domain: x.org\n- domain: X.org\n",
            "currentDomain: x.org\nclusters: {}\n",
            "currentDomain: x_y/z\n",
            "- a\n",
        ] {
            let error = settings(config, Choice::default()).unwrap_err();
            assert!(error.is::<Usage>(), "{config}: {error:#}");
        }
    }

    #[test]
    fn no_domain_is_a_usage_error() {
        for config in ["", "# nothing\n\n", "clusters: []\n"] {
            let error = settings(config, Choice::default()).unwrap_err();
            assert!(error.is::<Usage>(), "{config}: {error:#}");
        }
    }

    #[test]
    fn addresses_have_a_port_or_443() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", 443),
            ("10.0.0.1:8443", "10.0.0.1", 8443),
            ("::1", "::1", 443),
            ("[::1]:8443", "::1", 8443),
            ("api.example.com", "api.example.com", 443),
            ("localhost:8443", "localhost", 8443),
        ] {
            assert_eq!(parse_address(text).unwrap(), (host.to_owned(), port), "{text}");
        }
        for text in ["", ":1", "host:", "host:0", "host:70000", "https://host", "a b:1"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_token_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("root.token");
        fs::write(&path, "secret-token\n").unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_token(&path).is_ok(), accepted, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_token(&path).unwrap(), "secret-token");
        fs::write(&path, "\n").unwrap();
        assert!(read_token(&path).is_err());
    }
}
