//! event, net-event: print what happens.

use std::time::Duration;

use api::types;

use super::Session;
use crate::args::{Event, NetEvent};
use crate::failure::Failure;
use crate::terminal::printable;

/// virsh's kinds that Manor has, then Manor's own.
const KINDS: &[&str] = &[
    "lifecycle",
    "reboot",
    "rtc-change",
    "watchdog",
    "tray-change",
    "disk-change",
    "block-threshold",
    "device-added",
    "device-removed",
    "agent-lifecycle",
    "io-error",
    "disk-connection",
    "device-broken",
    "vcpus-change",
    "metadata-change",
    "link-changed",
    "channel-lifecycle",
    "reachable",
    "autostart-changed",
    "network",
    "network-port",
    "network-lease",
    "rules-restored",
    "pool",
    "job",
    "lost",
];

pub(super) async fn event(session: &Session, args: Event) -> Result<(), Failure> {
    if args.list {
        for kind in KINDS {
            session.terminal.print(&format!("{kind}\n"));
        }
        return Ok(());
    }
    if args.event.is_none() && !args.all {
        return Err(Failure::usage("one of --list, --all, or --event <type> is required"));
    }
    if let Some(kind) = &args.event
        && !KINDS.contains(&kind.as_str())
    {
        return Err(Failure::usage(format!("unknown event type {kind}"))
            .hint_near(kind, KINDS.iter().map(|kind| (*kind).to_owned())));
    }
    if let Some(domain) = &args.domain {
        session.of(domain, session.client.state(domain)).await?;
    }
    let wanted = |event: &types::Event| args.event.as_ref().is_none_or(|kind| *kind == event.event);
    let watch =
        Watch { domain: args.domain.as_deref(), r#loop: args.r#loop, timeout: args.timeout };
    watch.run(session, wanted, |event| print(session, args.timestamp, event)).await
}

/// `net-event`: of the same stream, what is about networks.
pub(super) async fn network(session: &Session, args: NetEvent) -> Result<(), Failure> {
    if args.list {
        for (kind, _) in NETWORK_KINDS {
            session.terminal.print(&format!("{kind}\n"));
        }
        return Ok(());
    }
    let Some(kind) = args.event.as_deref() else {
        return Err(Failure::usage("one of --list or --event <type> is required"));
    };
    let Some((_, of_stream)) = NETWORK_KINDS.iter().find(|(name, _)| *name == kind) else {
        return Err(Failure::usage(format!("unknown event type {kind}"))
            .hint_near(kind, NETWORK_KINDS.iter().map(|(name, _)| (*name).to_owned())));
    };
    let only = match &args.network {
        Some(name) => Some(session.of_network(name, session.client.network(name)).await?.name),
        None => None,
    };
    let wanted = |event: &types::Event| {
        event.event == *of_stream
            && only.as_ref().is_none_or(|only| event.network.as_ref() == Some(only))
    };
    let watch = Watch { domain: None, r#loop: args.r#loop, timeout: args.timeout };
    watch.run(session, wanted, |event| print_network(session, args.timestamp, event)).await
}

fn print_network(session: &Session, timestamp: bool, event: &types::Event) {
    if session.terminal.json {
        return print(session, timestamp, event);
    }
    let stamp = if timestamp { format!("{}: ", event.time) } else { String::new() };
    let network = printable(event.network.as_deref().unwrap_or_default());
    let change = event.change.as_deref().unwrap_or_default();
    let line = match (&event.device, &event.name) {
        _ if event.event == "network-lease" => {
            let address = event.address.map(|address| address.to_string()).unwrap_or_default();
            let mac = event.mac.as_deref().unwrap_or("an unknown MAC address");
            let of = event.hostname.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
            let whose = printable(&format!("{address} of {mac}{of}"));
            format!("event 'lease' for network {network}: {change} {whose}")
        }
        (Some(tap), Some(domain)) => {
            let (tap, domain) = (printable(tap), printable(domain));
            format!("event 'port' for network {network}: {change} {tap} of domain {domain}")
        }
        _ => format!("event 'lifecycle' for network {network}: {change}"),
    };
    session.terminal.print(&format!("{stamp}{line}\n"));
}

/// virsh's kind, and Manor's own of taps and leases that come and go; in the stream they have other names.
const NETWORK_KINDS: &[(&str, &str)] =
    &[("lifecycle", "network"), ("port", "network-port"), ("lease", "network-lease")];

/// For how long the stream is followed.
struct Watch<'a> {
    domain: Option<&'a str>,
    /// Not only until one has come.
    r#loop: bool,
    timeout: Option<u64>,
}

impl Watch<'_> {
    async fn run(
        &self,
        session: &Session,
        wanted: impl Fn(&types::Event) -> bool,
        show: impl Fn(&types::Event),
    ) -> Result<(), Failure> {
        let mut received = 0;
        let deadline = async {
            match self.timeout {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        let count = |event: &types::Event| {
            let is_wanted = wanted(event);
            if is_wanted {
                received += 1;
                show(event);
            }
            is_wanted
        };
        let ending = tokio::select! {
            result = self.follow(session, count) => {
                result?;
                ""
            }
            () = deadline => "event loop timed out\n",
            _ = tokio::signal::ctrl_c() => "event loop interrupted\n",
        };
        session.terminal.say(&format!("{ending}events received: {received}\n"));
        Ok(())
    }

    /// Until one has come, or for ever; a daemon that restarts in between is waited for, and what
    /// happened meanwhile is caught up with.
    async fn follow(
        &self,
        session: &Session,
        mut take: impl FnMut(&types::Event) -> bool,
    ) -> Result<(), Failure> {
        let mut stream = session.client.events(None, self.domain).await?;
        let mut last = None;
        loop {
            let event = match stream.next().await {
                Ok(Some(event)) => event,
                Ok(None) | Err(api::client::ClientError::Broken { .. }) => {
                    stream = reconnect(session, last, self.domain).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            last = Some(event.id);
            if take(&event) && !self.r#loop {
                return Ok(());
            }
        }
    }
}

async fn reconnect(
    session: &Session,
    after: Option<u64>,
    domain: Option<&str>,
) -> Result<api::client::EventStream, Failure> {
    const TRIES: u32 = 50;
    for _ in 1..TRIES {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Ok(stream) = session.client.events(after, domain).await {
            return Ok(stream);
        }
    }
    Ok(session.client.events(after, domain).await?)
}

fn print(session: &Session, timestamp: bool, event: &types::Event) {
    if session.terminal.json {
        let line = serde_json::to_string(event).unwrap_or_default();
        session.terminal.print(&format!("{line}\n"));
        return;
    }
    let stamp = if timestamp { format!("{}: ", event.time) } else { String::new() };
    let named = |kind: &str, name: &Option<String>| {
        name.as_ref().map(|name| format!(" for {kind} '{}'", printable(name)))
    };
    let about = named("network", &event.network).or_else(|| named("pool", &event.pool));
    let of = about
        .or_else(|| event.name.as_ref().map(|name| format!(" for domain '{}'", printable(name))));
    let of = of.unwrap_or_default();
    let line = format!("{stamp}event '{}'{of}{}\n", event.event, printable(&details(event)));
    session.terminal.print(&line);
}

/// What follows the domain's name.
fn details(event: &types::Event) -> String {
    let mut words: Vec<String> = Vec::new();
    if let (Some(action), None) = (&event.action, event.write) {
        // virsh's line of a watchdog, without the device.
        return format!(": {action}");
    }
    words.extend(event.offset.map(|seconds| seconds.to_string()));
    words.extend([&event.lifecycle, &event.detail, &event.device].into_iter().flatten().cloned());
    let flag =
        |is: Option<bool>, yes: &str, no: &str| is.map(|is| (if is { yes } else { no }).to_owned());
    words.extend(flag(event.write, "write", "read"));
    words.extend(event.action.clone());
    words.extend(flag(event.up, "up", "down"));
    words.extend(flag(event.open, "opened", "closed"));
    words.extend(event.source.clone());
    let (threshold, excess) = (event.threshold_bytes, event.excess_bytes);
    words.extend([threshold, excess].into_iter().flatten().map(|bytes| bytes.to_string()));
    words.extend(event.channel.clone());
    words.extend(flag(event.connected, "connected", "disconnected"));
    words.extend(flag(event.reachable, "answers again", "does not answer"));
    words.extend(flag(event.autostart, "enabled", "disabled"));
    words.extend(event.up_to.map(|id| format!("up to {id}")));
    words.extend([&event.change, &event.volume].into_iter().flatten().cloned());
    if let Some(job) = &event.job {
        words.extend([job.kind.clone(), job.object.clone(), job.phase.clone()]);
        words.extend((job.total_bytes > 0).then(|| {
            format!("{}%", u128::from(job.done_bytes) * 100 / u128::from(job.total_bytes))
        }));
    }
    words.extend(event.reason.as_ref().map(|reason| format!("({reason})")));
    if words.is_empty() { String::new() } else { format!(": {}", words.join(" ")) }
}
