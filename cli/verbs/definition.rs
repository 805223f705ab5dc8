//! define, undefine, create, dumpxml, autostart, domrename.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use api::types::{CloudInit, Defined, Definition, Mistake, Nvram, Start};

use super::{Session, console};
use crate::args::{self, AtShutdown, Autostart, Create, Define, Domrename, Dumpxml, Undefine};
use crate::failure::{Failure, mistakes, reason};
use crate::terminal::printable;

/// Larger than the daemon takes, so that its refusal is the one that is shown.
const MAX_FILE: u64 = 4 << 20;

/// A document from a file, or from stdin by the name `-` or `/dev/stdin`.
pub(crate) fn read_document(file: &Path) -> Result<String, Failure> {
    let path = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
    let failed = |error: std::io::Error| {
        Failure::other(format!("Failed to open file '{}': {}", file.display(), reason(&error)))
    };
    let opened = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    opened.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::other(format!("'{}' is not UTF-8 text", file.display())))
}

pub(super) async fn define(session: &Session, args: Define) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let definition = with_cloud_init(read_document(&args.file)?, &args.cloud_init)?;
    let defined = session.client.define(definition).await.map_err(|error| {
        Failure::of_document(error, format!("Failed to define domain from {file}"), &file)
    })?;
    session.accepted(&defined, "defined", &file);
    Ok(())
}

pub(super) async fn create(session: &Session, args: Create) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let definition = with_cloud_init(read_document(&args.file)?, &args.cloud_init)?;
    let how = Start { paused: args.paused, reset_nvram: args.reset_nvram, ..Start::default() };
    let created = session.client.create(definition, how).await.map_err(|error| {
        Failure::of_document(error, format!("Failed to create domain from {file}"), &file)
    })?;
    session.accepted(&created, "created", &file);
    if args.console {
        let uuid = created.domain.summary.uuid.to_string();
        console::attach(session, &uuid, None, false).await?;
    }
    Ok(())
}

/// The documents that the guest's cloud-init shall find.
pub(crate) fn read_cloud_init(files: &args::CloudInit) -> Result<Option<CloudInit>, Failure> {
    let Some(user_data) = &files.user_data else { return Ok(None) };
    let read = |file: &Option<PathBuf>| file.as_deref().map(read_document).transpose();
    Ok(Some(CloudInit {
        user_data: read_document(user_data)?,
        meta_data: read(&files.meta_data)?,
        network_config: read(&files.network_config)?,
    }))
}

fn with_cloud_init(xml: String, files: &args::CloudInit) -> Result<Definition, Failure> {
    Ok(Definition { xml, cloud_init: read_cloud_init(files)? })
}

impl Session {
    fn accepted(&self, defined: &Defined, what: &str, file: &str) {
        let left_out: Vec<Mistake> = defined.left_out.clone();
        if !self.terminal.quiet {
            for warning in mistakes(file, &left_out) {
                self.terminal.warn(&warning);
            }
        }
        if self.terminal.json {
            self.terminal.print_json(defined);
            return;
        }
        let name = printable(&defined.domain.summary.name);
        self.terminal.say(&format!("Domain '{name}' {what} from {}\n", printable(file)));
    }
}

pub(super) async fn undefine(session: &Session, args: Undefine) -> Result<(), Failure> {
    let domain = &args.domain;
    let nvram = match (args.nvram, args.keep_nvram) {
        (true, _) => Some(Nvram::Delete),
        (false, true) => Some(Nvram::Keep),
        (false, false) => None,
    };
    session
        .of(
            domain,
            session.client.undefine(domain, nvram, args.managed_save, args.snapshots_metadata),
        )
        .await
        .map_err(|failure| failure.unless_lost(format!("Failed to undefine domain '{domain}'")))?;
    session.terminal.say(&format!("Domain '{}' has been undefined\n", printable(domain)));
    Ok(())
}

pub(super) async fn dumpxml(session: &Session, args: Dumpxml) -> Result<(), Failure> {
    let call = session.client.xml(&args.domain, args.inactive, args.security_info);
    let xml = session.of(&args.domain, call).await?;
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "xml": xml }));
    } else {
        session.terminal.print(xml.trim_end_matches('\n'));
        session.terminal.print("\n");
    }
    Ok(())
}

pub(super) async fn autostart(session: &Session, args: Autostart) -> Result<(), Failure> {
    let domain = &args.domain;
    let wanted = api::types::DomainAutostart {
        enabled: !args.disable,
        order: args.order,
        delay_s: args.delay,
        shutdown_timeout_s: args.shutdown_timeout,
        at_shutdown: args.at_shutdown.map(|what| match what {
            AtShutdown::Shutdown => api::types::AtShutdown::Shutdown,
            AtShutdown::Save => api::types::AtShutdown::Save,
        }),
    };
    let call = session.client.set_autostart(domain, wanted);
    let mark = if args.disable { "unmark" } else { "mark" };
    session.of(domain, call).await.map_err(|failure| {
        failure.unless_lost(format!("Failed to {mark} domain '{domain}' as autostarted"))
    })?;
    session.terminal.say(&format!("Domain '{}' {mark}ed as autostarted\n", printable(domain)));
    Ok(())
}

pub(super) async fn domrename(session: &Session, args: Domrename) -> Result<(), Failure> {
    let call = session.client.rename(&args.domain, &args.new_name);
    session.of(&args.domain, call).await?;
    session.terminal.say("Domain successfully renamed\n");
    Ok(())
}
