//! What of a definition's devices can be had.

use std::path::Path;

use vmm_protocol::config::Machine;
use xml::device::chardev::{
    ChannelTargetType, CharProtocol, CharSource, CharType, ConsoleTargetType, SerialTargetType,
    SocketMode,
};
use xml::device::controller::{ControllerModel, ControllerType};
use xml::device::disk::{BackingStore, Disk, DiskFormat, DiskModel, DiskType, StartupPolicy};
use xml::device::interface::{Interface, InterfaceBackend, InterfaceType, Rate};
use xml::device::panic::PanicModel;
use xml::device::rng::RngBackend;
use xml::device::{Devices, VirtioModel};
use xml::{DomainDef, OnOff, YesNo};

use super::report::Report;
use super::{check_display, check_small, check_user, drives, formats, ports};

/// Names of the kernel's own generator, which a VMM asks directly.
const KERNEL_RANDOM: [&str; 2] = ["/dev/urandom", "/dev/random"];

pub(super) const MOST_QUEUES: u32 = 64;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    let devices = &def.devices;
    for (number, disk) in (1..).zip(&devices.disks) {
        let path = format!("/domain/devices/disk[{number}]");
        check_disk(drives::machine(def), disk, &path, report);
    }
    for (number, interface) in (1..).zip(&devices.interfaces) {
        check_interface(interface, &format!("/domain/devices/interface[{number}]"), report);
    }
    check_controllers(def, report);
    check_chardevs(devices, report);
    check_rest(devices, report);
    check_small::check(def, report);
    check_display::check(devices, report);
}

fn check_disk(machine: Machine, disk: &Disk, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    match disk.kind() {
        DiskType::File | DiskType::Block | DiskType::Volume => {}
        DiskType::Network => super::nbd::check(disk, path, report),
        kind => {
            let message = format!("a disk of type='{kind}'; use file, block, volume or network");
            report.refuse(&at("@type"), message);
        }
    }
    let mode = disk.source.as_ref().and_then(|source| source.mode);
    report.refuse_if(
        mode.is_some(),
        &at("source/@mode"),
        "a mode: it is for volumes of iSCSI pools",
    );
    drives::check_disk(machine, disk, path, report);
    check_model(disk.model.and_then(DiskModel::virtio), path, report);
    report.refuse_if(disk.rawio == Some(YesNo::Yes), &at("@rawio"), "raw SCSI commands");
    if let Some(driver) = &disk.driver {
        if let Some(format) = driver.format.filter(|format| formats::of_xml(*format).is_none()) {
            let message = format!("the image format {format}; there are {}", formats::names());
            report.refuse(&at("driver/@type"), message);
        }
        let on = |value| value == Some(OnOff::On);
        report.refuse_if(on(driver.copy_on_read), &at("driver/@copy_on_read"), "copy on read");
        report.refuse_if(on(driver.iommu), &at("driver/@iommu"), "a virtual IOMMU");
        report.warn_if(on(driver.packed), &at("driver/@packed"), "packed rings");
        report.warn_if(
            driver.detect_zeroes.is_some(),
            &at("driver/@detect_zeroes"),
            "zero detection",
        );
        check_queues(driver.queues, &at("driver/@queues"), report);
        check_queue_size(driver.queue_size, &at("driver/@queue_size"), report);
    }
    if let Some(source) = &disk.source {
        let policy = source.startup_policy.is_some_and(|policy| policy != StartupPolicy::Mandatory);
        report.refuse_if(policy, &at("source/@startupPolicy"), "a disk that may be absent");
        let labels = !source.security_labels.is_empty();
        report.warn_if(labels, &at("source/seclabel"), "security labels");
    }
    let raw = disk.driver.as_ref().and_then(|driver| driver.format);
    let raw = raw.is_none_or(|format| format == DiskFormat::Raw);
    let backing = disk.backing_store.as_ref().is_some_and(|store| store.source.is_some());
    report.refuse_if(backing && raw, &at("backingStore"), "an image beneath a raw image");
    let shared = disk.shareable && !raw;
    report.refuse_if(shared, &at("shareable"), "guests that share an image which is not raw");
    check_backing(disk.backing_store.as_ref(), at("backingStore"), report);
    report.refuse_if(disk.transient.is_some(), &at("transient"), "disks that forget");
    report.warn_if(disk.geometry.is_some(), &at("geometry"), "a disk geometry");
    if let Some(block) = &disk.block_io {
        let size = block.logical_block_size.unwrap_or(512);
        if !matches!(size, 512 | 4096) {
            let message = format!("sectors of {size} bytes; there are 512 and 4096");
            report.refuse(&at("blockio/@logical_block_size"), message);
        }
    }
}

