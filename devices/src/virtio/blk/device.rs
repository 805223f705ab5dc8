//! [`Block`]: identity, features and configuration space of a disk, and the handle on it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::request::identity;
use super::spec::{
    CONFIG_WRITEBACK, ConfigSpace, DEVICE_TYPE, F_BLK_SIZE, F_CONFIG_WCE, F_DISCARD, F_FLUSH, F_MQ,
    F_RO, F_SEG_MAX, F_TOPOLOGY, F_WRITE_ZEROES, ID_LEN, SECTOR,
};
use super::worker::BlockWorker;
use crate::backend::stats::BlockStats;
use crate::backend::{Disk, DiskInfo};
use crate::component::{DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::virtio::device::read_config_bytes;
use crate::virtio::{ActivateError, Activation, Notify, VirtioDevice, Workers};

/// A disk for a guest.
pub struct BlockSpec {
    pub disk: Arc<dyn Disk>,
    /// One virtqueue per entry, served on that thread.
    pub threads: Vec<Arc<IoThread>>,
    /// A power of two.
    pub queue_size: u16,
    /// At most 20 bytes of it are visible to the guest.
    pub serial: String,
}

/// What device, workers and handles share.
pub(super) struct Shared {
    pub(super) size: AtomicU64,
    pub(super) writeback: AtomicBool,
    pub(super) stats: BlockStats,
    pub(super) identity: [u8; ID_LEN],
    notify: OnceLock<Arc<dyn Notify>>,
}

/// The disk as seen from outside the guest.
#[derive(Clone)]
pub struct BlockHandle(Arc<Shared>);

impl BlockHandle {
    #[must_use]
    pub fn stats(&self) -> &BlockStats {
        &self.0.stats
    }

    /// The disk behind has grown (or shrunk) to `size` bytes: tell the guest.
    pub fn resize(&self, size: u64) {
        self.0.size.store(size - size % SECTOR, Ordering::Relaxed);
        if let Some(notify) = self.0.notify.get() {
            notify.config_changed();
        }
    }
}

/// virtio-blk.
pub struct Block {
    disk: Arc<dyn Disk>,
    info: DiskInfo,
    threads: Vec<Arc<IoThread>>,
    queue_sizes: Vec<u16>,
    shared: Arc<Shared>,
}

impl Block {
    #[must_use]
    pub fn new(spec: BlockSpec) -> Self {
        let BlockSpec { disk, threads, queue_size, serial } = spec;
        let info = disk.info();
        let shared = Shared {
            size: AtomicU64::new(info.size),
            writeback: AtomicBool::new(info.writeback),
            stats: BlockStats::default(),
            identity: identity(&serial),
            notify: OnceLock::new(),
        };
        Self {
            disk,
            info,
            queue_sizes: vec![queue_size; threads.len()],
            threads,
            shared: Arc::new(shared),
        }
    }

    #[must_use]
    pub fn handle(&self) -> BlockHandle {
        BlockHandle(self.shared.clone())
    }

    fn config(&self) -> ConfigSpace {
        let physical = self.info.physical_block_size / self.info.block_size;
        ConfigSpace {
            capacity: self.shared.size.load(Ordering::Relaxed) / SECTOR,
            // Two descriptors of a chain are header and status.
            seg_max: self.queue_sizes.first().map_or(1, |size| u32::from(*size).max(3) - 2),
            blk_size: self.info.block_size,
            physical_exponent: physical.checked_ilog2().unwrap_or(0) as u8,
            writeback: self.shared.writeback.load(Ordering::Relaxed),
            queues: self.queue_sizes.len() as u16,
            may_unmap: self.info.discard,
        }
    }
}

impl VirtioDevice for Block {
    fn kind(&self) -> &'static str {
        "virtio-blk"
    }

    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        let mut features = F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY | F_FLUSH | F_CONFIG_WCE;
        if self.queue_sizes.len() > 1 {
            features |= F_MQ;
        }
        if self.info.read_only {
            features |= F_RO;
        } else {
            features |= F_WRITE_ZEROES;
            if self.info.discard {
                features |= F_DISCARD;
            }
        }
        features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&self.config().bytes(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (CONFIG_WRITEBACK, &[value]) = (offset, data) {
            self.shared.writeback.store(value & 1 != 0, Ordering::Relaxed);
        }
    }

    fn connect(&mut self, notify: Arc<dyn Notify>) {
        // Connected once, by the transport that owns the device.
        let _ = self.shared.notify.set(notify);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        if !activation.has(F_CONFIG_WCE) {
            // §5.2.5.2: a driver that cannot flush relies on every write being durable.
            let writeback = self.info.writeback && activation.has(F_FLUSH);
            self.shared.writeback.store(writeback, Ordering::Relaxed);
        }
        let mut workers = Workers::default();
        for (index, thread) in self.threads.iter().enumerate() {
            let Some(queue) = activation.take(index) else { continue };
            let depth = queue.size();
            let channel = self.disk.channel(depth).map_err(ActivateError::Backend)?;
            let worker = BlockWorker::new(
                self.shared.clone(),
                self.info,
                activation.features,
                channel,
                depth,
            );
            workers.start(thread, worker, vec![queue])?;
        }
        Ok(workers)
    }

    fn reset(&mut self) {
        self.shared.writeback.store(self.info.writeback, Ordering::Relaxed);
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let writeback = self.shared.writeback.load(Ordering::Relaxed);
        DeviceState::encode(self.kind(), 1, &writeback)
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let writeback = state.decode(self.kind(), 1)?;
        self.shared.writeback.store(writeback, Ordering::Relaxed);
        Ok(())
    }
}
