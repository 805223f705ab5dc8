//! What a VMM tells without being asked.

use serde::{Deserialize, Serialize};

use crate::config::WatchdogAction;
use crate::exit::{CrashReport, ExitReason};

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
