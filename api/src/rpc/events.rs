//! Events for those who registered a callback, in libvirt's shapes.

use std::sync::Arc;

use management::domain::DomainRef;
use management::events::{
    Event, EventKind, MetadataKind, NetworkChange, NodeDeviceChange, PoolChange, SecretChange,
};
use management::ops::{FindDomain, Subscribe, WatchNodeDevices};
use uuid::Uuid;

use super::failure::{Area, Failure};
use super::procedures::block_job;
use super::procedures::secret::usage_number;
use super::protocol::object::{Domain, Network, NodeDevice, Pool, Secret};
use super::protocol::packet::{self, Header, REMOTE};
use super::protocol::xdr::Encode;
use super::session::{Gone, Session};

/// What a client wants to hear of: one of libvirt's kinds of events, of one object or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Callback {
    pub(crate) topic: Topic,
    pub(crate) event: i32,
    pub(crate) only: Option<Uuid>,
    /// Of the old kind, which has no number in its messages.
    pub(crate) old: bool,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
enum Recipient {
    Callback(i32),
    /// All of a client that registered for them in the old way.
    Old,
}

impl Encode for Recipient {
    fn encode(&self, to: &mut Vec<u8>) {
        if let Self::Callback(number) = self {
            number.encode(to);
        }
    }
}

/// The same messages, as those who registered in the old way expect them.
const OLD: [(i32, i32); 11] = [
    (318, 107),
    (319, 169),
    (320, 170),
    (321, 171),
    (322, 172),
    (324, 195),
    (326, 241),
    (327, 248),
    (328, 268),
    (331, 276),
    (333, 311),
];

