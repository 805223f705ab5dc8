//! Devices that come and go, or change while they stay.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use management::domain::Affects;
use management::ops::{AttachDevice, DetachDevice, DeviceRef, UpdateDevice};

use super::App;
use super::device::AffectsQuery;
use super::error::Failure;
use super::extract::{Domain, DomainDevice, Params, Who, Xml};
use crate::types;

/// Put a device into a domain.
///
/// A disk on virtio, or an interface. A running guest finds it in its next free slot: those of
/// `pcie-root-port` controllers, or of the root bus of a domain that has none.
#[utoipa::path(post, path = "/v1/domains/{domain}/devices", tag = "Devices",
    params(Domain, AffectsQuery),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt XML of one `<disk>` or `<interface>`"),
    responses((status = 204, description = "It is there"),
        (status = 409, body = types::Problem, content_type = "application/problem+json",
            description = "`live` of a domain that does not run, `config` of a transient one, or no \
                           free slot"),
        (status = 422, body = types::Problem, content_type = "application/problem+json",
            description = "Every mistake of the document at once, in `errors`")))]
pub(super) async fn attach(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    Xml(xml): Xml,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    app.manager.call(&caller, AttachDevice { domain, xml, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change a device that stays.
///
/// Of a running domain: the medium of a CD-ROM drive, and the link of an interface. Of the stored
/// definition (`config`): anything.
#[utoipa::path(put, path = "/v1/domains/{domain}/devices", tag = "Devices",
    params(Domain, AffectsQuery),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt XML of the device as it shall be"),
    responses((status = 204, description = "It is so"),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such device"),
        (status = 422, body = types::Problem, content_type = "application/problem+json",
            description = "Mistakes of the document, or something that a running domain cannot change")))]
pub(super) async fn update(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    Xml(xml): Xml,
) -> Result<StatusCode, Failure> {
    let affects = Affects { live, config };
    app.manager.call(&caller, UpdateDevice { domain, xml, affects }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a device out of a domain.
///
/// The guest of a running domain is asked to let go of it, and waited for a moment; an event,
/// `device-removed`, tells when it has.
#[utoipa::path(delete, path = "/v1/domains/{domain}/devices/{device}", tag = "Devices",
    params(DomainDevice, AffectsQuery),
    responses((status = 200, body = types::Detached),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such device")))]
pub(super) async fn detach(
    State(app): State<App>,
    Who(caller): Who,
    DomainDevice(domain, device): DomainDevice,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
) -> Result<Json<types::Detached>, Failure> {
    let affects = Affects { live, config };
    let device = DeviceRef::Name(device);
    let gone = app.manager.call(&caller, DetachDevice { domain, device, affects }).await?;
    Ok(Json(types::Detached { gone }))
}

/// Take out of a domain the device that an XML description means.
///
/// A disk is known by its target, an interface by its MAC address.
#[utoipa::path(post, path = "/v1/domains/{domain}/devices/detach", tag = "Devices",
    params(Domain, AffectsQuery),
    request_body(content = String, content_type = "application/xml",
        description = "libvirt XML of the device"),
    responses((status = 200, body = types::Detached),
        (status = 404, body = types::Problem, content_type = "application/problem+json",
            description = "There is no such domain, or it has no such device")))]
pub(super) async fn detach_like(
    State(app): State<App>,
    Who(caller): Who,
    Domain(domain): Domain,
    Params(AffectsQuery { live, config }): Params<AffectsQuery>,
    Xml(xml): Xml,
) -> Result<Json<types::Detached>, Failure> {
    let affects = Affects { live, config };
    let device = DeviceRef::Xml(xml);
    let gone = app.manager.call(&caller, DetachDevice { domain, device, affects }).await?;
    Ok(Json(types::Detached { gone }))
}
