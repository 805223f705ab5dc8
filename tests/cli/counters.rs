//! The verbs that count, on a guest with a disk of every bus.

use std::path::Path;

use super::faults::with_disk;
use super::guests::{defined, ok};
use super::rig::Rig;

const MAC: &str = "52:54:00:11:22:44";
/// By target and bus.
const DISKS: [(&str, &str); 4] =
    [("vda", "virtio"), ("sda", "scsi"), ("sdb", "sata"), ("nvme0n1", "nvme")];

fn has_taps() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/dev/net/tun").exists()
}

/// `echo` with all of them, an interface where one can be had, and an io thread.
fn define(rig: &Rig) {
    let mut devices = String::new();
    for (target, bus) in DISKS {
        rig.write(target, vec![0; 1 << 20]);
        let serial = if bus == "nvme" { "<serial>one</serial>" } else { "" };
        devices += &format!(
            "<disk type='file'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='{target}' bus='{bus}'/>{serial}</disk>",
            rig.path(target).display()
        );
    }
    if has_taps() {
        devices += &format!(
            "<interface type='ethernet'><mac address='{MAC}'/><model type='virtio'/></interface>"
        );
    }
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    let xml = xml.replace("</devices>", &format!("{devices}</devices>"));
    rig.write("echo.xml", xml.replace("<os>", "<iothreads>2</iothreads><os>"));
    ok(rig, &["define", "echo.xml"]);
}

#[test]
fn every_group_and_every_bus_is_counted() {
    let Some(rig) = defined() else { return };
    define(&rig);
    // Of a guest that is off there is little to say, and no error in saying it.
    let off = ok(&rig, &["domstats", "echo"]);
    assert!(off.contains("state.state=5\n") && !off.contains("block.count"), "{off}");
    ok(&rig, &["start", "echo"]);
    let all = ok(&rig, &["domstats", "echo"]);
    let groups = [
        ("--state", "state.reason="),
        ("--cpu-total", "cpu.time="),
        ("--balloon", "balloon.rss="),
        ("--vcpu", "vcpu.0.time="),
        ("--interface", "net.count="),
        ("--block", "block.count=4\n"),
        ("--iothread", "iothread.count=2\n  iothread.1.poll-max-ns=0\n"),
    ];
    for (group, key) in groups {
        assert!(all.contains(key), "{key}: {all}");
        let one = ok(&rig, &["domstats", group, "echo"]);
        let others = groups.iter().filter(|(other, _)| *other != group);
        assert!(one.contains(key), "{group}: {one}");
        assert!(others.into_iter().all(|(_, key)| !one.contains(key)), "{group}: {one}");
    }
    for (index, (target, _)) in DISKS.iter().enumerate() {
        let said = ok(&rig, &["domblkstat", "echo", target]);
        for counter in ["rd_req", "rd_bytes", "wr_req", "wr_bytes", "flush_operations", "errs"] {
            assert!(said.contains(&format!("{target} {counter} 0\n")), "{index} {target}: {said}");
        }
    }
    assert_eq!(ok(&rig, &["domblkerror", "echo"]).trim(), "No errors found");
    let threads = ok(&rig, &["iothreadinfo", "echo"]);
    let rows: Vec<_> = threads.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(rows.ends_with(&["1", "2"]), "{threads}");
    if has_taps() {
        let said = ok(&rig, &["domifstat", "echo", MAC]);
        for counter in ["rx_bytes", "rx_packets", "rx_drop", "tx_bytes", "tx_packets", "tx_drop"] {
            assert!(said.contains(&format!("{counter} ")), "{said}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&ok(&rig, &["domifstat", "echo", MAC, "--json"])).unwrap();
        assert_eq!(json["mac"], MAC);
    } else {
        println!("SKIP: no tap can be made here, so that domifstat is not looked at");
    }
    let none = rig.manor(["domifstat", "echo", "52:54:00:00:00:00"]);
    assert!(none.status == 3 && none.err.contains("not a known interface"), "{}", none.err);
    ok(&rig, &["destroy", "echo"]);
    let off = rig.virsh(["domblkerror", "echo"]);
    assert!(off.status == 1 && off.err.contains("domain is not running"), "{}", off.err);
}

#[test]
fn what_a_guest_writes_is_counted() {
    let Some(rig) = defined() else { return };
    std::fs::File::create(rig.path("disk")).unwrap().set_len(8 << 20).unwrap();
    rig.write("kernel", super::faults::filling());
    with_disk(&rig, "", "disk");
    ok(&rig, &["define", "echo.xml"]);
    ok(&rig, &["start", "echo"]);
    let written = || ok(&rig, &["domblkstat", "echo", "vda"]);
    super::rig::wait_for("the guest to be done", || written().contains("vda wr_req 60\n"));
    let written = written();
    assert!(written.contains("vda wr_bytes 30720\nvda flush_operations 0\n"), "{written}");
    assert!(written.contains("vda errs 0\n") && written.contains("vda rd_total_times 0\n"));
    let took = written.lines().find_map(|line| line.strip_prefix("vda wr_total_times "));
    assert!(
        took.is_some_and(|took| (1..60_000_000_000).contains(&took.parse::<u64>().unwrap())),
        "{written}"
    );
}
