//! Plugins of a configuration: steps of a request's way, in their order.

use std::collections::{HashMap, HashSet};

use super::{
    Report, access,
    direct::{self, Body},
    headers, values,
};
use crate::{
    config::DEFAULT,
    core::service::{
        Spec,
        spec::{
            Config,
            config::{
                Type as Protocol,
                http::{
                    Plugin,
                    plugin::{self, Direct, JsonSchema, Phase, RateLimit, Type, json_schema, rate_limit},
                },
            },
        },
    },
    duration,
};

const PLUGINS_MAX: usize = 256;
const HEADERS_MAX: usize = 100;
const SCHEMA_BYTES_MAX: usize = 30_000;

/// The plugins of one configuration, with those of its parent.
pub(super) fn check(path: &str, plugins: &[Plugin], report: &mut Report) {
    if !report.count(path, plugins.len(), PLUGINS_MAX) {
        return;
    }
    let mut seen = HashSet::new();
    for (index, plugin) in plugins.iter().enumerate() {
        let path = format!("{path}[{index}]");
        report.plain_name(&format!("{path}.name"), &plugin.name);
        if !plugin.name.is_empty() && !seen.insert(plugin.name.as_str()) {
            let message = format!("`{}` is given twice; a parent's plugins count, too", plugin.name);
            report.add(&format!("{path}.name"), message);
        }
        access::condition(&format!("{path}.condition"), plugin.condition.as_ref(), report);
        match &plugin.r#type {
            Some(Type::RateLimit(limit)) => rate_limit(&format!("{path}.rateLimit"), limit, report),
            Some(Type::JsonSchema(schema)) => json_schema(&format!("{path}.jsonSchema"), schema, report),
            Some(Type::Direct(direct)) => fixed(&format!("{path}.direct"), direct, report),
            // Others are refused by name.
            Some(_) => {}
            None => report.add(&path, "needs one of rateLimit, jsonSchema, direct"),
        }
    }
}

/// Before a caller is known, nothing has been chosen: only the default configuration has steps there.
pub(super) fn of_named(path: &str, plugins: &[Plugin], report: &mut Report) {
    for (index, plugin) in plugins.iter().enumerate().take(PLUGINS_MAX) {
        if plugin.phase() == Phase::PreAuth {
            let message = "only plugins of `spec.config` can be PRE_AUTH: the others are chosen later";
            report.add(&format!("{path}[{index}].phase"), message);
        }
    }
}

/// Plugins of one name count together, whichever configuration they stand in: two limits for one count would contradict
/// each other.
pub(super) fn agree(spec: &Spec, report: &mut Report) {
    let default = spec.config.iter().map(|config| ("spec.config".to_owned(), config));
    let named = spec.dynamic_config.iter().flat_map(|dynamic| dynamic.configs.iter().enumerate());
    let named = named.map(|(index, config)| (format!("spec.dynamicConfig.configs[{index}]"), config));
    let mut limits = HashMap::new();
    for (path, config) in default.chain(named) {
        for (index, name, limit) in rate_limits(config) {
            let window = limit.window.as_ref().and_then(duration::to_std);
            let (expected, place) = *limits.entry((name, window)).or_insert((limit.limit, config.name.as_str()));
            if expected != limit.limit {
                let place = if place.is_empty() { DEFAULT } else { place };
                let message = format!(
                    "`{name}` is counted together with the plugin of this name in `{place}`, which has the limit \
                     {expected}; give both the same limit, or this one another name"
                );
                report.add(&format!("{path}.http.plugins[{index}].rateLimit.limit"), message);
            }
        }
    }
}

fn rate_limits(config: &Config) -> impl Iterator<Item = (usize, &str, &RateLimit)> {
    let plugins = match &config.r#type {
        Some(Protocol::Http(http)) => http.plugins.as_slice(),
        _ => &[],
    };
    plugins.iter().enumerate().filter_map(|(index, plugin)| match &plugin.r#type {
        Some(Type::RateLimit(limit)) => Some((index, plugin.name.as_str(), limit)),
        _ => None,
    })
}

