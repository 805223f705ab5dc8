//! The processors (ACPI 6.5 §8.4), and how those come and go that are not always there: registers, the
//! methods around them, and the event by which the guest looks.

use acpi_tables::{Aml, aml};
use arch::ports;

use super::super::{Board, madt};
use super::{Raw, device, name, raw};

/// Notifications of any device (§5.6.6): look whether one came; let go of it.
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;

/// Commands of the registers (QEMU's `docs/specs/acpi_cpu_hotplug`).
const GET_PENDING: u8 = 0;
const OST_EVENT: u8 = 1;
const OST_STATUS: u8 = 2;

const PRESENT: u8 = 0xf;
/// An access of one guest CPU is several: select, then act.
const LOCK: &str = "\\_SB_.CPLK";
const FOREVER: u16 = 0xffff;

/// One `ACPI0007` for each MADT entry: the specification asks for the pair.
pub(super) fn devices(board: &Board, out: &mut Vec<u8>) {
    let hotplug = board.hotplug.is_some();
    if hotplug {
        registers(out);
        status(out);
        eject(out);
        tell(out);
    }
    for (uid, apic_id) in (0u32..).zip(&board.apic_ids) {
        let (hid, number) = (name("_HID", &"ACPI0007"), name("_UID", &uid));
        let mut parts: Vec<Raw> = vec![hid, number];
        if hotplug {
            // When it is asked for, the processor is there.
            let entry = madt::processor(uid, *apic_id, true);
            parts.push(name("_MAT", &aml::BufferData::new(entry)));
            parts.push(method("_STA", 0, &[&aml::Return::new(&call("CPST", &[&uid]))]));
            let answer = call("CPOS", &[&uid, &aml::Arg(0), &aml::Arg(1)]);
            parts.push(method("_OST", 3, &[&answer]));
        }
        if hotplug && uid > 0 {
            parts.push(method("_EJ0", 1, &[&call("CPEX", &[&uid])]));
        }
        let parts: Vec<&dyn Aml> = parts.iter().map(|part| part as &dyn Aml).collect();
        device(&processor(uid), out, &parts);
    }
}

/// General purpose event 2, in its scope.
pub(super) fn event(board: &Board, out: &mut Vec<u8>) {
    out.extend(method("_E02", 0, &[&scan(board)]).0);
}

/// Take what is pending, one processor after the other, and notify each.
fn scan(board: &Board) -> Raw {
    let [command, data, coming, leaving] =
        ["CPCM", "CPDA", "CPIN", "CPRM"].map(|field| aml::Path::new(&format!("\\_SB_.{field}")));
    let (more, index) = (aml::Local(0), aml::Local(1));
    let mut told = Vec::new();
    for (register, code) in [(&coming, DEVICE_CHECK), (&leaving, EJECT_REQUEST)] {
        let mut each = Vec::new();
        for uid in 0..board.apic_ids.len() as u32 {
            let path = aml::Path::new(&format!("\\_SB_.{}", processor(uid)));
            let notify = aml::Notify::new(&path, &code);
            let is_it = aml::Equal::new(&index, &uid);
            aml::If::new(&is_it, vec![&notify]).to_aml_bytes(&mut each);
        }
        let is_pending = aml::Equal::new(register, &1u8);
        let take = aml::Store::new(register, &1u8);
        let again = aml::Store::new(&more, &1u8);
        aml::If::new(&is_pending, vec![&Raw(each), &take, &again]).to_aml_bytes(&mut told);
    }
    let told = Raw(told);
    let stop = aml::Store::new(&more, &0u8);
    let find = aml::Store::new(&command, &GET_PENDING);
    let which = aml::Store::new(&index, &data);
    let is_more = aml::Equal::new(&more, &1u8);
    let round = aml::While::new(&is_more, vec![&stop, &find, &which, &told]);
    let select = aml::Path::new("\\_SB_.CPSL");
    let first = aml::Store::new(&select, &0u8);
    let start = aml::Store::new(&more, &1u8);
    locked(&[&first, &start, &round])
}

