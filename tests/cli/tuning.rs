//! Shares, limits and pins, in definitions and in guests of the local KVM.

use super::guests::{defined, ok};
use super::rig::{Rig, UUID, definition};

fn off() -> Rig {
    let rig = Rig::new();
    rig.write("d.xml", definition("demo", UUID));
    ok(&rig, &["define", "d.xml"]);
    rig
}

#[test]
fn a_domain_that_is_off_is_tuned_in_its_definition() {
    let rig = off();
    let set = rig.virsh(["schedinfo", "demo", "--set", "cpu_shares=200", "vcpu_quota=20000"]);
    let expected = "\
Scheduler      : posix
cpu_shares     : 200
vcpu_period    : 100000
vcpu_quota     : 20000
emulator_period: 100000
emulator_quota : -1
global_period  : 100000
global_quota   : -1
iothread_period: 100000
iothread_quota : -1

";
    assert_eq!((set.status, set.out.as_str(), set.err.as_str()), (0, expected, ""));
    assert_eq!(ok(&rig, &["schedinfo", "demo", "--config"]), expected);
    let memory = |hard: &str| {
        format!(
            "hard_limit     : {hard}\nsoft_limit     : unlimited\nswap_hard_limit: unlimited\n\n"
        )
    };
    assert_eq!(ok(&rig, &["memtune", "demo"]), memory("unlimited"));
    ok(&rig, &["memtune", "demo", "--hard-limit", "1G"]);
    assert_eq!(ok(&rig, &["memtune", "demo"]), memory("1048576"));
    ok(&rig, &["memtune", "demo", "--hard-limit", "-1"]);
    assert_eq!(ok(&rig, &["memtune", "demo"]), memory("unlimited"));
    ok(&rig, &["blkiotune", "demo", "--weight", "500", "--device-read-bytes-sec", "/dev/x,4096"]);
    let block = "\
weight         : 500
device_weight  : 
device_read_iops_sec: 
device_write_iops_sec: 
device_read_bytes_sec: /dev/x,4096
device_write_bytes_sec: 

";
    assert_eq!(ok(&rig, &["blkiotune", "demo"]), block);
    ok(&rig, &["vcpupin", "demo", "1", "0-1,^1"]);
    let pins = ok(&rig, &["vcpupin", "demo"]);
    let (header, rows) = pins.split_once("\n-").unwrap();
    assert_eq!(header, " VCPU   CPU Affinity");
    assert!(rows.contains("\n 1      0\n"), "{pins}");
    ok(&rig, &["emulatorpin", "demo", "--cpulist", "0"]);
    assert!(ok(&rig, &["emulatorpin", "demo"]).ends_with("\n *           0\n\n"));
    let xml = ok(&rig, &["dumpxml", "demo"]);
    for part in [
        "<shares>200</shares>",
        "<quota>20000</quota>",
        "<vcpupin vcpu='1' cpuset='0'/>",
        "<emulatorpin cpuset='0'/>",
        "<weight>500</weight>",
    ] {
        assert!(xml.contains(part), "{part} in {xml}");
    }
    assert!(!xml.contains("memtune"), "{xml}");
}

#[test]
fn a_domain_starts_with_the_vcpus_and_the_memory_that_are_set() {
    let rig = off();
    ok(&rig, &["setvcpus", "demo", "4", "--maximum", "--config"]);
    ok(&rig, &["setvcpus", "demo", "3"]);
    let counts = "maximum      config         4\ncurrent      config         3\n\n";
    assert_eq!(ok(&rig, &["vcpucount", "demo"]), counts);
    assert_eq!(ok(&rig, &["vcpucount", "demo", "--maximum", "--config"]), "4\n\n");
    ok(&rig, &["setmaxmem", "demo", "256M"]);
    assert!(ok(&rig, &["vcpuinfo", "demo"]).contains("CPU time:       N/A\n"));
    assert!(ok(&rig, &["nodecpustats"]).starts_with("user:"));
    let memory = ok(&rig, &["nodememstats"]);
    assert!(memory.starts_with("total  :") && memory.contains(" KiB\nfree   :"), "{memory}");
    let xml = ok(&rig, &["dumpxml", "demo"]);
    assert!(xml.contains(" current='3'>4</vcpu>"), "{xml}");
    assert!(xml.contains("<memory unit='KiB'>262144</memory>"), "{xml}");
    let more = rig.virsh(["setvcpus", "demo", "5"]);
    assert!(more.status == 1 && more.err.contains("at most 4"), "{}", more.err);
    let off = rig.virsh(["domblkstat", "demo"]);
    assert!(off.status == 1 && off.err.contains("domain is not running"), "{}", off.err);
}

