//! Who may do what, and what the audit log says of it.

use std::time::Duration;

use super::rig::{Daemon, Host};
use crate::audit::Record;
use crate::auth::{Access, Caller, Role, Scope, Via};
use crate::domain::DomainRef;
use crate::error::Code;
use crate::ops::{
    ChangePool, CreateToken, DefineDomain, DescribeDomain, GetAllStats, GetAudit, GetNode,
    ListDomains, ListPools, PoolAction, RevokeToken, SetAutostart, ShutdownDomain, Subscribe,
};

impl Daemon {
    async fn audit(&self) -> Vec<Record> {
        let all = GetAudit { after: Some(0), limit: 1000, wait: Duration::ZERO };
        self.call(all).await.unwrap()
    }
}

fn confined(access: Access, domains: &[&str]) -> Caller {
    Caller::new("confined", access).scoped(Some(Scope::new(domains)))
}

fn autostart(name: &str) -> SetAutostart {
    SetAutostart { domain: name.into(), autostart: true, turn: Default::default() }
}

#[tokio::test]
async fn changes_and_refusals_are_written_down_with_whom_what_and_how_it_ended() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let uuid = daemon.define(host.xml("web", "")).await.domain.uuid;
    daemon.find("web").await.unwrap();
    daemon.call(autostart("web")).await.unwrap();
    daemon.call(autostart("nobody")).await.unwrap_err();
    let reader = Caller::new("reader", Access::Read);
    daemon.manager.call(&reader, autostart("web")).await.unwrap_err();
    let stop = ChangePool { pool: "p".into(), action: PoolAction::Stop };
    daemon.call(stop).await.unwrap_err();
    let line = |record: &Record| {
        let target = record.target.clone().unwrap();
        let words = [&record.caller, &record.operation, &record.detail, &target.name];
        (words.map(String::as_str).join(" "), target.uuid, record.result.clone())
    };
    let lines: Vec<_> = daemon.audit().await.iter().map(line).collect();
    let expected = [
        ("test domain.define  web", None, "ok"),
        ("test domain.set-autostart  web", Some(uuid), "ok"),
        ("test domain.set-autostart  nobody", None, "not-found"),
        ("reader domain.set-autostart  web", Some(uuid), "denied"),
        ("test pool.change stop p", None, "not-found"),
    ];
    let expected = expected.map(|(words, uuid, end)| (words.to_owned(), uuid, end.to_owned()));
    assert_eq!(lines, expected);
    // Reading it is written down, and waiting for more is not.
    let last = daemon.audit().await;
    assert_eq!(last.last().unwrap().operation, "audit.get");
    let wait = GetAudit { after: Some(7), limit: 1, wait: Duration::from_millis(10) };
    assert_eq!(daemon.call(wait).await.unwrap(), []);
    assert_eq!(daemon.audit().await.len(), 7);
}

#[tokio::test]
async fn who_waits_for_the_log_is_woken_by_the_next_line() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let wait = GetAudit { after: Some(0), limit: 1, wait: Duration::from_secs(20) };
    let (waited, refused) = tokio::join!(daemon.call(wait), daemon.call(autostart("nobody")));
    refused.unwrap_err();
    assert_eq!(waited.unwrap()[0].operation, "domain.set-autostart");
}

#[tokio::test]
async fn a_confined_caller_sees_and_reaches_its_domains_alone() {
    let host = Host::new();
    let daemon = host.daemon().await;
    for name in ["mine", "other"] {
        daemon.define(host.xml(name, "")).await;
    }
    let uuid = daemon.find("mine").await.unwrap().uuid.to_string();
    for scope in ["mine", &uuid] {
        let (manager, caller) = (&daemon.manager, confined(Access::Admin, &[scope]));
        let all = ListDomains::default();
        let names = manager.call(&caller, all).await.unwrap();
        assert_eq!(names.iter().map(|domain| &domain.name).collect::<Vec<_>>(), ["mine"]);
        assert_eq!(manager.call(&caller, GetAllStats).await.unwrap().len(), 1);
        manager.call(&caller, autostart("mine")).await.unwrap();
        manager.call(&caller, autostart(&uuid)).await.unwrap();
        // In the same words whether there is such a domain or not.
        for name in ["other", "nobody"] {
            let describe = DescribeDomain { domain: DomainRef::from(name) };
            let error = manager.call(&caller, describe).await.unwrap_err();
            assert_eq!(error.code, Code::Denied);
            let expected = format!("domain.describe is about domain {name:?}, and this caller");
            assert!(error.message.starts_with(&expected), "{error}");
        }
        assert_eq!(manager.call(&caller, GetNode).await.unwrap_err().code, Code::Denied);
        assert_eq!(manager.call(&caller, ListPools).await.unwrap_err().code, Code::Denied);
    }
    let gone = confined(Access::Admin, &["otherr"]);
    let error = daemon.manager.call(&gone, autostart("otherr")).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::NotFound, "there is no domain \"otherr\"")
    );
}

