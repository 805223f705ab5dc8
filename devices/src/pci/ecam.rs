//! [`Ecam`]: configuration space mapped into memory (PCI Express 4.0 §7.2.2), and its mirror.

use std::sync::{Arc, Weak};

use crate::bus::{BusDevice, Effect};
use crate::pci::{ConfigPage, PciAddress, PciRoot};

/// Where configuration space is mapped: one MiB per bus, from bus 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcamWindow {
    pub base: u64,
    pub len: u64,
}

/// A copy of configuration space that the guest reads without an exit: on KVM, a read-only memslot
/// over the ECAM window. Bytes that were never stored read as all ones.
pub trait ConfigShadow: Send + Sync {
    /// Bytes at `offset` into the window now read as `data`. Offsets past what the shadow covers
    /// are its to ignore.
    fn store(&self, offset: u64, data: &[u8]);

    /// The window is here now, or nowhere.
    fn moved(&self, window: Option<EcamWindow>);
}

/// One function's page of a shadow.
pub(crate) struct ShadowPage {
    pub(crate) shadow: Arc<dyn ConfigShadow>,
    pub(crate) address: PciAddress,
}

impl ConfigPage for ShadowPage {
    fn store(&self, offset: u16, data: &[u8]) {
        self.shadow.store(self.address.ecam_offset() + u64::from(offset), data);
    }
}

pub(crate) struct Ecam {
    root: Weak<PciRoot>,
}

impl Ecam {
    pub(crate) fn new(root: Weak<PciRoot>) -> Self {
        Self { root }
    }
}

pub(super) fn target(offset: u64) -> (PciAddress, u16) {
    let address = PciAddress::from_devfn((offset >> 20) as u8, (offset >> 12) as u8);
    (address, (offset & 0xfff) as u16)
}

impl BusDevice for Ecam {
    fn name(&self) -> &str {
        "pci-ecam"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let (address, register) = target(offset);
        match self.root.upgrade() {
            Some(root) => root.config_read(address, register, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let (address, register) = target(offset);
        self.root.upgrade().map_or(Effect::None, |root| root.config_write(address, register, data))
    }
}
