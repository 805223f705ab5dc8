//! [`Nvme`]: the controller as a PCI function.

use std::io;
use std::sync::{Arc, Mutex};

use memory::GuestRam;
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::controller::Controller;
use super::engine::NvmeEngine;
use super::identify::{DEVICE, SUBSYSTEM, VENDOR};
use super::spec::{BAR, BAR_SIZE, Command, MSIX_PENDING, MSIX_TABLE};
use crate::backend::Disk;
use crate::backend::lane::Meter;
use crate::bus::Effect;
use crate::component::{Component, DeviceState, StateError};
use crate::engine::Seat;
use crate::io_thread::{IoThread, Stop};
use crate::irq::{IrqLine, MsiController};
use crate::pci::{
    BarKind, Config, ConfigBuilder, ConfigState, Ids, Intx, Msix, MsixPlace, MsixState,
    PciFunction, PortType,
};
use crate::sync::Lock;

const KIND: &str = "nvme";
/// Of the saved state.
const VERSION: u16 = 3;

/// A disk of the controller.
pub struct Namespace {
    pub disk: Arc<dyn Disk>,
    pub meter: Arc<Meter>,
    /// An EUI-64.
    pub eui: Option<u64>,
}

impl Namespace {
    pub(super) fn trims(&self) -> bool {
        let info = self.disk.info();
        info.discard && !info.read_only
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NvmeIdentity {
    /// At most 40 bytes.
    pub model: String,
    /// At most 20 bytes.
    pub serial: String,
}

/// What the controller needs from the machine.
pub struct NvmeParts<'a> {
    /// The controller's alias: unique in the machine.
    pub id: &'a str,
    pub ram: GuestRam,
    pub msi: &'a dyn MsiController,
    /// INTA# and the line it is routed to.
    pub intx: Arc<dyn IrqLine>,
    /// What the PCI Express capability says; `None` on a conventional bus.
    pub express: Option<PortType>,
    pub thread: Arc<IoThread>,
    pub identity: NvmeIdentity,
    /// By number, from 1.
    pub namespaces: Vec<Option<Namespace>>,
    /// Beside the admin queue.
    pub queues: u16,
}

/// What the guest's accesses and the engine share.
pub(super) struct Shared {
    pub(super) ram: GuestRam,
    pub(super) identity: NvmeIdentity,
    pub(super) namespaces: Vec<Option<Namespace>>,
    pub(super) config: Config,
    pub(super) msix: Msix,
    intx: Intx,
    pub(super) controller: Mutex<Controller>,
    queues: usize,
    kick: Arc<EventFd>,
}

impl Shared {
    pub(super) fn namespace(&self, number: u32) -> Option<&Namespace> {
        self.namespaces.get(usize::try_from(number).ok()?.checked_sub(1)?)?.as_ref()
    }

    /// With the admin queue.
    pub(super) fn queue_count(&self) -> usize {
        self.queues + 1
    }

    /// The engine shall look again.
    pub(super) fn wake(&self) {
        let _ = self.kick.write(1);
    }

    /// Tell the driver of new completions.
    pub(super) fn signal(&self, controller: &mut Controller) {
        let messages = self.msix.enabled();
        for queue in controller.completions.iter_mut().flatten().filter(|queue| queue.untold) {
            queue.untold = false;
            if messages
                && queue.interrupts
                && let Some(vector) = self.msix.vector(queue.vector)
            {
                // Fails only when the counter is full, and then it is pending anyway.
                let _ = vector.event().write(1);
            }
        }
        self.intx.set(&self.config, !messages && controller.is_asking());
    }
}

/// An NVMe controller.
pub struct Nvme {
    id: String,
    shared: Arc<Shared>,
    msix_control: u16,
    seat: Seat<NvmeEngine>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    config: ConfigState,
    msix: MsixState,
    controller: Controller,
    /// Queue and entry of commands that were taken and not ended: the host had failed them.
    unfinished: Vec<(u16, Vec<u8>)>,
}

impl Saved {
    fn read(state: &DeviceState) -> Result<Self, StateError> {
        if state.version >= VERSION {
            return state.decode(KIND, VERSION);
        }
        let (config, msix, controller) = state.decode(KIND, VERSION)?;
        Ok(Self { config, msix, controller, unfinished: Vec::new() })
    }
}

impl Nvme {
    /// # Errors
    /// When the host has no eventfds or interrupt vectors left, or an image cannot be used.
    pub fn new(parts: NvmeParts<'_>) -> io::Result<Self> {
        let NvmeParts { id, ram, msi, intx, express, thread, identity, namespaces, queues } = parts;
        let queues = queues.max(1);
        let place = MsixPlace { bar: BAR, table: MSIX_TABLE, pba: MSIX_PENDING };
        let msix = Msix::new(msi, queues + 1, place)?;
        let ids = Ids { vendor: VENDOR, device: DEVICE, class: 0x01_08_02, revision: 2 };
        let mut builder = ConfigBuilder::new(ids);
        builder.subsystem(SUBSYSTEM.0, SUBSYSTEM.1).interrupt_pin(1).bar(
            BAR,
            BarKind::Memory64,
            BAR_SIZE,
        );
        let capability = msix.add_capability(&mut builder);
        if let Some(port) = express {
            builder.express(port);
        }
        let write_cache =
            namespaces.iter().flatten().all(|namespace| namespace.disk.info().writeback);
        let seat = Seat::new(thread)?;
        let shared = Arc::new(Shared {
            ram,
            identity,
            namespaces,
            config: builder.build(),
            msix,
            intx: Intx::new(Some(intx)),
            controller: Mutex::new(Controller::new(queues, write_cache)),
            queues: queues.into(),
            kick: seat.kick_event(),
        });
        let msix_control = Msix::control_offset(capability);
        let nvme = Self { id: id.to_owned(), shared, msix_control, seat };
        nvme.start()?;
        Ok(nvme)
    }

