//! What a guest costs its host, gated: docs/performance.md has the numbers that the limits leave
//! room above. A boot that leaves the guest twice as often is found here, not by a user.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::rig::{Xml, host};

const GUEST_MIB: u64 = 128;

fn measure_boot(machine: &str) -> Result<BTreeMap<String, u64>> {
    let host = host()?;
    let file = format!("/guest/costs-{machine}.xml");
    let mut xml = Xml::new(&format!("costs-{machine}"), "manor.hold");
    xml.machine = machine.into();
    xml.kernel = "/guest/vmlinux".into();
    xml.memory_mib = GUEST_MIB;
    host.write(&file, xml.text().as_bytes())?;
    let mib = GUEST_MIB.to_string();
    let words = [
        "/init",
        "measure",
        "--guest-mib",
        &mib,
        "--until",
        "MANOR-GUEST-UP",
        "--settle-ms",
        "1000",
    ];
    let command = [words.as_slice(), &["--", "manor", "run", &file]].concat();
    let text = host.exec(&command)?.success()?;
    let figures = text.lines().filter_map(|line| line.split_once(' '));
    Ok(figures.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}

/// `exits`: without those that come with time (interrupts and the guest's timer), and so with load.
fn assert_costs(machine: &str, exits: u64, to_user_space: u64) -> Result<()> {
    let figures = measure_boot(machine)?;
    let figure = |name: &str| figures.get(name).copied().with_context(|| format!("no {name}"));
    let of_time = figure("irq_exits")? + figure("irq_window_exits")? + figure("irq_injections")?;
    let beside = figure("exits")?.saturating_sub(of_time);
    assert!((100..=exits).contains(&beside), "{beside} exits of {machine}: {figures:?}");
    let user = figure("user_space_accesses")?;
    assert!((50..=to_user_space).contains(&user), "{user} to user space: {figures:?}");
    // Small pages for the guest's memory would be thousands of faults.
    let faults = figure("pf_taken")?;
    assert!(faults <= 200, "{faults} page faults of {machine}: {figures:?}");
    let own = figure("rss_kib")?;
    // Most of it is code, mapped in pieces of 64 KiB and shared by all guests: 6.1 MiB on a q35.
    assert!((100..=7 << 10).contains(&own), "{own} KiB beside the guest's: {figures:?}");
    Ok(())
}

#[test]
fn a_q35_boot_leaves_the_guest_seldom() -> Result<()> {
    assert_costs("q35", 2700, 500)
}

#[test]
fn a_microvm_boot_leaves_the_guest_less_often() -> Result<()> {
    assert_costs("microvm", 2000, 320)
}
