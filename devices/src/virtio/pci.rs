//! [`VirtioPci`]: the modern virtio-pci transport (virtio 1.2 §4.1).
//!
//! ```text
//!  status: 0 ─ACKNOWLEDGE─ DRIVER ─features→ FEATURES_OK ─queues→ DRIVER_OK ──(workers run)
//!          ▲                                   refused unless all were         │ a broken queue
//!          └── write 0: stop, drop ── offered and VERSION_1 is among them ─────┴→ NEEDS_RESET
//! ```
//! One 64-bit BAR holds everything; its notify pages are doorbells, bound to the queues' kicks
//! while the device is live, so that a kick never reaches this code.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};

use memory::GuestRam;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::{ActivateError, Activation, Notify, VirtioDevice, features};
use super::queue::{Queue, QueueError, RingFeatures};
use super::worker::{ActiveQueue, KeptWorkers, Stopped, Workers};
use crate::bus::Effect;
use crate::component::Component;
use crate::io_thread::Stop;
use crate::irq::{Doorbells, IrqLine, MsiController};
use crate::limit::warn_limited;
use crate::pci::{Bar, Config, Msix, OptionRom, PciFunction, PortType};
use crate::sync::Lock;

mod interrupts;
mod layout;
mod registers;
mod state;
#[cfg(test)]
mod tests;

use interrupts::Interrupts;
use layout::{BAR, BAR_SIZE, Region};
use registers::{Registers, status};

/// What a device needs from the machine to sit on PCI.
pub struct PciParts<'a> {
    /// The device's alias: unique in the machine.
    pub id: &'a str,
    pub ram: GuestRam,
    pub msi: &'a dyn MsiController,
    pub doorbells: Arc<dyn Doorbells>,
    /// INTx pin (1 is INTA#) and the line it is routed to, for drivers without MSI-X.
    pub intx: Option<(u8, Arc<dyn IrqLine>)>,
    /// What the PCI Express capability says; `None` on a conventional bus.
    pub express: Option<PortType>,
    /// What firmware boots by it with.
    pub rom: Option<OptionRom>,
    /// Told why the device refuses to go on, once until the driver resets it.
    pub on_broken: Box<dyn Fn(&str) + Send + Sync>,
}

/// A virtio device as a PCI function.
pub struct VirtioPci {
    id: String,
    kind: &'static str,
    config: Arc<Config>,
    /// Offset of MSI-X message control in configuration space.
    msix_control: u16,
    /// Offset of the configuration access capability (§4.1.4.9).
    window: u16,
    rom: Option<OptionRom>,
    msix: Arc<Msix>,
    interrupts: Arc<Interrupts>,
    doorbells: Arc<dyn Doorbells>,
    ram: GuestRam,
    offered: u64,
    kicks: Vec<Arc<EventFd>>,
    live: Mutex<Live>,
}

struct Live {
    device: Box<dyn VirtioDevice>,
    registers: Registers,
    /// Running, from DRIVER_OK until reset; empty while paused.
    workers: Workers,
    /// Of a paused device: those that wait to go on with requests that the host has failed.
    kept: KeptWorkers,
    /// Of a restored device: chains that the saved one kept, by queue.
    owed: BTreeMap<u16, Vec<u16>>,
    active: bool,
    paused: bool,
    bar: Option<u64>,
    /// Where the doorbells of `bound_queues` are bound.
    bound: Option<u64>,
    bound_queues: Vec<u16>,
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("queue {index}: {error}")]
    Queue { index: u16, error: QueueError },
    #[error(transparent)]
    Device(#[from] ActivateError),
}

impl VirtioPci {
    /// Vendor and device id of such a device.
    #[must_use]
    pub fn ids(device_type: u16) -> (u16, u16) {
        layout::ids(device_type)
    }

