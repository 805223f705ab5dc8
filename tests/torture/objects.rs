//! What is defined and started: domains of a few bytes, images, networks.

use api::types::{Definition, Start};

use super::rig::{MANOR, Rig, Trouble};

/// A domain of the rig: a disk in a qcow2 image, an interface in the network `lab`, two slots.
pub(crate) fn domain(rig: &Rig, name: &str, kernel: &str, disk: &str) -> String {
    let title = format!("does what {kernel} does");
    let kernel = rig.path(kernel).display().to_string();
    format!(
        "<domain type='kvm'><name>{name}</name><title>{title}</title>\
         <memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel></os>\
         <features><acpi/></features>\
         <devices>{disk}\
         <controller type='pci' index='1' model='pcie-root-port'/>\
         <controller type='pci' index='2' model='pcie-root-port'/>\
         <interface type='network'><source network='lab'/><model type='virtio'/></interface>\
         <serial type='pty'/></devices></domain>"
    )
}

pub(crate) fn disk(rig: &Rig, file: &str, target: &str) -> String {
    let path = rig.path("disks").join(file).display().to_string();
    format!(
        "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/>\
         <target dev='{target}' bus='virtio'/></disk>"
    )
}

/// An image as it begins.
pub(crate) fn image(rig: &Rig, file: &str) {
    let path = rig.path("disks").join(file);
    let _ = std::fs::remove_file(&path);
    let made = std::process::Command::new(MANOR)
        .args(["image", "create", "-f", "qcow2"])
        .arg(&path)
        .arg("1M")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

pub(crate) fn start(rig: &Rig, name: &str) -> Result<(), Trouble> {
    let how = Start { paused: false, reset_nvram: false, force_boot: false, force: false };
    rig.ask(rig.client.start(name, how))
}

pub(crate) fn define(rig: &Rig, xml: String) -> Result<(), Trouble> {
    rig.ask(rig.client.define(Definition { xml, cloud_init: None })).map(drop)
}

/// An isolated one.
pub(crate) fn network(name: &str, bridge: &str, third: u8) -> String {
    format!(
        "<network><name>{name}</name><bridge name='{bridge}' stp='off'/>\
         <ip address='10.{third}.0.1' netmask='255.255.255.0'>\
         <dhcp><range start='10.{third}.0.10' end='10.{third}.0.20'/></dhcp></ip></network>"
    )
}
