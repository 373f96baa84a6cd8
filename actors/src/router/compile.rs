//! From a Service resource to a [`Route`], or to all that is wrong with it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use http::{HeaderName, HeaderValue};
use octelium_api::{
    Kind, Object,
    core::{
        Service,
        service::{
            Spec, spec,
            spec::{
                config::http::plugin::{Phase, Type},
                dynamic_config::rule,
            },
        },
    },
};
use octelium_consensus::{State, Stored};
use octelium_policy::{Condition, Expression, PathIndex, Reads};
use url::Url;

use super::{
    cors::Cors,
    direct::Direct,
    header_rules::HeaderRules,
    plugins::{self, Action, Plugin},
    route::{
        Access, Body, Choice, ConfigRule, EffectiveConfig, PathRewrite, Route, Scheme, Tls, Upstream, UpstreamAuth,
    },
};
use crate::{policies::Library, subject::Resource};

/// Where a buffered body has no limit of its own.
const BODY_BYTES_DEFAULT: usize = 32 << 20;
/// No setting allows more.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field.
    pub path: String,
    /// A sentence.
    pub message: String,
}

impl From<octelium_policy::Error> for Problem {
    fn from(error: octelium_policy::Error) -> Self {
        Self { path: error.path.clone(), message: error.to_string() }
    }
}

