//! [`VcpuState`]: everything KVM knows of a vCPU, read and written in the orders that work.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, Xsave, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use serde::{Deserialize, Serialize};

use super::{KvmError, Vcpu, failed};

/// Time of a vCPU: TSC, and what a guest has adjusted it by.
const CLOCK_MSRS: [u32; 2] = [0x10, 0x3b];
/// Armed only while the LAPIC timer is in deadline mode and the TSC is right: set after the rest.
const MSR_TSC_DEADLINE: u32 = 0x6e0;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VcpuState {
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    /// The extended register area, as long as the host it was saved on needs it.
    xsave: Vec<u8>,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    /// Index and value.
    msrs: Vec<(u32, u64)>,
    events: kvm_vcpu_events,
    cpuid: Vec<kvm_cpuid_entry2>,
    /// Zero when the host does not say.
    tsc_khz: u32,
}

impl VcpuState {
    /// What its guest was told of its processor.
    pub fn cpuid(&self) -> &[kvm_cpuid_entry2] {
        &self.cpuid
    }

    pub fn registers(&self) -> &kvm_regs {
        &self.regs
    }

    pub fn system_registers(&self) -> &kvm_sregs {
        &self.sregs
    }

    /// Zero if it was not saved.
    pub fn msr(&self, index: u32) -> u64 {
        self.msrs.iter().find(|(found, _)| *found == index).map_or(0, |(_, value)| *value)
    }
}

impl Vcpu {
    /// Read the whole state. All vCPUs are parked and settled.
    pub fn save(&self, msrs: &[u32]) -> Result<VcpuState, KvmError> {
        let fd = &self.fd;
        Ok(VcpuState {
            // First: reading it makes KVM take pending INITs and SIPIs, which changes the rest.
            mp_state: fd.get_mp_state().map_err(failed("read a vCPU's run state"))?,
            regs: self.registers()?,
            sregs: self.system_registers()?,
            xsave: self.save_xsave()?,
            xcrs: fd.get_xcrs().map_err(failed("read the extended control registers"))?,
            debug: fd.get_debug_regs().map_err(failed("read the debug registers"))?,
            lapic: fd.get_lapic().map_err(failed("read the local APIC"))?,
            tsc_khz: fd.get_tsc_khz().unwrap_or(0),
            cpuid: self.cpuid()?,
            msrs: self.save_msrs(msrs)?,
            // Last: what is pending depends on everything above having been read.
            events: fd.get_vcpu_events().map_err(failed("read the pending events"))?,
        })
    }

    /// Take on what a guest cannot change: only before the vCPU first runs, and before
    /// [`restore`](Self::restore).
    pub fn adopt(&self, state: &VcpuState) -> Result<(), KvmError> {
        let fd = &self.fd;
        let cpuid =
            CpuId::from_entries(&state.cpuid).map_err(|_| KvmError::State { what: "CPUID" })?;
        self.set_cpuid(&cpuid)?;
        if state.tsc_khz != 0 && fd.get_tsc_khz().is_ok_and(|khz| khz != state.tsc_khz) {
            fd.set_tsc_khz(state.tsc_khz).map_err(failed("run at the saved TSC frequency"))?;
        }
        Ok(())
    }

    /// Take on a saved state.
    pub fn restore(&self, state: &VcpuState) -> Result<(), KvmError> {
        let fd = &self.fd;
        fd.set_mp_state(state.mp_state).map_err(failed("set a vCPU's run state"))?;
        fd.set_regs(&state.regs).map_err(failed("set the registers"))?;
        fd.set_sregs(&state.sregs).map_err(failed("set the system registers"))?;
        self.restore_xsave(&state.xsave)?;
        fd.set_xcrs(&state.xcrs).map_err(failed("set the extended control registers"))?;
        fd.set_debug_regs(&state.debug).map_err(failed("set the debug registers"))?;
        fd.set_lapic(&state.lapic).map_err(failed("set the local APIC"))?;
        let entry = |&(index, data): &(u32, u64)| kvm_msr_entry { index, data, reserved: 0 };
        let (deadline, others): (Vec<_>, Vec<_>) =
            state.msrs.iter().map(entry).partition(|msr| msr.index == MSR_TSC_DEADLINE);
        self.set_msrs(&others)?;
        self.set_msrs(&deadline)?;
        // After the registers: setting those drops a pending exception.
        fd.set_vcpu_events(&state.events).map_err(failed("set the pending events"))
    }

