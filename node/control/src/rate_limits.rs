//! The counters of strict rate limits: how full they are, and how to empty them. How full is known from the log; what a counter
//! counts is known to the nodes that met requests of it, since the log has only a digest.

use std::collections::{BTreeSet, HashMap};

use octelium_actors::{Views, rate_limiter::CounterId};
use octelium_api::{
    Kind,
    control::{
        ListRateLimitsRequest, ListRateLimitsResponse, RateLimit, RateLimitSelector, ResetRateLimitsRequest,
        ResetRateLimitsResponse,
    },
};
use octelium_consensus::{
    RESETS_MAX, State, Write,
    state::grants::{Counter, CounterId as Id},
};
use prost::Message;
use uuid::Uuid;

use crate::{Inner, list, plan::Actor, refusal::Refusal};

/// A list is no longer.
const LIST_MAX: u32 = 1_000;
const LIST_DEFAULT: u32 = 100;
/// Nodes are asked for the names of so many counters at once: question and answer must fit into their limits.
const NAMES_AT_ONCE: usize = 2_000;
/// A list looks at no more counters.
const LOOKED_AT_MAX: usize = 50_000;

/// What a node answers: the counters of the question that it knows.
#[derive(Clone, PartialEq, Message)]
struct Names {
    #[prost(message, repeated, tag = "1")]
    names: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    service_uid: String,
    #[prost(string, tag = "3")]
    plugin: String,
    #[prost(string, tag = "4")]
    key: String,
}

/// Answers a question of this module on another node: ids, one after the other.
pub(crate) fn answer(views: &Views, question: &[u8]) -> Vec<u8> {
    let cells = views.limiter.cells();
    let (ids, _) = question.as_chunks::<16>();
    let named = |id: &Id| {
        let cell = cells.get(&CounterId::from_bytes(*id))?;
        let name = cell.name.as_ref()?;
        Some(Named {
            id: id.to_vec(),
            service_uid: name.service_uid.to_string(),
            plugin: name.plugin.to_string(),
            key: name.key.to_string(),
        })
    };
    Names { names: ids.iter().take(NAMES_AT_ONCE).filter_map(named).collect() }.encode_to_vec()
}

/// The counters that were asked for, the fullest first.
///
/// # Errors
/// If there is no such Service.
pub(crate) async fn list(inner: &Inner, request: &ListRateLimitsRequest) -> Result<ListRateLimitsResponse, Refusal> {
    let limit = match request.limit {
        0 => LIST_DEFAULT,
        some if some <= LIST_MAX => some,
        some => return Err(Refusal::at("limit", format!("{some} is more than {LIST_MAX}"))),
    };
    let (state, now) = (inner.store.replica.state(), inner.store.replica.about_log_time());
    let selector = Selector::of(&state, request.selector.as_ref())?;
    let mut counters: Vec<(Id, RateLimit)> =
        state.grants().counters().map(|(id, counter)| (*id, shown(id, counter, now))).collect();
    counters.retain(|(_, shown)| shown.used + shown.held > 0);
    counters.sort_by(|(_, a), (_, b)| fullness(b).total_cmp(&fullness(a)).then_with(|| b.used.cmp(&a.used)));
    let is_partial = counters.len() > LOOKED_AT_MAX;
    let (mut total, mut rate_limits) = (0, Vec::new());
    let is_everything = selector.is_empty();
    let looked_at = counters.len().min(LOOKED_AT_MAX);
    let all = counters.len() as u64;
    let (mut unnamed, mut silent) = (0, BTreeSet::new());
    for batch in counters[..looked_at].chunks_mut(NAMES_AT_ONCE) {
        let room = (limit as usize).saturating_sub(rate_limits.len());
        if is_everything && room == 0 {
            // Nobody asks what the others are.
            total += batch.len() as u64;
            continue;
        }
        let ids: Vec<Id> = batch.iter().map(|(id, _)| *id).collect();
        let mut names = names(inner, &ids, &mut silent).await;
        for (id, shown) in batch {
            let named = names.remove(id);
            unnamed += u64::from(named.is_none());
            if !selector.matches(&state, named.as_ref()) {
                continue;
            }
            total += 1;
            if rate_limits.len() < limit as usize {
                let named = named.unwrap_or_default();
                let mut shown = std::mem::take(shown);
                shown.service = name_of(&state, Kind::Service, &named.service_uid);
                shown.key = readable(&state, &named.key);
                shown.plugin = named.plugin;
                rate_limits.push(shown);
            }
        }
    }
    if is_everything {
        total = all;
    }
    Ok(ListRateLimitsResponse { rate_limits, total, is_partial, unnamed })
}

