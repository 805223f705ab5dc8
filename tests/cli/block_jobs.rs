//! Block jobs by virsh's verbs, with images that are checked and compared afterwards.

use manor_tests::nbd::{NbdServer, Place};

use super::guests::{self, ok};
use super::rig::{Rig, wait_for};

const MIB: usize = 1 << 20;

/// Bytes of no pattern that comes again within the disk.
pub(super) fn content() -> Vec<u8> {
    (0..4 * MIB as u32 / 4).flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect()
}

pub(super) fn path(rig: &Rig, name: &str) -> String {
    rig.path(name).display().to_string()
}

/// An empty overlay of an image.
pub(super) fn overlay(rig: &Rig, name: &str, below: &str, format: &str) {
    let (name, below) = (path(rig, name), path(rig, below));
    ok(rig, &["image", "create", "-f", "qcow2", "-b", &below, "-F", format, &name]);
}

/// The guest has this image as its disk `vda`.
pub(super) fn define(rig: &Rig, image: &str) {
    guests::write_echo_again(
        rig,
        &format!(
            "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/>\
         <target dev='vda' bus='virtio'/></disk>",
            path(rig, image)
        ),
    );
    ok(rig, &["define", "disk.xml"]);
}

/// What a guest reads of an image.
fn shown(rig: &Rig, format: &str, image: &str) -> Vec<u8> {
    let (image, raw) = (path(rig, image), path(rig, "shown.raw"));
    ok(rig, &["image", "convert", "-f", format, "-O", "raw", &image, &raw]);
    std::fs::read(raw).unwrap()
}

/// The images of the disk, the guest's own first; as it runs, or as it is stored.
fn chain(rig: &Rig, options: &[&str]) -> Vec<String> {
    let xml = ok(rig, &[&["dumpxml", "echo"], options].concat());
    let disk = xml.split("<disk ").nth(1).and_then(|rest| rest.split("</disk>").next()).unwrap();
    let files = disk.split("<source file='").skip(1);
    let names = files.filter_map(|rest| rest.split('\'').next()?.rsplit('/').next());
    names.map(str::to_owned).collect()
}

#[test]
fn a_chain_is_pulled_committed_and_copied_while_the_guest_runs() {
    let Some(rig) = guests::defined() else { return };
    rig.write("base.img", content());
    overlay(&rig, "middle.qcow2", "base.img", "raw");
    overlay(&rig, "top.qcow2", "middle.qcow2", "qcow2");
    define(&rig, "top.qcow2");
    let refused = rig.manor(["blockpull", "echo", "vda"]);
    assert!(refused.err.contains("is not running"), "{}", refused.err);
    ok(&rig, &["start", "echo"]);
    assert_eq!(chain(&rig, &[]), ["top.qcow2", "middle.qcow2", "base.img"]);

    // An image between goes.
    let done = ok(&rig, &["blockcommit", "echo", "vda", "--top", "vda[2]", "--wait"]);
    assert!(done.contains("Commit complete"), "{done}");
    assert_eq!(chain(&rig, &[]), ["top.qcow2", "base.img"]);
    let done = ok(&rig, &["blockpull", "echo", &path(&rig, "top.qcow2"), "--wait", "--verbose"]);
    assert!(done.contains("Pull complete"), "{done}");
    assert_eq!(chain(&rig, &[]), ["top.qcow2"]);
    let none = rig.manor(["blockjob", "echo", "vda"]);
    assert!(none.err.contains("No current block job for vda"), "{}", none.err);

    // What is written, and what the definition names, is the copy.
    let copy = path(&rig, "copy.qcow2");
    let done = ok(&rig, &["blockcopy", "echo", "vda", &copy, "--pivot"]);
    assert!(done.contains("Successfully pivoted"), "{done}");
    assert_eq!((chain(&rig, &[]), chain(&rig, &["--inactive"])).0, ["copy.qcow2"]);
    assert_eq!(chain(&rig, &["--inactive"]), ["copy.qcow2"]);
    let there = rig.manor(["blockcopy", "echo", "vda", &copy]);
    assert!(there.err.contains("copy.qcow2"), "{}", there.err);
    ok(&rig, &["destroy", "echo"]);
    for image in ["top.qcow2", "copy.qcow2"] {
        ok(&rig, &["image", "check", "-f", "qcow2", &path(&rig, image)]);
        assert!(shown(&rig, "qcow2", image) == content(), "{image}");
    }
    let info = ok(&rig, &["image", "info", "-f", "qcow2", &path(&rig, "top.qcow2")]);
    assert!(!info.contains("backing"), "{info}");
}

