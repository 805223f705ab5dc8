//! Who needs which image: definitions, what runs, saved states and volumes, put into one graph.

use std::path::{Path, PathBuf};

use image::Format;
use image::chain::MOST_DEEP;
use xml::DomainDef;
use xml::device::disk::{BackingStore, Disk, DiskDevice, Location};

use super::handle::Handle;
use crate::error::{Code, Error};
use crate::registry::Node;
use crate::storage::{Below, Graph, ImageUse, PoolView, Remembered, User, VolumeView};
use crate::translate::formats;

/// Users named in a refusal.
const MOST_NAMED: usize = 3;

/// Who has an image open that may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    No,
    /// Domains that run, as a medium which they read and their next start does without.
    InDrives,
}

impl Node {
    /// Look at the images of all definitions, so that what lies below them is known later, when they
    /// cannot be seen perhaps. Blocks.
    pub(crate) fn remember_images(&self) {
        drop(self.image_graph());
    }

    /// Look at the images of a definition that is new, and leave the others alone: there may be thousands.
    /// Blocks.
    pub(crate) fn remember_images_of(&self, def: &DomainDef) {
        let (graph, remembered) = (Graph::default(), Remembered::new());
        let mut needs = Needs { node: self, pools: self.pools.views(), graph, remembered };
        needs.definition(def, |disk| User::Defined { domain: def.name.to_string(), disk });
        self.pools.headers().remember_also(needs.remembered);
    }

    /// Whose the image at `path` is, and on whose it lies. Blocks: headers are read.
    pub(crate) fn users_of(&self, path: &Path) -> Vec<ImageUse> {
        self.image_graph().users_of(path)
    }

    /// Refuse other contents, or another size, of what somebody has a use for. `what` names the image in the
    /// refusal (`volume "base"`). Blocks.
    pub(crate) fn may_change(&self, what: &str, path: &Path) -> Result<(), Error> {
        let mut uses = self.users_of(path);
        // Whoever has a domain that is off does with its disk as libvirt lets him.
        uses.retain(|it| !it.is_own_disk());
        refuse(what, &uses)
    }

    /// Refuse to remove what somebody else would miss. Blocks.
    pub(crate) fn may_remove(&self, what: &str, path: &Path) -> Result<Open, Error> {
        let uses = self.users_of(path);
        let (in_drives, mut missed): (Vec<_>, Vec<_>) =
            uses.iter().cloned().partition(|it| self.is_in_a_drive_only(it, &uses));
        // With one that is several domains' disk, what one of them does is the others' loss.
        if missed.iter().filter(|it| it.is_own_disk()).count() <= 1 {
            missed.retain(|it| !it.is_own_disk());
        }
        refuse(what, &missed)?;
        Ok(if in_drives.is_empty() { Open::No } else { Open::InDrives })
    }

    /// A CD in a drive of a running domain whose definition does not name it: the guest reads on from the file
    /// that it has open. So virt-install removes what it has installed a guest from while the guest runs.
    fn is_in_a_drive_only(&self, it: &ImageUse, all: &[ImageUse]) -> bool {
        let User::Running { domain, disk } = &it.user else { return false };
        let needs_it = |other: &ImageUse| match &other.user {
            User::Defined { domain: of, .. } => of == domain,
            _ => false,
        };
        let is_cd = |handle: &Handle| {
            let view = handle.view();
            let disks = view.live.as_ref().map(|live| &live.def.devices.disks);
            let mut disks = disks.into_iter().flatten();
            view.name == *domain
                && disks.any(|it| it.target.dev == *disk && it.device() == DiskDevice::Cdrom)
        };
        it.depth == 0 && !all.iter().any(needs_it) && self.all().iter().any(is_cd)
    }

    /// Refuse to write to the image at `path` for a running domain, whose disk it is a part of, if
    /// anybody else needs it as it is; its own snapshots do, unless it is for one of them that is being
    /// deleted, which knows of the others. Blocks.
    pub(crate) fn may_write_below(
        &self,
        path: &Path,
        domain: &str,
        deletes: bool,
    ) -> Result<(), Error> {
        let mine = |user: &User| match user {
            User::Running { domain: of, .. } | User::Defined { domain: of, .. } => of == domain,
            User::Snapshot { domain: of, .. } => deletes && of == domain,
            _ => false,
        };
        match self.image_graph().others_of(path, mine).first() {
            None => Ok(()),
            Some(other) => {
                let text = format!("image {} cannot be changed: it {other}, too", path.display());
                Err(Error::new(Code::Locked, text))
            }
        }
    }

    /// Put the domain's name into the refusal of a volume that is in use.
    pub(crate) fn in_use(&self, error: Error, volume: &VolumeView) -> Error {
        if error.code != Code::Locked {
            return error;
        }
        let uses = self.users_of(&volume.path);
        let Some(domain) = uses.iter().find_map(ImageUse::running) else { return error };
        let text = format!("volume {:?} is in use by domain {domain:?}", volume.name);
        Error::new(Code::Locked, text).with_source(error)
    }

