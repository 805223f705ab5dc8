//! What is asked of a VMM, but for what makes the connection something else.

use std::sync::atomic::Ordering;

use vmm_protocol::Version;
use vmm_protocol::control::{
    ControlError, ControlErrorCode as Code, DirtyRate, EventKind, Hello, Reply, Request,
};
use vmm_protocol::exit::ExitReason;
use vmm_protocol::peek::{MOST, to_hex};

use super::machine::Machine;
use super::{disks, statistics};

pub(super) fn refusal(code: Code, message: impl Into<String>) -> ControlError {
    ControlError { code, message: message.into() }
}

pub(super) fn answer(machine: &Machine, request: Request) -> Result<Reply, ControlError> {
    match request {
        Request::Hello { .. } => return Ok(Reply::Hello(hello(machine))),
        Request::Status => return Ok(Reply::Status(machine.status())),
        Request::Statistics => return Ok(Reply::Statistics(statistics::of(machine))),
        // Its memory is as it was when it was switched on.
        Request::PeekMemory { address, len, linear: _ } => {
            let end = address.checked_add(len.into());
            let is_there = end.is_some_and(|end| end <= machine.config.memory.size);
            let hex = is_there.then(|| to_hex(&vec![0; len.min(MOST) as usize]));
            return Ok(Reply::Memory { hex });
        }
        Request::PeekDisk { id, offset, len } => return disks::peek(machine, &id, offset, len),
        Request::BlockJobs => return Ok(Reply::BlockJobs(machine.inner().block_jobs.clone())),
        Request::SaveProgress => return Ok(Reply::Progress { done: 1, total: 2 }),
        Request::BackupStatus => return Ok(Reply::Backup(None)),
        Request::ListBitmaps => return Ok(Reply::Bitmaps(Vec::new())),
        Request::Pause => machine.pause(),
        Request::Resume => machine.resume(),
        Request::Reset => machine.reset(),
        Request::Destroy => {
            let saved = machine.inner().saved;
            machine.end(if saved { ExitReason::Saved } else { ExitReason::Destroyed });
        }
        Request::SetLiveRecord { record } => machine.inner().live_record = record,
        Request::SetLifecycle { lifecycle } => machine.inner().lifecycle = lifecycle,
        Request::CancelSave => machine.save_cancelled.store(true, Ordering::SeqCst),
        // It writes to 64 MiB in a second, and is known to at once.
        Request::MeasureDirtyRate { seconds } => {
            let dirty_rate = DirtyRate { started: 1_700_000_000, seconds, rate: Some(64) };
            machine.inner().dirty_rate = Some(dirty_rate);
        }
        Request::SetThreshold { id, image, place, name } => {
            disks::set_threshold(machine, id, image, place, name);
        }
        Request::SetMemory { bytes } => machine.inner().memory = bytes,
        Request::SetLink { id, up } => machine.event(EventKind::LinkChanged { id, up }),
        Request::Eject { id, .. } => {
            machine.event(EventKind::MediumChanged { id: id.clone(), source: None });
            machine.event(EventKind::TrayMoved { id, open: true });
        }
        Request::Insert { id, source, .. } => {
            machine.event(EventKind::MediumChanged { id: id.clone(), source: Some(source) });
            machine.event(EventKind::TrayMoved { id, open: false });
        }
        Request::Attach { device, .. } => plug(machine, device.id),
        Request::AttachDrive { drive, .. } => plug(machine, drive.id),
        Request::Detach { id } => unplug(machine, id),
        Request::SetVcpus { count } => set_vcpus(machine, count),
        Request::StartBlockJob(job) => disks::start(machine, *job)?,
        Request::EndBlockJob { id, pivot } => disks::end(machine, &id, pivot)?,
        Request::LimitBlockJob { id, bandwidth } => disks::limit(machine, &id, bandwidth)?,
        Request::DismissBlockJob { id } => disks::dismiss(machine, &id),
        Request::BackupBegin(_) | Request::ChangeBitmaps { .. } => {
            let text = "guests of the test driver have nothing to back up";
            return Err(refusal(Code::Failed, text));
        }
        Request::SnapshotDisks { ids, name, date } => disks::snapshot(machine, &ids, &name, date)?,
        Request::DeleteDiskSnapshots { ids, name } => {
            disks::delete_snapshots(machine, &ids, &name)?;
        }
        Request::Viewer { .. } | Request::AddViewer { .. } => {
            return Err(refusal(Code::Failed, "guests of the test driver have no screen"));
        }
        Request::SetStatisticsPeriod { .. }
        | Request::Keys { .. }
        | Request::InjectNmi
        | Request::ResizeDisk { .. }
        | Request::LimitDisk(_)
        | Request::SetErrorPolicy(_)
        | Request::Connect { .. }
        | Request::BackupEnd => {}
        // The connection deals with them itself.
        Request::Events { .. }
        | Request::Console { .. }
        | Request::Screenshot { .. }
        | Request::SwapDisks { .. }
        | Request::PowerButton
        | Request::Save
        | Request::SavePacked
        | Request::CopyMemory
        | Request::SaveRest
        | Request::Dump => return Err(refusal(Code::Malformed, "this is no request by itself")),
    }
    Ok(Reply::Done)
}

fn hello(machine: &Machine) -> Hello {
    // One after the other: each of them takes the lock.
    let (status, last_event) = (machine.status(), machine.last_event());
    let live_record = machine.inner().live_record.clone();
    Hello {
        version: Version::CURRENT,
        identity: machine.config.identity.clone(),
        pid: std::process::id(),
        status,
        live_record,
        last_event,
        sandbox: vec![("machine".to_owned(), "none: this is the test driver".to_owned())],
    }
}

fn plug(machine: &Machine, id: String) {
    {
        let mut inner = machine.inner();
        inner.plugged.insert(id.clone());
        inner.unplugged.remove(&id);
    }
    machine.event(EventKind::DeviceAdded { id });
}

fn unplug(machine: &Machine, id: String) {
    if machine.behaviour().ignores_unplug() {
        return;
    }
    {
        let mut inner = machine.inner();
        inner.plugged.remove(&id);
        inner.unplugged.insert(id.clone());
    }
    machine.event(EventKind::DeviceRemoved { id });
}

fn set_vcpus(machine: &Machine, count: u16) {
    if machine.behaviour().ignores_unplug() && count < machine.inner().vcpus {
        return;
    }
    machine.inner().vcpus = count;
    machine.event(EventKind::VcpusChanged { count });
}
