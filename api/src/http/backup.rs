//! Backups of running domains, and the checkpoints that they begin at.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use management::domain::{CheckpointView, Children, DomainRef};
use management::ops;
use serde::Deserialize;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::{IntoParams, PartialSchema as _};

use super::App;
use super::error::Failure;
use super::extract::{Domain, DomainInterface, JsonBody, Params, Who};
use crate::types;

impl From<CheckpointView> for types::Checkpoint {
    fn from(view: CheckpointView) -> Self {
        let CheckpointView { name, parent, created, description, current } = view;
        Self { name, parent, created, description, current }
    }
}

/// Back up disks of a running domain as they are at this moment.
///
/// A job does it. It ends when everything is copied; of a backup that clients pull it ends when it is
/// aborted.
#[utoipa::path(post, path = "/v1/domains/{domain}/backup", tag = "Backups", params(Domain),
    operation_id = "begin_backup", request_body = types::BeginBackup,
    responses((status = 202, body = types::Job, description = "It has begun",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn begin(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(body): JsonBody<types::BeginBackup>,
) -> Result<Response, Failure> {
    let types::BeginBackup { xml, checkpoint, reuse_external: reuse } = body;
    let begin = ops::BeginBackup { domain, xml, checkpoint, reuse };
    let job = app.manager.call(&caller, begin).await?;
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    Ok((StatusCode::ACCEPTED, location, Json(types::Job::from(job))).into_response())
}

/// The backup that is under way.
#[utoipa::path(get, path = "/v1/domains/{domain}/backup", tag = "Backups", params(Domain),
    operation_id = "backup_xml",
    responses((status = 200, body = String, content_type = "application/xml",
        description = "libvirt's `<domainbackup>`, with what was not said")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Response, Failure> {
    let xml = app.manager.call(&caller, ops::DumpBackup { domain }).await?;
    Ok(([(header::CONTENT_TYPE, types::XML)], xml).into_response())
}

/// Record from now on what is written to the disks of a running domain.
#[utoipa::path(post, path = "/v1/domains/{domain}/checkpoints", tag = "Backups", params(Domain),
    operation_id = "create_checkpoint", request_body = types::CreateCheckpoint,
    responses((status = 201, body = types::Checkpoint)))]
pub(super) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(body): JsonBody<types::CreateCheckpoint>,
) -> Result<Response, Failure> {
    let types::CreateCheckpoint { xml, redefine, validate, quiesce } = body;
    let create = ops::CreateCheckpoint { domain, xml, redefine, validate, quiesce };
    let made = app.manager.call(&caller, create).await?;
    Ok((StatusCode::CREATED, Json(types::Checkpoint::from(made))).into_response())
}

/// The checkpoints of a domain.
#[utoipa::path(get, path = "/v1/domains/{domain}/checkpoints", tag = "Backups", params(Domain),
    operation_id = "list_checkpoints", responses((status = 200, body = types::CheckpointList)))]
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::CheckpointList>, Failure> {
    let all = app.manager.call(&caller, ops::ListCheckpoints { domain }).await?;
    Ok(Json(types::CheckpointList { checkpoints: all.into_iter().map(Into::into).collect() }))
}

/// A domain and a checkpoint of it in the path.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    domain: DomainRef,
    name: String,
}

impl IntoParams for Checkpoint {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let checkpoint = ParameterBuilder::new()
            .name("checkpoint")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Its name"))
            .schema(Some(String::schema()));
        let mut parameters = Domain::into_params(place);
        parameters.push(checkpoint.build());
        parameters
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Checkpoint {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let DomainInterface(domain, name) =
            DomainInterface::from_request_parts(parts, state).await?;
        Ok(Self { domain, name })
    }
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct XmlQuery {
    /// Leave the domain's definition out.
    no_domain: bool,
    /// With what was written since, bytes of each disk; of a running domain.
    size: bool,
}

/// One checkpoint in full.
#[utoipa::path(get, path = "/v1/domains/{domain}/checkpoints/{checkpoint}", tag = "Backups",
    params(Checkpoint, XmlQuery), operation_id = "checkpoint_xml",
    responses((status = 200, body = String, content_type = "application/xml",
        description = "libvirt's `<domaincheckpoint>`")))]
pub(super) async fn checkpoint(
    State(app): State<App>,
    Who(caller): Who,
    Checkpoint { domain, name }: Checkpoint,
    Params(XmlQuery { no_domain, size }): Params<XmlQuery>,
) -> Result<Response, Failure> {
    let dump = ops::DumpCheckpoint { domain, name, no_domain, size };
    let xml = app.manager.call(&caller, dump).await?;
    Ok(([(header::CONTENT_TYPE, types::XML)], xml).into_response())
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Those after it, too.
    children: bool,
    /// Those after it, and not itself.
    children_only: bool,
    /// Its bitmaps stay.
    metadata_only: bool,
}

/// Forget a checkpoint.
///
/// What was written since is recorded for its parent from now on.
#[utoipa::path(delete, path = "/v1/domains/{domain}/checkpoints/{checkpoint}", tag = "Backups",
    params(Checkpoint, DeleteQuery), operation_id = "delete_checkpoint",
    responses((status = 204, description = "Forgotten")))]
pub(super) async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Checkpoint { domain, name }: Checkpoint,
    Params(DeleteQuery { children, children_only, metadata_only }): Params<DeleteQuery>,
) -> Result<StatusCode, Failure> {
    let children = match (children, children_only) {
        (_, true) => Children::Only,
        (true, false) => Children::Too,
        (false, false) => Children::Stay,
    };
    let delete = ops::DeleteCheckpoint { domain, name, children, metadata_only };
    app.manager.call(&caller, delete).await?;
    Ok(StatusCode::NO_CONTENT)
}
