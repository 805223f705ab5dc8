//! A VMM process as a daemon would start it, with one attacker in it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use image::qcow2::{CreateOptions, create};
use image::{FileStorage, NewImage, Reference};
use tempfile::TempDir;
use uuid::Uuid;
use vmm_protocol::Version;
use vmm_protocol::config::{
    Action, Ahci, Balloon, Blk, Boot, Cache, Chardev, Clock, Console, ConsolePort, CpuModel, Cpus,
    Discard, DiskIo, Drive, DriveIdentity, DriveKind, DrivePlace, Fd, Ide, Identity, Image,
    ImageFormat, IoThread, Layer, Lifecycle, Machine, MachineConfig, Medium, Memory, MemoryBacking,
    Net, Numa, Nvme, PciAddress, PciDevice, PciKind, Platform, ProcessFiles, Rng, Scsi, Serial,
    Smbios, Timers, Topology, Vsock, VsockHost,
};
use vmm_protocol::control::{Call, Message, Reply, Request, RunState};
use vmm_protocol::exit::{ExitReason, ExitRecord};
use vmm_protocol::wire;

use crate::sys;

/// The host is shared, and some of its KVMs are slow; a guest that hangs is found all the same.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long the control socket may take to answer while the guest attacks.
const ANSWER: Duration = Duration::from_secs(10);
/// The pace of hosts whose instructions are emulated.
const EMULATED: u32 = 10;

pub(crate) const DISK_SIZE: u64 = 4 << 20;

/// How much slower this host is than one that runs its instructions itself.
pub(crate) fn pace() -> u32 {
    static PACE: LazyLock<u32> = LazyLock::new(|| {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if processor.contains("QEMU TCG") { EMULATED } else { 1 }
    });
    *PACE
}

/// What the attacker gets.
pub(crate) struct Setup {
    pub(crate) machine: Machine,
    pub(crate) cpus: u16,
    /// Controllers with drives on them: AHCI, NVMe, virtio SCSI, and on pc IDE.
    pub(crate) controllers: bool,
    pub(crate) io: DiskIo,
    /// None: raw. With qcow2, both disks lie in images over raw ones; of other formats, the one that
    /// is written to does.
    pub(crate) format: Option<ImageFormat>,
    pub(crate) tap: Option<OwnedFd>,
    /// What the host says to its serial port; nothing if none.
    pub(crate) stdin: Option<File>,
    pub(crate) on_reboot: Action,
    pub(crate) on_crash: Action,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            machine: Machine::Q35,
            cpus: 1,
            controllers: false,
            io: DiskIo::Uring,
            format: None,
            tap: None,
            stdin: None,
            on_reboot: Action::Destroy,
            on_crash: Action::Destroy,
        }
    }
}

/// PCI slots of the devices, all on the root bus.
pub(crate) const DISK: u8 = 4;
pub(crate) const READ_ONLY_DISK: u8 = 5;
pub(crate) const RNG: u8 = 6;
pub(crate) const NET: u8 = 7;
pub(crate) const CONSOLE: u8 = 8;
pub(crate) const BALLOON: u8 = 9;
pub(crate) const VSOCK: u8 = 10;
pub(crate) const AHCI: u8 = 11;
pub(crate) const NVME: u8 = 12;
pub(crate) const SCSI: u8 = 13;

pub(crate) struct Vm {
    child: Child,
    lines: Receiver<String>,
    control: UnixStream,
    calls: u64,
    record: File,
    log: PathBuf,
    pub(crate) disk: PathBuf,
    pub(crate) read_only_disk: PathBuf,
    _dir: TempDir,
}

