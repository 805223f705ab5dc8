//! setmem, dommemstat.

use std::fmt::Write as _;

use api::types::{Affects, BalloonStats, StateName};

use super::Session;
use crate::args::{self, Dommemstat, Setmem};
use crate::failure::Failure;

pub(super) fn affects(args: args::Affects) -> Result<Affects, Failure> {
    let args::Affects { config, live, current } = args;
    if current && (config || live) {
        let other = if config { "config" } else { "live" };
        let line = format!("Options --current and --{other} are mutually exclusive");
        return Err(Failure::usage(line));
    }
    Ok(Affects { live, config })
}

pub(super) async fn setmem(session: &Session, args: Setmem) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let bytes = scaled(&args.size, "k", "size")?;
    session.of(&args.domain, session.client.set_memory(&args.domain, bytes, affects)).await?;
    Ok(())
}

pub(super) async fn dommemstat(session: &Session, args: Dommemstat) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    if let Some(period) = args.period {
        let call = session.client.set_stats_period(&args.domain, period, affects);
        session.of(&args.domain, call).await?;
        return Ok(());
    }
    let stats = session.of(&args.domain, session.client.stats(&args.domain)).await?;
    if stats.summary.state.state == StateName::ShutOff {
        let line = format!("Failed to get memory statistics for domain {}", args.domain);
        return Err(Failure::other(line).also("domain is not running"));
    }
    if session.terminal.json {
        session.terminal.print_json(&stats.balloon);
        return Ok(());
    }
    let mut text = stats.balloon.as_ref().map(lines).unwrap_or_default();
    let _ = writeln!(text, "rss {}", stats.resident_bytes / 1024);
    session.terminal.print(&text);
    Ok(())
}

/// virsh's names, in its order: sizes in KiB.
pub(super) fn figures(stats: &BalloonStats) -> Vec<(&'static str, u64)> {
    let kib = |bytes: Option<u64>| bytes.map(|bytes| bytes / 1024);
    let all = [
        ("actual", kib(Some(stats.actual_bytes))),
        ("swap_in", kib(stats.swap_in_bytes)),
        ("swap_out", kib(stats.swap_out_bytes)),
        ("major_fault", stats.major_faults),
        ("minor_fault", stats.minor_faults),
        ("unused", kib(stats.unused_bytes)),
        ("available", kib(stats.available_bytes)),
        ("usable", kib(stats.usable_bytes)),
        ("last_update", stats.last_update),
        ("disk_caches", kib(stats.disk_caches_bytes)),
        ("hugetlb_pgalloc", stats.hugetlb_allocations),
        ("hugetlb_pgfail", stats.hugetlb_failures),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn lines(stats: &BalloonStats) -> String {
    figures(stats).iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

/// A number of bytes, as virsh reads it: in `bare` without a unit; `M` and `MiB` are 2^20, `MB` is
/// 10^6.
pub(super) fn scaled(text: &str, bare: &str, option: &str) -> Result<u64, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "Scaled numeric value '{text}' for <{option}> option is malformed or out of range"
        ))
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.to_ascii_lowercase();
    let (prefix, decimal) = match unit.as_str() {
        "" => (bare, false),
        "b" | "byte" | "bytes" => ("", false),
        _ => match unit.strip_suffix("ib") {
            Some(prefix) => (prefix, false),
            None => match unit.strip_suffix('b') {
                Some(prefix) => (prefix, true),
                None => (unit.as_str(), false),
            },
        },
    };
    let power = ["", "k", "m", "g", "t", "p", "e"].iter().position(|known| *known == prefix);
    let power = u32::try_from(power.ok_or_else(wrong)?).map_err(|_| wrong())?;
    let base: u64 = if decimal { 1000 } else { 1024 };
    base.checked_pow(power).and_then(|factor| number.checked_mul(factor)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_virsh_reads_them() {
        for (text, bytes) in [
            ("65536", 64 << 20),
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("64MB", 64_000_000),
            ("1g", 1 << 30),
            ("100b", 100),
            ("2KiB", 2048),
        ] {
            assert_eq!(scaled(text, "k", "size").ok(), Some(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1X", "1 M", "99999999999999999999", "20000000000G"] {
            assert!(scaled(text, "k", "size").is_err(), "{text}");
        }
    }
}
