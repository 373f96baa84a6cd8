//! Services: listener, exposure, configurations and how one is chosen.

use std::collections::HashSet;

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{Report, access, cors, direct, headers, plugins, url, values};
use crate::{
    config,
    core::service::{
        Spec,
        spec::{
            Config, DynamicConfig, Mode,
            config::{Http, Tls, Type as Protocol, http, http::auth, upstream},
            dynamic_config::rule,
        },
    },
    name,
};

/// Taken by health checks.
const RESERVED_PORTS: [u32; 2] = [49_094, 49_095];
const CONFIGS_MAX: usize = 1000;
const TRUSTED_CAS_MAX: usize = 32;
/// What a buffered body may have at most.
const BODY_BYTES_MAX: u32 = 64 * 1024 * 1024;
pub(super) fn check(spec: &Spec, report: &mut Report) {
    let mode = Mode::try_from(spec.mode).unwrap_or_default();
    if spec.mode == Mode::Unset as i32 {
        report.add("spec.mode", "missing: HTTP or WEB");
    }
    if spec.port > 65_535 {
        report.add("spec.port", format!("{} is out of range; 1 to 65535", spec.port));
    } else if RESERVED_PORTS.contains(&spec.port) {
        report.add("spec.port", format!("{} is reserved for health checks", spec.port));
    }
    exposure(spec, mode, report);
    values::attrs("spec.attrs", spec.attrs.as_ref(), report);
    if spec.config.is_none() && spec.dynamic_config.is_none() {
        report.add("spec", "needs `config` or `dynamicConfig`");
    }
    if let Some(config) = &spec.config {
        if !matches!(config.name.as_str(), "" | config::DEFAULT) {
            report.add("spec.config.name", "the default configuration is called `default`");
        }
        if !config.parent.is_empty() {
            report.add("spec.config.parent", "the default configuration can't have a parent");
        }
        check_config("spec.config", config, mode, spec, report);
    }
    if let Some(dynamic) = &spec.dynamic_config {
        check_dynamic(dynamic, mode, spec, report);
    }
    plugins::agree(spec, report);
}

fn exposure(spec: &Spec, mode: Mode, report: &mut Report) {
    use Mode::{Grpc, Http, Kubernetes, Llm, Mcp, RdpWeb, Unset, Web};
    let enable_anonymous = spec.authorization.as_ref().is_some_and(|authorization| authorization.enable_anonymous);
    // Without a mode there is a violation already.
    if spec.is_public && !matches!(mode, Http | Web | Grpc | Kubernetes | RdpWeb | Mcp | Llm | Unset) {
        report.add("spec.isPublic", format!("a Service of mode {} can't be public", mode.as_str_name()));
    }
    if spec.is_anonymous {
        if !spec.is_public {
            report.add("spec.isAnonymous", "needs `isPublic: true`");
        }
        if !matches!(mode, Http | Web | Grpc | Mcp | Llm | Unset) {
            report.add("spec.isAnonymous", format!("a Service of mode {} can't be anonymous", mode.as_str_name()));
        }
        if spec.authorization.is_some() && !enable_anonymous {
            report.add(
                "spec.authorization",
                "an anonymous Service evaluates no Policies; set `enableAnonymous: true` or leave it out",
            );
        }
    } else if enable_anonymous {
        report.add("spec.authorization.enableAnonymous", "needs `isAnonymous: true`");
    }
    if let Some(list) = &spec.authorization {
        access::authorization("spec.authorization", &list.policies, &list.inline_policies, report);
    }
}

