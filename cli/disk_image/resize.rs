//! `manor image resize`.

use image::{Format, Image as _, Raw, chain};
use serde_json::json;

use super::args::Resize;
use super::open::{Opener, of};
use super::size::{Size, human};
use crate::failure::Failure;
use crate::terminal::Terminal;

pub(super) fn resize(args: &Resize, terminal: &Terminal) -> Result<(), Failure> {
    let path = &args.source.path;
    let opener = Opener::new(args.source.force_share);
    let found = opener.find(&args.source, false)?;
    let old = found.description.size;
    let size = wanted(&args.size, old)?;
    if size < old && !args.shrink {
        let line = format!("{} would lose its last {}", path.display(), human(old - size));
        return Err(Failure::usage(line).hint("add --shrink if nothing there is needed"));
    }
    match found.format {
        Format::Raw => {
            let io = |error| Failure::other(format!("cannot resize {}: {error}", path.display()));
            let raw = Raw::open(found.file.clone(), false).map_err(io)?;
            raw.resize(size).and_then(|()| raw.flush()).map_err(io)?;
        }
        Format::Qcow2 => {
            let node = opener.chain(found, false)?;
            chain::open_qcow2(node, None).and_then(|disk| disk.grow(size)).map_err(of(path))?;
        }
        other => {
            let line = format!("{}: a {other} image cannot be resized", path.display());
            return Err(Failure::usage(line).hint("convert it to raw or qcow2 first"));
        }
    }
    if terminal.json {
        let name = path.display().to_string();
        terminal.print_json(&json!({"filename": name, "virtual-size": size}));
    } else {
        let (path, text) = (path.display(), human(size));
        terminal.say(&format!("Resized {path}: {text} ({size} bytes)\n"));
    }
    Ok(())
}

fn wanted(text: &str, old: u64) -> Result<u64, Failure> {
    let (sign, number) = match text.as_bytes().first() {
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        _ => (0, text),
    };
    let size: Size = number.parse().map_err(Failure::usage)?;
    let wanted = match sign {
        1 => old.checked_add(size.0),
        -1 => old.checked_sub(size.0),
        _ => Some(size.0),
    };
    wanted.ok_or_else(|| Failure::usage(format!("{text} leads to no possible size")))
}
