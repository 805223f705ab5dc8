//! What a guest's agent tells and does.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use management::domain::{DomainRef, GuestParts};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::{Failure, HttpCode};
use super::extract::{Domain, JsonBody, Params, PathParams, Who};
use crate::types;

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct InfoQuery {
    /// What to ask for, separated by commas: users, os, timezone, hostname, filesystems, disks,
    /// interfaces. All that the agent knows if there is none.
    parts: Option<String>,
}

/// Ask a guest about itself, through its agent.
#[utoipa::path(get, path = "/v1/domains/{domain}/guest", tag = "Guest agent",
    params(Domain, InfoQuery),
    responses((status = 200, body = types::GuestInfo)))]
pub(super) async fn info(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(query): Params<InfoQuery>,
) -> Result<Json<types::GuestInfo>, Failure> {
    let parts = query.parts.as_deref().map(parts).transpose()?;
    Ok(Json(app.manager.call(&caller, ops::GetGuestInfo { domain, parts }).await?.into()))
}

fn parts(words: &str) -> Result<GuestParts, Failure> {
    let mut parts = GuestParts::default();
    for word in words.split(',') {
        let part = match word {
            "users" => &mut parts.users,
            "os" => &mut parts.os,
            "timezone" => &mut parts.timezone,
            "hostname" => &mut parts.hostname,
            "filesystems" => &mut parts.filesystems,
            "disks" => &mut parts.disks,
            "interfaces" => &mut parts.interfaces,
            _ => {
                let detail = format!(
                    "there is no part {word:?}; parts are users, os, timezone, hostname, \
                     filesystems, disks, interfaces"
                );
                return Err(Failure::new(HttpCode::BadRequest, detail));
            }
        };
        *part = true;
    }
    Ok(parts)
}

/// The name that a guest has given itself.
#[utoipa::path(get, path = "/v1/domains/{domain}/guest/hostname", tag = "Guest agent",
    params(Domain),
    responses((status = 200, body = types::GuestHostname)))]
pub(super) async fn hostname(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::GuestHostname>, Failure> {
    let hostname = app.manager.call(&caller, ops::GuestHostname { domain }).await?;
    Ok(Json(types::GuestHostname { hostname }))
}

/// File systems that are mounted in a guest.
#[utoipa::path(get, path = "/v1/domains/{domain}/guest/filesystems", tag = "Guest agent",
    params(Domain),
    responses((status = 200, body = [types::GuestFilesystem])))]
pub(super) async fn filesystems(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<Vec<types::GuestFilesystem>>, Failure> {
    let found = app.manager.call(&caller, ops::ListGuestFilesystems { domain }).await?;
    Ok(Json(found.into_iter().map(Into::into).collect()))
}

/// Have a guest write out its file systems and hold them still.
///
/// Until they are thawed, the guest resets or it ends: nothing in it can write meanwhile.
#[utoipa::path(post, path = "/v1/domains/{domain}/guest/freeze", tag = "Guest agent",
    params(Domain),
    request_body = types::Freeze,
    responses((status = 200, body = types::FilesystemCount)))]
pub(super) async fn freeze(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::Freeze { mountpoints }): JsonBody<types::Freeze>,
) -> Result<Json<types::FilesystemCount>, Failure> {
    let freeze = ops::FreezeFilesystems { domain, mountpoints };
    let filesystems = app.manager.call(&caller, freeze).await?;
    Ok(Json(types::FilesystemCount { filesystems }))
}

/// Let a guest's file systems go on.
#[utoipa::path(post, path = "/v1/domains/{domain}/guest/thaw", tag = "Guest agent",
    params(Domain),
    responses((status = 200, body = types::FilesystemCount)))]
pub(super) async fn thaw(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::FilesystemCount>, Failure> {
    let filesystems = app.manager.call(&caller, ops::ThawFilesystems { domain }).await?;
    Ok(Json(types::FilesystemCount { filesystems }))
}

/// Have a guest tell its disks which blocks it does not use.
#[utoipa::path(post, path = "/v1/domains/{domain}/guest/trim", tag = "Guest agent",
    params(Domain),
    request_body = types::Trim,
    responses((status = 200, body = [types::Trimmed])))]