impl Vm {
    pub(crate) fn start(setup: Setup, kernel: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut files = Files::default();
        let disk = image(&mut files, &path("disk"), 0, setup.format);
        let below = setup.format.filter(|format| *format == ImageFormat::Qcow2);
        let read_only_disk = image(&mut files, &path("read-only-disk"), 0x5a, below);
        fs::write(path("kernel"), kernel).unwrap();
        let record = tempfile::tempfile().unwrap();
        let kvm = File::options().read(true).write(true).open("/dev/kvm").unwrap();
        let config = MachineConfig {
            version: Version::CURRENT,
            identity: Identity {
                name: "attacker".to_owned(),
                uuid: Uuid::from_u128(1),
                start_token: Uuid::from_u128(2),
                boot_id: Uuid::from_u128(3),
            },
            platform: Platform { machine: setup.machine, version: 1 },
            // Two regions of RAM with a hole between them.
            memory: Memory {
                size: (2 << 30) + (64 << 20),
                backing: MemoryBacking::Anonymous,
                locked: false,
                prefault: false,
                mergeable: false,
            },
            cpus: Cpus {
                present: None,
                count: setup.cpus,
                model: CpuModel::HostPassthrough,
                details: Default::default(),
                topology: Topology { sockets: 1, dies: 1, cores: setup.cpus, threads: 1 },
                affinity: Vec::new(),
            },
            numa: Numa::default(),
            clock: Clock { offset: 0, kvmclock: true, timers: Timers::default() },
            boot: Boot::Kernel {
                kernel: files.add(File::open(path("kernel")).unwrap()),
                initrd: None,
                cmdline: String::new(),
            },
            smbios: Smbios::default(),
            disk_limits: Vec::new(),
            disk_errors: Vec::new(),
            generation: None,
            fw_cfg: Vec::new(),
            lifecycle: Lifecycle {
                on_poweroff: Action::Destroy,
                on_reboot: setup.on_reboot,
                on_crash: setup.on_crash,
            },
            io_threads: ["disk", "other"]
                .map(|name| IoThread { name: name.to_owned(), affinity: Vec::new() })
                .to_vec(),
            pci: devices(&setup, disk, read_only_disk, &mut files),
            serial: vec![Serial {
                id: "serial0".to_owned(),
                port: 0,
                chardev: Chardev { stdio: true, ..Chardev::default() },
            }],
            pvpanic: true,
            ramfb: None,
            vnc: Vec::new(),
            process: ProcessFiles {
                kvm: files.add(kvm),
                control: files.add(UnixListener::bind(path("control")).unwrap()),
                exit_record: files.add(record.try_clone().unwrap()),
                log: None,
                locks: Vec::new(),
                live_record: String::new(),
                seccomp: true,
                isolation: vmm_protocol::config::Isolation::default(),
            },
            restore: None,
            // It may end sooner than one can connect.
            start_paused: true,
        };
        let mut command = Command::new(program());
        command
            .env("MANOR_SECCOMP", "trap")
            .arg("run-domain")
            .stdin(setup.stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped());
        command.stderr(File::create(path("log")).unwrap());
        let mut child = sys::spawn(command, &files.with_config(&config)).unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let control = UnixStream::connect(path("control")).unwrap();
        control.set_read_timeout(Some(ANSWER * pace())).unwrap();
        let mut vm = Self {
            child,
            lines,
            control,
            calls: 0,
            record,
            log: path("log"),
            disk: path("disk"),
            read_only_disk: path("read-only-disk"),
            _dir: dir,
        };
        vm.call(Request::Hello { version: Version::CURRENT });
        vm.call(Request::Resume);
        vm
    }

    /// What the control socket answers; that it does is the point.
    pub(crate) fn call(&mut self, request: Request) -> Reply {
        match self.ask(request.clone()) {
            Some(reply) => reply,
            None => panic!("{request:?} is not answered; {}", self.postmortem()),
        }
    }