    /// Put `device` on PCI.
    ///
    /// # Errors
    /// When the host has no eventfds or interrupt vectors left.
    pub fn new(parts: PciParts<'_>, mut device: Box<dyn VirtioDevice>) -> io::Result<Self> {
        let sizes = device.queue_sizes().to_vec();
        let vectors = layout::vectors(sizes.len());
        let msix = Arc::new(Msix::new(parts.msi, vectors, layout::MSIX)?);
        let pin = parts.intx.as_ref().map(|(pin, _)| *pin);
        let rom = parts.rom.as_ref().map(OptionRom::size);
        let built = layout::config_space(device.device_type(), &msix, pin, parts.express, rom);
        let config = Arc::new(built.config);
        let line = parts.intx.map(|(_, line)| line);
        let interrupts =
            Interrupts::new(msix.clone(), config.clone(), line, sizes.len(), parts.on_broken);
        let interrupts = Arc::new(interrupts);
        device.connect(interrupts.clone());
        let kicks = sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK).map(Arc::new))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            id: parts.id.to_owned(),
            kind: device.kind(),
            config,
            msix_control: built.msix_control,
            window: built.window,
            rom: parts.rom,
            msix,
            interrupts,
            doorbells: parts.doorbells,
            ram: parts.ram,
            offered: device.features() | features::COMMON,
            kicks,
            live: Mutex::new(Live {
                device,
                registers: Registers::new(&sizes),
                workers: Workers::default(),
                kept: KeptWorkers::default(),
                owed: BTreeMap::new(),
                active: false,
                paused: false,
                bar: None,
                bound: None,
                bound_queues: Vec::new(),
            }),
        })
    }

    fn common_read(&self, offset: u64, data: &mut [u8]) {
        let live = self.live.hold();
        let image = live.registers.image(self.offered, &self.interrupts);
        super::device::read_config_bytes(&image, offset, data);
    }

    fn common_write(&self, offset: u64, data: &[u8]) {
        let mut live = self.live.hold();
        if let Some(value) = live.registers.write(offset, data, &self.interrupts) {
            self.write_status(&mut live, value);
        }
    }

    fn write_status(&self, live: &mut Live, value: u8) {
        if value == 0 {
            self.driver_reset(live);
            return;
        }
        let current = self.interrupts.status();
        let value = value & !status::NEEDS_RESET;
        if current & !status::NEEDS_RESET & !value != 0 {
            warn_limited!("{}: driver cleared bits of its status; ignored", self.id);
            return;
        }
        let mut accepted = value & !current;
        let before_features = status::ACKNOWLEDGE | status::DRIVER;
        if accepted & status::FEATURES_OK != 0
            && (value & before_features != before_features
                || !live.registers.features_fit(self.offered))
        {
            accepted &= !status::FEATURES_OK;
        }
        // The driver must have seen FEATURES_OK stick before it goes on.
        if accepted & status::DRIVER_OK != 0
            && (current & status::FEATURES_OK == 0
                || current & (status::FAILED | status::NEEDS_RESET) != 0)
        {
            accepted &= !status::DRIVER_OK;
        }
        self.interrupts.set_status(accepted);
        if accepted & status::DRIVER_OK != 0 {
            live.registers.freeze();
            self.start(live);
        }
    }

    /// Start the workers on the queues the driver enabled, from where they stand.
    fn start(&self, live: &mut Live) {
        match self.try_start(live) {
            Ok(workers) => {
                live.workers = workers;
                live.active = true;
                self.bind(live);
            }
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                warn_limited!("{}: cannot start: {error}{cause}", self.id);
                self.interrupts.needs_reset(&format!("cannot start: {error}{cause}"));
            }
        }
    }

    fn try_start(&self, live: &mut Live) -> Result<Workers, StartError> {
        let accepted = live.registers.driver_features();
        let ring = RingFeatures {
            event_idx: accepted & features::EVENT_IDX != 0,
            indirect: accepted & features::INDIRECT_DESC != 0,
        };
        let mut queues = Vec::with_capacity(self.kicks.len());
        for (index, (registers, kick)) in (0..).zip(live.registers.queues().iter().zip(&self.kicks))
        {
            queues.push(if registers.config.enabled && !live.kept.has(index) {
                let queue = Queue::new(
                    self.ram.clone(),
                    &registers.config,
                    registers.max_size,
                    ring,
                    registers.progress,
                )
                .map_err(|error| StartError::Queue { index, error })?;
                let queue = queue.owing(live.owed.remove(&index).unwrap_or_default());
                Some(ActiveQueue::new(index, queue, kick.clone(), self.interrupts.clone()))
            } else {
                None
            });
        }
        let activation = Activation { ram: self.ram.clone(), features: accepted, queues };
        let mut workers = live.device.activate(activation)?;
        std::mem::take(&mut live.kept).start(&mut workers)?;
        Ok(workers)
    }

    /// Take the queues back from the workers.
    fn stop(&self, live: &mut Live, how: Stop) {
        let Stopped { progress, kept } = std::mem::take(&mut live.workers).stop(how);
        for (index, progress) in progress {
            live.registers.set_progress(index, progress);
        }
        // A machine that is paused twice has stopped its workers before.
        if !kept.is_empty() || how == Stop::Discard {
            live.kept = kept;
        }
    }

    /// The driver wrote 0 to the status (§2.1): when it reads 0 back, nothing is in flight.
    fn driver_reset(&self, live: &mut Live) {
        self.stop(live, Stop::Discard);
        live.active = false;
        live.owed.clear();
        self.unbind(live);
        for kick in &self.kicks {
            let _ = kick.read();
        }
        live.device.reset();
        live.registers.reset();
        self.interrupts.reset();
    }

    /// Bring the doorbells in line: bound while the device is live and its BAR decoded.
    fn bind(&self, live: &mut Live) {
        let wanted = live.bar.filter(|_| live.active);
        if live.bound == wanted {
            return;
        }
        self.unbind(live);
        let Some(base) = wanted else { return };
        let enabled = live.registers.queues().iter().map(|queue| queue.config.enabled);
        for (index, kick) in
            (0..).zip(&self.kicks).zip(enabled).filter_map(|(q, on)| on.then_some(q))
        {
            // Without a doorbell the kick comes as an ordinary write, which works, slowly.
            match self.doorbells.bind(layout::doorbell(base, index), kick) {
                Ok(()) => live.bound_queues.push(index),
                Err(error) => warn_limited!("{}: cannot bind a doorbell: {error}", self.id),
            }
        }
        live.bound = wanted;
    }

    fn unbind(&self, live: &mut Live) {
        let Some(base) = live.bound.take() else { return };
        for index in live.bound_queues.drain(..) {
            let kick = &self.kicks[usize::from(index)];
            if let Err(error) = self.doorbells.unbind(layout::doorbell(base, index), kick) {
                warn_limited!("{}: cannot unbind a doorbell: {error}", self.id);
            }
        }
    }

    /// An access through the configuration access capability, if the driver set one up that
    /// makes sense (§4.1.4.9.1): where in the BAR, and how wide.
    fn window_access(&self, offset: u16, len: usize) -> Option<(u64, usize)> {
        let window = layout::Window::read(&self.config, self.window);
        (offset == self.window + layout::WINDOW_DATA).then_some(())?;
        let width = usize::try_from(window.length).ok()?;
        let valid = window.bar == BAR
            && matches!(width, 1 | 2 | 4)
            && width <= len
            && window.offset.is_multiple_of(window.length)
            && u64::from(window.offset) + u64::from(window.length) <= BAR_SIZE;
        valid.then_some((window.offset.into(), width))
    }
}

