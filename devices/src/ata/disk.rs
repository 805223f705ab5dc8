//! [`AtaDisk`]: the commands of an ATA disk (ATA8-ACS §7).

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::spec::{SECTOR, command, error};
use super::{identify, log};
use crate::backend::lane::Meter;
use crate::backend::{Action, Disk, DiskInfo};
use crate::sync::Lock;

/// Sectors in one block of READ and WRITE MULTIPLE at most.
pub(super) const MOST_MULTIPLE: u8 = 16;
/// Payload of a DATA SET MANAGEMENT, in sectors.
pub(super) const MOST_TRIM_SECTORS: u16 = 8;
/// Sectors in one range of it.
const TRIM_ENTRY: usize = 8;

/// The registers with which a command is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskFile {
    pub(crate) command: u8,
    pub(crate) features: u16,
    /// 48 bits.
    pub(crate) lba: u64,
    pub(crate) count: u16,
    pub(crate) device: u8,
}

/// What the host adapter has to do for a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// It has ended; what it leaves in count and LBA.
    Done {
        count: Option<u8>,
        lba: Option<u64>,
    },
    /// Bytes for the host, by PIO, whole sectors.
    Input(Vec<u8>),
    Transfer(Transfer),
    /// Ranges to be discarded, in so many bytes that the host sends by DMA.
    Trim {
        len: u64,
    },
    /// Bits of the error register.
    Failed(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Reads, writes, or flushes without data.
    pub(crate) action: Action,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Sectors between two interrupts of a PIO transfer; none: DMA.
    pub(crate) block: Option<u8>,
}

/// What the guest reads of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AtaIdentity {
    /// At most 40 bytes.
    pub model: String,
    /// At most 20 bytes.
    pub serial: String,
    pub wwn: Option<u64>,
    /// Rotations per minute; 1: solid state; 0: not reported.
    pub rotation_rate: u16,
    /// On a parallel bus, and not on SATA.
    pub parallel: bool,
}

/// What the guest has set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtaState {
    /// Writes may complete before they are durable.
    pub(super) write_cache: bool,
    pub(super) look_ahead: bool,
    pub(super) smart: bool,
    /// Sectors in one block of READ and WRITE MULTIPLE; 0: not set.
    pub(super) multiple: u8,
    /// The transfer mode as SET FEATURES gave it.
    pub(super) mode: u8,
    /// The queued command that failed last, for its log.
    pub(super) queued_error: Option<log::QueuedError>,
}

pub struct AtaDisk {
    disk: Arc<dyn Disk>,
    identity: AtaIdentity,
    meter: Arc<Meter>,
    state: Mutex<AtaState>,
}

