//! Guest agents behind real channels: who is asked, what becomes of the answers, and what a daemon
//! that dies leaves to the next.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use super::restart::in_a_daemon;
use super::rig::{Daemon, Host, lifecycle_until, next};
use crate::agent::AgentTimeout;
use crate::domain::{DomainRef, GuestParts, Running, ShutOff, State};
use crate::error::Code;
use crate::events::{EventKind, Lifecycle};
use crate::ops::{
    AskAgent, AskMode, CreateCheckpoint, DumpXml, FreezeFilesystems, GetGuestInfo, GetGuestTime,
    GetGuestVcpus, GetJob, GetSshKeys, GuestAddresses, GuestExec, GuestExecStatus, GuestHostname,
    GuestVcpuChange, ManagedSave, RebootDomain, ResumeDomain, SetAgentTimeout, SetGuestTime,
    SetGuestVcpus, SetSshKeys, SetUserPassword, ShutdownDomain, SleepTarget, SshKeyChange,
    SuspendDomain, SuspendGuest, ThawFilesystems,
};

const CHANNEL: &str =
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";

fn xml(host: &Host, script: &str) -> String {
    let name = "<name>web</name>";
    let uuid = "<uuid>6e2a5a5c-9b0e-4d65-8a1f-0f9d5e6c7b8a</uuid>";
    host.xml_with("web", script, CHANNEL).replace(name, &format!("{name}{uuid}"))
}

async fn started(host: &Host, script: &str) -> Daemon {
    let daemon = host.daemon().await;
    let mut events = daemon.subscribe(0).await;
    daemon.define(xml(host, script)).await;
    daemon.start("web").await.unwrap();
    if script.contains("agent=") {
        while next(&mut events).await.kind != (EventKind::AgentLifecycle { connected: true }) {}
    }
    daemon
}

async fn hostname(daemon: &Daemon) -> Result<String, crate::Error> {
    daemon.call(GuestHostname { domain: "web".into() }).await
}

#[tokio::test]
async fn a_guest_tells_of_itself_in_clean_words() {
    let host = Host::new();
    let daemon = started(&host, "agent=honest").await;
    assert_eq!(hostname(&daemon).await.unwrap(), "web\u{fffd}[2J1");
    let info = daemon.call(GetGuestInfo { domain: "web".into(), parts: None }).await.unwrap();
    assert_eq!(info.os.unwrap().pretty_name.unwrap(), "Debian GNU/Linux 12 (bookworm)");
    assert_eq!(info.users.unwrap()[0].login_time, 1500);
    assert_eq!(info.disks, None, "this agent does not know the question");
    let parts = Some(GuestParts { disks: true, ..GuestParts::default() });
    let unknown = daemon.call(GetGuestInfo { domain: "web".into(), parts }).await.unwrap_err();
    assert_eq!(unknown.code, Code::Unsupported, "asked for by name, it must be answered");
    let rows = daemon.call(GuestAddresses { domain: "web".into() }).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|r| format!("{} {}", r.interface, r.address)).collect();
    assert_eq!(rows, ["lo 127.0.0.1", "eth0 192.168.122.5", "eth0 fe80::1"]);
}

