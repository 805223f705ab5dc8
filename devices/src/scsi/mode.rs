//! Mode pages (SPC-4 §7.5, SBC-3 §6.4, MMC-6 annex): the write cache, and what CD-ROM drives can.

use super::cdb::{Cdb, op};
use super::sense::Sense;
use super::unit::{LogicalUnit, Outcome, UnitKind, reply};

const ERROR_RECOVERY: u8 = 0x01;
const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const CD_CAPABILITIES: u8 = 0x2a;
const ALL_PAGES: u8 = 0x3f;

const WRITE_CACHE_ENABLE: u8 = 0x04;
/// Longest list of a MODE SELECT.
const MOST_PARAMETERS: usize = 512;

/// The page control field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Current,
    Changeable,
    Default,
}

pub(super) fn sense(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    let values = match cdb.byte(2) >> 6 {
        0 => Values::Current,
        1 => Values::Changeable,
        2 => Values::Default,
        _ => return Err(Sense::NO_SAVED_PAGES),
    };
    let (code, subpage) = (cdb.byte(2) & 0x3f, cdb.byte(3));
    // Subpages are not provided, all of them of all pages is the pages.
    if subpage != 0 && subpage != 0xff {
        return Err(Sense::FIELD);
    }
    let known: &[u8] = match unit.kind() {
        UnitKind::Disk => &[ERROR_RECOVERY, CACHING, CONTROL],
        UnitKind::Cdrom => &[ERROR_RECOVERY, CD_CAPABILITIES],
    };
    let mut pages = Vec::new();
    for page in known.iter().filter(|page| code == ALL_PAGES || code == **page) {
        pages.extend(self::page(unit, *page, values));
    }
    if pages.is_empty() {
        return Err(Sense::FIELD);
    }
    let specific = device_specific(unit);
    let descriptor = if cdb.has(1, 8) { Vec::new() } else { block_descriptor(unit) };
    let len = descriptor.len() + pages.len();
    let (mut data, allocated) = if cdb.opcode() == op::MODE_SENSE_6 {
        let header = vec![(len + 3) as u8, 0, specific, descriptor.len() as u8];
        (header, cdb.byte(4).into())
    } else {
        let [high, low] = ((len + 6) as u16).to_be_bytes();
        let header = vec![high, low, 0, specific, 0, 0, 0, descriptor.len() as u8];
        (header, cdb.be16(7).into())
    };
    data.extend(descriptor);
    data.extend(pages);
    reply(data, allocated)
}

/// Write protection, and that FUA is obeyed.
fn device_specific(unit: &LogicalUnit) -> u8 {
    match (unit.kind(), unit.info()) {
        (UnitKind::Disk, Ok(info)) => u8::from(info.read_only) << 7 | 0x10,
        _ => 0,
    }
}

fn block_descriptor(unit: &LogicalUnit) -> Vec<u8> {
    let (UnitKind::Disk, Ok(info)) = (unit.kind(), unit.info()) else { return Vec::new() };
    let blocks = info.size / u64::from(info.block_size);
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    let mut descriptor = blocks.to_be_bytes().to_vec();
    descriptor.extend(info.block_size.to_be_bytes());
    descriptor
}

fn page(unit: &LogicalUnit, code: u8, values: Values) -> Vec<u8> {
    let mut body = match code {
        ERROR_RECOVERY if unit.kind() == UnitKind::Disk => vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ERROR_RECOVERY => vec![0, 5, 0, 0, 0, 0],
        CACHING => {
            let on = match values {
                Values::Current => unit.with_state(|state| state.write_cache),
                Values::Changeable => true,
                Values::Default => unit.info().is_ok_and(|info| info.writeback),
            };
            let mut body = vec![0; 18];
            body[0] = if on { WRITE_CACHE_ENABLE } else { 0 };
            return with_header(code, body);
        }
        // Any order of simple tasks; no time-out of its own.
        CONTROL => vec![0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0],
        _ => cd_capabilities(unit),
    };
    if values == Values::Changeable {
        body.fill(0);
    }
    with_header(code, body)
}

fn with_header(code: u8, body: Vec<u8>) -> Vec<u8> {
    let mut page = vec![code, body.len() as u8];
    page.extend(body);
    page
}

/// Reads CD-R, CD-RW and DVD-ROM; locks, ejects, and has a tray.
fn cd_capabilities(unit: &LogicalUnit) -> Vec<u8> {
    let locked = unit.with_state(|state| state.locked);
    let speed = 704_u16.to_be_bytes();
    let mut body = vec![0; 18];
    body[0] = 0x0b;
    // Mode 2, forms 1 and 2.
    body[2] = 0x30;
    body[4] = 0x29 | u8::from(locked) << 1;
    body[6..8].copy_from_slice(&speed);
    // Volume levels, buffer in KiB, current speed.
    body[8..10].copy_from_slice(&2_u16.to_be_bytes());
    body[10..12].copy_from_slice(&512_u16.to_be_bytes());
    body[12..14].copy_from_slice(&speed);
    body
}

/// MODE SELECT of disks: the write cache is what can be changed.
pub(super) fn select(
    unit: &LogicalUnit,
    cdb: &Cdb,
    parameters: &mut dyn FnMut(&mut [u8]) -> bool,
) -> Result<Outcome, Sense> {
    let short = cdb.opcode() == op::MODE_SELECT_6;
    let len = if short { usize::from(cdb.byte(4)) } else { usize::from(cdb.be16(7)) };
    // Pages of the standard's format, and none are saved.
    if cdb.byte(1) & 0x11 != 0x10 {
        return Err(Sense::FIELD);
    }
    if len == 0 {
        return Ok(Outcome::Done);
    }
    let header = if short { 4 } else { 8 };
    if !(header..=MOST_PARAMETERS).contains(&len) {
        return Err(Sense::LIST_LENGTH);
    }
    let mut list = vec![0; len];
    if !parameters(&mut list) {
        return Err(Sense::LIST_LENGTH);
    }
    let descriptor = if short {
        usize::from(list[3])
    } else {
        usize::from(u16::from_be_bytes([list[6], list[7]]))
    };
    let mut rest = list.get(header + descriptor..).ok_or(Sense::LIST_LENGTH)?;
    let mut write_cache = None;
    while let [code, len, tail @ ..] = rest {
        let body = tail.get(..usize::from(*len)).ok_or(Sense::LIST_LENGTH)?;
        rest = &tail[usize::from(*len)..];
        // Every page as it is now, but for the one bit.
        let mut current = page(unit, code & 0x3f, Values::Current);
        let known = matches!(code & 0x3f, ERROR_RECOVERY | CACHING | CONTROL);
        if !known || code & 0x40 != 0 || current.len() != body.len() + 2 {
            return Err(Sense::LIST_FIELD);
        }
        if code & 0x3f == CACHING {
            write_cache = Some(body[0] & WRITE_CACHE_ENABLE != 0);
            current[2] = current[2] & !WRITE_CACHE_ENABLE | body[0] & WRITE_CACHE_ENABLE;
        }
        if current[2..] != *body {
            return Err(Sense::LIST_FIELD);
        }
    }
    if !rest.is_empty() {
        return Err(Sense::LIST_LENGTH);
    }
    if let Some(on) = write_cache {
        unit.with_state(|state| state.write_cache = on);
    }
    Ok(Outcome::Done)
}
