//! The definition that another host can take up (`dumpxml --migratable`), as libvirt writes it: without what was chosen
//! here for as long as the guest runs, and without the controllers that every libvirt adds by itself.

use xml::DomainDef;
use xml::device::chardev::CharType;
use xml::device::controller::{Controller, ControllerModel, ControllerType};
use xml::device::graphics::{Graphics, Listen, Vnc};

/// What `def`, which may be of a guest that runs, is elsewhere; `started` is what it was started from.
pub(crate) fn migratable(mut def: DomainDef, started: &DomainDef) -> DomainDef {
    let devices = &mut def.devices;
    let is_usb = |it: &&Controller| it.kind == ControllerType::Usb;
    let has_one_usb = devices.controllers.iter().filter(is_usb).count() == 1;
    devices.controllers.retain(|it| !(is_root(it) || has_one_usb && is_default_usb(it)));
    for channel in &mut devices.channels {
        let written =
            started.devices.channels.iter().find(|it| it.target.name == channel.target.name);
        if let (CharType::Unix, Some(written)) = (channel.kind, written) {
            channel.sources.clone_from(&written.sources);
        }
    }
    for (graphics, written) in devices.graphics.iter_mut().zip(&started.devices.graphics) {
        if let (Graphics::Vnc(vnc), Graphics::Vnc(written)) = (graphics, written) {
            forget_sockets(vnc, written);
        }
    }
    def
}

/// The bus of i440fx, with nothing said of it. That of q35 stays.
fn is_root(controller: &Controller) -> bool {
    controller.kind == ControllerType::Pci
        && controller.model == Some(ControllerModel::PciRoot)
        && controller.index.unwrap_or(0) == 0
        && controller.pcihole64.is_none()
        && controller.target.is_none()
}

fn is_default_usb(controller: &Controller) -> bool {
    controller.kind == ControllerType::Usb
        && matches!(controller.model, None | Some(ControllerModel::Piix3Uhci))
        && controller.index.unwrap_or(0) == 0
}

/// Sockets that the daemon placed, and addresses that it took from a network of this host.
fn forget_sockets(vnc: &mut Vnc, written: &Vnc) {
    if written.socket.is_none() {
        vnc.socket = None;
    }
    for listen in &mut vnc.listens {
        match listen {
            Listen::Socket(socket) if written.socket.is_none() => {
                let has =
                    |it: &Listen| matches!(it, Listen::Socket(own) if own.socket == socket.socket);
                if !written.listens.iter().any(has) {
                    socket.socket = None;
                }
            }
            Listen::Network(network) => {
                network.address = None;
                vnc.listen.clone_from(&written.listen);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(machine: &str, devices: &str) -> DomainDef {
        let xml = format!(
            "<domain type='kvm'><name>a</name><memory>1</memory><os><type machine='{machine}'>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        DomainDef::parse(&xml).unwrap().value
    }

    fn shown(machine: &str, live: &str, started: &str) -> String {
        migratable(def(machine, live), &def(machine, started)).to_xml()
    }

    #[test]
    fn controllers_that_every_libvirt_adds_are_left_out_and_others_stay() {
        let root = "<controller type='pci' index='0' model='pci-root'/>";
        let usb = "<controller type='usb' index='0' model='piix3-uhci'/>";
        assert!(!shown("pc", &format!("{root}{usb}"), root).contains("<controller"));
        let other = "<controller type='usb' index='1' model='ich9-ehci1'/>";
        let both = shown("pc", &format!("{usb}{other}"), "");
        assert!(both.contains("piix3-uhci") && both.contains("ich9-ehci1"), "{both}");
        let hole = "<controller type='pci' index='0' model='pci-root'><pcihole64 unit='KiB'>1</pcihole64></controller>";
        assert!(shown("pc", hole, hole).contains("pci-root"));
        let express = "<controller type='pci' index='0' model='pcie-root'/>";
        assert!(shown("q35", express, express).contains("pcie-root"));
    }

    #[test]
    fn sockets_of_this_host_are_left_out_and_those_that_were_asked_for_stay() {
        let channel = |path: &str| {
            format!(
                "<channel type='unix'>{path}<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            )
        };
        let placed = channel("<source mode='bind' path='/run/manor/a/agent'/>");
        assert!(!shown("q35", &placed, &channel("")).contains("/run/manor"));
        assert!(shown("q35", &placed, &placed).contains("/run/manor/a/agent"));

        let screen = |attribute: &str, own: &str| {
            format!("<graphics type='vnc'{attribute}><listen type='socket'{own}/></graphics>")
        };
        let path = " socket='/run/manor/a/vnc'";
        assert!(!shown("q35", &screen(path, path), &screen("", "")).contains("/run/manor"));
        assert!(
            shown("q35", &screen(path, path), &screen(path, path)).contains("/run/manor/a/vnc")
        );
        let network = |address: &str| {
            format!(
                "<graphics type='vnc'><listen type='network' network='lan'{address}/></graphics>"
            )
        };
        let told = shown("q35", &network(" address='10.0.0.1'"), &network(""));
        assert!(told.contains("network='lan'") && !told.contains("10.0.0.1"), "{told}");
    }
}
