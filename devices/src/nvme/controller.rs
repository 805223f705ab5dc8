//! [`Controller`]: registers, doorbells and queues.
//!
//! ```text
//! disabled ─CC.EN=1→ ready (RDY) ─CC.EN=0→ resetting ─nothing in flight→ disabled
//!     └─ what it cannot be configured to → fatal (CFS), until CC.EN=0
//! ```
//! Guest accesses and the engine share it under one lock.

use std::collections::VecDeque;

use memory::GuestRam;
use serde::{Deserialize, Serialize};

use super::queue::{Completion, CompletionQueue, SubmissionQueue};
use super::spec::{
    self, Command, DOORBELLS, DOORBELLS_END, MOST_EVENT_REQUESTS, MOST_IN_FLIGHT,
    NAMESPACE_NOTICES, PAGE, Status, cc, csts, log, register,
};

/// What the driver is told by an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    NoSuchDoorbell,
    BadDoorbellValue,
    /// The log page says which.
    NamespaceChanged,
}

impl Event {
    /// Type, information, and the log page that is to be read then (§5.2.1).
    fn result(self) -> u32 {
        const ERROR: u32 = 0;
        const NOTICE: u32 = 2;
        let (kind, information) = match self {
            Self::NoSuchDoorbell => (ERROR, 0),
            Self::BadDoorbellValue => (ERROR, 1),
            Self::NamespaceChanged => (NOTICE, 0),
        };
        kind | information << 8 | u32::from(self.log()) << 16
    }

    fn log(self) -> u8 {
        match self {
            Self::NoSuchDoorbell | Self::BadDoorbellValue => log::ERRORS,
            Self::NamespaceChanged => log::CHANGED_NAMESPACES,
        }
    }
}

/// What the driver has set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Features {
    pub(super) arbitration: u32,
    pub(super) power: u32,
    pub(super) temperature: [u32; 2],
    pub(super) error_recovery: u32,
    /// Writes may complete before they are durable.
    pub(super) write_cache: bool,
    pub(super) coalescing: u32,
    pub(super) atomicity: u32,
    pub(super) events: u32,
}

