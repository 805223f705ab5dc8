//! Parts of a running domain's XML that are no part of its definition. People define what dumpxml of a running guest
//! printed, and the next start chooses these anew, as libvirt does.

use crate::device::chardev::{CharSource, CharType};
use crate::device::disk::BackingStore;
use crate::device::graphics::Graphics;
use crate::device::interface::Interface;
use crate::domain::DomainDef;
use crate::value::YesNo;

/// Aliases that users gave start so; others were made up at start.
const USER_ALIAS: &str = "ua-";
/// Taps that were named at start.
const CHOSEN_TAPS: &[&str] = &["vnet", "vif", "macvtap", "macvlan"];

impl DomainDef {
    pub(crate) fn forget_live_parts(&mut self) {
        self.forget_run();
        self.forget_aliases();
    }

    /// All of that but the names of devices: the guest is to go on with the same ones.
    pub fn forget_run(&mut self) {
        self.id = None;
        let devices = &mut self.devices;
        for disk in &mut devices.disks {
            disk.target.tray = None;
            disk.mirror = None;
            if let Some(source) = &mut disk.source {
                source.index = None;
            }
            forget_indices(disk.backing_store.as_mut());
        }
        devices.interfaces.iter_mut().for_each(forget_tap);
        for serial in devices.serials.iter_mut().chain(&mut devices.parallels) {
            forget_pty(serial.kind, &mut serial.sources);
            serial.tty = None;
        }
        for console in &mut devices.consoles {
            forget_pty(console.kind(), &mut console.sources);
            console.tty = None;
        }
        for channel in &mut devices.channels {
            forget_pty(channel.kind, &mut channel.sources);
            channel.target.state = None;
        }
        for graphics in &mut devices.graphics {
            match graphics {
                Graphics::Vnc(vnc) if vnc.autoport == Some(YesNo::Yes) => vnc.port = Some(-1),
                Graphics::Spice(spice) if spice.autoport == Some(YesNo::Yes) => {
                    (spice.port, spice.tls_port) = (None, None);
                }
                _ => {}
            }
        }
        if let Some(cid) = devices.vsock.as_mut().and_then(|vsock| vsock.cid.as_mut())
            && cid.auto == Some(YesNo::Yes)
        {
            cid.address = None;
        }
    }

    fn forget_aliases(&mut self) {
        let devices = &mut self.devices;
        let aliases = (devices.disks.iter_mut().map(|device| &mut device.alias))
            .chain(devices.controllers.iter_mut().map(|device| &mut device.alias))
            .chain(devices.interfaces.iter_mut().map(|device| &mut device.alias))
            .chain(devices.serials.iter_mut().map(|device| &mut device.alias))
            .chain(devices.parallels.iter_mut().map(|device| &mut device.alias))
            .chain(devices.consoles.iter_mut().map(|device| &mut device.alias))
            .chain(devices.channels.iter_mut().map(|device| &mut device.alias))
            .chain(devices.inputs.iter_mut().map(|device| &mut device.alias))
            .chain(devices.videos.iter_mut().map(|device| &mut device.alias))
            .chain(devices.watchdogs.iter_mut().map(|device| &mut device.alias))
            .chain(devices.mem_balloon.iter_mut().map(|device| &mut device.alias))
            .chain(devices.rngs.iter_mut().map(|device| &mut device.alias))
            .chain(devices.panics.iter_mut().map(|device| &mut device.alias))
            .chain(devices.vsock.iter_mut().map(|device| &mut device.alias));
        for alias in aliases {
            alias.take_if(|name| !name.starts_with(USER_ALIAS));
        }
    }
}

fn forget_indices(mut store: Option<&mut BackingStore>) {
    while let Some(layer) = store {
        layer.index = None;
        if let Some(source) = &mut layer.source {
            source.index = None;
        }
        store = layer.backing_store.as_deref_mut();
    }
}

fn forget_pty(kind: CharType, sources: &mut Vec<CharSource>) {
    if kind == CharType::Pty {
        sources.clear();
    }
}

fn forget_tap(interface: &mut Interface) {
    if let Some(target) = &mut interface.target {
        target.dev.take_if(|dev| CHOSEN_TAPS.iter().any(|prefix| dev.starts_with(prefix)));
        if target.dev.is_none() && target.managed.is_none() {
            interface.target = None;
        }
    }
}