/// A condition that stands in a Service or Policy may not compile: the same check before it enters the log and after.
///
/// # Errors
/// All problems at once.
pub fn check(service: &Service) -> Result<(), Vec<Problem>> {
    let spec = service.spec.clone().unwrap_or_default();
    let mut problems = Vec::new();
    configs(&spec, &mut Upstreams::default(), &mut problems);
    cors(&spec, &mut problems);
    pre_auth(&spec, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Header rules of all named configurations of a Service together.
const HEADER_RULES_MAX: usize = 20_000;
/// Plugins of all named configurations of a Service together.
const PLUGINS_MAX: usize = 4_000;

/// Compiles; what is wrong makes a Route that refuses.
pub fn route(
    state: &State,
    library: &Library,
    upstreams: &mut Upstreams,
    domain: &str,
    stored: &Arc<Stored>,
) -> Option<Route> {
    let Object::Service(service) = &stored.object else { return None };
    let spec = service.spec.clone().unwrap_or_default();
    let name = stored.object.name();
    let (_, namespace_name) = name.split_once('.')?;
    let namespace = state.by_name(Kind::Namespace, namespace_name);
    let mut problems = Vec::new();
    let (config, rules) = configs(&spec, upstreams, &mut problems);
    let cors = cors(&spec, &mut problems);
    let pre_auth = pre_auth(&spec, &mut problems);

    let authorization = spec.authorization.clone().unwrap_or_default();
    let mut collected =
        library.collect(state, &authorization.policies, &authorization.inline_policies, &stored.object.reference());
    match namespace.map(|namespace| (&namespace.object, namespace)) {
        Some((Object::Namespace(resource), namespace)) => {
            let authorization = resource.spec.clone().unwrap_or_default().authorization.unwrap_or_default();
            collected.extend(library.collect(
                state,
                &authorization.policies,
                &authorization.inline_policies,
                &namespace.object.reference(),
            ));
        }
        _ => problems.push(Problem {
            path: "metadata.name".into(),
            message: format!("Namespace `{namespace_name}` is missing"),
        }),
    }
    if let Some(cluster) = state.list(Kind::ClusterConfig).next()
        && let Object::ClusterConfig(resource) = &cluster.object
    {
        let authorization = resource.spec.clone().unwrap_or_default().authorization.unwrap_or_default();
        collected.extend(library.collect(
            state,
            &authorization.policies,
            &authorization.inline_policies,
            &cluster.object.reference(),
        ));
    }

    let access = match (spec.is_anonymous, authorization.enable_anonymous) {
        (false, _) => Access::Session,
        (true, false) => Access::Anonymous,
        (true, true) => Access::AnonymousWithPolicy,
    };
    let mut reads = Reads::default();
    if access != Access::Anonymous {
        reads = collected.policies.iter().fold(reads, |reads, policy| reads | policy.reads());
    }
    reads = rules.iter().fold(reads, |reads, rule| match &rule.choice {
        Choice::Named(named) => reads | rule.condition.reads() | config_reads(named.as_ref()),
        Choice::Generated(expression) => reads | rule.condition.reads() | expression.reads(),
    });
    reads |= config_reads(config.as_ref());
    let http = spec.config.as_ref().and_then(http_of);
    Some(Route {
        uid: stored.object.reference().uid.into(),
        reference: stored.object.reference(),
        namespace: namespace.map(|namespace| namespace.object.reference()).unwrap_or_default(),
        service: Resource::new(stored.clone()),
        namespace_subject: namespace.map(|namespace| Resource::new(namespace.clone())),
        mode: spec.mode(),
        fqdn: octelium_api::name::hosts(name, domain).public_fqdn.into(),
        is_public: spec.is_public,
        is_disabled: spec.is_disabled,
        access,
        policies: collected.policies,
        names_policies: collected.names_policies,
        reads,
        cors: cors.map(Box::new),
        body: body(http),
        pre_auth: pre_auth.into(),
        revision: state.index(),
        config,
        rule_index: PathIndex::new(rules.iter().map(|rule| &rule.condition)),
        rules: rules.into(),
        broken: problems.first().map(|problem| format!("{}: {}", problem.path, problem.message).into()),
    })
}

fn http_of(config: &spec::Config) -> Option<&spec::config::Http> {
    match &config.r#type {
        Some(spec::config::Type::Http(http)) => Some(http),
        _ => None,
    }
}

fn config_reads(config: Option<&Arc<EffectiveConfig>>) -> Reads {
    config.map_or_else(Reads::default, |config| config.reads())
}

/// Always of the default configuration: a browser asks before anything is known that could choose another one.
fn cors(spec: &Spec, problems: &mut Vec<Problem>) -> Option<Cors> {
    let block = spec.config.as_ref().and_then(http_of)?.cors.as_ref()?;
    Some(Cors::compile(block, "spec.config.http.cors", problems))
}

/// Always of the default configuration: nothing is known yet that could choose another one.
fn pre_auth(spec: &Spec, problems: &mut Vec<Problem>) -> Vec<Plugin> {
    let blocks = spec.config.as_ref().and_then(http_of).map_or(&[][..], |http| &http.plugins);
    plugins::compile(blocks, true, "spec.config.http.plugins", problems)
}

fn body(http: Option<&spec::config::Http>) -> Body {
    let settings = http.and_then(|http| http.body.as_ref());
    let limit = settings.map_or(0, |body| body.max_request_size as usize);
    Body {
        buffer: http.is_some_and(|http| http.enable_request_buffering),
        json: settings.is_some_and(|body| body.mode() == spec::config::http::body::Mode::Json),
        bytes_max: if limit == 0 { BODY_BYTES_DEFAULT } else { limit.min(BODY_BYTES_MAX) },
    }
}

fn rule_count(header: &spec::config::http::Header) -> usize {
    header.add_request_headers.len()
        + header.remove_request_headers.len()
        + header.add_response_headers.len()
        + header.remove_response_headers.len()
}

type Configs = (Option<Arc<EffectiveConfig>>, Vec<ConfigRule>);

fn configs(service: &Spec, upstreams: &mut Upstreams, problems: &mut Vec<Problem>) -> Configs {
    let default = service.config.as_ref().map(|config| Arc::new(effective(config, "spec.config", upstreams, problems)));
    let Some(dynamic) = &service.dynamic_config else { return (default, Vec::new()) };
    let mut named = HashMap::new();
    let (mut header_rules, mut plugins) = (0, 0);
    for (index, config) in dynamic.configs.iter().enumerate() {
        let path = format!("spec.dynamicConfig.configs[{index}]");
        let merged = octelium_api::config::effective(service, &config.name).unwrap_or_else(|| config.clone());
        // What a parent has, each of its children has: few lines can become many rules.
        header_rules += http_of(&merged).and_then(|http| http.header.as_ref()).map_or(0, rule_count);
        if header_rules > HEADER_RULES_MAX {
            let message = format!(
                "the configurations have more than {HEADER_RULES_MAX} header rules together, with those of parents"
            );
            problems.push(Problem { path, message });
            return (default, Vec::new());
        }
        plugins += http_of(&merged).map_or(0, |http| http.plugins.len());
        if plugins > PLUGINS_MAX {
            let message =
                format!("the configurations have more than {PLUGINS_MAX} plugins together, with those of parents");
            problems.push(Problem { path, message });
            return (default, Vec::new());
        }
        named.insert(config.name.clone(), Arc::new(effective(&merged, &path, upstreams, problems)));
    }
    let mut rules = Vec::new();
    for (index, rule) in dynamic.rules.iter().enumerate() {
        let path = format!("spec.dynamicConfig.rules[{index}]");
        let condition = rule.condition.clone().unwrap_or_default();
        let choice = match &rule.r#type {
            Some(rule::Type::ConfigName(name)) if name.is_empty() || name == "default" => {
                Choice::Named(default.clone())
            }
            Some(rule::Type::ConfigName(name)) => {
                if !named.contains_key(name) {
                    problems.push(Problem {
                        path: format!("{path}.configName"),
                        message: format!("no config is named `{name}`"),
                    });
                }
                Choice::Named(named.get(name).cloned())
            }
            Some(rule::Type::Eval(text)) => match Expression::compile_map(text, &format!("{path}.eval")) {
                Ok(expression) => Choice::Generated(Box::new(expression)),
                Err(errors) => {
                    problems.extend(errors.into_iter().map(Problem::from));
                    continue;
                }
            },
            _ => {
                problems.push(Problem { path: path.clone(), message: "needs `configName` or `eval`".into() });
                continue;
            }
        };
        match Condition::compile(&condition, &format!("{path}.condition")) {
            Ok(condition) => rules.push(ConfigRule { condition, choice }),
            Err(errors) => problems.extend(errors.into_iter().map(Problem::from)),
        }
    }
    (default, rules)
}

