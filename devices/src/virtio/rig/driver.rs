//! A driver on the PCI transport, and the machine's side of it: vectors and doorbells that count.

use std::io;
use std::sync::{Arc, Mutex};

use memory::GuestRam;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::GuestQueue;
use crate::irq::{Doorbells, MsiController, MsiMessage, MsiVector};
use crate::pci::{PciFunction, PortType};
use crate::sync::Lock;
use crate::testing::FakeLine;
use crate::virtio::VirtioDevice;
use crate::virtio::device::features;
use crate::virtio::pci::{PciParts, VirtioPci};

pub(crate) const ACKNOWLEDGE: u8 = 1;
pub(crate) const DRIVER: u8 = 2;
pub(crate) const DRIVER_OK: u8 = 4;
pub(crate) const FEATURES_OK: u8 = 8;
pub(crate) const NEEDS_RESET: u8 = 64;

pub(crate) const ISR: u64 = 0x1000;
pub(crate) const DEVICE: u64 = 0x2000;
pub(crate) const NOTIFY: u64 = 0x3000;
pub(crate) const STATUS: u64 = 0x14;
pub(crate) const QUEUE_SELECT: u64 = 0x16;

/// Where the test's firmware puts the BAR.
pub(crate) const BAR_BASE: u64 = 0x8000_0000;

pub(crate) struct FakeVector(EventFd);

impl MsiVector for FakeVector {
    fn event(&self) -> &EventFd {
        &self.0
    }
    fn route(&self, _message: MsiMessage) -> io::Result<()> {
        Ok(())
    }
    fn mask(&self) -> io::Result<()> {
        Ok(())
    }
    fn pending(&self) -> bool {
        false
    }
}

#[derive(Default)]
pub(crate) struct FakeMsi(Mutex<Vec<Arc<FakeVector>>>);

impl FakeMsi {
    /// Interrupts raised on vector `index` since the last call.
    pub(crate) fn take(&self, index: usize) -> u64 {
        self.0.hold()[index].0.read().unwrap_or(0)
    }
}

impl MsiController for FakeMsi {
    fn vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        let vector = Arc::new(FakeVector(EventFd::new(EFD_NONBLOCK)?));
        self.0.hold().push(vector.clone());
        Ok(vector)
    }
}

#[derive(Default)]
pub(crate) struct FakeDoorbells(pub(crate) Mutex<Vec<(u64, EventFd)>>);

impl FakeDoorbells {
    /// A guest write to `gpa`: true if a doorbell took it.
    pub(crate) fn ring(&self, gpa: u64) -> bool {
        let bells = self.0.hold();
        let bell = bells.iter().find(|(at, _)| *at == gpa);
        bell.inspect(|(_, event)| event.write(1).unwrap()).is_some()
    }

    pub(crate) fn addresses(&self) -> Vec<u64> {
        self.0.hold().iter().map(|(at, _)| *at).collect()
    }
}

impl Doorbells for FakeDoorbells {
    fn bind(&self, gpa: u64, event: &EventFd) -> io::Result<()> {
        let mut bells = self.0.hold();
        assert!(bells.iter().all(|(at, _)| *at != gpa), "{gpa:#x} is bound twice");
        bells.push((gpa, event.try_clone()?));
        Ok(())
    }
    fn unbind(&self, gpa: u64, _event: &EventFd) -> io::Result<()> {
        let mut bells = self.0.hold();
        let before = bells.len();
        bells.retain(|(at, _)| *at != gpa);
        assert_eq!(bells.len() + 1, before, "{gpa:#x} was not bound");
        Ok(())
    }
}

/// A device on PCI and the driver's registers.
pub(crate) struct Driver {
    pub(crate) function: VirtioPci,
    pub(crate) msi: Arc<FakeMsi>,
    pub(crate) doorbells: Arc<FakeDoorbells>,
    pub(crate) line: Arc<FakeLine>,
    /// What the machine was told of the device's refusals.
    pub(crate) refusals: Arc<Mutex<Vec<String>>>,
}