/// Empties the counters that were asked for.
///
/// # Errors
/// If there is no such Service, nothing was asked for, or the change can't be committed.
pub(crate) async fn reset(
    inner: &Inner,
    actor: &Actor,
    request: &ResetRateLimitsRequest,
) -> Result<ResetRateLimitsResponse, Refusal> {
    let state = inner.store.replica.state();
    let selector = Selector::of(&state, request.selector.as_ref())?;
    match (selector.is_empty(), request.all) {
        (true, false) => return Err(Refusal::at("selector", "say which counters, or that it is all of them")),
        (false, true) => return Err(Refusal::at("all", "either all counters, or those that are selected")),
        _ => {}
    }
    let ids: Vec<Id> = state.grants().counters().map(|(id, _)| *id).collect();
    let mut selected = Vec::new();
    let (mut unnamed, mut silent) = (0, BTreeSet::new());
    match request.all {
        true => selected = ids,
        false => {
            for batch in ids.chunks(NAMES_AT_ONCE) {
                let names = names(inner, batch, &mut silent).await;
                unnamed += batch.iter().filter(|id| !names.contains_key(*id)).count() as u64;
                selected.extend(batch.iter().filter(|id| selector.matches(&state, names.get(*id))));
            }
        }
    }
    let mut index = 0;
    for part in selected.chunks(RESETS_MAX) {
        let done = inner.store.change(actor, |plan| {
            plan.key(Write::ResetCounters { counters: part.to_vec() });
            Ok::<_, Refusal>(())
        });
        index = done.await?.index;
    }
    let count = selected.len() as u64;
    tracing::info!(count, user = actor.user_uid, "counters of rate limits were reset");
    Ok(ResetRateLimitsResponse { count, index, unnamed })
}

/// Asks all nodes what these counters count, but for those that didn't answer before.
async fn names(inner: &Inner, ids: &[Id], silent: &mut BTreeSet<u64>) -> HashMap<Id, Named> {
    let mut known = HashMap::new();
    for answer in inner.store.replica.inspect(&ids.concat(), silent).await {
        // What a node of another version answers isn't read.
        let Ok(answer) = Names::decode(answer) else { continue };
        for named in answer.names {
            if let Ok(id) = Id::try_from(named.id.as_slice()) {
                known.entry(id).or_insert(named);
            }
        }
    }
    known
}

/// Which counters are meant.
struct Selector {
    /// Of the Service.
    uid: Option<String>,
    plugin: String,
    key: String,
}

impl Selector {
    fn of(state: &State, selector: Option<&RateLimitSelector>) -> Result<Self, Refusal> {
        let RateLimitSelector { service, plugin, key } = selector.cloned().unwrap_or_default();
        let uid = match service.as_str() {
            "" => None,
            name => Some(list::find(state, Kind::Service, "", name, "selector.service")?.object.uid().to_owned()),
        };
        Ok(Self { uid, plugin, key })
    }

    fn is_empty(&self) -> bool {
        self.uid.is_none() && self.plugin.is_empty() && self.key.is_empty()
    }

    fn matches(&self, state: &State, named: Option<&Named>) -> bool {
        let Some(named) = named else { return self.is_empty() };
        self.uid.as_ref().is_none_or(|uid| *uid == named.service_uid)
            && (self.plugin.is_empty() || self.plugin == named.plugin)
            && (self.key.is_empty() || self.key == named.key || self.key == readable(state, &named.key))
    }
}

fn shown(id: &Id, counter: &Counter, now: u64) -> RateLimit {
    let standing = counter.standing(now);
    RateLimit {
        id: format!("{:032x}", u128::from_be_bytes(*id)),
        limit: counter.limit,
        window_milliseconds: counter.window / 1_000_000,
        used: standing.spent,
        held: standing.held,
        back_in_milliseconds: standing.back_at.map(|at| at.saturating_sub(now).div_ceil(1_000_000)),
        ..RateLimit::default()
    }
}

#[allow(clippy::cast_precision_loss, reason = "it only orders them")]
fn fullness(of: &RateLimit) -> f64 {
    (of.used + of.held) as f64 / of.limit.max(1) as f64
}

fn name_of(state: &State, kind: Kind, uid: &str) -> String {
    state.get(kind, uid).map_or_else(|| uid.to_owned(), |stored| stored.object.name().to_owned())
}

/// Names in place of uids.
fn readable(state: &State, key: &str) -> String {
    match key.split_once(':') {
        Some(("user", uid)) => format!("user:{}", name_of(state, Kind::User, uid)),
        Some(("session", hex)) => {
            let uid =
                u128::from_str_radix(hex, 16).map_or_else(|_| hex.to_owned(), |uid| Uuid::from_u128(uid).to_string());
            format!("session:{}", name_of(state, Kind::Session, &uid))
        }
        _ => key.to_owned(),
    }
}
