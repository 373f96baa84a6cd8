//! Carries what [`Leases`] asks to the log, and what the log grants to the requests that wait.
//! Told by: the feed of the replicated state, and requests that find no token, all at once. Publishes: tokens, in [`Cells`].

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use octelium_consensus::{Ask, Outcome, Replica, boot_time_ns};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, rpc::CallResult};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{cells::Cells, leases::Leases};
use crate::StateFeed;

/// Asks are gathered for at least so long.
const TICK: Duration = Duration::from_millis(5);
/// After a failure the next ask waits for so long.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// An ask that has not been answered after so long is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often counters out of use are dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What the actor is told.
pub enum Msg {
    /// The replicated state moved on; answers with its index.
    Follow(RpcReplyPort<u64>),
    /// Some counter needs tokens.
    Wake(RpcReplyPort<()>),
    /// The time that it waited for has come.
    Tick,
    /// What became of the ask with this number.
    Asked {
        /// The ask.
        sequence: u64,
        /// Whether the log took it.
        applied: bool,
    },
    /// The node stops: everything held goes back; answers when it has.
    GiveBack(RpcReplyPort<()>),
    /// What is held, for tests and inspection.
    Inspect(RpcReplyPort<Report>),
    /// Fails the actor, to test its supervision.
    #[cfg(test)]
    Fail,
}

/// See [`Msg::Inspect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Counters that this node knows.
    pub counters: usize,
    /// Leases that it holds.
    pub leases: usize,
    /// Asks that it sent.
    pub asks: u64,
    /// Whether it will do something if nobody tells it to.
    pub idle: bool,
}

/// What the actor needs.
#[derive(Clone)]
pub struct Args {
    /// Where the replicated state comes from.
    pub feed: StateFeed,
    /// Where to ask.
    pub replica: Replica,
    /// The node's counters.
    pub cells: Arc<Cells>,
}

/// The actor.
pub struct RateLimiterActor;

/// A message to come.
type Alarm = JoinHandle<Result<(), ractor::MessagingErr<Msg>>>;

/// What the actor keeps.
pub struct OwnState {
    args: Args,
    leases: Leases,
    asks: u64,
    /// Something may be in the queue of the counters.
    woken: bool,
    /// When the ask in flight was sent.
    asked_at: u64,
    /// Before that nothing is sent.
    not_before: u64,
    swept_at: u64,
    alarm: Option<(u64, Alarm)>,
    /// Who waits until nothing is held any more.
    gives_back: Option<RpcReplyPort<()>>,
}

impl Actor for RateLimiterActor {
    type Msg = Msg;
    type State = OwnState;
    type Arguments = Args;

    async fn pre_start(&self, _: ActorRef<Msg>, args: Args) -> Result<OwnState, ActorProcessingErr> {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let leases = Leases::new(args.cells.clone(), args.replica.node_id(), high ^ low);
        Ok(OwnState {
            args,
            leases,
            asks: 0,
            woken: true,
            asked_at: 0,
            not_before: 0,
            swept_at: boot_time_ns(),
            alarm: None,
            gives_back: None,
        })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut OwnState) -> Result<(), ActorProcessingErr> {
        crate::supervisor::follow(myself.clone(), state.args.feed.clone(), Msg::Follow);
        wake(myself.clone(), state.args.cells.clone());
        state.arm(&myself);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, msg: Msg, state: &mut OwnState) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Follow(reply) => {
                let index = state.absorb();
                reply.send(index).ok(); // the follower may have stopped waiting; that is no failure
            }
            Msg::Wake(reply) => {
                state.woken = true;
                reply.send(()).ok(); // as above
            }
            Msg::Tick => {
                state.alarm = None;
                state.tick(&myself);
            }
            // It may have been given up meanwhile; what it led to is in the state all the same.
            Msg::Asked { applied: true, .. } => drop(state.absorb()),
            Msg::Asked { sequence, applied: false } => {
                state.leases.failed(sequence);
                state.not_before = boot_time_ns() + nanos(AGAIN_AFTER);
            }
            Msg::GiveBack(reply) => {
                state.leases.give_back();
                state.woken = true;
                state.gives_back = Some(reply);
                state.tick(&myself);
            }
            Msg::Inspect(reply) => {
                reply.send(state.report()).ok(); // as above
            }
            #[cfg(test)]
            Msg::Fail => return Err("asked to fail".into()),
        }
        if state.leases.has_given_back()
            && let Some(reply) = state.gives_back.take()
        {
            reply.send(()).ok(); // as above
        }
        state.arm(&myself);
        state.count();
        Ok(())
    }
}

