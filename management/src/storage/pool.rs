//! One pool: its worker, which does one thing at a time, and its state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, GroupAct, Permissions, PoolAct, PoolContents, PoolFile, Wanted};
use uuid::Uuid;
use xml::PoolDef;

use super::scan::{self, Known};
use super::{PoolView, VolumeView, is_partial, is_unfinished};
use crate::error::{Code, Error};
use crate::events::{EventKind, PoolChange};
use crate::journal::Journal;
use crate::store::{Store, StoredPool};
use crate::worker::{self, State as _, Worker};

/// Seconds that a file has not been written to which was half made, until nobody is at it any more.
const ABANDONED: i64 = 600;
/// Seconds in which a directory may change twice and show one time: two seconds are FAT's, and NFS has
/// its server's clock.
const SAME_TIME: u64 = 2;
/// How long a list waits for a pool that is at something else.
const LIST: Duration = Duration::from_millis(300);

/// What the workers of all pools work with.
pub(super) struct Shared {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) store: Store<StoredPool>,
    pub(super) journal: Arc<Journal>,
    /// Definitions of pools that are active, by which the next daemon finds them so.
    pub(super) run_dir: PathBuf,
}

/// A pool for everyone but its worker.
pub(crate) type Pool = Worker<State>;

/// What there was when the worker was last done with something.
pub(crate) struct Published {
    pub(crate) view: PoolView,
    pub(crate) def: PoolDef,
    pub(super) volumes: Arc<BTreeMap<String, Known>>,
    /// Neither stored nor active: the worker has ended, or will.
    pub(super) gone: bool,
}

pub(crate) struct State {
    pub(super) shared: Arc<Shared>,
    uuid: Uuid,
    pub(super) stored: Option<StoredPool>,
    pub(super) def: PoolDef,
    pub(super) active: bool,
    /// Bytes in all, and available.
    space: (u64, u64),
    pub(super) volumes: Arc<BTreeMap<String, Known>>,
    /// Volumes that work is done on beside this worker, and which.
    pub(super) busy: BTreeMap<String, &'static str>,
    /// First names of volumes that are being made.
    pub(super) making: BTreeSet<String>,
    /// When the directory had last changed that all was looked at in. None: it has to be looked at again.
    seen: Option<(i64, u32)>,
    /// Files that are raw, whatever their guests wrote into them, and their inodes.
    raw: BTreeMap<String, u64>,
    /// Claimed, and nothing was done with it yet.
    fresh: bool,
}

impl Pool {
    pub(crate) fn view(&self) -> PoolView {
        self.now().view.clone()
    }

    /// See what others have done there, unless the pool is at something that takes longer.
    pub(crate) async fn catch_up(&self) {
        let looked = tokio::time::timeout(LIST, self.run(State::catch_up)).await;
        if let Ok(Err(error)) = looked {
            tracing::warn!(pool = self.view().name, error = %error.chain(), "cannot be looked at");
        }
    }
}

impl worker::State for State {
    type Published = Published;
    const KIND: &'static str = "pool";

    fn publish(&self) -> Published {
        self.published()
    }

    fn touched(&mut self) {
        self.fresh = false;
    }

    /// A pool that was claimed and came to nothing is gone as well.
    fn is_gone(&self) -> bool {
        self.stored.is_none() && !self.active && !self.fresh
    }
}

impl State {
    pub(super) fn new(
        shared: Arc<Shared>,
        uuid: Uuid,
        stored: Option<StoredPool>,
        def: PoolDef,
    ) -> Self {
        let raw = stored.as_ref().map(|stored| stored.raw.clone()).unwrap_or_default();
        Self {
            shared,
            uuid,
            stored,
            def,
            active: false,
            space: (0, 0),
            volumes: Arc::default(),
            busy: BTreeMap::new(),
            making: BTreeSet::new(),
            seen: None,
            raw,
            fresh: true,
        }
    }

    fn published(&self) -> Published {
        let (capacity, available) = self.space;
        let view = PoolView {
            name: self.name(),
            uuid: self.uuid,
            kind: self.def.kind.to_string(),
            path: self.dir().to_owned(),
            active: self.active,
            persistent: self.stored.is_some(),
            autostart: self.stored.as_ref().is_some_and(|stored| stored.autostart),
            capacity,
            allocation: capacity.saturating_sub(available),
            available,
            volumes: self.volumes.len(),
        };
        let (def, volumes) = (self.def.clone(), self.volumes.clone());
        Published { view, def, volumes, gone: self.is_gone() }
    }

    pub(super) fn name(&self) -> String {
        self.def.name.to_string()
    }

    pub(super) fn dir(&self) -> &Path {
        self.def.path()
    }

