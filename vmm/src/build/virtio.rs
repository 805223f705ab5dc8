//! Step 5: virtio devices, each on PCI, their queues on the io threads that the definition maps
//! them to.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use devices::backend::chardev::Chardev;
use devices::backend::packet::PacketBackend;
use devices::backend::stream::Stream;
use devices::backend::tap::Tap;
use devices::backend::vhost::VhostVsock;
use devices::backend::vhost::net::VhostNet;
use devices::io_thread::IoThread;
use devices::pci::OptionRom;
use devices::virtio::VirtioDevice;
use devices::virtio::blk::{Block, BlockSpec};
use devices::virtio::console::{Console, PortConfig};
use devices::virtio::input::{Input, Role};
use devices::virtio::net::{Net, NetConfig, NetStats, feature};
use devices::virtio::pci::{PciParts, VirtioPci};
use devices::virtio::rng::{RateLimit, Rng};
use devices::virtio::vsock::{Sockets, Vsock};
use vmm_protocol::config::{self, Fd, PciDevice, PciKind, VsockHost};
use vmm_protocol::control::InterfaceStatistics;

use super::pci::Buses;
use super::{BuildError, Site, balloon, chipset, cpus, disk, reserve, scsi};
use crate::console::Kind as ConsoleKind;
use crate::notices::{tell_broken, tell_channel, tell_lost};
use crate::sandbox::{Kind, Sandbox};

const MAX_QUEUE_SIZE: u16 = 1024;
pub(super) const MAX_QUEUES: usize = 64;
const MAX_PORTS: usize = 64;
/// What an interface without offloads does not offer: checksums, and with them segmentation.
const OFFLOADS: u64 = feature::CSUM | feature::GUEST_CSUM;

pub(super) fn io_thread(
    thread: &config::IoThread,
    sandbox: &Sandbox,
) -> Result<Arc<IoThread>, BuildError> {
    let allowed = thread.affinity.clone();
    let confine = sandbox.entering(Kind::Io);
    let prepare = move || cpus::pin(&allowed).and_then(|()| confine());
    IoThread::spawn(&thread.name, prepare)
        .map_err(|source| BuildError::Thread { name: thread.name.clone(), source })
}

pub(super) fn build(
    site: &mut Site<'_>,
    buses: &Buses,
    sandbox: &Sandbox,
) -> Result<(), BuildError> {
    for device in &site.config.pci {
        if let Some(built) = virtio_device(site, device, sandbox)? {
            plug(site, buses, device, built)?;
        }
    }
    Ok(())
}

/// The device model; none for what is no virtio device.
pub(super) fn virtio_device(
    site: &mut Site<'_>,
    device: &PciDevice,
    sandbox: &Sandbox,
) -> Result<Option<Box<dyn VirtioDevice>>, BuildError> {
    let id = &device.id;
    Ok(Some(match &device.kind {
        PciKind::RootPort(_)
        | PciKind::Watchdog(_)
        | PciKind::Video(_)
        | PciKind::Ahci(_)
        | PciKind::Ide(_)
        | PciKind::Nvme(_) => {
            return Ok(None);
        }
        PciKind::Blk(disk) => Box::new(block(site, id, disk)?),
        PciKind::Net(net) => Box::new(network(site, id, net)?),
        PciKind::Rng(rng) => Box::new(entropy(site, id, rng)?),
        PciKind::Console(console) => Box::new(self::console(site, id, console)?),
        PciKind::Vsock(vsock) => Box::new(self::vsock(site, id, vsock, sandbox)?),
        PciKind::Input(input) => Box::new(self::input(site, id, input)?),
        PciKind::Balloon(balloon) => Box::new(balloon::build(site, id, balloon)?),
        PciKind::Scsi(host) => Box::new(scsi::build(site, id, host)?),
    }))
}

fn block(site: &mut Site<'_>, id: &str, blk: &config::Blk) -> Result<Block, BuildError> {
    let opened =
        disk::open(site, id, &blk.medium(), blk.queues.len(), queue_size(blk.queue_size)?)?;
    let block = Block::new(BlockSpec {
        disk: opened.clone(),
        threads: threads(site, &blk.queues)?,
        queue_size: queue_size(blk.queue_size)?,
        serial: blk.serial.clone(),
    });
    let (handle, grown, faults) = (block.handle(), block.handle(), disk::faults(site, id));
    let figures = move || disk::figures(handle.stats(), &faults);
    site.parts.blocks.push((id.to_owned(), Box::new(figures)));
    disk::may_grow(site, id, &opened, move |size| grown.resize(size));
    Ok(block)
}

