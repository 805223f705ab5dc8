//! Debian as an installer leaves it on a disk, started by firmware, as its users start it.

use std::time::{Duration, Instant};

use anyhow::Result;
use manor_tests::apt::Release;
use manor_tests::testbed::{Disk, Options};
use manor_tests::{Testbed, firmware, installed, manor_binary, testbed};

use crate::rig::{Daemon, LONG, Shell};

/// The kernel and systemd take a minute here, and twenty on a machine that is that busy.
const BOOT: Duration = Duration::from_secs(1800);

/// How long the host outlives the last test.
const IDLE: Duration = Duration::from_secs(300);

/// What an emulated host is for.
#[derive(Clone, Copy)]
struct For {
    name: &'static str,
    release: Release,
    uefi: bool,
}

const BIOS: For = For { name: installed::HOST, release: Release::Bookworm, uefi: false };
const UEFI: For = For { name: installed::UEFI_HOST, release: Release::Bookworm, uefi: true };
const TRIXIE: For = For { name: installed::TRIXIE_HOST, release: Release::Trixie, uefi: false };

/// A host of its own, because its disks are.
fn host(wanted: For) -> Result<Testbed> {
    // What takes long to make comes before the host, which does not wait for ever.
    let (manor, seabios) = (manor_binary()?, firmware::seabios_of(wanted.release)?);
    let [code, variables] = firmware::ovmf_of(wanted.release)?;
    let debian = Disk { name: "debian".into(), image: installed::debian_of(wanted.release)? };
    let cdrom = Disk { name: "packages".into(), image: installed::cdrom()? };
    let options = Options {
        guest_disks: vec![debian, cdrom],
        idle: IDLE,
        uefi: wanted.uefi,
        ..Options::named(wanted.name)
    };
    let host = Testbed::up(&options)?;
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

/// What virt-install 4.1 writes for a guest on q35: `virt-install --connect qemu:///system
/// --name debian --memory 768 --vcpus 2 --disk /dev/disk/debian,format=raw --import
/// --osinfo debian11 --network none --print-xml`, with and without `--boot uefi`; only the UUID is
/// chosen.
const BY_BIOS: &str = include_str!("virt-install/bios.xml");
const BY_UEFI: &str = include_str!("virt-install/uefi.xml");

/// The same for another place of the disk, with a CD-ROM.
fn definition(text: &str, name: &str, machine: &str, disk: &str) -> String {
    let cdrom = match machine {
        "pc" => "<target dev='hdc' bus='ide'/>",
        _ => "<target dev='sdc' bus='sata'/>",
    };
    let devices = format!(
        "<disk type='block' device='cdrom'><driver name='qemu' type='raw'/>\
         <source dev='/dev/disk/packages'/>{cdrom}<readonly/></disk></devices>"
    );
    let text = text
        .replace("<name>debian</name>", &format!("<name>{name}</name>"))
        .replace("machine=\"q35\"", &format!("machine=\"{machine}\""))
        .replace(VIRTIO, disk)
        .replace("</devices>", &devices);
    // That board has no such ports.
    match machine {
        "pc" => text.lines().filter(|line| !line.contains("pcie-root")).collect(),
        _ => text,
    }
}

const VIRTIO: &str = "<target dev=\"vda\" bus=\"virtio\"/>";

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

#[test]
#[ignore = "takes long: --all"]
fn debian_lives_by_uefi() -> Result<()> {
    if let Some(skip) = testbed::lacking_uefi()? {
        println!("{skip}");
        return Ok(());
    }
    let daemon = Daemon::start_on(host(UEFI)?, "uefi")?;
    daemon.define_text(&definition(BY_UEFI, "uefi", "q35", VIRTIO))?;
    daemon.post("uefi", "start")?;
    lives_on(&daemon, "uefi", "/dev/vda3", BOOT)?;
    assert!(daemon.refused("undefine uefi")?.contains("--nvram"));
    daemon.manor("undefine uefi --nvram")?;
    daemon.host.sh("test -z \"$(ls /run/e2e/uefi/state/nvram)\"")?;
    Ok(())
}

/// The emulated host's nested guests fail in what a newer kernel does with newer processors.
#[test]
#[ignore = "takes long: --all"]
fn debian_13_lives_on_a_virtio_disk() -> Result<()> {
    let daemon = Daemon::start_on(host(TRIXIE)?, "trixie")?;
    let cpu = "<cpu mode='custom' match='exact' check='none'><model>Nehalem</model></cpu>";
    let text = definition(BY_BIOS, "trixie", "q35", VIRTIO)
        .replace("<cpu mode=\"host-passthrough\"/>", cpu);
    daemon.define_text(&text)?;
    daemon.post("trixie", "start")?;
    lives_on(&daemon, "trixie", "/dev/vda3", BOOT)
}

/// From power-on to a login, through a reboot, to power-off by the guest, of what `manor create`
/// makes: it is gone in the end.
fn lives(name: &str, machine: &str, disk: &str, root: &str) -> Result<()> {
    let daemon = Daemon::start_on(host(BIOS)?, name)?;
    let file = format!("{}/{name}.xml", daemon.dir);
    daemon.host.write(&file, definition(BY_BIOS, name, machine, disk).as_bytes())?;
    daemon.manor(&format!("create {file}"))?;
    lives_on(&daemon, name, root, BOOT)
}

fn lives_on(daemon: &Daemon, name: &str, root: &str, boot: Duration) -> Result<()> {
    let begun = Instant::now();
    let mut shell = Shell::log_in(daemon.api.console(name)?, boot)?;
    println!("{name}: {:.0} s from power-on to a shell", begun.elapsed().as_secs_f32());
    let uuid = shell.run("cat /sys/class/dmi/id/product_uuid")?;
    assert!(uuid.contains("0d8a7c1e-2b33-4f55-8a77-99bb1100ee22"), "{uuid}");
    let failed = shell.run("systemctl --failed --no-legend --plain; nproc")?;
    assert!(failed.ends_with("2\r\n"), "units have failed, or CPUs are missing: {failed}");
    assert!(shell.run("findmnt -no SOURCE /")?.contains(root), "not on {root}");
    // A package manager syncs a great deal.
    let install = "mount -o ro /dev/sr0 /mnt && dpkg -i /mnt/hello_*.deb && hello";
    let installed = shell.run_within(install, boot)?;
    assert!(installed.contains("Hello, world!"), "{installed}");
    shell.last("systemctl reboot")?;
    let mut shell = Shell::log_in(shell.console, boot)?;
    shell.last("systemctl poweroff")?;
    let ended = Instant::now();
    while daemon.manor("list --name")?.contains(name) {
        assert!(ended.elapsed() < 2 * LONG, "it does not power off");
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
