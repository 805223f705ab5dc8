//! An overlay becomes one with the image below it, while no guest has them: what it holds is written
//! there, and whatever lay on it lies there then. Each step may be done again. Beneath a guest a block
//! job does this; what is left here is whatever else lay on it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::{Broker, Sharing};
use image::chain::{self, MOST_DEEP, Node, declared_format, locate};
use image::qcow2::{self, OpenOptions, Qcow2};
use image::{ExtentKind, Format, Image, ImageError, Reference, UnknownFormat};

use super::Merge;
use super::overlay::{look, storage};
use crate::error::{Code, Error};
use crate::jobs::Progress;

/// Bytes that are read at a time.
const PIECE: usize = 2 << 20;

/// Durable afterwards. `from` is still there, and needed by nobody. What a guest has `open` lies where
/// it is to lie.
pub(crate) fn merge(
    broker: &dyn Broker,
    merge: &Merge,
    open: &BTreeSet<PathBuf>,
    progress: &Progress,
) -> Result<(), Error> {
    if !broker.is_there(&merge.from)? {
        // Done before, by a daemon that died.
        return Ok(());
    }
    let format = merge.format.parse().map_err(|error: UnknownFormat| {
        Error::new(Code::Internal, "a merge into no known format").with_source(error)
    })?;
    let about = |error: Error| {
        let text = format!(
            "{} cannot become one with {} below it: {}; what the domain uses is intact, delete the \
             snapshot again when this is mended",
            merge.from.display(),
            merge.into.display(),
            error.message
        );
        Error::new(error.code, text).with_source(error)
    };
    if !merge.done {
        commit(broker, merge, format, progress).map_err(about)?;
    }
    for image in merge.above.iter().filter(|image| !open.contains(*image)) {
        let backing = Reference {
            name: merge.into.display().to_string(),
            format: Some(format.name().to_owned()),
        };
        rebase(broker, image, &backing).map_err(about)?;
    }
    Ok(())
}

/// Each piece of the overlay goes to its place in the image below. What is not in the overlay is
/// there already.
fn commit(
    broker: &dyn Broker,
    merge: &Merge,
    format: Format,
    progress: &Progress,
) -> Result<(), Error> {
    let target = chain::open(node(broker, &merge.into, format)?, false)
        .map_err(|error| refused(&merge.into, &error))?;
    let overlay = broker.open_image(&merge.from, true, false, Sharing::Exclusive)?;
    let overlay = Arc::new(storage(&overlay, &merge.from)?);
    // The same image is read through and written to, so that both see what is there.
    let options =
        OpenOptions { read_only: true, backing: Some(target.clone()), ..OpenOptions::default() };
    let source = Qcow2::open(overlay, options).map_err(|error| refused(&merge.from, &error))?;
    if source.size() > target.size() {
        target.grow(source.size()).map_err(failed)?;
    }
    progress.set_total(source.size());
    write_down(&source, &*target, progress).map_err(failed)?;
    target.flush().map_err(failed)
}

fn write_down(source: &dyn Image, target: &dyn Image, progress: &Progress) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let (mut at, size) = (0, source.size());
    while at < size {
        let extent = source.map(at, size - at)?;
        let own = extent.depth == 0;
        match extent.kind {
            ExtentKind::Zero if own => target.write_zeroes(at, extent.len, true)?,
            ExtentKind::Data | ExtentKind::Compressed if own => {
                let end = at + extent.len;
                for start in (at..end).step_by(PIECE) {
                    let len = usize::try_from(end - start).unwrap_or(PIECE).min(PIECE);
                    source.read(&mut piece[..len], start)?;
                    target.write(&piece[..len], start)?;
                    progress.at(start)?;
                }
            }
            _ => {}
        }
        at += extent.len;
        progress.at(at)?;
    }
    Ok(())
}

/// An image that is written, with everything below it, which is only read.
pub(super) fn node(broker: &dyn Broker, top: &Path, format: Format) -> Result<Node, Error> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut next = Some((top.to_owned(), format));
    while let Some((path, format)) = next.take() {
        if nodes.len() >= MOST_DEEP {
            let text = format!("more than {MOST_DEEP} images lie on top of each other");
            return Err(Error::new(Code::ResourceMissing, text));
        }
        let read_only = !nodes.is_empty();
        let file = broker.open_image(&path, read_only, false, Sharing::Exclusive)?;
        if format != Format::Raw {
            let found = look(broker, &path, format)?;
            if found.data_file.is_some() || !found.extents.is_empty() {
                let text = format!("image {}: its data lies in other files", path.display());
                return Err(Error::new(Code::Unsupported, text));
            }
            if let Some(backing) = &found.backing {
                let below = locate(&backing.name, &path).map_err(|error| refused(&path, &error))?;
                let format = declared_format(backing).map_err(|error| refused(&path, &error))?;
                next = Some((below, format));
            }
        }
        nodes.push(Node::new(format, Arc::new(storage(&file, &path)?)));
    }
    let chain = nodes.into_iter().rev().fold(None, |below: Option<Node>, mut node| {
        node.backing = below.map(Box::new);
        Some(node)
    });
    chain.ok_or_else(|| Error::new(Code::Internal, "a chain without an image"))
}

fn rebase(broker: &dyn Broker, path: &Path, backing: &Reference) -> Result<(), Error> {
    let file = broker.open_image(path, false, false, Sharing::Exclusive)?;
    qcow2::rebase(&storage(&file, path)?, backing).map_err(|error| refused(path, &error))
}

pub(super) fn refused(path: &Path, error: &ImageError) -> Error {
    let text = format!("image {}: {}", path.display(), error.in_full());
    Error::new(Code::ResourceMissing, text)
}

fn failed(source: io::Error) -> Error {
    let full = source.kind() == io::ErrorKind::StorageFull;
    let code = if full { Code::NoSpace } else { Code::HostFailure };
    Error::new(code, source.to_string()).with_source(source)
}
