//! Many resources as one change.

use std::str::FromStr;

use aws_lc_rs::digest;
use octelium_api::{
    Kind,
    control::{ApplyRequest, ApplyResponse, Change, Result as ChangeResult, change, result::Operation},
    meta::ObjectReference,
};
use octelium_consensus::{State, Write};
use prost::Message;
use tonic::Status;

use crate::{
    Inner,
    clock::Now,
    draft::Draft,
    list,
    plan::{Actor, Finished, Id, Mode, Plan, Precondition},
    refusal::{Refusal, Violation},
    seal,
};

const CHANGES_MAX: usize = 10_000;
const REQUEST_ID_BYTES_MAX: usize = 64;
/// Checking stops here: nobody reads on.
const VIOLATIONS_MAX: usize = 1_000;
/// The answers of so many changes are kept, for callers that repeat one because they didn't hear the answer.
const ANSWERS_MAX: usize = 64;
/// An answer larger than this is kept without the resources before and after.
const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// They are kept among the cluster's keys, so that they take effect with their change or not at all.
pub const ANSWER_PREFIX: &str = "answer/";

/// A change that was read and checked on its own.
enum Prepared {
    Put(Box<Draft>, Precondition),
    Delete { path: String, kind: Kind, reference: ObjectReference, precondition: Precondition },
}

