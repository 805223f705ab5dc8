//! What is noted about a domain, and what becomes of it: in the running guest, in its definition, and after another daemon.

use super::rig::{Daemon, Host, next};
use crate::domain::{
    Affects, ElementChange, LifecycleCause, LifecycleChange, LifecycleEnd, MetadataChange,
    MetadataView, NewElement,
};
use crate::error::{Code, Error};
use crate::events::{EventKind, MetadataKind};
use crate::ops::{DumpXml, GetMetadata, InjectNmi, SetLifecycleAction, SetMetadata, SuspendDomain};

const LIVE: Affects = Affects { live: true, config: false };
const CONFIG: Affects = Affects { live: false, config: true };
const BOTH: Affects = Affects { live: true, config: true };
const URI: &str = "urn:example:app";

async fn set(daemon: &Daemon, change: MetadataChange, affects: Affects) -> Result<(), Error> {
    daemon.call(SetMetadata { domain: "web".into(), change, affects }).await
}

fn title(text: &str) -> MetadataChange {
    MetadataChange { title: Some(text.to_owned()), ..MetadataChange::default() }
}

fn element(xml: Option<&str>) -> MetadataChange {
    let new = xml.map(|xml| NewElement { key: "app".to_owned(), xml: xml.to_owned() });
    let element = Some(ElementChange { uri: URI.to_owned(), new });
    MetadataChange { element, ..MetadataChange::default() }
}

async fn noted(daemon: &Daemon, affects: Affects) -> MetadataView {
    let uri = Some(URI.to_owned());
    daemon.call(GetMetadata { domain: "web".into(), uri, affects }).await.unwrap()
}

#[tokio::test]
async fn notes_are_made_where_they_are_meant_and_the_next_daemon_knows() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    let mut events = daemon.subscribe(0).await;
    set(&daemon, title("of this run"), LIVE).await.unwrap();
    set(&daemon, title("of the next"), CONFIG).await.unwrap();
    set(&daemon, element(Some("<owner>Ann</owner>")), BOTH).await.unwrap();
    let of =
        |kind, uri: Option<&str>| EventKind::MetadataChange { kind, uri: uri.map(str::to_owned) };
    while next(&mut events).await.kind != of(MetadataKind::Title, None) {}
    while next(&mut events).await.kind != of(MetadataKind::Element, Some(URI)) {}
    let both = [noted(&daemon, LIVE).await, noted(&daemon, CONFIG).await];
    drop(daemon);
    let daemon = host.daemon().await;
    assert_eq!([noted(&daemon, LIVE).await, noted(&daemon, CONFIG).await], both);
    let [live, stored] = both;
    assert_eq!(live.title.as_deref(), Some("of this run"));
    assert_eq!(stored.title.as_deref(), Some("of the next"));
    assert_eq!(live.element.as_deref(), Some("<owner>Ann</owner>"));
    assert_eq!(stored.element, live.element);
    set(&daemon, element(None), BOTH).await.unwrap();
    set(&daemon, title(""), CONFIG).await.unwrap();
    assert_eq!(noted(&daemon, LIVE).await.element, None);
    assert_eq!(noted(&daemon, CONFIG).await, MetadataView::default());
}

#[tokio::test]
async fn what_cannot_be_noted_is_refused_and_changes_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    let before = noted(&daemon, CONFIG).await;
    let no_uri = ElementChange { uri: String::new(), new: None };
    for wrong in [
        title("two\nlines"),
        element(Some("<a>")),
        element(Some("<a/><b/>")),
        MetadataChange { element: Some(no_uri), ..MetadataChange::default() },
        MetadataChange { description: Some("x".repeat(300 << 10)), ..MetadataChange::default() },
    ] {
        assert_eq!(set(&daemon, wrong, CONFIG).await.unwrap_err().code, Code::InvalidArgument);
    }
    assert_eq!(set(&daemon, title("a"), LIVE).await.unwrap_err().code, Code::InvalidState);
    assert_eq!(noted(&daemon, CONFIG).await, before);
}

#[tokio::test]
async fn what_becomes_of_a_guest_that_ends_is_changed_while_it_runs() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    let change = LifecycleChange { cause: LifecycleCause::Crash, end: LifecycleEnd::Preserve };
    let set = SetLifecycleAction { domain: "web".into(), change, affects: LIVE };
    daemon.call(set).await.unwrap();
    for (inactive, there) in [(false, true), (true, false)] {
        let xml = daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap();
        assert_eq!(xml.contains("<on_crash>preserve</on_crash>"), there, "{xml}");
    }
    assert_eq!(LifecycleEnd::of("coredump-restart").unwrap_err().code, Code::Unsupported);
    assert_eq!(LifecycleEnd::of("explode").unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn an_interrupt_reaches_a_guest_that_runs() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    let nmi = || InjectNmi { domain: "web".into() };
    assert_eq!(daemon.call(nmi()).await.unwrap_err().code, Code::InvalidState);
    daemon.start("web").await.unwrap();
    daemon.call(nmi()).await.unwrap();
    daemon.call(SuspendDomain { domain: "web".into() }).await.unwrap();
    assert_eq!(daemon.call(nmi()).await.unwrap_err().code, Code::InvalidState);
}
