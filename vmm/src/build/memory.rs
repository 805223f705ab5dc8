//! Step 1: guest RAM, and the map it is a part of.

use std::fs::File;
use std::ops::Range;

use arch::layout::{MemoryMap, PHYS_BITS_MAX, Platform, ram_regions};
use arch::ports;
use devices::pci::Windows;
use memory::{Backing, GuestRam};
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use vmm_protocol::config::{Boot, Machine, MachineConfig, MemoryBacking};

use super::{BuildError, numa};
use crate::process::Files;
use crate::state::{Image, Saved, Shape};

/// MFD_HUGE_SHIFT: the logarithm of the page size stands above.
const HUGE_PAGE_SHIFT: u32 = 26;

/// RAM, and what a saved state holds beside it.
pub(super) fn build(
    config: &MachineConfig,
    files: &mut Files,
) -> Result<(GuestRam, Option<Saved>), BuildError> {
    let bytes = config.memory.size;
    let layout = ram_regions(bytes, platform(config))?;
    let failed = |source| BuildError::Memory { bytes, source };
    let image = match &config.restore {
        Some(restore) => {
            let image = Image::open(files.take_file(restore.image)?)?;
            image.saved.shape.must_be(&Shape::of(config))?;
            Some(image)
        }
        None => None,
    };
    let ram = match (config.memory.backing, &image) {
        (MemoryBacking::Anonymous, Some(saved)) if !saved.is_packed() => {
            let ram = saved.map(&layout).map_err(failed)?;
            prepare(config, &ram)?;
            return Ok((ram, image.map(|image| image.saved)));
        }
        (MemoryBacking::Anonymous, _) => {
            GuestRam::new(&layout, &Backing::Anonymous).map_err(failed)?
        }
        (MemoryBacking::Shared, _) => {
            GuestRam::new(&layout, &Backing::Shared(&shared_file(bytes)?)).map_err(failed)?
        }
        (MemoryBacking::Huge { page }, _) => huge(config, &layout, page)?,
    };
    prepare(config, &ram)?;
    if let Some(image) = &image {
        image.fill(&ram)?;
    }
    Ok((ram, image.map(|image| image.saved)))
}

/// What a definition wants done with RAM before the guest has any of it.
fn prepare(config: &MachineConfig, ram: &GuestRam) -> Result<(), BuildError> {
    let bytes = config.memory.size;
    numa::place(config, ram, &MemoryMap::new(platform(config), bytes, PHYS_BITS_MAX)?)?;
    if config.memory.locked {
        ram.lock().map_err(|source| BuildError::LockMemory { bytes, source })?;
    }
    if config.memory.mergeable && !ram.merge() {
        tracing::debug!("the host's kernel does not merge pages that are the same");
    }
    if config.memory.prefault {
        ram.prefault().map_err(|source| BuildError::Memory { bytes, source })?;
    }
    Ok(())
}

/// RAM of hugetlbfs pages, reserved as it is mapped.
fn huge(
    config: &MachineConfig,
    layout: &[(u64, u64)],
    page: Option<u64>,
) -> Result<GuestRam, BuildError> {
    let bytes = config.memory.size;
    let no_such = |error: rustix::io::Errno| BuildError::HugePages { page, source: error.into() };
    let size = match page {
        None => MemfdFlags::empty(),
        Some(page) if page.is_power_of_two() => {
            MemfdFlags::from_bits_retain(page.trailing_zeros() << HUGE_PAGE_SHIFT)
        }
        Some(page) => return Err(BuildError::config("huge page size", page, "is no power of two")),
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | size;
    let file = File::from(memfd_create("guest-ram", flags).map_err(no_such)?);
    let page = fstat(&file).map_err(no_such)?.st_blksize as u64;
    if layout.iter().any(|(_, len)| !len.is_multiple_of(page)) {
        let reason = "is no whole number of huge pages, below and above 4 GiB";
        return Err(BuildError::config("memory size", bytes, reason));
    }
    ftruncate(&file, bytes).map_err(no_such)?;
    GuestRam::new(layout, &Backing::Huge(&file, page))
        .map_err(|source| BuildError::TooFewHugePages { bytes, page, source })
}

pub(super) fn map(config: &MachineConfig, phys_bits: u8) -> Result<MemoryMap, BuildError> {
    Ok(MemoryMap::new(platform(config), config.memory.size, phys_bits)?)
}

pub(super) fn platform(config: &MachineConfig) -> Platform {
    match config.platform.machine {
        Machine::Q35 => Platform::Q35,
        Machine::Pc => Platform::Pc,
        Machine::Microvm => Platform::Microvm,
    }
}

/// Where we place BARs, unless firmware does.
pub(super) fn windows(config: &MachineConfig, map: &MemoryMap) -> Option<Windows> {
    if matches!(config.boot, Boot::Firmware(_)) {
        return None;
    }
    let io: Range<u64> = ports::PCI_IO_START.into()..u64::from(ports::PCI_IO_END) + 1;
    Some(Windows { io, memory32: map.mmio32.clone(), memory64: map.mmio64.clone() })
}

fn shared_file(bytes: u64) -> Result<File, BuildError> {
    let make = || {
        let file = memfd_create("guest-ram", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, bytes)?;
        Ok(file.into())
    };
    make().map_err(|error: rustix::io::Errno| BuildError::MemoryFile(error.into()))
}
