//! Messages on a VMM's control socket.
//!
//! ```text
//! client                                   VMM
//!   | -- Request 1: Hello ----------------> |   always first; a wrong version ends here
//!   | <- Reply 1: Hello (identity, state) - |
//!   | -- Request 2: Events { after } -----> |   what was missed, then live
//!   | <- Reply 2, Event, Event … ---------- |
//!   | -- Request n … ---------------------> |
//! ```
//! `Console`, `Screenshot` and `Viewer` are different: after the reply the connection carries raw
//! bytes, of a console, of a PNG file up to its end, or of the RFB protocol.

use serde::{Deserialize, Serialize};

use crate::Version;
use crate::backup::{BackupBegin, BackupStatus, BitmapChange, BitmapStatus};
use crate::config::{DiskErrors, DiskLimits, Identity, WatchdogAction};
use crate::exit::{CrashReport, ExitReason};

/// Files that may come with one request.
pub const MAX_FILES: usize = 64;

/// What a client sends. Replies carry the same `id`; several requests may be under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub id: u64,
    pub request: Request,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Hello {
        version: Version,
    },
    Status,
    /// Stop the vCPUs and drain the devices.
    Pause,
    Resume,
    /// The reset button.
    Reset,
    /// The power button: ask the guest to shut down.
    PowerButton,
    /// End the process now.
    Destroy,
    /// Send events from now on, beginning with those after this sequence number.
    Events {
        after: u64,
    },
    /// Turn this connection into a stream of a console (a serial or console-port id).
    Console {
        id: String,
        replay: bool,
        force: bool,
    },
    /// Turn this connection into a PNG of what a graphics card shows.
    Screenshot {
        id: String,
    },
    /// Turn this connection into that of a VNC viewer, which needs no password.
    Viewer {
        id: String,
    },
    /// Serve such a viewer at the other end of the socket passed beside this message (SCM_RIGHTS).
    AddViewer {
        id: String,
    },
    /// Press keys of the keyboard, or let them go.
    Keys {
        codes: Vec<u16>,
        codeset: Codeset,
        down: bool,
    },
    /// Give every vCPU a non-maskable interrupt.
    InjectNmi,
    /// Bytes of the guest's memory, at most [`crate::peek::MOST`].
    PeekMemory {
        address: u64,
        len: u32,
        /// By the page tables that the first vCPU uses now.
        linear: bool,
    },
    /// Bytes of a disk as the guest sees it, at most [`crate::peek::MOST`].
    PeekDisk {
        id: String,
        offset: u64,
        len: u32,
    },
    /// Measure for so many seconds how much memory the guest writes to; [`Statistics`] tells it then.
    MeasureDirtyRate {
        seconds: u32,
    },
    /// Replace what the next handshake returns as `live_record`.
    SetLiveRecord {
        record: String,
    },
    Statistics,
    /// Pull or plug the cable of an interface.
    SetLink {
        id: String,
        up: bool,
    },
    /// Ask the guest to live with so many bytes of memory, through its balloon.
    SetMemory {
        bytes: u64,
    },
    /// Read the guest's memory statistics every so many seconds; 0: no more.
    SetStatisticsPeriod {
        seconds: u32,
    },
    /// Replace a lifecycle action (`on_reboot` during a reboot that is really a shutdown …).
    SetLifecycle {
        lifecycle: crate::config::Lifecycle,
    },
    /// Open a drive, and take its medium out. With `force` also one that the guest has locked.
    Eject {
        id: String,
        force: bool,
    },
    /// Put the raw image passed beside this message (SCM_RIGHTS) into a drive, to be read only, and
    /// close it. What is in there is taken out first.
    Insert {
        id: String,
        force: bool,
        cache: crate::config::Cache,
        /// What the image is to the client; comes back in the event.
        source: String,
    },
    /// Put a device into a free slot with hotplug. Its descriptors are the places (0, 1, 2 …) of the
    /// files passed beside this message (SCM_RIGHTS), at most [`MAX_FILES`].
    Attach {
        device: Box<crate::config::PciDevice>,
        /// Of a disk, from the beginning.
        #[serde(default)]
        limits: Option<DiskLimits>,
        /// What a disk does when the host fails it; none: as usual.
        #[serde(default)]
        errors: Option<DiskErrors>,
    },
    /// Put a drive on a SCSI host that is there. Descriptors as of `Attach`.
    AttachDrive {
        /// The host's id.
        host: String,
        drive: Box<crate::config::Drive>,
        #[serde(default)]
        limits: Option<DiskLimits>,
        #[serde(default)]
        errors: Option<DiskErrors>,
    },
    /// Ask the guest to let go of a device, or tell it that a SCSI drive has gone;
    /// [`EventKind::DeviceRemoved`] says when it is so.
    Detach {
        id: String,
    },
    /// Have so many vCPUs: those that lack come at once, others the guest is asked to do without
    /// ([`EventKind::VcpusChanged`] says when one is gone).
    SetVcpus {
        count: u16,
    },
    /// Tell once when an image of a disk, counted from that which the guest uses, is written to beyond this
    /// place of its file ([`EventKind::ThresholdPassed`]); none: no more.
    SetThreshold {
        id: String,
        image: u16,
        place: Option<u64>,
        /// What the image is to the client; comes back in the event.
        name: String,
    },
    /// Make a disk larger.
    ResizeDisk {
        id: String,
        bytes: u64,
    },
    /// Make disks of other images, all of them at one moment of the guest, which does not notice; or,
    /// if one cannot be, none. Descriptors as of `Attach`.
    SwapDisks {
        swaps: Vec<DiskSwap>,
    },
    /// Keep disks as they are at one moment of the guest, which stands still meanwhile, in snapshots
    /// inside their qcow2 images; or, if one cannot be, keep none.
    SnapshotDisks {
        ids: Vec<String>,
        /// Of the snapshot in each image.
        name: String,
        /// Seconds since 1970.
        date: u64,
    },
    /// Delete the snapshots of this name inside the images of disks. One that is not there is deleted.
    DeleteDiskSnapshots {
        ids: Vec<String>,
        name: String,
    },
    /// Begin a block job on a disk that has none. Descriptors as of `Attach`.
    /// [`EventKind::BlockJob`] tells what becomes of it.
    StartBlockJob(Box<crate::block_job::BlockJob>),
    /// What block jobs there are, also those that have ended and nobody dismissed.
    BlockJobs,
    /// End the block job of a disk: with `pivot` one that is ready, and the guest uses the copy from
    /// now on; else the disk stays as it was.
    EndBlockJob {
        id: String,
        pivot: bool,
    },
    /// Copy so many bytes in a second; 0: as many as can be.
    LimitBlockJob {
        id: String,
        bandwidth: u64,
    },
    /// Forget a block job that has ended.
    DismissBlockJob {
        id: String,
    },
    /// Limit what a disk may do, in place of what was.
    LimitDisk(DiskLimits),
    /// What a disk does from now on when the host fails it. What is kept meanwhile is tried again all
    /// the same.
    SetErrorPolicy(DiskErrors),
    /// Give a network disk the connection passed beside this message (SCM_RIGHTS): a stream socket
    /// that does not block. It is closed where none is wanted.
    Connect {
        id: String,
    },
    /// Write the paused machine's state to the file passed beside this message (SCM_RIGHTS): its
    /// part of a [saved guest](crate::saved). The reply comes when all of it is on disk; until then
    /// the machine stays as it is, and other requests are answered.
    Save,
    /// The same in fewer bytes and more time: RAM is packed.
    SavePacked,
    /// Copy the memory of a guest that runs into the file passed beside this message (SCM_RIGHTS), and
    /// again what it writes to meanwhile. The reply comes when little is left: pause it then, and save
    /// the rest. Refused as a matter of state where not all writes can be known.
    CopyMemory,
    /// Save the paused machine into the file that its memory was copied to, as `Save` does.
    SaveRest,
    /// Write an ELF core of memory and vCPUs to the file passed beside this message (SCM_RIGHTS).
    /// The reply comes when all of it is on disk. A guest that runs goes on meanwhile: its vCPUs
    /// are as they were at the beginning, its memory as it is found.
    Dump,
    /// How far a save, a copy or a dump is.
    SaveProgress,
    /// Give up a save, a copy or a dump that is under way, which is then refused. A paused machine
    /// stays so.
    CancelSave,
    /// Begin to back disks up as they are at this moment; [`EventKind::BackupEnded`] says when it is
    /// done, or has failed.
    BackupBegin(Box<BackupBegin>),
    /// Forget a backup, which is given up if it is under way. None is no error.
    BackupEnd,
    /// The backup that there is.
    BackupStatus,
    /// Change dirty bitmaps, all at one moment.
    ChangeBitmaps {
        changes: Vec<BitmapChange>,
    },
    ListBitmaps,
}

