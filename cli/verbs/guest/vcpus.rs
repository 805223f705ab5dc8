//! guestvcpus, guest-agent-timeout, get-user-sshkeys, set-user-sshkeys, dompmsuspend.

use std::path::Path;

use api::types::{AgentTimeout, GuestVcpu, GuestVcpuChange, SshKeyChange, SshKeyMode};

use crate::args::{
    Dompmsuspend, GetUserSshkeys, GuestAgentTimeout, Guestvcpus, SetUserSshkeys, SleepTarget,
};
use crate::failure::Failure;
use crate::terminal::printable;
use crate::verbs::tuning::{cpus, list};
use crate::verbs::{Session, read_document};

pub(in crate::verbs) async fn guestvcpus(
    session: &Session,
    args: Guestvcpus,
) -> Result<(), Failure> {
    let domain = &args.domain;
    if let Some(text) = &args.cpulist {
        if args.enable == args.disable {
            let line = "One of options --enable or --disable is required by option --cpulist";
            return Err(Failure::usage(line));
        }
        let vcpus = cpus(text)?.into_iter().map(u32::from).collect();
        let change = GuestVcpuChange::These { vcpus, online: args.enable };
        session.of(domain, session.client.set_guest_vcpus(domain, &change)).await?;
        return Ok(());
    }
    let all = session.of(domain, session.client.guest_vcpus(domain)).await?;
    if session.terminal.json {
        session.terminal.print_json(&all);
        return Ok(());
    }
    let ids = |wanted: fn(&GuestVcpu) -> bool| {
        let ids = all.iter().filter(|vcpu| wanted(vcpu));
        list(&ids.filter_map(|vcpu| u16::try_from(vcpu.id).ok()).collect::<Vec<_>>())
    };
    session.terminal.print(&format!(
        "{:<15}: {}\n{:<15}: {}\n{:<15}: {}\n",
        "vcpus",
        ids(|_| true),
        "online",
        ids(|vcpu| vcpu.online),
        "offlinable",
        ids(|vcpu| vcpu.can_offline),
    ));
    Ok(())
}

/// In virsh's numbers, where no number means as long as it takes.
pub(in crate::verbs) async fn guest_agent_timeout(
    session: &Session,
    args: GuestAgentTimeout,
) -> Result<(), Failure> {
    let timeout = match args.timeout.unwrap_or(-2) {
        -2 => AgentTimeout { forever: true, seconds: None },
        -1 => AgentTimeout::default(),
        seconds => match u16::try_from(seconds) {
            Ok(seconds) => AgentTimeout { forever: false, seconds: Some(seconds) },
            Err(_) => {
                let text = format!(
                    "{seconds} is no timeout: -2 (none), -1 (the usual one), or 0 to 65535 seconds"
                );
                return Err(Failure::usage(text));
            }
        },
    };
    let call = session.client.set_agent_timeout(&args.domain, timeout);
    session.of(&args.domain, call).await
}

pub(in crate::verbs) async fn get_user_sshkeys(
    session: &Session,
    args: GetUserSshkeys,
) -> Result<(), Failure> {
    let call = session.client.ssh_keys(&args.domain, &args.user);
    let keys = session.of(&args.domain, call).await?;
    if session.terminal.json {
        session.terminal.print_json(&keys);
        return Ok(());
    }
    let lines: String = keys.iter().map(|key| format!("{}\n", printable(key))).collect();
    session.terminal.print(&lines);
    Ok(())
}

pub(in crate::verbs) async fn set_user_sshkeys(
    session: &Session,
    args: SetUserSshkeys,
) -> Result<(), Failure> {
    let file = args.file.as_deref();
    // Who only resets needs no keys.
    let text = match file {
        None if args.reset => String::new(),
        None => read_document(Path::new("-"))?,
        Some(file) => read_document(file)?,
    };
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let mode = match (args.reset, args.remove) {
        (true, _) => SshKeyMode::Replace,
        (false, true) => SshKeyMode::Remove,
        (false, false) => SshKeyMode::Append,
    };
    let change = SshKeyChange { keys, mode };
    let call = session.client.set_ssh_keys(&args.domain, &args.user, &change);
    session.of(&args.domain, call).await?;
    Ok(())
}

pub(in crate::verbs) async fn dompmsuspend(
    session: &Session,
    args: Dompmsuspend,
) -> Result<(), Failure> {
    let SleepTarget::Disk = args.target;
    session.of(&args.domain, session.client.guest_sleep(&args.domain)).await?;
    let name = printable(&args.domain);
    session.terminal.say(&format!("Domain '{name}' successfully suspended\n"));
    Ok(())
}
