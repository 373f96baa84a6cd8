//! Calls to the API as somebody: authentication happens when the first call needs it, and again when it ran out.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use octelium_api::{
    auth::{
        AuthenticateWithAuthenticationTokenRequest, AuthenticateWithRefreshTokenRequest, LogoutRequest, SessionToken,
    },
    clients::octelium::{
        api::main::{
            auth::v1::main_service_client::MainServiceClient as AuthClient,
            core::v1::main_service_client::MainServiceClient as CoreClient,
            user::v1::main_service_client::MainServiceClient as UserClient,
        },
        control::v1::control_service_client::ControlServiceClient,
    },
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    Usage,
    config::{self, Settings},
    connect::{self, LONG_TIMEOUT, REQUEST_TIMEOUT},
    exit::{Exit, Failure},
    output,
    refusal::{Refusal, is_repeated, not_connected, repeated},
    state::{self, Age, Domain, Held},
};

/// The resource API.
pub type Core = CoreClient<Authenticated>;
/// The API of several changes as one.
pub type Control = ControlServiceClient<Authenticated>;
/// The API of the caller's own matters.
pub type User = UserClient<Authenticated>;
/// The API of the Session itself, its Device and Authenticators.
pub type Auth = AuthClient<Authenticated>;
/// A channel whose requests say who calls.
pub type Authenticated = InterceptedService<Channel, Caller>;

/// What a token that can't be used for logging in is answered with.
pub const NO_ASSERTIONS: &str = "the server has no log-in by assertion; use an authentication token";

/// Where the calls about a Session carry who calls.
const REFRESH_TOKEN: &str = "x-octelium-refresh-token";
/// Pauses between attempts at an unavailable server.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];
/// No attempt begins later than this after the first.
const RETRY_WINDOW: Duration = Duration::from_secs(10);
/// How long logging out may take.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer, in bytes: a page of large resources.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A cluster, and this process's way into it.
pub struct Cluster {
    settings: Settings,
    channel: Channel,
    /// What calls are made with now.
    access: Option<Access>,
    /// The Session where no directory keeps it.
    memory: Option<Domain>,
}

/// What calls are made with.
#[derive(Clone)]
struct Access {
    /// Absent where somebody else adds it.
    token: Option<String>,
    /// Whether another could be had.
    renewable: bool,
}

