//! Admin commands (NVMe 1.4 §5).

use memory::{GuestRam, IoBuffers};

use super::controller::Controller;
use super::device::{Namespace, Shared};
use super::queue::{CompletionQueue, SubmissionQueue};
use super::spec::{Command, MOST_DATA, MOST_ENTRIES, PAGE, Status, admin, feature, log};
use super::{identify, prp};
use crate::sync::Lock;

/// How a command ends: with a result, or by another event.
pub(super) type Answer = Result<Option<u32>, Status>;

const DONE: Answer = Ok(Some(0));

pub(super) fn execute(shared: &Shared, command: &Command) -> Answer {
    if !command.is_plain() {
        return Err(Status::FIELD);
    }
    match command.opcode() {
        admin::CREATE_CQ => create_completions(shared, command),
        admin::CREATE_SQ => create_submissions(shared, command),
        admin::DELETE_CQ => delete_completions(&mut shared.controller.hold(), command),
        admin::DELETE_SQ => delete_submissions(&mut shared.controller.hold(), command),
        admin::IDENTIFY => identify(shared, command),
        admin::GET_LOG_PAGE => log_page(shared, command),
        // A request to the host cannot be called back: the command was not aborted.
        admin::ABORT => Ok(Some(1)),
        admin::SET_FEATURES => set_features(&mut shared.controller.hold(), command),
        admin::GET_FEATURES => get_features(&shared.controller.hold(), command),
        admin::EVENT_REQUEST => shared.controller.hold().request_event(command.id()).map(|()| None),
        _ => Err(Status::OPCODE),
    }
}

fn queue_number(command: &Command) -> (usize, u32) {
    let value = command.dword(10);
    ((value & 0xffff) as usize, (value >> 16) + 1)
}

/// A new queue's place: contiguous, at a page.
fn queue_place(command: &Command) -> Result<u64, Status> {
    let place = command.pages().0;
    let contiguous = command.dword(11) & 1 != 0;
    if !contiguous {
        return Err(Status::FIELD);
    }
    if !place.is_multiple_of(PAGE) { Err(Status::PRP_OFFSET) } else { Ok(place) }
}

fn create_completions(shared: &Shared, command: &Command) -> Answer {
    let mut controller = shared.controller.hold();
    let (number, size) = queue_number(command);
    let place = controller.completions.get_mut(number).filter(|_| number > 0);
    let place = place.filter(|place| place.is_none()).ok_or(Status::QUEUE_ID)?;
    if !(2..=MOST_ENTRIES).contains(&size) {
        return Err(Status::QUEUE_SIZE);
    }
    let base = queue_place(command)?;
    let (vector, interrupts) = ((command.dword(11) >> 16) as u16, command.dword(11) & 2 != 0);
    if vector >= shared.msix.count() {
        return Err(Status::VECTOR);
    }
    *place = Some(CompletionQueue::new(base, size, vector, interrupts));
    DONE
}

fn create_submissions(shared: &Shared, command: &Command) -> Answer {
    let mut controller = shared.controller.hold();
    let (number, size) = queue_number(command);
    let completions = (command.dword(11) >> 16) as u16;
    let known = controller.completions.get(usize::from(completions)).is_some_and(Option::is_some);
    if completions == 0 || !known {
        return Err(Status::NO_CQ);
    }
    let place = controller.submissions.get_mut(number).filter(|_| number > 0);
    let place = place.filter(|place| place.is_none()).ok_or(Status::QUEUE_ID)?;
    if !(2..=MOST_ENTRIES).contains(&size) {
        return Err(Status::QUEUE_SIZE);
    }
    *place = Some(SubmissionQueue::new(queue_place(command)?, size, completions));
    DONE
}

fn delete_completions(controller: &mut Controller, command: &Command) -> Answer {
    let (number, _) = queue_number(command);
    let exists = number > 0 && controller.completions.get(number).is_some_and(Option::is_some);
    if !exists {
        return Err(Status::QUEUE_ID);
    }
    let uses = |queue: &SubmissionQueue| usize::from(queue.completions) == number;
    if controller.submissions.iter().flatten().any(uses) {
        return Err(Status::QUEUE_DELETION);
    }
    controller.completions[number] = None;
    DONE
}

/// Answered when the queue's last command has ended.
fn delete_submissions(controller: &mut Controller, command: &Command) -> Answer {
    let (number, _) = queue_number(command);
    let queue = controller.submissions.get_mut(number).filter(|_| number > 0);
    let queue = queue.and_then(Option::as_mut).filter(|queue| queue.deleted_by.is_none());
    queue.ok_or(Status::QUEUE_ID)?.deleted_by = Some(command.id());
    Ok(None)
}

/// Write `data` where the command wants it.
fn give(ram: &GuestRam, command: &Command, data: &[u8]) -> Result<(), Status> {
    let mut buffers = IoBuffers::new(ram.clone());
    prp::fill(ram, command.pages(), data.len() as u64, &mut buffers)?;
    buffers.copy_from(data);
    Ok(())
}

