//! What can be had of the small devices: balloon.

use xml::device::memballoon::{BalloonModel, MemBalloon};
use xml::device::{VirtioDriver, VirtioModel};
use xml::{DomainDef, OnOff};

use super::check_devices::check_model;
use super::report::Report;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    if let Some(balloon) = &def.devices.mem_balloon {
        check_balloon(balloon, report);
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
