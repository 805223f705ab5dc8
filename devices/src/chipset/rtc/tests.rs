use super::*;
use crate::io_thread::{IoThread, Stop};
use crate::testing::{FakeClock, FakeLine};

struct Rig {
    rtc: Arc<Rtc>,
    clock: Arc<FakeClock>,
    line: Arc<FakeLine>,
}

const MEMORY: MemorySizes = MemorySizes { low: 1 << 30, high: 3 << 30 };
/// 2024-02-29 12:34:56, a Thursday.
const START: u64 = 1_709_210_096;

fn rig_with(offset: i64) -> Rig {
    let (clock, line) = (Arc::new(FakeClock::default()), Arc::new(FakeLine::default()));
    clock.advance(Duration::from_secs(START));
    let rtc = Arc::new(Rtc::new(offset, MEMORY, 4, line.clone(), clock.clone()).unwrap());
    Rig { rtc, clock, line }
}

fn rig() -> Rig {
    rig_with(0)
}

fn read(rtc: &Rtc, register: u8) -> u8 {
    let _ = rtc.write(0, &[register]);
    let mut value = [0];
    rtc.read(1, &mut value);
    value[0]
}

fn write(rtc: &Rtc, register: u8, value: u8) {
    let _ = rtc.write(0, &[register]);
    let _ = rtc.write(1, &[value]);
}

/// Century, year, month, day, weekday, hour, minute, second.
fn time(rtc: &Rtc) -> [u8; 8] {
    [0x32, 9, 8, 7, 6, 4, 2, 0].map(|register| read(rtc, register))
}

#[test]
fn the_clock_shows_host_time_in_bcd_and_advances() {
    let Rig { rtc, clock, .. } = rig();
    assert_eq!(time(&rtc), [0x20, 0x24, 0x02, 0x29, 0x05, 0x12, 0x34, 0x56]);
    clock.advance(Duration::from_secs(12 * 3600));
    assert_eq!(time(&rtc), [0x20, 0x24, 0x03, 0x01, 0x06, 0x00, 0x34, 0x56]);
    assert_eq!(read(&rtc, 0x0a) & 0x80, 0, "no update in progress");
    assert_eq!(read(&rtc, 0x0d), 0x80);
}

#[test]
fn binary_and_12_hour_formats_show_the_same_time() {
    let Rig { rtc, .. } = rig();
    write(&rtc, 0x0b, B_BINARY | B_24_HOURS);
    assert_eq!(time(&rtc), [20, 24, 2, 29, 5, 12, 34, 56]);
    write(&rtc, 0x0b, B_BINARY);
    assert_eq!(read(&rtc, 4), 0x80 | 12);
}

#[test]
fn an_offset_shifts_the_clock() {
    assert_eq!(time(&rig_with(-3600).rtc)[5], 0x11);
    assert_eq!(time(&rig_with(2 * 3600).rtc)[5], 0x14);
}

#[test]
fn what_the_guest_sets_stays_set_over_reset_and_counts_on() {
    let Rig { rtc, clock, .. } = rig();
    write(&rtc, 0x0b, B_SET | B_24_HOURS);
    for (register, value) in [(0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23)] {
        write(&rtc, register, value);
    }
    clock.advance(Duration::from_secs(5));
    assert_eq!(read(&rtc, 0), 0x56, "the clock stands while it is set");
    write(&rtc, 0x0b, B_24_HOURS);
    assert_eq!(time(&rtc)[..4], [0x19, 0x99, 0x12, 0x31]);
    assert_eq!(time(&rtc)[5..], [0x23, 0x34, 0x56]);
    rtc.reset();
    clock.advance(Duration::from_secs(4));
    assert_eq!(read(&rtc, 2), 0x35);
}

