//! [`Guest`]: a VMM process with a bare-metal guest in it, driven from outside as a daemon does.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vmm_protocol::Version;
use vmm_protocol::config::{
    Action, Boot, Chardev, Clock, CpuModel, Cpus, Fd, Firmware, Identity, IoThread, Isolation,
    IsolationMode, Lifecycle, LogFile, Machine, MachineConfig, Memory, MemoryBacking, Numa,
    PciDevice, Platform, ProcessFiles, Restore, Serial, Smbios, Timers, Topology,
};
use vmm_protocol::control::{
    Call, ControlError, Event, EventKind, Hello, MAX_FILES, Message, Reply, Request, RunState,
};
use vmm_protocol::exit::ExitRecord;
use vmm_protocol::wire;

use crate::sys;

/// Emulating KVMs are slow, and build machines busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// By this the test program knows that it is the VMM.
pub(crate) const ROLE: &str = "MANOR_TEST_VMM";

/// A guest to be: change `config` as the test wants, then `start`.
pub(crate) struct Rig {
    pub(crate) config: MachineConfig,
    files: Vec<OwnedFd>,
    serial: File,
    record: File,
    log: File,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

/// All of it, as a daemon that is root asks for it.
fn isolation() -> Isolation {
    let user = rustix::process::geteuid().is_root().then(|| 0x7020_0000 + std::process::id());
    Isolation { mode: IsolationMode::Required, user }
}

impl Rig {
    pub(crate) fn new(kernel: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        let file = |name: &str| {
            let path = dir.path().join(name);
            OpenOptions::new().read(true).append(true).create(true).open(path).unwrap()
        };
        let (serial, record, log) = (file("serial"), file("record"), file("log"));
        let mut image = tempfile::tempfile().unwrap();
        image.write_all(kernel).unwrap();
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm").unwrap();
        let mut files = Files::default();
        let process = ProcessFiles {
            kvm: files.add(kvm),
            control: files.add(UnixListener::bind(&socket).unwrap()),
            exit_record: files.add(record.try_clone().unwrap()),
            log: Some(files.add(log.try_clone().unwrap())),
            locks: Vec::new(),
            live_record: "<domain/>".to_owned(),
            seccomp: true,
            isolation: isolation(),
        };
        let file = files.add(serial.try_clone().unwrap());
        let logs = vec![LogFile { file, older: Vec::new() }];
        let chardev = Chardev { logs, ..Chardev::default() };
        let config = MachineConfig {
            version: Version::CURRENT,
            identity: Identity {
                name: "test".to_owned(),
                uuid: "6f2c9a4e-1111-4a6b-9d5e-000000000001".parse().unwrap(),
                start_token: "6f2c9a4e-1111-4a6b-9d5e-000000000002".parse().unwrap(),
                boot_id: "6f2c9a4e-1111-4a6b-9d5e-000000000003".parse().unwrap(),
            },
            platform: Platform { machine: Machine::Q35, version: 1 },
            memory: Memory {
                size: 64 << 20,
                backing: MemoryBacking::Anonymous,
                locked: false,
                prefault: false,
                mergeable: false,
            },
            cpus: cpus(1),
            numa: Numa::default(),
            clock: Clock { offset: 0, kvmclock: true, timers: Timers::default() },
            boot: Boot::Kernel {
                kernel: files.add(image),
                initrd: None,
                cmdline: "test".to_owned(),
            },
            smbios: Smbios::default(),
            disk_limits: Vec::new(),
            disk_errors: Vec::new(),
            generation: None,
            fw_cfg: Vec::new(),
            lifecycle: Lifecycle {
                on_poweroff: Action::Destroy,
                on_reboot: Action::Restart,
                on_crash: Action::Destroy,
            },
            io_threads: vec![IoThread { name: "io".to_owned(), affinity: Vec::new() }],
            pci: Vec::new(),
            serial: vec![Serial { id: "serial0".to_owned(), port: 0, chardev }],
            pvpanic: true,
            ramfb: None,
            vnc: Vec::new(),
            process,
            restore: None,
            start_paused: false,
        };
        Self { config, files: files.0, serial, record, log, socket, _dir: dir }
    }

