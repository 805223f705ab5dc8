//! Saving a paused machine, and going on in another process.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use baremetal::{Asm, SCRATCH, Width, pvh};
use vmm_protocol::config::{Machine, PciKind};
use vmm_protocol::control::{ControlErrorCode, Reply, Request, RunState};
use vmm_protocol::exit::ExitReason;
use vmm_protocol::saved::{self, BODY};

use crate::devices::{device, one_of_each};
use crate::disks;
use crate::needs_kvm;
use crate::rig::{Guest, Rig};

/// Counts in memory, and prints each number on a line.
fn counting() -> Vec<u8> {
    counting_after(|_| {})
}

fn counting_after(first: impl FnOnce(&mut Asm)) -> Vec<u8> {
    pvh(|asm| {
        first(asm);
        let again = asm.here();
        asm.load(Width::Dword, SCRATCH).add_eax(1).store(Width::Dword, SCRATCH);
        asm.print_eax().print("\n");
        asm.repeat(100, |asm| {
            asm.read_port(Width::Byte, 0x80);
        });
        asm.jump(again);
    })
}

fn numbers(serial: &str) -> Vec<u32> {
    let whole = serial.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.filter_map(|line| u32::from_str_radix(line.trim(), 16).ok()).collect()
}

/// Pause and save once `bytes` were printed; the guest is ended as saved, and what it printed comes back.
pub(crate) fn save(mut guest: Guest, file: &File, bytes: usize) -> String {
    guest.wait_serial("counting", |serial| serial.len() > bytes);
    let (mut client, _) = guest.greet();
    assert_eq!(client.save(file).unwrap_err().code, ControlErrorCode::State, "it runs");
    client.ask(Request::Pause).unwrap();
    assert_eq!(client.save(file), Ok(Reply::Done));
    client.ask(Request::Destroy).unwrap();
    let (_, record, serial) = guest.wait();
    assert_eq!(record.reason, ExitReason::Saved);
    serial
}

#[test]
fn a_saved_guest_goes_on_counting_in_a_new_process() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    let before = save(Rig::new(&counting()).cpus(2).start(), &image, 200);
    let mut guest = Rig::new(&counting()).cpus(2).restoring(&image).start();
    let after = guest.wait_serial("counting", |serial| serial.lines().count() > 20);
    // A line may have been cut in two by the save.
    let all = numbers(&(before + &after));
    assert!(all.len() >= 40 && all[0] == 1, "{all:?}");
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
}

#[test]
fn a_packed_guest_is_smaller_and_goes_on_as_any_other() {
    needs_kvm!();
    let (plain, image) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    // 1 MiB that says little: mov edi, 4 MiB; mov ecx, 256 Ki; mov eax, …; rep stosd.
    let wordy = counting_after(|asm| {
        asm.raw(&[0xbf, 0, 0, 0x40, 0, 0xb9, 0, 0, 4, 0, 0xb8, 1, 2, 3, 4, 0xf3, 0xab]);
    });
    let mut guest = Rig::new(&wordy).cpus(2).start();
    guest.wait_serial("counting", |serial| serial.len() > 200);
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    client.save(&plain).unwrap();
    assert_eq!(client.ask_with(Request::SavePacked, &image), Ok(Reply::Done));
    client.ask(Request::Destroy).unwrap();
    let before = guest.wait().2;
    let len = |file: &File| std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(len(&image) * 2 < len(&plain), "{} {}", len(&image), len(&plain));
    saved::check_ram(&image, |_, _| Ok(())).unwrap();
    let mut guest = Rig::new(&counting()).cpus(2).restoring(&image).start();
    let after = guest.wait_serial("counting", |serial| serial.lines().count() > 20);
    let all = numbers(&(before + &after));
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
    // Damage is found although nobody asked for a check.
    let body = saved::Body::read(&image).unwrap();
    image.write_all_at(&[0x55; 4], body.end() - 8).unwrap();
    let (_, record, _) = Rig::new(&counting()).cpus(2).restoring(&image).start().wait();
    let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
    assert!(message.contains("its memory at"), "{message}");
}

