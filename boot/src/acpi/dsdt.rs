//! DSDT: the devices that a guest cannot find by itself.

use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, aml};
use arch::layout::GENERATION;
use arch::{gsi, ports};

use super::{Board, sdt};

mod processors;
mod slots;

/// The UUID by which a PCI host bridge is asked (PCI Firmware spec 4.5.1).
const OSC_PCI_HOST: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
/// What the OS may have: native hotplug (bit 0) and the PCIe capability structure (bit 4). Not
/// SHPC, PME and AER: no device of ours raises them, and their drivers would only look for them.
const OSC_GRANTED: u32 = 0b1_0001;

pub(super) fn table(board: &Board) -> Sdt {
    let mut devices = Vec::new();
    processors::devices(board, &mut devices);
    pci_host(board, &mut devices);
    motherboard(board, &mut devices);
    if board.reduced {
        events(board, &mut devices);
    }
    if board.rtc {
        rtc(&mut devices);
    }
    if board.ps2 {
        ps2(&mut devices);
    }
    if board.pvpanic {
        pvpanic(&mut devices);
    }
    if board.generation {
        generation(&mut devices);
    }
    if board.fw_cfg {
        fw_cfg(&mut devices);
    }
    for (n, _) in board.serial.iter().enumerate().filter(|(_, present)| **present) {
        serial(n, &mut devices);
    }
    let mut dsdt = sdt(*b"DSDT", 2); // revision 2: 64-bit integers
    dsdt.append_slice(&aml::Scope::raw("\\_SB_".into(), devices));
    let s5 = ports::SLEEP_TYPE_S5;
    let mut sleep = Vec::new();
    aml::Name::new("_S5_".into(), &aml::Package::new(vec![&s5, &s5, &0u8, &0u8]))
        .to_aml_bytes(&mut sleep);
    dsdt.append_slice(&sleep);
    let mut events = Vec::new();
    if board.generation && !board.reduced {
        generation_event(&mut events);
    }
    if board.slots != 0 {
        slots::event(board.slots, &mut events);
    }
    if board.hotplug.is_some() {
        processors::event(board, &mut events);
    }
    if !events.is_empty() {
        dsdt.append_slice(&aml::Scope::raw("\\_GPE".into(), events));
    }
    dsdt
}

fn pci_host(board: &Board, out: &mut Vec<u8>) {
    let windows = host_windows(board);
    let mut parts = Vec::new();
    let express = board.ecam.is_some();
    if express {
        name("_HID", &aml::EISAName::new("PNP0A08")).to_aml_bytes(&mut parts);
        name("_CID", &aml::EISAName::new("PNP0A03")).to_aml_bytes(&mut parts);
        osc(&mut parts);
    } else {
        name("_HID", &aml::EISAName::new("PNP0A03")).to_aml_bytes(&mut parts);
    }
    name("_UID", &0u8).to_aml_bytes(&mut parts);
    name("_BBN", &0u8).to_aml_bytes(&mut parts);
    name("_CRS", &windows).to_aml_bytes(&mut parts);
    routing(&mut parts);
    if board.slots != 0 {
        slots::registers(out);
        slots::devices(board.slots, &mut parts);
    }
    device("PCI0", out, &[&Raw(parts)]);
}

/// `_CRS`: buses, I/O but for the configuration ports, both memory windows.
fn host_windows(board: &Board) -> Raw {
    const CONFIG_LEN: u8 = 8;
    let config = ports::PCI_CONFIG_ADDRESS;
    let last = |window: &std::ops::Range<u64>| window.end - 1;
    let not_cached = aml::AddressSpaceCacheable::NotCacheable;
    let buses = aml::AddressSpace::new_bus_number(0u16, u16::from(board.last_bus));
    let configuration = aml::IO::new(config, config, 1, CONFIG_LEN);
    let io = [
        aml::AddressSpace::new_io(0, config - 1, None),
        aml::AddressSpace::new_io(config + u16::from(CONFIG_LEN), ports::PCI_IO_END, None),
    ];
    let window32 = |window: &std::ops::Range<u64>| {
        let (first, last) = (window.start as u32, last(window) as u32);
        aml::AddressSpace::new_memory(not_cached, true, first, last, None)
    };
    let memory32: Vec<_> = board.mmio32.iter().map(window32).collect();
    let mmio64 = (board.mmio64.start, last(&board.mmio64));
    let memory64 = aml::AddressSpace::new_memory(not_cached, true, mmio64.0, mmio64.1, None);
    let mut all: Vec<&dyn Aml> = vec![&buses, &configuration, &io[0], &io[1]];
    all.extend(memory32.iter().map(|window| window as &dyn Aml));
    all.push(&memory64);
    resources(&all)
}

