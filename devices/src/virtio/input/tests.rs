use memory::GuestRam;

use super::outbox::Sink;
use super::*;
use crate::component::Component;
use crate::input::{Accepts, InputEvent, button};
use crate::virtio::rig::driver::{DEVICE, Driver, NEEDS_RESET};
use crate::virtio::rig::{GuestQueue, Random, ram, submit_garbage, wait_for};

const RINGS: [u64; 2] = [0x10000, 0x20000];
const BUFFERS: u64 = 0x10_0000;

struct Rig {
    ram: GuestRam,
    driver: Driver,
    sink: Arc<dyn InputSink>,
    events: GuestQueue,
    status: GuestQueue,
    buffers: u64,
}

impl Rig {
    fn new(role: Role) -> Self {
        let memory = ram();
        let device = Input::new(role, IoThread::spawn("io:input", || Ok(())).unwrap()).unwrap();
        let sink = device.sink();
        let driver = Driver::new(&memory, device);
        let [events, status] = RINGS.map(|base| GuestQueue::new(&memory, base, 64));
        driver.bring_up(0, &[&events, &status]);
        Self { ram: memory, driver, sink, events, status, buffers: 0 }
    }

    fn offer(&mut self, count: u64) {
        for _ in 0..count {
            self.events.submit(&[], &[(BUFFERS + 8 * self.buffers, 8)]);
            self.buffers += 1;
        }
        self.driver.kick(0);
    }

    /// The next `count` events: kind, code, value.
    fn events(&mut self, count: usize) -> Vec<(u16, u16, i32)> {
        let mut found = Vec::new();
        wait_for("events", || {
            found.extend(self.events.used());
            found.len() >= count
        });
        assert!(found.iter().all(|(_, len)| *len == 8));
        let first = self.buffers - self.in_flight(found.len());
        let read = |at| self.ram.read_obj::<u16>(at).unwrap();
        let event = |index: u64| {
            let at = BUFFERS + 8 * index;
            (read(at), read(at + 2), self.ram.read_obj::<i32>(at + 4).unwrap())
        };
        (first..first + found.len() as u64).map(event).collect()
    }

    /// Tests offer as many buffers as they read events.
    fn in_flight(&self, used: usize) -> u64 {
        used as u64
    }

    fn select(&self, select: u8, subselect: u8) -> Vec<u8> {
        self.driver.write(DEVICE, 1, select.into());
        self.driver.write(DEVICE + 1, 1, subselect.into());
        let size = self.driver.read(DEVICE + 2, 1);
        (0..size).map(|at| self.driver.read(DEVICE + 8 + at, 1) as u8).collect()
    }
}

#[test]
fn a_device_says_what_it_is_and_what_it_can_send() {
    let keyboard = Rig::new(Role::Keyboard);
    assert_eq!(keyboard.select(1, 0), b"Virtio Keyboard");
    assert_eq!(keyboard.select(3, 0).len(), 8);
    let keys = keyboard.select(0x11, 1);
    assert_eq!((keys.len(), keys[0], keys[31]), (32, 0xfe, 1));
    assert_eq!(keyboard.select(0x11, 0x14), [3]);
    assert!(keyboard.select(0x12, 0).is_empty() && keyboard.select(0x11, 3).is_empty());
    let tablet = Rig::new(Role::Tablet);
    assert_eq!(tablet.select(0x11, 3), [3]);
    assert_eq!(tablet.select(0x12, 1)[4..8], 0x7fff_u32.to_le_bytes());
    assert!(tablet.select(0x12, 2).is_empty());
    assert_eq!(tablet.select(0x11, 1).len(), 0x114 / 8 + 1);
    let mouse = Rig::new(Role::Mouse);
    assert_eq!(mouse.select(0x11, 2), [0b0100_0011, 1]);
    for (select, subselect) in [(0, 0), (1, 1), (2, 0), (0x10, 0), (0xff, 0xff)] {
        assert!(mouse.select(select, subselect).is_empty(), "{select:#x} {subselect}");
    }
}

