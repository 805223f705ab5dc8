//! [`ScsiWorker`]: the commands of all request queues, and the functions of the control queue.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory::GuestRam;
use vmm_sys_util::epoll::EventSet;

use super::control::Function;
use super::device::Shared;
use super::spec::{self, Address, REQUEST_HEADER, response};
use super::task::{Answer, Task};
use crate::backend::lane::Lane;
use crate::backend::{Action, Request};
use crate::limit::warn_limited;
use crate::scsi::{Cdb, LogicalUnit, Outcome, Sense, absent_unit, op, sense_of};
use crate::sync::Lock;
use crate::virtio::{ActiveQueue, Chain, Context, QueueWorker};

const WAKE: u32 = 0;

/// A unit's medium in use.
struct Disk {
    generation: u64,
    lane: Lane<Task>,
}

pub(super) struct ScsiWorker {
    pub(super) shared: Arc<Shared>,
    ram: GuestRam,
    /// Index of the queue in the device, by position.
    roles: Vec<usize>,
    depth: u16,
    sense_size: u32,
    cdb_size: u32,
    /// Watched with its position plus one; none: the unit that was there has gone.
    units: Vec<Option<(Address, Arc<LogicalUnit>)>>,
    disks: Vec<Option<Disk>>,
    pub(super) functions: Vec<Function>,
    /// Numbers the functions.
    pub(super) next_function: u64,
}

impl ScsiWorker {
    pub(super) fn new(
        shared: Arc<Shared>,
        ram: GuestRam,
        roles: Vec<usize>,
        depth: u16,
    ) -> io::Result<Self> {
        let all = shared.units.hold().clone();
        let units: Vec<_> = all.into_iter().map(Some).collect();
        let mut worker = Self {
            sense_size: shared.sense_size.load(Ordering::Relaxed),
            cdb_size: shared.cdb_size.load(Ordering::Relaxed),
            shared,
            ram,
            roles,
            depth,
            disks: units.iter().map(|_| None).collect(),
            units,
            functions: Vec::new(),
            next_function: 0,
        };
        for position in 0..worker.units.len() {
            worker.open(position)?;
        }
        Ok(worker)
    }

    /// Take up the medium that is in the unit now.
    fn open(&mut self, position: usize) -> io::Result<()> {
        let Some((_, unit)) = &self.units[position] else { return Ok(()) };
        let (generation, disk) = unit.medium();
        self.disks[position] = match disk {
            Some(disk) => {
                let lane = Lane::new(&*disk, unit.meter().clone(), self.ram.clone(), self.depth)?;
                Some(Disk { generation, lane })
            }
            None => None,
        };
        Ok(())
    }

    fn watch(&self, position: usize, cx: &mut Context<'_, '_>) {
        let source = self.disks[position].as_ref().and_then(|disk| disk.lane.source());
        if let Some(source) = source {
            cx.watch(&source, position as u32 + 1, EventSet::IN);
        }
    }

    /// A unit whose medium was exchanged: what is in flight on the old one ends first.
    fn follow_medium(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let Some((_, unit)) = &self.units[position] else { return };
        let (generation, medium) = unit.medium();
        let current = self.disks[position].as_ref().map(|disk| disk.generation);
        if current == medium.is_some().then_some(generation) {
            return;
        }
        self.close(position, cx);
        self.use_medium(position, cx);
    }

    /// Be done with a medium: what is in flight ends first.
    fn close(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        while self.disks[position].as_ref().is_some_and(|disk| !disk.lane.is_idle()) {
            if let Some(disk) = &mut self.disks[position] {
                disk.lane.give_up();
                disk.lane.wait();
            }
            self.reap(position, cx.queues);
        }
        if let Some(source) = self.disks[position].take().and_then(|disk| disk.lane.source()) {
            cx.unwatch(&source);
        }
    }

    fn use_medium(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        match self.open(position) {
            Ok(()) => self.watch(position, cx),
            Err(error) => warn_limited!("cannot use the new medium of a drive: {error}"),
        }
    }

    /// Units that came and went since the last time.
    fn follow_units(&mut self, cx: &mut Context<'_, '_>) {
        let mut coming = self.shared.units.hold().clone();
        for position in 0..self.units.len() {
            let Some((at, unit)) = &self.units[position] else { continue };
            let stays = coming.get(at).is_some_and(|now| Arc::ptr_eq(now, unit));
            if stays {
                coming.remove(at);
            } else {
                self.close(position, cx);
                self.units[position] = None;
            }
        }
        for unit in coming {
            let free = self.units.iter().position(Option::is_none);
            let position = free.unwrap_or(self.units.len());
            if free.is_none() {
                self.units.push(None);
                self.disks.push(None);
            }
            self.units[position] = Some(unit);
            self.use_medium(position, cx);
        }
    }

