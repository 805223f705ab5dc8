//! What domains do when all goes well, and when guests end by themselves.

use tokio::io::AsyncReadExt as _;

use super::rig::{Host, lifecycle_until, next};
use crate::domain::{Paused, Running, ShutOff, State};
use crate::error::Code;
use crate::events::{EventKind, Lifecycle};
use crate::ops::{
    CreateDomain, DomainFilter, DumpXml, GetAllStats, GetDomainStats, ListDisks, ListDomains,
    OpenConsole, RebootDomain, RenameDomain, ResetDomain, ResumeDomain, SetAutostart,
    ShutdownDomain, StartDomain, SuspendDomain, UndefineDomain,
};

#[tokio::test]
async fn a_domain_is_defined_started_paused_resumed_and_shut_down() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let mut events = daemon.subscribe(0).await;
    let defined = daemon.define(host.xml("web", "")).await;
    assert!(!defined.updated);
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Unknown));

    daemon.start("web").await.unwrap();
    let running = daemon.find("web").await.unwrap();
    assert_eq!((running.id, running.state), (Some(1), State::Running(Running::Booted)));
    assert_eq!((running.vcpus, running.memory), (2, 65536));

    daemon.call(SuspendDomain { domain: "web".into() }).await.unwrap();
    assert_eq!(daemon.state("web").await, State::Paused(Paused::User));
    daemon.call(ResumeDomain { domain: "web".into() }).await.unwrap();
    assert_eq!(daemon.state("web").await, State::Running(Running::Unpaused));
    daemon.call(ShutdownDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    daemon.wait_for("web", "off", |state| state == State::ShutOff(ShutOff::Shutdown)).await;

    let seen = lifecycle_until(&mut events, Lifecycle::StoppedShutdown).await;
    let expected = [
        Lifecycle::DefinedAdded,
        Lifecycle::StartedBooted,
        Lifecycle::SuspendedPaused,
        Lifecycle::ResumedUnpaused,
        Lifecycle::StoppedShutdown,
    ];
    assert_eq!(seen, expected);
    assert_eq!(host.run_dirs(), Vec::<std::path::PathBuf>::new(), "nothing is left behind");
    assert_eq!(daemon.find("web").await.unwrap().id, None);
}

#[tokio::test]
async fn a_domain_starts_again_with_a_new_number() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    for id in 1..4 {
        daemon.start("web").await.unwrap();
        assert_eq!(daemon.find("web").await.unwrap().id, Some(id));
        daemon.destroy("web").await.unwrap();
        assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Destroyed));
    }
}

#[tokio::test]
async fn a_paused_start_waits_for_resume() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon
        .call(StartDomain {
            domain: "web".into(),
            paused: true,
            reset_variables: false,
            force_boot: false,
            force: false,
        })
        .await
        .unwrap();
    assert_eq!(daemon.state("web").await, State::Paused(Paused::User));
    daemon.call(ResumeDomain { domain: "web".into() }).await.unwrap();
    assert!(matches!(daemon.state("web").await, State::Running(_)));
}

#[tokio::test]
async fn a_transient_domain_vanishes_when_it_stops() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let xml = host.xml("temp", "");
    let created = daemon
        .call(CreateDomain { xml, cloud_init: None, paused: false, reset_variables: false })
        .await
        .unwrap();
    let summary = daemon.find("temp").await.unwrap();
    assert!(!summary.persistent && summary.uuid == created.domain.uuid);
    daemon.destroy("temp").await.unwrap();
    assert_eq!(daemon.find("temp").await.unwrap_err().code, Code::NotFound);
    assert!(daemon.names().await.is_empty());
    // Its name is free again.
    daemon.define(host.xml("temp", "")).await;
}

#[tokio::test]
async fn undefine_makes_a_running_domain_transient_and_define_makes_it_persistent() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    daemon
        .call(UndefineDomain {
            domain: "web".into(),
            variables: None,
            managed_save: false,
            snapshots: false,
        })
        .await
        .unwrap();
    assert!(!daemon.find("web").await.unwrap().persistent);
    let live = daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
    let defined = daemon
        .call(crate::ops::DefineDomain { xml: live, cloud_init: None, check_only: false })
        .await;
    defined.unwrap();
    assert!(daemon.find("web").await.unwrap().persistent);
    daemon.destroy("web").await.unwrap();
    assert_eq!(daemon.names().await, ["web"]);
    daemon
        .call(UndefineDomain {
            domain: "web".into(),
            variables: None,
            managed_save: false,
            snapshots: false,
        })
        .await
        .unwrap();
    assert!(daemon.names().await.is_empty());
}