/// The configuration that an expression made, under the rules for configurations that are written.
///
/// # Errors
/// A sentence, if it isn't one.
pub fn generated(service: &Service, value: &serde_json::Value) -> Result<EffectiveConfig, String> {
    let written = service.spec.clone().unwrap_or_default();
    let document = serde_json::json!({
        "kind": "Service",
        "metadata": { "name": "generated" },
        "spec": { "mode": written.mode().as_str_name(), "config": value },
    });
    let first = |errors: Vec<String>| errors.into_iter().next().unwrap_or_default();
    let parsed = octelium_api::manifest::from_json(Kind::Service, &document)
        .map_err(|errors| first(errors.iter().map(ToString::to_string).collect()))?;
    let Object::Service(mut parsed) = parsed else { return Err("not a configuration".into()) };
    let spec = parsed.spec.get_or_insert_default();
    let mut config = spec.config.take().unwrap_or_default();
    if let Some(http) = http_of(&config)
        && (http.enable_request_buffering || http.body.is_some() || http.cors.is_some())
    {
        return Err("http.enableRequestBuffering, http.body and http.cors can only be set in `spec.config`".into());
    }
    if http_of(&config).is_some_and(|http| http.plugins.iter().any(|plugin| plugin.phase() == Phase::PreAuth)) {
        return Err("only plugins of `spec.config` can be PRE_AUTH".into());
    }
    if !config.parent.is_empty() {
        let parent = octelium_api::config::find(&written, &config.parent);
        let parent = parent.ok_or_else(|| format!("its parent `{}` does not exist", config.parent))?;
        config = octelium_api::config::merge(parent, &config);
    }
    let name = std::mem::take(&mut config.name);
    config.parent.clear();
    spec.config = Some(config.clone());
    let object = Object::Service(parsed);
    let mut violations = octelium_api::validate::check(&object, std::time::UNIX_EPOCH);
    violations.extend(octelium_api::validate::unsupported(&object));
    if let Some(violation) = violations.first() {
        return Err(violation.to_string());
    }
    config.name = if name.is_empty() { "generated".into() } else { name };
    let mut problems = Vec::new();
    let mut config = effective(&config, "config", &mut Upstreams::default(), &mut problems);
    if let Some(problem) = problems.first() {
        return Err(format!("{}: {}", problem.path, problem.message));
    }
    let reads = config.reads();
    let is_buffered = written.config.as_ref().and_then(http_of).is_some_and(|http| http.enable_request_buffering);
    if (reads.body || reads.body_map) && !is_buffered {
        return Err(
            "an expression of it reads the body, which is only there with `enableRequestBuffering` in `spec.config`"
                .into(),
        );
    }
    counters_of_generated(&mut config, &written)?;
    Ok(config)
}

