//! [`Drive`]: what a host adapter has on one of its places.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::disk::{AtaDisk, AtaState};
use super::packet::{PacketState, Packets};
use crate::backend::Disk;
use crate::backend::lane::Meter;

pub enum Drive {
    Disk(AtaDisk),
    Packets(Packets),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DriveState {
    Disk(AtaState),
    Packets(PacketState),
}

impl Drive {
    /// A number that changes with the medium, the medium, and what counts its use.
    pub(crate) fn medium(&self) -> (u64, Option<Arc<dyn Disk>>, Arc<Meter>) {
        match self {
            Self::Disk(disk) => (0, Some(disk.disk().clone()), disk.meter().clone()),
            Self::Packets(packets) => {
                let (generation, disk) = packets.unit().medium();
                (generation, disk, packets.unit().meter().clone())
            }
        }
    }

    /// `kick` the engine when the medium was exchanged.
    pub(crate) fn follow(&self, kick: &Arc<EventFd>) {
        if let Self::Packets(packets) = self {
            let kick = kick.clone();
            packets.unit().on_exchange(move || _ = kick.write(1));
        }
    }

    pub(crate) fn reset(&self) {
        match self {
            Self::Disk(disk) => disk.reset(),
            Self::Packets(packets) => packets.reset(),
        }
    }

    pub(crate) fn save(&self) -> DriveState {
        match self {
            Self::Disk(disk) => DriveState::Disk(disk.save()),
            Self::Packets(packets) => DriveState::Packets(packets.save()),
        }
    }

    /// Take on what was saved of a place; false when that had another kind of drive.
    pub(crate) fn take_state(drive: Option<&Self>, state: Option<&DriveState>) -> bool {
        match (drive, state) {
            (None, None) => {}
            (Some(Self::Disk(disk)), Some(DriveState::Disk(state))) => disk.restore(state),
            (Some(Self::Packets(packets)), Some(DriveState::Packets(state))) => {
                packets.restore(state);
            }
            _ => return false,
        }
        true
    }
}
