//! libvirt's daemon and Manor's side by side on this machine, asked by the same clients over a unix socket:
//! python3-libvirt, whose own part is in its figures, and one that makes nothing of the answers ([`super::raw`]). No
//! guest runs; what is measured is what a daemon makes of its definitions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use manor_tests::libvirt::Clients;
use manor_tests::libvirt_raw::definition;
use manor_tests::libvirt_server::Libvirtd;
use manor_tests::manor_server::ManorServer;

use super::raw;

const SCRIPT: &str = include_str!("api.py");
const COUNTS: [usize; 2] = [50, 1000];
/// For each question in each round.
const SECONDS: Duration = Duration::from_secs(2);

pub(super) type Figures = BTreeMap<String, Vec<f64>>;

/// A daemon that listens.
pub(super) struct Server {
    name: &'static str,
    pub(super) socket: PathBuf,
    pub(super) pid: u32,
}

/// By name of the figure: what it is, and whether more of it is better.
const ROWS: [(&str, &str, bool); 30] = [
    ("list", "python3-libvirt: listAllDomains, µs", false),
    ("stats", "… getAllDomainStats, µs", false),
    ("info", "… domain info, µs", false),
    ("xml", "… dumpxml, µs", false),
    ("lookup", "… lookup by name, µs", false),
    ("cycles", "… define and undefine, a second", true),
    ("busy_calls", "8 of them at once: calls a second", true),
    ("busy_list", "… p99 of listAllDomains, µs", false),
    ("busy_stats", "… p99 of getAllDomainStats, µs", false),
    ("busy_info", "… p99 of domain info, µs", false),
    ("busy_xml", "… p99 of dumpxml, µs", false),
    ("busy_lookup", "… p99 of lookup by name, µs", false),
    ("raw_list", "bytes alone: list of all domains, µs", false),
    ("raw_stats", "… statistics of all, µs", false),
    ("raw_info", "… domain info, µs", false),
    ("raw_xml", "… dumpxml, µs", false),
    ("raw_lookup", "… lookup by name, µs", false),
    ("raw_cycles", "… define and undefine, a second", true),
    ("raw_busy_calls", "8 of them at once: calls a second", true),
    ("raw_busy_list", "… p99 of the list, µs", false),
    ("raw_busy_stats", "… p99 of statistics of all, µs", false),
    ("raw_busy_info", "… p99 of domain info, µs", false),
    ("raw_busy_xml", "… p99 of dumpxml, µs", false),
    ("raw_busy_lookup", "… p99 of lookup by name, µs", false),
    ("cpu_list", "the daemon's processor: list of all domains, µs", false),
    ("cpu_stats", "… statistics of all, µs", false),
    ("cpu_info", "… domain info, µs", false),
    ("cpu_xml", "… dumpxml, µs", false),
    ("cpu_lookup", "… lookup by name, µs", false),
    ("cpu_cycle", "… define and undefine, µs", false),
];
/// What a daemon takes of memory.
const MEMORY: [(&str, &str, &str); 2] = [
    ("rss_kib", "memory of the daemon (RSS), KiB", "VmRSS:"),
    ("anonymous_kib", "… of it its own (anonymous), KiB", "RssAnon:"),
];

pub(super) fn run(rounds: usize) -> anyhow::Result<ExitCode> {
    let clients = Clients::fetched()?;
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let libvirtd = Libvirtd::start(dirs[0].path())?;
    let manor = ManorServer::start(dirs[1].path())?;
    let servers = [
        Server { name: "Manor", socket: manor.socket().to_owned(), pid: manor.pid() },
        Server { name: "libvirtd", socket: libvirtd.socket(), pid: libvirtd.pid() },
    ];
    for count in COUNTS {
        let mut figures = [Figures::new(), Figures::new()];
        for (server, figures) in servers.iter().zip(&mut figures) {
            raw::fill(&server.socket, count)?;
            // Before clients come in crowds, whose connections leave traces in every heap.
            memory(server.pid, figures)?;
        }
        for _ in 0..rounds {
            // Alternately, so that a change of the machine's load meets both.
            for (server, figures) in servers.iter().zip(&mut figures) {
                measure(&clients, server, count, dirs[0].path(), figures)
                    .with_context(|| format!("{} with {count} domains", server.name))?;
            }
            raw::measure(&servers, count, SECONDS, &mut figures)?;
        }
        print!("{}", table(count, &figures));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    clients: &Clients,
    server: &Server,
    count: usize,
    home: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let uri = format!("qemu+unix:///system?socket={}", server.socket.display());
    let (count_text, seconds) = (count.to_string(), SECONDS.as_secs().to_string());
    let arguments = ["-c", SCRIPT, &uri, &count_text, &seconds, &definition("bench-cycle")];
    let output = clients.python(home).args(arguments).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    for line in String::from_utf8(output.stdout)?.lines() {
        let (name, value) = line.split_once(' ').with_context(|| format!("odd line {line:?}"))?;
        figures.entry(name.to_owned()).or_default().push(value.parse()?);
    }
    Ok(())
}

fn memory(pid: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for (name, _, field) in MEMORY {
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
        let value = value.with_context(|| format!("no {field}"))?.trim().parse()?;
        figures.entry(name.to_owned()).or_default().push(value);
    }
    Ok(())
}

/// Medians, and by how much Manor's is better.
fn table(count: usize, figures: &[Figures; 2]) -> String {
    let mut text = format!("| {count} domains | Manor | libvirtd | better by |\n|-|-|-|-|\n");
    let of = |figures: &Figures, name: &str| super::table::median(figures.get(name)?.clone());
    let memory = MEMORY.map(|(name, title, _)| (name, title, false));
    for (name, title, more) in ROWS.into_iter().chain(memory) {
        let (Some(ours), Some(theirs)) = (of(&figures[0], name), of(&figures[1], name)) else {
            continue;
        };
        let factor = if more { ours / theirs } else { theirs / ours };
        text.push_str(&format!("| {title} | {ours:.0} | {theirs:.0} | {factor:.1} |\n"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_time_and_more_calls_are_better() {
        let figures = |list: f64, cycles: f64| {
            let one = |name: &str, value| (name.to_owned(), vec![value]);
            Figures::from([one("list", list), one("cycles", cycles)])
        };
        let text = table(50, &[figures(100.0, 300.0), figures(500.0, 100.0)]);
        assert!(
            text.contains("| python3-libvirt: listAllDomains, µs | 100 | 500 | 5.0 |"),
            "{text}"
        );
        assert!(text.contains("| … define and undefine, a second | 300 | 100 | 3.0 |"), "{text}");
        assert_eq!(text.lines().count(), 5, "what was not measured has no row");
    }
}
