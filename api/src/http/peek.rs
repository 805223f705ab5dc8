//! A look into a guest's memory, and onto its disks.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use management::ops;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::error::Failure;
use super::extract::{Domain, DomainDisk, Params, Who, switch};

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
    Ok(as_bytes(found))
}

#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PeekDiskQuery {
    /// Where
    offset: u64,
    /// How many bytes, at most 65536
    length: u32,
}

/// Bytes of a disk, as its guest sees them.
///
/// They are read through all images of the disk, of a domain that runs or not. A guest that runs may be
/// writing them.
#[utoipa::path(get, path = "/v1/domains/{domain}/disks/{disk}/peek", tag = "Devices",
    params(DomainDisk, PeekDiskQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn peek_disk(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
    Params(PeekDiskQuery { offset, length: len }): Params<PeekDiskQuery>,
) -> Result<Response, Failure> {
    let peek = ops::PeekDisk { domain, disk, offset, len };
    Ok(as_bytes(app.manager.call(&caller, peek).await?))
}

fn as_bytes(found: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], found).into_response()
}