#[test]
fn an_active_commit_is_pivoted_and_what_is_left_out_is_removed() {
    let Some(rig) = guests::defined() else { return };
    rig.write("base.img", content());
    overlay(&rig, "top.qcow2", "base.img", "raw");
    define(&rig, "top.qcow2");
    ok(&rig, &["start", "echo"]);
    let passive = rig.manor(["blockcommit", "echo", "vda"]);
    assert!(passive.err.contains("say active"), "{}", passive.err);
    let kept = ok(&rig, &["blockcommit", "echo", "vda", "--keep-overlay"]);
    assert!(kept.contains("overlay image kept"), "{kept}");
    assert_eq!(chain(&rig, &[]), ["top.qcow2", "base.img"]);
    let done = ok(&rig, &["blockcommit", "echo", "vda", "--active", "--pivot", "--delete"]);
    assert!(done.contains("Successfully pivoted"), "{done}");
    assert_eq!(chain(&rig, &[]), ["base.img"]);
    assert!(!rig.path("top.qcow2").exists());
    // The base is the guest's, and locked as such.
    let refused = rig.manor(["image", "resize", "-f", "raw", &path(&rig, "base.img"), "5M"]);
    assert!(refused.err.contains("in use"), "{}", refused.err);
    ok(&rig, &["destroy", "echo"]);
    ok(&rig, &["start", "echo"]);
    assert_eq!(chain(&rig, &[]), ["base.img"]);
    ok(&rig, &["destroy", "echo"]);
    assert!(std::fs::read(rig.path("base.img")).unwrap() == content());
}

#[test]
fn a_block_job_outlives_the_daemon_and_the_next_one_ends_it() {
    let Some(mut rig) = guests::defined() else { return };
    rig.write("base.img", content());
    overlay(&rig, "top.qcow2", "base.img", "raw");
    define(&rig, "top.qcow2");
    ok(&rig, &["start", "echo"]);
    let copy = path(&rig, "copy.raw");
    let slow = ["--bandwidth", "100000", "--bytes", "--format", "raw"];
    let started = ok(&rig, &[&["blockcopy", "echo", "vda", &copy], &slow[..]].concat());
    assert_eq!(started.trim(), "Block Copy started");
    let early = rig.manor(["blockjob", "echo", "vda", "--pivot"]);
    assert!(early.err.contains("not ready"), "{}", early.err);
    rig.end_daemon("KILL");
    rig.start_daemon();
    let mut found = String::new();
    wait_for("the job", || {
        found = rig.manor(["blockjob", "echo", "vda", "--bytes"]).out;
        found.contains("Block Copy: [")
    });
    assert!(found.contains("Bandwidth limit: 100000 bytes/s"), "{found}");
    let saved = rig.manor(["managedsave", "echo"]);
    assert!(saved.err.contains("block job"), "{}", saved.err);
    ok(&rig, &["blockjob", "echo", "vda", "--bandwidth", "0"]);
    wait_for("both sides to be the same", || {
        rig.manor(["blockjob", "echo", "vda"]).out.contains("[100 %]")
    });
    // It becomes ready and is ended while nobody looks.
    ok(&rig, &["blockjob", "echo", "vda", "--pivot"]);
    assert_eq!((chain(&rig, &[]), chain(&rig, &["--inactive"])).1, ["copy.raw"]);
    assert_eq!(chain(&rig, &[]), ["copy.raw"]);

    // Another daemon knows of no job that was aborted.
    let other = path(&rig, "other.raw");
    ok(&rig, &[&["blockcopy", "echo", "vda", &other], &slow[..]].concat());
    ok(&rig, &["blockjob", "echo", "vda", "--abort"]);
    assert_eq!(chain(&rig, &[]), ["copy.raw"]);
    // A guest that is killed in the middle starts again with what it had.
    ok(&rig, &[&["blockcopy", "echo", "vda", &path(&rig, "third.raw")], &slow[..]].concat());
    ok(&rig, &["destroy", "echo"]);
    ok(&rig, &["start", "echo"]);
    assert_eq!(chain(&rig, &[]), ["copy.raw"]);
    ok(&rig, &["destroy", "echo"]);
    assert!(std::fs::read(rig.path("copy.raw")).unwrap() == content());
}

