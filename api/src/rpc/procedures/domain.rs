//! Domains: found, listed, looked at.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use management::domain::{DomainRef, DomainSummary};
use management::ops::{
    AddViewer, DescribeDomain, DomainFilter, DumpSecureXml, DumpXml, FindDomain, GetDomainState,
    ListDomains, ListSnapshots, OpenConsole, OpenViewer,
};
use uuid::Uuid;

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::xdr::Chars;
use super::super::stream::Stream;
use super::super::table::{Passed, Streaming, WithFiles};
use super::{Client, Row, count, either, listed, names, number};

pub(super) const ACTIVE: u32 = 1;
pub(super) const INACTIVE: u32 = 2;
const PERSISTENT: u32 = 4;
const TRANSIENT: u32 = 8;
const RUNNING: u32 = 16;
const PAUSED: u32 = 32;
const SHUT_OFF: u32 = 64;
const OTHER: u32 = 128;
const SAVED: u32 = 1 << 8;
const NOT_SAVED: u32 = 1 << 9;
const AUTOSTART: u32 = 1 << 10;
const NO_AUTOSTART: u32 = 1 << 11;
const WITH_SNAPSHOT: u32 = 1 << 12;
const WITHOUT_SNAPSHOT: u32 = 1 << 13;
const WITH_CHECKPOINT: u32 = 1 << 14;
const WITHOUT_CHECKPOINT: u32 = 1 << 15;
/// Those that bulk statistics know as well.
pub(super) const STATE_FLAGS: u32 = 0xff;

/// None where no domain can be meant.
pub(super) fn filter(flags: u32) -> Option<DomainFilter> {
    let is_set = |flag: u32| flags & flag != 0;
    // No domain has any.
    if is_set(WITH_CHECKPOINT) && !is_set(WITHOUT_CHECKPOINT) {
        return None;
    }
    let words: [(u32, &[&str]); 4] = [
        (RUNNING, &["running"]),
        (PAUSED, &["paused"]),
        (SHUT_OFF, &["shut off"]),
        (OTHER, &["in shutdown", "crashed", "no state"]),
    ];
    let states = words.into_iter().filter(|(flag, _)| is_set(*flag)).flat_map(|(_, words)| words);
    Some(DomainFilter {
        active: is_set(ACTIVE),
        inactive: is_set(INACTIVE),
        persistent: is_set(PERSISTENT),
        transient: is_set(TRANSIENT),
        autostart: is_set(AUTOSTART),
        no_autostart: is_set(NO_AUTOSTART),
        states: states.map(|word| (*word).to_owned()).collect(),
    })
}

async fn all(client: &Client, flags: u32) -> Result<Vec<Arc<DomainSummary>>, Failure> {
    let Some(filter) = filter(flags) else { return Ok(Vec::new()) };
    let mut all = client.domain(ListDomains { filter, cpu_times: false }).await?;
    all.retain(|summary| either(flags, SAVED, NOT_SAVED, summary.managed_save));
    Ok(all)
}

pub(crate) async fn list_all(
    client: Client,
    (wanted, flags): (i32, u32),
) -> Result<(Vec<Row>, u32), Failure> {
    known_flags(flags, 0xffff, "virConnectListAllDomains")?;
    let mut found = Vec::new();
    for summary in all(&client, flags).await? {
        let with = flags & WITH_SNAPSHOT != 0;
        // Of one flag alone; the other one, none and both mean everything.
        if with == (flags & WITHOUT_SNAPSHOT != 0)
            || has_snapshots(&client, &summary).await? == with
        {
            found.push(Row(summary));
        }
    }
    Ok(listed(found, wanted))
}

async fn has_snapshots(client: &Client, summary: &DomainSummary) -> Result<bool, Failure> {
    let list = ListSnapshots { domain: DomainRef::Uuid(summary.uuid) };
    Ok(!client.domain(list).await?.is_empty())
}

pub(crate) async fn active_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(all(&client, ACTIVE).await?.len()))
}

pub(crate) async fn active_ids(client: Client, room: i32) -> Result<Vec<i32>, Failure> {
    let all = all(&client, ACTIVE).await?;
    let ids = all.iter().map(|summary| number(summary));
    Ok(ids.take(usize::try_from(room).unwrap_or(0)).collect())
}

