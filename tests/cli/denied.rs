//! A user who may not open `/dev/kvm`.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::guests::write_echo;
use super::rig::{NOBODY, Rig};

/// A rig of nobody's with the guest written down, and the beginning of the refusal; none where
/// nobody may open `/dev/kvm`, or where we cannot become nobody.
fn denied() -> Option<(Rig, String)> {
    let kvm = std::fs::metadata("/dev/kvm").ok();
    let (uid, gid, mode) = match kvm.map(|kvm| (kvm.uid(), kvm.gid(), kvm.mode() & 0o7777)) {
        _ if !rustix::process::geteuid().is_root() => {
            println!("SKIP: only root can become another user");
            return None;
        }
        None => {
            println!("SKIP: there is no /dev/kvm");
            return None;
        }
        Some((_, _, mode)) if mode & 0o006 != 0 => {
            println!("SKIP: everybody may open /dev/kvm here (mode {mode:04o})");
            return None;
        }
        Some(found) => found,
    };
    let rig = Rig::of_nobody();
    write_echo(&rig);
    let refusal = format!(
        "error: no permission to open /dev/kvm: it belongs to {uid}:{gid} with mode {mode:04o}, \
         and this is uid {NOBODY}; run as root, or join the group it belongs to (usermod --append \
         --groups kvm USER) and log in again\n"
    );
    Some((rig, refusal))
}

/// Every path below the rig's directory.
fn paths(rig: &Rig) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![rig.directory.path().to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

#[test]
fn a_foreground_guest_is_refused_without_a_trace() {
    let Some((rig, refusal)) = denied() else { return };
    let directory = rig.path("foreground");
    let mut before = paths(&rig);
    before.insert(directory.clone());
    let outcome = rig.manor(["run", "echo.xml", "--run-dir", directory.to_str().unwrap()]);
    assert_eq!(outcome.status, 1);
    assert_eq!(outcome.err, format!("error: Failed to run domain from echo.xml\n{refusal}"));
    assert_eq!(paths(&rig), before);

    let check = rig.manor(["host-check"]);
    assert_eq!(check.status, 1);
    let line = check.out.lines().find(|line| line.contains("/dev/kvm")).unwrap();
    for part in ["FAIL", "Permission denied", "run as root, or join the group that owns it (kvm)"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(check.out.ends_with("No guest runs on this host.\n"), "{}", check.out);
}

#[test]
fn a_daemon_refuses_a_start_and_keeps_what_there_was() {
    let Some((mut rig, refusal)) = denied() else { return };
    rig.start_daemon();
    assert_eq!(rig.manor(["define", "echo.xml"]).status, 0);
    let (before, definition) = (paths(&rig), rig.manor(["dumpxml", "echo"]).out);
    let start = rig.manor(["start", "echo"]);
    assert_eq!(start.status, 1);
    assert_eq!(start.err, format!("error: Failed to start domain 'echo'\n{refusal}"));
    assert_eq!(paths(&rig), before);
    assert_eq!(rig.manor(["domstate", "echo"]).out, "shut off\n\n");
    assert_eq!(rig.manor(["dumpxml", "echo"]).out, definition);

    // What was to be transient is not there at all.
    assert_eq!(rig.manor(["undefine", "echo"]).status, 0);
    let create = rig.manor(["create", "echo.xml"]);
    assert_eq!(create.status, 1);
    assert_eq!(create.err, format!("error: Failed to create domain from echo.xml\n{refusal}"));
    assert_eq!(rig.manor(["list", "--all", "--name"]).out, "\n");
}
