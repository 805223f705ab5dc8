use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{ABANDONED, Audit, OK, Record};
use crate::auth::{Access, Caller};
use crate::config;
use crate::error::Code;

fn open(dir: &Path, host_was_booted: bool) -> Arc<Audit> {
    Arc::new(Audit::open(dir, &config::Audit::default(), host_was_booted))
}

async fn write(audit: &Arc<Audit>, operation: &'static str) {
    let caller = Caller::new("someone", Access::Admin);
    audit.begin(&caller, operation, "", None).end(Ok(())).await;
}

fn ids(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.id).collect()
}

#[tokio::test]
async fn a_call_is_in_the_log_when_its_caller_hears_of_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path(), true);
    let caller = Caller::new("uid 7", Access::Admin);
    audit.begin(&caller, "domain.start", "", None).end(Err(Code::NoSpace)).await;
    let records = audit.read(None, 10).unwrap();
    let record = &records[0];
    assert_eq!((record.id, record.caller.as_str(), records.len()), (1, "uid 7", 1));
    assert_eq!((record.operation.as_str(), record.result.as_str()), ("domain.start", "no-space"));
    let mode = dir.path().join("audit.jsonl").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_call_whose_caller_went_away_is_in_the_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path(), true);
    drop(audit.begin(&Caller::daemon(), "domain.start", "", None));
    write(&audit, "next").await;
    let records = audit.read(None, 10).unwrap();
    assert_eq!(records[0].result, ABANDONED);
    assert_eq!(records[1].result, OK);
}

#[tokio::test]
async fn ids_go_on_over_restarts_and_leap_over_what_a_boot_may_have_cost() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let audit = open(dir.path(), false);
        write(&audit, "a").await;
        write(&audit, "b").await;
    }
    let audit = open(dir.path(), true);
    write(&audit, "c").await;
    let all = ids(&audit.read(None, 100).unwrap());
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7 + (1 << 16)]);
}

#[tokio::test]
async fn a_line_that_was_cut_off_costs_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(&open(dir.path(), false), "a").await;
    let path = dir.path().join("audit.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{}", &whole[..20])).unwrap();
    let audit = open(dir.path(), false);
    write(&audit, "b").await;
    assert_eq!(ids(&audit.read(None, 10).unwrap()), [1, 2]);
}

/// A file full of lines, without a gigabyte of them.
#[tokio::test]
async fn old_files_make_room_and_reading_goes_over_their_borders() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Audit { file_size_mib: 1, keep: 2 };
    let audit = Arc::new(Audit::open(dir.path(), &config, false));
    let caller = Caller::new("x".repeat(200 << 10), Access::Admin);
    for _ in 0..30 {
        audit.begin(&caller, "a", "", None).end(Ok(())).await;
    }
    // Nobody waits long for a slow disk, so the writer may be behind.
    audit.latest.clone().wait_for(|id| *id >= 30).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
    let all = ids(&audit.read(None, 100).unwrap());
    assert_eq!(all.last(), Some(&30));
    assert!((12..=18).contains(&all.len()), "{all:?}");
    assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");
    assert_eq!(ids(&audit.read(None, 8).unwrap()), (23..=30).collect::<Vec<_>>());
    assert_eq!(ids(&audit.read(Some(20), 3).unwrap()), [21, 22, 23]);
    assert_eq!(ids(&audit.read(Some(0), 2).unwrap()), all[..2]);
    assert_eq!(ids(&audit.read(Some(30), 2).unwrap()), [0; 0]);
    // The next daemon goes on, be the newest file there or not.
    drop(audit);
    std::fs::remove_file(dir.path().join("audit.jsonl")).unwrap();
    let audit = Arc::new(Audit::open(dir.path(), &config, false));
    let last = audit.read(None, 1).unwrap()[0].id;
    write(&audit, "b").await;
    assert_eq!(ids(&audit.read(None, 1).unwrap()), [last + 1]);
}

#[tokio::test]
async fn without_a_place_for_it_calls_go_on_and_ids_too() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    let audit = open(&place, false);
    for _ in 0..3 {
        write(&audit, "lost").await;
    }
    std::fs::create_dir(&place).unwrap();
    write(&audit, "kept").await;
    assert_eq!(ids(&audit.read(None, 10).unwrap()), [4]);
}

#[tokio::test]
async fn refusals_without_end_do_not_push_out_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path(), false);
    write(&audit, "precious").await;
    let caller = Caller::new("reader", Access::Read);
    for _ in 0..500 {
        audit.begin(&caller, "domain.destroy", "", None).end(Err(Code::Denied)).await;
    }
    let records = audit.read(None, 1000).unwrap();
    assert!((101..200).contains(&records.len()), "{}", records.len());
    assert_eq!(records[0].operation, "precious");
}

/// A pipe stands for a disk that hangs: it takes 64 KiB, and no more until somebody reads.
#[tokio::test]
async fn a_disk_that_hangs_holds_one_call_shortly_and_is_waited_for_again_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
    // Opened for both directions: neither waits for the other.
    let mut reader = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let audit = open(dir.path(), false);
    let caller = Caller::new("x".repeat(4 << 10), Access::Admin);
    let begun = Instant::now();
    for _ in 0..200 {
        audit.begin(&caller, "a", "", None).end(Ok(())).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(audit.pace.is_late.load(Ordering::Relaxed));
    std::thread::spawn(move || while matches!(reader.read(&mut [0; 4096]), Ok(1..)) {});
    audit.latest.clone().wait_for(|latest| *latest == 200).await.unwrap();
    write(&audit, "b").await;
    assert_eq!(*audit.latest.borrow(), 201);
}
