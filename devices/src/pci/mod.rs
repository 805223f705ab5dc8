//! PCI: configuration space, bridges, BAR routing and MSI-X (PCI Local Bus 3.0, PCI Express 4.0).
//!
//! A device implements [`PciFunction`] around a [`Config`] it built with a [`ConfigBuilder`]. The
//! [`PciRoot`] finds functions by bus number, carries out configuration accesses, and keeps the
//! machine's buses in step with the BARs and bridge windows that the guest programs.

mod address;
mod assign;
mod bridge;
mod chips;
mod config;
mod ecam;
mod function;
mod hierarchy;
mod intx;
mod msi;
pub(crate) mod msix;
mod option_rom;
#[cfg(test)]
mod properties;
mod root_port;
mod slots;
mod spec;
mod window;

pub use address::PciAddress;
pub use assign::{Reserve, Windows};
pub use bridge::PlainBridge;
pub use chips::Chip;
pub use config::{Bar, BarKind, Config, ConfigBuilder, ConfigPage, ConfigState, Ids, PortType};
pub use ecam::{ConfigShadow, EcamWindow};
pub use function::PciFunction;
pub use hierarchy::{BusId, ConfigPorts, PciError, PciRoot, Survey};
pub use intx::Intx;
pub use msi::Msi;
pub use msix::{Msix, MsixPlace, MsixState};
pub use option_rom::{OptionRom, OptionRomError};
pub use root_port::RootPort;
pub use slots::{SlotEvent, Slots};
