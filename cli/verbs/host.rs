//! sysinfo, freecell, freepages, allocpages, node-memory-tune, cpu-compare, cpu-baseline.

use std::fmt::Write as _;

use api::types::{Cell, CpuBaseline, CpuResult, HugePages, SharedMemoryTuning};

use super::memory::scaled;
use super::{Session, read_document};
use crate::args;
use crate::failure::Failure;

pub(super) async fn sysinfo(session: &Session) -> Result<(), Failure> {
    let xml = session.client.sysinfo().await?;
    show_xml(session, &xml);
    Ok(())
}

pub(super) fn show_xml(session: &Session, xml: &str) {
    if session.terminal.json {
        session.terminal.print_json(&serde_json::json!({ "xml": xml }));
    } else {
        session.terminal.print(&format!("{}\n", xml.trim_end_matches('\n')));
    }
}

fn of_cell(cells: &[Cell], wanted: u32) -> Result<&Cell, Failure> {
    cells.iter().find(|cell| cell.id == wanted).ok_or_else(|| {
        let known: Vec<_> = cells.iter().map(|cell| cell.id.to_string()).collect();
        Failure::other(format!("there is no NUMA cell {wanted}; there is {}", known.join(", ")))
    })
}

pub(super) async fn freecell(session: &Session, args: args::Freecell) -> Result<(), Failure> {
    if args.cellno.is_none() && !args.all {
        let free = session.client.node().await?.free_memory_bytes;
        if session.terminal.json {
            session.terminal.print_json(&serde_json::json!({ "free_bytes": free }));
        } else {
            session.terminal.print(&format!("Total: {} KiB\n", free / 1024));
        }
        return Ok(());
    }
    let mut cells = session.client.cells().await?;
    if let Some(wanted) = args.cellno {
        of_cell(&cells, wanted)?;
        cells.retain(|cell| cell.id == wanted);
    }
    if session.terminal.json {
        session.terminal.print_json(&cells);
        return Ok(());
    }
    if let (Some(_), [cell]) = (args.cellno, cells.as_slice()) {
        session.terminal.print(&format!("{}: {} KiB\n", cell.id, cell.free_bytes / 1024));
        return Ok(());
    }
    let mut out = String::new();
    for cell in &cells {
        let _ = writeln!(out, "{:5}: {:10} KiB", cell.id, cell.free_bytes / 1024);
    }
    let total = cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.free_bytes));
    let _ = writeln!(out, "--------------------\n{:>5}: {:10} KiB", "Total", total / 1024);
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn freepages(session: &Session, args: args::Freepages) -> Result<(), Failure> {
    let mut cells = session.client.cells().await?;
    if !args.all {
        let Some(wanted) = args.cellno else {
            return Err(Failure::usage("missing cellno argument: --cellno NUMBER, or --all"));
        };
        of_cell(&cells, wanted)?;
        cells.retain(|cell| cell.id == wanted);
    }
    if let Some(size) = &args.pagesize {
        let size = scaled(size, "k", "pagesize")?;
        for cell in &mut cells {
            cell.pages.retain(|pages| pages.size_bytes == size);
            if cell.pages.is_empty() {
                let (id, size) = (cell.id, size / 1024);
                return Err(Failure::other(format!("NUMA cell {id} has no pages of {size} KiB")));
            }
        }
    }
    if session.terminal.json {
        session.terminal.print_json(&cells);
        return Ok(());
    }
    let mut out = String::new();
    for cell in &cells {
        if args.all {
            let _ = writeln!(out, "Node {}:", cell.id);
        }
        for pages in &cell.pages {
            let _ = writeln!(out, "{}KiB: {}", pages.size_bytes / 1024, pages.free);
        }
        if args.all {
            out.push('\n');
        }
    }
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn allocpages(session: &Session, args: args::Allocpages) -> Result<(), Failure> {
    let size_bytes = scaled(&args.pagesize, "k", "pagesize")?;
    let wanted = HugePages { size_bytes, count: args.pagecount, cell: args.cellno, add: args.add };
    session.client.huge_pages(&wanted).await?;
    Ok(())
}

pub(super) async fn node_memory_tune(
    session: &Session,
    args: args::NodeMemoryTune,
) -> Result<(), Failure> {
    let change = SharedMemoryTuning {
        pages_to_scan: args.shm_pages_to_scan,
        sleep_ms: args.shm_sleep_millisecs,
        merge_across_nodes: args.shm_merge_across_nodes.map(|value| value == 1),
    };
    if change != SharedMemoryTuning::default() {
        session.client.tune_shared_memory(&change).await?;
        return Ok(());
    }
    let found = session.client.shared_memory().await?;
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let mut out = "Shared memory:\n".to_owned();
    for (name, value) in [
        ("shm_pages_to_scan", found.pages_to_scan.map(u64::from)),
        ("shm_sleep_millisecs", found.sleep_ms.map(u64::from)),
        ("shm_pages_shared", found.pages_shared),
        ("shm_pages_sharing", found.pages_sharing),
        ("shm_pages_unshared", found.pages_unshared),
        ("shm_pages_volatile", found.pages_volatile),
        ("shm_full_scans", found.full_scans),
        ("shm_merge_across_nodes", found.merge_across_nodes.map(u64::from)),
    ] {
        if let Some(value) = value {
            let _ = writeln!(out, "\t{name:15} {value}");
        }
    }
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn cpu_compare(session: &Session, args: args::CpuCompare) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let xml = read_document(&args.file)?;
    let found = session.client.compare_cpu(xml).await.map_err(|error| {
        Failure::of_document(error, format!("Failed to compare host CPU with {file}"), &file)
    })?;
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let words = match found.result {
        CpuResult::Incompatible => {
            let lacking = found.lacking.join(", ");
            let text = format!(
                "CPU described in {file} is incompatible with host CPU, which lacks {lacking}"
            );
            return Err(Failure::other(text));
        }
        CpuResult::Identical => format!("CPU described in {file} is identical to host CPU\n"),
        CpuResult::Superset => format!("Host CPU is a superset of CPU described in {file}\n"),
    };
    session.terminal.print(&words);
    Ok(())
}

pub(super) async fn cpu_baseline(
    session: &Session,
    args: args::CpuBaseline,
) -> Result<(), Failure> {
    let text = read_document(&args.file)?;
    let wanted = CpuBaseline { cpus: processors(&text), expand: args.features };
    if wanted.cpus.is_empty() {
        return Err(Failure::other(format!("no <cpu> is in '{}'", args.file.display())));
    }
    let xml = session.client.baseline_cpu(&wanted).await?;
    show_xml(session, &xml);
    Ok(())
}

/// The `<cpu>` elements of a text that need not be one document.
fn processors(text: &str) -> Vec<String> {
    const END: &str = "</cpu>";
    let mut found = Vec::new();
    let mut rest = text;
    let begins = |at: &str| {
        at.strip_prefix("<cpu").is_some_and(|after| {
            after.starts_with(|next: char| next == '>' || next == '/' || next.is_ascii_whitespace())
        })
    };
    while let Some(at) =
        (0..rest.len()).find(|at| rest.is_char_boundary(*at) && begins(&rest[*at..]))
    {
        let from = &rest[at..];
        let Some(end) = from.find(END).map(|end| end + END.len()) else {
            found.push(from.to_owned());
            break;
        };
        found.push(from[..end].to_owned());
        rest = &from[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::processors;

    #[test]
    fn processors_are_found_wherever_they_stand() {
        let text = "<cpu><model>a</model></cpu>\n<host><cpu match='exact'>b</cpu></host><cpus/>";
        assert_eq!(processors(text), ["<cpu><model>a</model></cpu>", "<cpu match='exact'>b</cpu>"]);
        assert_eq!(processors("<cpu>"), ["<cpu>"]);
        assert_eq!(processors("<cpus/> é"), [""; 0]);
    }
}
