//! A VMM without a machine: a process that is started, spoken to, stopped and killed like a real
//! one. The test binary plays it itself. What its guest does at start stands in the kernel command
//! line; later, commands are typed at its console.

mod answers;
mod doom;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vmm_protocol::block_job::{BlockJobKind, BlockJobPhase, BlockJobStatus};
use vmm_protocol::config::{Action, Boot, FIRST_FD, Lifecycle, MachineConfig, PciKind};
use vmm_protocol::control::{
    Call, ControlError, ControlErrorCode as Code, Event, EventKind, Message, Reply, Request,
    RunState, StateReason,
};
use vmm_protocol::exit::{CrashReport, ExitReason, ExitRecord, status};
use vmm_protocol::wire;

use doom::Doom;

use super::fake_agent;
use super::fake_commit;
use super::fake_save::{Saver, WithFiles, is_fake};

/// Arguments that make this binary play the VMM.
pub(super) fn arguments() -> Vec<String> {
    let test = "tests::fake_vmm::plays_the_vmm_when_it_is_started_as_one";
    ["--exact", test, "--nocapture", "--test-threads=1"].map(str::to_owned).into()
}

#[test]
fn plays_the_vmm_when_it_is_started_as_one() {
    let config = format!("/proc/self/fd/{FIRST_FD}");
    let started = std::fs::read_link(&config)
        .is_ok_and(|target| target.to_string_lossy().contains("machine-config"));
    if started {
        let config = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
        run(config);
    }
}

struct Fake {
    config: MachineConfig,
    script: String,
    started: Instant,
    saver: Saver,
    inner: Mutex<Inner>,
}

struct Inner {
    state: (RunState, StateReason),
    lifecycle: Lifecycle,
    live_record: String,
    events: Vec<Event>,
    subscribers: Vec<UnixStream>,
    console: Option<UnixStream>,
    output: String,
    boots: u32,
    memory: Option<u64>,
    vcpus: u16,
    channels: Vec<String>,
    /// Where its memory was copied while it ran.
    copied: Option<File>,
    /// What came while it runs.
    plugged: Vec<String>,
    /// Its state is in a file, and it has not run since.
    saved: bool,
    /// What its disks were made of while it runs.
    images: Vec<OwnedFd>,
    /// At most one of each disk; those that have ended stay until they are dismissed.
    block_jobs: Vec<BlockJobStatus>,
}

fn run(config: MachineConfig) {
    let script = match &config.boot {
        Boot::Kernel { cmdline, .. } => cmdline.clone(),
        Boot::Firmware(_) => String::new(),
    };
    let listener = UnixListener::from(super::sys::adopt(config.process.control));
    let locks: Vec<_> = config.process.locks.iter().map(|fd| super::sys::adopt(*fd)).collect();
    std::mem::forget(locks);
    let state = if config.start_paused {
        (RunState::Paused, StateReason::StartingUp)
    } else {
        (RunState::Running, StateReason::Booted)
    };
    let inner = Inner {
        state,
        lifecycle: config.lifecycle,
        live_record: config.process.live_record.clone(),
        events: Vec::new(),
        subscribers: Vec::new(),
        console: None,
        output: String::new(),
        boots: 0,
        memory: None,
        vcpus: config.cpus.present.unwrap_or(config.cpus.count),
        channels: Vec::new(),
        plugged: Vec::new(),
        copied: None,
        saved: false,
        images: Vec::new(),
        block_jobs: Vec::new(),
    };
    let fake = Arc::new(Fake {
        config,
        script,
        started: Instant::now(),
        saver: Saver::default(),
        inner: Mutex::new(inner),
    });
    if fake.has("slow") {
        std::thread::sleep(Duration::from_secs(1));
    }
    if fake.has("never-ready") {
        loop {
            std::thread::park();
        }
    }
    if fake.has("dies-at-once") {
        std::process::abort();
    }
    if fake.has("off-at-once") {
        fake.end(ExitReason::Shutdown);
    }
    if fake.has("cannot-build") {
        fake.end(ExitReason::Failed { message: "kernel is not one".into() });
    }
    if let Some(restore) = &fake.config.restore {
        if !is_fake(&File::from(super::sys::adopt(restore.image))) {
            fake.end(ExitReason::Failed { message: "this is no saved state".into() });
        }
        fake.print("restored\n");
    } else {
        fake.boot();
    }
    fake.event(EventKind::Started);
    if fake.manner().is_some() {
        fake.open_channel(true);
    }
    for stream in listener.incoming() {
        let (fake, stream) = (fake.clone(), stream.unwrap());
        std::thread::spawn(move || fake.serve(stream));
    }
}

