//! [`RootPort`]: a PCI Express root port and its slot, with native hotplug (PCI Express 4.0 §6.7).
//!
//! ```text
//! plug:   set_present(true) ── presence changed ──▶ guest powers the slot on, finds the device
//! unplug: request_removal() ── attention button ──▶ guest lets go, powers the slot off
//!                                                   └─▶ on_power_off ─▶ remove, set_present(false)
//! ```

use std::io;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::bus::Effect;
use crate::component::{Component, DeviceState, StateError};
use crate::irq::MsiController;
use crate::pci::{
    BarKind, Config, ConfigBuilder, ConfigState, Ids, Msix, MsixState, PciFunction, PortType,
    Reserve,
};

#[cfg(test)]
mod tests;

// Registers of the PCI Express capability, §7.5.3.
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_STATUS: u16 = 0x12;
const SLOT_CAPABILITIES: u16 = 0x14;
const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;
const ROOT_CONTROL: u16 = 0x1c;

const LINK_ACTIVE_REPORTING: u32 = 1 << 20;
const LINK_ACTIVE: u16 = 1 << 13;

// Attention button, power controller, attention and power indicator, hotplug, and no "command
// completed": commands complete at once.
const SLOT_HOTPLUG: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 18;
const SLOT_NUMBER_SHIFT: u32 = 19;

const EVENT_BUTTON: u16 = 1 << 0;
const EVENT_PRESENCE: u16 = 1 << 3;
/// The link came up, or went down: what Linux looks at where there is a button, beside the button.
const EVENT_LINK: u16 = 1 << 8;
const EVENTS: u16 = 0x011f;
const PRESENT: u16 = 1 << 6;

const INTERRUPT_ENABLE: u16 = 1 << 5;
const LINK_ENABLE: u16 = 1 << 12;
const CONTROL_WRITABLE: u16 = 0x17ff;
const POWER_INDICATOR: u16 = 3 << 8;
const POWER_INDICATOR_ON: u16 = 1 << 8;
const POWER_INDICATOR_OFF: u16 = 3 << 8;
const ATTENTION_INDICATOR_OFF: u16 = 3 << 6;
const POWER_OFF: u16 = 1 << 10;

/// What a port with hotplug keeps free for devices to come.
const HOTPLUG_RESERVE: Reserve = Reserve { memory32: 2 << 20, memory64: 32 << 20 };

pub struct RootPort {
    id: String,
    config: Config,
    express: u16,
    hotplug: Option<Hotplug>,
    on_power_off: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Only a port with hotplug has something to tell, and so an interrupt.
struct Hotplug {
    msix: Msix,
    capability: u16,
}

#[derive(Serialize, Deserialize)]
struct PortState {
    config: ConfigState,
    msix: Option<MsixState>,
}

impl RootPort {
    /// A port with physical slot number `slot`. `hotplug`: where its interrupt comes from, if the
    /// slot is to have hotplug.
    pub fn new(id: &str, slot: u16, hotplug: Option<&dyn MsiController>) -> io::Result<Self> {
        let ids = Ids { vendor: 0x1b36, device: 0x000c, class: 0x06_04_00, revision: 0 };
        let mut builder = ConfigBuilder::bridge(ids);
        // PCI Express devices work without I/O ports, and a kernel would reserve 4 KiB of the 64
        // there are for every port with hotplug.
        builder.without_io_window();
        let express = builder.express(PortType::RootPort);
        let link = 0x11 | LINK_ACTIVE_REPORTING | u32::from(slot & 0xff) << 24;
        let features = if hotplug.is_some() { SLOT_HOTPLUG } else { 0 };
        let capabilities = features | u32::from(slot & 0x1fff) << SLOT_NUMBER_SHIFT;
        builder
            .set(express + LINK_CAPABILITIES, &link.to_le_bytes())
            .set(express + SLOT_CAPABILITIES, &capabilities.to_le_bytes())
            .writable(express + ROOT_CONTROL, &[0x1f, 0x00]);
        let hotplug = match hotplug {
            Some(controller) => {
                let control = power(false).0 | ATTENTION_INDICATOR_OFF;
                builder
                    .set(express + SLOT_CONTROL, &control.to_le_bytes())
                    .writable(express + SLOT_CONTROL, &CONTROL_WRITABLE.to_le_bytes())
                    .clearable(express + SLOT_STATUS, &EVENTS.to_le_bytes());
                let (place, size) = Msix::exclusive_bar(0, 1);
                builder.bar(0, BarKind::Memory32, size);
                let msix = Msix::new(controller, 1, place)?;
                let capability = msix.add_capability(&mut builder);
                Some(Hotplug { msix, capability })
            }
            None => None,
        };
        let on_power_off = OnceLock::new();
        Ok(Self { id: id.to_owned(), config: builder.build(), express, hotplug, on_power_off })
    }

    /// Called when the guest powers off a slot that holds a device: the device can go now. Runs on
    /// a vCPU with the PCI hierarchy locked: leave a message and return. Only the first call counts.
    pub fn on_power_off(&self, call: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_power_off.set(Box::new(call));
    }

