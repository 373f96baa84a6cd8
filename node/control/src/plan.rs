//! A change before it is proposed: the state as it will be, what is wrong with that, and the writes that lead there.
//!
//! Documents of one change may refer to each other in any order, so they all enter the plan before any is judged.

mod derive;
mod guard;
mod stamp;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use octelium_api::{Kind, Object, meta::ObjectReference};
use octelium_consensus::{State, Stored, Write};
use tonic::Code;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use derive::{MANAGED_PORT, lasting_reference};
pub use stamp::Finished;

use crate::{
    clock::Now,
    draft::Draft,
    refusal::{Refusal, Violation},
};

/// Who changes something.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// The calling Session; `None` where the cluster itself acts.
    pub session: Option<ObjectReference>,
    /// The caller's User, which it may not lock out.
    pub user_uid: String,
    /// The full gRPC method without the leading slash.
    pub operation: String,
}

impl Actor {
    pub fn session_uid(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.uid.as_str())
    }
}

/// What a put may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The name must be free.
    Create,
    /// The resource must be there.
    Update,
    /// Either.
    Apply,
}

/// What a caller wants to find stored, so that it doesn't overwrite what it never saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Whatever there is.
    #[default]
    Any,
    /// Nothing.
    Absent,
    /// The resource with this `resourceVersion`.
    Version(String),
}

impl Precondition {
    /// From a text: empty for any, `-` for nothing, else a version.
    pub fn parse(text: &str) -> Self {
        match text {
            "" => Self::Any,
            "-" => Self::Absent,
            version => Self::Version(version.to_owned()),
        }
    }

    /// What speaks against `stored`, a sentence.
    fn against(&self, kind: Kind, name: &str, stored: Option<&Object>) -> Option<String> {
        match (self, stored) {
            (Self::Any, _) | (Self::Absent, None) => None,
            (Self::Absent, Some(_)) => Some(format!("{kind} `{name}` exists already")),
            (Self::Version(_), None) => Some(format!("{kind} `{name}` was deleted meanwhile")),
            (Self::Version(version), Some(stored)) if stored.resource_version() == version => None,
            (Self::Version(version), Some(stored)) => Some(format!(
                "{kind} `{name}` was changed meanwhile: its version is {}, not {version}; read it again",
                stored.resource_version()
            )),
        }
    }
}

/// A resource of the plan.
pub type Id = (Kind, String);

struct Put {
    path: String,
    before: Option<Arc<Stored>>,
    object: Object,
    secret: Option<Zeroizing<Vec<u8>>>,
    /// Whether an administrator wrote it; what the cluster writes itself was checked when it was made.
    by_hand: bool,
}

struct Delete {
    path: String,
    before: Arc<Stored>,
    /// Whether it goes because something else goes.
    cascaded: bool,
}

enum Step {
    Put(Box<Put>),
    Delete(Delete),
}

/// See the module.
pub struct Plan {
    state: Arc<State>,
    now: Now,
    actor: Actor,
    domain: Arc<str>,
    steps: HashMap<Id, Step>,
    /// Names of what is new.
    names: HashMap<Id, String>,
    order: Vec<Id>,
    keys: Vec<Write>,
    violations: Vec<Violation>,
}

