//! backup-* and checkpoint-*.

use api::types::{self, BeginBackup, CreateCheckpoint};
use serde_json::json;

use super::network_edit::Draft;
use super::{Session, read_document};
use crate::args::{
    BackupBegin, Checkpoint, CheckpointCreate, CheckpointCreateAs, CheckpointDelete,
    CheckpointDumpxml, CheckpointList, Domain,
};
use crate::failure::{Exit, Failure};
use crate::table::Table;
use crate::terminal::printable;

pub(super) async fn begin(session: &Session, args: BackupBegin) -> Result<(), Failure> {
    let domain = &args.domain;
    let xml = args.backupxml.as_deref().map(read_document).transpose()?;
    let how = BeginBackup {
        xml: xml.unwrap_or_else(|| "<domainbackup/>".to_owned()),
        checkpoint: args.checkpointxml.as_deref().map(read_document).transpose()?,
        reuse_external: args.reuse_external,
    };
    let attempt = || format!("Failed to back up domain '{domain}'");
    // What is not found may be a disk, or a checkpoint.
    let job = session.client.begin_backup(domain, &how).await;
    let job = job.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    if !args.wait {
        let line = format!("Backup started (job {})\n", job.id);
        session.terminal.say(&line);
        return Ok(());
    }
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    session.terminal.say(&format!("Domain '{}' backed up\n", printable(domain)));
    Ok(())
}

pub(super) async fn dumpxml(session: &Session, args: Domain) -> Result<(), Failure> {
    let domain = &args.domain;
    let xml = session.of(domain, session.client.backup_xml(domain)).await?;
    print(session, &xml);
    Ok(())
}

pub(super) async fn create(session: &Session, args: CheckpointCreate) -> Result<(), Failure> {
    let xml = args.xmlfile.as_deref().map(read_document).transpose()?;
    let CheckpointCreate { redefine, redefine_validate: validate, quiesce, .. } = args;
    make(session, &args.domain, CreateCheckpoint { xml, redefine, validate, quiesce }).await
}

pub(super) async fn create_as(session: &Session, args: CheckpointCreateAs) -> Result<(), Failure> {
    let xml = described(&args)?;
    if args.print_xml {
        print(session, &xml);
        return Ok(());
    }
    let (xml, quiesce) = (Some(xml), args.quiesce);
    let how = CreateCheckpoint { xml, quiesce, ..CreateCheckpoint::default() };
    make(session, &args.domain, how).await
}

async fn make(session: &Session, domain: &str, how: CreateCheckpoint) -> Result<(), Failure> {
    let made = session.client.create_checkpoint(domain, &how).await?;
    if session.terminal.json {
        session.terminal.print_json(&json!(made));
    } else {
        let what = if how.redefine { "redefined" } else { "created" };
        let line = format!("Domain checkpoint {} {what}\n", printable(&made.name));
        session.terminal.say(&line);
    }
    Ok(())
}

/// As XML what the arguments say.
fn described(args: &CheckpointCreateAs) -> Result<String, Failure> {
    let mut xml = "<domaincheckpoint>\n".to_owned();
    for (element, text) in [("name", &args.name), ("description", &args.description)] {
        if let Some(text) = text {
            xml.push_str(&format!("  <{element}>{}</{element}>\n", escaped(text)));
        }
    }
    if !args.diskspec.is_empty() {
        xml.push_str("  <disks>\n");
        for spec in &args.diskspec {
            xml.push_str(&disk(spec)?);
        }
        xml.push_str("  </disks>\n");
    }
    xml.push_str("</domaincheckpoint>\n");
    Ok(xml)
}

