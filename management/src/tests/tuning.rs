//! Limits and pins of domains: at their start, while they run, and after another daemon.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use broker::{
    Broker, BrokerError, CpuQuota, Granted, Limits, NetworkAct, Request, TapQueues, ThreadRule,
    Threads, Traffic, TrafficRate,
};

use super::rig::{Daemon, Host, TestBroker};
use crate::domain::record::Record;
use crate::domain::{
    Affects, CpuTuning, DiskTuning, InterfaceTuning, MemoryTuning, Pin, Pins, RateTuning, Tuning,
};
use crate::error::{Code, Error};
use crate::ops::{DumpXml, GetTuning, TuneDomain};

const CURRENT: Affects = Affects { live: false, config: false };
const LIVE: Affects = Affects { live: true, config: false };
const CONFIG: Affects = Affects { live: false, config: true };
const BOTH: Affects = Affects { live: true, config: true };

/// A host with cgroups: notes what is limited, and fails when told to.
struct Noting {
    local: TestBroker,
    limits: Mutex<Vec<Limits>>,
    rules: Mutex<Vec<ThreadRule>>,
    fails: Mutex<bool>,
    traffic: Mutex<Vec<(String, Traffic)>>,
}

impl Noting {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            local: TestBroker::new(),
            limits: Mutex::default(),
            rules: Mutex::default(),
            fails: Mutex::new(false),
            traffic: Mutex::default(),
        })
    }

    fn last(&self) -> Limits {
        self.limits.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn take_rules(&self) -> Vec<ThreadRule> {
        std::mem::take(&mut self.rules.lock().unwrap())
    }
}

impl Broker for Noting {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        match request {
            Request::MakeCgroup { name } => Ok(Granted::Path(format!("/cgroup/{name}").into())),
            Request::RemoveCgroup { .. } => Ok(Granted::Done),
            Request::Limit { limits, .. } => {
                let refused = std::mem::take(&mut *self.fails.lock().unwrap());
                if refused {
                    let reason = "not in this test".to_owned();
                    return Err(BrokerError::NoController { controller: "memory".into(), reason });
                }
                self.limits.lock().unwrap().push(limits);
                Ok(Granted::Done)
            }
            Request::Network(NetworkAct::Shape { interface, traffic, .. }) => {
                self.traffic.lock().unwrap().push((interface, traffic));
                Ok(Granted::Done)
            }
            // A tap that needs nothing of the host.
            Request::OpenTap(_) => {
                let queue = std::fs::File::open("/dev/null").unwrap().into();
                Ok(Granted::Tap(TapQueues { name: "vnet7".to_owned(), queues: vec![queue] }))
            }
            Request::TuneThreads { rules, .. } => {
                self.rules.lock().unwrap().extend(rules);
                Ok(Granted::Done)
            }
            Request::Spawn { role, name, stdio, limits, .. } => {
                self.limits.lock().unwrap().push(limits);
                let limits = Limits::default();
                self.local
                    .perform(Request::Spawn { role, name, stdio, cgroup: None, limits }, files)
            }
            Request::Kill { process, .. } => {
                self.local.perform(Request::Kill { process, cgroup: None }, files)
            }
            other => self.local.perform(other, files),
        }
    }
}

fn xml(host: &Host, tuning: &str) -> String {
    host.xml("web", "").replace("<devices>", &format!("{tuning}<devices>"))
}

fn memory(bytes: u64) -> Tuning {
    let memory = MemoryTuning { hard_limit_bytes: Some(bytes), ..MemoryTuning::default() };
    Tuning { memory, ..Tuning::default() }
}

async fn tune(daemon: &Daemon, change: Tuning, affects: Affects) -> Result<(), Error> {
    daemon.call(TuneDomain { domain: "web".into(), change, affects }).await
}

async fn read(daemon: &Daemon, affects: Affects) -> Result<Tuning, Error> {
    daemon.call(GetTuning { domain: "web".into(), affects }).await
}

async fn hard_limits(daemon: &Daemon) -> [Option<u64>; 2] {
    let of = async |affects| read(daemon, affects).await.unwrap().memory.hard_limit_bytes;
    [of(LIVE).await, of(CONFIG).await]
}

