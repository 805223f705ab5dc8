//! One domain without a daemon: `manor run FILE.xml`.
//!
//! The same steps as in the daemon, without store, actor and journal: definition, machine, process,
//! handshake. The guest waits until its console is attached, so that nothing it says is lost.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, CONTROL_SOCKET, EXIT_RECORD, Local, Process, ProcessId, Stdio};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use vmm_protocol::config::{Isolation, IsolationMode};
use vmm_protocol::control::{ErrorAction, EventKind, Hello, Request};
use vmm_protocol::exit::{ExitReason, ExitRecord};
use xml::DomainDef;
use xml::device::chardev::CharType;

use crate::cloud_init::{CloudInit, Seeds};
use crate::config;
use crate::control::{Events, Vmm, open_console};
use crate::domain::actor::vmm_error;
use crate::domain::exit::Exit;
use crate::domain::launch::{Launch, Launched, launch, remove_cgroup};
use crate::domain::network_disks::{Attempts, reconnect};
use crate::domain::{clean, with_paths};
use crate::error::{Code, Error, Problem};
use crate::firmware::Installed;
use crate::host::{Driver, Host};
use crate::ops::consoles;
use crate::store::Disk;
use crate::translate::NewIds;
use crate::translate::{self, Checked};
use crate::users;

/// How to run a domain in the foreground.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The definition.
    pub xml: String,
    /// What the guest's cloud-init shall find.
    pub cloud_init: Option<CloudInit>,
    /// Where the control socket and the locks lie meanwhile.
    pub run_dir: PathBuf,
    pub seccomp: bool,
}

/// What ends a console session, as in telnet and virsh.
const ESCAPE: u8 = 0x1d;
const READY: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(5);
/// For somebody to make room, before a guest tries again what its disk failed.
const RETRY: Duration = Duration::from_secs(10);

/// Run a domain with its first console on stdin and stdout until the guest ends. A terminal is
/// put into raw mode meanwhile; `^]` destroys the guest. `warn` is told what is left out.
pub async fn run(options: Options, warn: impl FnMut(&Problem) + Send) -> Result<ExitReason, Error> {
    run_with(options, warn, Arc::new(Local::new())).await
}

pub(crate) async fn run_with(
    options: Options,
    mut warn: impl FnMut(&Problem) + Send,
    broker: Arc<dyn Broker>,
) -> Result<ExitReason, Error> {
    let firmware = Installed::new(config::Firmware::default());
    // Nobody could find them again: what no place is named for goes with the guest.
    let own = options.run_dir.join("run");
    let seeds = options.cloud_init.as_ref().map(|_| own.clone());
    let host = translate::Host { firmware, variables: own.clone(), seeds, driver: Driver::Kvm };
    if let Some(documents) = &options.cloud_init {
        documents.check()?;
    }
    let Checked { def, warnings } = translate::define(&options.xml, &mut NewIds, &host)?;
    warnings.iter().for_each(&mut warn);
    let uuid = def.uuid.ok_or_else(|| Error::new(Code::Internal, "a definition has no UUID"))?;
    let run_dir = own.join(uuid.to_string());
    let seeds = Seeds::new(Arc::new(Disk), own);
    if let Some(documents) = &options.cloud_init {
        seeds.put(uuid, &documents.seed(uuid, def.name.as_ref()))?;
    }
    let plan = Launch {
        uuid,
        id: 1,
        platform: translate::PLATFORM,
        paused: true,
        seccomp: options.seccomp,
        isolation: isolation(options.seccomp),
        firmware: host.firmware,
        vnc: config::Vnc::default(),
        nbd: config::Nbd::default(),
        reset_variables: false,
        agent_timeout: crate::agent::AgentTimeout::Usual,
        restore: None,
        log: Some(run_dir.join("vmm.log")),
        stdio: Stdio::Foreground,
        run_dir,
        boot_id: crate::manager::boot_id()?,
        host: Host::own(),
        pools: Vec::new(),
        networks: None,
        neighbours: HashMap::new(),
        def,
    };
    let run_dir = plan.run_dir.clone();
    let guest = match Guest::start(plan, broker).await {
        Ok(guest) => guest,
        Err(error) => {
            let _ = seeds.remove(uuid);
            remove_parent(&run_dir);
            return Err(error);
        }
    };
    let result = guest.follow().await;
    // The guest is through with it.
    let result = guest.finish(result).await;
    let _ = seeds.remove(uuid);
    remove_parent(&run_dir);
    result
}

struct Guest {
    name: String,
    run_dir: PathBuf,
    id: ProcessId,
    cgroup: Option<PathBuf>,
    def: DomainDef,
    exit: Exit,
    broker: Arc<dyn Broker>,
}

