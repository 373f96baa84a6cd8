//! The request as policies see it: each part is made when the first rule asks for it.

use std::{borrow::Cow, cell::OnceCell, collections::BTreeMap, sync::Arc};

use octelium_policy::{Grpc, Map, Request, Value};

use super::exchange::Exchange;

/// See the module.
pub struct RequestContext<'a> {
    exchange: &'a Exchange,
    protocol: &'static str,
    grpc: Option<GrpcName>,
    headers: OnceCell<Value>,
    headers_all: OnceCell<Value>,
    params: OnceCell<Value>,
    params_all: OnceCell<Value>,
}

/// A called gRPC method, from its path `/pkg.Service/Method`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcName {
    full: String,
    /// Where the service's short name starts in `full`.
    service_at: usize,
    method: String,
}

impl GrpcName {
    /// Splits the path of a gRPC call; `None` if it isn't one.
    pub fn parse(path: &str) -> Option<Self> {
        let (full, method) = path.strip_prefix('/')?.split_once('/')?;
        let (package, service) = full.rsplit_once('.')?;
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain(service) || !plain(method) || !package.split('.').all(plain) {
            return None;
        }
        Some(Self { full: full.to_owned(), service_at: package.len() + 1, method: method.to_owned() })
    }

    /// The parts.
    pub fn parts(&self) -> Grpc<'_> {
        Grpc {
            service: &self.full[self.service_at..],
            service_full_name: &self.full,
            method: &self.method,
            package: &self.full[..self.service_at - 1],
        }
    }
}

impl<'a> RequestContext<'a> {
    /// Nothing is made yet.
    pub fn new(exchange: &'a Exchange, grpc: Option<GrpcName>) -> Self {
        let protocol = match exchange.version {
            http::Version::HTTP_10 => "HTTP/1.0",
            http::Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
        let (headers, headers_all) = (OnceCell::new(), OnceCell::new());
        let (params, params_all) = (OnceCell::new(), OnceCell::new());
        Self { exchange, protocol, grpc, headers, headers_all, params, params_all }
    }

    /// Whether the body is a gRPC message, which the exchange doesn't hold.
    fn is_message(&self) -> bool {
        self.grpc.is_some()
    }

    fn params(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        url::form_urlencoded::parse(self.exchange.query().unwrap_or_default().as_bytes())
    }
}

/// Values that aren't UTF-8 are shown with replacement characters, as they can't equal any text of a rule.
fn text(value: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(value)
}

fn string(text: &str) -> Value {
    Value::String(Arc::from(text))
}

fn firsts<'t>(pairs: impl Iterator<Item = (Cow<'t, str>, Cow<'t, str>)>) -> Value {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        map.entry(name.into_owned()).or_insert_with(|| string(&value));
    }
    Value::Map(Arc::new(map.into_iter().collect::<Map>()))
}

fn lists<'t>(pairs: impl Iterator<Item = (Cow<'t, str>, Cow<'t, str>)>) -> Value {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, value) in pairs {
        map.entry(name.into_owned()).or_default().push(string(&value));
    }
    Value::Map(Arc::new(map.into_iter().map(|(name, values)| (name, Value::list(values))).collect::<Map>()))
}

impl Request for RequestContext<'_> {
    fn ip(&self) -> &str {
        &self.exchange.peer.ip
    }

    fn method(&self) -> &str {
        self.exchange.method.as_str()
    }

    fn path(&self) -> &str {
        self.exchange.path()
    }

    fn uri(&self) -> &str {
        self.exchange.target.as_str()
    }

    fn host(&self) -> &str {
        &self.exchange.host
    }

    fn scheme(&self) -> &str {
        if self.exchange.peer.is_tls { "https" } else { "http" }
    }

    fn protocol(&self) -> &str {
        self.protocol
    }

    fn size(&self) -> i64 {
        match &self.exchange.buffered {
            Some(body) => i64::try_from(body.len()).unwrap_or(i64::MAX),
            None if self.is_message() => -1,
            None => self.exchange.declared_bytes.map_or(-1, |length| i64::try_from(length).unwrap_or(i64::MAX)),
        }
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.exchange.headers.get(name).map(text)
    }

    fn headers(&self) -> &Value {
        let pairs = || self.exchange.headers.iter().map(|(name, value)| (text(name), text(value)));
        self.headers.get_or_init(|| firsts(pairs()))
    }

    fn headers_all(&self) -> &Value {
        let pairs = || self.exchange.headers.iter().map(|(name, value)| (text(name), text(value)));
        self.headers_all.get_or_init(|| lists(pairs()))
    }

    fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.params().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    fn query_params(&self) -> &Value {
        self.params.get_or_init(|| firsts(self.params()))
    }

    fn query_params_all(&self) -> &Value {
        self.params_all.get_or_init(|| lists(self.params()))
    }

    fn shows_body(&self) -> bool {
        self.exchange.buffered.is_some() || self.exchange.declared_bytes == Some(0) && !self.is_message()
    }

    fn body(&self) -> Option<&[u8]> {
        self.exchange.buffered.as_deref()
    }

    fn body_map(&self) -> Option<&Value> {
        self.exchange.body_map.as_ref()
    }

    fn grpc(&self) -> Option<Grpc<'_>> {
        self.grpc.as_ref().map(GrpcName::parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_path_is_package_service_and_method() {
        let name = GrpcName::parse("/octelium.api.main.core.v1.MainService/ListUser").expect("a gRPC path");
        let parts = name.parts();
        assert_eq!(
            (parts.package, parts.service, parts.method),
            ("octelium.api.main.core.v1", "MainService", "ListUser")
        );
        assert_eq!(parts.service_full_name, "octelium.api.main.core.v1.MainService");
        for wrong in ["", "/", "/Service/Method", "/a.B", "/a.B/", "/a.B/c/d", "/.B/c", "/a./c", "a.B/c", "/a.B/c?d"] {
            assert_eq!(GrpcName::parse(wrong), None, "{wrong}");
        }
    }
}
