//! A disk that does what the test says: errors, requests in flight, hostile drivers.

use super::*;

#[derive(Default)]
struct Script {
    /// Requests stay in flight until released.
    hold: AtomicBool,
    started: AtomicUsize,
    actions: Mutex<Vec<Action>>,
    error: Mutex<Option<i32>>,
}

struct ScriptedDisk(Arc<Script>, Cache);

struct ScriptedChannel {
    script: Arc<Script>,
    event: EventFd,
    requests: VecDeque<(u16, Request)>,
}

impl Disk for ScriptedDisk {
    fn info(&self) -> DiskInfo {
        DiskInfo {
            size: LEN as u64,
            read_only: false,
            block_size: 512,
            physical_block_size: 4096,
            writeback: self.1.is_writeback(),
            discard: true,
        }
    }
    fn channel(&self, _depth: u16) -> io::Result<Box<dyn Channel>> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        Ok(Box::new(ScriptedChannel { script: self.0.clone(), event, requests: VecDeque::new() }))
    }
}

impl Channel for ScriptedChannel {
    fn start(&mut self, token: u16, request: Request) {
        self.script.actions.hold().push(request.action);
        self.requests.push_back((token, request));
        self.script.started.fetch_add(1, SeqCst);
    }
    fn submit(&mut self) {}
    fn finished(&mut self) -> Option<Finished> {
        if self.script.hold.load(SeqCst) {
            return None;
        }
        let (token, request) = self.requests.pop_front()?;
        let result = match *self.script.error.hold() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        };
        Some(Finished { token, result, buffers: request.buffers })
    }
    fn source(&self) -> Option<RawFd> {
        Some(std::os::fd::AsRawFd::as_raw_fd(&self.event))
    }
    fn wait(&mut self) {
        self.script.hold.store(false, SeqCst);
    }
}

fn scripted(cache: Cache, errors: Arc<dyn ErrorPolicy>) -> (Rig, Arc<Script>) {
    let script = Arc::new(Script::default());
    let disk = Guarded::new(Arc::new(ScriptedDisk(script.clone(), cache)), errors);
    let device = block(Arc::new(disk), 1);
    (Rig::new(device, tempfile::tempfile().unwrap()), script)
}

#[test]
fn host_errors_reach_the_guest() {
    let (mut rig, script) = scripted(Cache::Writeback, Arc::new(ReportErrors));
    *script.error.hold() = Some(libc::EIO);
    assert_eq!(rig.read(0, &[(DATA, 512)]), (S_IOERR, 1));
    *script.error.hold() = Some(libc::ENOSPC);
    assert_eq!(rig.write(0, &[(DATA, 512)]), S_IOERR);
    assert_eq!(rig.handle.stats().read_requests.load(SeqCst), 0);
    *script.error.hold() = None;
    assert_eq!(rig.write(0, &[(DATA, 512)]), S_OK);
}

#[test]
fn a_policy_may_hide_host_errors() {
    struct IgnoreReads;
    impl ErrorPolicy for IgnoreReads {
        fn decide(&self, operation: FailedOperation, _error: &io::Error) -> Verdict {
            if operation == FailedOperation::Read { Verdict::Ignore } else { Verdict::Report }
        }
    }
    let (mut rig, script) = scripted(Cache::Writeback, Arc::new(IgnoreReads));
    *script.error.hold() = Some(libc::EIO);
    assert_eq!(rig.read(0, &[(DATA, 512)]).0, S_OK);
    assert_eq!(rig.write(0, &[(DATA, 512)]), S_IOERR);
}

struct StopAll;

impl ErrorPolicy for StopAll {
    fn decide(&self, _: FailedOperation, _: &io::Error) -> Verdict {
        Verdict::Stop
    }
}

