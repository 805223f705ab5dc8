//! Volumes to be made: what a definition asks for, and how a volume comes to be.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use broker::{GroupAct, Permissions, PoolAct};
use image::qcow2::CreateOptions;
use image::{Format, ImageError, NewImage, Reference, Storage};
use xml::storage::volume::Compat;
use xml::{Diagnostics, Kind, VolumeDef};

use super::pool::{State, permissions_of};
use super::{Pools, VolumeView, unfinished_name};
use crate::error::{Code, Error};
use crate::events::PoolChange;
use crate::translate::{formats, invalid};

/// Only the owner reads what a guest keeps.
const USUAL_MODE: u32 = 0o600;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewVolume {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) capacity: u64,
    /// Bytes that are to be there from the start.
    pub(crate) allocation: u64,
    pub(crate) permissions: Permissions,
    pub(crate) nocow: bool,
    /// Of qcow2.
    pub(crate) options: CreateOptions,
}

/// A volume under its first name.
pub(crate) struct Making {
    pub(super) unfinished: String,
    pub(super) volume: String,
    /// None: it was closed. LVM removes no device that somebody has open.
    file: Mutex<Option<Arc<OwnedFd>>>,
}

impl Making {
    pub(crate) fn file(&self) -> Result<Arc<OwnedFd>, Error> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        file.ok_or_else(|| Error::new(Code::Internal, "a volume was closed before it was made"))
    }

    fn close(&self) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl NewVolume {
    /// What a definition asks for; `from`: what it is to be filled with.
    pub(crate) fn read(
        text: &str,
        from: Option<&VolumeView>,
        pools: &Pools,
    ) -> Result<Self, Error> {
        let parsed = VolumeDef::parse(text).map_err(invalid)?;
        let def = parsed.value;
        let refuse = |kind: Kind, path: &str, message: String| {
            let found = parsed.source.error(kind, &format!("/volume{path}"), message);
            invalid(Diagnostics(vec![found]))
        };
        if def.name.starts_with('.') {
            let text = "a volume's name does not begin with '.': such files are hidden";
            return Err(refuse(Kind::Invalid, "/name", text.to_owned()));
        }
        let target = &def.target;
        let format = match target.format {
            None => from.map_or(Format::Raw, |from| from.format),
            Some(named) => formats::of_xml(named).filter(|it| is_made(*it)).ok_or_else(|| {
                let text = format!("volumes of format {named} are not made; use raw or qcow2");
                refuse(Kind::Unsupported, "/target/format/@type", text)
            })?,
        };
        if !is_made(format) {
            let text = format!("volumes of format {format} are not made; ask for raw or qcow2");
            return Err(refuse(Kind::Unsupported, "/target/format/@type", text));
        }
        let below =
            def.backing_store.as_ref().and_then(|store| Some((store, store.path.as_ref()?)));
        let below = match below {
            None => None,
            Some((_, path)) if format != Format::Qcow2 => {
                let text =
                    format!("a {format} volume has nothing below it, not {}", path.display());
                return Err(refuse(Kind::Invalid, "/backingStore", text));
            }
            Some((store, path)) => {
                let volume = pools.volume_at(path).ok_or_else(|| {
                    let text = format!("{} is no volume of an active pool", path.display());
                    refuse(Kind::Invalid, "/backingStore/path", text)
                })?;
                let format = store.format.map_or(Some(volume.format), formats::of_xml);
                let format = format.ok_or_else(|| {
                    let text = "no guest's disk can be in this format".to_owned();
                    refuse(Kind::Unsupported, "/backingStore/format/@type", text)
                })?;
                let name = path.display().to_string();
                Some((Reference { name, format: Some(format.name().to_owned()) }, volume.capacity))
            }
        };
        let least = from.map(|from| from.capacity);
        let wanted = def.capacity.map(|capacity| capacity.0);
        let known = least.or(below.as_ref().map(|(_, capacity)| *capacity));
        let capacity = wanted.or(known).ok_or_else(|| {
            let text = "<volume> needs a <capacity>".to_owned();
            refuse(Kind::Missing, "", text)
        })?;
        let capacity = capacity.max(least.unwrap_or(0));
        // A raw volume that says nothing of it is there as a whole, as libvirt has it.
        let allocation = match (format, def.allocation) {
            (Format::Raw, Some(allocation)) => allocation.0.min(capacity),
            (Format::Raw, None) if from.is_none() => capacity,
            _ => 0,
        };
        let mut options = CreateOptions::new(capacity);
        options.version = if target.compat == Some(Compat::V2) { 2 } else { 3 };
        if let Some(size) = target.cluster_size {
            options.cluster_size = size.0;
        }
        if let Some(features) = &target.features {
            options.lazy_refcounts = features.lazy_refcounts;
            options.extended_l2 = features.extended_l2;
        }
        options.backing = below.map(|(reference, _)| reference);
        let permissions = target.permissions.as_ref().map(permissions_of).unwrap_or_default();
        let mode = permissions.mode.or(Some(USUAL_MODE));
        Ok(Self {
            name: def.name.to_string(),
            format,
            capacity,
            allocation,
            permissions: Permissions { mode, ..permissions },
            nocow: target.nocow,
            options,
        })
    }

    /// One that looks like `volume`, for a copy of it.
    pub(crate) fn like(volume: &VolumeView, name: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::new(Code::InvalidArgument, why);
        let parsed: Result<xml::domain::Name, _> = name.parse();
        if parsed.is_err() || name.starts_with('.') {
            return Err(bad(format!(
                "{name:?} cannot name a volume: 1 to 255 bytes without '/' or control characters, \
                 not beginning with '.'"
            )));
        }
        if !is_made(volume.format) {
            let text = format!("volumes of format {} are not made", volume.format);
            return Err(Error::new(Code::Unsupported, text));
        }
        let mut options = CreateOptions::new(volume.capacity);
        options.version = if volume.compat.as_deref() == Some("0.10") { 2 } else { 3 };
        options.cluster_size = volume.cluster_size.unwrap_or(options.cluster_size);
        options.lazy_refcounts = volume.lazy_refcounts;
        options.extended_l2 = volume.extended_l2;
        Ok(Self {
            name: name.to_owned(),
            format: volume.format,
            capacity: volume.capacity,
            allocation: 0,
            permissions: Permissions { mode: Some(volume.mode), owner: None, group: None },
            nocow: false,
            options,
        })
    }

    /// One that shows `volume`, and holds what is written to it itself.
    pub(crate) fn above(volume: &VolumeView, name: &str) -> Result<Self, Error> {
        let mut new = Self::like(volume, name)?;
        let reference = Reference {
            name: volume.path.display().to_string(),
            format: Some(volume.format.name().to_owned()),
        };
        new.format = Format::Qcow2;
        new.options =
            CreateOptions { backing: Some(reference), ..CreateOptions::new(new.capacity) };
        Ok(new)
    }

    /// Make an empty image of it.
    pub(super) fn format(&self, file: &dyn Storage) -> Result<(), Error> {
        let new = match self.format {
            Format::Qcow2 => NewImage::Qcow2(self.options.clone()),
            _ => NewImage::Raw,
        };
        new.create(file, self.capacity).map_err(|error| image_error(&self.name, &error))
    }

    /// Whether a copy of `volume` byte for byte is what is asked for.
    pub(super) fn is_twin_of(&self, volume: &VolumeView) -> bool {
        let alike = Self::like(volume, &self.name).is_ok_and(|like| like.options == self.options);
        let whole = volume.backing.is_none() && self.capacity == volume.capacity;
        self.format == volume.format && whole && (alike || self.format == Format::Raw)
    }
}

