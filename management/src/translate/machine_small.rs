//! The small devices of a definition in the VMM's configuration.

use vmm_protocol::config::{
    Balloon, Input, InputRole, PciDevice, PciKind, Vsock, VsockHost, Watchdog, WatchdogAction,
};
use xml::device::input::{InputBus, InputType};
use xml::device::memballoon::BalloonModel;
use xml::device::watchdog::WatchdogModel;
use xml::domain::Kib;
use xml::{DomainDef, OnOff};

use super::io_threads::IoThreads;
use super::machine::memory;
use super::machine_devices::device;
use super::{OpenVsock, Resources, VsockEnd};
use crate::error::{Code, Error};

/// Whether the guest has a balloon.
pub(crate) fn has_balloon(def: &DomainDef) -> bool {
    def.devices.mem_balloon.as_ref().is_some_and(|b| b.model != BalloonModel::None)
}

pub(super) fn pci(
    def: &DomainDef,
    resources: &Resources,
    io_threads: &mut IoThreads,
    found: &mut Vec<PciDevice>,
) -> Result<(), Error> {
    if let Some(balloon) = def.devices.mem_balloon.as_ref().filter(|_| has_balloon(def)) {
        let on = |value| value == Some(OnOff::On);
        let less = def.current_memory.filter(|current| *current < def.memory.size);
        let kind = PciKind::Balloon(Balloon {
            current: less.map_or(memory(def).size, Kib::bytes),
            deflate_on_oom: on(balloon.autodeflate),
            free_page_reporting: on(balloon.free_page_reporting),
            statistics_period: balloon.stats_period.unwrap_or(0),
            io_thread: io_threads.shared(),
        });
        found.push(device(balloon.alias.as_ref(), balloon.address.as_ref(), kind)?);
    }
    if let Some(vsock) = &def.devices.vsock {
        let open = resources.vsock.ok_or_else(|| {
            Error::new(Code::Internal, "a vsock device was not opened before its machine")
        })?;
        let kind = self::vsock(open, io_threads);
        found.push(device(vsock.alias.as_ref(), vsock.address.as_ref(), kind)?);
    }
    for input in def.devices.inputs.iter().filter(|input| input.bus == Some(InputBus::Virtio)) {
        let kind = self::input(input, io_threads);
        found.push(device(input.alias.as_ref(), input.address.as_ref(), kind)?);
    }
    for watchdog in watchdogs(def) {
        let kind = PciKind::Watchdog(Watchdog { action: action(watchdog.action) });
        found.push(device(watchdog.alias.as_ref(), watchdog.address.as_ref(), kind)?);
    }
    Ok(())
}

pub(super) fn vsock(open: OpenVsock, io_threads: &mut IoThreads) -> PciKind {
    let host = match open.end {
        VsockEnd::Kernel(vhost) => VsockHost::Kernel { vhost, io_thread: io_threads.shared() },
        VsockEnd::Socket(listener) => VsockHost::Socket { listener },
    };
    PciKind::Vsock(Vsock { cid: open.cid, host })
}

pub(super) fn input(input: &xml::device::Input, io_threads: &mut IoThreads) -> PciKind {
    let role = match input.kind {
        InputType::Mouse => InputRole::Mouse,
        InputType::Tablet => InputRole::Tablet,
        // The others were refused at define.
        InputType::Keyboard | InputType::Passthrough | InputType::Evdev => InputRole::Keyboard,
    };
    PciKind::Input(Input { role, io_thread: io_threads.shared() })
}

/// Those that are not left out with a warning.
fn watchdogs(def: &DomainDef) -> impl Iterator<Item = &xml::device::Watchdog> {
    let all = def.devices.watchdogs.iter();
    all.filter(|watchdog| watchdog.model == WatchdogModel::I6300esb)
}

fn action(action: Option<xml::device::watchdog::WatchdogAction>) -> WatchdogAction {
    use xml::device::watchdog::WatchdogAction as Written;
    match action {
        Some(Written::Shutdown) => WatchdogAction::Shutdown,
        Some(Written::Poweroff) => WatchdogAction::Poweroff,
        Some(Written::Pause) => WatchdogAction::Pause,
        Some(Written::None) => WatchdogAction::None,
        Some(Written::InjectNmi) => WatchdogAction::InjectNmi,
        // A dump was refused at define.
        Some(Written::Reset | Written::Dump) | None => WatchdogAction::Reset,
    }
}

/// libvirt's word for it.
pub(crate) fn watchdog_action(action: WatchdogAction) -> &'static str {
    match action {
        WatchdogAction::Reset => "reset",
        WatchdogAction::Shutdown => "shutdown",
        WatchdogAction::Poweroff => "poweroff",
        WatchdogAction::Pause => "pause",
        WatchdogAction::None => "none",
        WatchdogAction::InjectNmi => "inject-nmi",
    }
}