/// What a disk is to be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSwap {
    pub id: String,
    /// The image that the guest uses, then what lies below it, each below the one before. One that is
    /// raw and has none below is used as it is.
    pub layers: Vec<SwapLayer>,
}

/// One image of a disk that is swapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapLayer {
    /// Of the images that the disk is made of now, counted from that which the guest uses. Its files
    /// stay as they were opened and locked. Those of images that are not kept are closed.
    Kept(u16),
    /// Locked by whoever opened it, as those of a new disk.
    New(crate::config::Layer),
}

/// What the numbers of keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codeset {
    /// `KEY_*` of `linux/input-event-codes.h`.
    Linux,
    /// Scan codes of set 1: `0xe0NN` for two bytes, or as QEMU writes it, the second with bit 7 set.
    Xt,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    Reply { id: u64, result: Result<Reply, ControlError> },
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Done,
    Hello(Hello),
    Status(Status),
    Statistics(Statistics),
    BlockJobs(Vec<crate::block_job::BlockJobStatus>),
    /// Bytes of memory that a save has dealt with, and all; the same when none is under way.
    Progress {
        done: u64,
        total: u64,
    },
    Backup(Option<BackupStatus>),
    /// In hexadecimal; none: there is no memory.
    Memory {
        hex: Option<String>,
    },
    Bitmaps(Vec<BitmapStatus>),
    /// Of a disk with so many bytes, in hexadecimal; none: it has no such place.
    DiskBytes {
        size: u64,
        hex: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub version: Version,
    pub identity: Identity,
    pub pid: u32,
    pub status: Status,
    pub live_record: String,
    /// Sequence number of the latest event.
    pub last_event: u64,
    /// What protects the host from this process (`seccomp: "on"`), as it found itself.
    pub sandbox: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub state: RunState,
    pub reason: StateReason,
    /// Since the process started, milliseconds.
    pub uptime_ms: u64,
    /// Ids of the channels that the guest has open; none: this VMM cannot tell.
    #[serde(default)]
    pub channels: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    Running,
    Paused,
    /// The guest ended and is kept (`preserve`); only destroy and reset are left.
    Stopped,
    Crashed,
}