    fn start(&self) -> io::Result<()> {
        self.seat.start(|| NvmeEngine::new(self.shared.clone()))
    }

    fn start_or_log(&self) {
        if let Err(error) = self.start() {
            tracing::error!(id = self.id, %error, "an NVMe controller cannot go on");
        }
    }

    /// The disk of a namespace has another size: tell the guest.
    pub fn resized(&self, namespace: u32) {
        let mut controller = self.shared.controller.hold();
        controller.namespace_changed(namespace, &self.shared.ram);
        self.shared.signal(&mut controller);
    }

    fn follow_config(&self) {
        let shared = &self.shared;
        shared.msix.config_written(shared.config.u16(self.msix_control));
        shared.intx.config_written(&shared.config);
        shared.signal(&mut shared.controller.hold());
    }
}

impl PciFunction for Nvme {
    fn name(&self) -> &str {
        &self.id
    }

    fn config(&self) -> &Config {
        &self.shared.config
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Effect {
        self.shared.config.write(offset, data);
        self.follow_config();
        // Bus mastering may have been what it waited for.
        self.seat.kick();
        Effect::None
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        if self.shared.msix.bar_read(bar, offset, data) {
            return;
        }
        data.fill(0xff);
        if bar != BAR || offset + data.len() as u64 > BAR_SIZE {
            return;
        }
        let controller = self.shared.controller.hold();
        for (at, byte) in (offset..).zip(data) {
            *byte = controller.read(at & !3).to_le_bytes()[(at & 3) as usize];
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        let shared = &self.shared;
        if shared.msix.bar_write(bar, offset, data) {
            return Effect::None;
        }
        // §3: registers are written as dwords, which may come in pairs.
        if bar != BAR || !offset.is_multiple_of(4) || !data.len().is_multiple_of(4) {
            return Effect::None;
        }
        let mut kick = false;
        {
            let mut controller = shared.controller.hold();
            for (at, bytes) in (offset..).step_by(4).zip(data.chunks_exact(4)) {
                let value = bytes.try_into().map_or(0, u32::from_le_bytes);
                kick |= controller.write(at, value, &shared.ram);
            }
            shared.signal(&mut controller);
        }
        if kick {
            self.seat.kick();
        }
        Effect::None
    }

    fn bus_reset(&self) {
        Component::reset(self);
    }
}

impl Component for Nvme {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        KIND
    }

    fn pause(&self) {
        self.seat.stop(Stop::Deliver);
    }

    fn resume(&self) {
        self.start_or_log();
    }

    fn reset(&self) {
        let running = self.seat.is_running();
        self.seat.stop(Stop::Discard);
        let shared = &self.shared;
        {
            let mut controller = shared.controller.hold();
            controller.reset();
            shared.config.reset();
            shared.msix.reset();
            shared.msix.config_written(shared.config.u16(self.msix_control));
            shared.signal(&mut controller);
        }
        if running {
            self.start_or_log();
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        self.seat.check_still(KIND)?;
        let shared = &self.shared;
        let mut controller = shared.controller.hold().clone();
        self.seat.with_kept(|engine| engine.give_back(&mut controller));
        let commands = controller.unfinished.iter();
        let saved = Saved {
            config: shared.config.save(),
            msix: shared.msix.save(),
            unfinished: commands.map(|(queue, it)| (*queue, it.bytes().to_vec())).collect(),
            controller,
        };
        DeviceState::encode(KIND, VERSION, &saved)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let mut saved = Saved::read(state)?;
        let shared = &self.shared;
        let mut controller = shared.controller.hold();
        if !controller.is_like(&saved.controller) {
            let reason = "it has other queues".to_owned();
            return Err(StateError::Mismatch { kind: KIND, reason });
        }
        for (queue, bytes) in saved.unfinished {
            let command = <[u8; 64]>::try_from(bytes).ok().map(Command::new);
            if !command.is_some_and(|command| saved.controller.take_over(queue, command)) {
                let reason = "it has a command of no queue".to_owned();
                return Err(StateError::Mismatch { kind: KIND, reason });
            }
        }
        shared.config.restore(KIND, &saved.config)?;
        shared.msix.config_written(shared.config.u16(self.msix_control));
        shared.msix.restore(KIND, &saved.msix)?;
        *controller = saved.controller;
        drop(controller);
        self.follow_config();
        Ok(())
    }
}
