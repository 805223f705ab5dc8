//! Snapshots of guests on the local KVM, off and running; qemu-img says whether the images are whole,
//! and qemu-io what is in them.

use manor_tests::qemu::{ImageTools, image_tools};

use super::guests::{self, converse, ok, state};
use super::rig::Rig;
use super::saved::{counting, counts_to};

struct Disks {
    rig: Rig,
    tools: ImageTools,
}

impl Disks {
    /// The guest has `web.qcow2`, full of ones, as its disk vdb, and is off.
    fn of(rig: Rig) -> Self {
        let disks = Self { rig, tools: image_tools().unwrap() };
        disks.img("create -q -f qcow2 web.qcow2 1M");
        disks.fill("web.qcow2", 1);
        let image = disks.rig.path("web.qcow2").display().to_string();
        if state(&disks.rig).starts_with("running") {
            ok(&disks.rig, &["destroy", "echo"]);
        }
        disks.ok(&format!("attach-disk echo {image} vdb --config --subdriver qcow2"));
        disks
    }

    fn ok(&self, line: &str) -> String {
        ok(&self.rig, &line.split_whitespace().collect::<Vec<_>>())
    }

    fn refused(&self, line: &str) -> String {
        let outcome = self.rig.manor(line.split_whitespace());
        assert_ne!(outcome.status, 0, "{line}: {}", outcome.out);
        outcome.err
    }

    fn img(&self, line: &str) -> String {
        let mut command = self.tools.img.command();
        command.args(line.split_whitespace()).current_dir(self.rig.directory.path());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "qemu-img {line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn io(&self, image: &str, command: &str) -> String {
        let mut io = self.tools.io.command();
        io.args(["-f", "qcow2", "-c", command, image]).current_dir(self.rig.directory.path());
        let output = io.output().unwrap();
        let (out, err) = (output.stdout, output.stderr);
        format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
    }

    fn fill(&self, image: &str, pattern: u8) {
        let said = self.io(image, &format!("write -P {pattern} 0 1M"));
        assert!(said.contains("wrote"), "{said}");
    }

    /// Whether an image is whole, and reads as this from its beginning to its end.
    fn holds(&self, image: &str, pattern: u8) {
        let report = self.img(&format!("check -q {image}"));
        assert!(report.is_empty(), "{image}: {report}");
        let said = self.io(image, &format!("read -P {pattern} 0 1M"));
        assert!(said.contains("read 1048576") && !said.contains("failed"), "{image}: {said}");
    }

    /// What vdb is made of, by its name in the rig's directory.
    fn disk(&self) -> String {
        let list = self.ok("domblklist echo");
        let line = list.lines().find(|line| line.contains("vdb")).unwrap();
        let path = line.split_whitespace().last().unwrap();
        path.rsplit('/').next().unwrap().to_owned()
    }

    /// Files of the disk and its overlays.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.rig.directory.path()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.contains("web.")).collect();
        names.sort();
        names
    }
}

#[test]
fn disks_of_a_guest_that_is_off_go_on_in_overlays_and_come_back() {
    let Some(rig) = guests::defined() else { return };
    let disks = Disks::of(rig);
    let made = disks.ok("snapshot-create-as echo s1 --disk-only --description first");
    assert_eq!(made, "Domain snapshot s1 created\n\n");
    assert_eq!(disks.disk(), "web.s1");
    disks.fill("web.s1", 2);
    disks.ok("snapshot-create-as echo s2 --disk-only");
    disks.fill("web.s2", 3);
    assert!(disks.refused("snapshot-create-as echo s2 --disk-only").contains("already"));
    assert!(disks.refused("undefine echo").contains("--snapshots-metadata"));

    assert_eq!(disks.ok("snapshot-list echo --tree"), "s1\n  |\n  +- s2\n\n\n");
    assert_eq!(disks.ok("snapshot-list echo --name --leaves"), "s2\n\n");
    assert_eq!(disks.ok("snapshot-list echo --name --roots"), "s1\n\n");
    assert_eq!(disks.ok("snapshot-list echo --name --from s1"), "s2\n\n");
    assert_eq!(disks.ok("snapshot-parent echo s2"), "s1\n\n");
    assert_eq!(disks.ok("snapshot-current echo --name"), "s2\n\n");
    let info = disks.ok("snapshot-info echo s1");
    for line in ["Location:       external\n", "State:          shutoff\n", "Children:       1\n"] {
        assert!(info.contains(line), "{info}");
    }
    let xml = disks.ok("snapshot-dumpxml echo s1");
    assert!(xml.contains("<description>first</description>"), "{xml}");
    assert!(xml.contains("<disk name='vdb' snapshot='external' type='file'>"), "{xml}");

    // What s1 holds is what the disk held then; what came afterwards is lost, but for s2's part.
    disks.ok("snapshot-revert echo s1");
    let fresh = disks.disk();
    disks.holds(&fresh, 1);
    assert!(!disks.files().contains(&"web.s2".to_owned()), "{:?}", disks.files());
    disks.fill(&fresh, 4);
    disks.ok("snapshot-revert echo s2");
    disks.holds(&disks.disk(), 2);
    assert!(!disks.files().contains(&fresh), "{:?}", disks.files());

    // s2 holds web.s1, which becomes one with web.qcow2 when s1 goes.
    disks.ok("snapshot-delete echo s1");
    assert!(!disks.files().contains(&"web.s1".to_owned()), "{:?}", disks.files());
    disks.holds(&disks.disk(), 2);
    disks.fill(&disks.disk(), 5);
    disks.ok("snapshot-delete echo --current");
    assert_eq!((disks.disk().as_str(), disks.files()), ("web.qcow2", vec!["web.qcow2".to_owned()]));
    disks.holds("web.qcow2", 5);
    assert_eq!(disks.ok("snapshot-list echo --name"), "\n");
    disks.ok("undefine echo");
}