/// libvirt's reasons, as far as a VMM knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateReason {
    Booted,
    Restored,
    Unpaused,
    User,
    StartingUp,
    Saving,
    Shutdown,
    Panicked,
    IoError,
    Watchdog,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 without gaps over the life of the process.
    pub seq: u64,
    /// Microseconds since the Unix epoch.
    pub time: u64,
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    Started,
    Paused,
    Resumed,
    /// The guest reset, by itself or from outside, and runs on.
    Reset,
    PowerButton,
    Crashed(CrashReport),
    /// A device refused to go on until its driver resets it.
    DeviceBroken {
        id: String,
        reason: String,
    },
    /// The host failed a request of a disk.
    BlockError {
        id: String,
        write: bool,
        error: String,
        #[serde(default)]
        action: ErrorAction,
        /// What was to be written has no room.
        #[serde(default)]
        no_space: bool,
    },
    LinkChanged {
        id: String,
        up: bool,
    },
    /// The guest opened or closed its side of a channel.
    ChannelChanged {
        id: String,
        open: bool,
    },
    /// A drive has opened or closed, by the guest's wish or from outside.
    TrayMoved {
        id: String,
        open: bool,
    },
    /// Another medium is in a drive; `source` as it came with `Insert`, none: it is empty.
    MediumChanged {
        id: String,
        source: Option<String>,
    },
    /// A device came into its slot.
    DeviceAdded {
        id: String,
    },
    /// A device is out of its slot: the guest has let go of it.
    DeviceRemoved {
        id: String,
    },
    /// There are so many vCPUs now.
    VcpusChanged {
        count: u16,
    },
    /// The guest did not reload its watchdog in time.
    Watchdog {
        id: String,
        action: WatchdogAction,
    },
    /// The guest set its clock: so many seconds ahead of UTC.
    ClockChanged {
        offset: i64,
    },
    /// The block job of a disk is ready, or has ended.
    BlockJob(crate::block_job::BlockJobStatus),
    /// An image was written to so many bytes beyond the place that `SetThreshold` named.
    ThresholdPassed {
        id: String,
        name: String,
        threshold: u64,
        excess: u64,
    },
    /// A network disk has lost its connection, or has one again.
    ConnectionChanged {
        id: String,
        up: bool,
        #[serde(default)]
        reason: Option<String>,
    },
    /// A network disk has lost its connection, and wants another (`Connect`). Comes again until it
    /// has one: whoever hears it tries once.
    ConnectionWanted {
        id: String,
        reason: String,
    },
    /// A backup that nobody ended is done, or failed.
    BackupEnded {
        error: Option<String>,
    },
    /// The process is about to end; the last event.
    Exiting(ExitReason),
    /// Events were dropped because this client was away too long; `Status` tells what is.
    Lost {
        up_to: u64,
    },
}

