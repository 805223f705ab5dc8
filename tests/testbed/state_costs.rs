//! What saved guests and snapshots cost beside QEMU, in one run: gated with much room above the
//! figures of docs/performance.md, for an emulated host is slow when it wants to be.

use anyhow::{Context, Result, ensure};
use manor_tests::state::{Figures, Peer, measure, prepare};
use manor_tests::testbed::{Disk, Options};
use manor_tests::{Testbed, qemu};

#[test]
fn a_saved_guest_is_back_in_a_fraction_of_qemus_time_from_no_larger_file() -> Result<()> {
    let name = "state-costs";
    let mut options = Options::named(name);
    options.disks = vec![Disk { name: "qemu".into(), image: qemu::peer()? }];
    let host = Testbed::up(&options)?;
    prepare(&host, &[Peer::Manor, Peer::Qemu])?;
    let (ours, theirs) = (measure(Peer::Manor, &host)?, measure(Peer::Qemu, &host)?);
    println!("Manor: {ours:?}\nQEMU: {theirs:?}");
    let figures =
        |name: &str| Ok::<_, anyhow::Error>((figure(&ours, name)?, figure(&theirs, name)?));
    let (running, theirs) = figures("running")?;
    ensure!(running * 5 <= theirs * 2, "restored in {running}, QEMU in {theirs}");
    // Each guest has another amount of memory in use by then.
    let (kib, theirs) = figures("kib")?;
    ensure!(kib * 4 <= theirs * 5, "{kib} KiB, of QEMU {theirs}");
    let (pause, theirs) = figures("snapshot_pause")?;
    ensure!(pause <= theirs * 2, "{pause} us of silence for a snapshot, of QEMU {theirs}");
    Testbed::down(name)
}

fn figure(figures: &Figures, name: &str) -> Result<u64> {
    figures.get(name).copied().with_context(|| format!("no {name} in {figures:?}"))
}
