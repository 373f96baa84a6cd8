//! One JSON record for each exchange, refused and aborted ones too; never a credential.
//!
//! Workers fill buffers; one thread writes them. A full queue drops records and counts them: nobody waits for a disk.

mod json;
mod record;
mod timestamp;

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    task::{Context, Poll},
    thread::JoinHandle,
    time::Duration,
};

use octelium_http1::{Body, BodyError, Observe, Refusal, Response, Source};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::counts::{Counts, Totals};
use crate::proxy::{
    exchange::{Exchange, Id, Peer},
    respond::Code,
    under_way,
};

/// A worker hands its buffer over at this size, or after [`FLUSH_EVERY`].
const BUFFER_BYTES: usize = 32 << 10;
/// Room for the record that fills a buffer; longer ones make it grow.
const RECORD_BYTES: usize = 4 << 10;
/// How long a record may wait in a worker.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Buffers that wait for the writer.
const QUEUE_BUFFERS: usize = 256;
/// Written buffers that wait for a worker.
const EMPTY_BUFFERS: usize = 16;

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Output {
    /// Standard output.
    #[default]
    Stdout,
    /// Appended to a file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

impl FromStr for Output {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "stdout" => Self::Stdout,
            "off" => Self::Off,
            path => Self::File(path.into()),
        })
    }
}

/// The writer thread. Dropped records are counted here.
pub struct Writer {
    totals: Totals,
    queue: SyncSender<Vec<u8>>,
    empty: Empty,
    dropped: Arc<AtomicU64>,
    thread: JoinHandle<()>,
    is_off: bool,
}

impl Writer {
    /// Opens the output.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn start(output: &Output) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match output {
            Output::Stdout => Box::new(io::stdout()),
            Output::File(path) => Box::new(open(path)?),
            Output::Off => Box::new(io::sink()),
        };
        let (queue, buffers) = sync_channel(QUEUE_BUFFERS);
        let empty = Empty::default();
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        let thread = std::thread::Builder::new().name("access-log".into()).spawn({
            let empty = empty.clone();
            move || write_all(sink, &buffers, &empty, &lost)
        })?;
        Ok(Self { totals: Totals::default(), queue, empty, dropped, thread, is_off: *output == Output::Off })
    }

    /// A worker's end.
    pub fn handle(&self) -> LogQueue {
        let Self { totals, queue, empty, dropped, is_off, .. } = self;
        LogQueue {
            totals: totals.clone(),
            queue: queue.clone(),
            empty: empty.clone(),
            dropped: dropped.clone(),
            is_off: *is_off,
        }
    }

    /// How requests ended.
    pub fn totals(&self) -> Totals {
        self.totals.clone()
    }

    /// Records that were lost.
    pub fn lost(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    /// Writes what is queued and ends; the workers have ended before.
    pub fn finish(self) {
        drop(self.queue);
        if self.thread.join().is_err() {
            tracing::error!("the access log's writer failed");
        }
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(mut sink: Box<dyn Write + Send>, buffers: &Receiver<Vec<u8>>, empty: &Empty, dropped: &AtomicU64) {
    let mut told = 0;
    let mut failing = false;
    while let Ok(buffer) = buffers.recv() {
        match sink.write_all(&buffer).and_then(|()| sink.flush()) {
            Ok(()) => failing = false,
            Err(error) => {
                dropped.fetch_add(records(&buffer), Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "access-log records can't be written");
                }
            }
        }
        empty.give(buffer);
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told {
            tracing::warn!(lost = lost - told, "access-log records were lost");
            told = lost;
        }
    }
}

fn records(buffer: &[u8]) -> u64 {
    buffer.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Buffers that were written, on their way back to a worker: memory that another thread frees is dear.
#[derive(Clone, Default)]
struct Empty(Arc<Mutex<Vec<Vec<u8>>>>);

impl Empty {
    fn give(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.lock();
        if kept.len() < EMPTY_BUFFERS && buffer.capacity() <= 2 * BUFFER_BYTES {
            buffer.clear();
            kept.push(buffer);
        }
    }

    fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES + RECORD_BYTES))
    }
}

