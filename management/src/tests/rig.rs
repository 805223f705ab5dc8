//! A host for tests: directories of its own, and daemons that come and go.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerError, Granted, Local, Request};
use image::{FileStorage, Inspected};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::fake_vmm;
use crate::auth::{Access, Caller};
use crate::config::Config;
use crate::domain::{DomainDetails, DomainSummary, State};
use crate::error::Error;
use crate::events::{Event, EventKind, Lifecycle, Subscription};
use crate::manager::{Manager, Operation};
use crate::ops::{
    DefineDomain, Defined, DescribeDomain, DestroyDomain, FindDomain, ListDomains, OpenConsole,
    StartDomain, Subscribe,
};

pub(super) struct Host {
    pub dir: tempfile::TempDir,
    pub config: Config,
}

/// Makes what the tests' host may lack: /dev/kvm, and a place for cgroups.
#[derive(Debug, Clone)]
pub(super) struct TestBroker {
    local: Local,
}

impl TestBroker {
    pub(super) fn new() -> Self {
        let exe = std::env::current_exe().unwrap();
        Self { local: Local::new().with_program(exe, fake_vmm::arguments()) }
    }
}

impl Broker for TestBroker {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        match request {
            Request::OpenKvm => Ok(Granted::File(fs::File::open("/dev/null").unwrap().into())),
            Request::MakeCgroup { .. } => {
                Err(BrokerError::NoCgroup { reason: "not in tests".to_owned() })
            }
            Request::WorkOnImages => Ok(Granted::File(work_on_images(files))),
            Request::Inspect { format } => Ok(Granted::Answer(inspect(&format, files[0]))),
            other => self.local.perform(other, files),
        }
    }
}

/// What a process of its own does, on a thread of this one.
fn work_on_images(files: &[BorrowedFd<'_>]) -> OwnedFd {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let files = files.iter().map(|file| file.try_clone_to_owned().unwrap().into()).collect();
    std::thread::spawn(move || {
        let from = io::BufReader::new(theirs.try_clone().unwrap());
        // Whoever asked may have gone.
        let _ = image::work::serve(from, theirs, files);
    });
    ours.into()
}

/// What the inspecting process does, in this one.
fn inspect(format: &str, image: BorrowedFd<'_>) -> Vec<u8> {
    let file = FileStorage::new(image.try_clone_to_owned().unwrap().into()).unwrap();
    let answer = match image::describe(&file, format.parse().unwrap()) {
        Ok(description) => Inspected::Image(Box::new(description)),
        Err(error) => Inspected::Refused(error.in_full()),
    };
    serde_json::to_vec(&answer).unwrap()
}

impl Host {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            state_dir: dir.path().join("state"),
            run_dir: dir.path().join("run"),
            log_dir: dir.path().join("log"),
            ..Config::default()
        };
        config.domains.command_timeout = 2;
        config.domains.start_timeout = 5;
        fs::write(dir.path().join("kernel"), "a kernel").unwrap();
        fs::write(dir.path().join("disk.img"), [0; 4096]).unwrap();
        Self { dir, config }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) async fn daemon(&self) -> Daemon {
        self.daemon_with(Arc::new(TestBroker::new())).await
    }

    pub(super) async fn daemon_with(&self, broker: Arc<dyn Broker>) -> Daemon {
        let manager = Manager::open_with(self.config.clone(), broker).await.unwrap();
        Daemon { manager }
    }

    /// A domain whose guest does what `script` says.
    pub(super) fn xml(&self, name: &str, script: &str) -> String {
        self.xml_with(name, script, "")
    }

    pub(super) fn xml_with(&self, name: &str, script: &str, devices: &str) -> String {
        let kernel = self.path("kernel").display().to_string();
        format!(
            "<domain type='kvm'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>\
             <os><type>hvm</type><kernel>{kernel}</kernel><cmdline>{script}</cmdline></os>\
             <devices><serial type='null'/>{devices}</devices></domain>"
        )
    }

    pub(super) fn run_dirs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("run/domains")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// No guest outlives its test.
