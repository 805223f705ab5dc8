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

/// Whether an error of receiving or sending says that the network is gone for good.
pub(crate) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | InvalidData | UnexpectedEof)
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

    /// As [`send`](Self::send), from memory of ours: a packet that does not come from the guest. Where
    /// nobody has to learn from it who is there, it goes nowhere.
    fn send_copy(&self, _packet: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Whether packets are at hand that [`fd`](Self::fd) does not speak of any more.
    fn has_received(&self) -> bool {
        false
    }

    /// Whether the network has taken a part of a packet; the rest is [`flush`](Self::flush)ed when
    /// [`fd`](Self::fd) takes more.
    fn has_unsent(&self) -> bool {
        false
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// The longest packet, without its header, that comes even if the driver takes no segments. 0: what
    /// the MTU says.
    fn longest(&self) -> usize {
        0
    }

    fn set_offloads(&self, offloads: Offloads) -> io::Result<()>;

    /// Take part in the distribution of packets over queues, or not.
    fn set_enabled(&self, enabled: bool) -> io::Result<()>;
}
