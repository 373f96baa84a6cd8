//! Decides which entries a change of the replicated state touches, and makes them anew.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use octelium_api::{
    Kind, Object,
    core::{self, credential, session},
};
use octelium_consensus::{Change, State, Stored};
use octelium_policy::Reads;
use uuid::Uuid;

use super::entry::{CredentialState, LiveToken, SessionEntry, UserEntry};
use crate::{
    policies::Library,
    subject::{Resource, ResourceList},
};

/// How long a replaced access token is still accepted, so that requests under way survive a refresh.
const OVERLAP_SECONDS: i64 = 30;

/// At most this many earlier authentications are looked at for tokens that still count.
const EARLIER_MAX: usize = 32;

/// All Sessions and Users.
pub struct Table {
    library: Arc<Library>,
    users: HashMap<String, Arc<UserEntry>>,
    sessions: HashMap<u128, Arc<SessionEntry>>,
    /// User uid → its Sessions.
    of_user: HashMap<String, BTreeSet<u128>>,
}

type Changed = Vec<(u128, Option<Arc<SessionEntry>>)>;

impl Table {
    /// An empty table.
    pub fn new(library: Arc<Library>) -> Self {
        Self { library, users: HashMap::new(), sessions: HashMap::new(), of_user: HashMap::new() }
    }

    /// The entry of a Session.
    pub fn get(&self, uid: u128) -> Option<&Arc<SessionEntry>> {
        self.sessions.get(&uid)
    }

    /// Sessions and Users.
    pub fn counts(&self) -> (usize, usize) {
        (self.sessions.len(), self.users.len())
    }

    /// Makes everything from `state`.
    pub fn rebuild(&mut self, state: &State) -> Changed {
        self.users.clear();
        self.sessions.clear();
        self.of_user.clear();
        for user in state.list(Kind::User) {
            self.user(state, user);
        }
        state.list(Kind::Session).filter_map(|session| self.session(state, session)).collect()
    }

    /// Makes anew what differs between the two states.
    pub fn follow(&mut self, old: &State, new: &State) -> Changed {
        let mut users = HashSet::new();
        let mut sessions = HashSet::new();
        let mut groups = HashSet::new();
        let mut credentials = HashSet::new();
        let mut policies_changed = false;
        for change in old.changes(new) {
            let (before, after) = sides(&change);
            let Some(any) = after.or(before) else { continue };
            match &any.object {
                Object::User(_) => drop(users.insert(any.object.uid().to_owned())),
                Object::Session(_) => drop(sessions.insert(any.object.uid().to_owned())),
                Object::Group(_) => drop(groups.insert(any.object.name().to_owned())),
                // Each log-in counts one more use of it, which means nothing to the Sessions that it made.
                Object::Credential(_) if before.map(says_of_sessions) != after.map(says_of_sessions) => {
                    credentials.insert(any.object.uid().to_owned());
                }
                Object::Policy(_) => policies_changed = true,
                _ => {}
            }
        }
        if policies_changed || !groups.is_empty() {
            let touched = self
                .users
                .values()
                .filter(|entry| policies_changed && entry.names_policies || in_any_group(entry.user.stored(), &groups));
            users.extend(touched.map(|entry| entry.reference.uid.clone()).collect::<Vec<_>>());
        }
        for credential in &credentials {
            sessions.extend(new.owned_by(Kind::Session, credential).map(|session| session.object.uid().to_owned()));
        }
        if policies_changed {
            let touched = self.sessions.values().filter(|entry| entry.names_policies);
            sessions.extend(touched.map(|entry| entry.reference.uid.clone()).collect::<Vec<_>>());
        }
        for uid in &users {
            match new.get(Kind::User, uid) {
                Some(user) => self.user(new, user),
                None => drop(self.users.remove(uid)),
            }
            let of_user = self.of_user.get(uid).into_iter().flatten();
            sessions.extend(of_user.map(|session| Uuid::from_u128(*session).to_string()));
        }
        let mut changed = Vec::with_capacity(sessions.len());
        for uid in &sessions {
            let Ok(number) = Uuid::parse_str(uid) else { continue };
            let entry = new.get(Kind::Session, uid).and_then(|session| self.session(new, session));
            if entry.is_none() {
                self.forget(number.as_u128());
            }
            changed.push(entry.unwrap_or((number.as_u128(), None)));
        }
        changed
    }

    fn forget(&mut self, uid: u128) {
        if let Some(entry) = self.sessions.remove(&uid)
            && let Some(of_user) = self.of_user.get_mut(&entry.user.reference.uid)
        {
            of_user.remove(&uid);
        }
    }

    fn user(&mut self, state: &State, stored: &Arc<Stored>) {
        let Object::User(user) = &stored.object else { return };
        let spec = user.spec.clone().unwrap_or_default();
        let groups: Vec<_> = spec.groups.iter().filter_map(|name| state.by_name(Kind::Group, name)).cloned().collect();
        let authorization = spec.authorization.clone().unwrap_or_default();
        let mut collected = self.library.collect(
            state,
            &authorization.policies,
            &authorization.inline_policies,
            &stored.object.reference(),
        );
        // A Group that is named but missing could have denied: nothing is allowed until it is back.
        if groups.len() < spec.groups.len() {
            collected.policies.push(Library::deny("a Group of the User is missing"));
        }
        for group in &groups {
            let Object::Group(resource) = &group.object else { continue };
            let authorization = resource.spec.clone().unwrap_or_default().authorization.unwrap_or_default();
            let of_group = self.library.collect(
                state,
                &authorization.policies,
                &authorization.inline_policies,
                &group.object.reference(),
            );
            collected.extend(of_group);
        }
        let entry = UserEntry {
            reference: stored.object.reference(),
            kind: spec.r#type(),
            is_locked: user.status.as_ref().is_some_and(|status| status.is_locked),
            is_disabled: spec.is_disabled,
            user: Resource::new(stored.clone()),
            groups: ResourceList::new(groups),
            policies: collected.policies,
            names_policies: collected.names_policies,
        };
        self.users.insert(stored.object.uid().to_owned(), Arc::new(entry));
    }

