//! virt-install: from a tree with a kernel, from a CD, with cloud-init.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use baremetal::Width;
use manor_tests::userland::Userland;

use super::super::guests::{ok, state_of};
use super::super::rig::{MANOR, Rig, wait_for};
use super::super::test_driver::Driver;
use super::{Running, at_system, on, programs, said};

/// A daemon on a host that `manor setup` has set up for installations, whatever is on this one.
const APART: &str =
    "mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/libvirt/boot && exec \"$@\"";

/// virt-install on a host without libvirt's daemon, or by somebody who may not write to its directory: what a guest
/// is installed from goes into a pool.
const NO_BOOT_DIRECTORY: &str = "rmdir /var/lib/libvirt/boot; exec virt-install --connect qemu:///system \
     --graphics none --noautoconsole \"$@\"";

/// Like Debian's archive, by which its release is told.
const TREE: &str = "tree/dists/bullseye/main/installer-amd64";

fn write_tree(root: &Path, kernel: &[u8], initrd: &[u8]) {
    let images = root.join(TREE).join("current/images");
    let netboot = images.join("netboot/debian-installer/amd64");
    std::fs::create_dir_all(&netboot).unwrap();
    std::fs::write(images.join("MANIFEST"), "netboot/ Debian's installer\n").unwrap();
    std::fs::write(netboot.join("linux"), kernel).unwrap();
    std::fs::write(netboot.join("initrd.gz"), initrd).unwrap();
}

fn apart(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", APART, "sh"]).arg(program);
    command
}

fn driver() -> Driver {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = apart(Path::new(MANOR));
    daemon
        .args(["daemon", "--driver", "test"])
        .current_dir(directory.path())
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null());
    Driver::started(directory, daemon)
}

fn installed(driver: &Driver, programs: &Userland, words: &str) -> String {
    let script = ["sh", "-c", NO_BOOT_DIRECTORY, "sh"];
    let words: Vec<_> = script.into_iter().chain(words.split_whitespace()).collect();
    said(on(driver, programs, &words))
}

fn dumpxml(driver: &Driver, line: &str) -> String {
    let shown = driver.virsh(&format!("dumpxml {line}"));
    assert_eq!(shown.status, 0, "{}", shown.err);
    shown.out
}

/// Says what it was started with, and ends.
fn installer() -> Vec<u8> {
    const MODULES: u32 = 16;
    const COMMAND_LINE: u32 = 24;
    const I8042: u16 = 0x64;
    const PAUSE: u32 = 100_000;
    baremetal::pvh(|asm| {
        asm.print("command line ");
        asm.eax_from_ebx().load_at_eax(COMMAND_LINE).load_at_eax(0).print_eax();
        asm.print(" initrd ");
        asm.eax_from_ebx().load_at_eax(MODULES).load_at_eax(0).load_at_eax(0).print_eax();
        asm.print("\n");
        // Nobody installs a system in no time.
        asm.repeat(PAUSE, |asm| {
            asm.read_port(Width::Byte, I8042);
        });
        asm.power_off();
    })
}

#[test]
fn a_guest_is_installed_from_a_tree_and_is_without_its_kernel_then() {
    let Some(programs) = programs() else { return };
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return println!("SKIP: /dev/kvm cannot be opened");
    }
    let mut rig = Rig::without_daemon();
    rig.write(
        "manor",
        format!("#!/bin/sh\nexec unshare --mount sh -c '{APART}' sh {MANOR} \"$@\"\n"),
    );
    rig.binary = rig.path("manor");
    std::fs::set_permissions(&rig.binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    rig.start_daemon();
    write_tree(rig.directory.path(), &installer(), b"INITRD");
    let [tree, disk, serial] =
        [TREE, "web.img", "serial"].map(|it| rig.path(it).display().to_string());
    let words = format!(
        "--name web --memory 64 --vcpus 1 --location {tree} --osinfo detect=on,require=on --network none \
         --extra-args quiet --disk {disk},size=0.01 --serial file,path={serial} --wait --noreboot \
         --check all=off"
    );
    let script = ["sh", "-c", NO_BOOT_DIRECTORY, "sh"];
    let words: Vec<_> = script.into_iter().chain(words.split_whitespace()).collect();
    let socket = rig.path("run/libvirt-sock");
    said(at_system(&programs, rig.directory.path(), &socket, &words));
    // "quie", "INIT".
    let told = std::fs::read_to_string(&serial).unwrap();
    assert_eq!(told.trim(), "command line 65697571 initrd 54494e49");
    assert_eq!(state_of(&rig, "web"), "shut off (shutdown)");
    let kept = ok(&rig, &["dumpxml", "web"]);
    assert!(kept.contains("<boot dev='hd'/>") && !kept.contains("<kernel>"), "{kept}");
    assert!(kept.contains("http://debian.org/debian/11"), "{kept}");
    assert_eq!(ok(&rig, &["vol-list", "boot-scratch"]).lines().count(), 3, "nothing is left of it");
}

