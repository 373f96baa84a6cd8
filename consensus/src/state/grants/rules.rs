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

/// How long a lease may be spent after its ask was sent, on the holder's clock, in nanoseconds.
///
/// `light`: of a counter that a node rarely needs. It is held longer, so that few requests have to ask.
pub fn validity_ns(window_ns: u64, light: bool) -> u64 {
    if light { (window_ns / 2).min(30 * SECOND) } else { (window_ns / 20).min(SECOND) }
}

/// A span of log time in which a span of real time surely passes, when no clock is off by more than 1 000 ppm.
pub(super) fn surely(span_ns: u64) -> u64 {
    span_ns.saturating_add(span_ns / 500).saturating_add(1)
}

/// How far the times of spent tokens may be moved to be kept as one.
pub(super) fn grain_ns(window_ns: u64) -> u64 {
    window_ns / 256
}
