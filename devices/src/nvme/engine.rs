//! [`NvmeEngine`]: takes the commands of all queues, and answers them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use memory::IoBuffers;

use super::controller::Controller;
use super::device::{Namespace, Shared};
use super::spec::{Command, MOST_DATA, Status, nvm};
use super::{admin, identify, prp};
use crate::backend::lane::Lane;
use crate::backend::{Action, Request};
use crate::engine::Engine;
use crate::io_thread::Stop;
use crate::sync::Lock;

/// Commands of one queue that are taken before the others have their turn.
const BURST: u32 = 64;
/// Requests in flight on each disk; more wait.
pub(super) const DEPTH: u16 = 128;

/// What is done to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    namespace: usize,
    action: Action,
    offset: u64,
}

/// Whose a request to the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Command {
        queue: u16,
        command: Command,
    },
    /// The controller's shutdown.
    Shutdown,
}

struct Flight {
    owner: Owner,
    step: Step,
    rest: VecDeque<Step>,
}

pub(super) struct NvmeEngine {
    shared: Arc<Shared>,
    /// By number of the namespace, from 1.
    lanes: Vec<Option<Lane<Flight>>>,
    discarding: bool,
}

impl NvmeEngine {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let lane = |namespace: &Option<Namespace>| {
            let lane = |namespace: &Namespace| {
                Lane::new(&*namespace.disk, namespace.meter.clone(), shared.ram.clone(), DEPTH)
            };
            namespace.as_ref().map(lane).transpose()
        };
        let lanes = shared.namespaces.iter().map(lane).collect::<io::Result<_>>()?;
        Ok(Self { shared, lanes, discarding: false })
    }

    fn work(&mut self) {
        if !self.shared.config.is_bus_master() {
            return;
        }
        // Of a restored controller: taken from their queues before it was saved.
        let unfinished = std::mem::take(&mut self.shared.controller.hold().unfinished);
        unfinished.into_iter().for_each(|(queue, command)| self.carry_out(queue, command));
        let flush = std::mem::take(&mut self.shared.controller.hold().flush_wanted);
        if flush {
            self.shut_down();
        }
        let mut more = false;
        for index in 0..self.shared.queue_count() {
            let mut left = BURST;
            while left > 0 && self.take(index) {
                left -= 1;
            }
            more |= left == 0;
        }
        if more {
            self.shared.wake();
        }
        self.submit();
        // What the page cache answered is finished already.
        self.reap();
        self.tell();
    }

    fn submit(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lane::submit);
    }

    /// Write completions, and signal those that the driver does not know of.
    fn tell(&self) {
        if self.discarding {
            return;
        }
        let mut controller = self.shared.controller.hold();
        controller.flush_completions(&self.shared.ram);
        self.shared.signal(&mut controller);
    }

    /// Begin the next command of a queue, if there is one.
    fn take(&mut self, index: usize) -> bool {
        let taken = self.shared.controller.hold().take(index, &self.shared.ram);
        let Some(Ok(command)) = taken else { return false };
        let queue = index as u16;
        if queue == 0 {
            let id = command.id();
            let answer = match admin::execute(&self.shared, &command) {
                Ok(Some(result)) => Some((id, result, Status::SUCCESS)),
                Ok(None) => None,
                Err(status) => Some((id, 0, status)),
            };
            self.shared.controller.hold().end(queue, answer);
            return true;
        }
        self.carry_out(queue, command);
        true
    }

    fn carry_out(&mut self, queue: u16, command: Command) {
        let owner = Owner::Command { queue, command };
        if let Err(status) = self.begin(owner, &command) {
            self.end(owner, status);
        }
    }

    /// Have the controller know the commands that wait here, as ones to be begun.
    pub(super) fn give_back(&mut self, controller: &mut Controller) {
        for flight in self.lanes.iter_mut().flatten().flat_map(Lane::owners) {
            match flight.owner {
                Owner::Command { queue, command } => controller.unfinished.push((queue, command)),
                Owner::Shutdown => controller.flush_wanted = true,
            }
        }
    }

    fn begin(&mut self, owner: Owner, command: &Command) -> Result<(), Status> {
        if !command.is_plain() {
            return Err(Status::FIELD);
        }
        let shared = self.shared.clone();
        if command.opcode() == nvm::FLUSH && command.namespace() == u32::MAX {
            return self.proceed(owner, self.flushes(), None);
        }
        let number = command.namespace();
        let namespace = shared.namespace(number).ok_or(Status::NAMESPACE)?;
        let index = number as usize - 1;
        let cached = shared.controller.hold().features.write_cache;
        // The last dwords have "force unit access" and "deallocate".
        let durable = !cached || command.dword(12) & 1 << 30 != 0;
        let step = |action, offset| Step { namespace: index, action, offset };
        match command.opcode() {
            nvm::FLUSH => self.proceed(owner, [step(Action::Flush, 0)].into(), None),
            nvm::READ => {
                let (offset, len) = range(namespace, command.first_block(), command.blocks())?;
                self.proceed(owner, [step(Action::Read, offset)].into(), Some((command, len)))
            }
            nvm::WRITE => {
                writable(namespace)?;
                let (offset, len) = range(namespace, command.first_block(), command.blocks())?;
                let action = Action::Write { durable };
                self.proceed(owner, [step(action, offset)].into(), Some((command, len)))
            }
            nvm::WRITE_ZEROES => {
                writable(namespace)?;
                let (offset, len) = range(namespace, command.first_block(), command.blocks())?;
                let unmap = command.dword(12) & 1 << 25 != 0;
                let action = Action::Zero { len, unmap, durable };
                self.proceed(owner, [step(action, offset)].into(), None)
            }
            nvm::DATASET => {
                writable(namespace)?;
                let steps = dataset(&shared, index, namespace, command)?;
                self.proceed(owner, steps, None)
            }
            _ => Err(Status::OPCODE),
        }
    }

    fn flushes(&self) -> VecDeque<Step> {
        let flush = |namespace| Step { namespace, action: Action::Flush, offset: 0 };
        (0..self.lanes.len()).filter(|index| self.lanes[*index].is_some()).map(flush).collect()
    }

    fn shut_down(&mut self) {
        self.shared.controller.hold().in_flight += 1;
        if let Err(status) = self.proceed(Owner::Shutdown, self.flushes(), None) {
            self.end(Owner::Shutdown, status);
        }
    }

    /// Start the next of `steps`; the first may have data.
    fn proceed(
        &mut self,
        owner: Owner,
        mut steps: VecDeque<Step>,
        data: Option<(&Command, u64)>,
    ) -> Result<(), Status> {
        let Some(step) = steps.pop_front() else {
            self.end(owner, Status::SUCCESS);
            return Ok(());
        };
        let lane = self.lanes.get_mut(step.namespace).and_then(Option::as_mut);
        let lane = lane.ok_or(Status::NAMESPACE)?;
        let mut buffers = lane.buffers();
        if let Some((command, len)) = data {
            if len > MOST_DATA {
                return Err(Status::FIELD);
            }
            prp::fill(&self.shared.ram, command.pages(), len, &mut buffers)?;
        }
        let request = Request { action: step.action, offset: step.offset, buffers };
        lane.start(request, Flight { owner, step, rest: steps });
        Ok(())
    }

    fn reap(&mut self) {
        let mut went_on = false;
        for index in 0..self.lanes.len() {
            while let Some((flight, result)) = self.lanes[index].as_mut().and_then(Lane::finished) {
                let Flight { owner, step, rest } = flight;
                let status = match result {
                    Ok(()) if rest.is_empty() => Status::SUCCESS,
                    Ok(()) => match self.proceed(owner, rest, None) {
                        Ok(()) => {
                            went_on = true;
                            continue;
                        }
                        Err(status) => status,
                    },
                    Err(error) => status_of(step.action, &error),
                };
                self.end(owner, status);
            }
        }
        self.submit();
        if went_on {
            // Perhaps on a disk that was looked at before.
            self.shared.wake();
        }
    }

    fn end(&self, owner: Owner, status: Status) {
        let mut controller = self.shared.controller.hold();
        match owner {
            Owner::Command { queue, command } => {
                let answer = (!self.discarding).then_some((command.id(), 0, status));
                controller.end(queue, answer);
            }
            Owner::Shutdown => {
                controller.in_flight = controller.in_flight.saturating_sub(1);
                controller.flushed();
                controller.settle();
            }
        }
    }
}

