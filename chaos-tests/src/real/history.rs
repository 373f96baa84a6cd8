//! What the callers of a run saw, and what they may conclude from it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::invariants::{
    answered::{self, Excuse, Failed},
    answered_window::{self, Span},
    register::{self, Operation},
    revoked::{self, LetIn, Revocation},
};

/// How long a node that nothing is wrong with may let in whom the others lock out.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);
/// A node may be as late as this after its bound: it looks a few times in each second.
const REVOKED_MARGIN: Duration = Duration::from_millis(700);

/// All of it; times are nanoseconds since the run began.
pub struct History {
    began: Instant,
    pub inner: Mutex<Inner>,
}

#[derive(Default)]
pub struct Inner {
    /// Requests to the limited Service, and those that were admitted.
    pub limited: u64,
    pub admitted: Vec<Span>,
    /// Requests to the open Service.
    pub open: u64,
    pub failed: Vec<Failed>,
    /// Of each register.
    pub operations: Vec<Vec<Operation>>,
    pub revocations: Vec<Revocation>,
    pub let_in: Vec<LetIn>,
    /// When which node was under a fault that its callers may feel.
    pub excuses: Vec<Excuse>,
    /// When any node was under any fault.
    pub faults: Vec<(u64, u64)>,
    /// How long it took to heal, in nanoseconds.
    pub healings: Vec<u64>,
    pub broken: Vec<String>,
}

impl History {
    pub fn new(registers: usize) -> Self {
        let inner = Inner { operations: vec![Vec::new(); registers], ..Inner::default() };
        Self { began: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether a fault is in force, or ended just now.
    pub fn is_disturbed_since(&self, from: u64) -> bool {
        self.inner.lock().faults.iter().any(|(_, to)| *to >= from)
    }

    /// What was broken.
    pub fn judge(&self, limit: u64, window: Duration, view_age_max: Duration) -> Vec<String> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut inner = self.inner.lock();
        let mut broken = std::mem::take(&mut inner.broken);
        broken.extend(answered_window::broken(&inner.admitted, nanos(window), limit));
        for operations in &inner.operations {
            broken.extend(register::broken(operations));
        }
        let faults = inner.faults.clone();
        for revocation in &mut inner.revocations {
            let disturbs = |(from, to): &(u64, u64)| *from <= revocation.until && revocation.began <= *to;
            revocation.is_disturbed = faults.iter().any(disturbs);
        }
        let bound = nanos(view_age_max + REVOKED_MARGIN);
        broken.extend(revoked::broken(&inner.revocations, &inner.let_in, nanos(REVOKED_WITHIN), bound));
        let unexcused = answered::unexcused(&inner.failed, &inner.excuses);
        for failed in unexcused.iter().take(5) {
            let at = Duration::from_nanos(failed.sent);
            broken.push(format!("answered: a request to node {} at {at:.3?} failed: {}", failed.node, failed.why));
        }
        broken
    }

    /// What is needed to look into what was broken.
    pub fn text(&self) -> String {
        let inner = self.inner.lock();
        let mut lines = Vec::new();
        lines.extend(inner.faults.iter().map(|fault| format!("fault {fault:?}")));
        lines.extend(inner.excuses.iter().map(|excuse| format!("excuse {excuse:?}")));
        lines.extend(inner.failed.iter().map(|failed| format!("{failed:?}")));
        lines.extend(inner.revocations.iter().map(|revocation| format!("{revocation:?}")));
        lines.extend(inner.let_in.iter().map(|let_in| format!("{let_in:?}")));
        for (register, operations) in inner.operations.iter().enumerate() {
            lines.extend(operations.iter().map(|operation| format!("register {register}: {operation:?}")));
        }
        lines.extend(inner.admitted.iter().map(|span| format!("{span:?}")));
        lines.join("\n")
    }

    /// The run in numbers.
    pub fn summary(&self, limit: u64, window: Duration) -> Vec<(&'static str, String)> {
        let inner = self.inner.lock();
        let fullest = answered_window::fullest(&inner.admitted, u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
        let acknowledged =
            |operation: &&Operation| matches!(operation.does, register::Does::Write(_)) && operation.ended.is_some();
        let all = || inner.operations.iter().flatten();
        let writes = all().filter(|operation| matches!(operation.does, register::Does::Write(_))).count();
        let delays = revoked::delays(&inner.revocations, &inner.let_in);
        let of = |is_disturbed: bool| {
            let of = delays.iter().filter(|(revocation, _)| revocation.is_disturbed == is_disturbed);
            spread(of.map(|(_, delay)| *delay).collect())
        };
        vec![
            ("requests to the limited Service", format!("{}, {} admitted", inner.limited, inner.admitted.len())),
            ("fullest window", format!("{fullest} of {limit}")),
            (
                "requests to the open Service",
                format!(
                    "{}, {} failed, {} unexcused",
                    inner.open,
                    inner.failed.len(),
                    answered::unexcused(&inner.failed, &inner.excuses).len()
                ),
            ),
            (
                "writes",
                format!(
                    "{writes}, {} acknowledged; {} reads",
                    all().filter(acknowledged).count(),
                    all().count() - writes
                ),
            ),
            ("let in after a revocation, calm", of(false)),
            ("let in after a revocation, under faults", of(true)),
            ("healed after a fault within", spread(inner.healings.clone())),
        ]
    }
}

/// Count, median, 99th percentile and maximum of times.
fn spread(mut nanos: Vec<u64>) -> String {
    nanos.sort_unstable();
    let at = |percent: usize| {
        nanos.get((nanos.len().saturating_sub(1)) * percent / 100).map_or(0, |nanos| nanos / 1_000_000)
    };
    format!("{}; p50 {} ms, p99 {} ms, most {} ms", nanos.len(), at(50), at(99), at(100))
}
