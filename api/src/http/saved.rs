//! Saving domains, and going on from what was saved.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use management::domain::{DumpMode, SaveFormat};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{Domain, JsonBody, Params, Who, switch};
use crate::types;

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SavedQuery {
    /// Absolute path on this host.
    file: String,
    /// With its secrets.
    #[serde(deserialize_with = "switch")]
    secure: bool,
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SecureQuery {
    /// With its secrets.
    #[serde(deserialize_with = "switch")]
    secure: bool,
}

/// Whose disk it lies on is the daemon's affair: paths are of its host, and relative to nothing.
fn absolute(file: String) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(&file);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Failure::new(HttpCode::BadRequest, format!("{file:?} is no absolute path")))
}

fn save_format(format: types::SaveFormat) -> SaveFormat {
    match format {
        types::SaveFormat::Raw => SaveFormat::Raw,
        types::SaveFormat::Zstd => SaveFormat::Zstd,
    }
}

pub(super) fn begun(job: management::jobs::Job) -> Response {
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    (StatusCode::ACCEPTED, location, Json(types::Job::from(job))).into_response()
}

/// Save a running domain into a file, and end it.
///
/// A job does it. When it is aborted, or fails, the guest runs on and nothing is left of the file.
#[utoipa::path(post, path = "/v1/domains/{domain}/save", tag = "Saved states", params(Domain),
    operation_id = "save_domain", request_body = types::SaveDomain,
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn save(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(body): JsonBody<types::SaveDomain>,
) -> Result<Response, Failure> {
    let types::SaveDomain { file, xml, running, bypass_cache, format } = body;
    let (file, format) = (absolute(file)?, format.map(save_format));
    let save = ops::SaveDomain { domain, file, xml, running, bypass_cache, format };
    Ok(begun(app.manager.call(&caller, save).await?))
}

/// Write the memory and the registers of a running domain into a file, as an ELF core.
///
/// A job does it.
#[utoipa::path(post, path = "/v1/domains/{domain}/dump", tag = "Saved states", params(Domain),
    operation_id = "dump_domain", request_body = types::DumpDomain,
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn dump(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::DumpDomain { file, mode }): JsonBody<types::DumpDomain>,
) -> Result<Response, Failure> {
    let mode = match mode {
        types::DumpMode::Paused => DumpMode::Paused,
        types::DumpMode::Live => DumpMode::Live,
        types::DumpMode::Crash => DumpMode::Crash,
        types::DumpMode::Reset => DumpMode::Reset,
    };
    let dump = ops::DumpDomain { domain, file: absolute(file)?, mode };
    Ok(begun(app.manager.call(&caller, dump).await?))
}

/// Make another domain like one there is, with copies of the disks that it writes to.
///
/// A job does it. The clone has a UUID, generation ID and MAC addresses of its own. That of a domain that
/// runs, or has a managed save, goes on from where that is; its interfaces have no link until its guest
/// has taken their new addresses.
#[utoipa::path(post, path = "/v1/domains/{domain}/clone", tag = "Definitions", params(Domain),
    operation_id = "clone_domain", request_body = types::CloneDomain,
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn clone(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::CloneDomain { name }): JsonBody<types::CloneDomain>,
) -> Result<Response, Failure> {
    Ok(begun(app.manager.call(&caller, ops::CloneDomain { domain, name }).await?))
}

/// Save a running domain for its next start, and end it.
///
/// A job does it. When it is aborted, or fails, the guest runs on.
#[utoipa::path(post, path = "/v1/domains/{domain}/managed-save", tag = "Saved states",
    params(Domain), operation_id = "managed_save", request_body = types::ManagedSave,
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn managed_save(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(body): JsonBody<types::ManagedSave>,
) -> Result<Response, Failure> {
    let types::ManagedSave { running, bypass_cache, with_host, format } = body;
    let format = format.map(save_format);
    let save = ops::ManagedSave { domain, running, bypass_cache, with_host, format };
    Ok(begun(app.manager.call(&caller, save).await?))
}

/// Forget what was saved for a domain's next start.
#[utoipa::path(delete, path = "/v1/domains/{domain}/managed-save", tag = "Saved states",
    params(Domain), operation_id = "drop_managed_save",
    responses((status = 204, description = "Forgotten")))]
pub(super) async fn drop_managed_save(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::DropManagedSave { domain }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace what a managed save goes on with.
#[utoipa::path(put, path = "/v1/domains/{domain}/managed-save", tag = "Saved states",
    params(Domain), operation_id = "define_managed_save", request_body = types::DefineSaved,
    responses((status = 204, description = "Replaced")))]
