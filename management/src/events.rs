//! What happened, in order and for everyone: numbered events that survive a daemon's restart.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::auth::Scope;
use crate::domain::{BlockJobKind, DomainId};
use crate::journal::Journal;

/// Something that happened. Ids grow by one over the life of the host's boot, also over restarts
/// of the daemon, so that a client that was away can ask for what it missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: u64,
    pub time: jiff::Timestamp,
    /// None for an event of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainId>,
    #[serde(flatten)]
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    Lifecycle {
        lifecycle: Lifecycle,
        /// Why, where libvirt's words do not say enough (`triple fault on vCPU 1`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The guest reset and runs on.
    Reboot,
    /// A disk request failed.
    IoError {
        device: String,
        write: bool,
        error: String,
        #[serde(default)]
        action: IoErrorAction,
        /// What was to be written has no room (libvirt's reason `enospc`).
        #[serde(default)]
        no_space: bool,
    },
    /// A network disk has lost its server, or has it again.
    DiskConnection {
        device: String,
        connected: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A device refused to go on until its driver resets it.
    DeviceBroken {
        device: String,
        reason: String,
    },
    LinkChanged {
        device: String,
        up: bool,
    },
    /// The guest opened or closed its side of a channel.
    ChannelLifecycle {
        device: String,
        /// What it is called in the guest.
        channel: String,
        connected: bool,
    },
    /// The guest's agent came or went.
    AgentLifecycle {
        connected: bool,
    },
    /// A drive has opened or closed.
    TrayChange {
        device: String,
        open: bool,
    },
    /// Another medium is in a drive.
    DiskChange {
        device: String,
        /// None: the drive is empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// A block job is ready, or has ended.
    BlockJob {
        /// `vda`
        disk: String,
        /// The image that it began with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        kind: BlockJobKind,
        change: BlockJobChange,
    },
    /// An image was written to beyond a place of it that somebody wanted to hear of.
    BlockThreshold {
        /// `vda`, or `vda[2]` of one below.
        disk: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        threshold: u64,
        /// Bytes beyond it.
        excess: u64,
    },
    /// A device came into the running domain.
    DeviceAdded {
        device: String,
    },
    /// A device has left the running domain.
    DeviceRemoved {
        device: String,
    },
    /// The running domain has so many vCPUs now.
    VcpusChange {
        count: u16,
    },
    /// What is noted about the domain is something else.
    MetadataChange {
        kind: MetadataKind,
        /// Of an element: its namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uri: Option<String>,
    },
    /// The guest did not reload its watchdog in time.
    Watchdog {
        device: String,
        /// What was done about it, in libvirt's word.
        action: String,
    },
    /// The guest set its clock: so many seconds ahead of UTC.
    RtcChange {
        offset: i64,
    },
    /// The VMM stopped answering, or answers again.
    Reachable {
        reachable: bool,
    },
    AutostartChanged {
        autostart: bool,
    },
    /// Something was done to a pool, or to a volume of it.
    Pool {
        pool: String,
        pool_uuid: Uuid,
        change: PoolChange,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
    },
    /// Something was done to a network.
    Network {
        network: String,
        network_uuid: Uuid,
        change: NetworkChange,
    },
    /// Something was done to a secret.
    Secret {
        secret: Uuid,
        /// libvirt's word for what it is for, and which one of these.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<String>,
        #[serde(default)]
        usage_id: String,
        change: SecretChange,
    },
    /// A device of the host came, went or is another.
    NodeDevice {
        device: String,
        change: NodeDeviceChange,
    },
    /// A tap of the domain is in a network, or is there no more.
    NetworkPort {
        network: String,
        /// The tap.
        device: String,
        added: bool,
    },
    /// A guest of a network was given an address, or has it no more.
    NetworkLease {
        network: String,
        network_uuid: Uuid,
        address: IpAddr,
        /// None: a client of IPv6 that does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        change: LeaseChange,
    },
    /// Somebody had changed the packet filter's rules of networks, and they are as they were.
    RulesRestored,
    /// A job began, has come further, or ended.
    Job {
        job: Uuid,
        kind: String,
        object: String,
        phase: String,
        done: u64,
        total: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Events up to this one are gone; ask for the state instead.
    Lost {
        up_to: u64,
    },
}

impl EventKind {
    /// The name of the event's kind, as libvirt's `virsh event --list` and our streams use it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lifecycle { .. } => "lifecycle",
            Self::Reboot => "reboot",
            Self::IoError { .. } => "io-error",
            Self::DiskConnection { .. } => "disk-connection",
            Self::DeviceBroken { .. } => "device-broken",
            Self::LinkChanged { .. } => "link-changed",
            Self::ChannelLifecycle { .. } => "channel-lifecycle",
            Self::AgentLifecycle { .. } => "agent-lifecycle",
            Self::TrayChange { .. } => "tray-change",
            Self::DiskChange { .. } => "disk-change",
            Self::BlockJob { .. } => "block-job",
            Self::BlockThreshold { .. } => "block-threshold",
            Self::DeviceAdded { .. } => "device-added",
            Self::DeviceRemoved { .. } => "device-removed",
            Self::VcpusChange { .. } => "vcpus-change",
            Self::MetadataChange { .. } => "metadata-change",
            Self::Watchdog { .. } => "watchdog",
            Self::RtcChange { .. } => "rtc-change",
            Self::Reachable { .. } => "reachable",
            Self::AutostartChanged { .. } => "autostart-changed",
            Self::Pool { .. } => "pool",
            Self::Secret { .. } => "secret",
            Self::Network { .. } => "network",
            Self::NodeDevice { .. } => "node-device",
            Self::NetworkPort { .. } => "network-port",
            Self::NetworkLease { .. } => "network-lease",
            Self::RulesRestored => "rules-restored",
            Self::Job { .. } => "job",
            Self::Lost { .. } => "lost",
        }
    }
}

/// What of a domain's notes has changed (libvirt's `virDomainMetadataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetadataKind {
    Description,
    Title,
    Element,
}

