//! nodeinfo, hostname, uri, version, capabilities.

use std::fmt::Write as _;

use api::types::{CpuCounters, Node};

use super::Session;
use crate::args::{Nodecpustats, Version};
use crate::failure::Failure;
use crate::terminal::printable;

pub(super) async fn nodeinfo(session: &Session) -> Result<(), Failure> {
    let node = session.client.node().await?;
    if session.terminal.json {
        session.terminal.print_json(&node);
        return Ok(());
    }
    session.terminal.print(&nodeinfo_text(&node));
    Ok(())
}

fn nodeinfo_text(node: &Node) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{:20} {}", format!("{name}:"), printable(&value.to_string()));
    };
    line("CPU model", &node.architecture);
    line("CPU(s)", &node.cpus);
    line("CPU frequency", &format!("{} MHz", node.cpu_mhz));
    line("CPU socket(s)", &node.sockets);
    line("Core(s) per socket", &node.cores);
    line("Thread(s) per core", &node.threads);
    line("NUMA cell(s)", &node.numa_nodes);
    line("Memory size", &format!("{} KiB", node.memory_bytes / 1024));
    out
}

pub(super) async fn cpu_stats(session: &Session, args: Nodecpustats) -> Result<(), Failure> {
    let counters = match args.cpu {
        Some(cpu) => session.client.cpu_counters(cpu).await?,
        None => {
            let all = session.client.node().await?.counters;
            CpuCounters {
                user_ns: all.user_ns,
                system_ns: all.system_ns,
                idle_ns: all.idle_ns,
                iowait_ns: all.iowait_ns,
            }
        }
    };
    if session.terminal.json {
        session.terminal.print_json(&counters);
        return Ok(());
    }
    let mut out = String::new();
    for (name, value) in [
        ("user", counters.user_ns),
        ("system", counters.system_ns),
        ("idle", counters.idle_ns),
        ("iowait", counters.iowait_ns),
    ] {
        let _ = writeln!(out, "{:<15}{value:>20}", format!("{name}:"));
    }
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn memory_stats(session: &Session) -> Result<(), Failure> {
    let node = session.client.node().await?;
    if session.terminal.json {
        session.terminal.print_json(&node.counters);
        return Ok(());
    }
    let mut out = String::new();
    for (name, bytes) in [
        ("total", node.memory_bytes),
        ("free", node.counters.unused_bytes),
        ("buffers", node.counters.buffers_bytes),
        ("cached", node.counters.cached_bytes),
    ] {
        let _ = writeln!(out, "{name:<7}:{:>20} KiB", bytes / 1024);
    }
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn hostname(session: &Session) -> Result<(), Failure> {
    let node = session.client.node().await?;
    if session.terminal.json {
        session.terminal.print_json(&node.hostname);
    } else {
        session.terminal.print(&format!("{}\n", printable(&node.hostname)));
    }
    Ok(())
}

pub(super) async fn uri(session: &Session) -> Result<(), Failure> {
    // virsh connects before it answers, and scripts take the answer for a sign of life.
    session.client.node().await?;
    if session.terminal.json {
        session.terminal.print_json(&session.uri);
    } else {
        session.terminal.print(&format!("{}\n", printable(&session.uri)));
    }
    Ok(())
}

pub(super) async fn version(session: &Session, args: Version) -> Result<(), Failure> {
    let node = session.client.node().await?;
    let own = env!("CARGO_PKG_VERSION");
    if session.terminal.json {
        let versions = serde_json::json!({"client": own, "daemon": node.version});
        session.terminal.print_json(&versions);
        return Ok(());
    }
    let mut out = format!(
        "Compiled against library: manor {own}\nUsing library: manor {own}\n\
         Using API: Manor {own}\nRunning hypervisor: Manor {}\n",
        printable(&node.version)
    );
    if args.daemon {
        let _ = writeln!(out, "Running against daemon: {}", printable(&node.version));
    }
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn capabilities(session: &Session) -> Result<(), Failure> {
    let xml = session.client.capabilities().await?;
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "xml": xml }));
    } else {
        session.terminal.print(&format!("{}\n", xml.trim_end_matches('\n')));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodeinfo_looks_as_virsh_prints_it() {
        let node = Node {
            architecture: "i686".into(),
            cpus: 16,
            cpu_mhz: 1400,
            numa_nodes: 2,
            sockets: 2,
            cores: 2,
            threads: 2,
            memory_bytes: 3_145_728 * 1024,
            ..Node::default()
        };
        let expected = "\
CPU model:           i686
CPU(s):              16
CPU frequency:       1400 MHz
CPU socket(s):       2
Core(s) per socket:  2
Thread(s) per core:  2
NUMA cell(s):        2
Memory size:         3145728 KiB
";
        assert_eq!(nodeinfo_text(&node), expected);
    }
}
