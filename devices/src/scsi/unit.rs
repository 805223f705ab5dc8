//! [`LogicalUnit`]: a disk or a CD-ROM drive, its medium, and the state that its initiator sees.
//!
//! ```text
//! drive: closed, medium ─eject→ open ─load→ closed   (the guest's eject, unless it locked the door)
//!        closed, empty  ─load(disk)→ closed, medium  (the host's change: UNIT ATTENTION follows)
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use super::block::{self, Transfer};
use super::cdb::{Cdb, op};
use super::sense::Sense;
use super::{inquiry, mmc, mode};
use crate::backend::lane::Meter;
use crate::backend::{Disk, DiskInfo};
use crate::sync::Lock;

/// Attentions that are kept for an initiator which does not fetch them.
const MOST_ATTENTIONS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    Disk,
    Cdrom,
}

/// What a unit says that it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// At most 8 bytes.
    pub vendor: String,
    /// At most 16 bytes.
    pub product: String,
    pub serial: String,
    /// A 64-bit NAA name.
    pub wwn: Option<u64>,
    /// Rotations per minute; 1: solid state; 0: not reported.
    pub rotation_rate: u16,
    pub removable: bool,
}

/// What the transport has to do for a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Bytes for the initiator, as many as it asked for at most.
    Reply(Vec<u8>),
    Transfer(Transfer),
}

/// The guest has locked the door of its drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest has locked the medium in its drive")]
pub struct MediumLocked;

/// The guest-visible state of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    pub(super) attentions: VecDeque<Sense>,
    pub(super) locked: bool,
    pub(super) tray_open: bool,
    /// Writes may complete before they are durable.
    pub(super) write_cache: bool,
    /// What GET EVENT STATUS NOTIFICATION tells next.
    pub(super) event: mmc::MediaEvent,
}

struct Slot {
    disk: Option<Arc<dyn Disk>>,
    /// Raised with each change, so that users of the old medium notice.
    generation: u64,
}

pub struct LogicalUnit {
    kind: UnitKind,
    identity: Identity,
    meter: Arc<Meter>,
    slot: Mutex<Slot>,
    state: Mutex<UnitState>,
    exchanged: OnceLock<Box<dyn Fn() + Send + Sync>>,
    tray_moved: OnceLock<Box<dyn Fn(bool) + Send + Sync>>,
}

impl LogicalUnit {
    #[must_use]
    pub fn new(
        kind: UnitKind,
        identity: Identity,
        disk: Option<Arc<dyn Disk>>,
        meter: Arc<Meter>,
    ) -> Self {
        let write_cache = disk.as_ref().is_some_and(|disk| disk.info().writeback);
        let slot = Mutex::new(Slot { disk, generation: 0 });
        Self {
            kind,
            identity,
            meter,
            slot,
            state: Mutex::new(UnitState::new(write_cache)),
            exchanged: OnceLock::new(),
            tray_moved: OnceLock::new(),
        }
    }

    /// `hear` that the medium was exchanged: for the adapter, which lets the old one go. Only the
    /// first who asks is told, on any thread.
    pub(crate) fn on_exchange(&self, hear: impl Fn() + Send + Sync + 'static) {
        let _ = self.exchanged.set(Box::new(hear));
    }

    /// `hear` that the tray has opened (true) or closed, whoever did it. Only the first who asks is
    /// told, on any thread.
    pub fn on_tray(&self, hear: impl Fn(bool) + Send + Sync + 'static) {
        let _ = self.tray_moved.set(Box::new(hear));
    }

    #[must_use]
    pub fn kind(&self) -> UnitKind {
        self.kind
    }

    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The medium, and a number that changes with it.
    #[must_use]
    pub fn medium(&self) -> (u64, Option<Arc<dyn Disk>>) {
        let slot = self.slot.hold();
        (slot.generation, slot.disk.clone())
    }

    /// Close the drive with `disk` in it.
    pub fn load(&self, disk: Arc<dyn Disk>) {
        self.exchange(Some(disk));
        self.change(|state| {
            state.tray_open = false;
            state.event = mmc::MediaEvent::New;
            state.attend(Sense::MEDIUM_CHANGED);
        });
    }

    /// Take the medium out of the drive, which stays open.
    ///
    /// # Errors
    /// When the guest has locked the drive; with `force` it only hears of it.
    pub fn eject(&self, force: bool) -> Result<(), MediumLocked> {
        self.change(|state| {
            // An open tray holds nothing any more, whatever the guest said before it opened.
            if state.locked && !state.tray_open && !force {
                state.event = mmc::MediaEvent::EjectRequest;
                return Err(MediumLocked);
            }
            state.locked = false;
            state.tray_open = true;
            state.event = mmc::MediaEvent::Removal;
            Ok(())
        })?;
        self.exchange(None);
        Ok(())
    }

    fn exchange(&self, disk: Option<Arc<dyn Disk>>) {
        {
            let mut slot = self.slot.hold();
            slot.disk = disk;
            slot.generation += 1;
        }
        if let Some(hear) = self.exchanged.get() {
            hear();
        }
    }

    /// Change the state; who listens hears of a tray that moved.
    fn change<R>(&self, act: impl FnOnce(&mut UnitState) -> R) -> R {
        let (result, moved) = {
            let mut state = self.state.hold();
            let before = state.tray_open;
            let result = act(&mut state);
            (result, (state.tray_open != before).then_some(state.tray_open))
        };
        if let (Some(open), Some(hear)) = (moved, self.tray_moved.get()) {
            hear(open);
        }
        result
    }

