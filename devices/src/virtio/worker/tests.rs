use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::virtio::rig::{GuestQueue, Signals, ram, wait_for};

const RINGS: u64 = 0x10000;
const DATA: u64 = 0x10_0000;

/// Answers every chain with its readable length, except those it is told to hold until drained.
struct Echo {
    hold: bool,
    held: Vec<Chain>,
    taken: Arc<AtomicUsize>,
}

impl Echo {
    fn new(hold: bool) -> Self {
        Self { hold, held: Vec::new(), taken: Arc::default() }
    }
}

impl QueueWorker for Echo {
    fn kicked(&mut self, position: usize, cx: &mut Context<'_, '_>) {
        let queue = &mut cx.queues[position];
        while let Some(chain) = queue.next() {
            self.taken.fetch_add(1, Ordering::SeqCst);
            if self.hold {
                self.held.push(chain);
            } else {
                let len = chain.readable_len();
                queue.complete(chain, len);
            }
        }
    }

    fn drain(&mut self, queues: &mut [ActiveQueue]) {
        for chain in self.held.drain(..) {
            queues[0].complete(chain, 7);
        }
    }
}

type Rig = (GuestQueue, Arc<EventFd>, Arc<Signals>, Workers, Arc<AtomicUsize>);

fn start(hold: bool) -> Rig {
    let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
    let signals = Signals::new();
    let guest = GuestQueue::new(&ram(), RINGS, 1024);
    let (queue, kick) = guest.active(3, &signals);
    let mut workers = Workers::default();
    let echo = Echo::new(hold);
    let taken = echo.taken.clone();
    workers.start(&thread, echo, vec![queue]).unwrap();
    (guest, kick, signals, workers, taken)
}

#[test]
fn a_kick_is_served_and_the_driver_notified() {
    let (mut guest, kick, signals, workers, _) = start(false);
    guest.submit(&[(DATA, 5)], &[]);
    kick.write(1).unwrap();
    wait_for("the notification", || signals.queue_count() > 0);
    assert_eq!(guest.used(), [(0, 5)]);
    let progress = QueueProgress { next_available: 1, next_used: 1 };
    assert_eq!(workers.stop(Stop::Deliver).progress, [(3, progress)]);
}

#[test]
fn chains_offered_before_the_start_need_no_kick() {
    let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
    let signals = Signals::new();
    let mut guest = GuestQueue::new(&ram(), RINGS, 8);
    guest.submit(&[(DATA, 5)], &[]);
    let (queue, _kick) = guest.active(0, &signals);
    let mut workers = Workers::default();
    workers.start(&thread, Echo::new(false), vec![queue]).unwrap();
    wait_for("the notification", || signals.queue_count() > 0);
    assert_eq!(guest.used(), [(0, 5)]);
}

#[test]
fn requests_in_flight_are_delivered_on_pause_and_dropped_on_reset() {
    for (how, delivered) in [(Stop::Deliver, 2), (Stop::Discard, 0)] {
        let (mut guest, kick, _signals, workers, taken) = start(true);
        guest.submit(&[(DATA, 5)], &[]);
        guest.submit(&[(DATA, 5)], &[]);
        kick.write(1).unwrap();
        wait_for("the worker to take both", || taken.load(Ordering::SeqCst) == 2);
        let progress = workers.stop(how).progress;
        assert_eq!(guest.used().len(), delivered, "{how:?}");
        assert_eq!(usize::from(progress[0].1.next_used), delivered);
    }
}

#[test]
fn a_turn_ends_after_its_budget_and_kicks_itself() {
    let signals = Signals::new();
    let mut guest = GuestQueue::new(&ram(), RINGS, 1024);
    let (mut queue, kick) = guest.active(0, &signals);
    for _ in 0..=BUDGET {
        guest.submit(&[(DATA, 1)], &[]);
    }
    let mut served = 0;
    while let Some(chain) = queue.next() {
        queue.complete(chain, 0);
        served += 1;
    }
    assert_eq!((served, kick.read().unwrap()), (BUDGET, 1));
    // The runner gives it a new turn.
    queue.budget = BUDGET;
    assert!(queue.next().is_some());
}

#[test]
fn a_broken_queue_asks_for_a_reset_once_and_the_thread_lives_on() {
    let (mut guest, kick, signals, workers, _) = start(false);
    guest.offer(2000);
    kick.write(1).unwrap();
    wait_for("the reset request", || signals.broken());
    kick.write(1).unwrap();
    // Kicks that came before are served before the stop.
    let _ = workers.stop(Stop::Discard);
    assert_eq!(signals.needs_reset.load(Ordering::SeqCst), 1);
    assert_eq!(signals.queue_count(), 0);
}

#[test]
fn a_storm_of_kicks_does_not_keep_another_queue_from_being_served() {
    let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
    let signals = Signals::new();
    let memory = ram();
    let stormy = GuestQueue::new(&memory, RINGS, 8);
    let mut calm = GuestQueue::new(&memory, RINGS + 0x8000, 8);
    let (storm_queue, storm) = stormy.active(0, &signals);
    let (calm_queue, kick) = calm.active(1, &signals);
    let mut workers = Workers::default();
    workers.start(&thread, Echo::new(false), vec![storm_queue]).unwrap();
    workers.start(&thread, Echo::new(false), vec![calm_queue]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                storm.write(1).unwrap();
            }
        });
        for round in 1..=100 {
            calm.submit(&[(DATA, 1)], &[]);
            kick.write(1).unwrap();
            wait_for("the calm queue", || signals.queue_count() >= round);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(calm.used().len(), 100);
}