/// The guest counts in memory all the while.
#[test]
fn memory_is_copied_while_the_guest_runs_and_it_waits_for_the_rest_alone() {
    needs_kvm!();
    let with_all = || {
        let mut rig = Rig::new(&counting()).cpus(2).memory(512);
        let devices = one_of_each(&mut rig);
        rig.devices(devices)
    };
    let image = tempfile::tempfile().unwrap();
    let mut guest = with_all().start();
    guest.wait_serial("counting", |serial| serial.len() > 200);
    let (mut client, _) = guest.greet();
    let without = client.ask(Request::SaveRest).unwrap_err();
    assert_eq!(without.code, ControlErrorCode::State, "it runs");
    let before = numbers(&guest.serial()).len();
    assert_eq!(client.ask_with(Request::CopyMemory, &image), Ok(Reply::Done));
    assert_eq!(guest.state(), RunState::Running);
    assert!(saved::Body::read(&image).is_err(), "it is no state yet");
    guest.wait_serial("counting", |serial| numbers(serial).len() > before + 20);
    client.ask(Request::Pause).unwrap();
    assert_eq!(client.ask(Request::SaveRest), Ok(Reply::Done));
    let again = client.ask(Request::SaveRest).unwrap_err();
    assert!(again.message.contains("CopyMemory"), "{again:?}");
    client.ask(Request::Destroy).unwrap();
    let before = guest.wait().2;
    saved::check_ram(&image, |_, _| Ok(())).unwrap();
    let mut guest = with_all().restoring(&image).start();
    let after = guest.wait_serial("counting", |serial| serial.lines().count() > 20);
    let all = numbers(&(before + &after));
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
}

#[test]
fn a_copy_that_is_given_up_leaves_the_guest_as_it_was() {
    needs_kvm!();
    let mut guest = Rig::new(&counting()).memory(2048).start();
    guest.wait_serial("counting", |serial| serial.len() > 20);
    let (mut client, _) = guest.greet();
    let (mut other, _) = guest.greet();
    let image = tempfile::tempfile().unwrap();
    let copy = client.send_with(Request::CopyMemory, &[image.as_fd()]);
    // Who speaks on two connections may be heard on the second one first.
    let none = Reply::Progress { done: 0, total: 0 };
    while other.ask(Request::SaveProgress) == Ok(none.clone()) {}
    assert_eq!(other.ask(Request::Reset).unwrap_err().code, ControlErrorCode::Busy);
    other.ask(Request::CancelSave).unwrap();
    assert_eq!(client.reply_to(copy).unwrap_err().code, ControlErrorCode::State);
    client.ask(Request::Pause).unwrap();
    assert_eq!(client.ask(Request::SaveRest).unwrap_err().code, ControlErrorCode::State);
    client.ask(Request::Resume).unwrap();
    let before = guest.serial().len();
    guest.wait_serial("more numbers", |serial| serial.len() > before + 100);
}

/// Once memory is copied nothing is bound to stay as it was.
#[test]
fn the_rest_of_a_copy_has_what_a_reset_has_left() {
    needs_kvm!();
    let mut guest = Rig::new(&counting()).start();
    guest.wait_serial("counting", |serial| serial.len() > 200);
    let (mut client, _) = guest.greet();
    let image = tempfile::tempfile().unwrap();
    assert_eq!(client.ask_with(Request::CopyMemory, &image), Ok(Reply::Done));
    client.ask(Request::Reset).unwrap();
    guest.wait_serial("a new start", |serial| serial.matches("00000001\n").count() > 1);
    client.ask(Request::Pause).unwrap();
    assert_eq!(client.ask(Request::SaveRest), Ok(Reply::Done));
    saved::check_ram(&image, |_, _| Ok(())).unwrap();
    client.ask(Request::Destroy).unwrap();
    let last = *numbers(&guest.wait().2).last().unwrap();
    let mut guest = Rig::new(&counting()).restoring(&image).start();
    let after = guest.wait_serial("counting", |serial| serial.lines().count() > 4);
    let next = numbers(&after)[1];
    assert!((last + 1..last + 4).contains(&next), "{next} came after {last}");
}