fn is_made(format: Format) -> bool {
    matches!(format, Format::Raw | Format::Qcow2)
}

pub(super) fn image_error(volume: &str, error: &ImageError) -> Error {
    let (code, full) = match error {
        ImageError::Io { source, .. } if is_full(source) => (Code::NoSpace, true),
        ImageError::Io { .. } => (Code::HostFailure, false),
        _ => (Code::InvalidArgument, false),
    };
    let text = if full { "the pool is full".to_owned() } else { error.in_full() };
    Error::new(code, format!("volume {volume:?}: {text}"))
}

pub(super) fn io_error(volume: &str, source: std::io::Error) -> Error {
    let (code, text) = if is_full(&source) {
        (Code::NoSpace, format!("volume {volume:?}: the pool is full"))
    } else {
        (Code::HostFailure, format!("volume {volume:?} cannot be written"))
    };
    Error::new(code, text).with_source(source)
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Make a volume in which there is nothing yet, at once.
pub(crate) fn make(state: &mut State, new: &NewVolume) -> Result<VolumeView, Error> {
    let making = state.begin(new, "it is being made")?;
    let opened = making.file().and_then(|file| super::scan::storage(&file));
    let filled = opened.and_then(|file| {
        new.format(&file)?;
        file.sync().map_err(|error| io_error(&new.name, error))
    });
    match filled {
        Ok(()) => state.finish(&making, new.format),
        Err(error) => {
            state.abandon(&making);
            Err(error)
        }
    }
}

impl State {
    /// Make a volume's file, under another name for now. The name it will have is taken.
    pub(crate) fn begin(&mut self, new: &NewVolume, work: &'static str) -> Result<Making, Error> {
        self.need_active()?;
        if self.busy.contains_key(&new.name) || self.look_again(&new.name)?.is_some() {
            let text =
                format!("there is a volume {:?} in pool {:?} already", new.name, self.name());
            return Err(Error::new(Code::Exists, text));
        }
        let unfinished = unfinished_name();
        let file = match self.group() {
            Some(group) => self.begin_device(group, new, &unfinished)?,
            None => {
                let (permissions, nocow) = (new.permissions, new.nocow);
                let create = PoolAct::Create { volume: unfinished.clone(), permissions, nocow };
                self.shared.broker.pool_file(self.dir(), create)?
            }
        };
        self.busy.insert(new.name.clone(), work);
        self.making.insert(unfinished.clone());
        let file = Mutex::new(Some(Arc::new(file)));
        Ok(Making { unfinished, volume: new.name.clone(), file })
    }

    /// It is whole, and on the disk: give it its name.
    pub(crate) fn finish(&mut self, making: &Making, format: Format) -> Result<VolumeView, Error> {
        let Making { unfinished, volume, .. } = making;
        if format == Format::Raw && !self.is_group() {
            // Before it has its name: it may be a copy of what a guest wrote.
            let stat = |file: Arc<OwnedFd>| {
                rustix::fs::fstat(&*file).map_err(|errno| io_error(volume, errno.into()))
            };
            let pinned = making
                .file()
                .and_then(stat)
                .and_then(|stat| self.pin_raw(volume, Some(stat.st_ino)));
            if let Err(error) = pinned {
                self.abandon(making);
                return Err(error);
            }
        }
        let (from, to) = (unfinished.clone(), volume.clone());
        let named = match self.group() {
            Some(group) => {
                making.close();
                self.shared.broker.group(group, GroupAct::Rename { volume: from, to })
            }
            None => {
                let finish = PoolAct::Finish { unfinished: from, volume: to };
                self.shared.broker.pool(self.dir(), finish)
            }
        };
        if let Err(error) = named {
            self.abandon(making);
            return Err(error.into());
        }
        self.busy.remove(volume);
        self.making.remove(unfinished);
        let made = self.look_again(volume)?;
        self.tell_volume(PoolChange::VolumeCreated, volume);
        made.ok_or_else(|| super::pool::no_volume(&self.name(), volume))
    }

    pub(crate) fn abandon(&mut self, making: &Making) {
        self.busy.remove(&making.volume);
        self.making.remove(&making.unfinished);
        making.close();
        if let Err(error) = self.remove_unfinished(&making.unfinished) {
            // The pool's next start, or refresh, sweeps it up.
            tracing::warn!(volume = making.volume, error = %error.chain(), "what was half made stays");
        }
    }
}