pub(super) async fn trim(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::Trim { minimum_bytes: minimum }): JsonBody<types::Trim>,
) -> Result<Json<Vec<types::Trimmed>>, Failure> {
    let trimmed = app.manager.call(&caller, ops::TrimFilesystems { domain, minimum }).await?;
    let row = |row: management::domain::TrimmedFilesystem| types::Trimmed {
        mountpoint: row.path,
        trimmed_bytes: row.trimmed,
        error: row.error,
    };
    Ok(Json(trimmed.into_iter().map(row).collect()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct User {
    /// Name, UUID, or id of a running domain
    domain: String,
    /// Name of the user in the guest
    user: String,
}

/// Set the password of a guest's user.
#[utoipa::path(put, path = "/v1/domains/{domain}/guest/users/{user}/password", tag = "Guest agent",
    params(User),
    request_body = types::Password,
    responses((status = 204, description = "Set")))]
pub(super) async fn password(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(User { domain, user }): PathParams<User>,
    JsonBody(types::Password { password, encrypted }): JsonBody<types::Password>,
) -> Result<StatusCode, Failure> {
    let domain = DomainRef::Any(domain);
    let set = ops::SetUserPassword { domain, user, password, encrypted };
    app.manager.call(&caller, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The clock of a guest.
#[utoipa::path(get, path = "/v1/domains/{domain}/guest/time", tag = "Guest agent",
    params(Domain),
    responses((status = 200, body = types::GuestTime)))]
pub(super) async fn time(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<types::GuestTime>, Failure> {
    let time = app.manager.call(&caller, ops::GetGuestTime { domain }).await?;
    Ok(Json(types::GuestTime { time_ns: Some(time) }))
}

/// Set the clock of a guest.
#[utoipa::path(put, path = "/v1/domains/{domain}/guest/time", tag = "Guest agent",
    params(Domain),
    request_body = types::GuestTime,
    responses((status = 204, description = "Set")))]
pub(super) async fn set_time(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::GuestTime { time_ns: time }): JsonBody<types::GuestTime>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::SetGuestTime { domain, time }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Start a program in a guest.
///
/// Ask for its state until it has exited: that tells how, and what it wrote.
#[utoipa::path(post, path = "/v1/domains/{domain}/guest/exec", tag = "Guest agent",
    params(Domain),
    request_body = types::GuestExec,
    responses((status = 202, body = types::GuestProcess)))]
pub(super) async fn exec(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(exec): JsonBody<types::GuestExec>,
) -> Result<(StatusCode, Json<types::GuestProcess>), Failure> {
    let input = exec.input_base64.map(|input| STANDARD.decode(input)).transpose();
    let input = input.map_err(|error| {
        Failure::new(HttpCode::BadRequest, format!("input_base64 is no base64: {error}"))
    })?;
    let exec = ops::GuestExec {
        domain,
        program: exec.program,
        arguments: exec.arguments,
        environment: exec.environment,
        input,
        capture: exec.capture,
    };
    let pid = app.manager.call(&caller, exec).await?;
    Ok((StatusCode::ACCEPTED, Json(types::GuestProcess { pid })))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Process {
    /// Name, UUID, or id of a running domain
    domain: String,
    /// Of the program in the guest
    pid: i64,
}

/// What became of a program in a guest.
#[utoipa::path(get, path = "/v1/domains/{domain}/guest/exec/{pid}", tag = "Guest agent",
    params(Process),
    responses((status = 200, body = types::GuestExecStatus)))]
pub(super) async fn exec_status(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(Process { domain, pid }): PathParams<Process>,
) -> Result<Json<types::GuestExecStatus>, Failure> {
    let domain = DomainRef::Any(domain);
    let state = app.manager.call(&caller, ops::GuestExecStatus { domain, pid }).await?;
    Ok(Json(types::GuestExecStatus {
        exited: state.exited,
        exit_code: state.exit_code,
        signal: state.signal,
        stdout_base64: STANDARD.encode(state.stdout),
        stderr_base64: STANDARD.encode(state.stderr),
        truncated: state.truncated,
    }))
}

/// Pass a command to a guest's agent as it is.
///
/// The answer is the agent's own, also when that is an error.
#[utoipa::path(post, path = "/v1/domains/{domain}/guest/agent-command", tag = "Guest agent",
    params(Domain),
    request_body = types::AgentCommand,
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(super) async fn agent_command(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::AgentCommand { command, timeout_s }): JsonBody<types::AgentCommand>,
) -> Result<Response, Failure> {
    let command = command.to_string();
    let ask = ops::AskAgent { domain, command, timeout: timeout_s };
    let answer = app.manager.call(&caller, ask).await?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, answer.get().to_owned()).into_response())
}
