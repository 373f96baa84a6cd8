//! From a backup's file to the changes that lead to its configuration.

use std::{collections::HashSet, str::FromStr, sync::Arc};

use octelium_api::{
    Kind, Object,
    control::{RestoreBackupRequest, RestoreBackupResponse, restore_backup_request::Part},
};
use octelium_consensus::{Stored, Write};
use prost::Message;
use tonic::{Status, Streaming};
use zeroize::Zeroizing;

use super::{Content, Head, KINDS, Key, Record, check, file, is_kept, is_kept_key};
use crate::{
    Inner,
    draft::Draft,
    plan::{Actor, Finished, Plan},
    refusal::Refusal,
    rotation, seal,
    token::{KEY_BYTES, KEY_PREFIX, key_id},
};

/// Larger files are refused.
const FILE_BYTES_MAX: usize = 256 << 20;
/// A change of at most this size is made as one; a log entry has 16 MiB.
const CHANGE_BYTES_MAX: usize = 12 << 20;

/// A backup that was received whole.
pub struct Upload {
    passphrase: Zeroizing<Vec<u8>>,
    file: Vec<u8>,
    dry_run: bool,
    prune: bool,
}

impl Upload {
    /// Receives it.
    pub async fn receive(mut parts: Streaming<RestoreBackupRequest>) -> Result<Self, Status> {
        let first = parts.message().await?.and_then(|request| request.part);
        let Some(Part::Begin(begin)) = first else {
            return Err(Refusal::at("begin", "must come first").into());
        };
        let passphrase = Zeroizing::new(begin.passphrase);
        check(&passphrase)?;
        let mut file = Vec::new();
        while let Some(request) = parts.message().await? {
            match request.part {
                Some(Part::Data(data)) if file.len() + data.len() <= FILE_BYTES_MAX => file.extend_from_slice(&data),
                Some(Part::Data(_)) => {
                    return Err(Refusal::at("data", format!("more than {} MiB", FILE_BYTES_MAX >> 20)).into());
                }
                _ => return Err(Refusal::at("begin", "must come once").into()),
            }
        }
        Ok(Self { passphrase, file, dry_run: begin.dry_run, prune: begin.prune })
    }

    /// Opens it and checks each document. Takes a second or more.
    fn open(&self, inner: &Inner) -> Result<Contents, Refusal> {
        let damaged = |error: &str| Refusal::at("data", error);
        let plain = file::open(&self.file, &self.passphrase).map_err(|error| damaged(&error.to_string()))?;
        let mut rest = plain.as_slice();
        let mut contents = Contents::default();
        let mut count = 0;
        loop {
            let record = Record::decode_length_delimited(&mut rest).map_err(|_| damaged("a record can't be read"))?;
            match record.content {
                Some(Content::Head(head)) if count == 0 => contents.head = head,
                Some(_) if count == 0 => return Err(damaged("its first record is missing")),
                Some(Content::Resource(resource)) => {
                    contents.documents.push(Document::read(&resource.kind, &resource.object, resource.data, inner)?);
                }
                Some(Content::Key(Key { name, key })) => {
                    // A key that can't be used would keep every other one from being used.
                    let signs = name.starts_with(KEY_PREFIX);
                    if !is_kept_key(&name) || signs && (key_id(&name).is_none() || key.len() != KEY_BYTES) {
                        return Err(damaged("a key is out of place"));
                    }
                    contents.keys.push((name, Zeroizing::new(key)));
                }
                Some(Content::End(expected)) if expected == count && rest.is_empty() => break,
                _ => return Err(damaged("a record is out of place")),
            }
            count += 1;
        }
        let (here, there) = (&*inner.store.domain, &contents.head.domain);
        if here != there {
            let message =
                format!("the backup is of the cluster at `{there}`, this one is at `{here}`: use `export` and `apply`");
            return Err(damaged(&message));
        }
        contents.documents.retain(|document| is_kept(&document.whole, inner.store.now()));
        contents.documents.sort_by_key(Document::place);
        Ok(contents)
    }
}

#[derive(Default)]
struct Contents {
    head: Head,
    documents: Vec<Document>,
    keys: Vec<(String, Zeroizing<Vec<u8>>)>,
}

