//! Snapshots of domains.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{Domain, DomainSnapshot, JsonBody, Params, Who, switch};
use crate::types;

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Which snapshots go.
    reach: types::SnapshotReach,
    /// Only forget them: what they hold stays.
    #[serde(deserialize_with = "switch")]
    metadata: bool,
}

impl From<ops::SnapshotView> for types::Snapshot {
    fn from(view: ops::SnapshotView) -> Self {
        Self {
            name: view.name,
            description: view.description,
            state: view.state.to_owned(),
            created: view.created,
            parent: view.parent,
            current: view.current,
            external: view.external,
            children: view.children,
            descendants: view.descendants,
        }
    }
}

fn begun(job: management::jobs::Job) -> Response {
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    (StatusCode::ACCEPTED, location, Json(types::Job::from(job))).into_response()
}

/// All snapshots of a domain.
#[utoipa::path(get, path = "/v1/domains/{domain}/snapshots", tag = "Snapshots", params(Domain),
    operation_id = "list_snapshots", responses((status = 200, body = types::SnapshotList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::SnapshotList>, Failure> {
    let all = app.manager.call(&caller, ops::ListSnapshots { domain }).await?;
    let snapshots = all.into_iter().map(Into::into).collect();
    Ok(Json(types::SnapshotList { snapshots }))
}

/// Make a snapshot.
///
/// A job does it. When it fails, the guest goes on as before, and nothing is left.
#[utoipa::path(post, path = "/v1/domains/{domain}/snapshots", tag = "Snapshots", params(Domain),
    operation_id = "create_snapshot", request_body = types::CreateSnapshot,
    responses((status = 202, body = types::SnapshotJob, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(body): JsonBody<types::CreateSnapshot>,
) -> Result<Response, Failure> {
    let types::CreateSnapshot { xml, disk_only, reuse_external, no_metadata, quiesce, halt, live } =
        body;
    let create = ops::CreateSnapshot {
        domain,
        xml,
        disk_only,
        reuse_external,
        no_metadata,
        quiesce,
        halt,
        live,
    };
    let ops::SnapshotJob { name, job } = app.manager.call(&caller, create).await?;
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    let body = types::SnapshotJob { name, job: job.into() };
    Ok((StatusCode::ACCEPTED, location, Json(body)).into_response())
}

/// Tell a snapshot anew, or one of a domain that came from elsewhere.
#[utoipa::path(put, path = "/v1/domains/{domain}/snapshots", tag = "Snapshots", params(Domain),
    operation_id = "redefine_snapshot", request_body = types::RedefineSnapshot,
    responses((status = 200, body = types::SnapshotName)))]
pub(super) async fn redefine(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::RedefineSnapshot { xml, current }): JsonBody<types::RedefineSnapshot>,
) -> Result<Json<types::SnapshotName>, Failure> {
    let redefine = ops::RedefineSnapshot { domain, xml, current };
    let name = app.manager.call(&caller, redefine).await?;
    Ok(Json(types::SnapshotName { name }))
}

/// The snapshot that the domain goes on from.
#[utoipa::path(get, path = "/v1/domains/{domain}/current-snapshot", tag = "Snapshots",
    params(Domain), operation_id = "current_snapshot",
    responses((status = 200, body = types::Snapshot),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is none")))]
pub(super) async fn current(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::Snapshot>, Failure> {
    let view = app.manager.call(&caller, ops::DescribeSnapshot { domain, name: None }).await?;
    Ok(Json(view.into()))
}

/// One snapshot.
#[utoipa::path(get, path = "/v1/domains/{domain}/snapshots/{snapshot}", tag = "Snapshots",
    params(DomainSnapshot), operation_id = "describe_snapshot",
    responses((status = 200, body = types::Snapshot)))]
pub(super) async fn describe(
    State(app): State<App>,
    Who(caller): Who,
    DomainSnapshot(domain, snapshot): DomainSnapshot,
) -> Result<Json<types::Snapshot>, Failure> {
    let describe = ops::DescribeSnapshot { domain, name: Some(snapshot) };
    Ok(Json(app.manager.call(&caller, describe).await?.into()))
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct XmlQuery {
    /// With the secrets of the domain's definition.
    #[serde(deserialize_with = "switch")]
    secure: bool,
}

/// A snapshot in libvirt's words.
#[utoipa::path(get, path = "/v1/domains/{domain}/snapshots/{snapshot}/xml", tag = "Snapshots",
    params(DomainSnapshot, XmlQuery), operation_id = "snapshot_xml",
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    DomainSnapshot(domain, name): DomainSnapshot,
    Params(XmlQuery { secure }): Params<XmlQuery>,
) -> Result<Response, Failure> {
    let xml = match secure {
        true => app.manager.call(&caller, ops::DumpSecureSnapshot { domain, name }).await?,
        false => app.manager.call(&caller, ops::DumpSnapshot { domain, name }).await?,
    };
    Ok(([(header::CONTENT_TYPE, types::XML)], xml).into_response())
}

/// Have a domain be what it was.
///
/// A job does it. What its disks became since its last snapshot is lost.
#[utoipa::path(post, path = "/v1/domains/{domain}/snapshots/{snapshot}/revert", tag = "Snapshots",
    params(DomainSnapshot), operation_id = "revert_to_snapshot", request_body = types::Revert,
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn revert(
    State(app): State<App>,
    Who(caller): Who,
    DomainSnapshot(domain, snapshot): DomainSnapshot,
    JsonBody(types::Revert { running, force, reset_nvram }): JsonBody<types::Revert>,
) -> Result<Response, Failure> {
    let revert = ops::RevertToSnapshot {
        domain,
        name: snapshot,
        running,
        force,
        reset_variables: reset_nvram,
    };
    Ok(begun(app.manager.call(&caller, revert).await?))
}

/// Forget a snapshot, and what it alone needs.
///
/// A job does it: what a disk became in an overlay goes into the image below it.
#[utoipa::path(delete, path = "/v1/domains/{domain}/snapshots/{snapshot}", tag = "Snapshots",
    params(DomainSnapshot, DeleteQuery), operation_id = "delete_snapshot",
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    DomainSnapshot(domain, snapshot): DomainSnapshot,
    Params(DeleteQuery { reach, metadata }): Params<DeleteQuery>,
) -> Result<Response, Failure> {
    let reach = match reach {
        types::SnapshotReach::One => ops::DeleteReach::One,
        types::SnapshotReach::WithDescendants => ops::DeleteReach::WithDescendants,
        types::SnapshotReach::DescendantsOnly => ops::DeleteReach::DescendantsOnly,
    };
    let delete = ops::DeleteSnapshot { domain, name: snapshot, reach, metadata_only: metadata };
    Ok(begun(app.manager.call(&caller, delete).await?))
}