#[tokio::test]
async fn a_guest_uses_the_processors_that_it_is_told_to() {
    let host = Host::new();
    let daemon = started(&host, "agent=honest").await;
    let all = daemon.call(GetGuestVcpus { domain: "web".into() }).await.unwrap();
    let all: Vec<_> = all.iter().map(|vcpu| (vcpu.id, vcpu.online, vcpu.can_offline)).collect();
    assert_eq!(all, [(0, true, false), (1, true, true), (2, false, true)]);
    let set = async |change| daemon.call(SetGuestVcpus { domain: "web".into(), change }).await;
    set(GuestVcpuChange::Count(1)).await.unwrap();
    set(GuestVcpuChange::These { ids: vec![0, 1], online: true }).await.unwrap();
    let stubborn = set(GuestVcpuChange::Count(3)).await.unwrap_err();
    assert_eq!(stubborn.code, Code::InvalidState);
    assert!(stubborn.to_string().contains("did not change processor 2"), "{stubborn}");
    assert_eq!(set(GuestVcpuChange::Count(4)).await.unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn keys_of_a_guests_user_are_clean_lines() {
    let host = Host::new();
    let daemon = started(&host, "agent=honest").await;
    let (domain, user) = (DomainRef::from("web"), "root".to_owned());
    let keys = daemon.call(GetSshKeys { domain: domain.clone(), user: user.clone() }).await;
    assert_eq!(keys.unwrap(), ["ssh-rsa A\u{fffd}[2J"]);
    let set = async |keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let change = SshKeyChange::Replace;
        let (domain, user) = (domain.clone(), user.clone());
        daemon.call(SetSshKeys { domain, user, keys, change }).await
    };
    set(&["ssh-ed25519 B"]).await.unwrap();
    set(&[]).await.unwrap();
    assert_eq!(set(&["two\nlines"]).await.unwrap_err().code, Code::InvalidArgument);
    let memory = SuspendGuest { domain, target: SleepTarget::Memory };
    assert_eq!(daemon.call(memory).await.unwrap_err().code, Code::Unsupported);
}

/// What the guest has said, once it has said this.
async fn says(daemon: &Daemon, words: &str) -> String {
    let begun = Instant::now();
    loop {
        let mut console = daemon.console("web").await;
        let mut said = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(1), console.read(&mut said)).await;
        said.truncate(read.map_or(0, Result::unwrap));
        let said = String::from_utf8(said).unwrap();
        if said.contains(words) {
            return said;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no {words:?} in {said:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_guest_that_goes_on_has_its_clock_set() {
    let host = Host::new();
    let daemon = started(&host, "agent=honest").await;
    let set = SetGuestTime { domain: "web".into(), time: Some(1) };
    daemon.call(set).await.unwrap();
    assert!(!says(&daemon, "time set").await.contains("clock read"), "it has just booted");
    for paused in [false, true] {
        let save = ManagedSave {
            domain: "web".into(),
            running: Some(!paused),
            bypass_cache: false,
            with_host: false,
            format: None,
        };
        let job = daemon.call(save).await.unwrap();
        daemon.call(GetJob { job: job.id, wait: Duration::from_secs(20) }).await.unwrap();
        daemon.start("web").await.unwrap();
        if paused {
            assert!(!says(&daemon, "restored").await.contains("clock read"), "it waits");
            daemon.call(ResumeDomain { domain: "web".into() }).await.unwrap();
        }
        says(&daemon, "clock read").await;
    }
}

#[tokio::test]
async fn favours_are_done_and_refusals_are_the_guests_own() {
    let host = Host::new();
    let daemon = started(&host, "agent=honest").await;
    let exec = GuestExec {
        domain: "web".into(),
        program: "/bin/false".into(),
        arguments: vec!["--help".into()],
        environment: Vec::new(),
        input: None,
        capture: true,
    };
    let pid = daemon.call(exec).await.unwrap();
    let state = daemon.call(GuestExecStatus { domain: "web".into(), pid }).await.unwrap();
    assert_eq!((state.exited, state.exit_code), (true, Some(3)));
    assert_eq!((&*state.stdout, &*state.stderr), (&b"hello\n"[..], &b"oops\n"[..]));
    let gone = daemon.call(GuestExecStatus { domain: "web".into(), pid: 1 }).await.unwrap_err();
    assert!(gone.message.ends_with("refused guest-exec-status: PID 1 does not exist"), "{gone}");
    let password = SetUserPassword {
        domain: "web".into(),
        user: "root".into(),
        password: "secret".into(),
        encrypted: false,
    };
    daemon.call(password).await.unwrap();
    let time = daemon.call(GetGuestTime { domain: "web".into() }).await.unwrap();
    assert_eq!(time, 1_700_000_000_000_000_000);
    let raw = |command: &str| AskAgent {
        domain: "web".into(),
        command: command.to_owned(),
        timeout: None,
    };
    let pong = daemon.call(raw("{\"execute\":\"guest-ping\"}")).await.unwrap();
    assert_eq!(pong.get(), "{\"return\":{}}");
    let wrong = daemon.call(raw("guest-ping")).await.unwrap_err();
    assert_eq!(wrong.code, Code::InvalidArgument);
}

#[tokio::test]
async fn why_an_agent_cannot_be_asked_is_said() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let mut events = daemon.subscribe(0).await;
    daemon.define(host.xml("bare", "")).await;
    daemon.define(xml(&host, "")).await;
    let off = hostname(&daemon).await.unwrap_err();
    assert_eq!(off.message, "domain \"web\" is not running");
    daemon.start("bare").await.unwrap();
    let none = daemon.call(GuestHostname { domain: "bare".into() }).await.unwrap_err();
    assert_eq!(none.code, Code::InvalidState);
    assert!(none.message.contains(CHANNEL), "it says what to add: {none}");
    daemon.start("web").await.unwrap();
    lifecycle_until(&mut events, Lifecycle::StartedBooted).await;
    let absent = hostname(&daemon).await.unwrap_err();
    assert!(absent.message.contains("is not connected"), "{absent}");
    daemon.destroy("web").await.unwrap();
    daemon.define(xml(&host, "agent=honest channel-taken")).await;
    daemon.start("web").await.unwrap();
    while next(&mut events).await.kind != (EventKind::AgentLifecycle { connected: true }) {}
    let taken = hostname(&daemon).await.unwrap_err();
    assert_eq!(taken.code, Code::Busy);
    assert!(taken.message.contains("another program has the channel"), "{taken}");
    daemon.call(SuspendDomain { domain: "web".into() }).await.unwrap();
    let paused = hostname(&daemon).await.unwrap_err();
    assert!(paused.message.contains("is paused"), "{paused}");
}

#[tokio::test]
async fn the_live_definition_shows_whether_the_agent_is_there() {
    let host = Host::new();
    let daemon = started(&host, "agent=honest").await;
    let xml = || daemon.call(DumpXml { domain: "web".into(), inactive: false });
    let target = "<target type='virtio' name='org.qemu.guest_agent.0' state=";
    assert!(xml().await.unwrap().contains(&format!("{target}'connected'/>")));
    let mut events = daemon.subscribe(0).await;
    daemon.type_in("web", "agent leaves").await;
    while next(&mut events).await.kind != (EventKind::AgentLifecycle { connected: false }) {}
    assert!(xml().await.unwrap().contains(&format!("{target}'disconnected'/>")));
    assert!(hostname(&daemon).await.unwrap_err().message.contains("is not connected"));
    let stored = daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
    assert!(!stored.contains("state="), "{stored}");
}

#[tokio::test]
async fn a_stuck_agent_holds_up_nobody_but_those_who_ask_it() {
    let host = Host::new();
    let daemon = started(&host, "agent=silent").await;
    let begun = Instant::now();
    let (asked, ()) = tokio::join!(hostname(&daemon), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        daemon.call(SuspendDomain { domain: "web".into() }).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    });
    assert_eq!(asked.unwrap_err().code, Code::Timeout);
    daemon.destroy("web").await.unwrap();
}

#[tokio::test]
async fn a_shutdown_goes_through_the_agent_where_there_is_one() {
    let host = Host::new();
    // A guest that does not hear its power button.
    let daemon = started(&host, "deaf agent=honest").await;
    daemon.call(ShutdownDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    daemon.wait_for("web", "off", |state| state == State::ShutOff(ShutOff::Shutdown)).await;

    // One whose agent does not work, and one without.
    for script in ["agent=old", "agent=silent", ""] {
        daemon.define(xml(&host, script)).await;
        daemon.start("web").await.unwrap();
        daemon.call(ShutdownDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
        daemon.wait_for("web", "off", |state| state == State::ShutOff(ShutOff::Shutdown)).await;
    }

    daemon.define(xml(&host, "agent=old")).await;
    daemon.start("web").await.unwrap();
    let only = ShutdownDomain { domain: "web".into(), modes: vec![AskMode::Agent] };
    let refused = daemon.call(only).await.unwrap_err();
    assert!(!refused.message.is_empty());
    assert!(matches!(daemon.state("web").await, State::Running(_)), "it was not asked");
}

#[tokio::test]
async fn a_reboot_through_the_agent_is_the_guests_own() {
    let host = Host::new();
    let daemon = started(&host, "deaf agent=honest").await;
    let mut events = daemon.subscribe(0).await;
    let modes = vec![AskMode::Acpi, AskMode::Agent];
    daemon.call(RebootDomain { domain: "web".into(), modes }).await.unwrap();
    while next(&mut events).await.kind != EventKind::Reboot {}
    assert_eq!(daemon.state("web").await, State::Running(Running::Booted));
    // What it does next is a power-off, and no reset.
    daemon.type_in("web", "poweroff").await;
    daemon.wait_for("web", "off", |state| state == State::ShutOff(ShutOff::Shutdown)).await;
}

#[test]
fn what_was_frozen_on_purpose_stays_so_over_a_restart_of_the_daemon() {
    let host = Host::new();
    in_a_daemon(async || {
        let daemon = started(&host, "agent=honest").await;
        let freeze = || FreezeFilesystems { domain: "web".into(), mountpoints: Vec::new() };
        assert_eq!(daemon.call(freeze()).await.unwrap(), 2);
        let again = daemon.call(freeze()).await.unwrap_err();
        assert!(again.message.contains("frozen already"), "{again}");
    });
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        let said = daemon.describe("web").await.warnings.join("\n");
        assert!(said.contains("file systems are frozen"), "{said}");
        let refused = hostname(&daemon).await.unwrap_err();
        assert!(refused.message.contains("frozen state"), "{refused}");
        let thaw = ThawFilesystems { domain: "web".into() };
        assert_eq!(daemon.call(thaw).await.unwrap(), 2);
        let said = daemon.describe("web").await.warnings.join("\n");
        assert!(!said.contains("frozen"), "{said}");
        hostname(&daemon).await.unwrap();
    });
}

#[tokio::test]
async fn an_agent_has_the_time_that_it_is_given() {
    let host = Host::new();
    let daemon = started(&host, "agent=silent").await;
    let timeout = AgentTimeout::Seconds(1);
    daemon.call(SetAgentTimeout { domain: "web".into(), timeout }).await.unwrap();
    let error = hostname(&daemon).await.unwrap_err();
    assert!(error.message.contains("does not answer (within 1s)"), "{error}");
}

#[tokio::test]
async fn a_checkpoint_is_made_between_freezing_and_thawing() {
    let (_host, daemon) = super::snapshots::defined("agent=honest").await;
    let mut events = daemon.subscribe(0).await;
    let plain = daemon.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
    daemon.define(plain.replace("</devices>", &format!("{CHANNEL}</devices>"))).await;
    daemon.start("web").await.unwrap();
    while next(&mut events).await.kind != (EventKind::AgentLifecycle { connected: true }) {}
    let checkpoint = || CreateCheckpoint {
        domain: "web".into(),
        xml: Some("<domaincheckpoint><name>one</name></domaincheckpoint>".to_owned()),
        redefine: false,
        validate: false,
        quiesce: true,
    };
    daemon.call(checkpoint()).await.unwrap();
    says(&daemon, "frozen\nmarked\nthawed\n").await;
    let twice = daemon.call(checkpoint()).await.unwrap_err();
    assert!(twice.message.contains("one"), "{twice}");
    // What came to nothing leaves nothing frozen.
    says(&daemon, "thawed\nfrozen\nthawed\n").await;
    hostname(&daemon).await.unwrap();
}

#[test]
fn a_daemon_that_dies_while_it_freezes_leaves_it_to_the_next_to_thaw() {
    let host = Host::new();
    in_a_daemon(async || {
        let daemon = started(&host, "agent=freezes-and-hangs").await;
        let freeze = FreezeFilesystems { domain: "web".into(), mountpoints: Vec::new() };
        let answered = tokio::time::timeout(Duration::from_secs(1), daemon.call(freeze)).await;
        assert!(answered.is_err(), "it was never told that they are frozen");
    });
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        let begun = Instant::now();
        while daemon.describe("web").await.warnings.iter().any(|text| text.contains("frozen")) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hostname(&daemon).await.unwrap();
    });
}
