//! What lies between a domain as it is and a definition, and when each difference could take effect.
//!
//! ```text
//! domain now + definition ─differences→ each: live | next start | another domain
//!                                        └ live ones as steps, each of which can be taken back
//! ```

use vmm_protocol::config::Machine;
use xml::device::disk::{Disk, DiskBus, DiskDevice};
use xml::device::graphics::{Graphics, Vnc};
use xml::device::{Device, Devices, Interface};
use xml::domain::Kib;
use xml::{Difference, DomainDef};

use crate::domain::link::is_up;
use crate::domain::moves::check_movable;
use crate::translate::device::{self, Key};
use crate::translate::machine_small::has_balloon;
use crate::translate::{self, display, machine};

/// When a difference takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once, in the running guest.
    Live,
    NextStart,
    /// Never: it would be another domain.
    Recreate,
}

impl When {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::NextStart => "next-start",
            Self::Recreate => "re-create",
        }
    }
}

/// One difference, and when it takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedChange {
    pub difference: Difference,
    pub when: When,
}

/// One thing to do to a running domain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Attach(Device),
    /// By MAC address or target; what it is, for the way back.
    Detach(Device),
    Link {
        mac: String,
        up: bool,
    },
    /// Into another bridge, that of a network or of the host.
    Move {
        mac: String,
        from: Box<Interface>,
        to: Box<Interface>,
    },
    /// Of a drive; none: it is emptied.
    Medium {
        target: String,
        from: Box<Disk>,
        to: Box<Disk>,
    },
    Memory {
        from: Kib,
        to: Kib,
    },
    /// Limits, shares, pins and the number of vCPUs, as these definitions have them.
    Tune {
        from: Box<DomainDef>,
        to: Box<DomainDef>,
    },
}

impl Step {
    /// What takes it back.
    pub(crate) fn inverse(&self) -> Self {
        match self.clone() {
            Self::Attach(device) => Self::Detach(device),
            Self::Detach(device) => Self::Attach(device),
            Self::Link { mac, up } => Self::Link { mac, up: !up },
            Self::Move { mac, from, to } => Self::Move { mac, from: to, to: from },
            Self::Medium { target, from, to } => Self::Medium { target, from: to, to: from },
            Self::Memory { from, to } => Self::Memory { from: to, to: from },
            Self::Tune { from, to } => Self::Tune { from: to, to: from },
        }
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Attach(device) => format!("attach {}", label(device)),
            Self::Detach(device) => format!("detach {}", label(device)),
            Self::Link { mac, up: true } => format!("plug the cable of interface {mac} in"),
            Self::Link { mac, up: false } => format!("pull the cable of interface {mac}"),
            Self::Move { mac, .. } => format!("move interface {mac} to another network"),
            Self::Medium { target, .. } => format!("exchange the medium in {target}"),
            Self::Memory { to, .. } => format!("set memory to {} KiB", to.0),
            Self::Tune { .. } => "set vCPUs, limits and pins".to_owned(),
        }
    }
}

fn label(device: &Device) -> String {
    match device {
        Device::Disk(disk) => format!("disk {}", disk.target.dev),
        Device::Interface(interface) => {
            let mac = interface.mac_address().map(|mac| mac.to_string());
            format!("interface {}", mac.unwrap_or_default())
        }
        Device::Input(input) => input.kind.to_string(),
        Device::Rng(_) | Device::Vsock(_) => device.element().to_owned(),
    }
}

