//! Machines that start at a firmware: Debian's SeaBIOS, and boot sectors of ours.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use baremetal::sector::{self, If};
use vmm_protocol::config::{Boot, Firmware, Machine, Net, PciDevice, PciKind, RootPort};
use vmm_protocol::control::{Reply, Request};
use vmm_protocol::exit::ExitReason;

use crate::devices::{blk, device};
use crate::needs_kvm;
use crate::rig::Rig;
use crate::save::save;
use crate::sys;

/// Where the boot sector keeps how often it started: on the disk, since memory does not last.
const COUNTER: u32 = 40;
const BUFFER: u16 = 0x9000;

fn seabios() -> Vec<u8> {
    std::fs::read(manor_tests::firmware::seabios().unwrap()).unwrap()
}

fn disk_of(image: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(image).unwrap();
    file
}

/// A machine that boots `image` by SeaBIOS, from a disk in `slot`.
fn rig(machine: Machine, slot: u8, image: &[u8]) -> Rig {
    let mut rig = Rig::new(&[]).firmware(&seabios());
    rig.config.platform.machine = machine;
    let disk = PciKind::Blk(blk(&mut rig, disk_of(image)));
    rig.devices(vec![PciDevice { boot_index: Some(1), ..device("virtio-disk0", slot, disk) }])
}

/// Says what it finds, and starts over until it was started `starts` times, each time by the next of
/// the ways that boards have had. Then it powers off.
fn restarting(starts: u8) -> Vec<u8> {
    sector::disk(|code| {
        code.print("boot ").read(COUNTER, 1, BUFFER).increment(BUFFER).write(COUNTER, 1, BUFFER);
        code.print_digit(BUFFER).print(" ");
        code.machine_status().test(1).when(If::NotZero, |code| {
            code.print("protected ");
        });
        code.find_in_bios(*b"RSD ", "acpi").find_in_bios(*b"_SM_", "smbios").print("\n");
        code.load(BUFFER).compare(starts).when(If::Below, |code| {
            code.load(BUFFER).test(1).when(If::NotZero, |code| {
                code.test(2).when(If::NotZero, |code| {
                    code.out_byte(0xcf9, 0x0e).stop(); // cold
                });
                code.out_byte(0xcf9, 0x06).stop(); // warm
            });
            code.test(2).when(If::NotZero, |code| {
                code.out_byte(0x92, 0x01).stop();
            });
            code.out_byte(0x64, 0xfe).stop();
        });
        code.out_word(0x604, 0x3400);
    })
}

fn expected(starts: u8) -> String {
    (1..=starts).map(|start| format!("boot {} acpi smbios \n", start % 8)).collect()
}

#[test]
fn seabios_boots_a_disk_again_and_again_and_powers_off() {
    needs_kvm!();
    let (status, record, serial) = rig(Machine::Q35, 3, &restarting(6)).start().wait();
    assert_eq!(serial, expected(6));
    assert_eq!((status.code(), record.reason), (Some(0), ExitReason::Shutdown));
}

#[test]
fn seabios_boots_the_pc_board_too() {
    needs_kvm!();
    let (_, record, serial) = rig(Machine::Pc, 3, &restarting(2)).cpus(2).start().wait();
    assert_eq!(serial, expected(2));
    assert_eq!(record.reason, ExitReason::Shutdown);
}

/// Nothing piles up, and nothing is left over, in whatever way it resets.
#[test]
#[ignore = "takes long: --all"]
fn both_boards_start_over_twenty_times_in_a_row() {
    needs_kvm!();
    for machine in [Machine::Q35, Machine::Pc] {
        let mut guest = rig(machine, 3, &restarting(21)).cpus(2).start();
        for start in 1..=21 {
            guest.wait_serial("next start", |serial| serial.lines().count() >= start);
        }
        let (_, record, serial) = guest.wait();
        assert_eq!(serial, expected(21));
        assert_eq!(record.reason, ExitReason::Shutdown);
    }
}

