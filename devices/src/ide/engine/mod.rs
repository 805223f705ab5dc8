//! [`IdeEngine`]: carries out the commands of both channels.

mod master;

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use memory::{Backing, GuestRam};

use super::channel::{Channel, PACKET, Phase, Progress, REASON_DONE};
use super::device::{CHANNELS, Shared};
use crate::ata::spec::{SECTOR, command, error};
use crate::ata::{Drive, PacketWork, Packets, TaskFile, Transfer, Work};
use crate::backend::lane::Lane;
use crate::backend::{Action, Request};
use crate::engine::Engine;
use crate::io_thread::Stop;
use crate::limit::warn_limited;
use crate::scsi::{Sense, sense_of};
use crate::sync::Lock;

/// Bytes that go to or from the disk at a time, when the host moves them by PIO.
const PIECE: u64 = 128 << 10;
/// Requests of a drive: one at a time.
const DEPTH: u16 = 4;

/// What a request to the host leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Data for the host by PIO, so many bytes of scratch memory, `block` between two interrupts.
    Input {
        len: u64,
        block: u64,
    },
    /// Data of the host, in scratch memory.
    Output,
    Dma,
    /// Without data.
    Plain,
}

struct Flight {
    kind: Kind,
    action: Action,
    /// What follows: offset and length of discards.
    rest: VecDeque<(u64, u64)>,
}

/// A drive's medium in use: with the guest's memory, and with scratch memory.
struct Medium {
    generation: u64,
    direct: Lane<Flight>,
    scratch: Lane<Flight>,
}

impl Medium {
    fn lanes(&mut self) -> [&mut Lane<Flight>; 2] {
        [&mut self.direct, &mut self.scratch]
    }
}

pub(super) struct IdeEngine {
    shared: Arc<Shared>,
    /// What PIO moves is here while it is with the host: memory like the guest's, but nobody's.
    scratch: [GuestRam; CHANNELS],
    media: [[Option<Medium>; 2]; CHANNELS],
    retired: Vec<Medium>,
    come: Vec<RawFd>,
    discarding: bool,
}