fn check_dynamic(dynamic: &DynamicConfig, mode: Mode, spec: &Spec, report: &mut Report) {
    let generated =
        dynamic.rules.iter().any(|rule| matches!(rule.r#type, Some(rule::Type::Eval(_) | rule::Type::Opa(_))));
    if dynamic.configs.is_empty() && !generated {
        report.add("spec.dynamicConfig.configs", "missing: at least one configuration to choose");
    }
    if report.count("spec.dynamicConfig.configs", dynamic.configs.len(), CONFIGS_MAX) {
        let mut seen = HashSet::new();
        for (index, config) in dynamic.configs.iter().enumerate() {
            let path = format!("spec.dynamicConfig.configs[{index}]");
            let name = config.name.as_str();
            report.plain_name(&format!("{path}.name"), name);
            if name == config::DEFAULT {
                report.add(&format!("{path}.name"), "`default` is the name of `spec.config`");
            } else if !name.is_empty() && !seen.insert(name) {
                report.add(&format!("{path}.name"), format!("`{name}` is given twice"));
            }
            if let Some(Protocol::Http(http)) = &config.r#type {
                of_default(&format!("{path}.http"), http, report);
            }
            match parent(config, spec) {
                Ok(None) => check_config(&path, config, mode, spec, report),
                Ok(Some(parent)) => check_config(&path, &config::merge(parent, config), mode, spec, report),
                Err(message) => report.add(&format!("{path}.parent"), message),
            }
        }
    }
    if report.count("spec.dynamicConfig.rules", dynamic.rules.len(), CONFIGS_MAX) {
        for (index, rule) in dynamic.rules.iter().enumerate() {
            let path = format!("spec.dynamicConfig.rules[{index}]");
            access::condition(&format!("{path}.condition"), rule.condition.as_ref(), report);
            match &rule.r#type {
                Some(rule::Type::ConfigName(name)) if config::find(spec, name).is_none() || name.is_empty() => {
                    report.add(&format!("{path}.configName"), format!("there is no configuration `{}`", shown(name)));
                }
                Some(rule::Type::Eval(text)) => {
                    access::expression(&format!("{path}.eval"), text, access::EXPRESSION_BYTES_MAX, report);
                }
                Some(_) => {}
                None => report.add(&path, "needs `configName` or `eval`"),
            }
        }
    }
}

/// What happens before a configuration is chosen can't be set by one.
fn of_default(path: &str, http: &Http, report: &mut Report) {
    for (member, is_set, when) in [
        ("enableRequestBuffering", http.enable_request_buffering, "bodies are read"),
        ("body", http.body.is_some(), "bodies are read"),
        ("cors", http.cors.is_some(), "browsers' questions are answered"),
    ] {
        if is_set {
            let message = format!("only `spec.config` can set this: {when} before a configuration is chosen");
            report.add(&format!("{path}.{member}"), message);
        }
    }
    plugins::of_named(&format!("{path}.plugins"), &http.plugins, report);
}

/// The parent that a named configuration is laid over.
fn parent<'s>(config: &Config, spec: &'s Spec) -> Result<Option<&'s Config>, String> {
    let name = config.parent.as_str();
    if name.is_empty() {
        return Ok(None);
    }
    if name == config.name {
        return Err("a configuration can't be its own parent".to_owned());
    }
    let Some(parent) = config::find(spec, name) else {
        return Err(format!("there is no configuration `{}`", shown(name)));
    };
    if name != config::DEFAULT && !parent.parent.is_empty() {
        return Err(format!(
            "`{name}` has a parent itself; a configuration is laid over one other, not over a chain or in a circle"
        ));
    }
    Ok(Some(parent))
}

fn shown(name: &str) -> &str {
    // Names are short; anything longer isn't worth repeating.
    if name.len() <= 128 { name } else { "…" }
}

fn check_config(path: &str, config: &Config, mode: Mode, spec: &Spec, report: &mut Report) {
    if let Some(upstream) = &config.upstream {
        match &upstream.r#type {
            Some(upstream::Type::Url(text)) => {
                if let Err(message) = url::upstream(text) {
                    report.add(&format!("{path}.upstream.url"), message);
                }
            }
            Some(upstream::Type::Loadbalance(_) | upstream::Type::Container(_)) => {}
            None => report.add(&format!("{path}.upstream"), "needs `url`"),
        }
        if !upstream.user.is_empty() && !name::is_plain(&upstream.user) {
            report.plain_name(&format!("{path}.upstream.user"), &upstream.user);
        }
    }
    if let Some(tls) = &config.tls {
        check_tls(&format!("{path}.tls"), tls, report);
    }
    if let Some(Protocol::Http(http)) = &config.r#type {
        if !matches!(mode, Mode::Http | Mode::Web | Mode::Grpc | Mode::Unset) {
            report.add(&format!("{path}.http"), format!("doesn't fit mode {}", mode.as_str_name()));
        }
        check_http(&format!("{path}.http"), http, spec, report);
    }
}

