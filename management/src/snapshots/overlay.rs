//! Overlays: images that hold what a disk differs by from the image below, and definitions that
//! name them.

use std::fs::File;
use std::path::{Path, PathBuf};

use broker::{Broker, SavedAct, Sharing};
use image::qcow2::CreateOptions;
use image::{Description, FileStorage, Format, Inspected, NewImage, Raw, Reference};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use uuid::Uuid;
use xml::DomainDef;
use xml::device::disk::{
    BackingStore, Disk, DiskDriver, DiskFormat, DiskSource, DiskType, StoreFormat,
};

use super::Aligned;
use crate::error::{Code, Error};
use crate::saved::beside;
use crate::translate::formats;

/// An image that is to be made above another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Overlay {
    pub target: String,
    pub base: PathBuf,
    pub base_format: Format,
    pub path: PathBuf,
    partial: PathBuf,
}

/// A disk that goes on in another image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switch {
    pub disk: String,
    pub to: PathBuf,
}

/// As libvirt names overlays: what follows the last dot makes room for the snapshot's name.
pub(crate) fn next_name(image: &Path, name: &str) -> PathBuf {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    image.with_file_name(format!("{stem}.{name}"))
}

impl Overlay {
    pub(crate) fn new(disk: &Aligned, path: PathBuf) -> Result<Self, Error> {
        let base_format = formats::of_xml(disk.format).ok_or_else(|| {
            let text = format!("disk {}: no image of format {} is known", disk.target, disk.format);
            Error::new(Code::Unsupported, text)
        })?;
        let partial = beside(&path, Uuid::new_v4());
        let (target, base) = (disk.target.clone(), disk.image.clone());
        Ok(Self { target, base, base_format, path, partial })
    }

    /// Nothing of it may be there.
    pub(crate) fn check_free(&self, broker: &dyn Broker) -> Result<(), Error> {
        if !broker.is_there(&self.path)? {
            return Ok(());
        }
        let text = format!(
            "{} is there already, where disk {} is to go on; name another file (--diskspec {},file=…), \
             or have it used as it is (--reuse-external)",
            self.path.display(),
            self.target,
            self.target
        );
        Err(Error::new(Code::Exists, text))
    }

    /// One that somebody else has made: it must lie on this disk's image.
    pub(crate) fn check_reused(&self, broker: &dyn Broker) -> Result<(), Error> {
        let refuse = |why: String| {
            let text = format!(
                "{} cannot be what disk {} goes on in: {why}",
                self.path.display(),
                self.target
            );
            Error::new(Code::InvalidArgument, text)
        };
        let found = look(broker, &self.path, Format::Qcow2)?;
        let backing = found.backing.ok_or_else(|| refuse("it lies on no image".to_owned()))?;
        let below = image::chain::locate(&backing.name, &self.path);
        let below = below.map_err(|error| refuse(error.in_full()))?;
        let same = match (broker.stat(&below)?, broker.stat(&self.base)?) {
            (Some(a), Some(b)) => a.is_same_file(&b),
            _ => false,
        };
        if !same {
            return Err(refuse(format!(
                "it lies on {}, not on {}",
                below.display(),
                self.base.display()
            )));
        }
        Ok(())
    }

    /// Make it, and say how long it is with nothing in it. Durable under its name afterwards.
    pub(crate) fn make(&self, broker: &dyn Broker) -> Result<u64, Error> {
        let made = self.fill(broker).and_then(|len| {
            broker.rename_saved(&self.partial, &self.path)?;
            Ok(len)
        });
        if made.is_err() {
            let _ = broker.remove_saved(&self.partial);
        }
        made
    }

    fn fill(&self, broker: &dyn Broker) -> Result<u64, Error> {
        let size = size(broker, &self.base, self.base_format)?;
        let act = SavedAct::Create { path: self.partial.clone(), in_new_dir: false };
        let file = broker.saved_file(act)?;
        let base = self.base.to_str().ok_or_else(|| {
            let text =
                format!("{} cannot be named in an image: it is no UTF-8", self.base.display());
            Error::new(Code::Unsupported, text)
        })?;
        let backing =
            Reference { name: base.to_owned(), format: Some(self.base_format.name().to_owned()) };
        let options = CreateOptions { backing: Some(backing), ..CreateOptions::new(size) };
        let storage = storage(&file, &self.path)?;
        NewImage::Qcow2(options).create(&storage, size).map_err(|error| {
            let text =
                format!("overlay {} cannot be made: {}", self.path.display(), error.in_full());
            Error::new(Code::HostFailure, text).with_source(error)
        })?;
        length(&self.path, &file)
    }

    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }
}

fn length(path: &Path, file: &OwnedFd) -> Result<u64, Error> {
    let stat = rustix::fs::fstat(file).map_err(|errno| {
        let text = format!("cannot look at {}", path.display());
        Error::new(Code::HostFailure, text).with_source(std::io::Error::from(errno))
    })?;
    Ok(u64::try_from(stat.st_size).unwrap_or_default())
}

