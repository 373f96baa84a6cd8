//! What the official API has no call for: `octelium.control.v1.ControlService`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use octelium_api::control::{
    self as api, ApplyRequest, ApplyResponse, BackupPart, CreateBackupRequest, GetClusterRequest,
    ListRateLimitsRequest, ListRateLimitsResponse, RemoveNodeRequest, RemoveNodeResponse, ResetRateLimitsRequest,
    ResetRateLimitsResponse, RestoreBackupRequest, RestoreBackupResponse, SetLockRequest, SetLockResponse,
    SetNodeDrainedRequest, SetNodeDrainedResponse, WaitForChangeRequest, WaitForChangeResponse, WaitForIndexRequest,
    WaitForIndexResponse, control_service_server::ControlService,
};
use tokio::sync::SemaphorePermit;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};
use zeroize::Zeroizing;

use crate::{Inner, apply, backup, grpc::actor, lock, nodes, rate_limits, wait};

const SERVICE: &str = "octelium.control.v1.ControlService";

/// A backup is sent in parts of this size.
const PART_BYTES: usize = 256 << 10;

/// So long a backup waits for another one.
const TURN_WITHIN: Duration = Duration::from_secs(30);
/// A backup that comes slower isn't restored.
const UPLOAD_WITHIN: Duration = Duration::from_secs(600);

/// See the module.
pub struct Extra(pub Arc<Inner>);

#[tonic::async_trait]
impl ControlService for Extra {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let actor = actor(&request, SERVICE, "Apply")?;
        apply::apply(&self.0, &actor, request.into_inner()).await.map(Response::new)
    }

    async fn wait_for_index(
        &self,
        request: Request<WaitForIndexRequest>,
    ) -> Result<Response<WaitForIndexResponse>, Status> {
        actor(&request, SERVICE, "WaitForIndex")?;
        Ok(Response::new(wait::for_index(&self.0, request.get_ref()).await))
    }

    async fn wait_for_change(
        &self,
        request: Request<WaitForChangeRequest>,
    ) -> Result<Response<WaitForChangeResponse>, Status> {
        actor(&request, SERVICE, "WaitForChange")?;
        Ok(Response::new(wait::for_change(&self.0, request.get_ref()).await?))
    }

    async fn set_lock(&self, request: Request<SetLockRequest>) -> Result<Response<SetLockResponse>, Status> {
        let actor = actor(&request, SERVICE, "SetLock")?;
        Ok(Response::new(lock::set(&self.0, &actor, request.get_ref()).await?))
    }

    async fn get_cluster(&self, request: Request<GetClusterRequest>) -> Result<Response<api::Cluster>, Status> {
        actor(&request, SERVICE, "GetCluster")?;
        Ok(Response::new(nodes::cluster(&self.0).await))
    }

    async fn set_node_drained(
        &self,
        request: Request<SetNodeDrainedRequest>,
    ) -> Result<Response<SetNodeDrainedResponse>, Status> {
        let actor = actor(&request, SERVICE, "SetNodeDrained")?;
        let request = request.get_ref();
        nodes::set_drained(&self.0, &actor, &request.id, request.is_drained).await?;
        Ok(Response::new(SetNodeDrainedResponse {}))
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<RemoveNodeResponse>, Status> {
        let actor = actor(&request, SERVICE, "RemoveNode")?;
        nodes::remove(&self.0, &actor, &request.get_ref().id).await?;
        Ok(Response::new(RemoveNodeResponse {}))
    }

    async fn list_rate_limits(
        &self,
        request: Request<ListRateLimitsRequest>,
    ) -> Result<Response<ListRateLimitsResponse>, Status> {
        actor(&request, SERVICE, "ListRateLimits")?;
        // It goes through all counters, and asks the other nodes what they count.
        let _turn = self.0.listings.acquire().await.map_err(|_| Status::unavailable("the node stops"))?;
        Ok(Response::new(rate_limits::list(&self.0, request.get_ref()).await?))
    }

    async fn reset_rate_limits(
        &self,
        request: Request<ResetRateLimitsRequest>,
    ) -> Result<Response<ResetRateLimitsResponse>, Status> {
        let actor = actor(&request, SERVICE, "ResetRateLimits")?;
        Ok(Response::new(rate_limits::reset(&self.0, &actor, request.get_ref()).await?))
    }

    async fn create_backup(
        &self,
        request: Request<CreateBackupRequest>,
    ) -> Result<Response<BoxStream<BackupPart>>, Status> {
        actor(&request, SERVICE, "CreateBackup")?;
        let passphrase = Zeroizing::new(request.into_inner().passphrase);
        let inner = self.0.clone();
        let file = self.0.one_backup(move || backup::create(&inner, &passphrase)).await??;
        let mut file = Bytes::from(file);
        let parts = std::iter::from_fn(move || {
            let data = file.split_to(file.len().min(PART_BYTES));
            (!data.is_empty()).then(|| Ok(BackupPart { data: data.into() }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn restore_backup(
        &self,
        request: Request<Streaming<RestoreBackupRequest>>,
    ) -> Result<Response<RestoreBackupResponse>, Status> {
        let actor = actor(&request, SERVICE, "RestoreBackup")?;
        let _alone = self.0.backup_turn().await?;
        let upload = tokio::time::timeout(UPLOAD_WITHIN, backup::Upload::receive(request.into_inner()));
        let upload = upload.await.map_err(|_| Status::deadline_exceeded("the backup came too slowly"))??;
        Ok(Response::new(backup::restore(&self.0, &actor, upload).await?))
    }
}

impl Inner {
    /// Waits for other backups, bounded.
    async fn backup_turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        match tokio::time::timeout(TURN_WITHIN, self.backups.acquire()).await {
            Ok(permit) => permit.map_err(|_| Status::unavailable("the node stops")),
            Err(_) => Err(Status::unavailable("another backup is under way; try again")),
        }
    }

    /// Backups take memory and time: one at a time.
    async fn one_backup<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let _alone = self.backup_turn().await?;
        tokio::task::spawn_blocking(work).await.map_err(|_| Status::unavailable("the backup was interrupted"))
    }
}
