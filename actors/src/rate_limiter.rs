//! Strict rate limits: in every span of one window, over all nodes, at most `limit` requests are admitted.
//!
//! Requests spend tokens of leases that this node holds, without a lock and without a wait; the log grants the leases. The
//! request path talks to a [`Limiter`]; the actor beside it ([`actor`]) carries asks to the log and grants back. The
//! promise and its proof are in `docs/src/rate-limiting.md`.

pub mod actor;
pub mod cell;
pub mod cells;
pub mod leases;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use octelium_consensus::boot_time_ns;

use cell::Cell;
use cells::{Bounds, Cells, Waited};

/// What is counted together: a digest, so that a key of any length takes the same room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterId([u8; 16]);

impl CounterId {
    /// The counter of one key of one plugin of one Service. Another window is another counter.
    pub fn new(service_uid: &str, plugin: &str, key: &str, window: Duration) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        // With their lengths: no two lists of parts look the same.
        for part in [service_uid.as_bytes(), plugin.as_bytes(), key.as_bytes(), &window.as_nanos().to_be_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(id)
    }

    /// The counter that stands in the log like that.
    pub fn from_bytes(bytes: octelium_consensus::state::grants::CounterId) -> Self {
        Self(bytes)
    }

    /// As it stands in the log.
    pub fn bytes(&self) -> octelium_consensus::state::grants::CounterId {
        self.0
    }
}

/// A counter for people: the digest of it tells nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The uid of the Service.
    pub service_uid: Arc<str>,
    /// The plugin.
    pub plugin: Arc<str>,
    /// The key, cut off if it is long.
    pub key: Box<str>,
}

impl Name {
    /// Bytes of a key that are kept.
    pub const KEY_BYTES_MAX: usize = 120;

    /// The name of a counter.
    pub fn new(service_uid: &Arc<str>, plugin: &Arc<str>, key: &str) -> Self {
        let end = key.floor_char_boundary(Self::KEY_BYTES_MAX);
        Self { service_uid: service_uid.clone(), plugin: plugin.clone(), key: key[..end].into() }
    }
}

/// The limit that a counter is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Admissions in each window.
    pub limit: u64,
    /// The length of a window.
    pub window: Duration,
    /// The version of the limit; the highest counts. (The log index of the Service will do.)
    pub revision: u64,
}

/// A request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// How many more would be admitted now, as far as this node knows.
    pub remaining: u64,
    /// When that will have changed for the better: the next capacity that comes back if nothing remains, else a window.
    pub reset: Duration,
}

/// A request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The limit is reached.
    Exceeded {
        /// After that it's worth another try.
        retry_after: Duration,
    },
    /// It isn't known whether the limit is reached: the log gave no answer in time, or there was no room to wait for it.
    Unavailable,
}

/// The node's tokens, for the request path. Clones are handles to the same ones.
#[derive(Clone)]
pub struct Limiter {
    cells: Arc<Cells>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Limiter {
    /// A limiter that holds nothing until an actor works for it.
    pub fn new(bounds: Bounds) -> Self {
        Self { cells: Arc::new(Cells::new(bounds)) }
    }

    /// The counters, for the actor.
    pub fn cells(&self) -> &Arc<Cells> {
        &self.cells
    }

    /// Takes one token of those that this node holds: no lock, no wait. `None`: it holds none now.
    pub fn try_spend(&self, id: CounterId, rule: Rule) -> Option<Admission> {
        if rule.limit == 0 {
            return None;
        }
        self.cells.take_known(id, rule, &boot_time_ns)
    }

    /// As [`Self::try_spend`], but waits for a grant if there may be one, for `wait` at most. Those who wait are served in turn.
    ///
    /// # Errors
    /// Why the request is refused.
    pub async fn spend(
        &self,
        id: CounterId,
        rule: Rule,
        wait: Duration,
        name: impl FnOnce() -> Name,
    ) -> Result<Admission, Refused> {
        let cells = &*self.cells;
        if rule.limit == 0 {
            return Err(Refused::Exceeded { retry_after: rule.window });
        }
        let name = || Some(Box::new(name()));
        let cell = cells.cell(id, rule, &boot_time_ns, name).ok_or(Refused::Unavailable)?;
        if let Some(admission) = cells.take(&cell, rule, &boot_time_ns, false) {
            return Ok(admission);
        }
        let since = boot_time_ns();
        if let Some(refused) = cells.refused(&cell, rule, since) {
            return Err(refused);
        }
        let result = Self::wait(cells, &cell, rule, since, tokio::time::Instant::now() + wait).await;
        let waited = match result {
            Ok(_) => Waited::Admitted,
            Err(Refused::Exceeded { .. }) => Waited::Exceeded,
            Err(Refused::Unavailable) => Waited::Unavailable,
        };
        cells.figures().wait_ended(waited, boot_time_ns().saturating_sub(since));
        result
    }

    async fn wait(
        cells: &Cells,
        cell: &Arc<Cell>,
        rule: Rule,
        since: u64,
        deadline: tokio::time::Instant,
    ) -> Result<Admission, Refused> {
        let _waiting = Waiting::begin(cells, cell).ok_or(Refused::Unavailable)?;
        let bell = cells.bell(cell);
        loop {
            let mut notified = std::pin::pin!(bell.notified());
            // From here on no wake-up is missed.
            notified.as_mut().enable();
            if let Some(admission) = cells.take(cell, rule, &boot_time_ns, true) {
                return Ok(admission);
            }
            if let Some(refused) = cells.refused(cell, rule, boot_time_ns()) {
                return Err(refused);
            }
            cells.want(cell);
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return Err(cells.gave_up(cell, since, boot_time_ns()));
            }
        }
    }
}

/// A request that waits, as long as this lives.
struct Waiting<'a> {
    cells: &'a Cells,
    cell: &'a Cell,
}

impl<'a> Waiting<'a> {
    fn begin(cells: &'a Cells, cell: &'a Cell) -> Option<Self> {
        cells.begin_wait(cell).then_some(Self { cells, cell })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.cells.end_wait(self.cell);
    }
}