/// A device that has three writes which the host has failed, and that is paused.
fn stopped() -> (Rig, Arc<Script>) {
    let (mut rig, script) = scripted(Cache::Writeback, Arc::new(StopAll));
    *script.error.hold() = Some(libc::ENOSPC);
    rig.header(T_OUT, 0);
    for _ in 0..3 {
        rig.queue.submit(&[(HEADER, 16), (DATA, 512)], &[(STATUS, 1)]);
    }
    rig.driver.kick(0);
    wait_for("all to be tried", || script.started.load(SeqCst) == 3);
    rig.driver.function.pause();
    assert!(rig.queue.used().is_empty());
    (rig, script)
}

#[test]
fn requests_that_are_kept_outlive_pauses_and_end_once_when_the_host_can() {
    let (mut rig, script) = stopped();
    for tried in [6, 9] {
        rig.driver.function.pause();
        rig.driver.function.resume();
        wait_for("all to be tried again", || script.started.load(SeqCst) == tried);
    }
    rig.driver.function.pause();
    *script.error.hold() = None;
    rig.driver.function.resume();
    let mut ended = 0;
    wait_for("all to end", || {
        ended += rig.queue.used().len();
        ended == 3
    });
    assert_eq!(
        (script.started.load(SeqCst), rig.queue.ram.read_obj::<u8>(STATUS).unwrap()),
        (12, S_OK)
    );
    assert_eq!(rig.handle.stats().write_requests.load(SeqCst), 3);
    assert_eq!(rig.write(0, &[(DATA, 512)]), S_OK);
}

#[test]
fn requests_that_are_kept_are_saved_and_end_once_in_the_machine_that_goes_on() {
    let (rig, script) = stopped();
    let state = rig.driver.function.save().unwrap();
    let (mut other, script_there) = scripted(Cache::Writeback, Arc::new(StopAll));
    other.driver.function.pause();
    other.driver.function.restore(&state).unwrap();
    // As the memory of the saved guest comes back.
    let mut memory = vec![0; usize::try_from(HOLE).unwrap()];
    rig.queue.ram.read_slice(0, &mut memory).unwrap();
    other.queue.ram.write_slice(0, &memory).unwrap();
    let again = other.driver.function.save().unwrap();
    assert_eq!(again, state, "before it has run it is the same");
    other.driver.function.resume();
    let mut ended = 0;
    wait_for("all to end", || {
        ended += other.queue.used().len();
        ended == 3
    });
    assert_eq!(script_there.started.load(SeqCst), 3);
    assert_eq!(script.started.load(SeqCst), 3, "the saved one has not tried them again");
    assert_eq!(other.queue.ram.read_obj::<u8>(STATUS).unwrap(), S_OK);
    other.queue.available = rig.queue.available;
    assert_eq!(other.write(0, &[(DATA, 512)]), S_OK);
    other.driver.function.pause();
    assert_ne!(other.driver.function.save().unwrap(), state);
}

#[test]
fn a_device_that_keeps_requests_forgets_them_when_reset() {
    let (mut rig, script) = stopped();
    Component::reset(&rig.driver.function);
    rig.driver.function.resume();
    assert!(rig.driver.function.save().is_ok());
    assert_eq!((script.started.load(SeqCst), rig.queue.used().len()), (3, 0));
}

#[test]
fn a_driver_that_resets_the_device_forgets_what_is_kept() {
    let (mut rig, script) = stopped();
    rig.driver.function.resume();
    wait_for("all to be tried again", || script.started.load(SeqCst) == 6);
    *script.error.hold() = None;
    rig.restart(ALL);
    assert!(rig.queue.used().is_empty());
    assert_eq!(rig.write(0, &[(DATA, 512)]), S_OK);
    assert_eq!(script.started.load(SeqCst), 7);
}