fn check_filter(interface: &Interface, path: &str, report: &mut Report<'_>) {
    let Some(filter) = &interface.filterref else { return };
    if matches!(interface.kind, InterfaceType::Direct | InterfaceType::Ethernet) {
        return report.refuse(path, "filters of an interface that is in no bridge");
    }
    // Which filters there are is known when the guest starts; values are looked at with their rules.
    if crate::filters::checks(&filter.filter).is_none() {
        return;
    }
    for (index, parameter) in (1..).zip(&filter.parameters) {
        let path = format!("{path}/parameter[{index}]");
        if parameter.name != ports::ADDRESS {
            report.refuse(&path, format!("the parameter {}; there is IP", parameter.name));
        } else if parameter.value.parse::<std::net::IpAddr>().is_err() {
            report.invalid(&path, format!("{:?} is no IP address", parameter.value));
        }
    }
}

fn check_interface(interface: &Interface, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    match interface.kind {
        InterfaceType::Bridge
        | InterfaceType::Direct
        | InterfaceType::Ethernet
        | InterfaceType::Network => {}
        InterfaceType::User => return check_user::check(interface, path, report),
        other => {
            let message = format!(
                "an interface of type='{other}'; use network, bridge, direct, ethernet or user"
            );
            report.refuse(&at("@type"), message);
        }
    }
    check_card(interface, path, report);
    let script = interface.script.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    report.refuse_if(script, &at("script"), "scripts that set up an interface: a network or a bridge does without, or make the tap yourself and name it (<target dev=… managed='no'/>)");
    report.refuse_if(interface.down_script.is_some(), &at("downscript"), "scripts of an interface");
    report.refuse_if(!interface.ips.is_empty(), &at("ip"), "addresses of the host's end");
    check_user::refuse(interface, path, report);
    report.refuse_if(interface.virtual_port.is_some(), &at("virtualport"), "virtual ports (OVS)");
    let has_floor = |rate: Option<&Rate>| rate.is_some_and(|rate| rate.floor.is_some());
    let (inbound, outbound) = match &interface.bandwidth {
        Some(bandwidth) => (bandwidth.inbound.as_ref(), bandwidth.outbound.as_ref()),
        None => (None, None),
    };
    let alone = has_floor(inbound) && interface.kind != InterfaceType::Network;
    let what = "guaranteed bandwidth but of a network's (type='network')";
    report.refuse_if(alone, &at("bandwidth/inbound/@floor"), what);
    let what = "guaranteed bandwidth of what a guest sends";
    report.refuse_if(has_floor(outbound), &at("bandwidth/outbound/@floor"), what);
    let direct = interface.kind == InterfaceType::Direct;
    let limited = direct && interface.bandwidth.is_some();
    report.refuse_if(limited, &at("bandwidth"), "limits of an interface of type='direct'");
    let no_bridge = direct || interface.kind == InterfaceType::Ethernet;
    let vlan = interface.vlan.is_some() && no_bridge;
    report.refuse_if(vlan, &at("vlan"), "VLAN tags of an interface that is in no bridge");
    check_filter(interface, &at("filterref"), report);
    let isolated = interface.isolated == Some(YesNo::Yes);
    report.refuse_if(isolated, &at("port/@isolated"), "isolated ports");
    report.warn_if(interface.tune.is_some(), &at("tune"), "tuning of the tap");
    let trust = interface.trust_guest_rx_filters == Some(YesNo::Yes);
    report.warn_if(trust, &at("@trustGuestRxFilters"), "filters follow the guest");
    if let Some(backend) = &interface.backend {
        let other = backend.tap.is_some() || backend.vhost.is_some();
        report.refuse_if(other, &at("backend"), "other devices than /dev/net/tun");
    }
}

