//! `manor image convert`.

use std::sync::Arc;

use image::chain;
use image::copy::{Target, copy};
use image::{Format, Image};

use super::args::{Convert, Source};
use super::create::{New, below};
use super::open::{Found, Opener, of};
use super::progress::Progress;
use super::size::human;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Holes in a raw image are as fine as its file system's blocks.
const BLOCK: u64 = 4096;

pub(super) fn convert(args: &Convert, terminal: &Terminal) -> Result<(), Failure> {
    let opener = Opener::new(args.source.force_share);
    let found = opener.find(&args.source, true)?;
    let source = open_source(&opener, found, args)?;
    let backing = below(&args.backing, &args.target)?;
    // Sectors are whole.
    let size = source.size().next_multiple_of(512);
    let new = New::begin(&args.target, true)?;
    let reference = backing.map(|(reference, _)| reference);
    let mut node = new.format(args.output_format, size, &args.options, reference.clone())?;
    let mut before = Target::Blank;
    if let Some(reference) = &reference {
        let path = chain::locate(&reference.name, &args.target).map_err(of(&args.target))?;
        let format = Some(chain::declared_format(reference).map_err(of(&args.target))?);
        let source = Source { path, format, force_share: args.source.force_share };
        let chain = opener.chain(opener.find(&source, true)?, true)?;
        node.backing = Some(Box::new(chain));
        before = Target::Filled;
    }
    let step = node.describe().map_err(of(&args.target))?.cluster_size.unwrap_or(BLOCK).max(BLOCK);
    let target = chain::open(node, false).map_err(of(&args.target))?;
    if new.in_place() {
        before = Target::Filled;
    }
    let mut progress = Progress::new(terminal, size, args.progress);
    let copied = copy(&*source, &*target, before, step, &mut |at| {
        progress.at(at);
        Ok(())
    });
    drop(progress);
    copied.and_then(|()| target.flush()).map_err(|error| {
        let (from, to) = (args.source.path.display(), args.target.display());
        Failure::other(format!("cannot copy {from} to {to}: {error}"))
    })?;
    drop(target);
    new.finish()?;
    let (path, format) = (args.target.display(), args.output_format);
    terminal.say(&format!("Wrote {path}: {format}, {} ({size} bytes)\n", human(size)));
    Ok(())
}

fn open_source(opener: &Opener, found: Found, args: &Convert) -> Result<Arc<dyn Image>, Failure> {
    let path = &args.source.path;
    let format = found.format;
    let node = opener.chain(found, true)?;
    let Some(snapshot) = args.snapshot.clone() else {
        return chain::open(node, true).map_err(of(path));
    };
    if format != Format::Qcow2 {
        return Err(Failure::usage(format!("a {format} image has no internal snapshots")));
    }
    Ok(Arc::new(chain::open_qcow2(node, Some(snapshot)).map_err(of(path))?))
}
