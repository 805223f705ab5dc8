//! [`AhciEngine`]: takes the commands of all ports, and answers them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::answer::{End, apply, fatal, registers};
use super::command::{Broken, Command};
use super::device::Shared;
use super::hba::Hba;
use super::spec::{self, PORTS, cmd, interrupt};
use crate::ata::spec::{command, error, status};
use crate::ata::{AtaDisk, Drive, PacketWork, Packets, TaskFile, Work};
use crate::backend::lane::Lane;
use crate::backend::{Action, Request};
use crate::engine::Engine;
use crate::io_thread::Stop;
use crate::limit::warn_limited;
use crate::scsi::{Sense, sense_of};
use crate::sync::Lock;

/// What a command in flight leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Data that the device sends by PIO, so many bytes.
    Pio,
    Dma,
    /// In the native queue.
    Queued,
    Packet,
}

struct Flight {
    slot: u32,
    kind: Kind,
    task: TaskFile,
    command: Command,
    /// Bytes that its first step moves.
    len: u64,
    action: Action,
    /// What follows: offset and length of discards.
    rest: VecDeque<(u64, u64)>,
}

/// A drive's medium in use.
struct Medium {
    generation: u64,
    lane: Lane<Flight>,
}

#[derive(Default)]
struct Line {
    medium: Option<Medium>,
    /// A command that admits no other is in flight.
    exclusive: bool,
    /// Slots of the native queue in flight.
    queued: u32,
}

pub(super) struct AhciEngine {
    shared: Arc<Shared>,
    lines: [Line; PORTS],
    /// Lanes of media that are gone, until nobody watches them.
    retired: Vec<Lane<Flight>>,
    come: Vec<RawFd>,
    discarding: bool,
}