/// First byte and length of a command's blocks.
fn range(namespace: &Namespace, first: u64, count: u64) -> Result<(u64, u64), Status> {
    let info = namespace.disk.info();
    let end = first.checked_add(count).ok_or(Status::RANGE)?;
    if end > identify::blocks(&info) {
        return Err(Status::RANGE);
    }
    // The end is inside the disk, so neither product overflows.
    let block = u64::from(info.block_size);
    Ok((first * block, count * block))
}

fn writable(namespace: &Namespace) -> Result<(), Status> {
    if namespace.disk.info().read_only { Err(Status::WRITE_PROTECTED) } else { Ok(()) }
}

/// The ranges of a dataset management command, to be given back if it says so.
fn dataset(
    shared: &Shared,
    index: usize,
    namespace: &Namespace,
    command: &Command,
) -> Result<VecDeque<Step>, Status> {
    const RANGE: usize = 16;
    let count = (command.dword(10) & 0xff) as usize + 1;
    let mut list = vec![0; count * RANGE];
    let mut buffers = IoBuffers::new(shared.ram.clone());
    prp::fill(&shared.ram, command.pages(), list.len() as u64, &mut buffers)?;
    buffers.copy_to(&mut list);
    let mut steps = VecDeque::new();
    for entry in list.chunks_exact(RANGE) {
        let [_, _, _, _, n0, n1, n2, n3, first @ ..] = entry else { continue };
        let count = u32::from_le_bytes([*n0, *n1, *n2, *n3]).into();
        let first = first.try_into().map_or(u64::MAX, u64::from_le_bytes);
        let (offset, len) = range(namespace, first, count)?;
        if len > 0 {
            let action = Action::Discard { len };
            steps.push_back(Step { namespace: index, action, offset });
        }
    }
    // The other attributes are hints.
    let gives_back = command.dword(11) & 1 << 2 != 0 && namespace.trims();
    Ok(if gives_back { steps } else { VecDeque::new() })
}

