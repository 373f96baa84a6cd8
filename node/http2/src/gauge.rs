//! Counts frames as they pass, in both directions. What costs the client next to nothing and us some work is bounded
//! here: streams given up, SETTINGS, PING, frames that carry nothing, window updates that nothing explains, header blocks
//! without an end.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use crate::Limits;
use crate::frames::{
    CONTINUATION, DATA, Frame, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, Scanner,
    WINDOW_UPDATE,
};

/// A client that sends one frame of window for each so many bytes of responses isn't conspicuous.
const BYTES_PER_WINDOW_UPDATE: u64 = 256;
/// Nor is one that sends so many for each request.
const WINDOW_UPDATES_PER_REQUEST: u64 = 4;
/// Clients measure the line by a PING after some data; those aren't counted.
const BYTES_PER_PING: u64 = 1024;
/// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;

/// What a client does too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// It opens streams and gives them up.
    #[error("too many streams were given up")]
    Resets,
    /// SETTINGS and PING.
    #[error("too many SETTINGS or PING frames")]
    Control,
    /// Empty DATA, PRIORITY, unknown types.
    #[error("too many frames that carry nothing")]
    Empty,
    /// WINDOW_UPDATE.
    #[error("too many WINDOW_UPDATE frames")]
    WindowUpdates,
    /// A header block that is far over its limit.
    #[error("a header block without an end")]
    HeaderBlock,
    /// A limit of the `h2` crate: streams given up before they were looked at, CONTINUATION, tiny DATA, faulty streams.
    #[error("too many faulty or useless frames")]
    Engine,
}

/// One connection's counts; its stream and its server look at them.
pub(crate) struct Gauge {
    incoming: RefCell<Incoming>,
    outgoing: RefCell<Scanner>,
    flood: Cell<Option<Flood>>,
    /// Bytes read, bytes written: only their changes matter.
    read: Cell<u64>,
    written: Cell<u64>,
    answered: RefCell<Vec<Answered>>,
    is_server: bool,
}

/// What went out on a stream that may never have become a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) stream: u32,
    /// RST_STREAM for a fault of the client; else HEADERS.
    pub(crate) is_reset: bool,
}

struct Incoming {
    scanner: Scanner,
    limits: Limits,
    /// Frames that began something: a header block with all of its parts is one.
    begun: u64,
    requests: u64,
    resets: Bucket,
    window_updates: u64,
    control: Rate,
    empty: Rate,
    written_at_ping: u64,
    /// Bytes of the header block that hasn't ended.
    block: Option<u64>,
}

/// At most so many, and as many again in each minute.
struct Bucket {
    taken: u64,
    since: Instant,
}

impl Bucket {
    fn take(&mut self, max: u64) -> bool {
        self.taken += 1;
        if self.taken <= max {
            return true;
        }
        // The clock is read only now.
        let passed = self.since.elapsed().as_millis();
        let back = u64::try_from(passed * u128::from(max) / 60_000).unwrap_or(u64::MAX);
        if back > 0 {
            self.taken = self.taken.saturating_sub(back);
            self.since = Instant::now();
        }
        self.taken <= max
    }
}

/// At most so many in a second, on average over as many; the clock is read only when they are reached.
struct Rate {
    count: u32,
    since: Instant,
}

impl Rate {
    fn count(&mut self, max: u32) -> bool {
        self.count += 1;
        if self.count <= max {
            return true;
        }
        let now = Instant::now();
        let is_slow = now - self.since >= Duration::from_secs(1);
        *self = Self { count: 1, since: now };
        is_slow
    }
}

impl Gauge {
    /// For a connection that a client made to us.
    pub(crate) fn of_client(limits: &Limits) -> Self {
        Self { is_server: true, ..Self::new(limits, Scanner::client(), Scanner::server()) }
    }

    /// For a connection that we made to a server.
    pub(crate) fn of_server(limits: &Limits) -> Self {
        Self::new(limits, Scanner::server(), Scanner::client())
    }

