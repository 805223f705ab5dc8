//! The board itself: legacy ports, configuration space of the chips, model-specific registers, and
//! the ways in which a guest ends. What ends is the guest, by its policy.

use std::thread;
use std::time::Duration;

use baremetal::Width::{Byte, Dword, Qword, Word};
use vmm_protocol::config::Action;
use vmm_protocol::control::{Request, RunState};
use vmm_protocol::exit::ExitReason;

use crate::driver::{self, Guest};
use crate::vm::{Setup, Vm};
use crate::{attack, without_kvm};

/// Ports whose use would end the guest, or garble its report: keyboard controller (reset line),
/// port 92, serial port, pvpanic, PM1 control, reset control.
const APART: [u32; 8] = [0x60, 0x64, 0x92, 0x3f8, 0x505, 0x604, 0xcf8, 0xcfc];

#[test]
fn ports_take_everything_at_every_width() {
    attack(Setup::default(), |guest, devices| {
        guest.asm.sweep(0, 0xfffd, 1, |asm| {
            asm.read_port_there(Byte);
        });
        guest.asm.print("bytes read\n");
        for start in [0, 0x3f0, 0x600, 0xcf0, 0xfff0] {
            guest.asm.sweep(start, start + 0x90, 1, |asm| {
                asm.read_port_there(Word).read_port_there(Dword);
            });
        }
        guest.asm.print("wide reads\n");
        let mut start = 0;
        for apart in APART.into_iter().chain([0x700]) {
            if start < apart.saturating_sub(3) {
                guest.asm.sweep(start, apart - 3, 1, |asm| {
                    for value in [u32::MAX, 0, 0x5a5a_a5a5] {
                        for width in [Byte, Word, Dword] {
                            asm.set_eax(value).write_port_there(width);
                        }
                    }
                });
            }
            start = apart + 8;
        }
        // Around PM1 control, whose sleep type 7 is none.
        guest.asm.sweep(0x606, 0x680, 1, |asm| {
            for width in [Byte, Word, Dword] {
                asm.set_eax(u32::MAX).write_port_there(width);
            }
        });
        guest.asm.out(Word, 0x604, 0xffff).out(Byte, 0x605, 0x20).out(Dword, 0x602, 0x2000_0000);
        guest.asm.print("writes\n");
        // String instructions hand many items over at once: rep outsb, outsw, outsd; then insb.
        for port in [0x70_u16, 0x80, 0x600, 0x3f9, 0xcfc] {
            let mut code = vec![0x66, 0xba];
            code.extend(port.to_le_bytes());
            for instruction in [&[0x6e][..], &[0x66, 0x6f], &[0x6f], &[0x6c], &[0x66, 0x6d]] {
                code.extend([0xbe, 0, 0, 0x60, 0]); // mov esi, 6 MiB
                code.extend([0xbf, 0, 0, 0x60, 0]); // mov edi, 6 MiB
                code.extend([0xb9, 0, 2, 0, 0, 0xf3]); // mov ecx, 512; rep
                code.extend(instruction);
            }
            guest.asm.raw(&code);
        }
        guest.asm.out(Byte, 0x3f9, 0); // no interrupts of the serial port
        // What port 0xcfc got may have been for one of them.
        for device in devices.iter_mut() {
            guest.place(device);
        }
        guest.case("after all ports", devices, &[], |_, _| {});
    });
}

