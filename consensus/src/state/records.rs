//! The state as a list of stored records, in one order that depends on nothing but the state: for snapshots and digests.

use octelium_api::Kind;
use prost::Message;

use super::{State, Stored, resources::Order};
use crate::{
    command::{Outcome, kind, number, object},
    form,
};

/// The stored form of one record.
pub(crate) fn encode(content: form::Content) -> Vec<u8> {
    form::Record { content: Some(content) }.encode_to_vec()
}

impl State {
    /// All that the state holds, except its index.
    pub(crate) fn records(&self) -> impl Iterator<Item = form::Content> {
        let resources = Kind::ALL.iter().flat_map(|kind| {
            self.table(*kind).ordered().map(|(order, stored)| {
                form::Content::Resource(form::Resource {
                    kind: number(*kind),
                    object: stored.object.encode(),
                    sealed: stored.sealed.as_ref().map(|sealed| sealed.to_vec()),
                    created_index: order.index,
                    created_position: order.position,
                })
            })
        });
        let keys = self
            .keys()
            .map(|(name, sealed)| form::Content::Key(form::Key { name: name.to_owned(), sealed: sealed.to_vec() }));
        let requests = self.requests.iter().map(|(index, request)| {
            let conflict = match &request.outcome {
                Outcome::Applied { .. } => None,
                Outcome::Conflict { kind, name, reason } => {
                    Some(form::Conflict { kind: number(*kind), name: name.clone(), reason: reason.clone() })
                }
            };
            form::Content::Request(form::Request { id: request.id.to_string(), index, conflict })
        });
        resources.chain(keys).chain(requests).chain(self.grants.records())
    }

    /// Puts one record back.
    ///
    /// # Errors
    /// A sentence, if the record doesn't belong into a state.
    pub(crate) fn restore(&mut self, content: form::Content) -> Result<(), String> {
        match content {
            form::Content::Resource(resource) => {
                let object = object(resource.kind, &resource.object)?;
                let table = self.table_mut(object.kind());
                if table.get(object.uid()).is_some() || table.by_name(object.name()).is_some() {
                    return Err(format!("the {} `{}` is there twice", object.kind(), object.name()));
                }
                let order = Order { index: resource.created_index, position: resource.created_position };
                let sealed = resource.sealed.map(Into::into);
                table.insert(order, Stored { object, sealed, created_index: order.index });
            }
            form::Content::Key(key) => {
                self.keys.insert(key.name.into(), key.sealed.into());
            }
            form::Content::Request(request) => {
                let outcome = match request.conflict {
                    None => Outcome::Applied { index: request.index },
                    Some(conflict) => {
                        Outcome::Conflict { kind: kind(conflict.kind)?, name: conflict.name, reason: conflict.reason }
                    }
                };
                self.requests.remember(request.index, &request.id, outcome);
            }
            form::Content::Limits(limits) => self.grants.restore_limits(limits),
            form::Content::Counter(counter) => self.grants.restore_counter(counter)?,
            form::Content::Head(_) | form::Content::End(_) => return Err("a record is out of place".to_owned()),
        }
        Ok(())
    }
}
