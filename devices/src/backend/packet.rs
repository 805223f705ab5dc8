//! [`PacketBackend`]: what a network device needs of its host side.

use std::io;
use std::os::fd::RawFd;

use memory::IoBuffers;

bitflags::bitflags! {
    /// What the guest takes over from the host on receiving: the host need not finish checksums
    /// or cut segments. The bits are those of Linux' TUNSETOFFLOAD.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Offloads: u32 {
        const CHECKSUM = 1 << 0;
        const TSO4 = 1 << 1;
        const TSO6 = 1 << 2;
        const TSO_ECN = 1 << 3;
    }
}

/// One queue of packets to and from the network, each behind a virtio-net header of 12 bytes
/// (virtio 1.2 §5.1.6). It never blocks.
pub trait PacketBackend: Send + Sync {
    /// What becomes readable when a packet is there.
    fn fd(&self) -> RawFd;

    /// Receive one packet into `buffers`; its length comes back, cut off where the buffers end.
    fn receive(&self, buffers: &IoBuffers) -> io::Result<usize>;

    /// As [`receive`](Self::receive), into memory of ours.
    fn receive_copy(&self, packet: &mut [u8]) -> io::Result<usize>;

    /// Send one packet.
    fn send(&self, packet: &IoBuffers) -> io::Result<()>;

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()>;

    /// Take part in the distribution of packets over queues, or not.
    fn set_enabled(&self, enabled: bool) -> io::Result<()>;
}
