//! A guest that does nothing but kick, and what others have of their time meanwhile.

use std::time::Duration;

use baremetal::Width::Word;

use crate::driver::{Device, NOTIFY};
use crate::vm::{Setup, Vm, pace};
use crate::{driver, without_kvm};

/// Of an answer, on a machine that is busy with other tests: a tenth of a second is the aim.
const PATIENCE: Duration = Duration::from_secs(2);
const KICKS: u32 = 300_000;

/// All queues of all devices in turn, with work in some and none in others; between them, disks and
/// all else serve what they are asked.
#[test]
fn kicks_without_end_starve_neither_the_control_socket_nor_other_devices() {
    if without_kvm() {
        return;
    }
    let kicks = KICKS / pace();
    let mut devices = Device::all(false);
    let kernel = driver::kernel(|guest| {
        guest.start(&mut devices);
        guest.asm.print("kicking\n");
        let doorbells: Vec<(u32, u32)> = devices
            .iter()
            .flat_map(|device| (0..device.rings.len() as u32).map(|queue| (device.bar, queue)))
            .collect();
        let rounds = 20;
        for _ in 0..rounds {
            for device in &mut devices {
                guest.offer_busy(device);
            }
            let times = kicks / rounds / doorbells.len() as u32;
            guest.asm.repeat(times, |asm| {
                for (bar, queue) in &doorbells {
                    asm.poke(Word, bar + NOTIFY + 4 * queue, *queue);
                }
            });
            for device in &mut devices {
                guest.wait_used(device, 1);
                guest.works(device);
            }
        }
        guest.asm.print("kicked\n");
    });
    let mut vm = Vm::start(Setup::default(), &kernel);
    vm.read_until("kicking");
    let longest = vm.answers_until("kicked");
    println!("torture: kicks: {kicks} tried: the control socket answered within {longest:?}");
    assert!(longest < PATIENCE * pace(), "an answer took {longest:?}");
    vm.read_until("DONE");
    assert_eq!(vm.end(), vmm_protocol::exit::ExitReason::Shutdown);
}