pub(crate) async fn inactive_count(client: Client, (): ()) -> Result<i32, Failure> {
    Ok(count(all(&client, INACTIVE).await?.len()))
}

pub(crate) async fn inactive_names(client: Client, room: i32) -> Result<Vec<String>, Failure> {
    let all = all(&client, INACTIVE).await?;
    Ok(names(all.iter().map(|summary| summary.name.clone()), room))
}

async fn find(client: &Client, domain: DomainRef) -> Result<Domain, Failure> {
    Ok(Domain::from(&client.domain(FindDomain { domain }).await?))
}

pub(crate) async fn by_id(client: Client, id: i32) -> Result<Domain, Failure> {
    // No domain has a negative one, nor this.
    let id = u32::try_from(id).unwrap_or(u32::MAX);
    find(&client, DomainRef::Id(id)).await
}

pub(crate) async fn by_name(client: Client, name: String) -> Result<Domain, Failure> {
    find(&client, DomainRef::Name(name)).await
}

pub(crate) async fn by_uuid(client: Client, uuid: Uuid) -> Result<Domain, Failure> {
    find(&client, DomainRef::Uuid(uuid)).await
}

async fn summary(client: &Client, domain: &Domain) -> Result<DomainSummary, Failure> {
    client.domain(FindDomain { domain: domain.reference() }).await
}

pub(crate) async fn info(
    client: Client,
    domain: Domain,
) -> Result<(u8, u64, u64, u16, u64), Failure> {
    let summary = summary(&client, &domain).await?;
    let state = u8::try_from(summary.state.codes().0).unwrap_or(0);
    // Of a domain that is off, clients show what it will have.
    let memory = if summary.id.is_some() { summary.memory } else { summary.max_memory };
    let vcpus = u16::try_from(summary.vcpus).unwrap_or(u16::MAX);
    Ok((state, summary.max_memory, memory, vcpus, summary.cpu_time))
}

