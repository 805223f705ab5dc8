//! Media of drives, and sizes of disks.

use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::media::MediumChange;
use crate::domain::{Affects, DomainRef, MediumAction};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Exchange the medium of a CD-ROM drive (what virsh does with virDomainUpdateDeviceFlags).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeMedium {
    pub domain: DomainRef,
    /// The drive's target (`sda`), or the image in it.
    pub disk: String,
    pub action: MediumAction,
    /// Also a drive that the guest has locked.
    pub force: bool,
    pub affects: Affects,
}

impl Operation for ChangeMedium {
    type Output = ();
    const NAME: &'static str = "domain.change-medium";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { domain, disk, action, force, affects } = self;
        let change = MediumChange { disk, action, force };
        cx.act(&domain, Act::ChangeMedium(change, affects)).await
    }
}

/// Make a disk of a running domain larger, and tell its guest (virDomainBlockResize).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeDisk {
    pub domain: DomainRef,
    /// The disk's target (`vda`), or its image.
    pub disk: String,
    pub bytes: u64,
}

impl Operation for ResizeDisk {
    type Output = ();
    const NAME: &'static str = "domain.resize-disk";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { domain, disk, bytes } = self;
        cx.act(&domain, Act::ResizeDisk { disk, bytes }).await
    }
}
