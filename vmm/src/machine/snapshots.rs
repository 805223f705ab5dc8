//! Internal snapshots of a guest's disks, all of them at one moment of the guest.
//!
//! ```text
//! vCPUs parked ─▶ devices of these disks drained ─▶ one snapshot after the other ─▶ go on
//!                                                    └ one cannot be: those before it are deleted
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use image::ImageError;
use image::qcow2::{NewSnapshot, Qcow2, SnapshotRef};

use super::{Machine, MachineError};

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("there is no disk {id:?} that is made of image files")]
    NoDisk { id: String },
    #[error("disk {id:?} is named twice")]
    Twice { id: String },
    #[error("disk {id:?} is not a qcow2 image that is written to, which alone has snapshots in it")]
    NoQcow2 { id: String },
    #[error("disk {id:?}: {}", source.in_full())]
    Image { id: String, source: ImageError },
    /// Also what was made before it is still there.
    #[error("disk {id:?}: {}; the snapshots of {left:?} stay", source.in_full())]
    Left { id: String, source: ImageError, left: Vec<String> },
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl Machine {
    /// Keep disks as they are at one moment in snapshots called `name`; `date` since 1970.
    ///
    /// # Errors
    /// When one of them cannot have such a snapshot; then none has.
    pub fn snapshot_disks(
        &mut self,
        ids: &[String],
        name: &str,
        date: Duration,
    ) -> Result<(), SnapshotError> {
        self.check_snapshot_disks(ids)?;
        self.while_still(ids.iter().map(|id| &**id), |machine| {
            let vm_clock = Duration::from_nanos(machine.clock()?);
            let new = NewSnapshot { name: name.to_owned(), date, vm_clock };
            let mut made: Vec<&String> = Vec::new();
            for id in ids {
                match machine.qcow2(id)?.create_snapshot(&new) {
                    Ok(_) => made.push(id),
                    Err(source) => return Err(machine.undo(made, name, id.clone(), source)),
                }
            }
            Ok(())
        })
    }

    /// Delete the snapshots called `name` of these disks, where there is one.
    ///
    /// # Errors
    /// When one cannot be deleted. Those of the disks before it are gone.
    pub fn delete_disk_snapshots(
        &mut self,
        ids: &[String],
        name: &str,
    ) -> Result<(), SnapshotError> {
        self.check_snapshot_disks(ids)?;
        self.while_still(ids.iter().map(|id| &**id), |machine| {
            ids.iter().try_for_each(|id| {
                let deleted = delete(machine.qcow2(id)?, name);
                deleted.map_err(|source| SnapshotError::Image { id: id.clone(), source })
            })
        })
    }

    fn undo(
        &self,
        made: Vec<&String>,
        name: &str,
        id: String,
        source: ImageError,
    ) -> SnapshotError {
        let stays = |id: &&String| {
            let deleted = self.qcow2(id).map(|disk| delete(disk, name));
            !matches!(deleted, Ok(Ok(())))
        };
        let left: Vec<String> = made.into_iter().filter(stays).cloned().collect();
        match left.is_empty() {
            true => SnapshotError::Image { id, source },
            false => SnapshotError::Left { id, source, left },
        }
    }

    /// Before the guest is stopped for them.
    fn check_snapshot_disks(&self, ids: &[String]) -> Result<(), SnapshotError> {
        let mut seen = BTreeSet::new();
        for id in ids {
            if !seen.insert(id) {
                return Err(SnapshotError::Twice { id: id.clone() });
            }
            self.qcow2(id)?;
        }
        Ok(())
    }

    fn qcow2(&self, id: &str) -> Result<&Qcow2, SnapshotError> {
        let images = self.parts.images.get(id);
        let images = images.ok_or_else(|| SnapshotError::NoDisk { id: id.to_owned() })?;
        images.qcow2().ok_or_else(|| SnapshotError::NoQcow2 { id: id.to_owned() })
    }

    /// Nanoseconds that the guest has run.
    fn clock(&self) -> Result<u64, SnapshotError> {
        let clock = match self.stopped_clock {
            Some(clock) => clock,
            None => self.vm.clock().map_err(MachineError::from)?,
        };
        Ok(clock.0)
    }
}

/// One that is not there is deleted.
fn delete(disk: &Qcow2, name: &str) -> Result<(), ImageError> {
    if !disk.snapshots()?.iter().any(|snapshot| snapshot.name == name) {
        return Ok(());
    }
    disk.delete_snapshot(SnapshotRef::Name(name)).map(drop)
}