pub(super) fn storage(file: &OwnedFd, path: &Path) -> Result<FileStorage, Error> {
    let file = file.try_clone().and_then(|file| FileStorage::new(File::from(file)));
    file.map_err(|source| {
        let text = format!("cannot use image {}", path.display());
        Error::new(Code::HostFailure, text).with_source(source)
    })
}

/// What the header of an image says, which a guest may have open. A confined process reads it.
pub(super) fn look(broker: &dyn Broker, path: &Path, format: Format) -> Result<Description, Error> {
    let file = broker.open_image(path, true, false, Sharing::Shared)?;
    let answer = broker.inspect(format.name(), file.as_fd())?;
    let refuse =
        |why: &str| Error::new(Code::ResourceMissing, format!("image {}: {why}", path.display()));
    match serde_json::from_slice(&answer) {
        Ok(Inspected::Image(description)) => Ok(*description),
        Ok(Inspected::Refused(reason)) => Err(refuse(&reason)),
        Err(error) => Err(refuse("its header was read to no sense").with_source(error)),
    }
}

/// Bytes, as a guest sees them.
fn size(broker: &dyn Broker, path: &Path, format: Format) -> Result<u64, Error> {
    if format != Format::Raw {
        return Ok(look(broker, path, format)?.size);
    }
    let file = broker.open_image(path, true, false, Sharing::Shared)?;
    let raw = Raw::open(Arc::new(storage(&file, path)?), true);
    let size = raw.map(|raw| image::Image::size(&raw));
    size.map_err(|source| {
        let text = format!("cannot find the size of image {}", path.display());
        Error::new(Code::HostFailure, text).with_source(source)
    })
}

/// Have `def` name what its disks go on in. A running domain's shows what lies below.
pub(crate) fn switch(def: &mut DomainDef, switches: &[Switch]) {
    let is_live = def.id.is_some();
    let mut index = crate::translate::last_index(def);
    for disk in &mut def.devices.disks {
        let Some(switch) = switches.iter().find(|switch| switch.disk == disk.target.dev) else {
            continue;
        };
        if is_live || disk.backing_store.is_some() {
            disk.backing_store = Some(below(disk));
        }
        index += 1;
        put(disk, &switch.to, DiskFormat::Qcow2, is_live.then_some(index));
    }
}

/// Have a disk be made of the file `path`.
pub(crate) fn put(disk: &mut Disk, path: &Path, format: DiskFormat, index: Option<u32>) {
    let before = disk.source.take().unwrap_or_default();
    disk.kind = Some(DiskType::File);
    disk.source = Some(DiskSource {
        file: Some(path.to_owned()),
        startup_policy: before.startup_policy,
        index,
        security_labels: before.security_labels,
        ..DiskSource::default()
    });
    let driver = disk.driver.get_or_insert_with(DiskDriver::default);
    driver.format = Some(format);
}

/// What a disk is made of, as what lies below another image.
fn below(disk: &Disk) -> BackingStore {
    let end = disk.backing_store.clone().unwrap_or_default();
    let format = disk.driver.as_ref().and_then(|driver| driver.format).unwrap_or(DiskFormat::Raw);
    BackingStore {
        kind: Some(disk.kind()),
        index: disk.source.as_ref().and_then(|source| source.index),
        format: Some(StoreFormat { kind: format }),
        source: disk.source.clone(),
        backing_store: Some(Box::new(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_are_named_as_libvirt_names_them() {
        for (image, name) in [("/d/web.qcow2", "/d/web.s1"), ("/d/web", "/d/web.s1")] {
            assert_eq!(next_name(Path::new(image), "s1"), Path::new(name));
        }
    }

    #[test]
    fn a_running_domain_shows_what_lies_below_and_a_stored_one_leaves_it_to_the_header() {
        let text = "<domain type='kvm'><name>a</name><memory>1024</memory><os><type>hvm</type></os>\
            <devices><disk type='file'><driver type='raw'/><source file='/d/a'/><target dev='vda'/>\
            </disk></devices></domain>";
        let stored = DomainDef::parse(text).unwrap().value;
        let switches = [Switch { disk: "vda".to_owned(), to: PathBuf::from("/d/a.s1") }];
        let mut def = stored.clone();
        switch(&mut def, &switches);
        let disk = &def.devices.disks[0];
        assert_eq!(disk.source.as_ref().unwrap().file.as_deref(), Some(Path::new("/d/a.s1")));
        assert!(disk.backing_store.is_none());
        let mut live = DomainDef { id: Some(1), ..stored };
        switch(&mut live, &switches);
        let disk = &live.devices.disks[0];
        let below = disk.backing_store.as_ref().unwrap();
        assert_eq!(below.format.unwrap().kind, DiskFormat::Raw);
        assert_eq!(below.source.as_ref().unwrap().file.as_deref(), Some(Path::new("/d/a")));
        assert_eq!(disk.source.as_ref().unwrap().index, Some(1));
    }
}
