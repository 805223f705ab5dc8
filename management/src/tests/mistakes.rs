//! Wrong input, missing things: each a clear error, nothing half-made.

use super::rig::Host;
use crate::auth::{Access, Caller};
use crate::domain::{DomainRef, State};
use crate::error::Code;
use crate::ops::{
    CreateDomain, DefineDomain, FindDomain, ResumeDomain, SetAutostart, ShutdownDomain,
    StartDomain, UndefineDomain,
};

#[tokio::test]
async fn a_reader_reads_and_does_nothing_else() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    let call = |access| {
        let caller = Caller::new("someone", access);
        let manager = daemon.manager.clone();
        async move {
            manager
                .call(
                    &caller,
                    StartDomain {
                        domain: "web".into(),
                        paused: false,
                        reset_variables: false,
                        force_boot: false,
                        force: false,
                    },
                )
                .await
        }
    };
    let error = call(Access::Read).await.unwrap_err();
    assert_eq!(error.code, Code::Denied);
    assert!(error.message.contains("domain.start needs control access"), "{error}");
    let reader = Caller::new("someone", Access::Read);
    daemon.manager.call(&reader, FindDomain { domain: "web".into() }).await.unwrap();
    let undefine = UndefineDomain {
        domain: "web".into(),
        variables: None,
        managed_save: false,
        snapshots: false,
    };
    let controller = Caller::new("someone", Access::Control);
    let error = daemon.manager.call(&controller, undefine).await.unwrap_err();
    assert_eq!(error.code, Code::Denied);
}

#[tokio::test]
async fn an_unknown_domain_is_named_with_the_nearest_known() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("webserver", "")).await;
    let error = daemon.find("websrever").await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    assert!(error.message.contains("did you mean \"webserver\"?"), "{error}");
    let error = daemon.find("x\n\u{1b}[2J").await.unwrap_err();
    assert!(!error.message.contains(char::is_control), "{error}");
    let by_id = FindDomain { domain: DomainRef::Id(1) };
    assert_eq!(daemon.call(by_id).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_second_start_is_refused() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    let pid = daemon.pid("web").await;
    let error = daemon.start("web").await.unwrap_err();
    assert_eq!(error.code, Code::InvalidState);
    assert_eq!(error.message, "domain \"web\" is running already");
    let create = CreateDomain {
        xml: host.xml("web", ""),
        cloud_init: None,
        paused: false,
        reset_variables: false,
    };
    assert_eq!(daemon.call(create).await.unwrap_err().code, Code::Exists);
    assert_eq!(daemon.pid("web").await, pid);
}

#[tokio::test]
async fn names_that_are_paths_or_lines_are_refused() {
    let host = Host::new();
    let daemon = host.daemon().await;
    for name in ["a/b", "../etc", "a&#10;b", "a&#x202e;b", "."] {
        let xml = host.xml(name, "");
        let error = daemon
            .call(DefineDomain { xml, cloud_init: None, check_only: false })
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::InvalidXml, "{name}");
        assert!(error.problems.iter().any(|p| p.path == "/domain/name"), "{:?}", error.problems);
    }
    assert!(daemon.names().await.is_empty());
}

#[tokio::test]
async fn a_missing_kernel_is_named_and_nothing_is_left() {
    let host = Host::new();
    let daemon = host.daemon().await;
    std::fs::remove_file(host.path("kernel")).unwrap();
    daemon.define(host.xml("web", "")).await;
    let error = daemon.start("web").await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing);
    let path = host.path("kernel").display().to_string();
    assert_eq!(error.message, format!("kernel {path} does not exist"));
    assert!(!daemon.state("web").await.is_active());
    assert!(host.run_dirs().is_empty());
    // A transient one that never was leaves no name either.
    let create = CreateDomain {
        xml: host.xml("temp", ""),
        cloud_init: None,
        paused: false,
        reset_variables: false,
    };
    daemon.call(create).await.unwrap_err();
    assert_eq!(daemon.names().await, ["web"]);
}

#[tokio::test]
async fn more_memory_than_the_host_has_is_refused() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "").replace("'MiB'>64<", "'GiB'>30000<")).await;
    let error = daemon.start("web").await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    assert!(error.message.contains("30720000 MiB is more than"), "{error}");
}

#[tokio::test]
async fn missing_bridges_and_taps_are_named() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let cases = [
        (
            "<interface type='bridge'><source bridge='nobr0'/></interface>",
            "there is no bridge \"nobr0\"",
        ),
        (
            "<interface type='ethernet'><target dev='notap0' managed='no'/></interface>",
            "no network interface \"notap0\"",
        ),
    ];
    for (number, (nic, words)) in cases.into_iter().enumerate() {
        let name = format!("d{number}");
        daemon.define(host.xml_with(&name, "", nic)).await;
        let error = daemon.start(&name).await.unwrap_err();
        assert_eq!(error.code, Code::ResourceMissing);
        assert!(error.message.contains(words), "{error}");
    }
    assert!(host.run_dirs().is_empty());
}

