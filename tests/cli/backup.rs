//! Backups and checkpoints by the command line, of a guest on the local KVM, read by qemu-img.

use std::path::Path;

use manor_tests::qemu::{ImageTools, image_tools};

use super::guests::{defined, ok, state};
use super::rig::{Rig, wait_for};

const SIZE: usize = 1 << 20;

pub(super) struct Bench {
    pub(super) rig: Rig,
    tools: ImageTools,
}

impl Bench {
    /// A guest with a disk in qcow2 that has a pattern, and one in raw.
    pub(super) fn new() -> Option<Self> {
        let bench = Self { rig: defined()?, tools: image_tools().unwrap() };
        let rig = &bench.rig;
        rig.write("pattern", pattern());
        rig.write("raw.img", vec![3; 65536]);
        bench.img(&["convert", "-f", "raw", "-O", "qcow2", "pattern", "disk.qcow2"]);
        let disk = |format: &str, file: &str, target: &str| {
            let path = rig.path(file);
            format!(
                "<disk type='file'><driver name='qemu' type='{format}'/><source file='{}'/>\
                 <target dev='{target}' bus='virtio'/></disk>",
                path.display()
            )
        };
        let disks = disk("qcow2", "disk.qcow2", "vda") + &disk("raw", "raw.img", "vdb");
        let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
        rig.write("echo.xml", xml.replace("</devices>", &(disks + "</devices>")));
        ok(rig, &["define", "echo.xml"]);
        ok(rig, &["start", "echo"]);
        Some(bench)
    }

