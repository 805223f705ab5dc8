//! A vCPU's registers in text, for the report of a crash.

use std::fmt::Write;

use kvm_bindings::kvm_segment;
use memory::GuestRam;

use crate::kvm::Vcpu;

/// What a kernel developer asks for first: where it was, with what, and the code there.
pub(super) fn registers(vcpu: &Vcpu, ram: &GuestRam) -> String {
    let mut text = String::with_capacity(1600);
    if let Err(error) = write(&mut text, vcpu, ram) {
        let _ = writeln!(text, "registers cannot be read: {error}");
    }
    text
}

fn write(text: &mut String, vcpu: &Vcpu, ram: &GuestRam) -> Result<(), crate::kvm::KvmError> {
    let r = vcpu.registers()?;
    let s = vcpu.system_registers()?;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "rip={:016x} rflags={:08x}\n\
         rax={:016x} rbx={:016x} rcx={:016x} rdx={:016x}\n\
         rsi={:016x} rdi={:016x} rbp={:016x} rsp={:016x}\n\
         r8 ={:016x} r9 ={:016x} r10={:016x} r11={:016x}\n\
         r12={:016x} r13={:016x} r14={:016x} r15={:016x}",
        r.rip,
        r.rflags,
        r.rax,
        r.rbx,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        r.rbp,
        r.rsp,
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15,
    );
    for (name, segment) in [
        ("cs ", &s.cs),
        ("ss ", &s.ss),
        ("ds ", &s.ds),
        ("es ", &s.es),
        ("fs ", &s.fs),
        ("gs ", &s.gs),
        ("tr ", &s.tr),
        ("ldt", &s.ldt),
    ] {
        write_segment(text, name, segment);
    }
    let _ = writeln!(
        text,
        "gdt={:016x}+{:04x} idt={:016x}+{:04x}\n\
         cr0={:016x} cr2={:016x} cr3={:016x} cr4={:016x}\n\
         cr8={:x} efer={:x} apic_base={:x}",
        s.gdt.base,
        s.gdt.limit,
        s.idt.base,
        s.idt.limit,
        s.cr0,
        s.cr2,
        s.cr3,
        s.cr4,
        s.cr8,
        s.efer,
        s.apic_base,
    );
    let _ = write!(text, "code at rip:");
    for offset in 0..16 {
        let linear = s.cs.base.wrapping_add(r.rip).wrapping_add(offset);
        let byte = vcpu.translate(linear).and_then(|gpa| ram.read_obj::<u8>(gpa).ok());
        let _ = match byte {
            Some(byte) => write!(text, " {byte:02x}"),
            None => write!(text, " ??"),
        };
    }
    text.push('\n');
    Ok(())
}

fn write_segment(text: &mut String, name: &str, s: &kvm_segment) {
    let _ = writeln!(
        text,
        "{name}={:04x} base={:016x} limit={:08x} type={:x} s={} dpl={} p={} l={} db={} g={}",
        s.selector, s.base, s.limit, s.type_, s.s, s.dpl, s.present, s.l, s.db, s.g,
    );
}
