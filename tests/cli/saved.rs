//! Saving guests and going on from what was saved, on the local KVM. The guest counts what is typed
//! at its serial port, and tells how far it is.

use baremetal::{SCRATCH, Width};

use super::guests::{self, converse, converse_with, ok, state, state_of};
use super::rig::{Rig, kill, wait_for};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;

pub(super) fn counting() -> Option<Rig> {
    let rig = guests::defined()?;
    let kernel = baremetal::pvh(|asm| {
        asm.print("ready\n");
        let poll = asm.here();
        asm.read_port(Width::Byte, LINE_STATUS).and_eax(1).jump_if_eax_is(0, poll);
        asm.read_port(Width::Byte, COM1);
        asm.load(Width::Dword, SCRATCH).add_eax(1).store(Width::Dword, SCRATCH);
        asm.print_eax().print("\n").jump(poll);
    });
    rig.write("kernel", kernel);
    ok(&rig, &["start", "echo"]);
    Some(rig)
}

/// What the guest counts to when something is typed: `count` is what it should be.
pub(super) fn counts_to(rig: &Rig, count: u32) {
    converse(rig, "x", &format!("{count:08x}"));
}

#[test]
fn a_guest_saved_to_a_file_goes_on_where_it_was() {
    let Some(rig) = counting() else { return };
    counts_to(&rig, 1);
    let saved = ok(&rig, &["save", "echo", "echo.save"]);
    assert_eq!(saved, "\nDomain 'echo' saved to echo.save\n\n");
    assert_eq!(state(&rig), "shut off (saved)");
    // 32 MiB of memory, nearly all of it zeros.
    let file = std::fs::metadata(rig.path("echo.save")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&file) * 512 < 4 << 20);
    assert!(ok(&rig, &["save-image-check", "echo.save"]).contains("is intact"));
    let xml = ok(&rig, &["save-image-dumpxml", "echo.save"]);
    assert!(xml.contains("<name>echo</name>"), "{xml}");

    assert_eq!(ok(&rig, &["restore", "echo.save"]), "Domain restored from echo.save\n\n");
    assert_eq!(state(&rig), "running (restored)");
    counts_to(&rig, 2);
    let twice = rig.manor(["restore", "echo.save"]);
    assert!(twice.err.contains("is running already"), "{}", twice.err);

    // As it was when it was saved, and only when it is told to go on.
    ok(&rig, &["suspend", "echo"]);
    ok(&rig, &["save", "echo", "echo.save"]);
    ok(&rig, &["restore", "echo.save"]);
    assert!(state(&rig).starts_with("paused"), "{}", state(&rig));
    ok(&rig, &["resume", "echo"]);
    counts_to(&rig, 3);
    ok(&rig, &["save", "echo", "echo.save", "--paused"]);
    ok(&rig, &["restore", "echo.save", "--running"]);
    counts_to(&rig, 4);
}

#[test]
fn a_managed_save_is_taken_up_by_the_next_start_once() {
    let Some(rig) = counting() else { return };
    counts_to(&rig, 1);
    ok(&rig, &["managedsave", "echo"]);
    let info = ok(&rig, &["dominfo", "echo"]);
    assert!(info.contains("Managed save:   yes\n"), "{info}");
    assert_eq!(ok(&rig, &["list", "--all", "--with-managed-save", "--name"]), "echo\n\n");
    assert_eq!(ok(&rig, &["list", "--all", "--without-managed-save", "--name"]), "\n");
    let refused = rig.manor(["undefine", "echo"]);
    assert!(refused.err.contains("--managed-save"), "{}", refused.err);

    ok(&rig, &["start", "echo"]);
    counts_to(&rig, 2);
    assert!(ok(&rig, &["dominfo", "echo"]).contains("Managed save:   no\n"));

    ok(&rig, &["managedsave", "echo"]);
    ok(&rig, &["start", "echo", "--force-boot"]);
    counts_to(&rig, 1);
    ok(&rig, &["managedsave", "echo"]);
    ok(&rig, &["managedsave-remove", "echo"]);
    let skipped = ok(&rig, &["managedsave-remove", "echo"]);
    assert!(skipped.contains("removal skipped"), "{skipped}");
    ok(&rig, &["undefine", "echo", "--managed-save"]);
}

