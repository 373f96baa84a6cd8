//! The node's settings: defaults, then the file, then the environment, then flags; an unknown key is an error.

use std::{
    collections::HashMap,
    fmt, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use octelium_http1::{Limits, PoolLimits};
use serde::Deserialize;

use crate::{
    client_address::Networks, cluster::token::Invitation, listener::accept::Places, proxy::forward::connect::Overrides,
    telemetry::access_log::Output,
};

/// Settings as the file, the environment and flags give them; what is absent has its default.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Domain of the cluster: its Services answer at `<service>.<domain>`
    #[arg(long, env = "OCTELIUM_NODE_DOMAIN")]
    pub domain: Option<String>,
    /// Directory for the log, snapshots and the sealing key
    #[arg(long, env = "OCTELIUM_NODE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen: `https://ADDRESS:PORT` or `http://ADDRESS:PORT`, several by commas; `?proxyProtocol=true` behind a
    /// load balancer that speaks the PROXY protocol
    #[arg(long, env = "OCTELIUM_NODE_LISTEN", value_delimiter = ',', value_name = "URL")]
    pub listen: Option<Vec<String>>,
    /// Where clients reach the domain, if not at `https://<domain>`
    #[arg(long, env = "OCTELIUM_NODE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Worker threads of the data plane [default: one for each core]
    #[arg(long, env = "OCTELIUM_NODE_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Where access-log records go: `stdout`, `off` or a file [default: stdout]
    #[arg(long, env = "OCTELIUM_NODE_ACCESS_LOG", value_name = "OUTPUT")]
    pub access_log: Option<String>,
    /// What the node says about itself, on standard error: `error`, `warn`, `info`, `debug` or a filter [default: info]
    #[arg(long, env = "OCTELIUM_NODE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Where metrics (`/metrics`) and the node's health (`/livez`, `/readyz`) are told over plain HTTP: `ADDRESS:PORT`; without it
    /// nowhere
    #[arg(long, env = "OCTELIUM_NODE_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// How long requests under way may take after a signal to stop [default: 30s]
    #[arg(long, env = "OCTELIUM_NODE_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Option<String>,
    /// After a signal to stop, /readyz says no and all else goes on for so long: time for load balancers to learn of it
    /// [default: none]
    #[arg(long, env = "OCTELIUM_NODE_DRAIN_DELAY", value_name = "DURATION")]
    pub drain_delay: Option<String>,
    /// Upstream names that DNS isn't asked for: `HOST=ADDRESS:PORT` or `HOST:PORT=ADDRESS:PORT`, several by commas
    #[arg(long, env = "OCTELIUM_NODE_RESOLVE", value_delimiter = ',', value_name = "RULE")]
    pub resolve: Option<Vec<String>>,
    /// PEM chain to show for the names that it covers, instead of one by the cluster's CA
    #[arg(long, env = "OCTELIUM_NODE_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM key of `tlsCertificate`
    #[arg(long, env = "OCTELIUM_NODE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Connections of callers at most [default: 20000]
    #[arg(long, env = "OCTELIUM_NODE_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// Connections of one address at most [default: 2000]
    #[arg(long, env = "OCTELIUM_NODE_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N")]
    pub connections_per_address_max: Option<usize>,
    /// Requests under way at most [default: 20000]
    #[arg(long, env = "OCTELIUM_NODE_REQUESTS_MAX", value_name = "N")]
    pub requests_max: Option<usize>,
    /// Requests of one address under way at most [default: 2000]
    #[arg(long, env = "OCTELIUM_NODE_REQUESTS_PER_ADDRESS_MAX", value_name = "N")]
    pub requests_per_address_max: Option<usize>,
    /// Load balancers that may send PROXY headers: addresses or prefixes, several by commas
    #[arg(long, env = "OCTELIUM_NODE_PROXY_PROTOCOL_FROM", value_delimiter = ',', value_name = "CIDR")]
    pub proxy_protocol_from: Option<Vec<String>>,
    /// Proxies whose X-Forwarded-For is believed: addresses or prefixes, several by commas
    #[arg(long, env = "OCTELIUM_NODE_TRUSTED_HOPS", value_delimiter = ',', value_name = "CIDR")]
    pub trusted_hops: Option<Vec<String>>,
    /// For the TLS handshake, and for a PROXY header [default: 10s]
    #[arg(long, env = "OCTELIUM_NODE_HANDSHAKE_TIMEOUT", value_name = "DURATION")]
    pub handshake_timeout: Option<String>,
    /// For a request's head [default: 10s]
    #[arg(long, env = "OCTELIUM_NODE_HEAD_TIMEOUT", value_name = "DURATION")]
    pub head_timeout: Option<String>,
    /// Between two requests of a connection [default: 60s]
    #[arg(long, env = "OCTELIUM_NODE_IDLE_TIMEOUT", value_name = "DURATION")]
    pub idle_timeout: Option<String>,
    /// Between two parts of a body [default: 60s]
    #[arg(long, env = "OCTELIUM_NODE_BODY_IDLE_TIMEOUT", value_name = "DURATION")]
    pub body_idle_timeout: Option<String>,
    /// How long an upgraded connection (WebSocket) may be silent [default: 1h]
    #[arg(long, env = "OCTELIUM_NODE_UPGRADED_IDLE_TIMEOUT", value_name = "DURATION")]
    pub upgraded_idle_timeout: Option<String>,
    /// How long a write to a caller or an upstream may make no progress [default: 60s]
    #[arg(long, env = "OCTELIUM_NODE_WRITE_TIMEOUT", value_name = "DURATION")]
    pub write_timeout: Option<String>,
    /// For a whole request, from its head to the end of the answer; WebSocket is left out [default: no limit]
    #[arg(long, env = "OCTELIUM_NODE_REQUEST_TIMEOUT", value_name = "DURATION")]
    pub request_timeout: Option<String>,
    /// How long this node may hear no leader before it refuses whatever needs a Session; at least 2s [default: 15s]
    #[arg(long, env = "OCTELIUM_NODE_VIEW_AGE_MAX", value_name = "DURATION")]
    pub view_age_max: Option<String>,
    /// Bytes of a request line at most [default: 8192]
    #[arg(long, env = "OCTELIUM_NODE_REQUEST_LINE_BYTES_MAX", value_name = "N")]
    pub request_line_bytes_max: Option<usize>,
    /// Bytes of a request's head at most [default: 32768]
    #[arg(long, env = "OCTELIUM_NODE_HEAD_BYTES_MAX", value_name = "N")]
    pub head_bytes_max: Option<usize>,
    /// Headers of a request at most [default: 100]
    #[arg(long, env = "OCTELIUM_NODE_HEADERS_MAX", value_name = "N")]
    pub headers_max: Option<usize>,
    /// Streams of one HTTP/2 connection at most [default: 100]
    #[arg(long, env = "OCTELIUM_NODE_HTTP2_STREAMS_MAX", value_name = "N")]
    pub http2_streams_max: Option<usize>,
    /// Bytes of an HTTP/2 request's headers at most, with 32 for each [default: 16384]
    #[arg(long, env = "OCTELIUM_NODE_HTTP2_HEADER_BYTES_MAX", value_name = "N")]
    pub http2_header_bytes_max: Option<usize>,
    /// Bytes of a request's body that an HTTP/2 caller may send ahead on one stream [default: 65536]
    #[arg(long, env = "OCTELIUM_NODE_HTTP2_STREAM_WINDOW_BYTES", value_name = "N")]
    pub http2_stream_window_bytes: Option<usize>,
    /// The same for one connection [default: 1048576]
    #[arg(long, env = "OCTELIUM_NODE_HTTP2_CONNECTION_WINDOW_BYTES", value_name = "N")]
    pub http2_connection_window_bytes: Option<usize>,
    /// Streams that an HTTP/2 connection may give up beyond those that were answered [default: 1000]
    #[arg(long, env = "OCTELIUM_NODE_HTTP2_RESETS_MAX", value_name = "N")]
    pub http2_resets_max: Option<usize>,
    /// SETTINGS and PING frames of an HTTP/2 connection in a second, and as many that carry nothing [default: 100]
    #[arg(long, env = "OCTELIUM_NODE_HTTP2_CONTROL_FRAMES_MAX", value_name = "N")]
    pub http2_control_frames_max: Option<usize>,
    /// To connect to an upstream, TLS included [default: 10s]
    #[arg(long, env = "OCTELIUM_NODE_UPSTREAM_CONNECT_TIMEOUT", value_name = "DURATION")]
    pub upstream_connect_timeout: Option<String>,
    /// From the request to the head of the upstream's answer [default: 60s]
    #[arg(long, env = "OCTELIUM_NODE_UPSTREAM_HEAD_TIMEOUT", value_name = "DURATION")]
    pub upstream_head_timeout: Option<String>,
    /// Between two parts of an upstream's body [default: 60s]
    #[arg(long, env = "OCTELIUM_NODE_UPSTREAM_BODY_IDLE_TIMEOUT", value_name = "DURATION")]
    pub upstream_body_idle_timeout: Option<String>,
    /// Between two parts of an upstream's event stream (`text/event-stream`) [default: 1h]
    #[arg(long, env = "OCTELIUM_NODE_EVENT_STREAM_IDLE_TIMEOUT", value_name = "DURATION")]
    pub event_stream_idle_timeout: Option<String>,
    /// Where other nodes of the cluster connect: `ADDRESS:PORT`; without it this node stays alone
    #[arg(long, env = "OCTELIUM_NODE_CLUSTER_LISTEN", value_name = "ADDRESS")]
    pub cluster_listen: Option<String>,
    /// Where other nodes reach this one: `HOST:PORT` [default: clusterListen]
    #[arg(long, env = "OCTELIUM_NODE_CLUSTER_ADDRESS", value_name = "ADDRESS")]
    pub cluster_address: Option<String>,
    /// Where to look for other nodes beside those that are known: `HOST:PORT` of their clusterListen, or names of many (a headless
    /// Service of Kubernetes), several by commas
    #[arg(long, env = "OCTELIUM_NODE_GOSSIP_SEEDS", value_delimiter = ',', value_name = "ADDRESS")]
    pub gossip_seeds: Option<Vec<String>>,
    /// Join a cluster: `TOKEN@HOST:PORT`, as `octelium-node token create` prints it; a member needs it no more
    #[arg(long, env = "OCTELIUM_NODE_JOIN", value_name = "TOKEN@HOST:PORT", hide_env_values = true)]
    pub join: Option<Secret>,
    /// Nodes that vote at most; the others follow, and serve all the same [default: 5]
    #[arg(long, env = "OCTELIUM_NODE_VOTERS_MAX", value_name = "N")]
    pub voters_max: Option<usize>,
    /// A node that votes and is silent for so long is replaced by one that follows [default: 1m]
    #[arg(long, env = "OCTELIUM_NODE_VOTER_GRACE", value_name = "DURATION")]
    pub voter_grace: Option<String>,
    /// How long a request at the edge of a strict rate limit waits for the cluster's answer [default: 50ms]
    #[arg(long, env = "OCTELIUM_NODE_RATE_LIMIT_WAIT", value_name = "DURATION")]
    pub rate_limit_wait: Option<String>,
    /// Unused connections that a worker keeps to one upstream [default: 256]
    #[arg(long, env = "OCTELIUM_NODE_UPSTREAM_IDLE_PER_UPSTREAM_MAX", value_name = "N")]
    pub upstream_idle_per_upstream_max: Option<usize>,
    /// The same to all upstreams [default: 1024]
    #[arg(long, env = "OCTELIUM_NODE_UPSTREAM_IDLE_MAX", value_name = "N")]
    pub upstream_idle_max: Option<usize>,
    /// How long an unused connection to an upstream is kept [default: 90s]
    #[arg(long, env = "OCTELIUM_NODE_UPSTREAM_IDLE_TIMEOUT", value_name = "DURATION")]
    pub upstream_idle_timeout: Option<String>,
}