/// The guest's side, whatever is at the other.
pub(super) fn check_card(interface: &Interface, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    match interface.model.as_deref() {
        None | Some("virtio" | "virtio-net" | "virtio-non-transitional") => {}
        Some(model) => {
            report.refuse(&at("model/@type"), format!("the network card {model}; use virtio"));
        }
    }
    if let Some(driver) = &interface.driver {
        if let Some(name) = driver.name
            && !matches!(name, InterfaceBackend::Qemu | InterfaceBackend::Vhost)
        {
            let message = format!(
                "packets moved by {name}; there are vhost (the host's kernel) and qemu (the VMM)"
            );
            report.refuse(&at("driver/@name"), message);
        }
        check_queues(driver.queues, &at("driver/@queues"), report);
        check_queue_size(driver.rx_queue_size, &at("driver/@rx_queue_size"), report);
        check_queue_size(driver.tx_queue_size, &at("driver/@tx_queue_size"), report);
        let on = |value| value == Some(OnOff::On);
        report.refuse_if(on(driver.iommu), &at("driver/@iommu"), "a virtual IOMMU");
        report.warn_if(on(driver.packed), &at("driver/@packed"), "packed rings");
        report.warn_if(on(driver.rss), &at("driver/@rss"), "receive-side scaling");
    }
    report.warn_if(interface.coalesce.is_some(), &at("coalesce"), "interrupt coalescing");
    if let Some(mtu) = interface.mtu.filter(|mtu| !(68..=65_535).contains(mtu)) {
        report.invalid(&at("mtu/@size"), format!("an MTU is from 68 to 65535, not {mtu}"));
    }
}

fn check_backing(mut store: Option<&BackingStore>, mut path: String, report: &mut Report<'_>) {
    while let Some(layer) = store {
        if let Some(kind) = layer.kind.filter(|it| !matches!(it, DiskType::File | DiskType::Block))
        {
            let message = format!("an image beneath of type='{kind}'; use file or block");
            report.refuse(&format!("{path}/@type"), message);
        }
        let format = layer.format.map(|format| format.kind);
        if let Some(format) = format.filter(|format| formats::of_xml(*format).is_none()) {
            let message = format!("the image format {format}; there are {}", formats::names());
            report.refuse(&format!("{path}/format/@type"), message);
        }
        store = layer.backing_store.as_deref();
        path.push_str("/backingStore");
    }
}

pub(super) fn check_model(model: Option<VirtioModel>, path: &str, report: &mut Report<'_>) {
    let old = model == Some(VirtioModel::Transitional);
    let message = "virtio from before version 1.0; use model='virtio'";
    report.refuse_if(old, &format!("{path}/@model"), message);
}

pub(super) fn check_queues(queues: Option<u32>, path: &str, report: &mut Report<'_>) {
    if let Some(queues) = queues.filter(|queues| !(1..=MOST_QUEUES).contains(queues)) {
        report.invalid(path, format!("there can be 1 to {MOST_QUEUES} queues, not {queues}"));
    }
}

fn check_queue_size(size: Option<u32>, path: &str, report: &mut Report<'_>) {
    if let Some(size) = size.filter(|size| !size.is_power_of_two() || !(2..=1024).contains(size)) {
        let message = format!("a queue's size is a power of two from 2 to 1024, not {size}");
        report.invalid(path, message);
    }
}

fn check_controllers(def: &DomainDef, report: &mut Report<'_>) {
    let devices = &def.devices;
    for (number, controller) in (1..).zip(&devices.controllers) {
        let path = format!("/domain/devices/controller[{number}]");
        let refused = |model: &dyn std::fmt::Display| format!("the controller {model}");
        match (controller.kind, controller.model) {
            (
                ControllerType::Pci,
                Some(
                    ControllerModel::PciRoot
                    | ControllerModel::PcieRoot
                    | ControllerModel::PcieRootPort,
                ),
            ) => {}
            (ControllerType::Pci, Some(model)) => {
                report.refuse(&format!("{path}/@model"), refused(&model));
            }
            (ControllerType::VirtioSerial, model) => {
                let old = model == Some(ControllerModel::Transitional);
                report.refuse_if(old, &format!("{path}/@model"), "virtio from before version 1.0");
            }
            (ControllerType::Usb, Some(ControllerModel::None)) => {}
            (ControllerType::Scsi | ControllerType::Nvme, _) => {
                drives::check_controller(controller, &path, report);
            }
            (ControllerType::Sata | ControllerType::Ide, _)
                if drives::has_drives(def, controller) => {}
            // Whatever sat on these is refused by itself.
            (
                ControllerType::Usb
                | ControllerType::Sata
                | ControllerType::Ide
                | ControllerType::Fdc
                | ControllerType::Isa
                | ControllerType::Ccid,
                _,
            ) => report.warn(&path, format!("the {} controller is left out", controller.kind)),
            (kind, _) => report.refuse(&format!("{path}/@type"), refused(&kind)),
        }
    }
}

