//! Jobs: list, watch, abort.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{Params, PathParams, Who};
use crate::types;

/// Longer than this nobody waits on one connection.
const LONGEST_WAIT: u64 = 60_000;

#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct JobPath {
    job: Uuid,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct JobQuery {
    /// Answer when it has ended, or after so many milliseconds; at most 60000.
    wait_ms: u64,
}

/// List jobs.
///
/// Those that run, and the latest of those that have ended; the oldest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "Jobs", operation_id = "list_jobs",
    responses((status = 200, body = types::JobList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Json<types::JobList>, Failure> {
    let jobs = app.manager.call(&caller, ops::ListJobs).await?;
    Ok(Json(types::JobList { jobs: jobs.into_iter().map(Into::into).collect() }))
}

/// Describe a job, or wait for its end.
#[utoipa::path(get, path = "/v1/jobs/{job}", tag = "Jobs", operation_id = "describe_job",
    params(JobPath, JobQuery), responses((status = 200, body = types::Job)))]
pub(super) async fn describe(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(JobPath { job }): PathParams<JobPath>,
    Params(JobQuery { wait_ms }): Params<JobQuery>,
) -> Result<Json<types::Job>, Failure> {
    if wait_ms > LONGEST_WAIT {
        let text = format!("wait_ms is at most {LONGEST_WAIT}");
        return Err(Failure::new(HttpCode::BadRequest, text));
    }
    let wait = Duration::from_millis(wait_ms);
    Ok(Json(app.manager.call(&caller, ops::GetJob { job, wait }).await?.into()))
}

/// Abort a job.
///
/// It stops soon, and what it had half made is removed; its phase says when that is so.
#[utoipa::path(delete, path = "/v1/jobs/{job}", tag = "Jobs", operation_id = "abort_job",
    params(JobPath), responses((status = 202, description = "Asked to stop")))]
pub(super) async fn abort(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(JobPath { job }): PathParams<JobPath>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::AbortJob { job }).await?;
    Ok(StatusCode::ACCEPTED)
}
