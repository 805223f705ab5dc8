//! INQUIRY: what a unit is, and the pages of vital product data (SPC-4 §6.4, §7.8; SBC-3 §6.5).

use super::block::{MOST_UNMAP, MOST_UNMAP_DESCRIPTORS, MOST_WRITE_SAME};
use super::cdb::{Cdb, op};
use super::sense::Sense;
use super::unit::{LogicalUnit, Outcome, UnitKind, reply};
use crate::backend::DiskInfo;

const DIRECT_ACCESS: u8 = 0x00;
const CD_ROM: u8 = 0x05;
/// Peripheral qualifier and type of a unit that is not there.
const NOTHING: u8 = 0x7f;

/// SPC-3, and data in the format of this standard.
const VERSION: u8 = 5;
const FORMAT: u8 = 2;
const COMMAND_QUEUEING: u8 = 0x02;
/// SAM-3, SPC-3, and SBC-2 or MMC-5, no version claimed of each.
const STANDARDS: [u16; 2] = [0x0060, 0x0300];
const SBC_2: u16 = 0x0320;
const MMC_5: u16 = 0x0430;
const STANDARD_LEN: usize = 66;

const SUPPORTED_PAGES: u8 = 0x00;
const SERIAL: u8 = 0x80;
const IDENTIFICATION: u8 = 0x83;
const BLOCK_LIMITS: u8 = 0xb0;
const CHARACTERISTICS: u8 = 0xb1;
const PROVISIONING: u8 = 0xb2;

pub(super) fn inquiry(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    let allocated = u32::from(cdb.be16(3));
    if cdb.has(1, 1) {
        return reply(page(unit, cdb.byte(2))?, allocated);
    }
    if cdb.byte(2) != 0 {
        return Err(Sense::FIELD);
    }
    let identity = unit.identity();
    let removable = identity.removable || unit.kind() == UnitKind::Cdrom;
    let mut data = vec![0; STANDARD_LEN];
    data[0] = device_type(unit);
    data[1] = u8::from(removable) << 7;
    data[2] = VERSION;
    data[3] = FORMAT;
    data[4] = STANDARD_LEN as u8 - 5;
    data[7] = COMMAND_QUEUEING;
    text(&mut data[8..16], &identity.vendor);
    text(&mut data[16..32], &identity.product);
    text(&mut data[32..36], env!("CARGO_PKG_VERSION"));
    let own = if unit.kind() == UnitKind::Cdrom { MMC_5 } else { SBC_2 };
    for (place, standard) in data[58..].chunks_exact_mut(2).zip([STANDARDS[0], STANDARDS[1], own]) {
        place.copy_from_slice(&standard.to_be_bytes());
    }
    reply(data, allocated)
}

/// The answer of a target for a unit that it has not: to INQUIRY that it is absent, an error to all
/// else.
///
/// # Errors
/// What makes the command end in CHECK CONDITION.
pub fn absent_unit(cdb: &Cdb) -> Result<Outcome, Sense> {
    match cdb.opcode() {
        op::INQUIRY if !cdb.has(1, 1) => {
            let mut data = vec![0; 36];
            data[0] = NOTHING;
            data[2] = VERSION;
            data[3] = FORMAT;
            data[4] = 31;
            reply(data, cdb.be16(3).into())
        }
        op::REQUEST_SENSE => reply(Sense::NO_UNIT.fixed().to_vec(), cdb.byte(4).into()),
        _ => Err(Sense::NO_UNIT),
    }
}

fn device_type(unit: &LogicalUnit) -> u8 {
    match unit.kind() {
        UnitKind::Disk => DIRECT_ACCESS,
        UnitKind::Cdrom => CD_ROM,
    }
}

/// `value` left-aligned, cut off or filled up with spaces.
pub(super) fn text(place: &mut [u8], value: &str) {
    place.fill(b' ');
    for (place, byte) in place.iter_mut().zip(value.bytes()) {
        *place = byte;
    }
}

fn page(unit: &LogicalUnit, code: u8) -> Result<Vec<u8>, Sense> {
    let is_disk = unit.kind() == UnitKind::Disk;
    let serial = &unit.identity().serial;
    let body = match code {
        SUPPORTED_PAGES => {
            let pages = [
                (SUPPORTED_PAGES, true),
                (SERIAL, !serial.is_empty()),
                (IDENTIFICATION, true),
                (BLOCK_LIMITS, is_disk),
                (CHARACTERISTICS, is_disk),
                (PROVISIONING, is_disk),
            ];
            pages.into_iter().filter_map(|(page, there)| there.then_some(page)).collect()
        }
        SERIAL if !serial.is_empty() => serial.bytes().take(255).collect(),
        IDENTIFICATION => identification(unit),
        BLOCK_LIMITS if is_disk => block_limits(&unit.info()?),
        CHARACTERISTICS if is_disk => {
            let mut body = vec![0; 60];
            body[..2].copy_from_slice(&unit.identity().rotation_rate.to_be_bytes());
            body
        }
        PROVISIONING if is_disk => provisioning(&unit.info()?),
        _ => return Err(Sense::FIELD),
    };
    let mut data = vec![device_type(unit), code];
    data.extend((body.len() as u16).to_be_bytes());
    data.extend(body);
    Ok(data)
}

/// A name by vendor and serial number, and the world wide name if there is one.
fn identification(unit: &LogicalUnit) -> Vec<u8> {
    let identity = unit.identity();
    let mut name = vec![b' '; 8];
    text(&mut name, &identity.vendor);
    name.extend(identity.serial.bytes().take(240));
    let mut body = Vec::new();
    if !identity.serial.is_empty() {
        // ASCII, T10 vendor identification, of the logical unit.
        body.extend([0x02, 0x01, 0x00, name.len() as u8]);
        body.extend(name);
    }
    if let Some(wwn) = identity.wwn {
        // Binary, NAA.
        body.extend([0x01, 0x03, 0x00, 8]);
        body.extend(wwn.to_be_bytes());
    }
    body
}

fn blocks(info: &DiskInfo, bytes: u64) -> u64 {
    bytes / u64::from(info.block_size)
}

fn block_limits(info: &DiskInfo) -> Vec<u8> {
    let mut body = vec![0; 60];
    // WSNZ: a WRITE SAME says how many blocks.
    body[0] = 1;
    let granularity = (info.physical_block_size / info.block_size).max(1);
    body[2..4].copy_from_slice(&(granularity as u16).to_be_bytes());
    if info.discard && !info.read_only {
        let most = u32::try_from(blocks(info, MOST_UNMAP)).unwrap_or(u32::MAX);
        body[16..20].copy_from_slice(&most.to_be_bytes());
        body[20..24].copy_from_slice(&u32::from(MOST_UNMAP_DESCRIPTORS).to_be_bytes());
        body[24..28].copy_from_slice(&granularity.to_be_bytes());
    }
    if !info.read_only {
        body[32..40].copy_from_slice(&blocks(info, MOST_WRITE_SAME).to_be_bytes());
    }
    body
}

fn provisioning(info: &DiskInfo) -> Vec<u8> {
    if info.discard && !info.read_only {
        // UNMAP, and WRITE SAME with UNMAP in both lengths; thin.
        vec![0, 0xe0, 2, 0]
    } else {
        vec![0; 4]
    }
}

/// log2 of logical per physical blocks.
pub(super) fn physical_exponent(info: &DiskInfo) -> u8 {
    (info.physical_block_size / info.block_size).checked_ilog2().unwrap_or(0) as u8 & 0xf
}
