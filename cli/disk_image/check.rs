//! `manor image check`.

use std::fmt::Write as _;

use image::Format;
use image::qcow2;
use serde_json::json;

use super::args::{Check, Repair};
use super::open::{Opener, of};
use super::size::human;
use crate::failure::Failure;
use crate::terminal::{Terminal, printable};

pub(super) fn check(args: &Check, terminal: &Terminal) -> Result<(), Failure> {
    let path = &args.source.path;
    let found = Opener::new(args.source.force_share).find(&args.source, args.repair.is_none())?;
    if found.format != Format::Qcow2 {
        let line = format!("{}: a {} image keeps nothing to check", path.display(), found.format);
        return Err(Failure::other(line));
    }
    let repair = match args.repair {
        None => qcow2::Repair::Nothing,
        Some(Repair::Leaks) => qcow2::Repair::Leaks,
        Some(Repair::All) => qcow2::Repair::All,
    };
    let report = qcow2::check(&*found.file, repair).map_err(of(path))?;
    if terminal.json {
        terminal.print_json(&json!({
            "filename": path.display().to_string(),
            "format": found.format.name(),
            "corruptions": report.corruptions,
            "leaks": report.leaks,
            "corruptions-fixed": report.corruptions_fixed,
            "leaks-fixed": report.leaks_fixed,
            "total-clusters": report.total_clusters,
            "allocated-clusters": report.allocated_clusters,
            "compressed-clusters": report.compressed_clusters,
            "image-end-offset": report.end,
            "messages": report.messages,
        }));
    } else {
        terminal.print(&text(&report));
    }
    if report.corruptions == 0 && report.leaks == 0 {
        return Ok(());
    }
    let line = format!(
        "{}: {} errors and {} leaked clusters are left",
        path.display(),
        report.corruptions,
        report.leaks
    );
    let hint = match (args.repair, report.corruptions) {
        (Some(Repair::All), _) => "copy what can be read into a new image: manor image convert",
        (_, 0) => "nothing is damaged; --repair leaks gives the space back",
        _ => "--repair all mends what can be mended; make a copy of the file first",
    };
    Err(Failure::other(line).hint(hint))
}

fn text(report: &qcow2::CheckReport) -> String {
    let mut out = String::new();
    for message in &report.messages {
        let _ = writeln!(out, "{}", printable(message));
    }
    if report.corruptions_fixed + report.leaks_fixed > 0 {
        let _ = writeln!(
            out,
            "Repaired: {} errors, {} leaked clusters",
            report.corruptions_fixed, report.leaks_fixed
        );
    }
    if report.corruptions + report.leaks == 0 {
        out.push_str("No errors were found on the image.\n");
    }
    let total = report.total_clusters.max(1) as f64;
    let _ = writeln!(
        out,
        "{}/{} = {:.2}% allocated, {} compressed clusters\nImage end offset: {} ({})",
        report.allocated_clusters,
        report.total_clusters,
        100.0 * report.allocated_clusters as f64 / total,
        report.compressed_clusters,
        report.end,
        human(report.end)
    );
    out
}
