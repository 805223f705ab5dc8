//! The devices of a definition in the VMM's configuration.

use vmm_protocol::config::{
    Blk, Cache, Console, ConsolePort, Discard, DiskIo, Image, Medium, Net, PciAddress, PciDevice,
    PciKind, Ramfb, Rng, RngRate, RootPort, Serial,
};
use xml::device::Devices;
use xml::device::address::DeviceAddress;
use xml::device::controller::{Controller, ControllerModel, ControllerType};
use xml::device::disk::{self, Disk, DiskBus, DiskCache};
use xml::device::interface::Interface;
use xml::{DomainDef, OnOff};

use super::check_devices::MOST_QUEUES;
use super::io_threads::IoThreads;
use super::machine::is_on;
use super::{OpenTap, Resources, boot_order, display};
use crate::agent;
use crate::domain::link;
use crate::error::{Code, Error};

const QUEUE_SIZE: u16 = 256;
/// Queues of a disk that names no number: one for each vCPU, and this many at most.
const MOST_DEFAULT_QUEUES: u32 = 4;

pub(super) fn pci(
    def: &DomainDef,
    resources: &Resources,
    vcpus: u16,
    io_threads: &mut IoThreads,
) -> Result<Vec<PciDevice>, Error> {
    let devices = &def.devices;
    let mut found = Vec::new();
    let ports = devices.controllers.iter().filter(|c| is_root_port(c));
    for port in ports {
        found.push(device(port.alias.as_ref(), port.address.as_ref(), root_port(port))?);
    }
    let serial = devices.controllers.iter().filter(|c| c.kind == ControllerType::VirtioSerial);
    for controller in serial {
        let kind = console(def, resources, controller, io_threads);
        found.push(device(controller.alias.as_ref(), controller.address.as_ref(), kind)?);
    }
    for (index, (interface, tap)) in
        devices.interfaces.iter().zip(&resources.interfaces).enumerate()
    {
        let kind = PciKind::Net(net(interface, tap, io_threads));
        let boot_index = boot_order::of_interface(def, index);
        let device = device(interface.alias.as_ref(), interface.address.as_ref(), kind)?;
        found.push(PciDevice { boot_index, ..device });
    }
    super::drives::pci(def, resources, vcpus, io_threads, &mut found)?;
    for (disk, open) in devices.disks.iter().zip(&resources.disks) {
        let (DiskBus::Virtio, Some(open)) = (disk.target.bus(), open) else { continue };
        let kind = PciKind::Blk(blk(disk, open.image.clone(), vcpus, io_threads)?);
        let boot_index = boot_order::of_disk(def, disk);
        let device = device(disk.alias.as_ref(), disk.address.as_ref(), kind)?;
        found.push(PciDevice { boot_index, ..device });
    }
    if let Some(card) = display::card(devices).filter(|card| !display::is_ramfb(card)) {
        let kind = PciKind::Video(display::video(card, resources.video_rom));
        found.push(device(card.alias.as_ref(), card.address.as_ref(), kind)?);
    }
    for rng in &devices.rngs {
        let kind = self::rng(rng, io_threads);
        found.push(device(rng.alias.as_ref(), rng.address.as_ref(), kind)?);
    }
    super::machine_small::pci(def, resources, io_threads, &mut found)?;
    Ok(found)
}

pub(super) fn rng(rng: &xml::device::Rng, io_threads: &mut IoThreads) -> PciKind {
    let rate =
        rng.rate.map(|rate| RngRate { bytes: rate.bytes, period: rate.period.unwrap_or(1000) });
    PciKind::Rng(Rng { rate, io_thread: io_threads.shared() })
}

fn is_root_port(controller: &Controller) -> bool {
    controller.kind == ControllerType::Pci
        && controller.model == Some(ControllerModel::PcieRootPort)
}

/// What stands in for a graphics card, where the definition says so.
pub(super) fn ramfb(devices: &Devices, resources: &Resources) -> Result<Option<Ramfb>, Error> {
    let card = display::card(devices).filter(|card| display::is_ramfb(card));
    let Some(card) = card else { return Ok(None) };
    let id = card.alias.clone().ok_or_else(|| unassigned("an alias"))?;
    Ok(Some(Ramfb { id, rom: resources.video_rom }))
}

pub(super) fn device(
    alias: Option<&String>,
    address: Option<&DeviceAddress>,
    kind: PciKind,
) -> Result<PciDevice, Error> {
    let id = alias.cloned().ok_or_else(|| unassigned("an alias"))?;
    let at = address.and_then(DeviceAddress::pci).ok_or_else(|| unassigned("a PCI address"))?;
    let written = match address {
        Some(DeviceAddress::Pci(place)) => place.multifunction == Some(OnOff::On),
        _ => false,
    };
    let address = PciAddress { bus: at.bus, slot: at.slot, function: at.function };
    Ok(PciDevice { id, address, multifunction: written, boot_index: None, kind })
}

/// Define gives every device both.
fn unassigned(what: &str) -> Error {
    Error::new(Code::Internal, format!("a device of a stored definition lacks {what}"))
}

fn root_port(controller: &Controller) -> PciKind {
    let byte = |number: Option<u32>| number.and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    let target = controller.target.as_ref();
    PciKind::RootPort(RootPort {
        controller: byte(controller.index),
        chassis: byte(target.and_then(|target| target.chassis)),
        port: byte(target.and_then(|target| target.port).map(|port| port.0)),
    })
}

