//! What a VMM can be asked to do.

use serde::{Deserialize, Serialize};

use crate::Version;
use crate::backup::{BackupBegin, BitmapChange};
use crate::config::{DiskErrors, DiskLimits};

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
    /// Measure for so many seconds how much memory the guest writes to;
    /// [`Statistics`](super::Statistics) tells it then.
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
    /// files passed beside this message (SCM_RIGHTS), at most [`MAX_FILES`](super::MAX_FILES).
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
    /// [`EventKind::DeviceRemoved`](super::EventKind::DeviceRemoved) says when it is so.
    Detach {
        id: String,
    },
    /// Have so many vCPUs: those that lack come at once, others the guest is asked to do without
    /// ([`EventKind::VcpusChanged`](super::EventKind::VcpusChanged) says when one is gone).
    SetVcpus {
        count: u16,
    },
    /// Tell once when an image of a disk, counted from that which the guest uses, is written to beyond this
    /// place of its file ([`EventKind::ThresholdPassed`](super::EventKind::ThresholdPassed)); none: no more.
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
    /// [`EventKind::BlockJob`](super::EventKind::BlockJob) tells what becomes of it.
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
    /// Begin to back disks up as they are at this moment;
    /// [`EventKind::BackupEnded`](super::EventKind::BackupEnded) says when it is done, or has failed.
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
