//! `manor image info`.

use std::fmt::Write as _;

use image::chain;
use image::qcow2::BitmapInfo;
use serde_json::{Value, json};

use super::args::Info;
use super::open::{Found, Opener};
use super::size::human;
use super::snapshot;
use crate::failure::Failure;
use crate::terminal::{Terminal, printable};

pub(super) fn info(args: &Info, terminal: &Terminal) -> Result<(), Failure> {
    let opener = Opener::new(args.source.force_share);
    let mut found = vec![opener.find(&args.source, true)?];
    while args.backing_chain
        && found.len() <= chain::MOST_DEEP
        && let Some(below) = found.last().map(|last| opener.below(last)).transpose()?.flatten()
    {
        found.push(below);
    }
    if terminal.json {
        let mut all: Vec<Value> = found.iter().map(json).collect();
        if args.backing_chain {
            terminal.print_json(&all);
        } else {
            terminal.print_json(&all.pop());
        }
        return Ok(());
    }
    let texts: Vec<_> = found.iter().map(text).collect();
    terminal.print(&texts.join("\n"));
    Ok(())
}

/// qemu-img's lines and order.
fn text(found: &Found) -> String {
    let description = &found.description;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name}: {}", printable(&value));
    };
    line("image", found.path.display().to_string());
    line("file format", found.format.to_string());
    line("virtual size", format!("{} ({} bytes)", human(description.size), description.size));
    if let Ok(allocated) = found.file.allocated() {
        line("disk size", human(allocated));
    }
    if let Some(method) = &description.encryption {
        line("encrypted", format!("yes ({method}, which cannot be opened here)"));
    }
    if let Some(size) = description.cluster_size {
        line("cluster_size", size.to_string());
    }
    if let Some(backing) = &description.backing {
        let actual = chain::locate(&backing.name, &found.path);
        let actual = actual.map(|path| path.display().to_string());
        match actual {
            Ok(actual) if actual != backing.name => {
                line("backing file", format!("{} (actual path: {actual})", backing.name));
            }
            _ => line("backing file", backing.name.clone()),
        }
        let format = backing.format.clone();
        line("backing file format", format.unwrap_or_else(|| "not declared".into()));
    }
    if let Some(name) = &description.data_file {
        line("data file", name.clone());
    }
    for extent in &description.extents {
        line("extent", extent.clone());
    }
    if description.dirty {
        line("dirty", "yes; it was not closed properly".into());
    }
    if let Some(reason) = &description.read_only {
        line("writable", format!("no: {reason}"));
    }
    if !description.snapshots.is_empty() {
        out.push_str("Snapshot list:\n");
        out.push_str(&snapshot::table(&description.snapshots));
    }
    if !description.details.is_empty() {
        out.push_str("Format specific information:\n");
        for (name, value) in &description.details {
            let _ = writeln!(out, "    {}: {}", printable(name), printable(value));
        }
    }
    // As qemu-img: the last of what only this format has.
    for (index, bitmap) in description.bitmaps.iter().enumerate() {
        if index == 0 {
            out.push_str("    bitmaps:\n");
        }
        let _ = writeln!(out, "        [{index}]:\n            flags:");
        for (at, flag) in flags(bitmap).into_iter().enumerate() {
            let _ = writeln!(out, "                [{at}]: {flag}");
        }
        let (name, granularity) = (printable(&bitmap.name), bitmap.granularity);
        let _ = writeln!(out, "            name: {name}\n            granularity: {granularity}");
    }
    out
}

fn flags(bitmap: &BitmapInfo) -> Vec<&'static str> {
    let all = [("in-use", bitmap.inconsistent), ("auto", bitmap.enabled)];
    all.into_iter().filter_map(|(name, is)| is.then_some(name)).collect()
}

fn json(found: &Found) -> Value {
    let description = &found.description;
    let mut details: serde_json::Map<String, Value> = description
        .details
        .iter()
        .map(|(name, value)| (name.replace(' ', "-"), typed(value)))
        .collect();
    if !description.bitmaps.is_empty() {
        let bitmap = |it: &BitmapInfo| json!({ "flags": flags(it), "name": it.name, "granularity": it.granularity });
        details.insert("bitmaps".into(), description.bitmaps.iter().map(bitmap).collect());
    }
    let mut value = json!({
        "filename": found.path.display().to_string(),
        "format": description.format.name(),
        "virtual-size": description.size,
        "dirty-flag": description.dirty,
    });
    let mut add = |name: &str, what: Value| value[name] = what;
    if let Ok(allocated) = found.file.allocated() {
        add("actual-size", allocated.into());
    }
    if let Some(size) = description.cluster_size {
        add("cluster-size", size.into());
    }
    if let Some(method) = &description.encryption {
        add("encrypted", true.into());
        add("encryption-method", method.clone().into());
    }
    if let Some(backing) = &description.backing {
        add("backing-filename", backing.name.clone().into());
        if let Ok(path) = chain::locate(&backing.name, &found.path) {
            add("full-backing-filename", path.display().to_string().into());
        }
        if let Some(format) = &backing.format {
            add("backing-filename-format", format.clone().into());
        }
    }
    if let Some(name) = &description.data_file {
        add("data-file", name.clone().into());
    }
    if !description.extents.is_empty() {
        add("extents", json!(description.extents));
    }
    if let Some(reason) = &description.read_only {
        add("read-only", reason.clone().into());
    }
    if !description.snapshots.is_empty() {
        let snapshots = description.snapshots.iter().map(snapshot::json);
        add("snapshots", snapshots.collect());
    }
    if !details.is_empty() {
        add("format-specific", json!({"type": description.format.name(), "data": details}));
    }
    value
}

/// Numbers and truths as such.
fn typed(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        // A version is no number, although it looks like one.
        _ if text.contains('.') => text.into(),
        _ => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
    }
}
