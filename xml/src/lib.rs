//! libvirt's domain XML as types: text to definition and back, and nothing else.
//!
//! A definition is what the user wrote. Reading it keeps three outcomes apart: a name of libvirt that has a type here is
//! held; one that has none is refused by name, or kept [`Verbatim`] with a warning where no guest can miss it; a name
//! that libvirt does not know is an error with a suggestion. All errors come at once, each with its line and column.
//!
//! Whether a machine can be built from what is held is not decided here. Who decides it has [`Parsed::source`] to place
//! its own refusals in the user's text.

pub mod backup;
pub mod checkpoint;
pub mod cpu;
mod cpuset;
mod cursor;
mod defaults;
pub mod device;
mod diagnostic;
mod differences;
mod document;
pub mod domain;
mod element;
pub mod filter;
mod live;
mod mac;
mod namespace;
pub mod network;
mod report;
mod rules;
mod scan;
pub mod secret;
pub mod snapshot;
pub mod storage;
mod suggest;
pub mod torture;
mod tree;
mod value;
mod verbatim;
mod write;

#[cfg(test)]
mod tests;

use document::Bounds;

pub use backup::BackupDef;
pub use checkpoint::CheckpointDef;
pub use cpu::CpuDef;
pub use cpuset::CpuSet;
pub use defaults::Identity;
pub use device::{DeviceAddress, Devices, PciAddress};
pub use diagnostic::{Diagnostic, Diagnostics, Kind, Position, Severity};
pub use differences::Difference;
pub use document::{Parsed, Source};
pub use domain::{DomainDef, Name};
pub use filter::FilterDef;
pub use mac::{MacAddress, NotMacAddress};
pub use network::NetworkDef;
pub use secret::SecretDef;
pub use snapshot::{SnapshotDef, SnapshotSet};
pub use storage::{PoolDef, VolumeDef};
pub use value::{Hex, OnOff, YesNo};
pub use verbatim::Verbatim;

impl DomainDef {
    /// Read a definition, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domain", Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for text from outside: bounded, and UTF-8.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Parsed<Self>, Diagnostics> {
        Self::parse(document::decode(bytes, Bounds::OUTSIDE)?)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote: a definition that was accepted can grow with its layout and
    /// defaults beyond what is accepted from outside, and must still be read when it comes back from the store.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domain", Bounds::OWN)
    }

    /// The definition as libvirt's dumpxml prints it.
    pub fn to_xml(&self) -> String {
        let mut out = write::Writer::default();
        element::Element::write(self, "domain", &mut out);
        out.finish()
    }
}
