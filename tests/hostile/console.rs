//! Messages that no driver of a console sends (virtio 1.2 §5.3.6), and a host that says more than anybody reads.

use std::fs::File;

use baremetal::Width::Dword;
use manor_tests::tries::resident_bytes_of;

use crate::driver::{Kind, WRITE};
use crate::vm::{Setup, Vm};
use crate::{attack, driver, without_kvm};

const MULTIPORT: u64 = 1 << 1;
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;

#[test]
fn messages_about_ports_that_do_not_exist_change_nothing() {
    attack(Setup::default(), |guest, devices| {
        guest.case("messages", devices, &[Kind::Console], |guest, device| {
            let plain = device.clone();
            device.features |= MULTIPORT;
            device.add_queue(64);
            device.add_queue(64);
            guest.bring_up(device);
            let at = device.buffers;
            for port in [0, 1, 2, 31, 0x7fff_ffff, u32::MAX] {
                for event in [0, 1, 2, 3, 4, 5, 6, 7, 8, 0xffff] {
                    for value in [0, 1, 0xffff] {
                        guest.asm.poke(Dword, at, port).poke(Dword, at + 4, event | value << 16);
                        guest.submit_to(device, CONTROL_OUT, &[(at.into(), 8, 0)]);
                        guest.wait_used_on(device, CONTROL_OUT, 1);
                    }
                }
            }
            guest.runs(device);
            // Cut short, far too long, and of no direction.
            for parts in [
                &[(u64::from(at), 1, 0)][..],
                &[(at.into(), 7, 0)],
                &[(at.into(), 9, 0)],
                &[(at.into(), 0x4_0000, 0)],
                &[(at.into(), 3, 0), (u64::from(at) + 3, 5, 0)],
                &[(at.into(), 8, WRITE)],
            ] {
                guest.submit_to(device, CONTROL_OUT, parts);
                guest.pause(30);
                guest.runs_or_is_broken(device);
                guest.bring_up(device);
            }
            // What the device has to say finds places that hold none of it: it is ready, and says so
            // again and again.
            for len in [1, 7, 8] {
                for _ in 0..16 {
                    let place = (u64::from(at) + 0x1000, len, WRITE);
                    guest.offer_chain(&mut device.rings[CONTROL_IN], &[place]);
                }
                guest.kick(device, CONTROL_IN as u16);
                guest.asm.poke(Dword, at, 0).poke(Dword, at + 4, 1 << 16);
                for _ in 0..8 {
                    guest.submit_to(device, CONTROL_OUT, &[(at.into(), 8, 0)]);
                }
                guest.pause(50);
                guest.runs_or_is_broken(device);
                guest.bring_up(device);
            }
            *device = plain;
        });
    });
}

/// The serial port of a guest that reads none of it: what does not fit is left with the host.
#[test]
fn a_host_that_never_stops_talking_fills_no_memory() {
    if without_kvm() {
        return;
    }
    let mut devices = driver::Device::all(false);
    let kernel = driver::kernel(|guest| {
        guest.start(&mut devices);
        guest.asm.print("begun\n");
        guest.case("while the host talks", &mut devices, &[], |guest, _| guest.pause(2_000));
    });
    let stdin = Some(File::open("/dev/zero").unwrap());
    let mut vm = Vm::start(Setup { stdin, ..Setup::default() }, &kernel);
    vm.read_until("begun");
    let before = resident_bytes_of(vm.pid());
    vm.read_until("DONE");
    let after = resident_bytes_of(vm.pid());
    // It may have ended meanwhile.
    assert!(after < before + (32 << 20), "{before} bytes became {after}");
    assert_eq!(vm.end(), vmm_protocol::exit::ExitReason::Shutdown);
}
