//! [`Ide`]: the PIIX3's IDE function, its channels at their ports.

use std::io;
use std::sync::{Arc, Mutex};

use memory::GuestRam;
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::channel::{Attached, Channel};
use super::engine::IdeEngine;
use crate::ata::Drive;
use crate::ata::DriveState;
use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::engine::Seat;
use crate::io_thread::{IoThread, Stop};
use crate::irq::IrqLine;
use crate::pci::{BarKind, Config, ConfigBuilder, ConfigState, Ids, PciFunction};
use crate::sync::Lock;

const KIND: &str = "ide";
/// Bus master registers, eight ports for each channel.
const MASTER_BAR: u8 = 4;
const MASTER_LEN: u64 = 16;
/// Timing registers: bit 15 of each has the channel's ports decoded.
const TIMING: u16 = 0x40;

pub(super) const CHANNELS: usize = 2;

/// What the function needs from the machine.
pub struct IdeParts<'a> {
    /// The controller's alias: unique in the machine.
    pub id: &'a str,
    pub ram: GuestRam,
    /// Of the channels: lines 14 and 15.
    pub lines: [Arc<dyn IrqLine>; CHANNELS],
    pub thread: Arc<IoThread>,
    /// By channel, the first drive and the second.
    pub drives: [[Option<Drive>; 2]; CHANNELS],
}

/// What the guest's accesses and the engine share.
pub(super) struct Shared {
    pub(super) ram: GuestRam,
    pub(super) drives: [[Option<Drive>; 2]; CHANNELS],
    pub(super) config: Config,
    pub(super) channels: [Mutex<Channel>; CHANNELS],
    lines: [Arc<dyn IrqLine>; CHANNELS],
    kick: Arc<EventFd>,
}

impl Shared {
    /// Bring the interrupt in line with the channel. Its lock keeps them in order.
    pub(super) fn signal(&self, index: usize, channel: &Channel) {
        self.lines[index].set(channel.is_asking());
    }

    /// Carry out `act` on a channel, signal, and wake the engine if it has something to do.
    fn with(&self, index: usize, act: impl FnOnce(&mut Channel) -> bool) {
        let wake = {
            let mut channel = self.channels[index].hold();
            let wake = act(&mut channel);
            self.signal(index, &channel);
            wake
        };
        if wake {
            let _ = self.kick.write(1);
        }
    }
}

/// The IDE function with its two channels.
pub struct Ide {
    id: String,
    shared: Arc<Shared>,
    seat: Seat<IdeEngine>,
}

/// The ports of a channel: its command block, or its control register.
struct Ports {
    name: &'static str,
    shared: Arc<Shared>,
    channel: usize,
    control: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    config: ConfigState,
    channels: [Channel; CHANNELS],
    drives: Vec<Option<DriveState>>,
}

impl Ide {
    /// # Errors
    /// When the host has no eventfds left, or an image cannot be used.
    pub fn new(parts: IdeParts<'_>) -> io::Result<Self> {
        let IdeParts { id, ram, lines, thread, drives } = parts;
        let ids = Ids { vendor: 0x8086, device: 0x7010, class: 0x01_01_80, revision: 0 };
        let mut builder = ConfigBuilder::new(ids);
        builder
            .subsystem(0x1af4, 0x1100)
            .bar(MASTER_BAR, BarKind::Io, MASTER_LEN)
            // Both channels are decoded, as firmware would have set it.
            .set(TIMING, &[0x00, 0x80, 0x00, 0x80])
            .writable(TIMING, &[0xff; 5]);
        let attached = |pair: &[Option<Drive>; 2]| {
            std::array::from_fn(|unit| {
                pair[unit].as_ref().map(|drive| match drive {
                    Drive::Disk(_) => Attached::Disk,
                    Drive::Packets(_) => Attached::Packets,
                })
            })
        };
        let channels = std::array::from_fn(|n| Mutex::new(Channel::new(attached(&drives[n]))));
        let seat = Seat::new(thread)?;
        let all = drives.iter().flatten().flatten();
        all.for_each(|drive| drive.follow(&seat.kick_event()));
        let kick = seat.kick_event();
        let config = builder.build();
        let shared = Arc::new(Shared { ram, drives, config, channels, lines, kick });
        let ide = Self { id: id.to_owned(), shared, seat };
        ide.start()?;
        Ok(ide)
    }