/// Less would refuse requests for a hiccup.
const VIEW_AGE_LEAST: Duration = Duration::from_secs(2);

/// More places to look for other nodes are a mistake.
const SEEDS_MAX: usize = 32;

/// A setting that is shown nowhere.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How this node is one of several.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is explained in Settings")]
pub struct Clustered {
    pub listen: SocketAddr,
    /// `None`: where it listens.
    pub address: Option<String>,
    pub voters_max: usize,
    pub voter_grace: Duration,
    pub gossip_seeds: Vec<String>,
    pub join: Option<Arc<Invitation>>,
}

/// One listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// Whether callers speak TLS.
    pub is_tls: bool,
    /// Whether they come through a load balancer that speaks the PROXY protocol.
    pub is_proxied: bool,
}

/// Checked settings.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is explained in Settings")]
pub struct Config {
    pub domain: String,
    pub data_dir: PathBuf,
    pub listen: Vec<Listen>,
    pub public_url: String,
    pub workers: usize,
    pub access_log: Output,
    pub log: String,
    pub metrics_listen: Option<SocketAddr>,
    pub drain_timeout: Duration,
    pub drain_delay: Duration,
    pub request_timeout: Option<Duration>,
    pub view_age_max: Duration,
    pub rate_limit_wait: Duration,
    pub resolve: Overrides,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub places: Places,
    pub proxy_protocol_from: Networks,
    pub trusted_hops: Networks,
    pub handshake_timeout: Duration,
    pub limits: Limits,
    pub http2: octelium_http2::Limits,
    pub pool: PoolLimits,
    pub cluster: Option<Clustered>,
}

