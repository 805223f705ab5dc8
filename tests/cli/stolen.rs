//! A daemon that was taken over: whoever it is has the daemon's user and the broker's socket, and asks the real
//! broker for what is not the daemon's.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Stdio};

use broker::{
    Broker, BrokerError, Limits, ProcessId, Remote, Request, Role, Sharing, SpawnedProcess, Start,
    Stdio as Output,
};
use network::config::{Confinement, NetworkConfig, User};
use vmm_protocol::config::{Isolation, IsolationMode};

use super::broker::{broker as broker_of, children};
use super::guests::{defined, ok, write_echo};
use super::rig::{MANOR, NOBODY, Rig, wait_for};

mod configuration;

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

/// Of a process that lives: lines of its status.
fn fields(process: ProcessId, name: &str) -> Vec<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn it_has_no_word_in_who_the_process_of_a_network_is() {
    if !is_root() {
        return;
    }
    const USER: u32 = 65_533;
    let rig = Rig::without_daemon();
    let start = |more: &[&str], config: &NetworkConfig| {
        let stolen = broker_for_nobody(&rig, more);
        let socket = rig.path("control.sock");
        let _ = std::fs::remove_file(&socket);
        let control = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let files = [configuration::file(config), control.into()];
        let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
        let log = Output::Log(rig.path("state/network.log"));
        let limits = Limits::default();
        let started = stolen.broker().spawn(Role::Network, "lab", log, None, limits, &files);
        (stolen, started)
    };
    let ids = format!("{USER}:{USER}");
    let root = Some(User { uid: 0, gid: 0 });
    let daemons = Some(User { uid: NOBODY, gid: NOBODY });
    for user in [None, root, daemons] {
        let config = configuration::network(Confinement { user, seccomp: false });
        let terms = ["--network-user", &ids, "--network-seccomp"];
        let (stolen, started) = start(&terms, &config);
        let SpawnedProcess { id, process } = started.unwrap();
        // It is filtered once all is set up.
        wait_for("the network to be served", || {
            assert_eq!(process.reap(), None, "it ended");
            fields(id, "Seccomp:") == ["2"]
        });
        for ids in ["Uid:", "Gid:"] {
            assert_eq!(fields(id, ids), [USER.to_string().as_str(); 4], "{user:?}");
        }
        assert_eq!(fields(id, "Groups:"), [""; 0]);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(fields(id, set), ["0000000000000000"], "{set}");
        }
        stolen.broker().kill(id, None).unwrap();
        drop(stolen);
        // Where root has named nobody, there is none.
        let (_stolen, started) = start(&[], &config);
        let error = started.unwrap_err();
        assert!(matches!(error, BrokerError::NoNetworkUser), "{error}");
    }
}

