//! [`Channel`]: the registers of two drives and their bus master, and the transfer in progress.
//!
//! ```text
//! Idle ─command→ Begin ─┬─ data for the host → Input ──read out──┐
//!   ▲                   ├─ wants data → Output ──written──┐      │
//!   │                   ├─ DMA → Wait ─start→ Busy        │      │
//!   └─── interrupt ←────┴──── Busy ←──────────────────────┴──────┘ (the next piece, or the end)
//! ```
//! `Begin`, `Next` and `Busy` are the engine's; the others wait for the host.

use serde::{Deserialize, Serialize};

use crate::ata::TaskFile;
use crate::ata::spec::{SIGNATURE_DISK, SIGNATURE_PACKET, command, error, status};

/// Bytes of a packet.
pub(super) const PACKET: usize = 12;

const DEVICE_1: u8 = 0x10;
const CONTROL_SILENT: u8 = 1 << 1;
const CONTROL_RESET: u8 = 1 << 2;
/// Reads give what was in the registers before.
const CONTROL_HIGH: u8 = 1 << 7;

/// Interrupt reason of a packet: the host sends the command; the device sends data; it is done.
pub(super) const REASON_COMMAND: u8 = 1;
pub(super) const REASON_INPUT: u8 = 2;
pub(super) const REASON_DONE: u8 = 3;

/// Bus master: start, and direction.
const MASTER_START: u8 = 1;
const MASTER_ACTIVE: u8 = 1;
const MASTER_ERROR: u8 = 2;
const MASTER_INTERRUPT: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Attached {
    Disk,
    Packets,
}

/// Two bytes deep: the latest, and the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Deep {
    low: u8,
    high: u8,
}

impl Deep {
    fn push(&mut self, value: u8) {
        *self = Self { low: value, high: self.low };
    }

    fn wide(self) -> u16 {
        u16::from_le_bytes([self.low, self.high])
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    features: Deep,
    count: Deep,
    lba: [Deep; 3],
    status: u8,
    error: u8,
}

/// What the channel is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    #[default]
    Idle,
    /// A command was given.
    Begin,
    /// The host takes `data`, `block` bytes between two interrupts.
    Input { data: Vec<u8>, at: usize, block: usize, end: usize },
    /// The host gives bytes, `wanted` of them.
    Output { data: Vec<u8>, wanted: usize },
    /// A packet, or data, is complete; or the host has taken all there was.
    Next { data: Vec<u8> },
    /// A transfer waits for the bus master.
    Wait,
    /// A request is with the host.
    Busy,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Channel {
    drives: [Registers; 2],
    device: u8,
    control: u8,
    pub(super) phase: Phase,
    /// The command in progress.
    pub(super) task: TaskFile,
    pub(super) progress: Progress,
    asking: bool,
    /// A reset waits until the host has finished.
    resetting: bool,
    master_command: u8,
    master_status: u8,
    pub(super) descriptors: u32,
    /// What a packet answers, until the bus master fetches it.
    pub(super) reply: Vec<u8>,
    #[serde(skip)]
    pub(super) attached: [Option<Attached>; 2],
}

/// How far a transfer by PIO in pieces, or a packet, has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Progress {
    #[default]
    None,
    /// Sectors to be read or written yet: where, how many bytes, and bytes between two interrupts.
    Sectors { write: Option<bool>, offset: u64, left: u64, block: u64 },
    /// The packet is on its way.
    Packet,
    /// Bytes of the medium that a packet asks for and that are to be read yet, `block` at a time.
    PacketData { offset: u64, left: u64, block: u64 },
    /// What a packet answers is on its way.
    PacketReply,
    /// A list of ranges, so long, is to be fetched.
    Trim { len: u64 },
}

impl Progress {
    /// `len` bytes are done.
    pub(super) fn advance(&mut self, len: u64) {
        if let Self::Sectors { offset, left, .. } | Self::PacketData { offset, left, .. } = self {
            *offset = offset.saturating_add(len);
            *left = left.saturating_sub(len);
        }
    }
}

