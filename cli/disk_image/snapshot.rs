//! `manor image snapshot`: snapshots that lie in a qcow2 image.

use std::fmt::Write as _;

use image::qcow2::{NewSnapshot, OpenOptions, Qcow2, SnapshotRef};
use image::{Format, SnapshotInfo};
use serde_json::{Value, json};

use super::args::{Snapshot, Source};
use super::open::{Found, Opener, of};
use super::size::human;
use crate::failure::Failure;
use crate::terminal::{Terminal, printable};

pub(super) fn snapshot(command: &Snapshot, terminal: &Terminal) -> Result<(), Failure> {
    let (source, name, done) = match command {
        Snapshot::List(args) => return list(&args.source, terminal),
        Snapshot::Create(args) => (&args.source, &args.name, "Created"),
        Snapshot::Apply(args) => (&args.source, &args.name, "Applied"),
        Snapshot::Delete(args) => (&args.source, &args.name, "Deleted"),
    };
    let found = find(source, false)?;
    // The tables alone change, so that what lies below need not be there.
    let disk = Qcow2::open(found.file, OpenOptions::default()).map_err(of(&source.path))?;
    let wanted = SnapshotRef::IdOrName(name);
    let info = match command {
        Snapshot::Apply(_) => disk.apply_snapshot(wanted),
        Snapshot::Delete(_) => disk.delete_snapshot(wanted),
        _ => disk.create_snapshot(&NewSnapshot::now(name)),
    };
    let info = info.map_err(of(&source.path))?;
    if terminal.json {
        terminal.print_json(&json(&info));
    } else {
        let (name, path) = (printable(&info.name), source.path.display());
        terminal.say(&format!("{done} snapshot {name} (ID {}) of {path}\n", printable(&info.id)));
    }
    Ok(())
}

fn list(source: &Source, terminal: &Terminal) -> Result<(), Failure> {
    let snapshots = find(source, true)?.description.snapshots;
    if terminal.json {
        let all: Vec<Value> = snapshots.iter().map(json).collect();
        terminal.print_json(&all);
    } else if !snapshots.is_empty() {
        terminal.print(&table(&snapshots));
    }
    Ok(())
}

fn find(source: &Source, read_only: bool) -> Result<Found, Failure> {
    let found = Opener::new(source.force_share).find(source, read_only)?;
    if found.format == Format::Qcow2 {
        return Ok(found);
    }
    let line =
        format!("{}: a {} image has no snapshots in it", source.path.display(), found.format);
    Err(Failure::usage(line).hint("convert it to qcow2 first"))
}

/// qemu-img's columns.
pub(super) fn table(snapshots: &[SnapshotInfo]) -> String {
    let mut out = format!("{:8} {:20} {:>10} {:>10} DATE\n", "ID", "TAG", "VM SIZE", "DISK SIZE");
    for snapshot in snapshots {
        let _ = writeln!(
            out,
            "{:8} {:20} {:>10} {:>10} {}",
            printable(&snapshot.id),
            printable(&snapshot.name),
            human(snapshot.vm_state_size),
            human(snapshot.size),
            date(snapshot.date),
        );
    }
    out
}

/// As the host's clocks show it.
fn date(seconds: u32) -> String {
    let time = jiff::Timestamp::from_second(seconds.into());
    let zoned = time.map(|time| time.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map_or_else(|_| "-".into(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

pub(super) fn json(snapshot: &SnapshotInfo) -> Value {
    let mut value = json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "disk-size": snapshot.size,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.date,
        "vm-clock-nsec": snapshot.vm_clock,
    });
    if let Some(icount) = snapshot.icount {
        value["icount"] = icount.into();
    }
    value
}
