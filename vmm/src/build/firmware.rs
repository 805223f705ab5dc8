//! The part of the board that only firmware needs: its image, fw_cfg, and the debug port.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use arch::layout::{
    FIRMWARE_MIN, GENERATION, GIB, HIGH_RAM_START, IOAPIC_START, KVM_TSS, MemoryMap, PAGE_SIZE,
};
use boot::acpi::{Board, FirmwareTables};
use boot::smbios;
use devices::chipset::{
    DebugPort, FwCfg, Items, Late, Pflash, Processors, Writable, fw_cfg_key as key,
};
use devices::display::Ramfb;
use devices::pci::PciRoot;
use vmm_protocol::config::{Boot, Fd, Firmware, FwCfgContent, FwCfgFile, Machine, MachineConfig};

use super::boot_order::boot_order;
use super::identity::identity;
use super::{BuildError, Site, chipset, loader, video};
use crate::firmware::{FirmwareLog, Rom};

/// All files that a definition adds, bytes.
const MAX_FILES: u64 = 32 << 20;
const USABLE: u32 = 1;
const RESERVED: u32 = 2;

/// Where no BAR may be decoded because firmware is there: start and length.
pub(super) fn place(config: &MachineConfig) -> Option<(u64, u64)> {
    let starts_there = matches!(config.boot, Boot::Firmware(_));
    starts_there.then_some((FIRMWARE_MIN, HIGH_RAM_START - FIRMWARE_MIN))
}

/// Firmware looks for it; a kernel finds it if there is anything in it.
pub(super) fn has_fw_cfg(config: &MachineConfig) -> bool {
    let starts_there = matches!(config.boot, Boot::Firmware(_));
    starts_there || !config.fw_cfg.is_empty() || config.ramfb.is_some()
}

/// The image in place, if the machine starts at one; fw_cfg, if there is anything in it.
pub(super) fn build(site: &mut Site<'_>) -> Result<Option<Arc<Rom>>, BuildError> {
    let config = site.config;
    if !has_fw_cfg(config) {
        return Ok(None);
    }
    let mut numbered = vec![(key::UUID, config.identity.uuid.as_bytes().to_vec())];
    let mut files = own_files(site, &config.fw_cfg)?;
    let (mut rom, mut late) = (None, None);
    match &config.boot {
        Boot::Kernel { .. } => {}
        Boot::Firmware(firmware) => {
            rom = Some(self::rom(site, firmware)?);
            if FirmwareLog::is_wanted() {
                let port = DebugPort::new(Arc::new(FirmwareLog::default()));
                chipset::add(site, DebugPort::BASE, DebugPort::LEN, Arc::new(port), None)?;
            }
            let board = loader::board(config, site.map)?;
            numbered.extend(numbers(site, firmware, &board));
            files.extend(facts(site, firmware, &board)?);
            files.extend(vga_bios(site)?);
            let processors = site.parts.processors.clone();
            late = Some(tables(board, site.map.clone(), site.parts.pci.clone(), processors));
        }
    }
    let ramfb = site.parts.ramfb.iter().cloned();
    let writable = ramfb.map(|ramfb| (Ramfb::FILE.to_owned(), ramfb as Arc<dyn Writable>));
    let mut items = Items::new(numbered, files, late, writable.collect())
        .map_err(BuildError::device("fw_cfg"))?;
    if let Some(processors) = site.parts.processors.clone() {
        items = items.with_live(key::CPUS, move || processors.count().to_le_bytes().to_vec());
    }
    let device = Arc::new(FwCfg::new(items, site.vm.ram().clone()));
    chipset::add(site, FwCfg::BASE, FwCfg::LEN, device.clone(), Some(device))?;
    Ok(rom)
}