    fn tell(&self, change: PoolChange, volume: Option<&str>) {
        let kind = EventKind::Pool {
            pool: self.name(),
            pool_uuid: self.uuid,
            change,
            volume: volume.map(str::to_owned),
        };
        self.shared.journal.publish(None, kind, None);
    }

    pub(super) fn need_active(&self) -> Result<(), Error> {
        if self.active {
            return Ok(());
        }
        let name = self.name();
        let text = format!("pool {name:?} is not active; start it (pool-start {name})");
        Err(Error::new(Code::InvalidState, text))
    }

    fn need_inactive(&self) -> Result<(), Error> {
        if !self.active {
            return Ok(());
        }
        let name = self.name();
        let text = format!("pool {name:?} is active; stop it first (pool-destroy {name})");
        Err(Error::new(Code::InvalidState, text))
    }

    fn need_idle(&self) -> Result<(), Error> {
        let Some((volume, work)) = self.busy.first_key_value() else { return Ok(()) };
        let text = format!("volume {volume:?} of pool {:?} is busy: {work}", self.name());
        Err(Error::new(Code::Busy, text))
    }

    /// The stored one with this change to it.
    fn change(&mut self, change: impl FnOnce(&mut StoredPool)) -> Result<(), Error> {
        let Some(stored) = &self.stored else {
            let text = format!("pool {:?} is transient: it has no definition", self.name());
            return Err(Error::new(Code::InvalidState, text));
        };
        self.stored = Some(self.shared.store.change(stored, change)?);
        Ok(())
    }

    pub(crate) fn define(&mut self, def: PoolDef) -> Result<(), Error> {
        if self.active && def.path() != self.dir() {
            return self.need_inactive();
        }
        let xml = def.to_xml();
        if self.stored.is_some() {
            self.change(|stored| stored.xml = xml)?;
        } else {
            let (uuid, name) = (self.uuid, def.name.to_string());
            let raw = self.raw.clone();
            let stored = StoredPool { uuid, name, generation: 1, autostart: false, raw, xml };
            self.shared.store.put(&stored)?;
            self.stored = Some(stored);
        }
        self.def = def;
        self.tell(PoolChange::Defined, None);
        Ok(())
    }

    pub(crate) fn undefine(&mut self) -> Result<(), Error> {
        self.need_inactive()?;
        self.shared.store.remove(self.uuid)?;
        self.stored = None;
        self.tell(PoolChange::Undefined, None);
        Ok(())
    }

    pub(crate) fn set_autostart(&mut self, autostart: bool) -> Result<(), Error> {
        self.change(|stored| stored.autostart = autostart)
    }

    pub(crate) fn build(&mut self) -> Result<(), Error> {
        self.need_inactive()?;
        if let Some(group) = self.group() {
            self.build_group(group)?;
            self.tell(PoolChange::Built, None);
            return Ok(());
        }
        let permissions = self.def.target.as_ref().and_then(|target| target.permissions.as_ref());
        let permissions = permissions.map(permissions_of).unwrap_or_default();
        self.shared.broker.pool(self.dir(), PoolAct::Build(permissions))?;
        self.tell(PoolChange::Built, None);
        Ok(())
    }

    /// Remove the pool's directory, or its volume group.
    pub(crate) fn delete(&mut self) -> Result<(), Error> {
        self.need_inactive()?;
        match self.group() {
            Some(group) => self.shared.broker.group(group, GroupAct::Delete)?,
            None => self.shared.broker.pool(self.dir(), PoolAct::Delete)?,
        }
        self.tell(PoolChange::Deleted, None);
        Ok(())
    }

    pub(crate) fn start(&mut self, build: bool) -> Result<(), Error> {
        self.need_inactive()?;
        if build {
            self.build()?;
        }
        self.activate()?;
        if let Err(source) = self.remember() {
            self.settle();
            self.unmount_again();
            let place = self.shared.run_dir.display();
            let text = format!("cannot write the pool's record in {place}");
            return Err(Error::new(Code::HostFailure, text).with_source(source));
        }
        self.tell(PoolChange::Started, None);
        Ok(())
    }

    /// Look at what is there, and sweep up what a daemon that died has left.
    pub(super) fn activate(&mut self) -> Result<(), Error> {
        self.mount()?;
        self.activate_group(true)?;
        let contents = match self.contents(Wanted::All) {
            Ok(contents) => contents,
            Err(error) => {
                self.unmount_again();
                return Err(error);
            }
        };
        self.sweep(&contents, |file| is_unfinished(&file.name));
        self.take(contents);
        self.active = true;
        Ok(())
    }