impl Cluster {
    /// The cluster of these settings; connects with the first call.
    ///
    /// # Errors
    /// If the trusted certificates can't be read.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let channel = connect::channel(&settings, REQUEST_TIMEOUT)?;
        Ok(Self { settings, channel, access: None, memory: None })
    }

    /// The cluster's domain.
    pub fn domain(&self) -> &str {
        &self.settings.domain
    }

    /// Authenticates now, so that a failure of that isn't taken for one of the call that follows.
    ///
    /// # Errors
    /// If nobody can be authenticated.
    pub async fn authenticated(&mut self) -> anyhow::Result<()> {
        self.access(None).await.map(|_| ())
    }

    /// Calls the resource API.
    ///
    /// # Errors
    /// If nobody can be authenticated, or a [`Refusal`].
    pub async fn core<T>(&mut self, call: impl AsyncFn(&mut Core) -> Result<Response<T>, Status>) -> anyhow::Result<T> {
        self.call(async |channel| call(&mut Core::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)).await).await
    }

    /// Calls the API of several changes as one.
    ///
    /// # Errors
    /// See [`Self::core`].
    pub async fn control<T>(
        &mut self,
        call: impl AsyncFn(&mut Control) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<T> {
        self.call(async |channel| call(&mut Control::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)).await)
            .await
    }

    /// The same for calls that carry or check a whole configuration, which take their time.
    ///
    /// # Errors
    /// See [`Self::core`].
    pub async fn control_patiently<T>(
        &mut self,
        call: impl AsyncFn(&mut Control) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<T> {
        let channel = connect::channel(&self.settings, LONG_TIMEOUT)?;
        self.call_by(channel, async |channel| call(&mut Control::new(channel)).await).await
    }

    /// Calls the API of the Session itself, which knows its caller by the refresh token.
    ///
    /// # Errors
    /// If this process has no Session of its own, nobody can be authenticated, or a [`Refusal`].
    pub async fn auth<T>(&mut self, call: impl AsyncFn(&mut Auth) -> Result<Response<T>, Status>) -> anyhow::Result<T> {
        self.needs_kept_session()?;
        self.authenticated().await?;
        let held = state::hold(&self.settings.home).await?;
        let token = self.stored(&held).map(|entry| entry.refresh_token().to_owned()).unwrap_or_default();
        drop(held);
        let caller = Caller::by_refresh_token(&token).map_err(Refusal::from)?;
        let channel = self.channel.clone();
        let answer =
            retrying(async || call(&mut Auth::new(InterceptedService::new(channel.clone(), caller.clone()))).await);
        Ok(answer.await.map_err(Refusal::from)?.into_inner())
    }

    /// Goes on with other tokens of the same Session.
    ///
    /// # Errors
    /// If there are none, or they can't be kept.
    pub async fn take(&mut self, token: SessionToken) -> anyhow::Result<()> {
        let mut held = state::hold(&self.settings.home).await?;
        let token = self.keep(&mut held, token)?;
        self.access = Some(Access { token: Some(token), renewable: true });
        Ok(())
    }

    /// Refuses where a local process calls for us: the Session is its own.
    ///
    /// # Errors
    /// See above.
    pub fn needs_own_session(&self) -> Result<(), Usage> {
        match &self.settings.proxy_socket {
            Some(path) => Err(Usage(format!(
                "OCTELIUM_AUTH_PROXY_SOCKET: the Session belongs to who listens at {}; this command can't touch it",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    /// Refuses also where an access token is used as it is: a stored Session would be another than who calls.
    ///
    /// # Errors
    /// See above.
    pub fn needs_kept_session(&self) -> Result<(), Usage> {
        self.needs_own_session()?;
        match config::variable("OCTELIUM_ACCESS_TOKEN") {
            Some(_) => {
                Err(Usage("with OCTELIUM_ACCESS_TOKEN there is no Session here that could be changed or ended".into()))
            }
            None => Ok(()),
        }
    }

    /// From now on calls with what is here and still counts: nothing is renewed, and nobody logs in. `false`: there is
    /// nothing.
    ///
    /// # Errors
    /// If the state can't be read.
    pub fn settle_for_what_is_here(&mut self) -> anyhow::Result<bool> {
        let token = match config::variable("OCTELIUM_ACCESS_TOKEN") {
            _ if self.settings.proxy_socket.is_some() => None,
            Some(token) => Some(token),
            None => {
                let entry = state::peek(&self.settings.home)?.domain_map.remove(&self.settings.domain);
                let usable = |entry: &Domain| matches!(entry.age(SystemTime::now()), Age::Fresh | Age::Stale);
                match entry.filter(usable) {
                    Some(entry) => Some(entry.access_token().to_owned()),
                    None => return Ok(false),
                }
            }
        };
        self.access = Some(Access { token, renewable: false });
        Ok(true)
    }

    /// Calls the API of the caller's own matters.
    ///
    /// # Errors
    /// See [`Self::core`].
    pub async fn user<T>(&mut self, call: impl AsyncFn(&mut User) -> Result<Response<T>, Status>) -> anyhow::Result<T> {
        self.call(async |channel| call(&mut User::new(channel)).await).await
    }

    async fn call<T>(&mut self, call: impl AsyncFn(Authenticated) -> Result<Response<T>, Status>) -> anyhow::Result<T> {
        self.call_by(self.channel.clone(), call).await
    }

    async fn call_by<T>(
        &mut self,
        channel: Channel,
        call: impl AsyncFn(Authenticated) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<T> {
        let access = self.access(None).await?;
        match attempt(&channel, &access, &call).await {
            // The Session may have been ended, or another process may have renewed it meanwhile. Once is enough:
            // what was refused just after authentication stays refused.
            Err(status) if status.code() == Code::Unauthenticated && access.renewable => {
                let access = self.access(access.token.as_deref()).await?;
                let again = attempt(&channel, &access, &call).await;
                let again = if is_repeated(&status) { again.map_err(repeated) } else { again };
                Ok(again.map_err(Refusal::from)?.into_inner())
            }
            other => Ok(other.map_err(Refusal::from)?.into_inner()),
        }
    }

    /// The access token to call with. `rejected` is one that the server doesn't accept any more.
    async fn access(&mut self, rejected: Option<&str>) -> anyhow::Result<Access> {
        if let (Some(access), None) = (&self.access, rejected) {
            return Ok(access.clone());
        }
        let access = match config::variable("OCTELIUM_ACCESS_TOKEN") {
            _ if self.settings.proxy_socket.is_some() => Access { token: None, renewable: false },
            Some(token) => Access { token: Some(token), renewable: false },
            None => {
                // Held until the new tokens are kept: two processes that renew at once would end each other's.
                let mut held = state::hold(&self.settings.home).await?;
                let token = self.authenticate(&mut held, rejected).await?;
                Access { token: Some(token), renewable: true }
            }
        };
        self.access = Some(access.clone());
        Ok(access)
    }

    /// A stored access token, a renewed one, or that of a new Session.
    async fn authenticate(&mut self, held: &mut Held, rejected: Option<&str>) -> anyhow::Result<String> {
        if let Some(entry) = self.stored(held) {
            let age = match entry.age(SystemTime::now()) {
                // Whatever its age says.
                Age::Fresh | Age::Stale if rejected == Some(entry.access_token()) => Age::Expired,
                age => age,
            };
            if age == Age::Fresh {
                return Ok(entry.access_token().to_owned());
            }
            if age != Age::Over && !entry.refresh_token().is_empty() {
                match self.refresh(entry.refresh_token()).await {
                    Ok(token) => return self.keep(held, token),
                    // Too early to renew, or the server is busy: what still counts is good enough.
                    Err(_) if age == Age::Stale => return Ok(entry.access_token().to_owned()),
                    Err(status) if status.code() == Code::Unauthenticated => self.store(held, None)?,
                    Err(status) => return Err(Refusal::from(status)).context("cannot renew the Session"),
                }
            } else if age == Age::Stale {
                return Ok(entry.access_token().to_owned());
            }
        }
        let Some(token) = self.configured_token()? else {
            let domain = &self.settings.domain;
            let text = match config::variable("OCTELIUM_AUTH_ASSERTION") {
                Some(_) => format!("not logged in to {domain}: {NO_ASSERTIONS}"),
                None => format!(
                    "not logged in to {domain}: run `octeliumctl login --auth-token -`, or set OCTELIUM_AUTH_TOKEN \
                     or authTokenFile in config.yaml"
                ),
            };
            return Err(Failure::new(Exit::Unauthenticated, text).into());
        };
        self.start(held, token, Vec::new()).await
    }

    /// An authentication token from the environment or the file that the configuration names.
    ///
    /// # Errors
    /// If the file can't be used.
    pub fn configured_token(&self) -> anyhow::Result<Option<String>> {
        match (config::variable("OCTELIUM_AUTH_TOKEN"), &self.settings.auth_token_file) {
            (Some(token), _) => Ok(Some(token.trim().to_owned())),
            (None, Some(path)) => config::read_token(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Starts a Session with an authentication token, and ends the one before.
    ///
    /// # Errors
    /// If the token isn't accepted, or the Session can't be kept.
    pub async fn login(&mut self, token: String, scopes: Vec<String>) -> anyhow::Result<()> {
        self.needs_own_session()?;
        let mut held = state::hold(&self.settings.home).await?;
        let former = self.stored(&held);
        let token = self.start(&mut held, token, scopes).await?;
        self.access = Some(Access { token: Some(token), renewable: true });
        if let Some(former) = former.filter(|former| !former.refresh_token().is_empty()) {
            // It ends by itself later; until then it only counts against the User's Sessions.
            self.end(former.refresh_token()).await.ok();
        }
        Ok(())
    }

    /// Ends the stored Session and forgets it, that in any case. `false`: there was none.
    ///
    /// # Errors
    /// If the server didn't confirm; the Session then may live until it expires.
    pub async fn logout(&mut self) -> anyhow::Result<bool> {
        self.needs_kept_session()?;
        let mut held = state::hold(&self.settings.home).await?;
        let Some(entry) = self.stored(&held) else { return Ok(false) };
        self.access = None;
        self.store(&mut held, None)?;
        if entry.refresh_token().is_empty() {
            return Ok(true);
        }
        match self.end(entry.refresh_token()).await {
            Ok(()) => Ok(true),
            // It is over already.
            Err(status) if status.code() == Code::Unauthenticated => Ok(true),
            Err(status) => Err(Refusal::from(status))
                .context("the Session is forgotten here, but the server did not confirm that it ended"),
        }
    }

    async fn start(&mut self, held: &mut Held, token: String, scopes: Vec<String>) -> anyhow::Result<String> {
        let request =
            AuthenticateWithAuthenticationTokenRequest { authentication_token: token, scopes, ..Default::default() };
        let channel = self.channel.clone();
        let tokens = retrying(async || {
            AuthClient::new(channel.clone()).authenticate_with_authentication_token(request.clone()).await
        })
        .await
        .map_err(Refusal::from)
        .context("cannot log in")?;
        self.keep(held, tokens.into_inner())
    }

    async fn refresh(&self, token: &str) -> Result<SessionToken, Status> {
        retrying(async || {
            let request = with_refresh_token(AuthenticateWithRefreshTokenRequest {}, token)?;
            AuthClient::new(self.channel.clone()).authenticate_with_refresh_token(request).await
        })
        .await
        .map(Response::into_inner)
    }

    async fn end(&self, token: &str) -> Result<(), Status> {
        let mut request = with_refresh_token(LogoutRequest {}, token)?;
        request.set_timeout(LOGOUT_TIMEOUT);
        let mut client = AuthClient::new(self.channel.clone());
        match tokio::time::timeout(LOGOUT_TIMEOUT, client.logout(request)).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    fn keep(&mut self, held: &mut Held, token: SessionToken) -> anyhow::Result<String> {
        if token.access_token.is_empty() {
            bail!("the server answered without an access token");
        }
        let access = token.access_token.clone();
        self.store(held, Some(Domain::new(token, SystemTime::now())))?;
        Ok(access)
    }

    fn stored(&self, held: &Held) -> Option<Domain> {
        match self.settings.home {
            config::Home::Memory => self.memory.clone(),
            config::Home::Directory(_) => held.get(&self.settings.domain).cloned(),
        }
    }

    fn store(&mut self, held: &mut Held, entry: Option<Domain>) -> anyhow::Result<()> {
        self.memory = entry.clone();
        held.set(&self.settings.domain, entry)
    }
}

/// Calls as who has `access`.
async fn attempt<T>(
    channel: &Channel,
    access: &Access,
    call: impl AsyncFn(Authenticated) -> Result<Response<T>, Status>,
) -> Result<Response<T>, Status> {
    let caller = match &access.token {
        Some(token) => Caller::by_access_token(token)?,
        None => Caller(None),
    };
    retrying(async || call(InterceptedService::new(channel.clone(), caller.clone())).await).await
}

/// Says who calls, in each request's metadata.
#[derive(Clone)]
pub struct Caller(Option<(&'static str, MetadataValue<Ascii>)>);

impl Caller {
    fn by_access_token(token: &str) -> Result<Self, Status> {
        Ok(Self(Some(("x-octelium-auth", secret_value(token)?))))
    }

    fn by_refresh_token(token: &str) -> Result<Self, Status> {
        Ok(Self(Some((REFRESH_TOKEN, secret_value(token)?))))
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some((name, value)) = &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

fn with_refresh_token<T>(message: T, token: &str) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(REFRESH_TOKEN, secret_value(token)?);
    Ok(request)
}

/// A header's value that is neither shown in logs nor kept in HTTP/2's table.
fn secret_value(token: &str) -> Result<MetadataValue<Ascii>, Status> {
    let mut value = MetadataValue::try_from(token)
        .map_err(|_| Status::unauthenticated("the token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Calls again while the server is unavailable, and only then. An answer to a call that was sent before says so.
async fn retrying<T>(call: impl AsyncFn() -> Result<T, Status>) -> Result<T, Status> {
    let begin = tokio::time::Instant::now();
    let mut pauses = PAUSES.into_iter();
    let mut answered = None;
    let mut was_sent = false;
    loop {
        let status = match call().await {
            Err(status) if status.code() == Code::Unavailable => status,
            Err(status) if was_sent => return Err(repeated(status)),
            other => return other,
        };
        let hopeless = not_connected(&status).is_some_and(|error| !error.is_passing());
        let sent = not_connected(&status).is_none();
        was_sent |= sent;
        // Of several failures the last one counts, but one after which the server may have acted outweighs a later one
        // without a connection.
        if sent || answered.is_none() {
            answered = Some(status);
        }
        let pause = match pauses.next() {
            Some(pause) if !hopeless && begin.elapsed() + pause <= RETRY_WINDOW => pause,
            _ => return Err(answered.expect("was set just before")),
        };
        if pause == PAUSES[1] {
            output::note("the server is unavailable; trying again for a few seconds");
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_unavailability_is_tried_again() {
        for (code, calls) in
            [(Code::Unavailable, 6), (Code::Internal, 1), (Code::Unauthenticated, 1), (Code::Aborted, 1)]
        {
            let count = Cell::new(0);
            let answer: Result<(), _> = retrying(async || {
                count.set(count.get() + 1);
                Err(Status::new(code, "no"))
            })
            .await;
            assert_eq!(answer.unwrap_err().code(), code);
            assert_eq!(count.get(), calls, "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_comes_back_answers() {
        let count = Cell::new(0);
        let answer = retrying(async || {
            count.set(count.get() + 1);
            if count.get() < 3 { Err(Status::unavailable("no leader")) } else { Ok(count.get()) }
        })
        .await;
        assert_eq!(answer.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_done_is_not_called_unsent() {
        let unsent = || {
            let address = "127.0.0.1:1".to_owned();
            let mut status = Status::unavailable("no connection");
            let source = std::io::ErrorKind::ConnectionRefused.into();
            status.set_source(std::sync::Arc::new(connect::Error::Tcp { address, source }));
            status
        };
        for (sent_first, expected) in [(true, false), (false, true)] {
            let count = Cell::new(0);
            let answer: Result<(), _> = retrying(async || {
                count.set(count.get() + 1);
                if sent_first && count.get() == 1 { Err(Status::unavailable("lost")) } else { Err(unsent()) }
            })
            .await;
            assert_eq!(Refusal::from(answer.unwrap_err()).is_unsent(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_after_a_lost_one_says_so() {
        for lost in [0, 1] {
            let count = Cell::new(0);
            let answer: Result<(), _> = retrying(async || {
                count.set(count.get() + 1);
                if count.get() <= lost { Err(Status::unavailable("lost")) } else { Err(Status::already_exists("yes")) }
            })
            .await;
            assert_eq!(Refusal::from(answer.unwrap_err()).is_repeated(), lost > 0);
        }
    }

    #[test]
    fn tokens_are_sensitive_headers() {
        assert!(secret_value("token").unwrap().is_sensitive());
        assert!(secret_value("to\nken").is_err());
    }
}