pub(crate) async fn state(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(i32, i32), Failure> {
    known_flags(flags, 0, "virDomainGetState")?;
    Ok(client.domain(GetDomainState { domain: domain.reference() }).await?.codes())
}

pub(crate) async fn xml(client: Client, (domain, flags): (Domain, u32)) -> Result<String, Failure> {
    const SECURE: u32 = 1;
    const INACTIVE: u32 = 2;
    const UPDATE_CPU: u32 = 4;
    const MIGRATABLE: u32 = 8;
    known_flags(flags, SECURE | INACTIVE | UPDATE_CPU | MIGRATABLE, "virDomainGetXMLDesc")?;
    let (inactive, migratable) = (flags & INACTIVE != 0, flags & MIGRATABLE != 0);
    let domain = domain.reference();
    // Whoever takes a guest up elsewhere needs its secrets, too.
    if flags & SECURE == 0 && !migratable {
        client.domain(DumpXml { domain, inactive }).await
    } else {
        client.domain(DumpSecureXml { domain, inactive, migratable }).await
    }
}

/// The one that there is, with flags of its opening.
fn first_screen(screen: u32, flags: u32, procedure: &str) -> Result<(), Failure> {
    const SKIP_AUTH: u32 = 1;
    known_flags(flags, SKIP_AUTH, procedure)?;
    if screen != 0 {
        let text = format!("there is screen 0, and no screen {screen}");
        return Err(Failure::invalid_argument(Area::Domain, &text));
    }
    Ok(())
}

/// A viewer at the other end of the client's socket. It needs no password: the client proved who it is.
pub(crate) async fn add_viewer(
    client: Client,
    call: Passed<(Domain, u32, u32)>,
) -> Result<(), Failure> {
    let Passed { arguments: (domain, screen, flags), files } = call;
    first_screen(screen, flags, "virDomainOpenGraphics")?;
    if files.count > 1 {
        let text =
            format!("{} descriptors come with this call, which takes one socket", files.count);
        return Err(Failure::invalid_argument(Area::Domain, &text));
    }
    client.domain(AddViewer { domain: domain.reference(), socket: files.first }).await
}

/// A viewer's connection, which needs no password: the client proved who it is.
pub(crate) async fn open_graphics(
    client: Client,
    (domain, screen, flags): (Domain, u32, u32),
) -> Result<WithFiles<()>, Failure> {
    first_screen(screen, flags, "virDomainOpenGraphicsFD")?;
    if !client.takes_files() {
        let text = "descriptors go over unix sockets only";
        return Err(Failure::no_support(text));
    }
    let viewer = client.domain(OpenViewer { domain: domain.reference() }).await?;
    let passed = viewer.into_std().and_then(|viewer| {
        // Who takes it expects it as socket(2) makes it.
        viewer.set_nonblocking(false)?;
        Ok(OwnedFd::from(viewer))
    });
    let file = passed.map_err(|error| {
        Failure::operation_failed(Area::Domain, &format!("the connection is gone: {error}"))
    })?;
    Ok(WithFiles { answer: (), files: vec![file] })
}

pub(crate) async fn os_type(client: Client, domain: Domain) -> Result<String, Failure> {
    Ok(client.domain(DescribeDomain { domain: domain.reference() }).await?.os_type)
}

pub(crate) async fn autostart(client: Client, domain: Domain) -> Result<bool, Failure> {
    Ok(summary(&client, &domain).await?.autostart)
}

pub(crate) async fn is_active(client: Client, domain: Domain) -> Result<bool, Failure> {
    Ok(summary(&client, &domain).await?.state.is_active())
}

pub(crate) async fn is_persistent(client: Client, domain: Domain) -> Result<bool, Failure> {
    Ok(summary(&client, &domain).await?.persistent)
}

pub(crate) async fn is_updated(client: Client, domain: Domain) -> Result<bool, Failure> {
    Ok(client.domain(DescribeDomain { domain: domain.reference() }).await?.pending_changes)
}

pub(crate) async fn security_label(
    client: Client,
    domain: Domain,
) -> Result<(Chars, i32), Failure> {
    summary(&client, &domain).await?;
    Ok((Chars(String::new()), 0))
}

/// What is wrong with a domain, in words.
pub(crate) async fn messages(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<Vec<String>, Failure> {
    const DEPRECATION: u32 = 1;
    const TAINTING: u32 = 2;
    known_flags(flags, DEPRECATION | TAINTING, "virDomainGetMessages")?;
    Ok(client.domain(DescribeDomain { domain: domain.reference() }).await?.warnings)
}

/// It is reachable and does nothing.
pub(crate) async fn control_info(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(u32, u32, u64), Failure> {
    known_flags(flags, 0, "virDomainGetControlInfo")?;
    if !is_active(client, domain).await? {
        return Err(Failure::invalid_state(Area::Domain, "domain is not running"));
    }
    Ok((0, 0, 0))
}

pub(crate) async fn open_console(
    client: Client,
    (domain, device, flags): (Domain, Option<String>, u32),
) -> Result<Streaming<()>, Failure> {
    const FORCE: u32 = 1;
    const SAFE: u32 = 2;
    known_flags(flags, FORCE | SAFE, "virDomainOpenConsole")?;
    let open =
        OpenConsole { domain: domain.reference(), device, force: flags & FORCE != 0, replay: true };
    let console = client.domain(open).await?;
    Ok(Streaming { answer: (), stream: Stream::Console(console.stream) })
}

pub(crate) async fn has_saved_state(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<bool, Failure> {
    known_flags(flags, 0, "virDomainHasManagedSaveImage")?;
    Ok(summary(&client, &domain).await?.managed_save)
}

/// By the name that it has in the guest.
pub(crate) async fn open_channel(
    client: Client,
    (domain, device, flags): (Domain, Option<String>, u32),
) -> Result<Streaming<()>, Failure> {
    const FORCE: u32 = 1;
    known_flags(flags, FORCE, "virDomainOpenChannel")?;
    let Some(device) = device else {
        return Err(Failure::invalid_argument(Area::Domain, "the channel has no name"));
    };
    let force = flags & FORCE != 0;
    let open =
        OpenConsole { domain: domain.reference(), device: Some(device), force, replay: false };
    let console = client.domain(open).await?;
    Ok(Streaming { answer: (), stream: Stream::Console(console.stream) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_what_their_flags_say() {
        let found = filter(ACTIVE | OTHER).unwrap();
        assert!(found.active && !found.inactive);
        assert_eq!(found.states, ["in shutdown", "crashed", "no state"]);
        assert_eq!(filter(WITH_CHECKPOINT), None);
        assert!(filter(WITH_CHECKPOINT | WITHOUT_CHECKPOINT).is_some());
    }
}