impl MetadataKind {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Title => "title",
            Self::Element => "element",
        }
    }
}

/// What became of a block job (libvirt's `virConnectDomainEventBlockJobStatus`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockJobChange {
    Completed,
    /// The disk is as it was.
    Failed {
        error: String,
    },
    Cancelled,
    /// Both sides are the same, until it is ended.
    Ready,
}

impl BlockJobChange {
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Ready => "ready",
        }
    }

    /// libvirt's number of it.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Completed => 0,
            Self::Failed { .. } => 1,
            Self::Cancelled => 2,
            Self::Ready => 3,
        }
    }
}

/// `virDomainEventIOErrorAction`: what was done about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoErrorAction {
    /// Nothing: the guest knows nothing of it.
    None,
    /// The guest is paused until somebody resumes it, and then the request is tried again.
    Pause,
    /// The guest has seen the error.
    #[default]
    Report,
}

impl IoErrorAction {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pause => "pause",
            Self::Report => "report",
        }
    }
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseChange {
    Given,
    /// It was released, has run out, or is another's.
    Ended,
}

impl LeaseChange {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Given => "Given",
            Self::Ended => "Ended",
        }
    }
}

/// What was done to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChange {
    Defined,
    Undefined,
    Started,
    Stopped,
}

impl NetworkChange {
    /// libvirt's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Defined => "Defined",
            Self::Undefined => "Undefined",
            Self::Started => "Started",
            Self::Stopped => "Stopped",
        }
    }
}

/// What became of a device of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeDeviceChange {
    Created,
    Deleted,
    /// Something that is told of it.
    Updated,
}

impl NodeDeviceChange {
    /// libvirt's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Deleted => "Deleted",
            Self::Updated => "Updated",
        }
    }
}

/// What was done to a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretChange {
    Defined,
    Undefined,
    ValueChanged,
}

impl SecretChange {
    /// libvirt's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Defined => "Defined",
            Self::Undefined => "Undefined",
            Self::ValueChanged => "Value changed",
        }
    }
}

/// What was done to a pool or a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolChange {
    Defined,
    Undefined,
    Built,
    Started,
    Stopped,
    Deleted,
    Refreshed,
    VolumeCreated,
    VolumeDeleted,
    VolumeResized,
    VolumeUploaded,
    VolumeWiped,
}

impl PoolChange {
    /// libvirt's word of a pool's lifecycle, or one made like it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Defined => "Defined",
            Self::Undefined => "Undefined",
            Self::Built => "Created",
            Self::Started => "Started",
            Self::Stopped => "Stopped",
            Self::Deleted => "Deleted",
            Self::Refreshed => "Refreshed",
            Self::VolumeCreated => "Volume Created",
            Self::VolumeDeleted => "Volume Deleted",
            Self::VolumeResized => "Volume Resized",
            Self::VolumeUploaded => "Volume Uploaded",
            Self::VolumeWiped => "Volume Wiped",
        }
    }
}

