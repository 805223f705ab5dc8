//! Debian as an installer leaves it on a disk, started by firmware, as its users start it.

use std::time::{Duration, Instant};

use anyhow::Result;
use manor_tests::testbed::{Disk, Options};
use manor_tests::{Testbed, firmware, installed, manor_binary};

use crate::rig::{Daemon, LONG, Shell};

/// The kernel and systemd take a minute here, a busy machine twice that.
const BOOT: Duration = Duration::from_secs(600);

/// How long the host outlives the last test.
const IDLE: Duration = Duration::from_secs(300);

/// A host of its own, because its disks are.
fn host(counted: bool) -> Result<Testbed> {
    // What takes long to make comes before the host, which does not wait for ever.
    let (manor, seabios) = (manor_binary()?, firmware::seabios()?);
    let [code, variables] = firmware::ovmf()?;
    let debian = Disk { name: "debian".into(), image: installed::debian()? };
    let name = if counted { installed::COUNTED_HOST } else { installed::HOST };
    let options = Options { guest_disks: vec![debian], counted, ..Options::named(name) };
    let host = Testbed::up(&Options { idle: IDLE, ..options })?;
    host.put(&manor, "/usr/bin/manor")?;
    host.put(&seabios, "/usr/share/seabios/bios-256k.bin")?;
    host.put(&code, "/usr/share/OVMF/OVMF_CODE_4M.fd")?;
    host.put(&variables, "/usr/share/OVMF/OVMF_VARS_4M.fd")?;
    host.write("/usr/share/qemu/firmware/60-edk2-x86_64.json", DESCRIPTOR.as_bytes())?;
    Ok(host)
}

/// As the package ovmf has it.
const DESCRIPTOR: &str = r#"{
    "interface-types": ["uefi"],
    "mapping": {
        "device": "flash",
        "executable": { "filename": "/usr/share/OVMF/OVMF_CODE_4M.fd", "format": "raw" },
        "nvram-template": { "filename": "/usr/share/OVMF/OVMF_VARS_4M.fd", "format": "raw" }
    },
    "targets": [{ "architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"] }],
    "features": ["acpi-s3", "amd-sev", "verbose-dynamic"]
}"#;

/// What `virt-install --import --print-xml` writes for such a disk, without its display.
fn definition(name: &str, machine: &str, disk: &str) -> String {
    format!(
        "<domain type='kvm'>
  <name>{name}</name>
  <uuid>0d8a7c1e-2b33-4f55-8a77-99bb1100ee22</uuid>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>
      <libosinfo:os id='http://debian.org/debian/12'/>
    </libosinfo:libosinfo>
  </metadata>
  <memory>786432</memory>
  <currentMemory>786432</currentMemory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='host-passthrough'/>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='pit' tickpolicy='delay'/>
    <timer name='hpet' present='no'/>
  </clock>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native'/>
      <source dev='/dev/disk/debian'/>
      {disk}
    </disk>
    <controller type='usb' model='qemu-xhci' ports='15'/>
    <console type='pty'/>
    <channel type='unix'>
      <source mode='bind'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"
    )
}

const VIRTIO: &str = "<target dev='vda' bus='virtio'/>";

#[test]
fn seabios_boots_an_installed_debian_which_reboots_and_powers_off() -> Result<()> {
    lives("virtio", "q35", VIRTIO, "/dev/vda3")
}

#[test]
#[ignore = "takes long: --all"]
fn debian_lives_on_the_board_of_an_older_pc() -> Result<()> {
    lives("pc", "pc", VIRTIO, "/dev/vda3")
}

#[test]
#[ignore = "takes long: --all"]
fn debian_lives_on_a_scsi_disk() -> Result<()> {
    lives("scsi", "q35", "<target dev='sda' bus='scsi'/>", "/dev/sda3")
}

#[test]
#[ignore = "takes long: --all"]
fn debian_lives_on_an_nvme_disk() -> Result<()> {
    lives("nvme", "q35", "<target dev='nvme0n1' bus='nvme'/>", "/dev/nvme0n1p3")
}

#[test]
#[ignore = "takes long: --all"]
fn debian_lives_on_a_sata_disk() -> Result<()> {
    lives("sata", "q35", "<target dev='sda' bus='sata'/>", "/dev/sda3")
}

#[test]
#[ignore = "takes long: --all"]
fn debian_lives_on_an_ide_disk() -> Result<()> {
    lives("ide", "pc", "<target dev='hda' bus='ide'/>", "/dev/sda3")
}

/// The host counts its time, so it takes four times as long as by a BIOS.
#[test]
#[ignore = "takes long: --all"]
fn debian_lives_by_uefi() -> Result<()> {
    let daemon = Daemon::start_on(host(true)?, "uefi")?;
    let xml = definition("uefi", "q35", VIRTIO).replace("<os>", "<os firmware='efi'>");
    daemon.define_text(&xml)?;
    lives_on(&daemon, "uefi", "/dev/vda3", 4 * BOOT)?;
    assert!(daemon.refused("undefine uefi")?.contains("--nvram"));
    daemon.manor("undefine uefi --nvram")?;
    daemon.host.sh("test -z \"$(ls /run/e2e/uefi/state/nvram)\"")?;
    Ok(())
}

/// From power-on to a login, through a reboot, to power-off by the guest.
fn lives(name: &str, machine: &str, disk: &str, root: &str) -> Result<()> {
    let daemon = Daemon::start_on(host(false)?, name)?;
    daemon.define_text(&definition(name, machine, disk))?;
    lives_on(&daemon, name, root, BOOT)
}

fn lives_on(daemon: &Daemon, name: &str, root: &str, boot: Duration) -> Result<()> {
    let begun = Instant::now();
    daemon.post(name, "start")?;
    let mut shell = Shell::log_in(daemon.api.console(name)?, boot)?;
    println!("{name}: {:.0} s from power-on to a shell", begun.elapsed().as_secs_f32());
    let uuid = shell.run("cat /sys/class/dmi/id/product_uuid")?;
    assert!(uuid.contains("0d8a7c1e-2b33-4f55-8a77-99bb1100ee22"), "{uuid}");
    let failed = shell.run("systemctl --failed --no-legend --plain; nproc")?;
    assert!(failed.ends_with("2\r\n"), "units have failed, or CPUs are missing: {failed}");
    assert!(shell.run("findmnt -no SOURCE /")?.contains(root), "not on {root}");
    shell.last("systemctl reboot")?;
    let mut shell = Shell::log_in(shell.console, boot)?;
    shell.last("systemctl poweroff")?;
    let off = daemon.api.await_state(name, "shut-off", 2 * LONG)?;
    assert_eq!(off["reason"], "shutdown", "{off}");
    Ok(())
}
