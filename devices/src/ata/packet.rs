//! [`Packets`]: a CD-ROM drive behind the PACKET command (SFF-8020i, MMC-6 annex A).

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::disk::{AtaIdentity, TaskFile, Work};
use super::identify;
use super::spec::{command, error};
use crate::scsi::{Cdb, LogicalUnit, Outcome, Sense, Transfer, UnitState, op};
use crate::sync::Lock;

/// The guest-visible state of the drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PacketState {
    unit: UnitState,
    sense: Sense,
    mode: u8,
}

/// What a packet needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PacketWork {
    Done,
    /// Bytes for the host.
    Reply(Vec<u8>),
    Transfer(Transfer),
    /// What the error register says: the sense key and the reason.
    Failed(u8),
}

/// A logical unit as an ATAPI device.
pub struct Packets {
    unit: Arc<LogicalUnit>,
    identity: AtaIdentity,
    state: Mutex<State>,
}

struct State {
    /// Of the last command, until REQUEST SENSE asks for it.
    sense: Sense,
    mode: u8,
}

impl State {
    const RESET: Self = Self { sense: Sense::NONE, mode: identify::DEFAULT_MODE };
}

impl Packets {
    #[must_use]
    pub fn new(unit: Arc<LogicalUnit>, identity: AtaIdentity) -> Self {
        Self { unit, identity, state: Mutex::new(State::RESET) }
    }

    pub(crate) fn unit(&self) -> &Arc<LogicalUnit> {
        &self.unit
    }

    pub(crate) fn reset(&self) {
        *self.state.hold() = State::RESET;
        self.unit.reset();
    }

    pub(crate) fn save(&self) -> PacketState {
        let state = self.state.hold();
        PacketState { unit: self.unit.save(), sense: state.sense, mode: state.mode }
    }

    pub(crate) fn restore(&self, saved: &PacketState) {
        self.unit.restore(&saved.unit);
        *self.state.hold() = State { sense: saved.sense, mode: saved.mode };
    }

    /// A command that is no packet.
    pub(crate) fn execute(&self, task: &TaskFile) -> Work {
        use command::*;
        let done = Work::Done { count: None, lba: None };
        match task.command {
            IDENTIFY_PACKET => {
                Work::Input(identify::packet(&self.identity, self.state.hold().mode))
            }
            SET_FEATURES if task.features as u8 == 3 => {
                self.state.hold().mode = task.count as u8;
                done
            }
            SET_FEATURES if matches!(task.features as u8, 0x66 | 0xcc) => done,
            FLUSH | STANDBY_IMMEDIATE..=0xe3 | SLEEP => done,
            CHECK_POWER => Work::Done { count: Some(0xff), lba: None },
            _ => Work::Failed(error::ABRT),
        }
    }

    pub(crate) fn packet(&self, packet: &[u8]) -> PacketWork {
        let cdb = Cdb::new(packet);
        if cdb.opcode() == op::REQUEST_SENSE {
            let sense = std::mem::replace(&mut self.state.hold().sense, Sense::NONE);
            if sense != Sense::NONE {
                let mut data = sense.fixed().to_vec();
                data.truncate(packet.get(4).copied().unwrap_or(0).into());
                return PacketWork::Reply(data);
            }
        }
        // No packet here comes with data of the host.
        match self.unit.execute(&cdb, &mut |_| false) {
            Ok(Outcome::Done) => {
                self.state.hold().sense = Sense::NONE;
                PacketWork::Done
            }
            Ok(Outcome::Reply(data)) => {
                self.state.hold().sense = Sense::NONE;
                PacketWork::Reply(data)
            }
            Ok(Outcome::Transfer(transfer)) => PacketWork::Transfer(transfer),
            Err(sense) => PacketWork::Failed(self.failed(sense)),
        }
    }

    /// Note why a packet failed; what the error register says comes back.
    pub(crate) fn failed(&self, sense: Sense) -> u8 {
        self.state.hold().sense = sense;
        sense.key << 4 | error::ABRT
    }

    pub(crate) fn succeeded(&self) {
        self.state.hold().sense = Sense::NONE;
    }
}
