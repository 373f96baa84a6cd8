//! Requests under way, and what ends them early: who may not begin a request any more may not go on with one either.
//!
//! A worker keeps one slot for each of its requests. When a view was published, it compares what the slots were made of with
//! what is there now, which is cheap, and wakes the requests where that differs. These ask again by themselves, as they hold all
//! that is needed for it: the checks are those of a request's start.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use octelium_actors::{
    Views,
    router::{Access, Hosts, Route},
    sessions::{SessionEntry, entry::LiveToken},
};

use super::{
    Now, authorize,
    context::RequestContext,
    exchange::Exchange,
    respond::{Code, Rejection},
    view_age::ViewAge,
};

/// One worker's requests under way, from the moment that their caller is known to the end of their answer.
pub struct UnderWay {
    views: Views,
    view_age: ViewAge,
    /// How often the views were looked at.
    looks: Cell<u64>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// No Session here expires earlier.
    soonest_unix: i64,
    /// The hosts as last looked at, and the addresses of their Services.
    hosts: Hosts,
    routes: HashSet<usize>,
}

/// What a request was last checked against. Whoever is in the slot holds Session and Service, so that their addresses aren't used
/// again meanwhile.
struct Slot {
    /// Uid and address.
    session: Option<(u128, usize)>,
    route: usize,
    /// When the Session ends by itself.
    ends_unix: i64,
    /// The request must ask again.
    is_due: bool,
    /// Of the task that waits.
    waker: Option<Waker>,
}

impl Slot {
    fn of(session: Option<&Arc<SessionEntry>>, route: &Arc<Route>) -> Self {
        Self {
            session: session.map(|session| (session.uid, address(session))),
            route: address(route),
            ends_unix: session.map_or(i64::MAX, |session| ends_unix(session)),
            is_due: false,
            waker: None,
        }
    }

    fn call(&mut self) {
        self.is_due = true;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).addr()
}

fn ends_unix(session: &SessionEntry) -> i64 {
    session.credential.expires_unix.map_or(session.expires_unix, |expires| expires.min(session.expires_unix))
}

impl UnderWay {
    /// No request yet.
    pub fn new(views: Views, view_age: ViewAge) -> Self {
        Self { views, view_age, looks: Cell::new(0), inner: RefCell::default() }
    }

    /// To be noted by a request before it reads the first view.
    pub fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// Takes a slot for a request whose Service and caller are known.
    pub fn enter(self: &Rc<Self>, exchange: &Exchange, route: &Arc<Route>) -> Watch {
        let mut slot = Slot::of(exchange.session.as_ref(), route);
        // What was published since the request began was looked at before it came here.
        slot.is_due = exchange.looks != self.looks.get();
        let inner = &mut *self.inner.borrow_mut();
        if inner.slots.len() == inner.free.len() || slot.ends_unix < inner.soonest_unix {
            inner.soonest_unix = slot.ends_unix;
        }
        let key = match inner.free.pop() {
            Some(key) => {
                inner.slots[key] = Some(slot);
                key
            }
            None => {
                inner.slots.push(Some(slot));
                inner.slots.len() - 1
            }
        };
        Watch { under_way: self.clone(), key, session: None, route: None }
    }

    /// Looks at the views, and wakes the requests that aren't what they were any more.
    pub fn look(&self) {
        self.looks.set(self.looks.get().wrapping_add(1));
        let inner = &mut *self.inner.borrow_mut();
        if inner.slots.len() == inner.free.len() {
            return;
        }
        let routes = self.views.routes.load();
        if !inner.hosts.ptr_eq(&routes.hosts) {
            inner.hosts = routes.hosts.clone();
            inner.routes = inner.hosts.values().map(address).collect();
        }
        let sessions = &self.views.sessions;
        for slot in inner.slots.iter_mut().flatten() {
            let is_session_same = |(uid, known)| sessions.get(uid).is_some_and(|entry| address(&entry) == known);
            if !inner.routes.contains(&slot.route) || !slot.session.is_none_or(is_session_same) {
                slot.call();
            }
        }
    }

    /// Wakes the requests whose Session has ended by itself, and those with a Session while the views are too old; to be called
    /// some times in each second.
    pub fn tick(&self, now_unix: i64) {
        let inner = &mut *self.inner.borrow_mut();
        if self.view_age.is_too_old() {
            inner.slots.iter_mut().flatten().filter(|slot| slot.session.is_some()).for_each(Slot::call);
        }
        if now_unix < inner.soonest_unix {
            return;
        }
        inner.soonest_unix = i64::MAX;
        for slot in inner.slots.iter_mut().flatten() {
            if slot.ends_unix <= now_unix {
                slot.call();
            } else {
                inner.soonest_unix = inner.soonest_unix.min(slot.ends_unix);
            }
        }
    }
}

/// A request's slot, until it is dropped.
pub struct Watch {
    under_way: Rc<UnderWay>,
    key: usize,
    /// What it was last checked against, where that isn't what the request began with.
    session: Option<Arc<SessionEntry>>,
    route: Option<Arc<Route>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let inner = &mut *self.under_way.inner.borrow_mut();
        inner.slots[self.key] = None;
        inner.free.push(self.key);
    }
}

