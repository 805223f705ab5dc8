use std::time::Duration;

use memory::GuestRam;

use super::*;
use crate::component::Component;
use crate::testing::FakeClock;
use crate::virtio::features;
use crate::virtio::rig::driver::{DEVICE, Driver, NEEDS_RESET};
use crate::virtio::rig::{END, GuestQueue, HOLE, SEAM, ram, wait_for};

const RINGS: [u64; 4] = [0x10000, 0x20000, 0x30000, 0x40000];
const LIST: u64 = 0x10_0000;
const MEMORY: u64 = 12 << 20;

const ALL: u64 = feature::STATS_VQ | feature::REPORTING | feature::DEFLATE_ON_OOM;
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: usize = 3;

struct Rig {
    ram: GuestRam,
    driver: Driver,
    handle: BalloonHandle,
    queues: Vec<GuestQueue>,
}

fn balloon(period: u32) -> Balloon {
    Balloon::new(BalloonSpec {
        memory: MEMORY,
        current: MEMORY,
        deflate_on_oom: true,
        free_page_reporting: true,
        statistics_period: period,
        thread: IoThread::spawn("io:balloon", || Ok(())).unwrap(),
        clock: Arc::new(FakeClock::default()),
    })
    .unwrap()
}

impl Rig {
    fn new() -> Self {
        Self::with(0, ALL)
    }

    fn with(period: u32, features: u64) -> Self {
        let memory = ram();
        let device = balloon(period);
        let handle = device.handle();
        let driver = Driver::new(&memory, device);
        let queues: Vec<_> = RINGS.iter().map(|base| GuestQueue::new(&memory, *base, 64)).collect();
        driver.bring_up(features | features::INDIRECT_DESC, &queues.iter().collect::<Vec<_>>());
        Self { ram: memory, driver, handle, queues }
    }

    /// Give the device a list of pages and wait until it is done.
    fn pages(&mut self, queue: usize, pages: &[u32]) {
        let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        self.ram.write_slice(LIST, &bytes).unwrap();
        self.queues[queue].submit(&[(LIST, bytes.len() as u32)], &[]);
        self.serve(queue);
    }

    fn serve(&mut self, queue: usize) {
        self.driver.kick(queue as u64);
        wait_for("the answer", || !self.queues[queue].used().is_empty());
    }

    fn fill(&self, gpa: u64) {
        self.ram.write_obj(gpa, 0x5a_u8).unwrap();
    }

    fn is_gone(&self, gpa: u64) -> bool {
        self.ram.read_obj::<u8>(gpa).unwrap() == 0
    }
}

#[test]
fn pages_in_the_balloon_are_the_hosts_again() {
    let mut rig = Rig::new();
    for page in [0x300, 0x301, 0x302, 0x3ff, 0x400] {
        rig.fill(page * 4096);
    }
    // In any order, and a page twice; 0x3ff and 0x400 lie in two regions.
    rig.pages(INFLATE, &[0x302, 0x300, 0x300, 0x400, 0x3ff]);
    let gone: Vec<_> = [0x300, 0x301, 0x302, 0x3ff, 0x400].map(|p| rig.is_gone(p * 4096)).into();
    assert_eq!(gone, [true, false, true, true, true]);
    assert_eq!(0x400 * 4096, SEAM);
    rig.pages(DEFLATE, &[0x300, 0x302]);
    rig.fill(0x300 * 4096);
    assert!(!rig.is_gone(0x300 * 4096));
}

#[test]
fn the_driver_is_told_what_the_balloon_shall_hold_and_tells_what_it_holds() {
    let rig = Rig::new();
    assert_eq!((rig.driver.read(DEVICE, 4), rig.handle.memory()), (0, MEMORY));
    rig.driver.msi.take(0);
    rig.handle.set_memory(MEMORY - (1 << 20));
    assert_eq!(rig.driver.msi.take(0), 1, "a change of the configuration is announced");
    assert_eq!(rig.driver.read(DEVICE, 4), 256);
    rig.driver.write(DEVICE + 4, 4, 200);
    assert_eq!(rig.driver.read(DEVICE + 4, 4), 200);
    assert_eq!(rig.handle.memory(), MEMORY - 200 * 4096);
    // More than there is, and less than nothing.
    rig.handle.set_memory(u64::MAX);
    assert_eq!(rig.driver.read(DEVICE, 4), 0);
    rig.driver.write(DEVICE + 4, 4, 0xffff_ffff);
    assert_eq!(rig.handle.memory(), 0);
    // What the driver may not write stays.
    rig.driver.write(DEVICE, 4, 77);
    rig.driver.write(DEVICE + 5, 2, 77);
    assert_eq!(rig.driver.read(DEVICE, 4), 0);
}

#[test]
fn a_reset_empties_the_balloon_and_keeps_what_the_host_wants() {
    let rig = Rig::new();
    rig.handle.set_memory(MEMORY - 4096);
    rig.driver.write(DEVICE + 4, 4, 1);
    rig.driver.set_status(0);
    assert_eq!((rig.driver.read(DEVICE, 4), rig.driver.read(DEVICE + 4, 4)), (1, 0));
}

fn offer_statistics(rig: &mut Rig, entries: &[(u16, u64)]) {
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()[..]].concat())
        .collect();
    rig.ram.write_slice(LIST, &bytes).unwrap();
    rig.queues[STATISTICS].submit(&[(LIST, bytes.len() as u32)], &[]);
    rig.driver.kick(STATISTICS as u64);
}