fn rom(site: &mut Site<'_>, firmware: &Firmware) -> Result<Arc<Rom>, BuildError> {
    if site.config.platform.machine == Machine::Microvm {
        return Err(BuildError::config("boot", "firmware", "microvm starts a kernel directly"));
    }
    let image = site.files.take_file(firmware.image)?;
    let rom =
        Arc::new(Rom::new(&*site.vm.windows(), &image).map_err(BuildError::device("firmware"))?);
    site.parts.components.push(rom.clone());
    if let Some(variables) = firmware.variables {
        flash(site, variables, rom.start())?;
    }
    Ok(rom)
}

/// The firmware's variables, right below its image.
fn flash(site: &mut Site<'_>, variables: Fd, end: u64) -> Result<(), BuildError> {
    let file = site.files.take_file(variables)?;
    let flash = Pflash::new(file, end, &*site.vm.windows());
    let flash = Arc::new(flash.map_err(BuildError::device("firmware variables"))?);
    if flash.base() < FIRMWARE_MIN {
        let reason = "do not fit into 16 MiB together with the firmware";
        return Err(BuildError::config("firmware variables", flash.size(), reason));
    }
    site.parts.buses.mmio.insert(flash.base(), flash.size(), flash.clone())?;
    site.parts.components.push(flash);
    Ok(())
}

/// What has a number instead of a name.
fn numbers(site: &Site<'_>, firmware: &Firmware, board: &Board) -> Vec<(u16, Vec<u8>)> {
    let cpus = site.config.cpus.count;
    // SeaBIOS and OVMF size their tables by it: one more than the highest APIC id.
    let ids = board.apic_ids.iter().max().map_or(0, |id| id.saturating_add(1));
    let ids = u16::try_from(ids).unwrap_or(u16::MAX);
    vec![
        (key::RAM_SIZE, site.vm.ram().size().to_le_bytes().to_vec()),
        (key::CPUS, cpus.to_le_bytes().to_vec()),
        (key::MAX_CPUS, ids.max(cpus).to_le_bytes().to_vec()),
        (key::BOOT_MENU, u16::from(firmware.menu.is_some()).to_le_bytes().to_vec()),
    ]
}

/// The files that firmware looks for.
fn facts(
    site: &Site<'_>,
    firmware: &Firmware,
    board: &Board,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let config = site.config;
    let ram = site.vm.ram().size();
    let (anchor, structures) = smbios::for_firmware(&identity(config)?, board.apic_ids.len(), ram)
        .ok_or_else(|| {
            let reason = "the strings are longer than 64 KiB together";
            BuildError::config("SMBIOS", "structures", reason)
        })?;
    let mut files = vec![
        ("etc/e820".to_owned(), e820(site.map)),
        ("etc/smbios/smbios-anchor".to_owned(), anchor),
        ("etc/smbios/smbios-tables".to_owned(), structures),
        // Without a disk to boot from, say so and stay, instead of starting over every minute.
        ("etc/boot-fail-wait".to_owned(), u32::MAX.to_le_bytes().to_vec()),
    ];
    if let Some(milliseconds) = firmware.menu {
        files.push(("etc/boot-menu-wait".to_owned(), milliseconds.to_le_bytes().to_vec()));
    }
    if let Some(order) = boot_order(&config.pci) {
        files.push(("bootorder".to_owned(), order));
    }
    if firmware.serial_text
        && let Some(first) = config.serial.iter().map(|serial| serial.port).min()
        && let Some(&port) = arch::ports::COM.get(usize::from(first))
    {
        files.push(("etc/sercon-port".to_owned(), u64::from(port).to_le_bytes().to_vec()));
    }
    Ok(files)
}

/// What SeaBIOS runs as the BIOS of a screen that is on no bus.
fn vga_bios(site: &mut Site<'_>) -> Result<Option<(String, Vec<u8>)>, BuildError> {
    let Some(ramfb) = &site.config.ramfb else { return Ok(None) };
    let rom = video::option_rom(site.files, &ramfb.id, ramfb.rom)?;
    Ok(rom.map(|rom| ("vgaroms/vgabios-ramfb.bin".to_owned(), rom)))
}

