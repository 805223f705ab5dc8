//! Slots of the PCI root bus that devices come into and leave (ACPI 6.5 §5.6.6, §6.3.3): registers, a
//! device for each slot, and the event by which the guest looks.

use acpi_tables::{Aml, aml};
use arch::ports;

use super::{device, name};

/// Notifications of any device (§5.6.6): look whether one came; let go of it.
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;

const CAME: &str = "\\_SB_.PCIU";
const ASKED: &str = "\\_SB_.PCID";
const EJECT: &str = "\\_SB_.PCEJ";

fn each(slots: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |slot| slots & 1 << slot != 0)
}

/// In the scope of all devices.
pub(super) fn registers(out: &mut Vec<u8>) {
    use aml::{FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, OpRegionSpace};
    let region = aml::OpRegion::new(
        "PHPR".into(),
        OpRegionSpace::SystemIO,
        &ports::PCI_SLOTS,
        &ports::PCI_SLOTS_LEN,
    );
    let field = aml::Field::new(
        "PHPR".into(),
        FieldAccessType::DWord,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![
            FieldEntry::Named(*b"PCIU", 32),
            FieldEntry::Named(*b"PCID", 32),
            FieldEntry::Named(*b"PCEJ", 32),
        ],
    );
    region.to_aml_bytes(out);
    field.to_aml_bytes(out);
}

/// In the scope of the host bridge.
pub(super) fn devices(slots: u32, out: &mut Vec<u8>) {
    for slot in each(slots) {
        let (eject, mask) = (aml::Path::new(EJECT), bit(slot));
        let store = aml::Store::new(&eject, &mask);
        let method = aml::Method::new("_EJ0".into(), 1, false, vec![&store]);
        let address = name("_ADR", &(slot << 16));
        device(&format!("S{slot:02X}_"), out, &[&address, &name("_SUN", &slot), &method]);
    }
}

/// General purpose event 1, in its scope. A read takes what is pending, so each register is read once.
pub(super) fn event(slots: u32, out: &mut Vec<u8>) {
    let (came, asked) = (aml::Local(0), aml::Local(1));
    let (came_register, asked_register) = (aml::Path::new(CAME), aml::Path::new(ASKED));
    let mut body = Vec::new();
    aml::Store::new(&came, &came_register).to_aml_bytes(&mut body);
    aml::Store::new(&asked, &asked_register).to_aml_bytes(&mut body);
    for (pending, code) in [(&came, DEVICE_CHECK), (&asked, EJECT_REQUEST)] {
        for slot in each(slots) {
            let path = aml::Path::new(&format!("\\_SB_.PCI0.S{slot:02X}_"));
            let notify = aml::Notify::new(&path, &code);
            let mask = bit(slot);
            let is_pending = aml::And::new(&aml::Local(2), pending, &mask);
            aml::If::new(&is_pending, vec![&notify]).to_aml_bytes(&mut body);
        }
    }
    aml::Method::new("_E01".into(), 0, true, vec![&super::Raw(body)]).to_aml_bytes(out);
}

fn bit(slot: u32) -> u32 {
    1 << slot
}