#[test]
fn writes_are_durable_unless_driver_and_host_both_want_write_back() {
    let wce = F_FLUSH | F_CONFIG_WCE;
    let cases = [
        (Cache::Writeback, wce, None, false),
        (Cache::Writeback, wce, Some(0), true),
        (Cache::Writeback, F_FLUSH, None, false),
        (Cache::Writeback, 0, None, true),
        (Cache::Writethrough, wce, None, true),
        (Cache::Writethrough, F_FLUSH, None, true),
        (Cache::DirectSync, wce, Some(1), false),
    ];
    for (cache, wanted, set, durable) in cases {
        let (mut rig, script) = scripted(cache, Arc::new(ReportErrors));
        rig.restart(wanted);
        if let Some(value) = set {
            rig.driver.write(DEVICE + CONFIG_WRITEBACK, 1, value);
        }
        rig.write(0, &[(DATA, 512)]);
        let actions = script.actions.hold();
        assert_eq!(*actions, [Action::Write { durable }], "{cache:?} {wanted:#x} {set:?}");
    }
}

#[test]
fn a_reset_with_a_full_queue_in_flight_drops_all_of_it() {
    let (mut rig, script) = scripted(Cache::Writeback, Arc::new(ReportErrors));
    script.hold.store(true, SeqCst);
    rig.header(T_FLUSH, 0);
    for _ in 0..128 {
        rig.queue.submit(&[(HEADER, 16)], &[(STATUS, 1)]);
    }
    rig.driver.kick(0);
    wait_for("all to be in flight", || script.started.load(SeqCst) == 128);
    rig.driver.set_status(0);
    assert_eq!((rig.driver.status(), rig.queue.used().len()), (0, 0));
    rig.restart(ALL);
    assert!(rig.queue.used().is_empty(), "no completion of before the reset");
    assert_eq!(rig.read(0, &[(DATA, 512)]).0, S_OK);
}

#[test]
fn a_pause_delivers_what_is_in_flight() {
    let (mut rig, script) = scripted(Cache::Writeback, Arc::new(ReportErrors));
    script.hold.store(true, SeqCst);
    rig.header(T_FLUSH, 0);
    for _ in 0..128 {
        rig.queue.submit(&[(HEADER, 16)], &[(STATUS, 1)]);
    }
    rig.driver.kick(0);
    wait_for("all to be in flight", || script.started.load(SeqCst) == 128);
    rig.driver.function.pause();
    assert_eq!(rig.queue.used().len(), 128);
    assert!(rig.driver.msi.take(1) > 0);
    rig.driver.function.resume();
    assert_eq!(rig.read(0, &[(DATA, 512)]).0, S_OK);
}

#[test]
fn a_head_offered_again_while_its_request_is_in_flight_breaks_the_queue_only() {
    let (mut rig, script) = scripted(Cache::Writeback, Arc::new(ReportErrors));
    script.hold.store(true, SeqCst);
    rig.header(T_IN, 0);
    let head = rig.queue.submit(&[(HEADER, 16)], &[(DATA, 512), (STATUS, 1)]);
    rig.queue.offer(head);
    rig.driver.kick(0);
    wait_for("NEEDS_RESET", || rig.driver.status() & NEEDS_RESET != 0);
    assert_eq!(script.started.load(SeqCst), 1);
    rig.restart(ALL);
    assert_eq!(rig.read(0, &[(DATA, 512)]).0, S_OK);
}

/// The second vCPU rewrites the header while requests are read: the request carried out is one
/// that was checked, and the queue stays good.
#[test]
fn a_header_rewritten_under_our_eyes_does_no_harm() {
    let mut rig = Setup::default().rig();
    let stop = AtomicBool::new(false);
    let before = rig.image();
    std::thread::scope(|scope| {
        let (memory, stop) = (rig.queue.ram.clone(), &stop);
        scope.spawn(move || {
            while !stop.load(SeqCst) {
                memory.write_obj(HEADER + 8, 4_u64).unwrap();
                memory.write_obj(HEADER + 8, u64::MAX).unwrap();
            }
        });
        for _ in 0..2000 {
            let (status, _) = rig.run(&[(HEADER, 16)], &[(DATA, 512), (STATUS, 1)]);
            assert!(status == S_OK || status == S_IOERR);
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(rig.image(), before);
}
