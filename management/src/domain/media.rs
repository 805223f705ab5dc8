//! Media of CD-ROM drives, exchanged in a running guest, in the definition, or in both; and disks
//! that grow while the guest runs.
//!
//! ```text
//! image opened → intent written down → VMM told → definition changed, intent forgotten
//! ```
//! A daemon that comes after one that stopped in between hears the VMM's event, and finds in the
//! intent what was meant: a VMM is not believed what it says of files on the host.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vmm_protocol::config::Cache;
use vmm_protocol::control::Request;
use xml::DomainDef;
use xml::device::disk::{Disk, DiskDevice, DiskFormat, DiskSource, DiskType, Location, Tray};

use super::actor::{Actor, blocking};
use super::link::Affects;
use crate::error::{Code, Error};
use crate::events::{EventKind, Lifecycle};
use crate::journal::Origin;
use crate::store::StoredDomain;
use crate::translate::{self, machine_devices::cache};

/// What is put into a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediumSource {
    pub path: PathBuf,
    /// It is a block device.
    pub block: bool,
}

/// What is done to a drive, in virsh's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediumAction {
    Eject,
    /// Only into an empty drive.
    Insert(MediumSource),
    Update(MediumSource),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediumChange {
    pub disk: String,
    pub action: MediumAction,
    pub force: bool,
}

/// What the VMM is about to be told, and what its event is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MediumIntent {
    pub alias: String,
    pub source: Option<MediumSource>,
}

impl MediumAction {
    fn source(&self) -> Option<&MediumSource> {
        match self {
            Self::Eject => None,
            Self::Insert(source) | Self::Update(source) => Some(source),
        }
    }
}

impl MediumChange {
    fn check(&self, disk: &Disk) -> Result<(), Error> {
        let name = &disk.target.dev;
        if disk.device() != DiskDevice::Cdrom {
            let text = format!("the disk device {name:?} is not removable");
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let present = disk.location() != Location::Empty;
        match &self.action {
            MediumAction::Eject if !present => {
                let text = format!("the disk device {name:?} doesn't have media");
                return Err(Error::new(Code::InvalidState, text));
            }
            MediumAction::Insert(_) if present => {
                let text = format!("the disk device {name:?} already has media");
                return Err(Error::new(Code::InvalidState, text));
            }
            _ => {}
        }
        match self.action.source() {
            Some(source) if !source.path.is_absolute() => {
                let text = format!("{:?} is no absolute path", source.path);
                Err(Error::new(Code::InvalidArgument, text))
            }
            _ => Ok(()),
        }
    }
}

/// Put it into the definition.
fn exchange(disk: &mut Disk, source: Option<&MediumSource>) {
    disk.backing_store = None;
    let startup_policy = disk.source.take().and_then(|source| source.startup_policy);
    let Some(MediumSource { path, block }) = source else { return };
    let mut new = DiskSource { startup_policy, ..DiskSource::default() };
    *if *block { &mut new.dev } else { &mut new.file } = Some(path.clone());
    disk.kind = Some(if *block { DiskType::Block } else { DiskType::File });
    disk.source = Some(new);
}

impl Actor {
    pub(super) async fn change_medium(
        &mut self,
        change: MediumChange,
        affects: Affects,
    ) -> Result<(), Error> {
        let live = affects.live || (!affects.config && self.run.is_some());
        let config = affects.config || !live;
        // All is found good, and open, before anything is changed.
        let opened = if live { Some(self.open_medium(&change).await?) } else { None };
        let stored = if config { self.stored_with_medium(&change)? } else { None };
        if let Some((alias, mode, file)) = opened {
            self.exchange_live(&change, alias, mode, file).await?;
        }
        if let Some((stored, def)) = stored {
            self.put(stored, def).await?;
            self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        }
        Ok(())
    }

