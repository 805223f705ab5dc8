//! snapshot-*.

mod list;
mod spec;

pub(super) use list::list;

use api::client::ClientError;
use api::types::{CreateSnapshot, RedefineSnapshot, Revert, Snapshot, SnapshotReach};

use super::network_edit::Draft;
use super::{Session, is, read_document};
use crate::args::{
    HowMade, SnapshotCreate, SnapshotCreateAs, SnapshotCurrent, SnapshotDelete, SnapshotDumpxml,
    SnapshotEdit, SnapshotOne, SnapshotRevert,
};
use crate::failure::{Exit, Failure};
use crate::terminal::printable;

/// For a snapshot of which nothing is said.
const EMPTY: &str = "<domainsnapshot/>";

impl Session {
    /// What was not found is a snapshot, if the domain is there.
    async fn of_snapshot<T>(
        &self,
        domain: &str,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Failure> {
        match call.await {
            Err(error) if is(&error, "not-found") => {
                self.of(domain, self.client.domain(domain)).await?;
                Err(error.into())
            }
            reply => Ok(reply?),
        }
    }

    async fn one(&self, args: &SnapshotOne) -> Result<Snapshot, Failure> {
        let domain = &args.domain;
        match &args.snapshotname {
            Some(name) => self.of_snapshot(domain, self.client.snapshot(domain, name)).await,
            None => self.of_snapshot(domain, self.client.current_snapshot(domain)).await,
        }
    }

    fn show(&self, xml: &str) {
        if self.terminal.json {
            self.terminal.print_json(&serde_json::json!({ "xml": xml }));
        } else {
            self.terminal.print(xml.trim_end_matches('\n'));
            self.terminal.print("\n");
        }
    }
}

pub(super) async fn create(session: &Session, args: SnapshotCreate) -> Result<(), Failure> {
    let xml = match &args.xmlfile {
        Some(file) => read_document(file)?,
        None => EMPTY.to_owned(),
    };
    let from = args.xmlfile.as_ref().map(|file| format!(" from '{}'", file.display()));
    let from = from.unwrap_or_default();
    if !args.redefine {
        return make(session, &args.domain, xml, args.how, &from).await;
    }
    let what = RedefineSnapshot { xml, current: args.current };
    let domain = &args.domain;
    let told = session.of_snapshot(domain, session.client.redefine_snapshot(domain, &what)).await?;
    session.terminal.say(&format!("Domain snapshot {} created{from}\n", printable(&told.name)));
    Ok(())
}

pub(super) async fn create_as(session: &Session, args: SnapshotCreateAs) -> Result<(), Failure> {
    let xml = spec::document(&args)?;
    if args.print_xml {
        session.show(&xml);
        return Ok(());
    }
    make(session, &args.domain, xml, args.how, "").await
}

async fn make(
    session: &Session,
    domain: &str,
    xml: String,
    how: HowMade,
    from: &str,
) -> Result<(), Failure> {
    let how = CreateSnapshot {
        xml,
        disk_only: how.disk_only,
        reuse_external: how.reuse_external,
        no_metadata: how.no_metadata,
        quiesce: how.quiesce,
        halt: how.halt,
        live: how.live,
    };
    let begun = session.of(domain, session.client.create_snapshot(domain, &how)).await?;
    session.wait_for(begun.job).await?;
    let name = printable(&begun.name);
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "name": begun.name }));
    } else {
        session.terminal.say(&format!("Domain snapshot {name} created{from}\n"));
    }
    Ok(())
}

pub(super) async fn dumpxml(session: &Session, args: SnapshotDumpxml) -> Result<(), Failure> {
    let (domain, name) = (&args.domain, &args.snapshotname);
    let xml = session
        .of_snapshot(domain, session.client.snapshot_xml(domain, name, args.security_info))
        .await?;
    session.show(&xml);
    Ok(())
}

