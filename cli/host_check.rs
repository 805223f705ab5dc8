//! `manor host-check`: what this host can do for guests, and why not when it can't.

use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use vmm::host_check::{self, Finding, Level, Outcome};

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    result: Verdict,
    /// What was found and, unless all is well, what to do about it.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Pass,
    /// Guests run, but slower or with less around them.
    Warn,
    Fail,
}

impl Check {
    fn new(name: &'static str, result: Verdict, detail: impl Into<String>) -> Self {
        Self { name, result, detail: detail.into() }
    }
}

#[derive(Serialize)]
struct Report {
    /// `linux`: ordinary guests run; `bare-metal`: only guests of simple instructions; `nothing`.
    level: &'static str,
    checks: Vec<Check>,
}

/// Check, print, and exit with 0 when ordinary guests run here, with 1 when they don't.
pub(crate) fn run(json: bool) -> anyhow::Result<ExitCode> {
    let (level, mut checks) = kvm();
    checks.extend([tun(), vhost_net(), cgroups(), io_uring(), huge_pages(), seccomp()]);
    let name = match level {
        Level::Linux => "linux",
        Level::BareMetal => "bare-metal",
        Level::Nothing => "nothing",
    };
    let report = Report { level: name, checks };
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(if level == Level::Linux { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, result, detail } in &report.checks {
        let result = match result {
            Verdict::Pass => "PASS",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        writeln!(out, " {name:width$}   {result}   {detail}")?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "{}",
        match report.level {
            "linux" => "Ordinary guests run on this host.",
            "bare-metal" =>
                "This host's KVM runs only guests of simple instructions: stock kernels fail on it.",
            _ => "No guest runs on this host.",
        }
    )
}

fn kvm() -> (Level, Vec<Check>) {
    const DEVICE: &str = "KVM device";
    const GUESTS: &str = "ordinary guests";
    let kvm = match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(kvm) => kvm,
        Err(error) => {
            let detail = format!("cannot open /dev/kvm: {error}; {}", kvm_hint(&error));
            return (Level::Nothing, vec![Check::new(DEVICE, Verdict::Fail, detail)]);
        }
    };
    let device = Check::new(DEVICE, Verdict::Pass, "/dev/kvm is there and may be used");
    let findings = match host_check::run(&kvm.into()) {
        Ok(findings) => findings,
        Err(error) => {
            let detail = format!("cannot try: {error}");
            return (Level::Nothing, vec![device, Check::new(GUESTS, Verdict::Fail, detail)]);
        }
    };
    let level = host_check::level(&findings);
    let mut checks = vec![device];
    checks.extend(findings.iter().filter_map(failure));
    if level == Level::Linux {
        let tried = findings.iter().filter(|finding| finding.outcome == Outcome::Works).count();
        let detail = format!("{tried} groups of instructions tried, all work");
        checks.push(Check::new(GUESTS, Verdict::Pass, detail));
    }
    (level, checks)
}

fn failure(finding: &Finding) -> Option<Check> {
    let Outcome::Failed { how } = &finding.outcome else { return None };
    let Finding { what, purpose, .. } = finding;
    let detail = format!("{how}; guests need it for {purpose}");
    Some(Check::new(what, Verdict::Fail, detail))
}

fn kvm_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or join the group that owns it (kvm)",
        io::ErrorKind::NotFound => {
            "load kvm_intel or kvm_amd, and enable virtualisation in the firmware (or, in a virtual \
             machine, nested virtualisation)"
        }
        _ => "the module may be there while the processor's virtualisation is switched off",
    }
}

fn tun() -> Check {
    let name = "network taps";
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Check::new(name, Verdict::Pass, "/dev/net/tun is there and may be used"),
        Err(error) => {
            let detail =
                format!("cannot open /dev/net/tun: {error}; load tun, or guests have no network");
            Check::new(name, Verdict::Fail, detail)
        }
    }
}

fn vhost_net() -> Check {
    let name = "vhost-net";
    if fs::exists("/dev/vhost-net").unwrap_or(false) {
        Check::new(name, Verdict::Pass, "/dev/vhost-net is there")
    } else {
        Check::new(name, Verdict::Warn, "not loaded; it is not used yet")
    }
}

fn cgroups() -> Check {
    let name = "cgroup v2";
    let needed = ["cpu", "memory", "pids"];
    let Ok(controllers) = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") else {
        let detail = "/sys/fs/cgroup is not cgroup v2; guests run without resource limits";
        return Check::new(name, Verdict::Warn, detail);
    };
    let present: Vec<_> = controllers.split_whitespace().collect();
    let missing: Vec<_> = needed.into_iter().filter(|name| !present.contains(name)).collect();
    if missing.is_empty() {
        Check::new(name, Verdict::Pass, "cpu, memory and pids controllers")
    } else {
        let detail = format!("no {} controller; those limits do nothing", missing.join(", "));
        Check::new(name, Verdict::Warn, detail)
    }
}

fn io_uring() -> Check {
    let name = "io_uring";
    // The switch came with Linux 6.6; without it io_uring is simply there since 5.1.
    match fs::read_to_string("/proc/sys/kernel/io_uring_disabled").as_deref().map(str::trim) {
        Ok("2") => Check::new(
            name,
            Verdict::Warn,
            "switched off (kernel.io_uring_disabled = 2); disks use plain system calls",
        ),
        Ok("1") => Check::new(
            name,
            Verdict::Warn,
            "only for privileged processes (kernel.io_uring_disabled = 1); disks may use plain \
             system calls",
        ),
        _ => Check::new(name, Verdict::Pass, "not restricted"),
    }
}

fn huge_pages() -> Check {
    let name = "transparent huge pages";
    match fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled") {
        Ok(modes) if modes.contains("[never]") => Check::new(
            name,
            Verdict::Warn,
            "switched off; guests boot with many more page faults (write madvise to \
             /sys/kernel/mm/transparent_hugepage/enabled)",
        ),
        Ok(_) => Check::new(name, Verdict::Pass, "guest memory can use 2 MiB pages"),
        Err(_) => Check::new(name, Verdict::Warn, "this kernel has none; guests use small pages"),
    }
}

fn seccomp() -> Check {
    let name = "seccomp filters";
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.contains("kill_process") => {
            Check::new(name, Verdict::Pass, "each kind of VMM thread gets its own filter")
        }
        _ => Check::new(
            name,
            Verdict::Fail,
            "this kernel lacks them; VMM threads cannot be confined",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_probe_says_what_failed_how_and_for_what_it_is_needed() {
        let finding = Finding {
            what: "int3, iretq",
            purpose: "returns from interrupts",
            outcome: Outcome::Failed { how: "triple fault".into() },
        };
        let check = failure(&finding).unwrap();
        assert_eq!((check.name, check.result), ("int3, iretq", Verdict::Fail));
        assert_eq!(check.detail, "triple fault; guests need it for returns from interrupts");
    }

    #[test]
    fn the_table_ends_with_the_verdict_in_words() {
        let checks = vec![Check::new("seccomp filters", Verdict::Pass, "fine")];
        let mut out = Vec::new();
        print(&mut out, &Report { level: "linux", checks }).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, " seccomp filters   PASS   fine\n\nOrdinary guests run on this host.\n");
    }
}
