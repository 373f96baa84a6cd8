//! Gates in their order, then policies; nothing allows by default.

use std::{cell::RefCell, sync::Arc};

use octelium_actors::{
    plans::Plans,
    router::{Access, Route},
    sessions::{SessionEntry, scope},
};
use octelium_api::core::session::{spec::State, status};
use octelium_policy::Grpc;

use super::{
    context::RequestContext,
    decision::{Reason, Verdict},
};

thread_local! {
    /// What this thread's last callers have left to decide.
    static PLANS: RefCell<Plans> = RefCell::default();
}

/// Where nobody is asked for anything.
pub const ANONYMOUS: Verdict = Verdict { is_allowed: true, reason: Reason::Anonymous };

/// Decides about a request whose caller is known (or needn't be).
pub fn decide_request(
    session: Option<&Arc<SessionEntry>>,
    route: &Arc<Route>,
    context: &RequestContext<'_>,
    now_unix_nanos: i64,
) -> Verdict {
    use octelium_policy::Request;
    if route.access == Access::Anonymous {
        return ANONYMOUS;
    }
    if let Some(session) = session
        && let Some(reason) = gate(session, route.is_public, &route.reference.name, context.grpc())
    {
        return Verdict { is_allowed: false, reason };
    }
    let seen = octelium_actors::context_of(route, session.map(AsRef::as_ref), Some(context), now_unix_nanos);
    PLANS.with_borrow_mut(|plans| plans.decide(route, session, &seen)).into()
}

/// The first gate that is shut. Expiry and dead tokens were refused before: such a caller isn't authenticated.
fn gate(session: &SessionEntry, is_public: bool, service: &str, grpc: Option<Grpc<'_>>) -> Option<Reason> {
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
    if !is_public && session.kind != status::Type::Client {
        return Some(Reason::ClientTypeInvalid);
    }
    if !scope::reaches(&session.scopes, service, grpc) {
        return Some(Reason::ScopeUnauthorized);
    }
    None
}

#[cfg(test)]
mod tests {
    use octelium_actors::{
        sessions::{UserEntry, entry::CredentialState},
        subject::{Resource, ResourceList},
    };
    use octelium_api::{Object, core, core::user, meta::ObjectReference};
    use octelium_consensus::Stored;
    use octelium_policy::Reads;

    use super::*;

    fn resource(object: impl Into<Object>) -> Resource {
        Resource::new(Arc::new(Stored { object: object.into(), sealed: None, created_index: 1 }))
    }

    fn user(is_locked: bool, is_disabled: bool) -> Arc<UserEntry> {
        Arc::new(UserEntry {
            reference: ObjectReference::default(),
            kind: user::spec::Type::Workload,
            is_locked,
            is_disabled,
            user: resource(core::User::default()),
            groups: ResourceList::new(Vec::new()),
            policies: Vec::new(),
            names_policies: false,
        })
    }

    fn session() -> SessionEntry {
        SessionEntry {
            uid: 1,
            reference: ObjectReference::default(),
            user: user(false, false),
            state: State::Active,
            kind: status::Type::Clientless,
            expires_unix: i64::MAX,
            is_locked: false,
            authenticator_action: status::AuthenticatorAction::Unset,
            scopes: Vec::new(),
            tokens: Vec::new(),
            credential: CredentialState::default(),
            session: resource(core::Session::default()),
            policies: Vec::new(),
            reads: Reads::default(),
            names_policies: false,
        }
    }

    /// G-01, G-04 … G-09, G-12, G-19 of the identity specification.
    #[test]
    fn gates_answer_in_their_order() {
        use status::AuthenticatorAction as Action;
        let action = |authenticator_action| SessionEntry { authenticator_action, ..session() };
        let cases = [
            ("open", session(), None),
            ("pending", SessionEntry { state: State::Pending, ..session() }, Some("SESSION_NOT_ACTIVE")),
            ("rejected", SessionEntry { state: State::Rejected, ..session() }, Some("SESSION_NOT_ACTIVE")),
            ("unknown", SessionEntry { state: State::Unknown, ..session() }, Some("SESSION_NOT_ACTIVE")),
            ("locked", SessionEntry { is_locked: true, ..session() }, Some("SESSION_LOCKED")),
            ("its User locked", SessionEntry { user: user(true, false), ..session() }, Some("USER_LOCKED")),
            (
                "must authenticate",
                action(Action::AuthenticationRequired),
                Some("AUTHENTICATOR_AUTHENTICATION_REQUIRED"),
            ),
            ("must register", action(Action::RegistrationRequired), Some("AUTHENTICATOR_REGISTRATION_REQUIRED")),
            ("might authenticate", action(Action::AuthenticationRecommended), None),
            ("might register", action(Action::RegistrationRecommended), None),
            ("its User disabled", SessionEntry { user: user(false, true), ..session() }, Some("USER_DEACTIVATED")),
            (
                "locked, of a disabled User",
                SessionEntry { is_locked: true, user: user(false, true), ..session() },
                Some("SESSION_LOCKED"),
            ),
            (
                "all of it",
                SessionEntry { state: State::Pending, is_locked: true, user: user(true, true), ..session() },
                Some("SESSION_NOT_ACTIVE"),
            ),
        ];
        for (name, session, expected) in cases {
            assert_eq!(gate(&session, true, "svc.default", None).map(|reason| reason.name()), expected, "{name}");
        }
        let private = gate(&session(), false, "svc.default", None).map(|reason| reason.name());
        assert_eq!(private, Some("SESSION_CLIENT_TYPE_INVALID"));
        let client = SessionEntry { kind: status::Type::Client, ..session() };
        assert!(gate(&client, false, "svc.default", None).is_none());
    }
}
