//! The media of CD-ROM drives, and the sizes of disks.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use management::domain::{Affects, MediumAction, MediumSource};
use management::ops;

use super::App;
use super::device::AffectsQuery;
use super::error::{Failure, HttpCode};
use super::extract::{DomainDisk, JsonBody, Params, Who};
use crate::types;

/// Exchange the medium of a CD-ROM drive.
///
/// A guest that has locked its drive is asked to release it, and the change refused; `force` takes the
/// medium away all the same. `dumpxml` shows what is in the drive, and whether it is open.
#[utoipa::path(put, path = "/v1/domains/{domain}/disks/{disk}/medium", tag = "Devices",
    params(DomainDisk, AffectsQuery),
    request_body = types::Medium,
    responses((status = 204, description = "Exchanged"),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, disk, or image"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The guest has locked the drive, there is none to eject, or one already \
                           where one is to be inserted; `live` of a domain that does not run, or \
                           `config` of a transient one")))]
pub(super) async fn medium(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    JsonBody(types::Medium { action, source, block, force }): JsonBody<types::Medium>,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    let source = source.map(|path| MediumSource { path: path.into(), block });
    let action = match (action, source) {
        (types::MediumAction::Eject, None) => MediumAction::Eject,
        (types::MediumAction::Insert, Some(source)) => MediumAction::Insert(source),
        (types::MediumAction::Update, Some(source)) => MediumAction::Update(source),
        (_, source) => {
            let detail = if source.is_some() {
                "there is a source, and a medium is to be ejected"
            } else {
                "there is no source of the new medium"
            };
            return Err(Failure::new(HttpCode::BadRequest, detail.to_owned()));
        }
    };
    app.manager.call(&caller, ops::ChangeMedium { domain, disk, action, force, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a disk of a running domain larger.
///
/// Its image, raw or qcow2, grows, and the guest is told. A block device has to be made larger before.
#[utoipa::path(put, path = "/v1/domains/{domain}/disks/{disk}/size", tag = "Devices",
    params(DomainDisk),
    request_body = types::DiskSize,
    responses((status = 204, description = "It has this size now"),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such disk"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain does not run")))]
pub(super) async fn size(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
    JsonBody(types::DiskSize { bytes }): JsonBody<types::DiskSize>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::ResizeDisk { domain, disk, bytes }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How large a disk is, to its guest and on the host.
#[utoipa::path(get, path = "/v1/domains/{domain}/disks/{disk}/size", tag = "Devices",
    params(DomainDisk),
    responses((status = 200, body = types::DiskSizes),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such disk"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The disk is empty, or lies on a server")))]
pub(super) async fn sizes(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
) -> Result<Json<types::DiskSizes>, Failure> {
    let sizes = app.manager.call(&caller, ops::DescribeDisk { domain, disk }).await?;
    let management::domain::DiskSizes { capacity, allocation, physical } = sizes;
    Ok(Json(types::DiskSizes { capacity, allocation, physical }))
}

/// Hear, once, when an image of a disk is written to beyond a place of its file.
///
/// The event `block-threshold` tells it. The image is that which the guest uses (`vda`), or one below
/// (`vda[2]`).
#[utoipa::path(put, path = "/v1/domains/{domain}/disks/{disk}/threshold", tag = "Devices",
    params(DomainDisk),
    request_body = types::DiskThreshold,
    responses((status = 204, description = "It will be told"),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such disk"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "The domain does not run")))]
pub(super) async fn threshold(
    State(app): State<App>,
    Who(caller): Who,
    DomainDisk(domain, disk): DomainDisk,
    JsonBody(types::DiskThreshold { bytes }): JsonBody<types::DiskThreshold>,
) -> Result<StatusCode, Failure> {
    app.manager.call(&caller, ops::SetBlockThreshold { domain, disk, bytes }).await?;
    Ok(StatusCode::NO_CONTENT)
}
