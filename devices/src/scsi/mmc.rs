//! CD-ROM drives (MMC-6): one data track on a CD or a DVD, by its size.

use serde::{Deserialize, Serialize};

use super::block::Transfer;
use super::cdb::{Cdb, op};
use super::sense::Sense;
use super::unit::{LogicalUnit, Outcome, reply};

/// Bytes of user data in a sector.
const SECTOR: u64 = 2048;
/// Sectors of an 80-minute CD: what is larger is a DVD.
const CD_SECTORS: u64 = 80 * 60 * 75;
/// Sectors before the first, as minutes, seconds and frames count them.
const PREGAP: u32 = 150;

const PROFILE_CD: u16 = 0x0008;
const PROFILE_DVD: u16 = 0x0010;
/// A data track, on which copies may be made.
const DATA_TRACK: u8 = 0x14;
const LEAD_OUT: u8 = 0xaa;

/// Event codes of the media class (MMC-6 table 268).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MediaEvent {
    None,
    EjectRequest,
    New,
    Removal,
}

pub(super) fn execute(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    match cdb.opcode() {
        op::READ_CAPACITY_10 => {
            let last = sectors(unit)?.saturating_sub(1);
            let mut data = u32::try_from(last).unwrap_or(u32::MAX).to_be_bytes().to_vec();
            data.extend((SECTOR as u32).to_be_bytes());
            Ok(Outcome::Reply(data))
        }
        op::READ_10 => read(unit, cdb.be32(2), cdb.be16(7).into()),
        op::READ_12 => read(unit, cdb.be32(2), cdb.be32(6)),
        op::READ_CD => read_cd(unit, cdb),
        op::SEEK_10 => range(unit, cdb.be32(2), 0).map(|_| Outcome::Done),
        op::READ_TOC => read_toc(unit, cdb),
        op::READ_DISC_INFORMATION => disc_information(unit, cdb),
        op::READ_TRACK_INFORMATION => track_information(unit, cdb),
        op::MECHANISM_STATUS => {
            // One slot, and no changer.
            reply(vec![0, 0, 0, 0, 0, 1, 0, 0], cdb.be16(8).into())
        }
        // There is one speed, and nothing in a cache.
        op::SET_CD_SPEED | op::SYNCHRONIZE_CACHE_10 => unit.info().map(|_| Outcome::Done),
        _ => Err(Sense::OPCODE),
    }
}

fn sectors(unit: &LogicalUnit) -> Result<u64, Sense> {
    Ok(unit.info()?.size / SECTOR)
}

fn range(unit: &LogicalUnit, first: u32, count: u32) -> Result<(u64, u64), Sense> {
    let (first, count) = (u64::from(first), u64::from(count));
    if first + count > sectors(unit)? {
        return Err(Sense::RANGE);
    }
    Ok((first * SECTOR, count * SECTOR))
}

fn read(unit: &LogicalUnit, first: u32, count: u32) -> Result<Outcome, Sense> {
    let (offset, len) = range(unit, first, count)?;
    Ok(Transfer::read(offset, len))
}

/// User data only: headers and error correction are not kept in an image.
fn read_cd(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    let count = cdb.be24(6);
    let (expected, wanted, subchannel) = (cdb.byte(1) >> 2 & 7, cdb.byte(9), cdb.byte(10) & 7);
    // Any type, or mode 1.
    if !matches!(expected, 0 | 2) || subchannel != 0 {
        return Err(Sense::FIELD);
    }
    match wanted & 0xfe {
        _ if count == 0 => Ok(Outcome::Done),
        0x00 => range(unit, cdb.be32(2), count).map(|_| Outcome::Done),
        0x10 => read(unit, cdb.be32(2), count),
        _ => Err(Sense::FIELD),
    }
}