#[tokio::test]
async fn a_domain_starts_with_the_limits_of_its_definition() {
    let host = Host::new();
    let broker = Noting::new();
    let daemon = host.daemon_with(broker.clone()).await;
    let tuning = "<cputune><shares>300</shares><quota>20000</quota><global_quota>50000</global_quota>\
                  <vcpupin vcpu='1' cpuset='0'/><emulatorpin cpuset='0-1'/></cputune>\
                  <memtune><hard_limit unit='MiB'>200</hard_limit></memtune>";
    daemon.define(xml(&host, tuning)).await;
    daemon.start("web").await.unwrap();
    let expected = Limits {
        cpu_weight: Some(300),
        cpu: Some(CpuQuota { quota: 50_000, period: 100_000 }),
        memory_max: Some(200 << 20),
        ..Limits::default()
    };
    assert_eq!(broker.last(), expected);
    let quota = Some(CpuQuota { quota: 20_000, period: 100_000 });
    let rule = |threads, cpus: &[u16], quota| {
        let cpus = Some(cpus.to_vec());
        ThreadRule { threads, cpus, quota }
    };
    let rules = [
        rule(Threads::Vcpu(0), &[], quota),
        rule(Threads::Vcpu(1), &[0], quota),
        rule(Threads::Emulator, &[0, 1], None),
    ];
    assert_eq!(broker.take_rules(), rules);
    let pins = read(&daemon, CURRENT).await.unwrap().pins;
    let pin = |id, cpus: &[u16]| Pin { id, cpus: cpus.to_vec() };
    assert_eq!(pins.vcpus, [pin(0, &[]), pin(1, &[0])]);
}

#[tokio::test]
async fn limits_change_where_it_is_meant_and_the_next_daemon_knows() {
    let host = Host::new();
    let broker = Noting::new();
    let daemon = host.daemon_with(broker.clone()).await;
    daemon.define(xml(&host, "")).await;
    assert_eq!(tune(&daemon, memory(1 << 30), LIVE).await.unwrap_err().code, Code::InvalidState);
    daemon.start("web").await.unwrap();
    tune(&daemon, memory(1 << 30), CURRENT).await.unwrap();
    assert_eq!(broker.last().memory_max, Some(1 << 30));
    assert_eq!(hard_limits(&daemon).await, [Some(1 << 30), None]);
    tune(&daemon, memory(2 << 30), CONFIG).await.unwrap();
    assert_eq!(broker.last().memory_max, Some(1 << 30), "only the definition was meant");
    assert_eq!(hard_limits(&daemon).await, [Some(1 << 30), Some(2 << 30)]);
    drop(daemon);
    let daemon = host.daemon_with(broker.clone()).await;
    assert_eq!(hard_limits(&daemon).await, [Some(1 << 30), Some(2 << 30)]);
    tune(&daemon, memory(0), BOTH).await.unwrap();
    assert_eq!(broker.last(), Limits::default());
    assert_eq!(hard_limits(&daemon).await, [None, None]);
    let stored = DumpXml { domain: "web".into(), inactive: true };
    assert!(!daemon.call(stored).await.unwrap().contains("memtune"));
}

