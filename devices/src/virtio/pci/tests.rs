use std::sync::atomic::AtomicUsize;

use super::*;
use crate::component::{Component, DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::virtio::Chain;
use crate::virtio::rig::driver::{
    ACKNOWLEDGE, BAR_BASE, DEVICE, DRIVER, DRIVER_OK, Driver, FEATURES_OK, ISR, NEEDS_RESET,
    NOTIFY, QUEUE_SELECT,
};
use crate::virtio::rig::{GuestQueue, HOLE, Random, ram, wait_for};
use crate::virtio::worker::{Context, QueueWorker};

const RINGS: u64 = 0x10000;
const DATA: u64 = 0x10_0000;
const FEATURE_A: u64 = 1 << 3;

/// Echoes chains; holds those whose first byte is 1 until it is stopped. Has one byte of state.
struct Toy {
    thread: Arc<IoThread>,
    byte: u8,
    notify: Option<Arc<dyn Notify>>,
    held: Arc<AtomicUsize>,
}

impl Toy {
    fn new() -> Self {
        let thread = IoThread::spawn("io:toy", || Ok(())).unwrap();
        Self { thread, byte: 7, notify: None, held: Arc::default() }
    }
}

struct ToyWorker {
    held: Vec<Chain>,
    count: Arc<AtomicUsize>,
}

impl QueueWorker for ToyWorker {
    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let queue = &mut cx.queues[position];
        while let Some(mut chain) = queue.next() {
            if chain.read_obj::<u8>() == Some(1) {
                self.held.push(chain);
                self.count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            } else {
                queue.complete(chain, 1);
            }
        }
    }
    fn drain(&mut self, queues: &mut [ActiveQueue]) {
        for chain in self.held.drain(..) {
            queues[0].complete(chain, 2);
        }
    }
}

impl VirtioDevice for Toy {
    fn kind(&self) -> &'static str {
        "virtio-toy"
    }
    fn device_type(&self) -> u16 {
        42
    }
    fn features(&self) -> u64 {
        FEATURE_A
    }
    fn queue_sizes(&self) -> &[u16] {
        &[256, 64]
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::virtio::device::read_config_bytes(&[self.byte], offset, data);
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (0, &[value]) = (offset, data) {
            self.byte = value;
            self.notify.as_ref().unwrap().config_changed();
        }
    }
    fn connect(&mut self, notify: Arc<dyn Notify>) {
        self.notify = Some(notify);
    }
    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let mut workers = Workers::default();
        for index in 0..2 {
            let Some(queue) = activation.take(index) else { continue };
            let worker = ToyWorker { held: Vec::new(), count: self.held.clone() };
            workers.start(&self.thread, worker, vec![queue])?;
        }
        Ok(workers)
    }
    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &self.byte)
    }
    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        self.byte = state.decode(self.kind(), 1)?;
        Ok(())
    }
}

fn rig() -> (Driver, GuestQueue, Arc<AtomicUsize>) {
    let memory = ram();
    let toy = Toy::new();
    let held = toy.held.clone();
    let driver = Driver::new(&memory, toy);
    (driver, GuestQueue::new(&memory, RINGS, 256), held)
}

/// Submit one echo request and wait for its interrupt: the device works.
#[track_caller]
fn expect_echo(driver: &Driver, queue: &mut GuestQueue) {
    queue.ram.write_obj(DATA, 0_u8).unwrap();
    let head = queue.submit(&[(DATA, 1)], &[(DATA + 16, 4)]);
    driver.kick(0);
    wait_for("the queue interrupt", || driver.msi.take(1) > 0);
    assert_eq!(queue.used(), [(head.into(), 1)]);
}

/// A driver reset and a fresh start make the device work, whatever came before.
#[track_caller]
fn expect_recovery(driver: &Driver) {
    let mut queue = GuestQueue::new(&driver.function.ram, RINGS, 256);
    driver.bring_up(0, &[&queue]);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    driver.msi.take(1);
    expect_echo(driver, &mut queue);
}

#[test]
fn the_function_says_what_it_is() {
    let (driver, ..) = rig();
    let config = driver.function.config();
    assert_eq!((config.u16(0), config.u16(2)), (0x1af4, 0x1040 + 42));
    assert_eq!((config.u8(8), config.u16(0x2c), config.u16(0x2e)), (1, 0x1af4, 0x1100));
    for (kind, offset, length) in
        [(1, 0, 0x40), (2, 0x3000, 0x1000), (3, 0x1000, 4), (4, 0x2000, 0x1000)]
    {
        let at = driver.capability(9, Some(kind));
        assert_eq!(
            (config.u8(at + 4), config.u32(at + 8), config.u32(at + 12)),
            (0, offset, length)
        );
    }
    assert_eq!(config.u32(driver.capability(9, Some(2)) + 16), 4, "notify multiplier");
}

