//! Changes of a domain's devices.

use axum::extract::State;
use axum::http::StatusCode;
use management::domain::Affects;
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{DomainInterface, JsonBody, Params, Who, switch};
use crate::types::{self, LinkState};

/// Which definition a change touches. Without either: the live one of a running domain, else the
/// stored one.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AffectsQuery {
    /// The domain as it runs; takes effect at once.
    #[serde(deserialize_with = "switch")]
    pub(super) live: bool,
    /// The stored definition; takes effect at the next start, unless `live` is said too.
    #[serde(deserialize_with = "switch")]
    pub(super) config: bool,
}

/// Plug an interface's cable in, or pull it.
///
/// The guest sees its link go up or down. The list of the domain's interfaces tells the state.
#[utoipa::path(put, path = "/v1/domains/{domain}/interfaces/{interface}/link", tag = "Devices",
    params(DomainInterface, AffectsQuery),
    request_body = types::Link,
    responses((status = 204, description = "Set"),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such interface"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "`live` of a domain that does not run, or `config` of a transient one")))]
pub(super) async fn link(
    State(app): State<App>,
    Who(caller): Who,
    DomainInterface(domain, interface): DomainInterface,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(types::Link { state }): JsonBody<types::Link>,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    let up = state == LinkState::Up;
    app.manager.call(&caller, ops::SetLink { domain, interface, up, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}
