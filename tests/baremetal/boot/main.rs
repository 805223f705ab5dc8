//! What `arch` and `boot` say is a startable machine, started on the local KVM.
//!
//! No VMM and no devices: the rig serves the few ports that bare-metal guests use. Without a
//! usable /dev/kvm the tests say so and pass.
#![allow(clippy::print_stderr, reason = "says when there is no KVM to test with")]
#![allow(clippy::unwrap_used, reason = "a test rig: what fails here fails the test")]

mod sys;

use std::io::Write;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use arch::cpuid::{Caches, CpuModel, CpuSpec, KvmHints, Selection};
use arch::layout::{GIB, MIB, MemoryMap, Platform};
use arch::topology::Topology;
use baremetal::Width::{Byte, Dword};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use memory::{Backing, GuestRam};

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;

#[derive(Debug, PartialEq, Eq)]
enum End {
    PowerOff,
    Reset,
    TripleFault,
    Halt,
    Other(String),
}

struct Machine {
    ram: u64,
    topology: Topology,
    /// The vCPU that starts the kernel.
    vcpu: u32,
    /// Started by the first; more than none need the in-kernel interrupt controllers.
    others: u32,
    model: CpuModel,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            ram: 64 * MIB,
            topology: Topology::one_socket(1),
            vcpu: 0,
            others: 0,
            model: CpuModel::HostPassthrough,
        }
    }
}

/// What the guest printed, and how it ended; `None` without KVM.
fn run(machine: Machine, kernel: Vec<u8>, cmdline: &'static str) -> Option<(String, End)> {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            eprintln!("not tested: /dev/kvm cannot be used: {error}");
            return None;
        }
    };
    let (sender, result) = mpsc::channel();
    // A thread of its own, left behind when the guest hangs: the test fails and the process ends.
    thread::spawn(move || sender.send(drive(&kvm, &machine, &kernel, cmdline)));
    Some(result.recv_timeout(Duration::from_secs(60)).expect("the guest ends within a minute"))
}

fn drive(kvm: &Kvm, machine: &Machine, kernel: &[u8], cmdline: &str) -> (String, End) {
    let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
    let phys_bits = arch::cpuid::host_phys_bits(supported.as_slice());
    let map = MemoryMap::new(Platform::Q35, machine.ram, phys_bits).unwrap();
    let ram = GuestRam::new(&map.ram_regions(), &Backing::Anonymous).unwrap();
    let vm = kvm.create_vm().unwrap();
    sys::lend(&vm, &ram);
    vm.set_tss_address(arch::layout::KVM_TSS as usize).unwrap();

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(kernel).unwrap();
    let board = boot::acpi::Board::new(&map, vec![0]);
    let entry = boot::place(
        &ram,
        &boot::BootSpec {
            map: &map,
            kernel: &file,
            initrd: None,
            cmdline,
            board: &board,
            smbios: None,
        },
    )
    .unwrap();

    if machine.others > 0 {
        vm.create_irq_chip().unwrap();
    }
    let vcpu = |index| {
        let vcpu = vm.create_vcpu(machine.topology.apic_id(index).into()).unwrap();
        let spec = CpuSpec {
            model: machine.model,
            selection: Selection::default(),
            vendor_id: None,
            caches: Caches::Host,
            hide_kvm: false,
            hints: KvmHints::default(),
            hyperv: None,
            topology: machine.topology,
            phys_bits,
            kvmclock: true,
            pmu: false,
            tsc_deadline: true,
            tsc_khz: None,
        };
        let leaves = arch::cpuid::cpuid(supported.as_slice(), &spec, index);
        vcpu.set_cpuid2(&CpuId::from_entries(&leaves).unwrap()).unwrap();
        let msrs = arch::msr::direct_boot();
        assert_eq!(vcpu.set_msrs(&Msrs::from_entries(&msrs).unwrap()).unwrap(), msrs.len());
        vcpu
    };
    let mut first = vcpu(machine.vcpu);
    let (regs, sregs) = entry.registers(&first.get_sregs().unwrap());
    first.set_sregs(&sregs).unwrap();
    first.set_regs(&regs).unwrap();

    let console = Arc::new(Mutex::new(Vec::new()));
    for index in 1..=machine.others {
        let (mut other, console, ram) = (vcpu(index), console.clone(), ram.clone());
        // Left behind when the first one ends; it keeps the memory that it runs in.
        thread::spawn(move || {
            run_vcpu(&mut other, &console);
            drop(ram);
        });
    }
    let end = run_vcpu(&mut first, &console);
    let console = console.lock().unwrap();
    (String::from_utf8_lossy(&console).into_owned(), end)
}

fn run_vcpu(vcpu: &mut VcpuFd, console: &Mutex<Vec<u8>>) -> End {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(0x3f8, data)) => console.lock().unwrap().extend_from_slice(data),
            Ok(VcpuExit::IoOut(0x604, &[0, 0x34])) => break End::PowerOff,
            Ok(VcpuExit::IoOut(0x64, &[0xfe])) => break End::Reset,
            Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => data.fill(0xff),
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(VcpuExit::Shutdown) => break End::TripleFault,
            Ok(VcpuExit::Hlt) => break End::Halt,
            Ok(other) => break End::Other(format!("{other:?}")),
            // A waiting vCPU was started, or a signal came.
            Err(error) if matches!(error.errno(), EAGAIN | EINTR) => {}
            Err(error) => break End::Other(error.to_string()),
        }
    }
}