#[test]
fn a_managed_save_outlives_the_daemon_and_what_is_damaged_is_refused_by_name() {
    let Some(mut rig) = counting() else { return };
    counts_to(&rig, 1);
    ok(&rig, &["managedsave", "echo"]);
    rig.end_daemon("KILL");
    rig.start_daemon();
    assert!(ok(&rig, &["dominfo", "echo"]).contains("Managed save:   yes\n"));
    let dir = std::fs::read_dir(rig.path("state/save")).unwrap();
    let files: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let whole = std::fs::read(file).unwrap();
    for (at, what) in
        [(3, "no saved state"), ((2 << 20) + 4, "description"), ((4 << 20) + 4100, "machine state")]
    {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(file, &damaged).unwrap();
        let refused = rig.manor(["start", "echo"]);
        assert!(refused.err.contains(what), "{what}: {}", refused.err);
        assert!(refused.err.contains("--force-boot"), "{}", refused.err);
    }
    std::fs::write(file, &whole[..whole.len() - 4096]).unwrap();
    let refused = rig.manor(["start", "echo"]);
    assert!(refused.err.contains("should have"), "{}", refused.err);
    std::fs::write(file, &whole).unwrap();
    ok(&rig, &["start", "echo"]);
    counts_to(&rig, 2);
}

#[test]
fn a_saved_definition_is_edited_and_a_machine_that_differs_is_refused() {
    let Some(rig) = counting() else { return };
    counts_to(&rig, 1);
    ok(&rig, &["save", "echo", "echo.save"]);
    let xml = ok(&rig, &["save-image-dumpxml", "echo.save"]);
    rig.write("titled.xml", xml.replace("</name>", "</name><title>Another title</title>"));
    ok(&rig, &["save-image-define", "echo.save", "titled.xml"]);
    assert!(ok(&rig, &["save-image-dumpxml", "echo.save"]).contains("Another title"));
    rig.write("named.xml", xml.replace("<name>echo", "<name>other"));
    let refused = rig.manor(["save-image-define", "echo.save", "named.xml"]);
    assert!(refused.err.contains("which it is for"), "{}", refused.err);
    rig.write("larger.xml", xml.replace("32768", "65536"));
    let refused = rig.manor(["restore", "echo.save", "--xml", "larger.xml"]);
    assert!(refused.err.contains("the memory size was 33554432"), "{}", refused.err);
    assert!(state(&rig).starts_with("shut off"));
    ok(&rig, &["restore", "echo.save"]);
    assert!(ok(&rig, &["dumpxml", "echo"]).contains("Another title"));
    counts_to(&rig, 2);
}

#[test]
fn a_guest_does_not_go_on_over_a_disk_that_was_changed() {
    let Some(rig) = counting() else { return };
    rig.write("b.img", vec![0; 1 << 20]);
    ok(&rig, &["destroy", "echo"]);
    let disk = rig.path("b.img").display().to_string();
    ok(&rig, &["attach-disk", "echo", &disk, "vdb", "--config"]);
    ok(&rig, &["start", "echo"]);
    counts_to(&rig, 1);
    ok(&rig, &["managedsave", "echo"]);
    let before = std::fs::read(rig.path("b.img")).unwrap();
    std::fs::write(rig.path("b.img"), before).unwrap();
    let refused = rig.manor(["start", "echo"]);
    assert!(refused.err.contains("b.img (vdb) was changed"), "{}", refused.err);
    ok(&rig, &["start", "echo", "--force"]);
    counts_to(&rig, 2);
}