impl Recipient {
    /// None: libvirt has no such message of the old kind.
    fn procedure(self, procedure: i32) -> Option<i32> {
        match self {
            Self::Callback(_) => Some(procedure),
            Self::Old => OLD.iter().find(|(new, _)| *new == procedure).map(|(_, old)| *old),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Domain,
    Network,
    Pool,
    Secret,
    NodeDevice,
}

impl Topic {
    /// Kinds of events that libvirt has for it.
    fn kinds(self) -> i32 {
        match self {
            Self::Domain => 27,
            Self::Network => 1,
            Self::Pool | Self::Secret | Self::NodeDevice => 2,
        }
    }
}

/// Note what a client wants, and see to it that it is told.
pub(super) async fn register(session: &Arc<Session>, callback: Callback) -> Result<i32, Failure> {
    if !(0..callback.topic.kinds()).contains(&callback.event) {
        let text = format!("there is no event {}", callback.event);
        return Err(Failure::invalid_argument(Area::Node, &text));
    }
    if callback.topic == Topic::NodeDevice {
        session.ask(Area::NodeDevice, WatchNodeDevices).await?;
    }
    // What happens from now on is told, also what happens before the answer is read.
    let subscribe = Subscribe { after: None, domain: None };
    let mut events = session.ask(Area::Node, subscribe).await?;
    let number = session.add_callback(callback)?;
    if session.begin_telling() {
        let session = session.clone();
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = session.gone() => return,
                    event = events.next() => event,
                };
                let Some(event) = event else { return };
                if tell(&session, &event).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(number)
}

/// An event of the old kind that nobody wants any more.
pub(super) fn deregister_old(session: &Session, event: i32) -> Result<(), Failure> {
    let is_it = |callback: &Callback| callback.old && callback.event == event;
    let found = session.callbacks().into_iter().find(|(_, callback)| is_it(callback));
    match found {
        Some((number, _)) => deregister(session, number),
        None => {
            let text = format!("nobody has registered for event {event}");
            Err(Failure::invalid_argument(Area::Node, &text))
        }
    }
}

pub(super) fn deregister(session: &Session, number: i32) -> Result<(), Failure> {
    if session.remove_callback(number) {
        return Ok(());
    }
    let text = format!("there is no callback {number}");
    Err(Failure::invalid_argument(Area::Node, &text))
}

/// One event, to each callback that wants it.
pub(super) async fn tell(session: &Session, event: &Event) -> Result<(), Gone> {
    if let EventKind::Lost { .. } = event.kind {
        session.falls_behind();
        return Err(Gone);
    }
    let wants = |callback: &Callback, topic: Topic, about: Uuid| {
        callback.topic == topic && callback.only.is_none_or(|only| only == about)
    };
    let callbacks = session.callbacks();
    let packets = match (&event.domain, &event.kind) {
        (Some(domain), kind) => {
            let wanted: Vec<_> = callbacks
                .into_iter()
                .filter(|(_, callback)| wants(callback, Topic::Domain, domain.uuid))
                .collect();
            if wanted.is_empty() {
                return Ok(());
            }
            // One that is gone has no number any more.
            let find = FindDomain { domain: DomainRef::Uuid(domain.uuid) };
            let id = session.domain(find).await.ok().and_then(|found| found.id);
            let id = id.and_then(|id| i32::try_from(id).ok()).unwrap_or(-1);
            let domain = Domain { name: domain.name.clone(), uuid: domain.uuid, id };
            of_domain(&wanted, &domain, kind)
        }
        (None, EventKind::Network { network, network_uuid, change }) => {
            let network = Network { name: network.clone(), uuid: *network_uuid };
            let change = match change {
                NetworkChange::Defined => 0,
                NetworkChange::Undefined => 1,
                NetworkChange::Started => 2,
                NetworkChange::Stopped => 3,
            };
            callbacks
                .into_iter()
                .filter(|(_, callback)| wants(callback, Topic::Network, *network_uuid))
                .map(|(number, _)| message(315, &(number, network.clone(), change, 0)))
                .collect()
        }
        (None, EventKind::Pool { pool, pool_uuid, change, volume: None }) => {
            let pool = Pool { name: pool.clone(), uuid: *pool_uuid };
            callbacks
                .into_iter()
                .filter(|(_, callback)| wants(callback, Topic::Pool, *pool_uuid))
                .filter_map(|(number, callback)| of_pool(number, callback.event, &pool, *change))
                .collect()
        }
        (None, EventKind::Secret { secret, usage, usage_id, change }) => {
            let about = Secret {
                uuid: *secret,
                usage_type: usage_number(usage.as_deref()),
                usage_id: usage_id.clone(),
            };
            callbacks
                .into_iter()
                .filter(|(_, callback)| wants(callback, Topic::Secret, *secret))
                .filter_map(|(number, callback)| of_secret(number, callback.event, &about, *change))
                .collect()
        }
        (None, EventKind::NodeDevice { device, change }) => {
            let about = NodeDevice { name: device.clone() };
            callbacks
                .into_iter()
                .filter(|(_, callback)| wants(callback, Topic::NodeDevice, device_id(device)))
                .filter_map(|(number, callback)| {
                    of_node_device(number, callback.event, &about, *change)
                })
                .collect()
        }
        _ => Vec::new(),
    };
    for packet in packets {
        session.send(packet).await?;
    }
    Ok(())
}

fn message(procedure: i32, body: &impl Encode) -> Vec<u8> {
    packet::encode(Header::message(REMOTE, procedure), body)
}

fn message_to(recipient: Recipient, procedure: i32, body: &impl Encode) -> Option<Vec<u8>> {
    recipient.procedure(procedure).map(|procedure| message(procedure, body))
}

/// A device of the host has a name alone; this stands for it where others have a UUID.
pub(super) fn device_id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn of_node_device(
    number: i32,
    event: i32,
    device: &NodeDevice,
    change: NodeDeviceChange,
) -> Option<Vec<u8>> {
    const LIFECYCLE: i32 = 0;
    const UPDATE: i32 = 1;
    match (event, change) {
        (LIFECYCLE, NodeDeviceChange::Created) => {
            Some(message(376, &(number, device.clone(), 0, 0)))
        }
        (LIFECYCLE, NodeDeviceChange::Deleted) => {
            Some(message(376, &(number, device.clone(), 1, 0)))
        }
        (UPDATE, NodeDeviceChange::Updated) => Some(message(377, &(number, device.clone()))),
        _ => None,
    }
}

fn of_secret(number: i32, event: i32, secret: &Secret, change: SecretChange) -> Option<Vec<u8>> {
    const LIFECYCLE: i32 = 0;
    const VALUE_CHANGED: i32 = 1;
    match (event, change) {
        (LIFECYCLE, SecretChange::Defined) => Some(message(382, &(number, secret.clone(), 0, 0))),
        (LIFECYCLE, SecretChange::Undefined) => Some(message(382, &(number, secret.clone(), 1, 0))),
        (VALUE_CHANGED, SecretChange::ValueChanged) => {
            Some(message(383, &(number, secret.clone())))
        }
        _ => None,
    }
}

fn of_pool(number: i32, event: i32, pool: &Pool, change: PoolChange) -> Option<Vec<u8>> {
    const LIFECYCLE: i32 = 0;
    const REFRESH: i32 = 1;
    let change = match change {
        PoolChange::Defined => 0,
        PoolChange::Undefined => 1,
        PoolChange::Started => 2,
        PoolChange::Stopped => 3,
        PoolChange::Built => 4,
        PoolChange::Deleted => 5,
        PoolChange::Refreshed if event == REFRESH => {
            return Some(message(373, &(number, pool.clone())));
        }
        _ => return None,
    };
    (event == LIFECYCLE).then(|| message(370, &(number, pool.clone(), change, 0)))
}

/// One event of Manor's may be several of libvirt's.
fn of_domain(wanted: &[(i32, Callback)], domain: &Domain, kind: &EventKind) -> Vec<Vec<u8>> {
    let wanted = |event: i32| {
        let of_kind = wanted.iter().filter(move |(_, callback)| callback.event == event);
        of_kind.map(|(number, callback)| match callback.old {
            true => Recipient::Old,
            false => Recipient::Callback(*number),
        })
    };
    let about = || domain.clone();
    match kind {
        EventKind::Lifecycle { lifecycle, .. } => {
            let (event, detail) = lifecycle.codes();
            wanted(0)
                .filter_map(|number| message_to(number, 318, &(number, about(), event, detail)))
                .collect()
        }
        EventKind::Reboot => {
            wanted(1).filter_map(|number| message_to(number, 319, &(number, about()))).collect()
        }
        EventKind::RtcChange { offset } => wanted(2)
            .filter_map(|number| message_to(number, 320, &(number, about(), *offset)))
            .collect(),
        EventKind::Watchdog { action, .. } => {
            let action = watchdog_action(action);
            wanted(3)
                .filter_map(|number| message_to(number, 321, &(number, about(), action)))
                .collect()
        }
        EventKind::IoError { device, error, .. } => {
            // Whether it stops the guest, a lifecycle event says.
            let (path, device, report) = ("", device.as_str(), 2);
            let plain = wanted(4).filter_map(|number| {
                message_to(number, 322, &(number, about(), path, device, report))
            });
            let reasoned = wanted(6).filter_map(|number| {
                message_to(number, 324, &(number, about(), path, device, report, error.as_str()))
            });
            plain.chain(reasoned).collect()
        }
        EventKind::DiskChange { device, source } => {
            let (old, changed) = (None::<String>, 0);
            let body = |number| (number, about(), old.clone(), source.clone(), device.as_str());
            wanted(9)
                .filter_map(|number| message_to(number, 327, &(body(number), changed)))
                .collect()
        }
        EventKind::BlockJob { disk, path, kind, change } => {
            let (kind, status) = (block_job::kind_number(*kind), change.code());
            let path = path.as_deref().unwrap_or(disk);
            let by_path = wanted(8).filter_map(|number| {
                message_to(number, 326, &(number, about(), path, kind, status))
            });
            let by_target = wanted(16).filter_map(|number| {
                message_to(number, 339, &(number, about(), disk.as_str(), kind, status))
            });
            by_path.chain(by_target).collect()
        }
        EventKind::BlockThreshold { disk, path, threshold, excess } => wanted(24)
            .filter_map(|number| {
                let body = (disk.as_str(), path.as_deref(), *threshold, *excess);
                message_to(number, 385, &((number, about()), body))
            })
            .collect(),
        EventKind::TrayChange { device, open } => {
            let change = i32::from(!*open);
            wanted(10)
                .filter_map(|number| {
                    message_to(number, 328, &(number, about(), device.as_str(), change))
                })
                .collect()
        }
        EventKind::DeviceRemoved { device } => wanted(15)
            .filter_map(|number| message_to(number, 333, &(number, about(), device.as_str())))
            .collect(),
        EventKind::AgentLifecycle { connected } => {
            let (state, by_channel) = (if *connected { 1 } else { 2 }, 2);
            wanted(18)
                .filter_map(|number| message_to(number, 348, &(number, about(), state, by_channel)))
                .collect()
        }
        EventKind::MetadataChange { kind, uri } => {
            let kind = match kind {
                MetadataKind::Description => 0,
                MetadataKind::Title => 1,
                MetadataKind::Element => 2,
            };
            wanted(23)
                .filter_map(|number| message_to(number, 379, &(number, about(), kind, uri.clone())))
                .collect()
        }
        EventKind::DeviceAdded { device } => wanted(19)
            .filter_map(|number| message_to(number, 354, &(number, about(), device.as_str())))
            .collect(),
        _ => Vec::new(),
    }
}

/// virDomainEventWatchdogAction.
fn watchdog_action(word: &str) -> i32 {
    match word {
        "pause" => 1,
        "reset" => 2,
        "poweroff" => 3,
        "shutdown" => 4,
        "inject-nmi" => 6,
        _ => 0,
    }
}
