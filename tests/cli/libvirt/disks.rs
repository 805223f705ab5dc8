//! What virsh does to what guests store: pools and volumes, block jobs, snapshots, backups.

use manor_tests::libvirt::Clients;

use super::super::rig::{Outcome, wait_for};
use super::Libvirt;

#[test]
fn virsh_keeps_pools_and_volumes() {
    let libvirt = Libvirt::new();
    libvirt.make_pool();
    assert!(libvirt.ok("pool-list --all").contains("images   active   no"));
    assert!(libvirt.ok("pool-info images").contains("State:          running"));
    libvirt.ok("pool-autostart images");
    assert_eq!(libvirt.ok("vol-create-as images a.img 1M"), "Vol a.img created");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    libvirt.rig.write("content", &content[..1 << 20]);
    libvirt.ok("vol-upload a.img content --pool images");
    libvirt.ok("vol-download a.img back --pool images");
    assert!(std::fs::read(libvirt.rig.path("back")).unwrap() == content[..1 << 20]);
    libvirt.ok("vol-download a.img part --pool images --offset 4096 --length 10");
    assert_eq!(std::fs::read(libvirt.rig.path("part")).unwrap(), content[4096..4106]);
    // A file with a hole in it, by way of holes.
    let holed = std::fs::File::create(libvirt.rig.path("holed")).unwrap();
    holed.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holed, b"end", (1 << 20) - 3).unwrap();
    libvirt.ok("vol-upload a.img holed --pool images --sparse");
    libvirt.ok("vol-download a.img back --pool images --sparse");
    let back = std::fs::read(libvirt.rig.path("back")).unwrap();
    assert!(back == std::fs::read(libvirt.rig.path("holed")).unwrap());
    libvirt.ok("vol-clone a.img b.img --pool images");
    libvirt.ok("vol-resize b.img 2M --pool images");
    assert!(libvirt.ok("vol-info b.img --pool images").contains("Capacity:       2.00 MiB"));
    libvirt.ok("vol-wipe b.img --pool images");
    assert!(libvirt.ok("vol-list images").contains("b.img"));
    let exists = libvirt.refused("vol-create-as images a.img 1M");
    assert!(exists.contains("storage volume exists already"), "{exists}");
    libvirt.ok("vol-delete a.img --pool images");
    let gone = libvirt.refused("vol-info a.img --pool images");
    assert!(gone.contains("Storage volume not found"), "{gone}");
    libvirt.ok("pool-destroy images");
    libvirt.ok("pool-undefine images");
    assert!(libvirt.refused("pool-info images").contains("Storage pool not found"));
}

#[test]
fn virsh_commits_pulls_and_copies_and_hears_of_it() {
    use super::super::block_jobs::{content, define, overlay, path};
    let Some(libvirt) = Libvirt::with_guest() else { return };
    libvirt.rig.write("base.img", content());
    overlay(&libvirt.rig, "top.qcow2", "base.img", "raw");
    define(&libvirt.rig, "top.qcow2");
    libvirt.ok("start echo");
    let copy = path(&libvirt.rig, "copy.qcow2");
    // Both ways that a copy can be asked for.
    let left = format!("blockcopy echo vda {copy} --wait --finish --transient-job");
    assert!(libvirt.ok(&left).contains("Successfully copied"));
    std::fs::remove_file(&copy).unwrap();
    libvirt.ok(&format!("blockcopy echo vda {copy} --shallow --bandwidth 1000"));
    // It has the words for people on both streams.
    let info = || {
        let Outcome { out, err, .. } = libvirt.virsh("blockjob echo vda");
        out + &err
    };
    assert!(info().contains("Block Copy: ["), "{}", info());
    assert!(info().contains("1000.000 MiB/s"), "{}", info());
    libvirt.ok("blockjob echo vda --abort");
    assert!(info().contains("No current block job"), "{}", info());
    let done = libvirt.ok("blockcommit echo vda --active --wait --pivot --verbose");
    assert!(done.contains("Successfully pivoted"), "{done}");
    assert!(libvirt.ok("domblklist echo").contains("base.img"));
    libvirt.ok("destroy echo");

    define(&libvirt.rig, "top.qcow2");
    libvirt.ok("start echo");
    assert!(libvirt.ok("blockpull echo vda --wait").contains("Pull complete"));
    assert!(!libvirt.ok("dumpxml echo").contains("base.img"));
    libvirt.ok("destroy echo");
}

#[test]
fn virsh_moves_a_disk_onto_an_nbd_server() {
    use super::super::block_jobs::{content, define, overlay};
    use manor_tests::nbd::{NbdServer, Place};
    let Some(libvirt) = Libvirt::with_guest() else { return };
    libvirt.rig.write("base.img", content());
    overlay(&libvirt.rig, "top.qcow2", "base.img", "raw");
    define(&libvirt.rig, "top.qcow2");
    libvirt.ok("start echo");
    libvirt.rig.write("there", vec![0xff; content().len()]);
    let (image, socket) = (libvirt.rig.path("there"), libvirt.rig.path("nbd.sock"));
    let disk = format!(
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/>\
         <source protocol='nbd' name='disk'><host transport='unix' socket='{}'/></source>\
         <target dev='vda' bus='virtio'/></disk>",
        socket.display()
    );
    libvirt.rig.write("to.xml", disk);
    let copy = "blockcopy echo vda --xml to.xml --reuse-external --wait --pivot --transient-job";
    let unreachable = libvirt.refused(copy);
    assert!(unreachable.contains("cannot be reached"), "{unreachable}");
    let _server = NbdServer::start(&image, &Place::Unix(socket), None).unwrap();
    assert!(libvirt.ok(copy).contains("Successfully pivoted"));
    let live = libvirt.ok("dumpxml echo");
    assert!(live.contains("protocol='nbd' name='disk'") && !live.contains("top.qcow2"), "{live}");
    assert!(std::fs::read(&image).unwrap() == content());
    libvirt.ok("destroy echo");
}

