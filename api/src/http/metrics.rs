//! `/metrics`: counters in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use management::domain::{BlockStats, DomainStats, InterfaceStats};
use management::network::NetworkView;
use management::ops;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::error::Failure;
use super::extract::{Params, Who};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Compat {
    /// The names that exporters for libvirt use, so that their dashboards work.
    Libvirt,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsQuery {
    /// Use another program's names instead of Manor's own.
    #[param(inline)]
    compat: Option<Compat>,
}

/// Counters of all domains for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Statistics", params(MetricsQuery),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<MetricsQuery>,
) -> Result<Response, Failure> {
    let domains = app.manager.call(&caller, ops::GetAllStats).await?;
    let text = match query.compat {
        None => {
            // Who is confined to domains knows of no networks.
            let networks = match caller.scope {
                None => app.manager.call(&caller, ops::ListNetworks).await?,
                Some(_) => Vec::new(),
            };
            own(&domains, &networks)
        }
        Some(Compat::Libvirt) => libvirt(&domains),
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Metrics by name; samples of one metric must stand together.
#[derive(Default)]
struct Exposition {
    metrics: BTreeMap<&'static str, Metric>,
}

struct Metric {
    help: &'static str,
    samples: String,
}

impl Exposition {
    /// Set a sample. A name that ends in `_total` is a counter, any other a gauge.
    fn set(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        let metric =
            self.metrics.entry(name).or_insert_with(|| Metric { help, samples: String::new() });
        let out = &mut metric.samples;
        out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            out.push(if index == 0 { '{' } else { ',' });
            let _ = write!(out, "{label}=\"{}\"", escape(text));
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _ = writeln!(out, " {value}");
    }

    fn table<T>(&mut self, table: Table<T>, from: &T, labels: &[(&str, &str)]) {
        for (name, help, count) in table {
            self.set(name, help, labels, number(count(from)));
        }
    }

    fn text(self) -> String {
        let mut out = String::new();
        for (name, Metric { help, samples }) in self.metrics {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        }
        out
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A counter as the number Prometheus keeps: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no integers")]
fn number(count: u64) -> f64 {
    count as f64
}

fn seconds(nanoseconds: u64) -> f64 {
    number(nanoseconds) / 1e9
}

fn kib(count: u64) -> f64 {
    number(count) * 1024.0
}

/// Counters of a device: name, help, and where the figure stands.
type Table<T> = &'static [(&'static str, &'static str, fn(&T) -> u64)];

const BLOCK: Table<BlockStats> = &[
    ("manor_domain_block_read_bytes_total", "Bytes read.", |b| b.read_bytes),
    ("manor_domain_block_read_requests_total", "Read requests.", |b| b.read_requests),
    ("manor_domain_block_write_bytes_total", "Bytes written.", |b| b.write_bytes),
    ("manor_domain_block_write_requests_total", "Write requests.", |b| b.write_requests),
    ("manor_domain_block_flush_requests_total", "Flush requests.", |b| b.flush_requests),
    ("manor_domain_block_errors_total", "Requests that failed.", |b| b.errors),
];

const INTERFACE: Table<InterfaceStats> = &[
    ("manor_domain_interface_receive_bytes_total", "Bytes to the guest.", |i| i.receive_bytes),
    ("manor_domain_interface_receive_packets_total", "Packets to the guest.", |i| {
        i.receive_packets
    }),
    ("manor_domain_interface_receive_drops_total", "Packets the guest had no buffer for.", |i| {
        i.receive_drops
    }),
    ("manor_domain_interface_transmit_bytes_total", "Bytes from the guest.", |i| i.transmit_bytes),
    ("manor_domain_interface_transmit_packets_total", "Packets from the guest.", |i| {
        i.transmit_packets
    }),
    ("manor_domain_interface_transmit_drops_total", "Packets from the guest dropped.", |i| {
        i.transmit_drops
    }),
];

fn own(domains: &[DomainStats], networks: &[NetworkView]) -> String {
    let mut out = Exposition::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.set("manor_build_info", "Version of the daemon.", &version, 1.0);
    let mut by_state = BTreeMap::from([("running", 0), ("shut off", 0), ("paused", 0)]);
    for domain in domains {
        *by_state.entry(domain.summary.state.name()).or_insert(0) += 1;
    }
    for (state, count) in by_state {
        out.set("manor_domains", "Domains by state.", &[("state", state)], f64::from(count));
    }
    for domain in domains {
        own_domain(&mut out, domain);
    }
    for network in networks {
        let id = [("network", network.name.as_str())];
        let active = f64::from(u8::from(network.active));
        out.set("manor_network_active", "Whether the network is active.", &id, active);
        let problems = u32::try_from(network.problems.len()).unwrap_or(u32::MAX);
        let help = "What does not work of it, or what other firewalls drop; net-info says which.";
        out.set("manor_network_problems", help, &id, f64::from(problems));
    }
    out.text()
}

fn own_domain(out: &mut Exposition, domain: &DomainStats) {
    let summary = &domain.summary;
    let uuid = summary.uuid.to_string();
    let id = [("domain", summary.name.as_str()), ("uuid", uuid.as_str())];
    let (state, _) = summary.state.codes();
    out.set("manor_domain_state", "libvirt's number of the state.", &id, f64::from(state));
    out.set("manor_domain_vcpus", "vCPUs of the guest.", &id, f64::from(summary.vcpus));
    out.set("manor_domain_memory_bytes", "Memory of the guest.", &id, kib(summary.memory));
    let most = kib(summary.max_memory);
    out.set("manor_domain_memory_max_bytes", "Most memory the guest may have.", &id, most);
    if !summary.state.is_active() {
        return;
    }
    let cpu = seconds(summary.cpu_time);
    out.set("manor_domain_cpu_seconds_total", "Time on host CPUs since the start.", &id, cpu);
    let Some(age) = domain.age else { return };
    let mut set = |name, help, value| out.set(name, help, &id, value);
    set("manor_domain_stats_age_seconds", "Since the VMM gave these figures.", number(age) / 1e3);
    set("manor_domain_resident_bytes", "Resident memory of the VMM.", number(domain.resident));
    set(
        "manor_domain_unhandled_accesses_total",
        "Bus accesses that no device answered.",
        number(domain.unhandled_accesses),
    );
    for (index, vcpu) in domain.vcpus.iter().enumerate().filter(|(_, vcpu)| vcpu.online) {
        let index = index.to_string();
        let id = [id[0], id[1], ("vcpu", index.as_str())];
        let mut set = |name, help, value| out.set(name, help, &id, value);
        set("manor_domain_vcpu_seconds_total", "Time on host CPUs.", seconds(vcpu.time));
        set("manor_domain_vcpu_exits_total", "Exits that reached the VMM.", number(vcpu.exits));
    }
    for block in &domain.blocks {
        let id = [id[0], id[1], ("device", block.target.as_str())];
        out.table(BLOCK, block, &id);
        for (name, help, time) in [
            ("manor_domain_block_read_seconds_total", "Time that reads took.", block.read_time),
            ("manor_domain_block_write_seconds_total", "Time that writes took.", block.write_time),
            ("manor_domain_block_flush_seconds_total", "Time that flushes took.", block.flush_time),
        ] {
            out.set(name, help, &id, seconds(time));
        }
        let mut set = |name, help, is: bool| out.set(name, help, &id, f64::from(u8::from(is)));
        let waits = "Whether the guest is paused because the host failed this disk.";
        set("manor_domain_block_fault", waits, block.fault.is_some());
        if let Some(connected) = block.connected {
            let has = "Whether the network disk has its server.";
            set("manor_domain_block_connected", has, connected);
        }
    }
    for interface in &domain.interfaces {
        out.table(INTERFACE, interface, &[id[0], id[1], ("device", &interface.target)]);
    }
}

const LIBVIRT_BLOCK: Table<BlockStats> = &[
    ("libvirt_domain_block_stats_read_bytes_total", "Bytes read.", |b| b.read_bytes),
    ("libvirt_domain_block_stats_read_requests_total", "Read requests.", |b| b.read_requests),
    ("libvirt_domain_block_stats_write_bytes_total", "Bytes written.", |b| b.write_bytes),
    ("libvirt_domain_block_stats_write_requests_total", "Write requests.", |b| b.write_requests),
    ("libvirt_domain_block_stats_flush_requests_total", "Flush requests.", |b| b.flush_requests),
];

const LIBVIRT_INTERFACE: Table<InterfaceStats> = &[
    ("libvirt_domain_interface_stats_receive_bytes_total", "Bytes received.", |i| i.receive_bytes),
    ("libvirt_domain_interface_stats_receive_packets_total", "Packets received.", |i| {
        i.receive_packets
    }),
    ("libvirt_domain_interface_stats_receive_drops_total", "Packets dropped.", |i| i.receive_drops),
    ("libvirt_domain_interface_stats_transmit_bytes_total", "Bytes sent.", |i| i.transmit_bytes),
    ("libvirt_domain_interface_stats_transmit_packets_total", "Packets sent.", |i| {
        i.transmit_packets
    }),
    ("libvirt_domain_interface_stats_transmit_drops_total", "Packets dropped.", |i| {
        i.transmit_drops
    }),
];

/// The names of the common exporters for libvirt.
fn libvirt(domains: &[DomainStats]) -> String {
    let mut out = Exposition::default();
    out.set("libvirt_up", "Whether the daemon answers.", &[], 1.0);
    for domain in domains {
        let summary = &domain.summary;
        let id = ("domain", summary.name.as_str());
        let (state, _) = summary.state.codes();
        let cpu_time = seconds(summary.cpu_time);
        let mut set = |name, help, value| out.set(name, help, &[id], value);
        set("libvirt_domain_info_state", "libvirt's number of the state.", f64::from(state));
        set("libvirt_domain_info_virtual_cpus", "vCPUs.", f64::from(summary.vcpus));
        set("libvirt_domain_info_maximum_memory_bytes", "Most memory.", kib(summary.max_memory));
        set("libvirt_domain_info_memory_usage_bytes", "Memory.", kib(summary.memory));
        set("libvirt_domain_info_cpu_time_seconds_total", "Time on host CPUs.", cpu_time);
        if !summary.state.is_active() || domain.age.is_none() {
            continue;
        }
        set("libvirt_domain_memory_stats_rss_bytes", "Resident memory.", number(domain.resident));
        for block in &domain.blocks {
            let id = [id, ("target_device", block.target.as_str())];
            out.table(LIBVIRT_BLOCK, block, &id);
            let times = [
                ("libvirt_domain_block_stats_read_time_seconds_total", block.read_time),
                ("libvirt_domain_block_stats_write_time_seconds_total", block.write_time),
                ("libvirt_domain_block_stats_flush_time_seconds_total", block.flush_time),
            ];
            for (name, time) in times {
                out.set(name, "Time that requests took.", &id, seconds(time));
            }
        }
        for interface in &domain.interfaces {
            let bridge = interface.source.as_deref().unwrap_or("");
            let id = [id, ("source_bridge", bridge), ("target_device", &interface.target)];
            out.table(LIBVIRT_INTERFACE, interface, &id);
        }
    }
    out.text()
}
