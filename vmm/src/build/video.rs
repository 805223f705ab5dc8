//! Step 6: the graphics card, or what stands in for one, and the screen that viewers see it on.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use devices::display::vga::{Model, Vga, VgaParts};
use devices::display::{Listener, Password, Ramfb, Scanout, Screen, Sharing, Terms, Tls, TlsParts};
use devices::io_thread::IoThread;
use devices::pci::PortType;
use vmm_protocol::config::{self, Fd, MachineConfig, PciDevice, PciKind, VideoModel};

use super::pci::Buses;
use super::{BuildError, Site};
use crate::kvm::Vm;
use crate::process::Files;
use crate::sandbox::{Kind, Sandbox};

/// Largest option ROM, bytes.
const MOST_ROM: u64 = 1 << 20;
/// Longest certificate or key, bytes: some thousand authorities.
const MOST_PEM: u64 = 4 << 20;

/// The graphics card of a configuration.
fn card(config: &MachineConfig) -> Option<(&PciDevice, &config::Video)> {
    config.pci.iter().find_map(|device| match &device.kind {
        PciKind::Video(video) => Some((device, video)),
        _ => None,
    })
}

/// Whether the board has a VGA, which firmware and kernels find at fixed places.
pub(super) fn has_vga(config: &MachineConfig) -> bool {
    card(config).is_some_and(|(_, video)| video.model == VideoModel::Vga)
}

/// Whether there is a screen at all, and with it a keyboard and a mouse.
pub(super) fn has_screen(config: &MachineConfig) -> bool {
    card(config).is_some() || config.ramfb.is_some()
}

/// Before the guest's memory is in use: leave the place where a VGA has its window.
pub(super) fn make_room(config: &MachineConfig, vm: &mut Vm) -> Result<(), BuildError> {
    if has_vga(config) {
        vm.cut(Vga::LEGACY_WINDOW)?;
    }
    Ok(())
}

pub(super) fn build(
    site: &mut Site<'_>,
    buses: &Buses,
    sandbox: &Sandbox,
) -> Result<(), BuildError> {
    let config = site.config;
    let cards = config.pci.iter().filter(|device| matches!(device.kind, PciKind::Video(_)));
    let cards = cards.count() + usize::from(config.ramfb.is_some());
    if cards > 1 {
        return Err(BuildError::config("graphics cards", cards, "there can be one"));
    }
    let (id, scanout): (_, Arc<dyn Scanout>) = match (card(config), &config.ramfb) {
        (Some((device, video)), _) => (&device.id, plugged(site, buses, device, video)?),
        (None, Some(ramfb)) => (&ramfb.id, self::ramfb(site, ramfb)),
        (None, None) if config.vnc.is_empty() => return Ok(()),
        (None, None) => {
            return Err(BuildError::config("VNC", "server", "there is no graphics card to show"));
        }
    };
    let input = site.parts.inputs.clone();
    let name = &site.config.identity.name;
    let failed = || BuildError::device(id);
    let screen = Screen::new(name, scanout, input.clone()).map_err(failed())?;
    for server in &site.config.vnc {
        listen(site, server, &screen)?;
    }
    let confine = sandbox.entering(Kind::Screen);
    let thread = IoThread::spawn("screen", confine)
        .map_err(|source| BuildError::Thread { name: "screen".to_owned(), source })?;
    let worker = screen.worker().and_then(|worker| thread.add(worker)).map_err(failed())?;
    // It works for as long as its thread does.
    drop(worker);
    site.parts.screens.insert(id.clone(), (screen, thread));
    Ok(())
}

/// firmware::build puts its file into fw_cfg.
fn ramfb(site: &mut Site<'_>, config: &config::Ramfb) -> Arc<Ramfb> {
    let ramfb = Ramfb::new(&config.id, site.vm.ram().clone());
    site.parts.components.push(ramfb.clone());
    site.parts.ramfb = Some(ramfb.clone());
    ramfb
}

/// A card with its ports and its window, on its bus.
fn plugged(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    video: &config::Video,
) -> Result<Arc<Vga>, BuildError> {
    let vga = vga(site, buses, device, video)?;
    for (base, len, ports) in vga.ports() {
        site.parts.buses.ports.insert(base, len, ports)?;
    }
    if let Some((base, len, window)) = vga.legacy_window() {
        site.parts.buses.mmio.insert(base, len, window)?;
    }
    buses.plug(site, device.address, vga.clone())?;
    Ok(vga)
}

pub(super) fn option_rom(
    files: &mut Files,
    id: &str,
    rom: Option<Fd>,
) -> Result<Option<Vec<u8>>, BuildError> {
    let Some(rom) = rom else { return Ok(None) };
    let mut image = Vec::new();
    let read = files.take_file(rom)?.take(MOST_ROM + 1).read_to_end(&mut image);
    read.map_err(BuildError::device(id))?;
    Ok(Some(image))
}

fn vga(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    video: &config::Video,
) -> Result<Arc<Vga>, BuildError> {
    let rom = option_rom(site.files, &device.id, video.rom)?;
    let express = buses.port_type(device.address, site.map.platform)?;
    Vga::new(VgaParts {
        id: &device.id,
        model: match video.model {
            VideoModel::Vga => Model::Vga,
            VideoModel::Bochs => Model::Bochs,
        },
        memory: video.memory,
        resolution: video.resolution,
        rom: rom.as_deref(),
        // On the root bus it is the conventional device that drivers have always found there.
        express: express.filter(|port| *port == PortType::Endpoint),
        mapper: &*site.vm.windows(),
    })
    .map_err(BuildError::device(&device.id))
}

fn listen(site: &mut Site<'_>, server: &config::Vnc, screen: &Screen) -> Result<(), BuildError> {
    let password = server.password.as_ref().map(|password| Password {
        text: password.text.clone(),
        // A time beyond what the clock can say never comes.
        valid_to: password
            .valid_to
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
    });
    let mut terms = Terms::new(&site.config.identity.name, password);
    terms.tls = server.tls.map(|files| tls(site, files)).transpose()?;
    let terms = Arc::new(terms);
    let sharing = match server.sharing {
        config::VncSharing::AllowExclusive => Sharing::AllowExclusive,
        config::VncSharing::ForceShared => Sharing::ForceShared,
        config::VncSharing::Ignore => Sharing::Ignore,
    };
    for fd in &server.listeners {
        let socket = site.files.take(*fd)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(BuildError::device("vnc"))?;
        screen.listen(Listener { socket, terms: terms.clone(), sharing });
    }
    Ok(())
}

fn tls(site: &mut Site<'_>, files: config::VncTls) -> Result<Tls, BuildError> {
    let mut read = |fd| -> Result<Vec<u8>, BuildError> {
        let mut text = Vec::new();
        let read = site.files.take_file(fd)?.take(MOST_PEM).read_to_end(&mut text);
        read.map_err(BuildError::device("vnc"))?;
        Ok(text)
    };
    let certificate = read(files.certificate)?;
    let key = read(files.key)?;
    let viewers = files.viewers.map(read).transpose()?;
    let parts = TlsParts { certificate: &certificate, key: &key, viewers: viewers.as_deref() };
    Tls::new(&parts).map_err(BuildError::device("VNC by TLS"))
}