#[test]
fn what_a_user_does_arrives_as_one_moment() {
    let mut rig = Rig::new(Role::Tablet);
    rig.offer(4);
    let here = InputEvent::Position { x: 100, y: 0xffff };
    let press = InputEvent::Button { code: button::LEFT, down: true };
    // A key, and a motion, are no tablet's.
    let key = InputEvent::Key { code: 30, down: true };
    rig.sink.send(&[key, here, press, InputEvent::Motion { dx: 1, dy: 1 }]);
    assert_eq!(rig.events(4), [(3, 0, 100), (3, 1, 0x7fff), (1, 0x110, 1), (0, 0, 0)]);
    rig.offer(2);
    rig.sink.send(&[InputEvent::Wheel { vertical: -1, horizontal: 0 }]);
    assert_eq!(rig.events(2), [(2, 8, -1), (0, 0, 0)]);
}

#[test]
fn a_moment_waits_until_there_are_buffers_for_all_of_it() {
    let mut rig = Rig::new(Role::Keyboard);
    rig.offer(1);
    rig.sink.send(&[InputEvent::Key { code: 30, down: true }]);
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(rig.events.used().is_empty());
    rig.offer(1);
    assert_eq!(rig.events(2), [(1, 30, 1), (0, 0, 0)]);
}

#[test]
fn without_a_driver_nothing_is_kept() {
    let rig = Rig::new(Role::Mouse);
    assert_eq!(rig.sink.accepts(), Accepts { motion: true, ..Accepts::default() });
    rig.driver.set_status(0);
    assert_eq!(rig.sink.accepts(), Accepts::default());
    rig.sink.send(&[InputEvent::Motion { dx: 1, dy: 0 }]);
    let (mut events, status) = (rig.events, rig.status);
    (0..4).for_each(|_| _ = events.submit(&[], &[(BUFFERS, 8)]));
    rig.driver.bring_up(0, &[&events, &status]);
    rig.driver.kick(0);
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(events.used().is_empty());
}

#[test]
fn a_guest_that_does_not_look_costs_a_bounded_amount_of_memory() {
    let outbox = Arc::new(Outbox::new().unwrap());
    outbox.state.hold().driver = true;
    let sink = Sink { role: Role::Mouse, outbox: outbox.clone() };
    for step in 0..5000 {
        sink.send(&vec![InputEvent::Motion { dx: step, dy: 1 }; 1000]);
    }
    let state = outbox.state.hold();
    assert!(state.moments.len() <= 512 && state.moments.iter().all(|m| m.len() <= 129));
}

#[test]
fn it_goes_on_after_save_and_restore() {
    let rig = Rig::new(Role::Keyboard);
    rig.driver.write(DEVICE, 1, 0x11);
    rig.driver.write(DEVICE + 1, 1, 1);
    rig.driver.function.pause();
    let state = rig.driver.function.save().unwrap();
    let thread = IoThread::spawn("io:input", || Ok(())).unwrap();
    let device = Input::new(Role::Keyboard, thread).unwrap();
    let sink = device.sink();
    let other = Driver::new(&rig.ram, device);
    other.function.restore(&state).unwrap();
    assert_eq!(other.function.save().unwrap(), state);
    other.function.resume();
    assert_eq!(other.read(DEVICE + 2, 1), 32);
    assert!(sink.accepts().keys);
}

#[test]
fn garbage_in_both_queues_leaves_a_device_that_works_after_a_reset() {
    let mut rig = Rig::new(Role::Tablet);
    let mut random = Random(7);
    for _ in 0..50 {
        submit_garbage(&mut rig.events, &mut random);
        submit_garbage(&mut rig.status, &mut random);
        rig.driver.kick(0);
        rig.driver.kick(1);
        rig.sink.send(&[InputEvent::Position { x: 1, y: 2 }]);
        if rig.driver.status() & NEEDS_RESET != 0 {
            break;
        }
    }
    rig.driver.set_status(0);
    rig.events = GuestQueue::new(&rig.ram, RINGS[0], 64);
    rig.status = GuestQueue::new(&rig.ram, RINGS[1], 64);
    rig.driver.bring_up(0, &[&rig.events, &rig.status]);
    rig.offer(3);
    rig.sink.send(&[InputEvent::Position { x: 1, y: 2 }]);
    assert_eq!(rig.events(3), [(3, 0, 1), (3, 1, 2), (0, 0, 0)]);
}
