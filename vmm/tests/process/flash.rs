//! What a firmware of our own does to the flash with its variables, to its ROM, and to fw_cfg.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, SCRATCH, firmware};
use vmm_protocol::config::{FwCfgContent, FwCfgFile};
use vmm_protocol::control::Request;
use vmm_protocol::exit::ExitReason;

use crate::needs_kvm;
use crate::rig::Rig;
use crate::save::save;

/// Right below an image of 64 KiB.
const FLASH: u32 = 0xffff_0000 - LEN as u32;
const LEN: usize = 16 << 10;

const PROGRAM: u32 = 0x10;
const ERASE: u32 = 0x20;
const CLEAR_STATUS: u32 = 0x50;
const READ_STATUS: u32 = 0x70;
const CONFIRM: u32 = 0xd0;
const READ_ARRAY: u32 = 0xff;

/// Erased, with a word at its start.
fn variables() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0xff; LEN]).unwrap();
    file.write_all_at(b"vars", 0).unwrap();
    file
}

fn run(image: &[u8], variables: &File) -> String {
    let (_, record, serial) = Rig::new(&[]).firmware(image).variables(variables).start().wait();
    assert_eq!(record.reason, ExitReason::Shutdown, "{serial}");
    serial
}

fn command(asm: &mut Asm, offset: u32, commands: &[u32]) {
    for value in commands {
        asm.poke(Byte, FLASH + offset, *value);
    }
}

fn print(asm: &mut Asm, offset: u32) {
    asm.load(Dword, FLASH + offset).print_eax().print(" ");
}

#[test]
fn what_firmware_programs_is_in_the_file_and_there_at_the_next_start() {
    needs_kvm!();
    let file = variables();
    let serial = run(
        &firmware(|asm| {
            print(asm, 0);
            command(asm, 0, &[CLEAR_STATUS, READ_STATUS]);
            print(asm, 0);
            for (offset, byte) in (0x1000..).zip(*b"good") {
                command(asm, offset, &[PROGRAM, byte.into()]);
            }
            print(asm, 0x1000);
            command(asm, 0, &[ERASE, CONFIRM, READ_ARRAY]);
            print(asm, 0);
            print(asm, 0x1000);
            asm.power_off();
        }),
        &file,
    );
    assert_eq!(serial, "73726176 00000000 80808080 ffffffff 646f6f67 ");
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, 0xfff).unwrap();
    assert_eq!(&bytes, b"\xffgood\xff");
    let again = firmware(|asm| {
        print(asm, 0x1000);
        asm.power_off();
    });
    assert_eq!(run(&again, &file), "646f6f67 ");
}

#[test]
fn flash_that_shows_its_status_does_so_in_another_process_and_a_reset_ends_it() {
    needs_kvm!();
    let file = variables();
    let image = firmware(|asm| {
        print(asm, 0);
        command(asm, 0, &[READ_STATUS]);
        let again = asm.here();
        asm.load(Byte, FLASH).print_eax().print("\n");
        asm.repeat(100, |asm| {
            asm.read_port(Byte, 0x80);
        });
        asm.jump(again);
    });
    let rig = || Rig::new(&[]).firmware(&image).variables(&file);
    let saved = tempfile::tempfile().unwrap();
    let before = save(rig().start(), &saved, 50);
    assert!(before.starts_with("73726176 00000080\n"), "{before}");
    let mut guest = rig().restoring(&saved).start();
    let after = guest.wait_serial("its status", |serial| serial.len() > 50);
    assert!(after.ends_with("80\n") || after.contains("00000080\n000"), "{after}");
    let (mut client, _) = guest.greet();
    client.ask(Request::Reset).unwrap();
    guest.wait_serial("the array", |serial| serial.contains("73726176"));
}

