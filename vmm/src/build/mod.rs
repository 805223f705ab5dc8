//! Building a machine, one step per file and in the order of dependence:
//! memory → KVM → chipset → PCI → virtio → video → firmware or kernel → vCPUs, parked.

mod ata;
pub(crate) mod balloon;
mod boot_order;
mod chipset;
mod cpus;
pub(crate) mod disk;
mod firmware;
mod identity;
mod images;
pub(crate) mod limits;
mod loader;
mod memory;
mod nbd;
mod numa;
mod nvme;
mod pci;
mod plug;
mod reduced;
mod reserve;
mod scsi;
mod sys;
mod timers;
mod video;
mod virtio;
mod watchdog;
mod zones;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arch::layout::{LayoutError, MemoryMap};
use devices::alarm::Alarm;
use devices::backend::Disk;
use devices::backend::chardev::ChardevWorker;
use devices::backend::nbd::NbdConnector;
use devices::bus::{Bus, Overlap};
use devices::chipset::{PowerButton, Processors};
use devices::component::{Component, StateError};
use devices::display::{Inputs, Ramfb, Screen};
use devices::io_thread::{IoThread, Running};
use devices::pci::{PciError, PciRoot, Windows};
use devices::scsi::LogicalUnit;
use devices::virtio::balloon::BalloonHandle;
use devices::virtio::scsi::ScsiHandle;
use vmm_protocol::config::{Boot, IoThread as IoThreadConfig, MachineConfig};
use vmm_protocol::control::{BlockStatistics, InterfaceStatistics};

use crate::announcements::Announcements;
use crate::backups::Backups;
use crate::block_jobs::BlockJobs;
use crate::console::Console;
use crate::faults::Faults;
use crate::isolation;
use crate::kvm::{KvmError, Lines, Vm};
use crate::machine::{Machine, MachineError};
use crate::notices::Notices;
use crate::process::{FileError, Files};
use crate::sandbox::{Kind, Sandbox};
use crate::state::ImageError;
use crate::vcpu::{Buses, Inbox, VcpuError};

use chipset::Power;

