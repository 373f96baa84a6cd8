//! What the model has and this version doesn't serve: refused with a name that users know, never dropped.

use std::{collections::HashMap, sync::OnceLock};

use prost_reflect::{DynamicMessage, ReflectMessage, Value};
#[cfg(feature = "explain")]
use prost_reflect::{EnumDescriptor, FieldDescriptor};

use super::{Violation, url};
use crate::{
    Object,
    core::service::spec::{Mode, config::upstream},
};

const PACKAGE: &str = "octelium.api.main.core.v1.";

/// Message → fields that are served.
static SUPPORTED: &str = include_str!("../supported.txt");

/// Features by message and field; a field without a row goes by its own name.
const FEATURES: &[(&str, &str)] = &[
    ("Service.Spec.isTLS", "TLS on a Service's own listener is"),
    ("Service.Spec.region", "regions are"),
    ("Service.Spec.deployment", "replicas of a Service are"),
    ("Service.Spec.Config.Upstream.user", "upstreams behind NAT (tunnels) are"),
    ("Service.Spec.Config.Upstream.container", "managed containers are"),
    ("Service.Spec.Config.Upstream.loadbalance", "load balancing between several upstreams is"),
    ("Service.Spec.Config.clientCertificate", "client certificates for upstreams are"),
    ("Service.Spec.Config.TLS.clientCertificate", "client certificates for upstreams are"),
    ("Service.Spec.Config.ssh", "SSH upstreams are"),
    ("Service.Spec.Config.postgres", "PostgreSQL upstreams are"),
    ("Service.Spec.Config.mysql", "MySQL upstreams are"),
    ("Service.Spec.Config.kubernetes", "Kubernetes upstreams are"),
    ("Service.Spec.Config.socks5", "SOCKS5 is"),
    ("Service.Spec.Config.rdp", "RDP is"),
    ("Service.Spec.Config.mcp", "MCP is"),
    ("Service.Spec.Config.llm", "the LLM gateway is"),
    ("Service.Spec.Config.HTTP.Plugin.extProc", "external processors (extProc) are"),
    ("Service.Spec.Config.HTTP.Plugin.lua", "Lua plugins are"),
    ("Service.Spec.Config.HTTP.Plugin.cache", "plugins of type cache are"),
    ("Service.Spec.Config.HTTP.Plugin.path", "plugins of type path (other than `http.path`) are"),
    ("Service.Spec.Config.HTTP.visibility", "bodies and headers in access logs are"),
    ("Service.Spec.Config.HTTP.retry", "retries are"),
    ("Service.Spec.Config.HTTP.Auth.oauth2ClientCredentials", "OAuth2 client credentials for upstreams are"),
    ("Service.Spec.Config.HTTP.Auth.sigv4", "AWS SigV4 signing is"),
    ("Service.Spec.Config.HTTP.Body.validation", "validation of bodies (JSON schema) is"),
    ("Service.Spec.DynamicConfig.Rule.opa", "configurations made by OPA are"),
    ("Condition.opa", "OPA policies are"),
    ("IdentityProvider.Spec.github", "log-ins with GitHub are"),
    ("IdentityProvider.Spec.oidc", "log-ins with OpenID Connect are"),
    ("IdentityProvider.Spec.saml", "log-ins with SAML are"),
    ("IdentityProvider.Spec.oidcIdentityToken", "log-ins with assertions of an OpenID provider are"),
    ("User.Spec.authentication", "identities at identity providers are"),
    ("ClusterConfig.Spec.ingress", "settings of the ingress are"),
    ("ClusterConfig.Spec.device", "Devices are"),
    ("ClusterConfig.Spec.gateway", "tunnels are"),
    ("ClusterConfig.Spec.dns", "DNS is"),
    ("ClusterConfig.Spec.authenticator", "Authenticators (MFA) are"),
    ("ClusterConfig.Spec.authentication", "geolocation is"),
];