impl AhciEngine {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let mut engine = Self {
            shared,
            lines: Default::default(),
            retired: Vec::new(),
            come: Vec::new(),
            discarding: false,
        };
        for index in 0..PORTS {
            engine.open(index)?;
        }
        engine.come.clear();
        Ok(engine)
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        let Some(drive) = &self.shared.drives[index] else { return Ok(()) };
        let (generation, disk, meter) = drive.medium();
        let Some(disk) = disk else { return Ok(()) };
        let lane = Lane::new(&*disk, meter, self.shared.ram.clone(), spec::SLOTS as u16)?;
        self.come.extend(lane.source());
        self.lines[index].medium = Some(Medium { generation, lane });
        Ok(())
    }

    /// A drive whose medium was exchanged. Packets follow one another, so nothing is in flight.
    fn follow_medium(&mut self, index: usize, packets: &Packets) {
        let (generation, disk) = packets.unit().medium();
        let current = self.lines[index].medium.as_ref().map(|medium| medium.generation);
        if current == disk.is_some().then_some(generation) {
            return;
        }
        self.retired.extend(self.lines[index].medium.take().map(|medium| medium.lane));
        if let Err(error) = self.open(index) {
            warn_limited!("cannot use the new medium of a drive: {error}");
        }
    }

    /// A medium that was taken out is let go of now, and not when its drive is used again.
    fn follow_media(&mut self) {
        let shared = self.shared.clone();
        for (index, drive) in shared.drives.iter().enumerate() {
            let medium = &self.lines[index].medium;
            if let Some(Drive::Packets(packets)) = drive
                && medium.as_ref().is_none_or(|medium| medium.lane.is_idle())
            {
                self.follow_medium(index, packets);
            }
        }
    }

    fn work(&mut self) {
        for index in 0..PORTS {
            self.work_at(index);
        }
    }

    fn work_at(&mut self, index: usize) {
        // Each round takes a command or ends; a slot is taken once until the driver issues it anew.
        for _ in 0..2 * spec::SLOTS {
            let Some((slot, list)) = self.next(index) else { break };
            self.begin(index, slot, list);
        }
        if let Some(medium) = &mut self.lines[index].medium {
            medium.lane.submit();
        }
        self.reap(index);
    }

    /// The next command to take, and where its list is.
    fn next(&mut self, index: usize) -> Option<(u32, u64)> {
        let line = &self.lines[index];
        let mut hba = self.shared.hba.hold();
        let resetting = hba.is_resetting();
        let port = &mut hba.ports[index];
        let ready = !resetting
            && !self.discarding
            && !line.exclusive
            && port.attached.is_some()
            && port.is_running()
            && self.shared.config.is_bus_master();
        if !ready {
            return None;
        }
        let waiting = port.issued & !line.queued;
        let slot = (waiting != 0).then(|| waiting.trailing_zeros())?;
        port.in_flight += 1;
        port.cmd = port.cmd & !cmd::CCS | slot << cmd::CCS_SHIFT;
        Some((slot, port.command_list))
    }

    /// Have the registers show commands that wait here as not taken yet: whoever has them next takes
    /// them from the driver's list, as a whole.
    pub(super) fn give_back(&self, hba: &mut Hba) {
        for (line, port) in self.lines.iter().zip(&mut hba.ports) {
            // Others are issued until they end.
            if port.is_running() {
                port.issued |= line.queued;
            }
        }
    }

    /// The command is not to be taken now.
    fn put_back(&mut self, index: usize) {
        let mut hba = self.shared.hba.hold();
        hba.ports[index].in_flight -= 1;
        hba.settle(&self.shared.ram);
    }

    fn begin(&mut self, index: usize, slot: u32, list: u64) {
        let shared = self.shared.clone();
        let Some(drive) = &shared.drives[index] else { return self.put_back(index) };
        let command = match Command::read(&shared.ram, list, slot) {
            Ok(command) if command.is_host_to_device() => command,
            _ => return self.end(index, slot, End::Fatal(interrupt::HOST_FATAL)),
        };
        if !command.is_command() {
            let reset = command.control() & spec::SOFT_RESET != 0;
            return self.end(index, slot, End::Control { reset });
        }
        let task = command.task_file();
        let queued = matches!(task.command, command::READ_QUEUED | command::WRITE_QUEUED);
        match drive {
            Drive::Disk(disk) if queued => self.begin_queued(index, slot, disk, command, task),
            // What is no queued command ends the queue: it waits until that is empty.
            _ if self.lines[index].queued != 0 => {
                self.lines[index].exclusive = true;
                self.put_back(index);
            }
            Drive::Disk(disk) => {
                let work = disk.execute(&task);
                self.carry_out(index, slot, command, task, work);
            }
            Drive::Packets(packets) if task.command == command::PACKET => {
                self.follow_medium(index, packets);
                self.packet(index, slot, packets, command, task);
            }
            Drive::Packets(packets) => {
                let work = packets.execute(&task);
                if matches!(work, Work::Failed(_)) && task.command == command::IDENTIFY {
                    // A packet device that is asked for a disk's identity shows its signature.
                    self.shared.hba.hold().ports[index].device_reset(&shared.ram);
                }
                self.carry_out(index, slot, command, task, work);
            }
        }
    }

    fn begin_queued(
        &mut self,
        index: usize,
        slot: u32,
        disk: &AtaDisk,
        command: Command,
        task: TaskFile,
    ) {
        // The tag is the slot (AHCI 1.3.1 §5.6.4).
        let tag = u32::from(task.count as u8 >> 3);
        let work = if tag == slot { disk.execute_queued(&task) } else { Work::Failed(error::ABRT) };
        let Work::Transfer(transfer) = work else {
            let error = if let Work::Failed(error) = work { error } else { error::ABRT };
            disk.note_queued_error(slot as u8, &task, status::DRDY | status::ERR, error);
            return self.end(
                index,
                slot,
                End::Queued { status: status::DRDY | status::ERR, error },
            );
        };
        self.accept(index, slot, &task);
        self.lines[index].queued |= 1 << slot;
        let flight = Flight {
            slot,
            kind: Kind::Queued,
            task,
            command,
            len: transfer.len,
            action: transfer.action,
            rest: VecDeque::new(),
        };
        self.start(index, flight, transfer.offset);
    }

    /// The device has taken a queued command: its slot is free of the issue register.
    fn accept(&self, index: usize, slot: u32, task: &TaskFile) {
        let mut hba = self.shared.hba.hold();
        let port = &mut hba.ports[index];
        port.issued &= !(1 << slot);
        port.task_file = status::DRDY.into();
        let fis = registers(status::DRDY, 0, task, false);
        port.receive(&self.shared.ram, spec::RECEIVED_D2H, &fis);
    }

    fn carry_out(&mut self, index: usize, slot: u32, command: Command, task: TaskFile, work: Work) {
        let good = |task| End::Registers { status: status::READY, error: 0, task };
        match work {
            Work::Done { count, lba } => {
                let count = count.map_or(task.count, u16::from);
                let task = TaskFile { count, lba: lba.unwrap_or(task.lba), ..task };
                self.end(index, slot, good(task));
            }
            Work::Failed(error) => {
                let status = status::READY | status::ERR;
                self.end(index, slot, End::Registers { status, error, task });
            }
            Work::Input(data) => match self.give(&command, &data) {
                Ok(_) => {
                    let bytes = data.len() as u64;
                    self.end(index, slot, End::Pio { bytes, task });
                }
                Err(broken) => self.end(index, slot, End::Fatal(fatal(broken))),
            },
            Work::Transfer(transfer) => {
                let reads = transfer.action == Action::Read;
                let kind = if transfer.block.is_some() && reads { Kind::Pio } else { Kind::Dma };
                let flight = Flight {
                    slot,
                    kind,
                    task,
                    command,
                    len: transfer.len,
                    action: transfer.action,
                    rest: VecDeque::new(),
                };
                self.lines[index].exclusive = true;
                self.start(index, flight, transfer.offset);
            }
            Work::Trim { len } => self.trim(index, slot, command, task, len),
        }
    }

    fn trim(&mut self, index: usize, slot: u32, command: Command, task: TaskFile, len: u64) {
        let shared = self.shared.clone();
        let Some(Drive::Disk(disk)) = &shared.drives[index] else { return };
        let mut buffers = memory::IoBuffers::new(shared.ram.clone());
        if let Err(broken) = command.fill(&shared.ram, len, &mut buffers) {
            return self.end(index, slot, End::Fatal(fatal(broken)));
        }
        let mut payload = vec![0; len as usize];
        buffers.copy_to(&mut payload);
        match disk.trim_ranges(&payload) {
            Ok(ranges) => {
                let mut rest = VecDeque::from(ranges);
                let Some((offset, len)) = rest.pop_front() else {
                    return self.carry_out(
                        index,
                        slot,
                        command,
                        task,
                        Work::Done { count: None, lba: None },
                    );
                };
                self.lines[index].exclusive = true;
                let action = Action::Discard { len };
                let flight = Flight { slot, kind: Kind::Dma, task, command, len: 0, action, rest };
                self.start(index, flight, offset);
            }
            Err(error) => self.carry_out(index, slot, command, task, Work::Failed(error)),
        }
    }

    fn packet(
        &mut self,
        index: usize,
        slot: u32,
        packets: &Packets,
        command: Command,
        task: TaskFile,
    ) {
        let Ok(packet) = command.packet(&self.shared.ram) else {
            return self.end(index, slot, End::Fatal(interrupt::HOST_FATAL));
        };
        match packets.packet(&packet) {
            PacketWork::Done => self.end_packet(index, slot, task, 0),
            PacketWork::Failed(error) => self.end_packet(index, slot, task, error),
            PacketWork::Reply(data) => match self.give_some(&command, &data) {
                Ok(_) => self.end_packet(index, slot, task, 0),
                Err(broken) => self.end(index, slot, End::Fatal(fatal(broken))),
            },
            PacketWork::Transfer(mut transfer) => {
                let Some(step) = transfer.steps.pop_front() else {
                    return self.end_packet(index, slot, task, 0);
                };
                self.lines[index].exclusive = true;
                let flight = Flight {
                    slot,
                    kind: Kind::Packet,
                    task,
                    command,
                    len: transfer.len,
                    action: step.action,
                    rest: VecDeque::new(),
                };
                self.start(index, flight, step.offset);
            }
        }
    }

    /// A packet has ended; `error` is what the error register says.
    fn end_packet(&mut self, index: usize, slot: u32, task: TaskFile, error: u8) {
        // Interrupt reason: the command is complete.
        let task = TaskFile { count: 3, ..task };
        let failed = if error != 0 { status::ERR } else { 0 };
        let status = status::READY | failed;
        self.end(index, slot, End::Registers { status, error, task });
    }

    /// Hand bytes to the driver, all of them.
    fn give(&self, command: &Command, data: &[u8]) -> Result<(), Broken> {
        let mut buffers = memory::IoBuffers::new(self.shared.ram.clone());
        command.fill(&self.shared.ram, data.len() as u64, &mut buffers)?;
        buffers.copy_from(data);
        command.set_moved(&self.shared.ram, data.len() as u64);
        Ok(())
    }

    /// Hand as many bytes to the driver as it has room for.
    fn give_some(&self, command: &Command, data: &[u8]) -> Result<(), Broken> {
        let mut buffers = memory::IoBuffers::new(self.shared.ram.clone());
        let room = command.fill_at_most(&self.shared.ram, data.len() as u64, &mut buffers)?;
        buffers.copy_from(data);
        command.set_moved(&self.shared.ram, room);
        Ok(())
    }

    fn start(&mut self, index: usize, flight: Flight, offset: u64) {
        let slot = flight.slot;
        let Some(medium) = &mut self.lines[index].medium else {
            return self.failed(index, &flight, Sense::NO_MEDIUM, error::ABRT);
        };
        let mut buffers = medium.lane.buffers();
        if let Err(broken) = flight.command.fill(&self.shared.ram, flight.len, &mut buffers) {
            return self.end(index, slot, End::Fatal(fatal(broken)));
        }
        medium.lane.start(Request { action: flight.action, offset, buffers }, flight);
    }

    fn reap(&mut self, index: usize) {
        let mut ended = false;
        while let Some((mut flight, result)) =
            self.lines[index].medium.as_mut().and_then(|medium| medium.lane.finished())
        {
            ended = true;
            match result {
                Err(error) => {
                    let sense = sense_of(flight.action, &error);
                    self.failed(index, &flight, sense, error::UNC);
                }
                Ok(()) => match flight.rest.pop_front() {
                    Some((offset, len)) => {
                        flight.action = Action::Discard { len };
                        self.start(index, flight, offset);
                    }
                    None => self.succeeded(index, &flight),
                },
            }
        }
        if ended {
            // What waited for these; it kicks itself, to let other ports have their turn.
            self.shared.wake();
        }
        if let Some(medium) = &mut self.lines[index].medium {
            medium.lane.submit();
        }
    }

    fn succeeded(&mut self, index: usize, flight: &Flight) {
        let (slot, task) = (flight.slot, flight.task);
        if !self.discarding {
            flight.command.set_moved(&self.shared.ram, flight.len);
        }
        match flight.kind {
            Kind::Pio => self.end(index, slot, End::Pio { bytes: flight.len, task }),
            Kind::Dma => {
                self.end(index, slot, End::Registers { status: status::READY, error: 0, task });
            }
            Kind::Queued => self.end(index, slot, End::Queued { status: status::DRDY, error: 0 }),
            Kind::Packet => {
                if let Some(Drive::Packets(packets)) = &self.shared.drives[index] {
                    packets.succeeded();
                }
                self.end_packet(index, slot, task, 0);
            }
        }
    }

    fn failed(&mut self, index: usize, flight: &Flight, sense: Sense, error: u8) {
        let (slot, task) = (flight.slot, flight.task);
        let status = status::READY | status::ERR;
        match (flight.kind, &self.shared.drives[index]) {
            (Kind::Packet, Some(Drive::Packets(packets))) => {
                let error = packets.failed(sense);
                self.end_packet(index, slot, task, error);
            }
            (Kind::Queued, Some(Drive::Disk(disk))) => {
                let status = status::DRDY | status::ERR;
                disk.note_queued_error(slot as u8, &task, status, error);
                self.end(index, slot, End::Queued { status, error });
            }
            _ => self.end(index, slot, End::Registers { status, error, task }),
        }
    }

    /// A command leaves the engine; the registers and the driver hear of it, unless the port was
    /// stopped meanwhile.
    fn end(&mut self, index: usize, slot: u32, end: End) {
        let line = &mut self.lines[index];
        line.queued &= !(1 << slot);
        line.exclusive = false;
        let shared = &self.shared;
        let mut hba = shared.hba.hold();
        let heard = !self.discarding && !hba.is_resetting();
        let port = &mut hba.ports[index];
        port.in_flight = port.in_flight.saturating_sub(1);
        if heard && (port.is_running() || matches!(end, End::Control { .. })) {
            apply(port, slot, end, &shared.ram);
        }
        finish(&mut hba, shared);
    }
}