#[test]
fn one_image_starts_several_guests_and_none_of_them_changes_it() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    save(Rig::new(&counting()).start(), &image, 200);
    let first = |guest: &mut Guest| {
        let serial = guest.wait_serial("counting", |serial| numbers(serial).len() > 3);
        numbers(&serial)[1]
    };
    let mut one = Rig::new(&counting()).restoring(&image).start();
    let mut other = Rig::new(&counting()).restoring(&image).start();
    assert_eq!(first(&mut one), first(&mut other));
    // Reset, a restored guest starts from nothing.
    let (mut client, _) = one.greet();
    client.ask(Request::Reset).unwrap();
    one.wait_serial("a new start", |serial| serial.contains("00000001\n00000002\n"));
}

#[test]
fn a_guest_can_go_on_after_it_was_saved() {
    needs_kvm!();
    let mut guest = Rig::new(&counting()).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    client.save(&tempfile::tempfile().unwrap()).unwrap();
    client.ask(Request::Resume).unwrap();
    let before = guest.serial().len();
    guest.wait_serial("more numbers", |serial| serial.len() > before + 100);
    assert!(numbers(&guest.serial()).windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_save_is_watched_and_given_up_while_the_socket_is_served() {
    needs_kvm!();
    let mut guest = Rig::new(&counting()).memory(2048).start();
    let (mut client, _) = guest.greet();
    let (mut other, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    let image = tempfile::tempfile().unwrap();
    let save = client.send_with(Request::Save, &[image.as_fd()]);
    let Ok(Reply::Progress { done, total }) = other.ask(Request::SaveProgress) else {
        panic!("no progress");
    };
    assert!(total == 2 << 30 && done < total, "{done} of {total}");
    assert_eq!(other.ask(Request::Resume).unwrap_err().code, ControlErrorCode::Busy);
    other.ask(Request::CancelSave).unwrap();
    assert_eq!(client.reply_to(save).unwrap_err().code, ControlErrorCode::State);
    assert!(saved::Body::read(&image).is_err(), "it is no state");
    client.ask(Request::Resume).unwrap();
    let before = guest.serial().len();
    guest.wait_serial("more numbers", |serial| serial.len() > before + 100);
}

#[test]
fn what_was_saved_passes_the_check_of_its_memory() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    save(Rig::new(&counting()).start(), &image, 200);
    saved::check_ram(&image, |_, _| Ok(())).unwrap();
    let ram = saved::Body::read(&image).unwrap().ram();
    image.write_all_at(b"?", ram + u64::from(SCRATCH)).unwrap();
    assert!(saved::check_ram(&image, |_, _| Ok(())).is_err());
}

#[test]
fn a_save_without_a_file_is_refused() {
    needs_kvm!();
    let guest = Rig::new(&counting()).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    assert_eq!(client.ask(Request::Save).unwrap_err().code, ControlErrorCode::Malformed);
    let read_only = File::open("/dev/null").unwrap();
    assert_eq!(client.save(&read_only).unwrap_err().code, ControlErrorCode::Failed);
    assert_eq!(guest.state(), RunState::Paused);
}

#[test]
fn a_state_of_another_machine_or_a_damaged_one_is_refused_with_the_reason() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    save(Rig::new(&counting()).start(), &image, 200);
    let refused = |rig: Rig| {
        let (status, record, _) = rig.restoring(&image).start().wait();
        assert_eq!(status.code(), Some(1));
        let ExitReason::Failed { message } = record.reason else { panic!("{record:?}") };
        message
    };
    let message = refused(Rig::new(&counting()).memory(128));
    assert!(message.contains("memory size was 67108864"), "{message}");
    let message = refused(Rig::new(&counting()).cpus(2));
    assert!(message.contains("number of vCPUs"), "{message}");
    let mut byte = [0];
    image.read_exact_at(&mut byte, BODY + 5000).unwrap();
    image.write_all_at(&[byte[0] ^ 1], BODY + 5000).unwrap();
    let message = refused(Rig::new(&counting()));
    assert!(message.contains("checksum"), "{message}");
    image.write_all_at(b"no state", BODY).unwrap();
    assert!(refused(Rig::new(&counting())).contains("no saved state"));
}

#[test]
fn a_saved_microvm_goes_on_with_its_event_device() {
    needs_kvm!();
    let microvm = || {
        let mut rig = Rig::new(&counting());
        rig.config.platform.machine = Machine::Microvm;
        rig
    };
    let image = tempfile::tempfile().unwrap();
    save(microvm().start(), &image, 200);
    let mut guest = microvm().restoring(&image).start();
    guest.wait_serial("counting", |serial| serial.lines().count() > 20);
}

/// The drives that only this board has, with one of each other kind that it can have too.
#[test]
fn a_pc_with_ide_drives_is_saved_and_restored() {
    needs_kvm!();
    let pc = || {
        let mut rig = Rig::new(&counting());
        rig.config.platform.machine = Machine::Pc;
        let mut devices = vec![disks::ide(&mut rig)];
        devices.push(device("scsi0", 4, PciKind::Scsi(disks::scsi(&mut rig))));
        devices.push(device("nvme0", 5, PciKind::Nvme(disks::nvme(&mut rig))));
        rig.devices(devices)
    };
    let image = tempfile::tempfile().unwrap();
    let before = save(pc().start(), &image, 200);
    let mut guest = pc().restoring(&image).start();
    let after = guest.wait_serial("counting", |serial| serial.lines().count() > 20);
    let all = numbers(&(before + &after));
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
}

/// Every kind of device that a machine can have goes through a file and back.
#[test]
fn a_machine_with_one_of_each_device_is_saved_and_restored() {
    needs_kvm!();
    let with_all = || {
        let mut rig = Rig::new(&counting());
        let devices = one_of_each(&mut rig);
        rig.config.generation = Some(ONE.parse().unwrap());
        rig.devices(devices)
    };
    let image = tempfile::tempfile().unwrap();
    let before = save(with_all().start(), &image, 200);
    let mut guest = with_all().restoring(&image).start();
    let after = guest.wait_serial("counting", |serial| serial.lines().count() > 20);
    let all = numbers(&(before + &after));
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
}

/// Where the number of the guest's generation lies, and the status of general purpose events.
const GENERATION: u32 = 0xfeff_b000;
const GPE_STATUS: u16 = 0x620;
const ONE: &str = "11111111-0000-0000-0000-000000000000";
const OTHER: &str = "22222222-0000-0000-0000-000000000000";

/// Tells for ever of which generation it is, and which events are pending.
fn of_a_generation(id: &str) -> Rig {
    let kernel = pvh(|asm| {
        let again = asm.here();
        asm.load(Width::Dword, GENERATION).print_eax().print(" ");
        asm.read_port(Width::Word, GPE_STATUS).and_eax(0xffff).print_eax().print("\n");
        // Nothing that it writes there changes it.
        asm.poke(Width::Dword, GENERATION, 7);
        asm.repeat(100, |asm| {
            asm.read_port(Width::Byte, 0x80);
        });
        asm.jump(again);
    });
    let mut rig = Rig::new(&kernel);
    rig.config.generation = Some(id.parse().unwrap());
    rig
}

#[test]
fn a_guest_that_goes_on_as_another_generation_reads_so_and_gets_an_event() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    let before = save(of_a_generation(ONE).start(), &image, 60);
    assert!(before.lines().all(|line| "11111111 00000000".starts_with(line)), "{before}");
    let last = |rig: Rig| {
        let mut guest = rig.start();
        let seen = guest.wait_serial("lines", |serial| serial.lines().count() > 4);
        let last = seen.lines().nth(3).unwrap().to_owned();
        (guest, last)
    };
    let (_same, line) = last(of_a_generation(ONE).restoring(&image));
    assert_eq!(line, "11111111 00000000");
    let (mut guest, line) = last(of_a_generation(OTHER).restoring(&image));
    assert_eq!(line, "22222222 00000020", "the event of the tables' _E05");
    // A reset is no new generation.
    let (mut client, _) = guest.greet();
    client.ask(Request::Reset).unwrap();
    guest.wait_serial("a new start", |serial| serial.contains("22222222 00000000\n"));
}