#[test]
fn the_boards_devices_take_nonsense() {
    attack(Setup::default(), |guest, devices| {
        // Every register of the clock, with the values that are no time.
        guest.asm.sweep(0, 0x100, 1, |asm| {
            asm.raw(&[0x89, 0xf0]).write_port(Byte, 0x70).read_port(Byte, 0x71);
            asm.out(Byte, 0x71, 0xff).out(Word, 0x70, 0xffff).out(Dword, 0x70, u32::MAX);
            asm.raw(&[0x89, 0xf0]).write_port(Byte, 0x70).out(Byte, 0x71, 0);
        });
        // The fastest periodic interrupt, and an alarm each second.
        for (register, value) in [(0xa, 0x21), (0xb, 0x7f), (0xa, 0x2f), (0xb, 0xff)] {
            guest.asm.out(Byte, 0x70, register).out(Byte, 0x71, value);
        }
        guest.asm.print("clock\n");
        // All commands of the keyboard controller but those that pulse the reset line.
        guest.asm.sweep(0, 0xf0, 1, |asm| {
            asm.raw(&[0x89, 0xf0]).write_port(Byte, 0x64).read_port(Byte, 0x64);
            asm.raw(&[0x89, 0xf0]).write_port(Byte, 0x60).read_port(Byte, 0x60);
        });
        guest.asm.out(Byte, 0x64, 0xd1).out(Byte, 0x60, 0x03); // A20, reset line high
        guest.asm.print("keyboard controller\n");
        // Timers of all modes with the reloads 0 and 1; the speaker's gate.
        guest.asm.sweep(0, 0x100, 1, |asm| {
            asm.raw(&[0x89, 0xf0]).write_port(Byte, 0x43);
            for port in 0x40..0x43 {
                asm.out(Byte, port, 0).out(Byte, port, 1).read_port(Byte, port);
            }
            asm.out(Byte, 0x61, 3).read_port(Byte, 0x61).out(Byte, 0x61, 0);
        });
        guest.asm.out(Byte, 0x43, 0x34).out(Byte, 0x40, 1).out(Byte, 0x40, 0);
        guest.asm.print("timers\n");
        // The interrupt controllers: initialisation begun and never ended, then the IOAPIC.
        for port in [0x20, 0xa0] {
            guest.asm.sweep(0, 0x100, 1, |asm| {
                asm.raw(&[0x89, 0xf0]).write_port(Byte, port);
                asm.raw(&[0x89, 0xf0]).write_port(Byte, port + 1).read_port(Byte, port + 1);
            });
        }
        guest.asm.sweep(0, 0x100, 1, |asm| {
            asm.raw(&[0x89, 0xf0]).store(Dword, 0xfec0_0000);
            asm.load(Dword, 0xfec0_0010).poke(Dword, 0xfec0_0010, 0x0001_ffff);
        });
        guest.asm.print("interrupt controllers\n");
        // Loopback, all line settings; then as it was.
        guest.asm.sweep(0, 0x100, 1, |asm| {
            asm.out(Byte, 0x3fc, 0x10);
            for port in [0x3f9, 0x3fb, 0x3fa, 0x3f8, 0x3ff] {
                asm.raw(&[0x89, 0xf0]).write_port(Byte, port).read_port(Byte, port);
            }
        });
        for (port, value) in [(0x3fb, 3), (0x3f9, 0), (0x3fa, 0), (0x3fc, 3)] {
            guest.asm.out(Byte, port, value);
        }
        guest.asm.print("\nserial port\n");
        guest.case("after nonsense", devices, &[], |_, _| {});
    });
}

