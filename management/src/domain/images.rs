//! Opening a disk's image and everything below it.
//!
//! What lies below is named by the image's header, or by `<backingStore>`. Headers are read by
//! a confined process; each name is resolved here and opened by the broker; formats are declared,
//! never guessed.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use broker::{Broker, Sharing};
use image::chain::{MOST_DEEP, declared_format, locate};
use image::{Description, Format, ImageError, Inspected};
use vmm_protocol::config::{Fd, Image, Layer};
use xml::device::disk::{BackingStore, Disk, DiskFormat, DiskType};

use super::launch::Opener;
use crate::error::{Code, Error};
use crate::translate::{Below, OpenDisk, formats};

/// What is about to be opened below another image.
struct Next<'a> {
    path: PathBuf,
    format: DiskFormat,
    /// The image on top of it.
    above: Option<PathBuf>,
    /// What the definition says about the images below.
    declared: Option<&'a BackingStore>,
}

impl Next<'_> {
    /// Who asked for it is part of what went wrong: it may be a stranger's image.
    fn named(&self, disk: &str, error: Error) -> Error {
        match &self.above {
            None => error,
            Some(above) => error.within(About { disk, path: above }.place("what lies below it")),
        }
    }
}

impl Opener<'_> {
    /// An image is in use by the guest itself, where another of its disks has it.
    pub(super) fn name_twin(&self, disk: &Disk, before: &[Disk], error: Error) -> Error {
        if error.code != Code::Locked {
            return error;
        }
        let file = |disk: &Disk| {
            let path = self.place(disk).ok()?;
            let stat = self.broker.stat(&path).ok().flatten()?;
            Some((stat.device, stat.inode))
        };
        let own = file(disk);
        match before.iter().find(|other| own.is_some() && file(other) == own) {
            None => error,
            Some(twin) => {
                let (name, other) = (&disk.target.dev, &twin.target.dev);
                let text = format!(
                    "disk {name} has the same image as disk {other}; a guest's disks have one each, \
                     or share it as <shareable/>"
                );
                Error::new(Code::Locked, text)
            }
        }
    }

    /// The chain of a disk whose image, already open, is not raw.
    pub(super) fn chain(
        &mut self,
        disk: &Disk,
        path: &Path,
        format: DiskFormat,
        top: OwnedFd,
        direct: bool,
    ) -> Result<OpenDisk, Error> {
        let mut layers = Vec::new();
        let mut below: Vec<Below> = Vec::new();
        let mut seen = HashSet::new();
        let mut open = Some(top);
        let declared = disk.backing_store.as_ref();
        let mut now = Next { path: path.to_owned(), format, above: None, declared };
        loop {
            let about = About { disk: &disk.target.dev, path: &now.path };
            let read_only = disk.read_only || !layers.is_empty();
            // Asked before it is opened: it would be locked already, by us.
            let stat = self.broker.stat(&now.path).ok().flatten();
            if stat.is_some_and(|stat| seen.contains(&(stat.device, stat.inode))) {
                return Err(about.refused("it lies below itself"));
            }
            let file = match open.take() {
                Some(file) => file,
                None => self
                    .disk_image(disk, &now.path, true, direct, Sharing::Exclusive)
                    .map_err(|error| now.named(&disk.target.dev, error))?,
            };
            let stat = rustix::fs::fstat(&file).map_err(|errno| about.host(errno.into()))?;
            seen.insert((stat.st_dev, stat.st_ino));
            if layers.len() >= MOST_DEEP {
                let text = format!("there are more than {MOST_DEEP} images on top of each other");
                return Err(about.refused(&text));
            }
            let format = formats::of_xml(now.format).ok_or_else(|| {
                about.refused(&format!("its format {} is not provided", now.format))
            })?;
            let description = describe(self.broker, &file, format, &about)?;
            if let Some(reason) = description.as_ref().and_then(|it| it.read_only.as_ref())
                && !read_only
            {
                return Err(about.refused(&format!("it can only be read: {reason}")));
            }
            let layer =
                self.layer(disk, file, format, description.as_ref(), (read_only, direct), &about)?;
            layers.push(layer);
            let Some(next) = next(&now, description.as_ref(), &about)? else { break };
            below.push(Below { path: next.path.clone(), format: next.format });
            now = next;
        }
        Ok(OpenDisk { image: Image::Chain(layers), below })
    }

    fn layer(
        &mut self,
        disk: &Disk,
        file: OwnedFd,
        format: Format,
        description: Option<&Description>,
        (read_only, direct): (bool, bool),
        about: &About<'_>,
    ) -> Result<Layer, Error> {
        let mut other = |name: &String| -> Result<Fd, Error> {
            let path = locate(name, about.path).map_err(|error| about.image(&error))?;
            if !lies_beside(&path, about.path) {
                // Else a stranger's image would show any file of the host to its guest.
                let text = format!("its data lies in {}, which is not beside it", path.display());
                return Err(about.refused(&text));
            }
            let file = self
                .disk_image(disk, &path, read_only, direct, Sharing::Exclusive)
                .map_err(|error| error.within(about.place("what it says its data lies in")))?;
            Ok(self.table.add(file))
        };
        let data_file = description.and_then(|it| it.data_file.as_ref());
        let data_file = data_file.map(&mut other).transpose()?;
        let extents = description.map(|it| it.extents.as_slice()).unwrap_or_default();
        let extents = extents.iter().map(other).collect::<Result<_, _>>()?;
        let format = formats::to_config(format).ok_or_else(|| about.no_disk(format))?;
        Ok(Layer { format, file: self.table.add(file), data_file, extents })
    }
}