impl Plan {
    /// Nothing is changed yet.
    pub fn new(state: Arc<State>, now: Now, actor: Actor, domain: Arc<str>) -> Self {
        Self {
            state,
            now,
            actor,
            domain,
            steps: HashMap::new(),
            names: HashMap::new(),
            order: Vec::new(),
            keys: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// When this change happens.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The state before.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The resource as it will be.
    pub fn get(&self, kind: Kind, uid: &str) -> Option<&Object> {
        match self.steps.get(&(kind, uid.to_owned())) {
            Some(Step::Put(put)) => Some(&put.object),
            Some(Step::Delete(_)) => None,
            None => self.state.get(kind, uid).map(|stored| &stored.object),
        }
    }

    /// The resource with this name as it will be.
    pub fn by_name(&self, kind: Kind, name: &str) -> Option<&Object> {
        if let Some(uid) = self.names.get(&(kind, name.to_owned())) {
            return self.get(kind, uid);
        }
        let stored = self.state.by_name(kind, name)?;
        self.get(kind, stored.object.uid())
    }

    /// All resources of a kind as they will be, in the order of creation.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        // Most kinds are untouched by most plans, and some have a hundred thousand resources.
        let is_touched = self.order.iter().any(|(of, _)| *of == kind);
        let present = self.state.list(kind).filter_map(move |stored| match is_touched {
            true => self.get(kind, stored.object.uid()),
            false => Some(&stored.object),
        });
        let new = self.order.iter().filter(move |(of, _)| *of == kind).filter_map(move |id| match self.steps.get(id) {
            Some(Step::Put(put)) if put.before.is_none() => Some(&put.object),
            _ => None,
        });
        present.chain(new)
    }

    /// Notes what is wrong.
    pub fn refuse(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    /// Adds a document. What is wrong with it is noted; `None` if it can't even be placed.
    pub fn put(&mut self, draft: &Draft, mode: Mode, precondition: &Precondition) -> Option<Id> {
        let kind = draft.object.kind();
        let name = draft.object.name().to_owned();
        let before = self.state.by_name(kind, &name).cloned();
        if let Some(message) = precondition.against(kind, &name, before.as_ref().map(|stored| &stored.object)) {
            let path = draft.path_of("metadata.resourceVersion");
            self.violations.push(Violation::coded(Code::OutOfRange, path, message));
        }
        let at = |code, message: String| Some(Violation::coded(code, draft.path_of("metadata.name"), message));
        let misplaced = match (mode, &before) {
            (Mode::Create, Some(_)) => at(Code::AlreadyExists, format!("{kind} `{name}` already exists")),
            (Mode::Update, None) => at(Code::NotFound, format!("there is no {kind} `{name}`")),
            (Mode::Apply | Mode::Create, None) if kind.made_by().is_some() => {
                at(Code::InvalidArgument, kind.made_by().unwrap_or_default().to_owned())
            }
            (_, Some(_)) if kind.is_read_only() => {
                at(Code::PermissionDenied, format!("a {kind} is changed by the cluster alone"))
            }
            _ => None,
        };
        let object = match &before {
            Some(stored) => overlaid(&stored.object, &draft.object),
            None => draft.object.clone(),
        };
        // What belongs to the cluster keeps other rules, but then it stays as it is.
        let is_system = before.as_ref().is_some_and(|stored| is_system(&stored.object)) && kind != Kind::ClusterConfig;
        if is_system && mode != Mode::Create {
            if before.as_ref().is_none_or(|stored| stored.object != object) {
                let message = format!("{kind} `{name}` is part of the system and can't be changed");
                self.violations.push(Violation::coded(Code::PermissionDenied, draft.path_of("metadata.name"), message));
            }
        } else {
            self.violations.extend(draft.violations(before.is_some() && mode == Mode::Apply));
        }
        if let Some(violation) = misplaced {
            self.violations.push(violation);
            return None;
        }
        let put = Put { path: draft.path.clone(), before, object, secret: draft.secret.clone(), by_hand: true };
        let id = self.insert(put);
        if id.is_none() {
            let message = format!("{kind} `{name}` is changed twice");
            self.violations.push(Violation::at(draft.path_of("metadata.name"), message));
        }
        id
    }

    /// Adds a document of a backup. What is new comes with the uid and status that it had, so that tokens of Credentials stay
    /// valid; what is there keeps its own, so that nothing that was replaced since comes back. `tokenless`: nor does the token
    /// of a Credential that is gone.
    pub fn restore(&mut self, draft: &Draft, whole: &Object, tokenless: bool) -> Option<Id> {
        let id = self.put(draft, Mode::Apply, &Precondition::Any)?;
        let is_free =
            self.state.get(id.0, whole.uid()).is_none() && !self.steps.contains_key(&(id.0, whole.uid().to_owned()));
        let Some(Step::Put(put)) = self.steps.get_mut(&id) else { return Some(id) };
        if put.before.is_some() {
            return Some(id);
        }
        put.object.set_status_of(whole);
        if let Object::Credential(credential) = &mut put.object
            && tokenless
        {
            credential.status.get_or_insert_default().token_id.clear();
        }
        if !is_free {
            return Some(id);
        }
        let old = (id.0, whole.uid().to_owned());
        whole.uid().clone_into(&mut put.object.metadata_mut().uid);
        let name = (id.0, put.object.name().to_owned());
        if let Some(step) = self.steps.remove(&id) {
            self.steps.insert(old.clone(), step);
        }
        self.names.insert(name, old.1.clone());
        // It was entered just now.
        if let Some(last) = self.order.last_mut() {
            last.clone_from(&old);
        }
        Some(old)
    }

    /// Removes a resource; what speaks against it is noted.
    pub fn delete(&mut self, stored: Arc<Stored>, path: &str, precondition: &Precondition) -> Option<Id> {
        let kind = stored.object.kind();
        if let Some(message) = precondition.against(kind, stored.object.name(), Some(&stored.object)) {
            self.violations.push(Violation::coded(Code::OutOfRange, path, message));
        }
        let id = (kind, stored.object.uid().to_owned());
        if self.steps.contains_key(&id) {
            let message = format!("{kind} `{}` is changed twice", stored.object.name());
            self.violations.push(Violation::at(path, message));
            return None;
        }
        self.order.push(id.clone());
        let delete = Delete { path: path.to_owned(), before: stored, cascaded: false };
        self.steps.insert(id.clone(), Step::Delete(delete));
        Some(id)
    }

    /// Creates a resource that the cluster itself makes; it gets a uid if it has none.
    pub fn make(&mut self, object: impl Into<Object>) -> Id {
        let object = object.into();
        let put = Put { path: String::new(), before: None, object, secret: None, by_hand: false };
        self.insert(put).expect("a new uid is not in the plan yet")
    }

    /// Replaces a stored resource by what the cluster itself made of it.
    pub fn edit(&mut self, before: &Arc<Stored>, object: impl Into<Object>) -> Option<Id> {
        let before = Some(before.clone());
        self.insert(Put { path: String::new(), before, object: object.into(), secret: None, by_hand: false })
    }

    /// Removes a resource on the cluster's own behalf.
    pub fn drop(&mut self, stored: &Arc<Stored>) {
        let id = (stored.object.kind(), stored.object.uid().to_owned());
        self.order.push(id.clone());
        let delete = Delete { path: String::new(), before: stored.clone(), cascaded: true };
        self.steps.insert(id, Step::Delete(delete));
    }

    /// Adds a write of a key of the cluster.
    pub fn key(&mut self, write: Write) {
        self.keys.push(write);
    }

    fn insert(&mut self, mut put: Put) -> Option<Id> {
        let kind = put.object.kind();
        put.object.set_envelope();
        if put.object.uid().is_empty() {
            put.object.metadata_mut().uid = Uuid::new_v4().to_string();
        }
        let id = (kind, put.object.uid().to_owned());
        let name = (kind, put.object.name().to_owned());
        if self.steps.contains_key(&id) || put.before.is_none() && self.names.contains_key(&name) {
            return None;
        }
        if put.before.is_none() {
            self.names.insert(name, id.1.clone());
        }
        self.order.push(id.clone());
        self.steps.insert(id.clone(), Step::Put(Box::new(put)));
        Some(id)
    }

    /// Deletes what can't outlive what is deleted: all that a User owns, the Sessions of a Credential or Device.
    fn cascade(&mut self) {
        let mut users = HashSet::new();
        let mut owners = HashSet::new();
        for (kind, uid) in &self.order {
            let by_hand =
                matches!(self.steps.get(&(*kind, uid.clone())), Some(Step::Delete(delete)) if !delete.cascaded);
            match kind {
                Kind::User if by_hand => drop(users.insert(uid.clone())),
                Kind::Credential | Kind::Device if by_hand => drop(owners.insert(uid.clone())),
                _ => {}
            }
        }
        if users.is_empty() && owners.is_empty() {
            return;
        }
        let state = self.state.clone();
        // By uid: a Session belongs to a User and to a Credential.
        let mut gone: BTreeMap<&str, &Arc<Stored>> = BTreeMap::new();
        for user in &users {
            for kind in [Kind::Credential, Kind::Device, Kind::Authenticator, Kind::Session] {
                for stored in state.owned_by(kind, user) {
                    gone.insert(stored.object.uid(), stored);
                    if kind == Kind::Credential {
                        owners.insert(stored.object.uid().to_owned());
                    }
                }
            }
        }
        for owner in &owners {
            let sessions = state.owned_by(Kind::Session, owner);
            gone.extend(sessions.map(|stored| (stored.object.uid(), stored)));
        }
        for stored in gone.into_values() {
            if stored.object.kind() == Kind::Session && Some(stored.object.uid()) == self.actor.session_uid() {
                let message = "it would end your own Session: log in by another Credential first";
                self.violations.push(Violation::coded(Code::PermissionDenied, "", message));
            }
            match self.steps.get(&(stored.object.kind(), stored.object.uid().to_owned())) {
                None => self.drop(stored),
                Some(Step::Delete(_)) => {}
                Some(Step::Put(put)) => {
                    let kind = stored.object.kind();
                    let message = format!("{kind} `{}` goes with what the same change deletes", stored.object.name());
                    let violation = Violation::at(format!("{}metadata.name", put.path), message);
                    self.violations.push(violation);
                }
            }
        }
    }

    /// The reasons so far.
    ///
    /// # Errors
    /// If there are any.
    pub fn checked(&mut self) -> Result<(), Refusal> {
        match std::mem::take(&mut self.violations) {
            violations if violations.is_empty() => Ok(()),
            violations => Err(violations.into()),
        }
    }
}

fn is_system(object: &Object) -> bool {
    object.metadata().is_some_and(|metadata| metadata.is_system)
}

/// `before` with what an update may change.
fn overlaid(before: &Object, new: &Object) -> Object {
    let mut object = before.clone();
    object.overlay(new);
    // The metadata of what a log-in or a registration made is the server's alone.
    if matches!(object.kind(), Kind::Session | Kind::Device | Kind::Authenticator)
        && let Some(metadata) = before.metadata()
    {
        object.metadata_mut().clone_from(metadata);
    }
    object
}