pub(super) async fn define_managed_save(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::DefineSaved { file, xml, running }): JsonBody<types::DefineSaved>,
) -> Result<StatusCode, Failure> {
    if file.is_some() {
        let text = "a managed save lies where the daemon keeps it: name no file";
        return Err(Failure::new(HttpCode::BadRequest, text));
    }
    app.manager.call(&caller, ops::DefineManagedSave { domain, xml, running }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The definition that a managed save goes on with.
#[utoipa::path(get, path = "/v1/domains/{domain}/managed-save/xml", tag = "Saved states",
    params(Domain, SecureQuery), operation_id = "managed_save_xml",
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn managed_save_xml(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(SecureQuery { secure }): Params<SecureQuery>,
) -> Result<Response, Failure> {
    let xml = app.manager.call(&caller, ops::DumpManagedSave { domain, secure }).await?;
    Ok(([(header::CONTENT_TYPE, types::XML)], xml).into_response())
}

/// Go on from a saved state.
///
/// Answers when the guest is there, or with the reason why it cannot be. The file stays.
#[utoipa::path(post, path = "/v1/saved/restore", tag = "Saved states",
    operation_id = "restore_domain", request_body = types::RestoreDomain,
    responses((status = 201, body = types::Restored),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "A disk was changed since, or the domain runs")))]
pub(super) async fn restore(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<types::RestoreDomain>,
) -> Result<Response, Failure> {
    let types::RestoreDomain { file, xml, running, force, verify, reset_nvram } = body;
    let file = absolute(file)?;
    let reset_variables = reset_nvram;
    let restore = ops::RestoreDomain { file, xml, running, force, verify, reset_variables };
    let domain = app.manager.call(&caller, restore).await?;
    let location = [(header::LOCATION, format!("/v1/domains/{}", domain.uuid))];
    let restored = types::Restored { name: domain.name, uuid: domain.uuid };
    Ok((StatusCode::CREATED, location, Json(restored)).into_response())
}

/// The definition in a saved state.
#[utoipa::path(get, path = "/v1/saved/xml", tag = "Saved states", params(SavedQuery),
    operation_id = "saved_xml",
    responses((status = 200, body = String, content_type = "application/xml")))]
pub(super) async fn xml(
    State(app): State<App>,
    Who(caller): Who,
    Params(SavedQuery { file, secure }): Params<SavedQuery>,
) -> Result<Response, Failure> {
    let dump = ops::DumpSaved { file: absolute(file)?, secure };
    let xml = app.manager.call(&caller, dump).await?;
    Ok(([(header::CONTENT_TYPE, types::XML)], xml).into_response())
}

/// Replace what a saved state goes on with.
#[utoipa::path(put, path = "/v1/saved", tag = "Saved states", operation_id = "define_saved",
    request_body = types::DefineSaved, responses((status = 204, description = "Replaced")))]
pub(super) async fn define(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(types::DefineSaved { file, xml, running }): JsonBody<types::DefineSaved>,
) -> Result<StatusCode, Failure> {
    let file = absolute(file.unwrap_or_default())?;
    app.manager.call(&caller, ops::DefineSaved { file, xml, running }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read all memory of a saved state, and compare its checksums.
#[utoipa::path(post, path = "/v1/saved/check", tag = "Saved states",
    operation_id = "check_saved", request_body = types::SavedFile,
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn check(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(types::SavedFile { file }): JsonBody<types::SavedFile>,
) -> Result<Response, Failure> {
    Ok(begun(app.manager.call(&caller, ops::CheckSaved { file: absolute(file)? }).await?))
}

/// Make another domain from a saved state, which goes on from there and leaves it as it is.
///
/// A job does it. The disks of the saved guest must stay as they are, too: where their file system
/// cannot share blocks, those of the clone lie on top of them.
#[utoipa::path(post, path = "/v1/saved/clone", tag = "Saved states",
    operation_id = "clone_saved", request_body = types::CloneSaved,
    responses((status = 202, body = types::Job, description = "A job does it",
        headers(("location" = String, description = "Of the job")))))]
pub(super) async fn clone_saved(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(types::CloneSaved { file, name }): JsonBody<types::CloneSaved>,
) -> Result<Response, Failure> {
    let clone = ops::CloneSaved { file: absolute(file)?, name };
    Ok(begun(app.manager.call(&caller, clone).await?))
}
