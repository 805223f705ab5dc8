//! [`PlainBridge`]: a PCI-to-PCI bridge that only forwards.

use crate::component::{Component, DeviceState, StateError};
use crate::pci::{Config, ConfigBuilder, ConfigState, Ids, PciFunction, PortType};

/// A conventional bridge: behind it is a bus of 32 slots, without hotplug.
pub struct PlainBridge {
    id: String,
    config: Config,
}

const CLASS: u32 = 0x06_04_00;

impl PlainBridge {
    /// libvirt's `pci-bridge`: conventional on both sides.
    #[must_use]
    pub fn pci_bridge(id: &str) -> Self {
        let ids = Ids { vendor: 0x1b36, device: 0x0001, class: CLASS, revision: 0 };
        Self { id: id.to_owned(), config: ConfigBuilder::bridge(ids).build() }
    }

    /// libvirt's `dmi-to-pci-bridge`, on the root bus of a q35 board.
    #[must_use]
    pub fn dmi_to_pci(id: &str) -> Self {
        let ids = Ids { vendor: 0x8086, device: 0x244e, class: CLASS | 1, revision: 0x92 };
        Self { id: id.to_owned(), config: ConfigBuilder::bridge(ids).build() }
    }

    /// libvirt's `pcie-to-pci-bridge`, behind a PCI Express port.
    #[must_use]
    pub fn pcie_to_pci(id: &str) -> Self {
        let ids = Ids { vendor: 0x1b36, device: 0x000e, class: CLASS, revision: 0 };
        let mut builder = ConfigBuilder::bridge(ids);
        builder.express(PortType::PciBridge);
        Self { id: id.to_owned(), config: builder.build() }
    }
}

impl PciFunction for PlainBridge {
    fn name(&self) -> &str {
        &self.id
    }

    fn config(&self) -> &Config {
        &self.config
    }
}

impl Component for PlainBridge {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "pci-bridge"
    }

    fn reset(&self) {
        self.config.reset();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &self.config.save())
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: ConfigState = state.decode(self.kind(), 1)?;
        self.config.restore(self.kind(), &saved)
    }
}
