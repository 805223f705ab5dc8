//! save, restore, save-image-*, managedsave and managedsave-*.

use std::path::Path;

use api::types::{DefineSaved, DumpDomain, DumpMode, ManagedSave, RestoreDomain, SaveDomain};

use super::network_edit::Draft;
use super::{Session, read_document};
use crate::args::{
    CloneDomain, Domain, Dump, GoesOn, Managedsave, ManagedsaveDefine, ManagedsaveEdit, Restore,
    Save, SaveImage, SaveImageDefine, SaveImageEdit, SavedDump,
};
use crate::failure::Failure;
use crate::terminal::printable;

/// The daemon works elsewhere: a relative path is ours.
fn absolute(file: &Path) -> Result<String, Failure> {
    let wrong = |_| Failure::usage(format!("'{}' is no path of a file", file.display()));
    Ok(std::path::absolute(file).map_err(wrong)?.display().to_string())
}

fn document(file: Option<&Path>) -> Result<Option<String>, Failure> {
    file.map(read_document).transpose()
}

pub(super) async fn save(session: &Session, args: Save) -> Result<(), Failure> {
    let domain = &args.domain;
    let how = SaveDomain {
        file: absolute(&args.file)?,
        xml: document(args.xml.as_deref())?,
        running: args.goes_on.running(),
        bypass_cache: args.bypass_cache,
        format: args.packing.format(),
    };
    let attempt = || format!("Failed to save domain '{domain}' to {}", args.file.display());
    let job = session.of(domain, session.client.save(domain, &how)).await;
    let job = job.map_err(|failure| failure.unless_lost(attempt()))?;
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    let line = format!("\nDomain '{}' saved to {}\n", printable(domain), args.file.display());
    session.terminal.say(&line);
    Ok(())
}

pub(super) async fn clone(session: &Session, args: CloneDomain) -> Result<(), Failure> {
    match args.count {
        None => clone_one(session, &args, &args.name).await,
        Some(count) => {
            for number in 1..=count {
                clone_one(session, &args, &format!("{}-{number}", args.name)).await?;
            }
            Ok(())
        }
    }
}

async fn clone_one(session: &Session, args: &CloneDomain, name: &str) -> Result<(), Failure> {
    let of = &args.domain;
    let attempt = || match args.from_save {
        true => format!("Failed to make a domain from {of}"),
        false => format!("Failed to clone domain '{of}'"),
    };
    let job = match args.from_save {
        true => session.client.clone_saved(&absolute(of.as_ref())?, name).await.map_err(Into::into),
        false => session.of(of, session.client.clone_domain(of, name)).await,
    };
    let job = job.map_err(|failure: Failure| failure.unless_lost(attempt()))?;
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    let line = match args.from_save {
        true => format!("Domain '{}' made from {}\n", printable(name), printable(of)),
        false => format!("Domain '{}' cloned as '{}'\n", printable(of), printable(name)),
    };
    session.terminal.say(&line);
    Ok(())
}

pub(super) async fn dump(session: &Session, args: Dump) -> Result<(), Failure> {
    if let Some(format) = args.format.as_deref().filter(|format| *format != "elf") {
        let line = format!("cores are written as elf, not as '{format}'");
        return Err(Failure::usage(line));
    }
    let mode = match (args.live, args.crash, args.reset) {
        (true, ..) => DumpMode::Live,
        (_, true, _) => DumpMode::Crash,
        (.., true) => DumpMode::Reset,
        _ => DumpMode::Paused,
    };
    let (domain, file) = (&args.domain, args.file.display());
    let how = DumpDomain { file: absolute(&args.file)?, mode };
    let attempt = || format!("Failed to core dump domain '{domain}' to {file}");
    let job = session.of(domain, session.client.dump(domain, &how)).await;
    let job = job.map_err(|failure| failure.unless_lost(attempt()))?;
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    session.terminal.say(&format!("\nDomain '{}' dumped to {file}\n", printable(domain)));
    Ok(())
}

pub(super) async fn restore(session: &Session, args: Restore) -> Result<(), Failure> {
    let how = RestoreDomain {
        file: absolute(&args.file)?,
        xml: document(args.xml.as_deref())?,
        running: args.goes_on.running(),
        force: args.force,
        verify: args.verify,
        reset_nvram: args.reset_nvram,
    };
    let restored = session.client.restore(&how).await;
    let file = args.file.display();
    let attempt = || format!("Failed to restore domain from {file}");
    restored.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    session.terminal.say(&format!("Domain restored from {file}\n"));
    Ok(())
}

pub(super) async fn managedsave(session: &Session, args: Managedsave) -> Result<(), Failure> {
    let domain = &args.domain;
    let (running, bypass_cache) = (args.goes_on.running(), args.bypass_cache);
    let format = args.packing.format();
    let how = ManagedSave { running, bypass_cache, with_host: false, format };
    let attempt = || format!("Failed to save domain '{domain}' state");
    let job = session.of(domain, session.client.managed_save(domain, &how)).await;
    let job = job.map_err(|failure| failure.unless_lost(attempt()))?;
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    let line = format!("\nDomain '{}' state saved by manor\n", printable(domain));
    session.terminal.say(&line);
    Ok(())
}