macro_rules! over {
    ($over:expr, $under:expr, $($field:ident),* $(,)?) => { Settings { $($field: $over.$field.or($under.$field)),* } };
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// With file, line and key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))
    }

    /// What is set here, and where nothing is, what is set in `under`.
    pub fn over(self, under: Self) -> Self {
        over!(
            self,
            under,
            domain,
            data_dir,
            listen,
            public_url,
            workers,
            access_log,
            log,
            metrics_listen,
            drain_timeout,
            drain_delay,
            resolve,
            tls_certificate,
            tls_key,
            connections_max,
            connections_per_address_max,
            requests_max,
            requests_per_address_max,
            proxy_protocol_from,
            trusted_hops,
            handshake_timeout,
            head_timeout,
            idle_timeout,
            body_idle_timeout,
            upgraded_idle_timeout,
            write_timeout,
            request_timeout,
            view_age_max,
            rate_limit_wait,
            request_line_bytes_max,
            head_bytes_max,
            headers_max,
            http2_streams_max,
            http2_header_bytes_max,
            http2_stream_window_bytes,
            http2_connection_window_bytes,
            http2_resets_max,
            http2_control_frames_max,
            upstream_connect_timeout,
            upstream_head_timeout,
            upstream_body_idle_timeout,
            event_stream_idle_timeout,
            cluster_listen,
            cluster_address,
            gossip_seeds,
            join,
            voters_max,
            voter_grace,
            upstream_idle_per_upstream_max,
            upstream_idle_max,
            upstream_idle_timeout,
        )
    }

    /// The data directory.
    pub fn data_dir(self) -> PathBuf {
        self.data_dir.unwrap_or_else(|| "octelium-data".into())
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The first setting that is wrong, what was found and what is expected.
    pub fn check(self) -> Result<Config> {
        let domain = self
            .domain
            .ok_or_else(|| anyhow!("domain is not set: give --domain, OCTELIUM_NODE_DOMAIN or `domain` in the file"))?;
        if !is_domain(&domain) {
            bail!("domain: `{domain}` is not a domain in lower case, like `example.com`");
        }
        let listen = self.listen.unwrap_or_else(|| vec!["https://0.0.0.0:443".into()]);
        let listen = listen.iter().map(|text| parse_listen(text)).collect::<Result<Vec<_>>>()?;
        if listen.is_empty() {
            bail!("listen: at least one address is needed");
        }
        let public_url = self.public_url.unwrap_or_else(|| format!("https://{domain}"));
        let parsed =
            url::Url::parse(&public_url).map_err(|error| anyhow!("publicUrl: `{public_url}` is not a URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.path() != "/" || parsed.query().is_some() {
            bail!("publicUrl: `{public_url}` must be http(s)://HOST[:PORT] and nothing else");
        }
        let workers = match self.workers {
            None => std::thread::available_parallelism().map_or(1, usize::from),
            Some(n) if (1..=1024).contains(&n) => n,
            Some(n) => bail!("workers: {n} is not between 1 and 1024"),
        };
        let tls = match (self.tls_certificate, self.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => bail!("tlsCertificate and tlsKey belong together"),
        };
        let mut limits = Limits::default();
        set_duration(&mut limits.head_timeout, "headTimeout", self.head_timeout)?;
        set_duration(&mut limits.idle_timeout, "idleTimeout", self.idle_timeout)?;
        set_duration(&mut limits.body_idle_timeout, "bodyIdleTimeout", self.body_idle_timeout)?;
        set_duration(&mut limits.upgraded_idle_timeout, "upgradedIdleTimeout", self.upgraded_idle_timeout)?;
        set_duration(&mut limits.write_timeout, "writeTimeout", self.write_timeout)?;
        set_number(
            &mut limits.request_line_bytes_max,
            "requestLineBytesMax",
            self.request_line_bytes_max,
            64..=1 << 20,
        )?;
        set_number(&mut limits.head_bytes_max, "headBytesMax", self.head_bytes_max, 256..=1 << 20)?;
        set_number(&mut limits.headers_max, "headersMax", self.headers_max, 1..=1000)?;
        let mut pool = PoolLimits::default();
        set_duration(&mut pool.connect_timeout, "upstreamConnectTimeout", self.upstream_connect_timeout)?;
        set_duration(&mut pool.response_head_timeout, "upstreamHeadTimeout", self.upstream_head_timeout)?;
        set_duration(&mut pool.body_idle_timeout, "upstreamBodyIdleTimeout", self.upstream_body_idle_timeout)?;
        let event_streams = &mut pool.event_stream_idle_timeout;
        set_duration(event_streams, "eventStreamIdleTimeout", self.event_stream_idle_timeout)?;
        set_duration(&mut pool.idle_timeout, "upstreamIdleTimeout", self.upstream_idle_timeout)?;
        let per_upstream = self.upstream_idle_per_upstream_max;
        set_number(&mut pool.idle_per_key_max, "upstreamIdlePerUpstreamMax", per_upstream, 0..=100_000)?;
        set_number(&mut pool.idle_max, "upstreamIdleMax", self.upstream_idle_max, 0..=100_000)?;
        pool.write_timeout = limits.write_timeout;
        let request_timeout = match self.request_timeout {
            None => None,
            set => {
                let mut timeout = Duration::ZERO;
                set_duration(&mut timeout, "requestTimeout", set)?;
                Some(timeout)
            }
        };
        let mut rate_limit_wait = Duration::from_millis(50);
        set_duration(&mut rate_limit_wait, "rateLimitWait", self.rate_limit_wait)?;
        let mut view_age_max = Duration::from_secs(15);
        set_duration(&mut view_age_max, "viewAgeMax", self.view_age_max)?;
        if view_age_max < VIEW_AGE_LEAST {
            bail!("viewAgeMax: must be at least 2s, since a leader is heard each half second");
        }
        let metrics_listen = self.metrics_listen.map(|text| {
            text.parse().map_err(|_| anyhow!("metricsListen: `{text}` must be ADDRESS:PORT, like 127.0.0.1:9464"))
        });
        let metrics_listen = metrics_listen.transpose()?;
        let mut drain_timeout = Duration::from_secs(30);
        set_duration(&mut drain_timeout, "drainTimeout", self.drain_timeout)?;
        let mut drain_delay = Duration::ZERO;
        set_duration(&mut drain_delay, "drainDelay", self.drain_delay)?;
        let mut handshake_timeout = Duration::from_secs(10);
        set_duration(&mut handshake_timeout, "handshakeTimeout", self.handshake_timeout)?;
        let mut places = Places {
            connections_max: 20_000,
            connections_per_address_max: 2_000,
            requests_max: 20_000,
            requests_per_address_max: 2_000,
        };
        for (place, name, found) in [
            (&mut places.connections_max, "connectionsMax", self.connections_max),
            (&mut places.connections_per_address_max, "connectionsPerAddressMax", self.connections_per_address_max),
            (&mut places.requests_max, "requestsMax", self.requests_max),
            (&mut places.requests_per_address_max, "requestsPerAddressMax", self.requests_per_address_max),
        ] {
            set_number(place, name, found, 1..=10_000_000)?;
        }
        let proxy_protocol_from = parse_networks("proxyProtocolFrom", self.proxy_protocol_from)?;
        if proxy_protocol_from.is_empty() && listen.iter().any(|listen| listen.is_proxied) {
            bail!("proxyProtocolFrom: name the load balancers of the listeners with proxyProtocol=true");
        }
        let trusted_hops = parse_networks("trustedHops", self.trusted_hops)?;
        let cluster = Cluster {
            listen: self.cluster_listen,
            address: self.cluster_address,
            join: self.join,
            voters_max: self.voters_max,
            voter_grace: self.voter_grace,
            gossip_seeds: self.gossip_seeds,
        };
        let cluster = cluster.check()?;
        let http2 = Http2 {
            streams_max: self.http2_streams_max,
            header_bytes_max: self.http2_header_bytes_max,
            stream_window_bytes: self.http2_stream_window_bytes,
            connection_window_bytes: self.http2_connection_window_bytes,
            resets_max: self.http2_resets_max,
            control_frames_max: self.http2_control_frames_max,
        };
        let http2 = http2.check(&limits)?;
        let resolve = self.resolve.unwrap_or_default();
        let resolve = resolve.iter().map(|rule| parse_resolve(rule)).collect::<Result<HashMap<_, _>>>()?;
        let log = self.log.unwrap_or_else(|| "info".into());
        tracing_subscriber::EnvFilter::try_new(&log)
            .map_err(|error| anyhow!("log: `{log}` is not a filter: {error}"))?;
        Ok(Config {
            domain,
            data_dir: self.data_dir.unwrap_or_else(|| "octelium-data".into()),
            listen,
            public_url: public_url.trim_end_matches('/').to_owned(),
            workers,
            access_log: self.access_log.as_deref().unwrap_or("stdout").parse()?,
            log,
            metrics_listen,
            drain_timeout,
            drain_delay,
            request_timeout,
            view_age_max,
            rate_limit_wait,
            resolve: Arc::new(resolve),
            tls,
            places,
            proxy_protocol_from,
            trusted_hops,
            handshake_timeout,
            limits,
            http2,
            pool,
            cluster,
        })
    }
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
    };
    // 253 bytes are a DNS name's limit; a Service's labels come in front.
    text.len() <= 160 && text.split('.').all(label) && text.parse::<IpAddr>().is_err()
}