impl Driver {
    pub(crate) fn new(ram: &GuestRam, device: impl VirtioDevice + 'static) -> Self {
        let msi = Arc::new(FakeMsi::default());
        let doorbells = Arc::new(FakeDoorbells::default());
        let line = Arc::new(FakeLine::default());
        let refusals = Arc::<Mutex<Vec<String>>>::default();
        let told = refusals.clone();
        let parts = PciParts {
            id: "virtio0",
            ram: ram.clone(),
            msi: &*msi,
            doorbells: doorbells.clone(),
            intx: Some((1, line.clone())),
            rom: None,
            express: Some(PortType::Endpoint),
            on_broken: Box::new(move |reason| told.lock().unwrap().push(reason.to_owned())),
        };
        let function = VirtioPci::new(parts, Box::new(device)).unwrap();
        function.bar_moved(0, Some(BAR_BASE));
        Self { function, msi, doorbells, line, refusals }
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        self.function.bar_read(0, at, &mut data[..len]);
        u64::from_le_bytes(data)
    }

    pub(crate) fn write(&self, at: u64, len: usize, value: u64) {
        let _ = self.function.bar_write(0, at, &value.to_le_bytes()[..len]);
    }

    pub(crate) fn status(&self) -> u8 {
        self.read(STATUS, 1) as u8
    }

    pub(crate) fn set_status(&self, value: u8) {
        self.write(STATUS, 1, value.into());
    }

    pub(crate) fn add_status(&self, bits: u8) -> u8 {
        self.set_status(self.status() | bits);
        self.status()
    }

    pub(crate) fn offered(&self) -> u64 {
        self.write(0, 4, 0);
        let low = self.read(4, 4);
        self.write(0, 4, 1);
        self.read(4, 4) << 32 | low
    }

    pub(crate) fn accept(&self, features: u64) {
        for half in 0..2 {
            self.write(8, 4, half);
            self.write(0xc, 4, features >> (32 * half) & 0xffff_ffff);
        }
    }

    /// Offset of the first capability with this id and, if virtio's, this type.
    pub(crate) fn capability(&self, id: u8, kind: Option<u8>) -> u16 {
        let config = self.function.config();
        let mut at = u16::from(config.u8(0x34));
        while at != 0 {
            if config.u8(at) == id && kind.is_none_or(|kind| config.u8(at + 3) == kind) {
                return at;
            }
            at = config.u8(at + 1).into();
        }
        panic!("no capability {id:#x} {kind:?}");
    }

    pub(crate) fn enable_msix(&self) {
        let at = self.capability(0x11, None);
        let _ = self.function.config_write(at + 2, &[0, 0x80]);
    }

    /// All of the queue's registers; vector `index + 1`.
    pub(crate) fn set_up_queue(&self, index: u16, queue: &GuestQueue) {
        let config = &queue.config;
        self.write(QUEUE_SELECT, 2, index.into());
        self.write(0x18, 2, config.size.into());
        self.write(0x1a, 2, u64::from(index) + 1);
        for (at, gpa) in [(0x20, config.descriptors), (0x28, config.available), (0x30, config.used)]
        {
            self.write(at, 4, gpa & 0xffff_ffff);
            self.write(at + 4, 4, gpa >> 32);
        }
        self.write(0x1c, 2, 1);
    }

    /// From reset to DRIVER_OK, with MSI-X, the device's `wanted` features, and queues 0…
    pub(crate) fn bring_up(&self, wanted: u64, queues: &[&GuestQueue]) {
        self.set_status(0);
        assert_eq!(self.status(), 0);
        self.enable_msix();
        self.add_status(ACKNOWLEDGE);
        self.add_status(DRIVER);
        self.accept(wanted | features::VERSION_1);
        assert_ne!(self.add_status(FEATURES_OK) & FEATURES_OK, 0, "features refused");
        self.write(0x10, 2, 0);
        for (index, queue) in (0..).zip(queues) {
            self.set_up_queue(index, queue);
        }
        self.add_status(DRIVER_OK);
    }

    /// Ring the doorbell as the guest does.
    pub(crate) fn kick(&self, index: u64) {
        let at = NOTIFY + 4 * index;
        if !self.doorbells.ring(BAR_BASE + at) {
            self.write(at, 2, index);
        }
    }
}
