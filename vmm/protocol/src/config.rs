//! [`MachineConfig`]: what one VMM process shall build, as plain data.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Version;

mod boot;
mod clock;
mod cpus;
mod devices;
mod display;
mod drives;
mod errors;
mod image;
mod isolation;
mod limits;
mod numa;
mod pci;

pub use boot::{Boot, Firmware, FwCfgContent, FwCfgFile, Smbios, SmbiosStrings};
pub use clock::{Clock, MissedTicks, Timers};
pub use cpus::{CpuCaches, CpuDetails, CpuMatch, CpuModel, Cpus, FeaturePolicy, Hyperv, Topology};
pub use devices::{
    Balloon, Blk, Console, ConsolePort, Net, Rng, RngRate, Vsock, VsockHost, Watchdog,
    WatchdogAction,
};
pub use display::{
    Input, InputRole, Ramfb, Video, VideoModel, Vnc, VncPassword, VncSharing, VncTls,
};
pub use drives::{Ahci, Drive, DriveIdentity, DriveKind, DrivePlace, Ide, Nvme, Scsi};
pub use errors::{DiskErrors, OnError};
pub use image::{Cache, Discard, DiskIo, Image, ImageFormat, Layer, Medium, Nbd, NbdTls};
pub use isolation::{Isolation, IsolationMode};
pub use limits::{DiskLimits, IoRate};
pub use numa::{Numa, NumaCell, NumaMode, NumaPlacement};
pub use pci::{PciAddress, PciDevice, PciKind, RootPort};

/// An open file that came with the process. The number *is* the descriptor: the broker places the
/// files of a spawn at 3, 4, 5 … in order ([`FIRST_FD`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fd(pub i32);

/// Where the files of a spawn begin. The first is the configuration itself.
pub const FIRST_FD: i32 = 3;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    pub version: Version,
    pub identity: Identity,
    pub platform: Platform,
    pub memory: Memory,
    pub cpus: Cpus,
    #[serde(default)]
    pub numa: Numa,
    pub clock: Clock,
    pub boot: Boot,
    /// What SMBIOS tells beside what it always tells.
    #[serde(default)]
    pub smbios: Smbios,
    /// What the guest is told to be another machine by, when it was copied or taken back: with
    /// another one than a restored state was saved with, it is told at once.
    #[serde(default)]
    pub generation: Option<Uuid>,
    /// Files that the guest finds in fw_cfg beside the board's own.
    #[serde(default)]
    pub fw_cfg: Vec<FwCfgFile>,
    pub lifecycle: Lifecycle,
    /// Threads that queues are mapped to, by index.
    pub io_threads: Vec<IoThread>,
    pub pci: Vec<PciDevice>,
    /// Of disks that may not do as much as they can.
    #[serde(default)]
    pub disk_limits: Vec<DiskLimits>,
    /// Of disks that do something else than usual when the host fails them.
    #[serde(default)]
    pub disk_errors: Vec<DiskErrors>,
    pub serial: Vec<Serial>,
    /// A pvpanic device at port 0x505.
    pub pvpanic: bool,
    /// Instead of a graphics card.
    #[serde(default)]
    pub ramfb: Option<Ramfb>,
    /// Where VNC viewers of the screen come in.
    #[serde(default)]
    pub vnc: Vec<Vnc>,
    pub process: ProcessFiles,
    /// Take up a saved state instead of starting cold.
    pub restore: Option<Restore>,
    /// Build everything, then wait for [`Resume`](crate::control::Request::Resume).
    pub start_paused: bool,
}

/// Who this guest is. Proved at the handshake, so that a daemon never takes one for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub name: String,
    pub uuid: Uuid,
    /// Random for each start.
    pub start_token: Uuid,
    /// Of the host (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Uuid,
}

/// The board, pinned at define: what a guest sees never changes under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    pub machine: Machine,
    /// Raised when what a guest sees changes; 1 is the first.
    pub version: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    Q35,
    Pc,
    Microvm,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Bytes; a multiple of 1 MiB.
    pub size: u64,
    pub backing: MemoryBacking,
    /// Kept in the host's RAM.
    #[serde(default)]
    pub locked: bool,
    /// Given by the host before the guest starts.
    #[serde(default)]
    pub prefault: bool,
    /// The host may keep pages once that several guests have (KSM), where it looks for such.
    #[serde(default)]
    pub mergeable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryBacking {
    /// Private anonymous memory.
    Anonymous,
    /// memfd, for what must be shared with another process.
    Shared,
    /// Pages of hugetlbfs, so many bytes each; none: the host's default size.
    Huge { page: Option<u64> },
}

/// What follows when the guest ends by itself; obeyed by the VMM, also without a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    pub on_poweroff: Action,
    pub on_reboot: Action,
    pub on_crash: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// End the VMM process.
    Destroy,
    /// Reset the machine and go on.
    Restart,
    /// Keep the stopped guest for inspection (libvirt's `preserve`).
    Preserve,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoThread {
    /// Thread name, at most 15 bytes (`blk:vda`).
    pub name: String,
    #[serde(default)]
    pub affinity: Vec<u16>,
}

/// An ISA serial port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    pub id: String,
    /// 0 to 3: COM1 to COM4.
    pub port: u8,
    pub chardev: Chardev,
}

/// Where a character device ends on the host. Whatever is here, a client can also attach through
/// [`Request::Console`](crate::control::Request::Console), and sees the recent output first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chardev {
    pub pty: Option<Pty>,
    /// A listening unix stream socket (`<channel type='unix'>`).
    pub listener: Option<Fd>,
    /// Everything the guest writes is appended to each.
    #[serde(default)]
    pub logs: Vec<LogFile>,
    /// The process's own stdin and stdout.
    pub stdio: bool,
}

/// Both sides of a pseudo-terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pty {
    pub master: Fd,
    /// Held open: without it the master reports a hang-up as long as nobody has the terminal open.
    pub slave: Fd,
}

/// A file that what the guest writes is appended to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFile {
    pub file: Fd,
    /// Where its contents go when it is 2 MiB large, newest first. Without them it grows.
    #[serde(default)]
    pub older: Vec<Fd>,
}

/// What the process itself needs, apart from the machine it builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessFiles {
    pub kvm: Fd,
    /// Listening unix stream socket, where daemons connect.
    pub control: Fd,
    /// Takes one [`ExitRecord`](crate::exit::ExitRecord) at the end.
    pub exit_record: Fd,
    /// The process's log (JSON lines); none: stderr.
    pub log: Option<Fd>,
    /// Locks that are held by being open: the domain's own and those of its images.
    pub locks: Vec<Fd>,
    /// Opaque to the VMM; returned at each handshake, replaced by the daemon at each live change.
    pub live_record: String,
    /// Install the seccomp filters. Off only to debug the VMM itself.
    pub seccomp: bool,
    #[serde(default)]
    pub isolation: Isolation,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// A file that [`Request::Save`](crate::control::Request::Save) wrote.
    pub image: Fd,
}
