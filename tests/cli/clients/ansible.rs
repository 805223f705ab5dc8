//! Ansible's collection community.libvirt: its modules, and its inventory of guests.

use std::path::Path;
use std::process::Command;

use manor_tests::apt::Release;
use manor_tests::userland::Userland;

use super::super::guests::{defined, state};
use super::super::rig::wait_for;
use super::super::test_driver::Driver;
use super::{at_system, had, on, said};

/// The package of all collections is large; this one is a few files of it.
const COLLECTION: (&str, &str) =
    ("ansible", "usr/lib/python3/dist-packages/ansible_collections/community/libvirt");

fn ansible() -> Option<Userland> {
    let packages = ["ansible-core", "python3-libvirt", "python3-lxml"];
    had(Userland::with_part(Release::Bookworm, "client-ansible", &packages, Some(COLLECTION)))
}

/// Modules run as children of the playbook's, without files of their own for each task.
const SETTINGS: [&str; 4] =
    ["env", "ANSIBLE_PIPELINING=1", "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOCALHOST_WARNING=0"];

/// What it prints when all has gone well.
fn played(command: impl FnOnce(&[&str]) -> Command, home: &Path, playbook: &str) -> String {
    let variables = format!(
        "uri=qemu:///system ansible_python_interpreter=/usr/bin/python3 directory={}",
        home.display()
    );
    let mut words = SETTINGS.to_vec();
    words.extend(["ansible-playbook", "--inventory=localhost,", "--connection=local"]);
    words.extend(["--extra-vars", &variables, playbook]);
    let told = said(command(&words));
    assert!(told.contains("failed=0") && told.contains("unreachable=0"), "{told}");
    told
}

#[test]
fn a_playbook_changes_each_thing_once() {
    let Some(ansible) = ansible() else { return };
    let driver = Driver::new();
    driver.write("play.yml", include_str!("playbook.yml"));
    played(|words| on(&driver, &ansible, words), driver.home(), "play.yml");
    assert_eq!(driver.virsh("list --all --name").out.trim(), "test");
    for list in ["net-list --all --name", "pool-list --all --name"] {
        let left = driver.virsh(list).out;
        assert!(
            left.contains("default") && !left.contains("lab") && !left.contains("vms"),
            "{left}"
        );
    }
}

/// A guest that runs is a host of Ansible's, with what libvirt tells of it.
const REAL_GUEST: &str = r#"
- hosts: localhost
  gather_facts: false
  tasks:
    - community.libvirt.virt: {name: echo, state: running}
      register: first
    - community.libvirt.virt: {name: echo, command: status}
      register: status
    - assert: {that: [first is changed, status.status == 'running']}
    - command: ansible-inventory --inventory {{ directory }}/guests.libvirt.yml --list
      register: inventory
    - set_fact: {guest: "{{ (inventory.stdout | from_json)._meta.hostvars.echo }}"}
    - assert:
        that:
          - guest.info.state == 'running' and guest.info.memory_kb == 32768
          - guest.ansible_connection == 'community.libvirt.libvirt_qemu'
          - "'<name>echo</name>' in guest.xml_desc and 'agent' in guest.guest_info.error"
    - community.libvirt.virt: {name: echo, state: shutdown}
"#;

#[test]
fn a_guest_is_started_found_and_shut_down() {
    let Some(ansible) = ansible() else { return };
    let Some(rig) = defined() else { return };
    rig.write("play.yml", REAL_GUEST);
    rig.write(
        "guests.libvirt.yml",
        "plugin: community.libvirt.libvirt\nuri: qemu:///system\ninventory_hostname: name\n",
    );
    let (home, socket) = (rig.directory.path(), rig.path("run/libvirt-sock"));
    played(|words| at_system(&ansible, home, &socket, words), home, "play.yml");
    wait_for("the guest to go", || state(&rig) == "shut off (shutdown)");
}