#[test]
fn a_running_guest_goes_on_in_an_overlay_whatever_becomes_of_the_daemon() {
    let Some(rig) = counting() else { return };
    let mut disks = Disks::of(rig);
    ok(&disks.rig, &["start", "echo"]);
    counts_to(&disks.rig, 1);
    let before = state(&disks.rig);
    disks.ok("snapshot-create-as echo s1 --disk-only --atomic");
    assert_eq!(state(&disks.rig), before, "it has not noticed");
    counts_to(&disks.rig, 2);
    assert_eq!(disks.disk(), "web.s1");
    let live = disks.ok("dumpxml echo");
    assert!(live.contains("<backingStore type='file'"), "{live}");
    assert!(disks.ok("dumpxml echo --inactive").contains("web.s1"));
    assert!(disks.ok("snapshot-info echo s1").contains("disk-snapshot"));
    disks.rig.end_daemon("KILL");
    disks.rig.start_daemon();
    assert_eq!(disks.ok("snapshot-current echo --name"), "s1\n\n");
    disks.ok("snapshot-create-as echo s2 --disk-only --no-metadata");
    assert_eq!(disks.disk(), "web.s2");
    assert_eq!(disks.ok("snapshot-list echo --name"), "s1\n\n");
    counts_to(&disks.rig, 3);
    // What lies below the overlay is written to by nobody: a twin stands on it as well.
    disks.ok("clone echo twin");
    assert_eq!(disks.ok("domstate twin").trim(), "running");
    disks.ok("destroy twin");
    disks.ok("undefine twin");
    let risky = disks.refused("snapshot-revert echo s1 --running");
    assert!(risky.contains("--force"), "{risky}");
    ok(&disks.rig, &["destroy", "echo"]);
    for image in ["web.qcow2", "web.s1", "web.s2"] {
        disks.holds(image, 1);
    }
    disks.ok("snapshot-revert echo s1 --running");
    counts_to(&disks.rig, 1);
}

#[test]
fn a_guest_goes_on_from_the_moment_of_its_snapshot_with_its_memory() {
    let Some(rig) = counting() else { return };
    let disks = Disks::of(rig);
    ok(&disks.rig, &["start", "echo"]);
    counts_to(&disks.rig, 1);
    disks.ok("snapshot-create-as echo s1 --memspec file=s1.mem,snapshot=external");
    assert!(state(&disks.rig).starts_with("running"), "{}", state(&disks.rig));
    counts_to(&disks.rig, 2);
    counts_to(&disks.rig, 3);
    disks.ok("snapshot-revert echo s1");
    assert!(state(&disks.rig).starts_with("running"), "{}", state(&disks.rig));
    counts_to(&disks.rig, 2);
    disks.ok("snapshot-revert echo s1 --paused");
    assert!(state(&disks.rig).starts_with("paused"), "{}", state(&disks.rig));
    ok(&disks.rig, &["resume", "echo"]);
    counts_to(&disks.rig, 2);
    ok(&disks.rig, &["destroy", "echo"]);
    disks.ok("snapshot-delete echo s1");
    assert!(!disks.rig.path("s1.mem").exists());
    assert_eq!(disks.files(), ["web.qcow2"]);
    disks.holds("web.qcow2", 1);
}

