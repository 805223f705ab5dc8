#![allow(clippy::print_stderr, reason = "a test says what it could not test")]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{
    Broker, BrokerError, Holder, Limits, Local, ProcessId, Sharing, SpawnedProcess, Stdio, Tap,
};

struct Rig {
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn image(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, [0; 4096]).unwrap();
        path
    }

    /// A shell in place of a VMM.
    fn shell(&self, script: &str, files: &[&OwnedFd]) -> Result<SpawnedProcess, BrokerError> {
        let broker =
            Local::new().with_program("/bin/sh".into(), vec!["-c".into(), script.to_owned()]);
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        let broker: &dyn Broker = &broker;
        broker.spawn(
            crate::Role::Domain,
            "demo",
            Stdio::Log(self.path("log")),
            None,
            Limits::default(),
            &files,
        )
    }

    fn output(&self) -> OwnedFd {
        let path = self.path("out");
        File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
            .into()
    }
}

fn broker() -> impl std::ops::Deref<Target = dyn Broker> {
    let boxed: Box<dyn Broker> = Box::new(Local::new());
    boxed
}

fn wait(process: &SpawnedProcess) -> String {
    let start = Instant::now();
    loop {
        if let Some(status) = process.process.reap() {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the process does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn text(file: OwnedFd) -> String {
    let mut file = File::from(file);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_spawned_process_has_exactly_the_files_given_in_order() {
    let rig = Rig::new();
    let out = rig.output();
    let input = rig.path("in");
    fs::write(&input, "from 4").unwrap();
    let input: OwnedFd = File::open(input).unwrap().into();
    // Held without close-on-exec, as a careless library would.
    let stray = rustix::io::dup(&input).unwrap();
    let child = rig.shell(
        "cat <&4 >&3; for f in /proc/self/fd/*; do if [ -e $f ]; then echo \" ${f##*/}\" >&3; fi; done",
        &[&out, &input],
    );
    assert_eq!(wait(&child.unwrap()), "exit status 0");
    drop(stray);
    let text = text(out);
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!(words, ["from", "4", "0", "1", "2", "3", "4"]);
}

#[test]
fn many_files_keep_their_order_whatever_numbers_they_had() {
    let rig = Rig::new();
    let out = rig.output();
    let files: Vec<OwnedFd> = (0..40)
        .map(|n| {
            let path = rig.path(&format!("f{n}"));
            fs::write(&path, format!("{n} ")).unwrap();
            File::open(path).unwrap().into()
        })
        .collect();
    let mut table: Vec<_> = files.iter().rev().collect();
    table.insert(0, &out);
    // The shell cannot redirect from two-digit descriptors; /proc can.
    let script = "i=4; while [ $i -lt 44 ]; do cat /proc/self/fd/$i >&3; i=$((i+1)); done";
    assert_eq!(wait(&rig.shell(script, &table).unwrap()), "exit status 0");
    let expected: String = (0..40).rev().map(|n| format!("{n} ")).collect();
    assert_eq!(text(out), expected);
}

#[test]
fn a_spawned_process_leads_a_session_of_its_own() {
    let rig = Rig::new();
    let out = rig.output();
    let child = rig.shell("cut -d' ' -f6 /proc/self/stat >&3", &[&out]).unwrap();
    wait(&child);
    assert_eq!(text(out).trim(), child.id.pid.to_string());
}

#[test]
fn a_program_that_cannot_be_run_is_an_error_and_leaves_no_process() {
    let rig = Rig::new();
    let local = Local::new().with_program("/nonexistent".into(), Vec::new());
    let broker: &dyn Broker = &local;
    let error = broker
        .spawn(
            crate::Role::Domain,
            "demo",
            Stdio::Log(rig.path("log")),
            None,
            Limits::default(),
            &[],
        )
        .unwrap_err();
    let BrokerError::Host { act, source } = &error else { panic!("{error:?}") };
    assert_eq!(act, "start the VMM of \"demo\"");
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn kill_ends_the_process_that_was_started_and_no_other() {
    let rig = Rig::new();
    let child = rig.shell("exec sleep 1000", &[]).unwrap();
    let other = ProcessId { start_time: child.id.start_time + 1, ..child.id };
    let error = broker().kill(other, None).unwrap_err();
    assert!(matches!(error, BrokerError::OtherProcess { .. }), "{error}");
    assert_eq!(child.process.reap(), None);
    broker().kill(child.id, None).unwrap();
    assert!(wait(&child).contains("signal 9"));
}

#[test]
fn a_written_image_is_for_one_and_the_holder_is_named() {
    let rig = Rig::new();
    let path = rig.image("disk.img");
    let first = broker().open_image(&path, false, false, Sharing::Exclusive).unwrap();
    let child = rig.shell("read x; exec sleep 1000", &[&first]);
    let child = child.unwrap();
    drop(first);
    // The lock went along with the file.
    for read_only in [false, true] {
        let error = broker().open_image(&path, read_only, false, Sharing::Exclusive).unwrap_err();
        let BrokerError::Locked { holder: Holder::Process { pid, .. }, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*pid, child.id.pid);
    }
    broker().kill(child.id, None).unwrap();
    wait(&child);
    broker().open_image(&path, false, false, Sharing::Exclusive).unwrap();
}

#[test]
fn readers_share_an_image_and_shareable_writers_too() {
    let rig = Rig::new();
    let path = rig.image("disk.img");
    let open = |read_only, sharing| broker().open_image(&path, read_only, false, sharing);
    {
        let _one = open(true, Sharing::Exclusive).unwrap();
        let _two = open(true, Sharing::Exclusive).unwrap();
        assert!(open(false, Sharing::Shared).is_err(), "a writer among readers who forbid it");
    }
    let _one = open(false, Sharing::Shared).unwrap();
    let _two = open(false, Sharing::Shared).unwrap();
    assert!(open(true, Sharing::Exclusive).is_err(), "an exclusive reader among writers");
}

#[test]
fn the_domain_lock_lasts_as_long_as_any_copy() {
    let rig = Rig::new();
    let lock = broker().lock_run_dir(rig.dir.path()).unwrap();
    let copy = lock.try_clone().unwrap();
    drop(lock);
    let error = broker().lock_run_dir(rig.dir.path()).unwrap_err();
    assert!(matches!(error, BrokerError::RunDirLocked { .. }), "{error}");
    drop(copy);
    broker().lock_run_dir(rig.dir.path()).unwrap();
}

#[test]
fn the_missing_part_of_a_path_is_named() {
    let rig = Rig::new();
    let path = rig.path("pool/disk.img");
    let error = broker().open_image(&path, true, false, Sharing::Exclusive).unwrap_err();
    let BrokerError::Missing { component, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*component, rig.path("pool"));
    assert!(error.to_string().contains("does not exist (at "), "{error}");
}

#[test]
fn what_is_no_image_is_refused_without_waiting_for_it() {
    let rig = Rig::new();
    let fifo = rig.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for path in [fifo.as_path(), rig.dir.path(), Path::new("/dev/null")] {
        let image = broker().open_image(path, true, false, Sharing::Exclusive);
        assert!(matches!(image, Err(BrokerError::WrongKind { .. })), "{image:?}");
        let kernel = broker().open_input("kernel", path);
        assert!(matches!(kernel, Err(BrokerError::WrongKind { .. })), "{kernel:?}");
    }
}

#[test]
fn an_output_file_is_not_written_through_a_link() {
    let rig = Rig::new();
    let victim = rig.image("victim");
    std::os::unix::fs::symlink(&victim, rig.path("log")).unwrap();
    let error = broker().open_output(&rig.path("log"), false).unwrap_err();
    assert!(matches!(error, BrokerError::WrongKind { .. }), "{error}");
    assert_eq!(fs::read(victim).unwrap().len(), 4096);
}

#[test]
fn bytes_pass_a_pty_unchanged() {
    let (master, _slave, path) = broker().pty().unwrap();
    let mut slave = File::options().read(true).write(true).open(path).unwrap();
    let mut master = File::from(master);
    slave.write_all(b"a\nb\x03\r").unwrap();
    let mut seen = [0; 5];
    master.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"a\nb\x03\r");
}

#[test]
fn a_socket_path_too_long_for_the_kernel_is_named() {
    let rig = Rig::new();
    let error = broker().listen(&rig.path(&"x".repeat(120))).unwrap_err();
    assert!(matches!(error, BrokerError::SocketPath { .. }), "{error}");
}

#[test]
fn a_dead_listener_is_replaced_and_a_file_is_not() {
    let rig = Rig::new();
    let path = rig.path("control.sock");
    drop(broker().listen(&path).unwrap());
    drop(broker().listen(&path).unwrap());
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(broker().listen(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn absent_bridges_and_taps_are_named() {
    let bridged = Tap::Bridged {
        bridge: "no-such-br".into(),
        name: None,
        mac: [0x52, 0x54, 0, 1, 2, 3],
        mtu: None,
        queues: 1,
        vlans: None,
        known_mac: false,
    };
    let error = broker().tap(bridged).unwrap_err();
    assert!(matches!(error, BrokerError::NoBridge { .. }), "{error}");
    let existing = Tap::Existing { name: "no-such-tap".into(), queues: 1 };
    let error = broker().tap(existing).unwrap_err();
    assert!(matches!(error, BrokerError::NoInterface { .. }), "{error}");
    let path = Tap::Existing { name: "../../etc".into(), queues: 1 };
    let error = broker().tap(path).unwrap_err();
    assert!(matches!(error, BrokerError::NoInterface { .. }), "{error}");
    let loopback = Tap::Existing { name: "lo".into(), queues: 1 };
    let error = broker().tap(loopback).unwrap_err();
    assert!(matches!(error, BrokerError::NotTap { .. }), "{error}");
}

/// Makes a bridge for one test, where this host lets us.
struct Bridge(String);

impl Bridge {
    fn new() -> Option<Self> {
        let name = format!("mtest{}", std::process::id());
        let ip = |args: &[&str]| {
            std::process::Command::new("ip")
                .args(args)
                .status()
                .is_ok_and(|status| status.success())
        };
        let made = ip(&["link", "add", &name, "mtu", "1400", "type", "bridge"]);
        if !made {
            eprintln!("not tested: this host does not let us make a bridge");
        }
        made.then_some(Self(name))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

#[test]
fn a_bridged_tap_is_up_in_its_bridge_and_goes_with_its_last_queue() {
    let Some(bridge) = Bridge::new() else { return };
    let request = Tap::Bridged {
        bridge: bridge.0.clone(),
        name: None,
        mac: [0x52, 0x54, 0, 1, 2, 3],
        mtu: None,
        queues: 2,
        vlans: None,
        known_mac: false,
    };
    let tap = broker().tap(request).unwrap();
    assert_eq!(tap.queues.len(), 2);
    let sysfs = Path::new("/sys/class/net").join(&tap.name);
    let read = |name: &str| fs::read_to_string(sysfs.join(name)).unwrap().trim().to_owned();
    assert_eq!(
        fs::read_link(sysfs.join("master")).unwrap().file_name().unwrap(),
        bridge.0.as_str()
    );
    assert_eq!(read("address"), "fe:54:00:01:02:03");
    assert_eq!(read("mtu"), "1400");
    let flags = u32::from_str_radix(read("flags").trim_start_matches("0x"), 16).unwrap();
    assert_ne!(flags & 1, 0, "the tap is up");
    drop(tap);
    // A process that another test starts at this moment has copies until its exec.
    let start = Instant::now();
    while sysfs.exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "the tap is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}