#[test]
fn a_driver_comes_up_and_requests_flow_without_exits() {
    let (driver, mut queue, _) = rig();
    assert_eq!(driver.offered(), FEATURE_A | features::COMMON);
    driver.bring_up(FEATURE_A, &[&queue]);
    assert_eq!(driver.doorbells.addresses(), [BAR_BASE + NOTIFY]);
    assert!(driver.doorbells.ring(BAR_BASE + NOTIFY));
    expect_echo(&driver, &mut queue);
}

#[test]
fn features_that_were_not_offered_or_lack_version_1_are_refused() {
    let (driver, ..) = rig();
    let v1 = features::VERSION_1;
    for (accepted, fits) in [
        (v1, true),
        (v1 | FEATURE_A, true),
        (FEATURE_A, false),
        (v1 | 1, false),
        (v1 | 1 << 63, false),
    ] {
        driver.set_status(0);
        driver.set_status(ACKNOWLEDGE | DRIVER);
        driver.accept(accepted);
        assert_eq!(driver.add_status(FEATURES_OK) & FEATURES_OK != 0, fits, "{accepted:#x}");
    }
    // Bits beyond 64.
    driver.set_status(0);
    driver.set_status(ACKNOWLEDGE | DRIVER);
    driver.accept(v1);
    driver.write(8, 4, 2);
    driver.write(0xc, 4, 1);
    assert_eq!(driver.add_status(FEATURES_OK) & FEATURES_OK, 0);
    expect_recovery(&driver);
}

#[test]
fn features_are_fixed_once_accepted() {
    let (driver, ..) = rig();
    driver.set_status(ACKNOWLEDGE | DRIVER);
    driver.accept(features::VERSION_1);
    driver.add_status(FEATURES_OK);
    driver.accept(features::VERSION_1 | FEATURE_A);
    driver.write(8, 4, 0);
    assert_eq!(driver.read(0xc, 4), 0);
}

#[test]
fn status_bits_cannot_be_skipped_or_cleared() {
    let (driver, ..) = rig();
    driver.accept(features::VERSION_1);
    driver.set_status(FEATURES_OK | DRIVER_OK);
    assert_eq!(driver.status(), 0, "neither bit makes sense yet");
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK, "the driver has to look first");
    driver.set_status(ACKNOWLEDGE);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    expect_recovery(&driver);
}

#[test]
fn a_queue_that_does_not_exist_has_no_size_and_takes_nothing() {
    let (driver, ..) = rig();
    for index in [2, 255, 0xffff] {
        driver.write(QUEUE_SELECT, 2, index);
        for offset in 0x18..0x40 {
            for len in [1, 2, 4, 8] {
                driver.write(offset, len, u64::MAX);
            }
        }
        assert_eq!(driver.read(0x18, 2), 0);
        assert_eq!(driver.read(0x1a, 2), 0xffff);
        assert_eq!(driver.read(0x1c, 4), 0);
        assert_eq!(driver.read(0x20, 8), 0);
    }
    expect_recovery(&driver);
}

#[test]
fn queue_configuration_is_fixed_from_enable_on() {
    let (driver, mut queue, _) = rig();
    driver.bring_up(0, &[&queue]);
    let before: Vec<u64> = (0x18..0x40).map(|at| driver.read(at, 1)).collect();
    for value in [0, 1, 2, 16, 0xffff] {
        driver.write(0x18, 2, value);
        driver.write(0x1c, 2, value & 1);
        for at in [0x20, 0x24, 0x28, 0x2c, 0x30, 0x34] {
            driver.write(at, 4, value);
        }
        driver.write(0x20, 8, value);
    }
    let after: Vec<u64> = (0x18..0x40).map(|at| driver.read(at, 1)).collect();
    assert_eq!(before, after);
    expect_echo(&driver, &mut queue);
    // A queue left disabled at DRIVER_OK stays so.
    driver.set_up_queue(1, &queue);
    driver.write(QUEUE_SELECT, 2, 1);
    assert_eq!(driver.read(0x1c, 2), 0);
}