#[test]
fn a_microvm_hears_of_its_generation_from_the_event_device() {
    needs_kvm!();
    let microvm = |id: &str| {
        let kernel = pvh(|asm| {
            let again = asm.here();
            // A read takes what is pending.
            asm.read_port(Width::Byte, 0x600).and_eax(0xff).print_eax().print("\n");
            asm.repeat(100, |asm| {
                asm.read_port(Width::Byte, 0x80);
            });
            asm.jump(again);
        });
        let mut rig = Rig::new(&kernel);
        rig.config.platform.machine = Machine::Microvm;
        rig.config.generation = Some(id.parse().unwrap());
        rig
    };
    let image = tempfile::tempfile().unwrap();
    save(microvm(ONE).start(), &image, 60);
    let mut guest = microvm(OTHER).restoring(&image).start();
    let seen = guest.wait_serial("the event", |serial| numbers(serial).contains(&2));
    assert_eq!(numbers(&seen).iter().filter(|number| **number == 2).count(), 1, "{seen}");
}

/// Where the host keeps the guest's clock: behind the version stand the TSC and the time of one moment.
const PVCLOCK: u32 = SCRATCH + 0x1000;
const SYSTEM_TIME: u32 = PVCLOCK + 16;
const MSR_KVM_SYSTEM_TIME_NEW: u32 = 0x4b56_4d01;
/// rdtsc; shrd eax, edx, 20
const READ_TSC: [u8; 6] = [0x0f, 0x31, 0x0f, 0xac, 0xd0, 20];