/// One resource of a backup.
struct Document {
    draft: Draft,
    /// With its status.
    whole: Object,
}

impl Document {
    fn read(kind: &str, bytes: &[u8], data: Option<Vec<u8>>, inner: &Inner) -> Result<Self, Refusal> {
        let kind = Kind::from_str(kind).ok().filter(|kind| KINDS.contains(kind));
        let kind = kind.ok_or_else(|| Refusal::at("data", "a resource has a kind that this server doesn't know"))?;
        let whole = kind.decode_strictly(bytes).map_err(|error| Refusal::at("data", format!("a {kind}: {error}")))?;
        let is_uid = uuid::Uuid::try_parse(whole.uid()).is_ok_and(|uid| uid.get_version_num() == 4);
        if !is_uid {
            return Err(Refusal::at("data", format!("a {kind} has no uid")));
        }
        let path = format!("{kind} `{}`: ", whole.name());
        let mut draft = Draft::new(path, whole.clone(), inner.store.now().system_time());
        if let Some(data) = data {
            draft.set_data(data);
        }
        Ok(Self { draft, whole })
    }

    /// Where it stands in an order in which nothing refers to a later one.
    fn place(&self) -> (usize, usize) {
        let kind = KINDS.iter().position(|kind| *kind == self.whole.kind()).unwrap_or(KINDS.len());
        (kind, self.whole.name().matches('.').count())
    }
}

/// Makes the configuration what the backup says. Everything is checked before anything is changed; a large one takes several
/// changes, and one that was interrupted can be made again.
pub async fn restore(inner: &Arc<Inner>, actor: &Actor, upload: Upload) -> Result<RestoreBackupResponse, Status> {
    let (dry_run, prune) = (upload.dry_run, upload.prune);
    let (opening, planner) = (inner.clone(), actor.clone());
    // Opening, compiling and judging a large one takes its time; other calls go on meanwhile.
    let checked = tokio::task::spawn_blocking(move || {
        let contents = upload.open(&opening)?;
        let mut whole = opening.store.plan(&planner);
        let knows_keys = contents.keys.iter().any(|(name, _)| is_known(&whole, name));
        enter(&mut whole, &contents.documents, knows_keys);
        if prune {
            remove_others(&mut whole, &contents.documents, &KINDS);
        }
        let finished = whole.finish(&opening.store.sealing)?;
        Ok::<_, Refusal>((contents, finished, knows_keys))
    });
    let (contents, finished, knows_keys) =
        checked.await.map_err(|_| Status::unavailable("the check was interrupted"))??;
    let mut answer = RestoreBackupResponse {
        created_at: contents.head.created_at,
        domain: contents.head.domain.clone(),
        ..RestoreBackupResponse::default()
    };
    count(&finished, &mut answer);
    if dry_run {
        return Ok(answer);
    }
    let is_one = finished.writes.iter().map(size).sum::<usize>() <= CHANGE_BYTES_MAX;
    drop(finished);
    if is_one {
        let done = inner.store.change(actor, |plan| {
            enter(plan, &contents.documents, knows_keys);
            if prune {
                remove_others(plan, &contents.documents, &KINDS);
            }
            put_keys(plan, &contents, inner);
            Ok::<_, Refusal>(())
        });
        answer.index = done.await?.index;
        return Ok(answer);
    }
    if prune {
        // What could stand in the way of what comes (names of hosts, addresses), and to what hardly anything refers.
        for kind in [Kind::Credential, Kind::Service, Kind::User] {
            answer.index = answer.index.max(remove_kind(inner, actor, &contents, kind).await?);
        }
    }
    let mut from = 0;
    while from < contents.documents.len() {
        let to = from + fitting(&contents.documents[from..]);
        let done = inner.store.change(actor, |plan| {
            enter(plan, &contents.documents[from..to], knows_keys);
            Ok::<_, Refusal>(())
        });
        answer.index = answer.index.max(done.await?.index);
        from = to;
    }
    // The keys come last: until then a restore that was interrupted is known for what it is, and begins again.
    let done = inner.store.change(actor, |plan| {
        put_keys(plan, &contents, inner);
        Ok::<_, Refusal>(())
    });
    answer.index = answer.index.max(done.await?.index);
    if prune {
        // What refers goes before what it refers to.
        for kind in KINDS.iter().rev() {
            answer.index = answer.index.max(remove_kind(inner, actor, &contents, *kind).await?);
        }
    }
    Ok(answer)
}

