//! virsh at the daemon of the user that it runs as, which it finds by itself (`qemu:///session`).

use super::super::rig::{NOBODY, Outcome};
use super::super::rootless::User;
use super::{programs, run};

#[test]
fn virsh_finds_the_daemon_of_its_user() {
    let Some(programs) = programs() else { return };
    let Some(mut user) = User::new() else { return };
    let runtime = user.rig.path("runtime").display().to_string();
    let socket = format!("{runtime}/libvirt/virtqemud-sock");
    user.start_with(&["--libvirt-socket", &socket], None);
    let virsh = |line: &str| -> Outcome {
        let id = NOBODY.to_string();
        let runtime = format!("XDG_RUNTIME_DIR={runtime}");
        let mut words = vec!["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        words.extend(["env", &runtime, "virsh", "--connect", "qemu:///session"]);
        words.extend(line.split_whitespace());
        run(programs.command(user.rig.directory.path(), &words))
    };
    let ok = |line: &str| {
        let outcome = virsh(line);
        assert_eq!(outcome.status, 0, "{line}: {}", outcome.err);
        outcome.out.trim().to_owned()
    };
    assert_eq!(ok("uri"), "qemu:///session");
    ok("define echo.xml");
    ok("start echo");
    assert_eq!(ok("list --name"), "echo");
    assert_eq!(ok("domstate echo --reason"), "running (booted)");
    ok("destroy echo");
    ok("undefine echo");
    // It is the user's alone.
    let refused = virsh("net-start default");
    assert_ne!(refused.status, 0, "{}", refused.out);
    let foreign = programs.command(
        user.rig.directory.path(),
        &[
            "setpriv",
            "--reuid",
            "1",
            "--clear-groups",
            "virsh",
            "--connect",
            &format!("qemu+unix:///session?socket={socket}"),
            "list",
        ],
    );
    let foreign = run(foreign);
    assert!(foreign.err.contains("Permission denied"), "{}{}", foreign.out, foreign.err);
}
