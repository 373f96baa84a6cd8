//! What a rule can see: the request, the caller, the Service, the time.

use std::borrow::Cow;

use crate::Value;

/// The request, as the proxy holds it. Methods are called only if a rule reads that part, maybe often: each must be cheap or
/// cache its answer.
pub trait Request {
    /// The caller's address.
    fn ip(&self) -> &str;
    /// The HTTP method.
    fn method(&self) -> &str;
    /// The path without the query.
    fn path(&self) -> &str;
    /// Path and query.
    fn uri(&self) -> &str;
    /// The host.
    fn host(&self) -> &str;
    /// `http` or `https`.
    fn scheme(&self) -> &str;
    /// E.g. `HTTP/1.1`.
    fn protocol(&self) -> &str;
    /// The length of the body in bytes; −1 if unknown, then reading it fails.
    fn size(&self) -> i64;
    /// The first value of a header; `name` is lower-case.
    fn header(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A map from lower-case name to first value.
    fn headers(&self) -> &Value;
    /// A map from lower-case name to the list of all values.
    fn headers_all(&self) -> &Value;
    /// The first value of a query parameter.
    fn query_param(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A map from name to first value.
    fn query_params(&self) -> &Value;
    /// A map from name to the list of all values.
    fn query_params_all(&self) -> &Value;
    /// Whether [`Self::body`] and [`Self::body_map`] tell all there is. If not, reading them fails: nothing may pass for no body.
    fn shows_body(&self) -> bool;
    /// The body, if it was buffered.
    fn body(&self) -> Option<&[u8]>;
    /// The body, if it was buffered and is a JSON object.
    fn body_map(&self) -> Option<&Value>;
    /// The gRPC method. If there is one, `ctx.request` has `grpc` and no `http`.
    fn grpc(&self) -> Option<Grpc<'_>>;
}

/// A called gRPC method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grpc<'a> {
    /// The service's short name, e.g. `MainService`.
    pub service: &'a str,
    /// E.g. `octelium.api.main.core.v1.MainService`.
    pub service_full_name: &'a str,
    /// The method's short name, e.g. `ListUser`.
    pub method: &'a str,
    /// E.g. `octelium.api.main.core.v1`.
    pub package: &'a str,
}

/// A resource, converted when a rule first reads it.
pub trait Subject {
    /// The resource as a map, see [`Value::from_object`]; for [`Context::groups`] a list of them.
    fn value(&self) -> &Value;
}

impl Subject for Value {
    fn value(&self) -> &Value {
        self
    }
}

/// What rules see as `ctx`. What is `None` is a missing key.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    /// `ctx.request`
    pub request: Option<&'a dyn Request>,
    /// `ctx.session`
    pub session: Option<&'a dyn Subject>,
    /// `ctx.user`
    pub user: Option<&'a dyn Subject>,
    /// `ctx.groups`, a list.
    pub groups: Option<&'a dyn Subject>,
    /// `ctx.device`
    pub device: Option<&'a dyn Subject>,
    /// `ctx.service`
    pub service: Option<&'a dyn Subject>,
    /// `ctx.namespace`
    pub namespace: Option<&'a dyn Subject>,
    /// What `now()` answers: nanoseconds since 1970.
    pub now_unix_nanos: i64,
}

impl Context<'_> {
    /// A context that holds nothing but the time.
    pub fn new(now_unix_nanos: i64) -> Self {
        Self { now_unix_nanos, ..Self::default() }
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("now_unix_nanos", &self.now_unix_nanos).finish_non_exhaustive()
    }
}
