//! Backups of running domains, and the checkpoints that they begin at.

use management::domain::{CheckpointView, Children};
use management::ops::{
    BeginBackup, CreateCheckpoint, DeleteCheckpoint, DumpBackup, DumpCheckpoint, ListCheckpoints,
};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::{Checkpoint, Domain};
use super::{Client, listed};

const AREA: Area = Area::Checkpoint;

pub(crate) async fn begin(
    client: Client,
    (domain, xml, checkpoint, flags): (Domain, String, Option<String>, u32),
) -> Result<(), Failure> {
    const REUSE_EXTERNAL: u32 = 1;
    known_flags(flags, REUSE_EXTERNAL, "virDomainBackupBegin")?;
    let reuse = flags & REUSE_EXTERNAL != 0;
    let begin = BeginBackup { domain: domain.reference(), xml, checkpoint, reuse };
    client.domain(begin).await.map(drop)
}

pub(crate) async fn backup_xml(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<String, Failure> {
    known_flags(flags, 0, "virDomainBackupGetXMLDesc")?;
    client.domain(DumpBackup { domain: domain.reference() }).await
}

pub(crate) async fn create(
    client: Client,
    (domain, xml, flags): (Domain, String, u32),
) -> Result<Checkpoint, Failure> {
    const REDEFINE: u32 = 1;
    const QUIESCE: u32 = 2;
    const VALIDATE: u32 = 4;
    known_flags(flags, REDEFINE | QUIESCE | VALIDATE, "virDomainCheckpointCreateXML")?;
    let (redefine, quiesce) = (flags & REDEFINE != 0, flags & QUIESCE != 0);
    let (xml, validate) = (Some(xml), flags & VALIDATE != 0);
    let create = CreateCheckpoint { domain: domain.reference(), xml, redefine, validate, quiesce };
    let made = client.domain(create).await?;
    Ok(Checkpoint { name: made.name, domain })
}

pub(crate) async fn xml(
    client: Client,
    (checkpoint, flags): (Checkpoint, u32),
) -> Result<String, Failure> {
    // It never has any secrets.
    const SECURE: u32 = 1;
    const NO_DOMAIN: u32 = 2;
    const SIZE: u32 = 4;
    known_flags(flags, SECURE | NO_DOMAIN | SIZE, "virDomainCheckpointGetXMLDesc")?;
    let dump = DumpCheckpoint {
        domain: checkpoint.domain.reference(),
        name: checkpoint.name,
        no_domain: flags & NO_DOMAIN != 0,
        size: flags & SIZE != 0,
    };
    client.ask(AREA, dump).await
}

const ROOTS: u32 = 1;
const TOPOLOGICAL: u32 = 2;
const LEAVES: u32 = 4;
const NO_LEAVES: u32 = 8;

async fn all(client: &Client, domain: &Domain) -> Result<Vec<CheckpointView>, Failure> {
    client.domain(ListCheckpoints { domain: domain.reference() }).await
}

/// They are in one row: the first is the root, the last the leaf. Children come after their parents
/// in any case.
fn wanted(flags: u32, views: Vec<CheckpointView>, domain: &Domain) -> Vec<Checkpoint> {
    let kept = |view: &CheckpointView| super::either(flags, LEAVES, NO_LEAVES, view.current);
    let handle = |view: CheckpointView| Checkpoint { name: view.name, domain: domain.clone() };
    views.into_iter().filter(kept).map(handle).collect()
}

pub(crate) async fn list(
    client: Client,
    (domain, room, flags): (Domain, i32, u32),
) -> Result<(Vec<Checkpoint>, i32), Failure> {
    let known = ROOTS | TOPOLOGICAL | LEAVES | NO_LEAVES;
    known_flags(flags, known, "virDomainListAllCheckpoints")?;
    let mut views = all(&client, &domain).await?;
    if flags & ROOTS != 0 {
        views.retain(|view| view.parent.is_none());
    }
    Ok(counted(listed(wanted(flags, views, &domain), room)))
}

pub(crate) async fn children(
    client: Client,
    (checkpoint, room, flags): (Checkpoint, i32, u32),
) -> Result<(Vec<Checkpoint>, i32), Failure> {
    const DESCENDANTS: u32 = 1;
    let known = DESCENDANTS | TOPOLOGICAL | LEAVES | NO_LEAVES;
    known_flags(flags, known, "virDomainCheckpointListAllChildren")?;
    let Checkpoint { name, domain } = checkpoint;
    let views = all(&client, &domain).await?;
    let at = views.iter().position(|view| view.name == name);
    let at = at.ok_or_else(|| missing(&name))?;
    let most = if flags & DESCENDANTS != 0 { views.len() } else { 1 };
    let after = views.into_iter().skip(at + 1).take(most).collect();
    Ok(counted(listed(wanted(flags, after, &domain), room)))
}

fn counted((all, count): (Vec<Checkpoint>, u32)) -> (Vec<Checkpoint>, i32) {
    (all, i32::try_from(count).unwrap_or(i32::MAX))
}

fn missing(name: &str) -> Failure {
    Failure::not_found(AREA, &format!("no domain checkpoint with matching name {name:?}"))
}

pub(crate) async fn lookup(
    client: Client,
    (domain, name, flags): (Domain, String, u32),
) -> Result<Checkpoint, Failure> {
    known_flags(flags, 0, "virDomainCheckpointLookupByName")?;
    let found = all(&client, &domain).await?.into_iter().any(|view| view.name == name);
    if found { Ok(Checkpoint { name, domain }) } else { Err(missing(&name)) }
}

pub(crate) async fn parent(
    client: Client,
    (checkpoint, flags): (Checkpoint, u32),
) -> Result<Checkpoint, Failure> {
    known_flags(flags, 0, "virDomainCheckpointGetParent")?;
    let Checkpoint { name, domain } = checkpoint;
    let found = all(&client, &domain).await?.into_iter().find(|view| view.name == name);
    let parent = found.ok_or_else(|| missing(&name))?.parent;
    let parent = parent.ok_or_else(|| {
        Failure::not_found(AREA, &format!("checkpoint {name:?} does not have a parent"))
    })?;
    Ok(Checkpoint { name: parent, domain })
}

pub(crate) async fn delete(
    client: Client,
    (checkpoint, flags): (Checkpoint, u32),
) -> Result<(), Failure> {
    const CHILDREN: u32 = 1;
    const METADATA_ONLY: u32 = 2;
    const CHILDREN_ONLY: u32 = 4;
    let known = CHILDREN | METADATA_ONLY | CHILDREN_ONLY;
    known_flags(flags, known, "virDomainCheckpointDelete")?;
    let children = match (flags & CHILDREN != 0, flags & CHILDREN_ONLY != 0) {
        (true, true) => {
            let text = "children go with a checkpoint, or instead of it";
            return Err(Failure::invalid_argument(AREA, text));
        }
        (true, false) => Children::Too,
        (false, true) => Children::Only,
        (false, false) => Children::Stay,
    };
    let delete = DeleteCheckpoint {
        domain: checkpoint.domain.reference(),
        name: checkpoint.name,
        children,
        metadata_only: flags & METADATA_ONLY != 0,
    };
    client.ask(AREA, delete).await
}