/// Text of the BIOS comes a few characters late, hence more of it. Two disks, the first of them behind a root port, and the boot order says the other.
#[test]
fn the_boot_order_decides_and_bios_text_comes_to_the_serial_port() {
    needs_kvm!();
    let says = |text: &str| {
        disk_of(&sector::disk(|code| {
            code.say(text).out_word(0x604, 0x3400);
        }))
    };
    let mut rig = Rig::new(&[]).firmware(&seabios());
    let Boot::Firmware(Firmware { serial_text, .. }) = &mut rig.config.boot else { panic!() };
    *serial_text = true;
    let wrong = PciKind::Blk(blk(&mut rig, says("the wrong disk; then the end")));
    let right = PciKind::Blk(blk(&mut rig, says("the right disk; then the end")));
    let port = PciKind::RootPort(RootPort { controller: 1, chassis: 1, port: 0x10 });
    let mut behind = PciDevice { boot_index: Some(1), ..device("behind", 0, right) };
    behind.address.bus = 1;
    let devices = vec![
        device("port1", 2, port),
        behind,
        PciDevice { boot_index: Some(2), ..device("virtio-disk0", 3, wrong) },
    ];
    let (_, record, serial) = rig.devices(devices).start().wait();
    assert!(serial.contains("the right disk") && !serial.contains("wrong"), "{serial}");
    assert_eq!(record.reason, ExitReason::Shutdown);
}

/// The BIOS is in the middle of its work when it is saved, and so is its driver of the disk.
#[test]
fn a_machine_in_its_firmware_goes_on_in_another_process() {
    needs_kvm!();
    let counting = sector::disk(|code| {
        code.forever(|code| {
            code.read(COUNTER, 1, 0xa000).increment(BUFFER).print_digit(BUFFER);
        });
    });
    let image = tempfile::tempfile().unwrap();
    let before = save(rig(Machine::Q35, 3, &counting).start(), &image, 20);
    let mut guest = rig(Machine::Q35, 3, &counting).restoring(&image).start();
    let after = guest.wait_serial("counting", |serial| serial.len() > 20);
    let all = before + &after;
    let digits: Vec<u32> = all.chars().map(|digit| digit.to_digit(8).unwrap()).collect();
    assert!(digits.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 8), "{all}");

    let kernel = Rig::new(&baremetal::pvh(|asm| _ = asm.stop())).restoring(&image).start();
    let ExitReason::Failed { message } = kernel.wait().1.reason else { panic!() };
    assert!(message.contains("with firmware, here it is"), "{message}");
}

/// iPXE switches modes with IRET, so it takes a complete KVM.
#[test]
fn a_network_card_with_an_option_rom_asks_the_network_what_to_boot() {
    if let Some(skip) = manor_tests::KvmLevel::Linux.lacking() {
        println!("{skip}");
        return;
    }
    let mut rig = Rig::new(&[]).firmware(&seabios());
    let name = format!("pxe{}", std::process::id());
    let tap = match sys::open_tap(&name) {
        Ok(tap) => tap,
        Err(error) => return println!("SKIP: no tap for this test: {error}"),
    };
    let up = Command::new("ip").args(["link", "set", &name, "up"]).status();
    assert!(up.unwrap().success(), "{name} cannot be switched on");
    let rom = File::open(manor_tests::firmware::ipxe().unwrap()).unwrap();
    let net = PciKind::Net(Net {
        taps: vec![rig.add(tap)],
        stream: None,
        vhost: Vec::new(),
        mac: [0x52, 0x54, 0, 1, 2, 3],
        mtu: None,
        link_up: true,
        offloads: true,
        queues: vec![0],
        queue_size: 256,
        rom: Some(rig.add(rom)),
    });
    let net = PciDevice { boot_index: Some(1), ..device("net0", 3, net) };
    let Boot::Firmware(Firmware { serial_text, .. }) = &mut rig.config.boot else { panic!() };
    *serial_text = true;
    let mut guest = rig.devices(vec![net]).start();
    guest.wait_serial("iPXE", |serial| serial.contains("Open Source Network Boot Firmware"));
    let (mut client, _) = guest.greet();
    let mut sent = || {
        let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else { panic!() };
        statistics.interfaces.iter().any(|(_, it)| it.transmit_packets > 0)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !sent() {
        assert!(Instant::now() < deadline, "nothing was sent: {}", guest.serial());
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn firmware_that_cannot_be_is_refused_with_the_reason() {
    needs_kvm!();
    let refused = |image: &[u8], change: fn(&mut Rig)| {
        let mut rig = Rig::new(&[]).firmware(image);
        change(&mut rig);
        let (_, record, _) = rig.start().wait();
        let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
        message
    };
    let message = refused(&[0x90; 1000], |_| ());
    assert!(message.contains("firmware image has 1000 bytes"), "{message}");
    let message = refused(&[0; 128 << 10], |_| ());
    assert!(message.contains("no code at its end"), "{message}");
    let message = refused(&seabios(), |rig| rig.config.platform.machine = Machine::Microvm);
    assert!(message.contains("microvm starts a kernel directly"), "{message}");
}
