//! What somebody could do who has taken over a VMM: one thread gives up what VMMs give up, and then
//! tries to get out, in as many ways as we know. Once with the filters of each kind of thread, and once
//! without, for those that the layers beneath must hold by themselves.

mod probes;
mod sys;

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, thread};

use probes::{Alone, PROBES, Targets};
use vmm::isolation::{Needs, isolate};
use vmm::sandbox::{Kind, Sandbox};
use vmm_protocol::config::{Isolation, IsolationMode};

const PROBE: &str = "MANOR_TEST_PROBE";
const FILTER: &str = "MANOR_TEST_FILTER";
const TARGETS: &str = "MANOR_TEST_TARGETS";

/// How a probe's process tells its parent what became of it.
const CONTAINED: i32 = 40;
const ESCAPED: i32 = 41;
const NOT_ISOLATED: i32 = 42;

/// Not a test: the process of one probe.
#[test]
fn the_prisoner() {
    let Ok(name) = env::var(PROBE) else { return };
    let probe = PROBES.iter().find(|probe| probe.name == name).unwrap();
    let filter = env::var(FILTER).unwrap();
    let targets: Targets = Targets::from_text(&env::var(TARGETS).unwrap());
    let sandbox = Sandbox::on().unwrap();
    // A thread, so that what it gives up is not the test program's, which has more of them.
    let prisoner = thread::spawn(move || {
        let user = Some(0x7020_0000 + std::process::id());
        let wanted = Isolation { mode: IsolationMode::Required, user };
        if let Err(error) = isolate(wanted, Needs::default()) {
            println!("{error}: {}", std::error::Error::source(&error).unwrap());
            sys::exit(NOT_ISOLATED);
        }
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == filter) {
            sandbox.enter(kind).unwrap();
        }
        sys::exit(match (probe.attempt)(&targets) {
            Ok(()) => ESCAPED,
            Err(_) => CONTAINED,
        })
    });
    prisoner.join().unwrap();
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With an error.
    Refused,
    /// By a filter, at once.
    Killed,
    Escaped,
}

/// None where this machine lets nobody isolate a process.
fn attempt(name: &str, filter: &str, targets: &Targets) -> Option<End> {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "jailbreak::the_prisoner", "--nocapture"])
        .env(PROBE, name)
        .env(FILTER, filter)
        .env(TARGETS, targets.to_text())
        .env_remove("MANOR_SECCOMP")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match (output.status.code(), output.status.signal()) {
        (Some(CONTAINED), _) => Some(End::Refused),
        (Some(ESCAPED), _) => Some(End::Escaped),
        (Some(NOT_ISOLATED), _) => None,
        (_, Some(libc::SIGSYS)) => Some(End::Killed),
        _ => panic!("{name} with {filter:?}: {output:?}"),
    }
}

/// What there is to reach on a host: open to everybody, so that rights alone keep nobody out.
struct Host {
    _dir: tempfile::TempDir,
    _unix: UnixListener,
    _hidden: UnixListener,
    _tcp: TcpListener,
    targets: Targets,
}

impl Host {
    fn new() -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
        let open = |name: &str, mode| -> io::Result<String> {
            let path = dir.path().join(name);
            fs::write(&path, "another guest's")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            Ok(path.display().to_string())
        };
        let (disk, public) = (open("disk", 0o600)?, open("public", 0o666)?);
        let socket = dir.path().join("socket");
        let unix = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
        // Tests of one process stand beside each other.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let hidden = format!("manor-test-{}-{number}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&hidden)?;
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let targets = Targets {
            disk,
            public,
            socket: socket.display().to_string(),
            hidden,
            port: tcp.local_addr()?.port(),
            pid: std::process::id(),
        };
        let hidden = UnixListener::bind_addr(&abstract_address)?;
        Ok(Self { _dir: dir, _unix: unix, _hidden: hidden, _tcp: tcp, targets })
    }
}

#[test]
fn there_are_more_ways_out_than_sixty_and_each_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = PROBES.iter().map(|probe| probe.name).collect();
    assert_eq!(names.len(), PROBES.len());
    let by_layers = PROBES.iter().filter(|probe| probe.alone == Alone::Held).count();
    assert!(PROBES.len() >= 80 && by_layers >= 60, "{} {by_layers}", PROBES.len());
}

/// A probe that cannot succeed anywhere would prove nothing: from outside most of them do.
#[test]
fn what_the_prisoner_tries_works_for_who_is_free() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root");
        return;
    }
    let host = Host::new().unwrap();
    let harmless = PROBES.iter().filter(|probe| probe.works_outside);
    let failed: Vec<_> = harmless
        .filter_map(|probe| Some((probe.name, (probe.attempt)(&host.targets).err()?)))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn nobody_gets_out_of_a_vmm() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: another user can only be become by root");
        return;
    }
    let host = Host::new().unwrap();
    let mut escaped = Vec::new();
    let filters: Vec<String> = Kind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
    for (number, probe) in PROBES.iter().enumerate() {
        // Each filter sees its share of probes here; that none passes any is the filters' own test.
        let filter = &filters[number % filters.len()];
        for filter in ["none", filter].into_iter().skip(usize::from(probe.alone == Alone::Open)) {
            match attempt(probe.name, filter, &host.targets) {
                Some(End::Escaped) => escaped.push((probe.name, filter.to_owned())),
                Some(End::Refused | End::Killed) => {}
                None => {
                    println!("SKIP: this machine lets nobody isolate a process");
                    return;
                }
            }
        }
    }
    assert!(escaped.is_empty(), "{escaped:?}");
}