impl IdeEngine {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let scratch =
            || GuestRam::new(&[(0, PIECE)], &Backing::Anonymous).map_err(io::Error::other);
        let mut engine = Self {
            shared,
            scratch: [scratch()?, scratch()?],
            media: Default::default(),
            retired: Vec::new(),
            come: Vec::new(),
            discarding: false,
        };
        for index in 0..CHANNELS {
            for unit in 0..2 {
                engine.open(index, unit)?;
            }
        }
        engine.come.clear();
        Ok(engine)
    }

    fn open(&mut self, index: usize, unit: usize) -> io::Result<()> {
        let Some(drive) = &self.shared.drives[index][unit] else { return Ok(()) };
        let (generation, disk, meter) = drive.medium();
        let Some(disk) = disk else { return Ok(()) };
        let lane = |ram: &GuestRam| Lane::new(&*disk, meter.clone(), ram.clone(), DEPTH);
        let direct = lane(&self.shared.ram)?;
        let scratch = lane(&self.scratch[index])?;
        self.come.extend([direct.source(), scratch.source()].into_iter().flatten());
        self.media[index][unit] = Some(Medium { generation, direct, scratch });
        Ok(())
    }

    /// A drive whose medium was exchanged; nothing of it is in flight.
    fn follow_medium(&mut self, index: usize, unit: usize) {
        let Some(drive) = &self.shared.drives[index][unit] else { return };
        let (generation, disk, _) = drive.medium();
        let current = self.media[index][unit].as_ref().map(|medium| medium.generation);
        if current == disk.is_some().then_some(generation) {
            return;
        }
        self.retired.extend(self.media[index][unit].take());
        if let Err(error) = self.open(index, unit) {
            warn_limited!("cannot use the new medium of a drive: {error}");
        }
    }

    fn work(&mut self, index: usize) {
        // Each round takes the channel a phase further; a command has a few.
        for _ in 0..16 {
            let shared = self.shared.clone();
            let (phase, task, progress, unit) = {
                let mut channel = shared.channels[index].hold();
                let ready = match &channel.phase {
                    Phase::Begin | Phase::Next { .. } => true,
                    Phase::Wait => channel.master_runs() && shared.config.is_bus_master(),
                    _ => false,
                };
                if !ready || self.discarding {
                    break;
                }
                let phase = std::mem::replace(&mut channel.phase, Phase::Busy);
                (phase, channel.task, channel.progress, channel.selected())
            };
            let Some(drive) = &shared.drives[index][unit] else {
                self.with(index, Channel::abort);
                continue;
            };
            let place = Place { index, unit };
            match phase {
                Phase::Begin => self.begin(place, drive, &task),
                Phase::Next { data } => self.go_on(place, drive, progress, data),
                _ => self.by_master(place, progress),
            }
        }
        self.reap(index);
    }

    /// Have the channels show what waits here as not handed to the host yet.
    pub(super) fn give_back(&mut self, channels: &mut [Channel; CHANNELS]) {
        for ((media, channel), scratch) in self.media.iter_mut().zip(channels).zip(&self.scratch) {
            let lanes = media.iter_mut().flatten().flat_map(Medium::lanes);
            // A channel does one thing at a time.
            let Some(kind) = lanes.flat_map(Lane::owners).map(|flight| flight.kind).next() else {
                continue;
            };
            if channel.returned() {
                channel.phase = before(kind, channel.progress, scratch);
            }
        }
    }

    /// Change the channel, and signal.
    fn with(&self, index: usize, act: impl FnOnce(&mut Channel)) {
        let mut channel = self.shared.channels[index].hold();
        act(&mut channel);
        self.shared.signal(index, &channel);
    }

    fn begin(&mut self, place: Place, drive: &Drive, task: &TaskFile) {
        let index = place.index;
        let work = match drive {
            Drive::Packets(_) if task.command == command::PACKET => {
                return self.with(index, |channel| {
                    channel.progress = Progress::Packet;
                    channel.want(PACKET, true);
                });
            }
            Drive::Packets(packets) => {
                let work = packets.execute(task);
                if matches!(work, Work::Failed(_)) && task.command == command::IDENTIFY {
                    self.with(index, Channel::show_signature);
                }
                work
            }
            Drive::Disk(disk) => disk.execute(task),
        };
        match work {
            Work::Done { count, lba } => self.with(index, |c| c.finish(0, count, lba)),
            Work::Failed(error) => self.with(index, |c| c.finish(error, None, None)),
            Work::Input(data) => self.with(index, |channel| {
                let len = data.len();
                channel.give(data, len);
            }),
            Work::Trim { len } => self.with(index, |channel| {
                channel.progress = Progress::Trim { len };
                channel.want_dma();
            }),
            Work::Transfer(transfer) => self.transfer(place, transfer),
        }
    }

    fn transfer(&mut self, place: Place, transfer: Transfer) {
        let Transfer { action, offset, len, block } = transfer;
        let durable = match action {
            Action::Read => None,
            Action::Write { durable } => Some(durable),
            _ => return self.start(place, Kind::Plain, action, 0, VecDeque::new()),
        };
        let block_len = u64::from(block.unwrap_or(0)) * SECTOR;
        let progress = Progress::Sectors { write: durable, offset, left: len, block: block_len };
        let index = place.index;
        match (block, durable) {
            (None, _) => self.with(index, |channel| {
                channel.progress = progress;
                channel.want_dma();
            }),
            (Some(_), Some(_)) => self.with(index, |channel| {
                channel.progress = progress;
                channel.want(block_len.min(len) as usize, true);
            }),
            (Some(_), None) => {
                self.with(index, |channel| channel.progress = progress);
                self.read_piece(place, progress);
            }
        }
    }

    /// Read the next piece for the host.
    fn read_piece(&mut self, place: Place, progress: Progress) {
        let (offset, left, block) = match progress {
            Progress::Sectors { offset, left, block, .. } => (offset, left, block),
            Progress::PacketData { offset, left, block } => (offset, left, block),
            _ => return self.with(place.index, Channel::abort),
        };
        // Whole blocks, so that the next piece begins with one.
        let most = PIECE - PIECE % block.clamp(1, PIECE);
        let len = left.min(most);
        let kind = Kind::Input { len, block };
        self.start(place, kind, Action::Read, offset, VecDeque::new());
    }

    /// The host has given all it was asked for, or taken all there was.
    fn go_on(&mut self, place: Place, drive: &Drive, progress: Progress, data: Vec<u8>) {
        let index = place.index;
        match (progress, drive) {
            (Progress::Packet, Drive::Packets(packets)) => self.packet(place, packets, &data),
            (Progress::Sectors { write: Some(durable), offset, .. }, _) if !data.is_empty() => {
                // It fits: a block has at most sixteen sectors.
                if self.scratch[index].write_slice(0, &data).is_err() {
                    return self.with(index, Channel::abort);
                }
                let action = Action::Write { durable };
                self.start_with(place, Kind::Output, action, offset, data.len() as u64);
            }
            (Progress::Sectors { left: 1.., .. } | Progress::PacketData { left: 1.., .. }, _) => {
                self.read_piece(place, progress);
            }
            (Progress::PacketData { .. } | Progress::PacketReply, Drive::Packets(packets)) => {
                packets.succeeded();
                self.with(index, |channel| channel.finish(0, Some(REASON_DONE), None));
            }
            // PIO input ends with its last byte, without another interrupt.
            _ => self.with(index, Channel::rest),
        }
    }

    fn packet(&mut self, place: Place, packets: &Packets, packet: &[u8]) {
        let (index, unit) = (place.index, place.unit);
        self.follow_medium(index, unit);
        let task = self.shared.channels[index].hold().task;
        let by_master = task.features & 1 != 0;
        // What the host takes at a time: an even number of bytes.
        let limit = match (task.lba >> 8 & 0xffff) as usize {
            0 | 0xffff => 0xfffe,
            limit => limit & !1,
        };
        let limit = limit.max(2);
        match packets.packet(packet) {
            PacketWork::Done => {
                self.with(index, |channel| channel.finish(0, Some(REASON_DONE), None));
            }
            PacketWork::Failed(error) => {
                self.with(index, |channel| channel.finish(error, Some(REASON_DONE), None));
            }
            PacketWork::Reply(data) if data.is_empty() => {
                self.with(index, |channel| channel.finish(0, Some(REASON_DONE), None));
            }
            PacketWork::Reply(data) if by_master => {
                self.with(index, |channel| {
                    channel.progress = Progress::PacketReply;
                    channel.reply = data;
                    channel.want_dma();
                });
            }
            PacketWork::Reply(data) => self.with(index, |channel| {
                channel.progress = Progress::PacketReply;
                channel.give(data, limit);
            }),
            PacketWork::Transfer(transfer) => {
                let Some(step) = transfer.steps.front().copied() else {
                    return self.with(index, |c| c.finish(0, Some(REASON_DONE), None));
                };
                let block = limit as u64;
                let progress =
                    Progress::PacketData { offset: step.offset, left: transfer.len, block };
                self.with(index, |channel| channel.progress = progress);
                if by_master {
                    self.with(index, Channel::want_dma);
                } else {
                    self.read_piece(place, progress);
                }
            }
        }
    }

    fn start(
        &mut self,
        place: Place,
        kind: Kind,
        action: Action,
        offset: u64,
        rest: VecDeque<(u64, u64)>,
    ) {
        let Some(medium) = &mut self.media[place.index][place.unit] else {
            return self.failed(place, action, Sense::NO_MEDIUM);
        };
        let mut buffers = medium.scratch.buffers();
        let filled = match kind {
            Kind::Input { len, .. } => buffers.push(0, len),
            _ => Ok(()),
        };
        if filled.is_err() {
            return self.with(place.index, Channel::abort);
        }
        medium.scratch.start(Request { action, offset, buffers }, Flight { kind, action, rest });
    }

    fn start_with(&mut self, place: Place, kind: Kind, action: Action, offset: u64, len: u64) {
        let Some(medium) = &mut self.media[place.index][place.unit] else {
            return self.failed(place, action, Sense::NO_MEDIUM);
        };
        let mut buffers = medium.scratch.buffers();
        if buffers.push(0, len).is_err() {
            return self.with(place.index, Channel::abort);
        }
        let flight = Flight { kind, action, rest: VecDeque::new() };
        medium.scratch.start(Request { action, offset, buffers }, flight);
    }

    fn reap(&mut self, index: usize) {
        for unit in 0..2 {
            while let Some(medium) = &mut self.media[index][unit] {
                medium.direct.submit();
                medium.scratch.submit();
                let ended = medium.direct.finished().or_else(|| medium.scratch.finished());
                let Some((mut flight, result)) = ended else { break };
                let place = Place { index, unit };
                if !self.shared.channels[index].hold().returned() || self.discarding {
                    let channel = self.shared.channels[index].hold();
                    self.shared.signal(index, &channel);
                    continue;
                }
                match result {
                    Err(error) => {
                        let sense = sense_of(flight.action, &error);
                        self.failed(place, flight.action, sense);
                    }
                    Ok(()) => match flight.rest.pop_front() {
                        Some((offset, len)) => {
                            let action = Action::Discard { len };
                            self.start(place, flight.kind, action, offset, flight.rest);
                        }
                        None => self.succeeded(place, flight.kind),
                    },
                }
            }
        }
    }

    fn succeeded(&mut self, place: Place, kind: Kind) {
        let index = place.index;
        match kind {
            Kind::Plain => self.with(index, |channel| channel.finish(0, None, None)),
            Kind::Dma => {
                if let Some(Drive::Packets(packets)) = &self.shared.drives[index][place.unit] {
                    packets.succeeded();
                }
                self.end_master(place, false);
            }
            Kind::Input { len, block } => {
                let mut data = vec![0; len as usize];
                // The piece was just read to there.
                let _ = self.scratch[index].read_slice(0, &mut data);
                self.with(index, |channel| {
                    channel.progress.advance(len);
                    channel.give(data, block.max(1) as usize);
                });
            }
            Kind::Output => self.with(index, |channel| {
                let Progress::Sectors { left, block, .. } = channel.progress else {
                    return channel.abort();
                };
                let written = block.min(left);
                channel.progress.advance(written);
                match left - written {
                    0 => channel.finish(0, None, None),
                    rest => channel.want(rest.min(block) as usize, false),
                }
            }),
        }
    }

    fn failed(&mut self, place: Place, action: Action, sense: Sense) {
        let index = place.index;
        let error = match (&self.shared.drives[index][place.unit], action) {
            (Some(Drive::Packets(packets)), _) => packets.failed(sense),
            (_, Action::Read) => error::UNC,
            _ => error::ABRT,
        };
        let packet = matches!(self.shared.drives[index][place.unit], Some(Drive::Packets(_)));
        self.with(index, |channel| {
            channel.master_ended(false);
            channel.finish(error, packet.then_some(REASON_DONE), None);
        });
    }
}

