//! [`Announcer`]: has the network learn where the guest is, whatever its driver does: by a frame that
//! comes from its address, as QEMU's `announce_self` sends it.

use std::io;
use std::sync::Arc;

use super::filter::Mac;
use super::shared::{NetHandle, Shared};
use crate::backend::packet::PacketBackend;

/// Of virtio-net, all zero: nothing is left to do.
const HEADER: usize = 12;
/// The shortest frame of Ethernet, without its checksum.
const FRAME: usize = 60;
const BROADCAST: Mac = [0xff; 6];

/// RFC 903: "who am I?", which nobody has to answer. Bridges and switches learn from its sender.
fn reverse_arp(mac: Mac) -> [u8; HEADER + FRAME] {
    const ETHERTYPE: [u8; 2] = 0x8035_u16.to_be_bytes();
    /// Ethernet and IPv4, addresses of 6 and 4 bytes, and "request reverse".
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 3];
    const NO_ADDRESS: [u8; 4] = [0; 4];
    let mut packet = [0; HEADER + FRAME];
    let parts: [&[u8]; 8] =
        [&BROADCAST, &mac, &ETHERTYPE, &REQUEST, &mac, &NO_ADDRESS, &mac, &NO_ADDRESS];
    let mut at = HEADER;
    for part in parts {
        packet[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    packet
}

/// The machine's means to announce an interface.
pub struct Announcer {
    pub(super) shared: Arc<Shared>,
    pub(super) backend: Option<Arc<dyn PacketBackend>>,
}

impl Announcer {
    /// Ask the driver to do it, too: it knows addresses and VLANs that nobody else does.
    pub fn ask_driver(&self) {
        NetHandle(self.shared.clone()).announce();
    }

    /// Send one frame, if the guest has a link: one that must take another address first has none.
    ///
    /// # Errors
    /// When the host does not take it.
    pub fn send(&self) -> io::Result<()> {
        let Some(backend) = self.backend.as_ref().filter(|_| self.shared.has_link()) else {
            return Ok(());
        };
        let mac = NetHandle(self.shared.clone()).mac();
        backend.send_copy(&reverse_arp(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_one_that_bridges_learn_from() {
        let packet = reverse_arp([2, 1, 2, 3, 4, 5]);
        assert_eq!(packet[..HEADER], [0; HEADER], "nothing is left to the host");
        let (frame, padding) = packet[HEADER..].split_at(42);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 1, 2, 3, 4, 5, 0x80, 0x35]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!(frame[22..], [2, 1, 2, 3, 4, 5, 0, 0, 0, 0, 2, 1, 2, 3, 4, 5, 0, 0, 0, 0]);
        assert!(padding.iter().all(|byte| *byte == 0));
    }
}