async fn remove_kind(inner: &Inner, actor: &Actor, contents: &Contents, kind: Kind) -> Result<u64, Status> {
    let done = inner.store.change(actor, |plan| {
        remove_others(plan, &contents.documents, &[kind]);
        Ok::<_, Refusal>(())
    });
    Ok(done.await?.index)
}

/// Whether this is a key that signs tokens and is here already.
fn is_known(plan: &Plan, name: &str) -> bool {
    name.starts_with(KEY_PREFIX) && plan.state().key(name).is_some()
}

/// `knows_keys`: the cluster had the backup's keys before, so that a Credential that is missing was withdrawn since. It comes
/// back without a token.
fn enter(plan: &mut Plan, documents: &[Document], knows_keys: bool) {
    for document in documents {
        plan.restore(&document.draft, &document.whole, knows_keys);
    }
}

/// Deletes what the backup doesn't have.
fn remove_others(plan: &mut Plan, documents: &[Document], kinds: &[Kind]) {
    let names: HashSet<(Kind, &str)> =
        documents.iter().map(|document| (document.whole.kind(), document.draft.object.name())).collect();
    let now = plan.now();
    let mut others: Vec<Arc<Stored>> = Vec::new();
    for kind in kinds {
        let of_kind = plan.state().list(*kind).filter(|stored| {
            is_kept(&stored.object, now)
                && !names.contains(&(*kind, stored.object.name()))
                && *kind != Kind::ClusterConfig
        });
        others.extend(of_kind.cloned());
    }
    for stored in others {
        let path = format!("{} `{}`", stored.object.kind(), stored.object.name());
        plan.delete(stored, &path, &Default::default());
    }
}

/// A key that differs is replaced, the CA's too: nodes serve with it from their next start on.
fn put_keys(plan: &mut Plan, contents: &Contents, inner: &Inner) {
    let mut mixed = false;
    for (name, key) in &contents.keys {
        mixed |= name.starts_with(KEY_PREFIX) && !is_known(plan, name);
        let present = plan.state().key(name).and_then(|sealed| seal::open_key(&inner.store.sealing, name, sealed));
        if present.is_none_or(|present| *present != **key) {
            let sealed = seal::seal_key(&inner.store.sealing, name, key);
            plan.key(Write::PutKey { name: name.clone(), sealed });
        }
    }
    if mixed {
        rotation::mix(plan, &inner.store.sealing);
    }
}

fn count(finished: &Finished, answer: &mut RestoreBackupResponse) {
    for ((kind, _), touched) in &finished.touched {
        // What goes along, such as the Sessions of a User, isn't counted.
        if !KINDS.contains(kind) {
            continue;
        }
        *match (&touched.before, &touched.after) {
            (_, None) => &mut answer.deleted,
            (None, Some(_)) => &mut answer.created,
            (Some(_), Some(_)) if touched.changed => &mut answer.updated,
            (Some(_), Some(_)) => &mut answer.unchanged,
        } += 1;
    }
}

fn size(write: &Write) -> usize {
    match write {
        Write::Put { object, sealed, .. } => object.encode().len() + sealed.as_ref().map_or(0, Vec::len) + 256,
        Write::PutKey { name, sealed } => name.len() + sealed.len() + 64,
        Write::Delete { .. } | Write::DeleteKey { .. } | Write::TakeKey { .. } => 256,
        Write::ResetCounters { counters } => 18 * counters.len() + 16,
    }
}

/// How many of the first documents fit into one change; at least one.
fn fitting(documents: &[Document]) -> usize {
    let mut bytes = 0;
    let sizes = documents.iter().map(|document| {
        document.whole.encode().len() + document.draft.secret.as_ref().map_or(0, |secret| secret.len()) + 1024
    });
    sizes
        .take_while(|size| {
            bytes += size;
            bytes <= CHANGE_BYTES_MAX
        })
        .count()
        .max(1)
}