fn disk(spec: &str) -> Result<String, Failure> {
    let mut parts = spec.split(',');
    let mut attributes = format!("name='{}'", escaped(parts.next().unwrap_or_default()));
    for part in parts {
        match part.split_once('=') {
            Some((name @ ("checkpoint" | "bitmap"), value)) => {
                attributes.push_str(&format!(" {name}='{}'", escaped(value)));
            }
            _ => {
                return Err(Failure::usage(format!(
                    "'{spec}' is no disk[,checkpoint=type][,bitmap=name]"
                )));
            }
        }
    }
    Ok(format!("    <disk {attributes}/>\n"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

pub(super) async fn list(session: &Session, args: CheckpointList) -> Result<(), Failure> {
    let domain = &args.domain;
    let all = session.of(domain, session.client.checkpoints(domain)).await?;
    if session.terminal.json {
        session.terminal.print_json(&json!(all));
        return Ok(());
    }
    if args.name {
        for checkpoint in &all.checkpoints {
            session.terminal.print(&format!("{}\n", printable(&checkpoint.name)));
        }
        return Ok(());
    }
    let mut header = vec!["Name", "Creation Time"];
    if args.parent {
        header.push("Parent");
    }
    let mut table = Table::new(header);
    for checkpoint in all.checkpoints {
        let mut row = vec![checkpoint.name, time(checkpoint.created)];
        if args.parent {
            row.push(checkpoint.parent.unwrap_or_default());
        }
        table.push(row);
    }
    session.terminal.print(&table.text(true));
    Ok(())
}

fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|it| jiff::Timestamp::from_second(it).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

async fn find(
    session: &Session,
    domain: &str,
    name: &str,
) -> Result<types::CheckpointList, Failure> {
    let all = session.of(domain, session.client.checkpoints(domain)).await?;
    if all.checkpoints.iter().any(|checkpoint| checkpoint.name == name) {
        return Ok(all);
    }
    let text =
        format!("Domain checkpoint not found: no domain checkpoint with matching name '{name}'");
    Err(Failure::new(Exit::NotFound, text))
}

pub(super) async fn info(session: &Session, args: Checkpoint) -> Result<(), Failure> {
    let all = find(session, &args.domain, &args.checkpoint).await?.checkpoints;
    let at = all.iter().position(|it| it.name == args.checkpoint).unwrap_or(0);
    let Some(checkpoint) = all.get(at) else { return Ok(()) };
    if session.terminal.json {
        session.terminal.print_json(&json!(checkpoint));
        return Ok(());
    }
    let after = all.len() - at - 1;
    let yes = |is: bool| if is { "yes" } else { "no" };
    let rows = [
        ("Name:", checkpoint.name.clone()),
        ("Domain:", args.domain.clone()),
        ("Current:", yes(checkpoint.current).to_owned()),
        ("Parent:", checkpoint.parent.clone().unwrap_or_else(|| "-".to_owned())),
        ("Children:", after.min(1).to_string()),
        ("Descendants:", after.to_string()),
    ];
    for (name, value) in rows {
        session.terminal.print(&format!("{name:<15} {}\n", printable(&value)));
    }
    Ok(())
}

pub(super) async fn parent(session: &Session, args: Checkpoint) -> Result<(), Failure> {
    let all = find(session, &args.domain, &args.checkpoint).await?.checkpoints;
    let found = all.into_iter().find(|it| it.name == args.checkpoint);
    let Some(parent) = found.and_then(|it| it.parent) else {
        let text = format!("checkpoint '{}' has no parent", args.checkpoint);
        return Err(Failure::other(text));
    };
    session.terminal.print(&format!("{}\n", printable(&parent)));
    Ok(())
}

pub(super) async fn checkpoint_dumpxml(
    session: &Session,
    args: CheckpointDumpxml,
) -> Result<(), Failure> {
    find(session, &args.domain, &args.checkpoint).await?;
    let query = format!("no_domain={}&size={}", args.no_domain, args.size);
    let xml = session.client.checkpoint_xml(&args.domain, &args.checkpoint, &query).await?;
    print(session, &xml);
    Ok(())
}

pub(super) async fn delete(session: &Session, args: CheckpointDelete) -> Result<(), Failure> {
    let (domain, name) = (&args.domain, &args.checkpoint);
    find(session, domain, name).await?;
    let query = format!(
        "children={}&children_only={}&metadata_only={}",
        args.children, args.children_only, args.metadata
    );
    let deleted = session.client.delete_checkpoint(domain, name, &query).await;
    let attempt = || format!("Failed to delete checkpoint {name}");
    deleted.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    let what = if args.children_only { "children deleted" } else { "deleted" };
    session.terminal.say(&format!("Domain checkpoint {} {what}\n", printable(name)));
    Ok(())
}

pub(super) async fn edit(session: &Session, args: Checkpoint) -> Result<(), Failure> {
    let (domain, name) = (&args.domain, &args.checkpoint);
    find(session, domain, name).await?;
    let old = session.client.checkpoint_xml(domain, name, "").await?;
    let failed = |error: std::io::Error| {
        Failure::other(format!("the checkpoint cannot be written for the editor: {error}"))
    };
    let new = Draft::new("checkpoint.xml", &old).map_err(failed)?.edit()?;
    if new == old {
        let line = format!("Checkpoint {} XML configuration not changed.\n", printable(name));
        session.terminal.say(&line);
        return Ok(());
    }
    let how = CreateCheckpoint { xml: Some(new), redefine: true, ..CreateCheckpoint::default() };
    make(session, domain, how).await
}

fn print(session: &Session, xml: &str) {
    if session.terminal.json {
        session.terminal.print_json(&json!({ "xml": xml }));
    } else {
        session.terminal.print(xml.trim_end_matches('\n'));
        session.terminal.print("\n");
    }
}
