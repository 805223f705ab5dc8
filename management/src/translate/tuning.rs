//! `<cputune>`, `<memtune>` and `<blkiotune>` as limits of a cgroup and rules of threads.

use broker::{CpuQuota, DeviceLimits, Limits, ThreadRule, Threads};
use xml::domain::Kib;
use xml::domain::tuning::{BlockIoDevice, BlockIoTune, CpuTune};
use xml::{CpuSet, DomainDef};

use super::io_threads::{self, IoThreads};
use super::report::Report;
use super::{bandwidth, disk_limits};

/// libvirt's, of quotas and periods in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA: i64 = 1_000;
const DEFAULT_PERIOD: u64 = 100_000;
/// Of cgroup version 2.
const CPU_WEIGHTS: std::ops::RangeInclusive<u64> = 1..=10_000;
const IO_WEIGHTS: std::ops::RangeInclusive<u32> = 10..=1_000;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    if let Some(tune) = &def.cpu_tune {
        let at = |name: &str| format!("/domain/cputune/{name}");
        let schedulers = [
            ("vcpusched", !tune.vcpu_schedulers.is_empty()),
            ("iothreadsched", !tune.iothread_schedulers.is_empty()),
            ("emulatorsched", tune.emulator_scheduler.is_some()),
        ];
        for (name, present) in schedulers {
            report.refuse_if(present, &at(name), "real-time scheduling");
        }
    }
    let guarantee = def.memory_tune.as_ref().is_some_and(|tune| tune.min_guarantee.is_some());
    report.refuse_if(guarantee, "/domain/memtune/min_guarantee", "guaranteed memory");
    for (path, message) in mistakes(def) {
        report.invalid(&path, message);
    }
}

/// What of it cannot be, and where.
pub(crate) fn mistakes(def: &DomainDef) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(tune) = &def.cpu_tune {
        check_cpu(tune, &mut found);
        check_threads(def, tune, &mut found);
    }
    check_memory(def, &mut found);
    if let Some(tune) = &def.block_io_tune {
        check_block(tune, &mut found);
    }
    found.extend(disk_limits::mistakes(def));
    found.extend(bandwidth::mistakes(def));
    found
}

type Mistakes = Vec<(String, String)>;

fn check_cpu(tune: &CpuTune, found: &mut Mistakes) {
    let mut wrong =
        |name: &str, text: String| found.push((format!("/domain/cputune/{name}"), text));
    if let Some(shares) = tune.shares.filter(|shares| !CPU_WEIGHTS.contains(shares)) {
        let text = format!("{shares} shares: with cgroup version 2 there are 1 to 10000");
        wrong("shares", text);
    }
    for (name, period) in [
        ("period", tune.period),
        ("global_period", tune.global_period),
        ("emulator_period", tune.emulator_period),
        ("iothread_period", tune.iothread_period),
    ] {
        if let Some(period) = period.filter(|period| *period != 0 && !PERIODS.contains(period)) {
            let text = format!("a period of {period} µs: it is from 1000 to 1000000");
            wrong(name, text);
        }
    }
    for (name, quota) in [
        ("quota", tune.quota),
        ("global_quota", tune.global_quota),
        ("emulator_quota", tune.emulator_quota),
        ("iothread_quota", tune.iothread_quota),
    ] {
        if let Some(quota) = quota.filter(|quota| (1..LEAST_QUOTA).contains(quota)) {
            wrong(
                name,
                format!("a quota of {quota} µs: it is at least 1000, or negative for none"),
            );
        }
    }
}

fn check_threads(def: &DomainDef, tune: &CpuTune, found: &mut Mistakes) {
    let max = def.vcpu.as_ref().map_or(1, |vcpu| vcpu.max);
    let beyond = tune.vcpu_pins.iter().filter(|pin| pin.vcpu >= max);
    for pin in beyond {
        let text = format!("there is no vCPU {}: the domain has {max}", pin.vcpu);
        found.push(("/domain/cputune/vcpupin".to_owned(), text));
    }
    let threads = IoThreads::new(def);
    for pin in tune.iothread_pins.iter().filter(|pin| threads.defined(pin.iothread).is_none()) {
        let text = format!("there is no io thread {}; <iothreads> defines them", pin.iothread);
        found.push(("/domain/cputune/iothreadpin".to_owned(), text));
    }
}

fn check_memory(def: &DomainDef, found: &mut Mistakes) {
    let Some(tune) = &def.memory_tune else { return };
    let mut wrong = |name: &str, text: &str| {
        found.push((format!("/domain/memtune/{name}"), text.to_owned()));
    };
    if tune.hard_limit.is_some_and(|limit| limit.0 == 0) {
        wrong("hard_limit", "a guest needs memory");
    }
    match (tune.hard_limit, tune.swap_hard_limit) {
        (None, Some(_)) => wrong(
            "swap_hard_limit",
            "it counts memory and swap together, so it needs a <hard_limit> beside it",
        ),
        (Some(hard), Some(swap)) if swap < hard => {
            wrong("swap_hard_limit", "it counts memory too, so it is at least the <hard_limit>");
        }
        _ => {}
    }
}

fn check_block(tune: &BlockIoTune, found: &mut Mistakes) {
    let weights = tune.devices.iter().map(|device| device.weight);
    let wrong = |weight: &u32| *weight != 0 && !IO_WEIGHTS.contains(weight);
    for weight in std::iter::once(tune.weight).chain(weights).flatten().filter(wrong) {
        let text = format!("a weight of {weight}: it is from 10 to 1000");
        found.push(("/domain/blkiotune/weight".to_owned(), text));
    }
}