#[test]
fn virsh_keeps_a_guest_as_it_was_and_goes_back_to_it() {
    let Some(libvirt) = Libvirt::with_guest() else { return };
    let image = libvirt.rig.path("web.qcow2").display().to_string();
    let made = libvirt.rig.manor(["image", "create", "-f", "qcow2", &image, "1M"]);
    assert_eq!(made.status, 0, "{}", made.err);
    libvirt.ok(&format!("attach-disk echo {image} vdb --subdriver qcow2 --config"));
    assert_eq!(libvirt.ok("snapshot-list echo --name"), "");
    let made = libvirt.ok("snapshot-create-as echo s1 --disk-only --atomic");
    assert_eq!(made, "Domain snapshot s1 created");
    libvirt.rig.write("s2.xml", "<domainsnapshot><name>s2</name></domainsnapshot>");
    let made = libvirt.ok("snapshot-create echo s2.xml --disk-only");
    assert!(made.starts_with("Domain snapshot s2 created from"), "{made}");
    assert!(libvirt.ok("domblklist echo").contains("web.s2"));
    assert_eq!(libvirt.ok("snapshot-list echo --tree"), "s1\n  |\n  +- s2");
    assert!(libvirt.ok("snapshot-list echo --parent").contains("shutoff   s1"));
    assert_eq!(libvirt.ok("snapshot-list echo --leaves --name"), "s2");
    assert_eq!(libvirt.ok("snapshot-list echo --from s1 --name"), "s2");
    assert_eq!(libvirt.ok("snapshot-parent echo s2"), "s1");
    assert_eq!(libvirt.ok("snapshot-current echo --name"), "s2");
    let info = libvirt.ok("snapshot-info echo s1");
    for line in ["Current:        no", "Location:       external", "Descendants:    1"] {
        assert!(info.contains(line), "{info}");
    }
    assert!(libvirt.ok("snapshot-dumpxml echo s1").contains("<domainsnapshot>"));
    assert_eq!(libvirt.ok("list --all --name --with-snapshot"), "echo");
    let refused = libvirt.refused("undefine echo");
    assert!(refused.contains("snapshots"), "{refused}");

    libvirt.ok("start echo");
    // virsh asks a second time with force, when the first answer says that it takes that.
    let risky = libvirt.refused("snapshot-revert echo s1 --running");
    assert!(risky.contains("revert requires force"), "{risky}");
    libvirt.ok("snapshot-revert echo s1 --running --force");
    assert_eq!(libvirt.ok("domstate echo"), "running");
    assert_eq!(libvirt.ok("snapshot-current echo --name"), "s1");
    libvirt.ok(
        "snapshot-create-as echo mem --memspec file=/nonexistent/mem --no-metadata --print-xml",
    );
    let file = libvirt.rig.path("mem").display().to_string();
    libvirt.ok(&format!("snapshot-create-as echo mem --memspec {file},snapshot=external"));
    libvirt.ok("snapshot-revert echo mem --paused");
    assert_eq!(libvirt.ok("domstate echo"), "paused");
    libvirt.ok("destroy echo");
    assert!(libvirt.refused("snapshot-info echo none").contains("snapshot"));
    assert_eq!(libvirt.ok("snapshot-delete echo s1 --children"), "Domain snapshot s1 deleted");
    assert_eq!(libvirt.ok("snapshot-list echo --name"), "");
    libvirt.ok("undefine echo");
}

#[test]
fn virsh_has_a_backup_pulled_and_keeps_checkpoints() {
    let Some(bench) = super::super::backup::Bench::new() else { return };
    bench.rig.write("pull.xml", bench.pull(""));
    let one =
        "<domaincheckpoint><name>one</name><disks><disk name='vda'/></disks></domaincheckpoint>";
    bench.rig.write("one.xml", one);
    let libvirt = Libvirt { rig: bench.rig, clients: Clients::fetched().unwrap() };
    assert_eq!(libvirt.ok("backup-begin echo pull.xml one.xml"), "Backup started");
    assert!(libvirt.ok("backup-dumpxml echo").contains("mode='pull'"));
    let info = libvirt.ok("domjobinfo echo");
    assert!(info.contains("Unbounded") && info.contains("Backup"), "{info}");
    assert_eq!(libvirt.ok("domjobabort echo"), "");
    wait_for("its end", || {
        libvirt.virsh("backup-dumpxml echo").err.contains("no backup under way")
    });
    let made = libvirt.ok("checkpoint-create-as echo two --diskspec vda");
    assert_eq!(made, "Domain checkpoint two created");
    let list = libvirt.ok("checkpoint-list echo --parent");
    assert!(list.contains("one") && list.contains("two"), "{list}");
    assert_eq!(libvirt.ok("checkpoint-list echo --leaves --name"), "two");
    assert_eq!(libvirt.ok("checkpoint-parent echo two"), "one");
    assert!(libvirt.ok("checkpoint-info echo one").contains("Descendants:    1"));
    assert!(libvirt.ok("checkpoint-dumpxml echo two").contains("<domain type='kvm'>"));
    assert_eq!(libvirt.ok("checkpoint-delete echo two"), "Domain checkpoint two deleted");
    let gone = libvirt.refused("checkpoint-info echo two");
    assert!(gone.contains("Domain checkpoint not found"), "{gone}");
    libvirt.ok("destroy echo");
}
