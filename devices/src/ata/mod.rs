//! ATA and ATAPI devices (ATA8-ACS, SFF-8020i): their commands, whatever host adapter carries them.
//!
//! A host adapter hands a [`TaskFile`] to [`AtaDisk::execute`], and carries out what comes back as its
//! protocol wants it: bytes by PIO, or a transfer of the disk to and from guest memory. Packets of
//! a CD-ROM drive go to the SCSI engine through [`Packets`].

mod disk;
mod drive;
mod identify;
mod log;
mod packet;
pub(crate) mod spec;
#[cfg(test)]
pub(crate) mod tests;

pub use disk::{AtaDisk, AtaIdentity, AtaState};
pub(crate) use disk::{TaskFile, Transfer, Work};
pub use drive::Drive;
pub(crate) use drive::DriveState;
pub(crate) use packet::PacketWork;
pub use packet::Packets;