#[test]
fn configuration_mechanisms_take_every_access() {
    attack(Setup::default(), |guest, devices| {
        guest.asm.sweep(0xcf8, 0xd00, 1, |asm| {
            for value in [u32::MAX, 0x8000_0000, 0x8000_20fd, 0x7fff_ffff, 0] {
                for width in [Byte, Word, Dword] {
                    // Never the reset register at 0xcf9.
                    if width == Dword {
                        asm.out(Dword, 0xcf8, value).read_port_there(Dword);
                    }
                    asm.read_port_there(width);
                }
            }
        });
        guest.asm.print("ports\n");
        // The chips of the board, all registers: the ECAM window moves, and is moved back.
        for (slot, function) in [(0, 0), (0x1f, 0), (0x1f, 7), (3, 0)] {
            for register in (0..=0xfc).step_by(4) {
                for value in [u32::MAX, 0, 0xdead_beef] {
                    guest.asm.pci_write(slot, function, register, value);
                    guest.asm.pci_read(slot, function, register);
                }
            }
        }
        guest.asm.print("chips\n");
        for base in [1, 0x1_0001, 0xc000_0001, 0xfec0_0001, 0xf000_0001, 0xffff_ffff] {
            guest.asm.pci_write(0, 0, 0x60, base);
            guest.asm.load(Dword, 0xb000_0000);
        }
        guest.asm.pci_write(0, 0, 0x64, 0).pci_write(0, 0, 0x60, 0xb000_0001);
        guest.asm.load(Dword, 0xb000_0000);
        guest.expect("host bridge in the window", 0x29c0_8086);
        guest.asm.sweep(0xb000_0000, 0xb010_0000, 4093, |asm| {
            for width in [Byte, Word, Dword, Qword] {
                asm.load_there(width);
            }
        });
        // Buses that are not there.
        guest.asm.sweep(0xb010_0000, 0xc000_0000, 0x10_0001, |asm| {
            asm.load_there(Dword).set_eax(u32::MAX).store_there(Dword);
        });
        guest.asm.print("window\n");
        for device in devices.iter_mut() {
            guest.place(device);
        }
        guest.case("after configuration", devices, &[], |_, _| {});
    });
}

#[test]
fn a_guest_that_halts_for_good_still_has_a_power_switch() {
    if without_kvm() {
        return;
    }
    let kernel = baremetal::long_mode(|asm| {
        asm.print("halting\n").stop();
    });
    let mut vm = Vm::start(Setup::default(), &kernel);
    vm.read_until("halting");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(vm.state(), RunState::Running);
    vm.call(Request::Pause);
    assert_eq!(vm.state(), RunState::Paused);
    vm.call(Request::Resume);
    vm.call(Request::Destroy);
    assert_eq!(vm.end(), ExitReason::Destroyed);
}

#[test]
fn a_triple_fault_is_a_crash_that_is_told_in_full() {
    if without_kvm() {
        return;
    }
    let kernel = baremetal::long_mode(|asm| {
        asm.print("faulting\n").triple_fault();
    });
    let mut vm = Vm::start(Setup::default(), &kernel);
    vm.read_until("faulting");
    let ExitReason::Crashed(report) = vm.end() else { panic!("not a crash") };
    assert_eq!((report.cause.as_str(), report.vcpu), ("triple fault", Some(0)));
    assert!(report.registers.is_some_and(|text| text.to_lowercase().contains("rip")));
}

#[test]
fn a_crashed_guest_is_kept_where_its_policy_says_so() {
    if without_kvm() {
        return;
    }
    let kernel = baremetal::long_mode(|asm| {
        asm.print("faulting\n").triple_fault();
    });
    let mut vm = Vm::start(Setup { on_crash: Action::Preserve, ..Setup::default() }, &kernel);
    vm.read_until("faulting");
    while vm.state() != RunState::Crashed {
        thread::sleep(Duration::from_millis(5));
    }
    vm.call(Request::Destroy);
    assert_eq!(vm.end(), ExitReason::Destroyed);
}

/// Each way to the reset line, from a machine that resets as soon as it runs.
#[test]
fn resets_in_a_storm_leave_the_vmm_in_charge() {
    if without_kvm() {
        return;
    }
    for (port, value) in [(0xcf9, 6), (0x64, 0xfe), (0x92, 1)] {
        let kernel = baremetal::long_mode(|asm| {
            // The write to 0xcf9 waits for the next exit.
            asm.print("up\n").out(Byte, port, value).read_port(Byte, 0x80).stop();
        });
        let setup = Setup { on_reboot: Action::Restart, ..Setup::default() };
        let mut vm = Vm::start(setup, &kernel);
        for _ in 0..3 {
            vm.read_until("up");
        }
        for _ in 0..20 {
            assert_eq!(vm.state(), RunState::Running);
        }
        vm.call(Request::Destroy);
        assert_eq!(vm.end(), ExitReason::Destroyed);
    }
}

