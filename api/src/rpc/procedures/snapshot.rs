//! Snapshots of domains.

use management::ops::{
    CreateSnapshot, DeleteReach, DeleteSnapshot, DescribeSnapshot, DumpSecureSnapshot,
    DumpSnapshot, ListSnapshots, RedefineSnapshot, RevertToSnapshot, SnapshotView,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::{Domain, Snapshot};
use super::{Client, count, either, jobs, listed, names};

/// Of a list of all: those without a parent; of one snapshot's: everything below it.
const ROOTS_OR_DESCENDANTS: u32 = 1;
const METADATA: u32 = 1 << 1;
const LEAVES: u32 = 1 << 2;
const NO_LEAVES: u32 = 1 << 3;
const NO_METADATA: u32 = 1 << 4;
const INACTIVE: u32 = 1 << 5;
const ACTIVE: u32 = 1 << 6;
const DISK_ONLY: u32 = 1 << 7;
const INTERNAL: u32 = 1 << 8;
const EXTERNAL: u32 = 1 << 9;
/// They come so in any case.
const TOPOLOGICAL: u32 = 1 << 10;
const LIST_FLAGS: u32 = (TOPOLOGICAL << 1) - 1;

fn is_wanted(flags: u32, snapshot: &SnapshotView) -> bool {
    let state = snapshot.state;
    let states = [
        (INACTIVE, state == "shutoff"),
        (ACTIVE, !matches!(state, "shutoff" | "disk-snapshot")),
        (DISK_ONLY, state == "disk-snapshot"),
    ];
    let any_state = states.iter().all(|(flag, _)| flags & flag == 0)
        || states.iter().any(|(flag, is)| flags & flag != 0 && *is);
    any_state
        && either(flags, METADATA, NO_METADATA, true)
        && either(flags, LEAVES, NO_LEAVES, snapshot.children == 0)
        && either(flags, EXTERNAL, INTERNAL, snapshot.external)
}

/// Those of a domain, or those below one of them.
async fn all(
    client: &Client,
    domain: &Domain,
    below: Option<&str>,
    flags: u32,
) -> Result<Vec<SnapshotView>, Failure> {
    known_flags(flags, LIST_FLAGS, "virDomainListAllSnapshots")?;
    let mut all = client.domain(ListSnapshots { domain: domain.reference() }).await?;
    let further = flags & ROOTS_OR_DESCENDANTS != 0;
    match below {
        Some(name) => {
            client.ask(Area::Snapshot, describe(domain, Some(name))).await?;
            let mut reached = vec![name.to_owned()];
            // They come with parents before their children.
            all.retain(|snapshot| {
                let parent = snapshot.parent.as_ref();
                let mut known = if further { reached.iter() } else { reached[..1].iter() };
                let is_below = known.any(|known| Some(known) == parent);
                if is_below {
                    reached.push(snapshot.name.clone());
                }
                is_below
            });
        }
        None => all.retain(|snapshot| !further || snapshot.parent.is_none()),
    }
    all.retain(|snapshot| is_wanted(flags, snapshot));
    Ok(all)
}

fn describe(domain: &Domain, name: Option<&str>) -> DescribeSnapshot {
    DescribeSnapshot { domain: domain.reference(), name: name.map(str::to_owned) }
}

async fn find(client: &Client, snapshot: &Snapshot) -> Result<SnapshotView, Failure> {
    client.ask(Area::Snapshot, describe(&snapshot.domain, Some(&snapshot.name))).await
}

fn handle(domain: &Domain, name: String) -> Snapshot {
    Snapshot { name, domain: domain.clone() }
}

pub(crate) async fn number(client: Client, (domain, flags): (Domain, u32)) -> Result<i32, Failure> {
    Ok(count(all(&client, &domain, None, flags).await?.len()))
}

pub(crate) async fn list_names(
    client: Client,
    (domain, room, flags): (Domain, i32, u32),
) -> Result<Vec<String>, Failure> {
    let all = all(&client, &domain, None, flags).await?;
    Ok(names(all.into_iter().map(|snapshot| snapshot.name), room))
}

pub(crate) async fn list_all(
    client: Client,
    (domain, wanted, flags): (Domain, i32, u32),
) -> Result<(Vec<Snapshot>, u32), Failure> {
    let all = all(&client, &domain, None, flags).await?;
    Ok(listed(all.into_iter().map(|it| handle(&domain, it.name)).collect(), wanted))
}

pub(crate) async fn number_of_children(
    client: Client,
    (snapshot, flags): (Snapshot, u32),
) -> Result<i32, Failure> {
    Ok(count(all(&client, &snapshot.domain, Some(&snapshot.name), flags).await?.len()))
}

pub(crate) async fn list_children_names(
    client: Client,
    (snapshot, room, flags): (Snapshot, i32, u32),
) -> Result<Vec<String>, Failure> {
    let all = all(&client, &snapshot.domain, Some(&snapshot.name), flags).await?;
    Ok(names(all.into_iter().map(|snapshot| snapshot.name), room))
}

pub(crate) async fn list_all_children(
    client: Client,
    (snapshot, wanted, flags): (Snapshot, i32, u32),
) -> Result<(Vec<Snapshot>, u32), Failure> {
    let domain = &snapshot.domain;
    let all = all(&client, domain, Some(&snapshot.name), flags).await?;
    Ok(listed(all.into_iter().map(|it| handle(domain, it.name)).collect(), wanted))
}

pub(crate) async fn by_name(
    client: Client,
    (domain, name, flags): (Domain, String, u32),
) -> Result<Snapshot, Failure> {
    known_flags(flags, 0, "virDomainSnapshotLookupByName")?;
    let found = client.ask(Area::Snapshot, describe(&domain, Some(&name))).await?;
    Ok(handle(&domain, found.name))
}

pub(crate) async fn has_current(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<bool, Failure> {
    known_flags(flags, 0, "virDomainHasCurrentSnapshot")?;
    let all = client.domain(ListSnapshots { domain: domain.reference() }).await?;
    Ok(all.iter().any(|snapshot| snapshot.current))
}

pub(crate) async fn current(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<Snapshot, Failure> {
    known_flags(flags, 0, "virDomainSnapshotCurrent")?;
    let found = client.ask(Area::Snapshot, describe(&domain, None)).await?;
    Ok(handle(&domain, found.name))
}

pub(crate) async fn parent(
    client: Client,
    (snapshot, flags): (Snapshot, u32),
) -> Result<Snapshot, Failure> {
    known_flags(flags, 0, "virDomainSnapshotGetParent")?;
    let name = find(&client, &snapshot).await?.parent.ok_or_else(|| {
        let text = format!("snapshot {:?} does not have a parent", snapshot.name);
        Failure::no_snapshot(&text)
    })?;
    Ok(handle(&snapshot.domain, name))
}

pub(crate) async fn is_current(
    client: Client,
    (snapshot, flags): (Snapshot, u32),
) -> Result<bool, Failure> {
    known_flags(flags, 0, "virDomainSnapshotIsCurrent")?;
    Ok(find(&client, &snapshot).await?.current)
}

pub(crate) async fn has_metadata(
    client: Client,
    (snapshot, flags): (Snapshot, u32),
) -> Result<bool, Failure> {
    known_flags(flags, 0, "virDomainSnapshotHasMetadata")?;
    find(&client, &snapshot).await.map(|_| true)
}

pub(crate) async fn xml(
    client: Client,
    (snapshot, flags): (Snapshot, u32),
) -> Result<String, Failure> {
    const SECURE: u32 = 1;
    known_flags(flags, SECURE, "virDomainSnapshotGetXMLDesc")?;
    let (domain, name) = (snapshot.domain.reference(), snapshot.name);
    if flags & SECURE != 0 {
        return client.ask(Area::Snapshot, DumpSecureSnapshot { domain, name }).await;
    }
    client.ask(Area::Snapshot, DumpSnapshot { domain, name }).await
}

pub(crate) async fn create(
    client: Client,
    (domain, xml, flags): (Domain, String, u32),
) -> Result<Snapshot, Failure> {
    const REDEFINE: u32 = 1;
    const CURRENT: u32 = 1 << 1;
    const FORGET: u32 = 1 << 2;
    const HALT: u32 = 1 << 3;
    const ONLY_DISKS: u32 = 1 << 4;
    const REUSE_EXTERNAL: u32 = 1 << 5;
    const QUIESCE: u32 = 1 << 6;
    // Atomic (1 << 7): all or nothing, in any case. Validate: what is wrong is always told.
    const LIVE: u32 = 1 << 8;
    const VALIDATE: u32 = 1 << 9;
    known_flags(flags, (VALIDATE << 1) - 1, "virDomainSnapshotCreateXML")?;
    let is_set = |flag: u32| flags & flag != 0;
    let reference = domain.reference();
    if is_set(REDEFINE) {
        let others = flags & !(REDEFINE | CURRENT | VALIDATE);
        if others != 0 {
            let text = "a snapshot that is redefined is not made (redefine)";
            return Err(Failure::invalid_argument(Area::Domain, text));
        }
        let redefine = RedefineSnapshot { domain: reference, xml, current: is_set(CURRENT) };
        let name = client.ask(Area::Snapshot, redefine).await?;
        return Ok(handle(&domain, name));
    }
    let create = CreateSnapshot {
        domain: reference,
        xml,
        disk_only: is_set(ONLY_DISKS),
        reuse_external: is_set(REUSE_EXTERNAL),
        no_metadata: is_set(FORGET),
        quiesce: is_set(QUIESCE),
        halt: is_set(HALT),
        live: is_set(LIVE),
    };
    let begun = client.domain(create).await?;
    jobs::ended(&client, Area::Domain, &begun.job).await?;
    Ok(handle(&domain, begun.name))
}

pub(crate) async fn revert(
    client: Client,
    (snapshot, flags): (Snapshot, u32),
) -> Result<(), Failure> {
    const RUNNING: u32 = 1;
    const PAUSED: u32 = 1 << 1;
    const FORCE: u32 = 1 << 2;
    const RESET_NVRAM: u32 = 1 << 3;
    known_flags(flags, RUNNING | PAUSED | FORCE | RESET_NVRAM, "virDomainRevertToSnapshot")?;
    let running = match (flags & RUNNING != 0, flags & PAUSED != 0) {
        (true, true) => {
            let text = "a domain cannot go on running and paused at once";
            return Err(Failure::invalid_argument(Area::Domain, text));
        }
        (false, false) => None,
        (running, _) => Some(running),
    };
    let revert = RevertToSnapshot {
        domain: snapshot.domain.reference(),
        name: snapshot.name,
        running,
        force: flags & FORCE != 0,
        reset_variables: flags & RESET_NVRAM != 0,
    };
    let job = client.ask(Area::Snapshot, revert).await?;
    jobs::ended(&client, Area::Domain, &job).await
}

pub(crate) async fn delete(
    client: Client,
    (snapshot, flags): (Snapshot, u32),
) -> Result<(), Failure> {
    const CHILDREN: u32 = 1;
    const METADATA_ONLY: u32 = 1 << 1;
    const CHILDREN_ONLY: u32 = 1 << 2;
    known_flags(flags, CHILDREN | METADATA_ONLY | CHILDREN_ONLY, "virDomainSnapshotDelete")?;
    let reach = match (flags & CHILDREN != 0, flags & CHILDREN_ONLY != 0) {
        (true, true) => {
            let text = "children, and children only, exclude each other";
            return Err(Failure::invalid_argument(Area::Domain, text));
        }
        (true, false) => DeleteReach::WithDescendants,
        (false, true) => DeleteReach::DescendantsOnly,
        (false, false) => DeleteReach::One,
    };
    let delete = DeleteSnapshot {
        domain: snapshot.domain.reference(),
        name: snapshot.name,
        reach,
        metadata_only: flags & METADATA_ONLY != 0,
    };
    let job = client.ask(Area::Snapshot, delete).await?;
    jobs::ended(&client, Area::Domain, &job).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_libvirts() {
        let wanted = |flags, state: &'static str| {
            let snapshot = SnapshotView {
                name: "a".to_owned(),
                description: None,
                state,
                created: 0,
                parent: None,
                current: false,
                external: true,
                children: 0,
                descendants: 0,
            };
            is_wanted(flags, &snapshot)
        };
        assert!(wanted(0, "shutoff") && wanted(INACTIVE, "shutoff") && !wanted(ACTIVE, "shutoff"));
        assert!(wanted(ACTIVE | DISK_ONLY, "disk-snapshot") && !wanted(INACTIVE, "disk-snapshot"));
        assert!(!wanted(NO_METADATA, "running") && wanted(METADATA | NO_METADATA, "running"));
        assert!(!wanted(INTERNAL, "running") && !wanted(NO_LEAVES, "running"));
    }
}
