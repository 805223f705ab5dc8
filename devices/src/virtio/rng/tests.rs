use super::*;
use crate::component::Component;
use crate::virtio::features;
use crate::virtio::rig::driver::Driver;
use crate::virtio::rig::{GuestQueue, INDIRECT, NEXT, WRITE, ram, wait_for, write_descriptor};

const RINGS: u64 = 0x10000;
const DATA: u64 = 0x10_0000;
const TABLE: u64 = 0x8_0000;

fn rng(limit: Option<RateLimit>) -> Rng {
    Rng::new(IoThread::spawn("io:rng", || Ok(())).unwrap(), limit).unwrap()
}

fn rig() -> (Driver, GuestQueue) {
    rig_with(None)
}

fn rig_with(limit: Option<RateLimit>) -> (Driver, GuestQueue) {
    let memory = ram();
    let driver = Driver::new(&memory, rng(limit));
    let queue = GuestQueue::new(&memory, RINGS, 64);
    driver.bring_up(features::INDIRECT_DESC, &[&queue]);
    (driver, queue)
}

fn answered(driver: &Driver, queue: &mut GuestQueue) -> u32 {
    driver.kick(0);
    wait_for("the answer", || driver.msi.take(1) > 0);
    let used = queue.used();
    assert_eq!(used.len(), 1);
    used[0].1
}

#[test]
fn requests_are_filled_with_random_bytes_across_their_buffers() {
    let (driver, mut queue) = rig();
    queue.submit(&[], &[(DATA, 100), (DATA + 0x1000, 6000)]);
    assert_eq!(answered(&driver, &mut queue), 6100);
    let mut bytes = [0; 64];
    queue.ram.read_slice(DATA + 0x1000 + 5936, &mut bytes).unwrap();
    assert!(bytes.iter().any(|byte| *byte != bytes[0]), "{bytes:?}");
    assert_eq!(queue.ram.read_obj::<u32>(DATA + 0x1000 + 6000).unwrap(), 0);
}

#[test]
fn a_gigantic_request_gets_64_kib() {
    let (driver, mut queue) = rig();
    // 60 times the same 2 MiB.
    queue.descriptor(0, TABLE, 16 * 60, INDIRECT, 0);
    for index in 0..60 {
        let more = if index < 59 { NEXT } else { 0 };
        write_descriptor(&queue.ram, TABLE, index, 0x20_0000, 2 << 20, WRITE | more, index + 1);
    }
    queue.offer(0);
    assert_eq!(answered(&driver, &mut queue), 64 << 10);
}

#[test]
fn a_request_without_room_is_answered_with_nothing() {
    let (driver, mut queue) = rig();
    queue.submit(&[(DATA, 100)], &[]);
    assert_eq!(answered(&driver, &mut queue), 0);
}

#[test]
fn it_goes_on_after_save_and_restore() {
    let (driver, mut queue) = rig();
    driver.function.pause();
    let state = driver.function.save().unwrap();
    let other = Driver::new(&queue.ram, rng(None));
    other.function.restore(&state).unwrap();
    assert_eq!(other.function.save().unwrap(), state);
    other.function.resume();
    queue.submit(&[], &[(DATA, 8)]);
    assert_eq!(answered(&other, &mut queue), 8);
}

#[test]
fn a_rate_limit_holds_requests_back_until_the_period_is_over() {
    let period = Duration::from_millis(60);
    let (driver, mut queue) = rig_with(Some(RateLimit { bytes: 1000, period }));
    let start = std::time::Instant::now();
    for _ in 0..4 {
        queue.submit(&[], &[(DATA, 600)]);
    }
    driver.kick(0);
    let mut answers = Vec::new();
    wait_for("all answers", || {
        answers.extend(queue.used().into_iter().map(|(_, len)| len));
        answers.len() == 4
    });
    // Two full measures: the second and the fourth get what is left of one.
    assert_eq!(answers, [600, 400, 600, 400]);
    assert!(start.elapsed() >= period);
}