/// What the channel was doing when it came to a request of this kind.
fn before(kind: Kind, progress: Progress, scratch: &GuestRam) -> Phase {
    match (kind, progress) {
        // The command that needs no data, from its beginning.
        (Kind::Plain, _) => Phase::Begin,
        (Kind::Dma, _) => Phase::Wait,
        (Kind::Output, Progress::Sectors { left, block, .. }) => {
            let mut data = vec![0; block.min(left).min(PIECE) as usize];
            // The host was given it from there.
            let _ = scratch.read_slice(0, &mut data);
            Phase::Next { data }
        }
        (Kind::Input { .. } | Kind::Output, _) => Phase::Next { data: Vec::new() },
    }
}

/// A drive: its channel, and which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: usize,
    unit: usize,
}

impl Engine for IdeEngine {
    fn renew(&mut self) {
        for medium in self.media.iter_mut().flatten().flatten() {
            medium.direct.renew();
            medium.scratch.renew();
        }
    }

    fn sources(&self) -> Vec<RawFd> {
        let media = self.media.iter().flatten().flatten();
        media
            .flat_map(|medium| [medium.direct.source(), medium.scratch.source()])
            .flatten()
            .collect()
    }

    fn kicked(&mut self) {
        for index in 0..CHANNELS {
            for unit in 0..2 {
                // One that was taken out is let go of now, and not when its drive is used again.
                let medium = self.media[index][unit].as_ref();
                if medium.is_none_or(|medium| medium.direct.is_idle() && medium.scratch.is_idle()) {
                    self.follow_medium(index, unit);
                }
            }
            self.work(index);
        }
    }