#[tokio::test]
async fn what_the_host_refuses_changes_nothing() {
    let host = Host::new();
    let broker = Noting::new();
    let daemon = host.daemon_with(broker.clone()).await;
    daemon.define(xml(&host, "")).await;
    daemon.start("web").await.unwrap();
    *broker.fails.lock().unwrap() = true;
    let error = tune(&daemon, memory(1 << 30), BOTH).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing);
    assert!(error.message.contains("\"memory\""), "{error}");
    assert_eq!(hard_limits(&daemon).await, [None, None]);
    let cpu = CpuTuning { shares: Some(20_000), ..CpuTuning::default() };
    let error = tune(&daemon, Tuning { cpu, ..Tuning::default() }, BOTH).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert_eq!(read(&daemon, BOTH).await.unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn only_threads_that_are_pinned_anew_are_touched() {
    let host = Host::new();
    let broker = Noting::new();
    let daemon = host.daemon_with(broker.clone()).await;
    daemon.define(xml(&host, "")).await;
    daemon.start("web").await.unwrap();
    assert_eq!(broker.take_rules(), []);
    let pins = |cpus: &[u16]| {
        let pins = Pins { vcpus: vec![Pin { id: 1, cpus: cpus.to_vec() }], ..Pins::default() };
        Tuning { pins, ..Tuning::default() }
    };
    let rule = |cpus: &[u16]| ThreadRule {
        threads: Threads::Vcpu(1),
        cpus: Some(cpus.to_vec()),
        quota: None,
    };
    tune(&daemon, pins(&[0]), CURRENT).await.unwrap();
    assert_eq!(broker.take_rules(), [rule(&[0])]);
    tune(&daemon, pins(&[]), CURRENT).await.unwrap();
    assert_eq!(broker.take_rules(), [rule(&[])], "it runs everywhere again");
}

#[tokio::test]
async fn a_change_that_was_written_down_and_not_made_is_made_by_the_next_daemon() {
    let host = Host::new();
    let broker = Noting::new();
    let daemon = host.daemon_with(broker.clone()).await;
    daemon.define(xml(&host, "")).await;
    daemon.start("web").await.unwrap();
    tune(&daemon, memory(1 << 30), LIVE).await.unwrap();
    drop(daemon);
    // As a daemon leaves it that dies before the cgroup has the limit.
    let dir = &host.run_dirs()[0];
    let mut record = Record::read(dir).unwrap();
    assert_eq!(record.tuning, None, "a change that is made is not under way");
    record.tuning = Some(record.live.replace("<hard_limit unit='KiB'>1048576", "<hard_limit>9"));
    assert!(record.tuning.as_ref().unwrap().contains("<hard_limit>9<"), "{record:?}");
    record.write(dir).unwrap();
    broker.limits.lock().unwrap().clear();
    let daemon = host.daemon_with(broker.clone()).await;
    daemon.wait_for("web", "running", |state| state.name() == "running").await;
    assert_eq!(broker.last().memory_max, Some(1 << 30));
    drop(daemon);
    assert_eq!(Record::read(dir).unwrap().tuning, None);
    broker.limits.lock().unwrap().clear();
    let daemon = host.daemon_with(broker.clone()).await;
    daemon.wait_for("web", "running", |state| state.name() == "running").await;
    assert_eq!(broker.last(), Limits::default(), "nothing is under way");
}

#[tokio::test]
async fn what_passes_a_tap_is_limited_at_the_start_and_while_the_guest_runs() {
    let host = Host::new();
    let broker = Noting::new();
    let daemon = host.daemon_with(broker.clone()).await;
    let interface = "<interface type='ethernet'><mac address='52:54:00:11:22:33'/>\
                     <model type='virtio'/><bandwidth><inbound average='1000' peak='2000'/>\
                     </bandwidth></interface>";
    daemon.define(host.xml_with("web", "", interface)).await;
    daemon.start("web").await.unwrap();
    let rate = |average, peak, burst| Some(TrafficRate { average, peak, burst });
    let inbound = rate(1_000_000, Some(2_000_000), None);
    let take = || std::mem::take(&mut *broker.traffic.lock().unwrap());
    assert_eq!(take(), [("vnet7".to_owned(), Traffic { inbound, outbound: None })]);
    let outbound = Some(RateTuning { average: 500, peak: None, burst: Some(64) });
    let change = |interface: &str, outbound| {
        let interface = interface.to_owned();
        let interfaces = vec![InterfaceTuning { interface, inbound: None, outbound }];
        Tuning { interfaces, ..Tuning::default() }
    };
    // The tap's name is of this run; the stored interface is found by it all the same.
    tune(&daemon, change("vnet7", outbound), BOTH).await.unwrap();
    let both = Traffic { inbound, outbound: rate(500_000, None, Some(65_536)) };
    assert_eq!(take(), [("vnet7".to_owned(), both)]);
    for affects in [LIVE, CONFIG] {
        assert_eq!(read(&daemon, affects).await.unwrap().interfaces[0].outbound, outbound);
    }
    let absent = tune(&daemon, change("vnet8", outbound), LIVE).await.unwrap_err();
    assert_eq!(absent.code, Code::DeviceNotFound);
    let less = RateTuning { average: 500, peak: Some(1), burst: None };
    let wrong = tune(&daemon, change("vnet7", Some(less)), LIVE).await.unwrap_err();
    assert_eq!(wrong.code, Code::InvalidArgument);
    daemon.destroy("web").await.unwrap();
    assert_eq!(take(), [("vnet7".to_owned(), Traffic::default())], "it may be the user's own");
}

#[tokio::test]
async fn disks_are_limited_by_target_and_groups_as_a_whole() {
    let host = Host::new();
    let daemon = host.daemon_with(Noting::new()).await;
    let disk = |target: &str, tune: &str| {
        let path = host.path("disk.img").display().to_string();
        format!(
            "<disk type='file'><source file='{path}'/><target dev='{target}' bus='virtio'/>\
             <iotune>{tune}</iotune><shareable/></disk>"
        )
    };
    let group = "<total_iops_sec>100</total_iops_sec><group_name>g</group_name>";
    let disks = disk("vda", group) + &disk("vdb", group);
    daemon.define(host.xml_with("web", "", &disks)).await;
    daemon.start("web").await.unwrap();
    let change = |disk: &str, total_iops_sec| {
        let disk = DiskTuning { disk: disk.into(), total_iops_sec, ..DiskTuning::default() };
        Tuning { disks: vec![disk], ..Tuning::default() }
    };
    tune(&daemon, change("vdb", Some(200)), CURRENT).await.unwrap();
    let tuned = read(&daemon, LIVE).await.unwrap().disks;
    assert!(tuned.iter().all(|disk| disk.total_iops_sec == Some(200)), "{tuned:?}");
    assert_eq!(read(&daemon, CONFIG).await.unwrap().disks[0].total_iops_sec, Some(100));
    let absent = tune(&daemon, change("vdc", Some(1)), CURRENT).await.unwrap_err();
    assert_eq!(
        (absent.code, &*absent.message),
        (Code::DeviceNotFound, "the domain has no disk \"vdc\"")
    );
}
