//! The memory that a guest is left with, and its statistics.

use axum::extract::State;
use axum::http::StatusCode;
use management::domain::Affects;
use management::ops;

use super::App;
use super::device::AffectsQuery;
use super::error::Failure;
use super::extract::{Domain, JsonBody, Params, Who};
use crate::types;

/// Have a guest live with less memory, or with more again, up to what it was started with.
///
/// The guest gives memory back when it can: the statistics tell how far it is.
#[utoipa::path(put, path = "/v1/domains/{domain}/memory", tag = "Devices",
    params(Domain, AffectsQuery),
    request_body = types::Memory,
    responses((status = 204, description = "Set; the guest was asked"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "`live` of a domain that does not run, `config` of a transient one, or \
                           there is no memory balloon")))]
pub(super) async fn memory(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(types::Memory { bytes }): JsonBody<types::Memory>,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    app.manager.call(&caller, ops::SetMemory { domain, memory: bytes / 1024, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set how often a guest is asked for its memory statistics.
#[utoipa::path(put, path = "/v1/domains/{domain}/memory/stats-period", tag = "Devices",
    params(Domain, AffectsQuery),
    request_body = types::StatsPeriod,
    responses((status = 204, description = "Set"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "`live` of a domain that does not run, `config` of a transient one, or \
                           there is no memory balloon")))]
pub(super) async fn stats_period(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(types::StatsPeriod { period_s: period }): JsonBody<types::StatsPeriod>,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    app.manager.call(&caller, ops::SetMemoryStatsPeriod { domain, period, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Measure for some seconds how much of its memory a running guest writes to.
///
/// Its counters tell it then (`dirty_rate`). The guest is slower meanwhile.
#[utoipa::path(post, path = "/v1/domains/{domain}/memory/dirty-rate", tag = "Statistics",
    params(Domain),
    request_body = types::MeasureDirtyRate,
    responses((status = 204, description = "It is being measured"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain does not run, or is being saved; or it is being measured already")))]
pub(super) async fn dirty_rate(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    JsonBody(types::MeasureDirtyRate { seconds }): JsonBody<types::MeasureDirtyRate>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::MeasureDirtyRate { domain, seconds }).await?;
    Ok(StatusCode::NO_CONTENT)
}
