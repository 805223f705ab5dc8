//! A look into a guest's memory, and onto its disks.

use management::ops::{PeekDisk, PeekMemory};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::xdr::Opaque;
use super::Client;

pub(crate) async fn memory(
    client: Client,
    (domain, address, len, flags): (Domain, u64, u32, u32),
) -> Result<Opaque, Failure> {
    const VIRTUAL: u32 = 1;
    const PHYSICAL: u32 = 2;
    known_flags(flags, VIRTUAL | PHYSICAL, "virDomainMemoryPeek")?;
    let linear = match flags {
        VIRTUAL => true,
        PHYSICAL => false,
        _ => {
            let text = "an address is either virtual (flag 1) or physical (flag 2)";
            return Err(Failure::invalid_argument(Area::Domain, text));
        }
    };
    let peek = PeekMemory { domain: domain.reference(), address, len, linear };
    client.domain(peek).await.map(Opaque)
}

/// libvirt reads the image's file; here it is what the guest sees, which of a raw image is the same.
pub(crate) async fn disk(
    client: Client,
    (domain, disk, offset, len, flags): (Domain, String, u64, u32, u32),
) -> Result<Opaque, Failure> {
    known_flags(flags, 0, "virDomainBlockPeek")?;
    client.domain(PeekDisk { domain: domain.reference(), disk, offset, len }).await.map(Opaque)
}