fn identify(shared: &Shared, command: &Command) -> Answer {
    let namespaces = &shared.namespaces;
    let number = command.namespace();
    let namespace = || shared.namespace(number).ok_or(Status::NAMESPACE);
    let page = match command.dword(10) as u8 {
        // All ones: what all namespaces have in common, which is nothing.
        0x00 if number == u32::MAX => vec![0; PAGE as usize],
        // Of a number between others, without a disk: all zeros.
        0x00 if matches!(shared.namespaces.get((number as usize).wrapping_sub(1)), Some(None)) => {
            vec![0; PAGE as usize]
        }
        0x00 => identify::namespace(namespace()?),
        0x01 => {
            let trims = namespaces.iter().flatten().any(Namespace::trims);
            identify::controller(&shared.identity, namespaces.len(), trims)
        }
        0x02 if number >= u32::MAX - 1 => return Err(Status::NAMESPACE),
        0x02 => identify::list(namespaces, number),
        0x03 => identify::names(namespace()?),
        _ => return Err(Status::FIELD),
    };
    give(&shared.ram, command, &page)?;
    DONE
}

fn log_page(shared: &Shared, command: &Command) -> Answer {
    let number = command.dword(10) as u8;
    let page = match number {
        log::CHANGED_NAMESPACES => identify::changed(&shared.controller.hold().changed),
        _ => identify::log_page(number, &shared.namespaces).ok_or(Status::LOG_PAGE)?,
    };
    let dwords = u64::from(command.dword(11) & 0xffff) << 16 | u64::from(command.dword(10) >> 16);
    let len = (dwords + 1) * 4;
    let offset = u64::from(command.dword(13)) << 32 | u64::from(command.dword(12));
    if len > MOST_DATA || !offset.is_multiple_of(4) || offset > page.len() as u64 {
        return Err(Status::FIELD);
    }
    let mut data: Vec<u8> = page.into_iter().skip(offset as usize).collect();
    // Bytes behind the page are zeros.
    data.resize(len as usize, 0);
    give(&shared.ram, command, &data)?;
    // Unless the event is to be kept.
    if command.dword(10) & 1 << 15 == 0 {
        shared.controller.hold().log_was_read(number);
    }
    DONE
}

fn set_features(controller: &mut Controller, command: &Command) -> Answer {
    let (number, value) = (command.dword(10) as u8, command.dword(11));
    if command.dword(10) & 1 << 31 != 0 {
        return Err(Status::NOT_SAVEABLE);
    }
    let features = &mut controller.features;
    match number {
        feature::ARBITRATION => features.arbitration = value,
        feature::POWER if value & 0x1f == 0 => features.power = value,
        feature::TEMPERATURE => {
            // Over or under, of the composite temperature or of all sensors.
            let which = (value >> 20 & 3) as usize;
            if !matches!(value >> 16 & 0xf, 0 | 0xf) || which > 1 {
                return Err(Status::FIELD);
            }
            features.temperature[which] = value & 0xffff;
        }
        feature::ERROR_RECOVERY => features.error_recovery = value & 0xffff,
        feature::WRITE_CACHE => features.write_cache = value & 1 != 0,
        feature::QUEUES => return set_queues(controller, value),
        feature::COALESCING => features.coalescing = value & 0xffff,
        feature::VECTOR => {}
        feature::ATOMICITY => features.atomicity = value & 1,
        feature::EVENTS => features.events = value,
        _ => return Err(Status::FIELD),
    }
    DONE
}

/// The number of queues is settled before there are any.
fn set_queues(controller: &Controller, value: u32) -> Answer {
    if controller.submissions.iter().skip(1).any(Option::is_some) {
        return Err(Status::SEQUENCE);
    }
    if value & 0xffff == 0xffff || value >> 16 == 0xffff {
        return Err(Status::FIELD);
    }
    Ok(Some(queues(controller)))
}

fn queues(controller: &Controller) -> u32 {
    let most = u32::from(controller.queues()).saturating_sub(1);
    most << 16 | most
}

fn get_features(controller: &Controller, command: &Command) -> Answer {
    let (number, value) = (command.dword(10) as u8, command.dword(11));
    let features = &controller.features;
    let current = match number {
        feature::ARBITRATION => features.arbitration,
        feature::POWER => features.power,
        feature::TEMPERATURE => features.temperature[(value >> 20 & 1) as usize],
        feature::ERROR_RECOVERY => features.error_recovery,
        feature::WRITE_CACHE => features.write_cache.into(),
        feature::QUEUES => queues(controller),
        feature::COALESCING => features.coalescing,
        feature::VECTOR => value & 0xffff,
        feature::ATOMICITY => features.atomicity,
        feature::EVENTS => features.events,
        _ => return Err(Status::FIELD),
    };
    match command.dword(10) >> 8 & 7 {
        // Current; defaults and saved values are not kept apart from it.
        0..=2 => Ok(Some(current)),
        // What can be done: it can be changed.
        3 if number == feature::QUEUES || number == feature::VECTOR => Ok(Some(0)),
        3 => Ok(Some(0x4)),
        _ => Err(Status::FIELD),
    }
}
