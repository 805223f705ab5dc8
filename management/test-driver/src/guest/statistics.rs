//! What a guest has used: the same for each device, and in each run.

use vmm_protocol::config::PciKind;
use vmm_protocol::control::{
    BalloonStatistics, BlockStatistics, InterfaceStatistics, Statistics, VcpuStatistics,
};

use super::disks;
use super::machine::Machine;

/// Nanoseconds of each vCPU.
const TIME: u64 = 1_000_000_000;
/// Bytes of the process.
const RESIDENT: u64 = 64 << 20;

const BLOCK: BlockStatistics = BlockStatistics {
    read_requests: 1000,
    read_bytes: 4_096_000,
    write_requests: 500,
    write_bytes: disks::WRITTEN,
    flush_requests: 50,
    read_time: 1_000_000_000,
    write_time: 500_000_000,
    flush_time: 50_000_000,
    threshold: None,
    errors: 0,
    fault: None,
    connected: None,
};

const INTERFACE: InterfaceStatistics = InterfaceStatistics {
    by_kernel: false,
    receive_packets: 1000,
    receive_bytes: 64_000,
    receive_drops: 0,
    transmit_packets: 500,
    transmit_bytes: 32_000,
    transmit_drops: 0,
};

pub(super) fn of(machine: &Machine) -> Statistics {
    let pci = &machine.config.pci;
    let is_net = |kind: &PciKind| matches!(kind, PciKind::Net(_));
    let inner = machine.inner();
    let mut vcpus = vec![
        VcpuStatistics { time_ns: TIME, exits: 1000, absent: false };
        usize::from(machine.config.cpus.count)
    ];
    vcpus.iter_mut().skip(usize::from(inner.vcpus)).for_each(|vcpu| vcpu.absent = true);
    let nets = pci.iter().filter(|device| is_net(&device.kind)).map(|device| device.id.clone());
    let plugged = inner.plugged.iter();
    let came = |prefix: &str| {
        let ids: Vec<_> = plugged.clone().filter(|id| id.starts_with(prefix)).cloned().collect();
        ids
    };
    let there = |id: &String| !inner.unplugged.contains(id);
    let has_balloon = pci.iter().any(|device| matches!(device.kind, PciKind::Balloon(_)));
    let blocks = disks::of(&machine.config).into_iter().chain(came("virtio-disk"));
    let nets = nets.chain(came("net"));
    let block = |id: String| {
        let threshold = inner.thresholds.get(&id).copied();
        (id, BlockStatistics { threshold, ..BLOCK })
    };
    Statistics {
        vcpus,
        resident: RESIDENT,
        blocks: blocks.filter(there).map(block).collect(),
        interfaces: nets.filter(there).map(|id| (id, INTERFACE)).collect(),
        balloon: has_balloon.then(|| balloon(inner.memory)),
        unhandled_accesses: 0,
        dirty_rate: inner.dirty_rate.map(Box::new),
    }
}

fn balloon(memory: u64) -> BalloonStatistics {
    BalloonStatistics {
        memory,
        free: Some(memory / 2),
        total: Some(memory),
        available: Some(memory / 2),
        caches: Some(memory / 4),
        major_faults: Some(10),
        minor_faults: Some(1000),
        swap_in: Some(0),
        swap_out: Some(0),
        // When the host was booted, or it would be another one in each run.
        updated: 1,
        ..BalloonStatistics::default()
    }
}
