//! From a definition to a process: open everything, write down what is about to be, spawn. Blocks.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{
    Broker, BrokerError, CONTROL_SOCKET, EXIT_RECORD, Holder, Process, Role, Sharing, Stdio,
};
use uuid::Uuid;
use vmm_protocol::config::{
    Cache, Chardev, FIRST_FD, Fd, Identity, Isolation, LogFile, MachineConfig, ProcessFiles, Pty,
    Restore, VncTls,
};
use xml::device::Vsock;
use xml::device::chardev::{CharLog, CharSource, CharType};
use xml::device::disk::{Disk, DiskDevice, DiskFormat, DiskType, Location};
use xml::device::graphics::Vnc;
use xml::device::interface::InterfaceType;
use xml::{DomainDef, OnOff, YesNo};

use super::record::Record;
use super::restore::FromSaved;
use crate::agent::AgentTimeout;
use crate::config;
use crate::error::{Code, Error};
use crate::firmware::Installed;
use crate::host::Host;
use crate::network::Networks;
use crate::storage::PoolView;
use crate::translate::display::{OpenVnc, Place};
use crate::translate::machine_devices::{cache, provided};
use crate::translate::{
    self, OpenChardev, OpenDisk, OpenTap, OpenVsock, Resources, Start, VsockEnd,
};

/// In a run directory: where programs of the host meet a guest's sockets.
const VSOCK_SOCKET: &str = "vsock.sock";
/// As many as virtlogd keeps.
const OLDER_LOGS: u32 = 3;
/// 0 to 2 are the hypervisor, loopback and the host.
const FIRST_CID: u32 = 3;

/// What to start, and where.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// Complete: as it is stored.
    pub def: DomainDef,
    pub uuid: Uuid,
    pub id: u32,
    pub platform: u16,
    pub paused: bool,
    pub seccomp: bool,
    pub isolation: Isolation,
    /// Where the host has a BIOS for those that name no firmware.
    pub firmware: Installed,
    pub vnc: config::Vnc,
    pub nbd: config::Nbd,
    /// Make the firmware's variables anew.
    pub reset_variables: bool,
    /// How long the guest's agent may take to answer.
    pub agent_timeout: AgentTimeout,
    /// Go on from this instead of starting cold.
    pub restore: Option<FromSaved>,
    pub run_dir: PathBuf,
    /// Of the VMM.
    pub log: Option<PathBuf>,
    pub stdio: Stdio,
    pub boot_id: Uuid,
    pub host: Host,
    /// Those that are active: where volumes lie.
    pub pools: Vec<PoolView>,
    /// None without a daemon.
    pub networks: Option<Arc<Networks>>,
    /// Other domains by process: one of them may hold what this one needs.
    pub neighbours: HashMap<u32, String>,
}

#[derive(Debug)]
pub(crate) struct Launched {
    pub record: Record,
    pub process: Process,
    pub live: DomainDef,
}

pub(crate) fn launch(broker: &dyn Broker, launch: &Launch) -> Result<Launched, Error> {
    check_memory(launch.def.memory.size.0, launch.host.memory())?;
    super::huge_pages::check(&launch.def, &launch.host)?;
    broker.make_run_dir(&launch.run_dir)?;
    let lock = broker.lock_run_dir(&launch.run_dir)?;
    let (run_dir, uuid) = (&launch.run_dir, launch.uuid);
    let mut undo = Undo { broker, run_dir, uuid, cgroup: None, armed: true };
    let result = launch_locked(broker, launch, lock, &mut undo);
    undo.armed = result.is_err();
    if let (Err(_), Some(networks)) = (&result, &launch.networks)
        && let Err(error) = networks.sweep()
    {
        tracing::error!(error = %error.chain(), "rules of taps that are gone stay");
    }
    result
}

/// Memory is given when it is first used, so the kernel would let such a guest start, and kill it
/// or another later.
fn check_memory(guest: u64, host: u64) -> Result<(), Error> {
    if guest <= host {
        return Ok(());
    }
    let mib = |kib: u64| kib >> 10;
    let text = format!(
        "the guest's memory of {} MiB is more than the {} MiB this host has",
        mib(guest),
        mib(host)
    );
    Err(Error::new(Code::ResourceExhausted, text))
}

