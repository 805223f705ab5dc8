//! Devices on the PCI bus, but those for disks behind controllers and for screens.

use serde::{Deserialize, Serialize};

use super::{Cache, Chardev, Discard, DiskIo, Fd, Image, Medium};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blk {
    pub image: Image,
    pub read_only: bool,
    pub cache: Cache,
    pub discard: Discard,
    /// Up to 20 bytes, as the guest's `/dev/disk/by-id` shows it.
    pub serial: String,
    /// Bytes: 512 or 4096.
    pub logical_block_size: u32,
    pub io: DiskIo,
    /// The io thread of each queue; its length is the number of queues.
    pub queues: Vec<usize>,
    /// Entries of each queue: a power of two, at most 1024.
    pub queue_size: u16,
}

impl Blk {
    #[must_use]
    pub fn medium(&self) -> Medium {
        Medium {
            image: self.image.clone(),
            read_only: self.read_only,
            cache: self.cache,
            discard: self.discard,
            logical_block_size: self.logical_block_size,
            io: self.io,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// An open tap per queue pair, in multi-queue mode when there are several; none with `stream`.
    pub taps: Vec<Fd>,
    /// Instead of a tap, a connected stream socket: frames pass it behind their lengths, 32 bits,
    /// big-endian, without offloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Fd>,
    /// An open `/dev/vhost-net` for each tap, where the host's kernel is to move the packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vhost: Vec<Fd>,
    pub mac: [u8; 6],
    pub mtu: Option<u16>,
    pub link_up: bool,
    /// Segmentation and checksum offloads towards the host.
    pub offloads: bool,
    /// The io thread of each queue pair.
    pub queues: Vec<usize>,
    pub queue_size: u16,
    /// The option ROM by which firmware boots from the network.
    #[serde(default)]
    pub rom: Option<Fd>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    pub ports: Vec<ConsolePort>,
    pub io_thread: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsolePort {
    pub id: String,
    /// Port number in the guest; 0 is a console.
    pub number: u32,
    /// Channel name (`org.qemu.guest_agent.0`); none for a console.
    pub name: Option<String>,
    /// QEMU's guest agent is at the other end. It sees the host's side open at all times, whoever is
    /// there: one that sees it closed looks ten times a second whether it is still so. And it is
    /// asked to end the guest when the host powers off.
    #[serde(default)]
    pub agent: bool,
    pub chardev: Chardev,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rng {
    pub rate: Option<RngRate>,
    pub io_thread: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngRate {
    /// Bytes per period.
    pub bytes: u32,
    /// Milliseconds.
    pub period: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balloon {
    /// Bytes that the guest is left with at first.
    pub current: u64,
    pub deflate_on_oom: bool,
    pub free_page_reporting: bool,
    /// Seconds between readings of the guest's statistics; 0: none.
    pub statistics_period: u32,
    pub io_thread: usize,
}

/// An Intel 6300ESB watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    pub action: WatchdogAction,
}

/// What happens when the guest does not reload its watchdog in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogAction {
    /// The reset button; what follows is `on_reboot`.
    Reset,
    /// The power button.
    Shutdown,
    /// Power off; what follows is `on_poweroff`.
    Poweroff,
    Pause,
    /// Only the event.
    None,
    InjectNmi,
}

/// Sockets between guest and host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's address.
    pub cid: u32,
    pub host: VsockHost,
}

/// The host's end of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VsockHost {
    /// An open `/dev/vhost-vsock` that belongs to nobody yet.
    Kernel { vhost: Fd, io_thread: usize },
    /// A listening unix stream socket.
    Socket { listener: Fd },
}