    /// Start at this firmware instead of at a kernel.
    pub(crate) fn firmware(mut self, image: &[u8]) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(image).unwrap();
        let image = self.add(file);
        let firmware = Firmware { image, variables: None, menu: None, serial_text: false };
        self.config.boot = Boot::Firmware(firmware);
        self
    }

    /// With its variables in `file`.
    pub(crate) fn variables(mut self, file: &File) -> Self {
        let variables = self.add(file.try_clone().unwrap());
        let Boot::Firmware(firmware) = &mut self.config.boot else { panic!("no firmware") };
        firmware.variables = Some(variables);
        self
    }

    /// A descriptor of the process-to-be.
    pub(crate) fn add(&mut self, file: impl Into<OwnedFd>) -> Fd {
        let mut files = Files(std::mem::take(&mut self.files));
        let fd = files.add(file);
        self.files = files.0;
        fd
    }

    pub(crate) fn cpus(mut self, count: u16) -> Self {
        self.config.cpus = cpus(count);
        self
    }

    pub(crate) fn memory(mut self, mib: u64) -> Self {
        self.config.memory.size = mib << 20;
        self
    }

    pub(crate) fn lifecycle(mut self, change: impl FnOnce(&mut Lifecycle)) -> Self {
        change(&mut self.config.lifecycle);
        self
    }

    pub(crate) fn devices(mut self, devices: Vec<PciDevice>) -> Self {
        self.config.pci = devices;
        self
    }

    pub(crate) fn restoring(mut self, image: &File) -> Self {
        let image = self.add(image.try_clone().unwrap());
        self.config.restore = Some(Restore { image });
        self
    }

    pub(crate) fn start(self) -> Guest {
        let text = serde_json::to_string(&self.config).unwrap();
        self.start_with(&text)
    }

    /// Start with `config` as the text on descriptor 3, whatever it is.
    pub(crate) fn start_with(self, config: &str) -> Guest {
        let mut text = tempfile::tempfile().unwrap();
        text.write_all(config.as_bytes()).unwrap();
        text.rewind().unwrap();
        let files: Vec<OwnedFd> = std::iter::once(text.into()).chain(self.files).collect();
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "the_vmm_itself", "--nocapture", "--test-threads=1"])
            .env(ROLE, "1");
        // The VMM asks for one heap before it has threads; the test runner has some by then, and
        // trimming their heaps makes glibc open a file.
        command.env("MALLOC_ARENA_MAX", "1");
        // A system call that a filter refuses is named before it ends the process.
        command.env("MANOR_SECCOMP", "trap");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = sys::spawn(command, &files).unwrap();
        Guest {
            child,
            serial: self.serial,
            record: self.record,
            log: self.log,
            socket: self.socket,
            _dir: self._dir,
        }
    }
}

fn cpus(count: u16) -> Cpus {
    let topology = Topology { sockets: 1, dies: 1, cores: count, threads: 1 };
    Cpus {
        present: None,
        count,
        model: CpuModel::HostPassthrough,
        details: Default::default(),
        topology,
        affinity: Vec::new(),
    }
}

#[derive(Default)]
struct Files(Vec<OwnedFd>);

impl Files {
    fn add(&mut self, file: impl Into<OwnedFd>) -> Fd {
        self.0.push(file.into());
        // Descriptor 3 is the configuration.
        Fd(3 + i32::try_from(self.0.len()).unwrap())
    }
}

/// A running VMM.
pub(crate) struct Guest {
    child: Child,
    serial: File,
    record: File,
    log: File,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl Guest {
    /// Everything the guest has written to its serial port.
    pub(crate) fn serial(&self) -> String {
        contents(&self.serial)
    }

    /// The exit record as it is now.
    pub(crate) fn record(&self) -> Option<ExitRecord> {
        serde_json::from_str(&contents(&self.record)).ok()
    }

    pub(crate) fn log(&self) -> String {
        contents(&self.log)
    }

    /// Wait until `condition` holds for the serial output, and return that.
    pub(crate) fn wait_serial(&mut self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.serial();
            if condition(&output) {
                return output;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                Instant::now() < deadline && ended.is_none(),
                "waiting for {what}: {ended:?}, serial {output:?}, log {}",
                self.log()
            );
            sleep(Duration::from_millis(2));
        }
    }