#[test]
fn trees_are_fetched_and_an_initrd_takes_files() {
    let Some(programs) = programs() else { return };
    let driver = driver();
    write_tree(
        driver.home(),
        b"kernel",
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    driver.write("preseed.cfg", "d-i debian-installer/locale string C\n");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let server = ["python3", "-m", "http.server", "--bind", "127.0.0.1", &port.to_string()];
    let log = driver.home().join("server.log");
    let _server = Running::start(programs.command(driver.home(), &server), &log);
    wait_for("the server", || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    let location = format!("--location http://127.0.0.1:{port}/{TREE}");
    installed(
        &driver,
        &programs,
        &format!(
            "--name net --memory 1024 --disk size=1 --network network=default --osinfo debian11 {location} \
             --initrd-inject preseed.cfg --extra-args console=ttyS0"
        ),
    );
    let live = dumpxml(&driver, "net");
    for part in [
        "<kernel>/var/lib/libvirt/boot/virtinst-",
        "-linux</kernel>",
        "-initrd.gz</initrd>",
        "console=ttyS0</cmdline>",
        "<on_reboot>destroy</on_reboot>",
        "<model type='virtio'/>",
    ] {
        assert!(live.contains(part), "{part}: {live}");
    }
    let kept = dumpxml(&driver, "net --inactive");
    assert!(
        !kept.contains("<kernel>") && kept.contains("<on_reboot>restart</on_reboot>"),
        "{kept}"
    );
    // Answers that libosinfo's scripts know are put into the initrd, too.
    driver.write("password", "secret\n");
    installed(
        &driver,
        &programs,
        &format!(
            "--name alone --memory 1024 --disk size=1 --osinfo debian11 {location} --unattended \
             profile=jeos,admin-password-file=password,user-password-file=password,user-login=joe"
        ),
    );
    let live = dumpxml(&driver, "alone");
    assert!(live.contains("debconf/priority=critical"), "{live}");
}

#[test]
fn seeds_and_cds_are_there_for_the_first_boot_alone() {
    let Some(programs) = programs() else { return };
    let driver = driver();
    driver.write("user-data", "#cloud-config\nhostname: web\n");
    let guest = "--memory 1024 --disk size=1 --network network=default --osinfo debian11";
    installed(
        &driver,
        &programs,
        &format!("--name seeded {guest} --import --cloud-init user-data=user-data,disable=on"),
    );
    let live = dumpxml(&driver, "seeded");
    assert!(live.contains("-cloudinit.iso'/>"), "{live}");
    assert!(live.contains("<entry name='serial'>ds=nocloud</entry>"), "{live}");
    let kept = dumpxml(&driver, "seeded --inactive");
    assert!(kept.contains("device='cdrom'") && !kept.contains("cloudinit.iso"), "{kept}");
    let volumes = driver.virsh("vol-list boot-scratch").out;
    assert!(!volumes.contains("cloudinit"), "it is removed while the guest reads it: {volumes}");

    driver.write("cd.iso", "");
    let cd = driver.home().join("cd.iso").display().to_string();
    installed(&driver, &programs, &format!("--name pressed {guest} --cdrom {cd}"));
    let live = dumpxml(&driver, "pressed");
    let kept = dumpxml(&driver, "pressed --inactive");
    assert!(live.contains("<boot dev='cdrom'/>") && live.contains(&cd), "{live}");
    assert!(!kept.contains("<boot dev='cdrom'/>") && !kept.contains(&cd), "{kept}");

    let printed =
        installed(&driver, &programs, &format!("--name dry {guest} --import --print-xml"));
    assert!(printed.contains("<name>dry</name>"), "{printed}");
    let dry = installed(&driver, &programs, &format!("--name dry {guest} --import --dry-run"));
    assert!(dry.contains("Dry run completed successfully"), "{dry}");
    assert_ne!(driver.virsh("dominfo dry").status, 0);
}
