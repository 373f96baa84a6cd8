//! From a plan that nothing speaks against to the writes of one command.

use std::{collections::HashMap, sync::Arc};

use octelium_api::Object;
use octelium_consensus::{Expected, Requirement, SealingKey, Stored, Write};
use uuid::Uuid;

use super::{Delete, Id, Plan, Put, Step};
use crate::{refusal::Refusal, seal};

/// What became of one resource.
#[derive(Debug, Clone)]
pub struct Touched {
    /// As it was.
    pub before: Option<Arc<Stored>>,
    /// As it is, or would be: unstamped if it is equal to what was.
    pub after: Option<Object>,
    /// Whether the two differ, secret data included.
    pub changed: bool,
}

/// What is to be proposed.
#[derive(Debug, Default)]
pub struct Finished {
    /// All or nothing.
    pub writes: Vec<Write>,
    /// What those refer to.
    pub requires: Vec<Requirement>,
    /// Every resource of the plan.
    pub touched: HashMap<Id, Touched>,
}

impl Plan {
    /// Completes, judges and stamps the change.
    ///
    /// # Errors
    /// All that speaks against it.
    pub fn finish(mut self, sealing: &SealingKey) -> Result<Finished, Refusal> {
        self.cascade();
        self.derive();
        let requires = self.judge();
        self.checked()?;
        let mut finished = Finished::default();
        // Deletions first, so that nothing stands in the way of what is put.
        let mut puts = Vec::new();
        for id in std::mem::take(&mut self.order) {
            match self.steps.remove(&id) {
                Some(Step::Put(put)) => puts.push((id, put)),
                Some(Step::Delete(Delete { before, .. })) => {
                    let expected = Expected::Version(before.object.resource_version().to_owned());
                    finished.writes.push(Write::Delete { kind: id.0, uid: id.1.clone(), expected });
                    finished.touched.insert(id, Touched { before: Some(before), after: None, changed: true });
                }
                None => {}
            }
        }
        for (id, put) in puts {
            let (touched, write) = self.stamp(*put, sealing);
            finished.writes.extend(write);
            finished.touched.insert(id, touched);
        }
        if !finished.writes.is_empty() {
            finished.requires = requires;
        }
        finished.writes.append(&mut self.keys);
        Ok(finished)
    }

    fn stamp(&self, put: Put, sealing: &SealingKey) -> (Touched, Option<Write>) {
        let Put { before, mut object, secret, .. } = put;
        let same_secret = match (&secret, &before) {
            (None, _) => true,
            (Some(new), Some(before)) => seal::open_data(sealing, before).is_some_and(|old| *old == **new),
            (Some(_), None) => false,
        };
        if let Some(stored) = &before
            && stored.object == object
            && same_secret
        {
            return (Touched { before, after: Some(object), changed: false }, None);
        }
        let (kind, uid) = (object.kind(), object.uid().to_owned());
        let sealed = secret.filter(|_| !same_secret).map(|secret| seal::seal_data(sealing, kind, &uid, &secret));
        let now = self.now.timestamp();
        let metadata = object.metadata_mut();
        match &before {
            None => metadata.created_at = Some(now),
            Some(_) => metadata.updated_at = Some(now),
        }
        metadata.last_resource_version = std::mem::replace(&mut metadata.resource_version, Uuid::now_v7().to_string());
        metadata.actor_ref.clone_from(&self.actor.session);
        metadata.actor_operation.clone_from(&self.actor.operation);
        let expected = match &before {
            None => Expected::Absent,
            Some(stored) => Expected::Version(stored.object.resource_version().to_owned()),
        };
        let write = Write::Put { object: object.clone(), expected, sealed };
        (Touched { before, after: Some(object), changed: true }, Some(write))
    }
}