#[test]
fn nonsense_in_the_registers_changes_nothing() {
    let Rig { rtc, .. } = rig();
    for (register, value) in [(8, 0x13), (8, 0), (7, 0x32), (2, 0x60), (0, 0xff), (0x32, 0x18)] {
        write(&rtc, register, value);
    }
    assert_eq!(time(&rtc), [0x20, 0x24, 0x02, 0x29, 0x05, 0x12, 0x34, 0x56]);
}

#[test]
fn memory_sizes_and_processors_are_in_cmos() {
    let Rig { rtc, .. } = rig();
    let word = |at| u16::from(read(&rtc, at)) | u16::from(read(&rtc, at + 1)) << 8;
    assert_eq!(u64::from(word(0x34)) * 65_536 + (16 << 20), MEMORY.low);
    assert_eq!(u64::from(word(0x5b)) * 65_536, MEMORY.high);
    assert_eq!((word(0x15), word(0x30), read(&rtc, 0x5f)), (640, 63 << 10, 3));
    write(&rtc, 0x0f, 0x0a);
    assert_eq!(read(&rtc, 0x0f), 0x0a, "shutdown status");
}

#[test]
fn an_alarm_interrupts_once_until_acknowledged() {
    let Rig { rtc, clock, line } = rig();
    for (register, value) in [(1, 0x00), (3, 0x35), (5, 0xff)] {
        write(&rtc, register, value);
    }
    write(&rtc, 0x0b, ALARM | B_24_HOURS);
    read(&rtc, 0x0c);
    assert_eq!(rtc.tick(), Some(Duration::from_secs(4)));
    clock.advance(Duration::from_secs(3));
    rtc.tick();
    assert!(!line.is_high());
    clock.advance(Duration::from_secs(1));
    assert_eq!(rtc.tick(), None, "nothing more until it is acknowledged");
    assert!(line.is_high());
    assert_eq!(read(&rtc, 0x0c), C_INTERRUPT | ALARM | UPDATE | PERIODIC);
    assert!(!line.is_high());
    assert_eq!(rtc.tick(), Some(Duration::from_secs(3600)));
}

#[test]
fn the_periodic_interrupt_keeps_its_rate() {
    let Rig { rtc, clock, line } = rig();
    write(&rtc, 0x0b, PERIODIC | B_24_HOURS);
    let period = Duration::from_nanos(976_562);
    for _ in 0..10 {
        clock.advance(rtc.tick().unwrap());
        rtc.tick();
        assert!(line.is_high());
        read(&rtc, 0x0c);
    }
    assert_eq!(line.edges(), 10);
    assert!(rtc.tick().unwrap() <= period);
    write(&rtc, 0x0a, 0x20);
    assert_eq!(rtc.tick(), None, "rate none");
}