#[tokio::test]
async fn a_changed_definition_waits_for_the_next_start() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let uuid = daemon.define(host.xml("web", "")).await.domain.uuid;
    daemon
        .call(SetAutostart { domain: "web".into(), autostart: true, turn: Default::default() })
        .await
        .unwrap();
    daemon.start("web").await.unwrap();
    assert!(!daemon.describe("web").await.pending_changes);
    let changed = host
        .xml("web", "")
        .replace("<memory unit='MiB'>64", &format!("<uuid>{uuid}</uuid><memory unit='MiB'>128"));
    assert!(daemon.define(changed).await.updated);
    let details = daemon.describe("web").await;
    assert!(details.pending_changes && details.summary.autostart);
    assert_eq!(details.summary.max_memory, 65536);
    let stored = daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
    assert!(stored.contains("131072"), "{stored}");
    daemon.destroy("web").await.unwrap();
    assert_eq!(daemon.find("web").await.unwrap().max_memory, 131_072);
}

#[tokio::test]
async fn a_reboot_is_a_shutdown_that_starts_again() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    let mut events = daemon.subscribe(0).await;
    daemon.call(RebootDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    while next(&mut events).await.kind != EventKind::Reboot {}
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    let mut console = daemon.console("web").await;
    let mut seen = [0; 14];
    console.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"boot 1\nboot 2\n");
    // The next shutdown is one.
    daemon.call(ShutdownDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    daemon.wait_for("web", "off", |state| !state.is_active()).await;
}

#[tokio::test]
async fn a_shutdown_after_a_reboot_that_the_guest_ignored_is_a_shutdown() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "deaf")).await;
    daemon.start("web").await.unwrap();
    daemon.call(RebootDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    daemon.call(ShutdownDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    assert_eq!(daemon.state("web").await, State::ShuttingDown);
    daemon.type_in("web", "poweroff").await;
    daemon.wait_for("web", "off", |state| state == State::ShutOff(ShutOff::Shutdown)).await;
}

#[tokio::test]
async fn a_guest_that_is_off_before_anybody_meets_it_is_told_so() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "off-at-once")).await;
    let error = daemon.start("web").await.unwrap_err();
    assert!(error.message.contains("its guest shut itself down"), "{error}");
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Shutdown));
}

#[tokio::test]
async fn a_crash_is_told_with_its_registers() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    let mut events = daemon.subscribe(0).await;
    daemon.type_in("web", "crash").await;
    let seen = lifecycle_until(&mut events, Lifecycle::StoppedCrashed).await;
    assert!(seen.contains(&Lifecycle::CrashedPanicked), "{seen:?}");
    let details = daemon.describe("web").await;
    assert_eq!(details.summary.state, State::ShutOff(ShutOff::Crashed));
    let exit = details.last_exit.unwrap();
    assert!(exit.contains("triple fault on vCPU 1") && exit.contains("rip 0x1000"), "{exit}");
}

#[tokio::test]
async fn a_crashed_guest_is_kept_where_that_is_asked_for() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let xml = host.xml("web", "").replace("<devices>", "<on_crash>preserve</on_crash><devices>");
    daemon.define(xml).await;
    daemon.start("web").await.unwrap();
    daemon.type_in("web", "crash").await;
    daemon.wait_for("web", "crashed", |state| state == State::Crashed).await;
    let error = daemon.start("web").await.unwrap_err();
    assert!(error.message.contains("has crashed and is kept"), "{error}");
    daemon.call(ResetDomain { domain: "web".into() }).await.unwrap();
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    daemon.destroy("web").await.unwrap();
}