#[test]
fn what_cannot_be_is_said_and_changes_nothing() {
    let rig = off();
    for (args, said) in [
        (&["schedinfo", "demo", "--set", "cpu_shares=20000"][..], "1 to 10000"),
        (&["schedinfo", "demo", "cpu_cap=1"], "invalid scheduler option: cpu_cap=1"),
        (&["memtune", "demo", "--swap-hard-limit", "1G"], "<hard_limit>"),
        (&["blkiotune", "demo", "--weight", "5"], "from 10 to 1000"),
        (&["vcpupin", "demo", "2", "0"], "there is no vCPU 2"),
        (&["vcpupin", "demo", "0", "3-1"], "Invalid cpulist '3-1'"),
        (&["iothreadpin", "demo", "1", "0"], "there is no io thread 1"),
        (&["memtune", "demo", "--live"], "is not running"),
    ] {
        let outcome = rig.virsh(args);
        assert!(outcome.status == 1 && outcome.err.contains(said), "{args:?}: {}", outcome.err);
    }
    let xml = ok(&rig, &["dumpxml", "demo"]);
    assert!(!xml.contains("tune"), "{xml}");
}

/// The host CPUs on which a thread of this name may run; without one, the main thread.
fn allowed(pid: &str, thread: &str) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut found = threads.filter(|entry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        name.trim() == thread || (thread.is_empty() && entry.file_name() == *pid)
    });
    let status = found.next().unwrap().path().join("status");
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

#[test]
fn a_running_guest_is_pinned_and_let_go() {
    let Some(rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    let live = rig.virsh(["setvcpus", "echo", "1"]);
    assert!(live.err.contains("cannot change while the guest runs"), "{}", live.err);
    let json: serde_json::Value =
        serde_json::from_str(&ok(&rig, &["dominfo", "echo", "--json"])).unwrap();
    let pid = json["pid"].to_string();
    let everywhere = allowed(&pid, "vcpu0");
    ok(&rig, &["vcpupin", "echo", "0", "0", "--live"]);
    assert_eq!(allowed(&pid, "vcpu0"), "0");
    let info = ok(&rig, &["vcpuinfo", "echo"]);
    assert!(info.starts_with("VCPU:           0\nCPU:            "), "{info}");
    assert!(info.contains("State:          running\n") && !info.contains("N/A"), "{info}");
    assert!(info.contains("CPU Affinity:   y"), "{info}");
    assert_eq!(allowed(&pid, ""), everywhere, "the VMM's own thread was not meant");
    assert!(!ok(&rig, &["dumpxml", "echo", "--inactive"]).contains("vcpupin"));
    ok(&rig, &["emulatorpin", "echo", "0"]);
    assert_eq!(allowed(&pid, ""), "0");
    ok(&rig, &["vcpupin", "echo", "0", "r"]);
    assert_eq!(allowed(&pid, "vcpu0"), everywhere);
    // A limit is in force, or it is an error that names what the host lacks.
    let limited = rig.virsh(["memtune", "echo", "--hard-limit", "512M"]);
    if limited.status == 0 {
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let limit = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).unwrap();
        assert_eq!(limit.trim(), (512 << 20).to_string());
    } else {
        assert!(limited.err.contains("cgroup"), "{}", limited.err);
        assert!(ok(&rig, &["memtune", "echo"]).contains("hard_limit     : unlimited"));
        println!("SKIP: limits in force: {}", limited.err.trim());
    }
    ok(&rig, &["destroy", "echo"]);
}