    fn session(&mut self, state: &State, stored: &Arc<Stored>) -> Option<(u128, Option<Arc<SessionEntry>>)> {
        let Object::Session(resource) = &stored.object else { return None };
        let uid = Uuid::parse_str(stored.object.uid()).ok()?.as_u128();
        let spec = resource.spec.clone().unwrap_or_default();
        let status = resource.status.as_ref()?;
        let user = self.users.get(&status.user_ref.as_ref()?.uid)?.clone();
        let authorization = spec.authorization.clone().unwrap_or_default();
        let collected = self.library.collect(
            state,
            &authorization.policies,
            &authorization.inline_policies,
            &stored.object.reference(),
        );
        let mut reads = Reads::default();
        for policy in collected.policies.iter().chain(&user.policies) {
            reads |= policy.reads();
        }
        let entry = Arc::new(SessionEntry {
            uid,
            reference: stored.object.reference(),
            state: spec.state(),
            kind: status.r#type(),
            expires_unix: spec.expires_at.as_ref().map_or(0, |at| at.seconds),
            is_locked: status.is_locked,
            authenticator_action: status.authenticator_action(),
            scopes: status.scopes.clone(),
            tokens: live_tokens(status),
            credential: credential_state(state, status),
            session: Resource::new(stored.clone()),
            policies: collected.policies,
            names_policies: collected.names_policies,
            reads,
            user,
        });
        self.forget(uid);
        self.of_user.entry(entry.user.reference.uid.clone()).or_default().insert(uid);
        self.sessions.insert(uid, entry.clone());
        Some((uid, Some(entry)))
    }
}

/// The resource before and after; a changed key is neither.
pub(crate) fn sides<'a>(change: &Change<'a>) -> (Option<&'a Arc<Stored>>, Option<&'a Arc<Stored>>) {
    match *change {
        Change::Created(new) => (None, Some(new)),
        Change::Updated { old, new } => (Some(old), Some(new)),
        Change::Deleted(old) => (Some(old), None),
        _ => (None, None),
    }
}

fn in_any_group(stored: &Stored, groups: &HashSet<String>) -> bool {
    match &stored.object {
        Object::User(user) => user.spec.iter().any(|spec| spec.groups.iter().any(|group| groups.contains(group))),
        _ => false,
    }
}

fn credential_uid(status: Option<&core::session::Status>) -> Option<&str> {
    status?.credential_ref.as_ref().map(|reference| reference.uid.as_str())
}

fn credential_state(state: &State, status: &session::Status) -> CredentialState {
    // One that is gone was used up (deleting it by hand ends its Sessions in the same change).
    let stored = credential_uid(Some(status)).and_then(|uid| state.get(Kind::Credential, uid));
    stored.map(says_of_sessions).unwrap_or_default()
}

/// What a Credential says about the Sessions that it made.
fn says_of_sessions(stored: &Arc<Stored>) -> CredentialState {
    let Object::Credential(credential) = &stored.object else { return CredentialState::default() };
    let spec: credential::Spec = credential.spec.clone().unwrap_or_default();
    CredentialState {
        is_off: spec.is_disabled || credential.status.as_ref().is_some_and(|status| status.is_locked),
        expires_unix: spec.expires_at.map(|at| at.seconds),
    }
}

/// The newest token, those of the same Credential's earlier log-ins that still live (programs share one OAuth2 secret),
/// and those replaced a moment ago by a refresh.
fn live_tokens(status: &session::Status) -> Vec<LiveToken> {
    use session::status::authentication::info::Type;
    let mut tokens = Vec::new();
    let mut replaced_at = i64::MAX;
    let all = status.authentication.iter().chain(status.last_authentications.iter().take(EARLIER_MAX));
    for authentication in all {
        let Some(set_at) = authentication.set_at.as_ref().map(|at| at.seconds) else { continue };
        let Ok(id) = Uuid::parse_str(&authentication.token_id) else { continue };
        let life = authentication.access_token_duration.as_ref().and_then(octelium_api::duration::to_std);
        let mut until_unix = life.map_or(set_at, |life| set_at.saturating_add_unsigned(life.as_secs()));
        let by_credential = authentication.info.as_ref().is_some_and(|info| info.r#type() == Type::Credential);
        let is_oauth2 = authentication.info.as_ref().is_some_and(is_oauth2);
        if replaced_at != i64::MAX && !(by_credential && is_oauth2) {
            until_unix = until_unix.min(replaced_at.saturating_add(OVERLAP_SECONDS));
        }
        tokens.push(LiveToken { id: id.as_u128(), until_unix });
        replaced_at = set_at;
    }
    tokens
}

fn is_oauth2(info: &session::status::authentication::Info) -> bool {
    use session::status::authentication::info::Details;
    match &info.details {
        Some(Details::Credential(details)) => details.r#type() == credential::spec::Type::Oauth2,
        _ => false,
    }
}
