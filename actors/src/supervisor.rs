//! Starts the actors and restarts those that fail.
//!
//! | actor | restarted | given up after | then |
//! |---|---|---|---|
//! | `router` | at once, from the replicated state | 10 failures in 60 s | the node exits with the reason |
//! | `sessions` | the same | the same | the same |
//! | `membership` | after 5 s, as a new start of gossip; only in a cluster of several nodes | never | |
//! | `rate_limiter` | the same, without the leases of the one before | the same | the same |
//!
//! While an actor restarts, its last view stays in force; a view that is too old is the request path's concern.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use octelium_consensus::Replica;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent, rpc::CallResult};
use tokio::sync::watch;

use crate::{
    StateFeed, Views,
    membership::{self, MembershipActor},
    policies::Library,
    rate_limiter::actor::{self as rate_limiter, RateLimiterActor},
    router::{self, RouterActor},
    sessions::{self, SessionsActor},
};

/// Failures of one supervisor's actors within [`WINDOW`] before it gives up.
const FAILURES_MAX: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Gossip is started again so long after it failed, as often as it takes: a node goes on without its hints.
const GOSSIP_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A node that stops doesn't wait longer for that.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(2);
/// How long one change may take to be published before the follower says so.
const FOLLOW_TIMEOUT_MS: u64 = 60_000;

/// The running actors of a node.
pub struct Supervisor {
    actor: ActorRef<Msg>,
    gave_up: watch::Receiver<Option<String>>,
}

impl Supervisor {
    /// Starts all actors; returns once their first views are published.
    ///
    /// # Errors
    /// If an actor can't start.
    pub async fn start(views: Views, replica: &Replica) -> Result<Self, ractor::SpawnErr> {
        let feed = replica.watch();
        let (sender, gave_up) = watch::channel(None);
        let library = Arc::new(Library::default());
        let args = Args {
            router: router::Args { feed: feed.clone(), view: views.routes, library: library.clone() },
            sessions: sessions::Args { feed: feed.clone(), view: views.sessions, library },
            rate_limiter: rate_limiter::Args { feed, replica: replica.clone(), cells: views.limiter.cells().clone() },
            gave_up: sender,
        };
        let (actor, _) = Actor::spawn(None, SupervisorActor, args).await?;
        Ok(Self { actor, gave_up })
    }

    /// Starts gossip with other nodes.
    ///
    /// # Errors
    /// If it can't start now; it is tried again.
    pub async fn gossip(&self, args: membership::Args) -> Result<(), String> {
        match self.actor.call(|reply| Msg::Gossip(Box::new(args), reply), Some(Duration::from_secs(30))).await {
            Ok(CallResult::Success(started)) => started,
            _ => Err("the supervisor doesn't answer".to_owned()),
        }
    }

