//! libvirt's daemon and Manor's side by side on this machine, asked by the same client: python3-libvirt over a
//! unix socket. No guest runs; what is measured is what a daemon makes of its definitions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use manor_tests::libvirt::Clients;
use manor_tests::libvirt_server::Libvirtd;
use manor_tests::manor_binary;

const SCRIPT: &str = include_str!("api.py");
const COUNTS: [usize; 2] = [50, 1000];
/// For each question in each round.
const SECONDS: &str = "2";

type Figures = BTreeMap<String, Vec<f64>>;

/// A daemon that listens.
struct Server {
    name: &'static str,
    uri: String,
    pid: u32,
}

/// By name of the figure: what it is, and whether more of it is better.
const ROWS: [(&str, &str, bool); 17] = [
    ("list", "listAllDomains, µs", false),
    ("cpu_list", "… of the daemon's processor", false),
    ("stats", "getAllDomainStats, µs", false),
    ("cpu_stats", "… of the daemon's processor", false),
    ("info", "domain info, µs", false),
    ("cpu_info", "… of the daemon's processor", false),
    ("xml", "dumpxml, µs", false),
    ("cpu_xml", "… of the daemon's processor", false),
    ("lookup", "lookup by name, µs", false),
    ("cycles", "define and undefine, a second", true),
    ("busy_calls", "8 clients: calls a second", true),
    ("busy_list", "… p99 of listAllDomains, µs", false),
    ("busy_stats", "… p99 of getAllDomainStats, µs", false),
    ("busy_info", "… p99 of domain info, µs", false),
    ("busy_xml", "… p99 of dumpxml, µs", false),
    ("busy_lookup", "… p99 of lookup by name, µs", false),
    ("rss_kib", "memory of the daemon (RSS), KiB", false),
];

pub(super) fn run(rounds: usize) -> anyhow::Result<ExitCode> {
    let clients = Clients::fetched()?;
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let libvirtd = Libvirtd::start(dirs[0].path())?;
    let mut manor = manor(dirs[1].path())?;
    let servers = [
        Server {
            name: "Manor",
            uri: uri(&dirs[1].path().join("run/libvirt-sock")),
            pid: manor.id(),
        },
        Server { name: "libvirtd", uri: uri(&libvirtd.socket()), pid: libvirtd.pid() },
    ];
    let measured: anyhow::Result<()> = COUNTS.iter().try_for_each(|count| {
        let mut figures = [Figures::new(), Figures::new()];
        for _ in 0..rounds {
            // Alternately, so that a change of the machine's load meets both.
            for (server, figures) in servers.iter().zip(&mut figures) {
                measure(&clients, server, *count, dirs[0].path(), figures)
                    .with_context(|| format!("{} with {count} domains", server.name))?;
            }
        }
        print!("{}", table(*count, &figures));
        Ok(())
    });
    let _ = manor.kill();
    let _ = manor.wait();
    measured.map(|()| ExitCode::SUCCESS)
}

fn uri(socket: &Path) -> String {
    format!("qemu+unix:///system?socket={}", socket.display())
}

fn manor(dir: &Path) -> anyhow::Result<Child> {
    let root = dir.display();
    let config = format!(
        "state_dir = \"{root}/state\"\nrun_dir = \"{root}/run\"\nlog_dir = \"{root}/log\"\n\
         [api]\nsocket = \"{root}/run/api.sock\"\nread_only_socket = \"\"\nsocket_group = \"\"\n\
         [libvirt]\nsocket = \"{root}/run/libvirt-sock\"\n\
         read_only_socket = \"{root}/run/libvirt-sock-ro\"\n"
    );
    fs::write(dir.join("manor.toml"), config)?;
    let log = fs::File::create(dir.join("daemon.log"))?;
    let mut daemon = Command::new(manor_binary()?)
        .args(["daemon", "--config"])
        .arg(dir.join("manor.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.join("run/libvirt-sock").exists() {
        if Instant::now() > deadline || daemon.try_wait()?.is_some() {
            let _ = daemon.kill();
            bail!("no daemon: {}", fs::read_to_string(dir.join("daemon.log"))?);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(daemon)
}

fn measure(
    clients: &Clients,
    server: &Server,
    count: usize,
    home: &Path,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let Server { uri, pid, .. } = server;
    let (pid, count) = (pid.to_string(), count.to_string());
    let output = clients.python(home).args(["-c", SCRIPT, uri, &pid, &count, SECONDS]).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    for line in String::from_utf8(output.stdout)?.lines() {
        let (name, value) = line.split_once(' ').with_context(|| format!("odd line {line:?}"))?;
        figures.entry(name.to_owned()).or_default().push(value.parse()?);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|rss| rss.trim().strip_suffix(" kB")).context("no VmRSS")?;
    figures.entry("rss_kib".to_owned()).or_default().push(rss.trim().parse()?);
    Ok(())
}

/// Medians, and by how much Manor's is better.
fn table(count: usize, figures: &[Figures; 2]) -> String {
    let mut text = format!("| {count} domains | Manor | libvirtd | better by |\n|-|-|-|-|\n");
    let of = |figures: &Figures, name: &str| super::table::median(figures.get(name)?.clone());
    for (name, title, more) in ROWS {
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
        assert!(text.contains("| listAllDomains, µs | 100 | 500 | 5.0 |"), "{text}");
        assert!(text.contains("| define and undefine, a second | 300 | 100 | 3.0 |"), "{text}");
        assert_eq!(text.lines().count(), 5, "what was not measured has no row");
    }
}