/// Tells for ever of its TSC, in units of 2^20, and of the host's last word on the time.
fn telling_time() -> Vec<u8> {
    pvh(|asm| {
        asm.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, u64::from(PVCLOCK) | 1);
        let again = asm.here();
        asm.raw(&READ_TSC).print_eax().print(" ");
        asm.load(Width::Dword, SYSTEM_TIME + 4).print_eax();
        asm.load(Width::Dword, SYSTEM_TIME).print_eax().print("\n");
        asm.repeat(200, |asm| {
            asm.read_port(Width::Byte, 0x80);
        });
        asm.jump(again);
    })
}

/// TSC and nanoseconds of each whole line.
fn times(serial: &str) -> Vec<(u64, u64)> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let whole = serial.split_inclusive('\n').filter(|line| line.len() == 8 + 1 + 16 + 1);
    whole
        .filter_map(|line| {
            let (tsc, time) = line.trim().split_once(' ')?;
            Some((hex(tsc)?, hex(time)?))
        })
        .collect()
}

/// The host's own clock goes on meanwhile.
#[test]
fn the_clocks_of_a_restored_guest_go_on_where_they_stood() {
    needs_kvm!();
    let image = tempfile::tempfile().unwrap();
    let begun = std::time::Instant::now();
    let before = times(&save(Rig::new(&telling_time()).start(), &image, 800));
    let ran = begun.elapsed();
    std::thread::sleep(std::time::Duration::from_secs(3));
    let mut guest = Rig::new(&telling_time()).restoring(&image).start();
    let after = guest.wait_serial("the time", |serial| serial.lines().count() > 30);
    let after = times(&after);
    let all: Vec<_> = before.iter().chain(&after).copied().collect();
    assert!(before.len() > 10 && after.len() > 10 && before[5].1 > 0, "{all:x?}");
    assert!(all.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{all:x?}");
    let (last, next) = (before[before.len() - 1].1, after[0].1);
    // What it reads is not newer than its last look at the clock.
    let passed = std::time::Duration::from_nanos(next - last);
    assert!(passed < ran + std::time::Duration::from_secs(1), "{passed:?} after {ran:?}");
}