pub(super) async fn managedsave_remove(session: &Session, args: Domain) -> Result<(), Failure> {
    let domain = &args.domain;
    let found = session.of(domain, session.client.domain(domain)).await?;
    if !found.summary.managed_save {
        let line =
            format!("Domain '{}' has no manage save image; removal skipped\n", printable(domain));
        session.terminal.say(&line);
        return Ok(());
    }
    let dropped = session.of(domain, session.client.drop_managed_save(domain)).await;
    let attempt = format!("Failed to remove managed save image for domain '{domain}'");
    dropped.map_err(|failure| failure.unless_lost(attempt))?;
    let line = format!("Removed managedsave image for domain '{}'\n", printable(domain));
    session.terminal.say(&line);
    Ok(())
}

pub(super) async fn managedsave_dumpxml(session: &Session, args: SavedDump) -> Result<(), Failure> {
    print(session, &session.client.managed_save_xml(&args.of, args.security_info).await?);
    Ok(())
}

pub(super) async fn managedsave_define(
    session: &Session,
    args: ManagedsaveDefine,
) -> Result<(), Failure> {
    let xml = read_document(&args.xml)?;
    define_managed(session, &args.domain, xml, args.goes_on).await
}

pub(super) async fn managedsave_edit(
    session: &Session,
    args: ManagedsaveEdit,
) -> Result<(), Failure> {
    let domain = &args.domain;
    let old = session.client.managed_save_xml(domain, true).await?;
    match edited(domain, &old, args.goes_on)? {
        Some(xml) => define_managed(session, domain, xml, args.goes_on).await,
        None => not_changed(session, &format!("Managed save image of domain '{domain}'")),
    }
}

async fn define_managed(
    session: &Session,
    domain: &str,
    xml: String,
    goes_on: GoesOn,
) -> Result<(), Failure> {
    let what = DefineSaved { file: None, xml: Some(xml), running: goes_on.running() };
    let defined = session.client.define_managed_save(domain, &what).await;
    let attempt = || format!("Failed to update the managed save state of domain '{domain}'");
    defined.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    let line = format!("Managed save state file of domain '{}' updated.\n", printable(domain));
    session.terminal.say(&line);
    Ok(())
}

pub(super) async fn save_image_dumpxml(session: &Session, args: SavedDump) -> Result<(), Failure> {
    let file = absolute(Path::new(&args.of))?;
    print(session, &session.client.saved_xml(&file, args.security_info).await?);
    Ok(())
}

pub(super) async fn save_image_define(
    session: &Session,
    args: SaveImageDefine,
) -> Result<(), Failure> {
    let xml = read_document(&args.xml)?;
    define(session, &absolute(&args.file)?, xml, args.goes_on).await
}

pub(super) async fn save_image_edit(session: &Session, args: SaveImageEdit) -> Result<(), Failure> {
    let file = absolute(&args.file)?;
    let old = session.client.saved_xml(&file, true).await?;
    match edited("saved-state", &old, args.goes_on)? {
        Some(xml) => define(session, &file, xml, args.goes_on).await,
        None => not_changed(session, &format!("Saved image {file}")),
    }
}

pub(super) async fn save_image_check(session: &Session, args: SaveImage) -> Result<(), Failure> {
    let file = absolute(&args.file)?;
    let job = session.client.check_saved(&file).await?;
    session.wait_for(job).await?;
    session.terminal.say(&format!("State file {file} is intact\n"));
    Ok(())
}

async fn define(
    session: &Session,
    file: &str,
    xml: String,
    goes_on: GoesOn,
) -> Result<(), Failure> {
    let what =
        DefineSaved { file: Some(file.to_owned()), xml: Some(xml), running: goes_on.running() };
    let defined = session.client.define_saved(&what).await;
    let attempt = || format!("Failed to update {file}");
    defined.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    session.terminal.say(&format!("State file {file} updated.\n"));
    Ok(())
}

/// What the user made of a definition; none if nothing changes.
fn edited(name: &str, old: &str, goes_on: GoesOn) -> Result<Option<String>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::other(format!("the definition cannot be written for the editor: {error}"))
    };
    let new = Draft::new(&format!("{name}.xml"), old).map_err(failed)?.edit()?;
    Ok((new != old || goes_on.running().is_some()).then_some(new))
}

fn not_changed(session: &Session, what: &str) -> Result<(), Failure> {
    session.terminal.say(&format!("{} XML configuration not changed.\n", printable(what)));
    Ok(())
}

fn print(session: &Session, xml: &str) {
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "xml": xml }));
    } else {
        session.terminal.print(xml.trim_end_matches('\n'));
        session.terminal.print("\n");
    }
}
