//! What can be had of the small devices: balloon, vsock, input devices, watchdog.

use xml::device::input::{InputBus, InputType};
use xml::device::memballoon::{BalloonModel, MemBalloon};
use xml::device::watchdog::{WatchdogAction, WatchdogModel};
use xml::device::{VirtioDriver, VirtioModel, Watchdog};
use xml::{DomainDef, OnOff, YesNo};

use super::check_devices::check_model;
use super::report::Report;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    if let Some(balloon) = &def.devices.mem_balloon {
        check_balloon(balloon, report);
    }
    if let Some(vsock) = &def.devices.vsock {
        let path = "/domain/devices/vsock";
        check_model(vsock.model, path, report);
        check_driver(vsock.driver.as_ref(), path, report);
        let cid = vsock.cid.unwrap_or_default();
        if cid.auto != Some(YesNo::Yes) && cid.address.is_none() {
            let message = "an address for the guest: <cid auto='yes'/> or <cid address='3'/>";
            report.missing(path, message);
        }
    }
    for (number, input) in (1..).zip(&def.devices.inputs) {
        let path = format!("/domain/devices/input[{number}]");
        if input.bus == Some(InputBus::Virtio) {
            check_model(input.model, &path, report);
            check_driver(input.driver.as_ref(), &path, report);
        }
        let host = matches!(input.kind, InputType::Passthrough | InputType::Evdev);
        report.refuse_if(host, &format!("{path}/@type"), "input devices of the host");
    }
    check_watchdogs(&def.devices.watchdogs, report);
}

fn check_watchdogs(watchdogs: &[Watchdog], report: &mut Report<'_>) {
    for (number, watchdog) in (1..).zip(watchdogs) {
        let path = format!("/domain/devices/watchdog[{number}]");
        match watchdog.model {
            WatchdogModel::I6300esb => {}
            // What libvirt adds to every q35 guest by itself.
            WatchdogModel::Itco => report.warn(&path, "the watchdog is left out"),
            model => report.refuse(&path, format!("the watchdog {model}; use i6300esb")),
        }
        let dump = watchdog.action == Some(WatchdogAction::Dump);
        report.refuse_if(dump, &format!("{path}/@action"), "core dumps of guests");
    }
}

fn check_balloon(balloon: &MemBalloon, report: &mut Report<'_>) {
    let path = "/domain/devices/memballoon";
    let old = balloon.model == BalloonModel::Transitional;
    check_model(old.then_some(VirtioModel::Transitional), path, report);
    let xen = balloon.model == BalloonModel::Xen;
    report.refuse_if(xen, &format!("{path}/@model"), "Xen's balloon; use model='virtio'");
    check_driver(balloon.driver.as_ref(), path, report);
}

fn check_driver(driver: Option<&VirtioDriver>, path: &str, report: &mut Report<'_>) {
    let Some(driver) = driver else { return };
    let on = |value| value == Some(OnOff::On);
    report.refuse_if(on(driver.iommu), &format!("{path}/driver/@iommu"), "a virtual IOMMU");
    report.warn_if(on(driver.packed), &format!("{path}/driver/@packed"), "packed rings");
}