/// The files of a disk that no guest uses, from the top down, with their formats: for a process that reads them.
/// Nothing is locked. Blocks.
pub(crate) fn files(
    broker: &dyn Broker,
    disk: &Disk,
    path: PathBuf,
) -> Result<(Vec<Format>, Vec<OwnedFd>), Error> {
    let format = disk.driver.as_ref().and_then(|driver| driver.format);
    let format = format.unwrap_or(DiskFormat::Raw);
    let mut now = Next { path, format, above: None, declared: disk.backing_store.as_ref() };
    let (mut kinds, mut files, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    loop {
        let about = About { disk: &disk.target.dev, path: &now.path };
        if !seen.insert(now.path.clone()) {
            return Err(about.refused("it lies below itself"));
        }
        if files.len() >= MOST_DEEP {
            let text = format!("there are more than {MOST_DEEP} images on top of each other");
            return Err(about.refused(&text));
        }
        let format = formats::of_xml(now.format)
            .ok_or_else(|| about.refused(&format!("its format {} is not provided", now.format)))?;
        let file = broker
            .open_image(&now.path, true, false, Sharing::Shared)
            .map_err(|error| now.named(&disk.target.dev, error.into()))?;
        let found = describe(broker, &file, format, &about)?;
        if found.as_ref().is_some_and(|it| it.data_file.is_some() || !it.extents.is_empty()) {
            let text = "its data lies in other files, which only its guest has open: start it";
            return Err(about.refused(text));
        }
        kinds.push(format);
        files.push(file);
        let Some(next) = next(&now, found.as_ref(), &about)? else { break };
        now = next;
    }
    Ok((kinds, files))
}

/// What the header says; nothing of a raw image, which has none.
fn describe(
    broker: &dyn Broker,
    file: &OwnedFd,
    format: Format,
    about: &About<'_>,
) -> Result<Option<Description>, Error> {
    if format == Format::Raw {
        return Ok(None);
    }
    let answer = broker.inspect(format.name(), file.as_fd())?;
    let inspected = serde_json::from_slice(&answer).map_err(|error| {
        Error::new(Code::Internal, "a header was read to no sense").with_source(error)
    })?;
    let description = match inspected {
        Inspected::Image(description) => *description,
        Inspected::Refused(reason) => return Err(about.refused(&reason)),
    };
    if let Some(method) = &description.encryption {
        return Err(about.refused(&format!("it uses {method} encryption")));
    }
    Ok(Some(description))
}

/// The image below: the definition's word goes before the header's.
fn next<'a>(
    now: &Next<'a>,
    description: Option<&Description>,
    about: &About<'_>,
) -> Result<Option<Next<'a>>, Error> {
    let named = description.and_then(|it| it.backing.as_ref());
    let Some(store) = now.declared else {
        let Some(backing) = named else { return Ok(None) };
        let path = locate(&backing.name, about.path).map_err(|error| about.image(&error))?;
        let format = declared_format(backing).map_err(|error| about.image(&error))?;
        let format = formats::to_xml(format).ok_or_else(|| about.no_disk(format))?;
        let above = Some(now.path.clone());
        return Ok(Some(Next { path, format, above, declared: None }));
    };
    let Some(kind) = store.kind else {
        // `<backingStore/>`: the chain ends here.
        return match named {
            Some(backing) => {
                let text = format!(
                    "it names a backing image {:?}, and the definition says <backingStore/>: none",
                    backing.name
                );
                Err(about.refused(&text))
            }
            None => Ok(None),
        };
    };
    if named.is_none() {
        let text = "the definition has <backingStore> for it, and it names no backing image";
        return Err(about.refused(text));
    }
    let source = store.source.as_ref();
    let path = match kind {
        DiskType::File => source.and_then(|source| source.file.clone()),
        DiskType::Block => source.and_then(|source| source.dev.clone()),
        other => {
            return Err(about.refused(&format!("its <backingStore> is of type='{other}'")));
        }
    };
    let path = path.ok_or_else(|| about.refused("its <backingStore> names no file"))?;
    let format = store.format.map_or(DiskFormat::Raw, |format| format.kind);
    let above = Some(now.path.clone());
    Ok(Some(Next { path, format, above, declared: store.backing_store.as_deref() }))
}

/// In the directory of the image, or below.
fn lies_beside(path: &Path, image: &Path) -> bool {
    let inside = image.parent().is_some_and(|directory| path.starts_with(directory));
    inside && !path.components().any(|part| part == Component::ParentDir)
}

/// Which image an error is about.
struct About<'a> {
    disk: &'a str,
    path: &'a Path,
}

impl About<'_> {
    fn place(&self, part: &str) -> String {
        format!("disk {}: image {}: {part}", self.disk, self.path.display())
    }

    fn refused(&self, reason: &str) -> Error {
        Error::new(Code::ResourceMissing, self.place(reason))
    }

    fn no_disk(&self, format: Format) -> Error {
        self.refused(&format!("a guest's disk cannot be in the format {format}; convert it"))
    }

    fn image(&self, error: &ImageError) -> Error {
        self.refused(&error.in_full())
    }

    fn host(&self, source: std::io::Error) -> Error {
        let text = format!("cannot look at image {}", self.path.display());
        Error::new(Code::HostFailure, text).with_source(source)
    }
}
