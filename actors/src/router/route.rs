//! A Service as the request path needs it: every name resolved, every rule compiled, every header value made.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use octelium_api::meta::ObjectReference;
use octelium_policy::{Condition, Expression, PathIndex, Policy, Reads};

use super::{cors::Cors, direct::Direct, header_rules::HeaderRules, plugins::Plugin};
use crate::subject::Resource;

/// A compiled Service.
///
/// What every request asks for stands first and close together, and stays in that order: among thousands of Services, each line of
/// memory that a request touches is a wait of its own. What few have is boxed.
#[repr(C)]
pub struct Route {
    /// The configuration where no rule chooses another.
    pub config: Option<Arc<EffectiveConfig>>,
    /// Its public host name.
    pub fqdn: Arc<str>,
    /// Why this Service can't be served on this node: every request is refused.
    pub broken: Option<Box<str>>,
    /// What pages of other origins may do; `None`: nothing is said about it.
    pub cors: Option<Box<Cors>>,
    /// Plugins that run before the caller is known; always of the default configuration.
    pub pre_auth: Box<[Plugin]>,
    /// Rules of dynamicConfig, in order.
    pub rules: Box<[ConfigRule]>,
    /// How its request bodies are treated.
    pub body: Body,
    /// What its policies, the rules of dynamicConfig and the expressions of configurations read.
    pub reads: Reads,
    /// Who must prove what.
    pub access: Access,
    /// Reachable without a tunnel; otherwise only CLIENT Sessions may.
    pub is_public: bool,
    /// Answers 503.
    pub is_disabled: bool,
    pub(crate) names_policies: bool,
    /// HTTP, WEB or GRPC, as policies name it.
    pub mode: octelium_api::core::service::spec::Mode,
    /// The log index of the state that this was made from: a newer one is newer.
    pub revision: u64,
    /// Those rules by what their conditions ask of the path.
    pub rule_index: PathIndex,
    /// Policies of Service, Namespace and ClusterConfig, parents included.
    pub policies: Vec<Arc<Policy>>,
    /// Its uid once more, shared with what outlives the route.
    pub uid: Arc<str>,
    /// `ctx.service`.
    pub service: Resource,
    /// `ctx.namespace`.
    pub namespace_subject: Option<Resource>,
    /// For access logs.
    pub reference: ObjectReference,
    /// Of its Namespace.
    pub namespace: ObjectReference,
}

/// What a caller must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A Session, and a policy that allows.
    Session,
    /// Nothing.
    Anonymous,
    /// No Session, but a policy that allows.
    AnonymousWithPolicy,
}

/// How request bodies are treated; always of the default configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// Read whole before deciding, whether or not a rule asks.
    pub buffer: bool,
    /// Must be a JSON object.
    pub json: bool,
    /// Refused above this size where it is buffered.
    pub bytes_max: usize,
}

/// One rule of dynamicConfig.
pub struct ConfigRule {
    /// When it applies.
    pub condition: Condition,
    /// What it chooses.
    pub choice: Choice,
}

/// What a rule of dynamicConfig chooses.
pub enum Choice {
    /// A named configuration; `None`: there is no default one.
    Named(Option<Arc<EffectiveConfig>>),
    /// One that an expression makes for each request, see [`super::compile::generated`].
    Generated(Box<Expression>),
}

/// A configuration with its parent merged in. Laid out as [`Route`] is.
#[repr(C)]
pub struct EffectiveConfig {
    /// Where requests go; shared by all configurations that say the same.
    pub upstream: Option<Arc<Upstream>>,
    /// Plugins that run once the request is allowed, in their order.
    pub plugins: Box<[Plugin]>,
    /// What is answered without an upstream.
    pub direct: Option<Box<Direct>>,
    /// What the upstream is shown instead of the caller's credential; `None`: nothing.
    pub auth: Option<Box<UpstreamAuth>>,
    /// How the path changes; `None`: not at all.
    pub path: Option<Box<PathRewrite>>,
    /// How headers change; `None`: in no other way than those of every Service.
    pub headers: Option<HeaderRules>,
    /// `default`, or the name of a named one.
    pub name: Arc<str>,
}

impl EffectiveConfig {
    /// What its expressions read.
    pub fn reads(&self) -> Reads {
        let headers = self.headers.as_ref().map_or_else(Reads::default, |headers| headers.reads);
        self.plugins.iter().fold(headers, |reads, plugin| reads | plugin.reads())
    }
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// With TLS or without.
    pub scheme: Scheme,
    /// Whether it speaks HTTP/2 and nothing else: by prior knowledge, or with TLS as negotiated.
    pub is_http2: bool,
    /// Host name or address, without brackets.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// The `Host` header: host, and the port where it isn't the scheme's.
    pub authority: HeaderValue,
    /// For https.
    pub tls: Arc<Tls>,
    /// Equal for upstreams that may share connections.
    pub pool_key: Arc<str>,
}

/// Of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the schemes explain themselves")]
pub enum Scheme {
    Http,
    Https,
}

/// How an https upstream proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tls {
    /// PEM bundles; with `append_to_system` beside the system's roots, otherwise instead of them (if any).
    pub trusted_cas: Vec<String>,
    /// See `trusted_cas`.
    pub append_to_system: bool,
    /// No proof is asked for.
    pub insecure_skip_verify: bool,
    /// HTTP/2 is negotiated, instead of HTTP/1.1.
    pub is_http2: bool,
}

/// The credential that is injected.
#[derive(Debug, Clone)]
pub enum UpstreamAuth {
    /// `Authorization: Bearer <Secret>`.
    Bearer {
        /// Name of the Secret.
        secret: Arc<str>,
    },
    /// `Authorization: Basic`.
    Basic {
        /// User name.
        username: Arc<str>,
        /// Name of the Secret that holds the password.
        secret: Arc<str>,
    },
    /// Any header.
    Custom {
        /// Its name.
        header: HeaderName,
        /// Name of the Secret that holds its value.
        secret: Arc<str>,
    },
}

/// How the path changes: removed first, then added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathRewrite {
    /// Removed where it ends at a segment's end.
    pub remove_prefix: Option<Arc<str>>,
    /// Put in front.
    pub add_prefix: Option<Arc<str>>,
}
