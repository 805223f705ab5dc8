//! [`Interrupts`]: device → driver signals: MSI-X vectors, or INTx with the ISR register
//! (virtio 1.2 §4.1.4.5). With MSI-X, raising one is a load and a write to an eventfd.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::registers::{NO_VECTOR, status};
use crate::irq::IrqLine;
use crate::pci::{Config, Msix};
use crate::sync::Lock;
use crate::virtio::device::Notify;

const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

const COMMAND: u16 = 0x04;
const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const PCI_STATUS: u16 = 0x06;
const PCI_STATUS_INTERRUPT: u16 = 1 << 3;

pub(super) struct Interrupts {
    msix: Arc<Msix>,
    config: Arc<Config>,
    line: Option<Arc<dyn IrqLine>>,
    on_broken: Box<dyn Fn(&str) + Send + Sync>,
    msix_enabled: AtomicBool,
    config_vector: AtomicU16,
    queue_vectors: Box<[AtomicU16]>,
    /// Device status: here because a worker may set NEEDS_RESET at any time.
    status: AtomicU8,
    generation: AtomicU8,
    isr: Mutex<Isr>,
}

/// The ISR register and the line, which the lock keeps in step.
#[derive(Default)]
struct Isr {
    bits: u8,
    /// What the line was last driven to: most writes to configuration space change nothing.
    high: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InterruptState {
    config_vector: u16,
    queue_vectors: Vec<u16>,
    pub(super) status: u8,
    generation: u8,
    isr: u8,
}

impl Interrupts {
    pub(super) fn new(
        msix: Arc<Msix>,
        config: Arc<Config>,
        line: Option<Arc<dyn IrqLine>>,
        queues: usize,
        on_broken: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        Self {
            msix,
            config,
            line,
            on_broken,
            msix_enabled: AtomicBool::new(false),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            status: AtomicU8::new(0),
            generation: AtomicU8::new(0),
            isr: Mutex::default(),
        }
    }

    pub(super) fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    pub(super) fn set_status(&self, bits: u8) {
        self.status.fetch_or(bits, Ordering::AcqRel);
    }

    pub(super) fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Relaxed)
    }

    pub(super) fn queue_vector(&self, index: u16) -> u16 {
        self.queue_vectors
            .get(usize::from(index))
            .map_or(NO_VECTOR, |vector| vector.load(Ordering::Relaxed))
    }

    pub(super) fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(self.existing(vector), Ordering::Relaxed);
    }

    pub(super) fn set_queue_vector(&self, index: u16, vector: u16) {
        if let Some(slot) = self.queue_vectors.get(usize::from(index)) {
            slot.store(self.existing(vector), Ordering::Relaxed);
        }
    }

    /// A driver that asks for a vector the table has not reads back that it got none.
    fn existing(&self, vector: u16) -> u16 {
        if vector < self.msix.count() { vector } else { NO_VECTOR }
    }

    /// Follow MSI-X enable and INTx disable, after any write to configuration space.
    pub(super) fn update_mode(&self) {
        self.msix_enabled.store(self.msix.enabled(), Ordering::Release);
        self.drive(&mut self.isr.hold());
    }

    /// Read the ISR register: that acknowledges the interrupt.
    pub(super) fn take_isr(&self) -> u8 {
        let mut isr = self.isr.hold();
        let bits = std::mem::take(&mut isr.bits);
        self.drive(&mut isr);
        bits
    }

    /// Back to power-on, as far as the driver's part goes.
    pub(super) fn reset(&self) {
        self.config_vector.store(NO_VECTOR, Ordering::Relaxed);
        for vector in &self.queue_vectors {
            vector.store(NO_VECTOR, Ordering::Relaxed);
        }
        self.take_isr();
        self.status.store(0, Ordering::Release);
    }

    pub(super) fn save(&self) -> InterruptState {
        InterruptState {
            config_vector: self.config_vector(),
            queue_vectors: self.queue_vectors.iter().map(|v| v.load(Ordering::Relaxed)).collect(),
            status: self.status(),
            generation: self.generation(),
            isr: self.isr.hold().bits,
        }
    }

    pub(super) fn restore(&self, saved: &InterruptState) {
        self.set_config_vector(saved.config_vector);
        for (index, vector) in (0..).zip(&saved.queue_vectors) {
            self.set_queue_vector(index, *vector);
        }
        self.status.store(saved.status, Ordering::Release);
        self.generation.store(saved.generation, Ordering::Release);
        self.isr.hold().bits = saved.isr;
        self.update_mode();
    }

    /// Signal through `vector`, or as `isr` on the line.
    fn raise(&self, vector: u16, isr: u8) {
        if self.msix_enabled.load(Ordering::Acquire) {
            if let Some(vector) = self.msix.vector(vector) {
                // Fails only when the counter is full, and then it is pending anyway.
                let _ = vector.event().write(1);
            }
        } else {
            let mut state = self.isr.hold();
            state.bits |= isr;
            self.drive(&mut state);
        }
    }

    fn drive(&self, isr: &mut Isr) {
        let Some(line) = &self.line else { return };
        let asserted = isr.bits != 0 && !self.msix_enabled.load(Ordering::Acquire);
        let high = asserted && self.config.u16(COMMAND) & COMMAND_INTX_DISABLE == 0;
        if asserted != (self.config.u16(PCI_STATUS) & PCI_STATUS_INTERRUPT != 0) {
            self.config.set_interrupt_status(asserted);
        }
        if high != isr.high {
            isr.high = high;
            line.set(high);
        }
    }
}

impl Notify for Interrupts {
    fn queue(&self, index: u16) {
        self.raise(self.queue_vector(index), ISR_QUEUE);
    }

    fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        // Without a driver nobody would take the interrupt back, and a shared line would storm.
        if self.status() & status::DRIVER_OK != 0 {
            self.raise(self.config_vector(), ISR_CONFIG);
        }
    }

    fn needs_reset(&self, reason: &str) {
        let before = self.status.fetch_or(status::NEEDS_RESET, Ordering::AcqRel);
        if before & status::NEEDS_RESET != 0 {
            return;
        }
        (self.on_broken)(reason);
        // §2.1.2: a device that the driver has not brought up yet has nobody to tell.
        if before & status::DRIVER_OK != 0 {
            self.raise(self.config_vector(), ISR_CONFIG);
        }
    }
}