fn parse_listen(text: &str) -> Result<Listen> {
    let (is_tls, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => bail!("listen: `{text}` must start with https:// or http://"),
    };
    let (rest, is_proxied) = match rest.split_once('?') {
        None => (rest, false),
        Some((rest, "proxyProtocol=true")) => (rest, true),
        Some((rest, "proxyProtocol=false")) => (rest, false),
        Some(_) => bail!("listen: `{text}` may end in ?proxyProtocol=true and nothing else"),
    };
    let address = rest.trim_end_matches('/').parse();
    let address =
        address.map_err(|_| anyhow!("listen: `{text}` must end in ADDRESS:PORT, like https://0.0.0.0:443"))?;
    Ok(Listen { address, is_tls, is_proxied })
}

fn parse_networks(name: &str, found: Option<Vec<String>>) -> Result<Networks> {
    Networks::parse(&found.unwrap_or_default()).map_err(|error| anyhow!("{name}: {error}"))
}

/// The settings of HTTP/2 alone; the others are those of HTTP/1.1.
struct Http2 {
    streams_max: Option<usize>,
    header_bytes_max: Option<usize>,
    stream_window_bytes: Option<usize>,
    connection_window_bytes: Option<usize>,
    resets_max: Option<usize>,
    control_frames_max: Option<usize>,
}

