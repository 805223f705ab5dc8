//! Libraries on top of libvirt's: Sys::Virt of Perl, libvirt's objects on D-Bus.

use super::super::test_driver::Driver;
use super::{on, programs, said};

#[test]
fn a_program_in_perl_drives_guests_and_volumes() {
    let Some(programs) = programs() else { return };
    let driver = Driver::new();
    driver.write("sys_virt.pl", include_str!("sys_virt.pl"));
    let told = said(on(&driver, &programs, &["perl", "sys_virt.pl", "qemu:///system"]));
    assert_eq!(
        told,
        "type: QEMU\nstarted: yes\nmemory: 65536\npaused by a user: yes\n\
         statistics: state.state cpu.time\nguests: perl test\nnetworks: default\n\
         sent: 4096\nvolume: 1048576\nerror: no domain\n"
    );
    assert_eq!(driver.virsh("list --all --name").out.trim(), "test");
}

/// The bus starts the daemon that puts libvirt on it when the first asks.
const ON_THE_BUS: &str = r"
ask() {
    dbus-send --session --print-reply=literal --dest=org.libvirt $*
}
ask /org/libvirt/QEMU org.libvirt.Connect.ListDomains uint32:0
guest=$(ask /org/libvirt/QEMU org.libvirt.Connect.DomainLookupByName string:test | tr -d ' ')
ask $guest org.libvirt.Domain.GetState uint32:0
ask $guest org.libvirt.Domain.Suspend
ask $guest org.libvirt.Domain.GetState uint32:0
ask $guest org.libvirt.Domain.Resume
ask /org/libvirt/QEMU org.libvirt.Connect.GetCapabilities | grep '<arch'
";

#[test]
fn guests_are_objects_on_dbus() {
    let Some(programs) = programs() else { return };
    let driver = Driver::new();
    let words = ["dbus-run-session", "sh", "-e", "-c", ON_THE_BUS];
    let told = said(on(&driver, &programs, &words));
    let words: Vec<_> = told.split_whitespace().collect();
    assert!(told.contains("/org/libvirt/QEMU/domain/_6695eb01_f6a4_8304"), "{told}");
    assert!(told.contains("x86_64"), "{told}");
    // State and reason before, and after: running, booted; paused, by a user.
    assert!(words.windows(2).any(|pair| pair == ["int32", "1"]), "{told}");
    assert!(words.windows(2).any(|pair| pair == ["int32", "3"]), "{told}");
    assert_eq!(driver.virsh("domstate test").out.trim(), "running");
}