#[test]
fn impossible_queue_sizes_are_not_taken() {
    let (driver, ..) = rig();
    driver.write(QUEUE_SELECT, 2, 1);
    for size in [0, 3, 65, 128, 0xffff] {
        driver.write(0x18, 2, size);
        assert_eq!(driver.read(0x18, 2), 64);
    }
    driver.write(0x18, 2, 16);
    assert_eq!(driver.read(0x18, 2), 16);
}

#[test]
fn rings_outside_ram_end_in_needs_reset_with_a_config_interrupt() {
    let (driver, mut queue, _) = rig();
    queue.config.used = HOLE;
    driver.bring_up(0, &[&queue]);
    assert_ne!(driver.status() & NEEDS_RESET, 0);
    assert_eq!(driver.msi.take(0), 1);
    assert!(driver.doorbells.addresses().is_empty());
    expect_recovery(&driver);
}

#[test]
fn a_broken_queue_ends_in_needs_reset_and_recovers() {
    let (driver, mut queue, _) = rig();
    driver.bring_up(0, &[&queue]);
    queue.offer(999);
    driver.kick(0);
    wait_for("NEEDS_RESET", || driver.status() & NEEDS_RESET != 0);
    wait_for("the config interrupt", || driver.msi.take(0) == 1);
    let refusals = driver.refusals.lock().unwrap().clone();
    assert!(refusals.len() == 1 && refusals[0].starts_with("queue 0: "), "{refusals:?}");
    // The driver cannot clear the bit, nor go on.
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_ne!(driver.status() & NEEDS_RESET, 0);
    expect_recovery(&driver);
}

#[test]
fn a_reset_with_requests_in_flight_drops_them() {
    let (driver, mut queue, held) = rig();
    driver.bring_up(0, &[&queue]);
    queue.ram.write_obj(DATA, 1_u8).unwrap();
    for _ in 0..200 {
        queue.submit(&[(DATA, 1)], &[]);
    }
    driver.kick(0);
    wait_for("all to be in flight", || held.load(std::sync::atomic::Ordering::SeqCst) == 200);
    driver.set_status(0);
    assert_eq!((driver.status(), queue.used().len()), (0, 0));
    assert!(driver.doorbells.addresses().is_empty());
    expect_recovery(&driver);
}

#[test]
fn a_thousand_resets_leave_nothing_behind() {
    let (driver, ..) = rig();
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    expect_recovery(&driver);
    let before = fds();
    for _ in 0..1000 {
        let queue = GuestQueue::new(&driver.function.ram, RINGS, 256);
        driver.bring_up(0, &[&queue]);
    }
    // Other tests of this process have descriptors, too; a leak would show a thousand times.
    assert!(fds() < before + 500, "{before} descriptors became {}", fds());
    expect_recovery(&driver);
}

#[test]
fn doorbells_follow_the_bar_and_go_when_it_is_not_decoded() {
    let (driver, mut queue, _) = rig();
    let function = &driver.function;
    driver.bring_up(0, &[&queue]);
    function.bar_moved(0, Some(0x9000_0000));
    assert_eq!(driver.doorbells.addresses(), [0x9000_0000 + NOTIFY]);
    function.bar_moved(0, None);
    assert!(driver.doorbells.addresses().is_empty());
    function.bar_moved(0, Some(BAR_BASE));
    expect_echo(&driver, &mut queue);
}

#[test]
fn a_function_taken_away_takes_its_doorbells_along() {
    let (driver, queue, _) = rig();
    driver.bring_up(0, &[&queue]);
    let Driver { function, doorbells, .. } = driver;
    drop(function);
    assert!(doorbells.addresses().is_empty());
}

#[test]
fn without_msix_the_isr_tells_and_reading_it_lowers_the_line() {
    let (driver, mut queue, _) = rig();
    driver.bring_up(0, &[&queue]);
    let at = driver.capability(0x11, None);
    let _ = driver.function.config_write(at + 2, &[0, 0]);
    queue.submit(&[(DATA, 1)], &[]);
    driver.kick(0);
    wait_for("the line", || driver.line.is_high());
    assert_eq!(driver.read(ISR, 1), 1);
    assert!(!driver.line.is_high());
    assert_eq!(driver.read(ISR, 1), 0);
    driver.write(DEVICE, 1, 9);
    assert!(driver.line.is_high());
    // INTx disable in the command register silences the line and keeps the bit.
    let _ = driver.function.config_write(4, &[0, 4]);
    assert!(!driver.line.is_high());
    assert_eq!(driver.read(ISR, 4), 2);
}

