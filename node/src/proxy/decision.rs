//! What was decided about a request and why, for its access-log record.

use octelium_api::core::session;
use octelium_policy::Origin;

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
    /// A rule decided.
    PolicyMatch {
        /// Whose rule.
        origin: Origin,
        /// Its name, if it has one.
        rule: String,
        /// Its priority.
        priority: i32,
        /// What went wrong in it, if that decided.
        error: Option<String>,
    },
    /// No rule allowed it.
    NoPolicyMatch,
    /// The rules cost too much to evaluate.
    PolicyBudget,
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

impl From<octelium_policy::Reason<'_>> for Reason {
    fn from(reason: octelium_policy::Reason<'_>) -> Self {
        match reason {
            octelium_policy::Reason::NoPolicyMatch => Self::NoPolicyMatch,
            octelium_policy::Reason::PolicyMatch { origin, rule, priority, error } => Self::PolicyMatch {
                origin: origin.clone(),
                rule: rule.to_owned(),
                priority,
                error: error.map(|error| error.to_string()),
            },
            octelium_policy::Reason::BudgetExceeded { .. } => Self::PolicyBudget,
        }
    }
}

impl Reason {
    /// As the access log spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Anonymous => "ANONYMOUS",
            Self::PolicyMatch { .. } => "POLICY_MATCH",
            Self::NoPolicyMatch => "NO_POLICY_MATCH",
            Self::PolicyBudget => "POLICY_BUDGET",
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
