//! [`Cpus`]: all vCPUs of a machine, moved together.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use arch::registers::Entry as BootEntry;

use super::MachineError;
use crate::kvm::{Entry, KvmError, Vcpu, VcpuState};
use crate::vcpu::{Handle, VcpuError};

/// A vCPU leaves the guest in microseconds; only a host in deep trouble takes seconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Cpus {
    handles: Vec<Handle>,
    /// Each vCPU as it was created, for resets.
    fresh: Vec<VcpuState>,
    /// MSRs that make up a vCPU's state on this host.
    msrs: Vec<u32>,
}

impl Cpus {
    pub(crate) fn new(handles: Vec<Handle>, msrs: Vec<u32>) -> Result<Self, MachineError> {
        let mut cpus = Self { handles, fresh: Vec::new(), msrs };
        cpus.fresh = cpus.save()?;
        Ok(cpus)
    }

    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    pub(super) fn run(&self) {
        for handle in &self.handles {
            handle.run();
        }
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
        let collect = |(index, result): (usize, Receiver<Result<T, KvmError>>)| {
            use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
            match result.recv_timeout(PATIENCE) {
                Ok(result) => Ok(result?),
                Err(Timeout) => Err(MachineError::Stuck { index, seconds: PATIENCE.as_secs() }),
                Err(Disconnected) => Err(VcpuError::Gone { index: index as u16 }.into()),
            }
        };
        results.into_iter().enumerate().map(collect).collect()
    }
}