/// An address as four bytes: a sector number, or minutes, seconds and frames.
fn address(sector: u32, msf: bool) -> [u8; 4] {
    if !msf {
        return sector.to_be_bytes();
    }
    let frames = sector.saturating_add(PREGAP);
    let minutes = u8::try_from(frames / 75 / 60).unwrap_or(0xff);
    [0, minutes, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

fn read_toc(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    let end = u32::try_from(sectors(unit)?).unwrap_or(u32::MAX);
    let (msf, first) = (cdb.has(1, 2), cdb.byte(6));
    // Older commands have the format in the control byte.
    let format = match cdb.byte(2) & 0xf {
        0 => cdb.byte(9) >> 6,
        format => format,
    };
    let descriptor = |track: u8, sector| {
        let [a, b, c, d] = address(sector, msf);
        [0, DATA_TRACK, track, 0, a, b, c, d]
    };
    let body = match format {
        0 => {
            if first > 1 && first != LEAD_OUT {
                return Err(Sense::FIELD);
            }
            let track = if first <= 1 { descriptor(1, 0).to_vec() } else { Vec::new() };
            [track, descriptor(LEAD_OUT, end).to_vec()].concat()
        }
        // Of the last session: its first track.
        1 => descriptor(1, 0).to_vec(),
        2 => full_toc(end, msf),
        _ => return Err(Sense::FIELD),
    };
    let mut data = (body.len() as u16 + 2).to_be_bytes().to_vec();
    data.extend([1, 1]);
    data.extend(body);
    reply(data, cdb.be16(7).into())
}

/// Session, address and control, track, point, time, zero, and where the point is.
fn full_toc(end: u32, msf: bool) -> Vec<u8> {
    let entry =
        |point: u8, at: [u8; 4]| [1, DATA_TRACK, 0, point, 0, 0, 0, at[0], at[1], at[2], at[3]];
    [
        entry(0xa0, [0, 1, 0, 0]),
        entry(0xa1, [0, 1, 0, 0]),
        entry(0xa2, address(end, msf)),
        entry(1, address(0, msf)),
    ]
    .concat()
}

fn disc_information(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    unit.info()?;
    // The standard information is the only one provided.
    if cdb.byte(1) & 7 != 0 {
        return Err(Sense::FIELD);
    }
    let mut data = vec![0; 34];
    data[1] = 32;
    // Finished, its last session too; one session with one track; for any use.
    data[2] = 0x0e;
    data[3..7].fill(1);
    data[7] = 0x20;
    reply(data, cdb.be16(7).into())
}

fn track_information(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    let end = u32::try_from(sectors(unit)?).unwrap_or(u32::MAX);
    let asked = cdb.be32(2);
    let there = match cdb.byte(1) & 3 {
        0 => asked < end,
        1 | 2 => asked == 1,
        _ => false,
    };
    if !there {
        return Err(Sense::FIELD);
    }
    let mut data = vec![0; 36];
    data[1] = 34;
    data[2..4].fill(1);
    data[5] = 0x04;
    // Mode 1 data.
    data[6] = 0x01;
    data[24..28].copy_from_slice(&end.to_be_bytes());
    reply(data, cdb.be16(7).into())
}

/// The profile of the medium; 0 without one.
fn profile(unit: &LogicalUnit) -> u16 {
    match sectors(unit) {
        Ok(count) if count > CD_SECTORS => PROFILE_DVD,
        Ok(_) => PROFILE_CD,
        Err(_) => 0,
    }
}

/// Features (MMC-6 §5): code, whether version and persistence apply, data.
pub(super) fn get_configuration(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    let current = profile(unit);
    let (cd, dvd) = (current == PROFILE_CD, current == PROFILE_DVD);
    let one = |code: u16, is: bool| [(code >> 8) as u8, code as u8, u8::from(is), 0];
    let profiles = [one(PROFILE_DVD, dvd), one(PROFILE_CD, cd)].concat();
    let present = current != 0;
    let readable = [0, 0, 8, 0, 0, 1, 0, 0];
    const PERSISTENT: u8 = 0x02;
    let features: [(u16, u8, bool, &[u8]); 6] = [
        (0x0000, PERSISTENT, true, &profiles),
        // Core: ATAPI or SCSI, by the older meaning of the field; events by polling.
        (0x0001, PERSISTENT | 2 << 2, true, &[0, 0, 0, 1, 0x01, 0, 0, 0]),
        // Removable medium: a tray that locks, ejects and loads.
        (0x0003, PERSISTENT | 1 << 2, true, &[0x39, 0, 0, 0]),
        (0x0010, 0, present, &readable),
        (0x001e, 2 << 2, cd, &[0, 0, 0, 0]),
        (0x001f, 0, dvd, &[]),
    ];
    let (kind, start) = (cdb.byte(1) & 3, cdb.be16(2));
    let mut body = Vec::new();
    for (code, flags, active, data) in features {
        let wanted = match kind {
            0 => code >= start,
            1 => code >= start && active,
            2 => code == start,
            _ => return Err(Sense::FIELD),
        };
        if wanted {
            body.extend(code.to_be_bytes());
            body.extend([flags | u8::from(active), data.len() as u8]);
            body.extend(data);
        }
    }
    let mut answer = (body.len() as u32 + 4).to_be_bytes().to_vec();
    answer.extend([0, 0]);
    answer.extend(current.to_be_bytes());
    answer.extend(body);
    reply(answer, cdb.be16(7).into())
}

pub(super) fn get_event_status(unit: &LogicalUnit, cdb: &Cdb) -> Result<Outcome, Sense> {
    const MEDIA: u8 = 4;
    // The drive does not wait until something happens.
    if !cdb.has(1, 1) {
        return Err(Sense::FIELD);
    }
    let allocated = cdb.be16(7).into();
    if !cdb.has(4, 1 << MEDIA) {
        // No event of a class that was asked for.
        return reply(vec![0, 2, 0x80, 1 << MEDIA], allocated);
    }
    let present = unit.medium().1.is_some();
    let (event, open) = unit.with_state(|state| {
        (std::mem::replace(&mut state.event, MediaEvent::None), state.tray_open)
    });
    let code = match event {
        MediaEvent::None => 0,
        MediaEvent::EjectRequest => 1,
        MediaEvent::New => 2,
        MediaEvent::Removal => 3,
    };
    let status = u8::from(open) | u8::from(present && !open) << 1;
    reply(vec![0, 6, MEDIA, 1 << MEDIA, code, status, 0, 0], allocated)
}