#[test]
fn a_guest_is_dumped_and_goes_on_or_not_as_it_is_told() {
    let Some(rig) = counting() else { return };
    counts_to(&rig, 1);
    let done = ok(&rig, &["dump", "echo", "a.core", "--memory-only"]);
    assert_eq!(done, "\nDomain 'echo' dumped to a.core\n\n");
    counts_to(&rig, 2);
    let again = rig.manor(["dump", "echo", "a.core", "--live"]);
    assert!(again.err.contains("a.core is there already"), "{}", again.err);
    ok(&rig, &["dump", "echo", "b.core", "--live"]);
    counts_to(&rig, 3);
    ok(&rig, &["dump", "echo", "c.core", "--reset"]);
    counts_to(&rig, 1);
    ok(&rig, &["dump", "echo", "d.core", "--crash"]);
    assert!(state(&rig).starts_with("shut off"), "{}", state(&rig));
    for core in ["a.core", "b.core", "c.core", "d.core"] {
        let head = std::fs::read(rig.path(core)).unwrap();
        assert_eq!((&head[..4], head[16]), (&b"\x7fELF"[..], 4), "{core}");
    }
}

#[test]
fn a_clone_is_another_domain_with_a_disk_of_its_own() {
    let Some(rig) = counting() else { return };
    rig.write("b.img", [7; 4096]);
    let disk = rig.path("b.img").display().to_string();
    ok(&rig, &["attach-disk", "echo", &disk, "vdb", "--config"]);
    ok(&rig, &["destroy", "echo"]);
    assert_eq!(ok(&rig, &["clone", "echo", "twin"]), "Domain 'echo' cloned as 'twin'\n\n");
    let own = rig.path("twin-vdb.img");
    assert_eq!(std::fs::read(&own).unwrap(), [7; 4096]);
    let xml = ok(&rig, &["dumpxml", "twin"]);
    assert!(xml.contains(&own.display().to_string()) && !xml.contains(&disk), "{xml}");
    assert_ne!(ok(&rig, &["domuuid", "twin"]), ok(&rig, &["domuuid", "echo"]));
    // Both run at the same time.
    ok(&rig, &["start", "echo"]);
    ok(&rig, &["start", "twin"]);
    ok(&rig, &["destroy", "twin"]);
    let again = rig.manor(["clone", "echo", "twin"]);
    assert!(!again.err.is_empty() && again.status != 0);
}

/// Both count on from the same number, each by itself.
#[test]
fn a_clone_of_a_running_guest_goes_on_beside_it() {
    let Some(rig) = counting() else { return };
    rig.write("b.img", [7; 4096]);
    ok(&rig, &["destroy", "echo"]);
    let disk = rig.path("b.img").display().to_string();
    ok(&rig, &["attach-disk", "echo", &disk, "vdb", "--config"]);
    ok(&rig, &["start", "echo"]);
    counts_to(&rig, 1);
    let begun = std::time::Instant::now();
    assert_eq!(ok(&rig, &["clone", "echo", "twin"]), "Domain 'echo' cloned as 'twin'\n\n");
    println!("cloned in {:?}", begun.elapsed());
    assert_eq!(state_of(&rig, "echo"), "running (unpaused)");
    assert_eq!(state_of(&rig, "twin"), "running (restored)");
    let twin = |count: u32| converse_with(&rig, "twin", "x", &format!("{count:08x}"));
    twin(2);
    twin(3);
    counts_to(&rig, 2);
    assert_eq!(std::fs::read(rig.path("twin-vdb.img")).unwrap(), [7; 4096]);
    assert_ne!(ok(&rig, &["domuuid", "twin"]), ok(&rig, &["domuuid", "echo"]));
    // It is a domain like others, and what it was made from is not in its way.
    ok(&rig, &["destroy", "echo"]);
    ok(&rig, &["managedsave", "twin"]);
    ok(&rig, &["start", "twin"]);
    twin(4);
    ok(&rig, &["destroy", "twin"]);
    ok(&rig, &["start", "twin"]);
    twin(1);
    let left = std::fs::read_dir(rig.path("")).unwrap().flatten();
    let left: Vec<_> = left.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.ends_with(".partial")), "{left:?}");
}

