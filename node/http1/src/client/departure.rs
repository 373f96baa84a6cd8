//! A request that leaves with others.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{SharedUpstream, Upstream};
use crate::departures::{self, Depart};
use crate::outbox::Outbox;

/// Where a request is that was queued; it lies with its connection.
#[derive(Default)]
pub(crate) enum Departure {
    /// There is none.
    #[default]
    None,
    /// It is in the queue; who is woken when it can't leave at once.
    Queued { out: Outbox, waker: Waker, write_timeout: Duration },
    /// The stream took only a part; the task is woken when it takes more.
    Held(Outbox),
    /// It is written: so many bytes.
    Left(u64),
    /// It can't be written; the bytes before that.
    Failed(u64, io::Error),
}

/// Queues the request that `upstream` is to send; gives it back if its task is to write it.
pub(super) fn queue(
    upstream: &SharedUpstream,
    out: Outbox,
    write_timeout: Duration,
    cx: &Context<'_>,
) -> Result<(), Outbox> {
    if out.queued() > departures::BYTES_MAX || !departures::queue(upstream.clone()) {
        return Err(out);
    }
    upstream.borrow_mut().departure = Departure::Queued { out, waker: cx.waker().clone(), write_timeout };
    Ok(())
}

impl Depart for RefCell<Upstream> {
    fn depart(self: Rc<Self>) {
        // Who waits for the answer has given it up.
        if Rc::strong_count(&self) == 1 {
            return;
        }
        let Upstream { departure, wire, .. } = &mut *self.borrow_mut();
        let Departure::Queued { mut out, waker, write_timeout } = mem::take(departure) else { return };
        *departure = match wire.poll_write(&mut out, &mut Context::from_waker(&waker), write_timeout) {
            Poll::Ready(Ok(())) => Departure::Left(out.written()),
            Poll::Pending => Departure::Held(out),
            // There may be an answer all the same, which the task waits for.
            Poll::Ready(Err(error)) => Departure::Failed(out.written(), error),
        };
    }
}
