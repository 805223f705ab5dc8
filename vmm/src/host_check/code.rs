//! The probes: machine code in long mode, one group of instructions each.
//!
//! Every probe starts with `RDI` at 4 KiB of zeroed, 64-byte aligned data, and an IDT whose gates
//! all lead to [`HANDLER`]. Reaching its end is success: the runner appends [`DONE`].

/// One group of instructions.
pub(super) struct Probe {
    pub(super) what: &'static str,
    pub(super) purpose: &'static str,
    pub(super) code: &'static [u8],
    pub(super) needs: Option<CpuFeature>,
}

/// A bit of CPUID leaf 1, ECX: without it the guest never executes the probe's instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuFeature(pub(super) u8);

const CMPXCHG16B: CpuFeature = CpuFeature(13);
const XSAVE: CpuFeature = CpuFeature(26);

/// `mov al, 0x5a; out 0xf4, al; hlt`
pub(super) const DONE: &[u8] = &[0xb0, DONE_VALUE, 0xe6, DONE_PORT as u8, 0xf4];
pub(super) const DONE_PORT: u16 = 0xf4;
pub(super) const DONE_VALUE: u8 = 0x5a;

/// Acknowledge the local APIC and return: serves `int3` and the timer alike.
/// `push rax; mov eax, 0xfee000b0; mov dword [rax], 0; pop rax; iretq`
pub(super) const HANDLER: &[u8] =
    &[0x50, 0xb8, 0xb0, 0x00, 0xe0, 0xfe, 0xc7, 0x00, 0x00, 0x00, 0x00, 0x00, 0x58, 0x48, 0xcf];

pub(super) const PROBES: &[Probe] = &[
    Probe { what: "long mode, port I/O", purpose: "any guest at all", code: &[0x90], needs: None },
    Probe {
        what: "rdmsr, wrmsr",
        purpose: "processor setup",
        // mov ecx, 0xc0000080 (EFER); rdmsr; wrmsr
        code: &[0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x0f, 0x30],
        needs: None,
    },
    Probe {
        what: "int3, iretq",
        purpose: "exceptions, patching of kernel code, every return from an interrupt",
        code: &[0xcc],
        needs: None,
    },
    Probe {
        what: "lock cmpxchg16b",
        purpose: "the memory allocator",
        // lock cmpxchg16b [rdi]
        code: &[0xf0, 0x48, 0x0f, 0xc7, 0x0f],
        needs: Some(CMPXCHG16B),
    },
    Probe {
        what: "movups, fxsave, fxrstor",
        purpose: "the FPU and SSE",
        // movups xmm0, [rdi]; movups [rdi], xmm0; fxsave [rdi]; fxrstor [rdi]
        code: &[0x0f, 0x10, 0x07, 0x0f, 0x11, 0x07, 0x0f, 0xae, 0x07, 0x0f, 0xae, 0x0f],
        needs: None,
    },
    Probe {
        what: "xsave, xrstor",
        purpose: "switching between tasks",
        // mov eax, 1; xor edx, edx; xsave [rdi]; xrstor [rdi]
        code: &[0xb8, 1, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x27, 0x0f, 0xae, 0x2f],
        needs: Some(XSAVE),
    },
    Probe {
        what: "swapgs",
        purpose: "system calls",
        code: &[0x0f, 0x01, 0xf8, 0x0f, 0x01, 0xf8],
        needs: None,
    },
    Probe {
        what: "local APIC timer, sti, hlt",
        purpose: "interrupts that wake an idle vCPU",
        // mov ebx, 0xfee00000
        // mov dword [rbx+0xf0], 0x1ff   spurious vector, APIC on
        // mov dword [rbx+0x3e0], 0xb    divide by 1
        // mov dword [rbx+0x320], 0x20   one shot, vector 0x20
        // mov dword [rbx+0x380], 10000  count
        // sti; hlt; cli
        code: &[
            0xbb, 0x00, 0x00, 0xe0, 0xfe, //
            0xc7, 0x83, 0xf0, 0x00, 0x00, 0x00, 0xff, 0x01, 0x00, 0x00, //
            0xc7, 0x83, 0xe0, 0x03, 0x00, 0x00, 0x0b, 0x00, 0x00, 0x00, //
            0xc7, 0x83, 0x20, 0x03, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, //
            0xc7, 0x83, 0x80, 0x03, 0x00, 0x00, 0x10, 0x27, 0x00, 0x00, //
            0xfb, 0xf4, 0xfa,
        ],
        needs: None,
    },
];