/// What a worker thread is given.
#[derive(Clone)]
pub struct LogQueue {
    totals: Totals,
    queue: SyncSender<Vec<u8>>,
    empty: Empty,
    dropped: Arc<AtomicU64>,
    is_off: bool,
}

/// One worker's log.
#[derive(Clone)]
pub struct AccessLog(Rc<Inner>);

struct Inner {
    counts: Arc<Counts>,
    queue: LogQueue,
    buffer: RefCell<Vec<u8>>,
}

impl Inner {
    fn flush(&self) {
        let buffer = std::mem::take(&mut *self.buffer.borrow_mut());
        if buffer.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(buffer) | TrySendError::Disconnected(buffer)) = self.queue.queue.try_send(buffer)
        {
            self.queue.dropped.fetch_add(records(&buffer), Ordering::Relaxed);
        }
    }
}

/// Connections that are cut at the end leave their records when they are dropped.
impl Drop for Inner {
    fn drop(&mut self) {
        self.flush();
    }
}

impl AccessLog {
    /// An empty buffer before `queue`.
    pub fn new(queue: LogQueue) -> Self {
        Self(Rc::new(Inner { counts: queue.totals.worker(), queue, buffer: RefCell::default() }))
    }

    /// Hands over what is buffered.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// A request that never became one.
    pub fn refused(&self, id: Id, peer: &Peer, refusal: &Refusal) {
        self.0.counts.ended(Some(refusal.status.as_u16()), Some(Code::RequestMalformed));
        self.write(|buffer| record::refused(buffer, id, peer, refusal));
    }

    fn exchange(&self, exchange: &Exchange, end: &End) {
        self.0.counts.ended(end.status, exchange.rejection.as_ref().map(|rejection| rejection.code));
        self.write(|buffer| record::exchange(buffer, exchange, end));
    }

    /// Whether records are written anywhere.
    pub fn is_on(&self) -> bool {
        !self.0.queue.is_off
    }

    fn write(&self, record: impl FnOnce(&mut Vec<u8>)) {
        if self.0.queue.is_off {
            return;
        }
        let mut buffer = self.0.buffer.borrow_mut();
        if buffer.capacity() == 0 {
            *buffer = self.0.queue.empty.take();
        }
        record(&mut buffer);
        buffer.push(b'\n');
        let is_full = buffer.len() >= BUFFER_BYTES;
        drop(buffer);
        if is_full {
            self.flush();
        }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// The answer's status; none was sent if the caller went away before.
    pub status: Option<u16>,
    /// Of the answer.
    pub content_type: Option<Vec<u8>>,
    /// Body bytes that were handed to the caller's connection.
    pub body_bytes: u64,
    /// Whether the answer was sent whole.
    pub is_complete: bool,
}

/// An exchange whose record is still to be written: at the end of the answer, or when it is dropped before.
pub struct Pending(Box<Owed>);

/// What a record is made of, and the answer's body that it waits for: one piece of memory for each request.
struct Owed {
    log: AccessLog,
    exchange: Exchange,
    end: End,
    body: Body,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Pending {
    /// A record is owed from now on for the exchange that `make` makes, in the place where it stays.
    #[inline]
    pub fn new(log: &AccessLog, make: impl FnOnce() -> Exchange) -> Self {
        let place = Box::new_uninit();
        let log = log.clone();
        Self(Box::write(
            place,
            Owed { log, exchange: make(), end: End::default(), body: Body::empty(), deadline: None },
        ))
    }

    /// The exchange itself.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.0.exchange
    }
}

impl Owed {
    fn answered(&mut self, status: http::StatusCode, content_type: Option<&[u8]>) {
        self.end.status = Some(status.as_u16());
        if self.log.is_on() {
            self.end.content_type = content_type.map(<[u8]>::to_vec);
        }
    }

