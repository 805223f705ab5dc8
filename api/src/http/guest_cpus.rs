//! Processors, keys and sleep of a guest, through its agent; and the vCPUs of its machine.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use management::domain::{Affects, AgentTimeout, DomainRef, GuestVcpu};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::device::AffectsQuery;
use super::error::{Failure, HttpCode};
use super::extract::{Domain, JsonBody, Params, PathParams, Who};
use crate::types;

/// Which processors a guest has, and uses.
#[utoipa::path(get, path = "/v1/domains/{domain}/guest/vcpus", tag = "Guest agent",
    params(Domain),
    responses((status = 200, body = [types::GuestVcpu])))]
pub(super) async fn vcpus(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<Json<Vec<types::GuestVcpu>>, Failure> {
    let all = app.manager.call(&caller, ops::GetGuestVcpus { domain }).await?;
    let row = |GuestVcpu { id, online, can_offline }| types::GuestVcpu { id, online, can_offline };
    Ok(Json(all.into_iter().map(row).collect()))
}

/// Have a guest use processors, or do without them. They stay in its machine.
#[utoipa::path(put, path = "/v1/domains/{domain}/guest/vcpus", tag = "Guest agent",
    params(Domain),
    request_body = types::GuestVcpuChange,
    responses((status = 204, description = "It does")))]
pub(super) async fn set_vcpus(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(change): JsonBody<types::GuestVcpuChange>,
) -> Result<StatusCode, Failure> {
    let change = match change {
        types::GuestVcpuChange::Count { count } => ops::GuestVcpuChange::Count(count),
        types::GuestVcpuChange::These { vcpus: ids, online } => {
            ops::GuestVcpuChange::These { ids, online }
        }
    };
    app.manager.call(&caller, ops::SetGuestVcpus { domain, change }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct User {
    /// Name, UUID, or id of a running domain
    domain: String,
    /// Name of the user in the guest
    user: String,
}

/// Have a machine get vCPUs, or do without them, by their numbers.
///
/// They come in the order of their numbers, and go the other way.
#[utoipa::path(put, path = "/v1/domains/{domain}/vcpus", tag = "Devices",
    params(Domain, AffectsQuery),
    request_body = types::VcpuChange,
    responses((status = 204, description = "It does")))]
pub(super) async fn set_machine_vcpus(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(types::VcpuChange { vcpus, enabled }): JsonBody<types::VcpuChange>,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    app.manager.call(&caller, ops::SetVcpus { domain, vcpus, enabled, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How long a guest's agent may take to answer from now on.
#[utoipa::path(put, path = "/v1/domains/{domain}/guest/timeout", tag = "Guest agent",
    params(Domain),
    request_body = types::AgentTimeout,
    responses((status = 204, description = "It holds")))]
pub(super) async fn set_timeout(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(timeout): JsonBody<types::AgentTimeout>,
) -> Result<StatusCode, Failure> {
    let timeout = match timeout {
        types::AgentTimeout { forever: true, seconds: None } => AgentTimeout::Forever,
        types::AgentTimeout { forever: false, seconds } => {
            seconds.map_or(AgentTimeout::Usual, AgentTimeout::Seconds)
        }
        _ => return Err(Failure::new(HttpCode::BadRequest, "forever has no seconds")),
    };
    app.manager.call(&caller, ops::SetAgentTimeout { domain, timeout }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The ssh keys that let people in as a user of a guest.
#[utoipa::path(get, path = "/v1/domains/{domain}/guest/users/{user}/ssh-keys", tag = "Guest agent",
    params(User),
    responses((status = 200, body = types::SshKeys)))]
pub(super) async fn ssh_keys(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(User { domain, user }): PathParams<User>,
) -> Result<Json<types::SshKeys>, Failure> {
    let domain = DomainRef::Any(domain);
    let keys = app.manager.call(&caller, ops::GetSshKeys { domain, user }).await?;
    Ok(Json(types::SshKeys { keys }))
}

/// Change the ssh keys that let people in as a user of a guest.
#[utoipa::path(put, path = "/v1/domains/{domain}/guest/users/{user}/ssh-keys", tag = "Guest agent",
    params(User),
    request_body = types::SshKeyChange,
    responses((status = 204, description = "Changed")))]
pub(super) async fn set_ssh_keys(
    State(app): State<App>,
    Who(caller): Who,
    PathParams(User { domain, user }): PathParams<User>,
    JsonBody(types::SshKeyChange { keys, mode }): JsonBody<types::SshKeyChange>,
) -> Result<StatusCode, Failure> {
    let change = match mode {
        types::SshKeyMode::Replace => ops::SshKeyChange::Replace,
        types::SshKeyMode::Append => ops::SshKeyChange::Append,
        types::SshKeyMode::Remove => ops::SshKeyChange::Remove,
    };
    let domain = DomainRef::Any(domain);
    app.manager.call(&caller, ops::SetSshKeys { domain, user, keys, change }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Have a guest sleep: it writes itself to its own disk and powers off.
#[utoipa::path(post, path = "/v1/domains/{domain}/guest/sleep", tag = "Guest agent",
    params(Domain),
    responses((status = 204, description = "Its agent was asked, and did not refuse")))]
pub(super) async fn sleep(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<StatusCode, Failure> {
    let target = ops::SleepTarget::Disk;
    app.manager.call(&caller, ops::SuspendGuest { domain, target }).await?;
    Ok(StatusCode::NO_CONTENT)
}
