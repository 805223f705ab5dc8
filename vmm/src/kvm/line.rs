//! [`Lines`]: the IOAPIC's and PIC's input pins. Several devices may share one (PCI INTx).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use devices::irq::IrqLine;
use kvm_ioctls::VmFd;

pub struct Lines {
    pins: Vec<Arc<Pin>>,
}

/// A pin is high while any of its drivers is.
struct Pin {
    fd: Arc<VmFd>,
    gsi: u32,
    high: Mutex<usize>,
}

struct Driver {
    pin: Arc<Pin>,
    high: AtomicBool,
}

impl Lines {
    pub(super) fn new(fd: Arc<VmFd>) -> Self {
        let pin = |gsi| Arc::new(Pin { fd: fd.clone(), gsi, high: Mutex::new(0) });
        Self { pins: (0..arch::gsi::IOAPIC_PINS).map(pin).collect() }
    }

    /// One more driver of the pin; none when there is no such pin.
    pub fn driver(&self, gsi: u32) -> Option<Arc<dyn IrqLine>> {
        let pin = self.pins.get(gsi as usize)?.clone();
        Some(Arc::new(Driver { pin, high: AtomicBool::new(false) }))
    }
}

impl IrqLine for Driver {
    fn set(&self, high: bool) {
        let mut count = self.pin.high.lock().unwrap_or_else(PoisonError::into_inner);
        if self.high.swap(high, Ordering::Relaxed) == high {
            return;
        }
        let before = *count;
        *count = if high { before + 1 } else { before - 1 };
        if (before == 0) != (*count == 0) {
            // The ioctl runs under the lock: two drivers' changes must reach KVM in order.
            // It fails only for a GSI without a route, and every pin has one.
            let _ = self.pin.fd.set_irq_line(self.pin.gsi, high);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.set(false);
    }
}