    /// Remove what was half made and is nobody's any more.
    fn sweep(&self, contents: &PoolContents, is_left: impl Fn(&PoolFile) -> bool) {
        for file in contents.files.iter().filter(|file| is_left(file)) {
            if self.making.contains(&file.name) {
                continue;
            }
            tracing::warn!(pool = self.name(), file = file.name, "removes what was half made");
            if let Err(error) = self.remove_unfinished(&file.name) {
                tracing::error!(error = %error.chain(), "it stays");
            }
        }
    }

    pub(super) fn remove_unfinished(&self, name: &str) -> Result<(), Error> {
        let volume = name.to_owned();
        match self.group() {
            Some(group) => self.shared.broker.group(group, GroupAct::Remove { volume })?,
            None => self.shared.broker.pool(self.dir(), PoolAct::Remove { volume })?,
        }
        Ok(())
    }

    fn record(&self) -> PathBuf {
        self.shared.run_dir.join(format!("{}.xml", self.uuid))
    }

    fn remember(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.shared.run_dir)?;
        let unfinished = self.record().with_extension("tmp");
        std::fs::write(&unfinished, self.def.to_xml())?;
        std::fs::rename(unfinished, self.record())
    }

    /// After a start that failed.
    fn unmount_again(&self) {
        if let Err(error) = self.unmount() {
            tracing::warn!(pool = self.name(), error = %error.chain(), "it stays mounted");
        }
    }

    fn contents(&self, wanted: Wanted) -> Result<PoolContents, Error> {
        match self.group() {
            Some(group) => self.group_contents(group, &wanted),
            None => Ok(self.shared.broker.pool_contents(self.dir(), wanted)?),
        }
    }

    /// Back to rest.
    fn settle(&mut self) {
        self.active = false;
        self.space = (0, 0);
        self.volumes = Arc::default();
        self.seen = None;
    }

    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.need_active()?;
        self.need_idle()?;
        // First: a daemon that dies here leaves a record, and the next one mounts it again.
        self.unmount()?;
        self.activate_group(false)?;
        match std::fs::remove_file(self.record()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let text = format!("cannot remove the record of pool {:?}", self.name());
                return Err(Error::new(Code::HostFailure, text).with_source(error));
            }
            _ => {}
        }
        self.settle();
        self.tell(PoolChange::Stopped, None);
        Ok(())
    }

    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        self.need_active()?;
        let contents = self.contents(Wanted::All)?;
        let now = jiff::Timestamp::now().as_second();
        self.sweep(&contents, |file| {
            let named = is_unfinished(&file.name) || is_partial(&file.name);
            // Another host may be making it in a directory that both have.
            named && file.times[1].0.saturating_add(ABANDONED) < now
        });
        self.take(contents);
        self.tell(PoolChange::Refreshed, None);
        Ok(())
    }

    /// How much space there is now, and what others have done, if anything was done at all.
    pub(crate) fn catch_up(&mut self) -> Result<(), Error> {
        if !self.active {
            return Ok(());
        }
        let contents = self.contents(Wanted::Nothing)?;
        self.space = (contents.capacity, contents.available);
        if contents.changed.is_some() && contents.changed != self.seen {
            let contents = self.contents(Wanted::All)?;
            self.take(contents);
        }
        Ok(())
    }

    fn take(&mut self, contents: PoolContents) {
        self.space = (contents.capacity, contents.available);
        let before = std::mem::take(&mut self.volumes);
        let mut volumes = BTreeMap::new();
        for file in contents.files.iter().filter(|file| !file.name.starts_with('.')) {
            volumes.insert(file.name.clone(), self.look(file, before.get(&file.name)));
        }
        // Of a time that is not over yet, more may come under the same one.
        let now = jiff::Timestamp::now().as_second();
        let is_over = |changed: &(i64, u32)| changed.0.abs_diff(now) > SAME_TIME;
        self.seen = contents.changed.filter(is_over);
        self.volumes = Arc::new(volumes);
        if !self.active {
            return;
        }
        // Our own acts were told of when they were done.
        for name in self.volumes.keys().filter(|name| !before.contains_key(*name)) {
            self.tell(PoolChange::VolumeCreated, Some(name));
        }
        for name in before.keys().filter(|name| !self.volumes.contains_key(*name)) {
            self.tell(PoolChange::VolumeDeleted, Some(name));
        }
    }

    fn look(&self, file: &PoolFile, before: Option<&Known>) -> Known {
        let raw = self.is_group() || self.raw.get(&file.name) == Some(&file.inode);
        scan::look(&*self.shared.broker, self.dir(), &self.name(), file, raw, before)
    }

    /// See what has become of one volume; none if it is not there.
    pub(crate) fn look_again(&mut self, volume: &str) -> Result<Option<VolumeView>, Error> {
        let contents = self.contents(Wanted::One(volume.to_owned()))?;
        self.space = (contents.capacity, contents.available);
        let file = contents.files.first().filter(|file| !file.name.starts_with('.'));
        let known = file.map(|file| self.look(file, self.volumes.get(volume)));
        let volumes = Arc::make_mut(&mut self.volumes);
        match known {
            Some(known) => {
                let view = known.view.clone();
                volumes.insert(volume.to_owned(), known);
                Ok(Some(view))
            }
            None => {
                volumes.remove(volume);
                Ok(None)
            }
        }
    }

    /// A volume as it is now.
    pub(crate) fn volume(&mut self, volume: &str) -> Result<VolumeView, Error> {
        self.need_active()?;
        if !self.volumes.contains_key(volume) {
            // Others may have made it.
            self.catch_up()?;
        }
        let found = if self.volumes.contains_key(volume) { self.look_again(volume)? } else { None };
        found.ok_or_else(|| no_volume(&self.name(), volume))
    }

    /// A volume that nothing else is done with.
    pub(crate) fn idle_volume(&mut self, volume: &str) -> Result<VolumeView, Error> {
        let found = self.volume(volume)?;
        match self.busy.get(volume) {
            None => Ok(found),
            Some(work) => {
                let text = format!("volume {volume:?} of pool {:?} is busy: {work}", self.name());
                Err(Error::new(Code::Busy, text))
            }
        }
    }

    /// From now on a volume is raw whatever is written into it, or is asked again what it is.
    pub(super) fn pin_raw(&mut self, volume: &str, inode: Option<u64>) -> Result<(), Error> {
        match inode {
            Some(inode) => drop(self.raw.insert(volume.to_owned(), inode)),
            None => drop(self.raw.remove(volume)),
        }
        let raw = self.raw.clone();
        if self.stored.is_some() { self.change(|stored| stored.raw = raw) } else { Ok(()) }
    }

    /// What a raw volume was filled with says what it is, unless that names other files: then it may
    /// as well be the disk of a guest that wrote such a header, and a copy of it would show the guest
    /// what lies there. One that was made as qcow2 may name what it likes.
    fn see_anew(&mut self, volume: &str) -> Result<(), Error> {
        let was_raw = self.raw.get(volume).copied();
        self.pin_raw(volume, None)?;
        let found = self.look_again(volume)?;
        if was_raw.is_some() && found.is_some_and(|view| view.backing.is_some()) {
            self.pin_raw(volume, was_raw)?;
            self.look_again(volume)?;
        }
        Ok(())
    }

    /// Remove a volume that nobody else has open, or that others only `read`.
    pub(crate) fn remove(&mut self, volume: &str, read: bool) -> Result<(), Error> {
        self.idle_volume(volume)?;
        let held = self.shared.broker.pool_open(self.dir(), volume, !read, false)?;
        let name = volume.to_owned();
        match self.group() {
            Some(group) => {
                // LVM removes nothing that is open, and looks for that itself.
                drop(held);
                self.shared.broker.group(group, GroupAct::Remove { volume: name })?;
            }
            None => {
                self.shared.broker.pool(self.dir(), PoolAct::Remove { volume: name })?;
                drop(held);
            }
        }
        if let Err(error) = self.pin_raw(volume, None) {
            // One of this name will have another inode.
            tracing::warn!(error = %error.chain(), "a removed volume is remembered");
        }
        self.look_again(volume)?;
        self.tell(PoolChange::VolumeDeleted, Some(volume));
        Ok(())
    }

    pub(super) fn tell_volume(&self, change: PoolChange, volume: &str) {
        self.tell(change, Some(volume));
    }
}

