//! PCI: configuration space, bridges, BAR routing and MSI-X (PCI Local Bus 3.0, PCI Express 4.0).
//!
//! A device implements [`PciFunction`] around a [`Config`] it built with a [`ConfigBuilder`]. The
//! [`PciRoot`] finds functions by bus number, carries out configuration accesses, and keeps the
//! machine's buses in step with the BARs and bridge windows that the guest programs.

mod address;
mod config;
mod function;
mod msix;
mod spec;

pub use address::PciAddress;
pub use config::{Bar, BarKind, Config, ConfigBuilder, ConfigPage, ConfigState, Ids, PortType};
pub use function::PciFunction;
pub use msix::{Msix, MsixPlace, MsixState};
