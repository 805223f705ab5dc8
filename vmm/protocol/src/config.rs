//! [`MachineConfig`]: what one VMM process shall build, as plain data.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Version;

mod drives;

pub use drives::{Ahci, Drive, DriveIdentity, DriveKind, DrivePlace, Ide, Nvme, Scsi};

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
    pub clock: Clock,
    pub boot: Boot,
    /// What SMBIOS tells beside what it always tells.
    #[serde(default)]
    pub smbios: Smbios,
    /// What the guest is told to be another machine by, when it was copied or taken back.
    #[serde(default)]
    pub generation: Option<Uuid>,
    /// Files that the guest finds in fw_cfg beside the board's own.
    #[serde(default)]
    pub fw_cfg: Vec<FwCfgFile>,
    pub lifecycle: Lifecycle,
    /// Threads that queues are mapped to, by index.
    pub io_threads: Vec<IoThread>,
    pub pci: Vec<PciDevice>,
    pub serial: Vec<Serial>,
    /// A pvpanic device at port 0x505.
    pub pvpanic: bool,
    /// Where VNC viewers of the first graphics card come in.
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpus {
    /// vCPUs present at start, 1 to 64.
    pub count: u16,
    pub model: CpuModel,
    #[serde(default)]
    pub details: CpuDetails,
    pub topology: Topology,
    /// Host CPUs each vCPU may run on, by vCPU index; an empty list or a missing entry means any.
    #[serde(default)]
    pub affinity: Vec<Vec<u16>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuModel {
    HostPassthrough,
    HostModel,
    /// One of libvirt's names (`Skylake-Server`).
    Named(String),
}

/// What a definition says of the CPU beside its model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuDetails {
    pub matching: CpuMatch,
    /// Start also where the host lacks features of a named model; the guest goes without.
    pub unchecked: bool,
    /// Only on a host of this vendor: `Intel`, `AMD`, `Hygon`.
    pub vendor: Option<String>,
    /// What the guest sees as vendor: 12 bytes.
    pub vendor_id: Option<String>,
    /// By libvirt's names.
    pub features: Vec<(String, FeaturePolicy)>,
    /// Physical address bits; none: the host's.
    pub physical_bits: Option<u32>,
    /// At most so many of the host's.
    pub physical_bits_limit: Option<u32>,
    pub hide_caches: bool,
    /// Nothing tells the guest that it runs on KVM.
    pub hide_kvm: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuMatch {
    Minimum,
    #[default]
    Exact,
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeaturePolicy {
    Force,
    Require,
    Optional,
    Disable,
    Forbid,
}

/// `sockets * dies * cores * threads` equals [`Cpus::count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    pub sockets: u16,
    pub dies: u16,
    pub cores: u16,
    pub threads: u16,
}

/// The RTC's idea of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Seconds added to UTC.
    pub offset: i64,
    /// Offer kvmclock.
    pub kvmclock: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Boot {
    /// Load a kernel directly: bzImage or ELF.
    Kernel { kernel: Fd, initrd: Option<Fd>, cmdline: String },
    /// Start at the reset vector of a firmware, which finds the rest by itself.
    Firmware(Firmware),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The image that ends at 4 GiB: SeaBIOS, or OVMF's code with or without its variables.
    pub image: Fd,
    /// Flash below `image` for the firmware's variables. What the guest writes is written here.
    pub variables: Option<Fd>,
    /// Offer a boot menu for this long, milliseconds.
    pub menu: Option<u16>,
    /// What boot code prints by BIOS calls appears on the first serial port, too.
    pub serial_text: bool,
}

/// Strings of SMBIOS structures (libvirt's `<sysinfo type='smbios'>`); what is absent keeps its
/// default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Smbios {
    /// Type 0: vendor, version, date, release (`MAJOR.MINOR`).
    pub bios: SmbiosStrings,
    /// Type 1: manufacturer, product, version, serial, sku, family.
    pub system: SmbiosStrings,
    /// Type 2, one structure each: manufacturer, product, version, serial, asset, location.
    pub base_boards: Vec<SmbiosStrings>,
    /// Type 3: manufacturer, version, serial, asset, sku.
    pub chassis: SmbiosStrings,
    /// Type 11.
    pub oem_strings: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmbiosStrings {
    pub vendor: Option<String>,
    pub version: Option<String>,
    pub date: Option<String>,
    pub release: Option<String>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub serial: Option<String>,
    pub sku: Option<String>,
    pub family: Option<String>,
    pub asset: Option<String>,
    pub location: Option<String>,
}

/// A file in fw_cfg (libvirt's `<sysinfo type='fwcfg'>`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FwCfgFile {
    /// `opt/…`, at most 55 bytes.
    pub name: String,
    pub content: FwCfgContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FwCfgContent {
    Text(String),
    File(Fd),
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciAddress {
    /// Index of the PCI controller the device is plugged into: 0 is the root bus.
    pub bus: u8,
    /// 0 to 31.
    pub slot: u8,
    /// 0 to 7.
    pub function: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciDevice {
    /// The device's alias: unique, and its name in events and statistics.
    pub id: String,
    pub address: PciAddress,
    pub multifunction: bool,
    /// Place in the firmware's boot order, from 1; none: not named there.
    #[serde(default)]
    pub boot_index: Option<u32>,
    pub kind: PciKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PciKind {
    RootPort(RootPort),
    Blk(Blk),
    Scsi(Scsi),
    Ahci(Ahci),
    Ide(Ide),
    Nvme(Nvme),
    Net(Net),
    Console(Console),
    Rng(Rng),
    Video(Video),
    Balloon(Balloon),
    Watchdog(Watchdog),
    Vsock(Vsock),
    Input(Input),
}

/// A `pcie-root-port`; devices behind it name `controller` as their bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPort {
    /// Index of the controller in the definition.
    pub controller: u8,
    pub chassis: u8,
    pub port: u8,
}

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

/// An image and how it is used, whatever device it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Medium {
    pub image: Image,
    pub read_only: bool,
    pub cache: Cache,
    pub discard: Discard,
    /// Bytes: 512 or 4096.
    pub logical_block_size: u32,
    pub io: DiskIo,
}

/// An open disk image. Its format is declared, never guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Image {
    Raw {
        file: Fd,
    },
    /// The image that the guest uses, then what lies below it, each below the one before.
    Chain(Vec<Layer>),
}

/// One image of a chain. All but the first are only read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    pub format: ImageFormat,
    pub file: Fd,
    /// Where its data lies, if not in `file`.
    #[serde(default)]
    pub data_file: Option<Fd>,
    /// The files of its extents, in their order.
    #[serde(default)]
    pub extents: Vec<Fd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    Raw,
    Qcow2,
    Vmdk,
    Vdi,
    /// VHD.
    Vpc,
}

