use std::sync::Mutex;

use memory::GuestRam;

use super::*;
use crate::backend::vhost::Vring;
use crate::component::Component;
use crate::sync::Lock;
use crate::virtio::rig::driver::{DEVICE, Driver, NEEDS_RESET};
use crate::virtio::rig::{GuestQueue, ram, wait_for};

const RINGS: [u64; 3] = [0x10000, 0x20000, 0x30000];
const EVENT: u64 = 0x10_0000;

/// Remembers what it was given, and can do what the kernel would.
#[derive(Default)]
struct FakeBackend {
    started: Mutex<Vec<(u64, Vec<Vring>)>>,
    stops: Mutex<u32>,
    refuse: bool,
}

impl VringBackend for FakeBackend {
    fn features(&self) -> u64 {
        SEQPACKET | 1 << 26 | features::COMMON
    }
    fn start(&self, features: u64, queues: &[Vring]) -> io::Result<()> {
        if self.refuse {
            return Err(io::Error::other("no"));
        }
        let copy = |queue: &Vring| Vring {
            config: queue.config,
            progress: queue.progress,
            kick: queue.kick.clone(),
            call: queue.call.clone(),
        };
        self.started.hold().push((features, queues.iter().map(copy).collect()));
        Ok(())
    }
    fn stop(&self, queues: usize) -> io::Result<Vec<u16>> {
        *self.stops.hold() += 1;
        Ok((0..queues as u16).map(|index| 5 + index).collect())
    }
}

fn device(backend: &Arc<FakeBackend>) -> Vsock {
    Vsock::new(42, backend.clone(), IoThread::spawn("io:vsock", || Ok(())).unwrap()).unwrap()
}

fn rig(backend: FakeBackend) -> (GuestRam, Driver, Arc<FakeBackend>, Vec<GuestQueue>) {
    let (memory, backend) = (ram(), Arc::new(backend));
    let driver = Driver::new(&memory, device(&backend));
    let queues: Vec<_> = RINGS.iter().map(|base| GuestQueue::new(&memory, *base, 64)).collect();
    driver.bring_up(SEQPACKET, &queues.iter().collect::<Vec<_>>());
    (memory, driver, backend, queues)
}

#[test]
fn the_backend_gets_the_data_queues_and_its_interrupts_reach_the_driver() {
    let (_, driver, backend, _) = rig(FakeBackend::default());
    assert_eq!(driver.read(DEVICE, 8), 42);
    assert_eq!(driver.offered(), SEQPACKET | features::COMMON);
    {
        let started = backend.started.hold();
        let (features, vrings) = &started[0];
        assert_eq!(*features, SEQPACKET | features::VERSION_1);
        let places: Vec<_> = vrings.iter().map(|v| (v.config.descriptors, v.config.size)).collect();
        assert_eq!(places, [(RINGS[0], 64), (RINGS[1], 64)]);
        driver.msi.take(1);
        vrings[0].call.write(1).unwrap();
    }
    wait_for("the interrupt", || driver.msi.take(1) > 0);
    assert_eq!(driver.msi.take(2), 0);
}

#[test]
fn a_pause_takes_the_queues_back_and_they_go_on_where_they_were() {
    let (memory, driver, backend, _) = rig(FakeBackend::default());
    memory.write_obj(RINGS[0] + 0x5000 + 2, 3_u16).unwrap();
    driver.function.pause();
    assert_eq!(*backend.stops.hold(), 1);
    driver.function.resume();
    let started = backend.started.hold();
    let progress = started[1].1[0].progress;
    assert_eq!((progress.next_available, progress.next_used), (5, 3));
    assert_eq!(started[1].1[1].progress.next_available, 6);
}

#[test]
fn after_a_restore_the_driver_is_told_that_its_connections_are_gone() {
    let (memory, driver, _backend, mut queues) = rig(FakeBackend::default());
    queues[2].submit(&[], &[(EVENT, 8)]);
    memory.write_obj(EVENT, u64::MAX).unwrap();
    driver.function.pause();
    let state = driver.function.save().unwrap();
    driver.function.resume();
    assert!(queues[2].used().is_empty(), "nothing moved");
    driver.function.pause();
    let other = Driver::new(&memory, device(&Arc::default()));
    other.function.restore(&state).unwrap();
    assert_eq!(other.function.save().unwrap(), state);
    other.function.resume();
    wait_for("the event", || !queues[2].used().is_empty());
    assert_eq!(memory.read_obj::<u64>(EVENT).unwrap(), 0xffff_ffff_0000_0000);
}

#[test]
fn a_backend_that_refuses_makes_the_device_ask_for_a_reset() {
    let (_, driver, backend, _) = rig(FakeBackend { refuse: true, ..FakeBackend::default() });
    assert_ne!(driver.status() & NEEDS_RESET, 0);
    driver.set_status(0);
    assert_eq!((driver.status(), *backend.stops.hold()), (0, 0));
}

#[test]
fn a_reset_takes_the_queues_away_from_the_backend() {
    let (_, driver, backend, _) = rig(FakeBackend::default());
    driver.set_status(0);
    assert_eq!(*backend.stops.hold(), 1);
}