    /// Resolves with the reason if the actors can't be kept running.
    pub async fn gave_up(&self) -> String {
        let mut gave_up = self.gave_up.clone();
        match gave_up.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the supervisor stopped".to_owned(),
        }
    }

    /// Services that can't be served on this node, with the reason.
    pub async fn broken(&self) -> Vec<(String, String)> {
        let router = match self.actor.call(Msg::Router, Some(Duration::from_secs(5))).await {
            Ok(CallResult::Success(router)) => router,
            _ => return vec![("*".into(), "the router does not answer".into())],
        };
        match router.call(router::Msg::Broken, Some(Duration::from_secs(5))).await {
            Ok(CallResult::Success(broken)) => broken,
            _ => vec![("*".into(), "the router does not answer".into())],
        }
    }

    /// Fails each actor and waits until its successor answers or the supervisor has given up.
    #[cfg(test)]
    pub(crate) async fn fail_all(&self) {
        let router = self.ask(Msg::Router).await;
        let sessions = self.ask(Msg::Sessions).await;
        router.cast(router::Msg::Fail).expect("the router runs");
        sessions.cast(sessions::Msg::Fail).expect("the sessions actor runs");
        while self.gave_up.borrow().is_none() {
            let (next_router, next_sessions) = (self.ask(Msg::Router).await, self.ask(Msg::Sessions).await);
            if next_router.get_id() != router.get_id() && next_sessions.get_id() != sessions.get_id() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    #[cfg(test)]
    pub(crate) async fn report(&self) -> sessions::Report {
        let sessions = self.ask(Msg::Sessions).await;
        match sessions.call(sessions::Msg::Inspect, None).await {
            Ok(CallResult::Success(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    #[cfg(test)]
    pub(crate) async fn rate_limiter(&self) -> ActorRef<rate_limiter::Msg> {
        self.ask(Msg::RateLimiter).await
    }

    #[cfg(test)]
    async fn ask<T: Send + 'static>(&self, message: impl FnOnce(RpcReplyPort<T>) -> Msg) -> T {
        match self.actor.call(message, None).await {
            Ok(CallResult::Success(value)) => value,
            _ => panic!("the supervisor runs"),
        }
    }

    /// Gives the leases of rate limits back, so that other nodes can use them at once; not for long: they come back by themselves.
    pub async fn give_back_leases(&self) {
        let Ok(CallResult::Success(limiter)) = self.actor.call(Msg::RateLimiter, Some(GIVE_BACK_WITHIN)).await else {
            return;
        };
        if !matches!(
            limiter.call(rate_limiter::Msg::GiveBack, Some(GIVE_BACK_WITHIN)).await,
            Ok(CallResult::Success(()))
        ) {
            tracing::warn!("the leases of rate limits aren't given back in time; they lapse");
        }
    }

    /// Stops all actors.
    pub async fn stop(&self) {
        // A stopped supervisor stops its children; one that doesn't in time ends with the process.
        self.actor.stop_and_wait(None, Some(Duration::from_secs(5))).await.ok();
    }
}

/// Tells an actor whenever the replicated state moved on: one message at a time, so that its mailbox stays short.
pub(crate) fn follow<M: ractor::Message>(
    actor: ActorRef<M>,
    mut feed: StateFeed,
    message: impl Fn(RpcReplyPort<u64>) -> M + Send + Sync + 'static,
) {
    feed.mark_changed(); // what was published between start and here must not be missed
    #[allow(clippy::disallowed_methods, reason = "ends with its actor, which is supervised")]
    tokio::spawn(async move {
        while feed.changed().await.is_ok() {
            feed.borrow_and_update();
            match actor.call(&message, Some(Duration::from_millis(FOLLOW_TIMEOUT_MS))).await {
                Ok(CallResult::Success(_)) => {}
                Ok(CallResult::Timeout) => tracing::warn!("a view takes long to follow the replicated state"),
                _ => return, // the actor ended; its successor follows on its own
            }
        }
    });
}

struct SupervisorActor;

enum Msg {
    Gossip(Box<membership::Args>, RpcReplyPort<Result<(), String>>),
    GossipAgain(Box<membership::Args>),
    Router(RpcReplyPort<ActorRef<router::Msg>>),
    #[cfg(test)]
    Sessions(RpcReplyPort<ActorRef<sessions::Msg>>),
    RateLimiter(RpcReplyPort<ActorRef<rate_limiter::Msg>>),
}

struct Args {
    router: router::Args,
    sessions: sessions::Args,
    rate_limiter: rate_limiter::Args,
    gave_up: watch::Sender<Option<String>>,
}

struct State {
    args: Args,
    router: ActorRef<router::Msg>,
    sessions: ActorRef<sessions::Msg>,
    rate_limiter: ActorRef<rate_limiter::Msg>,
    membership: Option<(membership::Args, ActorRef<membership::Msg>)>,
    failures: VecDeque<Instant>,
}

impl State {
    /// What it tells are hints: a node goes on without them.
    async fn start_gossip(&mut self, args: membership::Args, myself: &ActorRef<Msg>) -> Result<(), String> {
        let started = Actor::spawn_linked(None, MembershipActor, args.clone(), myself.get_cell()).await;
        match started {
            Ok((membership, _)) => {
                self.membership = Some((args, membership));
                Ok(())
            }
            Err(error) => {
                myself.send_after(GOSSIP_AGAIN_AFTER, || Msg::GossipAgain(Box::new(args)));
                Err(error.to_string())
            }
        }
    }
}

impl Actor for SupervisorActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        let (router, _) = Actor::spawn_linked(None, RouterActor, args.router.clone(), myself.get_cell()).await?;
        let (sessions, _) = Actor::spawn_linked(None, SessionsActor, args.sessions.clone(), myself.get_cell()).await?;
        let (rate_limiter, _) =
            Actor::spawn_linked(None, RateLimiterActor, args.rate_limiter.clone(), myself.get_cell()).await?;
        Ok(State { args, router, sessions, rate_limiter, membership: None, failures: VecDeque::new() })
    }

    async fn handle(&self, myself: ActorRef<Msg>, msg: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Gossip(args, reply) => {
                let started = state.start_gossip(*args, &myself).await;
                reply.send(started).ok(); // the caller may have stopped waiting
            }
            Msg::GossipAgain(args) => {
                if let Err(reason) = state.start_gossip(*args, &myself).await {
                    tracing::error!(reason, "gossip doesn't start");
                }
            }
            Msg::Router(reply) => drop(reply.send(state.router.clone())),
            #[cfg(test)]
            Msg::Sessions(reply) => drop(reply.send(state.sessions.clone())),
            Msg::RateLimiter(reply) => drop(reply.send(state.rate_limiter.clone())),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, reason) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "stopped".to_owned()))
            }
            _ => return Ok(()),
        };
        if let Some((_, membership)) = &state.membership
            && cell.get_id() == membership.get_id()
        {
            tracing::error!(reason, "gossip failed and is started again soon");
            if let Some((args, _)) = state.membership.take() {
                myself.send_after(GOSSIP_AGAIN_AFTER, || Msg::GossipAgain(Box::new(args)));
            }
            return Ok(());
        }
        let now = Instant::now();
        state.failures.retain(|failure| now.duration_since(*failure) < WINDOW);
        state.failures.push_back(now);
        if state.failures.len() > FAILURES_MAX {
            state.args.gave_up.send_replace(Some(format!("actors fail again and again: {reason}")));
            return Ok(());
        }
        let restarted = if cell.get_id() == state.router.get_id() {
            tracing::error!(reason, "the router failed and is restarted");
            Actor::spawn_linked(None, RouterActor, state.args.router.clone(), myself.get_cell())
                .await
                .map(|(router, _)| state.router = router)
        } else if cell.get_id() == state.sessions.get_id() {
            tracing::error!(reason, "the sessions actor failed and is restarted");
            Actor::spawn_linked(None, SessionsActor, state.args.sessions.clone(), myself.get_cell())
                .await
                .map(|(sessions, _)| state.sessions = sessions)
        } else if cell.get_id() == state.rate_limiter.get_id() {
            tracing::error!(reason, "the rate limiter failed and is restarted");
            Actor::spawn_linked(None, RateLimiterActor, state.args.rate_limiter.clone(), myself.get_cell())
                .await
                .map(|(rate_limiter, _)| state.rate_limiter = rate_limiter)
        } else {
            return Ok(());
        };
        if let Err(error) = restarted {
            state.args.gave_up.send_replace(Some(format!("an actor does not start again: {error}")));
        }
        Ok(())
    }
}