/// libvirt's lifecycle events together with their details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    DefinedAdded,
    DefinedUpdated,
    DefinedRenamed,
    UndefinedRemoved,
    UndefinedRenamed,
    StartedBooted,
    StartedRestored,
    SuspendedPaused,
    SuspendedIoError,
    SuspendedWatchdog,
    ResumedUnpaused,
    StoppedShutdown,
    StoppedDestroyed,
    StoppedCrashed,
    StoppedSaved,
    StoppedFailed,
    ShutdownFinished,
    CrashedPanicked,
}

impl Lifecycle {
    /// Event and detail in virsh's words (`Started`, `Booted`).
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::DefinedAdded => ("Defined", "Added"),
            Self::DefinedUpdated => ("Defined", "Updated"),
            Self::DefinedRenamed => ("Defined", "Renamed"),
            Self::UndefinedRemoved => ("Undefined", "Removed"),
            Self::UndefinedRenamed => ("Undefined", "Renamed"),
            Self::StartedBooted => ("Started", "Booted"),
            Self::StartedRestored => ("Started", "Restored"),
            Self::SuspendedPaused => ("Suspended", "Paused"),
            Self::SuspendedWatchdog => ("Suspended", "Watchdog"),
            Self::SuspendedIoError => ("Suspended", "I/O Error"),
            Self::ResumedUnpaused => ("Resumed", "Unpaused"),
            Self::StoppedShutdown => ("Stopped", "Shutdown"),
            Self::StoppedDestroyed => ("Stopped", "Destroyed"),
            Self::StoppedCrashed => ("Stopped", "Crashed"),
            Self::StoppedSaved => ("Stopped", "Saved"),
            Self::StoppedFailed => ("Stopped", "Failed"),
            Self::ShutdownFinished => ("Shutdown", "Finished"),
            Self::CrashedPanicked => ("Crashed", "Panicked"),
        }
    }

    /// `virDomainEventType` and its detail.
    #[must_use]
    pub fn codes(self) -> (i32, i32) {
        match self {
            Self::DefinedAdded => (0, 0),
            Self::DefinedUpdated => (0, 1),
            Self::DefinedRenamed => (0, 2),
            Self::UndefinedRemoved => (1, 0),
            Self::UndefinedRenamed => (1, 1),
            Self::StartedBooted => (2, 0),
            Self::StartedRestored => (2, 2),
            Self::SuspendedPaused => (3, 0),
            Self::SuspendedIoError => (3, 2),
            Self::SuspendedWatchdog => (3, 3),
            Self::ResumedUnpaused => (4, 0),
            Self::StoppedShutdown => (5, 0),
            Self::StoppedDestroyed => (5, 1),
            Self::StoppedCrashed => (5, 2),
            Self::StoppedSaved => (5, 4),
            Self::StoppedFailed => (5, 5),
            Self::ShutdownFinished => (6, 0),
            Self::CrashedPanicked => (8, 0),
        }
    }
}

/// A place in the stream of events. Dropping it ends the subscription; a slow reader loses
/// nothing but what falls out of the journal, and is told so by [`EventKind::Lost`].
pub struct Subscription {
    journal: Arc<Journal>,
    after: u64,
    domain: Option<Uuid>,
    scope: Option<Scope>,
    latest: watch::Receiver<u64>,
}

impl Subscription {
    pub(crate) fn new(
        journal: Arc<Journal>,
        after: u64,
        domain: Option<Uuid>,
        latest: watch::Receiver<u64>,
    ) -> Self {
        Self { journal, after, domain, scope: None, latest }
    }

    /// Without what is not about these domains.
    #[must_use]
    pub(crate) fn within(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// Who follows a domain is told of the node as well, but not of pools, networks and jobs.
    fn wants(&self, event: &Event) -> bool {
        if let (Some(scope), Some(domain)) = (&self.scope, &event.domain)
            && !scope.admits(domain)
        {
            return false;
        }
        match (self.domain, &event.domain) {
            (None, None) if self.scope.is_none() => true,
            (None, Some(_)) => true,
            (Some(own), Some(domain)) => own == domain.uuid,
            (_, None) => !matches!(
                event.kind,
                EventKind::Pool { .. }
                    | EventKind::Network { .. }
                    | EventKind::NetworkLease { .. }
                    | EventKind::Secret { .. }
                    | EventKind::NodeDevice { .. }
                    | EventKind::Job { .. }
            ),
        }
    }

    /// The next event; none when the daemon stops. May be dropped and asked again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            self.latest.borrow_and_update();
            while let Some(event) = self.journal.after(self.after) {
                self.after = event.id;
                if self.wants(&event) {
                    return Some(event);
                }
            }
            self.latest.changed().await.ok()?;
        }
    }
}