/// A limit that was made for a request may differ from one request to the next: what has another limit is counted apart.
/// Plugins that are written down are what they are everywhere.
fn counters_of_generated(config: &mut EffectiveConfig, written: &Spec) -> Result<(), String> {
    let named = written.dynamic_config.iter().flat_map(|dynamic| &dynamic.configs);
    let blocks = written.config.iter().chain(named).filter_map(http_of).flat_map(|http| &http.plugins);
    let written: HashMap<_, _> = blocks
        .filter_map(|block| match &block.r#type {
            Some(Type::RateLimit(limit)) => {
                let window = limit.window.as_ref().and_then(octelium_api::duration::to_std)?;
                Some(((block.name.as_str(), window), limit.limit))
            }
            _ => None,
        })
        .collect();
    for plugin in &mut config.plugins {
        let Action::RateLimit(limit) = &mut plugin.action else { continue };
        match written.get(&(&*plugin.name, limit.window)) {
            None => limit.counter = format!("{}\n{}", plugin.name, limit.limit).into(),
            Some(written) if u64::try_from(*written) == Ok(limit.limit) => {}
            Some(written) => {
                return Err(format!("its plugin `{}` has another limit than the written one: {written}", plugin.name));
            }
        }
    }
    Ok(())
}

fn effective(
    config: &spec::Config,
    path: &str,
    upstreams: &mut Upstreams,
    problems: &mut Vec<Problem>,
) -> EffectiveConfig {
    let http = http_of(config);
    EffectiveConfig {
        name: if config.name.is_empty() { "default".into() } else { config.name.as_str().into() },
        upstream: config.upstream.as_ref().and_then(|upstream| match &upstream.r#type {
            Some(spec::config::upstream::Type::Url(url)) => {
                match self::upstream(url, config.tls.as_ref(), is_upstream_http2(config)) {
                    Ok(upstream) => Some(upstreams.share(upstream)),
                    Err(message) => {
                        problems.push(Problem { path: format!("{path}.upstream.url"), message });
                        None
                    }
                }
            }
            _ => None,
        }),
        auth: match http.and_then(|http| http.auth.as_ref()).map(auth).transpose() {
            Ok(auth) => auth.flatten().map(Box::new),
            Err(message) => {
                problems.push(Problem { path: format!("{path}.http.auth"), message });
                None
            }
        },
        path: http.and_then(|http| http.path.as_ref()).and_then(rewrite).map(Box::new),
        headers: http
            .and_then(|http| http.header.as_ref())
            .map(|block| HeaderRules::compile(block, &format!("{path}.http.header"), problems)),
        plugins: http
            .map(|http| plugins::compile(&http.plugins, false, &format!("{path}.http.plugins"), problems))
            .unwrap_or_default()
            .into(),
        direct: direct(http).map(|direct| direct.map(Box::new)).unwrap_or_else(|message| {
            problems.push(Problem { path: format!("{path}.http.response.direct"), message });
            None
        }),
    }
}

