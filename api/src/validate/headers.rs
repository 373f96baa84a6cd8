//! Edits of headers: which names and values a rule may set, and which belong to the gateway.

use super::{Report, access};
use crate::{
    core::service::spec::config::http::{Header, header},
    origin,
};

const RULES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 8192;
const HOST_BYTES_MAX: usize = 256;

/// Headers that say where a message ends, or that concern one connection only.
const FRAMING: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];
/// Headers that tell an upstream where a request came from.
const FORWARDED: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-real-ip",
];
/// Headers by which a request is followed through several systems.
const TRACING: [&str; 3] = ["x-request-id", "traceparent", "tracestate"];

/// What a rule wants with a header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    AddToRequest,
    AddToResponse,
    RemoveFromRequest,
    RemoveFromResponse,
}

pub(super) fn check(path: &str, header: &Header, report: &mut Report) {
    for (member, rules, act) in [
        ("addRequestHeaders", &header.add_request_headers, Act::AddToRequest),
        ("addResponseHeaders", &header.add_response_headers, Act::AddToResponse),
    ] {
        let path = format!("{path}.{member}");
        if report.count(&path, rules.len(), RULES_MAX) {
            for (index, rule) in rules.iter().enumerate() {
                addition(&format!("{path}[{index}]"), rule, act, report);
            }
        }
    }
    for (member, names, act) in [
        ("removeRequestHeaders", &header.remove_request_headers, Act::RemoveFromRequest),
        ("removeResponseHeaders", &header.remove_response_headers, Act::RemoveFromResponse),
    ] {
        let path = format!("{path}.{member}");
        if report.count(&path, names.len(), RULES_MAX) {
            for (index, name) in names.iter().enumerate() {
                check_name(&format!("{path}[{index}]"), name, act, report);
            }
        }
    }
    if let Some(host) = &header.host {
        let path = format!("{path}.host");
        match &host.r#type {
            None => report.add(&path, "needs one of preserve, value, eval"),
            Some(header::host::Type::Preserve(_)) => {}
            Some(header::host::Type::Value(value)) => {
                if let Err(message) = self::host(value) {
                    report.add(&format!("{path}.value"), message);
                }
            }
            Some(header::host::Type::Eval(text)) => {
                access::expression(&format!("{path}.eval"), text, access::EXPRESSION_BYTES_MAX, report);
            }
        }
    }
}

fn addition(path: &str, rule: &header::KeyValue, act: Act, report: &mut Report) {
    check_name(&format!("{path}.key"), &rule.key, act, report);
    match &rule.r#type {
        None => report.add(path, "needs `value` or `eval`"),
        Some(header::key_value::Type::Value(value)) => {
            check_value(&format!("{path}.value"), value, act, report);
        }
        Some(header::key_value::Type::Eval(text)) => {
            access::expression(&format!("{path}.eval"), text, access::EXPRESSION_BYTES_MAX, report);
        }
    }
}

fn check_value(path: &str, value: &str, act: Act, report: &mut Report) {
    if act == Act::AddToResponse && value.is_empty() {
        report.add(path, "missing");
    }
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        report.add(path, "only printable ASCII characters");
    } else if value.trim_matches([' ', '\t']) != value {
        report.add(path, "starts or ends with a space");
    }
    report.length(path, value, VALUE_BYTES_MAX);
}

/// A header of an answer that the gateway makes, under `key` and `value` of `path`.
pub(super) fn of_answer(path: &str, key: &str, value: &str, report: &mut Report) {
    check_name(&format!("{path}.key"), key, Act::AddToResponse, report);
    check_value(&format!("{path}.value"), value, Act::AddToResponse, report);
}

fn check_name(path: &str, name: &str, act: Act, report: &mut Report) {
    if !is_name(path, name, report) {
        return;
    }
    if let Some(reason) = reserved(name, act) {
        report.add(path, reason);
    }
}

/// The name of a header in which a Secret is sent.
pub(super) fn credential_name(path: &str, name: &str, report: &mut Report) {
    if !is_name(path, name, report) {
        return;
    }
    let name = spelled(name);
    if FRAMING.contains(&name.as_str()) || name.starts_with("x-octelium-") {
        report.add(path, format!("the gateway itself sets `{name}`"));
    }
}

fn is_name(path: &str, name: &str, report: &mut Report) -> bool {
    report.length(path, name, NAME_BYTES_MAX);
    if name.is_empty() {
        report.add(path, "missing");
    } else if !name.bytes().all(is_token) {
        report.add(path, "not the name of a header");
    } else {
        return true;
    }
    false
}

/// To many upstreams `x_real_ip` is `X-Real-IP`, and so it is to these rules.
fn spelled(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Why a rule can't have this header.
fn reserved(name: &str, act: Act) -> Option<String> {
    let name = spelled(name);
    let named = |names: &[&str]| names.contains(&name.as_str());
    if name == "host" {
        return Some("`host` is set by `header.host`".to_owned());
    }
    if named(&FRAMING) {
        return Some(format!(
            "`{name}` concerns one connection or the framing of a message: the gateway makes its own"
        ));
    }
    if name.starts_with("x-octelium-") {
        return Some("`X-Octelium-*` belong to the gateway".to_owned());
    }
    match act {
        Act::AddToRequest if named(&FORWARDED) => Some(format!("`{name}` is decided by `header.forwardedMode`")),
        Act::AddToRequest if named(&TRACING) => Some(format!("the gateway itself sets `{name}`")),
        Act::AddToRequest if name == "x-forwarded-client-cert" || name.starts_with("x-envoy-") => {
            Some(format!("`{name}` is never sent to an upstream"))
        }
        Act::AddToResponse | Act::RemoveFromResponse if name == "server" => {
            Some("the gateway itself sets `server`".to_owned())
        }
        _ => None,
    }
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2), as names of headers and methods are.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may be sent as `Host`: a host and maybe a port, nothing else.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn host(text: &str) -> Result<(), String> {
    if text.len() > HOST_BYTES_MAX {
        return Err(format!("has {} bytes; at most {HOST_BYTES_MAX}", text.len()));
    }
    match origin::split_port(text) {
        Some((host, _)) if origin::is_host(host) => Ok(()),
        _ => Err("not a host, like `api.example.com` or `api.example.com:8443`".to_owned()),
    }
}
