//! Verbs that a guest's agent answers.

mod exec;
mod info;
mod vcpus;

use api::types::{AgentCommand, GuestTime, Password};

pub(super) use exec::guest_exec;
pub(super) use info::guestinfo;
pub(super) use vcpus::{
    dompmsuspend, get_user_sshkeys, guest_agent_timeout, guestvcpus, set_user_sshkeys,
};

use super::{Session, memory};
use crate::args::{
    Domain, Domfsfreeze, Domfstrim, Domhostname, Domtime, QemuAgentCommand, SetUserPassword,
};
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;

/// As long as a daemon waits for an agent.
const LONGEST: u32 = 120;

pub(super) async fn domfsinfo(session: &Session, args: Domain) -> Result<(), Failure> {
    let call = session.client.guest_filesystems(&args.domain);
    let found = session
        .of(&args.domain, call)
        .await
        .map_err(|failure| failure.unless_lost("Unable to get filesystem information"))?;
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    if found.is_empty() {
        session.terminal.say("No filesystems are mounted in the domain\n");
        return Ok(());
    }
    let mut table = Table::new(["Mountpoint", "Name", "Type", "Target"]);
    for filesystem in found {
        let targets: Vec<_> = filesystem.disks.into_iter().filter_map(|disk| disk.target).collect();
        table.row([filesystem.mountpoint, filesystem.name, filesystem.fstype, targets.join(",")]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

pub(super) async fn domfsfreeze(session: &Session, args: Domfsfreeze) -> Result<(), Failure> {
    let call = session.client.freeze(&args.domain, args.mountpoint);
    let count = session.of(&args.domain, call).await;
    let count = count.map_err(|failure| failure.unless_lost("Unable to freeze filesystems"))?;
    session.count("Froze", count);
    Ok(())
}

pub(super) async fn domfsthaw(session: &Session, args: Domain) -> Result<(), Failure> {
    let count = session.of(&args.domain, session.client.thaw(&args.domain)).await;
    let count = count.map_err(|failure| failure.unless_lost("Unable to thaw filesystems"))?;
    session.count("Thawed", count);
    Ok(())
}

pub(super) async fn domfstrim(session: &Session, args: Domfstrim) -> Result<(), Failure> {
    let minimum = memory::scaled(&args.minimum, "", "minimum")?;
    let trimmed = session.of(&args.domain, session.client.trim(&args.domain, minimum)).await;
    let trimmed = trimmed.map_err(|failure| failure.unless_lost("Unable to invoke fstrim"))?;
    if session.terminal.json {
        session.terminal.print_json(&trimmed);
        return Ok(());
    }
    for filesystem in trimmed {
        if let Some(error) = filesystem.error {
            session.terminal.warn(&format!("{}: {error}", filesystem.mountpoint));
        }
    }
    Ok(())
}

pub(super) async fn domhostname(session: &Session, args: Domhostname) -> Result<(), Failure> {
    if args.source != "agent" {
        let text =
            format!("host names from '{}' are not provided; use --source agent", args.source);
        return Err(Failure::usage(text));
    }
    let name = session.of(&args.domain, session.client.guest_hostname(&args.domain)).await;
    let name = name.map_err(|failure| failure.unless_lost("failed to get hostname"))?;
    if session.terminal.json {
        session.terminal.print_json(&name);
    } else {
        session.terminal.print(&format!("{}\n", printable(&name)));
    }
    Ok(())
}

pub(super) async fn domtime(session: &Session, args: Domtime) -> Result<(), Failure> {
    const NANOSECONDS: i64 = 1_000_000_000;
    if u8::from(args.now) + u8::from(args.sync) + u8::from(args.time.is_some()) > 1 {
        let line = "Options --now, --sync and --time are mutually exclusive";
        return Err(Failure::usage(line));
    }
    let now = || i64::try_from(jiff::Timestamp::now().as_nanosecond()).ok();
    let time = if args.now { now() } else { args.time.and_then(|s| s.checked_mul(NANOSECONDS)) };
    if args.sync || args.now || args.time.is_some() {
        if !args.sync && time.is_none() {
            return Err(Failure::usage("the time is out of range"));
        }
        let set = session.client.set_guest_time(&args.domain, GuestTime { time_ns: time });
        return session.of(&args.domain, set).await;
    }
    let time = session.of(&args.domain, session.client.guest_time(&args.domain)).await?;
    if session.terminal.json {
        session.terminal.print_json(&time);
        return Ok(());
    }
    let seconds = time.time_ns.unwrap_or_default().div_euclid(NANOSECONDS);
    let text = match jiff::Timestamp::from_second(seconds) {
        Ok(time) if args.pretty => time.strftime("%F %T").to_string(),
        _ => seconds.to_string(),
    };
    session.terminal.print(&format!("Time: {text}\n"));
    Ok(())
}

pub(super) async fn set_user_password(
    session: &Session,
    args: SetUserPassword,
) -> Result<(), Failure> {
    let SetUserPassword { domain, user, password, encrypted } = args;
    let password = Password { password, encrypted };
    let set = session.client.set_user_password(&domain, &user, &password);
    session.of(&domain, set).await?;
    let (user, domain) = (printable(&user), printable(&domain));
    session.terminal.say(&format!("Password set successfully for {user} in {domain}\n"));
    Ok(())
}

pub(super) async fn qemu_agent_command(
    session: &Session,
    args: QemuAgentCommand,
) -> Result<(), Failure> {
    let command = serde_json::from_str(&args.cmd.join(" ")).map_err(|error| {
        Failure::usage(format!(
            "the command is no JSON such as {{\"execute\":\"guest-ping\"}}: {error}"
        ))
    })?;
    let timeout_s = if args.block { Some(LONGEST) } else { args.timeout };
    let command = AgentCommand { command, timeout_s };
    let call = session.client.agent_command(&args.domain, &command);
    let answer = session.of(&args.domain, call).await?;
    if args.pretty {
        session.terminal.print_json(&answer);
    } else {
        session.terminal.print(&format!("{answer}\n"));
    }
    Ok(())
}

impl Session {
    fn count(&self, done: &str, count: u64) {
        if self.terminal.json {
            self.terminal.print_json(&count);
        } else {
            self.terminal.say(&format!("{done} {count} filesystem(s)\n"));
        }
    }
}
