//! What fuzz targets do with devices and servers: whatever a guest, a viewer or a disk's server says, no panic and no
//! unbounded work come of it, and what holds at the start holds at the end.

mod board;
mod chipset;
mod firmware;
mod function;
mod server;
mod storage;
#[cfg(test)]
mod tests;
mod vga;
mod viewer;
mod virtio;
mod virtqueue;

pub use chipset::{chipset, pci};
pub use firmware::{flash, fw_cfg};
pub use server::{nbd, nbd_client};
pub use storage::{ahci, ata, ide, nvme, scsi};
pub use vga::vga;
pub use viewer::rfb;
pub use virtio::{virtio_blk, virtio_console, virtio_net, virtio_scsi, virtio_small, virtio_vsock};
pub use virtqueue::virtqueue;

/// Takes an input apart; one that ends goes on as zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> u32 {
        self.take(4).iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    fn short(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    fn fill(&mut self, place: &mut [u8]) {
        let given = self.take(place.len());
        place[..given.len()].copy_from_slice(given);
    }

    /// As many of `count` bytes as there are.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
