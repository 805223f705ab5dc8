//! What can be had of the small devices: balloon, watchdog.

use xml::device::memballoon::{BalloonModel, MemBalloon};
use xml::device::watchdog::{WatchdogAction, WatchdogModel};
use xml::device::{VirtioDriver, VirtioModel, Watchdog};
use xml::{DomainDef, OnOff};

use super::check_devices::check_model;
use super::report::Report;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    if let Some(balloon) = &def.devices.mem_balloon {
        check_balloon(balloon, report);
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