/// What `new` leaves open is as in `now`, where it has the same devices: who writes no address does
/// not ask for another one.
pub(crate) fn inherit(now: &DomainDef, new: &mut DomainDef) {
    new.uuid = new.uuid.or(now.uuid);
    let (old, devices) = (&now.devices, &mut new.devices);
    // Without MAC addresses interfaces are known by their places.
    let places: Vec<_> = old.interfaces.iter().map(|interface| interface.mac).collect();
    for (interface, mac) in devices.interfaces.iter_mut().zip(places) {
        interface.mac = interface.mac.or(mac);
    }
    for interface in &mut devices.interfaces {
        let same = old.interfaces.iter().find(|it| it.mac_address() == interface.mac_address());
        let address = same.and_then(|same| same.address.clone());
        interface.address = interface.address.take().or(address);
    }
    for disk in &mut devices.disks {
        let same = old.disks.iter().find(|it| it.target.dev == disk.target.dev);
        let address = same.and_then(|same| same.address.clone());
        disk.address = disk.address.take().or(address);
    }
    for controller in &mut devices.controllers {
        let same = old
            .controllers
            .iter()
            .find(|it| (it.kind, it.index) == (controller.kind, controller.index));
        let address = same.and_then(|same| same.address.clone());
        controller.address = controller.address.take().or(address);
    }
    macro_rules! by_place {
        ($($devices:ident),*) => {$(
            for (new, old) in devices.$devices.iter_mut().zip(&old.$devices) {
                new.address = new.address.take().or_else(|| old.address.clone());
            }
        )*};
    }
    by_place!(rngs, inputs, videos, watchdogs, mem_balloon, vsock);
    // All of them, of a guest whose vCPUs come and go.
    if machine::has_vcpu_hotplug(now)
        && let Some(vcpu) = &mut new.vcpu
        && now.vcpu.as_ref().is_some_and(|now| now.max == vcpu.max)
    {
        vcpu.current.get_or_insert(vcpu.max);
    }
    // dumpxml leaves it out, and who edits that does not ask for a door without a lock.
    if let (Some(vnc), Some(password)) = (vnc_mut(devices), vnc_password(now)) {
        vnc.password.get_or_insert_with(|| password.to_owned());
    }
}

fn vnc_password(def: &DomainDef) -> Option<&str> {
    display::server(&def.devices).and_then(|vnc| vnc.password.as_deref())
}

fn vnc_mut(devices: &mut Devices) -> Option<&mut Vnc> {
    devices.graphics.iter_mut().find_map(|graphics| match graphics {
        Graphics::Vnc(vnc) => Some(vnc),
        _ => None,
    })
}

/// Of a password only that it will be another.
pub(crate) fn changed_secret(
    now: &DomainDef,
    new: &DomainDef,
    running: bool,
) -> Option<PlannedChange> {
    if vnc_password(now) == vnc_password(new) {
        return None;
    }
    let path = "/domain/devices/graphics/@passwd".to_owned();
    let difference = Difference { path, old: None, new: None };
    let when = when(&difference, now, new, running);
    Some(PlannedChange { difference, when })
}

/// Every difference between `now` and `new`, and when it takes effect. `now`: the running domain's
/// definition if it is `running`, else the stored one.
pub(crate) fn changes(now: &DomainDef, new: &DomainDef, running: bool) -> Vec<PlannedChange> {
    let judge = |difference: Difference| {
        let when = when(&difference, now, new, running);
        PlannedChange { difference, when }
    };
    now.differences(new).into_iter().map(judge).collect()
}

fn when(difference: &Difference, now: &DomainDef, new: &DomainDef, running: bool) -> When {
    let path = difference.path.as_str();
    if matches!(path, "/domain/name" | "/domain/uuid" | "/domain/@type") {
        return When::Recreate;
    }
    let can = running && (is_live(path, now, new) || comes_or_goes(difference, now));
    if can { When::Live } else { When::NextStart }
}

/// A whole device that nothing names, and that can be plugged.
fn comes_or_goes(difference: &Difference, now: &DomainDef) -> bool {
    let ((None, Some(whole)) | (Some(whole), None)) = (&difference.old, &difference.new) else {
        return false;
    };
    let small = |device: &Device| is_small(device) && can_be_plugged(now, device);
    Device::parse_stored(whole).is_ok_and(|device| small(&device.value))
}

/// Of a kind that nothing names.
fn is_small(device: &Device) -> bool {
    matches!(device, Device::Rng(_) | Device::Input(_) | Device::Vsock(_))
}

