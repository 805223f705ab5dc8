//! Volumes.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use management::ops;
use management::storage::{PoolRef, VolumeRef, WipeAlgorithm};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{JsonBody, Params, PathParams, Who, Xml};
use super::pool::PoolPath;
use crate::types;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct VolumePath {
    /// Name or UUID
    pool: String,
    /// Name
    volume: String,
}

impl From<VolumePath> for VolumeRef {
    fn from(path: VolumePath) -> Self {
        Self { pool: PoolRef(path.pool), volume: path.volume }
    }
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct CreateVolumeQuery {
    /// A volume whose content it gets, converted if its format is another.
    from: Option<String>,
    /// The pool of that volume, if it is another one.
    from_pool: Option<String>,
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FindVolumeQuery {
    /// Path or key of a volume of an active pool.
    path: String,
}

/// List the volumes of a pool.
#[utoipa::path(get, path = "/v1/pools/{pool}/volumes", tag = "Volumes",
    operation_id = "list_volumes", params(PoolPath),
    responses((status = 200, body = types::VolumeList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<PoolPath>,
) -> Result<Json<types::VolumeList>, Failure> {
    let volumes = app.manager.call(&caller, ops::ListVolumes { pool: path.pool() }).await?;
    Ok(Json(types::VolumeList { volumes: volumes.into_iter().map(Into::into).collect() }))
}

/// Make a volume from libvirt XML.
///
/// What takes long (all of it allocated, or a copy of another volume) is a job.
#[utoipa::path(post, path = "/v1/pools/{pool}/volumes", tag = "Volumes",
    operation_id = "create_volume", params(PoolPath, CreateVolumeQuery),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt volume XML, at most 1 MiB"),
    responses(
        (status = 201, body = types::MadeVolume, description = "Made"),
        (status = 202, body = types::MadeVolume, description = "A job makes it",
            headers(("location" = String, description = "Of the job"))),
    ))]
pub(super) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<PoolPath>,
    Params(query): Params<CreateVolumeQuery>,
    Xml(xml): Xml,
) -> Result<Response, Failure> {
    let CreateVolumeQuery { from, from_pool } = query;
    let pool = path.pool();
    let from = match (from, from_pool) {
        (None, Some(_)) => {
            return Err(Failure::new(HttpCode::BadRequest, "from_pool goes with from"));
        }
        (None, None) => None,
        (Some(volume), other) => {
            Some(VolumeRef { pool: other.map_or_else(|| pool.clone(), PoolRef), volume })
        }
    };
    let made = app.manager.call(&caller, ops::CreateVolume { pool, xml, from }).await?;
    Ok(reply(made.into()))
}

fn reply(made: types::MadeVolume) -> Response {
    match &made {
        types::MadeVolume::Volume(_) => (StatusCode::CREATED, Json(made)).into_response(),
        types::MadeVolume::Job(job) => {
            let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
            (StatusCode::ACCEPTED, location, Json(made)).into_response()
        }
    }
}

/// Describe a volume as it is now.
#[utoipa::path(get, path = "/v1/pools/{pool}/volumes/{volume}", tag = "Volumes",
    operation_id = "describe_volume", params(VolumePath),
    responses((status = 200, body = types::Volume)))]
pub(super) async fn describe(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
) -> Result<Json<types::Volume>, Failure> {
    let volume = path.into();
    Ok(Json(app.manager.call(&caller, ops::DescribeVolume { volume }).await?.into()))
}

/// Find the volume at a path.
#[utoipa::path(get, path = "/v1/volumes", tag = "Volumes", operation_id = "find_volume",
    params(FindVolumeQuery), responses((status = 200, body = types::Volume)))]
pub(super) async fn find(
    State(app): State<App>,
    Who(caller): Who,
    Params(FindVolumeQuery { path }): Params<FindVolumeQuery>,
) -> Result<Json<types::Volume>, Failure> {
    let path = path.into();
    Ok(Json(app.manager.call(&caller, ops::FindVolume { path }).await?.into()))
}

/// Show a volume as XML.
#[utoipa::path(get, path = "/v1/pools/{pool}/volumes/{volume}/xml", tag = "Volumes",
    operation_id = "volume_xml", params(VolumePath),
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
) -> Result<Response, Failure> {
    let volume = path.into();
    let found = app.manager.call(&caller, ops::DescribeVolume { volume }).await?;
    let text = found.to_xml().ok_or_else(|| {
        let text = format!("{:?} is a name that XML cannot hold", found.name);
        management::Error::new(management::Code::Unsupported, text)
    })?;
    Ok(([(header::CONTENT_TYPE, types::XML)], text).into_response())
}

/// Remove a volume that nobody uses.
#[utoipa::path(delete, path = "/v1/pools/{pool}/volumes/{volume}", tag = "Volumes",
    operation_id = "delete_volume", params(VolumePath),
    responses((status = 204, description = "Removed")))]
pub(super) async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::DeleteVolume { volume: path.into() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a copy of a volume in its pool.
#[utoipa::path(post, path = "/v1/pools/{pool}/volumes/{volume}/clone", tag = "Volumes",
    operation_id = "clone_volume", params(VolumePath), request_body = types::CloneVolume,
    responses(
        (status = 201, body = types::MadeVolume, description = "Made"),
        (status = 202, body = types::MadeVolume, description = "A job makes it",
            headers(("location" = String, description = "Of the job"))),
    ))]
pub(super) async fn clone(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
    JsonBody(types::CloneVolume { name, mode }): JsonBody<types::CloneVolume>,
) -> Result<Response, Failure> {
    let clone = ops::CloneVolume { volume: path.into(), name, mode: mode.into() };
    Ok(reply(app.manager.call(&caller, clone).await?.into()))
}

/// Give a volume another size.
#[utoipa::path(post, path = "/v1/pools/{pool}/volumes/{volume}/resize", tag = "Volumes",
    operation_id = "resize_volume", params(VolumePath), request_body = types::ResizeVolume,
    responses((status = 204, description = "Done")))]
pub(super) async fn resize(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
    JsonBody(body): JsonBody<types::ResizeVolume>,
) -> Result<StatusCode, Failure> {
    let types::ResizeVolume { capacity_bytes: capacity, delta, allocate, shrink } = body;
    let resize = ops::ResizeVolume { volume: path.into(), capacity, delta, allocate, shrink };
    app.manager.call(&caller, resize).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WipeQuery {
    /// `zero`, `random`, `trim`, or one of those of several passes: `nnsa`, `dod`, `bsi`, `gutmann`,
    /// `schneier`, `pfitzner7`, `pfitzner33`. Zeros if it is not said.
    algorithm: Option<String>,
}

/// Overwrite a volume, which is a job.
#[utoipa::path(post, path = "/v1/pools/{pool}/volumes/{volume}/wipe", tag = "Volumes",
    operation_id = "wipe_volume", params(VolumePath, WipeQuery),
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn wipe(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(path): PathParams<VolumePath>,
    Params(WipeQuery { algorithm }): Params<WipeQuery>,
) -> Result<Response, Failure> {
    let algorithm =
        algorithm.map_or(Ok(WipeAlgorithm::Zero), |name| WipeAlgorithm::from_name(&name));
    let algorithm = algorithm.map_err(|why| Failure::new(HttpCode::BadRequest, why))?;
    let wipe = ops::WipeVolume { volume: path.into(), algorithm };
    let job = app.manager.call(&caller, wipe).await?;
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    Ok((StatusCode::ACCEPTED, location, Json(types::Job::from(job))).into_response())
}