#[test]
fn flags_are_polled_without_any_timer() {
    let Rig { rtc, clock, .. } = rig();
    read(&rtc, 0x0c);
    assert_eq!(read(&rtc, 0x0c) & UPDATE, 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(read(&rtc, 0x0c) & (UPDATE | C_INTERRUPT), UPDATE);
}

#[test]
fn the_timer_raises_what_the_guest_enables() {
    let line = Arc::new(FakeLine::default());
    let clock = Arc::new(crate::clock::HostClock::new());
    let rtc = Arc::new(Rtc::new(0, MEMORY, 1, line.clone(), clock).unwrap());
    let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
    let timer = thread.add(crate::alarm::Alarm::new(rtc.clone()).unwrap()).unwrap();
    write(&rtc, 0x0b, PERIODIC | B_24_HOURS);
    for edge in 1..=3 {
        crate::virtio::rig::wait_for("a periodic interrupt", || line.edges() >= edge);
        read(&rtc, 0x0c);
    }
    timer.stop(Stop::Discard).unwrap();
}

#[test]
fn absurd_values_and_accesses_do_no_harm() {
    let Rig { rtc, clock, .. } = rig();
    for register in 0..=0xff {
        for value in [0x00, 0x0f, 0x7f, 0x80, 0xff] {
            write(&rtc, register, value);
            read(&rtc, register);
            clock.advance(Duration::from_millis(300));
        }
        let _ = rtc.write(u64::from(register), &[register; 4]);
        rtc.read(u64::from(register), &mut [0; 2]);
    }
    clock.advance(Duration::from_secs(u64::from(u32::MAX) * 100));
    rtc.tick();
    for offset in [i64::MIN, i64::MAX] {
        time(&rig_with(offset).rtc);
    }
}

#[test]
fn a_saved_clock_comes_back() {
    let saved = rig();
    write(&saved.rtc, 4, 0x20);
    write(&saved.rtc, 0x40, 0x77);
    write(&saved.rtc, 0x0b, UPDATE | B_24_HOURS);
    saved.clock.advance(Duration::from_secs(1));
    let state = saved.rtc.save().unwrap();
    let restored = rig();
    restored.clock.advance(Duration::from_secs(1));
    restored.rtc.restore(&state).unwrap();
    assert!(restored.line.is_high());
    assert_eq!(time(&restored.rtc), time(&saved.rtc));
    assert_eq!(read(&restored.rtc, 0x40), 0x77);
    assert_eq!(restored.rtc.offset(), 8 * 3600);
}

/// Ticks that a guest gets which takes the first of `periods` at their end, and all after it at once.
fn taken(rtc: &Rtc, rig: &Rig, periods: u32) -> u32 {
    write(rtc, 0x0a, 0x2a); // 64 Hz
    write(rtc, 0x0b, PERIODIC | B_24_HOURS);
    read(rtc, 0x0c);
    rig.clock.advance(Duration::from_micros(15_625 * u64::from(periods)));
    let mut taken = 0;
    while {
        rtc.tick();
        rig.line.is_high()
    } {
        assert_ne!(read(rtc, 0x0c) & PERIODIC, 0);
        assert!(!rig.line.is_high(), "each is an edge of its own");
        taken += 1;
    }
    taken
}

fn rebuilt(rig: &Rig) -> Rtc {
    Rtc::new(0, MEMORY, 4, rig.line.clone(), rig.clock.clone()).unwrap()
}

#[test]
fn missed_periodic_interrupts_come_later_where_the_policy_says_so() {
    let rig = rig();
    assert_eq!(taken(&rebuilt(&rig), &rig, 9), 1);
    let rtc = rebuilt(&rig).catching_up();
    assert_eq!(taken(&rtc, &rig, 9), 9);
    assert_eq!(taken(&rtc, &rig, 1_000_000), MOST_LOST + 1, "there is a limit");
    // The guest's own change of its clock is no time in which it missed anything, nor is a pause.
    write(&rtc, 0x0a, 0x2a);
    write(&rtc, 0x0b, PERIODIC | B_24_HOURS);
    write(&rtc, 9, 0x30);
    rtc.tick();
    read(&rtc, 0x0c);
    rtc.tick();
    assert!(!rig.line.is_high());
    rig.clock.advance(Duration::from_secs(3));
    rtc.resume();
    read(&rtc, 0x0c);
    rtc.tick();
    assert!(!rig.line.is_high());
}

#[test]
fn what_the_guest_set_its_clock_to_is_told_once_it_has_settled() {
    let rig = rig_with(100);
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let rtc = Rtc::new(100, MEMORY, 4, rig.line.clone(), rig.clock.clone()).unwrap();
    let rtc = rtc.telling(Box::new(move |offset| heard.hold().push(offset)));
    rig.clock.advance(Duration::from_secs(5));
    rtc.tick();
    let hour = time(&rtc)[5];
    write(&rtc, 4, hour + 1);
    write(&rtc, 4, hour + 2);
    assert_eq!(rtc.tick(), Some(SETTLED));
    assert!(told.hold().is_empty());
    rig.clock.advance(SETTLED);
    rtc.tick();
    rtc.tick();
    assert_eq!(*told.hold(), [100 + 2 * 3600]);
    rig.clock.advance(SETTLED);
    assert_eq!((rtc.tick(), told.hold().len()), (None, 1));
}