pub(super) async fn info(session: &Session, args: SnapshotOne) -> Result<(), Failure> {
    let snapshot = session.one(&args).await?;
    if session.terminal.json {
        session.terminal.print_json(&snapshot);
        return Ok(());
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(&format!("{:<15} {}\n", format!("{name}:"), printable(value)));
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    line("Name", &snapshot.name);
    line("Domain", &args.domain);
    line("Current", yes(snapshot.current));
    line("State", &snapshot.state);
    line("Location", if snapshot.external { "external" } else { "internal" });
    line("Parent", snapshot.parent.as_deref().unwrap_or("-"));
    line("Children", &snapshot.children.to_string());
    line("Descendants", &snapshot.descendants.to_string());
    line("Metadata", "yes");
    out.push('\n');
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn parent(session: &Session, args: SnapshotOne) -> Result<(), Failure> {
    let snapshot = session.one(&args).await?;
    let name = printable(&snapshot.name);
    let Some(parent) = &snapshot.parent else {
        return Err(Failure::new(Exit::NotFound, format!("snapshot '{name}' has no parent")));
    };
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "name": parent }));
    } else {
        session.terminal.print(&format!("{}\n", printable(parent)));
    }
    Ok(())
}

pub(super) async fn current(session: &Session, args: SnapshotCurrent) -> Result<(), Failure> {
    let domain = &args.domain;
    if let Some(name) = &args.snapshotname {
        let xml =
            session.of_snapshot(domain, session.client.snapshot_xml(domain, name, true)).await?;
        let what = RedefineSnapshot { xml, current: true };
        session.client.redefine_snapshot(domain, &what).await?;
        session.terminal.say(&format!("Snapshot {} set as current", printable(name)));
        return Ok(());
    }
    let found = session.of_snapshot(domain, session.client.current_snapshot(domain)).await?;
    if args.name {
        session.terminal.print(&format!("{}\n", printable(&found.name)));
        return Ok(());
    }
    let xml = session.client.snapshot_xml(domain, &found.name, args.security_info).await?;
    session.show(&xml);
    Ok(())
}

pub(super) async fn edit(session: &Session, args: SnapshotEdit) -> Result<(), Failure> {
    let domain = &args.one.domain;
    let found = session.one(&args.one).await?;
    let old = session.client.snapshot_xml(domain, &found.name, true).await?;
    let failed = |error: std::io::Error| {
        Failure::other(format!("the snapshot cannot be written for the editor: {error}"))
    };
    let new = Draft::new("snapshot.xml", &old).map_err(failed)?.edit()?;
    let name = printable(&found.name);
    if new == old && !args.one.current {
        let line = format!("Snapshot {name} XML configuration not changed.\n");
        session.terminal.say(&line);
        return Ok(());
    }
    let what = RedefineSnapshot { xml: new, current: args.one.current };
    let told = session.client.redefine_snapshot(domain, &what).await;
    told.map_err(|error| {
        Failure::from(error).while_doing(format!("Failed to update snapshot {name}"))
    })?;
    session.terminal.say(&format!("Snapshot {name} edited.\n"));
    Ok(())
}

pub(super) async fn revert(session: &Session, args: SnapshotRevert) -> Result<(), Failure> {
    let domain = &args.one.domain;
    let found = session.one(&args.one).await?;
    let running = match (args.running, args.paused) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    let how = Revert { running, force: args.force, reset_nvram: args.reset_nvram };
    let job = session.client.revert_to_snapshot(domain, &found.name, &how).await?;
    session.wait_for(job).await?;
    session.terminal.say(&format!("Domain snapshot {} reverted\n", printable(&found.name)));
    Ok(())
}

pub(super) async fn delete(session: &Session, args: SnapshotDelete) -> Result<(), Failure> {
    let domain = &args.one.domain;
    let found = session.one(&args.one).await?;
    let reach = match (args.children, args.children_only) {
        (true, _) => SnapshotReach::WithDescendants,
        (false, true) => SnapshotReach::DescendantsOnly,
        (false, false) => SnapshotReach::One,
    };
    let name = printable(&found.name);
    let job = session.client.delete_snapshot(domain, &found.name, reach, args.metadata).await;
    let attempt = || format!("Failed to delete snapshot {name}");
    let job = job.map_err(|error| Failure::from(error).while_doing(attempt()))?;
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    let what = if args.children_only { " children" } else { "" };
    session.terminal.say(&format!("Domain snapshot {name}{what} deleted\n"));
    Ok(())
}
