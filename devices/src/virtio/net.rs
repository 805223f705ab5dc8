//! virtio-net (virtio 1.2 §5.1): queue pairs on tap queues or a stream, and a control queue.
//!
//! Packets keep the virtio-net header all the way, so checksums and segmentation are between the
//! guest and the host's kernel. Each pair has its own worker; the control queue has one beside it.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::backend::packet::{Offloads, PacketBackend};
use crate::backend::vhost::net::VhostNet;
use crate::component::{DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::virtio::device::read_config_bytes;
use crate::virtio::handed::{self, Handed};
use crate::virtio::{
    ActivateError, Activation, ActiveQueue, Notify, VirtioDevice, Workers, features,
};

mod announcer;
mod control;
mod filter;
mod kernel;
mod pair;
mod shared;
mod spec;
#[cfg(test)]
mod tests;

pub use announcer::Announcer;
use control::ControlWorker;
pub use filter::Mac;
use kernel::KernelPair;
use pair::PairWorker;
pub use shared::{NetHandle, NetStats};
use shared::{Shared, State};
pub use spec::feature;

const KIND: &str = "virtio-net";
const DEVICE_TYPE: u16 = 1;
const CONTROL_QUEUE_SIZE: u16 = 64;
/// What a link without an MTU of its own carries.
const DEFAULT_MTU: u16 = 1500;
/// Speed and duplex are not known.
const UNKNOWN: [u8; 5] = [0xff; 5];

const VERSION: u16 = 2;

/// The guest's side, and the address that it was given.
#[derive(Serialize, Deserialize)]
struct Saved {
    mac: Mac,
    state: State,
}

impl Saved {
    /// `here`: the address in a state that tells none.
    fn read(state: &DeviceState, here: Mac) -> Result<Self, StateError> {
        if state.version > 1 {
            return state.decode(KIND, VERSION);
        }
        let (link_up, announce, filter, pairs, offloads) = state.decode(KIND, 1)?;
        Ok(Self {
            mac: here,
            state: State { link_up, announce, filter, pairs, offloads, foreign: None },
        })
    }
}

/// A network device as configured.
pub struct NetConfig {
    pub mac: Mac,
    /// Told to the guest; otherwise it assumes 1500.
    pub mtu: Option<u16>,
    pub link_up: bool,
    pub rx_queue_size: u16,
    pub tx_queue_size: u16,
    /// [`feature`] bits not to offer.
    pub without: u64,
    /// One per queue pair, with the thread that serves it.
    pub pairs: Vec<(Arc<dyn PacketBackend>, Arc<IoThread>)>,
}

/// The device.
pub struct Net {
    features: u64,
    mtu: Option<u16>,
    queue_sizes: Vec<u16>,
    backends: Vec<Arc<dyn PacketBackend>>,
    threads: Vec<Arc<IoThread>>,
    /// The host's kernel serves the pairs: one for each, or none at all.
    vhost: Vec<Served>,
    shared: Arc<Shared>,
}

/// A pair that the kernel serves.
struct Served {
    vhost: Arc<VhostNet>,
    calls: Vec<Arc<EventFd>>,
    link: Arc<EventFd>,
}

impl Net {
    #[must_use]
    pub fn new(config: NetConfig) -> Self {
        let count = config.pairs.len();
        let mut features = feature::CSUM
            | feature::GUEST_OFFLOADS
            | feature::CTRL_GUEST_OFFLOADS
            | feature::MAC
            | feature::HOST_TSO4
            | feature::HOST_TSO6
            | feature::HOST_ECN
            | feature::MRG_RXBUF
            | feature::STATUS
            | feature::CTRL_VQ
            | feature::CTRL_RX
            | feature::CTRL_RX_EXTRA
            | feature::CTRL_MAC_ADDR
            | feature::GUEST_ANNOUNCE;
        if config.mtu.is_some() {
            features |= feature::MTU;
        }
        if count > 1 {
            features |= feature::MQ;
        }
        let pair = [config.rx_queue_size, config.tx_queue_size];
        let mut queue_sizes = pair.repeat(count);
        queue_sizes.push(CONTROL_QUEUE_SIZE);
        let (backends, threads) = config.pairs.into_iter().unzip();
        Self {
            features: with_dependencies(features & !config.without),
            mtu: config.mtu,
            queue_sizes,
            backends,
            threads,
            vhost: Vec::new(),
            shared: Arc::new(Shared::new(config.mac, config.link_up)),
        }
    }

    #[must_use]
    pub fn handle(&self) -> NetHandle {
        NetHandle(self.shared.clone())
    }

    /// Its first pair is one that is always enabled.
    #[must_use]
    pub fn announcer(&self) -> Announcer {
        Announcer { shared: self.shared.clone(), backend: self.backends.first().cloned() }
    }

    /// Have the host's kernel serve the pairs: one of these for each.
    ///
    /// # Errors
    /// When the host has no events for it.
    pub fn served_by(mut self, pairs: Vec<Arc<VhostNet>>) -> io::Result<Self> {
        for vhost in pairs {
            let link = Arc::new(EventFd::new(EFD_NONBLOCK)?);
            self.shared.watch_link(link.clone());
            self.vhost.push(Served { vhost, calls: handed::calls(2)?, link });
        }
        Ok(self)
    }

    fn start_pair(
        &self,
        workers: &mut Workers,
        index: usize,
        (features, ram): (u64, &memory::GuestRam),
        [rx, tx]: [ActiveQueue; 2],
    ) -> Result<(), ActivateError> {
        let (backend, thread) = (&self.backends[index], &self.threads[index]);
        let Some(served) = self.vhost.get(index) else {
            let worker = PairWorker::new(
                backend.clone(),
                self.shared.clone(),
                ram.clone(),
                features & feature::MRG_RXBUF != 0,
                features & feature::BIG_PACKETS != 0,
                self.mtu.unwrap_or(DEFAULT_MTU),
            );
            return workers.start(thread, worker, vec![rx, tx]);
        };
        let first = rx.index();
        let features = features & (features::COMMON | feature::MRG_RXBUF);
        let Served { vhost, calls, link } = served;
        let queues = Handed::new(vhost.clone(), features, calls.clone(), vec![rx, tx]);
        let worker = KernelPair {
            vhost: vhost.clone(),
            queues,
            shared: self.shared.clone(),
            link: link.clone(),
            connected: false,
            error: None,
        };
        workers.start_job(thread, first, worker)
    }

    fn set_up_backends(&self, features: u64) -> io::Result<()> {
        let (pairs, chosen) = self.shared.change(|state| (state.pairs, state.offloads));
        let wanted = offloads(chosen.unwrap_or(features) & features);
        // Offloads are those of the interface: any of its queues sets them, while it is enabled.
        control::set_enabled(&self.backends, pairs)?;
        self.backends.iter().try_for_each(|backend| backend.set_offloads(wanted))
    }
}

/// Take away what depends on a feature that is not offered (§5.1.3.1).
fn with_dependencies(mut features: u64) -> u64 {
    let dependencies = [
        (feature::CSUM, feature::HOST_TSO4 | feature::HOST_TSO6),
        (feature::GUEST_CSUM, feature::GUEST_TSO4 | feature::GUEST_TSO6),
        (feature::HOST_TSO4 | feature::HOST_TSO6, feature::HOST_ECN),
        (feature::GUEST_TSO4 | feature::GUEST_TSO6, feature::GUEST_ECN),
        (
            feature::CTRL_VQ,
            feature::CTRL_RX
                | feature::CTRL_MAC_ADDR
                | feature::GUEST_ANNOUNCE
                | feature::MQ
                | feature::CTRL_GUEST_OFFLOADS,
        ),
        (feature::CTRL_RX, feature::CTRL_RX_EXTRA),
    ];
    for (any_of, dependents) in dependencies {
        if features & any_of == 0 {
            features &= !dependents;
        }
    }
    features
}

/// What the host may leave undone, given the guest's offload features.
fn offloads(features: u64) -> Offloads {
    let mut offloads = Offloads::empty();
    offloads.set(Offloads::CHECKSUM, features & feature::GUEST_CSUM != 0);
    // Segmentation without checksums makes no sense, and the kernel refuses it.
    if !offloads.is_empty() {
        offloads.set(Offloads::TSO4, features & feature::GUEST_TSO4 != 0);
        offloads.set(Offloads::TSO6, features & feature::GUEST_TSO6 != 0);
        let segments = offloads.intersects(Offloads::TSO4 | Offloads::TSO6);
        offloads.set(Offloads::TSO_ECN, segments && features & feature::GUEST_ECN != 0);
    }
    offloads
}

impl VirtioDevice for Net {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let status = self.shared.status();
        let pairs = self.backends.len() as u16;
        let mut config = Vec::with_capacity(17);
        config.extend_from_slice(&self.handle().mac());
        config.extend_from_slice(&status.to_le_bytes());
        config.extend_from_slice(&pairs.to_le_bytes());
        config.extend_from_slice(&self.mtu.unwrap_or(DEFAULT_MTU).to_le_bytes());
        config.extend_from_slice(&UNKNOWN);
        read_config_bytes(&config, offset, data);
    }

    fn connect(&mut self, notify: Arc<dyn Notify>) {
        self.shared.connect(notify);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let features = activation.features;
        self.set_up_backends(features).map_err(ActivateError::Backend)?;
        let mut workers = Workers::default();
        let usable = if activation.has(feature::MQ) { self.backends.len() } else { 1 };
        let ram = activation.ram.clone();
        for index in 0..usable {
            let queues = (activation.take(2 * index), activation.take(2 * index + 1));
            let (Some(rx), Some(tx)) = queues else { continue };
            self.start_pair(&mut workers, index, (features, &ram), [rx, tx])?;
        }
        // §5.1.2: without multiqueue the control queue is the third one.
        if let (Some(queue), Some(thread)) = (activation.take(2 * usable), self.threads.first()) {
            let worker = ControlWorker {
                shared: self.shared.clone(),
                backends: self.backends[..usable].to_vec(),
                features,
            };
            workers.start(thread, worker, vec![queue])?;
        }
        Ok(workers)
    }

    fn reset(&mut self) {
        let mac = self.shared.mac;
        self.shared.change(|state| *state = State::new(mac, state.link_up));
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let state = self.shared.change(|state| state.clone());
        DeviceState::encode(KIND, VERSION, &Saved { mac: self.shared.mac, state })
    }

    /// As another machine's interface it has another address, which its driver hears of when it asks:
    /// most ask once, and have a link again when they have done so anew.
    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let Saved { mac, state: mut saved } = Saved::read(state, self.shared.mac)?;
        if mac != self.shared.mac {
            saved.foreign.get_or_insert(saved.filter.mac);
            saved.filter.mac = self.shared.mac;
        }
        let pairs = usize::from(saved.pairs);
        if !(1..=self.backends.len()).contains(&pairs) {
            let reason = format!("it uses {pairs} queue pairs, there are {}", self.backends.len());
            return Err(StateError::Mismatch { kind: KIND, reason });
        }
        // Whether the cable is plugged is told by the machine, not by the saved guest.
        self.shared.change(|state| *state = State { link_up: state.link_up, ..saved });
        Ok(())
    }
}