/// `_PRT`: where the INTx pins of bus 0 arrive. No link devices: the lines are wired.
fn routing(out: &mut Vec<u8>) {
    let mut routes = Vec::new();
    for slot in 0..32u8 {
        for pin in 0..4u8 {
            routes.push((u32::from(slot) << 16 | 0xffff, pin, gsi::pci_intx(slot, pin)));
        }
    }
    let entries: Vec<Raw> = routes
        .iter()
        .map(|(address, pin, gsi)| raw(&aml::Package::new(vec![address, pin, &0u8, gsi])))
        .collect();
    let mut table = aml::PackageBuilder::new();
    for entry in &entries {
        table.add_element(entry);
    }
    name("_PRT", &table).to_aml_bytes(out);
}

/// `_OSC`: grant what [`OSC_GRANTED`] says, and tell when that is less than was asked for.
fn osc(out: &mut Vec<u8>) {
    let (uuid, revision, buffer) = (aml::Arg(0), aml::Arg(1), aml::Arg(3));
    let path = aml::Path::new;
    let host = aml::Uuid::new(OSC_PCI_HOST);
    let status = path("CDW1");
    let control = path("CDW3");
    let masked = aml::Local(0);
    let unrecognised_uuid = aml::Or::new(&status, &status, &4u8);
    let unknown_revision = aml::Or::new(&status, &status, &8u8);
    let bits_masked = aml::Or::new(&status, &status, &16u8);
    let ours = aml::Equal::new(&uuid, &host);
    let other_revision = aml::NotEqual::new(&revision, &1u8);
    let asked_more = aml::NotEqual::new(&masked, &control);
    aml::Method::new(
        path("_OSC"),
        4,
        true, // it creates named fields
        vec![
            &aml::CreateDWordField::new(&status, &buffer, &0u8),
            &aml::If::new(
                &ours,
                vec![
                    &aml::CreateDWordField::new(&control, &buffer, &8u8),
                    &aml::If::new(&other_revision, vec![&unknown_revision]),
                    &aml::And::new(&masked, &control, &OSC_GRANTED),
                    &aml::If::new(&asked_more, vec![&bits_masked]),
                    &aml::Store::new(&control, &masked),
                ],
            ),
            &aml::Else::new(vec![&unrecognised_uuid]),
            &aml::Return::new(&buffer),
        ],
    )
    .to_aml_bytes(out);
}

/// Ranges that no one else may use. Linux believes MCFG once a motherboard device covers it.
fn motherboard(board: &Board, out: &mut Vec<u8>) {
    let len = if board.reduced { ports::EVENTS_LEN } else { ports::PM_LEN };
    let pm = aml::IO::new(ports::PM_BASE, ports::PM_BASE, 1, len as u8);
    let ecam = board.ecam.as_ref().map(|ecam| {
        aml::Memory32Fixed::new(true, ecam.start as u32, (ecam.end - ecam.start) as u32)
    });
    let slots = aml::IO::new(ports::PCI_SLOTS, ports::PCI_SLOTS, 1, ports::PCI_SLOTS_LEN);
    let processors = aml::IO::new(ports::PROCESSORS, ports::PROCESSORS, 1, ports::PROCESSORS_LEN);
    let mut ranges: Vec<&dyn Aml> = vec![&pm];
    if board.hotplug.is_some() {
        ranges.push(&processors);
    }
    if board.slots != 0 {
        ranges.push(&slots);
    }
    ranges.extend(ecam.as_ref().map(|ecam| ecam as &dyn Aml));
    let hid = aml::EISAName::new("PNP0C02");
    device("MBRD", out, &[&name("_HID", &hid), &name("_CRS", &resources(&ranges))]);
}

/// The Generic Event Device (ACPI 6.5 §5.6.9), and the button that it speaks for.
fn events(board: &Board, out: &mut Vec<u8>) {
    use aml::{FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, OpRegionSpace};
    const POWER_BUTTON: u8 = 1;
    const GENERATION: u8 = 2;
    let hid = aml::EISAName::new("PNP0C0C");
    device("PWRB", out, &[&name("_HID", &hid), &name("_UID", &0u8)]);

    let region = aml::OpRegion::new(
        "EREG".into(),
        OpRegionSpace::SystemIO,
        &ports::EVENTS,
        &1u8, // a read takes what is pending: nothing else may be read along
    );
    let field = aml::Field::new(
        "EREG".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![FieldEntry::Named(*b"EPND", 8)],
    );
    let (pending, source) = (aml::Local(0), aml::Path::new("EPND"));
    let (mask, button) = (POWER_BUTTON, aml::Path::new("PWRB"));
    let is_button = aml::And::new(&aml::Local(1), &pending, &mask);
    let notify = aml::Notify::new(&button, &CHANGED);
    let take = aml::Store::new(&pending, &source);
    let tell = aml::If::new(&is_button, vec![&notify]);
    let (other_mask, generation) = (GENERATION, aml::Path::new(GENERATION_DEVICE));
    let is_generation = aml::And::new(&aml::Local(1), &pending, &other_mask);
    let notify_other = aml::Notify::new(&generation, &CHANGED);
    let tell_other = aml::If::new(&is_generation, vec![&notify_other]);
    let mut steps: Vec<&dyn Aml> = vec![&take, &tell];
    if board.generation {
        steps.push(&tell_other);
    }
    let handler = aml::Method::new("_EVT".into(), 1, true, steps);
    // Level triggered, active high.
    let line = resources(&[&aml::Interrupt::new(true, false, false, false, gsi::SCI)]);
    device(
        "GED_",
        out,
        &[
            &name("_HID", &"ACPI0013"),
            &name("_UID", &0u8),
            &name("_CRS", &line),
            &region,
            &field,
            &handler,
        ],
    );
}