impl Fake {
    fn has(&self, word: &str) -> bool {
        self.script.split_whitespace().any(|has| has == word)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// How the guest's agent behaves, if there is one.
    fn manner(&self) -> Option<&str> {
        self.script.split_whitespace().find_map(|word| word.strip_prefix("agent="))
    }

    fn open_channel(&self, open: bool) {
        let id = "channel0".to_owned();
        self.inner().channels = open.then(|| id.clone()).into_iter().collect();
        self.event(EventKind::ChannelChanged { id, open });
    }

    fn has_channel(&self, id: &str) -> bool {
        self.config.pci.iter().any(|device| match &device.kind {
            PciKind::Console(console) => console.ports.iter().any(|port| port.id == id),
            _ => false,
        })
    }

    /// What the agent is asked for beside questions.
    fn agent_was_asked(&self, request: &serde_json::Value) -> Option<serde_json::Value> {
        if request["execute"] == "guest-set-time" {
            self.print(if request["arguments"]["time"].is_i64() {
                "time set\n"
            } else {
                "clock read\n"
            });
            return Some(serde_json::json!({ "return": {} }));
        }
        match request["execute"].as_str() {
            Some("guest-shutdown") => {}
            Some("guest-fsfreeze-freeze") => {
                self.print("frozen\n");
                return None;
            }
            Some("guest-fsfreeze-thaw") => {
                self.print("thawed\n");
                return None;
            }
            _ => return None,
        }
        match request["arguments"]["mode"].as_str() {
            Some("reboot") => self.reset(),
            mode => {
                assert_eq!(mode, Some("powerdown"));
                self.power_off();
            }
        }
        Some(serde_json::json!({ "return": {} }))
    }

    fn boot(&self) {
        self.inner().boots += 1;
        let boots = self.inner().boots;
        self.print(&format!("boot {boots}\n"));
    }

    fn print(&self, text: &str) {
        let mut inner = self.inner();
        inner.output.push_str(text);
        if let Some(console) = &mut inner.console {
            let _ = console.write_all(text.as_bytes());
        }
    }

    fn event(&self, kind: EventKind) {
        let mut inner = self.inner();
        let seq = inner.events.len() as u64 + 1;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let event = Event { seq, time: u64::try_from(time).unwrap(), kind };
        inner.events.push(event.clone());
        inner.subscribers.retain_mut(|subscriber| {
            wire::send(subscriber, &Message::Event(event.clone())).is_ok()
        });
    }

    fn end(&self, reason: ExitReason) -> ! {
        self.event(EventKind::Exiting(reason.clone()));
        let code = status(&reason);
        if !self.has("no-last-word") {
            let last_event = self.inner().events.len() as u64;
            let record = ExitRecord { reason, time: 0, last_event };
            let file = format!("/proc/self/fd/{}", self.config.process.exit_record.0);
            let file = File::options().write(true).open(file).unwrap();
            serde_json::to_writer(file, &record).unwrap();
        }
        std::process::exit(code.into())
    }

    fn serve(self: Arc<Self>, mut stream: UnixStream) {
        loop {
            let copy = stream.try_clone().unwrap();
            let mut reader = WithFiles { stream: &copy, files: Vec::new() };
            let Ok(Some(Call { id, request })) = wire::receive::<Call>(&mut reader) else { return };
            if matches!(request, Request::Save | Request::SaveRest) {
                // The connection is served meanwhile.
                let copied = self.inner().copied.take();
                let (file, fake) = (reader.files.pop().map(File::from).or(copied), self.clone());
                std::thread::spawn(move || {
                    let result = fake.save(file);
                    let mut stream = copy;
                    let _ = wire::send(&mut stream, &Message::Reply { id, result });
                });
                continue;
            }
            if let Request::Console { id: device, replay, force } = &request {
                let result = self.take_console(&mut stream, id, device, *replay, *force);
                if result && self.has_channel(device) {
                    let manner = self.manner().unwrap_or("silent");
                    fake_agent::serve(stream, manner, |request| self.agent_was_asked(request));
                } else if result {
                    self.console(stream);
                }
                return;
            }
            let subscribes = match request {
                Request::Events { after } => Some(after),
                _ => None,
            };
            let pressed = request == Request::PowerButton && !self.has("deaf");
            let doom = Doom::of(&self.script, &request);
            doom.strike("before", &stream);
            if matches!(request, Request::SwapDisks { .. }) {
                // With the locks on them.
                self.inner().images.append(&mut reader.files);
            }
            if request == Request::CopyMemory {
                self.inner().copied = reader.files.pop().map(File::from);
            }
            if let Request::StartBlockJob(job) = &request {
                fake_commit::commit(&job.work, &reader.files);
            }
            let result = self.answer(request);
            doom.strike("after", &stream);
            // Whoever asked may have died since.
            if wire::send(&mut stream, &Message::Reply { id, result }).is_err() {
                return;
            }
            if pressed {
                self.power_off();
            }
            let mut inner = self.inner();
            if let Some(after) = subscribes {
                for event in inner.events.iter().filter(|event| event.seq > after) {
                    let _ = wire::send(&mut stream, &Message::Event(event.clone()));
                }
                inner.subscribers.push(stream.try_clone().unwrap());
            }
        }
    }

    fn take_console(
        &self,
        stream: &mut UnixStream,
        id: u64,
        device: &str,
        replay: bool,
        force: bool,
    ) -> bool {
        let mut inner = self.inner();
        let channel = self.has_channel(device);
        let known = channel || self.config.serial.iter().any(|serial| serial.id == device);
        let taken = if channel { self.has("channel-taken") } else { inner.console.is_some() };
        let result = match (known, taken && !force) {
            (false, _) => Err(refusal(Code::NotFound, "no such console")),
            (true, true) => Err(refusal(Code::Busy, "another client has the console")),
            (true, false) => Ok(Reply::Done),
        };
        let taken = result.is_ok();
        wire::send(stream, &Message::Reply { id, result }).unwrap();
        if taken && !channel {
            if replay {
                let _ = stream.write_all(inner.output.as_bytes());
            }
            inner.console = Some(stream.try_clone().unwrap());
        }
        taken
    }

    /// What is typed is what the guest does.
    fn console(&self, stream: UnixStream) {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            match line.as_str() {
                "poweroff" => self.power_off(),
                "reset" => self.reset(),
                "crash" => self.crash(),
                "kill" => std::process::abort(),
                "hang up" => {
                    for subscriber in self.inner().subscribers.drain(..) {
                        let _ = subscriber.shutdown(std::net::Shutdown::Both);
                    }
                }
                "flood" => (0..5000).for_each(|_| self.event(EventKind::Reset)),
                "\u{1b}[2J" => self.event(EventKind::DeviceBroken {
                    id: "x\u{1b}[2J".into(),
                    reason: "r".repeat(9999),
                }),
                "agent leaves" => self.open_channel(false),
                line if line.starts_with("late end of ") => {
                    let id = line["late end of ".len()..].to_owned();
                    let phase = BlockJobPhase::Completed;
                    let kind = BlockJobKind::ActiveCommit;
                    let late = BlockJobStatus { id, kind, phase, done: 1, total: 1, bandwidth: 0 };
                    self.event(EventKind::BlockJob(late));
                }
                "pull net0" => self.event(EventKind::LinkChanged { id: "net0".into(), up: false }),
                line if line.starts_with("claim ") => self.event(EventKind::MediumChanged {
                    id: "sata0-0-0".into(),
                    source: line.strip_prefix("claim ").map(str::to_owned),
                }),
                line if line.starts_with("came ") => {
                    self.event(EventKind::DeviceAdded { id: line[5..].into() });
                }
                line if line.starts_with("release ") => {
                    self.inner().plugged.retain(|plugged| *plugged != line[8..]);
                    self.event(EventKind::DeviceRemoved { id: line[8..].into() });
                }
                line if line.starts_with("tray ") => {
                    self.event(EventKind::TrayMoved { id: line[5..].into(), open: true });
                }
                line if line.starts_with("shut ") => {
                    self.event(EventKind::TrayMoved { id: line[5..].into(), open: false });
                }
                other => self.print(&format!("{other}: not found\n")),
            }
        }
        self.inner().console = None;
    }