fn network(site: &mut Site<'_>, id: &str, net: &config::Net) -> Result<Net, BuildError> {
    let threads = threads(site, &net.queues)?;
    let backends = match net.stream {
        Some(stream) => vec![self::stream(site, id, stream)?],
        None => taps(site, id, &net.taps)?,
    };
    if backends.len() != threads.len() {
        let reason = "each queue pair needs a tap of its own, and a stream has one";
        return Err(BuildError::config("number of taps", backends.len(), reason));
    }
    let offloads = net.offloads && net.stream.is_none();
    let taps = backends.clone();
    let size = queue_size(net.queue_size)?;
    let device = Net::new(NetConfig {
        mac: net.mac,
        mtu: net.mtu,
        link_up: net.link_up,
        rx_queue_size: size,
        tx_queue_size: size,
        without: if offloads { 0 } else { OFFLOADS },
        pairs: backends.into_iter().zip(threads).collect(),
    });
    let by_kernel = !net.vhost.is_empty();
    let device = if by_kernel { served(site, id, net, device, &taps)? } else { device };
    let (handle, link) = (device.handle(), device.handle());
    site.parts.announcements.add(id, device.announcer());
    handle.on_lost(tell_lost(id, &site.parts.notices));
    site.parts.links.insert(id.to_owned(), Box::new(move |up| link.set_link(up)));
    site.parts
        .interfaces
        .push((id.to_owned(), Box::new(move || traffic(&handle.stats(), by_kernel))));
    Ok(device)
}

/// The device with its pairs in the hands of the host's kernel.
fn served(
    site: &mut Site<'_>,
    id: &str,
    net: &config::Net,
    device: Net,
    taps: &[Arc<dyn PacketBackend>],
) -> Result<Net, BuildError> {
    if net.vhost.len() != net.taps.len() {
        let reason = "must be as many as there are taps";
        return Err(BuildError::config("number of vhost devices", net.vhost.len(), reason));
    }
    let mut pairs = Vec::with_capacity(taps.len());
    for (vhost, tap) in net.vhost.iter().zip(taps) {
        let (file, ram) = (site.files.take(*vhost)?, site.vm.ram().clone());
        let vhost = VhostNet::new(file, tap.clone(), ram).map_err(BuildError::device(id))?;
        pairs.push(Arc::new(vhost));
    }
    device.served_by(pairs).map_err(BuildError::device(id))
}

fn stream(site: &mut Site<'_>, id: &str, file: Fd) -> Result<Arc<dyn PacketBackend>, BuildError> {
    let stream = Stream::new(site.files.take(file)?).map_err(BuildError::device(id))?;
    Ok(Arc::new(stream))
}

fn taps(
    site: &mut Site<'_>,
    id: &str,
    taps: &[Fd],
) -> Result<Vec<Arc<dyn PacketBackend>>, BuildError> {
    let mut opened: Vec<Arc<dyn PacketBackend>> = Vec::with_capacity(taps.len());
    for tap in taps {
        let tap = Tap::new(site.files.take(*tap)?).map_err(BuildError::device(id))?;
        opened.push(Arc::new(tap));
    }
    Ok(opened)
}

fn traffic(stats: &NetStats, by_kernel: bool) -> InterfaceStatistics {
    InterfaceStatistics {
        by_kernel,
        receive_packets: stats.rx_packets,
        receive_bytes: stats.rx_bytes,
        receive_drops: stats.rx_dropped,
        transmit_packets: stats.tx_packets,
        transmit_bytes: stats.tx_bytes,
        transmit_drops: stats.tx_dropped,
    }
}

fn console(
    site: &mut Site<'_>,
    id: &str,
    console: &config::Console,
) -> Result<Console, BuildError> {
    let thread = thread(site, console.io_thread)?;
    let mut ports = Vec::new();
    for port in &console.ports {
        let number = usize::try_from(port.number).unwrap_or(usize::MAX);
        if number >= MAX_PORTS {
            return Err(BuildError::config("console port", number, "must be 0 to 63"));
        }
        if ports.len() <= number {
            ports.resize_with(number + 1, || None);
        }
        let failed = BuildError::device(&port.id);
        let chardev = match &port.name {
            Some(_) => Chardev::lossless(&port.id).map_err(failed)?,
            None => Chardev::new(&port.id).map_err(failed)?,
        };
        let chardev = chipset::chardev(site, chardev, &port.chardev, &thread)?;
        let config = PortConfig {
            name: port.name.clone(),
            console: port.name.is_none(),
            held_open: port.agent,
            backend: chardev.clone(),
        };
        if ports[number].replace(config).is_some() {
            return Err(BuildError::config("console port", number, "is given twice"));
        }
        let kind = match &port.name {
            None => ConsoleKind::Terminal,
            Some(_) => {
                chardev.on_guest_open(tell_channel(&port.id, &site.parts.notices));
                if port.agent { ConsoleKind::Agent } else { ConsoleKind::Channel }
            }
        };
        site.parts.consoles.insert(port.id.clone(), crate::console::Console::new(chardev, kind));
    }
    Console::new(ports, thread).map_err(BuildError::device(id))
}

