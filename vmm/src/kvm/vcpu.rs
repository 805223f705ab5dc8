//! [`Vcpu`]: one virtual CPU, owned by its thread.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::{CpuId, Msrs, kvm_msr_entry, kvm_regs, kvm_run, kvm_sregs};
use kvm_ioctls::{VcpuFd, VmFd};

use super::exit::{self, Exit};
use super::signal::Kicker;
use super::{KvmError, failed};

/// The page(s) that KVM and a vCPU thread share, mapped for as long as anybody looks at them.
pub(super) struct RunPage {
    base: NonNull<kvm_run>,
    len: usize,
}

// SAFETY: the address of a mapping this value owns. Other threads touch only `immediate_exit`, as
// an atomic, and the ring behind it, by `Coalesced`'s rules; everything else is the vCPU thread's
// (it holds the only `Vcpu`).
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    fn new(fd: &VcpuFd, len: usize) -> io::Result<Self> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { base, len })
    }

    pub(super) fn base(&self) -> *mut kvm_run {
        self.base.as_ptr()
    }

    /// What KVM put behind the fixed fields, if the mapping has `len` bytes at `offset`.
    pub(super) fn part(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        // SAFETY: `offset` lies in the mapping, by the check.
        inside.then(|| unsafe { self.base.cast::<u8>().add(offset) })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the byte lies in the mapping, which lives as long as `self`; it is accessed as an
        // atomic by every thread, and KVM only reads it.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.base()).immediate_exit) }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and nobody looks at it any more.
        unsafe { libc::munmap(self.base().cast(), self.len) };
    }
}

/// The registers a vCPU starts with.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
    pub msrs: Vec<kvm_msr_entry>,
}

pub struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) page: Arc<RunPage>,
    pub(super) xsave_size: usize,
    kicker: Kicker,
}

impl Vcpu {
    pub(super) fn new(vm: &VmFd, apic_id: u32, xsave_size: usize) -> Result<Self, KvmError> {
        let fd = vm.create_vcpu(apic_id.into()).map_err(failed("create a vCPU"))?;
        let page =
            RunPage::new(&fd, vm.run_size()).map_err(|source| KvmError::RunPage { source })?;
        let page = Arc::new(page);
        Ok(Self { fd, kicker: Kicker::new(page.clone()), page, xsave_size })
    }

    pub fn kicker(&self) -> Kicker {
        self.kicker.clone()
    }

    pub fn set_cpuid(&self, cpuid: &CpuId) -> Result<(), KvmError> {
        self.fd.set_cpuid2(cpuid).map_err(failed("set the guest's CPUID"))
    }

    /// Enter the guest until something needs user space. `Ok(None)`: kicked, or nothing to do.
    pub fn run(&mut self) -> Result<Option<Exit<'_>>, kvm_ioctls::Error> {
        match self.fd.run() {
            // The exit is decoded from the page itself: the crate's form of it drops the width of
            // repeated port accesses and the facts of internal errors.
            Ok(_) => Ok(Some(exit::decode(&self.page))),
            // EAGAIN: an application processor that was just started.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether this vCPU was kicked since the last time anybody asked.
    pub fn take_kick(&self) -> bool {
        self.page.immediate_exit().swap(0, Ordering::SeqCst) != 0
    }

    /// Let KVM finish the access that the last exit was about, without running the guest. Until
    /// then registers are not what the guest will see.
    pub fn settle(&mut self) {
        // Several rounds: an access that crosses a page is two.
        for _ in 0..8 {
            self.page.immediate_exit().store(1, Ordering::SeqCst);
            if self.fd.run().is_err() {
                break;
            }
        }
        self.page.immediate_exit().store(0, Ordering::SeqCst);
    }

    /// Put the registers of a cold start in place.
    pub fn enter_at(&self, entry: &Entry) -> Result<(), KvmError> {
        self.set_msrs(&entry.msrs)?;
        self.fd.set_sregs(&entry.sregs).map_err(failed("set the system registers"))?;
        self.fd.set_regs(&entry.regs).map_err(failed("set the registers"))
    }

    /// MSRs that firmware would set on every processor.
    pub fn set_power_on_msrs(&self, msrs: &[kvm_msr_entry]) -> Result<(), KvmError> {
        self.set_msrs(msrs)
    }

    pub fn inject_nmi(&self) -> Result<(), KvmError> {
        self.fd.nmi().map_err(failed("inject an NMI"))
    }

    /// Tell the guest's soft-lockup watchdog that it was paused from outside.
    pub fn excuse_pause(&self) {
        // EINVAL: the guest does not use kvmclock.
        let _ = self.fd.kvmclock_ctrl();
    }

    pub fn system_registers(&self) -> Result<kvm_sregs, KvmError> {
        self.fd.get_sregs().map_err(failed("read the system registers"))
    }

    pub fn registers(&self) -> Result<kvm_regs, KvmError> {
        self.fd.get_regs().map_err(failed("read the registers"))
    }

    /// The guest-physical address behind a guest-linear one, if it is mapped.
    pub fn translate(&self, linear: u64) -> Option<u64> {
        let found = self.fd.translate_gva(linear).ok()?;
        (found.valid != 0).then_some(found.physical_address)
    }

    /// Set all `entries`; the first that KVM refuses is an error that names it.
    pub(super) fn set_msrs(&self, entries: &[kvm_msr_entry]) -> Result<(), KvmError> {
        // KVM takes at most 256 at once (MAX_IO_MSRS).
        for part in entries.chunks(128) {
            let list = Msrs::from_entries(part).map_err(|_| KvmError::State { what: "MSR" })?;
            let taken = self.fd.set_msrs(&list).map_err(failed("set MSRs"))?;
            if let Some(refused) = part.get(taken) {
                let (given, refused) = (part.len(), refused.index);
                return Err(KvmError::Msr { taken, given, refused });
            }
        }
        Ok(())
    }
}