    /// Wait for the process to end; its status and record.
    pub(crate) fn wait(mut self) -> (ExitStatus, ExitRecord, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut words = String::new();
                let _ = self.child.stderr.take().unwrap().read_to_string(&mut words);
                print!("{words}");
                break status;
            }
            assert!(Instant::now() < deadline, "still running: {}", self.log());
            sleep(Duration::from_millis(2));
        };
        let record = contents(&self.record);
        let record = serde_json::from_str(&record)
            .unwrap_or_else(|error| panic!("{status}: record {record:?}: {error}; {}", self.log()));
        (status, record, self.serial())
    }

    /// Wait for a process that ends without a record; its status and words.
    pub(crate) fn wait_refused(self) -> (ExitStatus, String) {
        let mut this = self;
        let stderr = this.child.stderr.take().unwrap();
        let status = this.child.wait().unwrap();
        assert_eq!(contents(&this.record), "");
        (status, io::read_to_string(stderr).unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> Client {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, next: 1, events: Vec::new() }
    }

    pub(crate) fn greet(&self) -> (Client, Hello) {
        let mut client = self.connect();
        match client.ask(Request::Hello { version: Version::CURRENT }) {
            Ok(Reply::Hello(hello)) => (client, hello),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&self) -> RunState {
        self.greet().1.status.state
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut words = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut words);
        }
        if std::thread::panicking() {
            print!("{words}");
        }
        assert!(std::thread::panicking() || !words.contains("seccomp"), "{words}");
    }
}

fn contents(file: &File) -> String {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    let read = file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// A client of the control socket.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    next: u64,
    events: Vec<Event>,
}

impl Client {
    pub(crate) fn send(&mut self, request: Request) -> u64 {
        let id = self.next;
        self.next += 1;
        wire::send(&mut self.stream, &Call { id, request }).unwrap();
        id
    }

    pub(crate) fn receive(&mut self) -> Option<Message> {
        wire::receive(&mut self.stream).unwrap()
    }

    /// One request and its reply; events that come meanwhile are kept.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, ControlError> {
        let asked = self.send(request);
        self.reply_to(asked)
    }

    pub(crate) fn reply_to(&mut self, asked: u64) -> Result<Reply, ControlError> {
        loop {
            match self.receive().expect("the VMM answers before it closes") {
                Message::Event(event) => self.events.push(event),
                Message::Reply { id, result } => {
                    assert_eq!(id, asked);
                    return result;
                }
            }
        }
    }

    pub(crate) fn event(&mut self) -> Event {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.receive() {
            Some(Message::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Skip events until one of this kind.
    pub(crate) fn event_like(&mut self, wanted: impl Fn(&EventKind) -> bool) -> Event {
        loop {
            let event = self.event();
            if wanted(&event.kind) {
                return event;
            }
        }
    }

    pub(crate) fn save(&mut self, file: &File) -> Result<Reply, ControlError> {
        self.ask_with(Request::Save, file)
    }

    /// A request with a file beside it, and its reply.
    pub(crate) fn ask_with(
        &mut self,
        request: Request,
        file: &File,
    ) -> Result<Reply, ControlError> {
        self.ask_with_files(request, &[file.as_fd()])
    }

    pub(crate) fn ask_with_files(
        &mut self,
        request: Request,
        files: &[BorrowedFd<'_>],
    ) -> Result<Reply, ControlError> {
        let id = self.send_with(request, files);
        self.reply_to(id)
    }

    pub(crate) fn send_with(&mut self, request: Request, files: &[BorrowedFd<'_>]) -> u64 {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let id = self.next;
        self.next += 1;
        let frame = wire::encode(&Call { id, request }).unwrap();
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(files)));
        }
        let parts = [io::IoSlice::new(&frame)];
        let sent = sendmsg(&self.stream, &parts, &mut control, SendFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
        id
    }
}
