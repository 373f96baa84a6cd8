//! Gates in their order, then policies; nothing allows by default.

use octelium_actors::{
    router::{Access, Route},
    sessions::SessionEntry,
};
use octelium_api::core::session::{spec::State, status};
use octelium_policy::{Context, Effect, Grpc, Subject, decide};

use super::{
    context::RequestContext,
    decision::{Reason, Verdict},
    exchange::Exchange,
    scope,
};

/// Decides about a request whose caller is known (or needn't be).
pub fn decide_request(
    exchange: &Exchange,
    route: &Route,
    context: &RequestContext<'_>,
    now_unix_nanos: i64,
) -> Verdict {
    use octelium_policy::Request;
    if route.access == Access::Anonymous {
        return Verdict { is_allowed: true, reason: Reason::Anonymous };
    }
    let session = exchange.session.as_deref();
    if let Some(session) = session
        && let Some(reason) = gate(session, route, context.grpc())
    {
        return Verdict { is_allowed: false, reason };
    }
    let seen = context_of(route, session, context, now_unix_nanos);
    let of_caller = session.map(|session| session.user.policies.iter().chain(&session.policies)).into_iter().flatten();
    let policies = route.policies.iter().chain(of_caller).map(AsRef::as_ref);
    let decision = decide(policies, &seen);
    let is_allowed = decision.effect == Effect::Allow;
    Verdict { is_allowed, reason: Reason::from(decision.reason) }
}

/// What policies and rules see as `ctx`.
pub fn context_of<'a>(
    route: &'a Route,
    session: Option<&'a SessionEntry>,
    request: &'a RequestContext<'_>,
    now_unix_nanos: i64,
) -> Context<'a> {
    let subject = |subject: &'a dyn Subject| subject;
    Context {
        request: Some(request),
        session: session.map(|session| subject(&session.session)),
        user: session.map(|session| subject(&session.user.user)),
        groups: session.map(|session| subject(&session.user.groups)),
        device: None,
        service: Some(&route.service),
        namespace: route.namespace_subject.as_ref().map(|namespace| subject(namespace)),
        now_unix_nanos,
    }
}

/// The first gate that is shut. Expiry and dead tokens were refused before: such a caller isn't authenticated.
fn gate(session: &SessionEntry, route: &Route, grpc: Option<Grpc<'_>>) -> Option<Reason> {
    use status::AuthenticatorAction as Action;
    if session.state != State::Active {
        return Some(Reason::SessionNotActive(session.state));
    }
    if session.is_locked {
        return Some(Reason::SessionLocked);
    }
    if session.user.is_locked {
        return Some(Reason::UserLocked);
    }
    match session.authenticator_action {
        Action::AuthenticationRequired => return Some(Reason::AuthenticationRequired),
        Action::RegistrationRequired => return Some(Reason::RegistrationRequired),
        _ => {}
    }
    if session.user.is_disabled {
        return Some(Reason::UserDeactivated);
    }
    if !route.is_public && session.kind != status::Type::Client {
        return Some(Reason::ClientTypeInvalid);
    }
    if !scope::reaches(&session.scopes, &route.reference.name, grpc) {
        return Some(Reason::ScopeUnauthorized);
    }
    None
}