    /// As it was when `fresh` was saved, but for its clock, which goes on with those of the others.
    pub fn start_over(&self, fresh: &VcpuState) -> Result<(), KvmError> {
        // Reading it makes KVM take the INITs and SIPIs that the guest sent to everybody: they were
        // not for the processor that comes now.
        self.fd.get_mp_state().map_err(failed("read a vCPU's run state"))?;
        let mut fresh = fresh.clone();
        fresh.msrs.retain(|(index, _)| !CLOCK_MSRS.contains(index));
        self.restore(&fresh)
    }

    /// Values of those of `indices` that this vCPU has: the host's list names also MSRs of features
    /// that the guest's CPUID leaves out.
    fn save_msrs(&self, indices: &[u32]) -> Result<Vec<(u32, u64)>, KvmError> {
        let mut saved = Vec::with_capacity(indices.len());
        let mut rest = indices;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(128)];
            let entries: Vec<_> = part
                .iter()
                .map(|index| kvm_msr_entry { index: *index, ..Default::default() })
                .collect();
            let mut list =
                Msrs::from_entries(&entries).map_err(|_| KvmError::State { what: "MSR" })?;
            let read = self.fd.get_msrs(&mut list).map_err(failed("read MSRs"))?;
            saved.extend(list.as_slice()[..read].iter().map(|msr| (msr.index, msr.data)));
            // KVM stops at the first it does not know: leave that one out and go on behind it.
            let used = if read < part.len() { read + 1 } else { read };
            rest = &rest[used..];
        }
        Ok(saved)
    }

    /// What KVM says the guest is told of its processor.
    pub fn cpuid(&self) -> Result<Vec<kvm_cpuid_entry2>, KvmError> {
        let cpuid = self.fd.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(failed("read the CPUID"))?;
        Ok(cpuid.as_slice().to_vec())
    }

    fn save_xsave(&self) -> Result<Vec<u8>, KvmError> {
        let mut area = self.xsave_area()?;
        if self.xsave_size > size_of::<kvm_xsave>() {
            // SAFETY: the area was allocated with the size this VM's KVM_CAP_XSAVE2 names.
            unsafe { self.fd.get_xsave2(&mut area) }.map_err(failed("read the FPU"))?;
        } else {
            let plain = self.fd.get_xsave().map_err(failed("read the FPU"))?;
            // SAFETY: `plain` fits the area's fixed part; no entries are added or taken away.
            unsafe { area.as_mut_fam_struct() }.xsave = plain;
        }
        let mut bytes: Vec<u8> = area
            .as_fam_struct_ref()
            .xsave
            .region
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.extend(area.as_slice().iter().flat_map(|word| word.to_le_bytes()));
        Ok(bytes)
    }

    fn restore_xsave(&self, bytes: &[u8]) -> Result<(), KvmError> {
        let mut area = self.xsave_area()?;
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let fixed = area.as_fam_struct_ref().xsave.region.len();
        if words.len() != fixed + area.as_slice().len() || !bytes.len().is_multiple_of(4) {
            return Err(KvmError::State { what: "FPU" });
        }
        // SAFETY: only the contents of the fixed part are replaced, not the entry count.
        unsafe { area.as_mut_fam_struct() }.xsave.region.copy_from_slice(&words[..fixed]);
        area.as_mut_slice().copy_from_slice(&words[fixed..]);
        // SAFETY: the area was allocated with the size this VM's KVM_CAP_XSAVE2 names, and no
        // feature that would enlarge it is enabled after that.
        unsafe { self.fd.set_xsave2(&area) }.map_err(failed("set the FPU"))
    }

    fn xsave_area(&self) -> Result<Xsave, KvmError> {
        let extra = self.xsave_size.saturating_sub(size_of::<kvm_xsave>()).div_ceil(4);
        Xsave::new(extra).map_err(|_| KvmError::State { what: "FPU" })
    }
}
