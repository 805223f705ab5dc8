//! SCSI logical units: the commands of disks (SPC-4, SBC-3) and of CD-ROM drives (MMC-6), whatever
//! transport carries them: virtio-scsi, or ATAPI on AHCI and IDE.
//!
//! A transport hands a command to [`LogicalUnit::execute`] and carries out what comes back: bytes
//! for the initiator, or steps for the disk whose data goes straight to and from guest memory.

mod block;
mod cdb;
mod inquiry;
mod mmc;
mod mode;
mod sense;
#[cfg(test)]
pub(crate) mod tests;
mod unit;

pub use block::{Data, Direction, Step, Transfer};
pub use cdb::Cdb;
pub(crate) use cdb::op;
pub use inquiry::absent_unit;
pub use sense::Sense;
pub(crate) use sense::sense_of;
pub use unit::{Identity, LogicalUnit, MediumLocked, Outcome, UnitKind, UnitState};
