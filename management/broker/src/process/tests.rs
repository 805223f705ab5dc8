use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::*;
use crate::{Broker, BrokerError, Limits, Local, Role, Sharing, Stdio};

struct Rig {
    dir: tempfile::TempDir,
}

/// A broker in a thread, behind the same sockets.
fn begin(lock: PathBuf, local: Local) -> (UnixStream, JoinHandle<Result<(), BrokerError>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, std::thread::spawn(move || serve(theirs.into(), &lock, || Ok(local))))
}

impl Rig {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn broker(&self, script: &str) -> Arc<dyn Broker> {
        let local = Local::new().with_program("/bin/sh".into(), vec!["-c".into(), script.into()]);
        Arc::new(Remote::at(begin(self.path("broker.lock"), local).0).unwrap())
    }

    fn spawn(&self, broker: &dyn Broker, files: &[std::os::fd::BorrowedFd<'_>]) -> crate::Process {
        let log = Stdio::Log(self.path("log"));
        let spawned = broker.spawn(Role::Domain, "demo", log, None, Limits::default(), files);
        spawned.unwrap().process
    }
}

fn end(process: &crate::Process) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(how) = process.reap() {
            return how;
        }
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn data_and_files_come_back_as_from_the_broker_inside() {
    let rig = Rig::new();
    let broker = rig.broker("");
    let (master, slave, path) = broker.pty().unwrap();
    assert!(path.starts_with("/dev/pts"), "{path:?}");
    rustix::io::write(&slave, b"x\n").unwrap();
    let mut text = [0; 1];
    std::fs::File::from(master).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"x");
    let (listener, port) = broker.listen_tcp([127, 0, 0, 1].into(), 41_000..=42_000).unwrap();
    assert_eq!(std::net::TcpListener::from(listener).local_addr().unwrap().port(), port);
    broker.make_run_dir(&rig.path("run")).unwrap();
    let held = broker.lock_run_dir(&rig.path("run")).unwrap();
    let error = broker.lock_run_dir(&rig.path("run")).unwrap_err();
    assert!(matches!(error, BrokerError::RunDirLocked { .. }), "{error}");
    drop(held);
    broker.lock_run_dir(&rig.path("run")).unwrap();
}

#[test]
fn an_error_says_the_same_as_from_the_broker_inside() {
    let rig = Rig::new();
    let (remote, local) = (rig.broker(""), Local::new());
    let local: &dyn Broker = &local;
    let tried = |broker: &dyn Broker, path: &Path| {
        let error = broker.open_image(path, false, false, Sharing::Exclusive).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        (error.to_string(), source, format!("{error:?}"))
    };
    let long = "n".repeat(300);
    for path in [Path::new("/nowhere/disk.img"), Path::new("/dev"), Path::new(&long)] {
        assert_eq!(tried(&*remote, path), tried(local, path));
    }
    // Not the kernel's but our own.
    let file = std::fs::File::open("/dev/null").unwrap();
    let many = vec![file.as_fd(); 202];
    let wordy = |broker: &dyn Broker| format!("{:?}", broker.work_on_images(&many).unwrap_err());
    assert!(wordy(&*remote).contains("more images than any chain has"), "{}", wordy(&*remote));
}

#[test]
fn how_a_process_ended_is_told_by_its_parent() {
    let rig = Rig::new();
    let broker = rig.broker("read line; exit 3");
    assert_eq!(end(&rig.spawn(&*broker, &[])), "exit status 3");
    let rig = Rig::new();
    let broker = rig.broker("sleep 600");
    let log = Stdio::Log(rig.path("log"));
    let spawned = broker.spawn(Role::Domain, "demo", log, None, Limits::default(), &[]).unwrap();
    assert_eq!(spawned.process.reap(), None);
    broker.kill(spawned.id, None).unwrap();
    assert_eq!(end(&spawned.process), "killed by signal 9");
    assert_eq!(spawned.process.reap(), None, "it is told once");
}

#[test]
fn more_files_than_go_with_one_message_arrive_in_their_order() {
    let rig = Rig::new();
    let broker = rig.broker("readlink /proc/self/fd/3 /proc/self/fd/602 >&2");
    let null = std::fs::File::open("/dev/null").unwrap();
    let last = std::fs::File::create(rig.path("last")).unwrap();
    let mut files = vec![null.as_fd(); 599];
    files.push(last.as_fd());
    end(&rig.spawn(&*broker, &files));
    let log = std::fs::read_to_string(rig.path("log")).unwrap();
    assert_eq!(log, format!("/dev/null\n{}\n", rig.path("last").display()));
}

#[test]
fn acts_run_beside_each_other() {
    let rig = Rig::new();
    let broker = rig.broker("");
    let threads = (0..64).map(|number| {
        let (broker, path) = (broker.clone(), rig.path(&format!("out{number}")));
        std::thread::spawn(move || {
            for _ in 0..20 {
                let file = broker.open_output(&path, true).unwrap();
                rustix::io::write(&file, b"x").unwrap();
            }
            std::fs::read(&path).unwrap().len()
        })
    });
    let threads: Vec<_> = threads.collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 20));
}

#[test]
fn a_broker_begins_when_the_one_before_has_ended_and_ends_with_its_daemon() {
    let rig = Rig::new();
    let (first, served) = begin(rig.path("broker.lock"), Local::new());
    let first = Remote::at(first).unwrap();
    let (second, _) = begin(rig.path("broker.lock"), Local::new());
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!((&second).read(&mut [0]).is_err(), "two brokers are at work");
    drop(first);
    served.join().unwrap().unwrap();
    second.set_read_timeout(None).unwrap();
    Remote::at(second).unwrap();
}

#[test]
fn what_is_asked_of_a_broker_that_is_gone_fails_and_says_so() {
    let rig = Rig::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    frame::send(&mut &theirs, &serve::Ready::Ok(serve::Hello { is_root: false }), &[]).unwrap();
    let remote = Remote::at(ours).unwrap();
    drop(theirs);
    let broker: &dyn Broker = &remote;
    let error = broker.make_run_dir(&rig.path("run")).unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    // One that cannot even begin.
    let start = Start { program: "/bin/false".into(), arguments: Vec::new() };
    let error = Remote::start(&start).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("it ended at once"), "{source}");
}
