//! Devices of domains: put in, taken out, changed.

use management::ops::{AttachDevice, DetachDevice, DeviceRef, ResizeDisk, UpdateDevice};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::{AFFECT_LIVE, Client, affects};

pub(crate) async fn attach(client: Client, (domain, xml): (Domain, String)) -> Result<(), Failure> {
    attach_flags(client, (domain, xml, AFFECT_LIVE)).await
}

pub(crate) async fn attach_flags(
    client: Client,
    (domain, xml, flags): (Domain, String, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainAttachDeviceFlags")?;
    client.ask(Area::Device, AttachDevice { domain: domain.reference(), xml, affects }).await
}

pub(crate) async fn detach(client: Client, (domain, xml): (Domain, String)) -> Result<(), Failure> {
    detach_flags(client, (domain, xml, AFFECT_LIVE)).await
}

pub(crate) async fn detach_flags(
    client: Client,
    (domain, xml, flags): (Domain, String, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainDetachDeviceFlags")?;
    let (domain, device) = (domain.reference(), DeviceRef::Xml(xml));
    // A guest that has not let go yet is as much of a success to libvirt: an event tells the rest.
    client.ask(Area::Device, DetachDevice { domain, device, affects }).await.map(drop)
}

pub(crate) async fn detach_alias(
    client: Client,
    (domain, alias, flags): (Domain, String, u32),
) -> Result<(), Failure> {
    let affects = affects(flags, 0, "virDomainDetachDeviceAlias")?;
    let (domain, device) = (domain.reference(), DeviceRef::Name(alias));
    client.ask(Area::Device, DetachDevice { domain, device, affects }).await.map(drop)
}

pub(crate) async fn update_flags(
    client: Client,
    (domain, xml, flags): (Domain, String, u32),
) -> Result<(), Failure> {
    // What would have to be forced is what the guest holds on to.
    const FORCE: u32 = 4;
    let affects = affects(flags, FORCE, "virDomainUpdateDeviceFlags")?;
    client.ask(Area::Device, UpdateDevice { domain: domain.reference(), xml, affects }).await
}

pub(crate) async fn resize_disk(
    client: Client,
    (domain, disk, size, flags): (Domain, String, u64, u32),
) -> Result<(), Failure> {
    const BYTES: u32 = 1;
    known_flags(flags, BYTES, "virDomainBlockResize")?;
    let bytes = if flags & BYTES != 0 { size } else { size.saturating_mul(1024) };
    client.domain(ResizeDisk { domain: domain.reference(), disk, bytes }).await
}
