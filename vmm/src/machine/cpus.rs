//! [`Cpus`]: all vCPUs of a machine, moved together.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use arch::registers::Entry as BootEntry;
use devices::chipset::Processors;

use super::MachineError;
use crate::kvm::{Entry, KvmError, Vcpu, VcpuState};
use crate::vcpu::{Handle, VcpuError};

/// A vCPU leaves the guest in microseconds; only a host in deep trouble takes seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Each vCPU has its thread from the beginning, since a confined process starts none; that of one that is
/// not there stays parked.
pub struct Cpus {
    handles: Vec<Handle>,
    /// Which of them the guest has; none where it has all, for good.
    processors: Option<Arc<Processors>>,
    /// Each vCPU as it was created, for resets.
    fresh: Vec<VcpuState>,
    /// MSRs that make up a vCPU's state on this host.
    msrs: Vec<u32>,
}

impl Cpus {
    pub(crate) fn new(
        handles: Vec<Handle>,
        processors: Option<Arc<Processors>>,
        msrs: Vec<u32>,
    ) -> Result<Self, MachineError> {
        let mut cpus = Self { handles, processors, fresh: Vec::new(), msrs };
        cpus.fresh = cpus.save()?;
        Ok(cpus)
    }

    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    pub(super) fn run(&self) {
        for (index, handle) in (0u16..).zip(&self.handles) {
            if self.is_present(index) {
                handle.run();
            }
        }
    }

    pub(super) fn is_present(&self, index: u16) -> bool {
        self.processors.as_ref().is_none_or(|processors| processors.is_present(index))
    }

    pub(super) fn processors(&self) -> Option<&Arc<Processors>> {
        self.processors.as_ref()
    }

    /// The set of those that are there.
    pub(super) fn present(&self) -> Option<u64> {
        self.processors.as_ref().map(|processors| processors.present())
    }

    pub(super) fn count(&self) -> u16 {
        let all = u16::try_from(self.handles.len()).unwrap_or(u16::MAX);
        self.processors.as_ref().map_or(all, |processors| processors.count())
    }

    /// Make the parked vCPU `index` one that waits for the guest to wake it; with what firmware would
    /// have set, where the guest had none.
    pub(super) fn start_over(&self, index: u16, firmware: bool) -> Result<(), MachineError> {
        let at = usize::from(index);
        let (Some(handle), Some(fresh)) = (self.handles.get(at), self.fresh.get(at)) else {
            return Err(VcpuError::Gone { index }.into());
        };
        let fresh = fresh.clone();
        wait(
            index,
            &handle.work(move |vcpu| {
                vcpu.start_over(&fresh)?;
                if firmware {
                    return Ok(());
                }
                vcpu.set_power_on_msrs(&arch::msr::direct_boot())
            }),
        )
    }

    /// Let vCPU `index` into the guest.
    pub(super) fn run_one(&self, index: u16) {
        if let Some(handle) = self.handles.get(usize::from(index)) {
            handle.run();
        }
    }

    /// Have vCPU `index` out of the guest.
    pub(super) fn park_one(&self, index: u16) -> Result<(), MachineError> {
        let Some(handle) = self.handles.get(usize::from(index)) else { return Ok(()) };
        handle.park();
        wait(index, &handle.work(|_| Ok(())))
    }

    /// Returns when every vCPU is out of the guest and its registers are settled.
    pub(super) fn park(&self) -> Result<(), MachineError> {
        for handle in &self.handles {
            handle.park();
        }
        self.each(|_, _| Ok(())).map(drop)
    }

    pub(super) fn save(&self) -> Result<Vec<VcpuState>, MachineError> {
        let msrs = self.msrs.clone();
        self.each(move |_, vcpu| vcpu.save(&msrs))
    }

    pub(super) fn restore(&self, states: &[VcpuState]) -> Result<(), MachineError> {
        if states.len() != self.handles.len() {
            return Err(KvmError::State { what: "vCPU" }.into());
        }
        let states = states.to_vec();
        self.each(move |index, vcpu| vcpu.restore(&states[index])).map(drop)
    }

    /// What guests cannot change, on vCPUs that have not run.
    pub(super) fn adopt(&self, states: &[VcpuState]) -> Result<(), MachineError> {
        if states.len() != self.handles.len() {
            return Err(KvmError::State { what: "vCPU" }.into());
        }
        let states = states.to_vec();
        self.each(move |index, vcpu| vcpu.adopt(&states[index])).map(drop)
    }

    /// Back to how they were created.
    pub(super) fn reset(&self) -> Result<(), MachineError> {
        self.restore(&self.fresh)
    }

    /// The first vCPU is to start at `entry`; the others wait for it to wake them, but have the
    /// MSRs that firmware would have set.
    pub(super) fn enter_at(&self, entry: BootEntry) -> Result<(), MachineError> {
        self.each(move |index, vcpu| {
            let sregs = vcpu.system_registers()?;
            let msrs = arch::msr::direct_boot();
            if index > 0 {
                return vcpu.set_power_on_msrs(&msrs);
            }
            let (regs, sregs) = entry.registers(&sregs);
            vcpu.enter_at(&Entry { regs, sregs, msrs })
        })
        .map(drop)
    }

    pub(super) fn inject_nmi(&self) -> Result<(), MachineError> {
        self.each(|_, vcpu| vcpu.inject_nmi()).map(drop)
    }

    /// Where the first vCPU's page tables lead from each of these addresses.
    pub(super) fn translate(&self, linear: Vec<u64>) -> Result<Vec<Option<u64>>, MachineError> {
        let Some(handle) = self.handles.first() else {
            return Err(VcpuError::Gone { index: 0 }.into());
        };
        let all = move |vcpu: &mut Vcpu| {
            Ok(linear.iter().map(|address| vcpu.translate(*address)).collect())
        };
        wait(0, &handle.work(all))
    }

    /// Tell the guest's watchdogs that time was taken from it, not lost by it.
    pub(super) fn excuse_pause(&self) {
        // Fails for guests without kvmclock, which have nothing to be told by.
        let _ = self.each(|_, vcpu| {
            vcpu.excuse_pause();
            Ok(())
        });
    }

    /// Have every vCPU's thread do `work`, all at once.
    fn each<T: Send + 'static>(
        &self,
        work: impl Fn(usize, &mut Vcpu) -> Result<T, KvmError> + Clone + Send + 'static,
    ) -> Result<Vec<T>, MachineError> {
        let ask = |(index, handle): (usize, &Handle)| {
            let work = work.clone();
            handle.work(move |vcpu| work(index, vcpu))
        };
        let results: Vec<Receiver<_>> = self.handles.iter().enumerate().map(ask).collect();
        let results = (0u16..).zip(&results);
        results.map(|(index, result)| wait(index, result)).collect()
    }
}

/// What vCPU `index` answers.
fn wait<T>(index: u16, result: &Receiver<Result<T, KvmError>>) -> Result<T, MachineError> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    match result.recv_timeout(PATIENCE) {
        Ok(result) => Ok(result?),
        Err(Timeout) => {
            let (index, seconds) = (index.into(), PATIENCE.as_secs());
            Err(MachineError::Stuck { index, seconds })
        }
        Err(Disconnected) => Err(VcpuError::Gone { index }.into()),
    }
}