#[test]
fn a_config_change_raises_its_vector_and_the_generation() {
    let (driver, queue, _) = rig();
    driver.bring_up(0, &[&queue]);
    let before = driver.read(0x15, 1);
    driver.write(DEVICE, 1, 9);
    assert_eq!(driver.read(DEVICE, 1), 9);
    assert_eq!((driver.read(0x15, 1), driver.msi.take(0)), (before + 1, 1));
}

#[test]
fn without_a_driver_a_config_change_leaves_the_line_alone() {
    let (driver, ..) = rig();
    driver.write(DEVICE, 1, 9);
    assert_eq!((driver.line.is_high(), driver.read(ISR, 1)), (false, 0));
}

#[test]
fn a_vector_beyond_the_table_reads_back_as_none() {
    let (driver, ..) = rig();
    for (at, value, expected) in
        [(0x10, 3, 0xffff), (0x10, 2, 2), (0x1a, 0x8000, 0xffff), (0x1a, 0, 0)]
    {
        driver.write(at, 2, value);
        assert_eq!(driver.read(at, 2), expected);
    }
}

#[test]
fn accesses_of_any_width_and_alignment_are_survived() {
    let (driver, ..) = rig();
    for offset in (0..0x50)
        .chain(0xff0..0x1010)
        .chain(0x1ff0..0x2010)
        .chain(0x2ff0..0x3010)
        .chain(0x3ff0..0x4050)
        .chain(0x5ff0..0x6010)
        .chain(0x7ff0..0x8010)
    {
        for len in 1..=8 {
            driver.read(offset, len);
            // All but the status, whose bits have their own tests.
            if !(offset..offset + len as u64).contains(&0x14) {
                driver.write(offset, len, u64::MAX);
                driver.write(offset, len, 0x0123_4567_89ab_cdef);
            }
        }
    }
    for offset in 0..4096_u16 {
        for len in [1, 2, 4] {
            let mut data = [0; 4];
            driver.function.config_read(offset, &mut data[..len]);
            let _ = driver.function.config_write(offset, &[0xff; 4][..len]);
        }
    }
    let _ = driver.function.config_write(4, &[6, 0]);
    driver.function.bar_moved(0, Some(BAR_BASE));
    expect_recovery(&driver);
}

#[test]
fn the_access_window_reaches_the_registers_and_nothing_else() {
    let (driver, ..) = rig();
    let at = driver.capability(9, Some(5));
    let function = &driver.function;
    let aim = |bar: u8, offset: u32, length: u32| {
        let _ = function.config_write(at + 4, &[bar]);
        let _ = function.config_write(at + 8, &offset.to_le_bytes());
        let _ = function.config_write(at + 12, &length.to_le_bytes());
    };
    let read = || {
        let mut data = [0; 4];
        function.config_read(at + 16, &mut data);
        u32::from_le_bytes(data)
    };
    aim(0, 0x14, 1);
    let _ = function.config_write(at + 16, &[ACKNOWLEDGE]);
    assert_eq!(driver.status(), ACKNOWLEDGE);
    assert_eq!(read() & 0xff, u32::from(ACKNOWLEDGE));
    aim(0, 0x12, 2);
    assert_eq!(read() & 0xffff, 2, "number of queues");
    for (bar, offset, length) in [
        (1, 0, 4),
        (0, 0x8000, 4),
        (0, 0x7ffe, 4),
        (0, 2, 4),
        (0, 0, 3),
        (0, 0, 0),
        (0, u32::MAX, 1),
        (0, 0, u32::MAX),
        (0, 0x14, 8),
    ] {
        aim(bar, offset, length);
        read();
        let _ = function.config_write(at + 16, &[0; 4]);
        assert_eq!(driver.status(), ACKNOWLEDGE, "{bar} {offset:#x} {length}");
    }
    expect_recovery(&driver);
}

#[test]
fn a_paused_device_is_saved_and_goes_on_in_another() {
    let (driver, mut queue, held) = rig();
    driver.bring_up(FEATURE_A, &[&queue]);
    driver.write(DEVICE, 1, 0x5a);
    expect_echo(&driver, &mut queue);
    assert!(matches!(driver.function.save(), Err(StateError::Busy { .. })));
    queue.ram.write_obj(DATA, 1_u8).unwrap();
    let head = queue.submit(&[(DATA, 1)], &[]);
    driver.kick(0);
    wait_for("it to be in flight", || held.load(std::sync::atomic::Ordering::SeqCst) == 1);
    driver.function.pause();
    assert_eq!(queue.used(), [(head.into(), 2)], "a pause delivers");
    let state = driver.function.save().unwrap();
    // Offered while paused, without a kick that anybody heard.
    queue.ram.write_obj(DATA, 0_u8).unwrap();
    let late = queue.submit(&[(DATA, 1)], &[]);

    let other = Driver::new(&queue.ram, Toy::new());
    other.function.restore(&state).unwrap();
    assert_eq!(other.function.save().unwrap(), state);
    assert!(other.doorbells.addresses().is_empty());
    other.function.resume();
    wait_for("the late request", || other.msi.take(1) > 0);
    assert_eq!(queue.used(), [(late.into(), 1)]);
    assert_eq!(other.read(DEVICE, 1), 0x5a);
    expect_echo(&other, &mut queue);
}

