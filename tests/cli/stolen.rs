//! A daemon that was taken over: whoever it is has the daemon's user and the broker's socket, and asks the real
//! broker for what is not the daemon's.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Stdio};

use broker::{Broker, BrokerError, Limits, ProcessId, Remote, Request, Sharing, Start};

use super::broker::{broker as broker_of, children};
use super::guests::{defined, ok};
use super::rig::{MANOR, NOBODY, Rig};

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIP: only root has what others may not");
    }
    root
}

/// As whoever has taken the daemon over asks it.
fn broker_for_nobody(rig: &Rig, more: &[&str]) -> Stolen {
    let directory = rig.path("state").display().to_string();
    std::fs::create_dir_all(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    let lock = rig.path("broker.lock").display().to_string();
    let owner = format!("{NOBODY}:{NOBODY}");
    let mut arguments = vec!["run-broker", "--lock", &lock, "--owner", &owner, "--own", &directory];
    let ledger = rig.path("ledger").display().to_string();
    arguments.extend(["--ledger", &ledger, "--log-level", "warn", "--log-format", "text"]);
    arguments.extend(more);
    let arguments = arguments.into_iter().map(Into::into).collect();
    let (broker, process) = Remote::start(&Start { program: MANOR.into(), arguments }).unwrap();
    Stolen { broker: Some(broker), process }
}

/// Ends with this value.
struct Stolen {
    broker: Option<Remote>,
    process: Child,
}

impl Stolen {
    fn broker(&self) -> &dyn Broker {
        self.broker.as_ref().unwrap()
    }
}

impl Drop for Stolen {
    fn drop(&mut self) {
        drop(self.broker.take());
        let _ = self.process.wait();
    }
}

#[test]
fn a_daemon_that_is_taken_over_has_no_file_of_roots_by_its_broker() {
    if !is_root() {
        return;
    }
    let rig = Rig::without_daemon();
    let state = rig.path("state");
    let stolen = broker_for_nobody(&rig, &[]);
    let broker = stolen.broker();
    symlink("/etc/shadow", state.join("disk.img")).unwrap();
    symlink("/etc", state.join("etc")).unwrap();
    for path in ["/etc/shadow", "/root/.ssh/authorized_keys", "/proc/1/environ", "/usr/bin/env"] {
        let error = broker.open_image(path.as_ref(), false, false, Sharing::Exclusive).unwrap_err();
        let is_known = matches!(error, BrokerError::Refused { .. } | BrokerError::Missing { .. });
        assert!(is_known, "{path}: {error}");
    }
    for path in
        [state.join("disk.img"), state.join("etc/shadow"), state.join("../../../etc/shadow")]
    {
        let error = broker.open_image(&path, true, false, Sharing::Exclusive).unwrap_err();
        assert!(matches!(error, BrokerError::Refused { .. }), "{}: {error}", path.display());
        let error = broker.open_input("kernel", &path).unwrap_err();
        assert!(matches!(error, BrokerError::Refused { .. }), "{}: {error}", path.display());
    }
    // In its own directories it acts as the daemon's user, who may not either.
    let denied = |error: BrokerError| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let is_denied = matches!(error, BrokerError::Denied { .. });
        assert!(is_denied || cause.is_some_and(|it| it.contains("denied")), "{error}");
    };
    denied(broker.open_output(&state.join("etc/manor-was-here"), false).unwrap_err());
    denied(broker.remove_saved(&state.join("etc/passwd")).unwrap_err());
    drop(stolen);
    let stolen = broker_for_nobody(&rig, &["--allow", "/etc/passwd"]);
    stolen.broker().open_input("kernel", "/etc/passwd".as_ref()).unwrap();
}

fn is_refused(broker: &dyn Broker, request: Request) {
    let (asked, answer) = (format!("{request:?}"), broker.perform(request, &[]));
    assert!(matches!(answer, Err(BrokerError::Stranger { .. })), "{asked}: {answer:?}");
}

fn process(pid: i32) -> ProcessId {
    ProcessId::of(pid.try_into().unwrap()).unwrap()
}

/// The cgroup of version 2 that a process is in, if it is a guest's.
fn cgroup(pid: i32) -> Option<std::path::PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    let is_guests = path.contains("domains/") || path.ends_with(".scope");
    is_guests.then(|| Path::new(mount.split(' ').nth(1).unwrap()).join(path))
}

#[test]
fn it_ends_and_moves_no_process_of_another_daemon_and_none_of_roots() {
    if !is_root() {
        return;
    }
    let Some(other) = defined() else { return };
    ok(&other, &["start", "echo"]);
    let guest = children(broker_of(&other))[0];
    let mut command = other.command(Path::new(MANOR));
    command.args(["event", "echo", "lifecycle", "--loop", "--timeout", "300"]);
    let mut command = command.stdout(Stdio::null()).spawn().unwrap();

    let rig = Rig::without_daemon();
    let stolen = broker_for_nobody(&rig, &[]);
    let broker = stolen.broker();
    let own = i32::try_from(command.id()).unwrap();
    let itself = i32::try_from(stolen.process.id()).unwrap();
    for pid in [guest, broker_of(&other), other.daemon_pid(), own, itself] {
        let process = process(pid);
        is_refused(broker, Request::Kill { process, cgroup: None });
        is_refused(broker, Request::Confinement { process });
        is_refused(broker, Request::TuneThreads { process, cgroup: None, rules: Vec::new() });
    }
    let lock = other.path("run/domains").join(ok(&other, &["domuuid", "echo"]).trim()).join("lock");
    assert!(lock.exists());
    let said = guest.try_into().unwrap();
    assert_eq!(broker.find_vmm(said, &lock).unwrap(), None, "it is another daemon's");
    match cgroup(guest) {
        Some(cgroup) => {
            let limits = Limits { memory_max: Some(1 << 20), ..Limits::default() };
            is_refused(broker, Request::Limit { cgroup: cgroup.clone(), limits });
            let gone = ProcessId { pid: u32::MAX, start_time: 1 };
            is_refused(broker, Request::Kill { process: gone, cgroup: Some(cgroup) });
        }
        None => println!("SKIP (in part): guests have no cgroups here"),
    }
    assert_eq!(ok(&other, &["domstate", "echo"]).trim(), "running");
    assert!(command.try_wait().unwrap().is_none());
    command.kill().unwrap();
    command.wait().unwrap();
}
