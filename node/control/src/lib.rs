//! The control plane of a node: the official API, the change of many resources as one, log-ins and OAuth2.
//!
//! Nothing here is kept in memory alone: every change goes through the replicated log (see [`store`]), and every answer
//! is read from the state that it led to.

mod apply;
mod auth;
mod backup;
mod bootstrap;
mod clock;
mod control_service;
mod core_service;
mod draft;
pub mod gossip_keys;
mod grpc;
mod list;
mod lock;
pub mod nodes;
pub mod oauth2;
mod plan;
mod random;
mod rate_limits;
mod refusal;
mod rotation;
pub mod seal;
mod store;
mod sweep;
pub mod token;
mod user_service;
mod wait;

use std::sync::Arc;

use octelium_actors::Views;
use octelium_api::meta::ObjectReference;
use octelium_consensus::{Replica, SealingKey};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use auth::throttle::Throttle;
pub use clock::Clock;
pub use grpc::Grpc;
pub use refusal::{BadRequest, FieldViolation, Refusal, RpcStatus, Violation};
use store::Store;
pub use token::{Token, TokenError, TokenKeys, TokenKind};

/// What can go wrong beside a refused call.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are explained by the message of their variant")]
pub enum Error {
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
    /// A key of the cluster is damaged, or sealed with another sealing key.
    #[error("the cluster's key `{name}` can't be used")]
    Key { name: String },
    /// The change was refused.
    #[error("the change is refused: {0}")]
    Refused(String),
    /// The change couldn't be committed.
    #[error(transparent)]
    Replica(#[from] octelium_consensus::Error),
}

/// Who calls, as authenticated and authorized by whoever hands the call over.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The calling Session's uid.
    pub session_uid: String,
    /// The calling Session.
    pub session_ref: ObjectReference,
    /// The uid of its User.
    pub user_uid: String,
    /// The name of its User.
    pub user_name: String,
}

/// Where a log-in comes from.
#[derive(Debug, Clone, Default)]
pub struct ClientInfo {
    /// The client's address; empty if not known.
    pub ip: String,
    /// Its `User-Agent`; empty if it sent none.
    pub user_agent: String,
}

/// The control plane. Clones are handles to the same one.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    store: Store,
    /// Where the cluster is reached from outside, e.g. `https://octelium.localhost:8443`.
    public_url: String,
    /// The keys that [`Control::token_keys`] opened last, with their sealed forms.
    keys: Mutex<Option<OpenedKeys>>,
    throttle: Throttle,
    backups: Semaphore,
    listings: Semaphore,
}

type Sealed = Vec<(String, Arc<[u8]>)>;
type OpenedKeys = (Sealed, Arc<TokenKeys>);

/// Scopes as callers write them, for whoever feeds arbitrary texts to the reader.
///
/// # Errors
/// A sentence about the first scope that is wrong.
#[doc(hidden)]
pub fn parse_scopes(texts: &[String]) -> Result<Vec<octelium_api::core::Scope>, String> {
    auth::scope::parse_all(texts)
}

impl Control {
    /// A control plane over `replica`, whose changes show in `views`.
    ///
    /// `domain`: the cluster's domain; `public_url`: scheme, host and port under which it is reached from outside, without
    /// a slash at the end.
    pub fn new(replica: Replica, views: Views, sealing: Arc<SealingKey>, domain: &str, public_url: &str) -> Self {
        Self::with_clock(replica, views, sealing, domain, public_url, clock::system())
    }

    /// The same with a clock of the caller's.
    pub fn with_clock(
        replica: Replica,
        views: Views,
        sealing: Arc<SealingKey>,
        domain: &str,
        public_url: &str,
        clock: Clock,
    ) -> Self {
        replica.decides_by({
            let views = views.clone();
            move || views.index()
        });
        replica.inspected_by({
            let views = views.clone();
            move |question| rate_limits::answer(&views, question)
        });
        let store = Store::new(replica, views, sealing, domain, clock);
        let public_url = public_url.trim_end_matches('/').to_owned();
        Self {
            inner: Arc::new(Inner {
                store,
                public_url,
                keys: Mutex::new(None),
                throttle: Throttle::default(),
                backups: Semaphore::new(1),
                listings: Semaphore::new(2),
            }),
        }
    }

    /// One of the cluster's keys, opened.
    pub fn open_key(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let state = self.inner.store.state();
        seal::open_key(&self.inner.store.sealing, name, state.key(name)?)
    }

    /// The keys that sign and verify tokens now. None before [`Self::bootstrap`].
    pub fn token_keys(&self) -> Arc<TokenKeys> {
        self.inner.token_keys()
    }

    /// All gRPC services, as one [`tower::Service`].
    ///
    /// Who calls it puts a [`Caller`] into the extensions of core and control requests, once that caller may make them;
    /// without one those are answered UNAUTHENTICATED. Authentication requests may have a [`ClientInfo`].
    pub fn grpc(&self) -> Grpc {
        Grpc::new(self.inner.clone())
    }
}

impl Inner {
    fn token_keys(&self) -> Arc<TokenKeys> {
        let state = self.store.state();
        let signing = state.keys().filter(|(name, _)| name.starts_with(token::KEY_PREFIX));
        let sealed: Sealed = signing.map(|(name, sealed)| (name.to_owned(), sealed.clone())).collect();
        let mut opened = self.keys.lock();
        if let Some((of, keys)) = &*opened
            && *of == sealed
        {
            return keys.clone();
        }
        let keys = TokenKeys::open(&sealed, &self.store.sealing).unwrap_or_else(|error| {
            // Without the damaged key no token of it verifies, which is the safe side; the others go on.
            tracing::error!(%error, "a key that signs tokens can't be opened");
            let single =
                sealed.iter().filter(|key| TokenKeys::open(std::slice::from_ref(key), &self.store.sealing).is_ok());
            TokenKeys::open(&single.cloned().collect::<Vec<_>>(), &self.store.sealing).unwrap_or_default()
        });
        let keys = Arc::new(keys);
        *opened = Some((sealed, keys.clone()));
        keys
    }
}
