//! Machines that a simulation makes up: their tasks, their time, their random numbers, and their disk (`drive.rs`).
//!
//! Only what runs in a task of [`Machine::spawn`] sees them; nothing else of a program changes by the feature. The runtime must be
//! of one thread with paused time, so that a seed decides all that happens.

mod drive;
mod turns;

use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::{Duration, Instant, sleep},
};

pub use drive::Drive;

/// A mistake that is put in on purpose, so that a test sees it caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A flush returns before anything is durable.
    LyingSync,
    /// A vote is given, and not saved.
    ForgottenVote,
    /// A request that comes again is obeyed again.
    ForgottenRequests,
}

thread_local! {
    static CURRENT: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// One start of a machine. Clones are handles to the same one.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    drive: Mutex<Drive>,
    mistake: Option<Mistake>,
    started: Instant,
    /// So many parts in a million its clock is too fast.
    drift: i64,
    /// How long a flush takes, on average, in microseconds.
    flush_micros: u64,
    status: Mutex<Status>,
}

#[derive(Default)]
struct Status {
    random: u64,
    is_paused: bool,
    is_off: bool,
    /// It is switched off in the midst of this many calls of the disk from now.
    calls_left: Option<u64>,
    waiting: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    panics: u64,
    turns: turns::Turns,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine with this drive; `random` decides its random numbers, how fast its clock and its disk are.
    pub fn new(drive: Drive, random: u64, mistake: Option<Mistake>) -> Self {
        let status = Mutex::new(Status { random, ..Status::default() });
        let drift = i64::try_from(random % 1_000).unwrap_or_default() - 500;
        let flush_micros = [50, 500, 5_000][usize::try_from(random / 1_000 % 3).unwrap_or_default()];
        let started = Instant::now();
        let this = Self(Arc::new(Inner { drive: Mutex::new(drive), mistake, started, drift, flush_micros, status }));
        let of_tasks = this.clone();
        let turns = begin(poll_fn(move |context| of_tasks.0.status.lock().turns.give(context)));
        this.0.status.lock().tasks.push(turns.abort_handle());
        this
    }

    /// The machine whose task runs on this thread just now.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Starts a task on this machine; it ends with it.
    pub fn spawn<F: Future<Output: Send> + Send + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let mut status = self.0.status.lock();
        let number = status.turns.number();
        let task = begin(Task { machine: self.clone(), number, future: Box::pin(future) });
        if status.is_off {
            task.abort();
        }
        if status.tasks.len() > 256 {
            status.tasks.retain(|task| !task.is_finished());
        }
        status.tasks.push(task.abort_handle());
        task
    }

    /// Does nothing until [`Self::resume`], as a stopped process.
    pub fn pause(&self) {
        self.0.status.lock().is_paused = true;
    }

    /// Goes on.
    pub fn resume(&self) {
        let waiting = {
            let mut status = self.0.status.lock();
            status.is_paused = false;
            std::mem::take(&mut status.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends all its tasks, wherever they are.
    pub fn switch_off(&self) {
        let tasks = {
            let mut status = self.0.status.lock();
            status.is_off = true;
            status.waiting.clear();
            std::mem::take(&mut status.tasks)
        };
        tasks.into_iter().for_each(|task| task.abort());
    }

    /// Switches it off in the midst of a call of the disk: so many calls from now.
    pub fn switch_off_at_call(&self, calls: u64) {
        self.0.status.lock().calls_left = Some(calls);
    }

    /// Whether it was switched off.
    pub fn is_off(&self) -> bool {
        self.0.status.lock().is_off
    }

    /// How many of its tasks panicked.
    pub fn panics(&self) -> u64 {
        self.0.status.lock().panics
    }

    pub(crate) fn makes(&self, mistake: Mistake) -> bool {
        self.0.mistake == Some(mistake)
    }

    /// The next of its random numbers (SplitMix64).
    pub(crate) fn random(&self) -> u64 {
        drive::next(&mut self.0.status.lock().random)
    }

    pub(crate) fn boot_time_ns(&self) -> u64 {
        let elapsed = i64::try_from(self.0.started.elapsed().as_nanos()).unwrap_or(i64::MAX / 2);
        u64::try_from(elapsed + elapsed / 1_000_000 * self.0.drift).unwrap_or_default().saturating_add(1_000_000_000)
    }

    /// As long as a flush takes here.
    pub(crate) async fn flush_time(&self) {
        let micros = self.0.flush_micros / 2 + self.random() % self.0.flush_micros;
        sleep(Duration::from_micros(micros)).await;
    }

    /// The disk, for one call.
    pub(crate) fn drive(&self) -> io::Result<MappedMutexGuard<'_, Drive>> {
        let mut status = self.0.status.lock();
        if let Some(left) = &mut status.calls_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                status.is_off = true;
            }
        }
        if status.is_off {
            return Err(io::Error::other("the machine is off"));
        }
        drop(status);
        let mut drive = self.0.drive.lock();
        drive.is_lying = self.makes(Mistake::LyingSync);
        Ok(MutexGuard::map(drive, |drive| drive))
    }
}

/// Starts a task; its machine holds what ends it.
fn begin<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    #[allow(clippy::disallowed_methods, reason = "`switch_off` ends whatever a machine has begun")]
    tokio::spawn(task)
}

/// Whether the machine whose task this is makes a mistake.
pub(crate) fn is_made(mistake: Mistake) -> bool {
    Machine::current().is_some_and(|machine| machine.makes(mistake))
}

/// A task that runs while its machine does.
struct Task<F> {
    machine: Machine,
    number: u64,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut status = self.machine.0.status.lock();
            if status.is_off {
                return Poll::Pending;
            }
            if status.is_paused {
                status.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            if !status.turns.has(self.number, context.waker()) {
                return Poll::Pending;
            }
        }
        let _entered = Entered(CURRENT.replace(Some(self.machine.clone())));
        self.future.as_mut().poll(context)
    }
}

/// Puts back what was there before.
struct Entered(Option<Machine>);

impl Drop for Entered {
    fn drop(&mut self) {
        let left = CURRENT.replace(self.0.take());
        if let Some(machine) = left.filter(|_| std::thread::panicking()) {
            machine.0.status.lock().panics += 1;
        }
    }
}