impl Guest {
    async fn start(plan: Launch, broker: Arc<dyn Broker>) -> Result<Self, Error> {
        let (started, launched) = oneshot::channel();
        let (shared, run_dir) = (broker.clone(), plan.run_dir.clone());
        // The process ends with the thread that starts it: so that thread stays until it has ended.
        std::thread::Builder::new()
            .name("guest".to_owned())
            .spawn(move || {
                let result = launch(&*shared, &plan);
                let process = result.as_ref().ok().and_then(|launched| launched.record.process);
                let kept = process.and_then(ProcessId::open);
                let _ = started.send(result);
                if let Some(process) = kept {
                    wait(&process);
                }
            })
            .map_err(|error| {
                Error::new(Code::HostFailure, "cannot start a thread").with_source(error)
            })?;
        let gone = |_| Error::new(Code::Internal, "the thread that starts the guest failed");
        let Launched { record, process, live } = launched.await.map_err(gone)??;
        let id = record.process.ok_or_else(|| Error::new(Code::Internal, "no process"))?;
        let exit = Exit::new(process).map_err(|source| {
            Error::new(Code::HostFailure, "cannot watch the VMM's process").with_source(source)
        })?;
        Ok(Self { name: record.name, run_dir, id, cgroup: record.cgroup, def: live, exit, broker })
    }