    /// The alias of a running domain's drive, how its image is read, and the new one.
    async fn open_medium(
        &self,
        change: &MediumChange,
    ) -> Result<(String, Cache, Option<OwnedFd>), Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let disk = &def.devices.disks[self.disk(&def, &change.disk)?];
        change.check(disk)?;
        let alias = disk.alias.clone().ok_or_else(|| self.no_disk(&def, &change.disk))?;
        let driver = disk.driver.as_ref();
        let mode = cache(driver.and_then(|driver| driver.cache));
        let Some(source) = change.action.source() else { return Ok((alias, mode, None)) };
        let format = driver.and_then(|driver| driver.format).unwrap_or(DiskFormat::Raw);
        if format != DiskFormat::Raw {
            let text = format!(
                "a medium in {format} cannot be put into the drive {} of a running domain, only a \
                 raw one; change its definition (config)",
                disk.target.dev
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        let direct = matches!(mode, Cache::None | Cache::Directsync);
        let (node, path) = (self.node.clone(), source.path.clone());
        let file = blocking(move || {
            let neighbours = node.processes();
            let opened = node.broker.open_image(&path, true, direct, broker::Sharing::Exclusive);
            super::launch::name_holder(opened, &neighbours)
        });
        Ok((alias, mode, Some(file.await?)))
    }

    async fn exchange_live(
        &mut self,
        change: &MediumChange,
        alias: String,
        cache: Cache,
        file: Option<OwnedFd>,
    ) -> Result<(), Error> {
        let (id, force) = (alias.clone(), change.force);
        let source = change.action.source().cloned();
        let (drive, open) = (alias.clone(), source.is_none());
        let request = match &source {
            Some(source) => {
                Request::Insert { id, force, cache, source: source.path.display().to_string() }
            }
            None => Request::Eject { id, force },
        };
        self.intend(Some(MediumIntent { alias, source }))?;
        match self.tell_with(request, file.into_iter().collect()).await {
            Ok(()) => {
                self.medium_changed(None).await;
                // Its event will say so; whoever asked sees it at once.
                self.take_tray(&drive, open).await;
            }
            Err(error) => {
                // Where it is not known whether the VMM has done it, its event tells.
                if !matches!(error.code, Code::Timeout | Code::VmmUnreachable) {
                    self.intend(None)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Write down what the VMM is about to be told.
    fn intend(&mut self, intent: Option<MediumIntent>) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        let before = std::mem::replace(&mut run.record.medium, intent);
        run.record.write(&dir).map_err(|source| {
            run.record.medium = before;
            let text = format!("cannot update the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// What was intended is done: show it in the live definition.
    async fn medium_changed(&mut self, origin: Option<Origin>) {
        let Some(run) = &mut self.run else { return };
        let Some(MediumIntent { alias, source }) = run.record.medium.take() else { return };
        if let Some(at) = self.live_disk(&alias) {
            // What it was started from has the same disks.
            self.change_live(|def| {
                if let Some(disk) = def.devices.disks.get_mut(at) {
                    exchange(disk, source.as_ref());
                }
            })
            .await;
        } else {
            self.keep_record().await;
        }
        let source = source.map(|source| source.path.display().to_string());
        self.announce(EventKind::DiskChange { device: alias, source }, origin);
    }

    /// The VMM says so. Whoever told it to has heard it before, unless that was another daemon.
    pub(super) async fn on_medium_changed(
        &mut self,
        alias: &str,
        source: Option<&str>,
        origin: Option<Origin>,
    ) {
        let intent = self.run.as_ref().and_then(|run| run.record.medium.as_ref());
        let meant = intent.is_some_and(|intent| {
            let path = intent.source.as_ref().map(|source| source.path.display().to_string());
            intent.alias == alias && path.as_deref() == source
        });
        if meant {
            self.medium_changed(origin).await;
        }
    }

    /// A tray has moved: shown in the live definition alone.
    pub(super) async fn take_tray(&mut self, alias: &str, open: bool) {
        let tray = open.then_some(Tray::Open);
        let Some(at) = self.live_disk(alias) else { return };
        let Some(run) = &mut self.run else { return };
        let mut def = translate::with_aliases(&run.live.def);
        if def.devices.disks[at].target.tray == tray {
            return;
        }
        def.devices.disks[at].target.tray = tray;
        run.record.live = def.to_xml();
        self.show_live(def).await;
    }

    /// Where a disk stands in the live definition.
    fn live_disk(&self, alias: &str) -> Option<usize> {
        let def = translate::with_aliases(&self.run.as_ref()?.live.def);
        def.devices.disks.iter().position(|disk| disk.alias.as_deref() == Some(alias))
    }

    /// The stored definition as it shall be; none if it is so already.
    fn stored_with_medium(
        &self,
        change: &MediumChange,
    ) -> Result<Option<(StoredDomain, DomainDef)>, Error> {
        let old = self.stored("it has no definition to change")?;
        let mut def = old.def.clone();
        // The image may be of this run alone; the target is in both definitions.
        let live = self.run.as_ref().map(|run| &run.live.def);
        let target = live.and_then(|live| {
            position(live, &change.disk).map(|at| live.devices.disks[at].target.dev.clone())
        });
        let at = self.disk(&def, target.as_deref().unwrap_or(&change.disk))?;
        let disk = &mut def.devices.disks[at];
        change.check(disk)?;
        exchange(disk, change.action.source());
        if def == old.def {
            return Ok(None);
        }
        let mut stored = old.stored.clone();
        stored.generation = stored.generation.saturating_add(1);
        stored.xml = def.to_xml();
        Ok(Some((stored, def)))
    }

    /// Make a disk of the running domain larger.
    pub(super) async fn resize_disk(&mut self, name: &str, bytes: u64) -> Result<(), Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let disk = &def.devices.disks[self.disk(&def, name)?];
        if disk.device() != DiskDevice::Disk {
            let text = format!("{} is a {}, and no disk", disk.target.dev, disk.device());
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let id = disk.alias.clone().ok_or_else(|| self.no_disk(&def, name))?;
        self.tell(Request::ResizeDisk { id, bytes }).await
    }

    pub(super) fn disk(&self, def: &DomainDef, name: &str) -> Result<usize, Error> {
        position(def, name).ok_or_else(|| self.no_disk(def, name))
    }

    pub(super) fn no_disk(&self, def: &DomainDef, name: &str) -> Error {
        let known: Vec<_> = def.devices.disks.iter().map(|disk| &*disk.target.dev).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("domain {:?} has no disk {name:?}; it has {known}", self.name);
        Error::new(Code::DeviceNotFound, text)
    }
}

/// Where the disk of this target, else with this image, stands in the definition.
pub(crate) fn position(def: &DomainDef, name: &str) -> Option<usize> {
    let disks = &def.devices.disks;
    let has = |disk: &Disk| matches!(disk.location(), Location::File(path) | Location::Block(path) if path == Path::new(name));
    disks.iter().position(|disk| disk.target.dev == name).or_else(|| disks.iter().position(has))
}