#[test]
fn statistics_are_read_from_a_buffer_that_stays_with_the_device_for_a_period() {
    let mut rig = Rig::with(1, ALL);
    let start = std::time::Instant::now();
    offer_statistics(&mut rig, &[(4, 1000), (5, 2000), (0xfff0, 3), (2, 7)]);
    wait_for("the statistics", || rig.handle.statistics().is_some());
    let expected = GuestMemory {
        free: Some(1000),
        total: Some(2000),
        major_faults: Some(7),
        updated: rig.handle.statistics().unwrap().updated,
        ..GuestMemory::default()
    };
    assert_eq!(rig.handle.statistics(), Some(expected));
    wait_for("the buffer back", || !rig.queues[STATISTICS].used().is_empty());
    assert!(start.elapsed() > Duration::from_millis(500));
    offer_statistics(&mut rig, &[(4, 900)]);
    wait_for("new ones", || rig.handle.statistics().and_then(|s| s.free) == Some(900));
}

#[test]
fn a_period_that_is_set_later_holds_at_once() {
    let mut rig = Rig::new();
    offer_statistics(&mut rig, &[(4, 1000)]);
    wait_for("the statistics", || rig.handle.statistics().is_some());
    rig.handle.set_period(1);
    wait_for("the buffer back", || !rig.queues[STATISTICS].used().is_empty());
}

#[test]
fn reported_memory_is_the_hosts_again_but_for_parts_of_pages() {
    let mut rig = Rig::new();
    for page in 0x300..0x304 {
        rig.fill(page * 4096);
    }
    rig.fill(0x303 * 4096 + 100);
    rig.queues[REPORTING].submit(&[], &[(0x300 * 4096, 8192), (0x302 * 4096 + 8, 8192)]);
    rig.serve(REPORTING);
    let gone: Vec<_> = (0x300..0x304).map(|page| rig.is_gone(page * 4096)).collect();
    assert_eq!(gone, [true, true, false, true]);
}

#[test]
fn without_statistics_reporting_has_the_queue_before() {
    let mut rig = Rig::with(0, feature::REPORTING);
    rig.fill(0x300 * 4096);
    rig.queues[2].submit(&[], &[(0x300 * 4096, 4096)]);
    rig.serve(2);
    assert!(rig.is_gone(0x300 * 4096));
}

#[test]
fn pages_outside_ram_are_passed_over() {
    let mut rig = Rig::new();
    rig.fill(0x300 * 4096);
    // In the hole, past the end, and the largest number there is.
    let far = [(HOLE / 4096) as u32, (END / 4096) as u32, u32::MAX];
    rig.pages(INFLATE, &[far[0], far[1], far[2], 0x300]);
    assert!(rig.is_gone(0x300 * 4096));
    assert_eq!(rig.driver.status() & NEEDS_RESET, 0);
}

#[test]
fn a_list_of_absurd_length_or_cut_off_is_served_as_far_as_it_makes_sense() {
    let mut rig = Rig::new();
    rig.fill(0x300 * 4096);
    rig.ram.write_slice(LIST, &0x300_u32.to_le_bytes()).unwrap();
    // Two MiB of page numbers, most of them page 0.
    rig.queues[INFLATE].submit(&[(LIST, 2 << 20)], &[]);
    rig.serve(INFLATE);
    assert!(rig.is_gone(0x300 * 4096));
    rig.queues[INFLATE].submit(&[(LIST, 3)], &[]);
    rig.serve(INFLATE);
    // Nothing to read: a buffer to write is no list.
    rig.queues[INFLATE].submit(&[], &[(LIST, 4)]);
    rig.serve(INFLATE);
    assert_eq!(rig.driver.status() & NEEDS_RESET, 0);
}

#[test]
fn an_oversized_statistics_buffer_is_read_in_part_and_a_second_one_comes_back() {
    let mut rig = Rig::new();
    rig.queues[STATISTICS].submit(&[(LIST, 1 << 20)], &[]);
    rig.queues[STATISTICS].submit(&[(LIST, 9)], &[]);
    rig.serve(STATISTICS);
    wait_for("the statistics", || rig.handle.statistics().is_some());
    assert_eq!(rig.handle.statistics().unwrap().free, None);
    assert_eq!(rig.driver.status() & NEEDS_RESET, 0);
}

#[test]
fn it_goes_on_after_save_and_restore_with_the_buffer_that_it_held() {
    let mut rig = Rig::new();
    rig.handle.set_memory(MEMORY - 8192);
    rig.driver.write(DEVICE + 4, 4, 2);
    offer_statistics(&mut rig, &[(4, 1000)]);
    wait_for("the statistics", || rig.handle.statistics().is_some());
    rig.driver.function.pause();
    let state = rig.driver.function.save().unwrap();
    let device = balloon(0);
    let handle = device.handle();
    let other = Driver::new(&rig.ram, device);
    other.function.restore(&state).unwrap();
    assert_eq!(other.function.save().unwrap(), state);
    assert_eq!(handle.memory(), MEMORY - 8192);
    other.function.resume();
    wait_for("the statistics", || handle.statistics().is_some());
    handle.set_period(1);
    wait_for("the buffer back", || !rig.queues[STATISTICS].used().is_empty());
}