#[tokio::test]
async fn a_renamed_domain_keeps_everything_but_its_name() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let uuid = daemon.define(host.xml("old", "")).await.domain.uuid;
    daemon.define(host.xml("other", "")).await;
    let rename = |name: &str| RenameDomain { domain: "old".into(), name: name.into() };
    assert_eq!(daemon.call(rename("other")).await.unwrap_err().code, Code::Exists);
    for name in ["a/b", "a\nb", "", ".."] {
        assert_eq!(daemon.call(rename(name)).await.unwrap_err().code, Code::InvalidArgument);
    }
    daemon.start("old").await.unwrap();
    assert_eq!(daemon.call(rename("new")).await.unwrap_err().code, Code::InvalidState);
    daemon.destroy("old").await.unwrap();
    daemon.call(rename("new")).await.unwrap();
    assert_eq!(daemon.find("new").await.unwrap().uuid, uuid);
    assert_eq!(daemon.find("old").await.unwrap_err().code, Code::NotFound);
    let xml = daemon.call(DumpXml { domain: "new".into(), inactive: false }).await.unwrap();
    assert!(xml.contains("<name>new</name>"), "{xml}");
    daemon.define(host.xml("old", "")).await;
    drop(daemon);
    assert_eq!(host.daemon().await.names().await, ["new", "old", "other"]);
}

#[tokio::test]
async fn lists_are_filtered_and_sorted_as_virsh_does() {
    let host = Host::new();
    let daemon = host.daemon().await;
    for name in ["c", "a", "b"] {
        daemon.define(host.xml(name, "")).await;
    }
    daemon.start("c").await.unwrap();
    daemon
        .call(CreateDomain {
            xml: host.xml("t", ""),
            cloud_init: None,
            paused: true,
            reset_variables: false,
        })
        .await
        .unwrap();
    daemon
        .call(SetAutostart { domain: "a".into(), autostart: true, turn: Default::default() })
        .await
        .unwrap();
    assert_eq!(daemon.names().await, ["c", "t", "a", "b"]);
    let list = async |filter| {
        let all = daemon.call(ListDomains { filter, cpu_times: false }).await.unwrap();
        all.iter().map(|domain| domain.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let none = DomainFilter::default;
    assert_eq!(list(DomainFilter { active: true, ..none() }).await, "c t");
    assert_eq!(list(DomainFilter { inactive: true, ..none() }).await, "a b");
    assert_eq!(list(DomainFilter { active: true, inactive: true, ..none() }).await, "c t a b");
    assert_eq!(list(DomainFilter { transient: true, ..none() }).await, "t");
    assert_eq!(list(DomainFilter { autostart: true, ..none() }).await, "a");
    assert_eq!(list(DomainFilter { states: vec!["paused".into()], ..none() }).await, "t");
    let filter = DomainFilter { states: vec!["asleep".into()], ..none() };
    let error = daemon.call(ListDomains { filter, cpu_times: false }).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
}

#[tokio::test]
async fn a_console_shows_what_was_and_belongs_to_one() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    let open = |force| OpenConsole { domain: "web".into(), device: None, force, replay: true };
    assert_eq!(daemon.call(open(false)).await.unwrap_err().code, Code::InvalidState);
    daemon.start("web").await.unwrap();
    let mut console = daemon.call(open(false)).await.unwrap();
    assert_eq!(console.device, "serial0");
    let mut seen = [0; 7];
    console.stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"boot 1\n");
    let error = daemon.call(open(false)).await.unwrap_err();
    assert!(error.code == Code::Busy && error.message.contains("use force"), "{error}");
    daemon.call(open(true)).await.unwrap();
    let other = OpenConsole { device: Some("serial7".into()), ..open(true) };
    let error = daemon.call(other).await.unwrap_err();
    assert!(error.message.contains("it has serial0"), "{error}");
}

#[tokio::test]
async fn figures_are_those_of_the_vmm() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let disk = format!(
        "<disk><source file='{}'/><target dev='vda'/></disk>",
        host.path("disk.img").display()
    );
    daemon.define(host.xml_with("web", "", &disk)).await;
    daemon.start("web").await.unwrap();
    let stats = daemon.call(GetDomainStats { domain: "web".into() }).await.unwrap();
    let of_vcpus: u64 = stats.vcpus.iter().map(|vcpu| vcpu.time).sum();
    assert_eq!((of_vcpus, stats.vcpus.len(), stats.resident), (14, 2, 4096));
    assert!(stats.age.is_some());
    daemon.define(host.xml("off", "")).await;
    let all = daemon.call(GetAllStats).await.unwrap();
    assert_eq!(all.len(), 2, "domains that are off are counted too");
    let disks = daemon.call(ListDisks { domain: "web".into(), inactive: false }).await.unwrap();
    assert_eq!((disks[0].target.as_str(), disks[0].device.as_str()), ("vda", "disk"));
}