#[test]
fn an_image_that_another_domain_has_is_not_written_to() {
    let Some(rig) = guests::defined() else { return };
    rig.write("base.img", content());
    overlay(&rig, "top.qcow2", "base.img", "raw");
    overlay(&rig, "other.qcow2", "base.img", "raw");
    define(&rig, "top.qcow2");
    let xml = std::fs::read_to_string(rig.path("disk.xml")).unwrap();
    let uuid = uuid::Uuid::new_v4().to_string();
    let from = xml.find("<uuid>").unwrap() + 6;
    let xml = xml.replace(&xml[from..from + 36], &uuid);
    let xml = xml.replace("<name>echo", "<name>other").replace("top.qcow2", "other.qcow2");
    rig.write("other.xml", xml);
    ok(&rig, &["define", "other.xml"]);
    ok(&rig, &["start", "echo"]);
    ok(&rig, &["start", "other"]);
    let refused = rig.manor(["blockcommit", "echo", "vda", "--active"]);
    assert!(refused.err.contains("of domain \"other\", too"), "{}", refused.err);
    ok(&rig, &["blockpull", "echo", "vda", "--wait"]);
    for domain in ["echo", "other"] {
        ok(&rig, &["destroy", domain]);
    }
}

#[test]
fn a_disk_moves_onto_an_nbd_server() {
    let Some(mut rig) = guests::defined() else { return };
    rig.write("base.img", content());
    overlay(&rig, "top.qcow2", "base.img", "raw");
    define(&rig, "top.qcow2");
    ok(&rig, &["start", "echo"]);
    rig.write("there", vec![0xff; 4 * MIB]);
    let (image, socket) = (rig.path("there"), rig.path("nbd.sock"));
    let disk = |export: &str| {
        format!(
            "<disk type='network'><driver type='raw'/><source protocol='nbd' name='{export}'>\
             <host transport='unix' socket='{}'/></source></disk>",
            socket.display()
        )
    };
    rig.write("to.xml", disk("disk"));
    rig.write("other.xml", disk("other"));
    let unreachable = rig.manor(["blockcopy", "echo", "vda", "--xml", "to.xml"]);
    assert!(unreachable.err.contains("cannot be reached"), "{}", unreachable.err);
    let place = Place::Unix(socket.clone());
    let server = NbdServer::start(&image, &place, None).unwrap();
    let other = rig.manor(["blockcopy", "echo", "vda", "--xml", "other.xml"]);
    assert!(other.err.contains("has no export \"other\""), "{}", other.err);
    // A copy that is let go of leaves the disk in its files.
    ok(&rig, &["blockcopy", "echo", "vda", "--xml", "to.xml", "--finish"]);
    assert_eq!(chain(&rig, &[]), ["top.qcow2", "base.img"]);
    ok(&rig, &["blockcopy", "echo", "vda", "--xml", "to.xml", "--wait"]);
    let live = ok(&rig, &["dumpxml", "echo"]);
    assert!(live.contains("<mirror type='network' job='copy' ready='yes'>"), "{live}");
    rig.end_daemon("KILL");
    rig.start_daemon();
    wait_for("the job", || rig.manor(["blockjob", "echo", "vda"]).out.contains("[100 %]"));
    ok(&rig, &["blockjob", "echo", "vda", "--pivot"]);
    for inactive in [&["dumpxml", "echo"][..], &["dumpxml", "echo", "--inactive"]] {
        let xml = ok(&rig, inactive);
        assert!(xml.contains("protocol='nbd'") && !xml.contains("top.qcow2"), "{xml}");
    }
    assert!(std::fs::read(&image).unwrap() == content());
    let refused = rig.manor(["blockpull", "echo", "vda"]);
    assert!(refused.err.contains("has no file"), "{}", refused.err);
    let connected =
        |rig: &Rig| ok(rig, &["domstats", "--block", "echo"]).contains("block.0.connected=yes\n");
    assert!(connected(&rig));
    // It has its server again as any disk that was there from the start.
    server.kill();
    wait_for("the loss", || !connected(&rig));
    let server = NbdServer::start(&image, &place, None).unwrap();
    wait_for("the server", || connected(&rig));
    ok(&rig, &["destroy", "echo"]);
    ok(&rig, &["start", "echo"]);
    ok(&rig, &["destroy", "echo"]);
    server.kill();
}
