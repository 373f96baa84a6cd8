//! Resources as policies see them: converted when the first rule asks, then kept.

use std::sync::{Arc, OnceLock};

use octelium_consensus::Stored;
use octelium_policy::{Context, Request, Subject, Value};

use crate::{router::Route, sessions::SessionEntry};

/// What policies and rules see as `ctx`; without a request where only the caller and the Service are known.
pub fn context_of<'a>(
    route: &'a Route,
    session: Option<&'a SessionEntry>,
    request: Option<&'a dyn Request>,
    now_unix_nanos: i64,
) -> Context<'a> {
    let subject = |subject: &'a dyn Subject| subject;
    Context {
        request,
        session: session.map(|session| subject(&session.session)),
        user: session.map(|session| subject(&session.user.user)),
        groups: session.map(|session| subject(&session.user.groups)),
        device: None,
        service: Some(&route.service),
        namespace: route.namespace_subject.as_ref().map(|namespace| subject(namespace)),
        now_unix_nanos,
    }
}

/// One resource.
pub struct Resource {
    stored: Arc<Stored>,
    value: OnceLock<Value>,
}

impl Resource {
    /// Nothing is converted yet.
    pub fn new(stored: Arc<Stored>) -> Self {
        Self { stored, value: OnceLock::new() }
    }

    /// The resource itself.
    pub fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }
}

impl Subject for Resource {
    fn value(&self) -> &Value {
        self.value.get_or_init(|| Value::from_object(&self.stored.object))
    }
}

/// A list of resources, e.g. the Groups of a User.
pub struct ResourceList {
    stored: Vec<Arc<Stored>>,
    value: OnceLock<Value>,
}

impl ResourceList {
    /// Nothing is converted yet.
    pub fn new(stored: Vec<Arc<Stored>>) -> Self {
        Self { stored, value: OnceLock::new() }
    }
}

impl Subject for ResourceList {
    fn value(&self) -> &Value {
        self.value
            .get_or_init(|| Value::list(self.stored.iter().map(|stored| Value::from_object(&stored.object)).collect()))
    }
}
