//! `manor image create`, and how an image comes to be: under another name until it is whole.

use std::fs::File;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::chain::{self, Node};
use image::{FileStorage, Format, NewImage, Reference, Storage};
use serde_json::json;

use super::args::{Backing, Create, Source};
use super::open::{Opener, of};
use super::options;
use super::size::human;
use crate::failure::{Exit, Failure, reason};
use crate::terminal::Terminal;

pub(super) fn create(args: &Create, terminal: &Terminal) -> Result<(), Failure> {
    let backing = below(&args.backing, &args.path)?;
    let size = match (args.size, &backing) {
        (Some(size), _) => size.0,
        (None, Some((_, size))) => *size,
        (None, None) => {
            return Err(Failure::usage("an image without a backing image needs a SIZE"));
        }
    };
    let new = New::begin(&args.path, false)?;
    let reference = backing.map(|(reference, _)| reference);
    new.format(args.format, size, &args.options, reference)?;
    new.finish()?;
    if terminal.json {
        let path = args.path.display().to_string();
        let format = args.format.name();
        terminal.print_json(&json!({"filename": path, "format": format, "virtual-size": size}));
    } else {
        let path = args.path.display();
        terminal.say(&format!("Created {path}: {}, {} ({size} bytes)\n", args.format, human(size)));
    }
    Ok(())
}

/// The backing image as the new image is to name it, and its size. It must be there.
pub(super) fn below(backing: &Backing, path: &Path) -> Result<Option<(Reference, u64)>, Failure> {
    let Some(name) = &backing.backing else { return Ok(None) };
    let Some(format) = backing.backing_format else {
        let line = format!("the format of the backing image {name} must be said");
        return Err(Failure::usage(line).hint("formats are not guessed; add -F raw or -F qcow2"));
    };
    let at = chain::locate(name, path).map_err(of(path))?;
    let source = Source { path: at.clone(), format: Some(format), force_share: false };
    let found = Opener::new(false).find(&source, true)?;
    let size = found.description.size;
    Ok(Some((Reference { name: name.clone(), format: Some(format.name().into()) }, size)))
}

/// An image in the making. Dropped before it is finished, it is gone.
pub(super) struct New {
    path: PathBuf,
    partial: PathBuf,
    /// A block device, which is written in its place.
    in_place: bool,
    file: Arc<dyn Storage>,
    /// Files besides it that were made.
    others: std::cell::RefCell<Vec<PathBuf>>,
    finished: bool,
}

impl New {
    pub(super) fn begin(path: &Path, replace: bool) -> Result<Self, Failure> {
        let kind = std::fs::metadata(path).ok().map(|meta| meta.file_type());
        let in_place = kind.is_some_and(|kind| kind.is_block_device());
        if kind.is_some() && !in_place && !replace {
            let line = format!("{} is there already", path.display());
            return Err(Failure::new(Exit::Conflict, line));
        }
        if in_place {
            let file = Opener::new(false).file(path, false)?;
            let (path, partial) = (path.to_owned(), path.to_owned());
            return Ok(Self {
                path,
                partial,
                in_place,
                file,
                others: Vec::new().into(),
                finished: false,
            });
        }
        let name = path
            .file_name()
            .ok_or_else(|| Failure::usage(format!("{} names no file", path.display())))?;
        let partial =
            path.with_file_name(format!(".{}.{}.partial", name.display(), std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&partial);
        let cannot = |error: &std::io::Error| {
            Failure::other(format!("cannot make {}: {}", path.display(), reason(error)))
        };
        let file = file.and_then(FileStorage::new).map_err(|error| cannot(&error))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            in_place,
            file: Arc::new(file),
            others: Vec::new().into(),
            finished: false,
        })
    }

    /// Make it an empty image; returned with what belongs to it, to be opened.
    pub(super) fn format(
        &self,
        format: Format,
        size: u64,
        options: &[String],
        backing: Option<Reference>,
    ) -> Result<Node, Failure> {
        let pairs = options::pairs(options)?;
        let mut node = Node::new(format, self.file.clone());
        if backing.is_some() && format != Format::Qcow2 {
            return Err(Failure::usage(format!(
                "a {format} image has nothing below it; use qcow2"
            )));
        }
        if self.in_place && format != Format::Raw && self.file.size().unwrap_or(0) < size {
            return Err(Failure::other(format!("{} is too small", self.path.display())));
        }
        let new = match format {
            Format::Raw => options::none(&pairs, format).map(|()| NewImage::Raw)?,
            Format::Qcow2 => {
                let mut wanted = options::qcow2(&pairs, size)?;
                wanted.backing = backing;
                if let Some(name) = &wanted.data_file {
                    node.data_file = Some(self.data_file(name, size)?);
                }
                NewImage::Qcow2(wanted)
            }
            Format::Vmdk => {
                options::vmdk(&pairs)?;
                let name = self.path.file_name().unwrap_or_default();
                NewImage::Vmdk { name: name.display().to_string() }
            }
            Format::Vdi => NewImage::Vdi { fixed: options::vdi(&pairs)? },
            Format::Vpc => NewImage::Vpc { fixed: options::vpc(&pairs)? },
            Format::Vhdx => {
                let line = "VHDX images are only read; make vpc, vdi, vmdk or qcow2";
                return Err(Failure::usage(line));
            }
        };
        new.create(&*self.file, size).map_err(of(&self.path))?;
        Ok(node)
    }

    fn data_file(&self, name: &str, size: u64) -> Result<Arc<dyn Storage>, Failure> {
        let path = chain::locate(name, &self.path).map_err(of(&self.path))?;
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let made = file.and_then(|file| {
            self.others.borrow_mut().push(path.clone());
            file.set_len(size)?;
            FileStorage::new(file)
        });
        let made = made.map_err(|error| {
            Failure::other(format!(
                "cannot make the data file {}: {}",
                path.display(),
                reason(&error)
            ))
        })?;
        Ok(Arc::new(made))
    }

    fn cannot(&self, error: &std::io::Error) -> Failure {
        Failure::other(format!("cannot write {}: {}", self.path.display(), reason(error)))
    }

    /// It has had content before.
    pub(super) fn in_place(&self) -> bool {
        self.in_place
    }

    /// It is whole: give it its name.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.file.sync().map_err(|error| self.cannot(&error))?;
        if !self.in_place {
            std::fs::rename(&self.partial, &self.path).map_err(|error| self.cannot(&error))?;
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let made = self.others.borrow();
        let own = (!self.in_place).then_some(&self.partial);
        for path in made.iter().chain(own) {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}