impl Channel {
    pub(super) fn new(attached: [Option<Attached>; 2]) -> Self {
        let mut channel = Self { attached, ..Self::default() };
        channel.signatures();
        channel
    }

    /// As after power-on.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.attached);
    }

    pub(super) fn restore(&mut self, saved: Self) {
        let attached = self.attached;
        *self = saved;
        self.attached = attached;
        // The host's work was done before the state was saved.
        if self.phase == Phase::Busy {
            self.phase = Phase::Idle;
        }
    }

    /// Which drive is selected.
    pub(super) fn selected(&self) -> usize {
        usize::from(self.device & DEVICE_1 != 0)
    }

    pub(super) fn drive(&self) -> Option<Attached> {
        self.attached[self.selected()]
    }

    fn current(&mut self) -> &mut Registers {
        let selected = self.selected();
        &mut self.drives[selected]
    }

    /// Whether the interrupt is asserted.
    pub(super) fn is_asking(&self) -> bool {
        self.asking && self.control & CONTROL_SILENT == 0
    }

    fn ask(&mut self) {
        self.asking = true;
        self.master_status |= MASTER_INTERRUPT;
    }

    /// What both devices say after a reset.
    fn signatures(&mut self) {
        for (registers, attached) in self.drives.iter_mut().zip(self.attached) {
            let (signature, ready) = match attached {
                Some(Attached::Disk) => (SIGNATURE_DISK, status::READY),
                Some(Attached::Packets) => (SIGNATURE_PACKET, 0),
                None => ([0; 4], 0),
            };
            let deep = |low| Deep { low, high: 0 };
            registers.count = deep(signature[0]);
            registers.lba = [deep(signature[1]), deep(signature[2]), deep(signature[3])];
            (registers.status, registers.error) = (ready, u8::from(attached.is_some()));
        }
    }

    /// Register `offset` of the command block, the data port apart.
    pub(super) fn read(&mut self, offset: u64) -> u8 {
        let high = self.control & CONTROL_HIGH != 0;
        // A device that is not there leaves the bus to the other one, which answers zeros.
        if self.drive().is_none() {
            return 0;
        }
        let registers = &self.drives[self.selected()];
        let deep = |deep: Deep| if high { deep.high } else { deep.low };
        match offset {
            1 => registers.error,
            2 => deep(registers.count),
            3..=5 => deep(registers.lba[(offset - 3) as usize]),
            6 => self.device | 0xa0,
            _ => {
                self.asking = false;
                self.drives[self.selected()].status
            }
        }
    }

    /// The status, without taking the interrupt back.
    pub(super) fn alternate_status(&self) -> u8 {
        if self.drive().is_none() { 0 } else { self.drives[self.selected()].status }
    }

    fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Begin | Phase::Busy | Phase::Next { .. } | Phase::Wait)
    }

    /// A write to the command block; whether the engine has something to do then.
    pub(super) fn write(&mut self, offset: u64, value: u8) -> bool {
        let stuck = self.is_busy() || self.resetting;
        // Commands of a device that is busy are ignored, but for the reset of a packet device.
        if stuck && !(offset == 7 && value == command::DEVICE_RESET) {
            return false;
        }
        self.control &= !CONTROL_HIGH;
        match offset {
            1 => self.drives.iter_mut().for_each(|d| d.features.push(value)),
            2 => self.drives.iter_mut().for_each(|d| d.count.push(value)),
            3..=5 => {
                let index = (offset - 3) as usize;
                self.drives.iter_mut().for_each(|d| d.lba[index].push(value));
            }
            6 => self.device = value,
            7 => return self.command(value),
            _ => {}
        }
        false
    }

    fn command(&mut self, code: u8) -> bool {
        self.asking = false;
        let Some(attached) = self.drive() else { return false };
        match code {
            command::DIAGNOSTIC => {
                self.phase = Phase::Idle;
                self.device &= !DEVICE_1;
                self.signatures();
                self.ask();
                return false;
            }
            command::DEVICE_RESET => {
                if attached == Attached::Packets {
                    self.control_reset();
                }
                return false;
            }
            _ => {}
        }
        let device = self.device;
        let registers = self.current();
        let part = |index: usize| u64::from(registers.lba[index].low) << (8 * index);
        let above = |index: usize| u64::from(registers.lba[index].high) << (24 + 8 * index);
        let task = TaskFile {
            command: code,
            features: registers.features.wide(),
            lba: (0..3).map(|index| part(index) | above(index)).sum(),
            count: registers.count.wide(),
            device,
        };
        (registers.status, registers.error) = (status::BSY, 0);
        self.task = task;
        self.progress = Progress::None;
        self.phase = Phase::Begin;
        true
    }

    /// A write to the control register; whether the engine has something to do then.
    pub(super) fn write_control(&mut self, value: u8) -> bool {
        let before = std::mem::replace(&mut self.control, value);
        if value & CONTROL_RESET != 0 {
            self.drives.iter_mut().for_each(|drive| drive.status = status::BSY);
        } else if before & CONTROL_RESET != 0 {
            self.control_reset();
        }
        false
    }

    /// Reset both drives, when the host has finished.
    fn control_reset(&mut self) {
        if self.phase == Phase::Busy {
            self.resetting = true;
            self.current().status = status::BSY;
            return;
        }
        self.resetting = false;
        self.phase = Phase::Idle;
        self.progress = Progress::None;
        self.asking = false;
        self.device &= !DEVICE_1;
        self.signatures();
    }

    /// Fill `data` from the data port; whether the engine has something to do then.
    pub(super) fn read_data(&mut self, out: &mut [u8]) -> bool {
        let Phase::Input { data, at, block, end } = &mut self.phase else {
            out.fill(0);
            return false;
        };
        for byte in out.iter_mut() {
            *byte = data.get(*at).copied().unwrap_or(0);
            *at += 1;
        }
        if *at < *end {
            return false;
        }
        if *end < data.len() {
            // The next block, announced like the first.
            *end = (*end + *block).min(data.len());
            let next = (*end - *at) as u16;
            self.announce_input(next);
            return false;
        }
        self.phase = Phase::Next { data: Vec::new() };
        self.current().status = status::BSY;
        true
    }

    /// Take `given` by the data port; whether the engine has something to do then.
    pub(super) fn write_data(&mut self, given: &[u8]) -> bool {
        let Phase::Output { data, wanted } = &mut self.phase else { return false };
        let room = wanted.saturating_sub(data.len()).min(given.len());
        data.extend_from_slice(&given[..room]);
        if data.len() < *wanted {
            return false;
        }
        let data = std::mem::take(data);
        self.phase = Phase::Next { data };
        self.current().status = status::BSY;
        true
    }

    /// Hand `data` to the host, `block` bytes at a time.
    pub(super) fn give(&mut self, data: Vec<u8>, block: usize) {
        if !self.still_wanted() {
            return;
        }
        let end = block.clamp(1, data.len().max(1)).min(data.len());
        self.phase = Phase::Input { data, at: 0, block: block.max(1), end };
        self.announce_input(end as u16);
    }

    fn announce_input(&mut self, len: u16) {
        let packet = self.drive() == Some(Attached::Packets);
        let registers = self.current();
        registers.status = status::READY | status::DRQ;
        if packet && !matches!(self.progress, Progress::None) {
            let [low, high] = len.to_le_bytes();
            let registers = self.current();
            registers.count.low = REASON_INPUT;
            (registers.lba[1].low, registers.lba[2].low) = (low, high);
        }
        self.ask();
    }

    /// Ask the host for `wanted` bytes. The first of a command are asked for silently.
    pub(super) fn want(&mut self, wanted: usize, silently: bool) {
        if !self.still_wanted() {
            return;
        }
        self.phase = Phase::Output { data: Vec::with_capacity(wanted), wanted };
        let packet = self.progress == Progress::Packet;
        let registers = self.current();
        registers.status = status::READY | status::DRQ;
        if packet {
            registers.count.low = REASON_COMMAND;
        }
        if !silently {
            self.ask();
        }
    }

    /// The command has ended. `count` and `lba` are what it leaves there.
    pub(super) fn finish(&mut self, error: u8, count: Option<u8>, lba: Option<u64>) {
        if !self.still_wanted() {
            return;
        }
        self.phase = Phase::Idle;
        self.progress = Progress::None;
        let registers = self.current();
        registers.error = error;
        registers.status = status::READY | if error == 0 { 0 } else { status::ERR };
        if let Some(count) = count {
            registers.count.low = count;
        }
        if let Some(lba) = lba {
            for (index, deep) in registers.lba.iter_mut().enumerate() {
                deep.low = (lba >> (8 * index)) as u8;
            }
        }
        self.ask();
    }

    /// A device that is asked to be another shows what it is.
    pub(super) fn show_signature(&mut self) {
        let selected = self.selected();
        let keep = (self.drives[selected].status, self.drives[selected].error);
        let other = self.drives[1 - selected].clone();
        self.signatures();
        (self.drives[selected].status, self.drives[selected].error) = keep;
        self.drives[1 - selected] = other;
    }

    /// The transfer waits for the bus master.
    pub(super) fn want_dma(&mut self) {
        if !self.still_wanted() {
            return;
        }
        self.phase = Phase::Wait;
        self.current().status = status::READY | status::DRQ;
    }

    pub(super) fn master_runs(&self) -> bool {
        self.master_command & MASTER_START != 0
    }

    /// The bus master has moved everything, or could not.
    pub(super) fn master_ended(&mut self, failed: bool) {
        self.master_status &= !MASTER_ACTIVE;
        if failed {
            self.master_status |= MASTER_ERROR;
        }
    }

    /// Carry out a reset that came while the engine was at work; whether none did.
    fn still_wanted(&mut self) -> bool {
        let wanted = !self.resetting;
        if !wanted {
            self.phase = Phase::Idle;
            self.control_reset();
        }
        wanted
    }

    /// The host has finished a request; whether it still matters. The channel stays busy until it is
    /// told what follows: a reset that comes before must find that it is.
    pub(super) fn returned(&mut self) -> bool {
        self.still_wanted()
    }

    pub(super) fn read_master(&self, offset: u64) -> u8 {
        match offset {
            0 => self.master_command,
            2 => self.master_status,
            4..=7 => self.descriptors.to_le_bytes()[(offset - 4) as usize],
            _ => 0,
        }
    }

    /// Whether the engine has something to do then.
    pub(super) fn write_master(&mut self, offset: u64, value: u8) -> bool {
        match offset {
            0 => {
                let started = !self.master_runs() && value & MASTER_START != 0;
                self.master_command = value & 0x09;
                if started {
                    self.master_status |= MASTER_ACTIVE;
                } else if !self.master_runs() {
                    self.master_status &= !MASTER_ACTIVE;
                }
                return started;
            }
            2 => {
                // Which drives can do DMA is stored; interrupt and error are cleared by ones.
                let kept = self.master_status & !(value & (MASTER_INTERRUPT | MASTER_ERROR));
                self.master_status = kept & !0x60 | value & 0x60;
            }
            4..=7 => {
                let mut bytes = self.descriptors.to_le_bytes();
                bytes[(offset - 4) as usize] = value;
                self.descriptors = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
        false
    }

    /// The host has read everything: the device is ready, without another interrupt.
    pub(super) fn rest(&mut self) {
        if !self.still_wanted() {
            return;
        }
        self.phase = Phase::Idle;
        self.progress = Progress::None;
        self.current().status = status::READY;
    }

    pub(super) fn abort(&mut self) {
        self.finish(error::ABRT, None, None);
    }
}