fn rtc(out: &mut Vec<u8>) {
    let used = resources(&[
        &aml::IO::new(ports::RTC, ports::RTC, 1, ports::RTC_LEN as u8),
        &isa_interrupt(gsi::RTC),
    ]);
    let hid = aml::EISAName::new("PNP0B00");
    device("RTC_", out, &[&name("_HID", &hid), &name("_CRS", &used)]);
}

fn ps2(out: &mut Vec<u8>) {
    let port = |port| aml::IO::new(port, port, 1, 1);
    let keyboard = resources(&[
        &port(ports::I8042_DATA),
        &port(ports::I8042_COMMAND),
        &isa_interrupt(gsi::KEYBOARD),
    ]);
    let hid = aml::EISAName::new("PNP0303");
    device("KBD_", out, &[&name("_HID", &hid), &name("_CRS", &keyboard)]);
    let hid = aml::EISAName::new("PNP0F13");
    let mouse = resources(&[&isa_interrupt(gsi::MOUSE)]);
    device("MOU_", out, &[&name("_HID", &hid), &name("_CRS", &mouse)]);
}

/// By the id that guests know it under (QEMU's `docs/specs/pvpanic`).
fn pvpanic(out: &mut Vec<u8>) {
    let used = resources(&[&aml::IO::new(ports::PVPANIC, ports::PVPANIC, 1, 1)]);
    device("PEVT", out, &[&name("_HID", &"QEMU0001"), &name("_CRS", &used)]);
}

/// A button was pressed, a status is another: the first code that is a device's own.
const CHANGED: u8 = 0x80;
const GENERATION_DEVICE: &str = "\\_SB_.VGEN";

/// Virtual Machine Generation ID (Microsoft's specification of that name).
fn generation(out: &mut Vec<u8>) {
    let place = GENERATION as u32;
    let parts = [
        &name("_HID", &"VMGENCTR"),
        &name("_CID", &"VM_Gen_Counter"),
        &name("_DDN", &"VM_Gen_Counter"),
        &name("ADDR", &aml::Package::new(vec![&place, &0u8])),
    ];
    device("VGEN", out, &parts.map(|part| part as &dyn Aml));
}

/// General purpose event 5, which the board raises when the generation is another.
fn generation_event(out: &mut Vec<u8>) {
    let device = aml::Path::new(GENERATION_DEVICE);
    let notify = aml::Notify::new(&device, &CHANGED);
    aml::Method::new("_E05".into(), 0, false, vec![&notify]).to_aml_bytes(out);
}

/// By the id that guests know it under (QEMU's `docs/specs/fw_cfg`).
fn fw_cfg(out: &mut Vec<u8>) {
    let used =
        resources(&[&aml::IO::new(ports::FW_CFG, ports::FW_CFG, 1, ports::FW_CFG_LEN as u8)]);
    // Present and working, but nothing to show to a user.
    device("FWCF", out, &[&name("_HID", &"QEMU0002"), &name("_STA", &0xbu8), &name("_CRS", &used)]);
}

fn serial(n: usize, out: &mut Vec<u8>) {
    let port = ports::COM[n];
    let used = resources(&[
        &aml::IO::new(port, port, 1, ports::COM_LEN as u8),
        &isa_interrupt(ports::COM_IRQ[n]),
    ]);
    let hid = aml::EISAName::new("PNP0501");
    let path = format!("COM{}", n + 1);
    device(&path, out, &[&name("_HID", &hid), &name("_UID", &(n + 1)), &name("_CRS", &used)]);
}

/// Edge-triggered, active high, as on the ISA bus.
fn isa_interrupt(irq: u32) -> aml::Interrupt {
    aml::Interrupt::new(true, true, false, false, irq)
}

/// AML that has been written out, so that parts may be built in functions.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

fn raw(aml: &dyn Aml) -> Raw {
    Raw(super::aml(aml))
}

fn name(path: &str, value: &dyn Aml) -> Raw {
    raw(&aml::Name::new(path.into(), value))
}

fn resources(list: &[&dyn Aml]) -> Raw {
    raw(&aml::ResourceTemplate::new(list.to_vec()))
}

fn device(path: &str, out: &mut Vec<u8>, parts: &[&dyn Aml]) {
    aml::Device::new(path.into(), parts.to_vec()).to_aml_bytes(out);
}