/// What is set in `spec` and `data` and not served by this version.
pub fn unsupported(object: &Object) -> Vec<Violation> {
    let mut list = Vec::new();
    for (field, value) in object.dynamic().fields() {
        if let ("spec" | "data", Value::Message(message)) = (field.name(), value) {
            walk(field.name(), message, &mut list);
        }
    }
    if let Object::Service(service) = object
        && let Some(spec) = &service.spec
    {
        if let Some(message) = mode_refusal(Mode::try_from(spec.mode).unwrap_or_default()) {
            push(&mut list, "spec.mode", message);
        }
        let default = spec.config.iter().map(|config| ("spec.config".to_owned(), config));
        let named = spec.dynamic_config.iter().flat_map(|dynamic| dynamic.configs.iter().enumerate());
        let named = named.map(|(index, config)| (format!("spec.dynamicConfig.configs[{index}]"), config));
        for (path, config) in default.chain(named) {
            if let Some(upstream::Type::Url(text)) =
                config.upstream.as_ref().and_then(|upstream| upstream.r#type.as_ref())
                && let Ok(url) = url::upstream(text)
                && !matches!(url.scheme(), "http" | "https" | "ws" | "wss" | "h2c" | "grpc")
            {
                let message = format!(
                    "upstreams of scheme `{}` are not supported yet; http, https, ws, wss, h2c and grpc are",
                    url.scheme()
                );
                push(&mut list, &format!("{path}.upstream.url"), message);
            }
        }
    }
    list
}

/// Why a field of a resource's `spec` or `data` is refused if it is set; `None` if it is served.
#[cfg(feature = "explain")]
pub(crate) fn not_served(field: &FieldDescriptor) -> Option<String> {
    let message = field.parent_message().full_name().strip_prefix(PACKAGE)?;
    let full_name = format!("{message}.{}", field.name());
    (!is_listed(message, field.name())).then(|| refusal(&full_name, field.name()))
}

/// Why a value of an enum is refused; `None` if it is served.
#[cfg(feature = "explain")]
pub(crate) fn value_not_served(choices: &EnumDescriptor, number: i32) -> Option<String> {
    let is_mode = choices.full_name().strip_prefix(PACKAGE) == Some("Service.Spec.Mode");
    is_mode.then(|| mode_refusal(Mode::try_from(number).ok()?)).flatten()
}

fn mode_refusal(mode: Mode) -> Option<String> {
    let served = matches!(mode, Mode::Unset | Mode::Http | Mode::Web);
    (!served).then(|| format!("mode {} is not supported yet; HTTP and WEB are", mode.as_str_name()))
}

fn push(list: &mut Vec<Violation>, path: &str, message: String) {
    if list.len() < super::VIOLATIONS_MAX {
        list.push(Violation { path: path.to_owned(), message });
    }
}

fn walk(path: &str, message: &DynamicMessage, list: &mut Vec<Violation>) {
    let descriptor = message.descriptor();
    // Other packages hold durations, times and free-form objects.
    let Some(name) = descriptor.full_name().strip_prefix(PACKAGE) else { return };
    for (field, value) in message.fields() {
        let path = format!("{path}.{}", field.name());
        if !is_listed(name, field.name()) {
            push(list, &path, refusal(&format!("{name}.{}", field.name()), field.name()));
            continue;
        }
        match value {
            Value::Message(message) => walk(&path, message, list),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Message(message) = item {
                        walk(&format!("{path}[{index}]"), message, list);
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_listed(message: &str, field: &str) -> bool {
    static TABLE: OnceLock<HashMap<&str, Vec<&str>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        SUPPORTED
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'))
            .map(|(message, fields)| (message, fields.split_whitespace().collect()))
            .collect()
    });
    table.get(message).is_some_and(|fields| fields.contains(&field))
}

fn refusal(full_name: &str, field: &str) -> String {
    match FEATURES.iter().find(|(name, _)| *name == full_name) {
        Some((_, feature)) => format!("{feature} not supported yet"),
        None => format!("`{field}` is not supported yet"),
    }
}

#[cfg(test)]
mod tests;
