//! The JSON of the HTTP API: what goes over the wire, and nothing of how it is made.
//!
//! Units stand in the names (`memory_bytes`, `cpu_time_ns`). Members may be added; a client ignores
//! those it does not know. Sizes that XML and `virsh` show in KiB are bytes here.

mod audit;
mod backup;
mod block_job;
mod device;
mod display;
mod domain;
mod event;
mod guest;
mod guest_cpus;
mod host;
mod host_devices;
mod image;
mod import;
mod job;
mod metadata;
mod network;
mod node;
mod plan;
mod problem;
mod saved;
mod snapshot;
mod stats;
mod storage;
mod token;
mod tuning;
mod user;

pub use audit::{AuditLog, AuditRecord, AuditTarget};
pub use backup::{BeginBackup, Checkpoint, CheckpointList, CreateCheckpoint};
pub use block_job::{BlockJob, BlockJobKind, BlockJobLimit, BlockWork, StartBlockJob};
pub use device::{
    Affects, Detached, Disk, DiskSize, DiskSizes, DiskThreshold, Interface, InterfaceAddress,
    LifecycleAction, Link, LinkState, Medium, MediumAction, Memory, StatsPeriod,
};
pub use display::SendKeys;
pub use domain::{
    AtShutdown, Autostart, CloudInit, Defined, Definition, Domain, DomainAutostart, DomainList,
    DomainState, DomainSummary, ForgottenSnapshots, ListQuery, Nvram, Rename, SecurityFact, Start,
    StateName,
};
pub use event::{Event, JobProgress};
pub use guest::{
    AgentCommand, FilesystemCount, Freeze, GuestAddress, GuestDisk, GuestExec, GuestExecStatus,
    GuestFilesystem, GuestFilesystemDisk, GuestHostname, GuestInfo, GuestInterface, GuestOs,
    GuestProcess, GuestTime, GuestTimezone, GuestUser, Password, Trim, Trimmed,
};
pub use guest_cpus::{
    AgentTimeout, GuestVcpu, GuestVcpuChange, SshKeyChange, SshKeyMode, SshKeys, VcpuChange,
};
pub use host::{
    Cell, CellList, CpuBaseline, CpuComparison, CpuCounters, CpuResult, HugePages, Pages,
    SharedMemory, SharedMemoryTuning,
};
pub use host_devices::{
    Filter, FilterBinding, FilterBindingList, FilterList, HostInterface, HostInterfaceList,
    NodeDevice, NodeDeviceList,
};
pub use image::{ImageUser, ImageUserList, ImageUserType};
pub use import::{Import, ImportDocument, ImportKind, ImportPlan, ImportVerdict, ImportedObject};
pub use job::{Job, JobList, JobPhase};
pub use metadata::{Metadata, MetadataChange, MetadataElement};
pub use network::{Lease, Network, NetworkList, NetworkPort, UpdateNetwork};
pub use node::{Node, NodeCounters, Quarantined};
pub use plan::{Plan, PlannedChange};
pub use problem::{Mistake, Problem, TYPE_PREFIX};
pub use saved::{
    CloneDomain, CloneSaved, DefineSaved, DumpDomain, DumpMode, ManagedSave, RestoreDomain,
    Restored, SaveDomain, SaveFormat, SavedFile,
};
pub use snapshot::{
    CreateSnapshot, RedefineSnapshot, Revert, Snapshot, SnapshotJob, SnapshotList, SnapshotName,
    SnapshotReach,
};
pub use stats::{
    BalloonStats, BlockStats, DirtyRate, DomainStats, InterfaceStats, MeasureDirtyRate, StatsList,
    VcpuStats,
};
pub use storage::{
    CloneMode, CloneVolume, MadeVolume, Pool, PoolList, ResizeVolume, Volume, VolumeList,
};
pub use token::{CreateToken, NewToken, Role, Token, TokenList};

pub use tuning::{
    BlockDeviceTuning, BlockTuning, CpuTuning, DiskTuning, InterfaceTuning, MemoryTuning,
    NumaTuning, Pin, Pins, RateTuning, Sizes, Tuning,
};
pub use user::{SetUser, User, UserList};

/// Serialised problems, for `Content-Type`.
pub const PROBLEM_JSON: &str = "application/problem+json";
pub const XML: &str = "application/xml";
