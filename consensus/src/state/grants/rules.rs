//! The times that the log and the holders of leases must agree on. The proof is in `docs/src/rate-limiting.md`.

/// So many asks fit into one command; the rest waits for the next.
pub const ASKS_MAX: usize = 4_096;
/// So many returns fit into one command.
pub const RETURNS_MAX: usize = 8_192;
/// A node counts as asking for so long after its last ask, in log time.
pub const ASKING_NS: u64 = 10 * SECOND;
/// So long an asker may hope for what a recalled lease brings back, in log time.
pub const PATIENCE_NS: u64 = SECOND / 4;

const SECOND: u64 = 1_000_000_000;

/// How long a lease is valid. The longer, the fewer requests and entries of the log it takes to have one; and the longer its tokens
/// are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Term {
    /// For tokens that are needed at once, where others may need them soon.
    #[default]
    Short,
    /// For the few tokens of a counter that a node rarely needs, and for tokens that are no large part of the limit.
    Long,
    /// For tokens that are next to nothing of the limit.
    Longest,
}

impl Term {
    /// As it is stored.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// From its stored form; `None`: it is none.
    pub fn of(number: u32) -> Option<Self> {
        [Self::Short, Self::Long, Self::Longest].into_iter().find(|term| term.number() == number)
    }
}

/// How long a lease may be spent after its ask was sent, on the holder's clock, in nanoseconds.
pub fn validity_ns(window_ns: u64, term: Term) -> u64 {
    match term {
        Term::Short => (window_ns / 20).min(SECOND),
        Term::Long => (window_ns / 2).min(30 * SECOND),
        Term::Longest => window_ns.saturating_mul(2).min(120 * SECOND),
    }
}

/// A span of log time in which a span of real time surely passes, when no clock is off by more than 1 000 ppm.
pub(super) fn surely(span_ns: u64) -> u64 {
    span_ns.saturating_add(span_ns / 500).saturating_add(1)
}

/// How far the times of spent tokens may be moved to be kept as one.
pub(super) fn grain_ns(window_ns: u64) -> u64 {
    window_ns / 256
}