/// Takes back what a failed start has made.
struct Undo<'a> {
    broker: &'a dyn Broker,
    run_dir: &'a Path,
    uuid: Uuid,
    cgroup: Option<PathBuf>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some(cgroup) = &self.cgroup {
            remove_cgroup(self.broker, cgroup);
        }
        if let Err(error) = self.broker.remove_direct(&self.uuid.to_string(), Vec::new()) {
            tracing::warn!(%error, "what a failed start has made stays");
        }
        let _ = self.broker.remove_run_dir(self.run_dir);
    }
}

/// Remove what is empty once its last process is reaped, which may be up to init.
pub(crate) fn remove_cgroup(broker: &dyn Broker, cgroup: &Path) {
    for _ in 0..20 {
        if broker.remove_cgroup(cgroup).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn launch_locked(
    broker: &dyn Broker,
    launch: &Launch,
    lock: OwnedFd,
    undo: &mut Undo<'_>,
) -> Result<Launched, Error> {
    let mut table = Table::of_process();
    let locks = vec![table.add(lock)];
    let def = translate::with_aliases(&launch.def);
    // Before what is opened: processes beside the VMM are in it, too.
    let mut degraded = Vec::new();
    match broker.make_cgroup(&launch.uuid.to_string()) {
        Ok(path) => undo.cgroup = Some(path),
        Err(error) => degraded.push(error.to_string()),
    }
    let interfaces = &def.devices.interfaces;
    if interfaces.iter().any(|interface| interface.kind == InterfaceType::Direct) {
        // Those of an earlier run stay if nobody could remove them.
        broker.remove_direct(&launch.uuid.to_string(), Vec::new())?;
    }
    let cgroup = undo.cgroup.as_deref();
    let resources = Opener { broker, table: &mut table, launch, cgroup }.open(&def)?;
    super::interfaces::guard(interfaces.iter().zip(&resources.interfaces), launch)?;
    let live = translate::live(&launch.def, launch.id, &resources);

    let now = jiff::Timestamp::now();
    let mut record = Record {
        version: 1,
        uuid: launch.uuid,
        name: launch.def.name.to_string(),
        id: launch.id,
        start_token: Uuid::new_v4(),
        boot_id: launch.boot_id,
        platform: launch.platform,
        started: now,
        definition: launch.def.to_xml(),
        live: live.to_xml(),
        cgroup: undo.cgroup.clone(),
        user: launch.isolation.user,
        process: None,
        rebooting: false,
        medium: None,
        plugs: BTreeMap::new(),
        block_jobs: BTreeMap::new(),
        frozen: None,
        agent_timeout: Some(launch.agent_timeout.number()).filter(|number| *number != -1),
        tuning: None,
        moving: None,
        saving: None,
        dumping: None,
        forking: None,
        making: None,
        restored: launch.restore.is_some(),
        clock_stands: launch.restore.is_some(),
        restoring: launch.restore.as_ref().map(|from| from.intent.clone()),
        degraded,
    };
    // Before anything runs: whoever finds this directory knows whose it is.
    write_record(&record, &launch.run_dir)?;

    let process = ProcessFiles {
        kvm: table.add(broker.open_kvm()?),
        control: table.add(broker.listen(&launch.run_dir.join(CONTROL_SOCKET))?),
        exit_record: table.add(broker.open_output(&launch.run_dir.join(EXIT_RECORD), false)?),
        log: match &launch.log {
            Some(path) => Some(table.add(broker.open_output(path, true)?)),
            None => None,
        },
        locks,
        live_record: record.to_text(),
        seccomp: launch.seccomp,
        isolation: launch.isolation,
    };
    let identity = Identity {
        name: record.name.clone(),
        uuid: record.uuid,
        start_token: record.start_token,
        boot_id: record.boot_id,
    };
    let restore = match &launch.restore {
        Some(from) => {
            let file = from.file.try_clone().map_err(|source| {
                Error::new(Code::HostFailure, "a file cannot be passed on").with_source(source)
            })?;
            Some(Restore { image: table.add(file.into()) })
        }
        None => None,
    };
    let start = Start { identity, platform: launch.platform, process, paused: launch.paused, now };
    let config = MachineConfig { restore, ..translate::machine(&def, &resources, start)? };
    let config = config_file(&config).map_err(|source| {
        Error::new(Code::HostFailure, "cannot write the VMM's configuration").with_source(source)
    })?;
    let files: Vec<_> = std::iter::once(&config).chain(&table.files).map(|f| f.as_fd()).collect();
    let stdio = launch.stdio.clone();
    let limits = translate::tuning::limits(&launch.def);
    let cgroup = record.cgroup.as_deref();
    let spawned = broker.spawn(Role::Domain, &record.name, stdio, cgroup, limits, &files)?;
    record.process = Some(spawned.id);
    if let Err(error) = write_record(&record, &launch.run_dir) {
        // Without its number the process could not be found again.
        let _ = broker.kill(spawned.id, record.cgroup.as_deref());
        return Err(error);
    }
    Ok(Launched { record, process: spawned.process, live })
}

fn write_record(record: &Record, dir: &Path) -> Result<(), Error> {
    record.write(dir).map_err(|source| {
        let full = source.kind() == std::io::ErrorKind::StorageFull;
        let code = if full { Code::NoSpace } else { Code::HostFailure };
        let text = format!("cannot write the domain's record in {}", dir.display());
        Error::new(code, text).with_source(source)
    })
}

fn config_file(config: &MachineConfig) -> std::io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("machine-config", flags)?);
    file.write_all(&serde_json::to_vec(config)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// Files on their way to a VMM, and the numbers they have there.
pub(super) struct Table {
    files: Vec<OwnedFd>,
    first: i32,
}

impl Table {
    /// Of a new process. The configuration, added last, comes first.
    fn of_process() -> Self {
        Self { files: Vec::new(), first: FIRST_FD + 1 }
    }

    /// Beside a request.
    pub(super) fn of_request() -> Self {
        Self { files: Vec::new(), first: 0 }
    }

    pub(super) fn add(&mut self, file: OwnedFd) -> Fd {
        // Far below any limit of open files.
        let place = i32::try_from(self.files.len()).unwrap_or(i32::MAX);
        self.files.push(file);
        Fd(self.first.saturating_add(place))
    }

    pub(super) fn into_files(self) -> Vec<OwnedFd> {
        self.files
    }
}

pub(super) struct Opener<'a> {
    pub(super) broker: &'a dyn Broker,
    pub(super) table: &'a mut Table,
    pub(super) launch: &'a Launch,
    /// The domain's, if it has one.
    pub(super) cgroup: Option<&'a Path>,
}

/// An image that another domain has is in use by that, and not by some process.
pub(super) fn name_holder(
    opened: Result<OwnedFd, BrokerError>,
    neighbours: &HashMap<u32, String>,
) -> Result<OwnedFd, Error> {
    match opened {
        Ok(image) => Ok(image),
        Err(BrokerError::Locked { path, holder: Holder::Process { pid, .. } })
            if neighbours.contains_key(&pid) =>
        {
            let (path, name) = (path.display(), &neighbours[&pid]);
            let text = format!("image {path} is in use by domain {name:?}");
            Err(Error::new(Code::Locked, text))
        }
        Err(error) => Err(error.into()),
    }
}

impl Opener<'_> {
    fn open(mut self, def: &DomainDef) -> Result<Resources, Error> {
        let mut resources = Resources::default();
        if let Some(path) = &def.os.kernel {
            resources.kernel = Some(self.input("kernel", path)?);
        }
        if let Some(path) = &def.os.initrd {
            resources.initrd = Some(self.input("initrd", path)?);
        }
        if def.os.kernel.is_none() {
            resources.firmware = Some(self.firmware(def)?);
            resources.variables = self.variables(def)?;
        }
        for path in translate::fw_cfg_files(def) {
            resources.fw_cfg.push(self.input("fw_cfg file", path)?);
        }
        for (index, disk) in def.devices.disks.iter().enumerate() {
            let empty = disk.device() == DiskDevice::Cdrom && disk.location() == Location::Empty;
            let file = if empty { None } else { Some(self.disk(disk)) };
            let before = &def.devices.disks[..index];
            let file = file.transpose().map_err(|error| self.name_twin(disk, before, error))?;
            resources.disks.push(file);
        }
        for (index, interface) in def.devices.interfaces.iter().enumerate() {
            // Before the tap: nothing is made for a start that cannot be.
            let rom = self.network_rom(def, index)?;
            resources.interfaces.push(OpenTap { rom, ..self.tap(interface)? });
        }
        for serial in &def.devices.serials {
            let open = self.chardev(serial.kind, &serial.sources, serial.log.as_ref(), None)?;
            resources.serials.push(open);
        }
        for console in &def.devices.consoles {
            let open = if translate::is_virtio(console) {
                self.chardev(console.kind(), &console.sources, console.log.as_ref(), None)?
            } else {
                OpenChardev::default()
            };
            resources.consoles.push(open);
        }
        for channel in &def.devices.channels {
            let open = if provided(channel) {
                let name = channel.target.name.as_deref().or(channel.alias.as_deref());
                self.chardev(channel.kind, &channel.sources, channel.log.as_ref(), name)?
            } else {
                OpenChardev::default()
            };
            resources.channels.push(open);
        }
        if let Some(card) = translate::display::card(&def.devices) {
            // A kernel that is booted directly has no use for it.
            if def.os.kernel.is_none() {
                let name = translate::display::option_rom(card);
                let rom = self.launch.firmware.option_rom(name);
                resources.video_rom = rom.map(|path| self.input("VGA BIOS", &path)).transpose()?;
            }
            if let Some(vnc) = translate::display::server(&def.devices) {
                resources.vnc = self.vnc(vnc)?;
            }
        }
        if let Some(vsock) = &def.devices.vsock {
            resources.vsock = Some(self.vsock(vsock)?);
        }
        Ok(resources)
    }

    /// Where the guest's sockets lead, and its address there.
    pub(super) fn vsock(&mut self, vsock: &Vsock) -> Result<OpenVsock, Error> {
        let cid = vsock.cid.unwrap_or_default();
        let wanted = cid.address.filter(|_| cid.auto != Some(YesNo::Yes));
        if let Some((device, cid)) = self.broker.vsock(wanted)? {
            return Ok(OpenVsock { end: VsockEnd::Kernel(self.table.add(device)), cid });
        }
        let path = self.launch.run_dir.join(VSOCK_SOCKET);
        let listener = self.table.add(self.broker.listen(&path)?);
        // No other guest is reached through this socket, so any address is free.
        Ok(OpenVsock { end: VsockEnd::Socket(listener), cid: wanted.unwrap_or(FIRST_CID) })
    }

    fn vnc(&mut self, vnc: &Vnc) -> Result<OpenVnc, Error> {
        let mut open = OpenVnc::default();
        match translate::display::place(vnc) {
            Place::Tcp { address, ports } => {
                let (listener, port) = self.broker.listen_tcp(address, ports)?;
                open.listener = Some(self.table.add(listener));
                open.port = Some(port);
            }
            Place::Unix(path) => {
                let path = path.unwrap_or_else(|| self.launch.run_dir.join("vnc.sock"));
                open.listener = Some(self.table.add(self.broker.listen(&path)?));
                open.socket = Some(path);
            }
            Place::Nowhere => {}
        }
        if open.listener.is_some() && self.launch.vnc.tls {
            open.tls = Some(self.vnc_tls(&self.launch.vnc)?);
        }
        Ok(open)
    }

    /// Files of libvirt's names in the directory that the daemon's configuration names.
    fn vnc_tls(&mut self, config: &config::Vnc) -> Result<VncTls, Error> {
        let mut file = |what, name| self.input(what, &config.tls_x509_cert_dir.join(name));
        Ok(VncTls {
            certificate: file("VNC server's certificate", "server-cert.pem")?,
            key: file("VNC server's key", "server-key.pem")?,
            viewers: config
                .tls_x509_verify
                .then(|| file("certificate of the VNC viewers' authority", "ca-cert.pem"))
                .transpose()?,
        })
    }

    pub(super) fn input(&mut self, what: &str, path: &Path) -> Result<Fd, Error> {
        Ok(self.table.add(self.broker.open_input(what, path)?))
    }

    fn firmware(&mut self, def: &DomainDef) -> Result<Fd, Error> {
        if let Some(path) = def.os.loader.as_ref().and_then(|loader| loader.path.as_ref()) {
            return self.input("firmware", path);
        }
        let bios = self.launch.firmware.bios(translate::board_of(def)).ok_or_else(|| {
            let text = "there is no BIOS image on this host: install the package seabios (Debian, \
                        Ubuntu) or seabios-bin (Fedora, RHEL), or name an image in <loader>";
            Error::new(Code::ResourceMissing, text)
        })?;
        self.input("BIOS", &bios)
    }

    /// The flash that keeps what the firmware is told to remember; locked as images are.
    fn variables(&mut self, def: &DomainDef) -> Result<Option<Fd>, Error> {
        let Some((path, template)) = translate::variables(def) else { return Ok(None) };
        self.broker.make_variables(path, template, self.launch.reset_variables)?;
        let file = self.image(path, false, false, Sharing::Exclusive)?;
        Ok(Some(self.table.add(file)))
    }

    pub(super) fn disk(&mut self, disk: &Disk) -> Result<OpenDisk, Error> {
        if disk.kind() == DiskType::Network {
            return self.network_disk(disk);
        }
        let path = self.place(disk)?;
        let mode = cache(disk.driver.as_ref().and_then(|driver| driver.cache));
        let direct = matches!(mode, Cache::None | Cache::Directsync);
        let sharing = if disk.shareable { Sharing::Shared } else { Sharing::Exclusive };
        let image = self.disk_image(disk, &path, disk.read_only, direct, sharing)?;
        match disk.driver.as_ref().and_then(|driver| driver.format) {
            None | Some(DiskFormat::Raw) => Ok(OpenDisk::raw(self.table.add(image))),
            Some(format) => self.chain(disk, &path, format, image, direct),
        }
    }

    pub(super) fn image(
        &self,
        path: &Path,
        read_only: bool,
        direct: bool,
        sharing: Sharing,
    ) -> Result<OwnedFd, Error> {
        self.or_user(self.broker.open_image(path, read_only, direct, sharing))
    }

    /// The image, or the domain that has it.
    pub(super) fn or_user(&self, opened: Result<OwnedFd, BrokerError>) -> Result<OwnedFd, Error> {
        name_holder(opened, &self.launch.neighbours)
    }

    fn chardev(
        &mut self,
        kind: CharType,
        sources: &[CharSource],
        log: Option<&CharLog>,
        channel: Option<&str>,
    ) -> Result<OpenChardev, Error> {
        let mut open = OpenChardev::default();
        let source = sources.first();
        let path = source.and_then(|source| source.path.clone());
        match kind {
            CharType::Pty => {
                let (master, slave, path) = self.broker.pty()?;
                let (master, slave) = (self.table.add(master), self.table.add(slave));
                open.config.pty = Some(Pty { master, slave });
                open.path = Some(path);
            }
            CharType::Unix => {
                let path = path.unwrap_or_else(|| self.socket(channel.unwrap_or("socket")));
                open.config.listener = Some(self.table.add(self.broker.listen(&path)?));
                open.path = Some(path);
            }
            CharType::File => {
                let append = source.and_then(|source| source.append) == Some(OnOff::On);
                let path = path.ok_or_else(|| {
                    Error::new(Code::InvalidXml, "a device of type='file' names no file")
                })?;
                open.config.logs.push(self.log(&path, append)?);
            }
            CharType::Stdio => open.config.stdio = true,
            _ => open.config = Chardev::default(),
        }
        if let Some(log) = log {
            // libvirt's default is to begin anew.
            let append = log.append == Some(OnOff::On);
            open.config.logs.push(self.log(&log.file, append)?);
        }
        Ok(open)
    }

    /// A file for all that a guest writes, and those that take its contents when it is full, by the
    /// names that virtlogd gives them. A device does not grow.
    fn log(&mut self, path: &Path, append: bool) -> Result<LogFile, Error> {
        let file = File::from(self.broker.open_output(path, append)?);
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let mut older = Vec::new();
        for number in (0..OLDER_LOGS).filter(|_| is_file) {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            older.push(self.table.add(self.broker.open_output(Path::new(&name), true)?));
        }
        Ok(LogFile { file: self.table.add(file.into()), older })
    }

    /// A short name of our own: a channel's may be long, or hold a slash.
    fn socket(&self, channel: &str) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
        let name: String = channel.chars().map(safe).take(30).collect();
        self.launch.run_dir.join(format!("{name}.sock"))
    }
}
