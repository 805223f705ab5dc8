//! schedinfo.

use api::types::{CpuTuning, Tuning};

use super::{get, line, set};
use crate::args::Schedinfo;
use crate::failure::Failure;
use crate::verbs::Session;
use crate::verbs::memory::affects;

/// Without a word.
const PERIOD: u64 = 100_000;
/// Of cgroup version 2.
const SHARES: u64 = 100;

pub(crate) async fn schedinfo(session: &Session, args: Schedinfo) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let mut cpu = CpuTuning::default();
    for parameter in args.set.iter().chain(&args.parameters) {
        change(&mut cpu, parameter)?;
    }
    if cpu != CpuTuning::default() {
        let change = Tuning { cpu, ..Tuning::default() };
        set(session, &args.domain, change, affects).await?;
    }
    let cpu = get(session, &args.domain, affects).await?.cpu;
    if session.terminal.json {
        session.terminal.print_json(&cpu);
    } else {
        session.terminal.print(&lines(&cpu));
    }
    Ok(())
}

/// `parameter=value`, by libvirt's names.
fn change(cpu: &mut CpuTuning, parameter: &str) -> Result<(), Failure> {
    let wrong = || Failure::usage(format!("invalid scheduler option: {parameter}"));
    let (name, value) = parameter.split_once('=').ok_or_else(wrong)?;
    let period = || value.parse::<u64>().map(Some).map_err(|_| wrong());
    let quota = || value.parse::<i64>().map(Some).map_err(|_| wrong());
    match name {
        "cpu_shares" => cpu.shares = period()?,
        "vcpu_period" => cpu.period_us = period()?,
        "vcpu_quota" => cpu.quota_us = quota()?,
        "global_period" => cpu.global_period_us = period()?,
        "global_quota" => cpu.global_quota_us = quota()?,
        "emulator_period" => cpu.emulator_period_us = period()?,
        "emulator_quota" => cpu.emulator_quota_us = quota()?,
        "iothread_period" => cpu.iothread_period_us = period()?,
        "iothread_quota" => cpu.iothread_quota_us = quota()?,
        _ => return Err(wrong()),
    }
    Ok(())
}

fn lines(cpu: &CpuTuning) -> String {
    let mut text = line("Scheduler", "posix");
    text += &line("cpu_shares", cpu.shares.unwrap_or(SHARES));
    for (name, period, quota) in [
        ("vcpu", cpu.period_us, cpu.quota_us),
        ("emulator", cpu.emulator_period_us, cpu.emulator_quota_us),
        ("global", cpu.global_period_us, cpu.global_quota_us),
        ("iothread", cpu.iothread_period_us, cpu.iothread_quota_us),
    ] {
        text += &line(&format!("{name}_period"), period.unwrap_or(PERIOD));
        text += &line(&format!("{name}_quota"), quota.unwrap_or(-1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_libvirts_and_others_are_refused() {
        let mut cpu = CpuTuning::default();
        change(&mut cpu, "cpu_shares=512").unwrap_or_default();
        change(&mut cpu, "vcpu_quota=-1").unwrap_or_default();
        assert_eq!((cpu.shares, cpu.quota_us), (Some(512), Some(-1)));
        for wrong in ["cpu_shares", "cpu_shares=-1", "weight=1", "cpu_shares=1k"] {
            assert!(change(&mut cpu, wrong).is_err(), "{wrong}");
        }
    }
}
