//! The table as a page of the documentation.

use std::fmt::Write as _;

use management::ops::OPERATIONS;

use super::others::{EVENTS, NOT_YET, QEMU_NOT_YET};
use super::refused::REFUSED;
use super::{PROCEDURES, Procedure, QEMU_PROCEDURES};

const HEAD: &str = "\
# libvirt's procedures

Made from the table in `api/src/rpc/table.rs`; a test holds this page against it (`UPDATE_GOLDEN=1
cargo test -p manor-api libvirt_page` writes it anew). How to use libvirt's clients with Manor is in
[libvirt.md](libvirt.md).

A procedure is made of the operations that are named beside it, those of the
[HTTP API](api.md). It needs the highest access that one of them needs.
";

/// What the tests run of each client, as Debian 12 ships it.
const CLIENTS: &[(&str, &str, &str)] = &[
    (
        "virsh 9.0.0, local",
        "a guest's life, tuning, console (also by force), saving, dumping, pools, volumes with and \
         without holes, `edit`, read-only connections, node devices, host interfaces, filters, secrets; \
         `qemu:///session` at a user's own daemon",
        "`tests/cli/libvirt/`, `tests/cli/libvirt_lists.rs`, `tests/cli/clients/session.rs`",
    ),
    (
        "virsh 9.0.0, from elsewhere",
        "TLS with certificates; SASL (SCRAM-SHA-256) over TLS and at the socket; TCP on loopback; ssh by \
         `virt-ssh-helper` and by `nc`",
        "`tests/cli/libvirt_hosts.rs`",
    ),
    (
        "python3-libvirt 9.0.0",
        "the tour, the events and asyncio of `resources/examples`; streams, calls and many connections at once; \
         events of secrets and of node devices; a screen as a descriptor, and at a socket of the client's; what \
         virt-manager calls at its start",
        "`tests/cli/libvirt/`, `tests/cli/libvirt_hosts.rs`, `tests/cli/libvirt_lists.rs`",
    ),
    (
        "virt-install 4.1.0",
        "`--import` of a bare-metal guest; `--location` of one from a directory, whose kernel and initrd go by a \
         pool and are gone from the definition; trees by http, `--initrd-inject`, `--unattended`, `--cloud-init`, \
         `--cdrom`, `--print-xml`, `--dry-run`, with systems named and detected; what it writes for Debian's disks \
         (BIOS, UEFI) boots",
        "`tests/cli/libvirt/`, `tests/cli/clients/install.rs`, `tests/testbed/installed.rs`",
    ),
    ("virt-xml, virt-clone 4.1.0", "`--edit --define`; `--auto-clone`", "`tests/cli/libvirt/`"),
    (
        "virt-viewer 11.0",
        "a guest's screen by a descriptor (`--attach`) and by its port (`--direct`)",
        "`tests/cli/clients/desktop.rs`",
    ),
    (
        "virt-manager 4.1.0",
        "the list of guests, a guest's details, its screen, also by `?socket=`",
        "`tests/cli/clients/desktop.rs`",
    ),
    (
        "Ansible 2.14, community.libvirt 1.2",
        "`virt`, `virt_net` and `virt_pool`: everything twice, and changed once; guests as an inventory",
        "`tests/cli/clients/ansible.rs`",
    ),
    (
        "Pacemaker's VirtualDomain 4.12",
        "validate-all, start, monitor, stop, by force too; a migration that is refused",
        "`tests/cli/clients/pacemaker.rs`",
    ),
    (
        "prometheus-libvirt-exporter 0.2, collectd 5.12, virt-top 1.1.1",
        "the figures of a guest, by libvirt's bindings for Go, C and OCaml; the last by libvirt 11.3 of Debian 13",
        "`tests/cli/clients/metrics.rs`",
    ),
    (
        "go-libvirt of DigitalOcean",
        "a guest's life, events, statistics, a volume up and down many times",
        "`tests/cli/clients/go.rs`",
    ),
    (
        "Sys::Virt 9.0.0, libvirt-dbus 1.4.1",
        "a guest's life, statistics, an upload, errors; guests as objects on a bus",
        "`tests/cli/clients/libraries.rs`",
    ),
    (
        "all of these, on the test driver",
        "virsh's commands one by one, a guest's life, `virt-install --import`, `virt-xml`, `virt-clone`, tests in Python",
        "`tests/cli/test_driver.rs`, `tests/cli/virsh_commands.rs`",
    ),
];

