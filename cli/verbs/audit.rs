//! manor audit: who did what.

use api::types::AuditRecord;

use super::Session;
use crate::args;
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;

/// One question is open for so long.
const WAIT_MS: u64 = 30_000;
/// More come with the next question.
const AT_A_TIME: u32 = 1000;

pub(super) async fn audit(session: &Session, args: args::Audit) -> Result<(), Failure> {
    let mut records = session.client.audit(None, args.lines, 0).await?;
    if !args.follow {
        print_all(session, &records);
        return Ok(());
    }
    let mut last = 0;
    loop {
        for record in &records {
            last = record.id;
            print_line(session, record);
        }
        records = session.client.audit(Some(last), AT_A_TIME, WAIT_MS).await?;
    }
}

fn print_all(session: &Session, records: &[AuditRecord]) {
    if session.terminal.json {
        session.terminal.print_json(&records);
        return;
    }
    let mut table = Table::new(["Id", "Time", "Caller", "Via", "Operation", "Target", "Result"]);
    for record in records {
        table.row(cells(record));
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
}

/// Columns have no common width where more lines are to come.
fn print_line(session: &Session, record: &AuditRecord) {
    let line = if session.terminal.json {
        serde_json::to_string(record).unwrap_or_default()
    } else {
        printable(&cells(record).join("  "))
    };
    session.terminal.print(&format!("{line}\n"));
}

fn cells(record: &AuditRecord) -> [String; 7] {
    let what = match &record.detail {
        None => record.operation.clone(),
        Some(detail) => format!("{} ({detail})", record.operation),
    };
    let target = record.target.as_ref();
    let target = target.map_or_else(|| "-".to_owned(), |t| format!("{} {}", t.kind, t.name));
    let result = match record.suppressed {
        None => record.result.clone(),
        Some(count) => format!("{} (and {count} more refused before)", record.result),
    };
    let (id, time) = (record.id.to_string(), record.time.clone());
    [id, time, record.caller.clone(), record.via.clone(), what, target, result]
}