/// RAM, the generation, and the pages that KVM keeps for itself behind it; firmware adds what it places.
fn e820(map: &MemoryMap) -> Vec<u8> {
    let mut spans = vec![
        (0, map.low_ram_end, USABLE),
        (GENERATION, KVM_TSS + 3 * PAGE_SIZE - GENERATION, RESERVED),
        (HIGH_RAM_START, map.high_ram_end - HIGH_RAM_START, USABLE),
    ];
    spans.retain(|(_, len, _)| *len > 0);
    let mut bytes = Vec::new();
    for (start, len, kind) in spans {
        bytes.extend([start, len].map(u64::to_le_bytes).concat());
        bytes.extend(kind.to_le_bytes());
    }
    bytes
}

/// ACPI tables are made when firmware takes them: by then it has placed configuration space and
/// BARs, and the tables must say where.
fn tables(
    board: Board,
    map: MemoryMap,
    pci: Arc<PciRoot>,
    processors: Option<Arc<Processors>>,
) -> Late {
    let describe = move |ecam: Option<Range<u64>>, last_bus, memory64: Option<Range<u64>>| {
        let mut board = board.clone();
        board.hotplug = processors.as_ref().map(|processors| processors.present());
        board.mmio32 = windows32(&map, ecam.as_ref());
        board.mmio64 = window64(&map, memory64);
        board.ecam = ecam;
        board.last_bus = last_bus;
        FirmwareTables::new(&board)
    };
    // The longest they can be: with configuration space in the middle of a window.
    let longest = describe(Some(0xd000_0000..0xe000_0000), u8::MAX, None);
    let room = |len: usize| len.next_multiple_of(4096);
    let files = vec![
        (FirmwareTables::RSDP.to_owned(), longest.rsdp.len()),
        (FirmwareTables::TABLES.to_owned(), room(longest.tables.len())),
        (FirmwareTables::SCRIPT.to_owned(), room(longest.script.len())),
    ];
    let make = move || {
        let found = pci.survey();
        let ecam = found.ecam.map(|window| window.base..window.base.saturating_add(window.len));
        let made = describe(ecam, found.last_bus, found.memory64);
        vec![made.rsdp, made.tables, made.script]
    };
    Late { files, make: Box::new(make) }
}

/// Everything between RAM and the IOAPIC from 2 GiB on, where firmware places BARs, but for
/// configuration space.
fn windows32(map: &MemoryMap, ecam: Option<&Range<u64>>) -> Vec<Range<u64>> {
    let all = map.low_ram_end.max(2 * GIB)..IOAPIC_START;
    let Some(ecam) = ecam else { return vec![all] };
    let (below, above) = (all.start..ecam.start.min(all.end), ecam.end.max(all.start)..all.end);
    [below, above].into_iter().filter(|window| window.start < window.end).collect()
}

/// Our own window, and what firmware placed outside of it.
fn window64(map: &MemoryMap, used: Option<Range<u64>>) -> Range<u64> {
    let Some(used) = used else { return map.mmio64.clone() };
    let end = used.end.checked_next_multiple_of(GIB).unwrap_or(used.end);
    map.mmio64.start.min(used.start & !(GIB - 1)).max(map.high_ram_end)..map.mmio64.end.max(end)
}

/// What the definition adds.
fn own_files(
    site: &mut Site<'_>,
    given: &[FwCfgFile],
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let mut left = MAX_FILES;
    let mut files = Vec::with_capacity(given.len());
    for file in given {
        let name = &file.name;
        if !name.starts_with("opt/") {
            return Err(BuildError::config("fw_cfg file", name, "must be named opt/…"));
        }
        let content = match &file.content {
            FwCfgContent::Text(text) => text.clone().into_bytes(),
            FwCfgContent::File(fd) => read(site.files.take_file(*fd)?, left)
                .map_err(BuildError::device(&format!("fw_cfg file {name}")))?,
        };
        let too_long = || BuildError::config("fw_cfg file", name, "exceeds 32 MiB for all of them");
        left = left.checked_sub(content.len() as u64).ok_or_else(too_long)?;
        files.push((name.clone(), content));
    }
    Ok(files)
}