    fn img(&self, args: &[&str]) -> String {
        let mut command = self.tools.img.command();
        let output = command.args(args).current_dir(self.rig.path("")).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "qemu-img {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `<domainbackup mode='pull'>` of vda at a socket.
    pub(super) fn pull(&self, since: &str) -> String {
        let incremental = match since {
            "" => String::new(),
            since => format!("<incremental>{since}</incremental>"),
        };
        let (socket, scratch) = (self.rig.path("b.sock"), self.rig.path("scratch"));
        format!(
            "<domainbackup mode='pull'>{incremental}\
             <server transport='unix' socket='{}'/><disks><disk name='vda'>\
             <scratch file='{}'/></disk></disks></domainbackup>",
            socket.display(),
            scratch.display()
        )
    }

    fn jobs(&self) -> String {
        self.rig.manor(["job", "list"]).out
    }

    /// What ends a backup that is pulled.
    fn abort(&self) {
        assert!(ok(&self.rig, &["domjobinfo", "echo"]).contains("Operation:        Backup"));
        ok(&self.rig, &["domjobabort", "echo"]);
        wait_for("the job's end", || !self.jobs().contains("running"));
    }
}

fn pattern() -> Vec<u8> {
    (0..SIZE).map(|at| (at / 4096) as u8).collect()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn clients_pull_a_backup_also_when_the_daemon_has_died_meanwhile() {
    let Some(mut bench) = Bench::new() else { return };
    bench.rig.write("pull.xml", bench.pull(""));
    let one =
        "<domaincheckpoint><name>one</name><disks><disk name='vda'/></disks></domaincheckpoint>";
    bench.rig.write("one.xml", one);
    let begun = ok(&bench.rig, &["backup-begin", "echo", "pull.xml", "--checkpointxml", "one.xml"]);
    assert!(begun.contains("Backup started"), "{begun}");
    assert!(!bench.rig.path("scratch").exists(), "scratch files have no name");
    let twice = bench.rig.manor(["backup-begin", "echo", "pull.xml"]);
    assert!(twice.err.contains("is being backed up already"), "{}", twice.err);
    assert!(ok(&bench.rig, &["backup-dumpxml", "echo"]).contains("exportname='vda'"));
    let url = format!("nbd+unix:///vda?socket={}", bench.rig.path("b.sock").display());
    bench.img(&["convert", "-f", "raw", "-O", "raw", &url, "copy"]);
    assert!(read(&bench.rig.path("copy")) == pattern());

    bench.rig.end_daemon("KILL");
    bench.img(&["convert", "-f", "raw", "-O", "raw", &url, "copy2"]);
    assert!(read(&bench.rig.path("copy2")) == pattern());
    bench.rig.start_daemon();
    wait_for("the job of the next daemon", || bench.jobs().contains("running"));
    bench.abort();
    let none = bench.rig.manor(["backup-dumpxml", "echo"]);
    assert!(none.err.contains("no backup under way"), "{}", none.err);

    bench.rig.write("pull.xml", bench.pull("one"));
    ok(&bench.rig, &["backup-begin", "echo", "pull.xml"]);
    let options = format!(
        "driver=nbd,export=vda,server.type=unix,server.path={},\
         x-dirty-bitmap=qemu:dirty-bitmap:backup-vda",
        bench.rig.path("b.sock").display()
    );
    let map = bench.img(&["map", "--output=json", "--image-opts", &options]);
    assert!(!map.contains("\"data\": false"), "nothing was written since: {map}");
    bench.abort();
    bench.rig.write("pull.xml", bench.pull("other"));
    let unknown = bench.rig.manor(["backup-begin", "echo", "pull.xml"]);
    assert!(unknown.err.contains("no checkpoint \"other\"; it has one"), "{}", unknown.err);
    ok(&bench.rig, &["destroy", "echo"]);
}

#[test]
fn a_backup_is_pushed_into_files_and_restored_from_them() {
    let Some(bench) = Bench::new() else { return };
    let targets = ["vda.bak", "vdb.bak"].map(|name| bench.rig.path(name).display().to_string());
    let xml = format!(
        "<domainbackup><disks><disk name='vda'><target file='{}'/></disk>\
         <disk name='vdb'><driver type='raw'/><target file='{}'/></disk></disks></domainbackup>",
        targets[0], targets[1]
    );
    bench.rig.write("push.xml", &xml);
    let pushed = ok(&bench.rig, &["backup-begin", "echo", "push.xml", "--wait"]);
    assert!(pushed.contains("backed up"), "{pushed}");
    bench.img(&["check", "-q", "vda.bak"]);
    bench.img(&["convert", "-f", "qcow2", "-O", "raw", "vda.bak", "restored"]);
    assert!(read(&bench.rig.path("restored")) == pattern());
    assert!(read(&bench.rig.path("vdb.bak")) == [3; 65536]);
    // What is there is not written over.
    let there = bench.rig.manor(["backup-begin", "echo", "push.xml"]);
    assert!(there.status != 0 && there.err.contains("vda.bak"), "{}", there.err);
    assert!(!bench.rig.path("vda.bak.scratch").exists());
    ok(&bench.rig, &["destroy", "echo"]);
    let off = bench.rig.manor(["backup-begin", "echo", "push.xml"]);
    assert!(off.err.contains("is not running"), "{}", off.err);
}

#[test]
fn checkpoints_are_a_row_that_is_listed_described_and_deleted() {
    let Some(bench) = Bench::new() else { return };
    let rig = &bench.rig;
    let raw = rig.manor(["checkpoint-create", "echo"]);
    assert!(raw.err.contains("disk vdb unsupported for storage type raw"), "{}", raw.err);
    for name in ["one", "two"] {
        let made = ok(rig, &["checkpoint-create-as", "echo", name, "--diskspec", "vda"]);
        assert!(made.contains(&format!("Domain checkpoint {name} created")), "{made}");
    }
    assert_eq!(ok(rig, &["checkpoint-list", "echo", "--name"]).trim(), "one\ntwo");
    assert_eq!(ok(rig, &["checkpoint-parent", "echo", "two"]).trim(), "one");
    assert!(ok(rig, &["checkpoint-info", "echo", "two"]).contains("Current:        yes"));
    let xml = ok(rig, &["checkpoint-dumpxml", "echo", "two", "--no-domain", "--size"]);
    assert!(xml.contains("<disk name='vda' checkpoint='bitmap' bitmap='two' size='0'/>"), "{xml}");
    assert!(
        xml.contains("<disk name='vdb' checkpoint='no'/>") && !xml.contains("<domain "),
        "{xml}"
    );
    let twice = rig.manor(["checkpoint-create-as", "echo", "two", "--diskspec", "vda"]);
    assert!(twice.err.contains("has a checkpoint \"two\" already"), "{}", twice.err);
    // A saved guest finds its image as it left it, bitmaps and all.
    ok(rig, &["managedsave", "echo"]);
    ok(rig, &["start", "echo"]);
    assert_eq!(state(rig), "running (restored)");
    assert_eq!(ok(rig, &["checkpoint-list", "echo", "--name"]).trim(), "one\ntwo");
    // They outlive a run: the image has the bitmaps, the daemon the rest.
    ok(rig, &["destroy", "echo"]);
    let info = bench.img(&["info", "disk.qcow2"]);
    assert!(info.contains("name: one") && info.contains("name: two"), "{info}");
    assert!(!info.contains("in-use"), "{info}");
    // While it is off they are made and deleted in the image.
    ok(rig, &["checkpoint-create-as", "echo", "three", "--diskspec", "vda"]);
    let info = bench.img(&["info", "disk.qcow2"]);
    let flags = |name: &str| {
        let (before, _) = info.split_once(&format!("name: {name}\n")).expect(&info);
        before.rsplit("flags:").next().unwrap().contains("auto")
    };
    assert_eq!((flags("two"), flags("three")), (false, true), "{info}");
    ok(rig, &["checkpoint-delete", "echo", "three"]);
    let info = bench.img(&["info", "disk.qcow2"]);
    assert!(info.contains("name: two") && !info.contains("name: three"), "{info}");
    assert!(ok(rig, &["checkpoint-info", "echo", "two"]).contains("Current:        yes"));
    bench.img(&["check", "-q", "disk.qcow2"]);
    ok(rig, &["start", "echo"]);
    ok(rig, &["managedsave", "echo"]);
    let saved = rig.manor(["checkpoint-create-as", "echo", "four", "--diskspec", "vda"]);
    assert!(saved.err.contains("managedsave-remove"), "{}", saved.err);
    ok(rig, &["start", "echo"]);
    let deleted = ok(rig, &["checkpoint-delete", "echo", "two"]);
    assert!(deleted.contains("Domain checkpoint two deleted"), "{deleted}");
    assert!(ok(rig, &["checkpoint-info", "echo", "one"]).contains("Current:        yes"));
    ok(rig, &["destroy", "echo"]);
    let info = bench.img(&["info", "disk.qcow2"]);
    assert!(info.contains("name: one") && !info.contains("name: two"), "{info}");
    bench.img(&["check", "-q", "disk.qcow2"]);
    rig.write("one.xml", ok(rig, &["checkpoint-dumpxml", "echo", "one"]));
    ok(rig, &["checkpoint-delete", "echo", "one", "--metadata"]);
    assert_eq!(ok(rig, &["checkpoint-list", "echo", "--name"]).trim(), "");
    // What the image has may be told of again, and is looked for.
    let again = ["checkpoint-create", "echo", "one.xml", "--redefine", "--redefine-validate"];
    ok(rig, &again);
    assert_eq!(ok(rig, &["checkpoint-list", "echo", "--name"]).trim(), "one");
    ok(rig, &["checkpoint-delete", "echo", "one", "--metadata"]);
    bench.img(&["bitmap", "--remove", "disk.qcow2", "one"]);
    let gone = rig.manor(again);
    assert!(gone.err.contains("bitmap \"one\" of disk vda is not there"), "{}", gone.err);
    assert_eq!(ok(rig, &["checkpoint-list", "echo", "--name"]).trim(), "");
}
