//! The one place where the state changes: no clock, no randomness, no environment, no hash-map order.

use octelium_api::{Kind, Object};

use super::{State, Stored, resources::Order};
use crate::command::{Command, Expected, Outcome, Write};

/// Applies the command of the log entry `index`: all of it, or nothing but the index and the memory of its request id.
pub fn apply(state: &mut State, index: u64, command: &Command) -> Outcome {
    state.index = index;
    if !command.request_id.is_empty()
        && let Some(outcome) = state.requests.outcome(&command.request_id)
        && !is_forgotten()
    {
        return outcome.clone();
    }
    // The copy shares everything with the original until a write touches it; a refused command just drops it.
    let mut next = state.clone();
    let outcome = match change(&mut next, index, command) {
        Ok(()) => {
            *state = next;
            Outcome::Applied { index }
        }
        Err(conflict) => conflict,
    };
    if !command.request_id.is_empty() {
        state.requests.remember(index, &command.request_id, outcome.clone());
    }
    outcome
}

/// Whether a simulation wants requests that come again to be obeyed again.
fn is_forgotten() -> bool {
    #[cfg(feature = "simulation")]
    return crate::simulation::is_made(crate::simulation::Mistake::ForgottenRequests);
    #[cfg(not(feature = "simulation"))]
    false
}

fn change(state: &mut State, index: u64, command: &Command) -> Result<(), Outcome> {
    command.check().map_err(|reason| conflict(Kind::ClusterConfig, "", &reason))?;
    if let Some(ask) = &command.ask {
        state.grants.apply(ask);
    }
    for (position, write) in (0..).zip(&command.writes) {
        match write {
            Write::Put { object, expected, sealed } => {
                put(state, Order { index, position }, object, expected, sealed.as_deref())?;
            }
            Write::Delete { kind, uid, expected } => delete(state, index, *kind, uid, expected)?,
            Write::PutKey { name, sealed } => {
                state.keys.insert(name.as_str().into(), sealed.as_slice().into());
            }
            Write::DeleteKey { name } => {
                state.keys.remove(name.as_str());
            }
            Write::TakeKey { name } => {
                if state.keys.remove(name.as_str()).is_none() {
                    return Err(conflict(Kind::ClusterConfig, name, "it was taken before, or never there"));
                }
            }
            Write::ResetCounters { counters } => state.grants.reset(counters),
        }
    }
    match command.requires.iter().find(|required| state.get(required.kind, &required.uid).is_none()) {
        Some(missing) => Err(conflict(missing.kind, &missing.uid, "it is required, but does not exist")),
        None => Ok(()),
    }
}

fn put(
    state: &mut State,
    order: Order,
    object: &Object,
    expected: &Expected,
    sealed: Option<&[u8]>,
) -> Result<(), Outcome> {
    let (kind, uid, name) = (object.kind(), object.uid(), object.name());
    let refuse = |reason: &str| Err(conflict(kind, if name.is_empty() { uid } else { name }, reason));
    if uid.is_empty() || name.is_empty() {
        return refuse("it has no uid or no name");
    }
    if holds_secret(object) {
        return refuse("it holds secret data that is not sealed");
    }
    let table = state.table_mut(kind);
    table.changed_index = order.index;
    match (expected, table.get(uid)) {
        (Expected::Absent, Some(_)) => refuse("its uid is taken"),
        (Expected::Absent, None) if table.by_name(name).is_some() => refuse("it already exists"),
        (Expected::Absent, None) => {
            let stored = Stored { object: object.clone(), sealed: sealed.map(Into::into), created_index: order.index };
            table.insert(order, stored);
            Ok(())
        }
        (Expected::Version(_), None) => refuse("it does not exist"),
        (Expected::Version(_), Some(present)) if present.object.name() != name => refuse("its name cannot change"),
        (Expected::Version(version), Some(present)) if present.object.resource_version() != version => {
            refuse("it was changed meanwhile")
        }
        (Expected::Version(_), Some(present)) => {
            let sealed = sealed.map(Into::into).or_else(|| present.sealed.clone());
            let stored = Stored { object: object.clone(), sealed, created_index: present.created_index };
            table.replace(stored);
            Ok(())
        }
    }
}

fn delete(state: &mut State, index: u64, kind: Kind, uid: &str, expected: &Expected) -> Result<(), Outcome> {
    let table = state.table_mut(kind);
    table.changed_index = index;
    let Some(present) = table.get(uid) else {
        return Err(conflict(kind, uid, "it does not exist"));
    };
    match expected {
        Expected::Version(version) if present.object.resource_version() == version => {
            table.remove(uid);
            Ok(())
        }
        Expected::Version(_) => Err(conflict(kind, present.object.name(), "it was changed meanwhile")),
        Expected::Absent => Err(conflict(kind, present.object.name(), "it cannot be deleted and absent")),
    }
}

/// The data of Secrets and Configs reaches the log sealed or not at all. (`spec.data` of a Secret is the half that isn't
/// secret, e.g. a certificate.)
fn holds_secret(object: &Object) -> bool {
    match object {
        Object::Secret(secret) => secret.data.is_some(),
        Object::Config(config) => config.data.is_some(),
        _ => false,
    }
}

fn conflict(kind: Kind, name: &str, reason: &str) -> Outcome {
    Outcome::Conflict { kind, name: name.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
