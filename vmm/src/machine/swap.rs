//! Disks that are made of other images while the guest runs, which does not notice.
//!
//! ```text
//! vCPUs parked ─▶ devices of these disks drained ─▶ every new chain opened ─▶ all put ─▶ go on
//!                                                     └ one cannot be: none is put, go on
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use devices::component::Component;
use vmm_protocol::control::{DiskSwap, SwapLayer};

use super::{Machine, MachineError};
use crate::build::{BuildError, Layer, Prepared};
use crate::process::Files;

#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    #[error("there is no disk {id:?} that is made of image files")]
    NoDisk { id: String },
    #[error("disk {id:?} is to be exchanged twice at once")]
    Twice { id: String },
    #[error("disk {id:?} has {count} images, and image {wanted} of them is to be kept")]
    NoLayer { id: String, count: usize, wanted: u16 },
    #[error("disk {id:?} has a block job; wait for its end, or abort it")]
    Busy { id: String },
    #[error("disk {id:?} is being backed up; wait for the end of the backup, or abort it")]
    BackedUp { id: String },
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl Machine {
    /// Make disks of other images, all of them at one moment of the guest. Descriptors are numbers of
    /// `files`.
    ///
    /// # Errors
    /// When there is no such disk, or it would be another one to the guest; nothing has changed then.
    pub fn swap_disks(&mut self, swaps: &[DiskSwap], mut files: Files) -> Result<(), SwapError> {
        let chains = self.chains(swaps, &mut files)?;
        self.while_still(swaps.iter().map(|swap| &*swap.id), |machine| machine.exchange(chains))
    }

    /// What each disk is to be made of.
    fn chains(
        &mut self,
        swaps: &[DiskSwap],
        files: &mut Files,
    ) -> Result<Vec<(String, Vec<Layer>)>, SwapError> {
        let mut seen = BTreeSet::new();
        let mut chains = Vec::new();
        for DiskSwap { id, layers } in swaps {
            let images = self.parts.images.get(id);
            let there = images.ok_or_else(|| SwapError::NoDisk { id: id.clone() })?.layers();
            if !seen.insert(id) {
                return Err(SwapError::Twice { id: id.clone() });
            }
            if self.has_block_job(Some(id)) {
                return Err(SwapError::Busy { id: id.clone() });
            }
            if self.parts.backups.reads(id) {
                return Err(SwapError::BackedUp { id: id.clone() });
            }
            let there = there.to_vec();
            chains.push((id.clone(), self.layers(id, layers, &there, files)?));
        }
        Ok(chains)
    }

    /// The images of a disk that is made of `there` now.
    pub(super) fn layers(
        &mut self,
        id: &str,
        wanted: &[SwapLayer],
        there: &[Layer],
        files: &mut Files,
    ) -> Result<Vec<Layer>, SwapError> {
        let layer = |layer: &SwapLayer| match layer {
            SwapLayer::Kept(wanted) => {
                let kept = there.get(usize::from(*wanted)).cloned();
                let (count, wanted) = (there.len(), *wanted);
                kept.ok_or_else(|| SwapError::NoLayer { id: id.to_owned(), count, wanted })
            }
            SwapLayer::New(layer) => {
                Ok(self.ground.layer(id, layer, files, &self.vm, &mut self.parts)?)
            }
        };
        wanted.iter().map(layer).collect()
    }

    /// Do `work` while no request of these disks is in flight, and none can come.
    pub(super) fn while_still<'a, T, E: From<MachineError>>(
        &mut self,
        disks: impl IntoIterator<Item = &'a str>,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // A paused machine's devices are drained already, and stay so.
        if self.stopped_clock.is_some() {
            return work(self);
        }
        self.cpus.park()?;
        let owners: BTreeSet<_> =
            disks.into_iter().filter_map(|id| self.ground.owner(id)).collect();
        let components = self.parts.components.iter();
        let devices: Vec<Arc<dyn Component>> =
            components.filter(|it| owners.contains(it.id())).cloned().collect();
        devices.iter().for_each(|device| device.pause());
        let result = work(self);
        devices.iter().for_each(|device| device.resume());
        // Who stopped by itself meanwhile is dealt with by the bell that it rang.
        if !self.has_stop() {
            self.cpus.run();
        }
        result
    }

    fn exchange(&mut self, chains: Vec<(String, Vec<Layer>)>) -> Result<(), SwapError> {
        let mut prepared: Vec<(String, Prepared)> = Vec::new();
        for (id, layers) in chains {
            let images = self.parts.images.get(&id);
            let images = images.ok_or_else(|| SwapError::NoDisk { id: id.clone() })?;
            let ready = images.prepare(layers)?;
            prepared.push((id, ready));
        }
        for (id, ready) in prepared {
            if let Some(images) = self.parts.images.get_mut(&id) {
                images.put(ready);
                images.tell_writing();
            }
        }
        Ok(())
    }
}
