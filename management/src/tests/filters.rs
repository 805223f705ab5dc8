//! Filters of people's own at the taps of guests that run, on a host that is made up: what is in force, what
//! is refused, and what the next daemon finds.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use broker::{
    Broker, BrokerError, FilterStep, FilterVerdict, Granted, NetworkAct, Request, TapQueues,
};

use super::networks::NetworkHost;
use super::rig::{Daemon, Host};
use crate::domain::Affects;
use crate::error::{Code, Error};
use crate::filters::FilterName;
use crate::ops::{DefineFilter, DumpXml, ListFilters, UndefineFilter, UpdateDevice};

const LIVE: Affects = Affects { live: true, config: false };
const CONFIG: Affects = Affects { live: false, config: true };

/// Notes what is in force at the tap, and refuses all rules when it is told to.
struct Ports {
    inner: Arc<NetworkHost>,
    refuses: AtomicBool,
    in_force: Mutex<Vec<String>>,
}

impl Ports {
    fn new() -> Arc<Self> {
        let (inner, refuses, in_force) = (NetworkHost::new(), false.into(), Mutex::default());
        Arc::new(Self { inner, refuses, in_force })
    }

    /// Of the one tap: its filter's rules about what the guest sends.
    fn now(&self) -> Vec<String> {
        self.in_force.lock().unwrap().clone()
    }
}

impl Broker for Ports {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        match &request {
            Request::OpenTap(_) => {
                let queue = std::fs::File::open("/dev/null").unwrap().into();
                // One that every host has: it is not forgotten as gone.
                return Ok(Granted::Tap(TapQueues { name: "lo".to_owned(), queues: vec![queue] }));
            }
            Request::Network(NetworkAct::Rules(_)) if self.refuses.load(Relaxed) => {
                let source = std::io::Error::from_raw_os_error(1);
                return Err(BrokerError::Rules { what: "the rule".to_owned(), source });
            }
            Request::Network(NetworkAct::Rules(rules)) => {
                let filters = rules.ports.iter().filter_map(|port| port.filter.as_ref());
                let rule = |step: &FilterStep| match step {
                    FilterStep::Rule(rule) if rule.verdict == FilterVerdict::Drop => {
                        format!("drop: {}", rule.label)
                    }
                    FilterStep::Rule(rule) => rule.label.clone(),
                    FilterStep::Chain { name, .. } => name.clone(),
                };
                let sent = filters.flat_map(|filter| filter.sent.frames.iter().map(rule));
                *self.in_force.lock().unwrap() = sent.collect();
            }
            _ => {}
        }
        self.inner.perform(request, files)
    }
}

fn interface(filter: &str) -> String {
    format!(
        "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='lan'/>\
         <model type='virtio'/>{filter}</interface>"
    )
}

const MINE: &str = "<filterref filter='mine'/>";

async fn define(daemon: &Daemon, name: &str, inside: &str) -> Result<(), Error> {
    let xml = format!("<filter name='{name}'>{inside}</filter>");
    daemon.call(DefineFilter { xml }).await.map(drop)
}

const DROPS: &str = "<rule action='drop' direction='out'><mac protocolid='rarp'/></rule>";
const ACCEPTS: &str = "<rule action='accept' direction='out'><mac protocolid='rarp'/></rule>";

async fn running(host: &Host, ports: &Arc<Ports>) -> Daemon {
    let daemon = host.daemon_with(ports.clone()).await;
    define(&daemon, "inner", DROPS).await.unwrap();
    define(&daemon, "mine", "<filterref filter='inner'/>").await.unwrap();
    daemon.define(host.xml_with("web", "", &interface(MINE))).await;
    daemon.start("web").await.unwrap();
    assert_eq!(ports.now(), ["drop: inner, rule 1"]);
    daemon
}

async fn undefine(daemon: &Daemon, name: &str) -> Result<(), Error> {
    daemon.call(UndefineFilter { filter: FilterName(name.to_owned()) }).await
}

async fn update(daemon: &Daemon, filter: &str, affects: Affects) -> Result<(), Error> {
    let xml = interface(filter);
    daemon.call(UpdateDevice { domain: "web".into(), xml, affects }).await
}

#[tokio::test]
async fn a_filter_that_changes_is_in_force_at_once_where_others_name_it_and_not_at_all_if_refused()
{
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports).await;
    define(&daemon, "inner", ACCEPTS).await.unwrap();
    assert_eq!(ports.now(), ["inner, rule 1"]);
    let before = daemon.call(ListFilters).await.unwrap();

    let lacking = "<rule action='drop' direction='out'><mac srcmacaddr='$WHO'/></rule>";
    let error = define(&daemon, "inner", lacking).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(
        error
            .message
            .contains("interface \"lo\" has it: rule 1 of filter \"inner\": $WHO has no value")
    );
    ports.refuses.store(true, Relaxed);
    let error = define(&daemon, "inner", DROPS).await.unwrap_err();
    assert_eq!(error.code, Code::HostFailure);
    ports.refuses.store(false, Relaxed);
    assert_eq!(ports.now(), ["inner, rule 1"]);
    assert_eq!(daemon.call(ListFilters).await.unwrap(), before);
    // Nobody has this one.
    define(&daemon, "other", DROPS).await.unwrap();
    assert_eq!(ports.now(), ["inner, rule 1"]);
}

