//! vCPUs that come and go while the guest runs.

use super::{Machine, MachineError};
use crate::build::Loader;

#[derive(Debug, thiserror::Error)]
pub enum VcpusError {
    #[error(
        "the guest was started with all its vCPUs, for good: those of a guest whose definition says \
         <vcpu current='…'> can come and go"
    )]
    Fixed,
    #[error("{count} vCPUs: there is at least 1, and there are at most {most}")]
    Count { count: u16, most: usize },
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl Machine {
    /// How many vCPUs the guest has.
    pub fn vcpus(&self) -> u16 {
        self.cpus.count()
    }

    /// Have `count` vCPUs. Those that lack come at once, the lowest first; others, the highest first, the
    /// guest is asked to do without, in place of what it was asked before.
    ///
    /// # Errors
    /// When all of them are there for good, or there cannot be so many.
    pub fn set_vcpus(&mut self, count: u16) -> Result<(), VcpusError> {
        let most = self.cpus.handles().len();
        let processors = self.cpus.processors().ok_or(VcpusError::Fixed)?.clone();
        if count == 0 || usize::from(count) > most {
            return Err(VcpusError::Count { count, most });
        }
        let all = 0..u16::try_from(most).unwrap_or(u16::MAX);
        let (mut present, mut absent): (Vec<u16>, Vec<u16>) =
            all.partition(|index| processors.is_present(*index));
        absent.truncate(usize::from(count).saturating_sub(present.len()));
        let leaving = present.split_off(usize::from(count).min(present.len()));
        for index in present {
            // It stays, should it have been asked to go.
            processors.insert(index);
        }
        let firmware = matches!(self.loader, Loader::Firmware(_));
        for index in absent {
            // It may be on its way out: ejected, but not parked yet.
            self.cpus.park_one(index)?;
            self.cpus.start_over(index, firmware)?;
            if self.stopped_clock.is_none() {
                self.cpus.run_one(index);
            }
            processors.insert(index);
        }
        for index in leaving {
            processors.request_removal(index);
        }
        Ok(())
    }

    /// Park the vCPUs that the guest has ejected.
    ///
    /// # Errors
    /// When one does not leave the guest.
    pub fn park_ejected(&mut self) -> Result<(), MachineError> {
        for index in self.parts.notices.take_ejected() {
            if !self.cpus.is_present(index) {
                self.cpus.park_one(index)?;
            }
        }
        Ok(())
    }
}