#[test]
fn a_firmware_that_writes_everywhere_below_4_gib_changes_nothing_but_flash() {
    needs_kvm!();
    let file = variables();
    let image = firmware(|asm| {
        for (width, step) in [(Byte, 0xffd), (Word, 0xfff), (Dword, 0x1003)] {
            asm.sweep(0xff00_0000, 0xffff_fff0, step, |asm| {
                asm.set_eax(0x2020_2020).store_there(width);
                asm.load_there(width);
            });
        }
        // In the image, over its end, and over the top of the flash.
        asm.poke(Dword, 0xffff_fffc, 0).poke(Dword, FLASH + LEN as u32 - 2, 0x1010_1010);
        command(asm, 0x2000, &[READ_ARRAY, READ_ARRAY, PROGRAM, 0x42, READ_ARRAY]);
        asm.load(Byte, FLASH + 0x2000).print_eax().power_off();
    });
    assert_eq!(run(&image, &file), "00000042");
}

/// Addresses of requests, and what they ask for, that no driver would write.
#[test]
fn requests_to_fw_cfg_that_make_no_sense_leave_it_working() {
    needs_kvm!();
    let image = firmware(|asm| {
        let dma = |asm: &mut Asm, high: u32, low: u32| {
            asm.out(Dword, 0x514, high.swap_bytes()).out(Dword, 0x518, low.swap_bytes());
        };
        for (high, low) in [
            (u32::MAX, u32::MAX),
            (0, 0xffff_fff8),
            (0, 64 << 20),
            (0, (64 << 20) - 8),
            (0, 0xffff_0000),
            (1, 0),
        ] {
            dma(asm, high, low);
        }
        // Control, length and address: everything at once, and far too much.
        for (control, length, address) in [
            (0xffff_ffff, 0xffff_ffff, 0xffff_ffff),
            (0x0019_000a, 0xffff_ffff, SCRATCH),
            (0x0019_000a, 0x1000, (64 << 20) - 0x800),
            (0x0019_000a, 0x40, SCRATCH),
            (0x0000_0010, 4, SCRATCH),
        ] {
            let words = [control, length, 0, address];
            for (at, word) in (SCRATCH..).step_by(4).zip(words) {
                asm.poke(Dword, at, word.swap_bytes());
            }
            dma(asm, 0, SCRATCH);
        }
        for (width, port) in [(Dword, 0x510), (Word, 0x511), (Dword, 0x512), (Byte, 0x51b)] {
            asm.out(width, port, 0x1919_1919).read_port(width, port);
        }
        asm.out(Word, 0x510, 0).read_port(Byte, 0x511).print_eax();
        asm.power_off();
    });
    let (_, record, serial) = Rig::new(&[]).firmware(&image).start().wait();
    assert_eq!((serial.as_str(), record.reason), ("00000051", ExitReason::Shutdown));
}

#[test]
fn files_of_the_definition_are_in_fw_cfg_also_for_a_kernel() {
    needs_kvm!();
    // The only file has the first selector.
    let kernel = baremetal::pvh(|asm| {
        asm.out(Word, 0x510, 0x20).repeat(5, |asm| {
            asm.read_port(Byte, 0x511).write_port(Byte, 0x3f8);
        });
        asm.power_off();
    });
    let file = |name: &str, content| FwCfgFile { name: name.to_owned(), content };
    let mut rig = Rig::new(&kernel);
    let mut content = tempfile::tempfile().unwrap();
    content.write_all(b"hello").unwrap();
    std::io::Seek::rewind(&mut content).unwrap();
    let content = FwCfgContent::File(rig.add(content));
    rig.config.fw_cfg = vec![file("opt/test", content)];
    assert_eq!(rig.start().wait().2, "hello");

    let mut rig = Rig::new(&kernel);
    rig.config.fw_cfg = vec![file("etc/test", FwCfgContent::Text("hello".to_owned()))];
    let ExitReason::Failed { message } = rig.start().wait().1.reason else { panic!() };
    assert!(message.contains("etc/test") && message.contains("opt/"), "{message}");
}
