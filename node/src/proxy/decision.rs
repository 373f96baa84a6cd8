//! What was decided about a request and why, for its access-log record.

use std::sync::Arc;

use octelium_api::core::session;
use octelium_policy::{Decision, Effect, EvalError, Origin, RuleId};

/// The decision.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Whether the request may go on.
    pub is_allowed: bool,
    /// Why.
    pub reason: Reason,
}

/// Why, in the words of the access log.
#[derive(Debug, Clone)]
pub enum Reason {
    /// The Service asks for nothing.
    Anonymous,
    /// A browser only asked what it may send.
    CorsPreflight,
    /// A rule decided.
    PolicyMatch {
        /// Which rule, and whose.
        rule: Arc<RuleId>,
        /// What went wrong in it, if that decided.
        error: Option<EvalError>,
    },
    /// No rule allowed it.
    NoPolicyMatch {
        /// The first rule that could have, and failed.
        failure: Option<(Arc<RuleId>, EvalError)>,
    },
    /// The rules cost too much to evaluate.
    PolicyBudget {
        /// Whose rules were being evaluated.
        origin: Arc<Origin>,
        /// The rule, if it wasn't one that says whether the policy is enforced.
        rule: Option<Arc<RuleId>>,
    },
    /// The Session waits for approval or was rejected.
    SessionNotActive(session::spec::State),
    /// The Session was suspended.
    SessionLocked,
    /// The User was suspended.
    UserLocked,
    /// The User was switched off.
    UserDeactivated,
    /// A second factor must be used first.
    AuthenticationRequired,
    /// A second factor must be registered first.
    RegistrationRequired,
    /// Only CLIENT Sessions reach Services that aren't public.
    ClientTypeInvalid,
    /// The Session's scopes don't reach this far.
    ScopeUnauthorized,
}

impl From<Decision> for Verdict {
    fn from(decision: Decision) -> Self {
        let reason = match decision.reason {
            octelium_policy::Reason::NoPolicyMatch => {
                Reason::NoPolicyMatch { failure: decision.failure.map(|failure| (failure.rule, failure.error)) }
            }
            octelium_policy::Reason::PolicyMatch { rule, error } => Reason::PolicyMatch { rule, error },
            octelium_policy::Reason::BudgetExceeded { origin, rule } => Reason::PolicyBudget { origin, rule },
        };
        Self { is_allowed: decision.effect == Effect::Allow, reason }
    }
}

impl Reason {
    /// As the access log spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Anonymous => "ANONYMOUS",
            Self::CorsPreflight => "CORS_PREFLIGHT",
            Self::PolicyMatch { .. } => "POLICY_MATCH",
            Self::NoPolicyMatch { .. } => "NO_POLICY_MATCH",
            Self::PolicyBudget { .. } => "POLICY_BUDGET",
            Self::SessionNotActive(_) => "SESSION_NOT_ACTIVE",
            Self::SessionLocked => "SESSION_LOCKED",
            Self::UserLocked => "USER_LOCKED",
            Self::UserDeactivated => "USER_DEACTIVATED",
            Self::AuthenticationRequired => "AUTHENTICATOR_AUTHENTICATION_REQUIRED",
            Self::RegistrationRequired => "AUTHENTICATOR_REGISTRATION_REQUIRED",
            Self::ClientTypeInvalid => "SESSION_CLIENT_TYPE_INVALID",
            Self::ScopeUnauthorized => "SCOPE_UNAUTHORIZED",
        }
    }
}
