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
                    plugin::{Phase, RateLimit, Type, rate_limit},
                },
            },
        },
    },
    duration,
};

const PLUGINS_MAX: usize = 256;
const HEADERS_MAX: usize = 100;

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
            // Others are refused by name.
            Some(Type::RateLimit(limit)) => rate_limit(&format!("{path}.rateLimit"), limit, report),
            Some(_) => {}
            None => report.add(&path, "needs `rateLimit`"),
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
    direct::check_status(path, limit.status_code, report);
    if let Some(body) = &limit.body {
        let path = format!("{path}.body");
        match &body.r#type {
            Some(rate_limit::body::Type::Inline(text)) => {
                direct::check_body(&path, limit.status_code, &Body::Inline(text), report);
            }
            Some(rate_limit::body::Type::InlineBytes(bytes)) => {
                direct::check_body(&path, limit.status_code, &Body::InlineBytes(bytes), report);
            }
            None => report.add(&path, "needs `inline` or `inlineBytes`"),
        }
    }
    let path = format!("{path}.headers");
    if report.count(&path, limit.headers.len(), HEADERS_MAX) {
        for (index, header) in limit.headers.iter().enumerate() {
            headers::of_answer(&format!("{path}[{index}]"), &header.key, &header.value, report);
        }
    }
}
