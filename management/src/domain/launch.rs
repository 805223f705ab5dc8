//! From a definition to a process: open everything, write down what is about to be, spawn. Blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use broker::{
    Broker, BrokerError, CONTROL_SOCKET, EXIT_RECORD, Holder, Process, Sharing, Stdio, Tap,
};
use uuid::Uuid;
use vmm_protocol::config::{Cache, Chardev, FIRST_FD, Fd, Identity, ProcessFiles};
use xml::device::chardev::{CharLog, CharSource, CharType};
use xml::device::disk::{Disk, DiskDevice, DiskFormat, Location};
use xml::device::graphics::Vnc;
use xml::device::interface::{Interface, InterfaceType};
use xml::{DomainDef, OnOff, YesNo};

use super::record::Record;
use crate::error::{Code, Error};
use crate::firmware::Installed;
use crate::translate::display::{OpenVnc, Place};
use crate::translate::machine_devices::{cache, provided};
use crate::translate::{self, OpenChardev, OpenDisk, OpenTap, Resources, Start};

/// iPXE for virtio cards, with an image for a BIOS and one for UEFI.
const NETWORK_ROM: &str = "efi-virtio.rom";

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
    /// Where the host has a BIOS for those that name no firmware.
    pub firmware: Installed,
    /// Make the firmware's variables anew.
    pub reset_variables: bool,
    pub run_dir: PathBuf,
    /// Of the VMM.
    pub log: Option<PathBuf>,
    pub stdio: Stdio,
    pub boot_id: Uuid,
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
    check_memory(launch.def.memory.size.0, crate::host::memory())?;
    super::huge_pages::check(&launch.def)?;
    broker.make_run_dir(&launch.run_dir)?;
    let lock = broker.lock_run_dir(&launch.run_dir)?;
    let mut undo = Undo { broker, run_dir: &launch.run_dir, cgroup: None, armed: true };
    let result = launch_locked(broker, launch, lock, &mut undo);
    undo.armed = result.is_err();
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
    cgroup: Option<PathBuf>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = self.broker.remove_cgroup(cgroup);
        }
        let _ = self.broker.remove_run_dir(self.run_dir);
    }
}

fn launch_locked(
    broker: &dyn Broker,
    launch: &Launch,
    lock: OwnedFd,
    undo: &mut Undo<'_>,
) -> Result<Launched, Error> {
    let mut table = Table::default();
    let locks = vec![table.add(lock)];
    let def = translate::with_aliases(&launch.def);
    let resources = Opener { broker, table: &mut table, launch }.open(&def)?;
    let live = translate::live(&launch.def, launch.id, &resources);

    let mut degraded = Vec::new();
    match broker.make_cgroup(&launch.uuid.to_string()) {
        Ok(path) => undo.cgroup = Some(path),
        Err(error) => degraded.push(error.to_string()),
    }
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
        process: None,
        rebooting: false,
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
    };
    let identity = Identity {
        name: record.name.clone(),
        uuid: record.uuid,
        start_token: record.start_token,
        boot_id: record.boot_id,
    };
    let start = Start { identity, platform: launch.platform, process, paused: launch.paused, now };
    let config = translate::machine(&def, &resources, start)?;
    let config = config_file(&config).map_err(|source| {
        Error::new(Code::HostFailure, "cannot write the VMM's configuration").with_source(source)
    })?;
    let files: Vec<_> = std::iter::once(&config).chain(&table.files).map(|f| f.as_fd()).collect();
    let stdio = launch.stdio.clone();
    let spawned = broker.spawn(&record.name, stdio, record.cgroup.as_deref(), &files)?;
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

