//! help, completion, man: all from the one description of the command line.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use crate::args::{Cli, Completion, Man, Shell};
use crate::failure::{Failure, reason};
use crate::terminal::Terminal;

/// virsh's groups, with their keywords and the commands Manor has of each.
const GROUPS: &[(&str, &str, &[&str])] = &[
    (
        "Domain Management",
        "domain",
        &[
            "apply",
            "attach-device",
            "attach-disk",
            "attach-interface",
            "autostart",
            "blkdeviotune",
            "blkiotune",
            "blockcommit",
            "blockcopy",
            "blockjob",
            "blockpull",
            "blockresize",
            "change-media",
            "console",
            "create",
            "define",
            "desc",
            "destroy",
            "detach-device",
            "detach-device-alias",
            "detach-disk",
            "detach-interface",
            "domdisplay",
            "domfsfreeze",
            "domfsinfo",
            "domfsthaw",
            "domfstrim",
            "domid",
            "domif-setlink",
            "domiftune",
            "domjobabort",
            "domjobinfo",
            "domname",
            "dompmsuspend",
            "domrename",
            "domtime",
            "domuuid",
            "dumpxml",
            "emulatorpin",
            "event",
            "guest-exec",
            "get-user-sshkeys",
            "guestinfo",
            "guest-agent-timeout",
            "guestvcpus",
            "inject-nmi",
            "qemu-agent-command",
            "iothreadadd",
            "iothreaddel",
            "iothreadinfo",
            "iothreadpin",
            "memtune",
            "metadata",
            "numatune",
            "plan",
            "reboot",
            "reset",
            "resume",
            "save",
            "dump",
            "clone",
            "backup-begin",
            "backup-dumpxml",
            "checkpoint-create",
            "checkpoint-create-as",
            "checkpoint-list",
            "checkpoint-info",
            "checkpoint-dumpxml",
            "checkpoint-parent",
            "checkpoint-delete",
            "checkpoint-edit",
            "restore",
            "managedsave",
            "managedsave-remove",
            "managedsave-dumpxml",
            "managedsave-define",
            "managedsave-edit",
            "save-image-check",
            "save-image-dumpxml",
            "save-image-define",
            "save-image-edit",
            "schedinfo",
            "screenshot",
            "send-key",
            "set-lifecycle-action",
            "set-user-password",
            "set-user-sshkeys",
            "setmaxmem",
            "setmem",
            "setvcpu",
            "setvcpus",
            "shutdown",
            "shutdown-guests",
            "start",
            "suspend",
            "ttyconsole",
            "undefine",
            "update-device",
            "vcpucount",
            "vcpuinfo",
            "vcpupin",
            "vncdisplay",
        ],
    ),
    (
        "Domain Monitoring",
        "monitor",
        &[
            "domblkerror",
            "domblkinfo",
            "domblklist",
            "domblkthreshold",
            "domdirtyrate-calc",
            "domhostname",
            "domblkstat",
            "domif-getlink",
            "domifaddr",
            "domiflist",
            "domifstat",
            "dominfo",
            "dommemstat",
            "domstate",
            "domstats",
            "list",
            "security",
        ],
    ),
    (
        "Networking",
        "network",
        &[
            "net-autostart",
            "net-create",
            "net-define",
            "net-destroy",
            "net-dhcp-leases",
            "net-dumpxml",
            "net-edit",
            "net-event",
            "net-info",
            "net-list",
            "net-name",
            "net-port-dumpxml",
            "net-port-info",
            "net-port-list",
            "net-start",
            "net-undefine",
            "net-update",
            "net-uuid",
        ],
    ),
    (
        "Snapshot",
        "snapshot",
        &[
            "snapshot-create",
            "snapshot-create-as",
            "snapshot-current",
            "snapshot-delete",
            "snapshot-dumpxml",
            "snapshot-edit",
            "snapshot-info",
            "snapshot-list",
            "snapshot-parent",
            "snapshot-revert",
        ],
    ),
    (
        "Storage Pool",
        "pool",
        &[
            "find-storage-pool-sources",
            "pool-autostart",
            "pool-build",
            "pool-capabilities",
            "pool-create",
            "pool-create-as",
            "pool-define",
            "pool-define-as",
            "pool-delete",
            "pool-destroy",
            "pool-dumpxml",
            "pool-info",
            "pool-list",
            "pool-name",
            "pool-refresh",
            "pool-start",
            "pool-undefine",
            "pool-uuid",
        ],
    ),
    (
        "Storage Volume",
        "volume",
        &[
            "vol-clone",
            "vol-create",
            "vol-create-as",
            "vol-create-from",
            "vol-delete",
            "vol-download",
            "vol-dumpxml",
            "vol-info",
            "vol-key",
            "vol-list",
            "vol-name",
            "vol-path",
            "vol-pool",
            "vol-resize",
            "vol-upload",
            "vol-users",
            "vol-wipe",
        ],
    ),
    (
        "Host and Hypervisor",
        "host",
        &[
            "allocpages",
            "capabilities",
            "cpu-baseline",
            "cpu-compare",
            "freecell",
            "freepages",
            "hostname",
            "node-memory-tune",
            "nodecpustats",
            "nodeinfo",
            "nodememstats",
            "sysinfo",
            "uri",
            "version",
        ],
    ),
    ("Interface", "interface", &["iface-dumpxml", "iface-list"]),
    ("Node Device", "nodedev", &["nodedev-dumpxml", "nodedev-list"]),
    (
        "Network Filter",
        "filter",
        &[
            "nwfilter-binding-dumpxml",
            "nwfilter-binding-list",
            "nwfilter-define",
            "nwfilter-dumpxml",
            "nwfilter-edit",
            "nwfilter-list",
            "nwfilter-undefine",
        ],
    ),
    (
        "Manor itself",
        "manor",
        &[
            "audit",
            "completion",
            "config",
            "daemon",
            "help",
            "host-check",
            "image",
            "import",
            "job",
            "run",
            "setup",
            "token",
            "user",
            "virt-ssh-helper",
        ],
    ),
];