    /// The disk has another size now.
    pub fn resized(&self) {
        self.attend(Sense::CAPACITY_CHANGED);
    }

    /// The initiator hears of `sense` before its next command.
    pub fn attend(&self, sense: Sense) {
        self.state.hold().attend(sense);
    }

    /// Back to the state after power-on.
    pub fn reset(&self) {
        let write_cache = self.medium().1.is_some_and(|disk| disk.info().writeback);
        self.change(|state| *state = UnitState::new(write_cache));
    }

    #[must_use]
    pub fn save(&self) -> UnitState {
        self.state.hold().clone()
    }

    pub fn restore(&self, saved: &UnitState) {
        let mut saved = saved.clone();
        saved.attentions.truncate(MOST_ATTENTIONS);
        self.change(|state| *state = saved);
    }

    /// Begin a command. `parameters` fills its argument with the first bytes that the initiator
    /// sends along; false when there are fewer.
    ///
    /// # Errors
    /// What makes the command end in CHECK CONDITION.
    pub fn execute(
        &self,
        cdb: &Cdb,
        parameters: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<Outcome, Sense> {
        let result = self.dispatch(cdb, parameters);
        if result.as_ref().is_err_and(|sense| !sense.is_attention()) {
            self.meter.refuse();
        }
        result
    }

    fn dispatch(
        &self,
        cdb: &Cdb,
        parameters: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<Outcome, Sense> {
        // SPC-4 §5.14 and MMC-6 §4.1.6.1: these are answered whatever attention waits.
        match cdb.opcode() {
            op::INQUIRY => return inquiry::inquiry(self, cdb),
            op::REPORT_LUNS => {
                return reply(vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], cdb.be32(6));
            }
            op::REQUEST_SENSE => return self.request_sense(cdb),
            op::GET_CONFIGURATION if self.kind == UnitKind::Cdrom => {
                return mmc::get_configuration(self, cdb);
            }
            op::GET_EVENT_STATUS if self.kind == UnitKind::Cdrom => {
                return mmc::get_event_status(self, cdb);
            }
            _ => {}
        }
        if let Some(attention) = self.state.hold().attentions.pop_front() {
            return Err(attention);
        }
        match cdb.opcode() {
            op::TEST_UNIT_READY => self.info().map(|_| Outcome::Done),
            op::MODE_SENSE_6 | op::MODE_SENSE_10 => mode::sense(self, cdb),
            op::START_STOP => self.start_stop(cdb),
            op::PREVENT_ALLOW => {
                self.state.hold().locked = cdb.has(4, 1);
                Ok(Outcome::Done)
            }
            // One initiator: reservations never conflict.
            op::RESERVE_6 | op::RELEASE_6 | op::RESERVE_10 | op::RELEASE_10 => Ok(Outcome::Done),
            // SelfTest, without parameters.
            op::SEND_DIAGNOSTIC if cdb.be16(3) == 0 => Ok(Outcome::Done),
            _ => match self.kind {
                UnitKind::Disk => block::execute(self, cdb, parameters),
                UnitKind::Cdrom => mmc::execute(self, cdb),
            },
        }
    }

    fn request_sense(&self, cdb: &Cdb) -> Result<Outcome, Sense> {
        // Descriptor format is not provided.
        if cdb.has(1, 1) {
            return Err(Sense::FIELD);
        }
        let waiting = self.state.hold().attentions.pop_front();
        reply(waiting.unwrap_or(Sense::NONE).fixed().to_vec(), cdb.byte(4).into())
    }

    fn start_stop(&self, cdb: &Cdb) -> Result<Outcome, Sense> {
        let (power_condition, loej, start) = (cdb.byte(4) >> 4, cdb.has(4, 2), cdb.has(4, 1));
        let removable = self.identity.removable || self.kind == UnitKind::Cdrom;
        if power_condition != 0 || !loej || !removable {
            return Ok(Outcome::Done);
        }
        let present = self.slot.hold().disk.is_some();
        self.change(|state| {
            if start {
                if std::mem::take(&mut state.tray_open) && present {
                    state.event = mmc::MediaEvent::New;
                    state.attend(Sense::MEDIUM_CHANGED);
                }
            } else if state.locked {
                return Err(Sense::REMOVAL_PREVENTED);
            } else {
                state.tray_open = true;
                state.event = mmc::MediaEvent::Removal;
            }
            Ok(Outcome::Done)
        })
    }

    /// What the medium is, if there is one.
    pub(super) fn info(&self) -> Result<DiskInfo, Sense> {
        if self.state.hold().tray_open {
            return Err(Sense::TRAY_OPEN);
        }
        self.slot.hold().disk.as_ref().map(|disk| disk.info()).ok_or(Sense::NO_MEDIUM)
    }

    pub(super) fn with_state<R>(&self, act: impl FnOnce(&mut UnitState) -> R) -> R {
        act(&mut self.state.hold())
    }
}

impl UnitState {
    fn new(write_cache: bool) -> Self {
        Self {
            attentions: VecDeque::from([Sense::RESET]),
            locked: false,
            tray_open: false,
            write_cache,
            event: mmc::MediaEvent::None,
        }
    }

    pub(super) fn attend(&mut self, sense: Sense) {
        if !self.attentions.contains(&sense) && self.attentions.len() < MOST_ATTENTIONS {
            self.attentions.push_back(sense);
        }
    }
}

/// `data`, cut off at the length that the initiator has allocated for it.
pub(super) fn reply(mut data: Vec<u8>, allocated: u32) -> Result<Outcome, Sense> {
    data.truncate(allocated as usize);
    Ok(Outcome::Reply(data))
}
