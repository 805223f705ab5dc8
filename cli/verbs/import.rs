//! import libvirt.

use api::types::{ImportKind, ImportPlan, ImportVerdict, ImportedObject, Mistake};
use serde_json::json;

use super::Session;
use crate::args::{self, ImportLibvirt};
use crate::failure::{Exit, Failure, reason};
use crate::libvirt_host::{self, Found, HostError, Unread};
use crate::table::Table;
use crate::terminal::printable;

pub(super) async fn import(session: &Session, args: args::Import) -> Result<(), Failure> {
    let args::Import::Libvirt(args) = args;
    let attempt = "Failed to import from libvirt";
    libvirt(session, &args).await.map_err(|failure| failure.while_doing(attempt))
}

async fn libvirt(session: &Session, args: &ImportLibvirt) -> Result<(), Failure> {
    let Found { mut import, unread, daemon } = libvirt_host::read(&args.root)?;
    if !args.apply {
        // What is only looked at is not told.
        let hidden = |value: &mut Option<String>| *value = value.as_ref().map(|_| String::new());
        import.documents.iter_mut().for_each(|document| hidden(&mut document.value));
    }
    let mut plan = session.client.plan_import(&import).await?;
    plan.objects.extend(unread.into_iter().map(unreadable));
    if !session.terminal.json {
        show(session, &plan);
    }
    if !args.apply {
        if session.terminal.json {
            session.terminal.print_json(&plan);
        } else {
            session.terminal.say(&summary(&plan));
        }
        return Ok(());
    }
    let job = session.client.apply_import(&import).await?;
    let id = job.id.to_string();
    let done = session.wait_for(job).await;
    if session.terminal.json {
        let job = session.client.job(&id, 0).await?;
        session.terminal.print_json(&json!({"job": job, "objects": plan.objects}));
    }
    done?;
    let count = |verdict: &[ImportVerdict]| count(&plan, verdict);
    let taken = count(&[ImportVerdict::AsItIs, ImportVerdict::Changed]);
    session.terminal.say(&format!("{taken} taken over\n"));
    if let Some((daemon, pid)) = daemon {
        session.terminal.say(&format!(
            "{daemon} runs still (process {pid}) and starts what is marked so with the host, too: see \
             docs/moving-in.md for how to retire it\n"
        ));
    }
    match count(&[ImportVerdict::Refused]) {
        0 => Ok(()),
        refused => Err(Failure::new(Exit::Conflict, format!("{refused} refused, as shown above"))),
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match &error {
            HostError::Open { path, source } => {
                let text = format!("cannot open {}: {}", path.display(), reason(source));
                let failure = Self::other(text);
                if source.kind() == std::io::ErrorKind::PermissionDenied {
                    failure.hint("libvirt's files are root's: run it as root")
                } else {
                    failure
                }
            }
            HostError::NoLibvirt { .. } => Self::new(Exit::NotFound, error.to_string())
                .hint("name the root of the host that they are on: --root DIR"),
        }
    }
}

fn unreadable(unread: Unread) -> ImportedObject {
    ImportedObject {
        kind: unread.kind,
        name: unread.name,
        uuid: None,
        file: unread.file,
        verdict: ImportVerdict::Refused,
        autostart: false,
        reason: Some(format!("it cannot be read: {}", reason(&unread.error))),
        changes: Vec::new(),
        notes: Vec::new(),
        problems: Vec::new(),
    }
}

fn count(plan: &ImportPlan, verdicts: &[ImportVerdict]) -> usize {
    plan.objects.iter().filter(|object| verdicts.contains(&object.verdict)).count()
}

/// All of them in a table, then each of which there is more to say.
fn show(session: &Session, plan: &ImportPlan) {
    let mut table = Table::new(["Kind", "Name", "Starts with host", "Outcome"]);
    for object in &plan.objects {
        let autostart = if object.autostart { "yes" } else { "no" };
        let outcome = match object.verdict {
            ImportVerdict::AsItIs => "as it is",
            ImportVerdict::Changed => "changed",
            ImportVerdict::Present => "here already",
            ImportVerdict::Refused => "refused",
        };
        let cells = [kind(object.kind), &object.name, autostart, outcome];
        table.row(cells.map(str::to_owned));
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    for object in &plan.objects {
        let lines = lines(object);
        if lines.is_empty() {
            continue;
        }
        let (kind, name, file) = (kind(object.kind), &object.name, &object.file);
        let mut text = printable(&format!("{kind} '{name}' ({file}):"));
        text.insert(0, '\n');
        for line in lines {
            text.push_str("\n  ");
            text.push_str(&printable(&line));
        }
        text.push('\n');
        session.terminal.print(&text);
    }
    session.terminal.say("\n");
}

fn lines(object: &ImportedObject) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(object.reason.iter().map(|reason| format!("refused: {reason}")));
    let label = |mistake: &Mistake| match (object.verdict, mistake.warning) {
        (ImportVerdict::Refused, false) => format!("at {mistake}"),
        _ => format!("left out: {mistake}"),
    };
    lines.extend(object.problems.iter().map(label));
    lines.extend(object.changes.iter().map(|change| format!("changed: {change}")));
    lines.extend(object.notes.iter().map(|note| format!("note: {note}")));
    lines
}

fn kind(kind: ImportKind) -> &'static str {
    match kind {
        ImportKind::Secret => "secret",
        ImportKind::Filter => "filter",
        ImportKind::Network => "network",
        ImportKind::Pool => "pool",
        ImportKind::Domain => "domain",
    }
}

fn summary(plan: &ImportPlan) -> String {
    let all = plan.objects.len();
    let can = count(plan, &[ImportVerdict::AsItIs, ImportVerdict::Changed]);
    let [here, refused] =
        [ImportVerdict::Present, ImportVerdict::Refused].map(|verdict| count(plan, &[verdict]));
    let mut text = format!("{can} of {all} can be taken over");
    if can > 0 {
        text.push_str(" (--apply)");
    }
    for (number, what) in [(here, "are here already"), (refused, "are refused")] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    text.push_str(". Nothing was changed\n");
    text
}