#[test]
fn a_suspended_guest_has_a_suspended_twin_and_a_twin_that_cannot_be_leaves_nothing() {
    let Some(rig) = counting() else { return };
    counts_to(&rig, 1);
    ok(&rig, &["suspend", "echo"]);
    ok(&rig, &["clone", "echo", "twin"]);
    assert!(state(&rig).starts_with("paused"), "{}", state(&rig));
    assert!(state_of(&rig, "twin").starts_with("paused"), "{}", state_of(&rig, "twin"));
    ok(&rig, &["resume", "twin"]);
    converse_with(&rig, "twin", "x", "00000002");
    ok(&rig, &["resume", "echo"]);
    counts_to(&rig, 2);
    let refused = rig.manor(["clone", "echo", "twin"]);
    assert!(refused.err.contains("there is a domain"), "{}", refused.err);
    rig.write("b.img", [7; 4096]);
    rig.write("third-vdb.img", "in the way");
    ok(&rig, &["destroy", "echo"]);
    let disk = rig.path("b.img").display().to_string();
    ok(&rig, &["attach-disk", "echo", &disk, "vdb", "--config"]);
    ok(&rig, &["start", "echo"]);
    let refused = rig.manor(["clone", "echo", "third"]);
    assert!(refused.err.contains("third-vdb.img is there already"), "{}", refused.err);
    assert!(state(&rig).starts_with("running"), "{}", state(&rig));
    assert!(!ok(&rig, &["list", "--all", "--name"]).contains("third"));
}

/// Each has what the template had on its disk, and writes to one of its own.
#[test]
fn a_saved_guest_is_a_template_for_many() {
    let Some(rig) = counting() else { return };
    rig.write("b.img", vec![7; 1 << 20]);
    ok(&rig, &["destroy", "echo"]);
    let disk = rig.path("b.img").display().to_string();
    ok(&rig, &["attach-disk", "echo", &disk, "vdb", "--config"]);
    ok(&rig, &["start", "echo"]);
    counts_to(&rig, 1);
    ok(&rig, &["save", "echo", "echo.save"]);
    let made = ok(&rig, &["clone", "--from-save", "echo.save", "twin", "--count", "2"]);
    let line = |name: &str| format!("Domain '{name}' made from echo.save\n");
    assert_eq!(made, line("twin-1") + &line("twin-2") + "\n");
    let mut stacked = false;
    for name in ["twin-1", "twin-2"] {
        converse_with(&rig, name, "x", "00000002");
        // Blocks that are shared, or an image on top.
        let image = std::fs::read(rig.path(&format!("{name}-vdb.img"))).unwrap();
        stacked = image.starts_with(b"QFI\xfb") && image.len() < 1 << 20;
        assert!(stacked || image == [7; 1 << 20]);
    }
    if stacked {
        let in_use = rig.manor(["restore", "echo.save"]);
        assert!(in_use.err.contains("is in use by domain"), "{}", in_use.err);
    }
    ok(&rig, &["destroy", "twin-1"]);
    ok(&rig, &["destroy", "twin-2"]);
    ok(&rig, &["restore", "echo.save"]);
    counts_to(&rig, 2);
    ok(&rig, &["managedsave", "echo"]);
    ok(&rig, &["clone", "echo", "third"]);
    converse_with(&rig, "third", "x", "00000003");
    assert!(ok(&rig, &["dominfo", "echo"]).contains("Managed save:   yes\n"));
    // What lies below a twin's disk must stay as it is.
    std::fs::write(rig.path("b.img"), vec![8; 1 << 20]).unwrap();
    let refused = rig.manor(["clone", "--from-save", "echo.save", "fourth"]);
    assert!(refused.err.contains("was changed"), "{}", refused.err);
}