fn direct(http: Option<&spec::config::Http>) -> Result<Option<Direct>, String> {
    let response = http.and_then(|http| http.response.as_ref()).and_then(|response| response.r#type.as_ref());
    match response {
        Some(spec::config::http::response::Type::Direct(block)) => Direct::compile(block).map(Some),
        None => Ok(None),
    }
}

fn is_upstream_http2(config: &spec::Config) -> bool {
    http_of(config).is_some_and(|http| http.is_upstream_http2)
}

/// `wants_http2` is about TLS alone: in the clear, HTTP/2 has schemes of its own.
fn upstream(text: &str, tls: Option<&spec::config::Tls>, wants_http2: bool) -> Result<Upstream, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    let (scheme, is_http2) = match url.scheme() {
        "http" | "ws" => (Scheme::Http, false),
        "h2c" | "grpc" => (Scheme::Http, true),
        "https" | "wss" => (Scheme::Https, wants_http2),
        other => return Err(format!("scheme `{other}` is not supported; use http, https, ws, wss, h2c or grpc")),
    };
    let host = match url.host() {
        Some(url::Host::Domain(domain)) => domain.to_owned(),
        Some(url::Host::Ipv4(address)) => address.to_string(),
        Some(url::Host::Ipv6(address)) => address.to_string(),
        None => return Err(format!("`{text}` has no host")),
    };
    let implied = || octelium_api::validate::url::default_port(url.scheme());
    let port = url.port_or_known_default().or_else(implied).ok_or("a port is needed")?;
    let shown = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}"));
    let tls = tls.map_or_else(Tls::default, |tls| Tls {
        trusted_cas: tls.trusted_c_as.clone(),
        append_to_system: tls.append_to_system_pool,
        insecure_skip_verify: tls.insecure_skip_verify,
        is_http2: false,
    });
    let tls = Tls { is_http2, ..tls };
    // Two https upstreams share connections only if they would have been verified alike.
    let pool_key = match scheme {
        Scheme::Http => format!("http://{host}:{port}"),
        Scheme::Https => format!("https://{host}:{port} {}", fingerprint(&tls)),
    };
    Ok(Upstream {
        scheme,
        is_http2,
        authority: HeaderValue::from_str(&authority).map_err(|_| format!("`{authority}` can't be a Host header"))?,
        host: host.into(),
        port,
        tls: Arc::new(tls),
        pool_key: pool_key.into(),
    })
}

/// The settings themselves, so that different ones never meet.
fn fingerprint(tls: &Tls) -> String {
    format!("{} {} {}", tls.append_to_system, tls.insecure_skip_verify, tls.trusted_cas.join(" "))
}

fn auth(auth: &spec::config::http::Auth) -> Result<Option<UpstreamAuth>, String> {
    use spec::config::http::auth::{Type, basic, bearer, custom};
    Ok(Some(match &auth.r#type {
        None => return Ok(None),
        Some(Type::Bearer(bearer)) => match &bearer.r#type {
            Some(bearer::Type::FromSecret(name)) => UpstreamAuth::Bearer { secret: name.as_str().into() },
            None => return Err("bearer needs `fromSecret`".into()),
        },
        Some(Type::Basic(basic)) => match basic.password.as_ref().and_then(|password| password.r#type.as_ref()) {
            Some(basic::password::Type::FromSecret(name)) => {
                UpstreamAuth::Basic { username: basic.username.as_str().into(), secret: name.as_str().into() }
            }
            None => return Err("basic needs `password.fromSecret`".into()),
        },
        Some(Type::Custom(custom)) => match custom.value.as_ref().and_then(|value| value.r#type.as_ref()) {
            Some(custom::value::Type::FromSecret(name)) => UpstreamAuth::Custom {
                header: HeaderName::from_bytes(custom.header.as_bytes())
                    .map_err(|_| format!("`{}` can't be a header's name", custom.header))?,
                secret: name.as_str().into(),
            },
            None => return Err("custom needs `value.fromSecret`".into()),
        },
        Some(_) => return Err("only bearer, basic and custom are supported yet".into()),
    }))
}

fn rewrite(path: &spec::config::http::Path) -> Option<PathRewrite> {
    let some = |text: &str| (!text.is_empty()).then(|| text.into());
    let rewrite = PathRewrite { remove_prefix: some(&path.remove_prefix), add_prefix: some(&path.add_prefix) };
    (rewrite != PathRewrite::default()).then_some(rewrite)
}

/// The upstreams of all Services, each once: a thousand Services in front of one server need its address once.
#[derive(Default)]
pub struct Upstreams {
    known: HashSet<Arc<Upstream>>,
    tidy_at: usize,
}

impl Upstreams {
    fn share(&mut self, upstream: Upstream) -> Arc<Upstream> {
        if let Some(known) = self.known.get(&upstream) {
            return known.clone();
        }
        if self.known.len() >= self.tidy_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.tidy_at = 2 * self.known.len() + 64;
        }
        let upstream = Arc::new(upstream);
        self.known.insert(upstream.clone());
        upstream
    }
}