    /// A device is in the slot since before power-on: it is powered, and no event tells of it.
    pub fn populate(&self) {
        self.show_presence(true);
        if self.hotplug.is_some() {
            let (on, off) = power(true);
            self.config.update_bits(self.express + SLOT_CONTROL, on, off);
        }
    }

    /// A device was put into the running machine's slot, or taken out.
    pub fn set_present(&self, present: bool) {
        if self.is_present() != present {
            self.show_presence(present);
            self.raise(EVENT_PRESENCE | EVENT_LINK);
        }
    }

    #[must_use]
    pub fn is_present(&self) -> bool {
        self.config.u16(self.express + SLOT_STATUS) & PRESENT != 0
    }

    /// Ask the guest to let go of the device: press the attention button.
    pub fn request_removal(&self) {
        self.raise(EVENT_BUTTON);
    }

    /// Whoever resets the port, what is in its slot is there afterwards, and has power.
    fn show_presence(&self, present: bool) {
        let bits = |bit| if present { (bit, 0) } else { (0, bit) };
        let (set, clear) = bits(PRESENT);
        self.config.settle_bits(self.express + SLOT_STATUS, set, clear);
        let (set, clear) = bits(LINK_ACTIVE);
        self.config.settle_bits(self.express + LINK_STATUS, set, clear);
        if self.hotplug.is_some() {
            let (set, clear) = power(present);
            self.config.settle_reset_bits(self.express + SLOT_CONTROL, set, clear);
        }
    }

    fn raise(&self, event: u16) {
        if self.hotplug.is_some() {
            self.config.update_bits(self.express + SLOT_STATUS, event, 0);
            self.notify(event);
        }
    }

    /// Interrupt if one of `events` is enabled.
    fn notify(&self, events: u16) {
        let control = self.config.u16(self.express + SLOT_CONTROL);
        let vector = self.hotplug.as_ref().and_then(|hotplug| hotplug.msix.vector(0));
        let link = if control & LINK_ENABLE != 0 { EVENT_LINK } else { 0 };
        let enabled = control & 0x1f | link;
        if let Some(vector) = vector
            && control & INTERRUPT_ENABLE != 0
            && enabled & events != 0
        {
            // A full eventfd holds an interrupt already.
            let _ = vector.event().write(1);
        }
    }

    fn control_written(&self, before: u16) {
        let after = self.config.u16(self.express + SLOT_CONTROL);
        let off =
            |control| control & (POWER_OFF | POWER_INDICATOR) == POWER_OFF | POWER_INDICATOR_OFF;
        if off(after)
            && !off(before)
            && self.is_present()
            && let Some(call) = self.on_power_off.get()
        {
            call();
        }
        // Events from before they were enabled are told now.
        let newly = after & !before;
        if newly & (INTERRUPT_ENABLE | LINK_ENABLE | 0x1f) != 0 {
            self.notify(self.config.u16(self.express + SLOT_STATUS) & EVENTS);
        }
    }
}

/// Bits of the slot's control that are set, and those that are clear, with power and without.
fn power(on: bool) -> (u16, u16) {
    match on {
        true => (POWER_INDICATOR_ON, POWER_OFF | POWER_INDICATOR & !POWER_INDICATOR_ON),
        false => (POWER_OFF | POWER_INDICATOR_OFF, 0),
    }
}

impl PciFunction for RootPort {
    fn name(&self) -> &str {
        &self.id
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Effect {
        let before = self.config.u16(self.express + SLOT_CONTROL);
        self.config.write(offset, data);
        if let Some(Hotplug { msix, capability }) = &self.hotplug {
            msix.config_written(self.config.u16(Msix::control_offset(*capability)));
            if before != self.config.u16(self.express + SLOT_CONTROL) {
                self.control_written(before);
            }
        }
        Effect::None
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        let taken = self.hotplug.as_ref().is_some_and(|it| it.msix.bar_read(bar, offset, data));
        if !taken {
            data.fill(0xff);
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) -> Effect {
        if let Some(hotplug) = &self.hotplug {
            hotplug.msix.bar_write(bar, offset, data);
        }
        Effect::None
    }

    fn reserve(&self) -> Reserve {
        if self.hotplug.is_some() { HOTPLUG_RESERVE } else { Reserve::default() }
    }
}

impl Component for RootPort {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "pcie-root-port"
    }

    fn reset(&self) {
        self.config.reset();
        if let Some(hotplug) = &self.hotplug {
            hotplug.msix.reset();
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let msix = self.hotplug.as_ref().map(|hotplug| hotplug.msix.save());
        DeviceState::encode(self.kind(), 1, &PortState { config: self.config.save(), msix })
    }

    /// Presence is not restored: it follows what the machine put into the slot.
    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: PortState = state.decode(self.kind(), 1)?;
        self.config.restore(self.kind(), &saved.config)?;
        match (&self.hotplug, &saved.msix) {
            (Some(hotplug), Some(msix)) => hotplug.msix.restore(self.kind(), msix),
            (None, None) => Ok(()),
            _ => Err(StateError::Mismatch {
                kind: self.kind(),
                reason: "one has hotplug, the other has not".to_owned(),
            }),
        }
    }
}
