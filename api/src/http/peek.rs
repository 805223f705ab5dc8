//! A look into a guest's memory.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{Domain, Params, Who, switch};

#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PeekQuery {
    /// Where
    address: u64,
    /// How many bytes, at most 65536
    length: u32,
    /// The address is one that the first vCPU uses now; else it is physical
    #[serde(default, rename = "virtual", deserialize_with = "switch")]
    linear: bool,
}

/// Bytes of a running guest's memory.
///
/// The guest may be writing them.
#[utoipa::path(get, path = "/v1/domains/{domain}/memory/peek", tag = "Devices",
    params(Domain, PeekQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn peek_memory(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(PeekQuery { address, length: len, linear }): Params<PeekQuery>,
) -> Result<Response, Failure> {
    let peek = ops::PeekMemory { domain, address, len, linear };
    let found = app.manager.call(&caller, peek).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], found).into_response())
}