impl Http2 {
    fn check(self, limits: &Limits) -> Result<octelium_http2::Limits> {
        let mut checked = octelium_http2::Limits {
            headers_max: limits.headers_max,
            target_bytes_max: limits.request_line_bytes_max,
            trailers_max: limits.trailers_max,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            body_idle_timeout: limits.body_idle_timeout,
            write_timeout: limits.write_timeout,
            ..octelium_http2::Limits::default()
        };
        const WINDOW_BYTES_MAX: usize = 64 << 20;
        set_u32(&mut checked.streams_max, "http2StreamsMax", self.streams_max, 1..=10_000)?;
        set_u32(&mut checked.header_list_bytes_max, "http2HeaderBytesMax", self.header_bytes_max, 1024..=1 << 20)?;
        // The protocol begins with windows of 65 535 bytes.
        let (stream, connection) = (self.stream_window_bytes, self.connection_window_bytes);
        set_u32(&mut checked.stream_window_bytes, "http2StreamWindowBytes", stream, 65_535..=WINDOW_BYTES_MAX)?;
        let window = &mut checked.connection_window_bytes;
        set_u32(window, "http2ConnectionWindowBytes", connection, 65_535..=WINDOW_BYTES_MAX)?;
        let mut resets_max = usize::try_from(checked.resets_max)?;
        set_number(&mut resets_max, "http2ResetsMax", self.resets_max, 1..=1_000_000)?;
        checked.resets_max = resets_max as u64;
        let frames = &mut checked.control_frames_per_second_max;
        set_u32(frames, "http2ControlFramesMax", self.control_frames_max, 10..=100_000)?;
        Ok(checked)
    }
}