    fn data(&mut self, bytes: usize) {
        self.end.body_bytes += bytes as u64;
    }

    /// Whether it is to end now, which its record then tells; if not, the task is woken when that is to be asked again.
    fn is_ended(&mut self, cx: &Context<'_>) -> bool {
        match under_way::poll_ended(&mut self.exchange, cx) {
            Poll::Ready(rejection) => {
                self.exchange.rejection = Some(rejection);
                true
            }
            Poll::Pending => false,
        }
    }

    /// Whether the time for the whole request is over; if not, the task is woken when it is.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.log.exchange(&self.exchange, &self.end);
    }
}

/// Binds the record to the answer: it is written when the answer's body ends, whole or not; after a 101, when the
/// connection ends. A body that isn't complete at `deadline` ends with an error.
pub fn observe(pending: Pending, mut response: Response, deadline: Option<Instant>) -> Response {
    let Pending(mut owed) = pending;
    owed.answered(response.status, response.headers.get("content-type"));
    if let Some(upgrade) = &mut response.upgrade {
        upgrade.observe(Box::new(ObservedUpgrade(owed)));
        return response;
    }
    if response.body.is_end() || owed.exchange.method == http::Method::HEAD {
        owed.end.is_complete = true;
        return response;
    }
    owed.body = std::mem::take(&mut response.body);
    owed.deadline = deadline.map(|at| Box::pin(sleep_until(at)));
    response.body = Body::from_box(owed);
    response
}

/// An upgraded connection that counts for its record.
struct ObservedUpgrade(Box<Owed>);

impl Observe for ObservedUpgrade {
    fn moved(&mut self, to_client: u64, to_upstream: u64) {
        self.0.end.body_bytes += to_client;
        self.0.exchange.request_bytes += to_upstream;
    }

    fn closed(&mut self) {
        self.0.end.is_complete = true;
    }

    fn is_withdrawn(&mut self, cx: &mut Context<'_>) -> bool {
        self.0.is_ended(cx)
    }
}

/// A body that counts for its record.
impl Source for Owed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<bytes::Bytes, BodyError>>> {
        if self.is_ended(cx) {
            return Poll::Ready(Some(Err(BodyError::Withdrawn)));
        }
        if self.is_late(cx) {
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let next = std::task::ready!(self.body.poll_next(cx));
        match &next {
            Some(Ok(bytes)) => self.data(bytes.len()),
            Some(Err(_)) => return Poll::Ready(next),
            None => self.end.is_complete = true,
        }
        if self.body.is_end() {
            self.end.is_complete = true;
        }
        Poll::Ready(next)
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }

    fn take_trailers(&mut self) -> Option<http::HeaderMap> {
        self.body.take_trailers()
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        // A caller that takes little at a time has no more time than others, and no more rights.
        if self.is_ended(cx) {
            return Err(BodyError::Withdrawn);
        }
        if self.is_late(cx) { Err(BodyError::Timeout) } else { self.body.poll_progress(cx) }
    }
}

/// The same for a body that isn't ours.
pub fn observe_http_body<B>(pending: Pending, response: http::Response<B>) -> http::Response<Observed<B>> {
    let content_type = response.headers().get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let Pending(mut owed) = pending;
    owed.answered(response.status(), content_type);
    response.map(|body| Observed { body, owed })
}

/// See [`observe_http_body`].
pub struct Observed<B> {
    body: B,
    owed: Box<Owed>,
}

impl<B: http_body::Body<Data = bytes::Bytes> + Unpin> http_body::Body for Observed<B> {
    type Data = bytes::Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                this.owed.data(frame.data_ref().map_or(0, bytes::Bytes::len));
                if this.body.is_end_stream() {
                    this.owed.end.is_complete = true;
                }
            }
            Some(Err(_)) => {}
            None => this.owed.end.is_complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
