//! Requests and answers that are late, lost or doubled, and overtake each other.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture};
use octelium_consensus::transport::{Link, LinkError, Method, Parts};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{World, spawn};

/// A connection on which nothing comes back is given up after this time, as the real one is by its signs of life.
const ALIVE_WITHIN: Duration = Duration::from_secs(6);

/// The way out of a node.
pub struct Port {
    pub world: Weak<Mutex<World>>,
    pub from: usize,
}

/// What the network does with a request.
struct Fate {
    /// `None`: it is lost.
    there: Option<Duration>,
    back: Option<Duration>,
    /// It comes again.
    again: Option<Duration>,
}

impl World {
    fn travels(&mut self, from: usize, to: usize) -> Option<Duration> {
        let (is_lost, micros) = (self.random.chance(self.lost), 20 + self.random.exponential(self.delay));
        (!is_lost && !self.cut.contains(&(from, to))).then(|| Duration::from_micros(micros))
    }

    fn send(&mut self, from: usize, to: usize, what: &str) -> Fate {
        self.report.messages += 1;
        let (there, back) = (self.travels(from, to), self.travels(to, from));
        let is_doubled = self.random.chance(2);
        let again = Duration::from_micros(self.random.exponential(50 * self.delay));
        self.note(&format!("n{from} to n{to}: {what}, {there:?}, {back:?}"));
        Fate { there, back, again: is_doubled.then_some(again) }
    }
}

impl Link for Port {
    fn call(
        &self,
        node: u64,
        address: &str,
        method: Method,
        request: Parts,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let (world, from, address) = (self.world.clone(), self.from, address.to_owned());
        Box::pin(async move {
            let parts: Vec<Bytes> = request.collect().await;
            let unreachable =
                |reason: &str| LinkError::Unreachable { node, address: address.clone(), reason: reason.to_owned() };
            let no_answer =
                |reason: &str| LinkError::NoAnswer { node, address: address.clone(), reason: reason.to_owned() };
            let (sender, answer) = oneshot::channel();
            {
                let world = world.upgrade().ok_or_else(|| unreachable("the run is over"))?;
                let mut held = world.lock();
                let to = address.trim_start_matches('n').parse().unwrap_or(usize::MAX);
                if held.nodes.get(to).is_none_or(|of| !of.is_running() || of.id != node) {
                    return Err(unreachable("nobody is there"));
                }
                let bytes: usize = parts.iter().map(Bytes::len).sum();
                let fate = held.send(from, to, &format!("{} of {bytes} bytes", method.name()));
                let source = held.nodes[from].id;
                let way = Way { world: Arc::downgrade(&world), source, to, node, method, parts };
                if let Some(after) = fate.again {
                    way.clone().deliver(after, None, oneshot::channel().0);
                }
                match fate.there {
                    Some(after) => way.deliver(after, fate.back, sender),
                    None => breaks_later(sender),
                }
            }
            match timeout(within, answer).await {
                Err(_) => Err(no_answer("timeout")),
                Ok(Err(_)) => Err(no_answer("the connection broke")),
                Ok(Ok(answer)) => answer.map_err(|reason| no_answer(&reason)),
            }
        })
    }
}

/// Nobody answers; after a while the connection is found to be broken.
fn breaks_later(sender: oneshot::Sender<Result<Bytes, String>>) {
    spawn(async move {
        sleep(ALIVE_WITHIN).await;
        drop(sender);
    });
}

/// A request under way.
#[derive(Clone)]
struct Way {
    world: Weak<Mutex<World>>,
    source: u64,
    to: usize,
    node: u64,
    method: Method,
    parts: Vec<Bytes>,
}

impl Way {
    fn deliver(self, after: Duration, back: Option<Duration>, sender: oneshot::Sender<Result<Bytes, String>>) {
        // It is on its way whether or not somebody waits for it.
        spawn(async move {
            sleep(after).await;
            let answering = {
                let Some(world) = self.world.upgrade() else { return };
                let world = world.lock();
                let node = &world.nodes[self.to];
                let (Some(machine), Some(replica)) = (&node.machine, &node.replica) else { return };
                if node.id != self.node {
                    return;
                }
                let (replica, source, method) = (replica.clone(), self.source, self.method);
                let request = Box::pin(futures_util::stream::iter(self.parts.into_iter().map(Ok)));
                machine.spawn(async move { replica.answer(source, method, request).await })
            };
            let Ok(answer) = answering.await else { return };
            match back {
                Some(back) => {
                    sleep(back).await;
                    sender.send(answer.map_err(|error| error.to_string())).ok();
                }
                None => breaks_later(sender),
            }
        });
    }
}