impl Image {
    /// Every file of it.
    pub fn files(&self) -> Vec<Fd> {
        match self {
            Self::Raw { file } => vec![*file],
            Self::Chain(layers) => {
                let all = layers.iter();
                all.flat_map(|layer| {
                    [layer.file].into_iter().chain(layer.data_file).chain(layer.extents.clone())
                })
                .collect()
            }
        }
    }
}

/// libvirt's cache modes: what the host page cache does and when a write counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    None,
    Writethrough,
    Writeback,
    Directsync,
    Unsafe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    Ignore,
    Unmap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskIo {
    /// io_uring where the host has it, else plain system calls.
    Uring,
    Plain,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// An open tap per queue pair, in multi-queue mode when there are several.
    pub taps: Vec<Fd>,
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

/// A graphics card. Its picture is there also without a [`Vnc`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    pub model: VideoModel,
    /// Bytes of video memory: a power of two from 1 to 32 MiB.
    pub memory: u64,
    /// The size that its monitor prefers.
    pub resolution: (u16, u16),
    /// The VGA BIOS.
    pub rom: Option<Fd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoModel {
    /// With all that a PC's firmware looks for.
    Vga,
    /// `bochs-display`: a frame buffer alone.
    Bochs,
}

/// A VNC server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vnc {
    /// Listening stream sockets, TCP or unix.
    pub listeners: Vec<Fd>,
    /// None lets everyone in, an empty one nobody.
    pub password: Option<VncPassword>,
    pub sharing: VncSharing,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VncPassword {
    /// Eight bytes of it count.
    pub text: String,
    /// Seconds since the Unix epoch.
    pub valid_to: Option<u64>,
}

impl std::fmt::Debug for VncPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VncPassword").field("valid_to", &self.valid_to).finish_non_exhaustive()
    }
}

/// What becomes of the others when a viewer wants to be alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VncSharing {
    /// They have to go.
    AllowExclusive,
    /// They stay, and it has to go.
    ForceShared,
    /// All stay.
    Ignore,
}

/// Sockets between guest and host, carried by the host's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's address.
    pub cid: u32,
    /// An open `/dev/vhost-vsock` that belongs to nobody yet.
    pub vhost: Fd,
    pub io_thread: usize,
}

/// What a display's user works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub role: InputRole,
    pub io_thread: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputRole {
    Keyboard,
    Mouse,
    Tablet,
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
    /// The master side of a pseudo-terminal.
    pub pty: Option<Fd>,
    /// A listening unix stream socket (`<channel type='unix'>`).
    pub listener: Option<Fd>,
    /// Everything the guest writes is appended here.
    pub log: Option<Fd>,
    /// The process's own stdin and stdout.
    pub stdio: bool,
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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// A file that [`Request::Save`](crate::control::Request::Save) wrote.
    pub image: Fd,
}
