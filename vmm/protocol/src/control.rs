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

mod event;
mod request;
mod statistics;

use serde::{Deserialize, Serialize};

pub use event::{ErrorAction, Event, EventKind};
pub use request::{Codeset, DiskSwap, Request, SwapLayer};
pub use statistics::{
    BalloonStatistics, BlockStatistics, DirtyRate, DiskFault, InterfaceStatistics, Statistics,
    VcpuStatistics,
};

use crate::Version;
use crate::backup::{BackupStatus, BitmapStatus};
use crate::config::Identity;

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