    fn save(&self, file: Option<File>) -> Result<Reply, ControlError> {
        let manner = self.script.split_whitespace().find_map(|word| word.strip_prefix("save="));
        let file = file.ok_or_else(|| refusal(Code::Malformed, "Save comes with a file"))?;
        if self.inner().state.0 != RunState::Paused {
            return Err(refusal(Code::State, "the guest runs"));
        }
        self.saver.save(&file, manner).map_err(|why| refusal(Code::Failed, why))?;
        self.inner().saved = true;
        Ok(Reply::Done)
    }

    fn power_off(&self) {
        let action = self.inner().lifecycle.on_poweroff;
        match action {
            Action::Destroy => self.end(ExitReason::Shutdown),
            Action::Restart => self.reset(),
            Action::Preserve => self.inner().state = (RunState::Stopped, StateReason::Shutdown),
        }
    }

    fn reset(&self) {
        self.inner().state = (RunState::Running, StateReason::Booted);
        self.event(EventKind::Reset);
        self.boot();
    }

    fn crash(&self) {
        let report = CrashReport {
            cause: "triple fault".into(),
            vcpu: Some(1),
            registers: Some("rip 0x1000\nrsp 0x2000".into()),
        };
        let action = self.inner().lifecycle.on_crash;
        if action == Action::Preserve {
            self.inner().state = (RunState::Crashed, StateReason::Panicked);
        }
        self.event(EventKind::Crashed(report.clone()));
        match action {
            Action::Destroy => self.end(ExitReason::Crashed(report)),
            Action::Restart => self.reset(),
            Action::Preserve => {}
        }
    }
}

fn refusal(code: Code, message: &str) -> ControlError {
    ControlError { code, message: message.to_owned() }
}