impl Features {
    fn new(write_cache: bool) -> Self {
        Self {
            arbitration: 0,
            power: 0,
            // Kelvin: the warning of the controller's identity, and nothing below.
            temperature: [0x157, 0],
            error_recovery: 0,
            write_cache,
            coalescing: 0,
            atomicity: 0,
            events: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Controller {
    cc: u32,
    csts: u32,
    admin_sizes: u32,
    admin_submissions: u64,
    admin_completions: u64,
    masked: u32,
    /// By number; the first is the admin queue.
    pub(super) submissions: Vec<Option<SubmissionQueue>>,
    pub(super) completions: Vec<Option<CompletionQueue>>,
    pub(super) features: Features,
    write_cache: bool,
    event_requests: VecDeque<u16>,
    events: VecDeque<Event>,
    /// Logs of events that were told and not read yet: more of their kind has to wait.
    unread_logs: Vec<u8>,
    /// Namespaces that have changed since that log was read.
    pub(super) changed: Vec<u32>,
    resetting: bool,
    /// The engine shall flush all namespaces.
    pub(super) flush_wanted: bool,
    #[serde(skip)]
    pub(super) in_flight: u32,
    /// Commands that were taken from their queues before the controller was saved, and that are to be
    /// carried out here. They count as in flight.
    #[serde(skip)]
    pub(super) unfinished: Vec<(u16, Command)>,
}

impl Controller {
    /// `queues`: beside the admin queue. `write_cache`: of its namespaces at power-on.
    pub(super) fn new(queues: u16, write_cache: bool) -> Self {
        let count = usize::from(queues) + 1;
        Self {
            cc: 0,
            csts: 0,
            admin_sizes: 0,
            admin_submissions: 0,
            admin_completions: 0,
            masked: 0,
            submissions: vec![None; count],
            completions: vec![None; count],
            features: Features::new(write_cache),
            write_cache,
            event_requests: VecDeque::new(),
            events: VecDeque::new(),
            unread_logs: Vec::new(),
            changed: Vec::new(),
            resetting: false,
            flush_wanted: false,
            in_flight: 0,
            unfinished: Vec::new(),
        }
    }

    /// A command that another machine's controller has taken and not ended; refused if it had no such
    /// queue.
    pub(super) fn take_over(&mut self, queue: u16, command: Command) -> bool {
        let place = self.submissions.get_mut(usize::from(queue)).and_then(Option::as_mut);
        let Some(place) = place.filter(|_| queue != 0 && self.in_flight < MOST_IN_FLIGHT) else {
            return false;
        };
        place.in_flight += 1;
        self.in_flight += 1;
        self.unfinished.push((queue, command));
        true
    }

    /// As after power-on; nothing is in flight.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.queues(), self.write_cache);
    }

    /// Beside the admin queue.
    pub(super) fn queues(&self) -> u16 {
        self.submissions.len().saturating_sub(1) as u16
    }

    /// Whether a saved state can be one of this controller.
    pub(super) fn is_like(&self, saved: &Self) -> bool {
        let valid =
            |queue: &Option<SubmissionQueue>| queue.as_ref().is_none_or(SubmissionQueue::is_valid);
        let room =
            |queue: &Option<CompletionQueue>| queue.as_ref().is_none_or(CompletionQueue::is_valid);
        saved.submissions.len() == self.submissions.len()
            && saved.completions.len() == self.completions.len()
            && saved.submissions.iter().all(valid)
            && saved.completions.iter().all(room)
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        match offset {
            register::CAP => spec::CAPABILITIES as u32,
            register::CAP_HIGH => (spec::CAPABILITIES >> 32) as u32,
            register::VS => spec::VERSION,
            register::INTMS | register::INTMC => self.masked,
            register::CC => self.cc,
            register::CSTS => self.csts,
            register::AQA => self.admin_sizes,
            register::ASQ => self.admin_submissions as u32,
            register::ASQ_HIGH => (self.admin_submissions >> 32) as u32,
            register::ACQ => self.admin_completions as u32,
            register::ACQ_HIGH => (self.admin_completions >> 32) as u32,
            _ => 0,
        }
    }

    /// Whether the engine has something to do then.
    pub(super) fn write(&mut self, offset: u64, value: u32, ram: &GuestRam) -> bool {
        let low = |old: u64| old & !0xffff_ffff | u64::from(value) & !(PAGE - 1);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            register::INTMS => self.masked |= value,
            register::INTMC => self.masked &= !value,
            register::CC => return self.configure(value),
            register::AQA => self.admin_sizes = value & 0x0fff_0fff,
            register::ASQ => self.admin_submissions = low(self.admin_submissions),
            register::ASQ_HIGH => self.admin_submissions = high(self.admin_submissions),
            register::ACQ => self.admin_completions = low(self.admin_completions),
            register::ACQ_HIGH => self.admin_completions = high(self.admin_completions),
            DOORBELLS..DOORBELLS_END => return self.ring(offset - DOORBELLS, value, ram),
            _ => {}
        }
        false
    }

    fn configure(&mut self, value: u32) -> bool {
        let before = self.cc;
        self.cc = value & cc::WRITABLE;
        let wakes = self.shut_down(before);
        match (before & cc::ENABLE != 0, self.cc & cc::ENABLE != 0) {
            // While it resets, that waits.
            (false, true) if !self.resetting => self.enable(),
            (true, false) => {
                self.resetting = true;
                self.csts &= !csts::FATAL;
                self.settle();
            }
            _ => {}
        }
        wakes
    }

    /// A shutdown was asked for: done when everything is durable.
    fn shut_down(&mut self, before: u32) -> bool {
        let asked = self.cc & cc::SHUTDOWN != 0 && before & cc::SHUTDOWN == 0;
        if asked {
            self.csts = self.csts & !csts::SHUTDOWN | csts::SHUTTING_DOWN;
            self.flush_wanted = true;
        } else if self.cc & cc::SHUTDOWN == 0 {
            self.csts &= !csts::SHUTDOWN;
        }
        asked
    }

    /// Everything that was written is durable.
    pub(super) fn flushed(&mut self) {
        if self.csts & csts::SHUTDOWN == csts::SHUTTING_DOWN {
            self.csts = self.csts & !csts::SHUTDOWN | csts::SHUT_DOWN;
        }
    }

    fn enable(&mut self) {
        let (submissions, completions) =
            ((self.admin_sizes & 0xfff) + 1, (self.admin_sizes >> 16) + 1);
        let possible = self.cc & cc::FIXED == 0
            && submissions >= 2
            && completions >= 2
            && self.admin_submissions != 0
            && self.admin_completions != 0;
        if !possible {
            self.csts |= csts::FATAL;
            return;
        }
        self.submissions[0] = Some(SubmissionQueue::new(self.admin_submissions, submissions, 0));
        self.completions[0] =
            Some(CompletionQueue::new(self.admin_completions, completions, 0, true));
        self.csts |= csts::READY;
    }

    /// Carry out what waited for commands in flight.
    pub(super) fn settle(&mut self) {
        if self.resetting && self.in_flight == 0 {
            // The admin queue's place, and the configuration, stay (§7.3.2).
            let fresh = Self::new(self.queues(), self.write_cache);
            *self = Self {
                cc: self.cc,
                admin_sizes: self.admin_sizes,
                admin_submissions: self.admin_submissions,
                admin_completions: self.admin_completions,
                ..fresh
            };
            if self.cc & cc::ENABLE != 0 {
                self.enable();
            }
            return;
        }
        let gone = self.submissions.iter_mut().skip(1).filter_map(|place| {
            let deleted_by = place.as_ref().filter(|q| q.in_flight == 0)?.deleted_by?;
            *place = None;
            Some(deleted_by)
        });
        let gone: Vec<u16> = gone.collect();
        for id in gone {
            self.complete(0, id, 0, Status::SUCCESS);
        }
    }

    fn ring(&mut self, offset: u64, value: u32, ram: &GuestRam) -> bool {
        if self.csts & csts::READY == 0 || self.resetting {
            return false;
        }
        let index = (offset / 8) as usize;
        let known = if offset.is_multiple_of(8) {
            self.submissions.get_mut(index).and_then(Option::as_mut).map(|q| q.set_tail(value))
        } else if offset.is_multiple_of(4) {
            self.completions.get_mut(index).and_then(Option::as_mut).map(|q| q.set_head(value))
        } else {
            None
        };
        match known {
            Some(true) => {
                self.flush_completions(ram);
                // A submission, or room for completions that held submissions up.
                true
            }
            Some(false) => self.happened(Event::BadDoorbellValue, ram),
            None => self.happened(Event::NoSuchDoorbell, ram),
        }
    }

    fn happened(&mut self, event: Event, ram: &GuestRam) -> bool {
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
        self.tell_events();
        self.flush_completions(ram);
        false
    }

    /// Answer a request for events, if there is one of each.
    fn tell_events(&mut self) {
        while !self.event_requests.is_empty()
            && let Some(at) = self.events.iter().position(|e| !self.unread_logs.contains(&e.log()))
            && let Some(event) = self.events.remove(at)
            && let Some(id) = self.event_requests.pop_front()
        {
            self.unread_logs.push(event.log());
            self.complete(0, id, event.result(), Status::SUCCESS);
        }
    }

    /// A namespace has another size: told to a driver that wants to know.
    pub(super) fn namespace_changed(&mut self, number: u32, ram: &GuestRam) {
        if self.features.events & NAMESPACE_NOTICES == 0 {
            return;
        }
        if !self.changed.contains(&number) {
            self.changed.push(number);
        }
        self.happened(Event::NamespaceChanged, ram);
    }

    /// An event request waits until something happens.
    pub(super) fn request_event(&mut self, id: u16) -> Result<(), Status> {
        if self.event_requests.len() >= MOST_EVENT_REQUESTS {
            return Err(Status::TOO_MANY_EVENT_REQUESTS);
        }
        self.event_requests.push_back(id);
        self.tell_events();
        Ok(())
    }

    /// A log was read: the next event of its kind may be told.
    pub(super) fn log_was_read(&mut self, number: u8) {
        if number == log::CHANGED_NAMESPACES {
            self.changed.clear();
        }
        self.unread_logs.retain(|unread| *unread != number);
        self.tell_events();
    }

    pub(super) fn complete(&mut self, queue: u16, id: u16, result: u32, status: Status) {
        let Some(submissions) = self.submissions.get(usize::from(queue)).and_then(Option::as_ref)
        else {
            return;
        };
        let place = self.completions.get_mut(usize::from(submissions.completions));
        if let Some(completions) = place.and_then(Option::as_mut) {
            completions.push(Completion { result, queue, id, status });
        }
    }

    pub(super) fn flush_completions(&mut self, ram: &GuestRam) {
        let submissions = &self.submissions;
        let head_of = |queue: u16| {
            let queue = submissions.get(usize::from(queue)).and_then(Option::as_ref);
            queue.map_or(0, SubmissionQueue::head)
        };
        for queue in self.completions.iter_mut().flatten() {
            queue.flush(ram, head_of);
        }
    }

    /// The next command of queue `index`. A queue whose completions back up has to wait.
    pub(super) fn take(&mut self, index: usize, ram: &GuestRam) -> Option<Result<Command, Status>> {
        if self.csts & (csts::READY | csts::FATAL) != csts::READY
            || self.resetting
            || self.in_flight >= MOST_IN_FLIGHT
        {
            return None;
        }
        let queue = self.submissions.get_mut(index)?.as_mut()?;
        let completions = usize::from(queue.completions);
        if self.completions.get(completions)?.as_ref()?.is_backed_up() {
            return None;
        }
        let command = queue.pop(ram)?;
        if command.is_ok() {
            queue.in_flight += 1;
            self.in_flight += 1;
        } else {
            // The queue itself is not in memory (§4.1: controller fatal status).
            self.csts |= csts::FATAL;
        }
        Some(command)
    }

    /// A command that [`take`](Self::take) gave has ended; with an answer, or without one for now.
    pub(super) fn end(&mut self, queue: u16, answer: Option<(u16, u32, Status)>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(place) = self.submissions.get_mut(usize::from(queue)).and_then(Option::as_mut) {
            place.in_flight = place.in_flight.saturating_sub(1);
        }
        if let Some((id, result, status)) = answer.filter(|_| !self.resetting) {
            self.complete(queue, id, result, status);
        }
        self.settle();
    }

    /// Whether the pin is asserted: a queue has entries, and the interrupt is not masked.
    pub(super) fn is_asking(&self) -> bool {
        let asks = |queue: &CompletionQueue| {
            let masked = queue.vector < 32 && self.masked & 1 << queue.vector != 0;
            queue.interrupts && queue.has_entries() && !masked
        };
        self.completions.iter().flatten().any(asks)
    }
}