/// One guest for each register: on some hosts there is no way back from the fault that most are.
#[test]
fn registers_that_do_not_exist_end_the_guest_alone() {
    if without_kvm() {
        return;
    }
    let registers = [0x10, 0x1b, 0x8b, 0x174, 0x1a0, 0x1d9, 0x277, 0x38f, 0x6e0, 0x808];
    for msr in registers.into_iter().chain([0x4000_0000, 0x4b56_4d00, 0xc000_0080, u32::MAX]) {
        for value in [None, Some(0), Some(u64::MAX)] {
            let kernel = baremetal::long_mode(|asm| {
                asm.print("trying\n");
                match value {
                    Some(value) => asm.wrmsr(msr, value),
                    None => asm.rdmsr(msr),
                };
                asm.power_off();
            });
            let mut vm = Vm::start(Setup::default(), &kernel);
            vm.read_until("trying");
            let reason = vm.end();
            let good = matches!(reason, ExitReason::Shutdown | ExitReason::Crashed(_));
            assert!(good, "MSR {msr:#x}, {value:x?}: {reason:?}");
        }
    }
}

/// The far pointer to the handler of NMIs in real mode.
const NMI_VECTOR: u32 = 8;
/// Where a processor enters system management mode after a reset.
const SMM_ENTRY: u32 = 0x3_8000;
/// Delivery modes of interrupts between processors (Intel SDM volume 3, 12.6.1).
const SMI: u32 = 2;
/// Its vector is a page to start at.
const START_UP: u32 = 6;

/// A second processor that halts wherever an interrupt may have taken it: what it made of bytes that
/// are no code would be an attack of the guest on its own rings.
fn park_other(guest: &mut Guest<'_>) {
    guest.asm.poke(Dword, NMI_VECTOR, baremetal::TRAMPOLINE_VECTOR << 24);
    guest.asm.poke(Dword, SMM_ENTRY, 0xaa0f); // rsm
    // mov sp, 0x3000; and then: cli; hlt, for ever.
    guest.asm.start_others(1, &[0xbc, 0x00, 0x30], &[0xfa, 0xf4, 0xeb, 0xfc]);
}

fn interrupt_other(guest: &mut Guest<'_>, mode: u32, vector: u32) {
    guest.asm.poke(Dword, 0xfee0_0310, u32::MAX);
    guest.asm.poke(Dword, 0xfee0_0300, 0x000c_4000 | mode << 8 | vector);
}

/// Another vCPU is a place that nobody looks after: it gets every kind of interrupt, and none.
#[test]
fn interrupts_sent_everywhere_are_contained() {
    attack(Setup { cpus: 2, ..Setup::default() }, |guest, devices| {
        park_other(guest);
        // To the other: fixed, lowest priority, reserved, NMI, INIT, start-up, reserved.
        for mode in (0..8).filter(|mode| *mode != SMI) {
            let parked = [baremetal::TRAMPOLINE_VECTOR; 4];
            let vectors = if mode == START_UP { parked } else { [0, 1, 0x20, 0xff] };
            for vector in vectors {
                interrupt_other(guest, mode, vector);
            }
        }
        guest.asm.print("sent\n");
        guest.asm.poke(Dword, 0xfee0_0300, 0x000c_4500);
        guest.case("after interrupts", devices, &[], |_, _| {});
    });
}

/// This machine has no system management mode, so nothing stands where a processor would enter it: it
/// is for KVM whether the guest finds its RAM there or ends.
#[test]
fn an_smi_ends_the_guest_alone_if_anything() {
    if without_kvm() {
        return;
    }
    let kernel = driver::kernel(|guest| {
        park_other(guest);
        guest.asm.print("sending\n");
        interrupt_other(guest, SMI, 0);
        guest.pause(1000);
    });
    let mut vm = Vm::start(Setup { cpus: 2, ..Setup::default() }, &kernel);
    vm.read_until("sending");
    let reason = vm.end();
    println!("after an SMI: {reason:?}");
    assert!(matches!(reason, ExitReason::Shutdown | ExitReason::Crashed(_)), "{reason:?}");
}
