//! One guest of a few bytes, through the raw interface.
#![allow(unsafe_code, reason = "KVM takes guest memory as a host address")]

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};

const CODE: usize = 0x1000;
const GDT: u64 = 0x800;
const STACK: u64 = 0x800;
const CODE_SELECTOR: u16 = 8;
const DATA_SELECTOR: u16 = 16;
/// Null, 4 GiB of code, 4 GiB of data.
const DESCRIPTORS: [u64; 3] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

#[repr(C, align(4096))]
struct Memory([u8; 2 * 4096]);

/// Runs `code` in 32-bit protected mode until its first exit, and names that exit.
pub(super) fn run(code: &[u8]) -> Result<String, kvm_ioctls::Error> {
    let mut memory = Box::new(Memory([0; 2 * 4096]));
    memory.0[CODE..CODE + code.len()].copy_from_slice(code);
    for (at, descriptor) in (0x800..).step_by(8).zip(DESCRIPTORS) {
        memory.0[at..at + 8].copy_from_slice(&descriptor.to_le_bytes());
    }
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    // Only Intel without unrestricted guest needs it, and there the default is no valid address.
    vm.set_tss_address(0xfffb_d000)?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: memory.0.len() as u64,
        userspace_addr: memory.0.as_mut_ptr() as u64,
    };
    // SAFETY: the region covers exactly `memory`, which is declared before `vm` and `vcpu` and so
    // outlives both, and which nothing else touches until they are gone.
    unsafe { vm.set_user_memory_region(region)? };
    let mut vcpu = vm.create_vcpu(0)?;

    let mut sregs = vcpu.get_sregs()?;
    let data = flat_segment(DATA_SELECTOR, 0x3);
    sregs.cs = flat_segment(CODE_SELECTOR, 0xb);
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = data;
    }
    sregs.gdt.base = GDT;
    sregs.gdt.limit = 3 * 8 - 1;
    sregs.cr0 |= 1; // protected mode
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs { rip: CODE as u64, rsp: STACK, rflags: 2, ..Default::default() })?;

    Ok(match vcpu.run()? {
        VcpuExit::IoOut(port, &[value]) => format!("out {port:#x} = {value:#x}"),
        exit => format!("{exit:?}"),
    })
}

fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}