/// The settings of a node among others.
struct Cluster {
    listen: Option<String>,
    address: Option<String>,
    join: Option<Secret>,
    voters_max: Option<usize>,
    voter_grace: Option<String>,
    gossip_seeds: Option<Vec<String>>,
}

impl Cluster {
    fn check(self) -> Result<Option<Clustered>> {
        let Some(listen) = self.listen else {
            let others = [
                ("clusterAddress", self.address.is_some()),
                ("join", self.join.is_some()),
                ("votersMax", self.voters_max.is_some()),
                ("voterGrace", self.voter_grace.is_some()),
                ("gossipSeeds", self.gossip_seeds.is_some()),
            ];
            match others.iter().find(|(_, is_set)| *is_set) {
                Some((name, _)) => {
                    bail!("{name}: it needs clusterListen, where other nodes connect, like 0.0.0.0:7443")
                }
                None => return Ok(None),
            }
        };
        let listen: SocketAddr =
            listen.parse().map_err(|_| anyhow!("clusterListen: `{listen}` must be ADDRESS:PORT, like 0.0.0.0:7443"))?;
        if let Some(address) = &self.address {
            if !is_host_and_port(address) {
                bail!("clusterAddress: `{address}` must be HOST:PORT, like node-1.example.com:7443");
            }
        } else if listen.ip().is_unspecified() {
            bail!("clusterAddress: say where other nodes reach this one, since clusterListen is any address");
        }
        let mut voters_max = 5;
        set_number(&mut voters_max, "votersMax", self.voters_max, 1..=9)?;
        if voters_max % 2 == 0 {
            bail!("votersMax: {voters_max} is even: one voter less survives as many failures");
        }
        let mut voter_grace = Duration::from_secs(60);
        set_duration(&mut voter_grace, "voterGrace", self.voter_grace)?;
        let gossip_seeds = self.gossip_seeds.unwrap_or_default();
        if let Some(wrong) = gossip_seeds.iter().find(|seed| !is_host_and_port(seed)) {
            bail!("gossipSeeds: `{wrong}` must be HOST:PORT, like nodes.example.com:7443");
        }
        if gossip_seeds.len() > SEEDS_MAX {
            bail!("gossipSeeds: {} are more than {SEEDS_MAX}", gossip_seeds.len());
        }
        let join = self.join.map(|join| join.0.parse().map(Arc::new)).transpose()?;
        Ok(Some(Clustered { listen, address: self.address, voters_max, voter_grace, gossip_seeds, join }))
    }
}

