//! vol-…, but for the transfer of their bytes.

use std::fmt::Write as _;

use api::types::{CloneMode, MadeVolume, ResizeVolume, Volume};

use super::{element, lost, pretty};
use crate::args::{
    self, VolClone, VolCreate, VolCreateAs, VolCreateFrom, VolDelete, VolInfo, VolList, VolPool,
    VolResize, VolWipe,
};
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;
use crate::verbs::memory::scaled;
use crate::verbs::{Session, is, read_document};

impl Session {
    /// The volume that is meant: of a pool by its name, else by its path.
    pub(super) async fn volume(&self, vol: &str, pool: Option<&str>) -> Result<Volume, Failure> {
        if let Some(pool) = pool {
            self.of_pool(pool, self.client.pool(pool)).await?;
            match self.client.volume(pool, vol).await {
                Ok(found) => return Ok(found),
                Err(error) if is(&error, "not-found") => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.client.volume_at(vol).await {
            Ok(found) => Ok(found),
            Err(error) if is(&error, "not-found") && pool.is_some() => Err(lost("vol", vol)),
            Err(error) if is(&error, "not-found") => {
                let line = format!("failed to get vol '{vol}', specifying --pool might help");
                Err(Failure::new(crate::failure::Exit::NotFound, line))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Wait for the job that makes a volume, if one does.
    async fn made(&self, made: MadeVolume) -> Result<(), Failure> {
        match made {
            MadeVolume::Volume(_) => Ok(()),
            MadeVolume::Job(job) => self.wait_for(*job).await,
        }
    }
}

fn no_metadata(asked: bool) -> Result<(), Failure> {
    if asked {
        let line =
            "metadata of qcow2 volumes is not allocated ahead; leave --prealloc-metadata out";
        return Err(Failure::usage(line));
    }
    Ok(())
}

pub(in crate::verbs) async fn list(session: &Session, args: VolList) -> Result<(), Failure> {
    let volumes = session.of_pool(&args.pool, session.client.volumes(&args.pool)).await?;
    if session.terminal.json {
        session.terminal.print_json(&volumes);
        return Ok(());
    }
    let mut table = if args.details {
        Table::new(["Name", "Path", "Type", "Capacity", "Allocation"])
    } else {
        Table::new(["Name", "Path"])
    };
    for volume in volumes {
        let mut row = vec![volume.name, volume.path];
        if args.details {
            row.extend([
                volume.kind,
                pretty(volume.capacity_bytes),
                pretty(volume.allocation_bytes),
            ]);
        }
        table.push(row);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

pub(in crate::verbs) async fn info(session: &Session, args: VolInfo) -> Result<(), Failure> {
    let volume = session.volume(&args.of.vol, args.of.pool.as_deref()).await?;
    // As it is now.
    let volume = session.client.volume(&volume.pool, &volume.name).await?;
    if session.terminal.json {
        session.terminal.print_json(&volume);
        return Ok(());
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{:15} {}", format!("{name}:"), printable(value));
    };
    let size = |n: u64| if args.bytes { format!("{n} bytes") } else { pretty(n) };
    line("Name", &volume.name);
    line("Type", &volume.kind);
    line("Capacity", &size(volume.capacity_bytes));
    if args.physical {
        line("Physical", &size(volume.physical_bytes));
    } else {
        line("Allocation", &size(volume.allocation_bytes));
    }
    if let Some(reason) = &volume.damaged {
        line("Messages", reason);
    }
    session.terminal.print(&out);
    Ok(())
}

/// One fact about a volume.
async fn tell(
    session: &Session,
    args: args::Volume,
    fact: impl FnOnce(Volume) -> String,
) -> Result<(), Failure> {
    let volume = session.volume(&args.vol, args.pool.as_deref()).await?;
    session.terminal.print(&format!("{}\n", printable(&fact(volume))));
    Ok(())
}

pub(in crate::verbs) async fn name(session: &Session, args: args::Volume) -> Result<(), Failure> {
    tell(session, args, |volume| volume.name).await
}

/// A file's key is its path.
pub(in crate::verbs) async fn path(session: &Session, args: args::Volume) -> Result<(), Failure> {
    tell(session, args, |volume| volume.path).await
}

pub(in crate::verbs) async fn pool(session: &Session, args: VolPool) -> Result<(), Failure> {
    let volume = session.volume(&args.vol, None).await?;
    let pool = session.client.pool(&volume.pool).await?;
    let shown = if args.uuid { pool.uuid.to_string() } else { printable(&pool.name) };
    session.terminal.print(&format!("{shown}\n"));
    Ok(())
}

pub(in crate::verbs) async fn dumpxml(
    session: &Session,
    args: args::Volume,
) -> Result<(), Failure> {
    let volume = session.volume(&args.vol, args.pool.as_deref()).await?;
    session.terminal.print(&session.client.volume_xml(&volume.pool, &volume.name).await?);
    Ok(())
}

pub(in crate::verbs) async fn create(session: &Session, args: VolCreate) -> Result<(), Failure> {
    no_metadata(args.prealloc_metadata)?;
    let file = args.file.display().to_string();
    let xml = read_document(&args.file)?;
    let name = name_in(&xml);
    session.of_pool(&args.pool, session.client.pool(&args.pool)).await?;
    let made = session.client.create_volume(&args.pool, xml, None).await.map_err(|error| {
        Failure::of_document(error, format!("Failed to create vol from {file}"), &file)
    })?;
    let name = name.unwrap_or_default();
    session
        .made(made)
        .await
        .map_err(|failure| failure.while_doing(format!("Failed to create vol from {file}")))?;
    session.terminal.say(&format!("Vol {} created from {}\n", printable(&name), printable(&file)));
    Ok(())
}

/// The name in a document that the daemon has accepted.
fn name_in(xml: &str) -> Option<String> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let name = document.root_element().children().find(|node| node.has_tag_name("name"))?;
    name.text().map(|text| text.trim().to_owned())
}

pub(in crate::verbs) async fn create_as(
    session: &Session,
    args: VolCreateAs,
) -> Result<(), Failure> {
    no_metadata(args.prealloc_metadata)?;
    let mut xml = format!("<volume>\n  {}\n", element("name", &args.name));
    let capacity = scaled(&args.capacity, "", "capacity")?;
    let _ = writeln!(xml, "  <capacity>{capacity}</capacity>");
    if let Some(allocation) = &args.allocation {
        let allocation = scaled(allocation, "", "allocation")?;
        let _ = writeln!(xml, "  <allocation>{allocation}</allocation>");
    }
    if let Some(format) = &args.format {
        let format = format.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;");
        let _ = writeln!(xml, "  <target>\n    <format type='{format}'/>\n  </target>");
    }
    if let Some(backing) = &args.backing_vol {
        let backing = session.volume(backing, Some(&args.pool)).await?;
        let format = args.backing_vol_format.unwrap_or(backing.format);
        let format = format.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;");
        let path = element("path", &backing.path);
        let _ = writeln!(
            xml,
            "  <backingStore>\n    {path}\n    <format type='{format}'/>\n  </backingStore>"
        );
    }
    xml.push_str("</volume>\n");
    if args.print_xml {
        session.terminal.print(&xml);
        return Ok(());
    }
    let attempt = || format!("Failed to create vol {}", args.name);
    session.of_pool(&args.pool, session.client.pool(&args.pool)).await?;
    let made = session
        .client
        .create_volume(&args.pool, xml, None)
        .await
        .map_err(|error| Failure::from(error).while_doing(attempt()))?;
    session.made(made).await.map_err(|failure| failure.while_doing(attempt()))?;
    session.terminal.say(&format!("Vol {} created\n", printable(&args.name)));
    Ok(())
}

pub(in crate::verbs) async fn create_from(
    session: &Session,
    args: VolCreateFrom,
) -> Result<(), Failure> {
    no_metadata(args.prealloc_metadata)?;
    let file = args.file.display().to_string();
    let xml = read_document(&args.file)?;
    let name = name_in(&xml).unwrap_or_default();
    session.of_pool(&args.pool, session.client.pool(&args.pool)).await?;
    let input = args.inputpool.as_deref().unwrap_or(&args.pool);
    let from = session.volume(&args.vol, Some(input)).await?;
    let attempt = || format!("Failed to create vol from {file}");
    let made = session
        .client
        .create_volume(&args.pool, xml, Some((&from.pool, &from.name)))
        .await
        .map_err(|error| Failure::of_document(error, attempt(), &file))?;
    session.made(made).await.map_err(|failure| failure.while_doing(attempt()))?;
    let (name, from) = (printable(&name), printable(&from.name));
    session.terminal.say(&format!("Vol {name} created from input vol {from}\n"));
    Ok(())
}

pub(in crate::verbs) async fn clone(session: &Session, args: VolClone) -> Result<(), Failure> {
    no_metadata(args.prealloc_metadata)?;
    let from = session.volume(&args.vol, args.pool.as_deref()).await?;
    let mode = match (args.reflink, args.overlay) {
        (_, true) => CloneMode::Overlay,
        (true, _) => CloneMode::Reflink,
        _ => CloneMode::Copy,
    };
    let attempt = || format!("Failed to clone vol from {}", from.name);
    let made = session
        .client
        .clone_volume(&from.pool, &from.name, &args.newname, mode)
        .await
        .map_err(|error| Failure::from(error).while_doing(attempt()))?;
    session.made(made).await.map_err(|failure| failure.while_doing(attempt()))?;
    let (new, old) = (printable(&args.newname), printable(&from.name));
    session.terminal.say(&format!("Vol {new} cloned from {old}\n"));
    Ok(())
}

pub(in crate::verbs) async fn delete(session: &Session, args: VolDelete) -> Result<(), Failure> {
    let volume = session.volume(&args.of.vol, args.of.pool.as_deref()).await?;
    session.client.delete_volume(&volume.pool, &volume.name).await.map_err(|error| {
        Failure::from(error).while_doing(format!("Failed to delete vol {}", args.of.vol))
    })?;
    session.terminal.say(&format!("Vol {} deleted\n", printable(&args.of.vol)));
    Ok(())
}

pub(in crate::verbs) async fn resize(session: &Session, args: VolResize) -> Result<(), Failure> {
    let (text, negative) = match args.capacity.strip_prefix('-') {
        Some(text) => (text, true),
        None => (args.capacity.as_str(), false),
    };
    if negative && !(args.delta && args.shrink) {
        return Err(Failure::usage("negative size requires --delta and --shrink"));
    }
    let capacity_bytes = scaled(text, "", "capacity")?;
    let volume = session.volume(&args.vol, args.pool.as_deref()).await?;
    let (allocate, shrink, delta) = (args.allocate, args.shrink, args.delta);
    let wanted = ResizeVolume { capacity_bytes, delta, allocate, shrink };
    let how = if delta { "by" } else { "to" };
    let (name, size) = (printable(&volume.name), printable(&args.capacity));
    session.client.resize_volume(&volume.pool, &volume.name, &wanted).await.map_err(|error| {
        let line = format!("Failed to change size of volume '{}' {how} {size}", volume.name);
        Failure::from(error).while_doing(line)
    })?;
    let line = format!("Size of volume '{name}' successfully changed {how} {size}\n");
    session.terminal.say(&line);
    Ok(())
}

pub(in crate::verbs) async fn wipe(session: &Session, args: VolWipe) -> Result<(), Failure> {
    let volume = session.volume(&args.of.vol, args.of.pool.as_deref()).await?;
    let attempt = || format!("Failed to wipe vol {}", volume.name);
    let job =
        session.client.wipe_volume(&volume.pool, &volume.name, args.algorithm.as_deref()).await;
    let job = job.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    session.terminal.say(&format!("Vol {} wiped\n", printable(&volume.name)));
    Ok(())
}