/// What was done about an error, by the disk's policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorAction {
    /// The guest saw it.
    #[default]
    Report,
    /// The guest was told that all is well.
    Ignore,
    /// The request is kept, and the guest paused.
    Stop,
}

/// Why requests of a disk are kept until the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFault {
    NoSpace,
    Unspecified,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// By vCPU index.
    pub vcpus: Vec<VcpuStatistics>,
    /// Resident set of the process, bytes.
    pub resident: u64,
    pub blocks: Vec<(String, BlockStatistics)>,
    pub interfaces: Vec<(String, InterfaceStatistics)>,
    /// Of a guest with a balloon.
    #[serde(default)]
    pub balloon: Option<BalloonStatistics>,
    /// Bus accesses no device answered.
    pub unhandled_accesses: u64,
    /// The last that was measured, or is.
    #[serde(default)]
    pub dirty_rate: Option<Box<DirtyRate>>,
}

/// How much of its memory the guest writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyRate {
    /// Seconds since 1970.
    pub started: u64,
    /// For how long it is measured.
    pub seconds: u32,
    /// MiB in a second; none: not yet known.
    pub rate: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VcpuStatistics {
    /// Time on a host CPU, nanoseconds.
    pub time_ns: u64,
    /// Exits that reached this process.
    pub exits: u64,
    /// It is not there at present.
    #[serde(default)]
    pub absent: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockStatistics {
    pub read_requests: u64,
    pub read_bytes: u64,
    pub write_requests: u64,
    pub write_bytes: u64,
    pub flush_requests: u64,
    /// Nanoseconds that requests of each kind took, all together.
    #[serde(default)]
    pub read_time: u64,
    #[serde(default)]
    pub write_time: u64,
    #[serde(default)]
    pub flush_time: u64,
    /// Of the image that the guest uses: where a write tells that it went beyond, as nothing has yet.
    #[serde(default)]
    pub threshold: Option<u64>,
    /// Requests that the host failed.
    pub errors: u64,
    /// Requests that it failed are kept: the guest is paused, and they are retried when it goes on.
    #[serde(default)]
    pub fault: Option<DiskFault>,
    /// Of a network disk: it has its server.
    #[serde(default)]
    pub connected: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatistics {
    /// The host's kernel moves the packets: its counters of the tap are those that count.
    #[serde(default)]
    pub by_kernel: bool,
    pub receive_packets: u64,
    pub receive_bytes: u64,
    pub receive_drops: u64,
    pub transmit_packets: u64,
    pub transmit_bytes: u64,
    pub transmit_drops: u64,
}

/// Bytes, and counts of events. What the guest does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BalloonStatistics {
    /// What the guest has at present.
    pub memory: u64,
    pub swap_in: Option<u64>,
    pub swap_out: Option<u64>,
    pub major_faults: Option<u64>,
    pub minor_faults: Option<u64>,
    pub free: Option<u64>,
    pub total: Option<u64>,
    pub available: Option<u64>,
    pub caches: Option<u64>,
    pub huge_allocations: Option<u64>,
    pub huge_failures: Option<u64>,
    /// Seconds since the Unix epoch; 0: it never said anything.
    pub updated: u64,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    pub code: ControlErrorCode,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlErrorCode {
    /// The message was not understood.
    Malformed,
    /// Another protocol version; `Hello` says which.
    Version,
    /// Not in this state of the machine.
    State,
    /// No device of that id.
    NotFound,
    /// Another client has the console.
    Busy,
    /// The VMM failed to do it.
    Failed,
}