#[test]
fn it_has_no_guest_run_with_less_isolation_than_root_has_set() {
    if !is_root() {
        return;
    }
    let Ok(kvm) = std::fs::File::options().read(true).write(true).open("/dev/kvm") else {
        println!("SKIP: /dev/kvm cannot be opened");
        return;
    };
    let rig = Rig::without_daemon();
    write_echo(&rig);
    let kernel = std::fs::File::open(rig.path("kernel")).unwrap();
    let terms = ["--isolation=possible", "--users=1879048192-1879048200", "--seccomp"];
    let terms: Vec<_> = terms.iter().flat_map(|term| ["--term", term]).collect();
    let stolen = broker_for_nobody(&rig, &terms);
    let log = rig.path("state/guest.log");
    let start = |mode, user, seccomp| {
        let config = configuration::guest(Isolation { mode, user }, seccomp);
        let socket = rig.path("control.sock");
        for path in [&socket, &log] {
            let _ = std::fs::remove_file(path);
        }
        let control = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let record = tempfile::tempfile().unwrap();
        let own = [configuration::file(&config), control.into(), record.into()];
        let [config, control, record] = own.each_ref().map(OwnedFd::as_fd);
        let files = [config, kvm.as_fd(), control, record, kernel.as_fd()];
        let (out, limits) = (Output::Log(log.clone()), Limits::default());
        let started = stolen.broker().spawn(Role::Domain, "web", out, None, limits, &files);
        started.unwrap()
    };
    let user = 1_879_048_195;
    let SpawnedProcess { id, process } = start(IsolationMode::Possible, Some(user), true);
    wait_for("the guest to run", || {
        let how = process.reap().map(|how| (how, std::fs::read_to_string(&log)));
        assert!(how.is_none(), "{how:?}");
        fields(id, "Seccomp:") == ["2"]
    });
    assert_eq!(fields(id, "Uid:"), [user.to_string().as_str(); 4]);
    stolen.broker().kill(id, None).unwrap();

    for (mode, user, seccomp, said) in [
        (IsolationMode::Off, Some(user), true, "less isolation (Off)"),
        (IsolationMode::Off, None, false, "less isolation (Off)"),
        (IsolationMode::Possible, None, true, "names no user of [domains] users (None)"),
        (IsolationMode::Possible, Some(0), true, "names no user of [domains] users (Some(0))"),
        (IsolationMode::Required, Some(NOBODY), true, "names no user of [domains] users"),
        (IsolationMode::Possible, Some(user), false, "no seccomp filters"),
    ] {
        let SpawnedProcess { process, .. } = start(mode, user, seccomp);
        let mut how = None;
        wait_for("the guest to be refused", || {
            how = process.reap();
            how.is_some()
        });
        assert_eq!(how.as_deref(), Some("exit status 1"), "{mode:?} {user:?} {seccomp}");
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn it_has_nothing_by_a_group_of_roots() {
    if !is_root() {
        return;
    }
    const GROUP: u32 = 4711;
    let rig = Rig::without_daemon();
    let secrets = rig.path("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("letter"), "dear").unwrap();
    for (path, mode) in [(secrets.join("letter"), 0o060), (secrets.clone(), 0o070)] {
        std::os::unix::fs::chown(&path, Some(0), Some(GROUP)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // Groups are a thread's own, and its children have them: as a root who is in some starts the daemon.
    let stolen = std::thread::scope(|scope| {
        let start = || {
            let group = rustix::process::Gid::from_raw(GROUP);
            rustix::thread::set_thread_groups(&[group]).unwrap();
            broker_for_nobody(&rig, &[])
        };
        scope.spawn(start).join().unwrap()
    });
    symlink(&secrets, rig.path("state/secrets")).unwrap();
    for (name, append) in [("letter", true), ("letter", false), ("new", false)] {
        let path = rig.path("state/secrets").join(name);
        let error = stolen.broker().open_output(&path, append).unwrap_err();
        assert!(matches!(error, BrokerError::Denied { .. }), "{name}: {error}");
    }
    assert_eq!(std::fs::read_to_string(secrets.join("letter")).unwrap(), "dear");
    assert!(!secrets.join("new").exists());
}

/// What only root can look into, and no guest has anything of; gone with this value.
struct Closed(std::path::PathBuf);

impl Closed {
    fn new() -> Self {
        let path = format!("/run/manor-test-{}", uuid::Uuid::new_v4());
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(Path::new(&path).join("letter"), "dear").unwrap();
        Self(path.into())
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn it_is_told_of_no_file_that_it_does_not_see_and_guests_may_not_have() {
    if !is_root() {
        return;
    }
    let (rig, closed) = (Rig::without_daemon(), Closed::new());
    let stolen = broker_for_nobody(&rig, &[]);
    let broker = stolen.broker();
    symlink(&closed.0, rig.path("state/closed")).unwrap();
    symlink(closed.0.join("none"), rig.path("state/lost")).unwrap();
    for path in [
        closed.0.join("letter"),
        closed.0.join("none"),
        rig.path("state/closed/letter"),
        rig.path("state/closed/none"),
        rig.path("state/lost"),
    ] {
        for answer in [broker.stat(&path).map(drop), broker.real_path(&path).map(drop)] {
            let refused = matches!(answer, Err(BrokerError::Refused { .. }));
            assert!(refused, "{}: {answer:?}", path.display());
        }
    }
    assert!(!broker.is_there(&closed.0.join("letter")).unwrap());
    // What anybody sees is no secret, and guests' places are told of, closed as they may be.
    assert!(broker.stat("/etc/passwd".as_ref()).unwrap().is_some_and(|it| it.size > 0));
    assert!(broker.stat(&closed.0).unwrap().is_some());
    assert_eq!(broker.stat("/etc/manor-none".as_ref()).unwrap(), None);
    let images = rig.path("images");
    std::fs::create_dir(&images).unwrap();
    std::fs::set_permissions(&images, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(images.join("disk.img"), [0; 512]).unwrap();
    let found = broker.stat(&images.join("disk.img")).unwrap();
    assert_eq!(found.map(|it| it.size), Some(512));
    assert_eq!(broker.stat(&images.join("none")).unwrap(), None);
}
