//! [`VirtioDevice`]: what a device type tells the transport, and what it gets from it.

use std::io;
use std::sync::Arc;

use memory::GuestRam;

use super::worker::{ActiveQueue, Workers};
use crate::component::{DeviceState, StateError};

/// Feature bits that belong to no device type (virtio 1.2 §6).
pub mod features {
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;

    /// What every device here offers: the queue code provides it.
    pub const COMMON: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1;
}

/// A virtio device type. The transport owns it and calls it with its own lock held, so methods
/// take `&mut self` and must not block on the guest.
///
/// What other threads change or read while the guest runs (capacity, link state, statistics)
/// lives in an `Arc` that the device shares with its workers and with the handle it gives out.
pub trait VirtioDevice: Send {
    /// Names the saved state and the device in logs: `virtio-blk`.
    fn kind(&self) -> &'static str;

    /// Virtio device id (§5): 1 net, 2 block, 3 console, 4 entropy…
    fn device_type(&self) -> u16;

    /// Device-specific features on offer; the transport adds [`features::COMMON`].
    fn features(&self) -> u64;

    /// The largest size of each virtqueue (a power of two), by queue index.
    fn queue_sizes(&self) -> &[u16];

    /// Fill `data` from the configuration space at `offset`. Bytes beyond it read as zeros.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Take a write to the configuration space; whatever is read-only there is ignored.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The way to signal the driver, for devices whose configuration changes from outside.
    /// Called once, before anything else.
    fn connect(&mut self, _notify: Arc<dyn Notify>) {}

    /// Start workers on the enabled queues. Called at DRIVER_OK, and again after each pause or
    /// restore, with queues that go on where they were handed back.
    ///
    /// # Errors
    /// What the host refused. The transport then sets DEVICE_NEEDS_RESET.
    fn activate(&mut self, activation: Activation) -> Result<Workers, ActivateError>;

    /// Forget what the driver set up. Workers are stopped already.
    fn reset(&mut self) {}

    /// Guest-visible state of the device type alone; queues and registers are the transport's.
    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &())
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state.decode(self.kind(), 1)
    }
}

/// A configuration-space read from `config`, the whole space as bytes.
pub fn read_config_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let Some(rest) = usize::try_from(offset).ok().and_then(|offset| config.get(offset..)) else {
        return;
    };
    let len = rest.len().min(data.len());
    data[..len].copy_from_slice(&rest[..len]);
}

/// What a driver brought up when it set DRIVER_OK.
pub struct Activation {
    pub ram: GuestRam,
    /// Accepted features, device-specific and common.
    pub features: u64,
    /// By queue index; `None` where the driver did not enable the queue.
    pub queues: Vec<Option<ActiveQueue>>,
}

impl Activation {
    #[must_use]
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Take queue `index`, if the driver enabled it.
    pub fn take(&mut self, index: usize) -> Option<ActiveQueue> {
        self.queues.get_mut(index)?.take()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    #[error("cannot start the worker of queue {queue}")]
    Worker { queue: u16, source: io::Error },
    #[error("cannot set up the backend")]
    Backend(#[source] io::Error),
}

/// Device → driver signals; any thread, no lock.
pub trait Notify: Send + Sync {
    /// Queue `index` has used buffers the driver wants to hear of.
    fn queue(&self, index: u16);

    /// The configuration space changed.
    fn config_changed(&self);

    /// The device cannot go on until the driver resets it (DEVICE_NEEDS_RESET).
    fn needs_reset(&self, reason: &str);
}
