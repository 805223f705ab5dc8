//! [`Machine`]: a built machine, and what one can do with it as a whole.
//!
//! ```text
//! built ─▶ parked ⇄ running        vCPUs in or out of the guest
//!            │ ▲
//!      pause ▼ │ resume            devices drained, queues handed back
//!          paused ── save
//! ```
//! Everything here is called by one thread (the process's main loop) and returns when it is done.

mod backup;
mod block_jobs;
mod cpus;
mod live;
mod media;
mod peek;
mod plug;
mod save;
mod snapshots;
mod statistics;
mod swap;
mod vcpus;

use std::collections::BTreeSet;
use std::sync::Arc;

use devices::component::StateError;
use devices::io_thread::Stop as Finish;
use devices::virtio::balloon::BalloonHandle;
use memory::MemoryError;
use vmm_protocol::control::EventKind;

use crate::build::{Ground, Loader, Parts};
use crate::console::Console;
use crate::kvm::{ChipsState, KvmError, Nanoseconds, Vm};
use crate::state::ImageError;
use crate::vcpu::{Inbox, Stop, VcpuError};

pub use block_jobs::BlockJobError;
pub use cpus::Cpus;
pub use media::MediumError;
pub use peek::PeekError;
pub use snapshots::SnapshotError;
pub use swap::SwapError;
pub use vcpus::VcpusError;

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    #[error("vCPU {index} did not leave the guest within {seconds} s")]
    Stuck { index: usize, seconds: u64 },
    #[error("guest memory could not be cleared")]
    Clear(#[source] MemoryError),
    #[error(transparent)]
    Boot(#[from] boot::BootError),
    #[error("the guest's PCI devices could not be placed")]
    Pci(#[from] devices::pci::PciError),
    #[error("what the guest wrote to disk {id} does not reach its file")]
    Sync { id: String, source: std::io::Error },
    #[error("state of {id} could not be saved or restored")]
    State { id: String, source: StateError },
    #[error(transparent)]
    Image(#[from] ImageError),
}

pub struct Machine {
    // vCPU threads end first: nothing runs while the rest is taken apart.
    cpus: Cpus,
    vm: Vm,
    parts: Parts,
    loader: Loader,
    inbox: Arc<Inbox>,
    ground: Ground,
    /// Devices that the guest was asked to let go of.
    leaving: BTreeSet<String>,
    jobs: block_jobs::Jobs,
    /// The interrupt and timer chips as they were created, for resets.
    fresh_chips: ChipsState,
    /// The guest's clock stands still while the machine is paused.
    stopped_clock: Option<Nanoseconds>,
    /// It was restored, and has not run since.
    restored: bool,
}

impl Machine {
    pub(crate) fn new(
        vm: Vm,
        cpus: Cpus,
        parts: Parts,
        loader: Loader,
        inbox: Arc<Inbox>,
        ground: Ground,
    ) -> Result<Self, MachineError> {
        let fresh_chips = vm.save_chips()?;
        let leaving = BTreeSet::new();
        Ok(Self {
            cpus,
            vm,
            parts,
            loader,
            inbox,
            ground,
            leaving,
            jobs: block_jobs::Jobs::new(),
            fresh_chips,
            stopped_clock: None,
            restored: false,
        })
    }

    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Load the guest and put the first vCPU at its entry: what a cold start does. Firmware starts
    /// where a processor does by itself.
    pub(crate) fn load(&self) -> Result<(), MachineError> {
        match self.loader.place(self.vm.ram(), self.cpus.present())? {
            Some(entry) => self.cpus.enter_at(entry),
            None => Ok(()),
        }
    }

    /// Let the vCPUs out of the guest; devices work on.
    pub fn park(&self) -> Result<(), MachineError> {
        self.cpus.park()
    }

    /// Back into the guest after [`park`](Self::park).
    pub fn unpark(&self) {
        self.cpus.run();
    }

    /// Why vCPUs stopped by themselves, if one did.
    pub fn take_stop(&self) -> Option<Stop> {
        self.inbox.take()
    }

    /// What devices had to tell since the last time.
    pub fn take_notices(&self) -> Vec<EventKind> {
        self.parts.notices.take()
    }

    /// Whether a disk keeps a request that the host failed, and nobody dealt with that.
    pub fn take_disk_stop(&self) -> bool {
        self.parts.notices.take_stop()
    }

    /// Stop the inbox's bell; what is in it stays.
    pub fn quiet_bell(&self) {
        self.inbox.quiet();
    }

    /// Whether a vCPU stopped by itself and nobody dealt with it.
    pub fn has_stop(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Stop everything: vCPUs out of the guest, requests in flight finished.
    pub fn pause(&mut self) -> Result<(), MachineError> {
        self.cpus.park()?;
        for component in &self.parts.components {
            component.pause();
        }
        if self.stopped_clock.is_none() {
            self.stopped_clock = Some(self.vm.clock()?);
        }
        Ok(())
    }

    /// Let everything go on. What the host had failed is tried again.
    pub fn resume(&mut self) -> Result<(), MachineError> {
        self.forget_faults();
        for component in &self.parts.components {
            component.resume();
        }
        if let Some(clock) = self.stopped_clock.take() {
            self.vm.set_clock(clock)?;
            self.cpus.excuse_pause();
        }
        if std::mem::take(&mut self.restored) {
            // Bridges and switches may know it elsewhere, or not at all.
            self.parts.announcements.begin();
        }
        self.cpus.run();
        Ok(())
    }

    /// What disks keep is tried again, or is gone; what they say from now on is about the next time.
    fn forget_faults(&self) {
        self.parts.faults.clear();
        self.parts.notices.take_stop();
    }

    /// Stop for good. Requests in flight are finished, and consoles get what was written to them.
    pub fn shut_down(&mut self) -> Result<(), MachineError> {
        self.cpus.park()?;
        for component in &self.parts.components {
            component.pause();
        }
        for worker in self.parts.console_workers.drain(..) {
            // Fails when its thread is gone, and the output with it.
            let _ = worker.stop(Finish::Deliver);
        }
        self.parts.backups.end();
        self.parts.backups.store();
        Ok(())
    }

    /// Back to power-on, with the guest loaded anew. The vCPUs are parked afterwards, the devices
    /// ready. Devices that the guest was asked to let go of are gone: their names come back.
    pub fn reset(&mut self) -> Result<Vec<String>, MachineError> {
        self.cpus.park()?;
        // Stops that were asked for before are about a guest that is gone.
        let _ = self.inbox.take();
        for component in &self.parts.components {
            component.pause();
        }
        let gone = self.unplug_leaving();
        for component in &self.parts.components {
            component.reset();
        }
        self.forget_faults();
        self.parts.assign_resources()?;
        self.vm.ram().clear().map_err(MachineError::Clear)?;
        self.vm.reset_chips(&self.fresh_chips)?;
        self.cpus.reset()?;
        self.load()?;
        for component in &self.parts.components {
            component.resume();
        }
        self.stopped_clock = None;
        Ok(gone)
    }

    /// Press the power button, for as long as it takes the guest to see it.
    pub fn power_button(&self) {
        self.parts.power_button.press();
    }

    /// A non-maskable interrupt on every vCPU: kernels panic on it, or dump.
    pub fn inject_nmi(&self) -> Result<(), MachineError> {
        self.cpus.inject_nmi()
    }

    pub fn console(&self, id: &str) -> Option<Arc<Console>> {
        self.parts.consoles.get(id).cloned()
    }

    /// Ask the guest's agent to power it off. Whether there is one that was told.
    pub fn ask_agent_to_power_off(&self) -> bool {
        self.parts.consoles.values().any(|console| console.ask_to_power_off())
    }

    /// Ids of the channels that the guest has open.
    pub fn open_channels(&self) -> Vec<String> {
        let open = self.parts.consoles.iter().filter(|(_, console)| console.is_open_channel());
        open.map(|(id, _)| id.clone()).collect()
    }

    /// The way to the guest's balloon, if it has one.
    pub fn balloon(&self) -> Option<&BalloonHandle> {
        self.parts.balloon.as_ref()
    }

    /// Pull or plug an interface's cable; false when there is no such interface.
    pub fn set_link(&self, id: &str, up: bool) -> bool {
        self.parts.links.get(id).map(|set| set(up)).is_some()
    }
}
