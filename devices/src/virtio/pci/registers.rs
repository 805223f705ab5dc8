//! [`Registers`]: the common configuration structure (virtio 1.2 §4.1.4.3) as plain data.

use serde::{Deserialize, Serialize};

use super::interrupts::Interrupts;
use crate::virtio::device::features;
use crate::virtio::queue::{QueueConfig, QueueProgress};

/// Device status bits (§2.1).
pub(super) mod status {
    pub(crate) const ACKNOWLEDGE: u8 = 1;
    pub(crate) const DRIVER: u8 = 2;
    pub(crate) const DRIVER_OK: u8 = 4;
    pub(crate) const FEATURES_OK: u8 = 8;
    pub(crate) const NEEDS_RESET: u8 = 64;
    pub(crate) const FAILED: u8 = 128;
}

/// "No vector": the interrupt is not wanted.
pub(super) const NO_VECTOR: u16 = 0xffff;

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_VECTOR: u64 = 0x10;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_DESCRIPTORS: u64 = 0x20;
const QUEUE_END: u64 = 0x38;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct QueueRegisters {
    pub(super) max_size: u16,
    pub(super) config: QueueConfig,
    pub(super) progress: QueueProgress,
}

impl QueueRegisters {
    fn new(max_size: u16) -> Self {
        let config = QueueConfig { size: max_size, ..QueueConfig::default() };
        Self { max_size, config, progress: QueueProgress::default() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Registers {
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    /// The driver set a bit beyond the 64 there are.
    beyond_features: bool,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
    /// From DRIVER_OK on, the queues' configuration cannot be changed until reset.
    frozen: bool,
}

impl Registers {
    pub(super) fn new(sizes: &[u16]) -> Self {
        Self {
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            beyond_features: false,
            queue_select: 0,
            queues: sizes.iter().map(|size| QueueRegisters::new(*size)).collect(),
            frozen: false,
        }
    }

    pub(super) fn reset(&mut self) {
        let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max_size).collect();
        *self = Self::new(&sizes);
    }

    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    pub(super) fn queues(&self) -> &[QueueRegisters] {
        &self.queues
    }

    pub(super) fn set_progress(&mut self, index: u16, progress: QueueProgress) {
        if let Some(queue) = self.queues.get_mut(usize::from(index)) {
            queue.progress = progress;
        }
    }

    pub(super) fn driver_features(&self) -> u64 {
        self.driver_features
    }

    /// Whether the driver may set FEATURES_OK (§2.2.2, §6.2).
    pub(super) fn features_fit(&self, offered: u64) -> bool {
        !self.beyond_features
            && self.driver_features & !offered == 0
            && self.driver_features & features::VERSION_1 != 0
    }

    /// All registers as they read. Reading has no side effects here, so any access width and
    /// alignment gets its slice of this.
    pub(super) fn image(&self, offered: u64, interrupts: &Interrupts) -> [u8; 0x40] {
        let mut image = Image { bytes: [0; 0x40], at: 0 };
        image.u32(self.device_feature_select);
        image.u32(half(offered, self.device_feature_select));
        image.u32(self.driver_feature_select);
        image.u32(half(self.driver_features, self.driver_feature_select));
        image.u16(interrupts.config_vector());
        image.u16(self.queues.len() as u16);
        image.u16(u16::from_le_bytes([interrupts.status(), interrupts.generation()]));
        image.u16(self.queue_select);
        // A queue that does not exist has size 0; nothing else of it can be set.
        if let Some(queue) = self.selected() {
            image.u16(queue.config.size);
            image.u16(interrupts.queue_vector(self.queue_select));
            image.u16(u16::from(queue.config.enabled));
            image.u16(self.queue_select);
            for address in [queue.config.descriptors, queue.config.available, queue.config.used] {
                image.u32(address as u32);
                image.u32((address >> 32) as u32);
            }
            image.u16(self.queue_select);
        } else {
            image.u16(0);
            image.u16(NO_VECTOR);
        }
        image.bytes
    }

    /// Take a write. Only accesses of a register's own width count (an address also takes its
    /// halves). A write to the status comes back, for the transport to act on.
    pub(super) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        interrupts: &Interrupts,
    ) -> Option<u8> {
        match (offset, data) {
            (STATUS, &[value]) => return Some(value),
            (_, &[a, b]) => self.write_u16(offset, u16::from_le_bytes([a, b]), interrupts),
            (QUEUE_DESCRIPTORS..QUEUE_END, _) => self.write_address(offset, data),
            (_, &[a, b, c, d]) => {
                self.write_u32(offset, u32::from_le_bytes([a, b, c, d]), interrupts);
            }
            _ => {}
        }
        None
    }

    fn write_u32(&mut self, offset: u64, value: u32, interrupts: &Interrupts) {
        match offset {
            DEVICE_FEATURE_SELECT => self.device_feature_select = value,
            DRIVER_FEATURE_SELECT => self.driver_feature_select = value,
            DRIVER_FEATURE if interrupts.status() & status::FEATURES_OK == 0 => {
                let value = u64::from(value);
                match self.driver_feature_select {
                    0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
                    1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
                    _ => self.beyond_features |= value != 0,
                }
            }
            _ => {}
        }
    }

    fn write_u16(&mut self, offset: u64, value: u16, interrupts: &Interrupts) {
        match offset {
            CONFIG_VECTOR => interrupts.set_config_vector(value),
            QUEUE_SELECT => self.queue_select = value,
            QUEUE_VECTOR => interrupts.set_queue_vector(self.queue_select, value),
            QUEUE_SIZE => {
                if let Some(queue) = self.configurable()
                    && value.is_power_of_two()
                    && value <= queue.max_size
                {
                    queue.config.size = value;
                }
            }
            QUEUE_ENABLE => {
                if let Some(queue) = self.configurable()
                    && value == 1
                {
                    queue.config.enabled = true;
                }
            }
            _ => {}
        }
    }

    fn write_address(&mut self, offset: u64, data: &[u8]) {
        let Some(queue) = self.configurable() else { return };
        let into = offset - QUEUE_DESCRIPTORS;
        let field = match into / 8 {
            0 => &mut queue.config.descriptors,
            1 => &mut queue.config.available,
            _ => &mut queue.config.used,
        };
        match (into % 8, data) {
            (0, &[a, b, c, d]) => {
                *field = *field & !0xffff_ffff | u64::from(u32::from_le_bytes([a, b, c, d]));
            }
            (4, &[a, b, c, d]) => {
                *field = *field & 0xffff_ffff | u64::from(u32::from_le_bytes([a, b, c, d])) << 32;
            }
            (0, &[a, b, c, d, e, f, g, h]) => *field = u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => {}
        }
    }

    fn selected(&self) -> Option<&QueueRegisters> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// The selected queue, as long as the driver may still set it up.
    fn configurable(&mut self) -> Option<&mut QueueRegisters> {
        let frozen = self.frozen;
        self.queues
            .get_mut(usize::from(self.queue_select))
            .filter(|queue| !frozen && !queue.config.enabled)
    }

    /// Take on saved registers, if they are of a device with the same queues.
    pub(super) fn restore(&mut self, saved: &Self) -> Result<(), String> {
        let sizes = |registers: &Self| -> Vec<u16> {
            registers.queues.iter().map(|queue| queue.max_size).collect()
        };
        if sizes(self) != sizes(saved) {
            return Err(format!(
                "its queues have the sizes {:?}, the device's {:?}",
                sizes(saved),
                sizes(self)
            ));
        }
        *self = saved.clone();
        Ok(())
    }
}

/// 32 bits of a feature set.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

struct Image {
    bytes: [u8; 0x40],
    at: usize,
}

impl Image {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
}
