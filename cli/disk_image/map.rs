//! `manor image map`.

use image::{Extent, ExtentKind};
use serde_json::{Value, json};

use super::args::Map;
use super::open::{Opener, of};
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::Terminal;

pub(super) fn map(args: &Map, terminal: &Terminal) -> Result<(), Failure> {
    let path = &args.source.path;
    let opener = Opener::new(args.source.force_share);
    let chain = opener.chain(opener.find(&args.source, true)?, true)?;
    let image = image::chain::open(chain, true).map_err(of(path))?;
    let mut extents: Vec<(u64, Extent)> = Vec::new();
    let mut at = 0;
    while at < image.size() {
        let next = image.map(at, image.size() - at);
        let next = next.map_err(|error| Failure::other(format!("{}: {error}", path.display())))?;
        match extents.last_mut() {
            Some((_, last)) if follows(last, &next) => last.len += next.len,
            _ => extents.push((at, next)),
        }
        at += next.len.max(1);
    }
    if terminal.json {
        let all: Vec<Value> = extents.iter().map(|(start, extent)| json(*start, extent)).collect();
        terminal.print_json(&all);
        return Ok(());
    }
    let mut table = Table::new(["Offset", "Length", "Depth", "Kind", "Place in the file"]);
    for (start, extent) in &extents {
        table.row([
            format!("{start:#x}"),
            format!("{:#x}", extent.len),
            extent.depth.to_string(),
            kind(extent.kind).to_owned(),
            extent.offset.map_or_else(|| "-".into(), |offset| format!("{offset:#x}")),
        ]);
    }
    terminal.print(&table.text(!terminal.quiet));
    Ok(())
}

fn follows(last: &Extent, next: &Extent) -> bool {
    let place = match (last.offset, next.offset) {
        (Some(last_offset), Some(offset)) => last_offset + last.len == offset,
        (None, None) => true,
        _ => false,
    };
    last.kind == next.kind && last.depth == next.depth && place
}

fn kind(kind: ExtentKind) -> &'static str {
    match kind {
        ExtentKind::Data => "data",
        ExtentKind::Compressed => "compressed",
        ExtentKind::Zero => "zero",
        ExtentKind::Hole => "hole",
    }
}

fn json(start: u64, extent: &Extent) -> Value {
    let mut value = json!({
        "start": start,
        "length": extent.len,
        "depth": extent.depth,
        "present": extent.kind != ExtentKind::Hole,
        "zero": extent.is_zero(),
        "data": !extent.is_zero(),
        "compressed": extent.kind == ExtentKind::Compressed,
    });
    if let Some(offset) = extent.offset {
        value["offset"] = offset.into();
    }
    value
}
