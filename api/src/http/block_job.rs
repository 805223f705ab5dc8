//! Block jobs: data of disks that moves between their images.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use management::domain::{BlockJobKind, BlockJobSpec, BlockJobView};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{Domain, DomainDisk, JsonBody, Params, Who};
use super::saved::begun;
use crate::types;

/// List the block jobs of a running domain.
#[utoipa::path(get, path = "/v1/domains/{domain}/block-jobs", tag = "Devices", params(Domain),
    operation_id = "list_block_jobs",
    responses((status = 200, body = [types::BlockJob]),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain does not run")))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<Vec<types::BlockJob>>, Failure> {
    let jobs = app.manager.call(&caller, ops::ListBlockJobs { domain }).await?;
    Ok(Json(jobs.into_iter().map(Into::into).collect()))
}

/// Begin a block job on a disk of a running domain.
///
/// Pull, or commit into an image below: it ends by itself. A commit of the image that the guest uses, or a copy,
/// becomes ready, and is ended by whoever began it. `block-job` events tell, also after the daemon was away.
#[utoipa::path(post, path = "/v1/domains/{domain}/disks/{disk}/block-job", tag = "Devices",
    operation_id = "start_block_job", params(DomainDisk), request_body = types::StartBlockJob,
    responses((status = 202, body = types::Job, description = "A job watches it",
            headers(("location" = String, description = "Of the job"))),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain does not run, or the disk has a block job")))]
pub(super) async fn start(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
    JsonBody(types::StartBlockJob { work, bandwidth_bytes }): JsonBody<types::StartBlockJob>,
) -> Result<Response, Failure> {
    let spec = match work {
        types::BlockWork::Pull { base, relative } => BlockJobSpec::Pull { base, relative },
        types::BlockWork::Commit { base, top, shallow, active, delete, relative } => {
            BlockJobSpec::Commit { base, top, shallow, active, delete, relative }
        }
        types::BlockWork::Copy { path, format, shallow, reuse } => {
            BlockJobSpec::Copy { path: path.into(), format, shallow, reuse }
        }
        types::BlockWork::CopyTo { disk, shallow, reuse } => {
            BlockJobSpec::copy_to(&disk, shallow, reuse)?
        }
    };
    let start = ops::StartBlockJob { domain, disk, spec, bandwidth: bandwidth_bytes };
    Ok(begun(app.manager.call(&caller, start).await?))
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct EndQuery {
    /// The guest uses the copy from now on; only of a job that is ready.
    pivot: bool,
}

/// End the block job of a disk.
///
/// The disk stays as it was, or becomes the copy.
#[utoipa::path(delete, path = "/v1/domains/{domain}/disks/{disk}/block-job", tag = "Devices",
    operation_id = "end_block_job", params(DomainDisk, EndQuery),
    responses((status = 204, description = "It has ended"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "There is none, or it is to pivot and is not ready")))]
pub(super) async fn end(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
    Params(EndQuery { pivot }): Params<EndQuery>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::EndBlockJob { domain, disk, pivot }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Limit how fast the block job of a disk is.
#[utoipa::path(put, path = "/v1/domains/{domain}/disks/{disk}/block-job", tag = "Devices",
    operation_id = "limit_block_job", params(DomainDisk), request_body = types::BlockJobLimit,
    responses((status = 204, description = "It is so fast now"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "There is none")))]
pub(super) async fn limit(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
    JsonBody(types::BlockJobLimit { bandwidth_bytes }): JsonBody<types::BlockJobLimit>,
) -> Result<StatusCode, Failure> {
    let bandwidth = bandwidth_bytes;
    app.manager.call(&caller, ops::LimitBlockJob { domain, disk, bandwidth }).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<BlockJobView> for types::BlockJob {
    fn from(job: BlockJobView) -> Self {
        Self {
            disk: job.target,
            kind: job.kind.into(),
            ready: job.ready,
            done_bytes: job.done,
            total_bytes: job.total,
            bandwidth_bytes: job.bandwidth,
        }
    }
}

impl From<BlockJobKind> for types::BlockJobKind {
    fn from(kind: BlockJobKind) -> Self {
        match kind {
            BlockJobKind::Pull => Self::Pull,
            BlockJobKind::Commit => Self::Commit,
            BlockJobKind::ActiveCommit => Self::ActiveCommit,
            BlockJobKind::Copy => Self::Copy,
        }
    }
}