pub(crate) fn help(topic: Option<&str>, terminal: &Terminal) -> Result<(), Failure> {
    let mut root = Cli::command();
    root.build();
    let Some(topic) = topic else {
        let groups: Vec<_> = GROUPS.iter().map(|group| group_text(&root, group)).collect();
        terminal.print(&format!("Grouped commands:\n\n{}\n", groups.join("\n")));
        return Ok(());
    };
    if let Some(group) =
        GROUPS.iter().find(|(title, keyword, _)| *keyword == topic || *title == topic)
    {
        terminal.print(&format!("{}\n", group_text(&root, group)));
        return Ok(());
    }
    let Some(command) = root.find_subcommand_mut(topic) else {
        let known = GROUPS.iter().flat_map(|(_, _, commands)| *commands);
        let line = format!("command or command group '{topic}' doesn't exist");
        return Err(Failure::usage(line).hint_near(topic, known.map(|name| (*name).to_owned())));
    };
    terminal.print(&format!("{}\n", command.render_long_help()));
    Ok(())
}

fn group_text(root: &Command, (title, keyword, commands): &(&str, &str, &[&str])) -> String {
    let mut out = format!(" {title} (help keyword '{keyword}'):\n");
    for name in *commands {
        let about = root.find_subcommand(name).and_then(Command::get_about);
        let about = about.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "    {name:30} {about}");
    }
    out
}

pub(crate) fn completion(args: &Completion, terminal: &Terminal) {
    use clap_complete::shells;
    let mut root = Cli::command();
    let mut script = Vec::new();
    let name = args.name.as_str();
    match args.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut root, name, &mut script),
        Shell::Elvish => clap_complete::generate(shells::Elvish, &mut root, name, &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut root, name, &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut root, name, &mut script),
    }
    terminal.print(&String::from_utf8_lossy(&script));
}

pub(crate) fn man(args: &Man) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let directory = args.directory.display();
        Failure::other(format!("cannot write manual pages to {directory}: {}", reason(&error)))
    };
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    let mut root = Cli::command();
    root.build();
    write_page(&root, "manor", &args.directory).map_err(failed)?;
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("manor-{}", command.get_name());
        write_page(command, &name, &args.directory).map_err(failed)?;
    }
    Ok(())
}

fn write_page(command: &Command, name: &str, directory: &Path) -> std::io::Result<()> {
    let mut page = Vec::new();
    let title = name.to_uppercase();
    clap_mangen::Man::new(command.clone()).title(title).section("1").render(&mut page)?;
    std::fs::write(directory.join(format!("{name}.1")), page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_stands_in_one_group() {
        let listed: Vec<_> =
            GROUPS.iter().flat_map(|(_, _, commands)| *commands).copied().collect();
        let set: BTreeSet<_> = listed.iter().copied().collect();
        assert_eq!(listed.len(), set.len(), "a command stands in two groups");
        let root = Cli::command();
        let shown = root.get_subcommands().filter(|command| !command.is_hide_set());
        assert_eq!(set, shown.map(Command::get_name).collect());
    }

    #[test]
    fn commands_that_are_not_virsh_verbs_are_known_as_such() {
        let root = Cli::command();
        for name in crate::args::NATIVE {
            assert!(root.find_subcommand(name).is_some(), "{name}");
        }
        let (_, _, own) = GROUPS.iter().find(|(_, keyword, _)| *keyword == "manor").unwrap();
        for name in own.iter().filter(|name| **name != "help") {
            assert!(crate::args::NATIVE.contains(name), "{name}");
        }
    }
}