fn rate_limit(path: &str, limit: &RateLimit, report: &mut Report) {
    match limit.limit {
        0 => report.add(&format!("{path}.limit"), "missing: how many requests a window may have, 1 or more"),
        1.. => {}
        below => report.add(&format!("{path}.limit"), format!("found {below}: a window has 1 request or more")),
    }
    let window = format!("{path}.window");
    match &limit.window {
        None => report.add(&window, "missing: how far back requests are counted, like `minutes: 1`"),
        set => values::check_duration(&window, set.as_ref(), report),
    }
    if let Some(key) = &limit.key {
        let path = format!("{path}.key");
        match &key.r#type {
            Some(rate_limit::key::Type::Eval(text)) => {
                access::expression(&format!("{path}.eval"), text, access::EXPRESSION_BYTES_MAX, report);
            }
            Some(rate_limit::key::Type::PerSession(true) | rate_limit::key::Type::PerUser(true)) => {}
            Some(rate_limit::key::Type::PerSession(false)) => {
                report.add(&format!("{path}.perSession"), "write `true`, or leave `key` out");
            }
            Some(rate_limit::key::Type::PerUser(false)) => {
                report.add(&format!("{path}.perUser"), "write `true`, or leave `key` out");
            }
            None => report.add(&path, "needs one of eval, perSession, perUser"),
        }
    }
    let body = limit.body.as_ref().map(|body| match &body.r#type {
        Some(rate_limit::body::Type::Inline(text)) => Some(Body::Inline(text)),
        Some(rate_limit::body::Type::InlineBytes(bytes)) => Some(Body::InlineBytes(bytes)),
        None => None,
    });
    let headers = limit.headers.iter().map(|header| (header.key.as_str(), header.value.as_str()));
    answer(path, limit.status_code, body, headers, report);
}

/// The schema itself is compiled where it is used.
fn json_schema(path: &str, schema: &JsonSchema, report: &mut Report) {
    match &schema.r#type {
        Some(json_schema::Type::Inline(text)) if text.is_empty() => {
            report.add(&format!("{path}.inline"), "missing: the JSON Schema, as text");
        }
        Some(json_schema::Type::Inline(text)) => report.length(&format!("{path}.inline"), text, SCHEMA_BYTES_MAX),
        None => report.add(path, "needs `inline`: the JSON Schema, as text"),
    }
    let body = schema.body.as_ref().map(|body| match &body.r#type {
        Some(json_schema::body::Type::Inline(text)) => Some(Body::Inline(text)),
        Some(json_schema::body::Type::InlineBytes(bytes)) => Some(Body::InlineBytes(bytes)),
        None => None,
    });
    let headers = schema.headers.iter().map(|header| (header.key.as_str(), header.value.as_str()));
    answer(path, schema.status_code, body, headers, report);
}

fn fixed(path: &str, direct: &Direct, report: &mut Report) {
    let body = direct.body.as_ref().map(|body| match &body.r#type {
        Some(plugin::direct::body::Type::Inline(text)) => Some(Body::Inline(text)),
        Some(plugin::direct::body::Type::InlineBytes(bytes)) => Some(Body::InlineBytes(bytes)),
        None => None,
    });
    let headers = direct.headers.iter().map(|header| (header.key.as_str(), header.value.as_str()));
    answer(path, direct.status_code, body, headers, report);
}

/// What a plugin answers. `body`: the block, with what it has.
fn answer<'h>(
    path: &str,
    status: i32,
    body: Option<Option<Body<'_>>>,
    headers: impl ExactSizeIterator<Item = (&'h str, &'h str)>,
    report: &mut Report,
) {
    direct::check_status(path, status, report);
    match body {
        None => {}
        Some(Some(body)) => direct::check_body(&format!("{path}.body"), status, &body, report),
        Some(None) => report.add(&format!("{path}.body"), "needs `inline` or `inlineBytes`"),
    }
    let path = format!("{path}.headers");
    if report.count(&path, headers.len(), HEADERS_MAX) {
        for (index, (name, value)) in headers.enumerate() {
            headers::of_answer(&format!("{path}[{index}]"), name, value, report);
        }
    }
}