#[test]
fn a_guest_whose_daemon_dies_while_it_is_cloned_runs_on() {
    let Some(mut rig) = counting() else { return };
    let partial = |rig: &Rig| {
        let files = std::fs::read_dir(rig.path("")).unwrap().flatten();
        files.filter(|it| it.file_name().to_string_lossy().contains(".partial")).count()
    };
    rig.write("b.img", [7; 4096]);
    ok(&rig, &["destroy", "echo"]);
    let disk = rig.path("b.img").display().to_string();
    ok(&rig, &["attach-disk", "echo", &disk, "vdb", "--config"]);
    ok(&rig, &["start", "echo"]);
    for round in 0..6 {
        counts_to(&rig, round + 1);
        let twin = format!("twin{round}");
        let mut clone = rig.command(std::path::Path::new(super::rig::MANOR));
        let mut clone = clone.args(["clone", "echo", &twin]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 25));
        kill("KILL", &rig.daemon_pid().to_string());
        clone.wait().unwrap();
        rig.end_daemon("KILL");
        rig.start_daemon();
        wait_for("the guest to run", || state(&rig).starts_with("running"));
        // It is seen to run before what is left of its clone is gone.
        wait_for("what is not whole to go", || partial(&rig) == 0);
    }
    counts_to(&rig, 7);
}

#[test]
fn what_is_no_saved_guest_is_not_overwritten() {
    let Some(rig) = counting() else { return };
    rig.write("mine", "precious");
    let refused = rig.manor(["save", "echo", "mine"]);
    assert!(refused.err.contains("is there and is no saved guest"), "{}", refused.err);
    assert_eq!(std::fs::read(rig.path("mine")).unwrap(), b"precious");
    let refused = rig.manor(["restore", "mine"]);
    assert!(refused.err.contains("no saved state"), "{}", refused.err);
    let refused = rig.manor(["save", "echo", "nowhere/file"]);
    assert!(refused.err.contains("nowhere"), "{}", refused.err);
    counts_to(&rig, 1);
}

#[test]
fn a_guest_whose_save_finds_no_room_runs_on() {
    let Some(rig) = counting() else { return };
    std::fs::create_dir(rig.path("small")).unwrap();
    let small = rig.path("small").display().to_string();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "none", &small])
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("SKIP: nothing can be mounted here");
        return;
    }
    counts_to(&rig, 1);
    let refused = rig.manor(["save", "echo", "small/file"]);
    let left = std::fs::read_dir(&small).unwrap().count();
    assert!(std::process::Command::new("umount").arg(&small).status().unwrap().success());
    assert!(refused.err.contains("No space left"), "{}", refused.err);
    assert_eq!(left, 0);
    assert!(state(&rig).starts_with("running"), "{}", state(&rig));
    counts_to(&rig, 2);
}

#[test]
fn a_guest_whose_daemon_dies_while_it_is_saved_runs_on_or_is_saved() {
    let Some(mut rig) = counting() else { return };
    for round in 0..6 {
        counts_to(&rig, round + 1);
        let mut save = rig.command(std::path::Path::new(super::rig::MANOR));
        let mut save = save.args(["managedsave", "echo"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 15));
        kill("KILL", &rig.daemon_pid().to_string());
        save.wait().unwrap();
        rig.end_daemon("KILL");
        rig.start_daemon();
        wait_for("the domain to be known", || !state(&rig).starts_with("no state"));
        let runs = !state(&rig).starts_with("shut off");
        let saved = ok(&rig, &["dominfo", "echo"]).contains("Managed save:   yes\n");
        assert!(runs != saved, "round {round}: {}, saved {saved}", state(&rig));
        if saved {
            ok(&rig, &["start", "echo"]);
        }
    }
    counts_to(&rig, 7);
}