    /// Let it run, and stay with it to its end.
    async fn follow(&self) -> Result<(), Error> {
        let path = self.run_dir.join(CONTROL_SOCKET);
        let failed = |error| vmm_error(&self.name, error);
        let (vmm, _, events): (Vmm, Hello, _) = tokio::select! {
            biased;
            () = self.exit.ended() => return Ok(()),
            () = told_to_stop() => return self.kill(),
            met = Vmm::connect(&path, READY) => match met {
                Ok(met) => met,
                Err(error) => return self.unless_ended(failed(error)).await,
            },
        };
        let rules = translate::tuning::new_threads(&self.def);
        if !rules.is_empty()
            && let Err(error) = self.broker.tune_threads(self.id, self.cgroup.as_deref(), rules)
        {
            self.kill()?;
            return Err(error.into());
        }
        // What is connected to stdin and stdout itself needs nobody in between.
        let own = self.def.devices.serials.first().is_some_and(|s| s.kind == CharType::Stdio);
        let console = match consoles(&self.def).first().filter(|_| !own) {
            Some(device) => {
                let opened = open_console(&path, device, true, true, WAIT).await;
                match opened {
                    Ok(stream) => Some(stream),
                    Err(error) => return self.unless_ended(failed(error)).await,
                }
            }
            None => None,
        };
        if let Err(error) = vmm.tell(Request::Resume, WAIT).await {
            return self.unless_ended(failed(error)).await;
        }
        if let Err(error) = vmm.tell(Request::Events { after: 0 }, WAIT).await {
            return self.unless_ended(failed(error)).await;
        }
        let _connecting = self.keep_connected(&vmm, events);
        let _raw = console.as_ref().and_then(|_| RawTerminal::enter());
        let talk = async {
            match console {
                Some(stream) => pump(stream).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(talk);
        tokio::select! {
            biased;
            () = told_to_stop() => return self.destroy(&vmm).await,
            end = &mut talk => match end {
                Talk::Escaped => return self.destroy(&vmm).await,
                // The console's last words are out; the process ends now.
                Talk::Ended => {}
            },
            () = self.exit.ended() => {
                // What it said last is still in the socket.
                let _ = tokio::time::timeout(WAIT, &mut talk).await;
                return Ok(());
            }
        }
        tokio::select! {
            () = told_to_stop() => self.destroy(&vmm).await,
            () = self.exit.ended() => Ok(()),
        }
    }

    /// Serve disks that lose their servers or run full, as long as what is returned lives.
    fn keep_connected(&self, vmm: &Vmm, mut events: Events) -> impl Drop + use<> {
        let (vmm, broker, def) = (vmm.clone(), self.broker.clone(), self.def.clone());
        let serve = tokio::spawn(async move {
            let attempts = Attempts::default();
            while let Some(event) = events.recv().await {
                match event.kind {
                    EventKind::ConnectionWanted { id, .. } => {
                        reconnect(&attempts, broker.clone(), vmm.clone(), &def, None, id);
                    }
                    EventKind::BlockError { id, error, action: ErrorAction::Stop, .. } => {
                        let (disk, error) = (clean(&id), clean(&error));
                        tracing::warn!(disk, error, "the guest waits for its disk");
                        tokio::spawn(resume_later(vmm.clone()));
                    }
                    _ => {}
                }
            }
        });
        AbortOnDrop(serve)
    }

    /// A VMM that ends closes its connections a moment before.
    async fn unless_ended(&self, error: Error) -> Result<(), Error> {
        match tokio::time::timeout(Duration::from_secs(1), self.exit.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(error),
        }
    }

    async fn destroy(&self, vmm: &Vmm) -> Result<(), Error> {
        let told = vmm.tell(Request::Destroy, WAIT).await;
        let ended = tokio::time::timeout(WAIT, self.exit.ended()).await;
        if told.is_err() || ended.is_err() { self.kill() } else { Ok(()) }
    }

    fn kill(&self) -> Result<(), Error> {
        match self.broker.kill(self.id, self.cgroup.as_deref()) {
            // It went by itself.
            Err(broker::BrokerError::OtherProcess { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    fn forget_variables(&self) {
        let own = |path: &&Path| path.parent() == self.run_dir.parent();
        if let Some(path) = translate::variables(&self.def).map(|(path, _)| path).filter(own) {
            let _ = self.broker.remove_variables(path);
        }
    }

    async fn finish(self, result: Result<(), Error>) -> Result<ExitReason, Error> {
        if result.is_err() {
            self.kill()?;
        }
        self.exit.ended().await;
        let status = self.exit.reap();
        let reason = read_record(&self.run_dir.join(EXIT_RECORD)).map(|record| record.reason);
        let reason = reason.map(|reason| match reason {
            ExitReason::Failed { message } => {
                ExitReason::Failed { message: with_paths(&message, &self.def) }
            }
            other => other,
        });
        if let Some(cgroup) = &self.cgroup {
            remove_cgroup(&*self.broker, cgroup);
        }
        if let Some(uuid) = self.def.uuid {
            let _ = self.broker.remove_direct(&uuid.to_string(), Vec::new());
        }
        let _ = self.broker.remove_run_dir(&self.run_dir);
        self.forget_variables();
        result?;
        reason.ok_or_else(|| {
            let how = status.unwrap_or_else(|| "nobody saw how".to_owned());
            Error::new(Code::VmmFailed, format!("the VMM ended without a word ({how})"))
        })
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Unless another guest runs beside this.
/// Who turns the filters off debugs the VMM, for which the rest is in the way too.
fn isolation(wanted: bool) -> Isolation {
    let user = rustix::process::geteuid().is_root().then(users::foreground);
    if wanted { Isolation { mode: IsolationMode::Possible, user } } else { Isolation::default() }
}

fn remove_parent(run_dir: &Path) {
    let _ = run_dir.parent().map(std::fs::remove_dir);
}

/// Block until a process has ended.
fn wait(process: &Process) {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    while poll(&mut ended, None) == Err(rustix::io::Errno::INTR) {}
}

fn read_record(path: &Path) -> Option<ExitRecord> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

async fn told_to_stop() {
    let watch = |kind| signal(kind).ok();
    let (Some(mut terminate), Some(mut interrupt), Some(mut hang_up)) = (
        watch(SignalKind::terminate()),
        watch(SignalKind::interrupt()),
        watch(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hang_up.recv() => {}
    }
}

enum Talk {
    Escaped,
    Ended,
}

/// Terminal to guest and back. The end of stdin is not the end of the guest.
async fn pump(stream: UnixStream) -> Talk {
    let (mut from_guest, mut to_guest) = stream.into_split();
    let output = async move {
        let (mut stdout, mut bytes) = (tokio::io::stdout(), vec![0; 4096]);
        while let Ok(count @ 1..) = from_guest.read(&mut bytes).await {
            // A closed pipe is the reader's wish: the guest goes on.
            let _ = stdout.write_all(&bytes[..count]).await;
            let _ = stdout.flush().await;
        }
    };
    let input = async move {
        let (mut stdin, mut bytes) = (tokio::io::stdin(), [0; 1024]);
        while let Ok(count @ 1..) = stdin.read(&mut bytes).await {
            let typed = &bytes[..count];
            let until = typed.iter().position(|byte| *byte == ESCAPE);
            let _ = to_guest.write_all(&typed[..until.unwrap_or(count)]).await;
            if until.is_some() {
                return;
            }
        }
        // Kept open: closing it would detach the console.
        std::future::pending::<()>().await;
        drop(to_guest);
    };
    tokio::select! {
        biased;
        () = output => Talk::Ended,
        () = input => Talk::Escaped,
    }
}

/// The terminal as it was, put back at the end.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Nobody else can resume a guest that waits for a disk: it tries by itself.
async fn resume_later(vmm: Vmm) {
    tokio::time::sleep(RETRY).await;
    // One that has ended needs it no more.
    let _ = vmm.tell(Request::Resume, WAIT).await;
}
