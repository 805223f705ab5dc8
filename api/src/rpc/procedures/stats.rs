//! Counters of domains, by libvirt's names.

use management::domain::{BlockStats, DirtyRate, DiskFault, DomainStats, InterfaceStats};
use management::ops::{
    DescribeDisk, GetAllStats, GetDomainStats, MeasureDirtyRate, SetBlockThreshold,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::Parameters;
use super::domain::{STATE_FLAGS, filter};
use super::{Client, Row, count};

const STATE: u32 = 1;
const CPU: u32 = 2;
const BALLOON: u32 = 4;
const VCPU: u32 = 8;
const INTERFACE: u32 = 16;
const BLOCK: u32 = 32;
const IO_THREAD: u32 = 128;
const DIRTY_RATE: u32 = 512;
/// Groups of which there is something to say where events are counted (perf), or bandwidth is watched over
/// (memory): nothing, here.
const EMPTY: u32 = 64 | 256;
/// The hypervisor's own counters.
const VM: u32 = 1024;

const BACKING: u32 = 1 << 30;
const ENFORCE: u32 = 1 << 31;
const NO_WAIT: u32 = 1 << 29;

type Records = Vec<(Row, Parameters)>;

pub(crate) async fn all(
    client: Client,
    (domains, groups, flags): (Vec<Domain>, u32, u32),
) -> Result<Records, Failure> {
    known_flags(flags, STATE_FLAGS | BACKING | ENFORCE | NO_WAIT, "virConnectGetAllDomainStats")?;
    let counted = STATE | CPU | BALLOON | VCPU | INTERFACE | BLOCK | IO_THREAD | DIRTY_RATE;
    let known = counted | EMPTY;
    if flags & ENFORCE != 0 && groups & !known != 0 {
        let text = format!("there are no counters of groups {:#x}", groups & !known);
        return Err(Failure::unsupported(Area::Domain, &text));
    }
    known_flags(groups, known | VM, "virConnectGetAllDomainStats")?;
    let groups = if groups == 0 { known } else { groups };
    let mut all = Vec::new();
    if domains.is_empty() {
        all = client.domain(GetAllStats).await?;
        // Inactive ones have states as well; which are meant, the flags of lists say.
        let filter = filter(flags & STATE_FLAGS).unwrap_or_default();
        all.retain(|stats| filter.admits(&stats.summary));
    } else {
        for domain in domains {
            // One that has gone meanwhile is left out, as the list would leave it out.
            if let Ok(stats) = client.domain(GetDomainStats { domain: domain.reference() }).await {
                all.push(stats);
            }
        }
    }
    let record = |stats: &DomainStats| (Row(stats.summary.clone()), counters(stats, groups));
    Ok(all.iter().map(record).collect())
}

fn counters(stats: &DomainStats, groups: u32) -> Parameters {
    let mut all = Parameters::default();
    let summary = &stats.summary;
    let is_active = summary.id.is_some();
    // That it has no disks is said of no guest whose VMM has not said it.
    let is_counted = stats.age.is_some();
    let has = |group: u32| groups & group != 0;
    if has(STATE) {
        let (state, reason) = summary.state.codes();
        all.int("state.state", state);
        all.int("state.reason", reason);
    }
    if has(CPU) && is_active {
        all.ullong("cpu.time", summary.cpu_time);
    }
    if has(BALLOON) {
        balloon(stats, &mut all);
    }
    if has(VCPU) {
        all.uint("vcpu.current", summary.vcpus);
        all.uint("vcpu.maximum", summary.max_vcpus);
        for (index, vcpu) in stats.vcpus.iter().enumerate().filter(|(_, vcpu)| vcpu.online) {
            const RUNNING: i32 = 1;
            all.int(format!("vcpu.{index}.state"), RUNNING);
            all.ullong(format!("vcpu.{index}.time"), vcpu.time);
            all.ullong(format!("vcpu.{index}.exits.sum"), vcpu.exits);
        }
    }
    if has(INTERFACE) && is_counted {
        all.uint("net.count", u32::try_from(stats.interfaces.len()).unwrap_or(u32::MAX));
        for (index, interface) in stats.interfaces.iter().enumerate() {
            all.string(format!("net.{index}.name"), interface.target.as_str());
            for (name, value) in of_interface(interface) {
                all.ullong(format!("net.{index}.{name}"), value);
            }
        }
    }
    if has(BLOCK) && is_counted {
        all.uint("block.count", u32::try_from(stats.blocks.len()).unwrap_or(u32::MAX));
        for (index, disk) in stats.blocks.iter().enumerate() {
            all.string(format!("block.{index}.name"), disk.target.as_str());
            if let Some(source) = &disk.source {
                all.string(format!("block.{index}.path"), source.as_str());
            }
            all.ullong(format!("block.{index}.rd.reqs"), disk.read_requests);
            all.ullong(format!("block.{index}.rd.bytes"), disk.read_bytes);
            all.ullong(format!("block.{index}.wr.reqs"), disk.write_requests);
            all.ullong(format!("block.{index}.wr.bytes"), disk.write_bytes);
            all.ullong(format!("block.{index}.fl.reqs"), disk.flush_requests);
            all.ullong(format!("block.{index}.rd.times"), disk.read_time);
            all.ullong(format!("block.{index}.wr.times"), disk.write_time);
            all.ullong(format!("block.{index}.fl.times"), disk.flush_time);
            if let Some(threshold) = disk.threshold {
                all.ullong(format!("block.{index}.threshold"), threshold);
            }
        }
    }
    if has(IO_THREAD) && is_active {
        all.uint("iothread.count", u32::try_from(stats.io_threads.len()).unwrap_or(u32::MAX));
        for id in &stats.io_threads {
            // They wait for events.
            all.ullong(format!("iothread.{id}.poll-max-ns"), 0);
            all.uint(format!("iothread.{id}.poll-grow"), 0);
            all.uint(format!("iothread.{id}.poll-shrink"), 0);
        }
    }
    if has(DIRTY_RATE) && is_active {
        dirty_rate(stats.dirty_rate, &mut all);
    }
    all
}

/// virDomainDirtyRateStatus, and what is measured.
fn dirty_rate(found: Option<DirtyRate>, all: &mut Parameters) {
    const UNSTARTED: i32 = 0;
    const MEASURING: i32 = 1;
    const MEASURED: i32 = 2;
    let Some(DirtyRate { started, seconds, rate }) = found else {
        all.int("dirtyrate.calc_status", UNSTARTED);
        return;
    };
    all.int("dirtyrate.calc_status", if rate.is_some() { MEASURED } else { MEASURING });
    all.llong("dirtyrate.calc_start_time", signed(started));
    all.int("dirtyrate.calc_period", i32::try_from(seconds).unwrap_or(i32::MAX));
    all.string("dirtyrate.calc_mode", "dirty-bitmap");
    if let Some(rate) = rate {
        all.llong("dirtyrate.megabytes_per_second", signed(rate));
    }
}

pub(crate) async fn measure_dirty_rate(
    client: Client,
    (domain, seconds, flags): (Domain, i32, u32),
) -> Result<(), Failure> {
    const DIRTY_BITMAP: u32 = 1;
    const DIRTY_RING: u32 = 2;
    known_flags(flags, DIRTY_BITMAP | DIRTY_RING, "virDomainStartDirtyRateCalc")?;
    if flags & DIRTY_RING != 0 {
        let text = "the mode is dirty-bitmap, also where page-sampling is asked for: all pages are looked at";
        return Err(Failure::argument_unsupported(text));
    }
    let seconds = u32::try_from(seconds).unwrap_or(0);
    client.domain(MeasureDirtyRate { domain: domain.reference(), seconds }).await
}

fn balloon(stats: &DomainStats, all: &mut Parameters) {
    if let Some(balloon) = &stats.balloon {
        all.ullong("balloon.current", balloon.memory / 1024);
    } else if stats.summary.id.is_some() {
        all.ullong("balloon.current", stats.summary.memory);
    }
    all.ullong("balloon.maximum", stats.summary.max_memory);
    let named = [
        (0, "balloon.swap_in"),
        (1, "balloon.swap_out"),
        (2, "balloon.major_fault"),
        (3, "balloon.minor_fault"),
        (4, "balloon.unused"),
        (5, "balloon.available"),
        (7, "balloon.rss"),
        (8, "balloon.usable"),
        (9, "balloon.last-update"),
        (10, "balloon.disk_caches"),
        (11, "balloon.hugetlb_pgalloc"),
        (12, "balloon.hugetlb_pgfail"),
    ];
    for (tag, value) in memory_of(stats) {
        if let Some((_, name)) = named.iter().find(|(of, _)| *of == tag) {
            all.ullong(*name, value);
        }
    }
}

/// virDomainMemoryStatTags with their values: KiB, counts, seconds.
fn memory_of(stats: &DomainStats) -> Vec<(i32, u64)> {
    const ACTUAL: i32 = 6;
    const RESIDENT: i32 = 7;
    let kib = |bytes: Option<u64>| bytes.map(|bytes| bytes / 1024);
    let said = stats.balloon.iter().flat_map(|balloon| {
        [
            (ACTUAL, kib(Some(balloon.memory))),
            (0, kib(balloon.swap_in)),
            (1, kib(balloon.swap_out)),
            (2, balloon.major_faults),
            (3, balloon.minor_faults),
            (4, kib(balloon.free)),
            (5, kib(balloon.total)),
            (8, kib(balloon.available)),
            (9, balloon.updated),
            (10, kib(balloon.caches)),
            (11, balloon.huge_allocations),
            (12, balloon.huge_failures),
        ]
    });
    let known = said.filter_map(|(tag, value)| Some((tag, value?)));
    let resident = Some(stats.resident).filter(|bytes| *bytes > 0);
    known.chain(kib(resident).map(|kib| (RESIDENT, kib))).collect()
}

fn of_interface(interface: &InterfaceStats) -> [(&'static str, u64); 8] {
    [
        ("rx.bytes", interface.receive_bytes),
        ("rx.pkts", interface.receive_packets),
        ("rx.errs", 0),
        ("rx.drop", interface.receive_drops),
        ("tx.bytes", interface.transmit_bytes),
        ("tx.pkts", interface.transmit_packets),
        ("tx.errs", 0),
        ("tx.drop", interface.transmit_drops),
    ]
}

/// Counters of a domain that runs: one that does not has none.
async fn live(client: &Client, domain: &Domain) -> Result<DomainStats, Failure> {
    let stats = client.domain(GetDomainStats { domain: domain.reference() }).await?;
    if stats.summary.id.is_none() {
        return Err(Failure::invalid_state(Area::Domain, "domain is not running"));
    }
    Ok(stats)
}

pub(crate) async fn memory(
    client: Client,
    (domain, room, flags): (Domain, u32, u32),
) -> Result<Vec<(i32, u64)>, Failure> {
    known_flags(flags, 0, "virDomainMemoryStats")?;
    let stats = live(&client, &domain).await?;
    let mut all = memory_of(&stats);
    all.truncate(usize::try_from(room).unwrap_or(usize::MAX));
    Ok(all)
}

/// A disk by its target or its source; "" is all of them together.
async fn disk(client: &Client, domain: &Domain, name: &str) -> Result<BlockStats, Failure> {
    let stats = live(client, domain).await?;
    if name.is_empty() {
        return Ok(stats.blocks.iter().fold(BlockStats::default(), |sum, disk| BlockStats {
            read_requests: sum.read_requests.saturating_add(disk.read_requests),
            read_bytes: sum.read_bytes.saturating_add(disk.read_bytes),
            write_requests: sum.write_requests.saturating_add(disk.write_requests),
            write_bytes: sum.write_bytes.saturating_add(disk.write_bytes),
            flush_requests: sum.flush_requests.saturating_add(disk.flush_requests),
            read_time: sum.read_time.saturating_add(disk.read_time),
            write_time: sum.write_time.saturating_add(disk.write_time),
            flush_time: sum.flush_time.saturating_add(disk.flush_time),
            errors: sum.errors.saturating_add(disk.errors),
            ..sum
        }));
    }
    let is_meant = |disk: &BlockStats| disk.target == name || disk.source.as_deref() == Some(name);
    stats.blocks.into_iter().find(is_meant).ok_or_else(|| {
        Failure::invalid_argument(Area::Domain, &format!("there is no disk {name:?}"))
    })
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) async fn block(
    client: Client,
    (domain, name): (Domain, String),
) -> Result<(i64, i64, i64, i64, i64), Failure> {
    let disk = disk(&client, &domain, &name).await?;
    Ok((
        signed(disk.read_requests),
        signed(disk.read_bytes),
        signed(disk.write_requests),
        signed(disk.write_bytes),
        signed(disk.errors),
    ))
}

pub(crate) async fn block_flags(
    client: Client,
    (domain, name, room, flags): (Domain, String, i32, u32),
) -> Result<(Parameters, i32), Failure> {
    const STRINGS: u32 = 4;
    known_flags(flags, STRINGS, "virDomainBlockStatsFlags")?;
    let disk = disk(&client, &domain, &name).await?;
    let mut all = Parameters::default();
    all.llong("wr_bytes", signed(disk.write_bytes));
    all.llong("wr_operations", signed(disk.write_requests));
    all.llong("rd_bytes", signed(disk.read_bytes));
    all.llong("rd_operations", signed(disk.read_requests));
    all.llong("flush_operations", signed(disk.flush_requests));
    all.llong("rd_total_times", signed(disk.read_time));
    all.llong("wr_total_times", signed(disk.write_time));
    all.llong("flush_total_times", signed(disk.flush_time));
    all.llong("errs", signed(disk.errors));
    Ok(all.within(room))
}

type Traffic = (i64, i64, i64, i64, i64, i64, i64, i64);

pub(crate) async fn interface(
    client: Client,
    (domain, name): (Domain, String),
) -> Result<Traffic, Failure> {
    let stats = live(&client, &domain).await?;
    let mut interfaces = stats.interfaces.iter();
    let found = interfaces.find(|found| found.target == name || found.mac == name);
    let found = found.ok_or_else(|| {
        Failure::invalid_argument(Area::Domain, &format!("there is no interface {name:?}"))
    })?;
    let [rb, rp, re, rd, tb, tp, te, td] = of_interface(found).map(|(_, value)| signed(value));
    Ok((rb, rp, re, rd, tb, tp, te, td))
}

/// In nanoseconds: of all CPUs together, or, where a client asks for CPUs, of none.
pub(crate) async fn cpu(
    client: Client,
    (domain, room, first, _cpus, flags): (Domain, u32, i32, u32, u32),
) -> Result<(Parameters, i32), Failure> {
    const TOTAL: i32 = -1;
    const STRINGS: u32 = 4;
    known_flags(flags, STRINGS, "virDomainGetCPUStats")?;
    let stats = live(&client, &domain).await?;
    if first != TOTAL {
        return Err(Failure::no_support("figures of single CPUs; ask for the total"));
    }
    let mut all = Parameters::default();
    all.ullong("cpu_time", stats.summary.cpu_time);
    Ok(all.within(i32::try_from(room).unwrap_or(i32::MAX)))
}

type VcpuInfo = (u32, i32, u64, i32);

pub(crate) async fn vcpus(
    client: Client,
    (domain, room, map_len): (Domain, i32, i32),
) -> Result<(Vec<VcpuInfo>, super::super::protocol::xdr::Opaque), Failure> {
    const RUNNING: i32 = 1;
    let stats = live(&client, &domain).await?;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let place = |cpu: Option<u32>| cpu.and_then(|cpu| i32::try_from(cpu).ok()).unwrap_or(-1);
    let all = stats.vcpus.iter().enumerate();
    let infos: Vec<_> = all
        .take(usize::try_from(room).unwrap_or(0))
        .map(|(index, vcpu)| (number(index), RUNNING, vcpu.time, place(vcpu.cpu)))
        .collect();
    let maps = super::resources::vcpu_maps(
        &client,
        &domain,
        count(infos.len()),
        map_len,
        management::domain::Affects::default(),
    )
    .await?;
    Ok((infos, maps))
}

/// Disks that the host has failed, and how; without room, how many disks there are.
pub(crate) async fn disk_errors(
    client: Client,
    (domain, room, flags): (Domain, i32, u32),
) -> Result<(Vec<(String, i32)>, i32), Failure> {
    const UNSPECIFIED: i32 = 1;
    const NO_SPACE: i32 = 2;
    known_flags(flags, 0, "virDomainGetDiskErrors")?;
    let disks = live(&client, &domain).await?.blocks;
    let Some(room) = usize::try_from(room).ok().filter(|room| *room > 0) else {
        return Ok((Vec::new(), count(disks.len())));
    };
    let failed = |disk: BlockStats| {
        let code = match disk.fault? {
            DiskFault::NoSpace => NO_SPACE,
            DiskFault::Unspecified => UNSPECIFIED,
        };
        Some((disk.target, code))
    };
    let all: Vec<_> = disks.into_iter().filter_map(failed).take(room).collect();
    let found = count(all.len());
    Ok((all, found))
}

/// Of a disk: its sizes in bytes.
pub(crate) async fn block_info(
    client: Client,
    (domain, disk, flags): (Domain, String, u32),
) -> Result<(u64, u64, u64), Failure> {
    known_flags(flags, 0, "virDomainGetBlockInfo")?;
    let found = client.domain(DescribeDisk { domain: domain.reference(), disk }).await?;
    Ok((found.allocation, found.capacity, found.physical))
}

/// 0: nobody wants to hear of it any more.
pub(crate) async fn set_block_threshold(
    client: Client,
    (domain, disk, threshold, flags): (Domain, String, u64, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainSetBlockThreshold")?;
    let bytes = Some(threshold).filter(|bytes| *bytes > 0);
    client.domain(SetBlockThreshold { domain: domain.reference(), disk, bytes }).await
}