/// Unplugged: nothing may ring for it any more.
impl Drop for VirtioPci {
    fn drop(&mut self) {
        let mut live = self.live.hold();
        self.stop(&mut live, Stop::Discard);
        self.unbind(&mut live);
    }
}

impl PciFunction for VirtioPci {
    fn name(&self) -> &str {
        &self.id
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        if let Some((at, width)) = self.window_access(offset, data.len()) {
            self.bar_read(BAR, at, &mut data[..width]);
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Effect {
        self.config.write(offset, data);
        self.msix.config_written(self.config.u16(self.msix_control));
        self.interrupts.update_mode();
        match self.window_access(offset, data.len()) {
            Some((at, width)) => self.bar_write(BAR, at, &data[..width]),
            None => Effect::None,
        }
    }

    fn bus_reset(&self) {
        Component::reset(self);
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        if self.msix.bar_read(bar, offset, data) {
            return;
        }
        if let (Bar::ROM, Some(rom)) = (bar, &self.rom) {
            return rom.read(offset, data);
        }
        data.fill(0xff);
        match Region::find(bar, offset, data.len()) {
            Some((Region::Common, offset)) => self.common_read(offset, data),
            Some((Region::Isr, offset)) => {
                data.fill(0);
                if offset == 0 {
                    data[0] = self.interrupts.take_isr();
                }
            }
            Some((Region::Device, offset)) => self.live.hold().device.read_config(offset, data),
            Some((Region::Notify, _)) => data.fill(0),
            None => {}
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        if self.msix.bar_write(bar, offset, data) {
            return Effect::None;
        }
        match Region::find(bar, offset, data.len()) {
            Some((Region::Common, offset)) => self.common_write(offset, data),
            Some((Region::Device, offset)) => {
                self.live.hold().device.write_config(offset, data);
            }
            Some((Region::Notify, offset)) => {
                // Only what comes before the doorbell is bound, or through the access window.
                let index = usize::try_from(offset / layout::NOTIFY_STEP).ok();
                if let Some(kick) = index.and_then(|index| self.kicks.get(index))
                    && self.live.hold().active
                {
                    let _ = kick.write(1);
                }
            }
            Some((Region::Isr, _)) | None => {}
        }
        Effect::None
    }

    fn bar_moved(&self, bar: u8, base: Option<u64>) {
        if bar == BAR {
            let mut live = self.live.hold();
            live.bar = base;
            self.bind(&mut live);
        } else if let (Bar::ROM, Some(rom)) = (bar, &self.rom) {
            rom.moved(base);
        }
    }
}