    /// All that is known now.
    fn image_graph(&self) -> Graph {
        let pools = self.pools.views();
        let (graph, remembered) = (Graph::default(), Remembered::new());
        let mut needs = Needs { node: self, pools, graph, remembered };
        needs.volumes();
        needs.snapshots();
        for handle in self.all() {
            let view = handle.view();
            let domain = view.name.clone();
            if let Some(live) = &view.live {
                let domain = domain.clone();
                needs.definition(&live.def, |disk| User::Running { domain: domain.clone(), disk });
            }
            if let Some(definition) = &view.definition {
                let def = &definition.def;
                if view.managed_save {
                    let domain = domain.clone();
                    needs.definition(def, |disk| User::Saved { domain: domain.clone(), disk });
                }
                needs.definition(def, |disk| User::Defined { domain: domain.clone(), disk });
            }
        }
        self.pools.headers().remember(needs.remembered);
        needs.graph
    }
}

fn refuse(what: &str, uses: &[ImageUse]) -> Result<(), Error> {
    let Some(first) = uses.first() else { return Ok(()) };
    if let Some(domain) = first.running().filter(|_| first.depth == 0) {
        let text = format!("{what} is in use by domain {domain:?}");
        return Err(Error::new(Code::Locked, text));
    }
    let mut named: Vec<_> = uses.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    if let more @ 1.. = uses.len() - named.len() {
        named.push(format!("has {more} more users"));
    }
    let text = format!("{what} {}, which would be lost with it", named.join(", "));
    Err(Error::new(Code::Busy, text))
}

/// A graph that is being made.
struct Needs<'a> {
    node: &'a Node,
    pools: Vec<PoolView>,
    graph: Graph,
    /// What definitions need.
    remembered: Remembered,
}

impl Needs<'_> {
    /// What pools know of their volumes.
    fn volumes(&mut self) {
        for pool in self.node.pools.all() {
            for volume in pool.volumes() {
                let user = User::Volume { pool: volume.pool, volume: volume.name };
                self.graph.need(&volume.path, user);
                if let Some((below, _)) = &volume.backing {
                    self.graph.link(&volume.path, below);
                }
            }
        }
    }

    /// What snapshots go back to: the images of their definitions, from which nothing is taken away.
    fn snapshots(&mut self) {
        for set in self.node.snapshots.all() {
            let handle = self.node.get(set.uuid);
            let domain = handle.map_or_else(|| set.uuid.to_string(), |it| it.view().name);
            for kept in set.whole() {
                let (domain, snapshot) = (&domain, kept.name());
                for def in kept.def.domain.iter().chain(&kept.def.inactive_domain) {
                    self.definition(def, |disk| User::Snapshot {
                        domain: domain.clone(),
                        snapshot: snapshot.to_owned(),
                        disk,
                    });
                }
            }
        }
    }

    /// Every disk of a definition, with what it says itself of the images below, or their headers.
    fn definition(&mut self, def: &DomainDef, user: impl Fn(String) -> User) {
        for disk in &def.devices.disks {
            let Some(path) = self.place(disk) else { continue };
            self.graph.need(&path, user(disk.target.dev.clone()));
            let format = disk.driver.as_ref().and_then(|driver| driver.format);
            let mut format = format.map_or(Some(Format::Raw), formats::of_xml);
            let mut image = path;
            let mut store = disk.backing_store.as_ref();
            while let Some((below, declared)) = store.and_then(place_of) {
                self.graph.link(&image, &below);
                (image, format) = (below, declared);
                store = store.and_then(|store| store.backing_store.as_deref());
            }
            self.follow(image, format);
        }
    }

    /// The images below, as the headers have them.
    fn follow(&mut self, mut image: PathBuf, mut format: Option<Format>) {
        for _ in 0..MOST_DEEP {
            let Some((below, named)) = self.below(&image, format) else { return };
            self.graph.link(&image, &below);
            format = named.parse().ok();
            self.remembered.insert(image, (below.clone(), named));
            image = below;
        }
    }

    fn below(&self, image: &Path, format: Option<Format>) -> Option<Below> {
        let pools = &self.node.pools;
        if let Some(volume) = pools.volume_at(image) {
            let raw = || Format::Raw.name().to_owned();
            return volume.backing.map(|(path, format)| (path, format.unwrap_or_else(raw)));
        }
        // One that is gone from a pool that can be seen is gone.
        let pool = image.parent().and_then(|dir| pools.of_dir(dir));
        if pool.is_some() && matches!(self.node.broker.is_there(image), Ok(false)) {
            return None;
        }
        pools.headers().below(&*self.node.broker, image, format?)
    }

    /// Where a disk's image lies, whether or not its pool is active.
    fn place(&self, disk: &Disk) -> Option<PathBuf> {
        match disk.location() {
            Location::File(path) | Location::Block(path) => Some(path.to_owned()),
            Location::Volume { pool, volume } => {
                let pool = self.pools.iter().find(|known| known.name == pool)?;
                Some(pool.path.join(volume))
            }
            _ => None,
        }
    }
}

fn place_of(store: &BackingStore) -> Option<(PathBuf, Option<Format>)> {
    let source = store.source.as_ref()?;
    let path = source.file.as_ref().or(source.dev.as_ref())?;
    let format = store.format.as_ref().map_or(Some(Format::Raw), |it| formats::of_xml(it.kind));
    Some((path.clone(), format))
}
