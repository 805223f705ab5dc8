//! [`Hba`]: the registers of the host bus adapter, and what writing them does.
//!
//! ```text
//! port: idle ─ST=1→ running (CR) ─ST=0→ stopping ─nothing in flight→ idle
//!                      │ an error          ▲ commands in flight end without a trace
//!                      └→ halted ──ST=0────┘
//! ```
//! Guest accesses and the engine share it under one lock. What has to wait for commands in flight
//! (a stop, a reset of link or adapter) is noted, and carried out when the last of them ends.

use memory::GuestRam;
use serde::{Deserialize, Serialize};

use super::spec::{self, PORTS, cmd, generic, interrupt, port};
use crate::ata::spec::status;

/// What is on a port, as its registers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) signature: [u8; 4],
    pub(super) status: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Port {
    pub(super) command_list: u64,
    pub(super) received: u64,
    pub(super) interrupts: u32,
    enabled: u32,
    pub(super) cmd: u32,
    pub(super) task_file: u32,
    signature: u32,
    link: u32,
    link_control: u32,
    errors: u32,
    pub(super) active: u32,
    pub(super) issued: u32,
    /// An error stopped it, until the driver clears ST.
    pub(super) halted: bool,
    /// The soft reset bit of the device's control register.
    pub(super) soft_reset: bool,
    stopping: bool,
    link_reset: bool,
    /// A FIS with the signature waits until FRE is set.
    announce: bool,
    /// Commands that the engine has taken and not ended; in a saved state they are issued still.
    #[serde(skip)]
    pub(super) in_flight: u32,
    #[serde(skip)]
    pub(super) attached: Option<Attached>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hba {
    control: u32,
    pub(super) interrupts: u32,
    pub(super) ports: Vec<Port>,
    resetting: bool,
    /// Grows with each event that is a message: compared to know that there was one.
    #[serde(skip)]
    pub(super) messages: u64,
}

impl Hba {
    pub(super) fn new(attached: [Option<Attached>; PORTS]) -> Self {
        Self {
            control: spec::GHC_AHCI,
            interrupts: 0,
            ports: attached.into_iter().map(Port::new).collect(),
            resetting: false,
            messages: 0,
        }
    }

    /// As after power-on; nothing is in flight.
    pub(super) fn reset(&mut self) {
        let attached = |port: &Port| port.attached;
        let ports = self.ports.iter().map(attached).map(Port::new).collect();
        let messages = self.messages;
        *self = Self { control: spec::GHC_AHCI, interrupts: 0, ports, resetting: false, messages };
    }

    pub(super) fn restore(&mut self, saved: Self) {
        let attached: Vec<_> = self.ports.iter().map(|port| port.attached).collect();
        *self = saved;
        for (port, attached) in self.ports.iter_mut().zip(attached) {
            port.attached = attached;
        }
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        match offset {
            generic::CAP => spec::CAPABILITIES,
            generic::GHC => self.control | if self.resetting { spec::GHC_RESET } else { 0 },
            generic::IS => self.interrupts,
            generic::PI => (1 << PORTS) - 1,
            generic::VS => spec::VERSION,
            _ => match place(offset) {
                Some((index, offset)) => self.ports[index].read(offset),
                None => 0,
            },
        }
    }

    /// Whether the engine has something to do then.
    pub(super) fn write(&mut self, offset: u64, value: u32, ram: &GuestRam) -> bool {
        match offset {
            generic::GHC => {
                self.control = spec::GHC_AHCI | value & spec::GHC_INTERRUPTS;
                if value & spec::GHC_RESET != 0 {
                    self.resetting = true;
                    self.settle(ram);
                }
                self.message_if(true);
            }
            generic::IS => {
                self.interrupts &= !value;
                self.collect();
                self.message_if(true);
            }
            _ => {
                let Some((index, offset)) = place(offset) else { return false };
                self.ports[index].write(offset, value, ram);
                self.settle(ram);
                self.follow();
                return matches!(offset, port::CI | port::CMD | port::SCTL);
            }
        }
        false
    }

    /// Carry out what waited for commands in flight.
    pub(super) fn settle(&mut self, ram: &GuestRam) {
        if self.resetting {
            if self.ports.iter().all(|port| port.in_flight == 0) {
                self.reset();
            }
            return;
        }
        for port in self.ports.iter_mut().filter(|port| port.in_flight == 0) {
            port.settle(ram);
        }
    }

    /// Interrupts of ports become the adapter's.
    pub(super) fn follow(&mut self) {
        let before = self.interrupts;
        self.collect();
        self.message_if(self.interrupts != before);
    }

    fn collect(&mut self) {
        for (index, port) in self.ports.iter().enumerate() {
            if port.interrupts & port.enabled != 0 {
                self.interrupts |= 1 << index;
            }
        }
    }

    fn message_if(&mut self, changed: bool) {
        if changed && self.is_asking() {
            self.messages += 1;
        }
    }

    /// Whether the interrupt is asserted.
    pub(super) fn is_asking(&self) -> bool {
        self.control & spec::GHC_INTERRUPTS != 0 && self.interrupts != 0
    }

    /// Whether the adapter waits for commands in flight to be reset.
    pub(super) fn is_resetting(&self) -> bool {
        self.resetting
    }
}

/// The port that a register is of, and which of its registers it is.
fn place(offset: u64) -> Option<(usize, u64)> {
    let offset = offset.checked_sub(spec::PORT_BASE)?;
    let index = usize::try_from(offset / spec::PORT_STEP).ok()?;
    (index < PORTS).then_some((index, offset % spec::PORT_STEP))
}

impl Port {
    fn new(attached: Option<Attached>) -> Self {
        let mut port = Self {
            command_list: 0,
            received: 0,
            interrupts: 0,
            enabled: 0,
            cmd: cmd::SUD | cmd::POD,
            task_file: spec::NO_DEVICE,
            signature: spec::NO_SIGNATURE,
            link: 0,
            link_control: 0,
            errors: 0,
            active: 0,
            issued: 0,
            halted: false,
            soft_reset: false,
            stopping: false,
            link_reset: false,
            announce: false,
            in_flight: 0,
            attached,
        };
        port.connect();
        port
    }

    /// The link comes up, and the device announces itself.
    fn connect(&mut self) {
        let Some(attached) = self.attached else {
            (self.link, self.task_file) = (0, spec::NO_DEVICE);
            return;
        };
        self.link = spec::LINK_UP;
        self.errors |= spec::EXCHANGED;
        self.interrupts |= interrupt::CONNECT_CHANGE;
        self.soft_reset = false;
        self.show(attached);
        self.announce = true;
    }

    fn show(&mut self, attached: Attached) {
        let [count, low, mid, high] = attached.signature;
        self.signature = u32::from_le_bytes([count, low, mid, high]);
        // Error 1: diagnostics passed.
        self.task_file = 1 << 8 | u32::from(attached.status);
    }

    fn read(&self, offset: u64) -> u32 {
        match offset {
            port::CLB => self.command_list as u32,
            port::CLBU => (self.command_list >> 32) as u32,
            port::FB => self.received as u32,
            port::FBU => (self.received >> 32) as u32,
            port::IS => self.interrupts | self.connect_change(),
            port::IE => self.enabled,
            port::CMD => self.cmd,
            port::TFD => self.task_file,
            port::SIG => self.signature,
            port::SSTS => self.link,
            port::SCTL => self.link_control,
            port::SERR => self.errors,
            port::SACT => self.active,
            port::CI => self.issued,
            _ => 0,
        }
    }

    fn connect_change(&self) -> u32 {
        if self.errors & 1 << 26 != 0 { interrupt::CONNECT_CHANGE } else { 0 }
    }

    fn write(&mut self, offset: u64, value: u32, ram: &GuestRam) {
        let low = |old: u64, mask: u32| old & !0xffff_ffff | u64::from(value & mask);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            port::CLB => self.command_list = low(self.command_list, !0x3ff),
            port::CLBU => self.command_list = high(self.command_list),
            port::FB => self.received = low(self.received, !0xff),
            port::FBU => self.received = high(self.received),
            // PCS is cleared in SERR.
            port::IS => self.interrupts &= !(value & !interrupt::CONNECT_CHANGE),
            port::IE => self.enabled = value & interrupt::ALL,
            port::CMD => self.write_cmd(value, ram),
            port::SCTL => self.write_link_control(value),
            port::SERR => {
                self.errors &= !value;
                if self.connect_change() == 0 {
                    self.interrupts &= !interrupt::CONNECT_CHANGE;
                }
            }
            port::SACT if self.cmd & cmd::ST != 0 => self.active |= value,
            port::CI if self.cmd & cmd::ST != 0 => self.issued |= value,
            _ => {}
        }
    }

    fn write_cmd(&mut self, value: u32, ram: &GuestRam) {
        let before = self.cmd;
        self.cmd = self.cmd & !cmd::WRITABLE | value & cmd::WRITABLE;
        // Interface control takes effect at once; the link is active already.
        self.cmd &= !(0xf << 28);
        if value & cmd::CLO != 0 {
            self.task_file &= !u32::from(status::BSY | status::DRQ);
        }
        if self.cmd & cmd::FRE != 0 {
            self.cmd |= cmd::FR;
            self.announce(ram);
        } else {
            self.cmd &= !cmd::FR;
        }
        if before & cmd::ST != 0 && self.cmd & cmd::ST == 0 {
            self.stopping = true;
        }
        if self.cmd & cmd::ST != 0 && !self.stopping {
            self.cmd |= cmd::CR;
        }
    }

    fn write_link_control(&mut self, value: u32) {
        let before = self.link_control & spec::DET;
        self.link_control = value & 0xfff;
        match (before, value & spec::DET) {
            (_, spec::DET_RESET) => {
                self.link = 0;
                self.task_file = u32::from(status::BSY);
                self.signature = spec::NO_SIGNATURE;
            }
            (spec::DET_RESET, 0) => self.link_reset = true,
            _ => {}
        }
    }

    /// Nothing is in flight: stop, or reset the link, if that waited.
    fn settle(&mut self, ram: &GuestRam) {
        if std::mem::take(&mut self.stopping) {
            self.cmd &= !(cmd::CR | cmd::CCS);
            (self.issued, self.active, self.halted) = (0, 0, false);
            if self.cmd & cmd::ST != 0 {
                // Set again before it had stopped.
                self.cmd |= cmd::CR;
            }
        }
        if std::mem::take(&mut self.link_reset) {
            (self.issued, self.active) = (0, 0);
            self.connect();
            self.announce(ram);
        }
    }

    /// The device, reset, sends its signature.
    pub(super) fn device_reset(&mut self, ram: &GuestRam) {
        if let Some(attached) = self.attached {
            self.show(attached);
            self.announce = true;
            self.announce(ram);
        }
    }

    fn announce(&mut self, ram: &GuestRam) {
        let Some(attached) = self.attached.filter(|_| self.announce) else { return };
        if self.cmd & cmd::FRE == 0 {
            return;
        }
        self.announce = false;
        let [count, low, mid, high] = attached.signature;
        let mut fis = [0; 20];
        fis[..7].copy_from_slice(&[spec::FIS_D2H, 0, attached.status, 1, low, mid, high]);
        fis[12] = count;
        self.receive(ram, spec::RECEIVED_D2H, &fis);
    }

    /// Whether the engine may take commands.
    pub(super) fn is_running(&self) -> bool {
        self.cmd & cmd::ST != 0
            && self.cmd & cmd::CR != 0
            && !self.halted
            && !self.stopping
            && !self.link_reset
            && self.link_control & spec::DET != spec::DET_RESET
    }

    /// Put a FIS where the driver wants it.
    pub(super) fn receive(&self, ram: &GuestRam, offset: u64, fis: &[u8]) {
        if self.cmd & cmd::FRE != 0
            && let Some(at) = self.received.checked_add(offset)
        {
            // A driver that gave a place outside of memory does without.
            let _ = ram.write_slice(at, fis);
        }
    }
}
