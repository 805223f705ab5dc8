//! The candidates' command lines: as alike as they can be.

use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;
use manor_tests::state::Peer;
use manor_tests::{Testbed, Xml, qemu};

use super::{BRIDGE, DISK, GUEST_MIB, INITRD, KERNEL, MAC, TAP};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Vmm {
    ManorMicrovm,
    Manor,
    Microvm,
    /// With libvirtd: its verbs are measured, not its guests
    Libvirt,
    Q35,
}

/// Those that run a guest by themselves.
pub(super) const ALONE: [Vmm; 4] = [Vmm::ManorMicrovm, Vmm::Manor, Vmm::Microvm, Vmm::Q35];

/// Those whose guests are saved and restored.
pub(super) const WITH_A_STATE: [Vmm; 3] = [Vmm::Manor, Vmm::Libvirt, Vmm::Q35];

/// What the guest is told to do and given.
pub(super) struct Guest {
    pub(super) words: String,
    pub(super) disk: bool,
    pub(super) net: bool,
}

impl Guest {
    fn definition(&self, machine: &str, index: usize) -> Xml {
        let mut xml = Xml::new(&format!("bench{index}"), &self.words);
        xml.machine = machine.into();
        xml.kernel = KERNEL.into();
        xml.initrd = INITRD.into();
        xml.memory_mib = GUEST_MIB;
        if self.disk {
            xml = xml.disk(DISK, "vda", "");
        }
        if self.net {
            xml = xml.bridge(BRIDGE, MAC, "");
        }
        xml
    }
}

impl Vmm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Vmm::ManorMicrovm => "manor microvm",
            Vmm::Manor => "manor q35",
            Vmm::Microvm => "microvm",
            Vmm::Libvirt => "libvirt q35",
            Vmm::Q35 => "q35",
        }
    }

    /// Of those whose guests are saved and restored.
    pub(super) fn peer(self) -> Option<Peer> {
        match self {
            Vmm::Manor => Some(Peer::Manor),
            Vmm::Libvirt => Some(Peer::Libvirt),
            Vmm::Q35 => Some(Peer::Qemu),
            Vmm::ManorMicrovm | Vmm::Microvm => None,
        }
    }

    /// `index` tells apart those that run at the same time.
    pub(super) fn command(
        self,
        host: &Testbed,
        guest: &Guest,
        index: usize,
    ) -> anyhow::Result<Vec<String>> {
        match self {
            Vmm::Manor => manor(host, "q35", guest, index),
            Vmm::ManorMicrovm => manor(host, "microvm", guest, index),
            // Without a clock the kernel polls it for seconds.
            Vmm::Microvm => Ok(qemu("microvm,rtc=on", "device", guest)),
            Vmm::Q35 => Ok(qemu("q35", "pci", guest)),
            Vmm::Libvirt => bail!("only `bench state` measures libvirt"),
        }
    }
}

fn manor(
    host: &Testbed,
    machine: &str,
    guest: &Guest,
    index: usize,
) -> anyhow::Result<Vec<String>> {
    let file = format!("/bench/{machine}-{index}.xml");
    host.write(&file, guest.definition(machine, index).text().as_bytes())?;
    Ok(vec!["manor".into(), "run".into(), file])
}

fn qemu(machine: &str, bus: &str, guest: &Guest) -> Vec<String> {
    let mut command = qemu::in_tree(Path::new("/mnt/qemu")).words().to_vec();
    let memory = format!("{GUEST_MIB}M");
    let command_line = guest.definition(machine, 0).command_line();
    command.extend(
        [
            "-M",
            machine,
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-smp",
            "1",
            "-m",
            &memory,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
            "-kernel",
            KERNEL,
            "-initrd",
            INITRD,
            "-append",
            &command_line,
        ]
        .map(str::to_owned),
    );
    if guest.disk {
        let device = format!("virtio-blk-{bus},drive=disk");
        let drive = format!("if=none,id=disk,format=raw,file={DISK}");
        command.extend(["-drive", &drive, "-device", &device].map(str::to_owned));
    }
    if guest.net {
        // Without vhost: the device in the VMM's own process, as Manor has it.
        let tap = format!("tap,id=net,ifname={TAP},script=no,downscript=no,vhost=off");
        let device = format!("virtio-net-{bus},netdev=net,mac={MAC}");
        command.extend(["-netdev", &tap, "-device", &device].map(str::to_owned));
        if bus == "pci" {
            // Else it looks for a boot ROM.
            if let Some(last) = command.last_mut() {
                last.push_str(",romfile=");
            }
        }
    }
    command
}