fn entropy(site: &Site<'_>, id: &str, rng: &config::Rng) -> Result<Rng, BuildError> {
    let limit = rng.rate.map(|rate| RateLimit {
        bytes: rate.bytes,
        period: Duration::from_millis(rate.period.into()),
    });
    Rng::new(thread(site, rng.io_thread)?, limit).map_err(BuildError::device(id))
}

fn vsock(
    site: &mut Site<'_>,
    id: &str,
    vsock: &config::Vsock,
    sandbox: &Sandbox,
) -> Result<Vsock, BuildError> {
    let failed = || BuildError::device(id);
    match vsock.host {
        VsockHost::Kernel { vhost, io_thread } => {
            let device = site.files.take(vhost)?;
            let ram = site.vm.ram().clone();
            let backend = VhostVsock::new(device, vsock.cid, ram).map_err(failed())?;
            Vsock::new(vsock.cid, Arc::new(backend), thread(site, io_thread)?).map_err(failed())
        }
        VsockHost::Socket { listener } => {
            let sockets = Sockets::new(site.files.take(listener)?, vsock.cid).map_err(failed())?;
            let thread = match &site.parts.reserve.sockets {
                Some(thread) => thread.clone(),
                None => reserve::sockets(sandbox)?,
            };
            Ok(Vsock::through(vsock.cid, sockets, thread))
        }
    }
}

fn input(site: &mut Site<'_>, id: &str, input: &config::Input) -> Result<Input, BuildError> {
    let role = match input.role {
        config::InputRole::Keyboard => Role::Keyboard,
        config::InputRole::Mouse => Role::Mouse,
        config::InputRole::Tablet => Role::Tablet,
    };
    let device =
        Input::new(role, thread(site, input.io_thread)?).map_err(BuildError::device(id))?;
    // Before those of the board.
    site.parts.inputs.prefer(id, device.sink());
    Ok(device)
}

pub(super) fn queue_size(size: u16) -> Result<u16, BuildError> {
    if size.is_power_of_two() && size <= MAX_QUEUE_SIZE {
        return Ok(size);
    }
    Err(BuildError::config("queue size", size, "must be a power of two, at most 1024"))
}

/// An io thread for each queue.
fn threads(site: &Site<'_>, queues: &[usize]) -> Result<Vec<Arc<IoThread>>, BuildError> {
    if queues.is_empty() || queues.len() > MAX_QUEUES {
        let reason = "must be 1 to 64";
        return Err(BuildError::config("number of queues", queues.len(), reason));
    }
    queues.iter().map(|index| thread(site, *index)).collect()
}

fn plug(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    built: Box<dyn VirtioDevice>,
) -> Result<(), BuildError> {
    let function = function(site, buses, device, built)?;
    buses.plug(site, device.address, Arc::new(function))
}

/// The device as a PCI function, not yet in its place.
pub(super) fn function(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    built: Box<dyn VirtioDevice>,
) -> Result<VirtioPci, BuildError> {
    let messages = site.vm.messages();
    let rom = match &device.kind {
        PciKind::Net(net) => {
            net.rom.map(|rom| option_rom(site, device, rom, &*built)).transpose()?
        }
        _ => None,
    };
    let parts = PciParts {
        id: &device.id,
        ram: site.vm.ram().clone(),
        msi: &*messages,
        doorbells: site.vm.doorbells(),
        intx: Some(buses.interrupt(site, device.address)?),
        express: buses.port_type(device.address, site.map.platform)?,
        rom,
        on_broken: tell_broken(&device.id, &site.parts.notices),
    };
    VirtioPci::new(parts, built).map_err(BuildError::device(&device.id))
}

fn option_rom(
    site: &mut Site<'_>,
    device: &PciDevice,
    file: Fd,
    built: &dyn VirtioDevice,
) -> Result<OptionRom, BuildError> {
    let mut image = Vec::new();
    let file = site.files.take_file(file)?;
    file.take(OptionRom::MAX as u64 + 1)
        .read_to_end(&mut image)
        .map_err(BuildError::device(&device.id))?;
    let (vendor, id) = VirtioPci::ids(built.device_type());
    let rom = OptionRom::new(&image, vendor, id, &*site.vm.windows());
    rom.map_err(BuildError::device(&device.id))
}

/// The io thread that a definition names by its index.
pub(super) fn thread(site: &Site<'_>, index: usize) -> Result<Arc<IoThread>, BuildError> {
    let reason = "there is no io thread of that index";
    let found = site.parts.io_threads.get(index).cloned();
    found.ok_or_else(|| BuildError::config("io thread", index, reason))
}
