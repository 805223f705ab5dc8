//! vcpupin, emulatorpin, iothreadpin, iothreadinfo.

use api::types::{Affects, Pin, Pins, Tuning};

use super::{get, set};
use crate::args::{Domain, Emulatorpin, IothreadId, Iothreadinfo, Iothreadpin, Vcpupin};
use crate::failure::Failure;
use crate::table::Table;
use crate::verbs::Session;
use crate::verbs::memory::affects;

/// Far above the CPUs of any host.
const MOST: u16 = 4096;

pub(crate) async fn vcpupin(session: &Session, args: Vcpupin) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let (vcpu, list) = (args.vcpu.or(args.vcpu_option), args.cpulist.or(args.cpulist_option));
    if let Some(list) = list {
        let missing = || Failure::usage("vcpupin: Missing vCPU number in pin mode.");
        let pin = Pin { id: vcpu.ok_or_else(missing)?, cpus: cpus(&list)? };
        let pins = Pins { vcpus: vec![pin], ..Pins::default() };
        return set(session, &args.domain, Tuning { pins, ..Tuning::default() }, affects).await;
    }
    let mut pins = get(session, &args.domain, affects).await?.pins.vcpus;
    pins.retain(|pin| vcpu.is_none_or(|vcpu| pin.id == vcpu));
    print(session, "VCPU", &pins).await
}

pub(crate) async fn vcpuinfo(session: &Session, args: Domain) -> Result<(), Failure> {
    let stats = session.of(&args.domain, session.client.stats(&args.domain)).await?;
    let mut pins = get(session, &args.domain, Affects::default()).await?.pins.vcpus;
    pins.retain(|pin| {
        let index = usize::try_from(pin.id).unwrap_or(usize::MAX);
        stats.vcpu_stats.get(index).is_none_or(|vcpu| vcpu.online)
    });
    if session.terminal.json {
        session.terminal.print_json(&stats.vcpu_stats);
        return Ok(());
    }
    let all = session.client.node().await?.cpus;
    let mut blocks = Vec::new();
    for pin in &pins {
        let index = usize::try_from(pin.id).unwrap_or(usize::MAX);
        let vcpu = stats.vcpu_stats.get(index);
        let none = || "N/A".to_owned();
        let cpu = vcpu.and_then(|vcpu| vcpu.cpu).map_or_else(none, |cpu| cpu.to_string());
        let state = if vcpu.is_some() { "running" } else { "N/A" };
        let tenths = |ns: u64| format!("{}.{}s", ns / 1_000_000_000, ns / 100_000_000 % 10);
        let time = vcpu.map_or_else(none, |vcpu| tenths(vcpu.cpu_time_ns));
        let runs = |cpu: u32| pin.cpus.is_empty() || pin.cpus.iter().any(|c| u32::from(*c) == cpu);
        let map: String = (0..all).map(|cpu| if runs(cpu) { 'y' } else { '-' }).collect();
        let id = pin.id.to_string();
        let lines = [
            ("VCPU:", &*id),
            ("CPU:", &*cpu),
            ("State:", state),
            ("CPU time:", &*time),
            ("CPU Affinity:", &*map),
        ];
        blocks.push(lines.map(|(name, value)| format!("{name:<15} {value}\n")).concat());
    }
    session.terminal.print(&blocks.join("\n"));
    Ok(())
}

pub(crate) async fn emulatorpin(session: &Session, args: Emulatorpin) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    if let Some(list) = args.cpulist.or(args.cpulist_option) {
        let pins = Pins { emulator: Some(cpus(&list)?), ..Pins::default() };
        return set(session, &args.domain, Tuning { pins, ..Tuning::default() }, affects).await;
    }
    let cpus = get(session, &args.domain, affects).await?.pins.emulator.unwrap_or_default();
    if session.terminal.json {
        session.terminal.print_json(&cpus);
        return Ok(());
    }
    let all = session.client.node().await?.cpus;
    let mut table = Table::new(["emulator:", "CPU Affinity"]);
    table.row(["*".to_owned(), ranges(&cpus, all)]);
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

pub(crate) async fn iothreadpin(session: &Session, args: Iothreadpin) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let pin = Pin { id: args.iothread, cpus: cpus(&args.cpulist)? };
    let pins = Pins { iothreads: vec![pin], ..Pins::default() };
    set(session, &args.domain, Tuning { pins, ..Tuning::default() }, affects).await
}

pub(crate) async fn iothreadinfo(session: &Session, args: Iothreadinfo) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let pins = get(session, &args.domain, affects).await?.pins.iothreads;
    if pins.is_empty() && !session.terminal.json {
        session.terminal.say("No IOThreads found for the domain");
        return Ok(());
    }
    print(session, "IOThread ID", &pins).await
}

pub(crate) async fn iothreadadd(session: &Session, args: IothreadId) -> Result<(), Failure> {
    change(session, args, true).await
}

pub(crate) async fn iothreaddel(session: &Session, args: IothreadId) -> Result<(), Failure> {
    change(session, args, false).await
}

async fn change(session: &Session, args: IothreadId, there: bool) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let call = session.client.change_io_thread(&args.domain, args.id, there, affects);
    session.of(&args.domain, call).await
}

async fn print(session: &Session, what: &'static str, pins: &[Pin]) -> Result<(), Failure> {
    if session.terminal.json {
        session.terminal.print_json(&pins);
        return Ok(());
    }
    let all = session.client.node().await?.cpus;
    let mut table = Table::new([what, "CPU Affinity"]);
    for pin in pins {
        table.row([pin.id.to_string(), ranges(&pin.cpus, all)]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

/// `0-3,5,^2`, or `r` for all.
pub(crate) fn cpus(text: &str) -> Result<Vec<u16>, Failure> {
    let wrong = || Failure::usage(format!("Invalid cpulist '{text}'"));
    if text == "r" {
        return Ok(Vec::new());
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|cpu| *cpu < MOST).ok_or_else(wrong);
    let mut found = std::collections::BTreeSet::new();
    for part in text.split(',') {
        match (part.strip_prefix('^'), part.split_once('-')) {
            (Some(out), _) => _ = found.remove(&number(out)?),
            (None, Some((first, last))) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return Err(wrong());
                }
                found.extend(first..=last);
            }
            (None, None) => _ = found.insert(number(part)?),
        }
    }
    if found.is_empty() { Err(wrong()) } else { Ok(found.into_iter().collect()) }
}

/// As libvirt writes them; none: all that the host has.
fn ranges(cpus: &[u16], all: u32) -> String {
    if cpus.is_empty() {
        return match all {
            0 | 1 => "0".to_owned(),
            all => format!("0-{}", all - 1),
        };
    }
    list(cpus)
}

/// As libvirt writes them.
pub(crate) fn list(cpus: &[u16]) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*cpu) => *last = *cpu,
            _ => runs.push((*cpu, *cpu)),
        }
    }
    let text = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_written_as_libvirt_does() {
        for (text, numbers) in
            [("0", vec![0]), ("0-3,^1", vec![0, 2, 3]), ("7,1-2", vec![1, 2, 7]), ("r", vec![])]
        {
            assert_eq!(cpus(text).ok(), Some(numbers), "{text}");
        }
        for text in ["", "x", "3-1", "0,^0", "4096", "0-99999", "-1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8], 9), "0-2,5,7-8");
        assert_eq!((ranges(&[], 4), ranges(&[], 1)), ("0-3".to_owned(), "0".to_owned()));
    }
}