    fn new(limits: &Limits, incoming: Scanner, outgoing: Scanner) -> Self {
        let now = Instant::now();
        let incoming = Incoming {
            scanner: incoming,
            limits: limits.clone(),
            begun: 0,
            requests: 0,
            resets: Bucket { taken: 0, since: now },
            window_updates: 0,
            control: Rate { count: 0, since: now },
            empty: Rate { count: 0, since: now },
            written_at_ping: 0,
            block: None,
        };
        Self {
            incoming: RefCell::new(incoming),
            outgoing: RefCell::new(outgoing),
            flood: Cell::new(None),
            read: Cell::new(0),
            written: Cell::new(0),
            answered: RefCell::default(),
            is_server: false,
        }
    }

    /// Bytes from the client. An error: they aren't to be handed on.
    pub(crate) fn incoming(&self, bytes: &[u8]) -> Result<(), Flood> {
        self.read.set(self.read.get() + bytes.len() as u64);
        let incoming = &mut *self.incoming.borrow_mut();
        let Incoming { scanner, .. } = incoming;
        let mut scanner = std::mem::replace(scanner, Scanner::server());
        let scanned = scanner.scan(bytes, |frame| incoming.count(frame, self.written.get()));
        incoming.scanner = scanner;
        if let Err(flood) = scanned {
            self.flood.set(Some(flood));
        }
        scanned
    }

    /// Bytes to the client.
    pub(crate) fn outgoing(&self, bytes: &[u8]) {
        self.written.set(self.written.get() + bytes.len() as u64);
        let scanned = self.outgoing.borrow_mut().scan(bytes, |frame| {
            let is_reset = frame.kind == RST_STREAM && frame.code == PROTOCOL_ERROR;
            if self.is_server && (is_reset || frame.kind == HEADERS) {
                self.answered.borrow_mut().push(Answered { stream: frame.stream, is_reset });
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = scanned;
    }

    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// Whether the client owes us the rest of a header block or of another frame that isn't a body's.
    pub(crate) fn awaits_rest(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.block.is_some() || incoming.scanner.is_within_control()
    }

    /// Frames so far, by which one that doesn't end is told from many that do.
    pub(crate) fn begun(&self) -> u64 {
        self.incoming.borrow().begun
    }

    /// Bytes read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read.get()
    }

    /// Streams that were answered or reset for a fault of the client since the last call, by us or by `h2`.
    pub(crate) fn answered(&self, mut each: impl FnMut(Answered)) {
        self.answered.borrow_mut().drain(..).for_each(&mut each);
    }
}

impl Incoming {
    fn count(&mut self, frame: Frame, written: u64) -> Result<(), Flood> {
        self.begun += u64::from(frame.kind != CONTINUATION);
        let limits = &self.limits;
        let per_second = limits.control_frames_per_second_max;
        match frame.kind {
            HEADERS => {
                self.requests += 1;
                // A client may tell the priority of each of its requests.
                self.empty.count = self.empty.count.saturating_sub(1);
                self.block = (!frame.ends_headers()).then_some(u64::from(frame.length));
            }
            CONTINUATION => {
                let bytes = self.block.unwrap_or_default() + u64::from(frame.length);
                self.block = (!frame.ends_headers()).then_some(bytes);
                if bytes > 2 * u64::from(limits.header_list_bytes_max) {
                    return Err(Flood::HeaderBlock);
                }
                if frame.length == 0 && !self.empty.count(per_second) {
                    return Err(Flood::Empty);
                }
            }
            DATA if frame.length > 0 || frame.ends_stream() => {}
            RST_STREAM => {
                if !self.resets.take(limits.resets_max) {
                    return Err(Flood::Resets);
                }
            }
            PING if written >= self.written_at_ping + BYTES_PER_PING => self.written_at_ping = written,
            SETTINGS | PING | GOAWAY => {
                if !self.control.count(per_second) {
                    return Err(Flood::Control);
                }
            }
            WINDOW_UPDATE => {
                self.window_updates += 1;
                let explained = WINDOW_UPDATES_PER_REQUEST * self.requests + written / BYTES_PER_WINDOW_UPDATE;
                if self.window_updates > limits.window_updates_max + explained {
                    return Err(Flood::WindowUpdates);
                }
            }
            PRIORITY | PUSH_PROMISE | DATA | 10.. => {
                if !self.empty.count(per_second) {
                    return Err(Flood::Empty);
                }
            }
        }
        Ok(())
    }
}
