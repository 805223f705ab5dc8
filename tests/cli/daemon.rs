//! The daemon as a process: sockets, signals, restarts.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use super::rig::{MANOR, PATIENCE, Rig, UUID, definition, kill, wait_for};

#[test]
fn definitions_outlive_the_daemon_however_it_ends() {
    let mut rig = Rig::new();
    rig.write("d.xml", definition("demo", UUID));
    assert_eq!(rig.manor(["define", "d.xml"]).status, 0);
    let before = rig.manor(["dumpxml", "demo"]).out;
    assert_eq!(rig.end_daemon("TERM"), Some(0));
    rig.start_daemon();
    assert_eq!(rig.manor(["dumpxml", "demo"]).out, before);
    rig.end_daemon("KILL");
    rig.start_daemon();
    assert_eq!(rig.manor(["dumpxml", "demo"]).out, before);
}

#[test]
fn sockets_have_the_configured_modes_and_the_second_one_only_looks() {
    let rig = Rig::new();
    let mode = |name: &str| rig.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run/api.sock"), mode("run/api-ro.sock")), (0o660, 0o666));
    rig.write("d.xml", definition("demo", UUID));
    let read_only = rig.path("run/api-ro.sock").display().to_string();
    let refused = rig.manor(["-c", &read_only, "define", "d.xml"]);
    assert_eq!(refused.status, 5, "{}", refused.err);
    assert!(refused.err.contains("write access"), "{}", refused.err);
    assert_eq!(rig.manor(["-c", &read_only, "list", "--all"]).status, 0);
}

#[test]
fn a_second_daemon_leaves_the_first_alone() {
    let rig = Rig::new();
    let second = rig.manor(["daemon", "--config", "manor.toml"]);
    assert_eq!(second.status, 1);
    assert!(second.err.contains("another daemon"), "{}", second.err);
    assert_eq!(rig.manor(["list"]).status, 0);
}

#[test]
fn a_wrong_configuration_ends_the_daemon_before_it_touches_anything() {
    let rig = Rig::without_daemon();
    rig.write("bad.toml", "[domains]\nstart_timeout = \"soon\"\n");
    let outcome = rig.manor(["daemon", "--config", "bad.toml"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.err.starts_with("error: bad.toml:2:17: "), "{}", outcome.err);
    assert!(!rig.path("run").exists());
}

#[test]
fn a_hangup_reads_the_log_level_anew() {
    let rig = Rig::new();
    let config = std::fs::read_to_string(rig.path("manor.toml")).unwrap();
    rig.write("manor.toml", format!("{config}[log]\nlevel = \"manor=debug,management=debug\"\n"));
    kill("HUP", &rig.daemon_pid().to_string());
    wait_for("the level to change", || rig.daemon_log().contains("reloaded the log level"));
    rig.manor(["list"]);
    wait_for("a debug line", || rig.daemon_log().contains("DEBUG"));
    rig.write("manor.toml", "[log]\nlevle = 1\n");
    kill("HUP", &rig.daemon_pid().to_string());
    wait_for("the complaint", || rig.daemon_log().contains("nothing was changed"));
    assert_eq!(rig.manor(["list"]).status, 0);
}

/// As systemd starts it: sockets on descriptors 3 and up, readiness told to a socket.
#[test]
fn inherited_sockets_are_served_and_the_service_manager_is_told() {
    let rig = Rig::without_daemon();
    let path = rig.path("activated.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let notified = UnixDatagram::bind(rig.path("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let anybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(rig.path("notify"), anybody).unwrap();
    // The shell puts the socket where systemd would, and knows the process id in advance.
    let script =
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=api exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script, MANOR, "daemon", "--config"])
        .arg(rig.path("manor.toml"))
        .env("NOTIFY_SOCKET", rig.path("notify"))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let len = notified.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let ready = told();
    let list = rig.manor(["-c", path.to_str().unwrap(), "list"]);
    kill("TERM", &child.id().to_string());
    let stopping = told();
    let status = child.wait().unwrap();
    assert!(ready.contains("READY=1"), "{ready}");
    assert_eq!(list.status, 0, "{}", list.err);
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
    assert_eq!(status.code(), Some(0));
    assert!(!rig.path("run/api.sock").exists(), "the configured socket is not opened as well");
}
