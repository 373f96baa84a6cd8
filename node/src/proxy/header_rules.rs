//! Applies the `header` block of the chosen configuration.

use http::{HeaderValue, header};
use octelium_actors::router::{
    Access, EffectiveConfig, HeaderRules, Route, Upstream,
    header_rules::{Authorization, Forwarded, HeaderEdits, Host, Text},
};
use octelium_http1::Headers;
use octelium_policy::{Budget, Context, Expression, Value};

use super::{
    exchange::Exchange,
    forwarded,
    respond::{Code, Rejection},
    scrub::Keep,
};

/// No value that an expression makes is longer.
const VALUE_BYTES_MAX: usize = 8192;

/// What the expressions made for one request, in the order of their rules.
#[derive(Debug, Default)]
pub struct Made {
    request: Vec<HeaderValue>,
    response: Vec<HeaderValue>,
    host: Option<HeaderValue>,
}

/// Runs all expressions, before anything is sent: what can't be made is not left out.
///
/// # Errors
/// `HEADER_INVALID`, if one fails or makes something else than a header's value.
pub fn make(config: &EffectiveConfig, context: &Context<'_>) -> Result<Made, Rejection> {
    let mut made = Made::default();
    let Some(rules) = config.headers.as_ref().filter(|rules| rules.has_evals) else { return Ok(made) };
    let mut budget = Budget::default();
    for (edits, values) in [(&rules.request, &mut made.request), (&rules.response, &mut made.response)] {
        for rule in &edits.add {
            if let Some(expression) = &rule.eval {
                let value = text(expression, context, &mut budget).and_then(|text| {
                    if is_value(&text) {
                        HeaderValue::from_str(&text).map_err(|error| error.to_string())
                    } else {
                        Err("makes something else than printable ASCII without blanks around it".into())
                    }
                });
                values.push(value.map_err(|cause| invalid(rule.name(), &cause))?);
            }
        }
    }
    if let Host::Text(text) = &rules.host
        && let Text::Eval(expression) = &**text
    {
        let value = self::text(expression, context, &mut budget).and_then(|text| {
            octelium_api::validate::host(&text)?;
            HeaderValue::from_str(&text).map_err(|error| error.to_string())
        });
        made.host = Some(value.map_err(|cause| invalid("host", &cause))?);
    }
    Ok(made)
}

/// As written values have to be.
fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim_matches(' ') == text
}

fn invalid(name: &str, cause: &str) -> Rejection {
    Rejection::new(Code::HeaderInvalid, format!("the expression for the header `{name}`: {cause}"))
}

fn text(expression: &Expression, context: &Context<'_>, budget: &mut Budget) -> Result<std::sync::Arc<str>, String> {
    match expression.evaluate(context, None, budget) {
        Ok(Value::String(text)) if text.len() > VALUE_BYTES_MAX => {
            Err(format!("makes {} bytes; at most {VALUE_BYTES_MAX}", text.len()))
        }
        Ok(Value::String(text)) => Ok(text),
        Ok(other) => Err(format!("makes {}, not a string", other.type_of().name())),
        Err(error) => Err(error.to_string()),
    }
}

/// What of the caller's request stays.
pub fn keep(rules: Option<&HeaderRules>, access: Access) -> Keep {
    let authorization = rules.map_or(Authorization::Default, |rules| rules.authorization);
    Keep {
        authorization: match authorization {
            Authorization::Default => access != Access::Session,
            Authorization::Pass => true,
            Authorization::Delete => false,
        },
        forwarded: rules.is_some_and(|rules| rules.forwarded == Forwarded::Transparent),
    }
}

/// Edits a request that was scrubbed.
pub fn request(rules: Option<&HeaderRules>, exchange: &Exchange, route: &Route, headers: &mut Headers) {
    let Some(rules) = rules else { return };
    if rules.forwarded == Forwarded::Obfuscate {
        forwarded::obfuscate(headers, route, exchange.peer.is_tls, exchange.trace.span_id);
    }
    apply(&rules.request, &exchange.made.request, headers);
}

/// Sets the `Host` that the upstream gets; there is none yet.
pub fn set_host(
    rules: Option<&HeaderRules>,
    exchange: &Exchange,
    route: &Route,
    upstream: &Upstream,
    headers: &mut Headers,
) {
    let chosen = match rules.map(|rules| &rules.host) {
        None | Some(Host::Upstream) => None,
        Some(Host::Public) => HeaderValue::from_str(&route.fqdn).ok(),
        Some(Host::Text(text)) => match &**text {
            Text::Fixed(value) => Some(value.clone()),
            Text::Eval(_) => exchange.made.host.clone(),
        },
    };
    headers.append(&header::HOST, chosen.as_ref().unwrap_or(&upstream.authority));
}

/// Whether the configuration lets hints of the upstream (103) pass: they carry `Link` and nothing else.
pub fn lets_hints_pass(rules: Option<&HeaderRules>) -> bool {
    rules.is_none_or(|rules| !rules.response.remove.contains(&header::LINK))
}

/// Edits the answer, whoever made it, once a configuration was chosen.
pub fn response(exchange: &Exchange, headers: &mut Headers) {
    if let Some(rules) = exchange.config.as_ref().and_then(|config| config.headers.as_ref()) {
        apply(&rules.response, &exchange.made.response, headers);
        if exchange.rejection.is_some() {
            // However long answers of the upstream may be kept, a refusal of ours isn't one.
            headers.insert(&header::CACHE_CONTROL, &HeaderValue::from_static("no-store"));
        }
    }
}

/// Where an expression failed, its refusal is all that is answered: it goes without the values that were to be made.
fn apply(edits: &HeaderEdits, made: &[HeaderValue], headers: &mut Headers) {
    let mut made = made.iter();
    for rule in &edits.add {
        let value = rule.eval.is_some().then(|| made.next());
        if value == Some(None) {
            continue;
        }
        let name = rule.name();
        if !rule.append {
            // Also under another spelling: what stands there must be ours alone.
            headers.remove_alike(name);
        }
        match value.flatten() {
            Some(value) => headers.append(name, value),
            None => headers.append_line(rule.line(), name.len()),
        }
    }
    for name in &edits.remove {
        headers.remove_alike(name);
    }
}
