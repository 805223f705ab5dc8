//! ACPI tables (ACPI 6.5) of the board: full-hardware power management, as the chipset has it, or
//! the hardware-reduced kind.
//!
//! Choices here are made for a quiet boot: a table that says "not there" saves the guest a probe,
//! and a probe is a dozen exits. No VGA, no i8042 unless there is one, no ASPM, no SMI command
//! (ACPI mode is simply on), no C-states beyond C1, fixed power button instead of an event device.
//! Hardware-reduced, the guest is also spared the PICs, the PIT, the PM timer and the registers of
//! fixed events, and Linux does not clear the IOAPIC, 16 accesses for each of its pins.

mod dsdt;
mod fadt;
mod firmware;
mod madt;
mod numa;
#[cfg(test)]
mod tests;

use std::ops::Range;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use arch::layout::MemoryMap;

pub use firmware::FirmwareTables;
pub use numa::Node;

const OEM_ID: [u8; 6] = *b"MANOR ";
const OEM_TABLE_ID: [u8; 8] = *b"MANORVMM";
const OEM_REVISION: u32 = 1;

/// The register by which the FADT tells a guest to reset the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetRegister {
    /// 0xCF9, in the middle of PCI's configuration ports.
    ResetControl,
    /// Port 0x64: the command that pulses the i8042's reset line.
    KeyboardController,
}

/// What the tables tell of the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// APIC ids of the vCPUs, by index.
    pub apic_ids: Vec<u32>,
    /// NUMA nodes, by number; none where the guest is to see no such thing.
    pub nodes: Vec<Node>,
    /// PCI Express configuration space, where the chipset has it at the moment.
    pub ecam: Option<Range<u64>>,
    /// The highest bus number that bridges have or may get: 0 when there are none.
    ///
    /// Linux looks for devices on every bus up to here that it has not found behind a bridge, 32
    /// reads each: 8,192 exits when this says 255.
    pub last_bus: u8,
    /// Windows below 4 GiB, ascending.
    pub mmio32: Vec<Range<u64>>,
    pub mmio64: Range<u64>,
    /// COM1 to COM4.
    pub serial: [bool; 4],
    /// A VGA at its fixed ports and its window.
    pub vga: bool,
    /// PS/2 keyboard and mouse. The reset line of port 0x64 works without being told.
    pub ps2: bool,
    pub reset: ResetRegister,
    /// The port by which a guest says that it crashed.
    pub pvpanic: bool,
    /// Files for the guest at ports 0x510 and up.
    pub fw_cfg: bool,
    /// Hardware-reduced ACPI: an event device has the power button, and what the specification
    /// calls legacy (PICs, PIT, PM timer) is not there to the guest. It needs another clock.
    pub reduced: bool,
    /// The clock of the CMOS.
    pub rtc: bool,
    /// The guest has a generation, another one wherever it may run a second time, and hears of it by
    /// a general purpose event.
    pub generation: bool,
    /// Slots of the PCI root bus that devices come into and leave, a bit for each; the guest hears of
    /// it by a general purpose event. Without events their registers are never touched.
    pub slots: u32,
    /// vCPUs come and go, and the guest hears of it by a general purpose event; the set of those that
    /// are there at present, a bit for each. None where all are there for good.
    pub hotplug: Option<u64>,
}

impl Board {
    /// A board with the windows of `map`, COM1, one PCI bus, and nothing else.
    #[must_use]
    pub fn new(map: &MemoryMap, apic_ids: Vec<u32>) -> Self {
        Self {
            apic_ids,
            nodes: Vec::new(),
            ecam: map.ecam.clone(),
            last_bus: 0,
            mmio32: vec![map.mmio32.clone()],
            mmio64: map.mmio64.clone(),
            serial: [true, false, false, false],
            vga: false,
            ps2: false,
            reset: ResetRegister::ResetControl,
            pvpanic: false,
            fw_cfg: false,
            reduced: false,
            rtc: true,
            generation: false,
            slots: 0,
            hotplug: None,
        }
    }
}

/// A field that holds the address of another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// Offset of the field in [`Tables::bytes`].
    pub offset: usize,
    pub size: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub signature: [u8; 4],
    pub span: Range<usize>,
}

/// The tables in one piece, the RSDP first.
///
/// Built for the address they will lie at; a loader that moves them (firmware) adds the difference
/// to every one of `pointers` and sums the tables anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    pub bytes: Vec<u8>,
    pub tables: Vec<Table>,
    pub pointers: Vec<Pointer>,
}

impl Tables {
    #[must_use]
    pub fn new(board: &Board, address: u64) -> Self {
        let mut tables = Self { bytes: vec![0; Rsdp::len()], tables: vec![], pointers: vec![] };
        let facs = tables.add(*b"FACS", &aml(&FACS::new()));
        let dsdt = tables.add(*b"DSDT", dsdt::table(board).as_slice());
        let fadt = aml(&fadt::table(board, address + facs as u64, address + dsdt as u64));
        let fadt = tables.add(*b"FACP", &fadt);
        for &(field, size) in fadt::POINTERS {
            tables.pointers.push(Pointer { offset: fadt + field, size });
        }
        let mut listed = vec![fadt, tables.add(*b"APIC", madt::table(board).as_slice())];
        if let Some(ecam) = &board.ecam {
            let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
            mcfg.add_ecam(ecam.start, 0, 0, board.last_bus);
            listed.push(tables.add(*b"MCFG", &aml(&mcfg)));
        }
        if !board.nodes.is_empty() {
            listed.push(tables.add(*b"SRAT", numa::affinities(board).as_slice()));
            listed.push(tables.add(*b"SLIT", numa::distances(board).as_slice()));
        }
        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        for offset in &listed {
            xsdt.add_entry(address + *offset as u64);
        }
        let xsdt = tables.add(*b"XSDT", &aml(&xsdt));
        for entry in 0..listed.len() {
            tables.pointers.push(Pointer { offset: xsdt + 36 + 8 * entry, size: 8 });
        }
        let rsdp = aml(&Rsdp::new(OEM_ID, address + xsdt as u64));
        tables.bytes[..rsdp.len()].copy_from_slice(&rsdp);
        tables.pointers.push(Pointer { offset: 24, size: 8 });
        tables
    }

    /// Append a table; its offset comes back. 64 is what the FACS asks for.
    fn add(&mut self, signature: [u8; 4], bytes: &[u8]) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.tables.push(Table { signature, span: start..self.bytes.len() });
        start
    }
}

fn aml(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn sdt(signature: [u8; 4], revision: u8) -> Sdt {
    const HEADER_LEN: u32 = 36;
    Sdt::new(signature, HEADER_LEN, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION)
}
