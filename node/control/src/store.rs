//! The one way by which anything changes: read the newest state, plan, propose, wait until requests see it.

use std::{sync::Arc, time::Duration};

use octelium_actors::Views;
use octelium_api::Object;
use octelium_consensus::{Command, Outcome, Replica, SealingKey, State};
use tokio::sync::Mutex;
use tonic::Code;

use crate::{
    clock::{Clock, Now},
    plan::{Actor, Finished, Id, Plan},
    refusal::Refusal,
};

/// A change that meets another one is planned anew this often.
const ATTEMPTS: usize = 4;
/// The caller is answered even if the views don't follow within this time: the change itself is done.
const VIEWS_WITHIN: Duration = Duration::from_secs(5);

/// See the module.
pub struct Store {
    pub replica: Replica,
    pub views: Views,
    pub sealing: Arc<SealingKey>,
    pub domain: Arc<str>,
    pub clock: Clock,
    /// Changes are planned one after the other, so that a plan is seldom overtaken.
    one_by_one: Mutex<()>,
}

/// A change that took effect, or that changed nothing.
pub struct Done<T> {
    /// What the plan's maker wanted to know.
    pub value: T,
    /// The log index of the change; 0 if nothing changed.
    pub index: u64,
    pub finished: Finished,
}

impl<T> Done<T> {
    /// The resource as it is now.
    pub fn object(&self, id: &Id) -> Option<&Object> {
        self.finished.touched.get(id)?.after.as_ref()
    }
}

impl Store {
    pub fn new(replica: Replica, views: Views, sealing: Arc<SealingKey>, domain: &str, clock: Clock) -> Self {
        Self { replica, views, sealing, domain: domain.into(), clock, one_by_one: Mutex::new(()) }
    }

    pub fn state(&self) -> Arc<State> {
        self.replica.state()
    }

    pub fn now(&self) -> Now {
        Now::read(&self.clock)
    }

    /// An empty plan upon the newest state.
    pub fn plan(&self, actor: &Actor) -> Plan {
        Plan::new(self.state(), self.now(), actor.clone(), self.domain.clone())
    }

    /// Changes what `build` plans; it is called again if something else changed meanwhile.
    ///
    /// # Errors
    /// What `build` says, what speaks against the plan, or that it can't be committed now.
    pub async fn change<T, E: From<Refusal>>(
        &self,
        actor: &Actor,
        mut build: impl FnMut(&mut Plan) -> Result<T, E>,
    ) -> Result<Done<T>, E> {
        let alone = self.one_by_one.lock().await;
        for _ in 0..ATTEMPTS {
            let mut plan = self.plan(actor);
            let now = plan.now();
            let value = build(&mut plan)?;
            let finished = plan.finish(&self.sealing)?;
            match self.propose(&finished, now, String::new()).await? {
                Outcome::Applied { index } => {
                    drop(alone);
                    self.visible(index).await;
                    return Ok(Done { value, index, finished });
                }
                Outcome::Conflict { kind, name, reason } => {
                    tracing::info!(%kind, name, reason, "a change met another one and is planned anew");
                }
            }
        }
        Err(Refusal::new(Code::OutOfRange, "other changes came first again and again; try again").into())
    }

    /// Like [`Self::change`], but once and under the caller's request id: a repeated id has no second effect.
    ///
    /// # Errors
    /// As there; a conflict is told at once, since the id is spent.
    pub async fn change_once<T, E: From<Refusal>>(
        &self,
        actor: &Actor,
        request_id: &str,
        build: impl FnOnce(&mut Plan) -> Result<T, E>,
        complete: impl FnOnce(&mut Finished, &T),
    ) -> Result<Done<T>, E> {
        let alone = self.one_by_one.lock().await;
        let mut plan = self.plan(actor);
        let now = plan.now();
        let value = build(&mut plan)?;
        let mut finished = plan.finish(&self.sealing)?;
        complete(&mut finished, &value);
        match self.propose(&finished, now, request_id.to_owned()).await? {
            Outcome::Applied { index } => {
                drop(alone);
                self.visible(index).await;
                Ok(Done { value, index, finished })
            }
            Outcome::Conflict { kind, name, reason } => {
                let message =
                    format!("{kind} `{name}`: {reason}; nothing was changed, try again with another request id");
                Err(Refusal::new(Code::OutOfRange, message).into())
            }
        }
    }

    /// The log index at which the change with this request id took effect.
    ///
    /// # Errors
    /// If that can't be found out now.
    pub async fn index_of(&self, request_id: &str) -> Result<u64, Refusal> {
        let nothing =
            Command { request_id: request_id.to_owned(), ..Command::new(self.now().unix_nanos(), Vec::new()) };
        match self.commit(nothing).await? {
            Outcome::Applied { index } => Ok(index),
            Outcome::Conflict { .. } => Ok(0),
        }
    }

    async fn propose(&self, finished: &Finished, now: Now, request_id: String) -> Result<Outcome, Refusal> {
        if finished.writes.is_empty() {
            return Ok(Outcome::Applied { index: 0 });
        }
        let command = Command {
            request_id,
            requires: finished.requires.clone(),
            ..Command::new(now.unix_nanos(), finished.writes.clone())
        };
        self.commit(command).await
    }

    async fn commit(&self, command: Command) -> Result<Outcome, Refusal> {
        self.replica.propose(command).await.map_err(|error| {
            use octelium_consensus::Error;
            let code = match &error {
                Error::Invalid { .. } => Code::InvalidArgument,
                _ => Code::Unavailable,
            };
            tracing::warn!(%error, "a change can't be committed");
            Refusal::new(code, error.to_string())
        })
    }

    /// Waits until requests are decided by the state at `index`.
    async fn visible(&self, index: u64) {
        if index > 0 && tokio::time::timeout(VIEWS_WITHIN, self.views.reached(index)).await.is_err() {
            tracing::warn!(index, "the views don't follow the replicated state; the change is done nevertheless");
        }
    }
}
