//! A look into a guest's memory, and onto its disks.

use vmm_protocol::control::{Reply, Request};
use vmm_protocol::peek::{MOST, from_hex};
use xml::device::disk::{DiskDevice, DiskType};

use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::domain::{DomainRef, images};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use crate::storage::work;

use super::disk_size;

/// Bytes of a running guest's memory (virDomainMemoryPeek), which the guest may be writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekMemory {
    pub domain: DomainRef,
    pub address: u64,
    pub len: u32,
    /// The address is one that the first vCPU uses now; else it is physical.
    pub linear: bool,
}

impl Operation for PeekMemory {
    type Output = Vec<u8>;
    const NAME: &'static str = "domain.peek-memory";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<u8>, Error> {
        let Self { domain, address, len, linear } = self;
        let invalid = |text: String| Error::new(Code::InvalidArgument, text);
        if len > MOST {
            return Err(invalid(format!("one look is at up to {MOST} bytes, not {len}")));
        }
        let view = cx.find(&domain)?.view();
        if view.live.is_none() {
            let text = format!("domain {:?} is not running: it has no memory", view.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        match super::ask(&view, Request::PeekMemory { address, len, linear }, cx).await? {
            Reply::Memory { hex: None } => {
                let kind = if linear { "virtual" } else { "physical" };
                let text =
                    format!("the guest has no memory at {kind} address {address:#x}+{len:#x}");
                Err(invalid(text))
            }
            Reply::Memory { hex: Some(hex) } => bytes_of(&hex, len),
            _ => Err(senseless()),
        }
    }
}

/// Bytes of a disk as its guest sees it, through all its images (virDomainBlockPeek): of one that runs by its
/// VMM, whose guest may be writing them; of one that does not by a confined process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekDisk {
    pub domain: DomainRef,
    /// `vda`, or the path of its image.
    pub disk: String,
    pub offset: u64,
    pub len: u32,
}

impl Operation for PeekDisk {
    type Output = Vec<u8>;
    const NAME: &'static str = "domain.peek-disk";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<u8>, Error> {
        let Self { domain, disk, offset, len } = self;
        if len > MOST {
            let text = format!("one look is at up to {MOST} bytes, not {len}");
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let view = cx.find(&domain)?.view();
        let disk = disk_size::named(&view, &disk)?.clone();
        let target = disk.target.dev.clone();
        // What is in a drive is only read, and may have come while the guest ran.
        if view.live.is_none() || disk.device() == DiskDevice::Cdrom {
            let (path, node) = (disk_size::place(cx, &disk)?, cx.node.clone());
            return blocking(move || {
                let chain = images::files(&*node.broker, &disk, path)?;
                work::read(&*node.broker, chain, (offset, len), &target)
            })
            .await;
        }
        if disk.kind() == DiskType::Network {
            let text = format!("disk {target} lies on a server: look at it there");
            return Err(Error::new(Code::Unsupported, text));
        }
        let id = disk.alias.unwrap_or_default();
        match super::ask(&view, Request::PeekDisk { id, offset, len }, cx).await? {
            Reply::DiskBytes { size, hex: None } => {
                // The words of the other way.
                let text = format!(
                    "disk {target}: it has {size} bytes, and {len} from {offset} on do not lie in it"
                );
                Err(Error::new(Code::InvalidArgument, text))
            }
            Reply::DiskBytes { hex: Some(hex), .. } => bytes_of(&hex, len),
            _ => Err(senseless()),
        }
    }
}

/// A VMM is not believed that it says as much as it was asked for.
fn bytes_of(hex: &str, len: u32) -> Result<Vec<u8>, Error> {
    from_hex(hex).filter(|found| found.len() == len as usize).ok_or_else(senseless)
}

fn senseless() -> Error {
    Error::new(Code::VmmFailed, "the VMM answers something else than was asked")
}
