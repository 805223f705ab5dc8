//! dominfo, domstate, domid, domname, domuuid.

use std::fmt::Write as _;

use api::types::AtShutdown;

use super::Session;
use crate::args::{Domain, Domstate};
use crate::failure::{Exit, Failure};
use crate::table::Table;
use crate::terminal::printable;

pub(super) async fn dominfo(session: &Session, args: Domain) -> Result<(), Failure> {
    let domain = session.of(&args.domain, session.client.domain(&args.domain)).await?;
    if session.terminal.json {
        session.terminal.print_json(&domain);
        return Ok(());
    }
    session.terminal.print(&dominfo_text(&domain));
    Ok(())
}

fn dominfo_text(domain: &api::types::Domain) -> String {
    let summary = &domain.summary;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{:15} {}", format!("{name}:"), printable(value));
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    line("Id", &summary.id.map_or_else(|| "-".to_owned(), |id| id.to_string()));
    line("Name", &summary.name);
    line("UUID", &summary.uuid.to_string());
    line("OS Type", &domain.os_type);
    line("State", summary.state.state.words());
    line("CPU(s)", &summary.vcpus.to_string());
    if summary.id.is_some() {
        line("CPU time", &format!("{}s", tenths(summary.cpu_time_ns)));
    }
    line("Max memory", &format!("{} KiB", summary.max_memory_bytes / 1024));
    // Of a domain that is off virsh shows what it will get.
    let used = if summary.id.is_some() { summary.memory_bytes } else { summary.max_memory_bytes };
    line("Used memory", &format!("{} KiB", used / 1024));
    line("Persistent", yes(summary.persistent));
    line("Autostart", if summary.autostart { "enable" } else { "disable" });
    if domain.autostart_order > 0 {
        line("Autostart order", &domain.autostart_order.to_string());
    }
    if domain.autostart_delay_s > 0 {
        line("Autostart delay", &format!("{} s", domain.autostart_delay_s));
    }
    if let Some(seconds) = domain.shutdown_timeout_s {
        line("Shutdown timeout", &format!("{seconds} s"));
    }
    if let Some(what) = domain.at_shutdown {
        line(
            "At shutdown",
            match what {
                AtShutdown::Shutdown => "shutdown",
                AtShutdown::Save => "save",
            },
        );
    }
    line("Managed save", yes(summary.managed_save));
    line("Security model", "none");
    line("Security DOI", "0");
    for warning in &domain.warnings {
        line("Messages", warning);
    }
    out
}

pub(super) async fn security(session: &Session, args: Domain) -> Result<(), Failure> {
    let facts = session.of(&args.domain, session.client.security(&args.domain)).await?;
    if session.terminal.json {
        session.terminal.print_json(&facts);
        return Ok(());
    }
    let mut table = Table::new(["Name", "Value", "Confined"]);
    for fact in facts {
        let confined = if fact.confined { "yes" } else { "NO" };
        table.row([fact.name, fact.value, confined.to_owned()]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

/// Seconds with one decimal.
fn tenths(nanoseconds: u64) -> String {
    let tenths = nanoseconds / 100_000_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

pub(super) async fn domstate(session: &Session, args: Domstate) -> Result<(), Failure> {
    let state = session.of(&args.domain, session.client.state(&args.domain)).await?;
    if session.terminal.json {
        session.terminal.print_json(&state);
    } else if args.reason {
        session.terminal.print(&format!("{} ({})\n", state.state.words(), state.reason));
    } else {
        session.terminal.print(&format!("{}\n", state.state.words()));
    }
    Ok(())
}

pub(super) async fn domid(session: &Session, args: Domain) -> Result<(), Failure> {
    let summary = session.of(&args.domain, session.client.domain(&args.domain)).await?.summary;
    if session.terminal.json {
        session.terminal.print_json(&summary.id);
    } else {
        let id = summary.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        session.terminal.print(&format!("{id}\n"));
    }
    Ok(())
}

pub(super) async fn domname(session: &Session, args: Domain) -> Result<(), Failure> {
    let summary = session.of(&args.domain, session.client.domain(&args.domain)).await?.summary;
    // A name is no way to ask for a name.
    if summary.name == args.domain {
        let line = format!("failed to get domain '{}'", args.domain);
        return Err(Failure::new(Exit::NotFound, line));
    }
    if session.terminal.json {
        session.terminal.print_json(&summary.name);
    } else {
        session.terminal.print(&format!("{}\n", printable(&summary.name)));
    }
    Ok(())
}

pub(super) async fn domuuid(session: &Session, args: Domain) -> Result<(), Failure> {
    let summary = session.of(&args.domain, session.client.domain(&args.domain)).await?.summary;
    if session.terminal.json {
        session.terminal.print_json(&summary.uuid);
    } else {
        session.terminal.print(&format!("{}\n", summary.uuid));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::types::{DomainState, DomainSummary, StateName};

    use super::*;

    fn test_domain() -> api::types::Domain {
        let state = DomainState {
            state: StateName::Running,
            reason: "booted".into(),
            state_code: 1,
            reason_code: 1,
        };
        api::types::Domain {
            summary: DomainSummary {
                id: Some(1),
                name: "test".into(),
                uuid: "6695eb01-f6a4-8304-79aa-97f2502e193f".parse().unwrap(),
                title: None,
                state,
                persistent: true,
                autostart: false,
                max_memory_bytes: 8_388_608 * 1024,
                memory_bytes: 2_097_152 * 1024,
                vcpus: 2,
                max_vcpus: 2,
                cpu_time_ns: 12_349_999_999,
                managed_save: false,
            },
            description: None,
            os_type: "hvm".into(),
            machine: "q35".into(),
            platform_version: 1,
            autostart_order: 0,
            autostart_delay_s: 0,
            shutdown_timeout_s: None,
            at_shutdown: None,
            generation: Some(1),
            pending_changes: false,
            uptime_ms: None,
            pid: None,
            consoles: Vec::new(),
            sandbox: std::collections::BTreeMap::new(),
            last_exit: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn dominfo_of_a_running_domain_looks_as_virsh_prints_it() {
        let expected = "\
Id:             1
Name:           test
UUID:           6695eb01-f6a4-8304-79aa-97f2502e193f
OS Type:        hvm
State:          running
CPU(s):         2
CPU time:       12.3s
Max memory:     8388608 KiB
Used memory:    2097152 KiB
Persistent:     yes
Autostart:      disable
Managed save:   no
Security model: none
Security DOI:   0
";
        assert_eq!(dominfo_text(&test_domain()), expected);
    }

    #[test]
    fn dominfo_of_a_domain_that_is_off_has_no_id_and_no_cpu_time() {
        let mut domain = test_domain();
        domain.summary.id = None;
        domain.summary.state.state = StateName::ShutOff;
        domain.summary.memory_bytes = 0;
        domain.summary.name = "a\x1b[2Jb".into();
        let text = dominfo_text(&domain);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Id:             -");
        assert_eq!(lines[1], "Name:           a\\x1b[2Jb");
        assert_eq!(lines[4], "State:          shut off");
        assert_eq!(lines[6], "Max memory:     8388608 KiB");
        assert_eq!(lines[7], "Used memory:    8388608 KiB");
    }
}
