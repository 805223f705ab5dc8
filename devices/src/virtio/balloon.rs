//! Memory balloon (virtio 1.2 §5.5): takes memory back from a guest that agrees, and reads what the
//! guest says of its memory.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::component::{DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::virtio::device::read_config_bytes;
use crate::virtio::{ActivateError, Activation, Notify, VirtioDevice, Workers};

mod shared;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

use shared::Shared;
pub use shared::{BalloonHandle, GuestMemory};
use spec::feature;
use worker::{BalloonWorker, Role};

const KIND: &str = "virtio-balloon";
/// Inflate, deflate, statistics, reporting.
const QUEUE_SIZES: [u16; 4] = [128; 4];

/// A balloon as configured.
pub struct BalloonSpec {
    /// Bytes of RAM in the machine.
    pub memory: u64,
    /// Bytes that the guest is left with at first.
    pub current: u64,
    /// The driver may take pages out by itself before processes are killed for want of memory.
    pub deflate_on_oom: bool,
    /// The driver reports memory as it becomes free.
    pub free_page_reporting: bool,
    /// Seconds between readings of the statistics; 0: none.
    pub statistics_period: u32,
    pub thread: Arc<IoThread>,
    pub clock: Arc<dyn Clock>,
}

/// The device.
pub struct Balloon {
    features: u64,
    thread: Arc<IoThread>,
    /// Made in advance, before threads are confined.
    timer: Arc<OwnedFd>,
    shared: Arc<Shared>,
}

impl Balloon {
    /// # Errors
    /// When the host has no timer or event for it.
    pub fn new(spec: BalloonSpec) -> io::Result<Self> {
        let mut features = feature::STATS_VQ;
        if spec.deflate_on_oom {
            features |= feature::DEFLATE_ON_OOM;
        }
        if spec.free_page_reporting {
            features |= feature::REPORTING;
        }
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = Arc::new(timerfd_create(TimerfdClockId::Monotonic, flags)?);
        let shared = Arc::new(Shared::new(spec.memory, spec.clock)?);
        let balloon = Self { features, thread: spec.thread, timer, shared };
        let handle = balloon.handle();
        handle.set_memory(spec.current);
        handle.set_period(spec.statistics_period);
        Ok(balloon)
    }

    #[must_use]
    pub fn handle(&self) -> BalloonHandle {
        BalloonHandle(self.shared.clone())
    }
}

#[derive(Serialize, Deserialize)]
struct State {
    target: u32,
    actual: u32,
}

impl VirtioDevice for Balloon {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn device_type(&self) -> u16 {
        spec::DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        let reporting = self.features & feature::REPORTING != 0;
        &QUEUE_SIZES[..if reporting { 4 } else { 3 }]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let [t0, t1, t2, t3] = self.shared.target.load(Ordering::Relaxed).to_le_bytes();
        let [a0, a1, a2, a3] = self.shared.actual.load(Ordering::Relaxed).to_le_bytes();
        read_config_bytes(&[t0, t1, t2, t3, a0, a1, a2, a3], offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if offset == spec::ACTUAL
            && let Ok(actual) = data.try_into()
        {
            self.shared.actual.store(u32::from_le_bytes(actual), Ordering::Relaxed);
        }
    }

    fn connect(&mut self, notify: Arc<dyn Notify>) {
        // Called once.
        let _ = self.shared.notify.set(notify);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let mut roles = vec![Role::Inflate, Role::Deflate];
        // Later queues move up where an earlier one was not negotiated, as drivers have it.
        if activation.has(feature::STATS_VQ) {
            roles.push(Role::Statistics);
        }
        if activation.has(feature::REPORTING) {
            roles.push(Role::Reporting);
        }
        let (roles, queues): (Vec<_>, Vec<_>) = roles
            .into_iter()
            .enumerate()
            .filter_map(|(index, role)| Some((role, activation.take(index)?)))
            .unzip();
        let (shared, timer) = (self.shared.clone(), self.timer.clone());
        let worker = BalloonWorker { shared, timer, roles, statistics: None };
        let mut workers = Workers::default();
        workers.start(&self.thread, worker, queues)?;
        Ok(workers)
    }

    fn reset(&mut self) {
        self.shared.reset();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let read = |pages: &std::sync::atomic::AtomicU32| pages.load(Ordering::Relaxed);
        let state = State { target: read(&self.shared.target), actual: read(&self.shared.actual) };
        DeviceState::encode(KIND, 1, &state)
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let state: State = state.decode(KIND, 1)?;
        self.shared.target.store(state.target, Ordering::Relaxed);
        self.shared.actual.store(state.actual, Ordering::Relaxed);
        Ok(())
    }
}