pub(super) fn no_volume(pool: &str, volume: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no volume {volume:?} in pool {pool:?}"))
}

pub(super) fn permissions_of(permissions: &xml::storage::Permissions) -> Permissions {
    Permissions {
        mode: permissions.mode.map(|mode| mode.0),
        owner: permissions.owner.and_then(|owner| owner.0),
        group: permissions.group.and_then(|group| group.0),
    }
}

impl Pool {
    /// Take a volume for a work that is done beside the worker.
    pub(crate) async fn hold(
        &self,
        volume: String,
        work: &'static str,
    ) -> Result<VolumeView, Error> {
        self.run(move |state| {
            let view = state.idle_volume(&volume)?;
            state.busy.insert(volume, work);
            Ok(view)
        })
        .await
    }

    /// Give it back, changed perhaps; with `anew` it may be of another format now.
    pub(crate) async fn release(
        &self,
        volume: String,
        change: Option<PoolChange>,
        anew: bool,
    ) -> Result<(), Error> {
        self.run(move |state| {
            state.busy.remove(&volume);
            if anew {
                state.see_anew(&volume)?;
            } else {
                state.look_again(&volume)?;
            }
            if let Some(change) = change {
                state.tell(change, Some(&volume));
            }
            Ok(())
        })
        .await
    }
}