#[test]
fn pause_and_resume_keep_the_device_going() {
    let (driver, mut queue, _) = rig();
    driver.bring_up(0, &[&queue]);
    for _ in 0..10 {
        driver.function.pause();
        driver.function.pause();
        driver.function.resume();
        driver.function.resume();
        expect_echo(&driver, &mut queue);
    }
}

#[test]
fn a_state_of_another_shape_is_refused() {
    let (driver, ..) = rig();
    let good = driver.function.save().unwrap();
    let other_kind = DeviceState { kind: "virtio-blk".into(), ..good.clone() };
    let newer = DeviceState { version: 99, ..good.clone() };
    for len in 0..good.data.len() {
        let cut = DeviceState { data: good.data[..len].to_vec(), ..good.clone() };
        assert!(driver.function.restore(&cut).is_err(), "cut at {len}");
    }
    assert!(matches!(driver.function.restore(&other_kind), Err(StateError::Kind { .. })));
    assert!(matches!(driver.function.restore(&newer), Err(StateError::Version { .. })));
    driver.function.restore(&good).unwrap();
}

#[test]
fn a_damaged_state_is_refused_or_leads_to_a_device_that_recovers() {
    let (driver, queue, _) = rig();
    driver.bring_up(FEATURE_A, &[&queue]);
    driver.function.pause();
    let good = driver.function.save().unwrap();
    let other = Driver::new(&queue.ram, Toy::new());
    let (mut refused, mut taken) = (0, 0);
    for at in 0..good.data.len() {
        for damage in [0x01, 0x40, 0xff] {
            let mut state = good.clone();
            state.data[at] ^= damage;
            match other.function.restore(&state) {
                Ok(()) => {
                    taken += 1;
                    other.function.resume();
                }
                Err(_) => refused += 1,
            }
            other.function.reset();
        }
    }
    assert!(refused > 0 && taken > 0, "{refused} refused, {taken} taken");
    other.function.bar_moved(0, Some(BAR_BASE));
    expect_recovery(&other);
}

#[test]
fn a_machine_reset_brings_the_power_on_state_back() {
    let (driver, queue, _) = rig();
    let fresh = driver.function.save().unwrap();
    driver.bring_up(0, &[&queue]);
    driver.function.reset();
    assert_eq!(driver.status(), 0);
    assert!(driver.doorbells.addresses().is_empty());
    assert_eq!(driver.function.save().unwrap(), fresh);
    driver.function.bar_moved(0, Some(BAR_BASE));
    expect_recovery(&driver);
}

/// Whatever the guest writes wherever, including rings full of garbage: the device answers, and
/// works after a reset.
#[test]
fn random_register_accesses_and_rings_are_contained() {
    let (driver, ..) = rig();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..60 {
        let mut queue = GuestQueue::new(&driver.function.ram, RINGS, 256);
        driver.bring_up(0, &[&queue]);
        for _ in 0..200 {
            let at = [0, 0x10, 0x20, 0x1000, 0x2000, 0x3000, 0x4000][random.below(7) as usize];
            let at = at + random.below(0x20);
            let len = [1, 2, 4, 8][random.below(4) as usize];
            let small = random.next() & 0xff;
            let value = if random.below(2) == 0 { small } else { random.next() };
            driver.read(at, len);
            driver.write(at, len, value);
            let gpa = RINGS + random.below(0x6000);
            queue.ram.write_obj(gpa, random.next() as u16).unwrap();
            if random.below(8) == 0 {
                queue.submit(&[(DATA, 1)], &[]);
                driver.kick(0);
            }
            if random.below(32) == 0 {
                let bar = [None, Some(BAR_BASE), Some(0x9000_0000)][random.below(3) as usize];
                driver.function.bar_moved(0, bar);
            }
        }
        driver.function.bar_moved(0, Some(BAR_BASE));
        if round % 10 == 0 {
            expect_recovery(&driver);
        }
    }
}
