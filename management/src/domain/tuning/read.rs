//! What a definition says of tuning.

use xml::DomainDef;
use xml::device::disk::IoTune;
use xml::device::interface::Rate;
use xml::domain::Kib;

use super::{
    BlockDeviceTuning, BlockTuning, CpuTuning, DiskTuning, InterfaceTuning, MemoryTuning,
    NumaTuning, Pin, Pins, RateTuning, Sizes, Tuning,
};
use crate::translate::tuning;

impl Tuning {
    pub(crate) fn of(def: &DomainDef) -> Self {
        Self {
            cpu: cpu(def),
            pins: pins(def),
            memory: memory(def),
            block: block(def),
            disks: disks(def),
            interfaces: interfaces(def),
            sizes: sizes(def),
            numa: NumaTuning::of(def),
        }
    }
}

fn sizes(def: &DomainDef) -> Sizes {
    Sizes {
        vcpus: Some(tuning::vcpus(def)),
        max_vcpus: Some(def.vcpu.as_ref().map_or(1, |vcpu| vcpu.max)),
        max_memory_bytes: Some(def.memory.size.bytes()),
    }
}

fn cpu(def: &DomainDef) -> CpuTuning {
    let Some(tune) = &def.cpu_tune else { return CpuTuning::default() };
    CpuTuning {
        shares: tune.shares,
        period_us: tune.period,
        quota_us: tune.quota,
        global_period_us: tune.global_period,
        global_quota_us: tune.global_quota,
        emulator_period_us: tune.emulator_period,
        emulator_quota_us: tune.emulator_quota,
        iothread_period_us: tune.iothread_period,
        iothread_quota_us: tune.iothread_quota,
    }
}

/// Of every thread there is.
fn pins(def: &DomainDef) -> Pins {
    let mut pins = Pins { emulator: Some(tuning::emulator_cpus(def)), ..Pins::default() };
    pins.vcpus = (0..tuning::vcpus(def))
        .map(|vcpu| Pin { id: vcpu.into(), cpus: tuning::vcpu_cpus(def, vcpu) })
        .collect();
    pins.iothreads = tuning::io_threads(def)
        .into_iter()
        .map(|id| Pin { id, cpus: tuning::io_thread_cpus(def, id) })
        .collect();
    pins
}

fn memory(def: &DomainDef) -> MemoryTuning {
    let Some(tune) = &def.memory_tune else { return MemoryTuning::default() };
    MemoryTuning {
        hard_limit_bytes: tune.hard_limit.map(Kib::bytes),
        soft_limit_bytes: tune.soft_limit.map(Kib::bytes),
        swap_hard_limit_bytes: tune.swap_hard_limit.map(Kib::bytes),
    }
}

fn block(def: &DomainDef) -> BlockTuning {
    let Some(tune) = &def.block_io_tune else { return BlockTuning::default() };
    let device = |device: &xml::domain::tuning::BlockIoDevice| BlockDeviceTuning {
        path: device.path.clone(),
        weight: device.weight,
        read_iops_sec: device.read_iops,
        write_iops_sec: device.write_iops,
        read_bytes_sec: device.read_bytes,
        write_bytes_sec: device.write_bytes,
    };
    BlockTuning { weight: tune.weight, devices: tune.devices.iter().map(device).collect() }
}

fn disks(def: &DomainDef) -> Vec<DiskTuning> {
    let none = IoTune::default();
    let disk = |disk: &xml::device::disk::Disk| {
        let tune = disk.io_tune.as_ref().unwrap_or(&none);
        DiskTuning {
            disk: disk.target.dev.clone(),
            group_name: tune.group_name.clone(),
            total_bytes_sec: tune.total_bytes,
            read_bytes_sec: tune.read_bytes,
            write_bytes_sec: tune.write_bytes,
            total_iops_sec: tune.total_iops,
            read_iops_sec: tune.read_iops,
            write_iops_sec: tune.write_iops,
            total_bytes_sec_max: tune.total_bytes_max,
            read_bytes_sec_max: tune.read_bytes_max,
            write_bytes_sec_max: tune.write_bytes_max,
            total_iops_sec_max: tune.total_iops_max,
            read_iops_sec_max: tune.read_iops_max,
            write_iops_sec_max: tune.write_iops_max,
            total_bytes_sec_max_length: tune.total_bytes_max_length,
            read_bytes_sec_max_length: tune.read_bytes_max_length,
            write_bytes_sec_max_length: tune.write_bytes_max_length,
            total_iops_sec_max_length: tune.total_iops_max_length,
            read_iops_sec_max_length: tune.read_iops_max_length,
            write_iops_sec_max_length: tune.write_iops_max_length,
            size_iops_sec: tune.size_iops,
        }
    };
    def.devices.disks.iter().map(disk).collect()
}

fn interfaces(def: &DomainDef) -> Vec<InterfaceTuning> {
    let rate = |rate: &Rate| {
        let average = rate.average.unwrap_or(0);
        RateTuning { average, peak: rate.peak, burst: rate.burst }
    };
    let interface = |interface: &xml::device::interface::Interface| {
        let bandwidth = interface.bandwidth.as_ref();
        InterfaceTuning {
            interface: interface.mac_address().map(|mac| mac.to_string()).unwrap_or_default(),
            inbound: bandwidth.and_then(|b| b.inbound.as_ref()).map(rate),
            outbound: bandwidth.and_then(|b| b.outbound.as_ref()).map(rate),
        }
    };
    def.devices.interfaces.iter().map(interface).collect()
}