fn check(machine: Machine, kernel: Vec<u8>, cmdline: &'static str, expected: (&str, End)) {
    if let Some((console, end)) = run(machine, kernel, cmdline) {
        assert_eq!((console.as_str(), end), expected);
    }
}

#[test]
fn a_pvh_kernel_finds_its_start_info_and_command_line() {
    let kernel = baremetal::pvh(|asm| {
        asm.print("pvh ");
        asm.eax_from_ebx().load_at_eax(0).print_eax().print(" ");
        asm.eax_from_ebx().load_at_eax(24).load_at_eax(0).print_eax(); // "abcd", little-endian
        asm.power_off();
    });
    check(Machine::default(), kernel, "abcd", ("pvh 336ec578 64636261", End::PowerOff));
}

#[test]
fn an_elf_kernel_runs_in_long_mode_with_its_boot_parameters() {
    let kernel = baremetal::long_mode(|asm| {
        asm.eax_from_esi().load_at_eax(0x202).print_eax().print(" ");
        asm.rdmsr(0xc000_0080).and_eax(0x500).print_eax(); // EFER: LME, LMA
        asm.power_off();
    });
    check(Machine::default(), kernel, "", ("53726448 00000500", End::PowerOff));
}

#[test]
fn a_bzimage_is_entered_behind_its_first_sector() {
    let kernel = baremetal::bzimage(|asm| {
        asm.eax_from_esi().load_at_eax(0x228).load_at_eax(0).print_eax();
        asm.reset();
    });
    check(Machine::default(), kernel, "init", ("74696e69", End::Reset));
}

#[test]
fn all_low_ram_is_there_and_the_hole_behind_it_is_empty() {
    let last = 2 * GIB as u32 - 4;
    let kernel = baremetal::long_mode(|asm| {
        asm.poke(Dword, last, 0xcafe_f00d).load(Dword, last).print_eax().print(" ");
        asm.load(Dword, last + 4).print_eax().print(" ");
        asm.load(Byte, 0xc000_0000).print_eax();
        asm.power_off();
    });
    let machine = Machine { ram: 3 * GIB, ..Machine::default() };
    check(machine, kernel, "", ("cafef00d ffffffff 000000ff", End::PowerOff));
}

#[test]
fn a_guest_reads_the_cpuid_that_was_built_for_it() {
    let kernel = || {
        baremetal::pvh(|asm| {
            asm.cpuid(1, 0, 1).and_eax(0xffff_0000).print_eax().print(" ");
            asm.cpuid(0xb, 0, 3).print_eax().print(" ");
            asm.cpuid(0xb, 1, 1).print_eax().print(" ");
            asm.cpuid(0x4000_0000, 0, 1).print_eax();
            asm.power_off();
        })
    };
    // vCPU 7 of 2 sockets with 3 cores of 2 threads: socket 1, core 0, thread 1.
    let topology = Topology { sockets: 2, dies: 1, cores: 3, threads: 2 };
    for model in [CpuModel::HostPassthrough, CpuModel::HostModel] {
        let machine = Machine { topology, vcpu: 7, model, ..Machine::default() };
        let expected = ("09080000 00000009 00000006 4b4d564b", End::PowerOff);
        check(machine, kernel(), "", expected);
    }
}

#[test]
fn memory_is_write_back_from_the_start() {
    let kernel = baremetal::pvh(|asm| {
        asm.rdmsr(0x2ff).print_eax().power_off();
    });
    check(Machine::default(), kernel, "", ("00000806", End::PowerOff));
}

#[test]
fn other_cpus_start_where_they_are_told() {
    let kernel = baremetal::pvh(|asm| {
        asm.start_other_cpus(2, "+").print(" all").power_off();
    });
    let machine = Machine { topology: Topology::one_socket(3), others: 2, ..Machine::default() };
    check(machine, kernel, "", ("++ all", End::PowerOff));
}

#[test]
fn configuration_space_without_a_bridge_reads_as_ones() {
    let kernel = baremetal::pvh(|asm| {
        asm.pci_write(0, 0, 4, 0).pci_read(31, 7, 0xfc).print_eax().power_off();
    });
    check(Machine::default(), kernel, "", ("ffffffff", End::PowerOff));
}

#[test]
fn loops_and_jumps_do_what_they_say() {
    let kernel = baremetal::pvh(|asm| {
        let (yes, end) = (asm.label(), asm.label());
        asm.repeat(3, |asm| {
            asm.print(".");
        });
        asm.set_eax(41).add_eax(1).jump_if_eax_is(42, yes).print("no").jump(end);
        asm.place(yes).print("yes").place(end).stop();
    });
    check(Machine::default(), kernel, "", ("...yes", End::Halt));
}

#[test]
fn an_exception_without_handlers_is_a_triple_fault() {
    let kernel = baremetal::pvh(|asm| {
        asm.print("x").triple_fault();
    });
    check(Machine::default(), kernel, "", ("x", End::TripleFault));
}
