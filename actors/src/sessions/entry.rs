//! One Session and one User as the request path needs them: everything looked up, nothing left to parse.

use std::sync::Arc;

use octelium_api::{
    core::{Scope, session, user},
    meta::ObjectReference,
};
use octelium_policy::{Policy, Reads};

use crate::subject::{Resource, ResourceList};

/// A User with its Groups and their policies.
pub struct UserEntry {
    /// For access logs.
    pub reference: ObjectReference,
    /// HUMAN or WORKLOAD.
    pub kind: user::spec::Type,
    /// Suspended by the cluster.
    pub is_locked: bool,
    /// Switched off by an administrator.
    pub is_disabled: bool,
    /// `ctx.user`.
    pub user: Resource,
    /// `ctx.groups`.
    pub groups: ResourceList,
    /// Policies of the User and its Groups, parents included.
    pub policies: Vec<Arc<Policy>>,
    /// Whether any of them is attached by name, so that a changed Policy concerns this User.
    pub names_policies: bool,
}

/// An access token that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveToken {
    /// Its id.
    pub id: u128,
    /// Until when, in seconds of Unix time.
    pub until_unix: i64,
}

/// What a Credential says about the Sessions made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CredentialState {
    /// Disabled by an administrator or locked by the cluster.
    pub is_off: bool,
    /// In seconds of Unix time, if it expires.
    pub expires_unix: Option<i64>,
}

/// A Session and all that a decision about it needs.
pub struct SessionEntry {
    /// The Session's uid.
    pub uid: u128,
    /// For access logs.
    pub reference: ObjectReference,
    /// Its User.
    pub user: Arc<UserEntry>,
    /// ACTIVE, PENDING, REJECTED.
    pub state: session::spec::State,
    /// CLIENT or CLIENTLESS.
    pub kind: session::status::Type,
    /// End of its life, in seconds of Unix time; 0 if it has none, which counts as expired.
    pub expires_unix: i64,
    /// Suspended by the cluster.
    pub is_locked: bool,
    /// A second factor that must be used or registered first.
    pub authenticator_action: session::status::AuthenticatorAction,
    /// What it may reach at most; empty: no restriction.
    pub scopes: Vec<Scope>,
    /// Access tokens that count now.
    pub tokens: Vec<LiveToken>,
    /// Of the Credential that made it, if that still exists.
    pub credential: CredentialState,
    /// `ctx.session`.
    pub session: Resource,
    /// The Session's own policies.
    pub policies: Vec<Arc<Policy>>,
    /// What its policies and its User's read of the context.
    pub reads: Reads,
    /// Whether any of its policies is attached by name.
    pub names_policies: bool,
}

impl SessionEntry {
    /// Whether the access token with this id counts at `now_unix`.
    pub fn accepts(&self, token: u128, now_unix: i64) -> bool {
        self.live(token, now_unix).is_some()
    }

    /// The access token with this id, if it counts at `now_unix`.
    pub fn live(&self, token: u128, now_unix: i64) -> Option<LiveToken> {
        self.tokens.iter().find(|live| live.id == token && now_unix < live.until_unix).copied()
    }
}
