//! Counters. A stuck VMM costs its own figures, never anybody's time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use vmm_protocol::control::{self as protocol, BalloonStatistics, InterfaceStatistics};
use xml::device::interface::{Interface, InterfaceType};

use crate::auth::{Access, Scope, Subject};
use crate::domain::handle::Handle;
use crate::domain::listing::Listed;
use crate::domain::{
    BalloonStats, BlockStats, DirtyRate, DiskFault, DomainRef, DomainStats, InterfaceStats, Tuning,
    VcpuStats,
};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// For a VMM to answer; one that does not is asked again later, and waited for by nobody.
const WAIT: Duration = Duration::from_millis(300);

/// Counters of one domain (virDomainListGetStats).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetDomainStats {
    pub domain: DomainRef,
}

impl Operation for GetDomainStats {
    type Output = DomainStats;
    const NAME: &'static str = "domain.stats";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<DomainStats, Error> {
        Ok(stats(&cx.find(&self.domain)?, WAIT).await)
    }
}

/// Counters of all domains, off ones included: what `/metrics` shows. Answers in bounded time
/// whatever the VMMs do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetAllStats;

impl Operation for GetAllStats {
    type Output = Vec<DomainStats>;
    const NAME: &'static str = "domain.all-stats";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domains
    }

    fn narrow(mut all: Vec<DomainStats>, scope: &Scope) -> Option<Vec<DomainStats>> {
        all.retain(|stats| scope.has(stats.summary.uuid, &stats.summary.name));
        Some(all)
    }

    async fn run(self, cx: &Context) -> Result<Vec<DomainStats>, Error> {
        let all = cx.node.listed();
        let is_active = |row: &&Listed| row.summary.id.is_some();
        let live = all.iter().filter(is_active);
        let live: Vec<_> = live.filter_map(|row| cx.node.get(row.summary.uuid)).collect();
        let mut found = join_all(live.iter().map(|handle| stats(handle, WAIT))).await;
        // Nobody is asked about the others.
        let off = all.iter().filter(|row| !is_active(row));
        found.extend(off.map(|row| DomainStats::of_none(row.summary.clone())));
        found.sort_by(|a, b| a.summary.name.cmp(&b.summary.name));
        Ok(found)
    }
}

/// What the host's kernel counts on a guest's interface. A tap is seen from the other side.
fn of_kernel(interface: &Interface) -> Option<InterfaceStatistics> {
    let name = interface.target.as_ref()?.dev.as_deref()?;
    let dir = Path::new("/sys/class/net").join(name).join("statistics");
    let read = |what: &str| {
        let text = std::fs::read_to_string(dir.join(what)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let (to, from) =
        if interface.kind == InterfaceType::Direct { ("rx", "tx") } else { ("tx", "rx") };
    Some(InterfaceStatistics {
        by_kernel: true,
        receive_packets: read(&format!("{to}_packets"))?,
        receive_bytes: read(&format!("{to}_bytes"))?,
        receive_drops: read(&format!("{to}_dropped"))?,
        transmit_packets: read(&format!("{from}_packets"))?,
        transmit_bytes: read(&format!("{from}_bytes"))?,
        transmit_drops: read(&format!("{from}_dropped"))?,
    })
}

async fn stats(handle: &Handle, within: Duration) -> DomainStats {
    let sample = handle.sample(within).await;
    let view = handle.view();
    let summary = Arc::new(view.summary());
    let age = sample.as_ref().map(|sample| millis(sample.time.elapsed()));
    let statistics = sample.map(|sample| sample.statistics).unwrap_or_default();
    let process = view.live.as_ref().and_then(|live| live.record.process);
    let places = process.map(|process| crate::host::vcpu_places(process.pid)).unwrap_or_default();
    let def = view.current();
    let block = |id: &str| {
        let disks = def.iter().flat_map(|def| &def.devices.disks);
        disks.into_iter().find(|disk| disk.alias.as_deref() == Some(id))
    };
    let interface = |id: &str| {
        let interfaces = def.iter().flat_map(|def| &def.devices.interfaces);
        interfaces.into_iter().find(|interface| interface.alias.as_deref() == Some(id))
    };
    DomainStats {
        summary,
        age,
        resident: statistics.resident,
        unhandled_accesses: statistics.unhandled_accesses,
        dirty_rate: statistics.dirty_rate.map(|found| DirtyRate {
            started: found.started,
            seconds: found.seconds,
            rate: found.rate,
        }),
        io_threads: def.map(io_threads).unwrap_or_default(),
        balloon: statistics.balloon.map(balloon),
        vcpus: statistics
            .vcpus
            .iter()
            .enumerate()
            .map(|(index, vcpu)| VcpuStats {
                time: vcpu.time_ns,
                exits: vcpu.exits,
                cpu: places.get(&index).copied(),
                online: !vcpu.absent,
            })
            .collect(),
        // Only of devices that the definition has: a VMM cannot make up others.
        blocks: statistics
            .blocks
            .iter()
            .filter_map(|(id, counters)| {
                let disk = block(id)?;
                let row = super::query::disk_row(disk);
                Some(BlockStats {
                    target: row.target,
                    source: row.source,
                    read_requests: counters.read_requests,
                    read_bytes: counters.read_bytes,
                    write_requests: counters.write_requests,
                    write_bytes: counters.write_bytes,
                    flush_requests: counters.flush_requests,
                    read_time: counters.read_time,
                    write_time: counters.write_time,
                    flush_time: counters.flush_time,
                    threshold: counters.threshold,
                    errors: counters.errors,
                    connected: counters.connected,
                    fault: counters.fault.map(|fault| match fault {
                        protocol::DiskFault::NoSpace => DiskFault::NoSpace,
                        protocol::DiskFault::Unspecified => DiskFault::Unspecified,
                    }),
                })
            })
            .collect(),
        interfaces: statistics
            .interfaces
            .iter()
            .filter_map(|(id, counters)| {
                let interface = interface(id)?;
                let row = super::query::interface_row(interface);
                let of_kernel = counters.by_kernel.then(|| of_kernel(interface)).flatten();
                let counters = of_kernel.as_ref().unwrap_or(counters);
                Some(InterfaceStats {
                    target: row.target.unwrap_or_default(),
                    source: row.source,
                    mac: row.mac,
                    receive_packets: counters.receive_packets,
                    receive_bytes: counters.receive_bytes,
                    receive_drops: counters.receive_drops,
                    transmit_packets: counters.transmit_packets,
                    transmit_bytes: counters.transmit_bytes,
                    transmit_drops: counters.transmit_drops,
                })
            })
            .collect(),
    }
}

fn io_threads(def: &xml::DomainDef) -> Vec<u32> {
    Tuning::of(def).pins.iothreads.into_iter().map(|pin| pin.id).collect()
}

fn balloon(said: BalloonStatistics) -> BalloonStats {
    BalloonStats {
        memory: said.memory,
        swap_in: said.swap_in,
        swap_out: said.swap_out,
        major_faults: said.major_faults,
        minor_faults: said.minor_faults,
        free: said.free,
        total: said.total,
        available: said.available,
        caches: said.caches,
        huge_allocations: said.huge_allocations,
        huge_failures: said.huge_failures,
        updated: Some(said.updated).filter(|seconds| *seconds > 0),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
