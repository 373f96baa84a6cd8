//! Idle upstream connections of one thread, the last used first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::client::SharedUpstream;
use crate::clock;
use crate::limits::PoolLimits;

/// Upstream connections of one thread; clones share them.
///
/// An idle connection that its upstream closed, or on which it sent something unasked, isn't used again.
#[derive(Clone)]
pub struct Pool(pub(crate) Rc<Shared>);

pub(crate) struct Shared {
    pub(crate) limits: PoolLimits,
    /// Connections made before the last [`Pool::clear`] aren't kept.
    era: Cell<u64>,
    idle: RefCell<Idle>,
}

struct Idle {
    by_key: HashMap<Rc<str>, Vec<Parked>>,
    count: usize,
    /// When all are looked through next.
    sweep_at: Instant,
}

struct Parked {
    upstream: SharedUpstream,
    /// It is closed if nobody uses it before.
    until: Instant,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        let idle = Idle { by_key: HashMap::new(), count: 0, sweep_at: Instant::now() };
        Self(Rc::new(Shared { limits, era: Cell::new(0), idle: RefCell::new(idle) }))
    }

    /// Closes all idle connections; those in use are closed when their response ends.
    pub fn clear(&self) {
        self.0.era.set(self.0.era.get() + 1);
        let idle = &mut *self.0.idle.borrow_mut();
        idle.by_key.clear();
        idle.count = 0;
    }

    /// Number of idle connections.
    pub fn idle(&self) -> usize {
        self.0.idle.borrow().count
    }

    /// Closes idle connections that are too old or that their upstream closed. Happens now and then by itself while
    /// requests are sent; a thread that may rest calls it from a timer.
    pub fn sweep(&self) {
        self.0.idle.borrow_mut().sweep(Instant::now(), self.0.limits.idle_timeout);
    }

    pub(crate) fn era(&self) -> u64 {
        self.0.era.get()
    }

    /// The connection used last under this key that is still good. The task is woken when something comes on it.
    pub(crate) fn take(&self, key: &str, cx: &mut Context<'_>) -> Option<SharedUpstream> {
        let idle = &mut *self.0.idle.borrow_mut();
        let parked = idle.by_key.get_mut(key).filter(|parked| !parked.is_empty())?;
        let now = clock::now();
        while let Some(Parked { upstream, until }) = parked.pop() {
            idle.count -= 1;
            if now >= until {
                // Those below it are older still.
                idle.count -= parked.len();
                parked.clear();
            } else if upstream.borrow_mut().is_quiet(cx) {
                return Some(upstream);
            }
        }
        None
    }

    pub(crate) fn put(&self, upstream: SharedUpstream) {
        let limits = &self.0.limits;
        let known = upstream.borrow();
        if known.era != self.era() || limits.idle_per_key_max == 0 || limits.idle_max == 0 {
            return;
        }
        let now = clock::now();
        let idle = &mut *self.0.idle.borrow_mut();
        if now >= idle.sweep_at {
            idle.sweep(now, limits.idle_timeout);
        }
        if idle.count >= limits.idle_max {
            idle.drop_oldest();
        }
        let parked = match idle.by_key.get_mut(&known.key) {
            Some(parked) => parked,
            None => idle.by_key.entry(known.key.clone()).or_default(),
        };
        drop(known);
        if parked.len() >= limits.idle_per_key_max {
            parked.remove(0);
            idle.count -= 1;
        }
        parked.push(Parked { upstream, until: now + limits.idle_timeout });
        idle.count += 1;
    }
}

impl Idle {
    fn sweep(&mut self, now: Instant, idle_timeout: Duration) {
        let mut cx = Context::from_waker(Waker::noop());
        self.sweep_at = now + idle_timeout / 4;
        self.count = 0;
        self.by_key.retain(|_, parked| {
            parked.retain_mut(|parked| now < parked.until && parked.upstream.borrow_mut().is_quiet(&mut cx));
            self.count += parked.len();
            !parked.is_empty()
        });
    }

    fn drop_oldest(&mut self) {
        let oldest = self.by_key.values_mut().filter(|parked| !parked.is_empty()).min_by_key(|parked| parked[0].until);
        if let Some(parked) = oldest {
            parked.remove(0);
            self.count -= 1;
        }
    }
}