/// What all processes of the domain have together.
pub(crate) fn limits(def: &DomainDef) -> Limits {
    let mut limits = Limits::default();
    if let Some(tune) = &def.cpu_tune {
        limits.cpu_weight = tune.shares.and_then(|shares| u32::try_from(shares).ok());
        limits.cpu = quota(tune.global_quota, tune.global_period);
    }
    if let Some(tune) = &def.memory_tune {
        limits.memory_max = tune.hard_limit.map(Kib::bytes);
        limits.memory_high = tune.soft_limit.map(Kib::bytes);
        // The kernel counts swap alone, libvirt memory and swap together.
        let swap = tune.swap_hard_limit.zip(tune.hard_limit);
        limits.swap_max = swap.map(|(both, memory)| both.bytes().saturating_sub(memory.bytes()));
    }
    if let Some(tune) = &def.block_io_tune {
        limits.io_weight = tune.weight.filter(|weight| *weight > 0);
        let devices = tune.devices.iter().map(device);
        limits.devices = devices.filter(|device| *device != nothing_of(&device.path)).collect();
    }
    limits
}

fn nothing_of(path: &std::path::Path) -> DeviceLimits {
    DeviceLimits { path: path.to_owned(), ..DeviceLimits::default() }
}

/// libvirt's 0 is no limit.
fn device(device: &BlockIoDevice) -> DeviceLimits {
    let some = |value: Option<u64>| value.filter(|value| *value > 0);
    DeviceLimits {
        path: device.path.clone().into(),
        weight: device.weight.filter(|weight| *weight > 0),
        read_bytes: some(device.read_bytes),
        write_bytes: some(device.write_bytes),
        read_requests: some(device.read_iops.map(u64::from)),
        write_requests: some(device.write_iops.map(u64::from)),
    }
}

/// 0 and negative ones are no limit.
fn quota(quota: Option<i64>, period: Option<u64>) -> Option<CpuQuota> {
    let quota = u64::try_from(quota?).ok().filter(|quota| *quota > 0)?;
    let period = period.filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD);
    Some(CpuQuota { quota, period })
}

/// Where each kind of thread runs, and how much.
pub(crate) fn threads(def: &DomainDef) -> Vec<ThreadRule> {
    let tune = def.cpu_tune.as_ref();
    let limit = |of: fn(&CpuTune) -> (Option<i64>, Option<u64>)| {
        let (limit, period) = of(tune?);
        quota(limit, period)
    };
    let vcpu_quota = limit(|tune| (tune.quota, tune.period));
    let vcpu = |index| ThreadRule {
        threads: Threads::Vcpu(index),
        cpus: Some(vcpu_cpus(def, index)),
        quota: vcpu_quota,
    };
    let io_quota = limit(|tune| (tune.iothread_quota, tune.iothread_period));
    let io_thread = |id| ThreadRule {
        threads: Threads::IoThread(id),
        cpus: Some(io_thread_cpus(def, id)),
        quota: io_quota,
    };
    let emulator = ThreadRule {
        threads: Threads::Emulator,
        cpus: Some(emulator_cpus(def)),
        quota: limit(|tune| (tune.emulator_quota, tune.emulator_period)),
    };
    // Also of those that are not there yet: they have their threads.
    let vcpus = (0..super::machine::vcpus(def)).map(vcpu);
    vcpus.chain(io_threads(def).into_iter().map(io_thread)).chain([emulator]).collect()
}

/// What is said of the threads of a new process, which run anywhere, and as long as they like.
pub(crate) fn new_threads(def: &DomainDef) -> Vec<ThreadRule> {
    let said = |rule: &ThreadRule| {
        rule.quota.is_some() || rule.cpus.as_ref().is_some_and(|cpus| !cpus.is_empty())
    };
    threads(def).into_iter().filter(said).collect()
}

/// Those that are there.
pub(crate) fn vcpus(def: &DomainDef) -> u16 {
    def.vcpu.as_ref().map_or(1, |vcpu| vcpu.current.unwrap_or(vcpu.max))
}

pub(crate) fn io_threads(def: &DomainDef) -> Vec<u32> {
    IoThreads::new(def).ids().to_vec()
}

/// Host CPUs; none: all of them.
pub(crate) fn vcpu_cpus(def: &DomainDef, vcpu: u16) -> Vec<u16> {
    let pins = def.cpu_tune.iter().flat_map(|tune| &tune.vcpu_pins);
    let pin = pins.into_iter().find(|pin| pin.vcpu == vcpu).map(|pin| &pin.cpuset);
    listed(pin.or(of_all(def)))
}

pub(crate) fn io_thread_cpus(def: &DomainDef, id: u32) -> Vec<u16> {
    let pins = def.cpu_tune.iter().flat_map(|tune| &tune.iothread_pins);
    let pin = pins.into_iter().find(|pin| pin.iothread == id).map(|pin| &pin.cpuset);
    listed(pin.or(of_all(def)))
}

pub(crate) fn emulator_cpus(def: &DomainDef) -> Vec<u16> {
    let pin = def.cpu_tune.as_ref().and_then(|tune| tune.emulator_pin.as_ref());
    listed(pin.or(of_all(def)))
}

/// `<vcpu cpuset=…>`: of every thread without a pin of its own.
fn of_all(def: &DomainDef) -> Option<&CpuSet> {
    def.vcpu.as_ref().and_then(|vcpu| vcpu.cpuset.as_ref())
}

fn listed(set: Option<&CpuSet>) -> Vec<u16> {
    set.map(io_threads::cpus).unwrap_or_default()
}
