//! Upkeep: removes Sessions and Credentials whose time is over, which admit nobody anyway, and renews the keys that sign
//! tokens.

use std::collections::BTreeMap;

use octelium_api::{Kind, Object};

use crate::{
    Control, Error,
    auth::{credential, session},
    plan::Actor,
    refusal::Refusal,
    rotation,
};

/// So many are removed at once; the rest waits for the next time.
const AT_ONCE_MAX: usize = 1_000;

impl Control {
    /// Removes what has expired; to be called every few minutes. Returns how many resources it removed.
    ///
    /// # Errors
    /// If the change can't be committed now.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let actor = Actor { operation: "sweep".to_owned(), ..Actor::default() };
        let done = self.inner.store.change(&actor, |plan| {
            let now = plan.now();
            let keys = rotation::rotate(plan, &self.inner.store.sealing);
            if let Err(error) = keys {
                tracing::error!(%error, "the keys that sign tokens can't be renewed");
            }
            let state = plan.state().clone();
            let sessions = state.list(Kind::Session).filter(|stored| match &stored.object {
                Object::Session(session) => !session::is_live(session, now),
                _ => false,
            });
            let credentials = state.list(Kind::Credential).filter(|stored| match &stored.object {
                Object::Credential(resource) => {
                    resource.spec.as_ref().is_some_and(|spec| credential::is_expired(spec, now))
                }
                _ => false,
            });
            let mut gone = BTreeMap::new();
            for stored in sessions.chain(credentials).take(AT_ONCE_MAX) {
                // The Sessions of an expired Credential are over with it. (One that was used up isn't swept.)
                let made = state.owned_by(Kind::Session, stored.object.uid());
                gone.extend(made.map(|session| (session.object.uid(), session)));
                gone.insert(stored.object.uid(), stored);
            }
            gone.values().for_each(|stored| plan.drop(stored));
            Ok::<_, Refusal>(gone.len())
        });
        done.await.map(|done| done.value).map_err(|refusal| Error::Refused(refusal.to_string()))
    }
}
