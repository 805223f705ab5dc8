//! A daemon that is killed at every word an apply says to the VMM: the guest goes on, its definition
//! is the old or the new one as a whole, and the same apply again makes the rest true.

use std::path::Path;

use super::doomed::{Part, apart};
use super::plan::{apply, plan, said};
use super::rig::{Daemon, Host};
use crate::domain::State;
use crate::jobs::Phase;
use crate::ops::{ApplyDomain, DumpXml, GetJob, ListJobs};

const ROLE: &str = "MANOR_TEST_APPLYING_DAEMON";
const DEVICES: [&str; 4] = ["vda", "vdb", "vdc", "cd"];

fn disk(host: &Path, target: &str, rest: &str) -> String {
    let path = host.join(format!("{target}.img")).display().to_string();
    format!(
        "<disk type='file'><source file='{path}'/><target dev='{target}' bus='virtio'/>{rest}</disk>"
    )
}

fn domain(host: &Host, dir: &Path, devices: &str) -> String {
    let ports = "<controller type='pci' index='1' model='pcie-root-port'/>\
                 <controller type='pci' index='2' model='pcie-root-port'/>";
    let script = format!("doom={}", dir.join("doom").display());
    host.xml_with("web", &script, &format!("{ports}{devices}"))
}

fn old(host: &Host, dir: &Path) -> String {
    let cdrom = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>";
    let disks = [disk(dir, "vda", ""), disk(dir, "vdc", "")].concat();
    domain(host, dir, &format!("{disks}{cdrom}"))
}

/// Of every kind of step one: a disk goes, another comes, a medium, memory and a limit change.
fn new(host: &Host, dir: &Path) -> String {
    let limit = "<iotune><total_iops_sec>500</total_iops_sec></iotune>";
    let medium = dir.join("cd.img").display().to_string();
    let cdrom = format!(
        "<disk type='file' device='cdrom'><source file='{medium}'/><target dev='sda' bus='sata'/></disk>"
    );
    let disks = [disk(dir, "vda", limit), disk(dir, "vdb", "")].concat();
    domain(host, dir, &format!("{disks}{cdrom}"))
        .replace("<vcpu>", "<currentMemory unit='MiB'>48</currentMemory><vcpu>")
}

async fn xml(daemon: &Daemon, inactive: bool) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap()
}

/// The daemon to be killed: a process of its own, started by the test below.
#[tokio::test]
async fn plays_the_applying_daemon_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (dir, doom) = role.split_once(' ').unwrap();
    let dir = Path::new(dir);
    let mut host = Host::new();
    host.config.state_dir = dir.join("state");
    host.config.run_dir = dir.join("run");
    host.config.log_dir = dir.join("log");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let daemon = host.daemon().await;
    daemon.define(read("old.xml")).await;
    daemon.start("web").await.unwrap();
    std::fs::write(dir.join("before.xml"), xml(&daemon, true).await).unwrap();
    std::fs::write(dir.join("pid"), daemon.pid("web").await.to_string()).unwrap();
    // From here on the VMM counts what it is told.
    std::fs::write(dir.join("doom"), doom).unwrap();
    let applied = daemon.call(ApplyDomain { domain: "web".into(), xml: read("new.xml") }).await;
    let wait = std::time::Duration::from_secs(20);
    let job = daemon.call(GetJob { job: applied.unwrap().id, wait }).await.unwrap();
    assert_eq!(job.phase, Phase::Done, "{job:?}");
    std::fs::write(dir.join("survived"), "").unwrap();
}

#[test]
fn an_apply_that_is_killed_at_any_step_is_finished_by_the_next() {
    let test = "tests::apply_crash::plays_the_applying_daemon_when_it_is_started_as_one";
    let part = Part { test, role: ROLE };
    for moment in ["before", "after"] {
        let mut left = Vec::new();
        for count in 0.. {
            assert!(count < 60, "an apply says ever more to the VMM");
            let host = Host::new();
            let dir = host.dir.path();
            for name in DEVICES {
                std::fs::write(dir.join(format!("{name}.img")), [0; 4096]).unwrap();
            }
            std::fs::write(dir.join("old.xml"), old(&host, dir)).unwrap();
            std::fs::write(dir.join("new.xml"), new(&host, dir)).unwrap();
            if part.survives(&host, moment, count) {
                break;
            }
            let when = format!("killed {moment} word {count}");
            assert!(dir.join("pid").exists(), "{when}: it did not come so far");
            left.push(apart(taken_up(&host, &when)));
        }
        assert!(left.len() >= 8, "only {} places to die were tried", left.len());
        assert!(left[0] >= 4, "there was not much to do: {left:?}");
        assert!(left.is_sorted_by(|one, next| one >= next), "what was done is undone: {left:?}");
        assert_eq!(left.last(), Some(&0), "{moment}");
    }
}

/// How many differences there still are for the next daemon.
async fn taken_up(host: &Host, when: &str) -> usize {
    let dir = host.dir.path();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let (before, new) = (read("before.xml"), read("new.xml"));
    let daemon = host.daemon().await;
    daemon.wait_for("web", "running", |state| matches!(state, State::Running(_))).await;
    assert_eq!(daemon.pid("web").await.to_string(), read("pid"), "{when}: another guest runs");
    let jobs = daemon.call(ListJobs).await.unwrap();
    let phases: Vec<_> = jobs.iter().map(|job| (job.kind.as_str(), job.phase)).collect();
    assert_eq!(phases, [("domain-apply", Phase::Interrupted)], "{when}");
    let stored = xml(&daemon, true).await;

    let rest = said(&plan(&daemon, &new).await.unwrap());
    assert!(rest.iter().all(|line| line.starts_with("live ")), "{when}: {rest:?}");
    apply(&daemon, &new).await.unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(said(&plan(&daemon, &new).await.unwrap()), [""; 0], "{when}");
    let applied = xml(&daemon, true).await;
    assert!(stored == before || stored == applied, "{when}: half a definition: {stored}");
    let live = xml(&daemon, false).await;
    for (part, is_there) in [
        ("dev='vdb'", true),
        ("dev='vdc'", false),
        ("cd.img", true),
        ("<total_iops_sec>500<", true),
        ("<currentMemory unit='KiB'>49152<", true),
    ] {
        assert_eq!(live.contains(part), is_there, "{when}: {part} in {live}");
        assert_eq!(applied.contains(part), is_there, "{when}: {part} in {applied}");
    }
    rest.len()
}