fn check_chardevs(devices: &Devices, report: &mut Report<'_>) {
    for (number, serial) in (1..).zip(&devices.serials) {
        let path = format!("/domain/devices/serial[{number}]");
        let target = serial.target.as_ref();
        if let Some(kind) = target.and_then(|t| t.kind).filter(|k| *k != SerialTargetType::Isa) {
            report.refuse(&format!("{path}/target/@type"), format!("a serial port of type {kind}"));
        }
        let port = target.and_then(|target| target.port).unwrap_or(number - 1);
        if port > 3 {
            let message = format!("serial port {port}: there are four, 0 to 3");
            report.invalid(&format!("{path}/target/@port"), message);
        }
        check_backend(serial.kind, &serial.sources, serial.protocol, &path, report);
    }
    for (number, console) in (1..).zip(&devices.consoles) {
        let path = format!("/domain/devices/console[{number}]");
        match console.target.as_ref().and_then(|target| target.kind) {
            None | Some(ConsoleTargetType::Serial | ConsoleTargetType::Virtio) => {}
            Some(kind) => {
                let message = format!("a console of type {kind}; use serial or virtio");
                report.refuse(&format!("{path}/target/@type"), message);
            }
        }
        if number > 1 && console.is_serial() {
            let message = "only the first console can be the first serial port; use type='virtio'";
            report.refuse(&format!("{path}/target/@type"), message);
        }
        check_backend(console.kind(), &console.sources, console.protocol, &path, report);
    }
    for (number, channel) in (1..).zip(&devices.channels) {
        let path = format!("/domain/devices/channel[{number}]");
        if matches!(channel.kind, CharType::SpiceVmc | CharType::SpicePort | CharType::VdAgent) {
            report.warn(&format!("{path}/@type"), "a SPICE channel is left out");
            continue;
        }
        if channel.target.kind != ChannelTargetType::Virtio {
            let message = format!("a channel of type {}; use virtio", channel.target.kind);
            report.refuse(&format!("{path}/target/@type"), message);
        }
        check_backend(channel.kind, &channel.sources, channel.protocol, &path, report);
    }
    if !devices.parallels.is_empty() {
        report.refuse("/domain/devices/parallel", "parallel ports");
    }
}

fn check_backend(
    kind: CharType,
    sources: &[CharSource],
    protocol: Option<CharProtocol>,
    path: &str,
    report: &mut Report<'_>,
) {
    match kind {
        CharType::Pty | CharType::File | CharType::Null | CharType::Stdio => {}
        CharType::Unix => {
            let mode = sources.first().and_then(|source| source.mode);
            let connects = matches!(mode, Some(SocketMode::Connect | SocketMode::Client));
            let message = "connecting to a socket; use mode='bind'";
            report.refuse_if(connects, &format!("{path}/source/@mode"), message);
        }
        other => {
            let message =
                format!("a device that ends in type='{other}'; use pty, unix, file or null");
            report.refuse(&format!("{path}/@type"), message);
        }
    }
    let spoken = protocol.is_some_and(|protocol| protocol != CharProtocol::Raw);
    report.refuse_if(spoken, &format!("{path}/protocol/@type"), "another protocol than raw");
}

fn check_rest(devices: &Devices, report: &mut Report<'_>) {
    for (number, rng) in (1..).zip(&devices.rngs) {
        let path = format!("/domain/devices/rng[{number}]");
        check_model(Some(rng.model), &path, report);
        let egd = matches!(rng.backend, RngBackend::Egd(_));
        report.refuse_if(egd, &format!("{path}/backend/@model"), "an entropy daemon; use random");
        if let RngBackend::Random(file) = &rng.backend
            && let Some(file) = file.path.as_deref()
            && !KERNEL_RANDOM.iter().any(|known| Path::new(known) == file)
        {
            let text = format!("random numbers from {}; use /dev/urandom", file.display());
            report.refuse(&format!("{path}/backend"), text);
        }
    }
    for (number, panic) in (1..).zip(&devices.panics) {
        let path = format!("/domain/devices/panic[{number}]");
        match panic.model {
            None | Some(PanicModel::Isa | PanicModel::Hyperv) => {}
            Some(model) => {
                report.refuse(&path, format!("the panic device {model}; use isa or hyperv"));
            }
        }
    }
}