fn is_live(path: &str, now: &DomainDef, new: &DomainDef) -> bool {
    let Some(rest) = path.strip_prefix("/domain/") else { return false };
    if let Some(rest) = rest.strip_prefix("devices/disk[") {
        let Some((target, part)) = rest.split_once(']') else { return false };
        let find = |def: &DomainDef| Key::Target(target.to_owned()).find(def);
        return match part {
            "" => find(now).or_else(|| find(new)).is_some_and(|it| can_be_plugged(now, &it)),
            part if part.starts_with("/iotune") => true,
            "/driver/@error_policy" | "/driver/@rerror_policy" => true,
            part if part.starts_with("/source") || part == "/@type" => {
                find(now).is_some_and(|it| matches!(it, Device::Disk(disk) if is_drive(&disk)))
            }
            _ => false,
        };
    }
    if let Some(rest) = rest.strip_prefix("devices/interface[") {
        let Some((mac, part)) = rest.split_once(']') else { return false };
        if part.starts_with("/source") || part.starts_with("/vlan") || part == "/@type" {
            let is_it = |it: &&Interface| it.mac_address().is_some_and(|is| is.to_string() == mac);
            let find = |def: &DomainDef| def.devices.interfaces.iter().find(is_it).cloned();
            let both = find(now).zip(find(new));
            return both.is_some_and(|(was, is)| check_movable(&was, &is).is_ok());
        }
        let comes_or_goes = part.is_empty() && has_hotplug(now);
        return comes_or_goes || part.starts_with("/link") || part.starts_with("/bandwidth");
    }
    let first = rest.split(['/', '[']).next().unwrap_or_default();
    match first {
        "currentMemory" => has_balloon(now),
        "cputune" | "memtune" | "blkiotune" => true,
        "vcpu" => path == "/domain/vcpu/@current" && can_have_vcpus_of(now, new),
        _ => false,
    }
}

/// Another number of vCPUs, of the same there can be.
fn can_have_vcpus_of(now: &DomainDef, new: &DomainDef) -> bool {
    let max = |def: &DomainDef| def.vcpu.as_ref().map(|vcpu| vcpu.max);
    machine::has_vcpu_hotplug(now) && max(now) == max(new)
}

/// A machine of this kind has slots that things come into and leave.
fn has_hotplug(def: &DomainDef) -> bool {
    translate::board_of(def) != Machine::Microvm
}

fn can_be_plugged(now: &DomainDef, device: &Device) -> bool {
    let on_scsi = matches!(device, Device::Disk(disk) if disk.target.bus() == DiskBus::Scsi);
    (on_scsi || has_hotplug(now))
        && device::check_pluggable(device).is_ok()
        && device::check_host(now, device).is_ok()
}

fn is_drive(disk: &Disk) -> bool {
    disk.device() == DiskDevice::Cdrom
}

/// What is to be done to the running domain `now`, in its order: what goes first, then what comes, so
/// that places become free.
pub(crate) fn steps(now: &DomainDef, new: &DomainDef) -> Vec<Step> {
    let mut steps = Vec::new();
    let (old, devices) = (&now.devices, &new.devices);
    let same_mac = |one: &Interface, other: &Interface| one.mac_address() == other.mac_address();
    for disk in &old.disks {
        let device = Device::Disk(Box::new(disk.clone()));
        let stays = devices.disks.iter().any(|it| it.target.dev == disk.target.dev);
        if !stays && can_be_plugged(now, &device) {
            steps.push(Step::Detach(device));
        }
    }
    for interface in &old.interfaces {
        let stays = devices.interfaces.iter().any(|it| same_mac(it, interface));
        if !stays && has_hotplug(now) {
            steps.push(Step::Detach(Device::Interface(Box::new(interface.clone()))));
        }
    }
    let (going, coming) = small_devices(now, new);
    steps.extend(going.into_iter().map(Step::Detach));
    steps.extend(coming.into_iter().map(Step::Attach));
    for disk in &devices.disks {
        let device = Device::Disk(Box::new(disk.clone()));
        match old.disks.iter().find(|it| it.target.dev == disk.target.dev) {
            None if can_be_plugged(now, &device) => steps.push(Step::Attach(device)),
            Some(was) if is_drive(was) && was.location() != disk.location() => {
                let (from, to) = (Box::new(was.clone()), Box::new(disk.clone()));
                steps.push(Step::Medium { target: disk.target.dev.clone(), from, to });
            }
            _ => {}
        }
    }
    for interface in &devices.interfaces {
        match old.interfaces.iter().find(|it| same_mac(it, interface)) {
            None if has_hotplug(now) => {
                steps.push(Step::Attach(Device::Interface(Box::new(interface.clone()))));
            }
            Some(was) => {
                let mac = interface.mac_address().map(|mac| mac.to_string()).unwrap_or_default();
                let moves = !device::is_on_same(was, interface);
                if moves && check_movable(was, interface).is_ok() {
                    let (from, to) = (Box::new(was.clone()), Box::new(interface.clone()));
                    steps.push(Step::Move { mac: mac.clone(), from, to });
                }
                if is_up(was) != is_up(interface) {
                    steps.push(Step::Link { mac, up: is_up(interface) });
                }
            }
            None => {}
        }
    }
    let memory = |def: &DomainDef| def.current_memory.unwrap_or(def.memory.size);
    let (from, to) = (memory(now), memory(new));
    // A maximum that is less by then is for the next start.
    if from != to && has_balloon(now) && to <= now.memory.size {
        steps.push(Step::Memory { from, to });
    }
    let mut tuned = now.clone();
    take_tuning(&mut tuned, new);
    if tuned != *now {
        steps.push(Step::Tune { from: Box::new(now.clone()), to: Box::new(new.clone()) });
    }
    steps
}