impl AtaDisk {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, identity: AtaIdentity, meter: Arc<Meter>) -> Self {
        let state = Mutex::new(AtaState::new(&disk.info()));
        Self { disk, identity, meter, state }
    }

    /// What the disk is now: it may have grown.
    fn info(&self) -> DiskInfo {
        self.disk.info()
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    pub(crate) fn reset(&self) {
        *self.state.hold() = AtaState::new(&self.info());
    }

    pub(crate) fn save(&self) -> AtaState {
        self.state.hold().clone()
    }

    pub(crate) fn restore(&self, saved: &AtaState) {
        let mut state = saved.clone();
        state.multiple = state.multiple.min(MOST_MULTIPLE);
        *self.state.hold() = state;
    }

    fn sectors(&self) -> u64 {
        self.info().size / SECTOR
    }

    /// Begin a command.
    pub(crate) fn execute(&self, task: &TaskFile) -> Work {
        let work = self.dispatch(task);
        if matches!(work, Work::Failed(_)) {
            self.meter.refuse();
        }
        work
    }

    fn dispatch(&self, task: &TaskFile) -> Work {
        use command::*;
        let done = Work::Done { count: None, lba: None };
        let multiple = self.state.hold().multiple;
        match task.command {
            READ_SECTORS | READ_SECTORS_NO_RETRY | READ_SECTORS_EXT => self.read(task, Some(1)),
            WRITE_SECTORS | WRITE_SECTORS_NO_RETRY | WRITE_SECTORS_EXT => {
                self.write(task, Some(1), false)
            }
            READ_MULTIPLE | READ_MULTIPLE_EXT if multiple > 0 => self.read(task, Some(multiple)),
            WRITE_MULTIPLE | WRITE_MULTIPLE_EXT if multiple > 0 => {
                self.write(task, Some(multiple), false)
            }
            WRITE_MULTIPLE_FUA_EXT if multiple > 0 => self.write(task, Some(multiple), true),
            READ_DMA | READ_DMA_NO_RETRY | READ_DMA_EXT => self.read(task, None),
            WRITE_DMA | WRITE_DMA_NO_RETRY | WRITE_DMA_EXT => self.write(task, None, false),
            WRITE_DMA_FUA_EXT => self.write(task, None, true),
            READ_VERIFY | READ_VERIFY_NO_RETRY | READ_VERIFY_EXT => match self.range(task) {
                Ok(_) => done,
                Err(error) => Work::Failed(error),
            },
            FLUSH | FLUSH_EXT => {
                Work::Transfer(Transfer { action: Action::Flush, offset: 0, len: 0, block: None })
            }
            DATA_SET_MANAGEMENT => self.trim(task),
            IDENTIFY => {
                let state = self.state.hold();
                Work::Input(identify::disk(&self.info(), &self.identity, &state))
            }
            READ_LOG_EXT if !self.identity.parallel => self.read_log(task),
            SMART => self.smart(task),
            SET_FEATURES => self.set_features(task),
            SET_MULTIPLE => self.set_multiple(task.count as u8),
            // Active or idle.
            CHECK_POWER | CHECK_POWER_OLD => Work::Done { count: Some(0xff), lba: None },
            // The last two digits are a time, which nothing here waits for.
            STANDBY_IMMEDIATE..=0xe3 | SLEEP | STANDBY_IMMEDIATE_OLD..=0x97 | SLEEP_OLD => done,
            // Recalibrate.
            0x10..=0x1f => done,
            SEEK | INITIALIZE_PARAMETERS => done,
            _ => Work::Failed(error::ABRT),
        }
    }

    /// A command of the native queue: the features say how many sectors.
    pub(crate) fn execute_queued(&self, task: &TaskFile) -> Work {
        let count = if task.features == 0 { 0x1_0000 } else { u64::from(task.features) };
        let Some((offset, len)) = self.bytes(task.lba, count) else {
            self.meter.refuse();
            return Work::Failed(error::IDNF);
        };
        let action = match task.command {
            command::READ_QUEUED => Action::Read,
            _ if self.info().read_only => return Work::Failed(error::ABRT),
            // The device register has FUA.
            _ => self.write_action(task.device & 0x80 != 0),
        };
        Work::Transfer(Transfer { action, offset, len, block: None })
    }

    pub(crate) fn note_queued_error(&self, tag: u8, task: &TaskFile, status: u8, error: u8) {
        let failed = log::QueuedError { tag, status, error, lba: task.lba, count: task.features };
        self.state.hold().queued_error = Some(failed);
    }

    fn write_action(&self, forced: bool) -> Action {
        Action::Write { durable: forced || !self.state.hold().write_cache }
    }

    /// The command's range in bytes.
    fn range(&self, task: &TaskFile) -> Result<(u64, u64), u8> {
        let wide = is_wide(task.command);
        let count = match (task.count, wide) {
            (0, true) => 0x1_0000,
            (count, true) => count.into(),
            (count, false) if count as u8 == 0 => 0x100,
            (count, false) => u64::from(count as u8),
        };
        let first = if wide {
            task.lba & 0xffff_ffff_ffff
        } else if task.device & 0x40 != 0 {
            task.lba & 0xff_ffff | u64::from(task.device & 0xf) << 24
        } else {
            identify::sector_of(task.lba, task.device).ok_or(error::IDNF)?
        };
        self.bytes(first, count).ok_or(error::IDNF)
    }

    fn bytes(&self, first: u64, count: u64) -> Option<(u64, u64)> {
        let end = first.checked_add(count)?;
        (end <= self.sectors()).then_some((first * SECTOR, count * SECTOR))
    }

    fn read(&self, task: &TaskFile, block: Option<u8>) -> Work {
        match self.range(task) {
            Ok((offset, len)) => {
                Work::Transfer(Transfer { action: Action::Read, offset, len, block })
            }
            Err(error) => Work::Failed(error),
        }
    }

    fn write(&self, task: &TaskFile, block: Option<u8>, forced: bool) -> Work {
        match self.range(task) {
            Ok(_) if self.info().read_only => Work::Failed(error::ABRT),
            Ok((offset, len)) => {
                Work::Transfer(Transfer { action: self.write_action(forced), offset, len, block })
            }
            Err(error) => Work::Failed(error),
        }
    }

    fn trim(&self, task: &TaskFile) -> Work {
        let offered = self.info().discard && !self.info().read_only;
        if !offered || task.features & 0xff != 1 || !(1..=MOST_TRIM_SECTORS).contains(&task.count) {
            return Work::Failed(error::ABRT);
        }
        Work::Trim { len: u64::from(task.count) * SECTOR }
    }

    /// The ranges that the payload of a trim names: offset and length in bytes.
    pub(crate) fn trim_ranges(&self, payload: &[u8]) -> Result<Vec<(u64, u64)>, u8> {
        let mut ranges = Vec::new();
        for entry in payload.chunks_exact(TRIM_ENTRY) {
            let [a, b, c, d, e, f, low, high] = entry else { continue };
            let first = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, 0, 0]);
            let count = u64::from(u16::from_le_bytes([*low, *high]));
            if count > 0 {
                ranges.push(self.bytes(first, count).ok_or(error::IDNF)?);
            }
        }
        Ok(ranges)
    }

    fn set_multiple(&self, count: u8) -> Work {
        if count > MOST_MULTIPLE || (count != 0 && !count.is_power_of_two()) {
            return Work::Failed(error::ABRT);
        }
        self.state.hold().multiple = count;
        Work::Done { count: None, lba: None }
    }

    fn set_features(&self, task: &TaskFile) -> Work {
        let mut state = self.state.hold();
        match task.features as u8 {
            0x02 => state.write_cache = true,
            0x82 => state.write_cache = false,
            0x03 if is_mode(task.count as u8) => state.mode = task.count as u8,
            0xaa => state.look_ahead = true,
            0x55 => state.look_ahead = false,
            // Whether a soft reset keeps what was set: it does.
            0x66 | 0xcc => {}
            _ => return Work::Failed(error::ABRT),
        }
        Work::Done { count: None, lba: None }
    }

    fn read_log(&self, task: &TaskFile) -> Work {
        let mut state = self.state.hold();
        let page = (task.lba >> 8 & 0xff) as u8 | ((task.lba >> 32 & 0xff) as u8);
        match log::read(task.lba as u8, page, task.count, &mut state) {
            Some(data) => Work::Input(data),
            None => Work::Failed(error::ABRT),
        }
    }

    /// SMART, of a disk that is never ill.
    fn smart(&self, task: &TaskFile) -> Work {
        const KEY: u64 = 0xc2_4f00;
        let mut state = self.state.hold();
        let enabled = state.smart;
        if task.lba & 0xff_ff00 != KEY {
            return Work::Failed(error::ABRT);
        }
        match task.features as u8 {
            0xd8 => state.smart = true,
            0xd9 => state.smart = false,
            _ if !enabled => return Work::Failed(error::ABRT),
            0xd0 => return Work::Input(log::smart_data()),
            // Attribute autosave.
            0xd2 => {}
            // No threshold is exceeded: the key comes back as it was.
            0xda => return Work::Done { count: None, lba: Some(task.lba) },
            _ => return Work::Failed(error::ABRT),
        }
        Work::Done { count: None, lba: None }
    }
}

impl AtaState {
    fn new(info: &DiskInfo) -> Self {
        Self {
            write_cache: info.writeback,
            look_ahead: true,
            smart: true,
            multiple: MOST_MULTIPLE,
            mode: identify::DEFAULT_MODE,
            queued_error: None,
        }
    }
}

/// Commands with 48-bit addresses.
fn is_wide(code: u8) -> bool {
    use command::*;
    matches!(
        code,
        READ_SECTORS_EXT
            | READ_DMA_EXT
            | READ_MULTIPLE_EXT
            | WRITE_SECTORS_EXT
            | WRITE_DMA_EXT
            | WRITE_MULTIPLE_EXT
            | WRITE_DMA_FUA_EXT
            | WRITE_MULTIPLE_FUA_EXT
            | READ_VERIFY_EXT
    )
}

/// PIO default or with flow control to 4, multiword DMA to 2, Ultra DMA to 6.
fn is_mode(mode: u8) -> bool {
    matches!(mode, 0x00 | 0x01 | 0x08..=0x0c | 0x20..=0x22 | 0x40..=0x46)
}
