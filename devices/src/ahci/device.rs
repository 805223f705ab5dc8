//! [`Ahci`]: the ICH9 adapter as a PCI function.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use memory::GuestRam;
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::engine::AhciEngine;
use super::hba::{Attached, Hba};
use super::spec::{BAR, BAR_SIZE, PORTS};
use crate::ata::spec::{SIGNATURE_DISK, SIGNATURE_PACKET, status};
use crate::ata::{Drive, DriveState};
use crate::bus::Effect;
use crate::component::{Component, DeviceState, StateError};
use crate::engine::Seat;
use crate::io_thread::{IoThread, Stop};
use crate::irq::{IrqLine, MsiController};
use crate::pci::{BarKind, Config, ConfigBuilder, ConfigState, Ids, Intx, Msi, PciFunction};
use crate::sync::Lock;

const KIND: &str = "ahci";

/// What the adapter needs from the machine.
pub struct AhciParts<'a> {
    /// The controller's alias: unique in the machine.
    pub id: &'a str,
    pub ram: GuestRam,
    pub msi: &'a dyn MsiController,
    /// INTA# and the line it is routed to.
    pub intx: Arc<dyn IrqLine>,
    pub thread: Arc<IoThread>,
    pub drives: [Option<Drive>; PORTS],
}

/// What the guest's accesses and the engine share.
pub(super) struct Shared {
    pub(super) ram: GuestRam,
    pub(super) drives: [Option<Drive>; PORTS],
    pub(super) config: Config,
    pub(super) hba: Mutex<Hba>,
    msi: Msi,
    intx: Intx,
    /// Messages that were sent.
    sent: AtomicU64,
    kick: Arc<EventFd>,
}

impl Shared {
    /// Bring the interrupt in line with the registers. The lock keeps it in order.
    pub(super) fn signal(&self, hba: &Hba) {
        let messages = self.msi.enabled(&self.config);
        if self.sent.swap(hba.messages, Ordering::Relaxed) != hba.messages && messages {
            self.msi.raise();
        }
        self.intx.set(&self.config, hba.is_asking() && !messages);
    }

    /// The engine shall look again.
    pub(super) fn wake(&self) {
        let _ = self.kick.write(1);
    }
}

/// An AHCI adapter with six ports.
pub struct Ahci {
    id: String,
    shared: Arc<Shared>,
    seat: Seat<AhciEngine>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    config: ConfigState,
    hba: Hba,
    drives: Vec<Option<DriveState>>,
}

impl Ahci {
    /// # Errors
    /// When the host has no eventfds or interrupt vectors left, or an image cannot be used.
    pub fn new(parts: AhciParts<'_>) -> io::Result<Self> {
        let AhciParts { id, ram, msi, intx, thread, drives } = parts;
        let ids = Ids { vendor: 0x8086, device: 0x2922, class: 0x01_06_01, revision: 2 };
        let mut builder = ConfigBuilder::new(ids);
        builder
            .subsystem(0x1af4, 0x1100)
            .interrupt_pin(1)
            .bar(BAR, BarKind::Memory32, BAR_SIZE)
            // Address map: AHCI. Port control and status: which ports are on.
            .set(0x90, &[0x40])
            .writable(0x92, &[0x3f, 0x00]);
        let msi = Msi::new(msi, &mut builder)?;
        let attached = std::array::from_fn(|index| drives[index].as_ref().map(attached));
        let seat = Seat::new(thread)?;
        drives.iter().flatten().for_each(|drive| drive.follow(&seat.kick_event()));
        let shared = Arc::new(Shared {
            ram,
            drives,
            config: builder.build(),
            hba: Mutex::new(Hba::new(attached)),
            msi,
            intx: Intx::new(Some(intx)),
            sent: AtomicU64::new(0),
            kick: seat.kick_event(),
        });
        let ahci = Self { id: id.to_owned(), shared, seat };
        ahci.start()?;
        Ok(ahci)
    }

    fn start(&self) -> io::Result<()> {
        self.seat.start(|| AhciEngine::new(self.shared.clone()))
    }

    fn start_or_log(&self) {
        if let Err(error) = self.start() {
            tracing::error!(id = self.id, %error, "an AHCI adapter cannot go on");
        }
    }

    fn follow_config(&self) {
        let shared = &self.shared;
        shared.msi.config_written(&shared.config);
        shared.intx.config_written(&shared.config);
        shared.signal(&shared.hba.hold());
    }
}

fn attached(drive: &Drive) -> Attached {
    match drive {
        Drive::Disk(_) => Attached { signature: SIGNATURE_DISK, status: status::READY },
        // A packet device is not ready for other commands.
        Drive::Packets(_) => Attached { signature: SIGNATURE_PACKET, status: 0 },
    }
}

impl PciFunction for Ahci {
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
        data.fill(0xff);
        if bar != BAR || offset + data.len() as u64 > BAR_SIZE {
            return;
        }
        let hba = self.shared.hba.hold();
        for (at, byte) in (offset..).zip(data) {
            *byte = hba.read(at & !3).to_le_bytes()[(at & 3) as usize];
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        // §3: registers are written as dwords, which may come in pairs.
        if bar != BAR || !offset.is_multiple_of(4) || !data.len().is_multiple_of(4) {
            return Effect::None;
        }
        let mut kick = false;
        {
            let mut hba = self.shared.hba.hold();
            for (at, bytes) in (offset..).step_by(4).zip(data.chunks_exact(4)) {
                let value = bytes.try_into().map_or(0, u32::from_le_bytes);
                kick |= hba.write(at, value, &self.shared.ram);
            }
            self.shared.signal(&hba);
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

impl Component for Ahci {
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
            let mut hba = shared.hba.hold();
            hba.reset();
            shared.drives.iter().flatten().for_each(Drive::reset);
            shared.config.reset();
            shared.signal(&hba);
        }
        shared.msi.reset(&shared.config);
        if running {
            self.start_or_log();
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        self.seat.check_still(KIND)?;
        let shared = &self.shared;
        let mut hba = shared.hba.hold().clone();
        self.seat.with_kept(|engine| engine.give_back(&mut hba));
        let saved = Saved {
            config: shared.config.save(),
            hba,
            drives: shared.drives.iter().map(|drive| drive.as_ref().map(Drive::save)).collect(),
        };
        DeviceState::encode(KIND, 1, &saved)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: Saved = state.decode(KIND, 1)?;
        let shared = &self.shared;
        let mismatch =
            || StateError::Mismatch { kind: KIND, reason: "it has other drives".to_owned() };
        if saved.hba.ports.len() != PORTS || saved.drives.len() != PORTS {
            return Err(mismatch());
        }
        for (drive, state) in shared.drives.iter().zip(&saved.drives) {
            if !Drive::take_state(drive.as_ref(), state.as_ref()) {
                return Err(mismatch());
            }
        }
        shared.config.restore(KIND, &saved.config)?;
        shared.hba.hold().restore(saved.hba);
        self.follow_config();
        Ok(())
    }
}
