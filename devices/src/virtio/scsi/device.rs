//! [`Scsi`]: the host's identity and configuration space, its units, and the handle on it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::event::{Event, Events};
use super::spec::{self, Address, F_CHANGE, F_HOTPLUG};
use super::worker::ScsiWorker;
use crate::component::{DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::scsi::{LogicalUnit, UnitState};
use crate::sync::Lock;
use crate::virtio::device::read_config_bytes;
use crate::virtio::{ActivateError, Activation, VirtioDevice, Workers};

const KIND: &str = "virtio-scsi";

/// A unit and where it is.
#[derive(Clone)]
pub struct UnitAt {
    pub target: u8,
    /// At most 0x3fff.
    pub lun: u16,
    pub unit: Arc<LogicalUnit>,
}

pub struct ScsiSpec {
    pub units: Vec<UnitAt>,
    /// Serves all queues.
    pub thread: Arc<IoThread>,
    /// Request queues.
    pub queues: u16,
    /// Of each queue: a power of two.
    pub queue_size: u16,
    /// Requests in flight on each disk at most; more wait.
    pub depth: u16,
}

/// What device, worker and handle share.
pub(super) struct Shared {
    pub(super) units: Mutex<BTreeMap<Address, Arc<LogicalUnit>>>,
    pub(super) events: Mutex<Events>,
    /// Written when there are events, a unit came or went, or a medium was exchanged.
    /// Shared with each unit: one more descriptor could not be had when the process is confined.
    pub(super) wake: Arc<EventFd>,
    pub(super) sense_size: AtomicU32,
    pub(super) cdb_size: AtomicU32,
}

/// The host as seen from outside the guest.
#[derive(Clone)]
pub struct ScsiHandle(Arc<Shared>);

/// How long a worker may take to finish what is in flight on a unit that goes.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

impl ScsiHandle {
    /// The disk of a unit has grown or shrunk: tell the guest.
    pub fn resized(&self, target: u8, lun: u16) {
        if let Some(unit) = self.0.units.hold().get(&Address { target, lun }) {
            unit.resized();
        }
        self.tell(Event::Resized(Address { target, lun }));
    }

    /// Put a unit into its place, and tell the guest.
    ///
    /// # Errors
    /// When there is no such place, or another unit is there.
    pub fn plug(&self, UnitAt { target, lun, unit }: UnitAt) -> io::Result<()> {
        let at = Address { target, lun };
        listen(&self.0.wake, &unit);
        put(&mut self.0.units.hold(), at, unit)?;
        self.tell(Event::Plugged(at));
        Ok(())
    }

    /// Take a unit out, and tell the guest, which is not asked: to it the disk is gone. What is in flight
    /// ends first, so that whoever holds the last reference closes the medium.
    pub fn unplug(&self, target: u8, lun: u16) {
        let at = Address { target, lun };
        let Some(unit) = self.0.units.hold().remove(&at) else { return };
        self.tell(Event::Unplugged(at));
        // A worker that runs has a reference of its own, until it has followed.
        let (end, pause) = (Instant::now() + PATIENCE, Mutex::new(()));
        while Arc::strong_count(&unit) > 1 && Instant::now() < end {
            let _ = Condvar::new().wait_timeout(pause.hold(), BETWEEN_LOOKS);
        }
    }

    fn tell(&self, event: Event) {
        self.0.events.hold().push(event);
        let _ = self.0.wake.write(1);
    }
}

/// virtio-scsi.
pub struct Scsi {
    shared: Arc<Shared>,
    thread: Arc<IoThread>,
    queue_sizes: Vec<u16>,
    depth: u16,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    sense_size: u32,
    cdb_size: u32,
    events: Events,
    units: Vec<(Address, UnitState)>,
}

impl Scsi {
    /// # Errors
    /// When two units are at one place, or the host has no eventfd left.
    pub fn new(spec: ScsiSpec) -> io::Result<Self> {
        let ScsiSpec { units: given, thread, queues, queue_size, depth } = spec;
        let mut units = BTreeMap::new();
        for UnitAt { target, lun, unit } in given {
            put(&mut units, Address { target, lun }, unit)?;
        }
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        for unit in units.values() {
            listen(&wake, unit);
        }
        let shared = Shared {
            units: Mutex::new(units),
            events: Mutex::default(),
            wake,
            sense_size: AtomicU32::new(spec::DEFAULT_SENSE_SIZE),
            cdb_size: AtomicU32::new(spec::DEFAULT_CDB_SIZE),
        };
        let count = spec::REQUESTS + usize::from(queues.max(1));
        let queue_sizes = vec![queue_size; count];
        Ok(Self { shared: Arc::new(shared), thread, queue_sizes, depth })
    }

    #[must_use]
    pub fn handle(&self) -> ScsiHandle {
        ScsiHandle(self.shared.clone())
    }

    /// `struct virtio_scsi_config`
    fn config(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        let queues = (self.queue_sizes.len() - spec::REQUESTS) as u32;
        // Two descriptors of a chain are request and response.
        let segments = self.queue_sizes.first().map_or(1, |size| u32::from(*size).max(3) - 2);
        put(0, &queues.to_le_bytes());
        put(4, &segments.to_le_bytes());
        put(8, &spec::MAX_SECTORS.to_le_bytes());
        put(12, &spec::COMMANDS_PER_UNIT.to_le_bytes());
        put(16, &16_u32.to_le_bytes());
        put(20, &self.shared.sense_size.load(Ordering::Relaxed).to_le_bytes());
        put(24, &self.shared.cdb_size.load(Ordering::Relaxed).to_le_bytes());
        put(30, &spec::MAX_TARGET.to_le_bytes());
        put(32, &u32::from(spec::MAX_LUN).to_le_bytes());
        bytes
    }
}

/// A unit whose medium is exchanged wakes the worker.
fn listen(wake: &Arc<EventFd>, unit: &LogicalUnit) {
    let wake = wake.clone();
    unit.on_exchange(move || _ = wake.write(1));
}

fn put(
    units: &mut BTreeMap<Address, Arc<LogicalUnit>>,
    at: Address,
    unit: Arc<LogicalUnit>,
) -> io::Result<()> {
    if at.lun > spec::MAX_LUN || units.contains_key(&at) {
        let Address { target, lun } = at;
        let text = format!("there is no place for another unit at target {target}, LUN {lun}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    units.insert(at, unit);
    Ok(())
}

impl VirtioDevice for Scsi {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn device_type(&self) -> u16 {
        spec::DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        F_HOTPLUG | F_CHANGE
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&self.config(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let Ok(bytes) = <[u8; 4]>::try_from(data) else { return };
        let value = u32::from_le_bytes(bytes);
        // §5.6.4: only these two, which take effect when the driver is up.
        match offset {
            spec::CONFIG_SENSE_SIZE if value <= spec::MAX_SIZE => {
                self.shared.sense_size.store(value, Ordering::Relaxed);
            }
            spec::CONFIG_CDB_SIZE if (6..=spec::MAX_SIZE).contains(&value) => {
                self.shared.cdb_size.store(value, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let mut workers = Workers::default();
        let mut queues = Vec::new();
        let mut roles = Vec::new();
        for index in 0..self.queue_sizes.len() {
            if let Some(queue) = activation.take(index) {
                roles.push(index);
                queues.push(queue);
            }
        }
        if !queues.is_empty() {
            let worker = ScsiWorker::new(self.shared.clone(), activation.ram, roles, self.depth)
                .map_err(ActivateError::Backend)?;
            workers.start(&self.thread, worker, queues)?;
        }
        Ok(workers)
    }

    fn reset(&mut self) {
        self.shared.sense_size.store(spec::DEFAULT_SENSE_SIZE, Ordering::Relaxed);
        self.shared.cdb_size.store(spec::DEFAULT_CDB_SIZE, Ordering::Relaxed);
        *self.shared.events.hold() = Events::default();
        for unit in self.shared.units.hold().values() {
            unit.reset();
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let units = self.shared.units.hold();
        let units = units.iter().map(|(at, unit)| (*at, unit.save())).collect();
        let saved = Saved {
            sense_size: self.shared.sense_size.load(Ordering::Relaxed),
            cdb_size: self.shared.cdb_size.load(Ordering::Relaxed),
            events: self.shared.events.hold().clone(),
            units,
        };
        DeviceState::encode(KIND, 1, &saved)
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let saved: Saved = state.decode(KIND, 1)?;
        let units = self.shared.units.hold();
        let known = |(address, _): &(Address, _)| units.contains_key(address);
        if saved.units.len() != units.len() || !saved.units.iter().all(known) {
            let reason = "it has other disks".to_owned();
            return Err(StateError::Mismatch { kind: KIND, reason });
        }
        let size = |value: u32| value.min(spec::MAX_SIZE);
        self.shared.sense_size.store(size(saved.sense_size), Ordering::Relaxed);
        self.shared.cdb_size.store(size(saved.cdb_size).max(6), Ordering::Relaxed);
        *self.shared.events.hold() = saved.events;
        for (address, unit) in &saved.units {
            if let Some(live) = units.get(address) {
                live.restore(unit);
            }
        }
        Ok(())
    }
}