    /// Where the ports of the channels are: base, length, and who answers there.
    #[must_use]
    pub fn ports(&self) -> Vec<(u64, u64, Arc<dyn BusDevice>)> {
        let ports = |name, channel, control| -> Arc<dyn BusDevice> {
            Arc::new(Ports { name, shared: self.shared.clone(), channel, control })
        };
        vec![
            (0x1f0, 8, ports("ide0", 0, false)),
            (0x3f6, 1, ports("ide0-control", 0, true)),
            (0x170, 8, ports("ide1", 1, false)),
            (0x376, 1, ports("ide1-control", 1, true)),
        ]
    }

    fn start(&self) -> io::Result<()> {
        self.seat.start(|| IdeEngine::new(self.shared.clone()))
    }

    fn start_or_log(&self) {
        if let Err(error) = self.start() {
            tracing::error!(id = self.id, %error, "an IDE function cannot go on");
        }
    }

    fn drives(&self) -> impl Iterator<Item = &Option<Drive>> {
        self.shared.drives.iter().flatten()
    }
}

impl BusDevice for Ports {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        if self.control {
            data.fill(0xff);
            if let Some(byte) = data.first_mut() {
                *byte = self.shared.channels[self.channel].hold().alternate_status();
            }
            return;
        }
        self.shared.with(self.channel, |channel| {
            if offset == 0 {
                return channel.read_data(data);
            }
            data.fill(0xff);
            if let Some(byte) = data.first_mut() {
                *byte = channel.read(offset);
            }
            false
        });
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let Some(first) = data.first().copied() else { return Effect::None };
        self.shared.with(self.channel, |channel| match (self.control, offset) {
            (true, _) => channel.write_control(first),
            (false, 0) => channel.write_data(data),
            (false, _) => channel.write(offset, first),
        });
        Effect::None
    }
}

impl PciFunction for Ide {
    fn name(&self) -> &str {
        &self.id
    }

    fn config(&self) -> &Config {
        &self.shared.config
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Effect {
        self.shared.config.write(offset, data);
        // Bus mastering may have been what it waited for.
        self.seat.kick();
        Effect::None
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if bar != MASTER_BAR {
            return;
        }
        for (at, byte) in (offset..MASTER_LEN).zip(data) {
            *byte = self.shared.channels[(at / 8) as usize].hold().read_master(at % 8);
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        if bar == MASTER_BAR {
            for (at, byte) in (offset..MASTER_LEN).zip(data) {
                self.shared.with((at / 8) as usize, |channel| channel.write_master(at % 8, *byte));
            }
        }
        Effect::None
    }

    fn bus_reset(&self) {
        Component::reset(self);
    }
}

impl Component for Ide {
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
        self.shared.config.reset();
        self.drives().flatten().for_each(Drive::reset);
        for index in 0..CHANNELS {
            self.shared.with(index, |channel| {
                channel.reset();
                false
            });
        }
        if running {
            self.start_or_log();
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        self.seat.check_still(KIND)?;
        let [first, second] = &self.shared.channels;
        let mut channels = [first.hold().clone(), second.hold().clone()];
        self.seat.with_kept(|engine| engine.give_back(&mut channels));
        let saved = Saved {
            config: self.shared.config.save(),
            channels,
            drives: self.drives().map(|drive| drive.as_ref().map(Drive::save)).collect(),
        };
        DeviceState::encode(KIND, 1, &saved)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: Saved = state.decode(KIND, 1)?;
        let mismatch =
            || StateError::Mismatch { kind: KIND, reason: "it has other drives".to_owned() };
        if saved.drives.len() != 2 * CHANNELS {
            return Err(mismatch());
        }
        for (drive, state) in self.drives().zip(&saved.drives) {
            if !Drive::take_state(drive.as_ref(), state.as_ref()) {
                return Err(mismatch());
            }
        }
        self.shared.config.restore(KIND, &saved.config)?;
        for (index, state) in saved.channels.into_iter().enumerate() {
            self.shared.with(index, |channel| {
                channel.restore(state);
                true
            });
        }
        Ok(())
    }
}