#[tokio::test]
async fn a_confined_caller_replaces_its_definitions_and_makes_none() {
    let host = Host::new();
    let daemon = host.daemon().await;
    for name in ["mine", "other"] {
        daemon.define(host.xml(name, "")).await;
    }
    let uuid = async |name| daemon.find(name).await.unwrap().uuid.to_string();
    let (mine, other) = (uuid("mine").await, uuid("other").await);
    let caller = confined(Access::Write, &["mine", "new"]);
    let define = async |name: &str, uuid: &str| {
        let named = host.xml(name, "");
        let xml = match uuid {
            "" => named,
            _ => named.replace("<memory", &format!("<uuid>{uuid}</uuid><memory")),
        };
        let define = DefineDomain { xml, check_only: false, cloud_init: None };
        daemon.manager.call(&caller, define).await.map_err(|error| error.code)
    };
    define("mine", &mine).await.unwrap();
    for (name, uuid) in [("new", ""), ("other", ""), ("mine", other.as_str()), ("other", &other)] {
        assert_eq!(define(name, uuid).await.err(), Some(Code::Denied), "{name} {uuid}");
    }
    // Of a domain of its own, and called like another one: the operation itself refuses that.
    assert_eq!(define("other", &mine).await.err(), Some(Code::Exists));
    let broken = DefineDomain { xml: "<domain>".to_owned(), check_only: false, cloud_init: None };
    let refused = daemon.manager.call(&caller, broken).await.unwrap_err();
    assert_eq!(refused.code, Code::Denied);
}

#[tokio::test]
async fn a_confined_caller_hears_of_its_domains_alone() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let caller = confined(Access::Read, &["mine"]);
    let subscribe = Subscribe { after: Some(0), domain: None };
    let mut events = daemon.manager.call(&caller, subscribe).await.unwrap();
    for name in ["other", "mine"] {
        daemon.define(host.xml(name, "")).await;
    }
    let event = super::rig::next(&mut events).await;
    assert_eq!(event.domain.unwrap().name, "mine");
    let subscribe = Subscribe { after: None, domain: Some("other".into()) };
    let refused = daemon.manager.call(&caller, subscribe).await.err().unwrap();
    assert_eq!(refused.code, Code::Denied);
}

#[tokio::test]
async fn a_token_is_good_for_its_role_and_its_domains() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("mine", "")).await;
    daemon.define(host.xml("other", "")).await;
    let create = CreateToken {
        name: "ci".to_owned(),
        role: Role::Operator,
        domains: Some(vec!["mine".to_owned()]),
        lifetime: None,
    };
    let secret = daemon.call(create).await.unwrap().secret;
    let manager = &daemon.manager;
    let caller = manager.bearer(&secret, "203.0.113.5").unwrap().caller;
    // A guest that is off: it may be asked, and does not shut down.
    let shutdown = async |name: &str| {
        let shutdown = ShutdownDomain { domain: name.into(), modes: Vec::new() };
        manager.call(&caller, shutdown).await.unwrap_err().code
    };
    assert_eq!(shutdown("mine").await, Code::InvalidState);
    assert_eq!(shutdown("other").await, Code::Denied);
    assert_eq!(manager.call(&caller, autostart("mine")).await.unwrap_err().code, Code::Denied);
    daemon.call(RevokeToken { token: "ci".to_owned() }).await.unwrap();
    assert_eq!(manager.bearer(&secret, ""), None);
    let lines = daemon.audit().await;
    let of_token: Vec<_> = lines.iter().filter(|line| line.via == Via::Token).collect();
    assert_eq!(of_token.len(), 3);
    assert_eq!(of_token[0].caller, "ci (203.0.113.5)");
    let created = lines.iter().find(|line| line.operation == "token.create").unwrap();
    assert_eq!(
        (created.detail.as_str(), created.target.as_ref().unwrap().name.as_str()),
        ("operator", "ci")
    );
    assert!(!format!("{lines:?}").contains(&secret));
}

/// What a document is about is known by reading it, which is not done for everybody: the log of what
/// was refused does not know.
#[tokio::test]
async fn documents_of_those_who_may_not_define_anything_are_not_read() {
    use crate::ops::{CreateVolume, DefineNetwork, DefinePool, DefineSecret};
    let host = Host::new();
    let daemon = host.daemon().await;
    let domain = || DefineDomain { xml: host.xml("web", ""), cloud_init: None, check_only: false };
    let network = || DefineNetwork { xml: "<network><name>lab</name></network>".to_owned() };
    let pool = || DefinePool { xml: "<pool type='dir'><name>images</name></pool>".to_owned() };
    let reader = Caller::new("reader", Access::Read);
    let admin_of_some = confined(Access::Admin, &["web"]);
    let denied = |error: crate::Error| assert_eq!(error.code, Code::Denied, "{error:?}");
    denied(daemon.manager.call(&reader, domain()).await.unwrap_err());
    for caller in [&reader, &admin_of_some] {
        denied(daemon.manager.call(caller, network()).await.unwrap_err());
        denied(daemon.manager.call(caller, pool()).await.unwrap_err());
        let xml = "<secret><uuid>11111111-2222-3333-4444-555555555555</uuid></secret>".to_owned();
        denied(daemon.manager.call(caller, DefineSecret { xml }).await.unwrap_err());
        let xml = "<volume><name>a</name><capacity>1</capacity></volume>".to_owned();
        let volume = CreateVolume { pool: "images".into(), xml, from: None };
        denied(daemon.manager.call(caller, volume).await.unwrap_err());
    }
    let refused = daemon.audit().await;
    assert_eq!(refused.len(), 9);
    assert!(refused.iter().all(|record| record.target.is_none()), "{refused:#?}");
    // Who may is known by what they define, as before.
    daemon.call(domain()).await.unwrap();
    let last = daemon.audit().await.pop().unwrap();
    assert_eq!(last.target.unwrap().name, "web");
}
