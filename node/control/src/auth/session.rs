//! How Sessions begin and go on: lifetimes, states, limits, authentications.

use std::time::Duration;

use octelium_api::{
    Kind, Object,
    core::{
        self, Credential, Session, User,
        session::{
            self,
            status::{
                Authentication,
                authentication::{
                    Info,
                    info::{self, Details, Downstream},
                },
            },
        },
        user,
    },
    duration,
    meta::{self, Metadata, ObjectReference},
};
use octelium_consensus::State;
use uuid::Uuid;

use super::Denied;
use crate::{
    ClientInfo,
    clock::Now,
    plan::{Plan, lasting_reference},
    random,
    token::{Token, TokenKeys, TokenKind},
};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
const ACCESS_LIFE: Duration = Duration::from_secs(4 * HOUR);
/// Shorter lives of tokens in settings are ignored.
const TOKEN_LIFE_MIN: Duration = Duration::from_secs(HOUR / 2);
const SESSIONS_PER_USER_MAX: u32 = 10_000;
const EARLIER_MAX: usize = 100;
const USER_AGENT_BYTES_MAX: usize = 220;
const CLI: &str = "octelium-cli";

/// What a new Session is made from.
pub struct New<'a> {
    pub user: &'a User,
    pub credential: &'a Credential,
    pub kind: session::status::Type,
    pub scopes: Vec<core::Scope>,
    pub client: &'a ClientInfo,
}

/// How a Session's life is set; `None` and 0 inherit.
#[derive(Default)]
struct Settings {
    client: Option<Duration>,
    clientless: Option<Duration>,
    access: Option<Duration>,
    refresh: Option<Duration>,
    per_user_max: u32,
    state: i32,
}

macro_rules! settings {
    ($of:expr) => {
        $of.map_or_else(Settings::default, |of| Settings {
            client: of.client_duration.as_ref().and_then(duration::to_std),
            clientless: of.clientless_duration.as_ref().and_then(duration::to_std),
            access: of.access_token_duration.as_ref().and_then(duration::to_std),
            refresh: of.refresh_token_duration.as_ref().and_then(duration::to_std),
            per_user_max: of.max_per_user,
            state: of.default_state,
        })
    };
}

/// Makes a Session; it isn't in the plan yet.
///
/// # Errors
/// If its User has as many live Sessions as it may have.
pub fn make(plan: &Plan, new: New) -> Result<Session, Denied> {
    let now = plan.now();
    let spec = new.user.spec.clone().unwrap_or_default();
    let is_human = spec.r#type() == user::spec::Type::Human;
    let own = settings!(spec.session.as_ref());
    let cluster = cluster_settings(plan.state(), is_human);
    let user_uid = new.user.metadata.as_ref().map_or("", |metadata| &metadata.uid);

    let set = |count: u32| (count > 0).then_some(count);
    let per_user_max = set(own.per_user_max).or(set(cluster.per_user_max)).unwrap_or(if is_human { 16 } else { 128 });
    let live = plan.state().owned_by(Kind::Session, user_uid).filter(|stored| match &stored.object {
        // What this change ends makes room.
        Object::Session(session) => {
            plan.get(Kind::Session, stored.object.uid()).is_some()
                && belongs_to(session, user_uid)
                && is_live(session, now)
        }
        _ => false,
    });
    if live.count() >= per_user_max.min(SESSIONS_PER_USER_MAX) as usize {
        return Err(Denied::TooManySessions);
    }

    let life = match new.kind {
        session::status::Type::Client => own.client.or(cluster.client),
        _ => own.clientless.or(cluster.clientless),
    };
    let life = life.unwrap_or(Duration::from_secs(if is_human { 21 * HOUR } else { 90 * DAY }));
    let long = |life: &Duration| *life >= TOKEN_LIFE_MIN;
    let access = own.access.filter(long).or(cluster.access.filter(long)).unwrap_or(ACCESS_LIFE);
    let refresh = own.refresh.filter(long).or(cluster.refresh.filter(long));
    let refresh = refresh.unwrap_or(Duration::from_secs(if is_human { 21 * HOUR } else { 14 * DAY })).max(access);
    let state = [own.state, cluster.state].into_iter().find(|state| *state != 0);

    let info = info_of_credential(plan.state(), new.credential, new.client);
    let authentication = Authentication {
        info: Some(info),
        set_at: Some(now.timestamp()),
        token_id: Uuid::new_v4().to_string(),
        access_token_duration: Some(duration::from_std(access)),
        refresh_token_duration: Some(duration::from_std(refresh)),
    };
    let authorization = new.credential.spec.as_ref().and_then(|spec| spec.authorization.clone());
    Ok(Session {
        metadata: Some(Metadata { name: name(plan, new.user), ..Metadata::default() }),
        spec: Some(session::Spec {
            expires_at: Some(now.later(life)),
            state: state.unwrap_or(session::spec::State::Active as i32),
            authorization: authorization.map(|copied| session::spec::Authorization {
                policies: copied.policies,
                inline_policies: copied.inline_policies,
            }),
        }),
        status: Some(session::Status {
            user_ref: Some(lasting_reference(&Object::User(new.user.clone()))),
            r#type: new.kind.into(),
            initial_authentication: Some(authentication.clone()),
            authentication: Some(authentication),
            credential_ref: Some(lasting_reference(&Object::Credential(new.credential.clone()))),
            total_authentications: 1,
            scopes: new.scopes,
            ..session::Status::default()
        }),
        ..Session::default()
    })
}

