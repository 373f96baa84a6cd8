//! The API of several changes as one, of waiting, locks and backups.

use std::{pin::Pin, time::Duration};

use octelium_api::{Kind, Object, control, name};
use prost::Message;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Cluster, MapRef, take_data, without_data};

/// What a backup of this cluster begins with; the passphrase follows.
const MAGIC: &[u8] = b"BACKUP:";

#[tonic::async_trait]
impl control::control_service_server::ControlService for Cluster {
    async fn apply(&self, request: Request<control::ApplyRequest>) -> Result<Response<control::ApplyResponse>, Status> {
        let mut inner = self.note("Apply");
        inner.request_ids.insert(request.get_ref().request_id.clone());
        inner.calls.pop();
        drop(inner);
        let mut inner = self.enter("Apply", &request)?;
        let request = request.into_inner();
        let mut objects = inner.objects.clone();
        let mut results = Vec::new();
        for (index, change) in request.changes.into_iter().enumerate() {
            let kind: Kind = change.kind.parse().unwrap();
            let bytes = match change.change.unwrap() {
                control::change::Change::Put(bytes) => bytes,
                control::change::Change::Delete(reference) => {
                    let key = (kind, reference.name);
                    let Some(before) = objects.remove(&key) else {
                        return Err(refuse(&format!("changes[{index}]"), "there is no such resource"));
                    };
                    assert_eq!(before.uid(), reference.uid);
                    expect(&change.expected_version, Some(&before))?;
                    results.push(control::Result {
                        kind: kind.name().into(),
                        name: key.1,
                        operation: control::result::Operation::Deleted.into(),
                        before: without_data(before).encode(),
                        after: Vec::new(),
                        warnings: Vec::new(),
                    });
                    continue;
                }
            };
            let new = kind.decode_strictly(&bytes).map_err(Status::invalid_argument)?;
            if bytes.windows(14).any(|window| window == b"forbidden.test") {
                return Err(refuse(&format!("changes[{index}].spec.config.upstream.url"), "may not be used"));
            }
            let name = match kind {
                Kind::Service => name::canonical_service(new.name()),
                _ => new.name().to_owned(),
            };
            let before = objects.get(&(kind, name.clone())).cloned();
            expect(&change.expected_version, before.as_ref())?;
            let mut after = before.clone().unwrap_or_else(|| new.clone());
            after.overlay(&new);
            after.metadata_mut().name.clone_from(&name);
            after.set_envelope();
            take_data(&mut after, &new);
            let operation = match &before {
                None => control::result::Operation::Created,
                Some(before) if *before == after => control::result::Operation::Unchanged,
                Some(_) => control::result::Operation::Updated,
            };
            if operation != control::result::Operation::Unchanged {
                let metadata = after.metadata_mut();
                metadata.resource_version = uuid::Uuid::now_v7().to_string();
                if metadata.uid.is_empty() {
                    metadata.uid = uuid::Uuid::new_v4().to_string();
                }
            }
            objects.insert((kind, name.clone()), after.clone());
            results.push(control::Result {
                kind: kind.name().into(),
                name,
                operation: operation.into(),
                before: before.map(|before| without_data(before).encode()).unwrap_or_default(),
                after: without_data(after).encode(),
                warnings: Vec::new(),
            });
        }
        let kinds: Vec<Kind> = results
            .iter()
            .filter(|result| result.operation() != control::result::Operation::Unchanged)
            .map(|result| result.kind.parse().unwrap())
            .collect();
        if request.dry_run || kinds.is_empty() {
            return Ok(Response::new(control::ApplyResponse { results, index: 0 }));
        }
        inner.objects = objects;
        kinds.into_iter().for_each(|kind| inner.changed(kind));
        Ok(Response::new(control::ApplyResponse { results, index: inner.index }))
    }

    async fn wait_for_index(
        &self,
        request: Request<control::WaitForIndexRequest>,
    ) -> Result<Response<control::WaitForIndexResponse>, Status> {
        let (in_effect, wait) = {
            let inner = self.enter("WaitForIndex", &request)?;
            (inner.in_effect.unwrap_or(inner.index), request.get_ref().timeout_milliseconds)
        };
        let reached = in_effect >= request.get_ref().index;
        if !reached {
            tokio::time::sleep(Duration::from_millis(wait.into())).await;
        }
        Ok(Response::new(control::WaitForIndexResponse { reached, index: in_effect }))
    }