/// Waits for `future`, unless the request is to end before.
///
/// # Errors
/// Why it may not go on.
pub async fn or_ended<F: Future>(exchange: &mut Exchange, mut future: Pin<&mut F>) -> Result<F::Output, Rejection> {
    poll_fn(|cx| match poll_ended(exchange, cx) {
        Poll::Ready(rejection) => Poll::Ready(Err(rejection)),
        Poll::Pending => future.as_mut().poll(cx).map(Ok),
    })
    .await
}

/// Ready with the reason when the request may not go on; the task is woken when that is to be asked again.
pub fn poll_ended(exchange: &mut Exchange, cx: &Context<'_>) -> Poll<Rejection> {
    let is_due = exchange.watch.as_ref().is_some_and(|watch| watch.is_due(cx));
    if !is_due {
        return Poll::Pending;
    }
    let Some(mut watch) = exchange.watch.take() else { return Poll::Pending };
    let checked = watch.check(exchange);
    exchange.watch = Some(watch);
    match checked {
        Ok(()) => Poll::Pending,
        Err(rejection) => Poll::Ready(rejection),
    }
}

impl Watch {
    fn is_due(&self, cx: &Context<'_>) -> bool {
        let inner = &mut *self.under_way.inner.borrow_mut();
        let Some(slot) = &mut inner.slots[self.key] else { return false };
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut slot.is_due)
    }

    /// Asks all that was asked at the request's start, of the views as they are now.
    fn check(&mut self, exchange: &mut Exchange) -> Result<(), Rejection> {
        let now = Now::read();
        let routes = self.under_way.views.routes.load_full();
        let began = exchange.route.as_ref().map(|route| route.reference.uid.as_str());
        let route = routes.route(&exchange.host).filter(|route| Some(route.reference.uid.as_str()) == began);
        let route = route.ok_or_else(|| Rejection::new(Code::HostUnknown, "the Service is gone from this host"))?;
        if route.is_disabled {
            return Err(Rejection::new(Code::ServiceDisabled, "spec.isDisabled"));
        }
        if let Some(reason) = &route.broken {
            return Err(Rejection::new(Code::ServiceInvalid, reason.clone()));
        }
        let session = match route.access {
            Access::Session => Some(self.session(exchange, now)?),
            Access::Anonymous | Access::AnonymousWithPolicy => None,
        };
        let is_decided = exchange.verdict.is_some();
        if is_decided && !self.is_checked(exchange, session.as_ref(), route) {
            decide(exchange, session.as_ref(), route, now)?;
        }
        let mut slot = Slot::of(session.as_ref(), route);
        // What is decided only later is decided by the views of the request's start, and then asked again.
        slot.is_due = !is_decided;
        self.session = session;
        self.route = Some(route.clone());
        let inner = &mut *self.under_way.inner.borrow_mut();
        inner.soonest_unix = inner.soonest_unix.min(slot.ends_unix);
        if let Some(own) = &mut inner.slots[self.key] {
            slot.waker = own.waker.take();
            *own = slot;
        }
        Ok(())
    }

    /// Whether policies have said yes to these very ones.
    fn is_checked(&self, exchange: &Exchange, session: Option<&Arc<SessionEntry>>, route: &Arc<Route>) -> bool {
        let (known_session, known_route) = match &self.route {
            Some(route) => (self.session.as_ref(), Some(route)),
            None => (exchange.session.as_ref(), exchange.route.as_ref()),
        };
        known_session.map(address) == session.map(address) && known_route.map(address) == Some(address(route))
    }

    /// The caller's Session, if it still counts.
    fn session(&self, exchange: &mut Exchange, now: Now) -> Result<Arc<SessionEntry>, Rejection> {
        let revoked = |cause: &str| Rejection::new(Code::SessionRevoked, cause);
        let Some(known) = &exchange.session else {
            return Err(Rejection::new(Code::AccessWithdrawn, "the Service asks for a Session now"));
        };
        self.under_way.view_age.check()?;
        let entry = self.under_way.views.sessions.get(known.uid).ok_or_else(|| revoked("the Session is gone"))?;
        if now.unix >= entry.expires_unix {
            return Err(Rejection::new(Code::SessionExpired, "the Session is expired"));
        }
        if entry.credential.is_off {
            return Err(revoked("the Credential that made the Session is disabled or locked"));
        }
        if now.unix >= ends_unix(&entry) {
            return Err(Rejection::new(Code::SessionExpired, "the Credential that made the Session is expired"));
        }
        if let Some(token) = &mut exchange.token {
            match entry.tokens.iter().find(|live| live.id == token.id) {
                Some(LiveToken { until_unix, .. }) => token.until_unix = *until_unix,
                // Replaced by a refresh, it goes when its time is over: the stream is the Session's.
                None if now.unix >= token.until_unix => {}
                None => return Err(revoked("the access token was revoked")),
            }
        }
        Ok(entry)
    }
}

/// Gates and policies, on the request as far as it is still there.
fn decide(
    exchange: &Exchange,
    session: Option<&Arc<SessionEntry>>,
    route: &Arc<Route>,
    now: Now,
) -> Result<(), Rejection> {
    let withdrawn = |cause: &str| Err(Rejection::new(Code::AccessWithdrawn, cause));
    let reads = session.map_or(route.reads, |session| route.reads | session.reads);
    if reads.headers && !exchange.has_headers {
        return withdrawn("a rule reads headers now, which none did when the request began");
    }
    let context = RequestContext::new(exchange, None);
    let verdict = authorize::decide_request(session, route, &context, now.unix_nanos);
    if verdict.is_allowed { Ok(()) } else { withdrawn(verdict.reason.name()) }
}