/// Why a change isn't made.
enum Stop {
    Refused(Refusal),
    /// It was made before.
    Repeated(ApplyResponse),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// An answer as it is kept.
#[derive(Clone, PartialEq, prost::Message)]
struct Kept {
    #[prost(int64, tag = "1")]
    at_unix_nanos: i64,
    /// Of who asked and for what.
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    /// Without its index, which isn't known before.
    #[prost(message, optional, tag = "3")]
    answer: Option<ApplyResponse>,
}

/// Makes all changes of the request, or none.
pub async fn apply(inner: &Inner, actor: &Actor, request: ApplyRequest) -> Result<ApplyResponse, Status> {
    let ApplyRequest { request_id, dry_run, changes } = request;
    if request_id.len() > REQUEST_ID_BYTES_MAX {
        return Err(Refusal::at("requestID", format!("longer than {REQUEST_ID_BYTES_MAX} bytes")).into());
    }
    if changes.len() > CHANGES_MAX {
        return Err(Refusal::at("changes", format!("{} changes; at most {CHANGES_MAX}", changes.len())).into());
    }
    let digest = fingerprint(&actor.user_uid, &changes);
    let store = &inner.store;
    let now = store.now();
    // Thousands of documents take their time to check; other calls go on meanwhile.
    let prepared = tokio::task::spawn_blocking(move || prepare(changes, now))
        .await
        .map_err(|_| Status::unavailable("the check was interrupted"))?;
    let warnings: Vec<Vec<String>> = prepared.iter().map(warnings_of).collect();

    if dry_run {
        let mut plan = store.plan(actor);
        let ids = enter(&mut plan, &prepared)?;
        let mut finished = plan.finish(&store.sealing)?;
        unstamp(&mut finished);
        return Ok(ApplyResponse { results: results(&ids, &finished, &warnings), index: 0 });
    }
    if request_id.is_empty() {
        let done = store.change(actor, |plan| enter(plan, &prepared)).await?;
        let results = results(&done.value, &done.finished, &warnings);
        return Ok(ApplyResponse { results, index: done.index });
    }

    let key = format!("{ANSWER_PREFIX}{request_id}");
    let sealing = store.sealing.clone();
    let open = |name: &str, sealed: &[u8]| {
        seal::open_key(&sealing, name, sealed).and_then(|bytes| Kept::decode(bytes.as_slice()).ok())
    };
    let done = store.change_once(
        actor,
        &request_id,
        |plan| {
            if let Some(sealed) = plan.state().key(&key) {
                return match open(&key, sealed) {
                    Some(kept) if kept.digest == digest => Err(Stop::Repeated(kept.answer.unwrap_or_default())),
                    _ => Err(Refusal::at("requestID", "was used for another change").into()),
                };
            }
            let obsolete = obsolete_answers(plan.state(), open);
            Ok((enter(plan, &prepared)?, obsolete))
        },
        |finished, (ids, obsolete)| {
            if finished.writes.is_empty() {
                return;
            }
            let mut answer = ApplyResponse { results: results(ids, finished, &warnings), index: 0 };
            if answer.encoded_len() > ANSWER_BYTES_MAX {
                answer.results.iter_mut().for_each(|result| {
                    result.before.clear();
                    result.after.clear();
                });
            }
            let kept = Kept { at_unix_nanos: now.unix_nanos(), digest: digest.clone(), answer: Some(answer) };
            let sealed = seal::seal_key(&sealing, &key, &kept.encode_to_vec());
            finished.writes.push(Write::PutKey { name: key.clone(), sealed });
            finished.writes.extend(obsolete.iter().map(|name| Write::DeleteKey { name: name.clone() }));
        },
    );
    match done.await {
        Ok(done) => {
            let results = results(&done.value.0, &done.finished, &warnings);
            Ok(ApplyResponse { results, index: done.index })
        }
        Err(Stop::Repeated(answer)) => {
            let index = store.index_of(&request_id).await?;
            Ok(ApplyResponse { index, ..answer })
        }
        Err(Stop::Refused(refusal)) => Err(refusal.into()),
    }
}

/// Reads and checks each change on its own.
fn prepare(changes: Vec<Change>, now: Now) -> Vec<Result<Prepared, Violation>> {
    let mut wrong = 0;
    let mut prepared = Vec::with_capacity(changes.len());
    for (index, change) in changes.into_iter().enumerate() {
        let one = one(index, change, now);
        wrong += match &one {
            Ok(Prepared::Put(draft, _)) => draft.violations(true).len(),
            Ok(Prepared::Delete { .. }) => 0,
            Err(_) => 1,
        };
        prepared.push(one);
        if wrong >= VIOLATIONS_MAX {
            break;
        }
    }
    prepared
}

fn one(index: usize, change: Change, now: Now) -> Result<Prepared, Violation> {
    let path = format!("changes[{index}].");
    let kind = Kind::from_str(&change.kind)
        .map_err(|()| Violation::at(format!("{path}kind"), format!("this server has no kind `{}`", change.kind)))?;
    let precondition = Precondition::parse(&change.expected_version);
    match change.change {
        Some(change::Change::Put(bytes)) => {
            let object = kind.decode_strictly(&bytes).map_err(|error| Violation::at(format!("{path}put"), error))?;
            Ok(Prepared::Put(Box::new(Draft::new(path, object, now.system_time())), precondition))
        }
        Some(change::Change::Delete(reference)) => {
            let path = format!("{path}delete");
            if !reference.kind.is_empty() && reference.kind != kind.name() {
                return Err(Violation::at(path, format!("refers to a {} where a {kind} is deleted", reference.kind)));
            }
            Ok(Prepared::Delete { path, kind, reference, precondition })
        }
        None => Err(Violation::at(path.trim_end_matches('.'), "needs `put` or `delete`")),
    }
}

/// Enters all changes into the plan; what is wrong is noted there. The ids are in the order of the changes.
fn enter(plan: &mut Plan, prepared: &[Result<Prepared, Violation>]) -> Result<Vec<Id>, Refusal> {
    let mut ids = Vec::with_capacity(prepared.len());
    for change in prepared {
        let id = match change {
            Ok(Prepared::Put(draft, precondition)) => plan.put(draft, Mode::Apply, precondition),
            Ok(Prepared::Delete { path, kind, reference, precondition }) => {
                let found = list::find(plan.state(), *kind, &reference.uid, &reference.name, path).cloned();
                match found {
                    Ok(stored) => plan.delete(stored, path, precondition),
                    Err(refusal) => {
                        refusal.violations.into_iter().for_each(|violation| plan.refuse(violation));
                        None
                    }
                }
            }
            Err(violation) => {
                plan.refuse(violation.clone());
                None
            }
        };
        // Without an id something was noted, and the plan fails as a whole.
        ids.extend(id);
    }
    Ok(ids)
}

fn warnings_of(change: &Result<Prepared, Violation>) -> Vec<String> {
    match change {
        Ok(Prepared::Put(draft, _)) => draft.warnings().to_vec(),
        _ => Vec::new(),
    }
}

/// `ids` and `warnings` are in the order of the changes.
fn results(ids: &[Id], finished: &Finished, warnings: &[Vec<String>]) -> Vec<ChangeResult> {
    let mut results = Vec::with_capacity(ids.len());
    for ((kind, uid), warnings) in ids.iter().zip(warnings) {
        let Some(touched) = finished.touched.get(&(*kind, uid.clone())) else { continue };
        let operation = match (&touched.before, &touched.after) {
            (_, None) => Operation::Deleted,
            (None, Some(_)) => Operation::Created,
            (Some(_), Some(_)) if touched.changed => Operation::Updated,
            (Some(_), Some(_)) => Operation::Unchanged,
        };
        let before = touched.before.as_ref().map(|stored| &stored.object);
        let any = touched.after.as_ref().or(before);
        results.push(ChangeResult {
            kind: kind.name().to_owned(),
            name: any.map(|object| object.name().to_owned()).unwrap_or_default(),
            operation: operation.into(),
            before: before.map(octelium_api::Object::encode).unwrap_or_default(),
            after: touched.after.as_ref().map(octelium_api::Object::encode).unwrap_or_default(),
            warnings: warnings.clone(),
        });
    }
    results
}

/// Takes back what only a change that is made gets: a dry run shows no ids and versions that nobody will ever see.
fn unstamp(finished: &mut Finished) {
    for touched in finished.touched.values_mut() {
        let Some(after) = &mut touched.after else { continue };
        let metadata = after.metadata_mut();
        match &touched.before {
            None => {
                metadata.uid.clear();
                metadata.resource_version.clear();
                metadata.created_at = None;
                metadata.actor_ref = None;
                metadata.actor_operation.clear();
            }
            Some(stored) => {
                let old = stored.object.metadata().cloned().unwrap_or_default();
                metadata.resource_version = old.resource_version;
                metadata.last_resource_version = old.last_resource_version;
                metadata.updated_at = old.updated_at;
                metadata.actor_ref = old.actor_ref;
                metadata.actor_operation = old.actor_operation;
            }
        }
    }
}

/// Names of kept answers that make room for one more, the oldest.
fn obsolete_answers(state: &State, open: impl Fn(&str, &[u8]) -> Option<Kept>) -> Vec<String> {
    let kept: Vec<_> = state.keys().filter(|(name, _)| name.starts_with(ANSWER_PREFIX)).collect();
    let excess = (kept.len() + 1).saturating_sub(ANSWERS_MAX);
    if excess == 0 {
        return Vec::new();
    }
    let mut by_age: Vec<_> = kept
        .into_iter()
        .map(|(name, sealed)| (open(name, sealed).map_or(0, |kept| kept.at_unix_nanos), name))
        .collect();
    by_age.sort_unstable();
    by_age.into_iter().take(excess).map(|(_, name)| name.to_owned()).collect()
}

fn fingerprint(user_uid: &str, changes: &[Change]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(user_uid.as_bytes());
    for change in changes {
        context.update(&change.encode_length_delimited_to_vec());
    }
    context.finish().as_ref().to_vec()
}