fn config_file(config: &vmm_protocol::config::MachineConfig) -> std::io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("machine-config", flags)?);
    file.write_all(&serde_json::to_vec(config)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// The files of the new process. The configuration, added last, comes first.
#[derive(Default)]
pub(super) struct Table {
    files: Vec<OwnedFd>,
}

impl Table {
    pub(super) fn add(&mut self, file: OwnedFd) -> Fd {
        self.files.push(file);
        // Far below any limit of open files.
        Fd(FIRST_FD.saturating_add(i32::try_from(self.files.len()).unwrap_or(i32::MAX)))
    }
}

pub(super) struct Opener<'a> {
    pub(super) broker: &'a dyn Broker,
    pub(super) table: &'a mut Table,
    launch: &'a Launch,
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
        for disk in &def.devices.disks {
            let empty = disk.device() == DiskDevice::Cdrom && disk.location() == Location::Empty;
            let file = if empty { None } else { Some(self.disk(disk)?) };
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
            let cid = vsock.cid.unwrap_or_default();
            let wanted = cid.address.filter(|_| cid.auto != Some(YesNo::Yes));
            let (device, cid) = self.broker.vsock(wanted)?;
            resources.vsock = Some((self.table.add(device), cid));
        }
        Ok(resources)
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
        Ok(open)
    }

    fn input(&mut self, what: &str, path: &Path) -> Result<Fd, Error> {
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

    fn disk(&mut self, disk: &Disk) -> Result<OpenDisk, Error> {
        let (Location::File(path) | Location::Block(path)) = disk.location() else {
            let text = format!("disk {} has no file or block device", disk.target.dev);
            return Err(Error::new(Code::Unsupported, text));
        };
        let mode = cache(disk.driver.as_ref().and_then(|driver| driver.cache));
        let direct = matches!(mode, Cache::None | Cache::Directsync);
        let sharing = if disk.shareable { Sharing::Shared } else { Sharing::Exclusive };
        let image = self.image(path, disk.read_only, direct, sharing)?;
        match disk.driver.as_ref().and_then(|driver| driver.format) {
            None | Some(DiskFormat::Raw) => Ok(OpenDisk::raw(self.table.add(image))),
            Some(format) => self.chain(disk, path, format, image, direct),
        }
    }

    pub(super) fn image(
        &self,
        path: &Path,
        read_only: bool,
        direct: bool,
        sharing: Sharing,
    ) -> Result<OwnedFd, Error> {
        match self.broker.open_image(path, read_only, direct, sharing) {
            Ok(image) => Ok(image),
            Err(BrokerError::Locked { path, holder: Holder::Process { pid, .. } })
                if self.launch.neighbours.contains_key(&pid) =>
            {
                let (path, name) = (path.display(), &self.launch.neighbours[&pid]);
                let text = format!("image {path} is in use by domain {name:?}");
                Err(Error::new(Code::Locked, text))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What an interface that is in the boot order needs to be booted from.
    fn network_rom(&mut self, def: &DomainDef, index: usize) -> Result<Option<Fd>, Error> {
        let ordered = translate::boot_order_of_interface(def, index).is_some();
        if !ordered || def.os.kernel.is_some() {
            return Ok(None);
        }
        let rom = def.devices.interfaces.get(index).and_then(|interface| interface.rom.as_ref());
        if rom.is_some_and(|rom| rom.enabled == Some(YesNo::No) || rom.bar == Some(OnOff::Off)) {
            return Ok(None);
        }
        if let Some(path) = rom.and_then(|rom| rom.file.as_ref()) {
            return self.input("network boot ROM", path).map(Some);
        }
        let found = self.launch.firmware.option_rom(NETWORK_ROM);
        if found.is_none() {
            let name = &def.name;
            tracing::warn!(domain = %name, "no {NETWORK_ROM}, of the package ipxe-qemu: no boot from the network");
        }
        found.map(|path| self.input("network boot ROM", &path)).transpose()
    }

    fn tap(&mut self, interface: &Interface) -> Result<OpenTap, Error> {
        let source = interface.source.as_ref();
        let target = interface.target.as_ref();
        let name = target.and_then(|target| target.dev.clone());
        let mac = interface.mac_address().map_or([0; 6], |mac| mac.0);
        let mtu = interface.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        let queues = interface.driver.as_ref().and_then(|driver| driver.queues).unwrap_or(1);
        let queues = u16::try_from(queues).unwrap_or(1);
        let managed = target.and_then(|target| target.managed);
        let bridge = source.and_then(|source| source.bridge.clone());
        let request = match (interface.kind, bridge, name) {
            (InterfaceType::Bridge, Some(bridge), name) => {
                Tap::Bridged { bridge, name: name.filter(|name| kept(name)), mac, mtu, queues }
            }
            // A tap with a name is the user's own, unless it is said that it is ours to make.
            (_, _, Some(name)) if managed != Some(YesNo::Yes) => Tap::Existing { name, queues },
            (_, _, name) => Tap::Standalone { name, mac, mtu, queues },
        };
        let tap = self.broker.tap(request)?;
        let queues = tap.queues.into_iter().map(|queue| self.table.add(queue)).collect();
        Ok(OpenTap { name: tap.name, queues, rom: None })
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
                let (master, path) = self.broker.pty()?;
                open.config.pty = Some(self.table.add(master));
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
                open.config.log = Some(self.table.add(self.broker.open_output(&path, append)?));
            }
            CharType::Stdio => open.config.stdio = true,
            _ => open.config = Chardev::default(),
        }
        // `file` has its place already.
        if let Some(log) = log.filter(|_| open.config.log.is_none()) {
            // libvirt's default is to begin anew.
            let append = log.append == Some(OnOff::On);
            open.config.log = Some(self.table.add(self.broker.open_output(&log.file, append)?));
        }
        Ok(open)
    }

    /// A short name of our own: a channel's may be long, or hold a slash.
    fn socket(&self, channel: &str) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
        let name: String = channel.chars().map(safe).take(30).collect();
        self.launch.run_dir.join(format!("{name}.sock"))
    }
}

/// libvirt's rule: a name it would give itself (`vnet3`) is of an earlier run.
fn kept(name: &str) -> bool {
    let generated =
        name.strip_prefix("vnet").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    !generated
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        let code = match &error {
            BrokerError::Missing { .. }
            | BrokerError::NoTemplate { .. }
            | BrokerError::WrongKind { .. }
            | BrokerError::NoBridge { .. }
            | BrokerError::NoInterface { .. }
            | BrokerError::NotTap { .. }
            | BrokerError::TapMode { .. } => Code::ResourceMissing,
            BrokerError::Locked { .. } => Code::Locked,
            BrokerError::InterfaceBusy { .. } | BrokerError::PortBusy { .. } => Code::Busy,
            BrokerError::RunDirLocked { .. } => Code::InvalidState,
            BrokerError::NoSpace { .. } => Code::NoSpace,
            BrokerError::Denied { .. }
            | BrokerError::KvmDenied { .. }
            | BrokerError::NoKvm { .. }
            | BrokerError::NoCgroup { .. }
            | BrokerError::SocketPath { .. }
            | BrokerError::Host { .. } => Code::HostFailure,
            BrokerError::OtherProcess { .. } | BrokerError::Unexpected { .. } => Code::Internal,
        };
        let message = error.to_string();
        match std::error::Error::source(&error).map(ToString::to_string) {
            Some(cause) => Self::new(code, message).with_source(cause),
            None => Self::new(code, message),
        }
    }
}