    async fn wait_for_change(
        &self,
        request: Request<control::WaitForChangeRequest>,
    ) -> Result<Response<control::WaitForChangeResponse>, Status> {
        drop(self.enter("WaitForChange", &request)?);
        let request = request.into_inner();
        let kind: Kind = request.kind.parse().unwrap();
        for _ in 0..100 {
            let index = self.0.lock().unwrap().changes.get(&kind).copied().unwrap_or(1);
            if index > request.after {
                return Ok(Response::new(control::WaitForChangeResponse { index }));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Response::new(control::WaitForChangeResponse { index: request.after }))
    }

    async fn set_lock(
        &self,
        request: Request<control::SetLockRequest>,
    ) -> Result<Response<control::SetLockResponse>, Status> {
        let mut inner = self.enter("SetLock", &request)?;
        let request = request.into_inner();
        let key = (request.kind.parse().unwrap(), request.r#ref.unwrap().name);
        if !inner.objects.contains_key(&key) {
            return Err(Status::not_found(format!("there is no {} `{}`", key.0, key.1)));
        }
        let changed = if request.is_locked { inner.locks.insert(key) } else { inner.locks.remove(&key) };
        Ok(Response::new(control::SetLockResponse { index: u64::from(changed) * 7 }))
    }

    async fn get_cluster(
        &self,
        request: Request<control::GetClusterRequest>,
    ) -> Result<Response<control::Cluster>, Status> {
        let nodes = self.enter("GetCluster", &request)?.nodes.clone();
        Ok(Response::new(control::Cluster { nodes }))
    }

    async fn set_node_drained(
        &self,
        request: Request<control::SetNodeDrainedRequest>,
    ) -> Result<Response<control::SetNodeDrainedResponse>, Status> {
        let mut inner = self.enter("SetNodeDrained", &request)?;
        let request = request.into_inner();
        let node = inner.nodes.iter_mut().find(|node| node.id == request.id);
        node.ok_or_else(|| Status::not_found("no such node"))?.is_drained = request.is_drained;
        Ok(Response::new(control::SetNodeDrainedResponse {}))
    }

    async fn list_rate_limits(
        &self,
        request: Request<control::ListRateLimitsRequest>,
    ) -> Result<Response<control::ListRateLimitsResponse>, Status> {
        let inner = self.enter("ListRateLimits", &request)?;
        let request = request.into_inner();
        let selector = request.selector.unwrap_or_default();
        let mut found = inner.rate_limits.clone();
        found.retain(|counter| selects(&selector, counter));
        let total = found.len() as u64;
        found.truncate(request.limit as usize);
        Ok(Response::new(control::ListRateLimitsResponse { rate_limits: found, total, is_partial: false, unnamed: 0 }))
    }

    async fn reset_rate_limits(
        &self,
        request: Request<control::ResetRateLimitsRequest>,
    ) -> Result<Response<control::ResetRateLimitsResponse>, Status> {
        let mut inner = self.enter("ResetRateLimits", &request)?;
        let request = request.into_inner();
        let selector = request.selector.unwrap_or_default();
        let before = inner.rate_limits.len();
        inner.rate_limits.retain(|counter| !request.all && !selects(&selector, counter));
        let count = (before - inner.rate_limits.len()) as u64;
        Ok(Response::new(control::ResetRateLimitsResponse { count, index: 7, unnamed: u64::from(!request.all) }))
    }

    async fn remove_node(
        &self,
        request: Request<control::RemoveNodeRequest>,
    ) -> Result<Response<control::RemoveNodeResponse>, Status> {
        let mut inner = self.enter("RemoveNode", &request)?;
        if inner.nodes.len() == 1 {
            return Err(Status::failed_precondition("it is the last one: stop it instead"));
        }
        inner.nodes.retain(|node| node.id != request.get_ref().id);
        Ok(Response::new(control::RemoveNodeResponse {}))
    }

    async fn create_backup(
        &self,
        request: Request<control::CreateBackupRequest>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<control::BackupPart, Status>> + Send>>>, Status> {
        let inner = self.enter("CreateBackup", &request)?;
        let mut parts = vec![
            Ok(control::BackupPart { data: [MAGIC, &request.get_ref().passphrase].concat() }),
            Ok(control::BackupPart { data: vec![0; 600_000] }),
        ];
        if inner.breaks_off {
            parts.push(Err(Status::unavailable("no leader")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn restore_backup(
        &self,
        request: Request<Streaming<control::RestoreBackupRequest>>,
    ) -> Result<Response<control::RestoreBackupResponse>, Status> {
        use control::restore_backup_request::Part;
        let breaks_off = self.enter("RestoreBackup", &request.map_ref())?.breaks_off;
        let mut stream = request.into_inner();
        let (mut begin, mut data) = (None, Vec::new());
        while let Some(message) = stream.message().await? {
            match message.part.unwrap() {
                Part::Begin(first) => begin = Some(first),
                Part::Data(part) => {
                    assert!(part.len() <= 256 << 10);
                    data.extend(part);
                }
            }
        }
        let begin = begin.unwrap();
        if !data.starts_with(&[MAGIC, &begin.passphrase].concat()) {
            return Err(Status::invalid_argument("the passphrase does not open this backup"));
        }
        assert_eq!(data.len(), MAGIC.len() + begin.passphrase.len() + 600_000);
        if breaks_off && !begin.dry_run {
            return Err(Status::internal("it broke off"));
        }
        Ok(Response::new(control::RestoreBackupResponse {
            created: 2,
            deleted: u32::from(begin.prune),
            index: u64::from(!begin.dry_run) * 9,
            domain: "old.example".to_owned(),
            ..Default::default()
        }))
    }
}

/// Whether the version that must be stored is.
fn expect(version: &str, stored: Option<&Object>) -> Result<(), Status> {
    match version {
        "" => Ok(()),
        version if stored.is_some_and(|stored| stored.resource_version() == version) => Ok(()),
        _ => Err(Status::out_of_range("the resource was changed meanwhile")),
    }
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    violations: Vec<Violation>,
}

#[derive(Clone, PartialEq, Message)]
struct Violation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

fn refuse(field: &str, description: &str) -> Status {
    let request = BadRequest { violations: vec![Violation { field: field.into(), description: description.into() }] };
    let details = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.BadRequest".into(),
        value: request.encode_to_vec(),
    };
    let status = RpcStatus { code: 3, details: vec![details] };
    Status::with_details(tonic::Code::InvalidArgument, "1 violation", status.encode_to_vec().into())
}

fn selects(selector: &control::RateLimitSelector, counter: &control::RateLimit) -> bool {
    let same = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    same(&selector.service, &counter.service)
        && same(&selector.plugin, &counter.plugin)
        && same(&selector.key, &counter.key)
}
