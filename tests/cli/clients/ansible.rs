//! Ansible's collection community.libvirt.

use super::super::test_driver::Driver;
use super::{on, said, userland};

#[test]
#[ignore = "takes long: --all"]
fn a_playbook_changes_each_thing_once() {
    let packages = ["ansible", "python3-libvirt", "python3-lxml"];
    let Some(ansible) = userland("client-ansible", &packages) else { return };
    let driver = Driver::new();
    driver.write("play.yml", include_str!("playbook.yml"));
    let directory = format!("directory={}", driver.home().display());
    let words = [
        "ansible-playbook",
        "--inventory=localhost,",
        "--connection=local",
        "--extra-vars=uri=qemu:///system ansible_python_interpreter=/usr/bin/python3",
        "--extra-vars",
        &directory,
        "play.yml",
    ];
    let told = said(on(&driver, &ansible, &words));
    assert!(told.contains("failed=0"), "{told}");
    assert_eq!(driver.virsh("list --all --name").out.trim(), "test");
}
