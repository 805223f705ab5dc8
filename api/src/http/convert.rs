//! Management's views, as wire types.

use std::sync::Arc;

use management::domain::{
    self as view, AtShutdown, BalloonStats, BlockStats, DiskRow, DomainDetails, DomainStats,
    DomainSummary, InterfaceRow, InterfaceStats, State, VcpuStats,
};
use management::events::{BlockJobChange, Event, EventKind};
use management::ops::NodeDetails;

use crate::types::{self, StateName};

impl From<State> for StateName {
    fn from(state: State) -> Self {
        match state {
            State::Unknown => Self::NoState,
            State::Running(_) => Self::Running,
            State::Paused(_) => Self::Paused,
            State::ShuttingDown => Self::InShutdown,
            State::ShutOff(_) => Self::ShutOff,
            State::Crashed => Self::Crashed,
        }
    }
}

impl From<State> for types::DomainState {
    fn from(state: State) -> Self {
        let (state_code, reason_code) = state.codes();
        Self { state: state.into(), reason: state.reason().to_owned(), state_code, reason_code }
    }
}

/// libvirt counts memory in KiB, the wire in bytes.
fn bytes(kib: u64) -> u64 {
    kib.saturating_mul(1024)
}

impl From<DomainSummary> for types::DomainSummary {
    fn from(domain: DomainSummary) -> Self {
        Self {
            id: domain.id,
            name: domain.name,
            uuid: domain.uuid,
            title: domain.title,
            state: domain.state.into(),
            persistent: domain.persistent,
            autostart: domain.autostart,
            max_memory_bytes: bytes(domain.max_memory),
            memory_bytes: bytes(domain.memory),
            vcpus: domain.vcpus,
            max_vcpus: domain.max_vcpus,
            cpu_time_ns: domain.cpu_time,
            managed_save: domain.managed_save,
        }
    }
}

impl From<AtShutdown> for types::AtShutdown {
    fn from(what: AtShutdown) -> Self {
        match what {
            AtShutdown::Shutdown => Self::Shutdown,
            AtShutdown::Save => Self::Save,
        }
    }
}

impl From<types::AtShutdown> for AtShutdown {
    fn from(what: types::AtShutdown) -> Self {
        match what {
            types::AtShutdown::Shutdown => Self::Shutdown,
            types::AtShutdown::Save => Self::Save,
        }
    }
}

impl From<DomainDetails> for types::Domain {
    fn from(domain: DomainDetails) -> Self {
        Self {
            summary: domain.summary.into(),
            description: domain.description,
            os_type: domain.os_type,
            machine: domain.machine,
            platform_version: domain.platform_version,
            autostart_order: domain.turn.order,
            autostart_delay_s: domain.turn.delay,
            shutdown_timeout_s: domain.turn.patience,
            at_shutdown: domain.turn.at_shutdown.map(Into::into),
            generation: domain.generation,
            pending_changes: domain.pending_changes,
            uptime_ms: domain.uptime,
            pid: domain.pid,
            consoles: domain.consoles,
            sandbox: domain.sandbox.into_iter().collect(),
            last_exit: domain.last_exit,
            warnings: domain.warnings,
        }
    }
}

impl From<DiskRow> for types::Disk {
    fn from(row: DiskRow) -> Self {
        Self { kind: row.kind, device: row.device, target: row.target, source: row.source }
    }
}

impl From<InterfaceRow> for types::Interface {
    fn from(row: InterfaceRow) -> Self {
        Self {
            target: row.target,
            kind: row.kind,
            source: row.source,
            model: row.model,
            mac: row.mac,
            link: if row.link_up { types::LinkState::Up } else { types::LinkState::Down },
        }
    }
}

impl From<DomainStats> for types::DomainStats {
    fn from(stats: DomainStats) -> Self {
        Self {
            summary: Arc::unwrap_or_clone(stats.summary).into(),
            age_ms: stats.age,
            resident_bytes: stats.resident,
            balloon: stats.balloon.map(Into::into),
            vcpu_stats: stats.vcpus.into_iter().map(Into::into).collect(),
            block_stats: stats.blocks.into_iter().map(Into::into).collect(),
            interface_stats: stats.interfaces.into_iter().map(Into::into).collect(),
            io_threads: stats.io_threads,
            dirty_rate: stats.dirty_rate.map(|found| types::DirtyRate {
                started: found.started,
                seconds: found.seconds,
                mib_per_second: found.rate,
            }),
            unhandled_accesses: stats.unhandled_accesses,
        }
    }
}

