use memory::{Backing, GuestRam, IoBuffers};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::super::held::{Held, HeldDisk};
use super::*;

const MIB: u64 = 1 << 20;

fn ram() -> GuestRam {
    GuestRam::new(&[(0, 4 << 20)], &Backing::Anonymous).unwrap()
}

/// Until its source is readable.
fn wait_for(channel: &dyn Channel) {
    let epoll = Epoll::new().unwrap();
    let event = EpollEvent::new(EventSet::IN, 0);
    epoll.ctl(ControlOperation::Add, channel.source().unwrap(), event).unwrap();
    let woken = epoll.wait(20_000, &mut [EpollEvent::default()]).unwrap();
    assert_eq!(woken, 1, "the channel is silent");
}

struct Rig {
    disk: Arc<HeldDisk>,
    limiter: Arc<Limiter>,
    channel: Box<dyn Channel>,
    ram: GuestRam,
    next: u16,
}

impl Rig {
    fn new(limits: Option<Limits>) -> Self {
        let disk = HeldDisk::new(64 * MIB, false);
        let limiter = Limiter::new(1).unwrap();
        limiter.join(limits.map(Group::new));
        let throttled = Throttled::new(Arc::new(Held(disk.clone())), limiter.clone());
        let channel = throttled.channel(64).unwrap();
        Self { disk, limiter, channel, ram: ram(), next: 0 }
    }

    fn start(&mut self, action: Action, len: u64) -> u16 {
        let mut buffers = IoBuffers::new(self.ram.clone());
        if len > 0 {
            buffers.push(0, len).unwrap();
        }
        let token = self.next;
        self.next += 1;
        self.channel.start(token, Request { action, offset: 0, buffers });
        token
    }

    fn finished(&mut self) -> Vec<u16> {
        let mut found = Vec::new();
        while let Some(Finished { token, result, .. }) = self.channel.finished() {
            result.unwrap();
            found.push(token);
        }
        found
    }

    /// What ends until nothing waits, as an io thread sees it: by the source alone.
    fn run(&mut self, count: usize) -> Vec<u16> {
        let mut all = self.finished();
        let start = Instant::now();
        while all.len() < count {
            assert!(start.elapsed() < Duration::from_secs(20), "only {all:?} ended");
            wait_for(&*self.channel);
            all.extend(self.finished());
        }
        all
    }
}

const WRITE: Action = Action::Write { durable: false };

fn requests(average: u64) -> Limits {
    let total_requests = Rate { average, ..Rate::default() };
    Limits { total_requests, ..Limits::default() }
}

#[test]
fn without_limits_everything_goes_at_once() {
    let mut rig = Rig::new(None);
    for _ in 0..60 {
        rig.start(WRITE, 4096);
    }
    assert_eq!(rig.disk.started(), 60);
}

#[test]
fn what_comes_too_fast_waits_in_order_and_goes_when_it_may() {
    let mut rig = Rig::new(Some(requests(100)));
    let start = Instant::now();
    for _ in 0..30 {
        rig.start(WRITE, 512);
    }
    // A tenth of a second's worth, and one that makes it full.
    assert_eq!(rig.disk.started(), 11);
    let flush = rig.start(Action::Flush, 0);
    assert_eq!(rig.disk.started(), 12, "a flush waits for nothing");
    let ended: Vec<u16> = rig.run(31).into_iter().filter(|token| *token != flush).collect();
    assert_eq!(ended, (0..30).collect::<Vec<_>>());
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(150), "{took:?}");
}

#[test]
fn writes_do_not_wait_for_reads() {
    let read_bytes = Rate { average: 1000, ..Rate::default() };
    let mut rig = Rig::new(Some(Limits { read_bytes, ..Limits::default() }));
    let first = rig.start(Action::Read, 4096);
    rig.start(Action::Read, 4096);
    let write = rig.start(WRITE, 4096);
    assert_eq!(rig.finished(), [first, write]);
}

#[test]
fn a_drain_lets_everything_go_and_counts_it() {
    let mut rig = Rig::new(Some(requests(10)));
    for _ in 0..20 {
        rig.start(WRITE, 512);
    }
    assert!(rig.disk.started() < 20);
    rig.channel.wait();
    assert_eq!(rig.disk.started(), 20);
    assert_eq!(rig.finished().len(), 20);
    rig.start(WRITE, 512);
    assert_eq!(rig.disk.started(), 20, "the guest has won nothing by its reset");
}

#[test]
fn limits_that_are_lifted_let_go_what_waits() {
    let mut rig = Rig::new(Some(Limits {
        write_bytes: Rate { average: 1, ..Rate::default() },
        ..Limits::default()
    }));
    rig.start(WRITE, 4096);
    rig.start(WRITE, 4096);
    assert_eq!(rig.disk.started(), 1);
    rig.limiter.join(None);
    assert_eq!(rig.run(2), [0, 1]);
}

#[test]
fn disks_of_a_group_share_what_they_are_given() {
    let group = Group::new(requests(100));
    let mut one = Rig::new(None);
    let mut two = Rig::new(None);
    one.limiter.join(Some(group.clone()));
    two.limiter.join(Some(group.clone()));
    for _ in 0..11 {
        one.start(WRITE, 512);
    }
    two.start(WRITE, 512);
    assert_eq!((one.disk.started(), two.disk.started()), (11, 0));
    group.limit(Limits::default());
    assert_eq!(two.run(1), [0]);
}

#[test]
fn a_channel_that_comes_later_is_woken_as_well() {
    let disk = HeldDisk::new(64 * MIB, false);
    let limiter = Limiter::new(1).unwrap();
    let throttled = Throttled::new(Arc::new(Held(disk.clone())), limiter.clone());
    for round in 0..4 {
        disk.hold.store(true, Ordering::SeqCst);
        let mut channel = throttled.channel(4).unwrap();
        let buffers = IoBuffers::new(ram());
        channel.start(0, Request { action: Action::Flush, offset: 0, buffers });
        disk.release();
        wait_for(&*channel);
        assert!(channel.finished().is_some(), "round {round}");
    }
}
