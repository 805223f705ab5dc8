//! The definition of a running domain: aliases, and where its consoles and interfaces are now.

use std::path::PathBuf;

use vmm_protocol::config::Image;
use xml::DomainDef;
use xml::device::chardev::{CharSource, CharType};
use xml::device::disk::{BackingStore, Disk, DiskSource, DiskType, StoreFormat};
use xml::device::graphics::Graphics;
use xml::device::{Interface, Vsock};

use super::{OpenDisk, OpenTap, OpenVsock, Resources, alias, display};

/// `def` with an alias for every device, as the machine's configuration needs it.
pub(crate) fn with_aliases(def: &DomainDef) -> DomainDef {
    let mut live = def.clone();
    alias::assign(&mut live);
    live
}

/// What dumpxml shows: the domain's number, the paths of ptys and sockets, the names of taps.
pub(crate) fn live(def: &DomainDef, id: u32, resources: &Resources) -> DomainDef {
    let mut live = with_aliases(def);
    live.id = i32::try_from(id).ok();
    let devices = &mut live.devices;
    for (serial, open) in devices.serials.iter_mut().zip(&resources.serials) {
        serial.tty = show(serial.kind, &mut serial.sources, open.path.as_ref());
    }
    let first = resources.serials.first();
    for (number, console) in devices.consoles.iter_mut().enumerate() {
        let own = resources.consoles.get(number);
        let open = if number == 0 && console.is_serial() { first } else { own };
        let kind = console.kind();
        console.tty = show(kind, &mut console.sources, open.and_then(|open| open.path.as_ref()));
    }
    let mut index = 0;
    for (disk, open) in devices.disks.iter_mut().zip(&resources.disks) {
        if let Some(open) = open {
            show_chain(disk, open, &mut index);
        }
    }
    for (channel, open) in devices.channels.iter_mut().zip(&resources.channels) {
        show(channel.kind, &mut channel.sources, open.path.as_ref());
    }
    for (interface, tap) in devices.interfaces.iter_mut().zip(&resources.interfaces) {
        show_tap(interface, tap);
    }
    for graphics in &mut devices.graphics {
        if let Graphics::Vnc(vnc) = graphics {
            display::show(vnc, &resources.vnc);
            break;
        }
    }
    if let (Some(vsock), Some(open)) = (&mut devices.vsock, resources.vsock) {
        show_vsock(vsock, open);
    }
    live
}

/// The address that the guest has there.
pub(super) fn show_vsock(vsock: &mut Vsock, open: OpenVsock) {
    vsock.cid.get_or_insert_default().address = Some(open.cid);
}

/// What an interface is on the host.
pub(super) fn show_tap(interface: &mut Interface, tap: &OpenTap) {
    if tap.stream.is_some() {
        return;
    }
    interface.target.get_or_insert_default().dev = Some(tap.name.clone());
    if let Some(source) = &mut interface.source
        && source.network.is_some()
    {
        source.bridge = tap.bridge.clone();
    }
}

/// The highest number that an image of the domain has.
pub(crate) fn last_index(def: &DomainDef) -> u32 {
    fn below(store: Option<&BackingStore>) -> u32 {
        let Some(store) = store else { return 0 };
        let own = store.source.as_ref().and_then(|source| source.index).or(store.index);
        own.unwrap_or(0).max(below(store.backing_store.as_deref()))
    }
    let disks = def.devices.disks.iter().map(|disk| {
        let own = disk.source.as_ref().and_then(|source| source.index).unwrap_or(0);
        own.max(below(disk.backing_store.as_ref()))
    });
    disks.max().unwrap_or(0)
}

/// The images below a disk's, each with a number by which block jobs would name it.
pub(super) fn show_chain(disk: &mut Disk, open: &OpenDisk, index: &mut u32) {
    if !matches!(open.image, Image::Chain(_)) {
        return;
    }
    let mut number = || {
        *index += 1;
        Some(*index)
    };
    if let Some(source) = &mut disk.source {
        source.index = number();
    }
    // Numbers go down the chain, and it is built from its end.
    let numbers: Vec<_> = open.below.iter().map(|_| number()).collect();
    let end = BackingStore::default();
    let chain = open.below.iter().zip(numbers).rev().fold(end, |below, (image, index)| {
        let device = image.path.starts_with("/dev");
        let mut source = DiskSource::default();
        *if device { &mut source.dev } else { &mut source.file } = Some(image.path.clone());
        BackingStore {
            kind: Some(if device { DiskType::Block } else { DiskType::File }),
            index,
            format: Some(StoreFormat { kind: image.format }),
            source: Some(source),
            backing_store: Some(Box::new(below)),
        }
    });
    disk.backing_store = Some(chain);
}

/// Put the path into the source; returns what stands in `tty=` too.
fn show(kind: CharType, sources: &mut Vec<CharSource>, path: Option<&PathBuf>) -> Option<PathBuf> {
    let path = path?;
    if sources.is_empty() {
        sources.push(CharSource::default());
    }
    for source in sources {
        source.path = Some(path.clone());
    }
    (kind == CharType::Pty).then(|| path.clone())
}
