//! [`Loader`]: puts what the guest starts with into RAM, at start and again at each reset.

use std::fs::File;
use std::sync::Arc;

use arch::layout::MemoryMap;
use arch::registers::Entry;
use boot::acpi::Board;
use boot::smbios::Identity;
use boot::{BootError, BootSpec};
use memory::GuestRam;
use vmm_protocol::config::{Boot, MachineConfig, PciKind};

use super::identity::identity;
use super::{BuildError, cpus, numa, plug, reduced, video, zones};
use crate::firmware::Rom;
use crate::process::Files;

pub enum Loader {
    Kernel(Box<Kernel>),
    Firmware(Arc<Rom>),
}

pub struct Kernel {
    map: MemoryMap,
    kernel: File,
    initrd: Option<File>,
    cmdline: String,
    board: Board,
    identity: Identity,
}

impl Loader {
    pub(super) fn kernel(
        config: &MachineConfig,
        files: &mut Files,
        map: &MemoryMap,
    ) -> Result<Self, BuildError> {
        let Boot::Kernel { kernel, initrd, cmdline } = &config.boot else {
            return Err(BuildError::config("boot", "firmware", "has no image"));
        };
        Ok(Self::Kernel(Box::new(Kernel {
            map: map.clone(),
            kernel: files.take_file(*kernel)?,
            initrd: initrd.map(|fd| files.take_file(fd)).transpose()?,
            cmdline: cmdline.clone(),
            board: board(config, map)?,
            identity: identity(config)?,
        })))
    }

    /// RAM reads as zeros but for what an earlier guest's start did not touch: none. What comes back
    /// is where the first vCPU starts, if not where every processor does after a reset.
    ///
    /// `present`: the set of vCPUs that are there, where they come and go.
    pub fn place(&self, ram: &GuestRam, present: Option<u64>) -> Result<Option<Entry>, BootError> {
        match self {
            Self::Kernel(kernel) => kernel.place(ram, present).map(Some),
            Self::Firmware(rom) => {
                rom.shadow(ram)?;
                Ok(None)
            }
        }
    }
}

impl Kernel {
    fn place(&self, ram: &GuestRam, present: Option<u64>) -> Result<Entry, BootError> {
        let board = Board { hotplug: present, ..self.board.clone() };
        let spec = BootSpec {
            map: &self.map,
            kernel: &self.kernel,
            initrd: self.initrd.as_ref(),
            cmdline: &self.cmdline,
            board: &board,
            smbios: Some(&self.identity),
        };
        boot::place(ram, &spec)
    }
}

/// What the ACPI tables tell of the board.
pub(super) fn board(config: &MachineConfig, map: &MemoryMap) -> Result<Board, BuildError> {
    let topology = cpus::topology(config)?;
    let ids = (0..config.cpus.count).map(|index| topology.apic_id(index.into())).collect();
    let mut board = Board::new(map, ids);
    board.nodes = numa::nodes(config, map)?;
    board.reset = zones::waiting(&config.boot).reset;
    board.pvpanic = config.pvpanic;
    board.generation = config.generation.is_some();
    board.slots = plug::slots(config);
    board.hotplug = config.cpus.present.map(|_| 0);
    board.fw_cfg = super::firmware::has_fw_cfg(config);
    board.vga = video::has_vga(config);
    board.ps2 = video::has_screen(config);
    board.reduced = reduced::is_reduced(config);
    board.rtc = reduced::shows_rtc(config);
    board.serial = [false; 4];
    for serial in &config.serial {
        if let Some(present) = board.serial.get_mut(usize::from(serial.port)) {
            *present = true;
        }
    }
    // Every bridge got the next bus number; kernels look no further than the tables tell them.
    let is_bridge = |kind: &PciKind| matches!(kind, PciKind::RootPort(_));
    let bridges = config.pci.iter().filter(|device| is_bridge(&device.kind)).count();
    board.last_bus = u8::try_from(bridges).unwrap_or(u8::MAX);
    Ok(board)
}