/// Devices that nothing names: those that go, and those that come. Where there are as many as before, what
/// differs between two of them waits for the next start.
fn small_devices(now: &DomainDef, new: &DomainDef) -> (Vec<Device>, Vec<Device>) {
    let all = |def: &DomainDef| -> Vec<Device> {
        def.devices.pluggable().filter(|it| is_small(it) && can_be_plugged(now, it)).collect()
    };
    let (mut going, mut coming) = (all(now), all(new));
    let count = |devices: &[Device], like: &Device| {
        devices.iter().filter(|device| device.element() == like.element()).count()
    };
    let (before, after) = (going.clone(), coming.clone());
    going.retain(|device| count(&before, device) != count(&after, device));
    coming.retain(|device| count(&before, device) != count(&after, device));
    coming.retain(|device| {
        let same = |other: &Device| other.clone().bare() == device.clone().bare();
        let stays = going.iter().position(same).map(|at| going.remove(at));
        stays.is_none()
    });
    (going, coming)
}

/// What a disk does when the host fails it, as `like`.
pub(crate) fn take_error_policies(disk: &mut Disk, like: &Disk) {
    let of = |disk: &Disk| {
        let driver = disk.driver.as_ref();
        driver.map(|driver| (driver.error_policy, driver.read_error_policy)).unwrap_or_default()
    };
    if of(disk) != of(like) {
        let driver = disk.driver.get_or_insert_default();
        (driver.error_policy, driver.read_error_policy) = of(like);
    }
}

/// Let `def` have the limits, shares, pins and error policies of `like`, and as many vCPUs.
pub(crate) fn take_tuning(def: &mut DomainDef, like: &DomainDef) {
    def.cpu_tune.clone_from(&like.cpu_tune);
    def.memory_tune.clone_from(&like.memory_tune);
    def.block_io_tune.clone_from(&like.block_io_tune);
    if can_have_vcpus_of(def, like)
        && let (Some(vcpu), Some(like)) = (&mut def.vcpu, &like.vcpu)
    {
        vcpu.current = Some(like.current.unwrap_or(like.max));
    }
    for disk in &mut def.devices.disks {
        let same = like.devices.disks.iter().find(|it| it.target.dev == disk.target.dev);
        if let Some(same) = same {
            disk.io_tune.clone_from(&same.io_tune);
            take_error_policies(disk, same);
        }
    }
    for interface in &mut def.devices.interfaces {
        let mac = interface.mac_address();
        let same = like.devices.interfaces.iter().find(|it| it.mac_address() == mac);
        if let Some(same) = same {
            interface.bandwidth.clone_from(&same.bandwidth);
        }
    }
}