fn registers(out: &mut Vec<u8>) {
    use aml::FieldEntry::{Named, Reserved};
    use aml::{FieldAccessType, FieldLockRule, FieldUpdateRule, OpRegionSpace};
    aml::Mutex::new("CPLK".into(), 0).to_aml_bytes(out);
    aml::OpRegion::new(
        "CPRG".into(),
        OpRegionSpace::SystemIO,
        &ports::PROCESSORS,
        &ports::PROCESSORS_LEN,
    )
    .to_aml_bytes(out);
    // What is not written must be zero: each bit of the control does something.
    let bytes = vec![
        Reserved(32),
        Named(*b"CPEN", 1),
        Named(*b"CPIN", 1),
        Named(*b"CPRM", 1),
        Named(*b"CPEJ", 1),
        Reserved(4),
        Named(*b"CPCM", 8),
    ];
    let words = vec![Named(*b"CPSL", 32), Reserved(32), Named(*b"CPDA", 32)];
    for (access, fields) in [(FieldAccessType::Byte, bytes), (FieldAccessType::DWord, words)] {
        let update = FieldUpdateRule::WriteAsZeroes;
        aml::Field::new("CPRG".into(), access, FieldLockRule::NoLock, update, fields)
            .to_aml_bytes(out);
    }
}

/// CPST(uid): `_STA`.
fn status(out: &mut Vec<u8>) {
    let (select, enabled) = (aml::Path::new("CPSL"), aml::Path::new("CPEN"));
    let result = aml::Local(0);
    let none = aml::Store::new(&result, &0u8);
    let is_there = aml::Equal::new(&enabled, &1u8);
    let present = aml::Store::new(&result, &PRESENT);
    let select = aml::Store::new(&select, &aml::Arg(0));
    let body = locked(&[&none, &select, &aml::If::new(&is_there, vec![&present])]);
    out.extend(method("CPST", 1, &[&body, &aml::Return::new(&result)]).0);
}

/// CPEX(uid): `_EJ0`.
fn eject(out: &mut Vec<u8>) {
    let (select, eject) = (aml::Path::new("CPSL"), aml::Path::new("CPEJ"));
    let select = aml::Store::new(&select, &aml::Arg(0));
    let eject = aml::Store::new(&eject, &1u8);
    out.extend(method("CPEX", 1, &[&locked(&[&select, &eject])]).0);
}

/// CPOS(uid, event, status): `_OST`.
fn tell(out: &mut Vec<u8>) {
    let [select, command, data] = ["CPSL", "CPCM", "CPDA"].map(aml::Path::new);
    let mut body = Vec::new();
    aml::Store::new(&select, &aml::Arg(0)).to_aml_bytes(&mut body);
    for (what, argument) in [(OST_EVENT, 1), (OST_STATUS, 2)] {
        aml::Store::new(&command, &what).to_aml_bytes(&mut body);
        aml::Store::new(&data, &aml::Arg(argument)).to_aml_bytes(&mut body);
    }
    out.extend(method("CPOS", 3, &[&locked(&[&Raw(body)])]).0);
}

fn locked(steps: &[&dyn Aml]) -> Raw {
    let mut body = Vec::new();
    aml::Acquire::new(LOCK.into(), FOREVER).to_aml_bytes(&mut body);
    for step in steps {
        step.to_aml_bytes(&mut body);
    }
    aml::Release::new(LOCK.into()).to_aml_bytes(&mut body);
    Raw(body)
}

fn method(path: &str, arguments: u8, body: &[&dyn Aml]) -> Raw {
    raw(&aml::Method::new(path.into(), arguments, true, body.to_vec()))
}

fn call(path: &str, arguments: &[&dyn Aml]) -> Raw {
    raw(&aml::MethodCall::new(path.into(), arguments.to_vec()))
}

fn processor(uid: u32) -> String {
    format!("C{uid:03X}")
}