pub(crate) use images::{Images, Layer, Prepared};
pub use loader::Loader;
pub(crate) use plug::{Ground, PlugError};
pub(crate) use reserve::Reserve;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("{what} {value}: {reason}")]
    Config { what: &'static str, value: String, reason: &'static str },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("guest memory of {bytes} bytes cannot be had")]
    Memory { bytes: u64, source: ::memory::MemoryError },
    #[error("the right to lock memory cannot be given up")]
    Confine(#[source] io::Error),
    #[error("{bytes} bytes of guest memory cannot be locked into the host's RAM")]
    LockMemory { bytes: u64, source: ::memory::MemoryError },
    #[error(
        "the host has too few free huge pages of {page} bytes for {bytes} bytes of guest memory"
    )]
    TooFewHugePages { bytes: u64, page: u64, source: ::memory::MemoryError },
    #[error("the host gives no huge pages{}", .page.map(|page| format!(" of {page} bytes")).unwrap_or_default())]
    HugePages { page: Option<u64>, source: io::Error },
    #[error(
        "guest memory cannot come from the host's NUMA nodes {nodes}: the host lacks one of them, \
         or has no memory there"
    )]
    HostNodes { nodes: String, source: ::memory::MemoryError },
    #[error(
        "a TSC of {wanted} kHz cannot be had: the host's counts at {host} kHz, and its processor scales none"
    )]
    TscFrequency { wanted: u32, host: u32 },
    #[error("a shared memory file cannot be made")]
    MemoryFile(#[source] io::Error),
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(transparent)]
    Overlap(#[from] Overlap),
    #[error(transparent)]
    Pci(#[from] PciError),
    #[error("device {id} cannot be built")]
    Device { id: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("thread {name} cannot be started")]
    Thread { name: String, source: io::Error },
    #[error(transparent)]
    Cpu(#[from] arch::cpuid::CpuError),
    #[error(transparent)]
    HyperV(#[from] arch::cpuid::HyperVError),
    #[error(transparent)]
    Topology(#[from] arch::topology::TopologyError),
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    #[error("vCPUs cannot be stopped later")]
    Inbox(#[source] io::Error),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Saved(#[from] ImageError),
    #[error("a chip of the board starts in no valid state")]
    Chip(#[from] StateError),
}

impl BuildError {
    fn config(what: &'static str, value: impl ToString, reason: &'static str) -> Self {
        Self::Config { what, value: value.to_string(), reason }
    }

    fn device<E>(id: &str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Device { id: id.to_owned(), source: source.into() }
    }
}

/// Announcements that are made by a thread.
fn announced_by(thread: &Arc<IoThread>) -> Result<Arc<Announcements>, BuildError> {
    const WHAT: &str = "announcements";
    let announcements = Arc::new(Announcements::new().map_err(BuildError::device(WHAT))?);
    let alarm = Alarm::new(announcements.clone()).map_err(BuildError::device(WHAT))?;
    // It works for as long as its thread does.
    drop(thread.add(alarm).map_err(BuildError::device(WHAT))?);
    Ok(announcements)
}

/// Where a device's figures are read.
pub type Figures<T> = Vec<(String, Box<dyn Fn() -> T + Send + Sync>)>;

/// Makes a disk larger, and tells the guest.
pub type Grow = Box<dyn Fn(u64) -> io::Result<()> + Send + Sync>;

/// The live devices of a machine, and the handles by which it reaches single ones.
pub struct Parts {
    pub buses: Buses,
    /// Everything with a state, in the order in which it is paused, reset, saved and restored:
    /// what decides on addresses (PCI) comes after the functions that it routes.
    pub components: Vec<Arc<dyn Component>>,
    pub power_button: Arc<dyn PowerButton>,
    /// Where vCPUs come and go.
    pub processors: Option<Arc<Processors>>,
    pub consoles: BTreeMap<String, Arc<Console>>,
    /// What moves the consoles' bytes.
    pub console_workers: Vec<Running<ChardevWorker>>,
    pub(crate) notices: Arc<Notices>,
    pub balloon: Option<BalloonHandle>,
    pub links: BTreeMap<String, Box<dyn Fn(bool) + Send + Sync>>,
    /// Tell the networks of a guest where it is.
    pub announcements: Arc<Announcements>,
    pub blocks: Figures<BlockStatistics>,
    /// Drives whose media come and go.
    pub drives: BTreeMap<String, Arc<LogicalUnit>>,
    /// Hosts onto which drives come, and which they leave.
    pub scsi_hosts: BTreeMap<String, ScsiHandle>,
    /// Network disks, whose connections come and go.
    pub connectors: BTreeMap<String, NbdConnector>,
    /// Of network disks: whether they have their server.
    pub connected: BTreeMap<String, Arc<AtomicBool>>,
    /// Disks that are made of files, and can be made of others.
    pub(crate) images: BTreeMap<String, Images>,
    /// Disks whose files must hold what the guest wrote, when its state is saved.
    pub written: BTreeMap<String, Arc<dyn Disk>>,
    /// Disks that can be made larger, to so many bytes.
    pub growing: BTreeMap<String, Grow>,
    /// Of all disks.
    pub limiters: limits::Limiters,
    pub faults: Faults,
    /// And what is written to them.
    pub backups: Backups,
    /// What copies for block jobs.
    pub(crate) block_jobs: BlockJobs,
    pub interfaces: Figures<InterfaceStatistics>,
    /// What takes a user's input. The board has something only where there is a screen.
    pub inputs: Arc<Inputs>,
    /// What a guest without a graphics card shows.
    pub(crate) ramfb: Option<Arc<Ramfb>>,
    /// By graphics card, each with the thread that serves it.
    pub screens: BTreeMap<String, (Arc<Screen>, Arc<IoThread>)>,
    pub pci: Arc<PciRoot>,
    /// Where we place BARs; none where firmware does.
    pub windows: Option<Windows>,
    /// Serves what has no queues: consoles, the clock's alarm.
    pub board_thread: Arc<IoThread>,
    /// By index, as queues are mapped to them. They end after the devices above.
    pub io_threads: Vec<Arc<IoThread>>,
    /// For devices to come.
    pub(crate) reserve: Reserve,
}

impl Parts {
    /// None yet, but what all others need; and how the guest hears of this and that.
    fn open(
        config: &MachineConfig,
        sandbox: &Sandbox,
        vm: &Vm,
        map: &MemoryMap,
        inbox: &Arc<Inbox>,
    ) -> Result<(Self, Power), BuildError> {
        let buses = Buses { ports: Arc::new(Bus::new("port")), mmio: Arc::new(Bus::new("memory")) };
        let io_threads = config
            .io_threads
            .iter()
            .map(|thread| virtio::io_thread(thread, sandbox))
            .collect::<Result<_, _>>()?;
        let board_thread = IoThreadConfig { name: "board".to_owned(), affinity: Vec::new() };
        let board_thread = virtio::io_thread(&board_thread, sandbox)?;
        let power = chipset::power(config, &vm.lines(), &buses)?;
        let ram = vm.ram().regions().iter().map(|region| (region.gpa, region.len));
        let memory = ram.chain(firmware::place(config)).collect();
        let pci = PciRoot::new(buses.mmio.clone(), buses.ports.clone(), memory, None);
        let notices = Notices::new(inbox.clone());
        let backups = Backups::new(sandbox.entering(Kind::Backup), &notices)
            .map_err(|source| BuildError::Thread { name: "backup".to_owned(), source })?;
        let parts = Self {
            power_button: power.button.clone(),
            processors: None,
            buses,
            components: vec![power.device.clone()],
            consoles: BTreeMap::new(),
            console_workers: Vec::new(),
            notices,
            balloon: None,
            links: BTreeMap::new(),
            announcements: announced_by(&board_thread)?,
            blocks: Vec::new(),
            drives: BTreeMap::new(),
            scsi_hosts: BTreeMap::new(),
            connectors: BTreeMap::new(),
            connected: BTreeMap::new(),
            images: BTreeMap::new(),
            written: BTreeMap::new(),
            growing: BTreeMap::new(),
            limiters: limits::Limiters::default(),
            faults: Faults::default(),
            backups,
            block_jobs: BlockJobs::new(sandbox, inbox.clone())
                .map_err(|source| BuildError::Thread { name: "block-jobs".to_owned(), source })?,
            interfaces: Vec::new(),
            inputs: Arc::default(),
            ramfb: None,
            screens: BTreeMap::new(),
            pci,
            windows: memory::windows(config, map),
            board_thread,
            io_threads,
            reserve: Reserve::new(config.platform.machine, sandbox)?,
        };
        Ok((parts, power))
    }

    /// Let go of all handles on device `id`.
    fn forget(&mut self, id: &str) {
        self.links.remove(id);
        self.announcements.remove(id);
        self.inputs.remove(id);
        self.drives.remove(id);
        self.connectors.remove(id);
        self.connected.remove(id);
        self.images.remove(id);
        self.written.remove(id);
        self.growing.remove(id);
        self.limiters.forget(id);
        self.faults.forget(id);
        self.backups.forget(id);
        self.blocks.retain(|(other, _)| other != id);
        self.interfaces.retain(|(other, _)| other != id);
    }

    /// Place BARs as firmware would: a kernel that is booted directly finds a configured tree.
    /// Firmware itself finds one as it is after a reset.
    pub fn assign_resources(&self) -> Result<(), PciError> {
        match &self.windows {
            Some(windows) => self.pci.assign_resources(windows),
            None => Ok(()),
        }
    }
}

/// What the steps share.
struct Site<'a> {
    config: &'a MachineConfig,
    files: &'a mut Files,
    /// What confines the threads of devices.
    sandbox: &'a Sandbox,
    vm: &'a Vm,
    map: &'a MemoryMap,
    lines: Lines,
    parts: &'a mut Parts,
    /// The calling thread is confined already: threads and rings cannot be had any more.
    confined: bool,
}

/// Build the machine of `config` from its open files: complete, loaded (or restored), its vCPUs
/// parked.
pub fn build(
    config: &MachineConfig,
    files: &mut Files,
    sandbox: &Sandbox,
) -> Result<Machine, BuildError> {
    let (ram, saved) = memory::build(config, files)?;
    isolation::memory_is_there(config.process.isolation).map_err(BuildError::Confine)?;
    let mut vm = Vm::new(files.take(config.process.kvm)?, &ram, config.cpus.count.into())?;
    timers::build(config, &vm)?;
    video::make_room(config, &mut vm)?;
    if matches!(config.boot, Boot::Kernel { .. }) && !reduced::is_reduced(config) {
        vm.wire_pics_through_ioapic()?;
    }
    let supported = vm.supported_cpuid()?;
    let map = memory::map(config, cpus::physical_bits(config, &supported)?)?;

    let inbox = Arc::new(Inbox::new().map_err(BuildError::Inbox)?);
    let lines = vm.lines();
    let (mut parts, events) = Parts::open(config, sandbox, &vm, &map, &inbox)?;
    let confined = false;
    let mut site =
        Site { config, files, sandbox, vm: &vm, map: &map, lines, parts: &mut parts, confined };
    chipset::build(&mut site, events.generation, events.processors)?;
    let buses = pci::build(&mut site, events.slots)?;
    virtio::build(&mut site, &buses, sandbox)?;
    watchdog::build(&mut site, &buses)?;
    ata::build(&mut site, &buses)?;
    nvme::build(&mut site, &buses)?;
    video::build(&mut site, &buses, sandbox)?;
    pci::finish(&mut site)?;
    let rom = firmware::build(&mut site)?;

    let loader = match rom {
        Some(rom) => Loader::Firmware(rom),
        None => Loader::kernel(config, files, &map)?,
    };
    let cpus = cpus::build(config, &vm, &supported, &parts, &inbox, sandbox, saved.as_ref())?;
    let ground = Ground::new(config.clone(), sandbox.clone(), map, buses);
    let mut machine = Machine::new(vm, cpus, parts, loader, inbox, ground)?;
    match &saved {
        Some(saved) => machine.restore(saved)?,
        None => machine.load()?,
    }
    Ok(machine)
}
