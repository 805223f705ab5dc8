//! A look into a guest's memory.

use management::ops::PeekMemory;

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
