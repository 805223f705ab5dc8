//! Debian as an installer leaves it, by SeaBIOS and GRUB to its login prompt.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use manor_tests::testbed::Disk;
use manor_tests::{Testbed, firmware, installed, qemu};

use super::vmm::Vmm;

/// As [`manor_tests::testbed::Options::guest_disks`] names it.
const DISK: &str = "/dev/disk/debian";
pub(super) const GUEST_MIB: u64 = 512;
/// The last line of a boot; the prompt after it ends with none.
pub(super) const LOGIN: &str = "Debian GNU/Linux 12 guest ttyS0";
/// The generic kernel, its initramfs and systemd take more than a minute here.
pub(super) const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn disk() -> anyhow::Result<Disk> {
    Ok(Disk { name: "debian".into(), image: installed::debian()? })
}

pub(super) fn prepare(host: &Testbed) -> anyhow::Result<()> {
    host.put(&firmware::seabios()?, "/usr/share/seabios/bios-256k.bin")?;
    Ok(())
}

/// The boards that a BIOS starts. Each boot is ended at its prompt, so the next one of either
/// finds the file system in the same state.
pub(super) const VMMS: [Vmm; 2] = [Vmm::Manor, Vmm::Q35];

pub(super) fn command(vmm: Vmm, host: &Testbed) -> anyhow::Result<Vec<String>> {
    match vmm {
        Vmm::Manor => {
            host.write("/bench/installed.xml", definition().as_bytes())?;
            Ok(["manor", "run", "/bench/installed.xml"].map(str::to_owned).to_vec())
        }
        Vmm::Q35 => Ok(peer()),
        Vmm::Libvirt => bail!("only `bench state` measures libvirt"),
        Vmm::ManorMicrovm | Vmm::Microvm => bail!("a microvm starts from no disk"),
    }
}

fn definition() -> String {
    format!(
        "<domain type='kvm'>
  <name>installed</name>
  <memory unit='MiB'>{GUEST_MIB}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native'/>
      <source dev='{DISK}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <console type='pty'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"
    )
}

/// With the devices that Manor's has.
fn peer() -> Vec<String> {
    let mut command = qemu::in_tree(Path::new("/mnt/qemu")).words().to_vec();
    let memory = format!("{GUEST_MIB}M");
    let drive = format!("if=none,id=disk,format=raw,file={DISK},cache=none,aio=native");
    let words = "-M q35 -accel kvm -cpu host -smp 1 -nodefaults -no-user-config -display none \
                 -serial stdio -device virtio-blk-pci,drive=disk -device virtio-rng-pci";
    command.extend(words.split_whitespace().map(str::to_owned));
    command.extend(["-m", &memory, "-drive", &drive].map(str::to_owned));
    command
}
