//! [`Exit`]: why the guest stopped, decoded from the run page.

use std::slice;

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HYPERV, KVM_EXIT_HYPERV_HCALL, KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, kvm_run,
};

use super::vcpu::RunPage;

#[derive(Debug)]
pub enum Exit<'a> {
    /// `data` holds one or more items of `width` bytes (string instructions repeat).
    PortRead {
        port: u16,
        width: usize,
        data: &'a mut [u8],
    },
    PortWrite {
        port: u16,
        width: usize,
        data: &'a [u8],
    },
    MmioRead {
        gpa: u64,
        data: &'a mut [u8],
    },
    MmioWrite {
        gpa: u64,
        data: &'a [u8],
    },
    /// Triple fault.
    Shutdown,
    /// The guest asked for it by a register of Hyper-V's.
    Reset,
    /// The guest said, by registers of Hyper-V's, that it crashed.
    GuestCrashed,
    /// A call of Hyper-V's that KVM leaves to us; its status is the lower half.
    HypervCall {
        result: &'a mut u64,
    },
    /// The guest set up what KVM does as Hyper-V, which needs nothing of us.
    HypervSetup,
    /// The processor refused the guest's state.
    EntryFailed {
        reason: u64,
    },
    InternalError(InternalError),
    /// Anything a machine of ours never asks KVM for.
    Unexpected {
        reason: u32,
    },
}

/// What KVM says about an error of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct InternalError {
    pub suberror: u32,
    pub data: [u64; 16],
    pub len: usize,
}

/// Decode the exit that KVM_RUN just returned with.
///
/// Called by `Vcpu::run` alone, whose `&mut self` the result borrows: the guest is not running, and
/// no other exit can be decoded while this one is looked at.
pub(super) fn decode(page: &RunPage) -> Exit<'_> {
    // SAFETY: the page is mapped for `page.len()` bytes. KVM writes it only inside KVM_RUN, which
    // has returned; the one byte that other threads write, `immediate_exit`, is not touched here.
    let reason = unsafe { (*page.base()).exit_reason };
    match reason {
        KVM_EXIT_IO => port_access(page),
        KVM_EXIT_MMIO => memory_access(page.base()),
        KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: as above; the exit reason says which member of the union is meant.
            let fail = unsafe { (*page.base()).__bindgen_anon_1.fail_entry };
            Exit::EntryFailed { reason: fail.hardware_entry_failure_reason }
        }
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: as above.
            let error = unsafe { (*page.base()).__bindgen_anon_1.internal };
            let len = (error.ndata as usize).min(error.data.len());
            Exit::InternalError(InternalError { suberror: error.suberror, data: error.data, len })
        }
        KVM_EXIT_SYSTEM_EVENT => {
            // SAFETY: as above.
            let event = unsafe { (*page.base()).__bindgen_anon_1.system_event };
            match event.type_ {
                KVM_SYSTEM_EVENT_RESET => Exit::Reset,
                KVM_SYSTEM_EVENT_CRASH => Exit::GuestCrashed,
                other => Exit::Unexpected { reason: KVM_EXIT_SYSTEM_EVENT | other << 16 },
            }
        }
        KVM_EXIT_HYPERV => hyperv(page.base()),
        reason => Exit::Unexpected { reason },
    }
}

fn port_access(page: &RunPage) -> Exit<'_> {
    // SAFETY: as in `decode`.
    let io = unsafe { (*page.base()).__bindgen_anon_1.io };
    let width = usize::from(io.size);
    let len = width * io.count as usize;
    let offset = usize::try_from(io.data_offset).unwrap_or(usize::MAX);
    // KVM's word, but a wrong one would be memory corruption, so it is checked.
    if offset.checked_add(len).is_none_or(|end| end > page.len()) || width == 0 {
        return Exit::Unexpected { reason: KVM_EXIT_IO };
    }
    // SAFETY: `offset + len` was just checked to lie in the mapping, behind the fixed fields.
    let data = unsafe { page.base().cast::<u8>().add(offset) };
    if u32::from(io.direction) == KVM_EXIT_IO_OUT {
        // SAFETY: see above; nobody writes these bytes until the next KVM_RUN.
        let data = unsafe { slice::from_raw_parts(data, len) };
        Exit::PortWrite { port: io.port, width, data }
    } else {
        // SAFETY: see above; nobody else accesses these bytes until the next KVM_RUN.
        let data = unsafe { slice::from_raw_parts_mut(data, len) };
        Exit::PortRead { port: io.port, width, data }
    }
}

fn hyperv<'a>(run: *mut kvm_run) -> Exit<'a> {
    // SAFETY: as in `decode`; the lifetime is the one `decode` gives the result.
    let exit = unsafe { &mut (*run).__bindgen_anon_1.hyperv };
    match exit.type_ {
        KVM_EXIT_HYPERV_HCALL => {
            // SAFETY: the kind says which member of the union is meant; all are plain integers.
            Exit::HypervCall { result: unsafe { &mut exit.u.hcall.result } }
        }
        _ => Exit::HypervSetup,
    }
}

fn memory_access<'a>(run: *mut kvm_run) -> Exit<'a> {
    // SAFETY: as in `decode`; the lifetime is the one `decode` gives the result.
    let mmio = unsafe { &mut (*run).__bindgen_anon_1.mmio };
    let len = (mmio.len as usize).min(mmio.data.len());
    let data = &mut mmio.data[..len];
    if mmio.is_write != 0 {
        Exit::MmioWrite { gpa: mmio.phys_addr, data }
    } else {
        Exit::MmioRead { gpa: mmio.phys_addr, data }
    }
}