fn is_host_and_port(text: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    text.len() <= 300 && text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && is_port(port))
}

fn parse_resolve(text: &str) -> Result<(String, SocketAddr)> {
    let parts =
        text.split_once('=').and_then(|(host, address)| Some((host.to_ascii_lowercase(), address.parse().ok()?)));
    parts.ok_or_else(|| anyhow!("resolve: `{text}` must be HOST=ADDRESS:PORT or HOST:PORT=ADDRESS:PORT"))
}

fn set_duration(setting: &mut Duration, name: &str, text: Option<String>) -> Result<()> {
    if let Some(text) = text {
        *setting = parse_duration(&text)
            .ok_or_else(|| anyhow!("{name}: `{text}` is not a duration above 0, like 500ms, 10s, 5m or 1h"))?;
    }
    Ok(())
}

fn set_number(
    setting: &mut usize,
    name: &str,
    found: Option<usize>,
    range: std::ops::RangeInclusive<usize>,
) -> Result<()> {
    match found {
        None => Ok(()),
        Some(found) if range.contains(&found) => {
            *setting = found;
            Ok(())
        }
        Some(found) => bail!("{name}: {found} is not between {} and {}", range.start(), range.end()),
    }
}

fn set_u32(setting: &mut u32, name: &str, found: Option<usize>, range: std::ops::RangeInclusive<usize>) -> Result<()> {
    let mut number = usize::try_from(*setting)?;
    set_number(&mut number, name, found, range)?;
    *setting = u32::try_from(number)?;
    Ok(())
}

