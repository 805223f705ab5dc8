#![allow(clippy::print_stderr, reason = "a test says what it could not test")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Standard};

use super::tests::Rig;
use crate::{BrokerError, Granted, Limits, ProcessId, Request, Role, Stdio, cgroup};

/// A process of somebody else's, which ends with this value.
struct Other(Child);

impl Other {
    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Called so in the process list, with `file` open.
    fn called(name: &str, file: &Path) -> Self {
        let file = fs::File::open(file).unwrap();
        let it = Self::spawn(Command::new("/bin/sleep").arg0(name).arg("60").stdin(file));
        // The kernel has run it a moment before it says what it is called.
        let line = format!("/proc/{}/cmdline", it.0.id());
        while !fs::read(&line).unwrap().starts_with(name.as_bytes()) {
            std::thread::yield_now();
        }
        it
    }

    fn id(&self) -> ProcessId {
        ProcessId::of(self.0.id()).unwrap()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill(process: ProcessId) -> Request {
    Request::Kill { process, cgroup: None }
}

fn spawn(rig: &Rig, cgroup: Option<PathBuf>) -> Request {
    let (name, stdio) = ("web".to_owned(), Stdio::Log(rig.path("images/log")));
    Request::Spawn { role: Role::Domain, name, stdio, cgroup, limits: Limits::default() }
}

fn is_left_alone(rig: &Rig, other: &mut Other) {
    let process = other.id();
    rig.is_refused(kill(process));
    rig.is_refused(Request::TuneThreads { process, cgroup: None, rules: Vec::new() });
    rig.is_refused(Request::Confinement { process });
    assert!(other.lives());
}

/// Not a test: a process of the program that the broker is, as `manor` of root's.
#[test]
fn the_same_program() {
    if std::env::var_os("MANOR_TEST_SLEEPS").is_some() {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

#[test]
fn a_process_is_the_daemons_if_its_broker_has_started_it_whatever_it_is_called() {
    let (rig, another) = (Rig::new(), Rig::new());
    is_left_alone(&rig, &mut Other::spawn(Command::new("/bin/sleep").arg("60")));
    let null = Path::new("/dev/null");
    is_left_alone(&rig, &mut Other::called("manor guest=web", null));
    is_left_alone(&rig, &mut Other::called("manor network=lab", null));
    let mut same = Command::new(std::env::current_exe().unwrap());
    same.args(["--exact", "policy::running_tests::the_same_program", "--nocapture"]);
    same.env("MANOR_TEST_SLEEPS", "1").stdout(Standard::null());
    is_left_alone(&rig, &mut Other::spawn(&mut same));

    // By the broker that started it, or the next one; and another daemon's is somebody else.
    let Ok(Granted::Spawned(guest)) = rig.ask(spawn(&rig, None)) else { panic!("no process") };
    another.is_refused(kill(guest.id));
    rig.ask(Request::Confinement { process: guest.id }).unwrap();
    assert_eq!(guest.process.reap(), None);
    rig.ask(kill(guest.id)).unwrap();
    let end = || guest.process.reap().is_some();
    assert!((0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        end()
    }));
}

#[test]
fn guests_of_an_earlier_version_are_known_by_the_locks_that_they_hold() {
    let rig = Rig::new();
    for dir in ["run/domains/u", "state/domains/u", "state/leases", "images/domains/u"] {
        fs::create_dir_all(rig.path(dir)).unwrap();
    }
    let [lock, leases] = ["run/domains/u/lock", "state/leases/u.leases"];
    // An image of another's may be called so.
    let [image, elsewhere] = ["state/domains/u/lock", "images/domains/u/lock"];
    let others = ["run/domains/u/record.json", "state/disk.img", image, elsewhere];
    for name in [lock, leases].iter().chain(&others) {
        fs::write(rig.path(name), "").unwrap();
    }
    for (name, file) in [("manor guest=web", lock), ("manor network=lab", leases)] {
        let mut process = Other::called(name, &rig.path(file));
        rig.ask(kill(process.id())).unwrap();
        assert!(!process.0.wait().unwrap().success());
    }
    for file in others {
        is_left_alone(&rig, &mut Other::called("manor guest=web", &rig.path(file)));
        is_left_alone(&rig, &mut Other::called("manor network=lab", &rig.path(file)));
    }
    is_left_alone(&rig, &mut Other::called("manor", &rig.path(lock)));
    is_left_alone(&rig, &mut Other::called("manor network=lab", &rig.path(lock)));
}

/// Where two daemons' guests go; gone with this value.
struct Cgroups(PathBuf);

impl Cgroups {
    fn new() -> Option<Self> {
        let path = cgroup::mount().ok()?.join(format!("manor-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let domains = self.0.join("domains");
        for entry in fs::read_dir(&domains).into_iter().flatten().flatten() {
            let _ = fs::write(entry.path().join("cgroup.kill"), "1");
            for _ in 0..100 {
                if fs::remove_dir(entry.path()).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        let _ = fs::remove_dir(domains);
        let _ = fs::remove_dir(&self.0);
    }
}

fn make(rig: &Rig) -> Result<PathBuf, BrokerError> {
    match rig.ask(Request::MakeCgroup { name: "web".to_owned() })? {
        Granted::Path(path) => Ok(path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cgroup_is_the_daemons_if_its_broker_has_made_it() {
    let mut rig = Rig::new();
    for path in ["/sys/fs/cgroup/system.slice/ssh.service", "/etc/domains/x", "/tmp"] {
        let ended = ProcessId { pid: u32::MAX, start_time: 1 };
        rig.is_refused(Request::RemoveCgroup { path: path.into() });
        rig.is_refused(Request::Limit { cgroup: path.into(), limits: Limits::default() });
        rig.is_refused(Request::Kill { process: ended, cgroup: Some(path.into()) });
    }
    let Some(cgroups) = Cgroups::new() else {
        eprintln!("SKIP: no cgroup can be made here");
        return;
    };
    let mut another = Rig::new();
    (rig.cgroups, another.cgroups) = (Some(cgroups.0.clone()), Some(cgroups.0.clone()));
    let path = make(&rig).unwrap();
    let Ok(Granted::Spawned(guest)) = rig.ask(spawn(&rig, Some(path.clone()))) else {
        panic!("no process")
    };
    let process = ProcessId { pid: u32::MAX, start_time: 1 };
    let cgroup = || Some(path.clone());
    for request in [
        Request::MakeCgroup { name: "web".to_owned() },
        Request::RemoveCgroup { path: path.clone() },
        Request::Limit { cgroup: path.clone(), limits: Limits::default() },
        Request::Kill { process, cgroup: cgroup() },
        spawn(&another, cgroup()),
    ] {
        another.is_refused(request);
    }
    assert_eq!(guest.process.reap(), None);
    assert_eq!(make(&rig).unwrap(), path, "it is there, and its own");
    // That process has ended, and what is in the cgroup is ended all the same.
    let gone = rig.ask(Request::Kill { process, cgroup: cgroup() }).unwrap_err();
    assert!(matches!(gone, BrokerError::OtherProcess { .. }), "{gone}");
    assert!((0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        guest.process.reap().is_some()
    }));
    // Empty, it makes room for another daemon's, and is the first one's no more.
    make(&another).unwrap();
    rig.is_refused(Request::Limit { cgroup: path.clone(), limits: Limits::default() });
    another.ask(Request::RemoveCgroup { path: path.clone() }).unwrap();
    another.ask(Request::RemoveCgroup { path }).unwrap();
}
