//! The request path of one worker thread: everything that a request needs is here or in a pinned view.

pub mod authenticate;
pub mod authorize;
pub mod body;
pub mod canonicalize;
pub mod configure;
pub mod context;
pub mod cors;
pub mod credentials;
pub mod decision;
pub mod direct;
pub mod exchange;
pub mod forward;
pub mod forwarded;
pub mod header_rules;
pub mod hex;
pub mod json_body;
pub mod path;
pub mod pipeline;
pub mod plugins;
pub mod random;
pub mod respond;
pub mod scrub;
pub mod secrets;
pub mod trace;
pub mod under_way;
pub mod view_age;

use std::{
    cell::Cell,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use octelium_actors::{Views, router::Routes};
use octelium_http1::Headers;

use self::{
    authenticate::Tokens,
    configure::Generated,
    exchange::{Exchange, Id, Peer},
    forward::Forwarder,
    plugins::local::LocalLimits,
    random::Random,
    respond::{Code, Rejection},
    under_way::UnderWay,
    view_age::ViewAge,
};
use crate::{
    client_address::{self, Networks},
    control_door::ControlDoor,
    listener::accept::Admitted,
    telemetry::access_log::AccessLog,
};

/// One worker's side of the proxy.
pub struct Proxy {
    /// The views; routes through a cache that costs no atomic write.
    pub views: Views,
    /// Verified tokens.
    pub tokens: Tokens,
    /// Configurations made by expressions.
    pub generated: Generated,
    /// The way to upstreams.
    pub forwarder: Forwarder,
    /// Where records go.
    pub access_log: AccessLog,
    /// How old the views are.
    pub view_age: ViewAge,
    /// Limits of this process alone.
    pub local_limits: Arc<LocalLimits>,
    /// How long a request waits at the edge of a limit.
    pub rate_limit_wait: Duration,
    /// Requests under way.
    pub under_way: Rc<UnderWay>,
    /// For a whole request, if that is limited.
    pub request_timeout: Option<Duration>,
    /// The control plane, for the few paths that it answers.
    pub control: ControlDoor,
    /// Names spans and traces.
    pub random: Random,
    /// The high half of this worker's ids.
    pub id_high: u64,
    /// The next low half.
    pub id_low: Cell<u64>,
}

impl Proxy {
    /// The routes that the next request sees from start to end.
    pub fn routes(&self) -> Arc<Routes> {
        self.views.routes.load_full()
    }

    /// A fresh id.
    pub fn next_id(&self) -> Id {
        let low = self.id_low.get();
        self.id_low.set(low.wrapping_add(1));
        Id(self.id_high, low)
    }
}

/// The requests of one connection.
pub struct Connection {
    /// The worker's proxy.
    pub proxy: Rc<Proxy>,
    /// Who is at the other end.
    pub peer: Rc<Peer>,
    /// Its place, and those of its requests.
    pub admitted: Rc<Admitted>,
    /// Set if the other end is a proxy that is trusted to say whom it speaks for.
    pub hop: Option<Hop>,
}

/// A connection from a trusted proxy.
pub struct Hop {
    /// Its address.
    pub address: IpAddr,
    /// All such proxies.
    pub trusted: Arc<Networks>,
}

impl Connection {
    /// Who sent a request with these headers.
    pub fn peer_of(&self, headers: &Headers) -> Rc<Peer> {
        let Some(Hop { address, trusted }) = &self.hop else { return self.peer.clone() };
        let ip = client_address::client(*address, headers, trusted).to_string().into();
        Rc::new(Peer { ip, is_tls: self.peer.is_tls })
    }

    /// Counts a request among those under way.
    ///
    /// # Errors
    /// If there are too many.
    pub fn take_place(&self, exchange: &mut Exchange) -> Result<(), Rejection> {
        let place = self.admitted.request().map_err(|setting| Rejection::new(Code::Overloaded, setting))?;
        exchange.place = Some(place);
        Ok(())
    }
}

/// Since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// As the system's clock says.
    pub time: SystemTime,
    /// Whole seconds.
    pub unix: i64,
    /// Nanoseconds.
    pub unix_nanos: i64,
}

impl Now {
    /// Reads the clock, once for each request.
    #[allow(clippy::disallowed_methods, reason = "the edge of the request path is where the clock is read")]
    pub fn read() -> Self {
        let time = SystemTime::now();
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            time,
            unix: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            unix_nanos: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}