    fn ready(&mut self) {
        // A piece that has ended may be followed by the next.
        (0..CHANNELS).for_each(|index| {
            self.reap(index);
            self.work(index);
        });
    }

    fn drain(&mut self, how: Stop) {
        self.discarding = how == Stop::Discard;
        if self.discarding {
            let media = self.media.iter_mut().flatten().flatten();
            media.flat_map(Medium::lanes).for_each(Lane::give_up);
        }
        for index in 0..CHANNELS {
            loop {
                self.reap(index);
                let media = self.media[index].iter_mut().flatten();
                let busy = media.flat_map(Medium::lanes).find(|lane| !lane.is_drained());
                match busy {
                    Some(lane) => lane.wait(),
                    None => break,
                }
            }
        }
    }

    fn keeps(&self) -> bool {
        let mut media = self.media.iter().flatten().flatten();
        media.any(|medium| medium.direct.keeps() || medium.scratch.keeps())
    }

    fn retry(&mut self) {
        let drives = self.shared.drives.iter().flatten();
        for (medium, drive) in self.media.iter_mut().flatten().zip(drives) {
            let (Some(medium), Some(drive)) = (medium, drive) else { continue };
            let same = drive.medium().0 == medium.generation;
            medium.lanes().into_iter().for_each(if same { Lane::retry } else { Lane::give_up });
        }
    }

    fn changed_sources(&mut self) -> Option<(Vec<RawFd>, Vec<RawFd>)> {
        if self.retired.is_empty() && self.come.is_empty() {
            return None;
        }
        let gone = self.retired.iter();
        let gone = gone.flat_map(|medium| [medium.direct.source(), medium.scratch.source()]);
        Some((gone.flatten().collect(), std::mem::take(&mut self.come)))
    }

    fn sources_changed(&mut self) {
        self.retired.clear();
    }
}