#[test]
fn a_snapshot_lies_inside_the_image_where_nothing_else_is_said() {
    let Some(rig) = counting() else { return };
    let disks = Disks::of(rig);
    // Off: the disks alone.
    disks.ok("snapshot-create-as echo off");
    assert!(disks.img("snapshot -l web.qcow2").contains("off"));
    disks.fill("web.qcow2", 2);
    ok(&disks.rig, &["start", "echo"]);
    counts_to(&disks.rig, 1);
    disks.ok("snapshot-create-as echo on");
    assert!(disks.ok("snapshot-info echo on").contains("Location:       internal\n"));
    counts_to(&disks.rig, 2);
    disks.ok("snapshot-revert echo on");
    counts_to(&disks.rig, 2);
    disks.ok("snapshot-delete echo on");
    counts_to(&disks.rig, 3);
    ok(&disks.rig, &["destroy", "echo"]);
    assert!(!disks.img("snapshot -l web.qcow2").contains(" on "));
    disks.holds("web.qcow2", 2);
    disks.ok("snapshot-revert echo off");
    disks.holds("web.qcow2", 1);
    disks.ok("undefine echo --snapshots-metadata");
    assert!(disks.img("snapshot -l web.qcow2").contains("off"), "what it holds stays");
}

#[test]
fn snapshots_go_beneath_a_guest_that_runs() {
    let Some(rig) = counting() else { return };
    let mut disks = Disks::of(rig);
    ok(&disks.rig, &["start", "echo"]);
    for name in ["s1", "s2", "s3", "s4"] {
        disks.ok(&format!("snapshot-create-as echo {name} --disk-only"));
    }
    counts_to(&disks.rig, 1);
    let before = state(&disks.rig);
    // One between: what s2 holds lies in the image below then.
    disks.ok("snapshot-delete echo s1");
    assert_eq!(disks.files(), ["web.qcow2", "web.s2", "web.s3", "web.s4"]);
    assert_eq!((disks.disk(), state(&disks.rig)), ("web.s4".to_owned(), before.clone()));
    let live = disks.ok("dumpxml echo");
    assert!(!live.contains("web.s1") && live.contains("web.qcow2"), "{live}");
    counts_to(&disks.rig, 2);
    // The next daemon knows as much, and the rest of the tree goes from its leaves.
    disks.rig.end_daemon("KILL");
    disks.rig.start_daemon();
    disks.ok("snapshot-delete echo s2 --children-only");
    assert_eq!(disks.ok("snapshot-list echo --name"), "s2\n\n");
    assert_eq!(disks.files(), ["web.qcow2", "web.s2"]);
    assert_eq!(disks.disk(), "web.s2");
    counts_to(&disks.rig, 3);
    disks.ok("snapshot-create-as echo s5 --disk-only");
    disks.ok("snapshot-delete echo s2 --children");
    assert_eq!(disks.ok("snapshot-list echo --name"), "\n");
    assert_eq!(
        (disks.disk(), disks.files()),
        ("web.qcow2".to_owned(), vec!["web.qcow2".to_owned()])
    );
    counts_to(&disks.rig, 4);
    assert_eq!(state(&disks.rig), before, "it has not noticed");
    ok(&disks.rig, &["destroy", "echo"]);
    disks.holds("web.qcow2", 1);
    ok(&disks.rig, &["start", "echo"]);
    counts_to(&disks.rig, 1);
}

#[test]
fn snapshots_are_told_anew_forgotten_and_carried_over_a_rename() {
    let Some(rig) = guests::defined() else { return };
    let disks = Disks::of(rig);
    disks.ok("snapshot-create-as echo s1 --disk-only");
    let xml = disks.ok("snapshot-dumpxml echo s1 --security-info");
    disks.rig.write("s1.xml", &xml);
    disks.ok("snapshot-delete echo s1 --metadata");
    assert_eq!((disks.disk().as_str(), disks.files().len()), ("web.s1", 2));
    disks.ok("snapshot-create echo s1.xml --redefine --current");
    assert_eq!(disks.ok("snapshot-current echo --name"), "s1\n\n");
    disks.rig.write(
        "t.xml",
        xml.replace("</name>\n  <state>", "</name>\n  <description>mine</description>\n  <state>"),
    );
    disks.ok("snapshot-create echo t.xml --redefine");
    assert!(disks.ok("snapshot-dumpxml echo s1").contains("mine"));
    disks
        .rig
        .write("bad.xml", "<domainsnapshot><name>x</name><stat>shutoff</stat></domainsnapshot>");
    assert!(disks.refused("snapshot-create echo bad.xml --redefine").contains("stat"));
    disks.ok("domrename echo other");
    assert_eq!(disks.ok("snapshot-list other --name"), "s1\n\n");
    disks.ok("snapshot-revert other s1");
    assert!(disks.ok("dumpxml other").contains("<name>other</name>"));
    disks.ok("domrename other echo");
    converse_is_possible(&disks);
}

fn converse_is_possible(disks: &Disks) {
    ok(&disks.rig, &["start", "echo"]);
    converse(&disks.rig, "hello", "hello");
}