    fn begin(&mut self, queue: usize, mut chain: Chain, cx: &mut Context<'_, '_>) {
        let mut request = vec![0; REQUEST_HEADER + self.cdb_size as usize];
        let read = chain.read(&mut request);
        let Some(answer) = Answer::take(&mut chain, self.sense_size).filter(|_| read) else {
            cx.queues[queue].fail(chain, "it has no room for request and response");
            return;
        };
        let [l0, l1, l2, l3, l4, l5, l6, l7, i0, i1, i2, i3, i4, i5, i6, i7, _, _, _, cdb @ ..] =
            &request[..]
        else {
            return answer.refuse(&mut cx.queues[queue], chain, response::FAILURE);
        };
        let address = Address::parse([*l0, *l1, *l2, *l3, *l4, *l5, *l6, *l7]);
        let id = u64::from_le_bytes([*i0, *i1, *i2, *i3, *i4, *i5, *i6, *i7]);
        let Some(address) = address.filter(|address| self.has_target(address.target)) else {
            return answer.refuse(&mut cx.queues[queue], chain, response::BAD_TARGET);
        };
        let cdb = Cdb::new(cdb);
        let position = self.position(address);
        if let Some(position) = position {
            self.follow_medium(position, cx);
        }
        let outcome = self.execute(address, position, &cdb, &chain);
        let queue_position = queue;
        let queue = &mut cx.queues[queue];
        match (outcome, position) {
            (Ok(Outcome::Transfer(transfer)), Some(position)) => {
                let task = Task {
                    queue: queue_position,
                    address,
                    id,
                    chain,
                    answer,
                    transfer,
                    action: Action::Flush,
                    ended: None,
                };
                self.start(position, task, queue);
            }
            (Ok(Outcome::Reply(data)), _) => {
                let expected = chain.writable_len();
                let len = data.len().min(expected as usize);
                // As much as there is room for.
                let _ = chain.write(&data[..len]);
                answer.finish(queue, chain, Ok(()), len as u32, expected - len as u32);
            }
            (Ok(_), _) => {
                let residual = chain.writable_len().max(chain.readable_len());
                answer.finish(queue, chain, Ok(()), 0, residual);
            }
            (Err(sense), _) => {
                let residual = chain.writable_len().max(chain.readable_len());
                answer.finish(queue, chain, Err(sense), 0, residual);
            }
        }
    }

    fn execute(
        &self,
        address: Address,
        position: Option<usize>,
        cdb: &Cdb,
        chain: &Chain,
    ) -> Result<Outcome, Sense> {
        if cdb.opcode() == op::REPORT_LUNS {
            return Ok(Outcome::Reply(self.report_luns(address.target, cdb)));
        }
        let unit = position.and_then(|position| self.units[position].as_ref());
        let Some((_, unit)) = unit else { return absent_unit(cdb) };
        unit.execute(cdb, &mut |data| {
            chain.readable_buffers().is_ok_and(|mut list| list.copy_to(data) == data.len())
        })
    }

    fn report_luns(&self, target: u8, cdb: &Cdb) -> Vec<u8> {
        let mut own: Vec<_> = self.units().filter(|(at, _)| at.target == target).collect();
        own.sort_by_key(|(at, _)| *at);
        let luns: Vec<u8> = own
            .into_iter()
            .flat_map(|(at, _)| {
                let [high, low] = at.lun.to_be_bytes();
                // The peripheral device method below 256, as initiators expect it.
                [if at.lun < 256 { high } else { high | 0x40 }, low, 0, 0, 0, 0, 0, 0]
            })
            .collect();
        let mut data = (luns.len() as u32).to_be_bytes().to_vec();
        data.extend([0; 4]);
        data.extend(luns);
        data.truncate(cdb.allocation_32() as usize);
        data
    }

    pub(super) fn has_target(&self, target: u8) -> bool {
        self.units().any(|(at, _)| at.target == target)
    }

    pub(super) fn position(&self, address: Address) -> Option<usize> {
        let is_it = |unit: &Option<(Address, _)>| unit.as_ref().is_some_and(|it| it.0 == address);
        self.units.iter().position(is_it)
    }

    pub(super) fn units(&self) -> impl Iterator<Item = &(Address, Arc<LogicalUnit>)> {
        self.units.iter().flatten()
    }

    pub(super) fn unit(&self, position: usize) -> Option<&LogicalUnit> {
        self.units.get(position)?.as_ref().map(|(_, unit)| &**unit)
    }

    /// Everything that is in flight.
    pub(super) fn tasks(&mut self) -> impl Iterator<Item = &mut Task> {
        self.disks.iter_mut().flatten().flat_map(|disk| disk.lane.owners())
    }

