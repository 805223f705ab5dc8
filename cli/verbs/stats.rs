//! domstats: libvirt's `key=value` statistics.

use std::fmt::Write as _;

use api::types::{DomainStats, StateName};

use super::Session;
use super::memory::figures;
use crate::args::{DomdirtyrateCalc, Domstats};
use crate::failure::Failure;
use crate::terminal::printable;

pub(super) async fn domstats(session: &Session, args: Domstats) -> Result<(), Failure> {
    let mut found = Vec::new();
    if args.domain.is_empty() {
        found = session.client.all_stats().await?.domains;
        found.sort_by_key(|domain| {
            (domain.summary.id.is_none(), domain.summary.id, domain.summary.name.clone())
        });
    }
    for domain in &args.domain {
        found.push(session.of(domain, session.client.stats(domain)).await?);
    }
    found.retain(|domain| is_wanted(domain, &args));
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let texts: Vec<_> = found.iter().map(|domain| text(domain, &args)).collect();
    session.terminal.print(&texts.join("\n"));
    Ok(())
}

fn is_wanted(domain: &DomainStats, args: &Domstats) -> bool {
    let state = domain.summary.state.state;
    let active = state != StateName::ShutOff;
    // Filters of one group are joined by "or", groups by "and".
    let groups: [&[(bool, bool)]; 3] = [
        &[(args.list_active, active), (args.list_inactive, !active)],
        &[
            (args.list_running, state == StateName::Running),
            (args.list_paused, state == StateName::Paused),
            (args.list_shutoff, state == StateName::ShutOff),
        ],
        &[
            (args.list_persistent, domain.summary.persistent),
            (args.list_transient, !domain.summary.persistent),
        ],
    ];
    groups.iter().all(|group| {
        !group.iter().any(|(asked, _)| *asked) || group.iter().any(|(asked, is)| *asked && *is)
    })
}

/// The groups that were asked for, or all.
fn text(domain: &DomainStats, args: &Domstats) -> String {
    let chosen = [
        args.state,
        args.cpu_total,
        args.balloon,
        args.vcpu,
        args.interface,
        args.block,
        args.iothread,
        args.dirtyrate,
    ];
    let all = chosen.iter().all(|chosen| !chosen);
    let [state, cpu, balloon, vcpu, interface, block, iothread, dirtyrate] =
        chosen.map(|chosen| chosen || all);
    let summary = &domain.summary;
    let active = summary.state.state != StateName::ShutOff;
    // That it has no disks is said of no guest whose VMM has not said it.
    let counted = domain.age_ms.is_some();
    let mut out = format!("Domain: '{}'\n", printable(&summary.name));
    let mut set = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "  {key}={}", printable(&value.to_string()));
    };
    if state {
        set("state.state", &summary.state.state_code);
        set("state.reason", &summary.state.reason_code);
    }
    if cpu && active {
        set("cpu.time", &summary.cpu_time_ns);
    }
    if balloon {
        let actual = domain.balloon.as_ref().map_or(summary.memory_bytes, |b| b.actual_bytes);
        set("balloon.current", &(actual / 1024));
        set("balloon.maximum", &(summary.max_memory_bytes / 1024));
        for (name, value) in domain.balloon.as_ref().map(figures).unwrap_or_default() {
            if name != "actual" {
                set(&format!("balloon.{}", name.replace('_', "-")), &value);
            }
        }
        if active {
            set("balloon.rss", &(domain.resident_bytes / 1024));
        }
    }
    if vcpu {
        set("vcpu.current", &summary.vcpus);
        set("vcpu.maximum", &summary.max_vcpus);
        for (index, vcpu) in domain.vcpu_stats.iter().enumerate().filter(|(_, vcpu)| vcpu.online) {
            set(&format!("vcpu.{index}.state"), &1);
            set(&format!("vcpu.{index}.time"), &vcpu.cpu_time_ns);
            set(&format!("vcpu.{index}.exits.sum"), &vcpu.exits);
        }
    }
    if interface && counted {
        set("net.count", &domain.interface_stats.len());
        for (index, net) in domain.interface_stats.iter().enumerate() {
            set(&format!("net.{index}.name"), &net.target);
            set(&format!("net.{index}.rx.bytes"), &net.receive_bytes);
            set(&format!("net.{index}.rx.pkts"), &net.receive_packets);
            set(&format!("net.{index}.rx.drop"), &net.receive_drops);
            set(&format!("net.{index}.tx.bytes"), &net.transmit_bytes);
            set(&format!("net.{index}.tx.pkts"), &net.transmit_packets);
            set(&format!("net.{index}.tx.drop"), &net.transmit_drops);
        }
    }
    if block && counted {
        set("block.count", &domain.block_stats.len());
        for (index, disk) in domain.block_stats.iter().enumerate() {
            set(&format!("block.{index}.name"), &disk.target);
            if let Some(source) = &disk.source {
                set(&format!("block.{index}.path"), source);
            }
            set(&format!("block.{index}.rd.reqs"), &disk.read_requests);
            set(&format!("block.{index}.rd.bytes"), &disk.read_bytes);
            set(&format!("block.{index}.wr.reqs"), &disk.write_requests);
            set(&format!("block.{index}.wr.bytes"), &disk.write_bytes);
            set(&format!("block.{index}.fl.reqs"), &disk.flush_requests);
            set(&format!("block.{index}.rd.times"), &disk.read_time_ns);
            set(&format!("block.{index}.wr.times"), &disk.write_time_ns);
            set(&format!("block.{index}.fl.times"), &disk.flush_time_ns);
            if let Some(threshold) = &disk.threshold_bytes {
                set(&format!("block.{index}.threshold"), threshold);
            }
            set(&format!("block.{index}.errors"), &disk.errors);
            if let Some(connected) = disk.connected {
                set(&format!("block.{index}.connected"), if connected { &"yes" } else { &"no" });
            }
        }
    }
    if iothread && active {
        set("iothread.count", &domain.io_threads.len());
        for id in &domain.io_threads {
            set(&format!("iothread.{id}.poll-max-ns"), &0);
        }
    }
    if let (true, Some(found)) = (dirtyrate && active, &domain.dirty_rate) {
        set("dirtyrate.calc_status", if found.mib_per_second.is_some() { &2 } else { &1 });
        set("dirtyrate.calc_start_time", &found.started);
        set("dirtyrate.calc_period", &found.seconds);
        set("dirtyrate.calc_mode", &"dirty-bitmap");
        if let Some(rate) = &found.mib_per_second {
            set("dirtyrate.megabytes_per_second", rate);
        }
    }
    out
}

pub(super) async fn domdirtyrate_calc(
    session: &Session,
    args: DomdirtyrateCalc,
) -> Result<(), Failure> {
    let call = session.client.measure_dirty_rate(&args.domain, args.seconds);
    session.of(&args.domain, call).await?;
    session.terminal.say("Start to calculate domain's memory dirty rate successfully.\n");
    Ok(())
}