impl OwnState {
    /// Tells the figures how much is held and was asked.
    fn count(&self) {
        let figures = &self.args.cells.figures;
        figures.leases.store(self.leases.held() as u64, Relaxed);
    }

    /// Takes in the newest state; returns its index.
    fn absorb(&mut self) -> u64 {
        let newest = self.args.feed.borrow_and_update().clone();
        self.leases.absorb(newest.grants(), boot_time_ns());
        newest.index()
    }

    fn tick(&mut self, myself: &ActorRef<Msg>) {
        let now = boot_time_ns();
        if let Some(sequence) = self.leases.in_flight()
            && now >= self.asked_at + nanos(ANSWER_WITHIN)
        {
            self.leases.failed(sequence);
        }
        if now >= self.swept_at + nanos(SWEEP_EVERY) {
            self.args.cells.sweep(now);
            self.swept_at = now;
        }
        if now < self.not_before {
            return;
        }
        self.woken = false;
        let newest = self.args.feed.borrow().clone();
        if let Some(ask) = self.leases.ask(newest.grants(), now) {
            self.asks += 1;
            self.args.cells.figures.asks.fetch_add(1, Relaxed);
            self.asked_at = now;
            self.not_before = now + nanos(TICK);
            send(myself.clone(), self.args.replica.clone(), ask);
        }
    }

    /// Sees to it that [`Msg::Tick`] comes when there is something to do, and only then.
    fn arm(&mut self, myself: &ActorRef<Msg>) {
        let due = if self.leases.in_flight().is_some() {
            Some(self.asked_at + nanos(ANSWER_WITHIN))
        } else if self.woken || self.leases.is_busy() {
            Some(self.not_before)
        } else {
            self.leases.next_deadline().map(|at| at.max(self.not_before))
        };
        match (due, &self.alarm) {
            (Some(due), Some((at, _))) if *at == due => return,
            (None, None) => return,
            _ => {}
        }
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
        self.alarm = due.map(|due| {
            let after = Duration::from_nanos(due.saturating_sub(boot_time_ns()));
            (due, myself.send_after(after, || Msg::Tick))
        });
    }

    fn report(&self) -> Report {
        let idle = self.alarm.is_none() && self.leases.in_flight().is_none() && !self.woken && !self.leases.is_busy();
        Report { counters: self.args.cells.len(), leases: self.leases.held(), asks: self.asks, idle }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Proposes an ask and tells the actor what became of it.
fn send(actor: ActorRef<Msg>, replica: Replica, ask: Ask) {
    let sequence = ask.sequence;
    #[allow(clippy::disallowed_methods, reason = "ends with its answer, after two seconds at the latest")]
    tokio::spawn(async move {
        let asked = tokio::time::timeout(ANSWER_WITHIN, replica.ask(ask)).await;
        let applied = matches!(asked, Ok(Ok(Outcome::Applied { .. })));
        if let Ok(Err(error)) = asked {
            tracing::debug!(%error, "an ask for rate limits failed");
        }
        actor.cast(Msg::Asked { sequence, applied }).ok(); // its successor asks anew
    });
}

/// Tells the actor when counters need tokens: one message at a time, however many do.
fn wake(actor: ActorRef<Msg>, cells: Arc<Cells>) {
    #[allow(clippy::disallowed_methods, reason = "ends with its actor, which is supervised")]
    tokio::spawn(async move {
        loop {
            cells.wake.notified().await;
            if !matches!(actor.call(Msg::Wake, None).await, Ok(CallResult::Success(()))) {
                // The actor ended: its successor is told instead.
                cells.wake.notify_one();
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests;
