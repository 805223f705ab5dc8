//! Power: on, off, and what lies between.

use axum::extract::State;
use axum::http::StatusCode;
use management::domain::{Affects, LifecycleCause, LifecycleChange, LifecycleEnd};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::device::AffectsQuery;
use super::error::{Failure, HttpCode};
use super::extract::{Domain, JsonBody, Params, Who, switch};
use crate::types;

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct StartQuery {
    /// Do everything but run the vCPUs.
    #[serde(deserialize_with = "switch")]
    paused: bool,
    /// Make the firmware's variables anew.
    #[serde(deserialize_with = "switch")]
    reset_nvram: bool,
    /// Forget a managed save instead of going on from it.
    #[serde(deserialize_with = "switch")]
    force_boot: bool,
    /// Go on from it also over disks that have changed since, which damages what is on them.
    #[serde(deserialize_with = "switch")]
    force: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DestroyQuery {
    /// Use no force when the VMM does not end by itself.
    #[serde(deserialize_with = "switch")]
    graceful: bool,
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AskQuery {
    /// Through whom the guest is asked: `agent`, `acpi` (its power button), or both with a comma,
    /// the agent first. If there is none: its agent if that is connected, and then the power button.
    mode: Option<String>,
}

fn modes(words: Option<&str>) -> Result<Vec<ops::AskMode>, Failure> {
    let mode = |word| match word {
        "agent" => Ok(ops::AskMode::Agent),
        "acpi" => Ok(ops::AskMode::Acpi),
        _ => {
            let detail = format!("there is no mode {word:?}; modes are agent and acpi");
            Err(Failure::new(HttpCode::BadRequest, detail))
        }
    };
    words.into_iter().flat_map(|words| words.split(',')).map(mode).collect()
}

/// Power on, or go on from a managed save.
///
/// Answers when the guest runs, or with the reason why it cannot.
#[utoipa::path(post, path = "/v1/domains/{domain}/start", tag = "Power",
    params(Domain, StartQuery),
    responses((status = 204, description = "Started")))]
pub(super) async fn start(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(query): Params<StartQuery>,
) -> Result<StatusCode, Failure> {
    let StartQuery { paused, reset_nvram: reset_variables, force_boot, force } = query;
    let start = ops::StartDomain { domain, paused, reset_variables, force_boot, force };
    app.manager.call(&caller, start).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask the guest to shut down.
///
/// The guest decides when it goes: follow its events, or ask for its state.
#[utoipa::path(post, path = "/v1/domains/{domain}/shutdown", tag = "Power",
    params(Domain, AskQuery),
    responses((status = 202, description = "The guest was asked")))]
pub(super) async fn shutdown(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AskQuery { mode }): Params<AskQuery>,
) -> Result<StatusCode, Failure> {
    app.manager
        .call(&caller, ops::ShutdownDomain { domain, modes: modes(mode.as_deref())? })
        .await?;
    Ok(StatusCode::ACCEPTED)
}

/// Cut the power.
#[utoipa::path(post, path = "/v1/domains/{domain}/destroy", tag = "Power",
    params(Domain, DestroyQuery),
    responses((status = 204, description = "Off")))]
pub(super) async fn destroy(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(DestroyQuery { graceful }): Params<DestroyQuery>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::DestroyDomain { domain, graceful }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask the guest to shut down and start it again.
#[utoipa::path(post, path = "/v1/domains/{domain}/reboot", tag = "Power",
    params(Domain, AskQuery),
    responses((status = 202, description = "The guest was asked")))]
pub(super) async fn reboot(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AskQuery { mode }): Params<AskQuery>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::RebootDomain { domain, modes: modes(mode.as_deref())? }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Press the reset button.
#[utoipa::path(post, path = "/v1/domains/{domain}/reset", tag = "Power",
    params(Domain),
    responses((status = 204, description = "Reset")))]
pub(super) async fn reset(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::ResetDomain { domain }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give every vCPU a non-maskable interrupt.
///
/// A kernel that is told to (`kernel.unknown_nmi_panic`) makes a dump of itself then.
#[utoipa::path(post, path = "/v1/domains/{domain}/nmi", tag = "Power",
    params(Domain),
    responses((status = 204, description = "Each of them has it")))]
pub(super) async fn nmi(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::InjectNmi { domain }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set what becomes of a domain that powers off, reboots or crashes.
#[utoipa::path(put, path = "/v1/domains/{domain}/lifecycle-action", tag = "Power",
    params(Domain, AffectsQuery),
    request_body = types::LifecycleAction,
    responses((status = 204, description = "Set")))]
pub(super) async fn lifecycle_action(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(types::LifecycleAction { event, action }): JsonBody<types::LifecycleAction>,
) -> Result<StatusCode, Failure> {
    let Some(cause) = LifecycleCause::of(&event) else {
        let detail = format!("there is no event {event:?}; events are poweroff, reboot, crash");
        return Err(Failure::new(HttpCode::BadRequest, detail));
    };
    let change = LifecycleChange { cause, end: LifecycleEnd::of(&action)? };
    let affects = Affects { live, config };
    app.manager.call(&caller, ops::SetLifecycleAction { domain, change, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop the vCPUs.
#[utoipa::path(post, path = "/v1/domains/{domain}/suspend", tag = "Power",
    params(Domain),
    responses((status = 204, description = "Paused")))]
pub(super) async fn suspend(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::SuspendDomain { domain }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let the vCPUs run again.
#[utoipa::path(post, path = "/v1/domains/{domain}/resume", tag = "Power",
    params(Domain),
    responses((status = 204, description = "Running")))]
pub(super) async fn resume(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::ResumeDomain { domain }).await?;
    Ok(StatusCode::NO_CONTENT)
}