    fn ask(&mut self, request: Request) -> Option<Reply> {
        self.calls += 1;
        let id = self.calls;
        wire::send(&mut self.control, &Call { id, request }).ok()?;
        match wire::receive::<Message>(&mut self.control).ok()?? {
            Message::Reply { id: answered, result } if answered == id => result.ok(),
            _ => None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn state(&mut self) -> RunState {
        match self.call(Request::Status) {
            Reply::Status(status) => status.state,
            other => panic!("no status: {other:?}"),
        }
    }

    /// The guest's lines until the one that is `last`, asking for the VMM's status all the while.
    pub(crate) fn read_until(&mut self, last: &str) -> Vec<String> {
        let end = Instant::now() + PATIENCE * pace();
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != last) {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    assert!(!line.contains("FAILED"), "{line}\nafter {lines:#?}{}", self.log());
                    lines.push(line);
                }
                // A guest that has ended takes the VMM with it; its last lines are still to come.
                Err(RecvTimeoutError::Timeout) => assert!(
                    self.ask(Request::Status).is_some() || self.ended(),
                    "no answer after {lines:#?}: {}",
                    self.postmortem()
                ),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the VMM ended after {lines:#?}: {}", self.postmortem())
                }
            }
            assert!(Instant::now() < end, "no {last:?}, only {lines:#?}{}", self.log());
        }
        lines
    }

    /// The same, and the longest that the control socket took to answer meanwhile.
    pub(crate) fn answers_until(&mut self, last: &str) -> Duration {
        let end = Instant::now() + PATIENCE * pace();
        let mut longest = Duration::ZERO;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(10)) {
                Ok(line) if line == last => return longest,
                Ok(line) => assert!(!line.contains("FAILED"), "{line}{}", self.log()),
                Err(RecvTimeoutError::Timeout) => {
                    let asked = Instant::now();
                    match self.ask(Request::Status) {
                        Some(_) => longest = longest.max(asked.elapsed()),
                        // Its last lines are still to come.
                        None => assert!(self.ended(), "no answer: {}", self.postmortem()),
                    }
                }
                Err(RecvTimeoutError::Disconnected) => panic!("it ended: {}", self.postmortem()),
            }
            assert!(Instant::now() < end, "no {last:?}{}", self.log());
        }
    }

    fn ended(&mut self) -> bool {
        (0..200).any(|_| {
            thread::sleep(Duration::from_millis(10));
            self.child.try_wait().unwrap().is_some()
        })
    }

    /// The process's end: how the guest ended, by the VMM's record.
    pub(crate) fn end(mut self) -> ExitReason {
        let end = Instant::now() + PATIENCE * pace();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > end => panic!("the VMM does not end{}", self.log()),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(status.code().is_some(), "the VMM was killed: {status}{log}");
        self.reason().unwrap_or_else(|| panic!("{status} and no exit record{log}"))
    }

    fn reason(&mut self) -> Option<ExitReason> {
        self.record.rewind().ok()?;
        let text = io::read_to_string(&self.record).ok()?;
        let record: ExitRecord = serde_json::from_str(text.lines().next()?).ok()?;
        Some(record.reason)
    }

    fn log(&self) -> String {
        format!("\nlog of the VMM:\n{}", fs::read_to_string(&self.log).unwrap_or_default())
    }

    fn postmortem(&mut self) -> String {
        let status = self.child.try_wait();
        format!("status {status:?}, record {:?}{}", self.reason(), self.log())
    }
}

/// The guest must not outlive its test.
impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test; in the emulated host, where no build directory is, the installed one.
fn program() -> &'static Path {
    let built = Path::new(env!("CARGO_BIN_EXE_manor"));
    if built.exists() { built } else { Path::new("/usr/bin/manor") }
}

/// A disk of one byte again and again; in layers, all of it lies in the lower one, beside `path`.
fn image(files: &mut Files, path: &Path, fill: u8, format: Option<ImageFormat>) -> Image {
    let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
    let new = match format {
        Some(ImageFormat::Vmdk) => Some(NewImage::Vmdk { name: "disk".to_owned() }),
        Some(ImageFormat::Vdi) => Some(NewImage::Vdi { fixed: false }),
        Some(ImageFormat::Vpc) => Some(NewImage::Vpc { fixed: false }),
        _ => None,
    };
    if let (Some(format), Some(new)) = (format, new) {
        fs::write(path, "").unwrap();
        new.create(&FileStorage::new(open(path)).unwrap(), DISK_SIZE).unwrap();
        let file = files.add(open(path));
        return Image::Chain(vec![Layer { format, file, data_file: None, extents: Vec::new() }]);
    }
    let layered = format.is_some();
    let raw = if layered { path.with_extension("base") } else { path.to_owned() };
    fs::write(&raw, vec![fill; DISK_SIZE as usize]).unwrap();
    if !layered {
        return Image::Raw { file: files.add(open(path)) };
    }
    let name = raw.file_name().unwrap().to_str().unwrap().to_owned();
    let mut options = CreateOptions::new(DISK_SIZE);
    options.backing = Some(Reference { name, format: Some("raw".to_owned()) });
    fs::write(path, "").unwrap();
    create(&FileStorage::new(open(path)).unwrap(), &options).unwrap();
    let layers = [(ImageFormat::Qcow2, path), (ImageFormat::Raw, &raw)];
    let layers = layers.map(|(format, path)| Layer {
        format,
        file: files.add(open(path)),
        data_file: None,
        extents: Vec::new(),
    });
    Image::Chain(layers.to_vec())
}