/// `docs/libvirt-compatibility.md`.
#[must_use]
pub fn compatibility() -> String {
    let mut page = HEAD.to_owned();
    let partly = PROCEDURES.iter().filter(|procedure| procedure.gap.is_some()).count();
    let _ = write!(
        page,
        "\n## Client by client\n\nWhat was run, and which tests go on running it.\n\n\
         | client | what was run | tests |\n|---|---|---|\n"
    );
    for (client, what, tests) in CLIENTS {
        let _ = writeln!(page, "| {client} | {what} | {tests} |");
    }
    let _ = write!(
        page,
        "\n## Procedures\n\n{} procedures work, {partly} work partly, {} are refused, {} are not there yet.\n\n\
         | number | procedure | state | operations | access |\n|---|---|---|---|---|\n",
        PROCEDURES.len() - partly,
        REFUSED.len(),
        NOT_YET.len(),
    );
    for procedure in PROCEDURES.iter().chain(QEMU_PROCEDURES) {
        let Procedure { number, name, operations, gap, .. } = procedure;
        let state = gap.map_or_else(|| "works".to_owned(), |gap| format!("partly: {gap}"));
        let _ = writeln!(
            page,
            "| {number} | {name} | {state} | {} | {} |",
            operations.join(", "),
            access(operations)
        );
    }
    page.push_str(
        "\n## Refused\n\nThey belong to what Manor leaves to others; the answer says so.\n\n\
         | number | procedure | why |\n|---|---|---|\n",
    );
    for (number, name, why) in REFUSED {
        let _ = writeln!(page, "| {number} | {name} | {why} |");
    }
    let _ = write!(
        page,
        "\n## Events\n\nWhat the daemon sends to those who registered a callback.\n\n\
         | number | event | state |\n|---|---|---|\n"
    );
    for (number, name, is_sent) in EVENTS {
        let state = if *is_sent { "works" } else { "never sent" };
        let _ = writeln!(page, "| {number} | {name} | {state} |");
    }
    page.push_str(
        "\n## Not yet\n\nAnswered as unknown procedures, which clients report as \"this function is \
         not supported by the\nconnection driver\".\n\n",
    );
    for (number, name) in NOT_YET.iter().chain(QEMU_NOT_YET) {
        let _ = writeln!(page, "- {number} {name}");
    }
    page
}

fn access(operations: &[&str]) -> &'static str {
    let of = |name: &&str| OPERATIONS.iter().find(|row| row.operation == *name);
    let needed = operations.iter().filter_map(of).map(|row| row.access).max();
    needed.map_or("none", management::Access::name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_libvirt_page_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/libvirt-compatibility.md");
        let page = compatibility();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == page,
            "docs/libvirt-compatibility.md is old; run with UPDATE_GOLDEN=1"
        );
    }

    #[test]
    fn every_procedure_of_libvirt_9_stands_in_the_table_once() {
        let mut all = BTreeMap::new();
        let own = PROCEDURES.iter().map(|procedure| (procedure.number, procedure.name));
        let events = EVENTS.iter().map(|(number, name, _)| (*number, *name));
        let refused = REFUSED.iter().map(|(number, name, _)| (*number, *name));
        let others = NOT_YET.iter().copied().chain(refused).chain(events);
        for (number, name) in own.chain(others) {
            assert_eq!(all.insert(number, name), None, "{number} {name}");
        }
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), (1..=443).collect::<Vec<_>>());
        assert!(PROCEDURES.is_sorted_by_key(|procedure| procedure.number), "sort it by number");
    }

    #[test]
    fn what_a_procedure_asks_for_is_an_operation() {
        for procedure in PROCEDURES {
            for name in procedure.operations {
                assert!(
                    OPERATIONS.iter().any(|row| row.operation == *name),
                    "{}: {name}",
                    procedure.name
                );
            }
        }
    }
}
