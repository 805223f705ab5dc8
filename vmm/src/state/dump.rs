//! [`DumpWriter`]: an ELF core of a machine, as gdb and `crash` open it (ELF-64 gABI, Linux
//! `elf_prstatus`, and QEMU's note with the system registers).
//!
//! ```text
//! 0          ELF header, one program header for the notes and one for each region of RAM
//! notes      NT_PRSTATUS of each vCPU, then the system registers of each
//! 2 MiB·n    RAM, with holes where it is zero
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;

use kvm_bindings::{kvm_dtable, kvm_segment};
use memory::{GuestRam, RegionInfo};

use super::{ImageError, STEP, Steps, ram};
use crate::kvm::VcpuState;

const RAM_ALIGNMENT: u64 = 2 << 20;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const READ_WRITE_EXECUTE: u32 = 7;
const NT_PRSTATUS: u32 = 1;
/// Length of `struct elf_prstatus`, and where its parts lie.
const PRSTATUS: usize = 336;
const PRSTATUS_PID: usize = 32;
const PRSTATUS_REGISTERS: usize = 112;
const MSR_FS_BASE: u32 = 0xc000_0100;
const MSR_GS_BASE: u32 = 0xc000_0101;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Writes a core, a part at a time.
pub struct DumpWriter {
    file: File,
    size: u64,
    ram: ram::Writer,
}

impl DumpWriter {
    /// Begin with all but RAM.
    pub fn begin(file: File, vcpus: &[VcpuState], ram: GuestRam) -> Result<Self, ImageError> {
        let (head, start) = head(vcpus, ram.regions());
        let size = ram.size();
        let begin = || {
            file.set_len(0)?;
            file.set_len(start + size)?;
            file.write_all_at(&head, 0)
        };
        begin().map_err(ImageError::Write)?;
        Ok(Self { size, ram: ram::Writer::new(ram, start), file })
    }
}

impl Steps for DumpWriter {
    fn progress(&self) -> (u64, u64) {
        (self.ram.done(), self.size)
    }

    fn step(&mut self) -> Result<bool, ImageError> {
        let until = self.ram.done() + STEP;
        while self.ram.done() < until {
            if !self.ram.step(&self.file)? {
                self.file.sync_all().map_err(ImageError::Write)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Headers and notes, and where RAM begins.
fn head(vcpus: &[VcpuState], regions: &[RegionInfo]) -> (Vec<u8>, u64) {
    let mut notes = Vec::new();
    for (number, vcpu) in (1..).zip(vcpus) {
        note(&mut notes, b"CORE\0", NT_PRSTATUS, &status(number, vcpu));
    }
    for vcpu in vcpus {
        note(&mut notes, b"QEMU\0", 0, &system(vcpu));
    }
    let count = 1 + regions.len();
    let notes_at = HEADER + count * PROGRAM_HEADER;
    let start = ((notes_at + notes.len()) as u64).next_multiple_of(RAM_ALIGNMENT);
    let mut out = Vec::with_capacity(notes_at + notes.len());
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put16(&mut out, ET_CORE);
    put16(&mut out, EM_X86_64);
    put32(&mut out, 1);
    put64(&mut out, 0);
    put64(&mut out, HEADER as u64);
    put64(&mut out, 0);
    put32(&mut out, 0);
    put16(&mut out, HEADER as u16);
    put16(&mut out, PROGRAM_HEADER as u16);
    // Regions are a handful.
    put16(&mut out, count as u16);
    for _ in 0..3 {
        put16(&mut out, 0);
    }
    let notes_len = notes.len() as u64;
    program_header(&mut out, PT_NOTE, 0, notes_at as u64, 0, notes_len);
    for region in regions {
        let offset = start + region.file_offset;
        program_header(&mut out, PT_LOAD, READ_WRITE_EXECUTE, offset, region.gpa, region.len);
    }
    out.extend_from_slice(&notes);
    (out, start)
}

/// By guest-physical address, which is all that is known of where the guest maps it.
fn program_header(out: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, gpa: u64, len: u64) {
    put32(out, kind);
    put32(out, flags);
    for word in [offset, gpa, gpa, len, len, 0] {
        put64(out, word);
    }
}

fn note(out: &mut Vec<u8>, name: &[u8], kind: u32, content: &[u8]) {
    put32(out, name.len() as u32);
    put32(out, content.len() as u32);
    put32(out, kind);
    for part in [name, content] {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// `struct elf_prstatus`, with a vCPU as the thread of its number.
fn status(number: u32, vcpu: &VcpuState) -> Vec<u8> {
    let (regs, sregs) = (vcpu.registers(), vcpu.system_registers());
    let mut out = vec![0; PRSTATUS_PID];
    put32(&mut out, number);
    out.resize(PRSTATUS_REGISTERS, 0);
    // `struct user_regs_struct`.
    for word in [
        regs.r15,
        regs.r14,
        regs.r13,
        regs.r12,
        regs.rbp,
        regs.rbx,
        regs.r11,
        regs.r10,
        regs.r9,
        regs.r8,
        regs.rax,
        regs.rcx,
        regs.rdx,
        regs.rsi,
        regs.rdi,
        regs.rax,
        regs.rip,
        sregs.cs.selector.into(),
        regs.rflags,
        regs.rsp,
        sregs.ss.selector.into(),
        vcpu.msr(MSR_FS_BASE).max(sregs.fs.base),
        vcpu.msr(MSR_GS_BASE).max(sregs.gs.base),
        sregs.ds.selector.into(),
        sregs.es.selector.into(),
        sregs.fs.selector.into(),
        sregs.gs.selector.into(),
    ] {
        put64(&mut out, word);
    }
    out.resize(PRSTATUS, 0);
    out
}

/// `QEMUCPUState`, version 1: by its page tables `crash` finds a kernel that is anywhere.
fn system(vcpu: &VcpuState) -> Vec<u8> {
    const LEN: u32 = 440;
    let (regs, sregs) = (vcpu.registers(), vcpu.system_registers());
    let mut out = Vec::with_capacity(LEN as usize);
    put32(&mut out, 1);
    put32(&mut out, LEN);
    for word in [
        regs.rax,
        regs.rbx,
        regs.rcx,
        regs.rdx,
        regs.rsi,
        regs.rdi,
        regs.rsp,
        regs.rbp,
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rip,
        regs.rflags,
    ] {
        put64(&mut out, word);
    }
    for one in [sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss, sregs.ldt, sregs.tr] {
        segment(&mut out, &one);
    }
    table(&mut out, &sregs.gdt);
    table(&mut out, &sregs.idt);
    for word in [sregs.cr0, 0, sregs.cr2, sregs.cr3, sregs.cr4, vcpu.msr(MSR_KERNEL_GS_BASE)] {
        put64(&mut out, word);
    }
    out
}

fn segment(out: &mut Vec<u8>, segment: &kvm_segment) {
    // As the second word of a descriptor has them.
    let flags = u32::from(segment.type_) << 8
        | u32::from(segment.s) << 12
        | u32::from(segment.dpl) << 13
        | u32::from(segment.present) << 15
        | u32::from(segment.avl) << 20
        | u32::from(segment.l) << 21
        | u32::from(segment.db) << 22
        | u32::from(segment.g) << 23;
    for word in [segment.selector.into(), segment.limit, flags, 0] {
        put32(out, word);
    }
    put64(out, segment.base);
}

fn table(out: &mut Vec<u8>, table: &kvm_dtable) {
    for word in [0, table.limit.into(), 0, 0] {
        put32(out, word);
    }
    put64(out, table.base);
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
