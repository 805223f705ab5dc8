//! What callers are told of a domain.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{State, Turn};

/// The two names a domain keeps: UUID for programs, name for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DomainId {
    pub uuid: Uuid,
    pub name: String,
}

/// One row of `list`, complete enough that no second call is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSummary {
    /// Only of an active domain; new at each start.
    pub id: Option<u32>,
    pub uuid: Uuid,
    pub name: String,
    pub title: Option<String>,
    pub state: State,
    /// Has a stored definition; else it vanishes when it stops.
    pub persistent: bool,
    pub autostart: bool,
    /// KiB.
    pub max_memory: u64,
    /// KiB; 0 while off.
    pub memory: u64,
    pub vcpus: u32,
    pub max_vcpus: u32,
    /// Nanoseconds on host CPUs since the start, of the VMM's process as a whole: as exact as the
    /// kernel's ticks.
    pub cpu_time: u64,
    /// Its next start goes on from a saved state.
    pub managed_save: bool,
}

/// What `dominfo` shows, and what else there is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDetails {
    pub summary: DomainSummary,
    /// `hvm`
    pub os_type: String,
    pub description: Option<String>,
    /// The machine as the definition names it (`pc-q35-7.2`), and Manor's pinned platform version.
    pub machine: String,
    pub platform_version: u16,
    /// When it comes up and goes down with the host.
    pub turn: Turn,
    /// Counts the changes of the stored definition; none of a transient domain.
    pub generation: Option<u64>,
    /// The stored definition differs from what runs, until the next start.
    pub pending_changes: bool,
    /// Milliseconds since the start.
    pub uptime: Option<u64>,
    pub pid: Option<u32>,
    /// Ids that [`OpenConsole`](crate::ops::OpenConsole) takes; the first is the default.
    pub consoles: Vec<String>,
    /// What protects the host from the VMM, in its own words (`seccomp: on`).
    pub sandbox: Vec<(String, String)>,
    /// Why the domain stopped the last time, with the guest's registers if it crashed.
    pub last_exit: Option<String>,
    /// Things accepted in the definition and left out.
    pub warnings: Vec<String>,
}

/// Counters of a running domain. Never waits for a VMM beyond a deadline: `age` says how old
/// the figures are.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainStats {
    pub summary: Arc<DomainSummary>,
    /// Milliseconds since the VMM gave these figures; none: it never did.
    pub age: Option<u64>,
    /// Bytes.
    pub resident: u64,
    /// Of a guest with a balloon.
    pub balloon: Option<BalloonStats>,
    pub vcpus: Vec<VcpuStats>,
    pub blocks: Vec<BlockStats>,
    pub interfaces: Vec<InterfaceStats>,
    /// Numbers of its io threads.
    pub io_threads: Vec<u32>,
    /// How much memory it writes to, where that was measured, or is.
    pub dirty_rate: Option<DirtyRate>,
    /// Bus accesses of the guest that no device answered.
    pub unhandled_accesses: u64,
}

/// How much of its memory a guest writes to in a second, as measured once (virDomainStartDirtyRateCalc).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirtyRate {
    /// Seconds since 1970.
    pub started: u64,
    /// For how long it was measured, or is.
    pub seconds: u32,
    /// MiB in a second; none: it is being measured.
    pub rate: Option<u64>,
}

impl DomainStats {
    /// Of a domain that has no VMM to count anything.
    #[must_use]
    pub(crate) fn of_none(summary: Arc<DomainSummary>) -> Self {
        Self {
            summary,
            age: None,
            resident: 0,
            balloon: None,
            vcpus: Vec::new(),
            blocks: Vec::new(),
            interfaces: Vec::new(),
            io_threads: Vec::new(),
            dirty_rate: None,
            unhandled_accesses: 0,
        }
    }
}

/// Bytes, and counts of events. What the guest does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalloonStats {
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
    /// Seconds since the Unix epoch; none: the guest never said anything.
    pub updated: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VcpuStats {
    /// Nanoseconds.
    pub time: u64,
    pub exits: u64,
    /// The host's on which it ran last.
    pub cpu: Option<u32>,
    /// The guest has it at present.
    pub online: bool,
}

/// Why a guest waits for a disk (virDomainDiskErrorCode).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    NoSpace,
    Unspecified,
}

impl DiskFault {
    /// virsh's words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoSpace => "no space",
            Self::Unspecified => "unspecified error",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// `vda`
    pub target: String,
    pub source: Option<String>,
    pub read_requests: u64,
    pub read_bytes: u64,
    pub write_requests: u64,
    pub write_bytes: u64,
    pub flush_requests: u64,
    /// Nanoseconds that requests of each kind took, all together.
    pub read_time: u64,
    pub write_time: u64,
    pub flush_time: u64,
    /// Of the image that the guest uses: an event tells when it is written to beyond this, as it was not yet.
    pub threshold: Option<u64>,
    /// Requests that the host failed.
    pub errors: u64,
    /// Why the guest waits for the disk, if it does.
    pub fault: Option<DiskFault>,
    /// Of a network disk: it has its server.
    pub connected: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// The tap on the host.
    pub target: String,
    /// The bridge, where there is one.
    pub source: Option<String>,
    pub mac: String,
    pub receive_packets: u64,
    pub receive_bytes: u64,
    pub receive_drops: u64,
    pub transmit_packets: u64,
    pub transmit_bytes: u64,
    pub transmit_drops: u64,
}

/// A row of `domblklist --details`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRow {
    /// `file`, `block` …
    pub kind: String,
    /// `disk`, `cdrom` …
    pub device: String,
    pub target: String,
    pub source: Option<String>,
}

/// How large a disk is, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSizes {
    /// As the guest sees it.
    pub capacity: u64,
    /// What the host has given for it.
    pub allocation: u64,
    /// Of its image, with holes.
    pub physical: u64,
}

/// A row of `domifaddr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRow {
    /// The tap.
    pub interface: String,
    pub mac: String,
    pub address: std::net::IpAddr,
    pub prefix: u8,
}

/// A row of `domiflist`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceRow {
    /// The tap; none while the domain is off and the definition names none.
    pub target: Option<String>,
    /// `bridge`, `ethernet` …
    pub kind: String,
    pub source: Option<String>,
    pub model: Option<String>,
    pub mac: String,
    /// Its cable is plugged in.
    pub link_up: bool,
}