/// What an authentication by `credential` is noted as.
pub fn info_of_credential(state: &State, credential: &Credential, client: &ClientInfo) -> Info {
    let details = info::Credential {
        credential_ref: Some(lasting_reference(&Object::Credential(credential.clone()))),
        r#type: credential.spec.as_ref().map_or(0, |spec| spec.r#type),
        token_id: credential.status.as_ref().map(|status| status.token_id.clone()).unwrap_or_default(),
    };
    Info {
        r#type: info::Type::Credential.into(),
        details: Some(Details::Credential(details)),
        downstream: downstream(state, client),
        ..Info::default()
    }
}

/// What a refresh is noted as.
pub fn info_of_refresh(state: &State, client: &ClientInfo) -> Info {
    Info { r#type: info::Type::RefreshToken.into(), downstream: downstream(state, client), ..Info::default() }
}

/// Gives the Session a new authentication, whose tokens live as long as those of its first one.
pub fn reauthenticate(session: &mut Session, info: Info, now: Now) {
    let status = session.status.get_or_insert_default();
    let initial = status.initial_authentication.clone().unwrap_or_default();
    let next = Authentication {
        info: Some(info),
        set_at: Some(now.timestamp()),
        token_id: Uuid::new_v4().to_string(),
        access_token_duration: initial.access_token_duration,
        refresh_token_duration: initial.refresh_token_duration,
    };
    if let Some(previous) = status.authentication.replace(next) {
        status.last_authentications.insert(0, previous);
        status.last_authentications.truncate(EARLIER_MAX);
    }
    status.total_authentications = status.total_authentications.saturating_add(1);
}

/// The tokens of a Session's present authentication.
pub struct Tokens {
    pub access: String,
    pub refresh: String,
    /// In seconds.
    pub access_life: i64,
    /// In seconds.
    pub refresh_life: i64,
}

/// Signs the tokens of the Session's present authentication.
pub fn tokens(session: &Session, keys: &TokenKeys) -> Option<Tokens> {
    let subject = Uuid::parse_str(&session.metadata.as_ref()?.uid).ok()?.as_u128();
    let authentication = session.status.as_ref()?.authentication.as_ref()?;
    let id = Uuid::parse_str(&authentication.token_id).ok()?.as_u128();
    let set_at = authentication.set_at.as_ref()?.seconds;
    let (access_life, refresh_life) = lives(authentication);
    let mint = |kind, life: i64| keys.mint(&Token { kind, subject, id, expires_unix: set_at.saturating_add(life) });
    Some(Tokens {
        access: mint(TokenKind::Access, access_life),
        refresh: mint(TokenKind::Refresh, refresh_life),
        access_life,
        refresh_life,
    })
}

/// How long the two tokens of an authentication live, in seconds.
pub fn lives(authentication: &Authentication) -> (i64, i64) {
    let seconds = |life: &Option<meta::Duration>| {
        let life = life.as_ref().and_then(duration::to_std).unwrap_or_default();
        i64::try_from(life.as_secs()).unwrap_or(i64::MAX)
    };
    (seconds(&authentication.access_token_duration), seconds(&authentication.refresh_token_duration))
}

/// Whether the Session's life isn't over.
pub fn is_unexpired(session: &Session, now: Now) -> bool {
    let expires = session.spec.as_ref().and_then(|spec| spec.expires_at.as_ref());
    expires.is_some_and(|at| at.seconds > now.unix())
}

/// Whether the Session can still be used or refreshed.
pub fn is_live(session: &Session, now: Now) -> bool {
    let authentication = session.status.as_ref().and_then(|status| status.authentication.as_ref());
    let usable_until = authentication.map_or(0, |authentication| {
        let (access, refresh) = lives(authentication);
        authentication.set_at.as_ref().map_or(0, |at| at.seconds).saturating_add(access.max(refresh))
    });
    is_unexpired(session, now) && usable_until > now.unix()
}

/// Whether the cluster suspended it or an administrator rejected it.
pub fn is_barred(session: &Session) -> bool {
    session.status.as_ref().is_none_or(|status| status.is_locked)
        || session.spec.as_ref().is_none_or(|spec| spec.state() == session::spec::State::Rejected)
}

/// Whether an administrator disabled the User or the cluster locked it.
pub fn is_off(user: &User) -> bool {
    user.spec.as_ref().is_none_or(|spec| spec.is_disabled)
        || user.status.as_ref().is_some_and(|status| status.is_locked)
}

/// The kind of Session that a client gets where the Credential doesn't say.
pub fn kind_for(client: &ClientInfo) -> session::status::Type {
    match client.user_agent.starts_with(CLI) {
        true => session::status::Type::Client,
        false => session::status::Type::Clientless,
    }
}

fn belongs_to(session: &Session, user_uid: &str) -> bool {
    let owner = session.status.as_ref().and_then(|status| status.user_ref.as_ref());
    owner.is_some_and(|owner: &ObjectReference| owner.uid == user_uid)
}

fn name(plan: &Plan, user: &User) -> String {
    let user = user.metadata.as_ref().map_or("", |metadata| &metadata.name);
    loop {
        let name = format!("{user}-{}", random::alphanumeric(6));
        if plan.by_name(Kind::Session, &name).is_none() {
            return name;
        }
    }
}

fn cluster_config(state: &State) -> Option<&core::cluster_config::Spec> {
    match &state.by_name(Kind::ClusterConfig, octelium_api::name::CLUSTER_CONFIG)?.object {
        Object::ClusterConfig(config) => config.spec.as_ref(),
        _ => None,
    }
}

fn cluster_settings(state: &State, is_human: bool) -> Settings {
    let session = cluster_config(state).and_then(|spec| spec.session.as_ref());
    match is_human {
        true => settings!(session.and_then(|session| session.human.as_ref())),
        false => settings!(session.and_then(|session| session.workload.as_ref())),
    }
}

fn downstream(state: &State, client: &ClientInfo) -> Option<Downstream> {
    let ingress = cluster_config(state).and_then(|spec| spec.ingress.as_ref());
    let knows_ip = ingress.is_some_and(|ingress| ingress.use_forwarded_for_header);
    let version = client.user_agent.strip_prefix(CLI).and_then(|rest| rest.strip_prefix('/'));
    let short = |text: &str| if text.len() < USER_AGENT_BYTES_MAX { text.to_owned() } else { String::new() };
    let downstream = Downstream {
        ip_address: if knows_ip { client.ip.clone() } else { String::new() },
        user_agent: short(&client.user_agent),
        client_version: short(version.and_then(|version| version.split_whitespace().next()).unwrap_or_default()),
    };
    (downstream != Downstream::default()).then_some(downstream)
}
