//! What a PCI-to-PCI bridge forwards (PCI-to-PCI Bridge 1.2 §3.2.5): bus numbers and windows.

use std::ops::RangeInclusive;

use crate::pci::{BarKind, Config, spec};

const BUSES: u16 = 0x18;
const IO: u16 = 0x1c;
const MEMORY: u16 = 0x20;
const PREFETCHABLE: u16 = 0x24;
const PREFETCHABLE_BASE_HIGH: u16 = 0x28;
const PREFETCHABLE_LIMIT_HIGH: u16 = 0x2c;
const IO_HIGH: u16 = 0x30;

/// Windows are this fine.
pub(crate) const IO_GRAIN: u64 = 0x1000;
pub(crate) const MEMORY_GRAIN: u64 = 0x10_0000;

/// Secondary and subordinate bus.
pub(crate) fn buses(bridge: &Config) -> RangeInclusive<u8> {
    bridge.u8(BUSES + 1)..=bridge.u8(BUSES + 2)
}

/// Whether the bridge forwards `base .. base + size` to its secondary side. A window whose limit
/// is below its base is closed.
pub(crate) fn forwards(bridge: &Config, kind: BarKind, base: u64, size: u64) -> bool {
    let Some(last) = base.checked_add(size - 1) else { return false };
    let command = bridge.u16(spec::COMMAND);
    let inside = |window: RangeInclusive<u64>| window.contains(&base) && window.contains(&last);
    match kind {
        BarKind::Io => command & spec::COMMAND_IO != 0 && has_io(bridge) && inside(io(bridge)),
        BarKind::Memory32 | BarKind::Memory64 | BarKind::Rom => {
            command & spec::COMMAND_MEMORY != 0
                && (inside(memory(bridge)) || inside(prefetchable(bridge)))
        }
    }
}

/// All our I/O windows are 32 bits wide and say so; zeros say that there is none.
fn has_io(bridge: &Config) -> bool {
    bridge.u8(IO) & 0xf != 0
}

fn io(bridge: &Config) -> RangeInclusive<u64> {
    let [base, limit] = bridge.u16(IO).to_le_bytes().map(|byte| u64::from(byte & 0xf0) << 8);
    let high = bridge.u32(IO_HIGH);
    let (base_high, limit_high) = (u64::from(high & 0xffff) << 16, u64::from(high >> 16) << 16);
    base_high | base..=limit_high | limit | (IO_GRAIN - 1)
}

fn memory(bridge: &Config) -> RangeInclusive<u64> {
    let address = |register| u64::from(bridge.u16(register) & 0xfff0) << 16;
    address(MEMORY)..=address(MEMORY + 2) | (MEMORY_GRAIN - 1)
}

pub(crate) fn prefetchable(bridge: &Config) -> RangeInclusive<u64> {
    let address = |register, high| {
        u64::from(bridge.u32(high)) << 32 | u64::from(bridge.u16(register) & 0xfff0) << 16
    };
    let base = address(PREFETCHABLE, PREFETCHABLE_BASE_HIGH);
    base..=address(PREFETCHABLE + 2, PREFETCHABLE_LIMIT_HIGH) | (MEMORY_GRAIN - 1)
}

pub(crate) fn assign_buses(bridge: &Config, primary: u8, secondary: u8, subordinate: u8) {
    bridge.write(BUSES, &[primary, secondary, subordinate]);
}

/// Open the window for `kind`, or close it. The range keeps to the grain.
pub(crate) fn assign(bridge: &Config, kind: BarKind, window: Option<(u64, u64)>) {
    // Closed: base above limit.
    let (base, last) =
        window.map_or((u64::from(u32::MAX), 0), |(base, len)| (base, base + len - 1));
    let upper = |address: u64| ((address >> 16) as u16).to_le_bytes();
    match kind {
        BarKind::Io => {
            bridge.write(IO, &[(base >> 8) as u8, (last >> 8) as u8]);
            let (base, last) = if window.is_some() { (base, last) } else { (0, 0) };
            bridge.write(IO_HIGH, &upper(base));
            bridge.write(IO_HIGH + 2, &upper(last));
        }
        BarKind::Memory32 | BarKind::Rom => {
            bridge.write(MEMORY, &upper(base));
            bridge.write(MEMORY + 2, &upper(last));
        }
        BarKind::Memory64 => {
            bridge.write(PREFETCHABLE, &upper(base));
            bridge.write(PREFETCHABLE + 2, &upper(last));
            bridge.write(PREFETCHABLE_BASE_HIGH, &((base >> 32) as u32).to_le_bytes());
            bridge.write(PREFETCHABLE_LIMIT_HIGH, &((last >> 32) as u32).to_le_bytes());
        }
    }
}