    fn start(&mut self, position: usize, task: Task, queue: &mut ActiveQueue) {
        if u64::from(task.room()) < task.transfer.len {
            return task.answer.refuse(queue, task.chain, response::OVERRUN);
        }
        self.step(position, task, queue);
    }

    /// Start the next step of a task, or end it.
    fn step(&mut self, position: usize, mut task: Task, queue: &mut ActiveQueue) {
        if let Some((_, code)) = task.ended {
            return task.answer.refuse(queue, task.chain, code);
        }
        let Some(step) = task.transfer.steps.front().copied() else {
            let (filled, residual) = (task.filled(), task.residual());
            return task.answer.finish(queue, task.chain, Ok(()), filled, residual);
        };
        let Some(disk) = &mut self.disks[position] else {
            let residual = task.room();
            return task.answer.finish(queue, task.chain, Err(Sense::NO_MEDIUM), 0, residual);
        };
        let mut buffers = disk.lane.buffers();
        if task.fill(&step, &mut buffers).is_err() {
            return task.answer.refuse(queue, task.chain, response::FAILURE);
        }
        task.transfer.steps.pop_front();
        task.action = step.action;
        let request = Request { action: step.action, offset: step.offset, buffers };
        disk.lane.start(request, task);
    }

    /// Answer what a disk has finished.
    fn reap(&mut self, position: usize, queues: &mut [ActiveQueue]) {
        while let Some((task, result)) =
            self.disks[position].as_mut().and_then(|disk| disk.lane.finished())
        {
            let Some(queue) = queues.get_mut(task.queue) else { continue };
            match result {
                Ok(()) => self.step(position, task, queue),
                Err(error) if task.ended.is_none() => {
                    let (sense, residual) = (sense_of(task.action, &error), task.room());
                    task.answer.finish(queue, task.chain, Err(sense), 0, residual);
                }
                Err(_) => self.step(position, task, queue),
            }
        }
        if let Some(disk) = &mut self.disks[position] {
            disk.lane.submit();
        }
        self.finish_functions(queues);
    }

    fn deliver_events(&self, queues: &mut [ActiveQueue]) {
        let position = self.roles.iter().position(|role| *role == spec::EVENTS);
        if let Some(queue) = position.and_then(|position| queues.get_mut(position)) {
            self.shared.events.hold().deliver(queue);
        }
    }

    pub(super) fn control_queue<'a>(
        &self,
        queues: &'a mut [ActiveQueue],
    ) -> Option<&'a mut ActiveQueue> {
        let position = self.roles.iter().position(|role| *role == spec::CONTROL)?;
        queues.get_mut(position)
    }
}

impl QueueWorker for ScsiWorker {
    fn start(&mut self, cx: &mut Context<'_, '_>) {
        self.disks.iter_mut().flatten().for_each(|disk| disk.lane.renew());
        for position in 0..self.disks.len() {
            self.watch(position, cx);
        }
        cx.watch(&*self.shared.wake, WAKE, EventSet::IN);
        for position in 0..self.disks.len() {
            // What was asked of a medium that is gone is not asked of the next.
            self.follow_medium(position, cx);
            if let Some(disk) = &mut self.disks[position]
                && disk.lane.keeps()
            {
                disk.lane.retry();
                self.reap(position, cx.queues);
            }
        }
    }

    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        match self.roles.get(position) {
            Some(&spec::CONTROL) => {
                while let Some(chain) = cx.queues[position].next() {
                    self.control(chain, &mut cx.queues[position]);
                }
                self.finish_functions(cx.queues);
            }
            Some(&spec::EVENTS) => self.deliver_events(cx.queues),
            _ => {
                while let Some(chain) = cx.queues[position].next() {
                    self.begin(position, chain, cx);
                }
                for disk in 0..self.disks.len() {
                    self.disks[disk].iter_mut().for_each(|disk| disk.lane.submit());
                    // What the page cache answered is finished already.
                    self.reap(disk, cx.queues);
                }
            }
        }
    }

    fn ready(&mut self, token: u32, _events: EventSet, cx: &mut Context<'_, '_>) {
        match (token as usize).checked_sub(1) {
            None => {
                let _ = self.shared.wake.read();
                self.follow_units(cx);
                for position in 0..self.units.len() {
                    self.follow_medium(position, cx);
                }
                self.deliver_events(cx.queues);
            }
            Some(position) if position < self.disks.len() => self.reap(position, cx.queues),
            Some(_) => {}
        }
    }

    fn drain(&mut self, queues: &mut [ActiveQueue]) {
        for position in 0..self.disks.len() {
            loop {
                self.reap(position, queues);
                match &mut self.disks[position] {
                    Some(disk) if !disk.lane.is_drained() => disk.lane.wait(),
                    _ => break,
                }
            }
        }
    }

    fn keeps(&self) -> bool {
        self.disks.iter().flatten().any(|disk| disk.lane.keeps())
    }
}