impl From<BalloonStats> for types::BalloonStats {
    fn from(stats: BalloonStats) -> Self {
        Self {
            actual_bytes: stats.memory,
            swap_in_bytes: stats.swap_in,
            swap_out_bytes: stats.swap_out,
            major_faults: stats.major_faults,
            minor_faults: stats.minor_faults,
            unused_bytes: stats.free,
            available_bytes: stats.total,
            usable_bytes: stats.available,
            disk_caches_bytes: stats.caches,
            hugetlb_allocations: stats.huge_allocations,
            hugetlb_failures: stats.huge_failures,
            last_update: stats.updated,
        }
    }
}

impl From<VcpuStats> for types::VcpuStats {
    fn from(stats: VcpuStats) -> Self {
        Self { cpu_time_ns: stats.time, exits: stats.exits, cpu: stats.cpu, online: stats.online }
    }
}

impl From<BlockStats> for types::BlockStats {
    fn from(stats: BlockStats) -> Self {
        Self {
            target: stats.target,
            source: stats.source,
            read_requests: stats.read_requests,
            read_bytes: stats.read_bytes,
            write_requests: stats.write_requests,
            write_bytes: stats.write_bytes,
            flush_requests: stats.flush_requests,
            read_time_ns: stats.read_time,
            write_time_ns: stats.write_time,
            flush_time_ns: stats.flush_time,
            threshold_bytes: stats.threshold,
            errors: stats.errors,
            connected: stats.connected,
            fault: stats.fault.map(|fault| fault.words().to_owned()),
        }
    }
}

impl From<InterfaceStats> for types::InterfaceStats {
    fn from(stats: InterfaceStats) -> Self {
        Self {
            target: stats.target,
            source: stats.source,
            mac: stats.mac,
            receive_packets: stats.receive_packets,
            receive_bytes: stats.receive_bytes,
            receive_drops: stats.receive_drops,
            transmit_packets: stats.transmit_packets,
            transmit_bytes: stats.transmit_bytes,
            transmit_drops: stats.transmit_drops,
        }
    }
}

impl From<NodeDetails> for types::Node {
    fn from(node: NodeDetails) -> Self {
        Self {
            hostname: node.hostname,
            version: node.version,
            kernel: node.kernel,
            architecture: node.architecture,
            cpu_model: node.cpu_model,
            cpus: node.cpus,
            cpu_mhz: node.mhz,
            numa_nodes: node.nodes,
            sockets: node.sockets,
            cores: node.cores,
            threads: node.threads,
            memory_bytes: bytes(node.memory),
            free_memory_bytes: bytes(node.free_memory),
            uptime_s: node.uptime,
            counters: types::NodeCounters {
                user_ns: node.counters.user,
                system_ns: node.counters.system,
                idle_ns: node.counters.idle,
                iowait_ns: node.counters.iowait,
                unused_bytes: bytes(node.counters.free),
                buffers_bytes: bytes(node.counters.buffers),
                cached_bytes: bytes(node.counters.cached),
            },
            quarantined: node
                .quarantined
                .into_iter()
                .map(|(file, reason)| types::Quarantined { file, reason })
                .collect(),
            degraded: node.degraded,
        }
    }
}

