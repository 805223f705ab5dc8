//! pool-…

use std::fmt::Write as _;
use std::path::Path;

use api::client::ClientError;
use api::types::Pool;

use super::{element, lost, pretty};
use crate::args::{
    self, FindStoragePoolSources, PoolAs, PoolBuild, PoolCreate, PoolDefine, PoolDumpxml, PoolInfo,
    PoolList,
};
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;
use crate::verbs::host::show_xml;
use crate::verbs::{Session, is, read_document};

impl Session {
    /// Name the pool that was not found as virsh does.
    pub(super) async fn of_pool<T>(
        &self,
        pool: &str,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Failure> {
        match call.await {
            Ok(reply) => Ok(reply),
            Err(error) if is(&error, "not-found") => {
                let all = self.client.pools().await.unwrap_or_default();
                Err(lost("pool", pool).hint_near(pool, all.into_iter().map(|pool| pool.name)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Do it, and say that it is done.
    async fn change_pool(&self, pool: &str, verb: &str, done: &str) -> Result<(), Failure> {
        let attempt = format!("Failed to {} pool {pool}", verb.split('?').next().unwrap_or(verb));
        let result = self.of_pool(pool, self.client.pool_verb(pool, verb)).await;
        result.map_err(|failure| failure.unless_lost(attempt))?;
        self.terminal.say(&format!("Pool {} {done}\n", printable(pool)));
        Ok(())
    }
}

pub(in crate::verbs) async fn define(session: &Session, args: PoolDefine) -> Result<(), Failure> {
    let xml = read_document(&args.file)?;
    let (file, what) = (Some(args.file.as_path()), "define");
    accept(session, xml, file, what, "", "defined").await
}

pub(in crate::verbs) async fn create(session: &Session, args: PoolCreate) -> Result<(), Failure> {
    let xml = read_document(&args.file)?;
    let query = if args.build { "?transient=true&build=true" } else { "?transient=true" };
    accept(session, xml, Some(&args.file), "create", query, "created").await
}

async fn accept(
    session: &Session,
    xml: String,
    file: Option<&Path>,
    what: &str,
    query: &str,
    done: &str,
) -> Result<(), Failure> {
    let file = file.map(|file| file.display().to_string());
    let from = file.as_ref().map(|file| format!(" from {}", printable(file))).unwrap_or_default();
    let pool = session.client.define_pool(xml, query).await.map_err(|error| {
        let attempt = format!("Failed to {what} pool{from}");
        Failure::of_document(error, attempt, file.as_deref().unwrap_or("definition"))
    })?;
    if session.terminal.json {
        session.terminal.print_json(&pool);
    }
    session.terminal.say(&format!("Pool {} {done}{from}\n", printable(&pool.name)));
    Ok(())
}

fn xml_of(args: &PoolAs) -> Result<String, Failure> {
    let source = source_of(args);
    if args.kind == "dir" && !source.is_empty() {
        return Err(Failure::usage("pools in directories have no source; only --target is used"));
    }
    let target = args
        .target
        .as_deref()
        .map(|path| format!("  <target>\n    {}\n  </target>\n", element("path", path)));
    let kind = args.kind.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;");
    let name = element("name", &args.name);
    let target = target.unwrap_or_default();
    Ok(format!("<pool type='{kind}'>\n  {name}\n{source}{target}</pool>\n"))
}

/// Where the storage comes from, as `<source>`; nothing if nothing is said of it.
fn source_of(args: &PoolAs) -> String {
    let attribute = |name: &str, attribute: &str, word: &Option<String>| {
        // virsh's way to leave a word out.
        let word = word.as_ref().filter(|word| *word != "-")?;
        let word = word.replace('&', "&amp;").replace('\'', "&apos;").replace('<', "&lt;");
        Some(format!("    <{name} {attribute}='{word}'/>\n"))
    };
    let name = args.source_name.as_ref().filter(|word| *word != "-");
    let parts = [
        attribute("host", "name", &args.source_host),
        attribute("device", "path", &args.source_dev),
        attribute("dir", "path", &args.source_path),
        name.map(|name| format!("    {}\n", element("name", name))),
        attribute("format", "type", &args.source_format),
    ];
    let parts: String = parts.into_iter().flatten().collect();
    if parts.is_empty() { parts } else { format!("  <source>\n{parts}  </source>\n") }
}

pub(in crate::verbs) async fn define_as(
    session: &Session,
    args: args::PoolDefineAs,
) -> Result<(), Failure> {
    let xml = xml_of(&args.definition)?;
    if args.definition.print_xml {
        session.terminal.print(&xml);
        return Ok(());
    }
    accept(session, xml, None, "define", "", "defined").await
}

pub(in crate::verbs) async fn create_as(
    session: &Session,
    args: args::PoolCreateAs,
) -> Result<(), Failure> {
    let xml = xml_of(&args.definition)?;
    if args.definition.print_xml {
        session.terminal.print(&xml);
        return Ok(());
    }
    let query = if args.build { "?transient=true&build=true" } else { "?transient=true" };
    accept(session, xml, None, "create", query, "created").await
}

pub(in crate::verbs) async fn build(session: &Session, args: PoolBuild) -> Result<(), Failure> {
    if args.overwrite {
        let text = "nothing is overwritten: make the file system (mkfs) or take away what is on the \
                    device (wipefs) first";
        return Err(Failure::usage(text));
    }
    session.change_pool(&args.pool, "build", "built").await
}

pub(in crate::verbs) async fn start(
    session: &Session,
    args: args::PoolStart,
) -> Result<(), Failure> {
    let verb = if args.build { "start?build=true" } else { "start" };
    session.change_pool(&args.pool, verb, "started").await
}

pub(in crate::verbs) async fn destroy(session: &Session, args: args::Pool) -> Result<(), Failure> {
    session.change_pool(&args.pool, "stop", "destroyed").await
}

pub(in crate::verbs) async fn delete(session: &Session, args: args::Pool) -> Result<(), Failure> {
    session.change_pool(&args.pool, "delete", "deleted").await
}

pub(in crate::verbs) async fn refresh(session: &Session, args: args::Pool) -> Result<(), Failure> {
    session.change_pool(&args.pool, "refresh", "refreshed").await
}

pub(in crate::verbs) async fn undefine(session: &Session, args: args::Pool) -> Result<(), Failure> {
    let pool = &args.pool;
    let result = session.of_pool(pool, session.client.undefine_pool(pool)).await;
    result.map_err(|failure| failure.unless_lost(format!("Failed to undefine pool {pool}")))?;
    session.terminal.say(&format!("Pool {} has been undefined\n", printable(pool)));
    Ok(())
}

pub(in crate::verbs) async fn autostart(
    session: &Session,
    args: args::PoolAutostart,
) -> Result<(), Failure> {
    let (pool, enabled) = (&args.pool, !args.disable);
    session.of_pool(pool, session.client.set_pool_autostart(pool, enabled)).await?;
    let marked = if enabled { "marked" } else { "unmarked" };
    session.terminal.say(&format!("Pool {} {marked} as autostarted\n", printable(pool)));
    Ok(())
}

pub(in crate::verbs) async fn dumpxml(session: &Session, args: PoolDumpxml) -> Result<(), Failure> {
    let call = session.client.pool_xml(&args.pool, args.inactive);
    let xml = session.of_pool(&args.pool, call).await?;
    session.terminal.print(&xml);
    Ok(())
}

pub(in crate::verbs) async fn uuid(session: &Session, args: args::Pool) -> Result<(), Failure> {
    let pool = session.of_pool(&args.pool, session.client.pool(&args.pool)).await?;
    session.terminal.print(&format!("{}\n", pool.uuid));
    Ok(())
}

pub(in crate::verbs) async fn name(session: &Session, args: args::Pool) -> Result<(), Failure> {
    let pool = session.of_pool(&args.pool, session.client.pool(&args.pool)).await?;
    session.terminal.print(&format!("{}\n", printable(&pool.name)));
    Ok(())
}

pub(in crate::verbs) async fn info(session: &Session, args: PoolInfo) -> Result<(), Failure> {
    let pool = session.of_pool(&args.pool, session.client.pool(&args.pool)).await?;
    if session.terminal.json {
        session.terminal.print_json(&pool);
        return Ok(());
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{:15} {}", format!("{name}:"), printable(value));
    };
    let yes = |is: bool| if is { "yes" } else { "no" };
    line("Name", &pool.name);
    line("UUID", &pool.uuid.to_string());
    line("State", state(&pool));
    line("Persistent", yes(pool.persistent));
    line("Autostart", yes(pool.autostart));
    if pool.active {
        let size = |n: u64| if args.bytes { n.to_string() } else { pretty(n) };
        line("Capacity", &size(pool.capacity_bytes));
        line("Allocation", &size(pool.allocation_bytes));
        line("Available", &size(pool.available_bytes));
    }
    session.terminal.print(&out);
    Ok(())
}

fn state(pool: &Pool) -> &'static str {
    if pool.active { "running" } else { "inactive" }
}

pub(in crate::verbs) async fn list(session: &Session, args: PoolList) -> Result<(), Failure> {
    let all = session
        .client
        .pools()
        .await
        .map_err(|error| Failure::from(error).while_doing("Failed to list pools"))?;
    // Of two opposite filters neither says anything.
    let admits = |yes: bool, no: bool, is: bool| yes == no || yes == is;
    let kinds: Option<Vec<_>> = args.kind.as_ref().map(|kinds| kinds.split(',').collect());
    let wanted = |pool: &Pool| {
        (args.all || pool.active != args.inactive)
            && admits(args.persistent, args.transient, pool.persistent)
            && admits(args.autostart, args.no_autostart, pool.autostart)
            && kinds.as_ref().is_none_or(|kinds| kinds.contains(&pool.kind.as_str()))
    };
    let rows: Vec<_> = all.into_iter().filter(wanted).collect();
    if session.terminal.json {
        session.terminal.print_json(&rows);
    } else if args.uuid || args.name {
        let line = |pool: &Pool| {
            let uuid = args.uuid.then(|| pool.uuid.to_string());
            let name = args.name.then(|| printable(&pool.name));
            format!("{}\n", uuid.into_iter().chain(name).collect::<Vec<_>>().join(" "))
        };
        session.terminal.print(&rows.iter().map(line).collect::<String>());
    } else {
        session.terminal.print(&table(&rows, args.details).text(!session.terminal.quiet));
    }
    Ok(())
}

fn table(rows: &[Pool], details: bool) -> Table {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    if !details {
        let mut table = Table::new(["Name", "State", "Autostart"]);
        for pool in rows {
            let state = if pool.active { "active" } else { "inactive" };
            table.row([pool.name.clone(), state.to_owned(), yes(pool.autostart)]);
        }
        return table;
    }
    let mut table = Table::new([
        "Name",
        "State",
        "Autostart",
        "Persistent",
        "Capacity",
        "Allocation",
        "Available",
    ]);
    for pool in rows {
        let size = |n: u64| if pool.active { pretty(n) } else { "-".to_owned() };
        table.row([
            pool.name.clone(),
            state(pool).to_owned(),
            yes(pool.autostart),
            yes(pool.persistent),
            size(pool.capacity_bytes),
            size(pool.allocation_bytes),
            size(pool.available_bytes),
        ]);
    }
    table
}
pub(in crate::verbs) async fn capabilities(session: &Session) -> Result<(), Failure> {
    let xml = session.client.pool_capabilities().await?;
    show_xml(session, &xml);
    Ok(())
}

pub(in crate::verbs) async fn sources(
    session: &Session,
    args: FindStoragePoolSources,
) -> Result<(), Failure> {
    let xml = session.client.pool_sources(&args.kind).await.map_err(|error| {
        Failure::from(error).while_doing(format!("Failed to find any {} pool sources", args.kind))
    })?;
    show_xml(session, &xml);
    Ok(())
}