fn devices(setup: &Setup, disk: Image, read_only: Image, files: &mut Files) -> Vec<PciDevice> {
    let at = |slot, id: &str, kind| PciDevice {
        id: id.to_owned(),
        address: PciAddress { bus: 0, slot, function: 0 },
        multifunction: false,
        boot_index: None,
        kind,
    };
    let blk = |image, read_only| {
        PciKind::Blk(Blk {
            image,
            read_only,
            cache: Cache::Writeback,
            discard: Discard::Unmap,
            serial: "hostile".to_owned(),
            logical_block_size: 512,
            io: setup.io,
            queues: vec![0, 1],
            queue_size: 256,
        })
    };
    let port = ConsolePort {
        agent: false,
        id: "console0".to_owned(),
        number: 0,
        name: None,
        chardev: Chardev::default(),
    };
    let console = PciKind::Console(Console { ports: vec![port], io_thread: 1 });
    let place = tempfile::tempdir().unwrap();
    let listener = files.add(UnixListener::bind(place.path().join("vsock")).unwrap());
    let vsock = PciKind::Vsock(Vsock { cid: 3, host: VsockHost::Socket { listener } });
    let mut devices = vec![
        at(CONSOLE, "console", console),
        at(DISK, "disk", blk(disk, false)),
        at(READ_ONLY_DISK, "read-only-disk", blk(read_only, true)),
        at(BALLOON, "balloon", balloon()),
        at(VSOCK, "vsock", vsock),
        at(RNG, "rng", PciKind::Rng(Rng { rate: None, io_thread: 1 })),
    ];
    if setup.controllers {
        devices.extend(controllers(setup, files));
    }
    if let Some(tap) = &setup.tap {
        let net = Net {
            taps: vec![files.add(tap.try_clone().unwrap())],
            stream: None,
            vhost: Vec::new(),
            mac: [0x52, 0x54, 0, 1, 2, 3],
            mtu: None,
            link_up: true,
            offloads: true,
            queues: vec![1],
            queue_size: 256,
            rom: None,
        };
        devices.push(at(NET, "net", PciKind::Net(net)));
    }
    devices
}

/// Each with a disk and, but for NVMe, a CD-ROM drive.
fn controllers(setup: &Setup, files: &mut Files) -> Vec<PciDevice> {
    let at = |slot, function, kind| PciDevice {
        id: format!("controller{slot}"),
        address: PciAddress { bus: 0, slot, function },
        multifunction: false,
        boot_index: None,
        kind,
    };
    let io_thread = 0;
    let pair = |files: &mut Files| {
        vec![drive(files, DriveKind::Disk, 0), drive(files, DriveKind::Cdrom, 1)]
    };
    let scsi = Scsi { drives: pair(files), queues: 1, queue_size: 256, io_thread };
    let drives = vec![drive(files, DriveKind::Disk, 0)];
    let nvme = Nvme { drives, serial: "hostile".to_owned(), queues: 2, io_thread };
    let mut all = vec![
        at(AHCI, 0, PciKind::Ahci(Ahci { drives: pair(files), io_thread })),
        at(NVME, 0, PciKind::Nvme(nvme)),
        at(SCSI, 0, PciKind::Scsi(scsi)),
    ];
    if setup.machine == Machine::Pc {
        let mut drives = pair(files);
        drives[1].place = DrivePlace { bus: 1, target: 0, unit: 0 };
        all.push(at(1, 1, PciKind::Ide(Ide { drives, io_thread })));
    }
    all
}

fn drive(files: &mut Files, kind: DriveKind, unit: u16) -> Drive {
    let mut image = tempfile::tempfile().unwrap();
    image.write_all(&vec![0x5a; DISK_SIZE as usize]).unwrap();
    let medium = Medium {
        image: Image::Raw { file: files.add(image) },
        read_only: kind == DriveKind::Cdrom,
        cache: Cache::Writeback,
        discard: Discard::Unmap,
        logical_block_size: 512,
        io: DiskIo::Uring,
    };
    Drive {
        id: format!("drive{}", files.0.len()),
        place: DrivePlace { bus: 0, target: 0, unit },
        kind,
        medium: Some(medium),
        identity: DriveIdentity::default(),
        boot_index: None,
    }
}

fn balloon() -> PciKind {
    PciKind::Balloon(Balloon {
        current: 16 << 20,
        deflate_on_oom: true,
        free_page_reporting: true,
        statistics_period: 1,
        io_thread: 1,
    })
}

/// Files in the order of their descriptors: 3 is the configuration's.
#[derive(Default)]
struct Files(Vec<OwnedFd>);

impl Files {
    fn add(&mut self, file: impl Into<OwnedFd>) -> Fd {
        self.0.push(file.into());
        Fd(3 + self.0.len() as i32)
    }

    fn with_config(self, config: &MachineConfig) -> Vec<OwnedFd> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&serde_json::to_vec(config).unwrap()).unwrap();
        file.rewind().unwrap();
        std::iter::once(file.into()).chain(self.0).collect()
    }
}