pub(super) fn blk(
    disk: &Disk,
    image: Image,
    vcpus: u16,
    io_threads: &mut IoThreads,
) -> Result<Blk, Error> {
    let driver = disk.driver.as_ref();
    let thread = match driver.and_then(|driver| driver.iothread) {
        Some(id) => io_threads.defined(id).ok_or_else(|| {
            let dev = &disk.target.dev;
            let text =
                format!("disk {dev} names io thread {id}, and <iothreads> defines none such");
            Error::new(Code::InvalidXml, text)
        })?,
        None => io_threads.own("blk", &disk.target.dev),
    };
    let queues = driver.and_then(|driver| driver.queues);
    let queues = queues.unwrap_or(u32::from(vcpus).min(MOST_DEFAULT_QUEUES)).clamp(1, MOST_QUEUES);
    let Medium { image, read_only, cache, discard, logical_block_size, io } = medium(disk, image);
    Ok(Blk {
        image,
        read_only,
        cache,
        discard,
        serial: disk.serial.clone().unwrap_or_default(),
        logical_block_size,
        io,
        queues: vec![thread; queues as usize],
        queue_size: queue_size(driver.and_then(|driver| driver.queue_size)),
    })
}

/// An image as a disk's definition wants it used.
pub(super) fn medium(disk: &Disk, image: Image) -> Medium {
    let driver = disk.driver.as_ref();
    let block = disk.block_io.as_ref();
    Medium {
        image,
        read_only: disk.read_only,
        cache: cache(driver.and_then(|driver| driver.cache)),
        discard: match driver.and_then(|driver| driver.discard) {
            Some(disk::Discard::Unmap) => Discard::Unmap,
            _ => Discard::Ignore,
        },
        logical_block_size: block.and_then(|block| block.logical_block_size).unwrap_or(512),
        io: match driver.and_then(|driver| driver.io) {
            Some(disk::DiskIo::Threads) => DiskIo::Plain,
            _ => DiskIo::Uring,
        },
    }
}

pub(crate) fn cache(cache: Option<DiskCache>) -> Cache {
    match cache {
        Some(DiskCache::None) => Cache::None,
        Some(DiskCache::WriteThrough) => Cache::Writethrough,
        Some(DiskCache::DirectSync) => Cache::Directsync,
        Some(DiskCache::Unsafe) => Cache::Unsafe,
        Some(DiskCache::WriteBack | DiskCache::Default) | None => Cache::Writeback,
    }
}

fn queue_size(size: Option<u32>) -> u16 {
    size.and_then(|size| u16::try_from(size).ok()).unwrap_or(QUEUE_SIZE)
}

pub(super) fn net(interface: &Interface, tap: &OpenTap, io_threads: &mut IoThreads) -> Net {
    let driver = interface.driver.as_ref();
    // An interface that is none on the host goes by its alias.
    let alias = interface.alias.as_deref().unwrap_or_default();
    let name = if tap.stream.is_some() { alias } else { &tap.name };
    let thread = io_threads.own("net", name);
    let host = driver.and_then(|driver| driver.host.as_ref());
    let size = driver.and_then(|driver| driver.rx_queue_size.max(driver.tx_queue_size));
    Net {
        taps: tap.queues.clone(),
        stream: tap.stream,
        vhost: tap.vhost.clone(),
        mac: interface.mac_address().map_or([0; 6], |mac| mac.0),
        mtu: interface.mtu.and_then(|mtu| u16::try_from(mtu).ok()),
        link_up: link::is_up(interface),
        offloads: host.is_none_or(|host| is_on(host.csum) && is_on(host.gso)),
        queues: vec![thread; tap.queues.len().max(1)],
        queue_size: queue_size(size),
        rom: tap.rom,
    }
}

fn console(
    def: &DomainDef,
    resources: &Resources,
    controller: &Controller,
    io_threads: &mut IoThreads,
) -> PciKind {
    let index = controller.index.unwrap_or(0);
    let port = |address: Option<&DeviceAddress>| match address {
        Some(DeviceAddress::VirtioSerial(at)) if at.controller.unwrap_or(0) == index => at.port,
        _ => None,
    };
    let consoles = def.devices.consoles.iter().zip(&resources.consoles);
    let mut ports: Vec<ConsolePort> = consoles
        .filter(|(console, _)| super::is_virtio(console))
        .filter_map(|(console, open)| {
            let number = port(console.address.as_ref())?;
            let id = console.alias.clone()?;
            let chardev = open.config.clone();
            Some(ConsolePort { id, number, name: None, agent: false, chardev })
        })
        .collect();
    let channels = def.devices.channels.iter().zip(&resources.channels);
    ports.extend(channels.filter(|(channel, _)| provided(channel)).filter_map(
        |(channel, open)| {
            let number = port(channel.address.as_ref())?;
            let (id, name) = (channel.alias.clone()?, channel.target.name.clone());
            let agent = name.as_deref() == Some(agent::CHANNEL);
            Some(ConsolePort { id, number, name, agent, chardev: open.config.clone() })
        },
    ));
    ports.sort_by_key(|port| port.number);
    PciKind::Console(Console { ports, io_thread: io_threads.shared() })
}

/// Not left out with a warning.
pub(crate) fn provided(channel: &xml::device::Channel) -> bool {
    use xml::device::chardev::CharType::{SpicePort, SpiceVmc, VdAgent};
    channel.is_virtio() && !matches!(channel.kind, SpiceVmc | SpicePort | VdAgent)
}

pub(super) fn serials(def: &DomainDef, resources: &Resources) -> Vec<Serial> {
    let serials = (0..).zip(&def.devices.serials).zip(&resources.serials);
    serials
        .filter_map(|((number, serial), open)| {
            let port = serial.target.as_ref().and_then(|target| target.port).unwrap_or(number);
            let (id, port) = (serial.alias.clone()?, u8::try_from(port).ok()?);
            Some(Serial { id, port, chardev: open.config.clone() })
        })
        .collect()
}