fn status_of(action: Action, error: &io::Error) -> Status {
    match action {
        _ if error.kind() == io::ErrorKind::StorageFull => Status::CAPACITY,
        Action::Read => Status::READ_ERROR,
        Action::Write { .. } => Status::WRITE_FAULT,
        Action::Flush | Action::Discard { .. } | Action::Zero { .. } => Status::INTERNAL,
    }
}

impl Engine for NvmeEngine {
    fn renew(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lane::renew);
    }

    fn sources(&self) -> Vec<RawFd> {
        self.lanes.iter().flatten().filter_map(Lane::source).collect()
    }

    fn kicked(&mut self) {
        self.work();
    }

    fn ready(&mut self) {
        self.reap();
        self.tell();
        // Queues whose turn had ended, or that waited for room in flight.
        self.shared.wake();
    }

    fn drain(&mut self, how: Stop) {
        self.discarding = how == Stop::Discard;
        if self.discarding {
            self.lanes.iter_mut().flatten().for_each(Lane::give_up);
        }
        loop {
            self.reap();
            match self.lanes.iter_mut().flatten().find(|lane| !lane.is_drained()) {
                Some(lane) => lane.wait(),
                None => break,
            }
        }
        self.tell();
    }

    fn keeps(&self) -> bool {
        self.lanes.iter().flatten().any(Lane::keeps)
    }

    fn retry(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lane::retry);
    }
}