#[tokio::test]
async fn what_an_interface_needs_is_not_undefined() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports).await;
    for name in ["inner", "mine"] {
        let error = undefine(&daemon, name).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidState);
        assert!(error.message.contains("nwfilter is in use"), "{error}");
    }
    let clean = "<filterref filter='clean-traffic'/>";
    update(&daemon, clean, LIVE).await.unwrap();
    assert_eq!(ports.now(), [""; 0]);
    assert_eq!(undefine(&daemon, "mine").await.unwrap_err().code, Code::InvalidState, "defined");
    update(&daemon, clean, CONFIG).await.unwrap();
    undefine(&daemon, "mine").await.unwrap();
    undefine(&daemon, "inner").await.unwrap();
}

#[tokio::test]
async fn the_next_daemon_puts_in_force_what_is_kept() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports).await;
    drop(daemon);
    // Killed when the rules were there and the definition was not: these are nobody's.
    *ports.in_force.lock().unwrap() = vec!["of no filter".to_owned()];
    ports.inner.forget_rules();
    let daemon = host.daemon_with(ports.clone()).await;
    assert_eq!(ports.now(), ["drop: inner, rule 1"]);
    drop(daemon);
    let filters = host.path("state/filters");
    for entry in std::fs::read_dir(filters).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let daemon = host.daemon_with(ports.clone()).await;
    assert_eq!(ports.now(), ["drop: no filter is known"], "nothing comes through");
    define(&daemon, "inner", ACCEPTS).await.unwrap();
    define(&daemon, "mine", "<filterref filter='inner'/>").await.unwrap();
    assert_eq!(ports.now(), ["inner, rule 1"], "until there is what it needs");
}

async fn has(daemon: &Daemon, part: &str) -> bool {
    let dump = DumpXml { domain: "web".into(), inactive: false };
    daemon.call(dump).await.unwrap().contains(part)
}

#[tokio::test]
async fn an_interface_has_another_filter_while_its_guest_runs() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports).await;
    define(&daemon, "other", ACCEPTS).await.unwrap();
    update(&daemon, "<filterref filter='other'/>", LIVE).await.unwrap();
    assert_eq!(ports.now(), ["other, rule 1"]);
    assert!(has(&daemon, "<filterref filter='other'/>").await);
    let missing = update(&daemon, "<filterref filter='nowhere'/>", LIVE).await;
    let missing = missing.unwrap_err();
    assert_eq!(missing.code, Code::ResourceMissing);
    assert!(missing.message.contains("there is no filter \"nowhere\""), "{missing}");
    assert_eq!(ports.now(), ["other, rule 1"]);
    assert!(has(&daemon, "<filterref filter='other'/>").await);
    drop(daemon);
    let daemon = host.daemon_with(ports.clone()).await;
    assert!(has(&daemon, "<filterref filter='other'/>").await);
    assert_eq!(ports.now(), ["other, rule 1"]);
}

#[tokio::test]
async fn an_interface_has_no_filter_any_more_when_its_new_description_names_none() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = running(&host, &ports).await;
    ports.refuses.store(true, Relaxed);
    assert_eq!(update(&daemon, "", LIVE).await.unwrap_err().code, Code::HostFailure);
    ports.refuses.store(false, Relaxed);
    assert_eq!(ports.now(), ["drop: inner, rule 1"]);
    assert!(has(&daemon, MINE).await, "what cannot be taken away is there");

    update(&daemon, "", LIVE).await.unwrap();
    assert_eq!(ports.now(), [""; 0]);
    assert!(!has(&daemon, "<filterref").await);
    assert_eq!(undefine(&daemon, "mine").await.unwrap_err().code, Code::InvalidState, "defined");
    drop(daemon);
    let daemon = host.daemon_with(ports.clone()).await;
    assert_eq!(ports.now(), [""; 0], "with the next daemon");
    update(&daemon, MINE, LIVE).await.unwrap();
    assert_eq!(ports.now(), ["drop: inner, rule 1"], "and back");
    update(&daemon, "", CONFIG).await.unwrap();
    assert_eq!(ports.now(), ["drop: inner, rule 1"], "of the next start");
    update(&daemon, "", LIVE).await.unwrap();
    undefine(&daemon, "mine").await.unwrap();
}

#[tokio::test]
async fn a_guest_without_its_filter_does_not_start() {
    let (host, ports) = (Host::new(), Ports::new());
    let daemon = host.daemon_with(ports.clone()).await;
    daemon.define(host.xml_with("web", "", &interface(MINE))).await;
    let error = daemon.start("web").await.unwrap_err();
    assert_eq!(error.code, Code::ResourceMissing);
    assert!(error.message.contains("there is no filter \"mine\"; define it"), "{error}");
    define(&daemon, "mine", DROPS).await.unwrap();
    daemon.start("web").await.unwrap();
}
