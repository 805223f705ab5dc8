//! MADT: the vCPUs' LAPICs, the IOAPIC, and how ISA interrupts reach it.

use acpi_tables::sdt::Sdt;
use arch::{gsi, layout};

use super::{Board, sdt};

/// A PC with two 8259s, which the guest masks.
const PCAT_COMPAT: u32 = 1;
const ENABLED: u32 = 1;
/// Not there, but it may come.
const ONLINE_CAPABLE: u32 = 2;
/// A LAPIC structure has 8 bits; 255 is the broadcast id.
const XAPIC_ID_MAX: u32 = 254;

const ISA_BUS: u8 = 0;
const CONFORMS: u16 = 0;
const LEVEL_HIGH: u16 = 0b1101;
const LINT1: u8 = 1;

pub(super) fn table(board: &Board) -> Sdt {
    let mut madt = sdt(*b"APIC", 5);
    madt.append_slice(&(layout::LAPIC_START as u32).to_le_bytes());
    let flags = if board.reduced { 0 } else { PCAT_COMPAT };
    madt.append_slice(&flags.to_le_bytes());

    for (uid, &id) in (0u32..).zip(&board.apic_ids) {
        let is_there = |present: u64| 1u64.checked_shl(uid).is_some_and(|bit| present & bit != 0);
        madt.append_slice(&processor(uid, id, board.hotplug.is_none_or(is_there)));
    }
    let x2apic = (0u32..).zip(&board.apic_ids).any(|(uid, &id)| uid.max(id) > XAPIC_ID_MAX);
    madt.append_slice(&[1, 12, gsi::IOAPIC_ID, 0]);
    madt.append_slice(&[layout::IOAPIC_START as u32, 0].map(u32::to_le_bytes).concat());
    if !board.reduced {
        source_override(&mut madt, gsi::PIT, gsi::PIT_IOAPIC_PIN, CONFORMS);
        source_override(&mut madt, gsi::SCI, gsi::SCI, LEVEL_HIGH);
    }
    // NMI on LINT1 of every processor.
    madt.append_slice(&[4, 6, 0xff, 0, 0, LINT1]);
    if x2apic {
        madt.append_slice(&[0xa, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, LINT1, 0, 0, 0]);
    }
    madt
}

/// The entry of one processor.
pub(super) fn processor(uid: u32, id: u32, present: bool) -> Vec<u8> {
    let flags = if present { ENABLED } else { ONLINE_CAPABLE };
    match (u8::try_from(uid), u8::try_from(id)) {
        (Ok(uid8), Ok(id8)) if uid.max(id) <= XAPIC_ID_MAX => {
            [&[0, 8, uid8, id8], &flags.to_le_bytes()[..]].concat()
        }
        _ => [&[9, 16, 0, 0], &*[id, flags, uid].map(u32::to_le_bytes).concat()].concat(),
    }
}

fn source_override(madt: &mut Sdt, irq: u32, pin: u32, flags: u16) {
    madt.append_slice(&[2, 10, ISA_BUS, irq as u8]);
    madt.append_slice(&pin.to_le_bytes());
    madt.append_slice(&flags.to_le_bytes());
}