impl From<Event> for types::Event {
    fn from(event: Event) -> Self {
        let (name, uuid) = event.domain.map(|id: view::DomainId| (id.name, id.uuid)).unzip();
        let mut wire = Self {
            id: event.id,
            event: event.kind.name().to_owned(),
            time: event.time.to_string(),
            name,
            uuid,
            ..Self::default()
        };
        match event.kind {
            EventKind::Lifecycle { lifecycle, reason } => {
                let (what, how) = lifecycle.words();
                wire.lifecycle = Some(what.to_owned());
                wire.detail = Some(how.to_owned());
                wire.reason = reason;
            }
            EventKind::Reboot => {}
            EventKind::IoError { device, write, error, action, no_space } => {
                wire.action = Some(action.name().to_owned());
                wire.no_space = no_space.then_some(true);
                wire.device = Some(device);
                wire.write = Some(write);
                wire.reason = Some(error);
            }
            EventKind::DiskConnection { device, connected, reason } => {
                wire.device = Some(device);
                wire.connected = Some(connected);
                wire.reason = reason;
            }
            EventKind::DeviceBroken { device, reason } => {
                wire.device = Some(device);
                wire.reason = Some(reason);
            }
            EventKind::LinkChanged { device, up } => {
                wire.device = Some(device);
                wire.up = Some(up);
            }
            EventKind::ChannelLifecycle { device, channel, connected } => {
                wire.device = Some(device);
                wire.channel = Some(channel);
                wire.connected = Some(connected);
            }
            EventKind::AgentLifecycle { connected } => wire.connected = Some(connected),
            EventKind::TrayChange { device, open } => {
                wire.device = Some(device);
                wire.open = Some(open);
            }
            EventKind::DiskChange { device, source } => {
                wire.device = Some(device);
                wire.source = source;
            }
            EventKind::BlockThreshold { disk, path, threshold, excess } => {
                wire.device = Some(disk);
                wire.source = path;
                wire.threshold_bytes = Some(threshold);
                wire.excess_bytes = Some(excess);
            }
            EventKind::BlockJob { disk, path, kind, change } => {
                wire.device = Some(disk);
                wire.source = path;
                wire.kind = Some(kind.into());
                wire.status = Some(change.word().to_owned());
                if let BlockJobChange::Failed { error } = change {
                    wire.reason = Some(error);
                }
            }
            EventKind::DeviceAdded { device } | EventKind::DeviceRemoved { device } => {
                wire.device = Some(device);
            }
            EventKind::Watchdog { device, action } => {
                wire.device = Some(device);
                wire.action = Some(action);
            }
            EventKind::VcpusChange { count } => wire.count = Some(count),
            EventKind::MetadataChange { kind, uri } => {
                wire.change = Some(kind.word().to_owned());
                wire.uri = uri;
            }
            EventKind::RtcChange { offset } => wire.offset = Some(offset),
            EventKind::Reachable { reachable } => wire.reachable = Some(reachable),
            EventKind::AutostartChanged { autostart } => wire.autostart = Some(autostart),
            EventKind::Pool { pool, pool_uuid, change, volume } => {
                wire.pool = Some(pool);
                wire.uuid = Some(pool_uuid);
                wire.change = Some(change.word().to_owned());
                wire.volume = volume;
            }
            EventKind::Network { network, network_uuid, change } => {
                wire.network = Some(network);
                wire.uuid = Some(network_uuid);
                wire.change = Some(change.word().to_owned());
            }
            EventKind::Secret { secret, change, .. } => {
                wire.uuid = Some(secret);
                wire.change = Some(change.word().to_owned());
            }
            EventKind::NodeDevice { device, change } => {
                wire.device = Some(device);
                wire.change = Some(change.word().to_owned());
            }
            EventKind::NetworkPort { network, device, added } => {
                wire.network = Some(network);
                wire.device = Some(device);
                wire.change = Some(if added { "Added" } else { "Removed" }.to_owned());
            }
            EventKind::NetworkLease { network, network_uuid, address, mac, hostname, change } => {
                wire.network = Some(network);
                wire.uuid = Some(network_uuid);
                wire.address = Some(address);
                wire.mac = mac;
                wire.hostname = hostname;
                wire.change = Some(change.word().to_owned());
            }
            EventKind::RulesRestored => {}
            EventKind::Job { job, kind, object, phase, done, total, reason } => {
                let (id, done_bytes, total_bytes) = (job, done, total);
                wire.job =
                    Some(types::JobProgress { id, kind, object, phase, done_bytes, total_bytes });
                wire.reason = reason;
            }
            EventKind::Lost { up_to } => wire.up_to = Some(up_to),
        }
        wire
    }
}