impl Drop for Host {
    fn drop(&mut self) {
        for dir in fs::read_dir(self.path("run/domains")).into_iter().flatten().flatten() {
            let record = crate::domain::record::Record::read(&dir.path());
            if let Some(process) = record.ok().and_then(|record| record.process) {
                let broker: &dyn Broker = &Local::new();
                let _ = broker.kill(process, None);
            }
        }
    }
}

pub(super) struct Daemon {
    pub manager: Manager,
}

impl Daemon {
    pub(super) async fn call<O: Operation>(&self, op: O) -> Result<O::Output, Error> {
        self.manager.call(&Caller::new("test", Access::Admin), op).await
    }

    pub(super) async fn define(&self, xml: String) -> Defined {
        self.call(DefineDomain { xml, cloud_init: None, check_only: false }).await.unwrap()
    }

    pub(super) async fn start(&self, name: &str) -> Result<(), Error> {
        self.call(StartDomain {
            domain: name.into(),
            paused: false,
            reset_variables: false,
            force_boot: false,
            force: false,
        })
        .await
    }

    pub(super) async fn destroy(&self, name: &str) -> Result<(), Error> {
        self.call(DestroyDomain { domain: name.into(), graceful: false }).await
    }

    pub(super) async fn find(&self, name: &str) -> Result<DomainSummary, Error> {
        self.call(FindDomain { domain: name.into() }).await
    }

    pub(super) async fn state(&self, name: &str) -> State {
        self.find(name).await.unwrap().state
    }

    pub(super) async fn describe(&self, name: &str) -> DomainDetails {
        self.call(DescribeDomain { domain: name.into() }).await.unwrap()
    }

    pub(super) async fn pid(&self, name: &str) -> u32 {
        self.describe(name).await.pid.unwrap()
    }

    pub(super) async fn names(&self) -> Vec<String> {
        let all = self.call(ListDomains::default()).await.unwrap();
        all.iter().map(|domain| domain.name.clone()).collect()
    }

    pub(super) async fn console(&self, name: &str) -> UnixStream {
        let open = OpenConsole { domain: name.into(), device: None, force: true, replay: true };
        self.call(open).await.unwrap().stream
    }

    /// Have the guest do something.
    pub(super) async fn type_in(&self, name: &str, line: &str) {
        let mut console = self.console(name).await;
        console.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        // Until it has read it: it ends, or says something.
        let mut seen = [0; 64];
        let _ = tokio::time::timeout(Duration::from_millis(200), console.read(&mut seen)).await;
    }

    pub(super) async fn subscribe(&self, after: u64) -> Subscription {
        self.call(Subscribe { after: Some(after), domain: None }).await.unwrap()
    }

    pub(super) async fn wait_for(&self, name: &str, what: &str, done: impl Fn(State) -> bool) {
        let start = Instant::now();
        loop {
            let state = self.state(name).await;
            if done(state) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{name} is {state:?}, not {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) async fn next(subscription: &mut Subscription) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
    next.expect("an event comes").expect("the daemon is there")
}

/// The lifecycle events up to and including this one.
pub(super) async fn lifecycle_until(
    subscription: &mut Subscription,
    last: Lifecycle,
) -> Vec<Lifecycle> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        if let EventKind::Lifecycle { lifecycle, .. } = next(subscription).await.kind {
            seen.push(lifecycle);
        }
    }
    seen
}

pub(super) fn signal(pid: u32, signal: rustix::process::Signal) -> io::Result<()> {
    let target = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(target, signal)?;
    // Each thread stops when it next looks.
    let stopped = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.flatten().all(|thread| {
            fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| stat.contains(") T "))
        })
    };
    while signal == rustix::process::Signal::STOP && !stopped() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
