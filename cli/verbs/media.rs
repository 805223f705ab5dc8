//! change-media, blockresize, domblkthreshold.

use std::path::Path;

use api::types::{Disk, Medium, MediumAction};

use super::Session;
use super::memory::{affects, scaled};
use crate::args::{Blockresize, ChangeMedia, Domblkthreshold};
use crate::failure::{Exit, Failure};

pub(super) async fn change_media(session: &Session, args: ChangeMedia) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let (action, name, done) = match &args {
        ChangeMedia { eject: true, .. } => (MediumAction::Eject, "eject", "ejected"),
        ChangeMedia { insert: true, .. } => (MediumAction::Insert, "insert", "inserted"),
        _ => (MediumAction::Update, "update", "updated"),
    };
    let source = match (&args.source, action) {
        (Some(_), MediumAction::Eject) => {
            return Err(Failure::usage("a medium is ejected without a source"));
        }
        (None, MediumAction::Insert | MediumAction::Update) => {
            return Err(Failure::usage("New disk media source was not specified"));
        }
        // The daemon stands in another directory.
        (Some(source), _) => Some(absolute(source)?),
        (None, _) => None,
    };
    let disk = find(session, &args.domain, &args.path, affects.config && !affects.live).await?;
    let medium = Medium { action, source, block: args.block, force: args.force };
    let call = session.client.change_medium(&args.domain, &disk, &medium, affects);
    call.await.map_err(|error| {
        Failure::from(error).while_doing(format!("Failed to complete action {name} on media"))
    })?;
    session.terminal.say(&format!("Successfully {done} media.\n"));
    Ok(())
}

pub(super) async fn blockresize(session: &Session, args: Blockresize) -> Result<(), Failure> {
    let bytes = scaled(&args.size, "k", "size")?;
    let disk = find(session, &args.domain, &args.path, false).await?;
    let call = session.client.resize_disk(&args.domain, &disk, bytes);
    call.await.map_err(|error| {
        Failure::from(error).while_doing(format!("Failed to resize block device '{}'", args.path))
    })?;
    session.terminal.say(&format!("Block device '{}' is resized\n", args.path));
    Ok(())
}

pub(super) fn absolute(source: &str) -> Result<String, Failure> {
    let wrong = |error| Failure::other(format!("'{source}' is no path: {error}"));
    Ok(std::path::absolute(source).map_err(wrong)?.display().to_string())
}

/// The target of the disk that is named so, or whose image is.
pub(super) async fn find(
    session: &Session,
    domain: &str,
    name: &str,
    stored: bool,
) -> Result<String, Failure> {
    let disks = session.of(domain, session.client.disks(domain, stored)).await?;
    let is_source =
        |disk: &&Disk| disk.source.as_deref().is_some_and(|it| Path::new(it) == Path::new(name));
    let found =
        disks.iter().find(|disk| disk.target == name).or_else(|| disks.iter().find(is_source));
    found.map(|disk| disk.target.clone()).ok_or_else(|| {
        let line = format!("No disk found whose source path or target is {name}");
        Failure::new(Exit::NotFound, line)
    })
}

pub(super) async fn domblkthreshold(
    session: &Session,
    args: Domblkthreshold,
) -> Result<(), Failure> {
    let bytes = Some(scaled(&args.threshold, "", "threshold")?).filter(|bytes| *bytes > 0);
    let call = session.client.set_threshold(&args.domain, &args.dev, bytes);
    session.of(&args.domain, call).await
}