#[tokio::test]
async fn a_locked_image_names_the_domain_that_has_it() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let disk = format!(
        "<disk><source file='{}'/><target dev='vda'/></disk>",
        host.path("disk.img").display()
    );
    for name in ["one", "two"] {
        daemon.define(host.xml_with(name, "", &disk)).await;
    }
    daemon.start("one").await.unwrap();
    let error = daemon.start("two").await.unwrap_err();
    assert_eq!(error.code, Code::Locked);
    assert!(error.message.ends_with("is in use by domain \"one\""), "{error}");
    daemon.destroy("one").await.unwrap();
    daemon.start("two").await.unwrap();
    daemon.destroy("two").await.unwrap();
    // By another name, too.
    std::os::unix::fs::symlink(host.path("disk.img"), host.path("link.img")).unwrap();
    let again = disk.replace("disk.img", "link.img").replace("vda", "vdb");
    daemon.define(host.xml_with("both", "", &format!("{disk}{again}"))).await;
    let error = daemon.start("both").await.unwrap_err();
    assert_eq!(error.code, Code::Locked);
    assert!(error.message.starts_with("disk vdb has the same image as disk vda; "), "{error}");
}

#[tokio::test]
async fn a_vmm_that_cannot_build_says_why() {
    let host = Host::new();
    let daemon = host.daemon().await;
    for (script, words) in
        [("cannot-build", "kernel is not one"), ("dies-at-once", "killed by signal 6")]
    {
        daemon.define(host.xml(script, script)).await;
        let error = daemon.start(script).await.unwrap_err();
        assert_eq!(error.code, Code::VmmFailed);
        assert!(error.message.contains(words), "{error}");
        assert!(!daemon.state(script).await.is_active());
    }
    assert!(host.run_dirs().is_empty());
}

#[tokio::test]
async fn commands_that_do_not_fit_the_state_say_which_state_it_is() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    let shutdown = || ShutdownDomain { domain: "web".into(), modes: Vec::new() };
    let error = daemon.call(shutdown()).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::InvalidState, "domain \"web\" is not running")
    );
    assert_eq!(daemon.destroy("web").await.unwrap_err().code, Code::InvalidState);
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
    let error = daemon.call(shutdown()).await.unwrap_err();
    assert!(error.message.contains("is paused: resume it"), "{error}");
    daemon.call(ResumeDomain { domain: "web".into() }).await.unwrap();
    let error = daemon.call(ResumeDomain { domain: "web".into() }).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidState);
    let create = CreateDomain {
        xml: host.xml("temp", ""),
        cloud_init: None,
        paused: false,
        reset_variables: false,
    };
    daemon.call(create).await.unwrap();
    let autostart =
        SetAutostart { domain: "temp".into(), autostart: true, turn: Default::default() };
    let error = daemon.call(autostart).await.unwrap_err();
    assert!(error.message.contains("is transient"), "{error}");
}

#[tokio::test]
async fn uuids_and_names_belong_together() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let uuid = daemon.define(host.xml("web", "")).await.domain.uuid;
    let again = daemon
        .call(DefineDomain { xml: host.xml("web", ""), cloud_init: None, check_only: false })
        .await;
    let error = again.unwrap_err();
    assert!(error.code == Code::Exists && error.message.contains(&uuid.to_string()), "{error}");
    let xml = host.xml("other", "").replace("<memory", &format!("<uuid>{uuid}</uuid><memory"));
    let error =
        daemon.call(DefineDomain { xml, cloud_init: None, check_only: false }).await.unwrap_err();
    assert!(error.code == Code::Exists && error.message.contains("rename it"), "{error}");
    assert_eq!(daemon.names().await, ["web"]);
}

#[tokio::test]
async fn a_store_that_fails_loses_nothing_and_makes_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let uuid = daemon.define(host.xml("web", "")).await.domain.uuid;
    // Also root cannot write into what is no directory.
    let (dir, away) = (host.path("state/domains"), host.path("state/away"));
    std::fs::rename(&dir, &away).unwrap();
    std::fs::write(&dir, "").unwrap();
    let error = daemon
        .call(DefineDomain { xml: host.xml("new", ""), cloud_init: None, check_only: false })
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.code, Code::HostFailure);
    assert!(error.message.contains("nothing was changed"), "{error}");
    let undefine = daemon
        .call(UndefineDomain {
            domain: uuid.into(),
            variables: None,
            managed_save: false,
            snapshots: false,
        })
        .await;
    assert_eq!(undefine.unwrap_err().code, Code::HostFailure);
    assert_eq!(daemon.names().await, ["web"]);
    // What runs is not touched by it.
    daemon.start("web").await.unwrap();
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    daemon.define(host.xml("new", "")).await;
    assert_eq!(daemon.names().await, ["web", "new"]);
    assert!(matches!(daemon.state("web").await, State::Running(_)));
}

#[tokio::test]
async fn a_check_stores_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon
        .call(DefineDomain { xml: host.xml("web", ""), cloud_init: None, check_only: true })
        .await
        .unwrap();
    assert!(daemon.names().await.is_empty());
}
