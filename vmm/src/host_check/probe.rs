//! Running one probe: a machine of 4 MiB, one vCPU, and a deadline.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use arch::x86_64::{early, layout, registers};
use memory::{Backing, GuestRam};

use super::code::{CpuFeature, DONE, DONE_PORT, DONE_VALUE, HANDLER, Probe};
use crate::kvm::{Entry, Exit, Vcpu, Vm};

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Works,
    /// This host's KVM does not offer the instructions, so no guest executes them.
    NotOffered,
    Failed {
        /// What KVM said instead: `KVM internal error 1`, `triple fault` …
        how: String,
    },
}

const DEADLINE: Duration = Duration::from_secs(2);

const RAM: u64 = 4 << 20;
const CODE: u64 = 0x10_0000;
const IDT: u64 = 0x11_0000;
const IDT_GATES: u16 = 64;
const HANDLER_AT: u64 = 0x12_0000;
const DATA: u64 = 0x13_0000;

const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_OSXSAVE: u64 = 1 << 18;

pub(super) fn run(kvm: OwnedFd, probe: &'static Probe) -> Outcome {
    let (report, outcome) = mpsc::channel();
    // A thread of its own, because a KVM that hangs in the guest returns no error. The thread of a
    // probe that misses its deadline is left behind; the command that asked is about to end.
    let spawned = thread::Builder::new().name("host-check".to_owned()).spawn(move || {
        let outcome = attempt(kvm, probe).unwrap_or_else(|how| Outcome::Failed { how });
        // The receiver is gone only when the deadline has passed.
        let _ = report.send(outcome);
    });
    if let Err(error) = spawned {
        return Outcome::Failed { how: format!("cannot start a thread: {error}") };
    }
    outcome.recv_timeout(DEADLINE).unwrap_or_else(|error| Outcome::Failed {
        how: match error {
            RecvTimeoutError::Timeout => format!("no end within {} s", DEADLINE.as_secs()),
            RecvTimeoutError::Disconnected => "the probe died".to_owned(),
        },
    })
}

fn attempt(kvm: OwnedFd, probe: &Probe) -> Result<Outcome, String> {
    let text = |error: &dyn std::error::Error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let ram = GuestRam::new(&[(0, RAM)], &Backing::Anonymous).map_err(|error| text(&error))?;
    let vm = Vm::new(kvm, &ram, 1).map_err(|error| text(&error))?;
    let cpuid = vm.supported_cpuid().map_err(|error| text(&error))?;
    let offers = |CpuFeature(bit): CpuFeature| {
        cpuid.as_slice().iter().any(|leaf| leaf.function == 1 && leaf.ecx >> bit & 1 == 1)
    };
    if probe.needs.is_some_and(|feature| !offers(feature)) {
        return Ok(Outcome::NotOffered);
    }
    load(&ram, probe).map_err(|error| text(&error))?;
    let mut vcpu = vm.vcpu(0).map_err(|error| text(&error))?;
    vcpu.set_cpuid(&cpuid).map_err(|error| text(&error))?;
    let xsave = probe.needs.is_some_and(|CpuFeature(bit)| bit == 26);
    enter(&vcpu, xsave).map_err(|error| text(&error))?;
    loop {
        let exit = vcpu.run().map_err(|error| format!("KVM_RUN failed: {error}"))?;
        match exit {
            None => {}
            Some(Exit::PortWrite { port: DONE_PORT, data: [DONE_VALUE], .. }) => {
                return Ok(Outcome::Works);
            }
            Some(exit) => return Err(describe(&exit)),
        }
    }
}

fn load(ram: &GuestRam, probe: &Probe) -> Result<(), memory::MemoryError> {
    ram.write_slice(early::GDT_ADDRESS, bytes(&early::gdt()).as_slice())?;
    ram.write_slice(layout::PAGE_TABLES_START, bytes(&early::page_tables()).as_slice())?;
    ram.write_slice(CODE, &[probe.code, DONE].concat())?;
    ram.write_slice(HANDLER_AT, HANDLER)?;
    for gate in 0..IDT_GATES {
        ram.write_slice(IDT + u64::from(gate) * 16, bytes(&interrupt_gate(HANDLER_AT)).as_slice())?;
    }
    Ok(())
}

fn enter(vcpu: &Vcpu, xsave: bool) -> Result<(), crate::kvm::KvmError> {
    let (mut regs, mut sregs) = registers::linux64(&vcpu.system_registers()?, CODE, 0);
    regs.rdi = DATA;
    sregs.idt.base = IDT;
    sregs.idt.limit = IDT_GATES * 16 - 1;
    sregs.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    if xsave {
        sregs.cr4 |= CR4_OSXSAVE;
    }
    vcpu.enter_at(&Entry { regs, sregs, ..Entry::default() })
}

/// A present 64-bit interrupt gate (Intel SDM vol. 3, 6.14.1).
fn interrupt_gate(handler: u64) -> [u64; 2] {
    let selector = u64::from(early::BOOT_CS);
    let low = (handler & 0xffff) | selector << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn describe(exit: &Exit<'_>) -> String {
    match exit {
        Exit::Shutdown => "triple fault".to_owned(),
        Exit::EntryFailed { reason } => format!("the processor refused the guest ({reason:#x})"),
        Exit::InternalError(error) if error.suberror == 1 => {
            "KVM cannot emulate it (internal error 1)".to_owned()
        }
        Exit::InternalError(error) => format!("KVM internal error {}", error.suberror),
        other => format!("unexpected exit {other:?}"),
    }
}