/// Carry out what waited for this end, and signal.
fn finish(hba: &mut Hba, shared: &Shared) {
    hba.settle(&shared.ram);
    hba.follow();
    shared.signal(hba);
}

impl Engine for AhciEngine {
    fn renew(&mut self) {
        // Of a restored adapter: what waited for commands that were in flight there.
        self.shared.hba.hold().settle(&self.shared.ram);
        let media = self.lines.iter_mut().filter_map(|line| line.medium.as_mut());
        media.for_each(|medium| medium.lane.renew());
    }

    fn sources(&self) -> Vec<RawFd> {
        let media = self.lines.iter().filter_map(|line| line.medium.as_ref());
        media.filter_map(|medium| medium.lane.source()).collect()
    }

    fn kicked(&mut self) {
        self.follow_media();
        self.work();
    }

    fn ready(&mut self) {
        for index in 0..PORTS {
            self.reap(index);
        }
    }

    fn drain(&mut self, how: Stop) {
        self.discarding = how == Stop::Discard;
        for index in 0..PORTS {
            if self.discarding {
                self.lines[index].medium.iter_mut().for_each(|medium| medium.lane.give_up());
            }
            loop {
                self.reap(index);
                match &mut self.lines[index].medium {
                    Some(medium) if !medium.lane.is_drained() => medium.lane.wait(),
                    _ => break,
                }
            }
        }
    }

    fn keeps(&self) -> bool {
        let mut media = self.lines.iter().filter_map(|line| line.medium.as_ref());
        media.any(|medium| medium.lane.keeps())
    }

    fn retry(&mut self) {
        for (line, drive) in self.lines.iter_mut().zip(&self.shared.drives) {
            let (Some(medium), Some(drive)) = (&mut line.medium, drive) else { continue };
            if drive.medium().0 == medium.generation {
                medium.lane.retry();
            } else {
                medium.lane.give_up();
            }
        }
    }

    fn changed_sources(&mut self) -> Option<(Vec<RawFd>, Vec<RawFd>)> {
        if self.retired.is_empty() && self.come.is_empty() {
            return None;
        }
        let gone = self.retired.iter().filter_map(Lane::source).collect();
        Some((gone, std::mem::take(&mut self.come)))
    }

    fn sources_changed(&mut self) {
        self.retired.clear();
    }
}