/// At most one byte more than there is room for.
fn read(file: File, room: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(room + 1).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use arch::layout::{MIB, Platform};
    use devices::bus::Bus;
    use devices::pci::{BusId, Chip, PciAddress};

    use super::*;

    fn map(platform: Platform, ram: u64) -> MemoryMap {
        MemoryMap::new(platform, ram, 40).unwrap()
    }

    #[test]
    fn windows_leave_configuration_space_out_wherever_it_is() {
        let found = |map: &MemoryMap, ecam: Option<Range<u64>>| -> Vec<(u64, u64)> {
            let windows = windows32(map, ecam.as_ref());
            windows.into_iter().map(|window| (window.start, window.end)).collect()
        };
        let (q35, end) = (map(Platform::Q35, GIB), 0xfec0_0000);
        let with_ecam = |start: u64| found(&q35, Some(start..start + 256 * MIB));
        assert_eq!(with_ecam(0xb000_0000), [(0x8000_0000, 0xb000_0000), (0xc000_0000, end)]);
        assert_eq!(with_ecam(0xe000_0000), [(0x8000_0000, 0xe000_0000), (0xf000_0000, end)]);
        assert_eq!(with_ecam(0x8000_0000), [(0x9000_0000, end)]);
        assert_eq!(with_ecam(0x10_0000_0000), [(0x8000_0000, end)]);
        assert_eq!(with_ecam(0), [(0x8000_0000, end)]);
        assert_eq!(found(&map(Platform::Pc, 8 * GIB), None), [(0xc000_0000, end)]);
    }

    #[test]
    fn tables_say_where_firmware_put_configuration_space() {
        let map = map(Platform::Q35, GIB);
        let bus = |name| Arc::new(Bus::new(name));
        let root = PciRoot::new(bus("memory"), bus("port"), Vec::new(), None);
        root.add(BusId::ROOT, 0, 0, Arc::new(Chip::q35_host_bridge(None))).unwrap();
        let late = tables(Board::new(&map, (0..64).collect()), map, root.clone(), None);
        let mcfg = || {
            let made = (late.make)();
            for ((name, len), file) in late.files.iter().zip(&made) {
                assert!(file.len() <= *len, "{name} is longer than announced");
            }
            let at = made[1].windows(4).position(|bytes| bytes == b"MCFG")?;
            made[1][at + 44..].first_chunk().map(|base| u64::from_le_bytes(*base))
        };
        assert_eq!(mcfg(), None);
        for base in [0xb000_0000u64, 0xe000_0000] {
            let register = (base as u32 | 1).to_le_bytes();
            let _ = root.config_write(PciAddress::HOST_BRIDGE, 0x60, &register);
            assert_eq!(mcfg(), Some(base));
        }
    }

    #[test]
    fn the_upper_window_grows_to_what_firmware_used_but_not_over_ram() {
        let map = map(Platform::Q35, 8 * GIB);
        let own = map.mmio64.clone();
        assert_eq!(window64(&map, None), own);
        let low = 0x8_0000_1000..0x8_0000_2000;
        assert_eq!(window64(&map, Some(low)), 0x8_0000_0000..own.end);
        assert_eq!(window64(&map, Some(1 << 32..2 << 32)).start, map.high_ram_end);
    }

    #[test]
    fn e820_has_all_ram() {
        assert_eq!(e820(&map(Platform::Q35, GIB)).len(), 2 * 20);
        let bytes = e820(&map(Platform::Q35, 4 * GIB));
        let low = [[0; 8], (2 * GIB).to_le_bytes()].concat();
        assert_eq!((&bytes[..16], &bytes[16..20]), (&low[..], &USABLE.to_le_bytes()[..]));
        assert_eq!(bytes[40..48], (4 * GIB).to_le_bytes());
    }
}