fn check_tls(path: &str, tls: &Tls, report: &mut Report) {
    let path = format!("{path}.trustedCAs");
    if report.count(&path, tls.trusted_c_as.len(), TRUSTED_CAS_MAX) {
        for (index, pem) in tls.trusted_c_as.iter().enumerate() {
            let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
            if certificates.peek().is_none() || certificates.any(|certificate| certificate.is_err()) {
                report.add(
                    &format!("{path}[{index}]"),
                    "not a certificate in PEM form (`-----BEGIN CERTIFICATE-----` …)",
                );
            }
        }
    }
}

fn check_http(path: &str, http: &Http, spec: &Spec, report: &mut Report) {
    if let Some(auth) = &http.auth {
        check_auth(&format!("{path}.auth"), auth, report);
    }
    if let Some(rewrite) = &http.path {
        for (name, value) in [("addPrefix", &rewrite.add_prefix), ("removePrefix", &rewrite.remove_prefix)] {
            if !value.is_empty()
                && let Err(message) = url::rewrite_path(value)
            {
                report.add(&format!("{path}.path.{name}"), message);
            }
        }
    }
    if let Some(body) = &http.body {
        let buffering = spec.config.as_ref().is_some_and(
            |config| matches!(&config.r#type, Some(Protocol::Http(http)) if http.enable_request_buffering),
        );
        if !buffering {
            report.add(&format!("{path}.body"), "needs `spec.config.http.enableRequestBuffering: true`");
        }
        if body.max_request_size > BODY_BYTES_MAX {
            report.add(
                &format!("{path}.body.maxRequestSize"),
                format!("{} is too large; at most {BODY_BYTES_MAX}", body.max_request_size),
            );
        }
    }
    if let Some(header) = &http.header {
        headers::check(&format!("{path}.header"), header, report);
    }
    if let Some(cors) = &http.cors {
        cors::check(&format!("{path}.cors"), cors, report);
    }
    plugins::check(&format!("{path}.plugins"), &http.plugins, report);
    if let Some(response) = &http.response {
        match &response.r#type {
            Some(http::response::Type::Direct(direct)) => {
                direct::check(&format!("{path}.response.direct"), direct, report);
            }
            None => report.add(&format!("{path}.response"), "needs `direct`"),
        }
    }
}

fn check_auth(path: &str, auth: &http::Auth, report: &mut Report) {
    let mut secret = |member: &str, name: Option<&String>| {
        report.plain_name(&format!("{path}.{member}.fromSecret"), name.map_or("", String::as_str));
    };
    match &auth.r#type {
        None => report.add(path, "needs one of bearer, basic, custom"),
        Some(auth::Type::Bearer(bearer)) => {
            secret("bearer", bearer.r#type.as_ref().map(|auth::bearer::Type::FromSecret(name)| name));
        }
        Some(auth::Type::Basic(basic)) => {
            let password = basic.password.as_ref().and_then(|password| password.r#type.as_ref());
            secret("basic.password", password.map(|auth::basic::password::Type::FromSecret(name)| name));
            let path = format!("{path}.basic.username");
            if basic.username.is_empty() {
                report.add(&path, "missing");
            } else if !basic.username.bytes().all(|byte| matches!(byte, b' '..=b'~')) || basic.username.contains(':') {
                // RFC 7617 §2: the first colon ends the name.
                report.add(&path, "only printable ASCII characters other than `:`");
            }
            report.length(&path, &basic.username, 150);
        }
        Some(auth::Type::Custom(custom)) => {
            let value = custom.value.as_ref().and_then(|value| value.r#type.as_ref());
            secret("custom.value", value.map(|auth::custom::value::Type::FromSecret(name)| name));
            let path = format!("{path}.custom.header");
            headers::credential_name(&path, &custom.header, report);
        }
        Some(auth::Type::Oauth2ClientCredentials(_) | auth::Type::Sigv4(_)) => {}
    }
}