/// A duration as settings spell it: `500ms`, `10s`, `5m`, `1h`; above 0 and at most a year.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    // A year is longer than any of these settings can mean.
    let total = number.checked_mul(milliseconds).filter(|total| (1..=31_536_000_000).contains(total))?;
    Some(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Config> {
        serde_saphyr::from_str::<Settings>(yaml).map_err(|error| anyhow!("{error}"))?.check()
    }

    #[test]
    fn a_minimal_file_has_safe_defaults() {
        let config = parse("domain: example.com\n").expect("the domain is enough");
        assert_eq!(config.public_url, "https://example.com");
        let address = "0.0.0.0:443".parse().expect("an address");
        assert_eq!(config.listen, [Listen { address, is_tls: true, is_proxied: false }]);
        assert_eq!(config.limits.head_bytes_max, 32 << 10);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (yaml, expected) in [
            ("{}", "domain is not set"),
            ("domain: Example.com", "domain: `Example.com`"),
            ("domain: 127.0.0.1", "domain: `127.0.0.1`"),
            ("domain: example.com\nlisten: [':443']", "listen: `:443` must start with"),
            ("domain: example.com\nlisten: ['https://localhost:443']", "must end in ADDRESS:PORT"),
            ("domain: example.com\nlisten: ['http://127.0.0.1:80?a=b']", "may end in ?proxyProtocol=true"),
            ("domain: example.com\nlisten: ['http://127.0.0.1:80?proxyProtocol=true']", "proxyProtocolFrom: name the"),
            ("domain: example.com\nproxyProtocolFrom: [a]", "proxyProtocolFrom: `a` is neither"),
            ("domain: example.com\ntrustedHops: ['10.0.0.0/33']", "trustedHops: `10.0.0.0/33` is neither"),
            ("domain: example.com\nhttp2StreamsMax: 0", "http2StreamsMax: 0 is not between"),
            ("domain: example.com\nhttp2StreamWindowBytes: 100", "http2StreamWindowBytes: 100 is not between"),
            ("domain: example.com\nrequestsMax: 0", "requestsMax: 0 is not between"),
            ("domain: example.com\njoin: a@b:1", "join: it needs clusterListen"),
            ("domain: example.com\nclusterListen: ':1'", "clusterListen: `:1` must be ADDRESS:PORT"),
            ("domain: example.com\nclusterListen: 0.0.0.0:1", "clusterAddress: say where"),
            ("domain: example.com\nclusterListen: 127.0.0.1:1\nclusterAddress: a", "clusterAddress: `a` must be"),
            ("domain: example.com\nclusterListen: 127.0.0.1:1\ngossipSeeds: [a]", "gossipSeeds: `a` must be HOST:PORT"),
            ("domain: example.com\ngossipSeeds: ['a:1']", "gossipSeeds: it needs clusterListen"),
            ("domain: example.com\nclusterListen: 127.0.0.1:1\nvotersMax: 4", "votersMax: 4 is even"),
            ("domain: example.com\nclusterListen: 127.0.0.1:1\njoin: a@b:1", "join: the token can't be used"),
            ("domain: example.com\nmetricsListen: ':9464'", "metricsListen: `:9464` must be ADDRESS:PORT"),
            ("domain: example.com\nworkers: 0", "workers: 0 is not between"),
            ("domain: example.com\nheadTimeout: 10", "headTimeout"),
            ("domain: example.com\nheadTimeout: 10 s", "headTimeout: `10 s` is not a duration"),
            ("domain: example.com\nresolve: ['a']", "resolve: `a` must be"),
            ("domain: example.com\ntlsKey: k.pem", "belong together"),
            ("domain: example.com\npublicUrl: 'https://x/y'", "publicUrl:"),
            ("domain: example.com\nlog: '!!'", "log: `!!` is not a filter"),
            ("domian: example.com", "domian"),
        ] {
            let error = parse(yaml).expect_err(yaml).to_string();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = Settings { domain: Some("file.com".into()), workers: Some(2), ..Settings::default() };
        let flags = Settings { domain: Some("flag.com".into()), ..Settings::default() };
        let config = flags.over(file).check().expect("both are valid");
        assert_eq!((config.domain.as_str(), config.workers), ("flag.com", 2));
    }
}
